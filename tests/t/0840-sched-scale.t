#!/bin/bash
# 0840-sched-scale: 64,000 jobs in the queue: what a submission, a look at a job and
# its removal cost sched, beside the same with 1,000; and what a job takes of memory
. tests/lib.sh

need bin/bjssub bin/bjsstat bin/bjsctl libexec/clustermatic/sched libexec/clustermatic/bpvnode
cluster_up 2
cd "$tmp" || exit 1
bjsctl drain default

spent() { cut -d' ' -f1 "/proc/$(pid_of sched)/schedstat"; } # ns of processor time
rss_kb() { awk '/^VmRSS/ { print $2 }' "/proc/$(pid_of sched)/status"; }
times=60
cost() { # cost COMMAND...: of that many times
    local from i
    from=$(spent)
    for ((i = 0; i < times; i++)); do
        "$@" >/dev/null || return
    done
    echo $(($(spent) - from))
}
submits() { cost bjssub true; }
looks() { cost bjsstat 500; }
removes() {
    local from i first
    first=$(bjssub --array 1-$times true | sed 's/JOBID=//; s/-.*//')
    from=$(spent)
    for ((i = 0; i < times; i++)); do
        bjsctl -r $((first + i)) >/dev/null || return
    done
    echo $(($(spent) - from))
}
queued() { bjsstat --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["pools"][0]["waiting"])'; }

# The least of a few tries: others use the processors and their caches too.
least() {
    local best='' now i
    for i in 1 2 3 4; do
        now=$("$@") || return
        [ "$best" ] && [ "$best" -le "$now" ] || best=$now
    done
    echo "$best"
}
measure() { # measure NAME
    eval "$1_submit=\$(least submits) $1_look=\$(least looks) $1_remove=\$(least removes)"
}
bjssub --array 1-1000 true >/dev/null
measure few
before=$(rss_kb)
bjssub --array 1-63000 true >/dev/null
after=$(rss_kb)
ok '64,000 jobs wait' test "$(queued)" -ge 64000
measure many
for what in submit look remove; do
    few=few_$what many=many_$what
    diag "$what: $((${!few} / times / 1000)) us with 1,000, $((${!many} / times / 1000)) us with 64,000"
    ok "$what costs less than twice as much" test "${!many}" -lt $((2 * ${!few}))
done
diag "$(((after - before) * 1024 / 63000)) bytes a job"
if [ "${CM_SAN:-}" ]; then
    skip 'a job takes less than 1 kB' 'a sanitizer takes more than the job'
else
    ok 'a job takes less than 1 kB' test $(((after - before) * 1024 / 63000)) -lt 1024
fi
old=$(pid_of sched)
kill -KILL "$old"
back() { local p; p=$(pid_of sched) && [ "$p" != "$old" ] && [ "$(queued)" -ge 64000 ]; }
ok 'all of them are there after a restart' eventually 30 back
done_testing
