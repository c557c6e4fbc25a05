#!/bin/bash
# 0300-permissions: who may start what where, whose processes, streams and
# results are whose, and what only root may do
. tests/lib.sh

need_root
need bin/bpsh bin/bpctl bin/bpstat bin/bpps libexec/clustermatic/bpvnode \
    libexec/clustermatic/procspace libexec/clustermatic/iofwd
cluster_up 2

# person UID GID [GROUP,...] CMD...: the last groups beside GID; "" none
person() {
    local uid=$1 gid=$2 groups=$3
    shift 3
    if [ -n "$groups" ]; then
        setpriv --reuid "$uid" --regid "$gid" --groups "$groups" "$@"
    else
        setpriv --reuid "$uid" --regid "$gid" --clear-groups "$@"
    fi
}
intrude() { as "$mallory" /usr/bin/python3 tests/intruder.py "$@"; }
alice=61001 mallory=61002 staff=62000

# --- who may start processes: mode, owner, group (reference 3.9)

mode() { bpctl -S 0 -m "$1"; }
may() { person "$@" bpsh 0 true; }
may_not() {
    fails_with "^0: no execute permission for (user $1|root): mode .* owner $alice.*bpctl -S 0 -m 111" \
        person "$@" bpsh 0 true
}
bpctl -S 0 -u $alice -g $staff
try() { # MODE WHO UID GID GROUPS may|may_not
    mode "$1"
    ok "mode $1: $2 ${6/_/ }" "$6" "$3" "$4" "$5"
}
for line in '111 may may may may' '100 may may_not may_not may' '010 may_not may may_not may' \
    '001 may_not may_not may may' '110 may may may_not may' '101 may may_not may may' \
    '011 may_not may may may' '000 may_not may_not may_not may_not'; do
    # shellcheck disable=SC2086 # a word each
    set -- $line
    try "$1" 'the owner' $alice $alice '' "$2"
    try "$1" 'one of the group' 61003 $staff '' "$3"
    try "$1" 'one of the group by a supplementary group' 61003 61003 "7,$staff,9" "$3"
    try "$1" 'any other' 61003 61003 7,8,9 "$4"
    try "$1" root 0 0 '' "$5"
done
mode 100
ok 'of two nodes the one that is allowed runs, and the status says that one did not' \
    fails_with '^0: no execute permission' as $mallory bpsh 0-1 -p true
ok 'a user may always start processes on the master' is "$mallory" as $mallory bpsh -1 id -u
mode 111
ok 'processes run with the uid, gid and groups of the caller' \
    is 'uid=61003 gid=61003 groups=61003,7,62000' person 61003 61003 "7,$staff" bpsh 0 id

# --- one user's processes are not another's

mkfifo "$tmp/hold"
chmod 666 "$tmp/hold"
# shellcheck disable=SC2016 # for the shell on the node
as $alice bpsh 1 sh -c 'echo secret >/tmp/seen; read -r x; echo "said $x"; exit 3' \
    <>"$tmp/hold" >"$tmp/alice.out" & job=$!
on_exit+=("kill $job 2>/dev/null")
ghost() { bpstat -p 1 | awk 'NR == 2 { print $1 }'; }
there() { [ -n "$(ghost)" ] && bpsh 1 cat /tmp/seen; }
ok 'alice runs something on node 1' eventually 10 there
pid=$(ghost)
launch=$(/usr/bin/python3 tests/intruder.py gate procspace.list '{}' |
    python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["launch"])')
ok 'its ghost is hers' is "$alice" stat -c %u "/proc/$pid"
for sig in TERM KILL STOP CONT 64; do # SIGCONT may go to anybody in the same session
    ok "mallory: kill -$sig is not permitted" fails_with 'not permitted' \
        as $mallory setsid -w kill -$sig "$pid"
done
ok 'nor is a signal through the gate' has "^1 process $pid is another user's" \
    intrude gate procspace.signal "{\"sig\": 9, \"pid\": $pid}"
ok 'nor one in the name of root' has "^1 process $pid is another user's" \
    intrude gate procspace.signal "{\"sig\": 9, \"pid\": $pid}" 0
ok 'nor to say that it was stopped' has "^1 process $pid is another user's" \
    intrude gate procspace.stopped "{\"sig\": 19, \"pid\": $pid}"
ok 'its result is not for mallory' has "^1 launch $launch is another user's" \
    intrude gate procspace.result "{\"launch\": $launch}"
ok 'nor can a launch of its number be made' has 'another user|not user|is not a ghost' \
    intrude gate procspace.launch "{\"launch\": $launch, \"nodes\": [1], \"pids\": [$pid],
        \"argv\": [\"true\"], \"env\": [], \"cwd\": \"/\", \"umask\": 18, \"limits\": [],
        \"path\": \"/bin/true\", \"streams\": []}"
