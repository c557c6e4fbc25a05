#!/bin/bash
# 0310-identity: nobody is a service, a node or a user that he is not; bytes
# that make no sense harm nobody
. tests/lib.sh

need_root
need bin/bpsh bin/bpctl bin/bpstat libexec/clustermatic/bpvnode \
    libexec/clustermatic/procspace libexec/clustermatic/iofwd
cluster_up 2
mallory=61002
intrude() { as $mallory /usr/bin/python3 tests/intruder.py "$@"; }
# in the master's network namespace
inside() { nsenter -t "$(pid_of busd)" -n /usr/bin/python3 tests/intruder.py "$@"; }
pids() { for s in busd nodemgr procspace iofwd node.0 node.1; do pid_of $s; done; }
works() { [ "$(timeout 20 bpsh 0-1 -p cat /etc/hostname 2>&1 | wc -l)" = 2 ]; }
bpsh 0-1 mkdir -p /etc && bpsh 0-1 -O /etc/hostname hostname
ok 'the cluster works' works
before=$(pids)
untouched() { is "$before" pids && works; }

# --- local programs

ok 'the socket of the bus is for services' has '^no answer' intrude bus nodemgr.list '{}'
chmod 666 "$run/bus" # and if it were not:
ok 'a user is no service, and who asks for it gets the real one' \
    is 'not noted, not asked, the answer was []' intrude hello nodemgr nodemgr.pending
ok 'nor is he a new service' has '^not noted, not asked, .* 111 tester is not running' \
    intrude hello tester tester.hello
ok 'he publishes no event' is 'not published' intrude publish node.state '{"node": 0}'
ok 'he answers no request' is 'the answer was real 0' \
    /usr/bin/python3 tests/intruder.py reply $mallory
for way in bus gate; do
    ok "$way: what the envelope says of the user is not believed" has 'only root sets states' \
        intrude $way nodemgr.set '{"nodes": [0], "state": "bad"}' 0
    ok "$way: root's requests are refused" is '1 nodemgr.reload: only root may' \
        intrude $way nodemgr.reload '{}' 0
    ok "$way: agents do not hear him" is '1 node.0.ps: only root may ask agents' \
        intrude $way node.0.ps '{}' 0
    ok "$way: busd takes no keys from him" is '1 busd.keys: only root may' \
        intrude $way busd.keys '{"keys": []}' 0
done
ok 'a hand-made handshake makes nobody root' \
    has 'new: .*nodemgr.reload: only root may; old: (no answer|connection closed)' \
    intrude forge nodemgr.reload '{}'
ok 'nor does a chosen routing id' is '1 nodemgr.reload: only root may' \
    intrude identity 0000000001 nodemgr.reload '{}'
chmod 600 "$run/bus"
ok 'nothing happened to anybody' untouched

# --- keys

inside stranger >"$tmp/stranger"
for topic in nodemgr.list busd.services busd.ping node.0.ps procspace.ps procspace.report \
    nodemgr.beat nodemgr.accept; do
    ok "a key that nobody knows: $topic" grep -q "^$topic: 13 .*not accepted" "$tmp/stranger"
done
ok 'nor does it make the master read much' grep -q '^large join: 13 .*this key is not accepted' "$tmp/stranger"
ok 'it may ask to join, and is told why not' \
    grep -q '^nodemgr.join: 13 not accepted: the configuration names neither its address' "$tmp/stranger"
ok 'and waits in the list' has "$(sed -n 's/^key //p' "$tmp/stranger" | cut -c1-12 |
    sed 's/[][*.^$+?(){}|\\/]/\\&/g')" bpctl --pending
ok 'a node that trusts another master does not get a connection' has '^HANDSHAKE_FAILED' \
    inside wrong-server
ok 'a key that nobody knows does not reach the streams' \
    is $'HANDSHAKE_FAILED_AUTH\nno answer' inside stream-stranger
ok 'all that left no trace' untouched

# --- a node that was taken over: node 0, against what runs on node 1

mkfifo "$tmp/in"
timeout -s KILL 60 bpsh 0-1 -p sh -c 'read -r x; echo "got $x"; exit 4' <>"$tmp/in" >"$tmp/out" 2>"$tmp/err" & job=$!
on_exit+=("kill $job 2>/dev/null")
ghost() { bpstat -p 1 | awk 'NR == 2 { print $1 }'; }
# shellcheck disable=SC2317
there() { [ -n "$(ghost)" ]; }
eventually 10 there
pid=$(ghost)
launch=$(/usr/bin/python3 tests/intruder.py gate procspace.list '{}' |
    python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["launch"])')
