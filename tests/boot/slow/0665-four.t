#!/bin/bash
# 0665-four: four machines at once, from the network, through phase 1, by spreading
. tests/lib.sh
. tests/boot/lib.sh

boot_needs
need libexec/clustermatic/bootsrv
[ -e /usr/lib/ipxe/qemu/pxe-virtio.rom ] || plan_skip 'ipxe-qemu is not installed'
boot_network 4
boot_config 4 <<END
bootfile $tmp/boot.img
phase1 $tmp/one.img
END
boot_cluster
cmdline='console=ttyS0 reboot=t panic=5 no_timer_check norandmaps quiet'
ok 'a phase 2 image is made' beoboot -2 -n -k "$kernel" -m "$modules" -c "$cmdline"
ok 'and a phase 1 image' beoboot -1 -n -o "$tmp/one.img" -k "$kernel" -m "$modules" -c "$cmdline"
ok 'the boot server takes them' clustermatic reload --name "$cluster"
patience=600
for n in 0 1 2 3; do vm $n -boot n; done
for n in 0 1 2 3; do
    ok "machine $n gets up" is_up $n
    ok 'through phase 1' grep -aq 'phase 1, kernel' "$tmp/vm$n.log"
done
ok 'all are nodes' is "$(printf '%3d: n%d\n' 0 0 1 1 2 2 3 3)" sh -c 'timeout 120 bpsh 0-3 -p hostname | sort'
ok 'all of them are told to reboot' timeout 60 bpctl -S all -R
for n in 0 1 2 3; do ok "machine $n comes back" is_up $n; done
done_testing
