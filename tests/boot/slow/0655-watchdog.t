#!/bin/bash
# 0655-watchdog: a machine that has stopped is reset by its watchdog; one that is
# halted stays so; one that takes another way to the master keeps what runs on it
. tests/lib.sh
. tests/boot/lib.sh

boot_needs
boot_network 1
boot_dnsmasq </dev/null
# Another address of the master's.
ip -n "$boot_ns" link add alt0 type bridge
ip -n "$boot_ns" address add 198.18.9.1/32 dev alt0
ip -n "$boot_ns" link set alt0 up
boot_config 1 <<END
interface alt0
END
boot_cluster
cmdline="console=ttyS0 reboot=t panic=5 no_timer_check norandmaps quiet"
ok 'an image is made' beoboot -2 -i -o "$tmp/img" -k "$kernel" -m "$modules" -c "$cmdline"
ok 'the kernel'"'"'s watchdog is in it' has ' /modules/softdog.ko' beoboot --list "$tmp/img.initrd"
vm 0 -kernel "$tmp/img.kernel" -initrd "$tmp/img.initrd" -append "$cmdline"
ok 'the machine gets up' is_up 0
ok 'it has a watchdog' console_has 0 'boot: watchdog: .*Watchdog, 60 s'

# --- another way to the master

timeout 900 bpsh 0 sleep 1000 </dev/null >"$tmp/sleep.out" 2>&1 &
job=$!
on_exit+=("kill $job 2>/dev/null")
# shellcheck disable=SC2317
ghost() { pid=$(pgrep -x sleep -P "$(pgrep -P $job -x bpsh)"); }
ok 'a process runs on it' eventually 60 ghost
there() { timeout 60 bpsh 0 cat "/proc/$pid/comm"; }
works() { is sleep there; }
ok '(it is there)' eventually 60 works
ok 'bpctl --reconnect' timeout 60 bpctl -S 0 --reconnect 198.18.9.1
by_alt() { in_net ss -Htn state established 'src 198.18.9.1:2223' | grep -q .; }
ok 'it is connected there' eventually 60 by_alt
ok 'its process is the same' works
ok 'and it was up all the time' is up node_state 0
ok 'nobody is there where it asks for: it stays' fails_with 'Connection refused; the node stays' \
    timeout 60 bpctl -S 0 --reconnect 198.18.9.1:4999

# --- it stops: nothing but interrupts is served any more

# shellcheck disable=SC2016 # for the node's shell
timeout 900 bpsh 0 sh -c 'echo -1 >/proc/sys/kernel/sched_rt_runtime_us && while :; do :; done' \
    </dev/null >"$tmp/hog.out" 2>&1 &
hog=$!
on_exit+=("kill $hog 2>/dev/null")
# shellcheck disable=SC2317
hog_ghost() { pgrep -x sh -P "$(pgrep -P $hog -x bpsh)"; }
ok '(a process that takes the processor)' eventually 60 hog_ghost
unlimited() { is -1 timeout 60 bpsh 0 cat /proc/sys/kernel/sched_rt_runtime_us; }
ok '(which nobody limits)' eventually 60 unlimited
timeout 60 bpsh 0 chrt -f -p 99 "$(hog_ghost)" </dev/null >"$tmp/chrt.out" 2>&1
again() { [ "$(grep -ac 'boot: Clustermatic' "$tmp/vm0.log")" -ge 2 ]; }
ok 'a machine that has stopped is reset' eventually "$patience" again
ok 'its processes are reported' exits 255 wait $job
ok 'it comes back' is_up 0
ok 'and works' is "$release" timeout 60 bpsh 0 uname -r

# --- halted

ok 'bpctl -H: it is told to halt' timeout 60 bpctl -S 0 -H
ok 'it is down' is down node_state 0
ok 'and stands still' console_has 0 'System halted'
ok 'with its power on' vm_alive 0
done_testing
