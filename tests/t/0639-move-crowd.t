#!/bin/bash
# 0639-move-crowd: families of processes that move, several at once, as chance has it: what
# one waits for crosses what others say, and numbers are just being freed.
# CM_CROWD="AT-ONCE ROUNDS SEED": more of them (the default is 3 10 1)
# shellcheck disable=SC2317 # functions are called by ok
. tests/lib.sh

need_root
need lib/libbproc.so libexec/clustermatic/bprestore bin/bpsh
kin=$tmp/kin
ok 'the program compiles' gcc -Wall -Wextra -Werror -g -I"$CM_BUILD/include" -I. \
    -o "$kin" tests/libbproc/kin.c -L"$libdir" -lbproc
export LD_LIBRARY_PATH=$libdir
cluster_up 3

# --- where it begins, and what it does (tests/libbproc/kin.c)
families=(
    '-1 away -1 0 2 -1 2' '-1 away 0 1 2 -1 2' '0 away -1 1 2 -1 0' '0 away 1 1 2 -1 0'
    '-1 roam 1 2,-1,0' '-1 roam 0 1,0,2,1,-1,0' '0 roam 1 2,1' '-1 away 0 1 0 1 -1 0'
    '0 away 2 0 2 0 -1 2' '1 away -2 -2 0 2 1 -1 2 1' '0 away -2 -1 -1 0 1 0' '0 roam -2 1,0,2'
    '0 roam -2 1,-1,2,0,-1,1' '0 roam 1 0,2,-1' '0 roam -1 0,1,-1' '0 under away -2 -2 1 2 0'
    '0 under away -2 -1 -1 0 1 0' '0 copies -2 -1 0 2 0' '-1 copies 0 0 1 0'
    '0 under copies 2 1 0 0' '0 more -2 -1 0 2 0' '-1 more 0 0 1 0' '0 under more 2 1 0 0'
    '0 stray -2 1 2 0,1,0' '0 stray -2 -1 2 0,-1,0' '0 hurry 1 0 2 -1 1 0 2'
    '0 hurry 0 2 1 2 1 2 1' '0 hurry -2 2 1 2 1 0 1' '-1 hurry 1 1 -1 0 1 2 1'
)
one() { # NUMBER NODE WHAT...
    local said=$tmp/said.$1 node=$2 on=()
    shift 2
    [ "$node" = -1 ] || on=(bpsh "$node")
    timeout 150 "${on[@]}" "$kin" "$@" >"$said" 2>&1
}
crowd() { # FAMILY...: at once
    local i pid=() what=("$@") failed=0 a
    for i in "${!what[@]}"; do
        read -ra a <<<"${what[i]}"
        one "$i" "${a[@]}" & pid+=($!)
    done
    for i in "${!pid[@]}"; do
        wait "${pid[i]}" && continue
        failed=1
        diag "${what[i]}: $(grep -v '^ok' "$tmp/said.$i")"
    done
    [ $failed = 0 ]
}
same=() # bells, stops and ends cross
for _ in 1 2 3 4 5 6; do same+=('-1 roam 0 1,0,1,0,1,0,2,1,-1,1,-1,0'); done
for round in 1 2 3 4 5; do
    ok "six children of the master, each everywhere: $round" crowd "${same[@]}"
done

hasty=()
for _ in 1 2 3; do hasty+=('0 hurry 1 0 2 -1 1 0 2' '0 hurry -2 2 1 2 1 0 1' '-1 hurry 1 1 -1 0 1 2 1'); done
for round in 1 2 3 4 5; do
    ok "what a process sends to its child, and goes, comes, and the answer after it: $round" crowd "${hasty[@]}"
done
# Longer than it takes that all who stand for it hear of it.
ok 'each stop of a child is told once, wherever its parent goes' crowd '0 halts -2 1 2 -1 0' \
    '0 halts 0 1 2 -1 0' '0 halts 1 2 -1 1' '0 halts -1 2 -1 1' '-1 halts -2 2 -1 1' '-1 halts 1 2 -1 1'
ok 'one that was stopped and goes on is not held where it comes next' crowd '0 stroll -2 0,2,-1' \
    '0 stroll 1 0,2,-1' '0 stroll 0 0,2,-1' '0 stroll -1 0,2,-1' '-1 stroll 1 -1,0,1' '-1 stroll -2 1,2,-1'

read -r at_once rounds seed <<<"${CM_CROWD:-3 10 1}"
RANDOM=$seed
for ((round = 1; round <= rounds; round++)); do
    some=()
    for ((i = 0; i < at_once; i++)); do some+=("${families[RANDOM % ${#families[@]}]}"); done
    ok "$at_once at once, $round" crowd "${some[@]}"
done
nothing_left() { bpps 0-2 >"$tmp/left" && ! grep -q ' kin' "$tmp/left"; }
ok 'nothing is left on any node' eventually 60 nothing_left
done_testing
