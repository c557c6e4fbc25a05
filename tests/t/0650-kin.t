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
for a in 0 1; do
    ok "a child on $a makes another of its parent's there" quiet "$kin" twin $a
done
wrote() { has '^right (1|another)$' at "$1" cat "$2"; }
for p in -1 0 1; do
    for a in -1 0 1; do
        at $p timeout 70 "$kin" leave $a "$tmp/left.$p.$a"
        ok "parent $p leaves a child on $a" eventually 60 wrote $a "$tmp/left.$p.$a"
    done
done
nothing_left() { ! bpps 0-2 | grep -q ' kin '; }
ok 'nothing is left on any node' eventually 60 nothing_left
done_testing
