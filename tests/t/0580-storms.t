#!/bin/bash
# shellcheck disable=SC2317 # functions are called by ok and eventually
# 0580-storms: 20,000 forks on a node leave nothing behind on the master; a
# procspace that is killed in the middle of a launch of 500 loses none of them
. tests/lib.sh

need bin/bpsh bin/bpps tests/body libexec/clustermatic/procspace
body=$CM_BUILD/tests/body
cluster_up 5
bpsh 0-4 "$body" exit 0
bpsh 0,1 sleep 0

# --- 20,000 forks

rss() { awk '$1 == "VmRSS:" { print $2 }' "/proc/$(pid_of procspace)/status"; }
ghost() { pgrep -P "$1" | head -n 1; }
started() { top=$(ghost "$job") && [ -n "$top" ]; }
alone() { [ -z "$(pgrep -P "$1")" ]; }
gone() { ! kill -0 "$1" 2>/dev/null; }
listed() { bpstat -p | tail -n +2 | wc -l; }
forks() { # N: of a shell that is there before and after
    : >"$tmp/pids"
    mkfifo "$tmp/in"
    bpsh 0 sh -c "'$body' forks $1; read x; exit 3" <"$tmp/in" >"$tmp/pids" & job=$!
    on_exit+=("kill -9 $job 2>/dev/null")
    exec 7>"$tmp/in"
    rm "$tmp/in"
    eventually 10 started
    eventually 60 test -s "$tmp/pids"
}
forks 2000 # what is kept for later is there now
exec 7>&-
wait $job
before=$(rss)
ok '20,000 forks on a node' forks 20000
read -r low high <"$tmp/pids"
ok 'with pids that the master gives nobody' test "$low" -ge 1000000 -a "$high" -lt 1262144
ok 'their parent stands here, and nobody below it' eventually 15 alone "$top"
ok 'nothing is known of them' is 1 listed
# shellcheck disable=SC2016 # for the inner shell
ok 'which the master gives to none of its own' test "$(sh -c 'echo $$')" -lt 1000000
if [ -z "${CM_SAN:-}" ]; then
    after=$(rss)
    diag "procspace: $before kB before, $after kB after"
    ok 'procspace is as large as before' test $((after - before)) -lt 512
else
    skip 'procspace is as large as before' 'a sanitizer keeps what is freed'
fi
exec 7>&-
wait $job
ok 'it ends' test $? = 3

# Children that live long enough for a ghost, many at once.
bpsh -N 1 sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do for j in 1 2 3 4 5 6 7 8 9 10; do sleep 1000 & done; done; wait' & job=$!
on_exit+=("kill -9 $job 2>/dev/null")
started_100() { started && [ "$(pgrep -c -P "$top")" = 100 ]; }
ok 'a hundred children have a hundred ghosts' eventually 20 started_100
kill -KILL "$top"
ok 'they are left to init with their parent' eventually 10 gone "$job"
orphans() { bpstat -p | awk 'NR > 1 { print $1 }'; }
hundred() { [ "$(listed)" = 100 ]; } # the shell's end may be told a moment later
ok 'and stay' eventually 10 hundred
# shellcheck disable=SC2046
kill -KILL $(orphans)
none() { [ "$(listed)" = 0 ] && ! bpps 1 | grep -q 'sleep 1000'; }
ok 'until they are ended, here and there' eventually 20 none

# --- signals in such a number that the kernel cannot tell of all of them

# Of a child of a shell nobody else tells: its ghost's parent is a ghost.
bpsh -N 0 sh -c 'sleep 1000; exit 4' & job=$!
on_exit+=("kill -9 $job 2>/dev/null")
eventually 10 started
kid_here() { kid=$(pgrep -P "$top") && [ -n "$kid" ]; }
eventually 10 kid_here
shown() { bpps 0 | grep -Eq " $1 .* sleep 1000\$"; } # STATE
eventually 10 shown S
old=$(pid_of procspace)
kill -STOP "$old"
# A child that nobody waits for takes any number of them. One processor: it is
# its ring that is to be full.
python3 -c 'import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
child = os.fork() or os._exit(0)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
for i in range(20000):
    os.kill(child, 9)
os.kill(int(sys.argv[1]), 19)' "$kid"
kill -CONT "$old"
ok 'a SIGSTOP that came among 20,000 other signals is not lost' eventually 10 shown T
kill -CONT "$kid"
ok 'nor is the SIGCONT' eventually 10 shown S
kill "$kid"
wait $job
ok 'and its shell ends' test $? = 4

# --- a launch of 500, and no procspace in its middle

spec=$(printf '0-4,%.0s' {1..100})
spec=${spec%,}
bpctl -S 4 -H
node_down() { [ "$(bpstat -s 4)" = down ]; }
ok 'one of five nodes is down' eventually 15 node_down
said() { awk '$2 == "rank" { print $1 }' "$tmp/out" | sort -n; }
failed() { grep -c '^4: ' "$tmp/err"; }
failed_others() { grep -cE '^[0-3]: ' "$tmp/err"; }
ghosts() { ps -o pid= --ppid "$job" | tr -d ' ' | sort -n; }
bodies() { bpps 0-3 2>/dev/null | awk '/body wait/ { print $2 }' | sort -n; }
complete() { [ $(($(said | wc -l) + $(failed) + $(failed_others))) = 500 ]; }
some_ghosts() { [ "$(pgrep -c -P "$job")" -gt 0 ]; }
some_said() { [ "$(wc -l <"$tmp/out")" -ge "$1" ]; }
ready() { [ "$(s6-svstat -o ready "$run/s6/procspace")" = true ]; }
same() { [ "$($1)" = "$($2)" ]; }
soon() { # CMD...: within ten seconds, without a pause in between
    local end=$((SECONDS + 10))
    until "$@"; do [ $SECONDS -lt $end ] || return 1; done
}
middle() { # WHEN...
    local old
    eventually 15 ready
    old=$(pid_of procspace)
    : >"$tmp/out"; : >"$tmp/err" # not those of the launch before
    mkfifo "$tmp/in"
    bpsh -L "$spec" "$body" wait <"$tmp/in" >"$tmp/out" 2>"$tmp/err" & job=$!
    on_exit+=("kill -9 $job 2>/dev/null")
    exec 7>"$tmp/in"
    rm "$tmp/in"
    soon "$@"
    builtin kill -KILL "$old"
    ok "procspace killed, $*: all 500 are accounted for" eventually 40 complete
    ok 'those on the node that is down have failed' is 100 failed
    ok 'each that runs has its ghost here, and no other has one' eventually 10 same said ghosts
    ok 'and is what runs on the nodes' eventually 20 same said bodies
    diag "$(said | wc -l) run, $(failed) + $(failed_others) failed"
    exec 7>&-
    wait $job
    ok 'bpsh ends with them' test $? = 98
    ok 'and nothing is left' eventually 20 none
}
middle true
middle some_ghosts
middle some_said 1
middle some_said 200
done_testing
