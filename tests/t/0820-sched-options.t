#!/bin/bash
# 0820-sched-options: what jobs may ask for, what pools allow, what is done to
# jobs and pools, what is kept; policies that crash; a full disk; the simulator
. tests/lib.sh
. tests/jobs.sh

need bin/bjssub bin/bjsstat bin/bjsctl bin/bpsh libexec/clustermatic/sched \
    libexec/clustermatic/bpvnode libexec/clustermatic/bpfs tests/policies/crash.so
sched=$libexec/sched

# --- the simulator, without any cluster

ok 'a trace is made up' bash -c "'$sched' --generate 500 --nodes 16 >'$tmp/trace'"
ok 'the same one for the same seed' bash -c "'$sched' -g 500 -n 16 | cmp - '$tmp/trace'"
ok 'another one for another' not bash -c "'$sched' -g 500 -n 16 -s 2 | cmp -s - '$tmp/trace'"
ok 'it is replayed' has '^filler +500 +[0-9.]+ +[0-9]+ +[0-9.]+ +[0-9.]+% +[0-9]+$' "$sched" --replay "$tmp/trace"
backfill_helps() {
    "$sched" --replay - --json <"$tmp/trace" | python3 -c '
import json, sys
v = {p["policy"]: p for p in json.load(sys.stdin)}
assert v["filler"]["wait_s"] < v["simple"]["wait_s"] and v["easy"]["wait_s"] < v["simple"]["wait_s"], v
assert all(p["jobs"] == 500 and 0 < p["utilisation"] <= 1 and p["slowdown"] >= 1 for p in v.values()), v'
}
ok 'backfill waits less than first come, first served' backfill_helps
ok 'what is no trace is refused, with the line' fails_with 'passwd:1: 0 numbers, want 18' "$sched" --replay /etc/passwd
ok 'a policy that is not there is refused' fails_with 'policy nope: there is no such file in' \
    "$sched" --replay "$tmp/trace" --policy nope

# --- pools

cluster_up 4
work=$tmp/work
mkdir -m 777 "$work"
cd "$work" || exit 1
a=12345 b=12346
cat >"$state/bjs.conf" <<EOF
acctjson $state/acct.json
policypath $libexec/policies:$CM_BUILD/tests/policies
pool default
    policy easy
    nodes 0-1
    defaultsecs 60
    killsecs 1
    warn USR1 2
pool few
    policy simple
    nodes 2
    users $a 777
    groups 4321
    minnodes 1
    maxnodes 1
    minsecs 5
    maxsecs 50
    killsecs 0
EOF
# Nodes 2 and 3 are given back while sched asks for all: what it hears is older than
# that, and of node 2 in its new pool it knows nothing yet.
held=$(pid_of nodemgr)
kill -STOP "$held"
ok 'the configuration is taken' bjsctl reload
sleep 0.1 # it asks 20 ms later, which is not to be seen from here
kill -CONT "$held"
submit() { as $a bjssub "$@" | id_of; }
ok 'its nodes are taken over' eventually 10 all_free 2
ok 'and that of the other pool' eventually 10 all_free 1 few

ok 'who is not among users and groups is refused' \
    fails_with "You don't have permission to submit to few" as $b bjssub -p few -s 9 true
ok 'a user of the list is not' as $a bjssub -p few -s 9 true
ok 'nor who is in the group, by a supplementary one' \
    setpriv --reuid $b --regid $b --groups 11,4321 bjssub -p few -s 9 true
ok 'nor root' bjssub -p few -s 9 true
ok 'too few seconds' fails_with 'The minimum number of seconds for pool few is 5' as $a bjssub -p few -s 4 true
ok 'too many' fails_with 'The maximum number of seconds for pool few is 50' as $a bjssub -p few -s 51 true
ok 'too many nodes' fails_with 'The maximum number of nodes for pool few is 1' as $a bjssub -p few -n 2 -s 9 true
ok 'more processors than any node has' fails_with 'has 0 nodes with 9999 processors' as $a bjssub --cpus 9999 true
ok 'more memory' fails_with 'processors and 1048576000 MB' as $a bjssub --mem 1000T true
ok 'as many as there are do' as $a bjssub --cpus 1 --mem 1M true

