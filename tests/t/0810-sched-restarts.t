#!/bin/bash
# 0810-sched-restarts: what dies under jobs: sched at every step of a job's life,
# nodemgr, procspace, runners, nodes. No job is lost, none runs twice, no node leaks.
. tests/lib.sh
. tests/jobs.sh

jobs_cluster 4
a=12345
intruder=$PWD/tests/intruder.py
cd "$work" || exit 1

idle() { all_free 4; }
once() { [ "$(grep -cx "$1" ran)" = 1 ]; }
submit() { as $a bjssub "$@" | id_of; }
runner_of() { # the pid of a job's runner
    local p
    for p in $(pgrep -x "bjs-job $1"); do
        tr '\0' '\n' <"/proc/$p/environ" | grep -qx "CM_SUPERVISED=$run" && echo "$p"
    done
}

# --- sched, step by step

bjsctl drain default
job=$(submit 'echo $JOBID >>ran')
ok 'a drained pool starts nothing' in_state "$job" queued
ok 'and says so' has 'Pool default is drained' bjsstat why "$job"
ok 'submitted: sched is killed' killed sched
ok 'the pool is still drained, and the job waits' in_state "$job" queued
bjsctl undrain default
ok 'it ends' ended "$job"
ok 'it ran once' once "$job"

node_pid=$(pid_of nodemgr)
kill -STOP "$node_pid"
job=$(submit 'echo $JOBID >>ran')
ok 'claimed: it has nodes that nodemgr has not given yet' eventually 10 in_state "$job" claiming
old=$(pid_of sched)
kill -KILL "$old"
kill -CONT "$node_pid"
ok 'sched is killed meanwhile' eventually 20 pid_is_new sched "$old"
ok 'the job ends' ended "$job"
ok 'it ran once' once "$job"
ok 'no node has leaked' eventually 10 idle

job=$(submit -O longer 'echo $JOBID >>ran; echo 1; until [ -e go1 ]; do bpsh $NODES sleep 0.1; done; echo 2; exit 5')
ok 'running: it does' eventually 10 in_state "$job" running
ok 'sched is killed' killed sched
ok 'it goes on running' in_state "$job" running
touch go1
ok 'and ends' ended "$job"
ok 'with its own status' is 5 field "$job" exit
ok 'and all of its output' is '1 2' bash -c 'paste -sd" " longer'
ok 'it ran once' once "$job"

job=$(submit 'echo $JOBID >>ran; until [ -e go2 ]; do sleep 0.1; done; echo over >over; exit 6')
ok 'ending while there is no sched: it runs' eventually 10 in_state "$job" running
s6-svc -wD -d "$run/s6/sched"
touch go2
ok 'it has ended meanwhile' eventually 10 test -e over
s6-svc -u "$run/s6/sched"
ok 'its end is noted' ended "$job"
ok 'with its status' is 6 field "$job" exit

space_pid=$(pid_of procspace)
job=$(submit 'echo $JOBID >>ran; bpsh $NODES true; : >launched; while [ ! -e go ]; do sleep 0.1; done')
eventually 10 test -e launched
kill -STOP "$space_pid"
touch go
ok 'ending: what it left is being ended' eventually 10 in_state "$job" ending
old=$(pid_of sched)
kill -KILL "$old"
kill -CONT "$space_pid"
ok 'sched is killed meanwhile' eventually 20 pid_is_new sched "$old"
ok 'the job is over' ended "$job"
ok 'it ran once' once "$job"
ok 'with its status' is 0 field "$job" exit
ok 'no node has leaked' eventually 10 idle

limited=$(submit -s 4 'sleep 1000')
ok 'a time limit holds over a restart' killed sched
ok 'it is kept' ended "$limited" 20
ok 'as the reason says' has 'time limit of 4 s' bjsstat why "$limited"

# --- whatever, whenever

for i in 1 2 3 4 5 6; do
    as $a bjssub --array 1-5 'echo $JOBID >>ran; bpsh $NODES true; exit 0' >/dev/null
    case $i in
    2 | 4 | 6) killed sched ;;
    3) killed procspace ;;
    5) killed nodemgr ;;
    esac
done
ok 'under kills of sched, procspace and nodemgr all jobs end' eventually 60 no_job
all_once() {
    local id bad=0
    bjsstat -d200 --json | python3 -c '
import json, sys
print(*[j["id"] for j in json.load(sys.stdin)["jobs"] if j["array"]])' | tr ' ' '\n' >ids
    [ "$(wc -l <ids)" = 30 ] || bad=1
    while read -r id; do
        once "$id" || { echo "job $id: $(grep -cx "$id" ran) times"; bad=1; }
    done <ids
    return $bad
}
ok 'each has run once' all_once
ok 'no node has leaked' eventually 20 idle

# --- an answer that was lost

body='{"pool": "default", "command": "true", "token": "again", "env": []}'
ask() { /usr/bin/python3 "$intruder" gate sched.submit "$body"; }
ask >first
ask >second
ok 'a submission has a number' grep -q '"job": [0-9]' first
ok 'a submission that is repeated is one job' cmp first second
killed sched
ask >third
ok 'after a restart too' cmp first third

# --- runners

job=$(submit 'echo $JOBID >>ran; sleep 1000')
eventually 10 in_state "$job" running
kill -KILL "$(runner_of "$job")"
ok 'a runner that is killed is missed' ended "$job"
ok 'and told of' has 'its runner was killed' bjsstat why "$job"
ok 'its script does not go on' eventually 5 not pgrep -r R,S,D,T,t -u $a sleep
job=$(submit -r 'echo $JOBID >>ran; [ "$(grep -cx $JOBID ran)" = 2 ] || sleep 1000')
eventually 10 in_state "$job" running
kill -KILL "$(runner_of "$job")"
ok 'a restartable job is run again' ended "$job"
ok 'and ends well' is 0 field "$job" exit
ok 'the second time' is 2 field "$job" attempt

# --- nodes

cat >lossy <<'EOF'
echo $JOBID $NODES >>tries
case $(grep -c "^$JOBID " tries) in
1) bpsh $NODES sleep 1000; code=$?; echo "$JOBID" >>over; exit $code ;;
esac
EOF
lose() { # the node of a job, after what is to be done first
    local node
    node=$(field "$1" node_list)
    eventually 10 bash -c "bpps $node | grep -q 'sleep 1000'"
    "${@:2}"
    kill -KILL "$(pid_of "node.$node")"
}
job=$(submit <lossy)
eventually 10 in_state "$job" running
lose "$job"
ok 'a job whose node is lost ends' ended "$job"
ok 'as failed, and says so' has 'node [0-3] was lost' bjsstat why "$job"
ok 'its node comes back into the pool' eventually 30 idle
again=$(submit --requeue-on-node-failure <lossy)
eventually 10 in_state "$again" running
lose "$again"
ok 'one that wants to is queued again' ended "$again"
ok 'and ends well' is 0 field "$again" exit
ok 'its node is back, too' eventually 30 idle
late=$(submit --requeue-on-node-failure <lossy)
eventually 10 in_state "$late" running
sched_pid=$(pid_of sched)
lose "$late" kill -STOP "$sched_pid"
eventually 10 grep -q "^$late" over
kill -CONT "$sched_pid"
ok 'so is one that has failed before its end and the loss are heard of' ended "$late"
ok 'and it ends well' is 0 field "$late" exit
# pid 1 may take its time with those that have ended
ok 'nothing is left of it all' eventually 10 not pgrep -r R,S,D,T,t -u $a
ok 'all nodes are back' eventually 30 idle
done_testing
