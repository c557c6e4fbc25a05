#!/bin/bash
# 0330-full-disk: a node's root, the master's state or its logs are full: what
# needs the room is refused in words, the rest goes on, and with room again all does
. tests/lib.sh

need_root
need bin/bpsh bin/bpctl bin/bpstat libexec/clustermatic/bpvnode \
    libexec/clustermatic/procspace libexec/clustermatic/iofwd
node_up() { [ "$(bpstat -s "$1")" = up ]; }
# Something that runs until it is told to end, on nodes $1; its bpsh is $job
start_job() {
    rm -f "$tmp/hold"
    mkfifo "$tmp/hold"
    timeout -s KILL 60 bpsh "$1" sh -c 'echo here; read -r x; exit 5' <>"$tmp/hold" >"$tmp/job" &
    job=$!
    on_exit+=("kill $job 2>/dev/null")
    eventually 5 here "$2"
}
here() { [ "$(grep -cs here "$tmp/job")" = "$1" ]; }
end_job() {
    echo go >"$tmp/hold"
    exits 5 wait $job
}

# --- a node's root

program() { # NAME BYTES: runs like true, but is larger
    cp /bin/true "$tmp/$1"
    head -c "$2" /dev/urandom >>"$tmp/$1"
}
for i in 1 2 3 4 5 6 7 8; do program small$i 3000000; done
program large 16500000
program huge 40000000
cluster_up 2 --node-size 20m
start_job 0 1
ok 'a program larger than the root is refused, with the reason' \
    fails_with "^0: .*$tmp/huge \([34][0-9]+ kB\) does not fit: No space left on device; node root has [0-9]+ kB free" \
    bpsh 0 "$tmp/huge"
ok 'on two nodes with one line each' is 2 bash -c "bpsh 0-1 '$tmp/huge' 2>&1 | wc -l"
ok 'smaller ones run, more than fit together: the oldest make room' bash -ec \
    "for i in 1 2 3 4 5 6 7 8; do bpsh 0 '$tmp'/small\$i; done"
ok 'and again' bpsh 0 "$tmp/small1"
ok 'a user fills the rest' fails_with 'No space left' bpsh 0 dd if=/dev/zero of=/tmp/fill bs=64k
ok 'what is on the node still runs' bpsh 0 sh -c 'exit 0'
ok 'what is not takes the place of what was not used for longest' bpsh 0 tsort /dev/null
bpsh 0 dd if=/dev/zero of=/tmp/fill2 bs=64k 2>/dev/null
ok 'a larger one does not fit' fails_with "^0: .*large .*does not fit: No space left on device" \
    bpsh 0 "$tmp/large"
ok 'the other node does not mind' bpsh 1 "$tmp/large"
ok 'the node is up all the same' has '^0-1 +up' bpstat
ok 'its user makes room' bpsh 0 rm /tmp/fill /tmp/fill2
ok 'and all is as before' bpsh 0 "$tmp/large"
ok 'what ran ends as it should' end_job
clustermatic down --name "$cluster"

# --- the master's state and logs

disk=$tmp/disk
mkdir "$disk"
mount -t tmpfs -o size=4m none "$disk"
mkdir "$disk/state" "$disk/log"
cluster=t${$}f
use_cluster "$cluster"
export CM_STATEDIR=$disk/state CM_LOGDIR=$disk/log
on_exit+=("[ ! -e '$run' ] || clustermatic down" "umount -l '$disk'")
fill() { cat /dev/zero >"$disk/fill" 2>/dev/null; }
pids() { for s in busd procspace iofwd node.0; do pid_of $s; done; }

fill
ok 'up on a full disk is refused at once, with the reason' \
    fails_with "$disk/.*(No space left|is full)" timeout 15 clustermatic up --virtual 2
ok 'and leaves nothing' not test -e "$run"
rm "$disk/fill"
mount -o remount,ro "$disk"
ok 'so is one on a disk that cannot be written' \
    fails_with "$disk/.*Read-only file system" timeout 15 clustermatic up --virtual 2
ok 'and leaves nothing' not test -e "$run"
mount -o remount,rw "$disk"

ok 'with room it comes up' clustermatic up --virtual 2
start_job 0 1
before=$(pids)
fill
ok 'on a full disk a state is not set, and why' \
    fails_with 'the disk is full; make room on it, nothing is lost' bpctl -S 0 -s unavailable
ok 'nor a mode' fails_with 'the disk is full' bpctl -S 0 -m 100
ok 'they are as they were' has '^0-1 +up +---x--x--x' bpstat
ok 'programs start' is 2 bash -c 'bpsh 0-1 echo hi | wc -l'
ok 'and end, with their status' exits 7 bpsh 1 sh -c 'exit 7'
ok 'processes run on' kill -0 $job
ok 'many lines for a log that has no room' /usr/bin/python3 tests/intruder.py babble 2000
ok 'hold up nobody' is 2 bash -c 'timeout 10 bpsh 0-1 echo hi | wc -l'
space() { bpstat --json 1 | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["space"])'; }
was=$(space)
anew() { node_up 1 && [ "$(space)" != "$was" ]; }
ok 'a node is restarted' bpctl -S 1 -R
ok 'and comes up' eventually 20 anew
ok 'a service is killed' kill -9 "$(pid_of nodemgr)"
works() { timeout 10 bpsh 0-1 true; }
ok 'and serves again' eventually 15 works
ok 'though it cannot keep anything' fails_with 'the disk is full' bpctl -S 0 -s unavailable
rm "$disk/fill"
set_it() { bpctl -S 0 -s unavailable && bpctl -S 0 -s up; }
ok 'with room again it does' eventually 10 set_it
logged() { clustermatic logs busd | grep -q 'sent no envelope'; }
ok 'and the logs go on' eventually 20 logged
ok 'nobody else has died' is "$before" pids
ok 'what ran ends as it should' end_job
ok 'down' clustermatic down
ok 'leaves nothing in /run' not test -e "$run"
done_testing
