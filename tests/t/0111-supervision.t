#!/bin/bash
# 0111-supervision: whatever service dies is back in about a second, restart
# and logs do what they say, a halted node stays down until it is wanted
. tests/lib.sh

need_root
need libexec/clustermatic/busd libexec/clustermatic/nodemgr libexec/clustermatic/procspace \
    libexec/clustermatic/iofwd libexec/clustermatic/bpvnode bin/bpctl bin/bpstat

now_ms() { echo $(($(date +%s%N) / 1000000)); }
pid_changed() { [ "$(pid_of "$1")" != "$2" ] && [ "$(s6-svstat -o ready "$run/s6/$1")" = true ]; }
# back SERVICE SIGNAL: ready again with another pid; usually after a second
back() {
    local old from
    old=$(pid_of "$1")
    from=$(now_ms)
    kill -"$2" "$old"
    eventually 10 pid_changed "$1" "$old" && echo "$1: $(($(now_ms) - from)) ms" >>"$tmp/back"
}
node_is() { [ "$(bpstat --json "$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["state"])')" = "$2" ]; }
restarts() {
    clustermatic status --json | python3 -c 'import json, sys
print([s["restarts"] for s in json.load(sys.stdin)["services"] if s["name"] == sys.argv[1]][0])' "$1"
}

cluster_up 2
for service in busd nodemgr procspace iofwd bpfs; do
    ok "$service killed: back by itself" back $service KILL
done
diag "$(paste -sd' ' "$tmp/back")"
ok 'the nodes are up all the same' eventually 20 node_is 0 up
ok 'node 1 too' eventually 20 node_is 1 up
ok 'status counts the death' is 1 restarts iofwd

old=$(pid_of iofwd)
ok 'restart' clustermatic restart iofwd
ok 'has made a new process' not test "$(pid_of iofwd)" = "$old"
ok 'restart of a service that there is not' fails_with 'want busd, nodemgr' \
    clustermatic restart iofwdd
ok 'restart of a node that there is not' fails_with 'has 2 virtual nodes' \
    clustermatic restart node 2
ok 'an ordinary user may not' fails_with 'only root' as 65534 clustermatic restart iofwd
ok 'reload' clustermatic reload
ok 'logs lists them' has "$logs/nodemgr/current" clustermatic logs
ok 'logs SERVICE shows one' clustermatic logs nodemgr
ok 'logs node N too' clustermatic logs node 1
wrong_log() { fails_with 'want busd, nodemgr' clustermatic logs busdd; }
ok 'logs of what there is not' wrong_log

# Logs are put aside at a megabyte, and a node's when its machine starts anew.
if /usr/bin/python3 -c 'import zmq, msgpack' 2>/dev/null; then
    aside() { ls "$logs"/busd/@*.s; }
    ok 'a service says more than a megabyte' /usr/bin/python3 tests/intruder.py babble 12000
    ok 'which is put aside' eventually 10 aside
else
    skip 'which is put aside' 'needs python3-zmq and python3-msgpack'
fi
head -c 1100000 /dev/zero | tr '\0' '\n' >>"$logs/node.1"
ok 'a node is restarted' clustermatic restart node 1
ok 'its long log is put aside' test -s "$logs/node.1.1"
ok 'no log is larger than it should be' is '' find "$logs" -size +1100k
ok 'the node is up again' eventually 20 node_is 1 up

# A service stopped by a signal is seen, and can be ended all the same.
kill -STOP "$(pid_of iofwd)"
old=$(pid_of iofwd)
ok 'a stopped service is restarted by force' clustermatic restart iofwd
ok 'with a new process' not test "$(pid_of iofwd)" = "$old"

machine_down() { [ "$(s6-svstat -o up "$run/s6/node.$1")" = false ]; }
ok 'a node is halted, once it has found the new bus' eventually 10 bpctl -S 1 -H
ok 'its machine ends' eventually 10 machine_down 1
ok 'the node is down' eventually 20 node_is 1 down
sleep 1.5 # longer than the supervisor takes to start anything again
ok 'and the machine stays down' machine_down 1
ok 'restart node 1 switches it on' clustermatic restart node 1
ok 'and it comes up' eventually 20 node_is 1 up
ok 'a node whose machine is killed comes up again by itself' kill -9 "$(pid_of node.0)"
machine_up() { [ "$(s6-svstat -o up "$run/s6/node.$1")" = true ]; }
ok 'the machine runs' eventually 10 machine_up 0
ok 'and the node is up' eventually 30 node_is 0 up
done_testing
