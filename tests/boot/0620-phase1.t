#!/bin/bash
# 0620-phase1: a small kernel finds the network on one of two cards, fetches what
# the master has for the node, checks it, and starts it
# limit: 900
. tests/lib.sh
. tests/boot/lib.sh

boot_needs
need libexec/clustermatic/bootsrv
boot_network 2
boot_dnsmasq </dev/null
# The machine's other card is on tap1: node 0 is known by the first one only.
boot_config 1 <<END
bootfile $tmp/boot.img
dhcp off
END
make_image() { beoboot -2 -n -k "$kernel" -m "$modules" -c 'console=ttyS0 reboot=t panic=5 no_timer_check norandmaps quiet'; }
CM_STATEDIR=$tmp/made CM_CONFIG=$tmp/config
export CM_STATEDIR CM_CONFIG
ok 'a phase 1 pair is made' beoboot -1 -i -o "$tmp/one" -k "$kernel" -m "$modules"
boot_cluster
ok 'a phase 2 image is made for the boot server' make_image
hash=$(sha256sum <"$tmp/boot.img" | cut -c1-64)
ok 'the boot server takes it' clustermatic reload --name "$cluster"

ok 'phase 1 is the smaller one' test "$(stat -c %s "$tmp/one.initrd")" -lt 4000000
other=(-netdev "tap,id=n1,ifname=tap1,script=no,downscript=no"
    -device "virtio-net-pci,netdev=n1,mac=52:54:00:99:00:01")
vm 0 -kernel "$tmp/one.kernel" -initrd "$tmp/one.initrd" -append 'console=ttyS0 reboot=t panic=5 no_timer_check norandmaps quiet' \
    "${other[@]}"
ok 'the machine gets up' is_up 0
ok 'phase 1 has been first' grep -aq 'phase 1, kernel' "$tmp/vm0.log"
ok 'then phase 2' grep -aq 'phase 2, kernel' "$tmp/vm0.log"
ok 'it runs the kernel of the image' is "$release" timeout 60 bpsh 0 uname -r
ok 'the master knows which image that is' has "$hash" bpstat --json 0
timeout 600 bpsh 0 sleep 1000 </dev/null >"$tmp/sleep.out" 2>&1 &
job=$!
on_exit+=("kill $job 2>/dev/null")
# shellcheck disable=SC2317
ghost() { pid=$(pgrep -x sleep -P "$(pgrep -P $job -x bpsh)"); }
ok 'a process on it has its ghost here' eventually 60 ghost
# The ghost is here first, before bpsh is told that it runs: what is launched later is told later.
# shellcheck disable=SC2317
there() { is sleep timeout 60 bpsh 0 cat "/proc/$pid/comm"; }
ok 'with the same pid there' eventually 60 there
ok 'bpctl -R: it is told to reboot' timeout 60 bpctl -S 0 -R
ok 'its process has died with it' exits 255 wait $job
ok 'it comes back, through both phases' is_up 0
ok 'and works' is "$release" timeout 60 bpsh 0 uname -r
ok 'both phases again' is 2 grep -ac 'phase 1, kernel' "$tmp/vm0.log"
done_testing
