#!/bin/bash
# 0630-pxe: two BIOS machines boot from the network, with nothing but the boot server
# limit: 900
. tests/lib.sh
. tests/boot/lib.sh

boot_needs
need libexec/clustermatic/bootsrv
[ -e /usr/lib/ipxe/qemu/pxe-virtio.rom ] || plan_skip 'ipxe-qemu is not installed'
boot_network 2
boot_config 2 <<END
bootfile $tmp/boot.img
END
boot_cluster
ok 'a phase 2 image is made' beoboot -2 -n -k "$kernel" -m "$modules" \
    -c 'console=ttyS0 reboot=t panic=5 no_timer_check norandmaps quiet'
hash=$(sha256sum <"$tmp/boot.img" | cut -c1-64)
ok 'the boot server takes it' clustermatic reload --name "$cluster"

for n in 0 1; do vm $n -boot n; done
for n in 0 1; do
    ok "machine $n gets up" is_up $n
    ok 'it runs the kernel of the image' is "$release" timeout 60 bpsh $n uname -r
    ok 'and is called by its number' is n$n timeout 60 bpsh $n hostname
done
ok 'the master knows which image they run' is 2 sh -c "bpstat --json 0-1 | grep -o '\"image\":\"$hash\"' | wc -l"
timeout 600 bpsh 1 sleep 1000 </dev/null >"$tmp/sleep.out" 2>&1 &
job=$!
on_exit+=("kill $job 2>/dev/null")
# shellcheck disable=SC2317
ghost() { pid=$(pgrep -x sleep -P "$(pgrep -P $job -x bpsh)"); }
ok 'a process on one has its ghost here' eventually 60 ghost
# The ghost is here first, before bpsh is told that it runs: what is launched later is told later.
# shellcheck disable=SC2317
there() { is sleep timeout 60 bpsh 1 cat "/proc/$pid/comm"; }
ok 'with the same pid there' eventually 60 there
ok 'bpctl -R: that one is told to reboot' timeout 60 bpctl -S 1 -R
ok 'its process has died with it' exits 255 wait $job
ok 'the other one works on' is n0 timeout 60 bpsh 0 hostname
ok 'it comes back' is_up 1
ok 'and works' is "$release" timeout 60 bpsh 1 uname -r
done_testing
