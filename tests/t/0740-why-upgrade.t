#!/bin/bash
# 0740-why-upgrade: why a node is not up, images wanted and running, and a rolling
# reboot that stops at the first node that does not come back
. tests/lib.sh

need bin/clustermatic bin/bpstat libexec/clustermatic/bootsrv libexec/clustermatic/bpvnode
first=$(tests/mkimage.py "$tmp/first.img" 0.5)
second=$(tests/mkimage.py "$tmp/second.img" 0.6)
need_root
cluster_up 3
hook=$state/node_up
script() {
    printf '#!/bin/bash\n%s\n' "$1" >"$hook.new"
    chmod +x "$hook.new"
    mv "$hook.new" "$hook"
}
why() { clustermatic why node "$@"; }
in_state() { [ "$(bpstat -s "$2")" = "$1" ]; }
comes() { eventually 20 in_state "$1" "$2"; }

# --- why

clustermatic restart node 1
restarted() { why 1 | grep -q '  up$'; }
ok '(one that starts)' eventually 20 restarted
ok 'a node that is up' has '^node 1 is up since .*: set up' why 1
ok 'the stages of its boot' has '^ +[0-9.]+ s  joined +[0-9.]+ s' why 1
ok 'to the end' has '^ +[0-9.]+ s  up$' why 1
script 'echo "look here: $1"; sleep 0.3; exit 4'
clustermatic restart node 1
ok '(one that fails)' comes error 1
ok 'its state and reason' has '^node 1 is error since .*node_up ended with status 4: look here: 1' why 1
ok 'the stage in which it stopped' has ' error +FAILED' why 1
ok 'with the reason' has '\| node_up ended with status 4' why 1
ok 'how long node_up took' has ' node_up +[0-9.]+ s$' why 1
ok 'the end of its log' has 'node 1 is error: node_up ended' why 1
ok 'for programs' is 'error True node_up' bash -c "clustermatic why node 1 --json |
    /usr/bin/python3 -c 'import json, sys; v = json.load(sys.stdin); print(v[\"state\"], v[\"stages\"][-1][\"error\"], v[\"stages\"][-2][\"stage\"])'"
script 'for i in {1..200}; do [ -e '"$tmp"'/go ] && exit 0; sleep 0.1; done'
bpctl -S 1 -s boot
setup_runs() { why 1 | grep -q 'node_up .* and no further'; }
ok 'one that is in the middle' eventually 10 setup_runs
: >"$tmp/go"
ok '(up)' comes up 1
rm "$hook"
ok 'a node that there is not' fails_with 'there are only 3 nodes' why 9
ok 'no number' exits 2 clustermatic why node x
ok 'no node' exits 2 clustermatic why
s6-svc -wD -T 5000 -d "$run/s6/bootsrv"
ok 'without bootsrv: what nodemgr knows' has '^node 1 is up' timeout 60 clustermatic why node 1
ok '(back)' clustermatic restart bootsrv
ok 'what was before is still known' has '^ +[0-9.]+ s  node_up' why 1
ok 'to its end' has '^ +[0-9.]+ s  up$' why 1
boots_after_kill() {
    kill -9 "$(pid_of bootsrv)"
    eventually 20 has '^ +[0-9.]+ s  up$' why 1
}
ok 'over kill -9 too' boots_after_kill

