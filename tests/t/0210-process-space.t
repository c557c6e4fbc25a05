#!/bin/bash
# 0210-process-space: 200 processes on 8 nodes are 200 processes here: their
# pids, names, signals and ends; and whatever is killed beside them, they live
. tests/lib.sh

need bin/bpsh bin/bpps tests/body libexec/clustermatic/bpvnode libexec/clustermatic/nodemgr \
    libexec/clustermatic/procspace libexec/clustermatic/iofwd
/usr/bin/python3 -c 'import zmq, msgpack' 2>/dev/null ||
    plan_skip 'needs python3-zmq and python3-msgpack'
body=$CM_BUILD/tests/body
cluster_up 8
spec=$(printf '0-7,%.0s' {1..25})
spec=${spec%,}

# --- 200 of them

mkfifo "$tmp/in"
exec 7<>"$tmp/in"
bpsh -L "$spec" "$body" wait <"$tmp/in" >"$tmp/out" 2>"$tmp/err" 7>&- & job=$!
on_exit+=("kill -9 $job 2>/dev/null")
said() { [ "$(grep -c " rank " "$tmp/out")" = "$1" ]; }
ok 'all 200 say their pid' eventually 20 said 200
pids() { sort -n <(awk '$2 == "rank" { print $1 }' "$tmp/out"); }
pid_of_rank() { awk -v r="$1" '$2 == "rank" && $3 == r { print $1 }' "$tmp/out"; }
ghosts() { ps -o pid= --ppid "$job" | sort -n | tr -d ' '; }
ok 'ps shows 200 children of bpsh' is 200 bash -c "ps -o pid= --ppid $job | wc -l"
ok 'with the pids that the processes themselves have' diff <(pids) <(ghosts)
ok 'under the name of the program' is body bash -c "ps -o comm= --ppid $job | sort -u"
ok 'and with its arguments' is "$body wait" bash -c "ps -o args= --ppid $job | sort -u"
exes() { for p in $(ghosts); do readlink "/proc/$p/exe"; done | sort -u; }
ok 'they are ghosts' is "$libexec/bpghost" exes
bpps --json >"$tmp/ps"
on_nodes() { # EXPR: about the list of bodies, b
    python3 -c 'import json, sys
b = [p for p in json.load(open(sys.argv[1]))["procs"] if p["comm"] == "body"]
print(eval(sys.argv[2]))' "$tmp/ps" "$1"
}
ok 'bpps shows them, 25 on each node' is '200 [25]' \
    on_nodes 'str(len(b)) + " " + str(sorted({sum(q["node"] == p["node"] for q in b) for p in b}))'
ok 'under the same pids' diff <(pids) <(on_nodes '"\n".join(str(x) for x in sorted(p["pid"] for p in b))')
ok 'bpstat -p shows 200' is 200 bash -c 'bpstat -p | tail -n +2 | wc -l'

# --- signals

launch=$(tr '\0' '\n' <"/proc/$(pid_of_rank 0)/environ" | sed -n 's/^CM_LAUNCH=//p')
# The status of a rank as wait() gives it, or None.
status_of() {
    tests/ask.py -e "[r[3] for r in v['ranks'] if r[0] == $1][0]" procspace.result \
        "{\"launch\": $launch}"
}
ended_with() { [ "$(status_of "$1")" = "$2" ]; }
state_of() { # RANK: state of the body, as bpps has it
    bpps --json "$(($1 % 8))" | python3 -c 'import json, sys
print([p["state"] for p in json.load(sys.stdin)["procs"] if p["pid"] == int(sys.argv[1])][0])' \
        "$(pid_of_rank "$1")"
}
is_in_state() { [ "$(state_of "$1")" = "$2" ]; }
ghost_state() { ps -o stat= -p "$(pid_of_rank "$1")" | cut -c1; }
ghost_is() { [ "$(ghost_state "$1")" = "$2" ]; }
heard() { grep -q "^$(pid_of_rank "$1") $2\$" "$tmp/out"; }

ok 'TERM here ends one there' kill -TERM "$(pid_of_rank 3)"
ok 'by its own handler' eventually 5 ended_with 3 $((42 << 8))
ok 'its ghost is gone' not kill -0 "$(pid_of_rank 3)"
ok 'STOP' kill -STOP "$(pid_of_rank 13)"
ok 'stops the one that is meant' eventually 5 is_in_state 13 T
ok 'and its ghost' ghost_is 13 T
ok 'nobody else' is 1 bash -c 'bpps | awk "\$4 == \"T\"" | wc -l'
ok 'CONT' kill -CONT "$(pid_of_rank 13)"
ok 'lets it go on' eventually 5 is_in_state 13 S
ok 'both of it' eventually 5 ghost_is 13 S
ok 'TSTP' kill -TSTP "$(pid_of_rank 14)"
ok 'stops too' eventually 5 is_in_state 14 T
ok 'and its ghost, as the body does' eventually 5 ghost_is 14 T
kill -CONT "$(pid_of_rank 14)"
ok 'until CONT' eventually 5 is_in_state 14 S
ok 'of both' eventually 5 ghost_is 14 S
ok 'KILL' kill -KILL "$(pid_of_rank 7)"
ok 'kills' eventually 5 ended_with 7 9
not_on_node() { ! bpps 7 | grep -q " $(pid_of_rank 7) "; }
ok 'it is not on the node any more' eventually 5 not_on_node
for sig in HUP USR1 USR2; do
    kill -$sig "$(pid_of_rank 100)"
    ok "SIG$sig is heard" eventually 5 heard 100 "signal $(kill -l $sig) 0"
