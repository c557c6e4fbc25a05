#!/bin/bash
# 0830-sched-disk: the disk that sched writes to is full: submissions are refused in
# words, nothing is started, what runs goes on, and its end is noted with room again
. tests/lib.sh
. tests/jobs.sh

need_root
need bin/bjssub bin/bjsstat bin/bjsctl libexec/clustermatic/sched libexec/clustermatic/bpvnode
disk=$tmp/disk
mkdir "$disk"
mount -t tmpfs -o size=6m none "$disk"
mkdir "$disk/state" "$disk/log"
cluster=t${$}d
use_cluster "$cluster"
export CM_STATEDIR=$disk/state CM_LOGDIR=$disk/log
on_exit+=("[ ! -e '$run' ] || clustermatic down" "umount -l '$disk'")
fill() { cat /dev/zero >"$disk/fill" 2>/dev/null; }
work=$tmp/work
mkdir "$work"

ok 'a cluster' clustermatic up --virtual 2
cd "$work" || exit 1
one=$(bjssub 'while [ ! -e go1 ]; do sleep 0.1; done; echo one >ran1; exit 3' | id_of)
two=$(bjssub 'while [ ! -e go2 ]; do sleep 0.1; done; echo two >ran2; exit 4' | id_of)
three=$(bjssub 'echo three >>ran3' | id_of)
ok 'two jobs run' eventually 10 in_state "$two" running
ok 'a third waits' in_state "$three" queued
fill
ok 'a submission is refused, with the reason' fails_with 'the disk is full; make room on it' bjssub true
ok 'a refused one is no job' fails_with 'No job 4 found' bjsstat 4
ok 'the jobs run on' kill -0 "$(pgrep -x "bjs-job $one" | head -n 1)"
touch go1
ok 'one ends' eventually 10 test -e ran1
sleep_a_turn() { bjsstat >/dev/null 2>&1; bjsstat >/dev/null 2>&1; }
sleep_a_turn
ok 'what could not be noted is not started: the third waits' not test -e ran3
ok 'bjsstat says why' fails_with 'nothing is started now: .*the disk is full' bash -c 'bjsstat >/dev/null; false'
old=$(pid_of sched)
kill -KILL "$old"
back() { local p; p=$(pid_of sched) && [ "$p" != "$old" ] && bjsstat >/dev/null; }
ok 'sched is killed, and is back' eventually 20 back
touch go2
ok 'the other ends' eventually 10 test -e ran2
ok 'submissions are still refused' fails_with 'the disk is full' bjssub true
rm "$disk/fill"
ok 'with room again the first end is noted' ended "$one"
ok 'with its status' is 3 field "$one" exit
ok 'the other too' ended "$two"
ok 'with its own' is 4 field "$two" exit
ok 'the third is run' ended "$three"
ok 'once' is three cat ran3
four=$(bjssub 'echo four >ran4' | id_of)
ok 'and jobs are taken again' ended "$four"
ok 'down' clustermatic down
done_testing