# What joined, and was set up or failed, while bootsrv was away.
field() { tests/ask.py -e "v[0][\"$2\"]" nodemgr.list "{\"spec\": \"$1\"}"; }
joined=$(field 1 joined)
s6-svc -wD -T 5000 -d "$run/s6/bootsrv"
clustermatic restart node 1
fresh() { in_state up 1 && [ "$(field 1 joined)" -gt "$joined" ]; }
ok 'a node joins while bootsrv is away' eventually 20 fresh
ok '(it is back)' clustermatic restart bootsrv
at() { clustermatic why node "$1" --json | /usr/bin/python3 -c 'import json, sys
print(*(t for s in json.load(sys.stdin)["stages"] for t in (s["stage"], s["at"])))'; }
joined_then() { is "joined $(field 1 joined) up $(field 1 set_up)" at 1; }
ok 'it has learned when the node joined, and was up' eventually 20 joined_then
kill -9 "$(pid_of nodemgr)"
ok 'nodemgr is killed: it knows that still' eventually 20 joined_then

# --- images

ok 'no image' has '^ +1 up +- +- +up +.*no image' bpstat --boot
ok 'an image for some' clustermatic image set 0,2 "$tmp/first.img"
wants() { bpstat --boot "$1" | grep -q " ${2:0:12} .*$3"; }
ok 'they want it' eventually 10 wants 2 "$first" first.img
ok 'another for one of them' clustermatic image set 2 "$tmp/second.img"
ok 'that wants another' eventually 10 wants 2 "$second" second.img
ok 'the list of images' has "^${first:0:12} good .*6.1.0-test +0 +.*first.img" clustermatic image
ok 'for programs' has "\"hash\": \"$second\"" clustermatic image --json
ok 'it is remembered' clustermatic restart bootsrv
ok 'over a restart' eventually 10 wants 2 "$second" second.img
ok 'back to what the configuration says' clustermatic image set 2 default
ok 'which is none' has '^ +2 up +- +- ' bpstat --boot 2
echo 'no image' >"$tmp/none.img"
ok 'a file that is no image' fails_with 'none.img: ' clustermatic image set 0 "$tmp/none.img"
ok 'a file that is not there' fails_with 'No such file' clustermatic image set 0 "$tmp/nothing"
ok 'a node that there is not' fails_with 'there are only 3 nodes' clustermatic image set 7 "$tmp/first.img"
ok 'a user' fails_with 'not permitted|only root|privilege' as 11111 clustermatic image set 0 "$tmp/first.img"
ok 'is not heard' wants 0 "$first" first.img
ok 'for programs too' is "$first" bash -c "bpstat --boot --json 0 |
    /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)[0][\"wanted\"])'"

# --- a rolling reboot

space() { tests/ask.py -e 'v[0]["space"]' nodemgr.list "{\"spec\": \"$1\"}"; }
before0=$(space 0)
before2=$(space 2)
bpsh 1 sleep 1000 </dev/null &
job=$!
runs() { [ "$(tests/ask.py -e 'v[0]["procs"]' nodemgr.list '{"spec": "1"}')" -gt 0 ]; }
ok '(a job on node 1)' eventually 10 runs
clustermatic upgrade all --at-once 2 --timeout 60 >"$tmp/upgrade" 2>&1 &
upgrade=$!
said() { grep -q "$1" "$tmp/upgrade"; }
ok 'one node first' eventually 20 said '^node 0 is up'
ok 'then the others' eventually 20 said '^node 2 is up'
ok 'a job is waited for' said '^node 1: what runs there is waited for'
ok 'its node gets no new work meanwhile' is unavailable bpstat -s 1
ok 'and is not rebooted' not said '^node 1 is rebooted'
kill $job
wait $job 2>/dev/null
ok 'until it has ended' wait $upgrade
ok 'all are up' is 3 bpstat -t up
ok 'and have started afresh' not is "$before0" space 0
ok 'each of them' not is "$before2" space 2

# A job whose script is between two commands: its node has no process, and is not free.
bjssub -n 1 -s 600 "while [ ! -e $tmp/over ]; do sleep 0.1; done" >"$tmp/job"
holds() { [ "$(tests/ask.py -e '[j["state"] for j in v["jobs"]]' sched.list)" = "['running']" ]; }
ok '(a job holds a node)' eventually 20 holds
clustermatic upgrade all --timeout 60 >"$tmp/upgrade" 2>&1 &
upgrade=$!
ok 'the scheduler'"'"'s job is waited for' eventually 30 said 'node [0-2]: job [0-9]* is waited for'
: >"$tmp/over"
ok 'until it has ended' wait $upgrade
ok 'all are up again' is 3 bpstat -t up

before=$(space 1)$(space 2)
script 'echo "this kernel is no good"; exit 1'
ok 'an upgrade that goes wrong' fails_with 'node 0 has come back as error: node_up ended with status 1: this kernel' \
    clustermatic upgrade 0-2 --timeout 60
ok 'stops at once: the others are as they were' is "$before" echo "$(space 1)$(space 2)"
ok 'and in use' is 2 bpstat -t up
script 'sleep 100'
ok 'one that does not come up in time' fails_with 'node 1 is not up after 2 s: .clustermatic why node 1' \
    clustermatic upgrade 1-2 --timeout 2
ok 'the next was not touched' is up bpstat -s 2
rm "$hook"
ok 'no nodes' exits 2 clustermatic upgrade
ok 'a wrong number' exits 2 clustermatic upgrade 0 --at-once 0
ok 'a node that there is not' fails_with 'there are only 3 nodes' clustermatic upgrade 5
done_testing
