#!/bin/bash
# 0410-stdio-restarts: streams that lose no byte and no bound, whatever dies
#
# Readers here (holdback.py) take as much as they are told to, so that what is
# killed is killed in mid-stream: bytes flow, and the end is not near.
# shellcheck disable=SC2016,SC2034,SC2154 # $ is for the nodes' shells; names are made at run time
. tests/lib.sh

need bin/bpsh bin/bpps libexec/clustermatic/{bpvnode,procspace,iofwd,bulkcat}
command -v python3 >/dev/null || plan_skip 'python3 is not installed'
cluster_up 4
for program in cat cksum mkfifo head; do
    bpsh -n -N -a "$program" --version
done
: "${tmp:?}" "${run:?}"
# shellcheck disable=SC2016
on_exit+=('kill $(jobs -pr) 2>/dev/null') # what a claim that failed has left
M=$((1 << 20))
size=$((300 * M)) # of a whole transfer
step=$((60 * M))  # between two blows
if [ "${CM_SAN:-}" ]; then
    size=$((50 * M))
    step=$((10 * M))
fi
head -c $size /dev/urandom >"$tmp/big"
sum=$(cksum <"$tmp/big")

# --- a reader that is held back

# flow NAME CMD...: CMD with the big file on stdin, read through holdback;
# `may NAME BYTES` lets it go on, `done_well NAME` waits for its end.
flow() {
    local name=$1
    shift
    rm -f "$tmp/$name.ctl" "$tmp/$name.out"
    mkfifo "$tmp/$name.ctl"
    timeout -k 5 100 "$@" <"$tmp/big" 2>"$tmp/$name.err" \
        > >(exec python3 tests/holdback.py "$tmp/$name.out" "$tmp/$name.ctl") &
    eval "${name}_pid=$!"
    exec {ctl}<>"$tmp/$name.ctl"
    eval "${name}_ctl=$ctl"
}
may() {
    local ctl=$1_ctl
    echo "$2" >&"${!ctl}"
}
came() { [ "$(stat -c %s "$tmp/$1.out" 2>/dev/null || echo 0)" -ge "$2" ]; }
more_came() {
    local was
    was=$(stat -c %s "$tmp/$1.out")
    eventually 10 came "$1" $((was + M))
}
# the command itself, below timeout
bpsh_of() { local pid=$1_pid; pgrep -P "${!pid}" -x bpsh; }
ended() { # NAME STATUS: its end was this, and its last words are shown
    local pid=$1_pid ctl=$1_ctl rc
    may "$1" all
    wait "${!pid}"
    rc=$?
    cat "$tmp/$1.err"
    exec {ctl}>&-
    ctl=$1_ctl
    eval "exec ${!ctl}>&-"
    rm -f "$tmp/$1.ctl"
    [ $rc = "$2" ] || { echo "status $rc"; return 1; }
}
identical() {
    ended "$1" 0 && eventually 20 came "$1" $size && cmp "$tmp/big" "$tmp/$1.out" &&
        rm "$tmp/$1.out"
}

# --- what is killed

kill_what() { # FIND...: as soon as there is one
    eventually 10 kill_found "$@"
}
kill_found() {
    local pid
    pid=$("$@") && kill -KILL "$pid"
}
kill_iofwd() { kill_what pid_of iofwd; }
kill_busd() { kill_what pid_of busd; }
bpnode_of() { local pid; pid=$(pid_of "node.$1") && pgrep -P "$pid" -x bpnode; }
kill_bpnode() { kill_what bpnode_of 0; }
kill_all() { kill_iofwd; kill_bpnode; kill_busd; }

struck() { # HOW OPTION...: three times in mid-stream
    local how=$1 round
    shift
    flow struck bpsh 0 "$@" cat
    for round in 1 2 3; do
        may struck $((round * step))
        eventually 12 came struck $((round * step - step * 9 / 10)) || return
        "$how" || return
    done
    ! came struck $size || return
    identical struck
}

smaller() { # the rest need not be as long
    size=$((size / 3)) step=$((step / 3))
    truncate -s $size "$tmp/big"
    sum=$(cksum <"$tmp/big")
}
quiet() { timeout 60 bpsh 0 "$@" cat <"$tmp/big" | cmp - "$tmp/big"; }
ok "$((size / M)) MB pass through bpsh" quiet
ok 'iofwd killed three times in mid-stream: nothing is lost' struck kill_iofwd
[ "${CM_SAN:-}" ] || smaller
ok 'nor where output goes the normal way to its end' struck kill_iofwd -L
ok 'bpnode killed three times' struck kill_bpnode
ok 'and with the normal way' struck kill_bpnode -L
ok 'busd killed three times' struck kill_busd
ok 'all of them' struck kill_all
ok 'all, with the normal way' struck kill_all -L

# --- the bulk channel

