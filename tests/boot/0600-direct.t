#!/bin/bash
# 0600-direct: a machine that gets kernel and initramfs of beoboot is a node
# limit: 900
. tests/lib.sh
. tests/boot/lib.sh

boot_needs
boot_network 1
boot_dnsmasq </dev/null
boot_config 1 </dev/null
boot_cluster
cmdline="console=ttyS0 reboot=t panic=5 no_timer_check norandmaps quiet"
image() { beoboot -2 -i -o "$tmp/img" -k "$kernel" -m "$modules" -c "$cmdline"; }

ok 'an image is made' image
cp "$tmp/ok.out" "$tmp/first"
ok 'its command line is told' grep -qx "Kernel command line is: \"$cmdline\"." "$tmp/first"
ok 'hashes are what they should be' sh -c "grep -h '^[0-9a-f]' $tmp/first |
    awk '{ print \$1 \"  \" \$2 }' | sha256sum -c"
ok 'made again' image
cp "$tmp/ok.out" "$tmp/again"
ok 'it is the same, byte for byte' cmp "$tmp/first" "$tmp/again"
ok "the list shows the node's programs" has '^-rwxr-xr-x .* /usr/libexec/clustermatic/bpnode$' \
    beoboot --list "$tmp/img.initrd"
ok "and no secret: the master's key is the public one" \
    not grep -rq "$(sed -n 2p "$state/master.key")" <(zstd -dc "$tmp/img.initrd")

vm 0 -kernel "$tmp/img.kernel" -initrd "$tmp/img.initrd" -append "$cmdline"
ok 'the machine gets up' is_up 0
ok 'it runs the kernel of the image' is "$release" timeout 60 bpsh 0 uname -r
ok 'it is called n0' is n0 timeout 60 bpsh 0 hostname
ok 'its modules and devices are its own' has '^virtio_net ' timeout 60 bpsh 0 lsmod
ok 'its status comes back' exits 7 timeout 60 bpsh 0 sh -c 'exit 7'
ok 'standard input goes there' is hello timeout 60 sh -c 'echo hello | bpsh 0 cat'

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
ok 'and is reported' grep -q 'node 0' "$tmp/sleep.out"
# It is down at once, so a state other than that is the next boot's.
ok 'it comes back' is_up 0
ok 'from its beginning' is 2 grep -ac 'Run /init\|phase 2, kernel' "$tmp/vm0.log"
ok 'and works' is "$release" timeout 60 bpsh 0 uname -r

ok 'the supervisor cannot restart it, and says who can' fails_with 'bpctl -S 0 -R' \
    clustermatic restart node 0 --name "$cluster"
ok 'bpctl -P: it is told to switch off' timeout 60 bpctl -S 0 -P
is_off() { ! vm_alive 0; }
ok 'and the machine is off' eventually "$patience" is_off
ok 'which the master knows' has '^down$' bpstat -s 0
done_testing
