#!/bin/bash
# 0636-move-starts: where a process has left children, and is elsewhere, it begins others:
# programs, copies with descriptors of their own; they are its children, and have all that
# they are given; what cannot be is refused, and leaves nothing; services and processes are
# killed meanwhile. CM_MOVES=1000: services are killed 50 times
# shellcheck disable=SC2317 # functions are called by ok and eventually
. tests/lib.sh

need_root
need lib/libbproc.so libexec/clustermatic/bpbegin bin/bpsh bin/bpps
begins=$tmp/begins
ok 'the program compiles' gcc -Wall -Wextra -Werror -g -I"$CM_BUILD/include" -I. \
    -o "$begins" tests/libbproc/begins.c -L"$libdir" -lbproc
ok 'another' gcc -Wall -Wextra -Werror -o "$tmp/tour" -I"$CM_BUILD/include" \
    tests/libbproc/tour.c -L"$libdir" -lbproc
ok 'and one that waits' gcc -Wall -Wextra -Werror -o "$tmp/held" tests/libbproc/held.c
printf '#!/no/such/interpreter\n' >"$tmp/script"
echo 'no program' >"$tmp/nothing"
chmod 755 "$tmp" "$tmp/script" "$tmp/nothing"
export LD_LIBRARY_PATH=$libdir
cluster_up 3

at() { # NODE ARG...
    local node=$1
    shift
    if [ "$node" = -1 ]; then quiet "$begins" "$@"; else quiet bpsh "$node" "$begins" "$@"; fi
}

# --- what they are given

for way in '0 0 1' '0 0 -1' '-1 0 -1' '1 0 2'; do
    read -r from left to <<<"$way"
    where="begun on $from, left on $left, now on $to"
    ok "$where: programs have what they are given" at "$from" "$left" "$to" program
    ok "$where: copies have descriptors of their own" at "$from" "$left" "$to" copies
    ok "$where: what cannot be is refused" at "$from" "$left" "$to" fails "$tmp"
    ok "$where: they are connected to it" at "$from" "$left" "$to" connects
    ok "$where: a child of it goes there as another program" at "$from" "$left" "$to" becomes
    at "$from" "$left" "$to" back >"$tmp/odd"
    ok "$where: it comes back with descriptors of its own" is 7 echo $?
done
ok 'two nodes know it by different names, from the master' at -1 0 -1 names
ok 'and where it was begun on a node' at 0 0 -1 names
ok 'what they say comes' at -1 0 -1 speaks
ok 'is heard' eventually 20 grep -q '^spoken [0-9]* /' "$tmp/run.out"

as_user() { # WHAT
    quiet setpriv --reuid 54321 --regid 54321 --clear-groups bpsh 0 "$begins" 0 "$1" "$2"
}
for to in 1 -1; do
    ok "a user's programs, from $to" as_user $to program
    ok "a user's copies, from $to" as_user $to copies
done

# --- held in the middle

node_pid() { pgrep -f "^bpinit .*--space $run/space/$1( |\$)"; }
node=/proc/$(node_pid 0)/root/run
hold() {
    rm -f "$node/go"
    cp "$CM_BUILD/libexec/clustermatic/bpbegin" "$node/clustermatic/bpbegin.it" &&
        cp "$tmp/held" "$node/clustermatic/bpbegin.new" &&
        mv "$node/clustermatic/bpbegin.new" "$node/clustermatic/bpbegin"
}
let_go() { : >"$node/go"; }
real() { cp "$node/clustermatic/bpbegin.it" "$node/clustermatic/bpbegin.new" && mv "$node/clustermatic/bpbegin.new" "$node/clustermatic/bpbegin"; }
beginner() { held=$(pgrep --ns "$(node_pid 0)" --nslist pid -x bpbegin) && [ -n "$held" ]; }
none_begins() { ! beginner; }
lines() { [ "$(wc -l <"$tmp/says")" = "$1" ]; }
line() { sed -n "$1p" "$tmp/says"; }
run_waits() { # AT
    : >"$tmp/says"
    timeout -k 1 100 bpsh 0 "$begins" 0 "$1" waits </dev/null >"$tmp/says" 2>"$tmp/odd" & job=$!
    on_exit+=("kill -KILL $job 2>/dev/null")
    eventually 20 grep -q '^[0-9]* [0-9]*$' "$tmp/says" || diag "it does not wait: $(cat "$tmp/says" "$tmp/odd")"
    read -r parent child < <(grep '^[0-9]* [0-9]*$' "$tmp/says")
    first=$(wc -l <"$tmp/says")
}
asked() { # it is to begin one, and is held
    hold
    kill -USR1 "$parent"
    eventually 20 beginner || diag 'none begins'
}
gone() { ! [ -e "/proc/$1" ]; }
ended() { # STATUS
    kill -HUP "$parent" 2>"$tmp/err"
    eventually 60 gone "$job"
    wait "$job"
    local rc=$?
    [ $rc = "$1" ] || { echo "status $rc"; return 1; }
}
node_has() { bpps "$1" | awk -v pid="$2" '$2 == pid { found = 1 } END { exit !found }'; }
new() { local pid && pid=$(pid_of "$1") && [ "$pid" != "$old" ]; }
end_procspace() {
    old=$(pid_of procspace) && kill -KILL "$old"
    eventually 20 new procspace
}
said() { begun=$(line $((first + 1))) && [ -n "$begun" ]; }
runs() { eventually 60 said && [ "$begun" -gt 1 ] && node_has 0 "$begun"; }
another_agent() { local pid && pid=$(agent 0) && [ "$pid" != "$old" ]; }
refused() { eventually 60 said && is "$1" echo "$begun"; }
knows() { bpstat -p | grep -q "^${1}[[:space:]]*0"; }

