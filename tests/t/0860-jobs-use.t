#!/bin/bash
# 0860-jobs-use: what a job's processes on nodes have used is in its record, over
# restarts and attempts; --mem and --cpus are limits there, or it is said that not
. tests/lib.sh
. tests/jobs.sh

need bin/bjssub bin/bjsstat bin/bjsctl bin/bpsh tests/body libexec/clustermatic/sched \
    libexec/clustermatic/bpvnode
body=$CM_BUILD/tests/body
work=$tmp/work
mkdir "$work"

submit() { bjssub -D "$work" "$@" | id_of; }
used() { # ID MIN_MS MAX_MS: processor time on nodes, and memory of at least a process
    bjsstat --json "$1" | python3 -c '
import json, sys
j = json.load(sys.stdin)
ms = (j["node_utime_us"] + j["node_stime_us"]) / 1000
print("#", ms, "ms,", j["node_maxrss_kb"], "kB")
sys.exit(not (int(sys.argv[1]) <= ms <= int(sys.argv[2]) and j["node_maxrss_kb"] > 100))' "$2" "$3"
}
accounted() { # ID MIN_US
    grep "\"id\":$1," "$state/acct.json" | python3 -c '
import json, sys
j = json.load(sys.stdin)
sys.exit(not j["node_utime_us"] + j["node_stime_us"] >= int(sys.argv[1]))' "$2"
}
# The pool shares its nodes, or has them for itself: another way to ask for what was used.
pool() { # POLICY
    printf 'acctjson %s\npool default\n    policy %s\n    nodes 0-1\n    defaultsecs 60\n' \
        "$state/acct.json" "$1" >"$state/bjs.conf"
    bjsctl reload
    eventually 10 all_free 2
}

uses() { # POLICY
    local job
    pool "$1"
    rm -f "$work"/*
    job=$(submit -n 2 "bpsh \$NODES '$body' burn 300")
    ended "$job"
    ok "$how, $1: what has run on two nodes is added up" used "$job" 600 3000
    ok "$how, $1: it is in the accounting" eventually 10 accounted "$job" 400000
    job=$(submit "bpsh \$NODES '$body' burn 300; : >first; until [ -e go ]; do sleep 0.1; done")
    eventually 20 test -e "$work/first"
    ok "$how, $1: procspace is killed" killed procspace
    touch "$work/go"
    ended "$job"
    ok "$how, $1: what was used is not forgotten" used "$job" 300 1500
    job=$(submit --retry 1 "bpsh \$NODES '$body' burn \$((500 - JOBATTEMPT * 200)); [ \$JOBATTEMPT = 2 ]")
    ended "$job"
    ok "$how, $1: the last attempt is told of" used "$job" 100 299
    bjssub -i "bpsh \$NODES '$body' burn 200" >"$work/said"
    job=$(id_of <"$work/said")
    ok "$how, $1: an interactive job, too" used "$job" 200 1000
}

cat >"$tmp/twice" <<'EOS'
#!/bin/bash
hold() { # 45 MB, until it is let go or killed
    bpsh $NODES sh -c "{ head -c 45M /dev/zero; until [ -e /go$JOBID ]; do echo; sleep 0.1; done; } |
        tail -c 45M >/dev/null"
}
hold & hold &
wait -n
echo $? >first
bpsh $NODES touch /go$JOBID
wait
EOS
limits() {
    local job program
    rm -f "$work"/*
    for program in head tail touch sleep; do # what a shell there looks for has to be there
        bpsh 0-1 $program --version >/dev/null
    done
    job=$(submit --mem 60M "bpsh \$NODES sh -c 'head -c 100M /dev/zero | tail -c 90M >/dev/null'")
    ended "$job"
    if [ "$(field "$job" mem_not_limited)" = False ]; then
        ok 'a job that needs more memory than --mem is killed' is 137 field "$job" exit
        job=$(submit --mem 200M "bpsh \$NODES sh -c 'head -c 100M /dev/zero | tail -c 90M >/dev/null'")
        ended "$job"
        ok 'one that does not is not' is 0 field "$job" exit
        job=$(submit --mem 60M -s 30 <"$tmp/twice")
        ended "$job"
        ok 'all that it has on a node counts together' is 137 cat "$work/first"
    else
        ok 'memory cannot be limited here: it is said' has '^Not limited +memory' bjsstat "$job"
    fi
    job=$(submit --cpus 1 -O took "from=\$(date +%s%N); bpsh \$NODES,\$NODES '$body' burn 500; echo \$((\$(date +%s%N) - from))")
    ended "$job"
    if [ "$(field "$job" cpus_not_limited)" = False ]; then
        ok 'one processor has a second to do for twice half a second' test "$(cat "$work/took")" -gt 850000000
    else
        ok 'processors cannot be limited here: it is said' has '^Not limited .*processors' bjsstat "$job"
    fi
    ok 'no group is left of it' eventually 10 is '' \
        find /sys/fs/cgroup -type d -path "*clustermatic-$cluster*" -name 'job-*'
}

how=v2
export CM_CGROUP=v2
cluster_up 2
uses simple
uses shared
limits
ok 'bjsstat shows what was used' has '^Used on nodes +user [0-9.]+ s, system [0-9.]+ s, memory [0-9]+ kB$' bjsstat 1
clustermatic down --purge --name "$cluster"

how=none
export CM_CGROUP=none
cluster_up 2
uses simple
job=$(submit --mem 60M --cpus 1 'bpsh $NODES true; echo $JOBMEM $JOBCPUS' -O limits)
ended "$job"
ok 'without control groups a job runs all the same' is 0 field "$job" exit
ok 'it is said that it was not limited' \
    has '^Not limited +memory, processors: a node has no control groups for that$' bjsstat "$job"
job=$(submit 'bpsh $NODES true')
ended "$job"
ok 'and nothing is said of one that asked for none' not has 'Not limited' bjsstat "$job"
done_testing
