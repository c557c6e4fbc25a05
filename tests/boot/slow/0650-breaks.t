#!/bin/bash
# 0650-breaks: images that are damaged, a boot server that dies, machines that lose
# their power, their cable or their master: what is refused, said, and mended
. tests/lib.sh
. tests/boot/lib.sh

boot_needs
need libexec/clustermatic/bootsrv
boot_network 1
boot_config 1 <<END
bootfile $tmp/boot.img
grace 60
END
boot_cluster
cmdline='console=ttyS0 reboot=t panic=5 no_timer_check norandmaps quiet'
make_image() { beoboot -2 -n -k "$kernel" -m "$modules" -c "$cmdline"; }
ok 'a phase 2 image is made' make_image
ok 'a phase 1 pair' beoboot -1 -i -o "$tmp/one" -k "$kernel" -m "$modules"
cp "$tmp/boot.img" "$tmp/good.img"
one=(-kernel "$tmp/one.kernel" -initrd "$tmp/one.initrd" -append "$cmdline")
# The plug is pulled, and the master has noticed.
off() { vm_end 0; ok 'switched off it is down' eventually 60 in_state 0 down; }
reload() { clustermatic reload --name "$cluster"; }

# --- images

head -c 9000000 "$tmp/good.img" >"$tmp/boot.img"
reload
vm 0 "${one[@]}"
ok 'half an image is not started: the machine says why it waits' console_has 0 'written to the end'
cp "$tmp/good.img" "$tmp/new.img"
mv "$tmp/new.img" "$tmp/boot.img"
reload
ok 'once it is whole the machine goes on by itself' is_up 0
ok 'with the right one' is "$release" timeout 60 bpsh 0 uname -r
off

# Whole, but its kernel is not what its header says.
printf 'X' | dd of="$tmp/boot.img" bs=1 seek=9000000 conv=notrunc status=none
reload
vm 0 "${one[@]}"
ok 'an image with a wrong hash inside is refused' console_has 0 'is not what its header says'
ok 'and the boot server says so' eventually 30 grep -q 'is not what its header says' "$logs/bootsrv/current"
cp "$tmp/good.img" "$tmp/new.img"
mv "$tmp/new.img" "$tmp/boot.img"
reload
ok 'once it is mended the machine goes on by itself' is_up 0
off

# --- the boot server

vm 0 "${one[@]}"
ok 'a machine begins to fetch' console_has 0 'asking .* what to run'
kill -KILL "$(pid_of bootsrv)"
ok 'the boot server is killed: the machine gets up all the same' is_up 0
off

# --- power and cables

vm 0 "${one[@]}"
ok 'a machine is in the middle of its boot' console_has 0 'phase 1, kernel'
off # its power fails
vm 0 "${one[@]}"
ok 'switched on again it gets up' is_up 0

timeout 900 bpsh 0 sleep 1000 </dev/null >"$tmp/sleep.out" 2>&1 &
job=$!
on_exit+=("kill $job 2>/dev/null")
# shellcheck disable=SC2317
ghost() { pid=$(pgrep -x sleep -P "$(pgrep -P $job -x bpsh)"); }
ok 'a process runs on it' eventually 60 ghost
works() { is sleep timeout 60 bpsh 0 cat "/proc/$pid/comm"; }
ok 'and works' eventually 60 works
ip -n "$boot_ns" link set tap0 down
ok 'its cable is pulled: it is down' eventually 60 in_state 0 down
ok 'but its process counts' kill -0 "$pid"
ip -n "$boot_ns" link set tap0 up
ok 'the cable is back: it is up' is_up 0
ok 'and the process has lost nothing' works
ok 'it ends when it is told to' kill -TERM "$pid"
ok 'as ever' exits 255 wait $job

# --- the master

sed -i 's/^grace .*/grace 10/' "$tmp/config"
reload
# The agent's note of it, in ms; a node is not lost before pingtimeout and a little more are over.
grace_there() { timeout 60 bpsh 0 cat /var/cache/clustermatic/master | grep -qE ' 3[0-9]{4}$'; }
ok 'the node hears of the new grace' eventually 60 grace_there
boots=$(grep -ac 'phase 1, kernel' "$tmp/vm0.log")
clustermatic down --name "$cluster"
ok 'the master is gone: the node ends what it has' console_has 0 'no word from the master for'
again() { [ "$(grep -ac 'phase 1, kernel' "$tmp/vm0.log")" -gt "$boots" ]; }
ok 'and goes back to its boot' eventually "$patience" again
in_net clustermatic up --name "$cluster" --config "$tmp/config"
ok 'the master is back: the node too' is_up 0

# --- set-up

printf '#!/bin/sh\necho "no licence on node $1"\nexit 3\n' >"$tmp/node_up"
chmod +x "$tmp/node_up"
ok 'bpctl -R: it is told to reboot' timeout 60 bpctl -S 0 -R
ok 'a node_up that fails: the node is in error' eventually "$patience" in_state 0 error
ok 'with what it has said' has 'no licence on node 0' clustermatic logs node 0 --name "$cluster"
rm "$tmp/node_up"
ok 'bpctl -R' timeout 60 bpctl -S 0 -R
ok 'without it the node gets up' is_up 0
done_testing