# --- hold, after, array, retry

held=$(submit --hold 'echo held >>order')
ok '--hold' in_state "$held" held
ok 'why' has "It is held: bjsctl release $held" bjsstat why "$held"
first=$(submit --hold 'echo first >>order; exit 4')
good=$(submit --after "$first" 'echo good >>order')
bad=$(submit --after "$first:fail" 'echo bad >>order')
any=$(submit --after "$first:any" --after "$held" 'echo any >>order')
ok '--after waits' in_state "$good" after
ok 'why' has "It waits for job $first to end well" bjsstat why "$good"
ok 'bjsstat shows it' has "after=$first" bjsstat
ok 'another user may not release it' as $b bash -c "! bjsctl release $first"
as $a bjsctl release "$first" >/dev/null
ended "$first"
ok 'after a failure: what was to follow success has failed' ended "$good"
ok 'with that reason' has "job $first, which it was to follow, has failed" bjsstat why "$good"
ok 'what was to follow failure runs' ended "$bad"
ok 'what waits for two waits on' in_state "$any" after
as $a bjsctl release "$held" >/dev/null
ended "$any"
ok 'all in order' is 'first bad held any' bash -c 'paste -sd" " order'
ok 'to follow what has ended otherwise is refused' fails_with "has ended with status" as $a bjssub --after "$first" true
again=$(submit 'sleep 1000')
ok 'a release of what is not held is refused' has '\(error .*not.* held' bash -c "! bjsctl release $again"
as $a bjsctl -r "$again" >/dev/null

array=$(as $a bjssub --array 3-6 'echo $JOBINDEX $JOBARRAY $JOBID >>array' | id_of)
ok '--array tells the range' is "$((${array%-*} + 3))" echo "${array#*-}"
ended "${array#*-}"
for id in $(seq "${array%-*}" "${array#*-}"); do ended "$id"; done
ok 'each has its number' is '3 4 5 6' bash -c 'sort array | cut -d" " -f1 | paste -sd" "'
ok 'and the first one'"'"'s' is 1 bash -c 'cut -d" " -f2 array | sort -u | wc -l'
job=$(submit --retry 2 'echo x >>retried; exit 9')
ended "$job"
ok '--retry 2 is three attempts' is 3 bash -c 'wc -l <retried'
ok 'the last one'"'"'s status counts' is 9 field "$job" exit
ok '--json' bash -c "as() { setpriv --reuid $a --regid $a --clear-groups \"\$@\"; }; as bjssub --json --array 1-3 true | python3 -c 'import json, sys; assert json.load(sys.stdin)[\"count\"] == 3'"
ok 'what no node has is refused' fails_with 'pool default has 0 nodes with colour=blue, not 1' \
    bjssub -R colour=blue true
ok 'a requirement of two words too' fails_with 'want no blanks' bjssub -R 'colour=light blue' true
setfattr -n bproc.colour -v blue "$run/bpfs/1"
blue() { bjssub --hold -R colour=blue 'echo $NODES >>blue' | id_of; }
ok 'once a node has it, it is taken' eventually 10 bash -c 'bjssub --hold -R colour=blue true >/dev/null'
ok 'and shown' has 'colour=blue' bjsstat
one=$(blue) two=$(blue)
ok 'sched is killed' bash -c "kill -KILL $(pid_of sched)"
eventually 20 in_state "$one" held
bjsctl release "$one" "$two" >/dev/null
ended "$one"
ended "$two"
ok 'both get that node' is '1 1' bash -c 'paste -sd" " blue'
ok 'others get any' eventually 10 in_state "$(submit true)" 'done'
bjsctl -r "$(bjsstat --json | python3 -c 'import json, sys
print(*[j["id"] for j in json.load(sys.stdin)["jobs"] if j["state"] == "held"])')" >/dev/null

# --- the end: warned, signalled, queued again