ok "nor one with alice's ghost" has "process $pid is not user $mallory's" \
    intrude gate procspace.launch "{\"launch\": 77, \"nodes\": [1], \"pids\": [$pid],
        \"argv\": [\"true\"], \"env\": [], \"cwd\": \"/\", \"umask\": 18, \"limits\": [],
        \"path\": \"/bin/true\", \"streams\": []}"
ok 'mallory cannot read its streams' is closed intrude reader "$launch" 1
ok 'nor close them' is closed intrude reader "$launch" 1 close
ok 'nor those of made-up ones' has '^GO, NONE' intrude reader 4711 0,1
ok 'streams are listed for root only' has '^1 iofwd.streams: only root may' \
    intrude gate iofwd.streams '{}'
ok 'on the node the kernel keeps them apart, too' fails_with 'not permitted' \
    as $mallory bpsh 1 sh -c "kill -9 $pid"

# The reader is stopped and has lost its connection: nobody holds the streams.
bpsh=$(ps -o ppid:1= -p "$pid")
on_exit+=("kill -CONT $bpsh 2>/dev/null")
kill -STOP "$bpsh"
ok 'iofwd is restarted while bpsh is stopped' clustermatic restart iofwd
refused() {
    intrude reader "$launch" 1 close >/dev/null
    grep -q "user $mallory wanted to close streams of launch .* of user $alice" "$logs/node.1"
}
ok 'mallory may not close the streams: the node refuses' eventually 10 refused
refused_read() { intrude reader "$launch" 1 | grep -Eq 'NONE refused, closed$'; }
ok 'nor read them' eventually 10 refused_read
kill -CONT "$bpsh"
echo hello >"$tmp/hold"
ok 'alice gets her status' exits 3 wait "$job"
ok 'and all of her output' is 'said hello' cat "$tmp/alice.out"
ok 'alice may see her result' has "\\[0, $pid, 1, 768," as $alice \
    /usr/bin/python3 tests/intruder.py gate procspace.result "{\"launch\": $launch}"
ok 'mallory still not' has "another user's" \
    intrude gate procspace.result "{\"launch\": $launch}"

# --- what only root may

only_root() { fails_with 'only root' as $mallory "$@"; }
ok 'a state' fails_with '^1: Operation not permitted \(only root sets states\)' \
    as $mallory bpctl -S 1 -s unavailable
ok 'an owner' fails_with '^1: .*only root changes a node.s owner' as $mallory bpctl -S 1 -u $mallory
ok 'a mode of a node not his' fails_with "^1: .*only the node's owner and root" \
    as $mallory bpctl -S 1 -m 001
ok 'but of his own' as $alice bpctl -S 0 -m 110
ok 'a group that he is not in' fails_with '^0: Operation not permitted' as $alice bpctl -S 0 -g 7
ok 'but one of his own' person $alice $alice 7 bpctl -S 0 -g 7
ok 'restart' only_root bpctl -S 1 -R
ok 'halt' only_root bpctl -S 1 -H
ok 'power off' only_root bpctl -S 1 -P
ok 'chroot' only_root bpctl -S 1 -r /tmp
ok 'forget a key' only_root bpctl -S 1 --forget
ok 'accept a key' only_root bpctl -S 1 --accept "$(printf 'a%.0s' {1..40})"
ok 'reload' only_root clustermatic reload
ok 'restart a service' only_root clustermatic restart busd
ok 'end the cluster' only_root clustermatic down
attrs='{"nodes": [1], "attrs": {"a": "hex:00"}}'
ok 'attributes' has 'only root sets attributes' intrude gate nodemgr.set "$attrs"
for what in keys check forget; do
    ok "nodemgr.$what" has "^1 nodemgr.$what: only root may" intrude gate nodemgr.$what '{}'
done
for what in join beat; do
    ok "nodemgr.$what" has '^1 nodemgr.* for agents|^13 ' intrude gate nodemgr.$what '{}'
done
ok 'to speak as an agent' has '^13 procspace.report: only a node' \
    intrude gate procspace.report '{"space": "x", "first": 1, "events": []}'
ok 'agents listen to services only' has '^1 node.1.end_launch: only root may ask agents' \
    intrude gate node.1.end_launch "{\"launch\": $launch, \"sig\": 9}"
ok 'busd learns keys from root only' has '^1 busd.keys: only root may' \
    intrude gate busd.keys '{"keys": []}'
secret() { ! as $mallory cat "$1"; }
for file in "$run/master.key" "$state/master.key" "$state/vnodes/0/key" "$state/nodemgr.db" \
    "$run/space/0"; do
    ok "$(basename "$file") is not for mallory" secret "$file"
done
writable() {
    as $mallory find "$run" "$state" "$logs" -writable ! -type s ! -type l 2>/dev/null || true
}
ok 'nothing in the run folder is his to write' is '' writable
ok 'all is still up' has '^0-1 +up|^1 +up' bpstat
done_testing
