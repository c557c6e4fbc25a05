# jobs.sh - for tests of the scheduler, after lib.sh
# shellcheck shell=bash

# The id that bjssub says: id=$(bjssub ... | id_of)
id_of() { sed -n 's/^JOBID=//p'; }
# field ID NAME: what bjsstat --json says of a job
field() { bjsstat --json "$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$2"; }
in_state() { [ "$(field "$1" state)" = "$2" ]; } # ID STATE
ended() { eventually "${2:-40}" in_state "$1" "done"; } # ID [SECONDS]
no_job() { [ "$(bjsstat --json | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["jobs"]))')" = 0 ]; }
all_free() { # N [POOL]: all its nodes are up, and no job has any
    bjsstat -p "${2:-default}" | grep -q "^Pool: .*(total/up/free): $1/$1/$1\$"
}
# The scheduler hears of nodes that are up a moment later than bpstat does; until
# then it gives a job others than the first ones.
up_for_jobs() { ok 'the scheduler has all nodes' eventually 20 all_free "$1"; } # N

jobs_cluster() { # N: nodes, in one pool that gives up soon; work: a folder for everybody
    need bin/bjssub bin/bjsstat bin/bjsctl bin/bpsh libexec/clustermatic/sched \
        libexec/clustermatic/bpvnode
    cluster_up "$1"
    work=$tmp/work
    mkdir -m 777 "$work"
    cat >"$state/bjs.conf" <<EOF
pool default
    policy filler
    nodes 0-$(($1 - 1))
    defaultsecs 60
    killsecs 1
EOF
    bjsctl reload
}

pid_is_new() { # SERVICE PID: another one, and it is ready
    local p
    p=$(pid_of "$1") && [ "$p" != "$2" ] && [ "$(s6-svstat -o ready "$run/s6/$1")" = true ]
}
killed() { # SERVICE: with -9, and wait for the next one
    local old
    old=$(pid_of "$1") && kill -KILL "$old" && eventually 20 pid_is_new "$1" "$old"
}
