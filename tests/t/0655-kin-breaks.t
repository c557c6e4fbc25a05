#!/bin/bash
# 0655-kin-breaks: a parent on one node, its child on another, while services and
# nodes die: the child's end comes to its parent, and nothing is left of either
# shellcheck disable=SC2317 # functions are called by ok and eventually
. tests/lib.sh

need_root
need lib/libbproc.so bin/bpsh bin/bpps libexec/clustermatic/bpghost
kin=$tmp/kin
build() {
    gcc -Wall -Wextra -Werror -g ${CM_SAN:+-fsanitize=address,undefined} -I"$CM_BUILD/include" -I. \
        -o "$kin" tests/libbproc/kin.c -L"$CM_BUILD/lib" -lbproc
}
ok 'the program compiles' build
export LD_LIBRARY_PATH=$CM_BUILD/lib
cluster_up 3

# hold FROM TO: a parent there with a child there; sets job, parent and child.
held() { read -r parent child <"$tmp/pids" && [ -n "$child" ]; }
hold() {
    : >"$tmp/pids"
    timeout 300 bpsh "$1" "$kin" hold "$2" >"$tmp/pids" 2>"$tmp/hold.err" & job=$!
    on_exit+=("kill -KILL $job 2>/dev/null")
    eventually 60 held || diag "no pids: $(cat "$tmp/hold.err")"
}
node_has() { bpps "$1" | awk -v pid="$2" '$2 == pid { found = 1 } END { exit !found }'; }
gone() { ! [ -e "/proc/$1" ]; }
stands() { [ -e "/proc/$1" ] && [ "$(ps -o ppid= -p "$1" | tr -d ' ')" = "$2" ]; }
ended() { # STATUS: the parent ended with it
    eventually 60 gone "$job"
    wait "$job"
    local rc=$?
    [ $rc = "$1" ] || { echo "status $rc"; return 1; }
}
running() { pid_of "$1" >/dev/null; }

hold 0 1
ok 'the child is on the other node' node_has 1 "$child"
ok 'a stand-in of it is with its parent' eventually 60 node_has 0 "$child"
ok 'it stands on the master under its parent' eventually 60 stands "$child" "$parent"
kill -TERM "$child"
ok 'signalled on the master: its parent learns how it died' ended $((100 + 15))
ok 'it is gone here' eventually 60 gone "$child"
ok 'and there' eventually 60 not node_has 1 "$child"

hold 0 1
eventually 60 stands "$child" "$parent" >"$tmp/out"
kill -KILL "$child"
ok 'its ghost killed: its parent learns that' ended $((100 + 9))

hold 0 1
eventually 60 stands "$child" "$parent" >"$tmp/out"
kill -KILL "$(pid_of procspace)"
listed() { bpstat -p | grep -q "^${child}[[:space:]]*1"; }
ok 'procspace killed: the child is found again' eventually 60 listed
ok 'it stands as it did' stands "$child" "$parent"
kill -TERM "$child"
ok 'and its end comes to its parent' ended $((100 + 15))

# --- each signal once

new() { local pid && pid=$(pid_of procspace) && [ "$pid" != "$old" ]; }
end_procspace() {
    old=$(pid_of procspace) && kill -KILL "$old"
    eventually 20 new
}
echoes() { # FROM TO: procspace is killed while they say things to each other
    local on=() it rc
    [ "$1" = -1 ] || on=(bpsh "$1")
    : >"$tmp/run.out"
    timeout -k 1 100 "${on[@]}" "$kin" echo "$2" 300 </dev/null >"$tmp/run.out" 2>&1 & it=$!
    eventually 60 grep -q 'one is ready' "$tmp/run.out"
    for _ in 1 2; do
        sleep "0.$((RANDOM % 3))$((RANDOM % 9 + 1))"
        ! kill -0 $it 2>/dev/null || end_procspace
    done
    wait $it
    rc=$?
    grep -av '^ok' "$tmp/run.out"
    return $rc
}
for between in '-1 1' '0 -1' '0 1'; do
    # shellcheck disable=SC2086 # two numbers
    ok "signals between $between: each once, though procspace is killed" echoes $between
done

hold 0 1
eventually 60 stands "$child" "$parent" >"$tmp/out"
kill -KILL "$parent"
ok 'the parent is killed: the child lives' eventually 60 stands "$child" 1
ok 'on its node too' node_has 1 "$child"
kill -TERM "$child"
ok 'and is ended from here' eventually 60 not node_has 1 "$child"
ok 'nothing stands for it' eventually 60 gone "$child"
ok 'on its parent node neither' eventually 60 not node_has 0 "$child"

hold 0 1
eventually 60 stands "$child" "$parent" >"$tmp/out"
bpctl -S 1 -R
ok 'the node of the child ends: SIGKILL' ended $((100 + 9))

hold 0 2
eventually 60 stands "$child" "$parent" >"$tmp/out"
bpctl -S 0 -R
ok 'the node of the parent ends: the child lives' eventually 60 stands "$child" 1
ok 'there' node_has 2 "$child"
kill -TERM "$child"
ok 'it is ended from here' eventually 60 not node_has 2 "$child"
ok 'and nothing stands for it' eventually 60 gone "$child"
done_testing
