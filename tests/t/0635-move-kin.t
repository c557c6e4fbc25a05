#!/bin/bash
# 0635-move-kin: a process moves while it has children: they stay where they are, and
# are its children wherever it is: wait, stops, signals, getppid, each other's death;
# one that finds no memory where it would go stays, and nobody notices; and
# after services were killed. CM_MOVES=1000: services are killed 100 times while one moves
# shellcheck disable=SC2317 # functions are called by ok and eventually
. tests/lib.sh

need_root
need lib/libbproc.so libexec/clustermatic/bprestore bin/bpsh bin/bpps bin/bpmove
kin=$tmp/kin
ok 'the program compiles' gcc -Wall -Wextra -Werror -g -I"$CM_BUILD/include" -I. \
    -o "$kin" tests/libbproc/kin.c -L"$libdir" -lbproc
tour=$tmp/tour
ok 'another' gcc -Wall -Wextra -Werror -g -I"$CM_BUILD/include" -o "$tour" tests/libbproc/tour.c \
    -L"$libdir" -lbproc
export LD_LIBRARY_PATH=$libdir
cluster_up 3

at() { # NODE ARG...
    local node=$1
    shift
    if [ "$node" = -1 ]; then quiet "$kin" "$@"; else quiet bpsh "$node" "$kin" "$@"; fi
}
for children in '-1 -1' '-1 0' '0 1' '1 1'; do
    # shellcheck disable=SC2086 # two numbers
    ok "from the master, children $children: to 2, the master, 2" at -1 away $children 2 -1 2
done
for children in '-1 -1' '-1 1' '1 1'; do
    # shellcheck disable=SC2086 # two numbers
    ok "from node 0, children $children: to 2, the master, 0" at 0 away $children 2 -1 0
done

# --- a child that moves while its parent stays

ok 'a child of the master: from node to node, and there for a while' at -1 roam 1 2,-1,0
ok 'a child of node 0: from node to node' at 0 roam 1 2,1

# --- children that it has made on a node, and such as run where it goes

ok 'children on the nodes that it goes to' at -1 away 0 1 0 1 -1 0
ok 'from node 0: one on the node that it goes to, one where it was' at 0 away 2 0 2 0 -1 2
ok 'two that it has made: away, and back to them' at 1 away -2 -2 0 2 1 -1 2 1
ok 'one that it has made and one on the master: home and away' at 0 away -2 -1 -1 0 1 0
ok 'a child that node 0 has made goes to another' at 0 roam -2 1,2
ok 'and home again' at 0 roam -2 1,0,2
ok 'to the master, and home' at 0 roam -2 -1,0
ok 'and everywhere' at 0 roam -2 1,-1,2,0,-1,1
ok 'a child on node 1 comes to its parent, and to the master' at 0 roam 1 0,2,-1
ok 'a child on the master comes to it, and goes on' at 0 roam -1 0,1,-1
ok 'one that node 0 has made goes away from two of its own' at 0 under away -2 -2 1 2 0
ok 'to the master and home, with a child there and one left' at 0 under away -2 -1 -1 0 1 0

# --- it gets more children where it has left some

ok 'copies of itself' at 0 copies -2 1 0
ok 'from the master, between two on another node' at 0 copies -2 -1 0 2 0
ok 'from node 0, where one was that it has made from the master' at -1 copies 0 0 1 0
ok 'to where it was made, and has a stand-in only' at 0 under copies 2 1 0 0
ok 'the same from the master' at 0 under copies 2 -1 0 0
ok 'programs' at 0 more -2 1 0
ok 'from the master, between two on another node' at 0 more -2 -1 0 2 0
ok 'from node 0, where one was that it has made from the master' at -1 more 0 0 1 0
ok 'to where it was made, and has a stand-in only' at 0 under more 2 1 0 0
ok 'the same from the master' at 0 under more 2 -1 0 0
ok 'a child of it from elsewhere comes, and goes on' at 0 stray -2 1 2 0,1,0
ok 'with its parent on the master' at 0 stray -2 -1 2 0,-1,0

both_say() {
    timeout 60 bpsh 0 "$kin" says 1,2,-1,0 >"$tmp/said" 2>&1
    is 7 echo $? && eventually 20 grep -q 'child is on 0' "$tmp/said" && is "$(printf 'the child is on %s\n' 1 2 -1 0)" grep child "$tmp/said" &&
        is 'its parent is on 0' grep parent "$tmp/said"
}
ok 'what it says is heard, in order' both_say

# --- services die meanwhile

