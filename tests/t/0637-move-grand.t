#!/bin/bash
# 0637-move-grand: a process goes where a child of it, which is elsewhere, has left children,
# and leaves a node where one has: all three are to each other what they were, wherever each
# of them is, whoever ends first, and after services were killed
# shellcheck disable=SC2317 # functions are called by ok and eventually
. tests/lib.sh
. tests/moves.sh

need_root
need lib/libbproc.so libexec/clustermatic/bprestore bin/bpsh bin/bpps bin/bpmove
grand=$tmp/grand
ok 'the program compiles' gcc -Wall -Wextra -Werror -g -I"$CM_BUILD/include" -I. \
    -o "$grand" tests/libbproc/grand.c -L"$libdir" -lbproc
export LD_LIBRARY_PATH=$libdir
cluster_up 3

three() { # NODE STEP...
    local cmd=("$grand" "${@:2}")
    [ "$1" = -1 ] || cmd=(bpsh "$1" "${cmd[@]}")
    quiet "${cmd[@]}"
}

# --- it comes where its child has left one

ok 'from the master to where its child has left one' three -1 c0 f c1 p0 s S G
ok 'its child is on the master by then' three -1 c0 f c-1 p0 s S G
ok 'from another node' three 1 c0 f c2 p0 s S G
ok 'its child is where it comes from' three 1 c0 f c1 p0 s G
ok 'where it has never been, and its child neither' three -1 c1 r0 p0 s S G
ok 'the same from a node' three 2 c1 r0 p0 s S G
ok 'and then its child comes, too' three -1 c0 f c1 p0 c0 s S G
ok 'all go on from there' three -1 c0 f c1 p0 g2 c0 p1 c-1 G

# --- it leaves where its child has

ok 'it leaves for a node' three 0 f c1 p2 s S G
ok 'for the master' three 0 f c1 p-1 s S G
ok 'its child is on the master' three 0 f c-1 p1 s S G
ok 'and comes back' three 0 f c1 p2 p0 s S G
ok 'from the master' three 0 f c1 p-1 p0 s S p2 p0 G
ok 'its child is back before it' three 0 f c1 p2 c0 s S p0 c2 s S G
ok 'it had come to where its child had left one' three -1 c0 f c1 p0 p2 s p0 p-1 s S G
ok 'and leaves as one that has been made there' three 0 f c1 p2 c-1 p-1 p0 c0 G

# --- one that stands where it cannot be its child is said to

ok 'a child of its child has come when it had no parent there: EBUSY' three -1 f g0 b0 s S G

# --- who ends first

wrote() { # NODE FILE
    local cat=(cat "$2")
    [ "$1" = -1 ] || cat=(bpsh "$1" "${cat[@]}")
    is right "${cat[@]}"
}
files=0
alone() { # WHAT AT FILE-AT STEP...
    local file=$tmp/alone.$((++files))
    ok "$1" three "$2" "${@:4}" "$file"
    ok 'as its child sees it' eventually 60 wrote "$3" "$file"
}
alone 'its child ends where it has come' -1 0 c0 f c1 p0 C
alone 'its child ends, and it has left' 0 0 f c1 p2 C
alone 'its child ends back there' 0 0 f c1 p2 c0 C
alone 'it ends where it has come' -1 1 c0 f c1 p0 P
alone 'it ends, and has left' 0 1 f c1 p2 P

# --- moved by another, and services are killed

new() { local pid && pid=$(pid_of "$1") && [ "$pid" != "$old" ]; }
end_procspace() {
    old=$(pid_of procspace) && kill -KILL "$old"
    eventually 20 new procspace
}
end_agents() {
    local pid
    for pid in $(agent '[0-2]'); do kill -KILL "$pid"; done
}
said_both() { read -r first second < <(grep -a '^[1-9]' "$tmp/held.out") && [ -n "$second" ]; }
held() { # NODE STEP...: up to the step h
    local cmd=("$grand" "${@:2}")
    [ "$1" = -1 ] || cmd=(bpsh "$1" "${cmd[@]}")
    : >"$tmp/held.out"
    timeout -k 1 150 "${cmd[@]}" </dev/null >"$tmp/held.out" 2>&1 & job=$!
    on_exit+=("kill -KILL $job 2>/dev/null")
    eventually 60 said_both || diag "it has not come there: $(cat "$tmp/held.out")"
}
goes_on() {
    local rc
    kill -HUP "$first"
    wait "$job"
    rc=$?
    grep -av '^ok\|^[0-9]' "$tmp/held.out"
    return $rc
}
knows() { bpstat -p | grep -q "^${first}[[:space:]]"; }
held -1 c0 f c1 h s S p2 p0 G
ok 'bpmove brings it there' eventually 20 bpmove "$first" 0
ok 'and it is there' is_on "$first" 0
ok 'what they are to each other' goes_on
held 0 f c1 h s S p0 G
ok 'bpmove takes it away from there' eventually 20 bpmove "$first" 2
ok 'what they are to each other' goes_on
held -1 c0 f c1 p0 h s S p2 p0 G
ok 'procspace is killed when it has come' end_procspace
ok 'it is found again' eventually 60 knows
ok 'what they are to each other' goes_on
held 0 f c1 p2 h s S p0 p-1 p0 G
ok 'procspace is killed when it has left' end_procspace
ok 'it is found again' eventually 60 knows
ok 'what they are to each other' goes_on
held 0 f c1 p-1 h s S p0 p2 G
ok 'procspace is killed when it is home' end_procspace
ok 'what they are to each other' goes_on
held 0 f c1 p2 h s S p0 p1 G
end_agents
ok 'agents are killed: what they are to each other' goes_on

nothing_left() { ! bpps 0-2 | grep -q ' grand'; }
ok 'nothing is left on any node' eventually 60 nothing_left
no_ghosts() { ! bpsh 0-2 sh -c 'cat /proc/[0-9]*/comm' </dev/null 2>/dev/null | grep -x grand; }
ok 'nor any that stood for them' eventually 60 no_ghosts
done_testing