for to in 1 -1; do
    run_waits $to
    asked
    old=$(agent 0)
    kill -KILL "$old"
    eventually 20 another_agent || diag 'no new agent'
    let_go
    ok "from $to: the agent is killed, and it begins all the same" runs
    kill -TERM "$begun"
    ok 'its end comes to its parent' ended $((100 + 15))

    run_waits $to
    asked
    ok "from $to: procspace is killed" end_procspace
    let_go
    ok 'it is begun, or refused' eventually 60 said
    if [ "$begun" -gt 1 ]; then
        kill -TERM "$begun"
        ok 'its end comes to its parent' ended $((100 + 15))
    else
        ok 'and its parent goes on' ended 0
    fi
    ok 'nothing is left of it' eventually 60 none_begins

    run_waits $to
    asked
    kill -KILL "$held"
    ok "from $to: it is killed before it is executed: EIO" refused -5
    real
    kill -USR1 "$parent"
    first=$((first + 1))
    ok 'another is begun' runs
    kill -TERM "$begun"
    ok 'and its end comes to its parent' ended $((100 + 15))

    run_waits $to
    asked
    kill -KILL "$(ps -o ppid= -p "$held" | tr -d " ")"
    ok "from $to: what was left is killed, and so is its process" eventually 60 gone "$parent"
    ok 'nothing begins then' eventually 60 none_begins
    kill -KILL "$child"
    ok 'what it had made there was nobody'"'"'s' ended 255

    run_waits $to
    asked
    kill -KILL "$parent"
    ok "from $to: the parent is killed, and nothing begins" eventually 60 none_begins
    kill -KILL "$child"
    ok 'what it had made there was nobody'"'"'s' ended 255
    real
done

# A number that is another's there.
run_waits 1
real
next=$(bpsh 1 sh -c ': & echo $!' </dev/null)
: >"$tmp/sit"
bpsh -n 0 "$tmp/tour" sit $((next + 1)) 12 >"$tmp/sit" & sits=$!
on_exit+=("kill -KILL $sits 2>/dev/null")
eventually 20 is 12 cat "$tmp/sit" || diag "numbers are not taken: $(cat "$tmp/sit")"
kill -USR1 "$parent"
ok 'a number that is taken: EAGAIN' refused -11
kill -TERM $sits
wait $sits
ok 'and its parent goes on' ended 0

# --- services are killed at any time

survives() { # KILL FROM LEFT AT
    local it rc cmd=("$begins" "$3" "$4" many 40)
    [ "$2" = -1 ] || cmd=(bpsh "$2" "${cmd[@]}")
    : >"$tmp/run.out"
    timeout -k 1 100 "${cmd[@]}" </dev/null >"$tmp/run.out" 2>&1 & it=$!
    eventually 20 grep -qs '^# it begins' "$tmp/run.out" || diag "it does not begin"
    for _ in 1 2 3; do
        sleep "0.$((RANDOM % 3))$((RANDOM % 9 + 1))"
        ! kill -0 $it 2>/dev/null || "$1"
    done
    wait $it
    rc=$?
    [ $rc = 0 ] || cat "$tmp/run.out"
    return $rc
}
end_agents() {
    local pid
    for pid in $(agent '[0-2]'); do kill -KILL "$pid"; done
}
rounds=${CM_MOVES:+25}
for _ in $(seq "${rounds:-1}"); do
    ok 'procspace is killed while it begins one after another' survives end_procspace 0 0 1
    ok 'and from the master' survives end_procspace -1 0 -1
    ok 'agents are killed' survives end_agents 0 0 1
    ok 'and from the master' survives end_agents -1 0 -1
done

nothing_left() { ! bpps 0-2 | grep -q ' begins' && ! pgrep -f "^begins (is|sits|same)" >/dev/null; }
ok 'nothing is left on any node' eventually 60 nothing_left
done_testing