held() { read -r parent child <"$tmp/pids" && [ -n "$child" ]; }
run_held() { # FROM ARG...
    local on=()
    : >"$tmp/pids"
    [ "$1" = -1 ] || on=(bpsh "$1")
    shift
    timeout 100 "${on[@]}" "$kin" "$@" </dev/null >"$tmp/pids" 2>"$tmp/hold.err" & job=$!
    on_exit+=("kill -KILL $job 2>/dev/null")
    eventually 60 held || diag "no pids: $(cat "$tmp/hold.err")"
}
hold() { run_held "$1" hold "$2" "$3"; } # FROM CHILD TO
gone() { ! [ -e "/proc/$1" ]; }
node_has() { bpps "$1" | awk -v pid="$2" '$2 == pid { found = 1 } END { exit !found }'; }
stands() { [ "$(ps -o ppid= -p "$1" | tr -d ' ')" = "$2" ] && node_has "$3" "$1"; }
ended() { # STATUS
    eventually 60 gone "$job"
    wait "$job"
    local rc=$?
    [ $rc = "$1" ] || { echo "status $rc"; return 1; }
}
new() { local pid && pid=$(pid_of "$1") && [ "$pid" != "$old" ]; }
end_procspace() {
    old=$(pid_of procspace) && kill -KILL "$old"
    eventually 20 new procspace
}
knows() { bpstat -p | grep -q "^${parent}[[:space:]]"; }
hold -1 1 0
eventually 20 stands "$child" "$parent" 0 || diag "no stand-in on node 0"
ok 'procspace is killed' end_procspace
ok 'the parent is found again' eventually 60 knows
ok 'its child stands as it did' eventually 60 stands "$child" "$parent" 0
kill -TERM "$child"
ok 'its end comes to its parent' ended $((100 + 15))

hold -1 -1 0
ok 'procspace is killed: a child on the master' end_procspace
ok 'the parent is found again' eventually 60 knows
kill -TERM "$child"
ok 'the child ends, and its parent hears how' ended $((100 + 15))

restarted() { # WHAT
    eventually 20 knows || diag 'the parent is not known'
    ok "procspace is killed: $1" end_procspace
    ok 'the parent is found again' eventually 60 knows
    kill -TERM "$child"
    ok 'the child ends, and its parent hears how' ended $((100 + 15))
}
hold 0 -2 1
restarted 'a child where its parent was'
hold -1 0 0
restarted 'one where its parent has come'
run_held 0 sent 1
restarted 'one that has left its parent'
run_held 0 sent -1
restarted 'for the master'
run_held 0 again -2 1
restarted 'one that was made for it there after it had left'

# It has come to the master, and its child ends on a node just before procspace is killed:
# the child's ghost names what its parent was on a node.
bodies() { # ARGS: processes, not their ghosts
    local pid
    for pid in $(pgrep -r R,S,D,T,t -f "$1"); do
        [[ $(readlink "/proc/$pid/exe") = */bpghost ]] || echo "$pid"
    done
}
run_held 0 hold 1 -1
stopped=$(agent 1)
on_exit+=('kill -CONT $stopped $bpsh 2>/dev/null')
kill -STOP "$stopped"
body=$(bodies "^kin wait $parent\$")
kill -TERM "$body"
eventually 20 gone "$body" || diag "no end of '$body'"
ok 'procspace is killed, and has not heard of the end of a child' end_procspace
kill -CONT "$stopped"
ok 'its parent does' ended $((100 + 15))

# bpsh asks anew for what was started before procspace was killed, and has moved since.
started() { pid=$(bpps 0 | awk '/tour/ { print $2 }') && [ -n "$pid" ]; }
home() { [[ $(readlink "/proc/$pid/exe") = */tour ]]; }
asked() { second=$(bpstat -p 1 | awk 'NR == 2 { print $1 }') && [ -n "$second" ]; }
runs() { node_has 1 "$second"; }
asks_anew() { # WHAT TO: node 1 answers to nothing meanwhile
    local to
    stopped=$(agent 1)
    kill -STOP "$stopped"
    bpsh -N 0-1 "$tour" -1,2 </dev/null >"$tmp/odd" 2>&1 & job=$! bpsh=$!
    on_exit+=("kill -KILL $job 2>/dev/null")
    eventually 20 started || diag "not started: $(bpps 0)"
    kill -STOP "$bpsh"
    end_procspace || diag 'no new procspace'
    for to in $2; do
        kill -USR1 "$pid"
        if [ "$to" = -1 ]; then eventually 60 home; else eventually 60 node_has "$to" "$pid"; fi ||
            diag "it has not come to $to"
    done
    kill -CONT "$bpsh"
    ok "$1: bpsh asks for it anew" eventually 20 asked
    kill -CONT "$stopped"
    ok 'and is answered' eventually 60 runs
    kill -HUP "$pid" "$second"
    ok 'both go on to their end' ended 7
    ok 'and nothing is wrong with them' is '' cat "$tmp/odd"
}
bpsh 0-1 "$tour" </dev/null # the nodes have the program
asks_anew 'one that has come home' -1
asks_anew 'and gone on' '-1 2'