space=$(bpstat --json 0 | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["space"])')
agent=$(pgrep -f "bpnode .*--space $run/space/1 ")
kill -STOP "$agent"
inside node "$state/vnodes/0/key" "$space" "$pid" "$launch" >"$tmp/node"
kill -CONT "$agent"
said() { grep -Eq "^$1" "$tmp/node" || { cat "$tmp/node"; false; }; }
ok 'its answers are stamped as its own' said 'answer: stamped as node \[0, 0\]'
ok 'it is let in as itself' said 'streams: let in as node 0'
ok "another node's state is not its to set" said 'nodemgr.set: .*Operation not permitted'
for topic in nodemgr.control nodemgr.keys node.1.ps busd.keys; do
    ok "$topic is not for nodes" said "$topic: 1 .*only root may"
done
ok "it starts nothing in the name of another node's process" \
    said 'procspace.launch: 11 process 4711 of node 0 is not known yet'
ok "it signals nobody's process" said "procspace.signal: 1 process $pid is another user's"
ok 'it sees no result' said "procspace.result: 1 .*another user's"
ok 'the process on node 1 runs on' is "$pid" ghost
ok 'and so do the services' is "$before" pids
echo hello >"$tmp/in"
ended() {
    /usr/bin/python3 tests/intruder.py gate procspace.result "{\"launch\": $launch}" |
        grep -q "\\[1, $pid, 1, 1024,"
}
ok 'its status arrives' eventually 10 ended
ok 'and its output' eventually 10 grep -q '^ *1: got hello' "$tmp/out"
ok 'as it wrote it, and no more' is '  1: got hello' grep '^ *1:' "$tmp/out"
clustermatic restart node 0
ok 'node 0 has only done itself harm' exits 255 wait $job
up() { [ "$(bpstat -s 0)" = up ]; }
ok 'the node that went astray is restarted' eventually 15 up
bpsh 0 mkdir -p /etc && bpsh 0 -O /etc/hostname hostname
before=$(pids)
ok 'and all works' untouched

# --- bytes

for where in gate iofwd bus events; do
    ok "noise at $where" intrude noise $where
    ok "... from root too" /usr/bin/python3 tests/intruder.py noise $where 2
    ok 'harms nobody' untouched
done
for port in 2223 2224 2225 2226; do
    ok "noise at port $port" inside noise tcp:$port $port
    ok 'harms nobody' untouched
done
ok 'well-formed bombs at the gate' intrude bombs gate
ok 'and on the bus' /usr/bin/python3 tests/intruder.py bombs bus
ok 'harm nobody' untouched
open_files() { find "/proc/$(pid_of busd)/fd" -type l | wc -l; }
files=$(open_files)
ok 'packets full of descriptors' intrude descriptors 60
few_more() { [ "$(open_files)" -lt $((files + 10)) ]; }
ok 'are all closed again' eventually 5 few_more
ok 'and harm nobody' untouched
if [ -z "${CM_SAN:-}" ]; then
    rss() { for s in busd nodemgr procspace iofwd; do
        awk -v s=$s '/VmHWM/ && $2 > 300000 { print s, $2 }' "/proc/$(pid_of $s)/status"; done; }
    ok 'and nobody has ever needed more than 300 MB' is '' rss
fi

# --- too much, too many

intrude flood 4 >"$tmp/flood" & flood=$!
for i in 1 2 3; do
    ok "who floods the gate does not hold up others: $i" timeout 20 bpsh 0-1 true
done
wait $flood
ok 'it was a flood' is sent cat "$tmp/flood"
ok 'nor when he has gone, and left much to read' timeout 20 bpsh 0-1 true

crowd() { # N WHERE
    coproc crowd { ulimit -n 20000; intrude crowd "$@"; }
    read -r -t 20 -u "${crowd[0]}" answer || answer='no answer'
    echo "$answer"
    bpstat >/dev/null && works || echo 'others are locked out'
    eval "exec ${crowd[1]}>&-"
    wait
}
ok 'one user cannot take all connections of the gate' \
    is '5000 held, 500 closed' crowd 5500 gate
ok 'nor all of the streams' is '2048 held, 452 closed' crowd 2500 iofwd
ok 'and all works' untouched
done_testing
