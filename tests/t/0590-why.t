#!/bin/bash
# shellcheck disable=SC2317 # functions are called by ok and eventually
# 0590-why: bpps --why tells what has become of a process, and who has killed it
. tests/lib.sh

need bin/bpsh bin/bpps tests/body libexec/clustermatic/procspace
/usr/bin/python3 -c 'import zmq, msgpack' 2>/dev/null ||
    plan_skip 'needs python3-zmq and python3-msgpack'
body=$CM_BUILD/tests/body
cluster_up 3
bpsh 0-2 sleep 0
bpsh 0 "$body" exit 0

ghost() { pgrep -P "$1" | head -n 1; }
started() { pid=$(ghost "$job") && [ -n "$pid" ]; }
why() { bpps --why "$1"; }
why_is() { has "$1" why "$pid"; } # PATTERN of the one process
answers() { bpps --why "$pid" 2>/dev/null | grep -Eq -- "$1"; }
run() { # NODE COMMAND...: sets job and pid
    bpsh -N "$@" 2>"$tmp/err" & job=$!
    on_exit+=("kill -9 $job 2>/dev/null")
    eventually 10 started && eventually 10 answers 'runs since'
}
# The same, but it begins when fd 7 is closed: its input.
mkfifo "$tmp/in"
hold() { # NODE COMMAND...
    : >"$tmp/out"
    bpsh "$@" <"$tmp/in" >"$tmp/out" 2>"$tmp/err" & job=$!
    on_exit+=("kill -9 $job 2>/dev/null")
    exec 7>"$tmp/in"
    eventually 10 started && eventually 10 answers 'runs since'
}
ended() { wait "$job"; eventually 15 answers 'killed|ended|never'; }

run 0 sleep 1000
ok 'one that runs: told' why_is "^$pid \(sleep 1000\) on node 0: runs since 2"
kill -TERM "$pid"
ended
ok 'SIGTERM: by whom' why_is "killed by SIGTERM, sent by process $$ \([^)]+\) of root on the master"
ok 'and when, and what it used' why_is 'at 2.*; it ran [0-9.]+ s, with [0-9.]+ s of processor time and [1-9][0-9]* KiB$'
run 1 sleep 1000
kill -KILL "$pid"
ended
if answers 'SIGKILL, sent to its ghost'; then
    skip 'SIGKILL: by whom' 'the kernel does not tell'
else
    ok 'SIGKILL: by whom' why_is "killed by SIGKILL, sent by process $$ \([^)]+\) of root on the master"
fi
run 2 sleep 1000
bpsh 2 sh -c "kill -KILL $pid"
ended
ok 'SIGKILL on the node: told' why_is 'killed by SIGKILL, sent on node 2'
hold 0 sh -c "read x; exec $body die 11"
exec 7>&-
ended
ok 'a fault of its own' why_is 'killed by SIGSEGV.*, of its own doing'
hold 0 sh -c 'read x; exit 3'
exec 7>&-
ended
ok 'an exit status' why_is 'has ended with status 3, at'
hold 1 "$body" wait
heard() { grep -q rank "$tmp/out"; }
eventually 10 heard
kill -TERM "$pid"
wait "$job"
exec 7>&-
ok 'one that ends by itself, because it was told to' \
    why_is 'has ended with status 42, after a SIGTERM from process [0-9]+ \([^)]+\) of root'

run 0 sleep 1000
launch=$(tr '\0' '\n' <"/proc/$pid/environ" | sed -n 's/^CM_LAUNCH=//p')
ok 'all of a launch is ended' tests/ask.py procspace.end_launch "{\"launch\": $launch}"
ended
ok 'by whom' why_is 'killed by SIGKILL, sent to all of its launch by process [0-9]+.* of root'

# What is never started: its number is in the launch's result.
printf '#!/nowhere\n' >"$tmp/script"
chmod 755 "$tmp/script"
mkfifo "$tmp/ready"
bpevents --filter launch.done --count 1 --timeout 30 --ready-fd 8 >"$tmp/events" 8>"$tmp/ready" & events=$!
read -r _ <"$tmp/ready"
bpsh -N 0 "$tmp/script" 2>"$tmp/err"
wait $events
launch=$(sed -n 's/.*"launch":\([0-9]*\).*/\1/p' "$tmp/events")
pid=$(tests/ask.py -e "v['ranks'][0][1]" procspace.result "{\"launch\": $launch}")
ok 'one that was never started: why' \
    why_is "\($tmp/script\) on node 0: was never started: .*interpreter /nowhere"

bpsh -N 0 tail --version
if bpsh -N --mem 100M 0 true 2>"$tmp/err"; then
    hold --mem 20M 0 tail -c 50M
    head -c 60M /dev/zero >&7
    exec 7>&-
    ended
    ok 'one that needs too much memory' why_is 'killed by the kernel: out of memory'
else
    skip 'one that needs too much memory' 'it cannot be limited here'
fi

# --- children

run 0 sh -c 'sleep 1001 & sleep 1002; true'
kid() { top=$pid; kid=$(pgrep -P "$pid" -f 'sleep 1001'); [ -n "$kid" ]; }
eventually 10 kid
pid=$kid
ok 'a child of a shell on the node' why_is "^$kid \(sleep 1001\) on node 0: runs since"
kill -KILL "$kid"
eventually 15 answers 'killed by|has ended'
ok 'and its end' why_is 'killed by SIGKILL, sent (by process|to its ghost)'
kill -KILL "$top"
wait $job

# --- others

setpriv --reuid 12345 --regid 12345 --clear-groups bpsh -N 1 sleep 1000 & job=$!
eventually 10 started
kill -KILL "$pid"
ended
ok 'a user is told of his own' has 'killed by SIGKILL' as 12345 "$CM_BUILD/bin/bpps" --why "$pid"
ok 'another is not' fails_with "process $pid was another user's" as 12346 "$CM_BUILD/bin/bpps" --why "$pid"
ok 'root is' why_is 'killed by SIGKILL'
json() { bpps --json --why "$pid" | python3 -c 'import json, sys
p = json.load(sys.stdin)[0]
print(p["status"], p["sig"], p["node"], p["uid"], p["name"])'; }
ok 'as JSON' is '9 9 1 12345 sleep 1000' json
ok 'no such process' fails_with '^bpps: 4194000: no process of that number is known; the last 4096' \
    bpps --why 4194000
ok 'several, one of them unknown' exits 1 bpps --why "$pid" 4194000
ok 'and the known one is told' has 'killed by SIGKILL' bash -c "bpps --why 4194000 $pid || true"
ok 'of which?' exits 2 bpps --why
ok 'not a number' exits 2 bpps --why sleep
ok 'nor one that can be' exits 2 bpps --why 0

# --- a node that is lost

run 2 sleep 1000
bpctl -S 2 -H
ended
ok 'a node that was halted' why_is 'killed: its node was lost \(.+\)'

# --- what is remembered

spec=$(printf '0,1,%.0s' {1..250})
for _ in 1 2 3 4 5 6 7 8 9; do bpsh -N "${spec%,}" "$body" exit 0; done
ok 'the last 4096, and no more' fails_with 'no process of that number' bpps --why "$pid"
run 0 sleep 1000
kill -KILL "$(pid_of procspace)"
ok 'after a restart what runs is known' eventually 20 answers 'runs since'
kill "$pid"
ended
ok 'and how it ends' why_is 'killed by SIGTERM, sent by process'
done_testing
