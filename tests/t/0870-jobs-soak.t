#!/bin/bash
# 0870-jobs-soak: a start that is cut in two: sched or the starter die between a
# job's start and its runner's first word; and many jobs while sched, procspace and
# busd are killed now and then. Each runs once. CM_JOBS=5000 for the full count.
. tests/lib.sh
. tests/jobs.sh

need bin/bjssub bin/bjsstat bin/bjsctl bin/bpsh libexec/clustermatic/sched \
    libexec/clustermatic/bpvnode
cluster_up 4
jobs=${CM_JOBS:-160}
work=$tmp/work
mkdir -m 777 "$work"
cat >"$state/bjs.conf" <<EOF
keepjobs 1000000
pool default
    policy filler
    nodes 0-3
    defaultsecs 600
EOF
bjsctl reload
cd "$work" || exit 1
a=12345

idle() { all_free 4; }
submit() { as $a bjssub "$@" | id_of; }
ran() { grep -cx "$1" ran; }
gone() { ! pgrep -r R,S,D,T,t -x bjs-starter | grep -qx "$1"; }
begin() { # sets job and starter: it has been told of the job, and sleeps
    starter=$(pgrep -P "$(pid_of sched)" -x bjs-starter) && kill -STOP "$starter" || return
    on_exit+=("kill -CONT $starter 2>/dev/null")
    job=$(submit 'echo $JOBID >>ran; echo $JOBATTEMPT >attempt')
    eventually 10 in_state "$job" starting
}
eventually 10 idle

# --- between the starter and the runner's first word

ok 'a job is given to the starter' begin
ok 'sched is killed' killed sched
ok 'the job is started by the next one' ended "$job"
ok 'as another attempt' is 2 cat attempt
kill -CONT "$starter"
ok 'the old starter goes when it has seen to it' eventually 10 gone "$starter"
ok 'which was nothing: the job has run once' is 1 ran "$job"
ok 'it has ended well' is 0 field "$job" exit

ok 'another is given to the starter' begin
old=$(pid_of sched)
s6-svc -O "$run/s6/sched" # and stays away
kill -KILL "$old"
eventually 10 not pid_of sched >/dev/null
kill -CONT "$starter"
ok 'it starts it while there is no sched' eventually 10 is 1 ran "$job"
s6-svc -u "$run/s6/sched"
ok 'the next sched hears of its end' ended "$job"
ok 'it was the first attempt' is 1 cat attempt
ok 'and the only one' is 1 ran "$job"
ok 'with its status' is 0 field "$job" exit

ok 'a third is given to the starter' begin
kill -KILL "$starter"
ok 'which is killed: the job is run all the same' ended "$job"
ok 'once' is 1 ran "$job"
ok 'no node has leaked' eventually 10 idle

# --- many, under kills

script='echo $JOBID >>many; [ $((JOBID % 4)) != 0 ] || bpsh $NODES true'
each=20 i=0 due=0 unkilled=0 refused=0
services=(sched procspace busd)
from=$SECONDS
while [ $due -lt "$jobs" ]; do
    as $a bjssub --array 1-$each "$script" >>ids || refused=$((refused + 1))
    due=$((due + each))
    i=$((i + 1))
    [ $((i % 2)) = 0 ] || killed "${services[i / 2 % 3]}" || unkilled=$((unkilled + 1))
done
ok "$due jobs are submitted while sched, procspace and busd are killed" is '0 0' echo $refused $unkilled
all_ended() { [ "$(bjsstat --json | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["jobs"]))')" = 0 ]; }
ok 'all of them end' eventually $((60 + jobs / 20)) all_ended
diag "$due jobs in $((SECONDS - from)) s, $(((i + 1) / 2)) kills"
once() { # each number that was told has run, and once
    python3 - <<'END'
import collections
import re
told = set()
for line in open("ids"):
    first, last = map(int, re.fullmatch(r"JOBID=(\d+)-(\d+)\n", line).groups())
    told.update(range(first, last + 1))
ran = collections.Counter(int(line) for line in open("many"))
print("lost", sorted(told - set(ran))[:9], "twice", [n for n in ran if ran[n] > 1][:9])
raise SystemExit(dict(ran) != dict.fromkeys(told, 1))
END
}
ok 'none is lost, none has run twice' once
well() {
    bjsstat -d1000000 --json | python3 -c '
import json, sys
v = [j for j in json.load(sys.stdin)["jobs"] if j["array"]]
bad = [(j["id"], j["exit"], j["signal"], j["reason"]) for j in v if j["exit"] != 0]
print(len(v), "ended,", bad[:5])
sys.exit(len(v) != int(sys.argv[1]) or bool(bad))' "$due"
}
ok 'each has ended well, and is remembered' well
ok 'no node has leaked now either' eventually 20 idle
done_testing
