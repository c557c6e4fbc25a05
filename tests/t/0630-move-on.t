#!/bin/bash
# 0630-move-on: from node to node and back to the master, with 1 GB, a hundred times;
# what it says keeps its order; signals act once, wherever it is; services that are killed
# lose nothing. CM_MOVES=1000: 5,000 signals in those moves, and the hundred moves with 1 GB
# (make check-moves-all)
# shellcheck disable=SC2317 # functions are called by ok
. tests/lib.sh

need lib/libbproc.so libexec/clustermatic/bprestore bin/bpsh
need_root
export LD_LIBRARY_PATH=$libdir
flags=(-Wall -Wextra -Werror -g -I"$CM_BUILD/include" -I.)
chmod 755 "$tmp"
for prog in go hop says silent; do
    ok "$prog compiles" gcc "${flags[@]}" -o "$tmp/$prog" "tests/libbproc/$prog.c" \
        -L"$libdir" -lbproc -lm -lpthread
done
cluster_up 3
moves=1000 signals=${CM_MOVES:+5000} megabytes=1000 each=1
# It is there three times for a moment: where it was, on its way, and where it will be.
[ "$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)" -gt 6000 ] || megabytes=100
[ -z "${CM_SAN:-}" ] || megabytes=100
[ -z "${CM_MOVES:-}" ] || each=$megabytes
go() { timeout -k 1 $((100 + moves)) "$tmp/go" "$@" </dev/null; }
user=(setpriv --reuid 61001 --regid 61001 --clear-groups)
ugo() { timeout -k 1 60 "${user[@]}" "$tmp/go" "$@" </dev/null; }

ok 'from node to node' is 'from -1 to 0 to 1 to 2 to 0: 0 faults' go 1 0 1 2 0
ok 'and to the master' is 'from -1 to 0 to -1: 0 faults' go 1 0 -1
ok 'a user too' is 'from -1 to 1 to 2 to -1 to 0: 0 faults' ugo 1 1 2 -1 0
ok "with $megabytes MB" is 'from -1 to 0 to 1 to -1: 0 faults' go "$megabytes" 0 1 -1
# shellcheck disable=SC2046 # numbers
hundred() { go "$each" $(for _ in $(seq 25); do echo 0 1 2 -1; done) | tail -c 20 | grep -q '2 to -1: 0 faults'; }
ok "a hundred moves, with $each MB" hundred

# --- what bpsh has started

bpsh 0 "$tmp/go" 0 0 >"$tmp/out" 2>&1
ok 'bpsh: a program on a node goes to another' is 'from 0 to 1: 0 faults' \
    timeout 60 bpsh 0 "$tmp/go" 1 1
ok 'and to the master' is 'from 0 to 1 to -1: 0 faults' timeout 60 bpsh 0 "$tmp/go" 1 1 -1

# --- what it says

numbered() { # all lines from 1 on, in their order, once
    timeout -k 1 60 "$@" </dev/null | cat >"$tmp/said" # to its end: the forwarder has it too
    seq 2000 | cmp - "$tmp/said"
}
ok 'what it says is in order and whole: from the master' numbered "$tmp/says" 2000 0 1 2 -1 0
ok 'to the master at last' numbered "$tmp/says" 2000 0 1 -1 2 -1

# --- signals

hop() { # NODES TIMES SEED COUNT: values sent while it moves
    timeout -k 1 $((100 + moves)) "$tmp/hop" "$@" "$tmp/hop.said" </dev/null || { cat "$tmp/hop.said"; return 1; }
    cat "$tmp/hop.said"
    grep -q "^last $4 missing 0 doubled 0 failed 0" "$tmp/hop.said"
}
ok "signals with values while it moves $moves times: each once" \
    hop 0,1,2,-1 "$moves" 1 "${signals:-2000}"
ok 'between two nodes' hop 0,1 40 2 100
ok 'there and back' hop 0,-1 40 3 100

# --- what dies meanwhile: it is in one place, and no signal is lost or doubled

survives() { # NODES HOW: three times while one moves
    local pid rc word n
    exec 6< <(exec timeout -k 1 100 "$tmp/hop" "$1" 40 7 100 "$tmp/hop.said" </dev/null)
    pid=$!
    while read -r word n <&6; do
        [ "$word" != sent ] || [ "$n" = 100 ] || eval "$2"
    done
    exec 6<&-
    wait "$pid"
    rc=$?
    cat "$tmp/hop.said"
    [ "$rc" = 0 ] && grep -q '^last 100 missing 0 doubled 0' "$tmp/hop.said"
}
agents() { pgrep -f "^[^ ]*bpnode .*--space $run/space/[01]( |\$)"; }
end_agents() { for a in $(agents); do kill -9 "$a"; done; }
end_procspace() { eventually 10 pid_of procspace >"$tmp/pid" && kill -9 "$(tail -n 1 "$tmp/pid")"; }
ok 'agents are killed' survives 0,1,-1 end_agents
ok 'procspace is, while it goes there and back' survives 0,-1 end_procspace
ok 'both are' survives 0,1,-1 'end_agents; end_procspace'
says_on() { # NODES...: in order and whole, while procspace is killed again and again
    local n said
    numbered "$tmp/says" 2000:500 "$@" & said=$!
    for n in 150 600 1100; do
        eventually 20 grep -qx "$n" "$tmp/said" || break
        end_procspace
    done
    wait $said || { tail -n 2 "$tmp/said"; return 1; }
}
: >"$tmp/said"
ok 'what it says is read on after procspace was killed' says_on 0 1 2 0 -1 1
: >"$tmp/said"
ok 'and when it goes to the master at last' says_on 0 2 1 -1

# --- who says nothing where images are fetched

silent() {
    local pid rc=0
    "$tmp/silent" "$run/move" &
    pid=$!
    bpsh 0 "$tmp/silent" /run/clustermatic/move || rc=1
    wait "$pid" && [ "$rc" = 0 ]
}
ok 'who says nothing is hung up on, on the master and on a node' silent

left() { bpstat -p | tail -n +2 | grep -q .; }
ok 'nothing is left on the nodes' eventually 20 not left
ghosts() { pgrep -af "^.?$(printf %s "${tmp#/}")/"; }
ok 'nor ghosts here' eventually 20 not ghosts
done_testing
