#!/bin/bash
# 0660-bpmove: programs that know nothing of it go from node to node, to the master
# and back; what cannot is told, whole, and goes on where it was
# shellcheck disable=SC2317 # functions are called by ok and eventually
. tests/lib.sh
. tests/moves.sh

need bin/bpmove bin/bpsh libexec/clustermatic/bpmover libexec/clustermatic/bprestore
need_root
python=/usr/bin/python3
[ -x $python ] || plan_skip "$python is not installed"
lib=$($python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
awk=$(command -v mawk || command -v awk)
cluster_up 3
bpmove() { timeout -k 1 100 "$CM_BUILD/bin/bpmove" "$@"; }

run() { # NODE COMMAND...: by bpsh; sets job and pid. What it says: $tmp/said
    local node=$1
    shift
    : >"$tmp/said"
    bpsh -n "$node" "$@" >"$tmp/said" 2>&1 & job=$!
    on_exit+=("kill -9 $job 2>/dev/null")
    eventually 20 its_pid
    eventually 20 is_on "$pid" "$node"
}
ended() { # STATUS: of bpsh
    wait "$job"
    rc=$?
    [ $rc = "$1" ] || { echo "status $rc"; return 1; }
}

# --- what goes

cat >"$tmp/count.py" <<'END'
import signal, time
over = False
def end(*a):
    global over
    over = True
signal.signal(signal.SIGUSR1, end)
print("ready", flush=True)
n = s = 0
while not over:
    n += 1
    s += n
    time.sleep(0.001)
print("right" if s == n * (n + 1) // 2 and n > 10 else "wrong", flush=True)
raise SystemExit(7)
END
count() { run "$1" --with "$lib" $python -c "$(cat "$tmp/count.py")"; eventually 20 said '^ready$'; }
count 0
ok 'a Python program could go' is "process $pid can move" bpmove --check "$pid"
ok 'as JSON' is "[{\"pid\":$pid,\"node\":0,\"can\":true,\"text\":\"\",\"hindrances\":[]}]" \
    bpmove --check --json "$pid"
ok 'it is where it was' is_on "$pid" 0
ok 'it goes to another node' bpmove "$pid" 1
ok 'and runs there' is_on "$pid" 1
ok 'and on' bpmove "$pid" 2
ok 'and back' bpmove "$pid" 0
ok 'where it is already: said' has "^bpmove: process $pid: process $pid is on node 0 already" \
    bash -c "bpmove $pid 0 2>&1"
ok 'to the master' bpmove "$pid" master
ok 'it is an ordinary process here' has "^ *$pid +python3 *$" ps -o pid=,comm= -p "$pid"
ok 'of the same parent' is "$job" bash -c "ps -o ppid= -p $pid | tr -d ' '"
ok 'from there to a node again' bpmove "$pid" 1
ok 'and runs there' is_on "$pid" 1
hops() {
    local n
    for n in $(seq 8); do
        bpmove "$pid" $((n % 3)) || return 1
    done
}
ok 'eight times more' hops
kill -USR1 "$pid"
ok 'its signal reaches it, its status its parent' ended 7
ok 'and it has counted right' eventually 20 said '^right$'

# On the node where it ends there is a file that ends it.
run 1 "$awk" 'BEGIN { while ((getline x < "/tmp/end") < 0) { n++; s += n }
    print s == n * (n + 1) / 2 ? "right" : "wrong" }'
ok 'an awk goes' bpmove "$pid" 2
ok 'there and back' bpmove "$pid" 1
ok 'and on' bpmove "$pid" 0
bpsh -n 0 sh -c 'echo x >/tmp/end'
ok 'it ends as it should' ended 0
ok 'and is right' eventually 20 said '^right$'

# All that a process can have; it is at work the whole time.
export LD_LIBRARY_PATH=$libdir
ok 'a program with everything compiles' gcc -Wall -Wextra -Werror -g -I"$CM_BUILD/include" -I. \
    -o "$tmp/go" tests/libbproc/go.c -L"$libdir" -lbproc -lm -lpthread
everything() { # MEGABYTES WHERE...
    run 0 "$tmp/go" wait "$1"
    shift
    eventually 20 said '^ready$' || return 1
    for n in "$@"; do bpmove "$pid" "$n" || return 1; done
    kill -TERM "$pid"
    ended 0 && said "^0 faults on $n\$" || { cat "$tmp/said"; return 1; }
}
ok 'it goes on with all it has' everything 1 1 2 0 2
ok 'with 50 MB' everything 50 1 0

ok 'one with timers compiles' gcc -Wall -Wextra -Werror -g -I"$CM_BUILD/include" -I. \
    -o "$tmp/timers" tests/libbproc/timers.c -L"$libdir" -lbproc
timed() { # WHERE...
    run 0 "$tmp/timers" wait
    eventually 20 said '^ready$' || return 1
    for n in "$@"; do bpmove "$pid" "$n" || return 1; done
    kill -TERM "$pid"
    ended 0 && said "^0 faults on $n\$" || { cat "$tmp/said"; return 1; }
}
ok 'its POSIX timers go along, what has rung is heard once' timed 1 2 0 1

# --- what it says

numbers='import signal, sys, time
over = False
def end(*a):
    global over
    over = True
signal.signal(signal.SIGUSR1, end)
print("ready", flush=True)
n = 0
while not over:
    n += 1
    print(n, flush=True)
    print("!", n, file=sys.stderr, flush=True)
    time.sleep(0.001)
print("end", n, flush=True)'
in_order() { # FILE: all numbers from 1 on, once, in their order, and the end
    local n
    n=$(sed -n 's/^end //p' "$1") && [ -n "$n" ] && { echo ready; seq "$n"; echo "end $n"; } | cmp - "$1"
}
says() { # WHERE...: bpsh is the reader; it has written all when it ends
    : >"$tmp/said"
    bpsh -n 0 --with "$lib" $python -c "$numbers" >"$tmp/said" 2>"$tmp/errors" & job=$!
    eventually 20 said '^ready$' && its_pid || return 1
    for n in "$@"; do bpmove "$pid" "$n" || return 1; done
    kill -USR1 "$pid"
    wait "$job" || return 1
    in_order "$tmp/said"
}
ok 'what it says is in order and whole' says 1 2 0 1 0 2
ok 'and what it complains' cmp <(sed -n 's/^end //p' "$tmp/said" | xargs seq -f '! %g') "$tmp/errors"
ok 'to the master at last' says 1 master
ok 'bpps tells that it went there' has "^$pid \\(.*\\) on the master: a process of its own since 2" \
    bpps --why "$pid"
prefixed() {
    : >"$tmp/said"
    bpsh -n -p 0 --with "$lib" $python -c "$numbers" >"$tmp/said" 2>"$tmp/errors" & job=$!
    eventually 20 said 'ready$' && its_pid || return 1
    for n in 1 2 1; do bpmove "$pid" "$n" || return 1; done
    kill -USR1 "$pid"
    wait "$job" || return 1
    not grep -v '^  0: ' "$tmp/said" && sed 's/^  0: //' "$tmp/said" >"$tmp/plain" && in_order "$tmp/plain"
}
ok "with bpsh's prefixes" prefixed
half='import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("ready", flush=True)
sys.stdout.write("half ")
sys.stdout.flush()
signal.sigwait([signal.SIGUSR1])
print("a line", flush=True)'
halves() { # WHERE...: what it has begun to say there it ends elsewhere
    : >"$tmp/said"
    bpsh -n -p 0 --with "$lib" $python -c "$half" >"$tmp/said" 2>&1 & job=$!
    eventually 20 said 'ready$' && its_pid || return 1
    for n in "$@"; do bpmove "$pid" "$n" || return 1; done
    kill -USR1 "$pid"
    wait "$job" || echo "status $?"
    cat "$tmp/said"
}
ok 'a line that it has begun before' is "  0: ready
  0: half a line" halves 1
ok 'and before that' is "  0: ready
  0: half a line" halves 1 2 0
ok 'one that it ends on the master' is "  0: ready
  0: half 
a line" halves 1 master

trap_='import signal, sys
def trapped(*a):
    print("trapped", flush=True)
    raise SystemExit(5)
signal.signal(signal.SIGTRAP, trapped)
print("ready", flush=True)
while True:
    signal.pause()'
keeps() { # WHERE...: its handler of a signal by which it is moved
    : >"$tmp/said"
    bpsh -n 0 --with "$lib" $python -c "$trap_" >"$tmp/said" 2>&1 & job=$!
    eventually 20 said '^ready$' && its_pid || return 1
    for n in "$@"; do bpmove "$pid" "$n" || return 1; done
    kill -TRAP "$pid"
    ended 5 && said '^trapped$'
}
ok 'what it does about SIGTRAP it does after it has moved' keeps 1 0 master

# --- from the master

# Without what we have been given ourselves.
: >"$tmp/said"
$python -c 'import os, sys
os.closerange(3, 1024)
os.execv(sys.argv[1], sys.argv[1:])' $python -c "$(cat "$tmp/count.py")" >"$tmp/said" 2>&1 & job=$!
pid=$job
eventually 20 said '^ready$'
ok 'a process of the master could go' is "process $pid can move" bpmove --check "$pid"
ok 'and goes' bpmove "$pid" 2
ok 'a ghost stands for it here' has "^bpghost *$" bash -c "basename \$(readlink /proc/$pid/exe)"
ok 'it is there' is_on "$pid" 2
ok 'goes on to another node' bpmove "$pid" 0
kill -USR1 "$pid"
ok 'the shell that has started it gets its status' ended 7
ok 'what it says is in the same file' eventually 20 said '^right$'

# --- what does not

run 0 --with "$lib" --with "$PWD/tests/holds.py" $python "$PWD/tests/holds.py" all
eventually 20 said '^ready$'
bpmove --check "$pid" >"$tmp/told"
ok 'one that holds everything: it is refused' exits 1 bpmove --check "$pid"
told() { grep -Eq "^process $pid: $1" "$tmp/told" || { cat "$tmp/told"; return 1; }; }
ok 'threads are told' told 'it has 2 threads'
ok 'a socket is' told 'descriptor [0-9]+: a socket'
ok 'pipes are' told 'descriptor [0-9]+: a pipe to other processes'
ok 'a lock is' told 'descriptor [0-9]+: it holds a lock'
ok 'a child that has ended is' told 'its child [0-9]+ has ended, and it has not waited for it yet'
ok 'a deleted file is' told 'descriptor [0-9]+: /tmp/gone \(deleted\)'
ok 'epoll is' told 'descriptor [0-9]+: \[eventpoll\]'
ok 'shared memory is' told 'memory at [0-9a-f]+ is shared with other processes'
ok "a timer of another's processor time is" told "it has a POSIX timer of another process's clock"
ok 'it does not go' fails_with "process $pid: descriptor [0-9]+: a socket" bpmove "$pid" 1
ok 'it is where it was' is_on "$pid" 0
kill -USR1 "$pid"
ok 'and ends as it would' ended 0
ok 'nothing of it is lost' said '^whole$'

refused() { # WORD PATTERN: alone
    run 0 --with "$lib" --with "$PWD/tests/holds.py" $python "$PWD/tests/holds.py" "$1"
    eventually 20 said '^ready$'
    fails_with "process $pid: $2" bpmove "$pid" 1 && is_on "$pid" 0 && kill -USR1 "$pid" &&
        ended 0 && said '^whole$'
}
ok 'threads alone: the reason, and it goes on' refused threads 'it has 2 threads$'
ok 'a pipe alone' refused pipe 'descriptor [0-9]+: a pipe to other processes$'
ok 'a socket alone' refused socket 'descriptor [0-9]+: a socket$'
ok 'a child that it does not wait for' \
    refused dead 'its child [0-9]+ has ended, and it has not waited for it yet$'
ok 'a pipe of its own with something in it' \
    refused full 'descriptor [0-9]+: a pipe of its own with 5 bytes in it$'
# around WORD: to all machines, and the end
around() {
    local to
    run 0 --with "$lib" --with "$PWD/tests/holds.py" $python "$PWD/tests/holds.py" "$1"
    eventually 20 said '^ready$'
    for to in 1 2 master 0 1 2 0 master 1 2; do
        bpmove "$pid" $to || return 1
    done
    kill -USR1 "$pid" && ended 0 && eventually 20 said '^whole$'
}
ok 'a pipe that it has to itself goes along' around own
# Of what is in the way for a moment, as with every shell, the end is waited for.
ok 'one that always has a child that has just ended goes' around brief

count 0
kill -STOP "$pid"
stopped() { bpmove --check "$pid" | grep -q 'it is stopped: continue it first'; }
ok 'a stopped one' eventually 10 stopped
kill -CONT "$pid"
going() { bpmove --check "$pid" | grep -q 'can move'; }
ok 'goes on when it is continued' eventually 10 going
ok 'a node that there is not' fails_with "process $pid: Invalid node number" bpmove "$pid" 99
ok 'another user may not' fails_with "process $pid is another user's" as 61001 \
    "$CM_BUILD/bin/bpmove" "$pid" 1
ok 'nor look' fails_with "process $pid is another user's" as 61001 \
    "$CM_BUILD/bin/bpmove" --check "$pid"
bpsh -n 1 --with "$(command -v sleep)" sh -c 'sleep 1000; exit $?' & shell=$!
on_exit+=("kill -9 $shell 2>/dev/null")
sleeper() {
    parent=$(pgrep -P $shell) && kid=$(pgrep -P "$parent") && [ -n "$kid" ] && is_on "$kid" 1
}
eventually 20 sleeper
ok 'the child of one on a node goes' bpmove "$kid" 2
ok 'and is there' is_on "$kid" 2
ok 'its parent goes after it' bpmove "$parent" 2
ok 'it too is there' is_on "$parent" 2
ok 'goes on without it' bpmove "$parent" 0
ok 'the child goes back to the master' bpmove "$kid" master
ok 'and is a process of it' has '/sleep$' readlink "/proc/$kid/exe"
kill -TERM "$kid"
shell_ended() { ! [ -e /proc/$shell ]; }
eventually 30 shell_ended
wait $shell
ok 'its parent hears how it has ended' is $((128 + 15)) echo $?
$python -c 'import os
os.closerange(3, 1024)
os.execvp("sh", ["sh", "-c", "sleep 1000; exit $?"])' </dev/null >/dev/null 2>&1 & parent=$!
of_parent() { kid=$(pgrep -P "$parent") && [ -n "$kid" ]; }
eventually 10 of_parent || diag 'no child'
ok 'one of the master with a child goes' bpmove "$parent" 1
ok 'without it' is_on "$parent" 1
kill -TERM "$kid"
sh_ended() { ! kill -0 "$parent" 2>/dev/null || [ "$(ps -o stat= -p "$parent")" = Z ]; }
eventually 30 sh_ended
wait "$parent"
ok 'and hears how that has ended' is $((128 + 15)) echo $?
kill -USR1 "$pid"
ok 'the counter has been right all the time' ended 7

: >"$tmp/said"
setpriv --reuid 61001 --regid 61001 --clear-groups bpsh -n 0 --with "$lib" $python \
    -c "$(cat "$tmp/count.py")" >"$tmp/said" 2>&1 & job=$!
on_exit+=("kill -9 $job 2>/dev/null")
eventually 20 its_pid
eventually 20 said '^ready$'
bpctl -S 2 -m 0110
ok 'a node that refuses its owner' fails_with "process $pid: .*([Pp]ermission|may not|permit)" \
    bpmove "$pid" 2
ok 'it goes on' is_on "$pid" 0
ok 'its owner moves it where he may' as 61001 "$CM_BUILD/bin/bpmove" "$pid" 1
kill -USR1 "$pid"
ok 'and it ends as it would' ended 7

# The limits of a process go with it: of its data, there it is given no more than
# that; of its memory, it cannot be given what it takes to move it.
cat >"$tmp/limit.py" <<'END'
import resource, signal, sys
x = bytearray(100 << 20)
which = getattr(resource, sys.argv[1])
resource.setrlimit(which, (50 << 20, resource.getrlimit(which)[1]))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("ready", flush=True)
signal.sigwait([signal.SIGUSR1])
resource.setrlimit(which, (-1, -1))
print("whole" if len(x) == 100 << 20 and not any(x[:4096]) else "broken", flush=True)
END
limited() { # WHICH PATTERN
    run 0 --with "$lib" $python -c "$(cat "$tmp/limit.py")" "$1"
    eventually 20 said '^ready$'
    fails_with "process $pid: $2" bpmove "$pid" 1 && is_on "$pid" 0 && kill -USR1 "$pid" &&
        ended 0 && said '^whole$'
}
ok 'a node that gives it no memory: the reason, and it goes on' \
    limited RLIMIT_DATA '.*([Mm]emory|ENOMEM)'
ok 'no memory where it is' limited RLIMIT_AS '.*no room: Cannot allocate memory'

# --- all of its launch

end_launch() { # of the process PID, by the name that its ghost has from its start
    tests/ask.py procspace.end_launch \
        "{\"launch\": $(tr '\0' '\n' <"/proc/$1/environ" | sed -n 's/^CM_LAUNCH=//p')}"
}
count 0
bpmove "$pid" 1
bpmove "$pid" 2
ok 'its launch is ended' end_launch "$pid"
ok 'and it where it has moved to' ended 255
count 0
bpmove "$pid" 1
bpmove "$pid" 2
kill -9 "$(pid_of procspace)"
eventually 20 is_on "$pid" 2
ok 'its launch is ended, known only by its ghost' end_launch "$pid"
ok 'and it too' ended 255

# --- all of a node

count 0
movable=$pid movable_job=$job
mv "$tmp/said" "$tmp/said.1"
run 0 --with "$lib" --with "$PWD/tests/holds.py" $python "$PWD/tests/holds.py" socket
eventually 20 said '^ready$'
drained() { bpmove --drain 0 >"$tmp/drain" 2>"$tmp/drain.err"; }
ok 'a node is drained, and not of all' exits 1 drained
ok 'what can has gone' has "^process $movable: to node [12]$" cat "$tmp/drain"
ok 'there' is_on "$movable" "$(sed -n 's/.* to node //p' "$tmp/drain")"
ok 'what cannot is named' has "^bpmove: process $pid: descriptor [0-9]+: a socket" \
    cat "$tmp/drain.err"
ok 'as JSON' is "[[$pid, false, \"socket\"]]" bash -c "bpmove --drain --json 0 | $python -c '
import json, sys
print(json.dumps([[p[\"pid\"], p[\"moved\"], p[\"hindrances\"][0][\"what\"]] for p in json.load(sys.stdin)]))'"
kill -USR1 "$pid"
ok 'it goes on, and ends' ended 0
kill -USR1 "$movable"
job=$movable_job
ok 'the other too' ended 7
ok 'and is right' eventually 20 grep -q '^right$' "$tmp/said.1"
ok 'a node with nothing on it' bpmove --drain 0
ok 'a node that there is not' fails_with '^bpmove: there is no node 99' bpmove --drain 99

count 0
bpctl -S 2 -H
is_down() { [ "$(bpstat -s 2)" = down ]; }
ok 'a node goes down' eventually 20 is_down
ok 'nobody goes there' fails_with "process $pid: .*Node is down" bpmove "$pid" 2
ok 'it goes on' is_on "$pid" 0
kill -USR1 "$pid"
ok 'and has counted right' ended 7

# The example: a long computation moves off a node being drained.
example() { timeout -k 1 200 doc/examples/drain.sh 0 "$1" | cat >"$tmp/example"; cat "$tmp/example"; }
ok 'the example' has '^process [0-9]+: to node [12]$' example 60000000
ok 'its result is right' has '^pi is about 3.141593$' cat "$tmp/example"

# --- mistakes

ok 'no such process' fails_with '^bpmove: there is no process 4194300' bpmove --check 4194300
ok 'which?' exits 2 bpmove
ok 'where to?' exits 2 bpmove 77
ok 'not a number' exits 2 bpmove solver 1
ok 'not a node' exits 2 bpmove 77 everywhere
ok 'drain what?' exits 2 bpmove --drain
ok 'not a node to drain' exits 2 bpmove --drain master
ok 'JSON of a move' exits 2 bpmove --json 77 1
ok 'no cluster' fails_with '^bpmove: ' env CM_RUNDIR=/nowhere "$CM_BUILD/bin/bpmove" 77 1
left() { bpstat -p | tail -n +2 | grep -q .; }
ok 'nothing is left on the nodes' eventually 20 not left
done_testing