bulkcat_of() { local pid; pid=$(bpsh_of "$1") && pgrep -P "$pid" -x bulkcat; }
handed_over() { [ "$(nsenter -t "$(pid_of iofwd)" -n ss -Htn state established "sport = :2225" | wc -l)" = "$1" ]; }
cut() { nsenter -t "$(pid_of iofwd)" -n ss -HK state established "sport = :2225" >/dev/null 2>&1; }
flow bulk bpsh 1 cat
may bulk $((12 * M))
ok 'a bulk stream is handed over' eventually 20 bulkcat_of bulk
ok 'to a connection of its own' eventually 10 handed_over 1
may bulk $((24 * M))
eventually 20 came bulk $((16 * M))
cut
if handed_over 0; then
    ok 'that is cut in mid-stream: nothing is lost' identical bulk
else
    skip 'that is cut in mid-stream: nothing is lost' 'ss -K does nothing here'
    kill "$bulk_pid"
    ended bulk 124
fi
flow broken bpsh 1 cat
may broken $((20 * M))
eventually 20 came broken $((15 * M))
kill -KILL "$(bulkcat_of broken)"
ok 'where it cannot be known what was written, that is said' ended broken 1
ok 'in a line' grep -q 'node 1 broke off; its output is incomplete' "$tmp/broken.err"
no_cat() { ! bpps 1 | grep -qE ' cat( |$)'; }
ok 'and the program has ended' eventually 10 no_cat

# --- readers that are stopped, and one node that is slow

below() { # the descendants of the processes that stdin names
    awk 'NR == FNR { top[$1]; next }
         { parent[$1] = $2; name[$1] = $3 }
         END { for (pid in parent) {
                   for (p = pid; p in parent && !(p in top); p = parent[p]) ;
                   if (p in top && pid != p && name[pid] != "python3") print pid } }' \
        - <(ps -A -o pid= -o ppid= -o comm=)
}
services() { # every process of the cluster, services and nodes, and each bpsh of ours
    { pgrep -f "s6-svscan .*$run/s6$"; echo $$; } | below
}
small() { # no process has ever had more than 64 MB
    local pid kb big=0
    services | grep -qx "$(pid_of nodemgr)" || return
    for pid in $(services); do
        kb=$(awk '/VmHWM/ { print $2 }' "/proc/$pid/status" 2>/dev/null)
        [ "${kb:-0}" -lt 65536 ] || { echo "$pid $(ps -o args= -p "$pid"): $kb kB"; big=1; }
    done
    return $big
}
reader_of() { pgrep -f "holdback.py $tmp/$1.out"; }
flow raw bpsh 1 cat
flow lines bpsh 2 -L cat
flow idle bpsh 3 cat
for name in raw lines idle; do
    may $name all
done
for name in raw lines; do
    eventually 20 came $name $((10 * M))
    kill -STOP "$(reader_of $name)"
done
eventually 20 came idle $((10 * M))
kill -STOP "$(bpsh_of idle)"
ok 'while two readers and a bpsh are stopped, others are served' struck kill_iofwd
ok 'and others the normal way' quiet -L
if [ "${CM_SAN:-}" ]; then
    skip 'no process has grown' 'sanitizers take memory'
else
    ok 'no process has grown' small
fi
for name in raw lines; do
    kill -CONT "$(reader_of $name)"
    ok "the $name reader goes on and misses nothing" identical $name
done
kill -CONT "$(bpsh_of idle)"
ok 'so does bpsh' identical idle

fan() { # one of four nodes does not read on until it is told to
    bpsh 2 mkfifo /tmp/go || return
    timeout 60 bpsh 0-3 sh -c 'if [ "$BPROC_RANK" = 0000002 ]; then
        head -c 1000000 >/tmp/head; read -r x </tmp/go; cat /tmp/head -; else cat; fi | cksum' \
        <"$tmp/big" >"$tmp/fan" &
    local pid=$!
    eventually 10 bash -c 'bpsh 2 cat /tmp/head | cmp -n 1000000 - "$1"' - "$tmp/big" || return
    kill_iofwd
    [ -z "${CM_SAN:-}" ] && { small || return; }
    bpsh 2 sh -c 'echo go >/tmp/go' || return
    wait $pid && is "$(printf '%s\n' "$sum" "$sum" "$sum" "$sum")" cat "$tmp/fan"
}
ok 'stdin to four nodes, one of them slow: each gets all of it' fan

# --- a line among megabytes

flow flood bpsh 0 cat /dev/zero
flow torrent bpsh 0 -b 65536 -L cat /dev/zero
may flood all
may torrent all
eventually 20 came flood $((20 * M))
eventually 20 came torrent $((20 * M))
coproc bpsh 0 cat
echoed() {
    local line
    echo "$1" >&"${COPROC[1]}" && read -r -t 20 line <&"${COPROC[0]}" && [ "$line" = "$1" ]
}
ok 'a line comes back while two others stream' echoed one
ok 'and again' echoed two
ok 'they did stream' more_came flood
eval "exec ${COPROC[1]}>&-"
ok 'and its end as well' wait "$COPROC_PID"
kill "$flood_pid" "$torrent_pid"
wait "$flood_pid" "$torrent_pid"
rm "$tmp/flood.out" "$tmp/torrent.out"
done_testing
