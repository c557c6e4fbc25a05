#!/bin/bash
# 0640-move-cut: connections are cut while processes move: that of the image after so
# many bytes of it, all of them at any moment. Each process is in one place then, goes
# on, and its parent gets its status. CM_MOVES=100: as many cuts of each kind more
# shellcheck disable=SC2317 # functions are called by ok
. tests/lib.sh
. tests/moves.sh

need lib/libbproc.so libexec/clustermatic/bprestore bin/bpsh bin/bpmove
need_root
command -v nft >/dev/null || plan_skip 'nft is not installed'
export LD_LIBRARY_PATH=$libdir
for prog in go hop order; do
    ok "$prog compiles" gcc -Wall -Wextra -Werror -g -I"$CM_BUILD/include" -I. -o "$tmp/$prog" \
        "tests/libbproc/$prog.c" -L"$libdir" -lbproc -lm -lpthread
done
cluster_up 3
more=${CM_MOVES:-0}
go=$tmp/go


# --- the image

control='2223, 2224, 2225' # of the master's ports; an image comes by others
stop_after() { # BYTES PLACE: of what comes there
    at "$2" nft -f - <<END
table ip cut {
    chain in {
        type filter hook input priority 0;
        iif != lo tcp sport != { $control } tcp dport != { $control } quota over $1 bytes counter drop
    }
}
END
}
stopped() { at "$1" nft list table ip cut | grep -q 'counter packets [1-9]'; }
cut_image() { # PLACE...
    local place
    for place; do
        at "$place" ss -HK state connected sport != :2223 and sport != :2224 and sport != :2225 and \
            dport != :2223 and dport != :2224 and dport != :2225 >/dev/null 2>&1
    done
}
cut_at() { # FROM TO BYTES: 40 it moved, 41 it did not, all else is wrong
    local on=() it rc
    [ "$1" = -1 ] || on=(bpsh -n "$1")
    stop_after "$3" "$2" || return 1
    timeout -k 1 60 "${on[@]}" "$go" try 8 "$2" </dev/null >"$tmp/try" 2>&1 & it=$!
    while kill -0 $it 2>/dev/null && ! stopped "$2"; do sleep 0.01; done
    cut_image "$2" "$1"
    at "$2" nft delete table ip cut
    wait $it
    rc=$?
    [ $rc = 40 ] || [ $rc = 41 ] || { echo "after $3 bytes: status $rc"; cat "$tmp/try"; return 1; }
    [ $rc = 41 ] || [ "$3" -gt 8000000 ] || { echo "after $3 bytes: it moved"; return 1; }
}
sizes() {
    local i
    echo 1 900 6000 70001 1000003 7654321 99999999
    for ((i = 0; i < more; i++)); do echo $((RANDOM * 280 + RANDOM % 280)); done
}
cuts() { # FROM TO
    local n
    for n in $(sizes); do cut_at "$1" "$2" "$n" || return 1; done
}
status() { # STATUS CMD...
    local want=$1 rc
    shift
    "$@" </dev/null >"$tmp/try" 2>&1
    rc=$?
    [ $rc = "$want" ] || { echo "status $rc"; cat "$tmp/try"; return 1; }
}
ok 'to a node, uncut' status 40 "$go" try 8 1
ok 'from there, uncut' status 40 bpsh -n 1 "$go" try 8 -1
ok 'its image is cut: from the master to a node' cuts -1 1
ok 'from node to node' cuts 0 1
ok 'from a node to the master' cuts 0 -1

# Into the place of what it has left there for its child; the agent has been started again
# since then, and has put another such program there.
says() { grep -q "$1" "$tmp/said"; }
agent_again() { local pid && pid=$(agent 0) && [ "$pid" != "$old" ] && bpsh -n 0 true; }
: >"$tmp/said"
timeout -k 1 100 bpsh 0 "$tmp/order" back 1 </dev/null >"$tmp/said" 2>&1 & job=$!
ok 'one has left a child on node 0' eventually 20 says child
pid=$(sed -n 's/^it ready //p' "$tmp/said") child=$(sed -n 's/^child //p' "$tmp/said")
old=$(agent 0) && kill -KILL "$old"
ok 'the agent there is started again' eventually 20 agent_again
stop_after 900 0
comes() { stopped 0 || { kill -USR1 "$pid"; cat "$tmp/said"; false; }; } # or is refused at first
ok 'it comes back' eventually 20 comes
cut_image 0 1
at 0 nft delete table ip cut
ok 'its image is cut: it stays' eventually 20 says stays
kill -USR1 "$pid"
ok 'tries again, and is back' eventually 20 says back
kill -TERM "$child"
ok 'its child is still its own' status 115 wait "$job"

# --- all of them

cut_all() { # now and then, at a place of these; till $tmp/enough is there
    local places=("$@")
    while [ ! -e "$tmp/enough" ]; do
        sleep "0.0$((RANDOM % 9 + 1))"
        at "${places[RANDOM % $#]}" ss -HK state established >/dev/null 2>&1
    done
}
hops() { # NODES TIMES
    local cutter rc
    rm -f "$tmp/enough"
    # shellcheck disable=SC2046 # numbers
    cut_all $(tr , ' ' <<<"$1") & cutter=$!
    timeout -k 1 $((60 + $2)) "$tmp/hop" "$1" "$2" 5 100 "$tmp/said" </dev/null >"$tmp/hop.out" 2>&1
    rc=$?
    : >"$tmp/enough"
    wait $cutter
    cat "$tmp/said"
    [ $rc = 0 ] && grep -q '^last 100 missing 0 doubled 0' "$tmp/said"
}
ok 'all connections are cut, again and again: from node to node' hops 0,1 $((20 + more))
ok 'there and back' hops 0,-1 $((20 + more))

left() { bpstat -p | tail -n +2 | grep -q .; }
ok 'nothing is left on the nodes' eventually 20 not left
ghosts() { pgrep -af "^.?$(printf %s "${tmp#/}")/"; }
ok 'nor ghosts here' eventually 20 not ghosts
done_testing