# A child whose number another process has on the master is not known to its parent there.
number=$(bpsh 0 sh -c ': & echo $!' </dev/null)
"$tour" sit $((number + 1)) 8 >"$tmp/sit" & sits=$!
on_exit+=("kill -KILL $sits 2>/dev/null")
ok 'the next numbers of node 0 are taken on the master' eventually 20 is 8 cat "$tmp/sit"
run_held 0 hold -2
for to in 1 -1; do
    ok "who has such a child does not go to $to" fails_with \
        "its child $child has another number on the master" bpmove "$parent" "$to"
done
kill -TERM $sits
wait $sits # the numbers are free again
kill -TERM "$(pgrep -P "$parent")"
ok 'it has gone on, and hears of the end of that child' ended $((100 + 15))

# A child is told of before procspace knows who is there: it is not taken for nobody's.
mkfifo "$tmp/line"
: >"$tmp/pids"
timeout -k 1 100 bpsh 0 "$kin" makes <"$tmp/line" >"$tmp/pids" 2>&1 & job=$!
on_exit+=("kill -KILL $job 2>/dev/null")
exec 8>"$tmp/line"
told() { [ "$(wc -l <"$tmp/pids")" = "$1" ]; }
ok 'one will make a child' eventually 20 told 1
nodemgr=$(pid_of nodemgr)
on_exit+=("kill -CONT $nodemgr 2>/dev/null")
kill -STOP "$nodemgr"
ok 'procspace is killed, and cannot ask who is there' end_procspace
echo >&8
exec 8>&-
ok 'it makes one' eventually 20 told 2
not_nobodys() { for _ in $(seq 10); do ! pgrep -P 1 -f "^$kin makes" || return 1; sleep 0.1; done; }
ok 'which is not made for pid 1' not_nobodys
kill -CONT "$nodemgr"
{ read -r parent; read -r child; } <"$tmp/pids"
ok 'but for its parent' eventually 60 stands "$child" "$parent" 0
kill -TERM "$child"
ok 'who hears of its end' ended $((100 + 15))

survives() { # KILL NODE A B: now and then, while a parent of two goes from place to place
    local wanderer to rc cmd=("$kin" wander "$3" "$4")
    [ "$2" = -1 ] || cmd=(bpsh "$2" "${cmd[@]}")
    to=$(for _ in $(seq 12); do echo 0 -1 2 0 1; done)
    # shellcheck disable=SC2086 # numbers
    rm -f "$tmp/run.log"
    WANDER_LOG=$tmp/run.log timeout -k 1 100 "${cmd[@]}" $to </dev/null >"$tmp/run.out" 2>&1 & wanderer=$!
    for _ in 1 2 3; do
        sleep "0.$((RANDOM % 3))$((RANDOM % 9 + 1))"
        ! kill -0 "$wanderer" 2>/dev/null || "$1"
    done
    wait "$wanderer"
    rc=$?
    [ $rc = 0 ] || cat "$tmp/run.log" "$tmp/run.out"
    return $rc
}
end_agents() {
    local pid
    for pid in $(agent '[0-2]'); do kill -KILL "$pid"; done
}
silent() { # it moves with no streams at all
    timeout -k 1 60 bpsh 1 "$kin" wander -2 2 0 2 -1 </dev/null >/dev/null 2>"$tmp/err" &&
        [ ! -s "$tmp/err" ]
}
ok 'bpsh does not miss what nobody is to read' silent
rounds=${CM_MOVES:+25}
for _ in $(seq "${rounds:-1}"); do
    ok 'procspace is killed while a parent moves on and on' survives end_procspace -1 -1 1
    ok 'one that a node has begun, and that has children there' survives end_procspace 0 -2 1
    ok 'agents are killed' survives end_agents -1 -1 1
    ok 'and under one of a node' survives end_agents 0 -2 1
done

