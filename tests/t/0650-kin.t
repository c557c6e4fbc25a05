#!/bin/bash
# 0650-kin: a parent and its children on different machines are to each other
# what they would be on one: wait, stops, signals, getppid, each other's death
# shellcheck disable=SC2317 # functions are called by ok and eventually
. tests/lib.sh

need_root
need lib/libbproc.so bin/bpsh libexec/clustermatic/bpghost
kin=$tmp/kin
build() {
    gcc -Wall -Wextra -Werror -g ${CM_SAN:+-fsanitize=address,undefined} -I"$CM_BUILD/include" -I. \
        -o "$kin" tests/libbproc/kin.c -L"$CM_BUILD/lib" -lbproc
}
ok 'the program compiles' build
export LD_LIBRARY_PATH=$CM_BUILD/lib
cluster_up 3

quiet() { # only what went wrong is worth reading
    local rc
    timeout -k 1 200 "$@" >"$tmp/run.out" 2>&1
    rc=$?
    grep -av '^ok' "$tmp/run.out"
    return $rc
}
family() { # PARENT A B
    if [ "$1" = -1 ]; then quiet "$kin" family "$2" "$3"; else quiet bpsh "$1" "$kin" family "$2" "$3"; fi
}
at() { # NODE CMD...
    local node=$1
    shift
    if [ "$node" = -1 ]; then "$@"; else bpsh "$node" "$@"; fi
}
for p in -1 0 1; do
    for a in -1 0 1; do
        for b in -1 0 1; do
            ok "parent $p, children $a $b" family $p $a $b
        done
    done
done
# A signal that is about to be sent there, and is not yet, when a stop is seen.
slowly() { # NODE CMD...
    local init tracer rc
    init=$(pgrep -x -P "$(pid_of "node.$1")" bpinit)
    strace -qq -o "$tmp/slow" -e 'inject=kill,rt_sigqueueinfo:delay_enter=20000' -p "$init" & tracer=$!
    on_exit+=("kill -TERM $tracer 2>/dev/null")
    eventually 10 grep -q "^TracerPid:[[:space:]]*$tracer\$" "/proc/$init/status" || return 1
    "${@:2}"
    rc=$?
    kill -TERM "$tracer"
    wait "$tracer"
    return $rc
}
ok 'children on a node that sends signals slowly' slowly 1 family -1 1 1
left_here() { pgrep -f '^kin ' | while read -r p; do readlink "/proc/$p/exe"; done | grep -Fx "$kin"; }
nothing_left() { bpps 0-2 >"$tmp/left" && not grep ' kin ' "$tmp/left" && not left_here; }
for a in -1 1; do
    ok "one after the other is killed on $a" quiet bpsh 0 "$kin" kills $a 200
    ok 'and none lives on' eventually 20 nothing_left
done
for a in 0 1; do
    ok "a child on $a makes another of its parent's there" quiet "$kin" twin $a
done
# The parent on a node: then its ghost here has one more.
keeps() { # PARENT NODE
    local ghost n
    bpsh "$1" "$kin" keep "$2" >"$tmp/keep" 2>&1 & keep=$!
    on_exit+=("kill -KILL $keep 2>/dev/null")
    two() {
        ghost=$(pgrep -P $keep) && n=$(pgrep -P "$ghost" -c -f '^kin brother') && [ "$n" = 2 ]
    }
    eventually 20 two
    local rc=$?
    for p in $(pgrep -P "$ghost" -f '^kin brother') $ghost; do kill -TERM "$p"; done
    wait $keep
    return $rc
}
ok 'a child on 1 makes another of its parent on 0' keeps 0 1
# What runs there is another program by now: ps shows that, where its ghost is.
renames() { # PARENT NODE
    local ghost
    bpsh "$1" "$kin" become "$2" other >"$tmp/become" 2>&1 & keep=$!
    on_exit+=("kill -KILL $keep 2>/dev/null")
    named() { ghost=$(pgrep -P $keep) && pgrep -P "$ghost" -f '^other wait '; }
    eventually 20 named
    local rc=$?
    for p in $(pgrep -P "$ghost") $ghost; do kill -TERM "$p"; done
    wait $keep
    return $rc
}
ok 'a child on 1 of a parent on 0 executes another program' renames 0 1
wrote() { has '^right (1|another)$' at "$1" cat "$2"; }
for p in -1 0 1; do
    for a in -1 0 1; do
        at $p timeout 70 "$kin" leave $a "$tmp/left.$p.$a"
        ok "parent $p leaves a child on $a" eventually 60 wrote $a "$tmp/left.$p.$a"
    done
done
ok 'nothing is left on any machine' eventually 60 nothing_left
done_testing