job=$(submit -s 4 -O warned 'trap "echo told; exit 0" USR1; while :; do sleep 0.1; done')
ok 'a job is warned before its limit' ended "$job" 20
ok 'it has heard it' grep -qx told warned
ok 'in time' is 0 field "$job" exit
job=$(submit -O signalled 'trap "echo usr2 >>heard" USR2; while [ ! -e heard ]; do sleep 0.1; done')
eventually 10 in_state "$job" running
ok 'bjsctl signal' eventually 10 bash -c "bjsctl signal USR2 $job >/dev/null; [ -e heard ]"
ended "$job"
job=$(submit 'echo x >>requeued; [ "$(wc -l <requeued)" = 2 ] || sleep 1000')
eventually 10 in_state "$job" running
eventually 10 test -e requeued
ok 'bjsctl requeue' is "$job: (ok)" as $a bjsctl requeue "$job"
ok 'it is run again' ended "$job"
ok 'and ends well' is 0 field "$job" exit

# --- priorities, fair share, and what does not fit

bjsctl drain default
low=$(submit --priority -5 'echo low >>prio')
mid=$(submit -n 2 'echo mid >>prio')
ok 'only root raises priorities' as $a bash -c "! bjsctl priority 7 $low"
ok 'root does' bjsctl priority 7 "$low"
bjsctl undrain default
ended "$mid"
ended "$low"
ok 'the higher one went first' is 'low mid' bash -c 'paste -sd" " prio'
bjsctl drain default
submit 'echo a1 >>fair' >/dev/null
submit 'echo a2 >>fair' >/dev/null
: >fair
chmod 666 fair
as $b bjssub -n 2 'echo b >>fair' >/dev/null
bjsctl undrain default
three() { [ "$(wc -l <fair)" = 3 ]; }
eventually 20 three
ok 'who has used nothing goes before who has' is b head -n 1 fair

# --- -U, --json, what is kept

bjsstat -U >live &
watcher=$!
on_exit+=("kill $watcher 2>/dev/null")
eventually 10 grep -q 'Pool: few' live
job=$(submit 'while [ ! -e seen ]; do sleep 0.1; done; sleep 1')
ok '-U shows what changes' eventually 10 grep -q "$job R #12345" live
touch seen
kill $watcher
ended "$job"
kept() {
    bjsstat --json "$1" | python3 -c '
import json, sys
j = json.load(sys.stdin)
assert j["submitted"] <= j["started"] <= j["ended"] and j["ended"] - j["started"] >= 1000, j
assert j["node_list"] in ("0", "1") and j["maxrss_kb"] > 0 and j["exit"] == 0 and j["reason"] is None, j'
}
ok 'times, nodes, use and status are kept' kept "$job"
ok 'and are in the accounting' eventually 10 grep -q "\"id\":$job,.*\"node_list\":\"[01]\"" "$state/acct.json"
echo "keepjobs 5" | cat - "$state/bjs.conf" >"$tmp/conf" && cp "$tmp/conf" "$state/bjs.conf"
ok 'a limit of what is kept' bjsctl reload
clustermatic restart sched
kept_jobs() { [ "$(bjsstat -d1000 --json | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["jobs"]))')" = "$1" ]; }
submit true >/dev/null
ok 'older ones are forgotten' eventually 90 kept_jobs 5

# --- policies that crash

sed -i 's/policy easy/policy crash/' "$state/bjs.conf"
ok 'another policy is loaded while sched runs' bjsctl reload
job=$(submit 'echo survived')
ok 'one that crashes is put aside' ended "$job" 40
ok 'its job has run all the same' is 0 field "$job" exit
ok 'bjsstat says so' has 'Policy crash was put aside: it crashed 2 times' bjsstat
sed -i 's/policy crash/policy easy/' "$state/bjs.conf"
bjsctl reload
ok 'a reload takes the next one' not has 'put aside' bjsstat
sed 's/pool few/pool other/' "$state/bjs.conf" >"$tmp/conf"
job=$(submit -p few --hold true -s 9)
cp "$tmp/conf" "$state/bjs.conf"
ok 'a pool with jobs is not dropped' fails_with 'pool few is not in the new configuration, but has jobs' bjsctl reload
ok 'the job is still there' in_state "$job" held
done_testing
