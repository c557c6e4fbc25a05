#!/bin/bash
# 0638-move-said: what a process says before it moves is read before what it says after
# that, whoever reads it slowly, or not at all for a while; also what one says that was
# made by fork where it was, and one that its parent has left there
# shellcheck disable=SC2317 # functions are called by ok and eventually
. tests/lib.sh

need_root
need lib/libbproc.so libexec/clustermatic/bprestore bin/bpsh bin/bpps
order=$tmp/order
ok 'the program compiles' gcc -Wall -Wextra -Werror -g -I"$CM_BUILD/include" \
    -o "$order" tests/libbproc/order.c -L"$libdir" -lbproc
export LD_LIBRARY_PATH=$libdir
cluster_up 3
held= # who reads, and is stopped
on_exit+=('kill -CONT $held 2>/dev/null')

ready() { pid=$(sed -n "s/^$1 ready //p" "$tmp/said") && [ -n "$pid" ]; }
begin() { # WHO ARG...
    local who=$1
    shift
    : >"$tmp/said"
    timeout -k 1 100 bpsh 0 "$order" "$@" </dev/null >"$tmp/said" 2>&1 & job=$!
    eventually 20 ready "$who" || diag "not ready: $(cat "$tmp/said")"
    reader=$(pgrep -P $job) # timeout's child
}
says() { kill -USR1 "$pid" 2>/dev/null; } # once its ghost is there
goes() { eventually 20 says && eventually 20 "left_$1"; } # home, node
left_home() { [[ $(readlink "/proc/$pid/exe") != */bpghost ]]; } # its restorer at least
left_node() { ! bpps 0 | awk -v pid="$pid" '$2 == pid { found = 1 } END { exit !found }'; }
# What it says elsewhere does not come before what is held back.
silent() {
    for _ in 1 2 3 4 5; do bpps 0 >/dev/null && ! grep -q 'there' "$tmp/said" || return 1; done
}
in_order() { # TO LINES STATUS
    local rc
    wait $job
    rc=$?
    [ $rc = "$3" ] || { echo "status $rc"; tail -n 3 "$tmp/said"; return 1; }
    eventually 20 grep -q there "$tmp/said" # not by bpsh, if it shares its streams
    { echo "it ready $pid"
      for i in $(seq "$2"); do echo "it $i of $2 lines that are said where it was"; done
      echo "it there $1"; } | diff - "$tmp/said" | head -n 5
    return "${PIPESTATUS[1]}"
}
held_back() { # WHAT WHO PID TO
    local way=home
    [ "$4" = -1 ] || way=node
    begin it "$2" "$4" 100
    held=$3
    [ "$held" != reader ] || held=$reader
    kill -STOP "$held"
    ok "$1: it goes" goes $way
    ok 'and is not heard before its time' silent
    kill -CONT "$held"
    ok 'all is read, in order' in_order "$4" 100 7
}
iofwd=$(pid_of iofwd)
held_back 'bpsh is stopped, home' self reader -1
held_back 'iofwd is stopped, home' self "$iofwd" -1
held_back 'iofwd is stopped, to a node' self "$iofwd" 1
held_back 'made by fork, bpsh is stopped, home' made reader -1
held_back 'made by fork, iofwd is stopped, home' made "$iofwd" -1
held_back 'made by fork, bpsh is stopped, to a node' made reader 1

# --- who reads bpsh does not read: more than all pipes hold is on its way

lines=8000
for who in self made; do
    mkfifo "$tmp/pipe"
    timeout -k 1 100 bpsh 0 "$order" $who -1 $lines </dev/null >"$tmp/pipe" 2>&1 & job=$!
    exec 9<"$tmp/pipe"
    rm "$tmp/pipe"
    read -r line <&9
    echo "$line" >"$tmp/said"
    ok "$who: one is ready" ready it
    ok 'it goes to the master' goes home
    timeout 60 cat <&9 >>"$tmp/said"
    exec 9<&-
    ok 'and all is read, in order' in_order -1 $lines 7
done

# --- while its reader is stopped, the agent is killed

begin it made -1 100
kill -STOP "$reader"
ok 'made by fork: it goes home' goes home
kill -KILL "$(agent 0)"
kill -CONT "$reader"
ok 'the agent is killed: all is read, in order' in_order -1 100 7

# --- a child that stays while its parent goes: both are heard

both() { # TO CHILD
    local rc
    wait $job
    rc=$?
    [ $rc = 0 ] || { echo "status $rc"; cat "$tmp/said"; return 1; }
    eventually 20 grep -q sees "$tmp/said" && eventually 20 grep -q 'child there' "$tmp/said"
    is "$(printf 'parent there %s\nparent sees 7' "$1")" grep '^parent' "$tmp/said" &&
        is "$(printf 'child ready %s\nchild 1 of 1 lines that are said where it was\nchild there %s' \
            "$pid" "$2")" grep '^child' "$tmp/said"
}
for to in '1 2' '-1 1' '1 -1' '-1 -1'; do
    # shellcheck disable=SC2086 # two numbers
    begin child left $to
    ok "the parent goes, the child after it: $to" eventually 20 grep -q 'parent there' "$tmp/said"
    ok 'it is asked' eventually 20 says
    # shellcheck disable=SC2086
    ok 'both are heard to their end' both $to
done

nothing_left() { ! bpps 0-2 | grep -q ' order'; }
ok 'nothing is left on any node' eventually 60 nothing_left
done_testing
