#!/bin/bash
# 0610-usb-stick: a CD image of beoboot on a USB stick starts a BIOS machine, which
# gets up. (UEFI, and from a CD: slow/0611-media.t)
# limit: 900
. tests/lib.sh
. tests/boot/lib.sh

boot_needs
boot_media_needs
boot_network 1
boot_dnsmasq </dev/null
boot_config 1 </dev/null
boot_cluster
image() { beoboot -2 -e -o "$tmp/cd.iso" -k "$kernel" -m "$modules" -c 'console=ttyS0 reboot=t panic=5 no_timer_check norandmaps quiet'; }

ok 'an image is made' image
cp "$tmp/ok.out" "$tmp/first"
ok 'it says where' grep -qx "CD image is in: $tmp/cd.iso" "$tmp/first"
ok 'made again' image
cp "$tmp/ok.out" "$tmp/again"
ok 'it is the same, byte for byte' cmp "$tmp/first" "$tmp/again"
boot_stick "$tmp/cd.iso"
vm 0 "${stick[@]}"
ok 'a machine with the stick gets up' is_up 0
ok 'it runs the kernel of the image' is "$release" timeout 60 bpsh 0 uname -r
timeout 600 bpsh 0 sleep 1000 </dev/null >"$tmp/sleep.out" 2>&1 &
job=$!
on_exit+=("kill $job 2>/dev/null")
# shellcheck disable=SC2317
ghost() { pid=$(pgrep -x sleep -P "$(pgrep -P $job -x bpsh)"); }
ok 'a process on it has its ghost here' eventually 60 ghost
# The ghost is here first.
# shellcheck disable=SC2317
there() { is sleep timeout 60 bpsh 0 cat "/proc/$pid/comm"; }
ok 'with the same pid there' eventually 60 there
ok 'bpctl -R: it is told to reboot' timeout 60 bpctl -S 0 -R
ok 'its process has died with it' exits 255 wait $job
ok 'it comes back from the stick' is_up 0
ok 'and works' is "$release" timeout 60 bpsh 0 uname -r
done_testing