hold 0 1 2
agent '[12]' | while read -r pid; do kill -KILL "$pid"; done
kill -TERM "$child"
ok 'agents are killed: the end comes all the same' ended $((100 + 15))

hold -1 1 0
bpctl -S 1 -R
ok 'the node of the child ends: SIGKILL' ended $((100 + 9))
back() { [ "$(bpstat -s 1)" = up ]; }
eventually 20 back || diag 'node 1 is not up again'

# --- its end

wrote() { # NODE FILE
    local cat=(cat "$2")
    [ "$1" = -1 ] || cat=(bpsh "$1" "${cat[@]}")
    [ "$("${cat[@]}" 2>/dev/null)" = "right 1" ] || [ "$("${cat[@]}" 2>/dev/null)" = "right another" ]
}
for a in -1 1; do
    quiet "$kin" leave $a "$tmp/left.$a" 0
    ok "it ends on a node: its child on $a is nobody's" eventually 60 wrote $a "$tmp/left.$a"
done
quiet bpsh 0 "$kin" leave -2 "$tmp/left.0" 1
ok 'so is one that it has left where it was' eventually 60 wrote 0 "$tmp/left.0"

# --- a node that really has no memory left, by a control group over all of it
memory=$(awk '$3 == "cgroup" && $4 ~ /(^|,)memory(,|$)/ { print $2; exit }' /proc/mounts)
group=$memory/cm-test-$$
full() {
    [ -n "$memory" ] && mkdir "$group" && echo 80M >"$group/memory.limit_in_bytes" &&
        pgrep -f "^bpinit .*--space $run/space/1( |\$)" >"$group/cgroup.procs"
}
no_longer_full() {
    local pid
    while read -r pid; do echo "$pid" >"$memory/cgroup.procs"; done <"$group/cgroup.procs"
    rmdir "$group"
}
if full 2>"$tmp/why"; then
    on_exit+=('no_longer_full 2>/dev/null')
    ok 'a full node: 200 MB stay where they are, and nobody notices' at -1 burden 0 200 1
    ok 'what fits goes there' eventually 20 at -1 roam 0 1,2,1 # what was refused is on its way out
    no_longer_full
else
    skip 'a full node' "no control group for memory: $(head -n 1 "$tmp/why")"
    skip 'what fits goes there' 'as above'
fi

# --- the master, that has much when it is asked and little when the memory comes: what
# its ghost sees, in whose place the process is to come, procspace does not

sed 's/^MemAvailable:.*/MemAvailable: 20480 kB/; s/^SwapFree:.*/SwapFree: 0 kB/' /proc/meminfo \
    >"$tmp/short"
short() {
    # shellcheck disable=SC2016 # for the shell there
    quiet unshare -m --propagation private sh -c 'mount --bind "$0" /proc/meminfo && exec "$@"' \
        "$tmp/short" "$kin" "$@"
}
ok 'memory runs short while it comes: it stays where it was' short burden 0 100 -1
ok 'what is small comes all the same' short roam 0 -1,1

nothing_left() { bpps 0-2 >"$tmp/left" && ! grep -q ' kin' "$tmp/left"; }
ok 'nothing is left on any node' eventually 60 nothing_left

# --- machines that say that they have little memory left: asked before anything is sent
clustermatic down --purge --name "$cluster"
sed 's/^MemAvailable:.*/MemAvailable: 51200 kB/; s/^SwapFree:.*/SwapFree: 0 kB/' /proc/meminfo \
    >"$tmp/meminfo"
little() {
    # shellcheck disable=SC2016 # for the shell there
    unshare -m --propagation private sh -c 'mount --bind "$0" /proc/meminfo && exec "$@"' \
        "$tmp/meminfo" clustermatic up --name "$cluster" --virtual 2
}
ok 'a cluster with 50 MB left comes up' little
ok '100 MB do not go from node to node' at -1 burden 0 100 1
ok 'nor to the master' at -1 burden 0 100 -1
bpsh -n 0 awk 'BEGIN { x = "x"; while (length(x) < 1e8) x = x x; print 1; fflush(); while (1) n++ }' \
    >"$tmp/large" & large=$!
on_exit+=("kill -KILL $large 2>/dev/null")
eventually 20 [ -s "$tmp/large" ] || diag 'no process with 100 MB'
ok 'nor by bpmove' fails_with 'it has 1.. MB, and 50 MB of memory are available' \
    bpmove "$(pgrep -P $large)" 1
ok 'and it goes on' kill -0 $large
kill -KILL $large
ok 'what fits does' at -1 roam 0 1,-1,0
done_testing