done
"$body" queue "$(pid_of_rank 101)" "$(kill -l RTMIN+3)" 77
ok 'a real-time signal with its value' eventually 5 heard 101 'rt 3 77'
for v in 1 2 3 4 5; do
    "$body" queue "$(pid_of_rank 102)" "$(kill -l RTMIN+5)" $v
done
values() { awk -v p="$(pid_of_rank 102)" '$1 == p && $2 == "rt" { print $4 }' "$tmp/out" | paste -sd' '; }
five() { [ "$(values)" = '1 2 3 4 5' ]; }
ok 'several of them, in order' eventually 5 five
ok 'another user may not' not as 12345 kill -TERM "$(pid_of_rank 20)" 2>/dev/null
ok '198 are left' is 198 bash -c 'bpps | grep -c "/body wait"'

# --- what they run beside is killed

# The pid of the agent of node N: a child of its machine.
ready_again() { [ "$(pid_of "$1")" != "$2" ] && [ "$(s6-svstat -o ready "$run/s6/$1")" = true ]; }
agent_again() { local now; now=$(agent 2) && [ "$now" != "$1" ]; }
all_here() { [ "$(ghosts | wc -l)" = 198 ] && [ "$(bpps -a 2>"$tmp/bpps.err" | grep -c '/body wait')" = 198 ]; }
nodes_up() { [ "$(bpstat -t up)" = 8 ]; }
for victim in busd nodemgr procspace iofwd bpnode; do
    if [ $victim = bpnode ]; then
        old=$(agent 2)
        kill -9 "$old"
        ok 'bpnode of node 2 killed: a new one' eventually 10 agent_again "$old"
    else
        eventually 10 pid_of $victim >/dev/null
        old=$(pid_of $victim)
        kill -9 "$old"
        ok "$victim killed: a new one" eventually 10 ready_again $victim "$old"
    fi
    ok 'all nodes are up' eventually 15 nodes_up
    ok 'all 198 run here and there' eventually 15 all_here
done
ok 'and none has ended meanwhile' is 1 grep -c . "$tmp/err"

ok 'signals act as before' kill -TERM "$(pid_of_rank 10)"
ok 'on the right one' eventually 10 ended_with 10 $((42 << 8))
ok 'with values too' "$body" queue "$(pid_of_rank 103)" "$(kill -l RTMIN+3)" 78
ok 'which are heard' eventually 10 heard 103 'rt 3 78'
ok 'KILL also' kill -KILL "$(pid_of_rank 11)"
ok 'on the one that is meant' eventually 10 ended_with 11 9
ok 'STOP also' kill -STOP "$(pid_of_rank 42)"
ok 'which acts' eventually 5 is_in_state 42 T
kill -CONT "$(pid_of_rank 42)"

# --- and all end as they should

exec 7>&-
wait $job
rc=$?
ok 'bpsh ends: one died by a signal' test $rc = 255
ok 'and says where' is '3 7' bash -c \
    "sed -n 's/.*on node \([0-9]*\) exited abnormally.*/\1/p' '$tmp/err' | sort | paste -sd' '"
wrong() {
    tests/ask.py -e "[(r[0], r[3]) for r in v['ranks'] if
        r[3] != {3: 42 << 8, 7: 9, 10: 42 << 8, 11: 9}.get(r[0], r[0] % 100 << 8)]" \
        procspace.result "{\"launch\": $launch}"
}
ok 'each status is what it was there' is '[]' wrong
known() {
    tests/ask.py -e "len([r for r in v['ranks'] if r[3] is not None])" \
        procspace.result "{\"launch\": $launch}"
}
ok 'of all that ran when procspace was started again' is 198 known
ok 'nothing is left on the nodes' not grep -q '/body wait' <(bpps)

# --- launches on their way while something is killed

# Several at once, with one kill in their midst.
launches_with() { # VICTIM
    local i jobs=() rc=0 old
    for i in 1 2 3 4 5 6; do
        bpsh 0-7,0-7,0-7 "$body" exit $((10 + i)) 2>"$tmp/late.$i" &
        jobs+=($!)
    done
    if [ "$1" = bpnode ]; then
        kill -9 "$(agent 2)"
    else
        eventually 10 pid_of "$1" >/dev/null
        kill -9 "$(pid_of "$1")"
    fi
    for i in 1 2 3 4 5 6; do
        wait "${jobs[i - 1]}" || rc=$?
        [ $rc = $((10 + i)) ] || { echo "launch $i: status $rc"; cat "$tmp/late.$i"; return 1; }
    done
}
for victim in procspace busd nodemgr iofwd bpnode procspace; do
    ok "launches while $victim is killed give what they should" launches_with $victim
    ok 'and the nodes are up' eventually 15 nodes_up
done
ok 'nothing of them is left' is '' bash -c "bpstat -p | tail -n +2"

# --- bpsh killed at any moment of its start

cat >"$tmp/early" <<'EOF'
import signal, subprocess, sys, time
for n in range(100):
    p = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    time.sleep(n / 100 * 0.012)
    p.send_signal(signal.SIGKILL)
    p.wait()
EOF
ghosts_left() { # of this cluster, whoever their parent is
    local p
    for p in $(pgrep -r R,S,D,T,t); do
        [ "$(readlink "/proc/$p/exe")" = "$libexec/bpghost" ] &&
            tr '\0' '\n' <"/proc/$p/environ" | grep -q "^CM_GHOST=.*:$run/gate$" && echo "$p"
    done 2>/dev/null
}
no_ghosts() { [ -z "$(ghosts_left)" ]; }
/usr/bin/python3 "$tmp/early" "$CM_BUILD/bin/bpsh" 0-7 "$body" exit 0
ok 'no ghost waits for a launch that never came' eventually 10 no_ghosts
ok 'nothing runs on the nodes' eventually 10 is '' bash -c "bpstat -p | tail -n +2"
done_testing
