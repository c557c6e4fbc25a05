#!/bin/bash
# 0660-unknown-mac: a machine that no line names waits in iPXE, and boots by itself
# once nodeadd has added it; its boot can be followed
. tests/lib.sh
. tests/boot/lib.sh

boot_needs
need libexec/clustermatic/bootsrv bin/nodeadd
[ -e /usr/lib/ipxe/qemu/pxe-virtio.rom ] || plan_skip 'ipxe-qemu is not installed'
boot_network 1
cat >"$tmp/config" <<END
# nobody yet
interface br0
iprange 0 $(address 0) $(address 1)
bootfile $tmp/boot.img
pingtimeout 10
END
boot_cluster
ok 'a phase 2 image is made' beoboot -2 -n -k "$kernel" -m "$modules" \
    -c 'console=ttyS0 reboot=t panic=5 no_timer_check norandmaps quiet'
ok 'the boot server takes it' clustermatic reload --name "$cluster"
vm 0 -boot n
unknown() { [ "$(tests/ask.py -e '[m["mac"] for m in v]' bootsrv.unknown)" = "['$(mac 0)']" ]; }
ok 'the machine is seen' eventually "$patience" unknown
asks() { tests/ask.py -e 'v[0]["seen"] - v[0]["since"]' bootsrv.unknown | grep -qE '[0-9]{4}'; }
ok 'and waits' eventually "$patience" asks
ok 'nodeadd adds it' timeout 60 nodeadd -a -n 0 -c 1 br0
ok 'with a line of its own' grep -qi "^node    0 $(mac 0)" "$tmp/config"
ok 'it boots by itself' is_up 0
ok 'and is the node' is "$release" timeout 60 bpsh 0 uname -r
why() { clustermatic why node 0 --name "$cluster"; }
for stage in ipxe kernel initrd joined up; do
    ok "its boot had a stage $stage" has "^ +[0-9.]+ s  $stage" why
done
ok 'bpstat --boot shows the image that it was to run' has "^ +0 up +${hash:=$(sha256sum <"$tmp/boot.img" | cut -c1-12)} +$hash +up" \
    bpstat --boot
ok 'bpctl -R: it comes back' timeout 60 bpctl -S 0 -R
down() { ! in_state 0 up; }
ok '(down)' eventually "$patience" down
ok 'without anybody' is_up 0
done_testing
