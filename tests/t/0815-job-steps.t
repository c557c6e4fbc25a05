#!/bin/bash
# 0815-job-steps: nodemgr and procspace killed at every step of a job's life: queued,
# claiming, starting, running, launching, ending, giving its nodes back. No job is
# lost, none runs twice, its output and status are whole, no node leaks.
. tests/lib.sh
. tests/jobs.sh

jobs_cluster 2
a=12345
cd "$work" || exit 1

idle() { all_free 2; }
starter() { # the process that sched has runners started by
    local p
    for p in $(pgrep -x bjs-starter); do
        grep -qsz "^CM_SUPERVISED=$run\$" "/proc/$p/environ" && echo "$p"
    done
}
is_stopped() { grep -q '^State:.T' "/proc/$1/status"; }
hold() { # hold SERVICE: stopped, until it is let go or killed
    case $1 in
    starter) held=$(starter) ;;
    *) held=$(pid_of "$1") ;;
    esac
    kill -STOP "$held" && eventually 10 is_stopped "$held"
}
# Killed where it is, held or not; what else is held goes on, while it is not there.
strike() { # strike SERVICE
    local old
    old=$(pid_of "$1") && kill -KILL "$old" || return 1
    kill -CONT "${held:-$old}" 2>/dev/null
    held=
    eventually 20 pid_is_new "$1" "$old"
}
held=
# One launch on each of its nodes, when it may; each line once, and a status of its own.
submit() {
    rm -f go launch out
    job=$(as $a bjssub -n 2 -O out 'echo $JOBID >>ran; echo begun
        until [ -e launch ]; do sleep 0.05; done
        bpsh -p $NODES hostname || exit 3; echo launched
        until [ -e go ]; do sleep 0.05; done
        echo over; exit 7' | id_of)
}
says() { grep -qsx "$1" out; }
outcome() { # what became of it
    touch launch go
    ok "$1: the job ends" eventually 40 in_state "$job" "done"
    ok "$1: with its own status" is 7 field "$job" exit
    ok "$1: it ran once" is 1 grep -cx "$job" ran
    ok "$1: with all of its output" is $'  0: n0\n  1: n1\nbegun\nlaunched\nover' sort out
    ok "$1: no node has leaked" eventually 20 idle
}

for victim in nodemgr procspace; do
    bjsctl drain default
    submit
    ok 'queued: it is' in_state "$job" queued
    ok "queued: $victim is killed" strike $victim
    bjsctl undrain default
    outcome "queued, $victim"

    hold nodemgr
    submit
    ok 'claiming: it has nodes that nodemgr has not given yet' eventually 10 in_state "$job" claiming
    ok "claiming: $victim is killed" strike $victim
    outcome "claiming, $victim"

    hold starter
    submit
    ok 'starting: its runner is not there yet' eventually 10 in_state "$job" starting
    ok "starting: $victim is killed" strike $victim
    outcome "starting, $victim"

    submit
    ok 'running: it does' eventually 10 says begun
    ok "running: $victim is killed" strike $victim
    outcome "running, $victim"

    submit
    eventually 10 says begun
    hold procspace
    touch launch
    ok 'launching: its bpsh is there' eventually 10 pgrep -r R,S,D -u $a -x bpsh
    ok "launching: $victim is killed" strike $victim
    outcome "launching, $victim"

    submit
    touch launch
    eventually 10 says launched
    hold procspace
    touch go
    ok 'ending: what it left is being ended' eventually 10 in_state "$job" ending
    ok "ending: $victim is killed" strike $victim
    outcome "ending, $victim"

    submit
    touch launch
    eventually 10 says launched
    hold nodemgr
    touch go
    ok 'giving back: its nodes are not yet' eventually 10 in_state "$job" "done"
    ok 'giving back: they are still taken' not idle
    ok "giving back: $victim is killed" strike $victim
    outcome "giving back, $victim"
done
ok 'the nodes belong to root again' has '^0-1 +up +---x------ root +root' bpstat
done_testing
