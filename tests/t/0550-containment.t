#!/bin/bash
# shellcheck disable=SC2317 # functions are called by ok and eventually
# 0550-containment: what a launch starts is held together, whoever its parent is
# by then: ended with it, known to be gone, limited, and reported when it sticks
. tests/lib.sh

need bin/bpsh bin/bpps bin/bpevents tests/body libexec/clustermatic/bpvnode \
    libexec/clustermatic/procspace libexec/clustermatic/nodemgr
/usr/bin/python3 -c 'import zmq, msgpack' 2>/dev/null ||
    plan_skip 'needs python3-zmq and python3-msgpack'

# The cluster's folder in the tree that its launches are in.
folder() {
    find /sys/fs/cgroup -maxdepth 2 -type d -name "clustermatic-$cluster" |
        grep -Ev '/(memory|cpu|cpu,cpuacct)/' | head -n 1
}
sleeps() { # N: so many sleep on node 0
    [ "$(bpps 0 | grep -c ' sleep 1000$')" = "$1" ]
}
launch_of() { # BPSH
    local ghost
    ghost=$(pgrep -P "$1" | head -n 1)
    [ -n "$ghost" ] && launch=$(tr '\0' '\n' <"/proc/$ghost/environ" | sed -n 's/^CM_LAUNCH=//p') &&
        [ -n "$launch" ]
}
end_launch() { tests/ask.py procspace.end_launch "{\"launch\": $launch}"; }
said() { grep -q "\"topic\":\"$1\".*\"launch\":$launch," "$tmp/events"; }
kind_of() { if [ "$mode" = v2 ]; then [ -e "$1/cgroup.kill" ]; else [ -e "$1/freezer.state" ]; fi; }
gone() { ! kill -0 "$1" 2>/dev/null; }
ended() { wait "$job" 2>/dev/null; gone "$job"; }
node_is() { [ "$(bpstat --json 0 | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["state"])')" = "$1" ]; }
# A child, a daemon in a session of its own, a process in a group of its own.
begin() { # sets job and launch
    bpsh -N 0 sh -c 'sleep 1000 & (setsid sleep 1000 &); set -m; sleep 1000 & wait' & job=$!
    on_exit+=("kill -9 $job 2>/dev/null")
    eventually 10 sleeps 3 && launch_of $job
}
cluster_with() { # MODE
    export CM_CGROUP=$1
    cluster_up 1
    bpsh 0 sleep 0
    bpsh -N 0 setsid true
    bpevents --filter launch. >"$tmp/events" &
    events=$!
    on_exit+=("kill $events 2>/dev/null")
}
cluster_without() {
    local dir
    dir=$(folder)
    kill $events
    clustermatic down --name "$cluster"
    [ ! -e "${dir:-/none}" ]
}

limits() {
    # One process alone: of several the kernel chooses, now and then a second one too,
    # before what the first had is back.
    takes=(dd if=/dev/zero of=/dev/null bs=60M count=1)
    bpsh 0 dd --version >"$tmp/out"
    if bpsh -N --mem 100M 0 true 2>"$tmp/why"; then
        ok 'memory: enough of it' bpsh -N --mem 200M 0 "${takes[@]}"
        ok 'memory: who needs more is killed' exits 255 bpsh -N --mem 20M 0 "${takes[@]}"
        ok 'and so is one that a shell has started' exits 137 \
            bpsh -N --mem 20M 0 sh -c '"$@"; exit' sh "${takes[@]}"
    else
        ok 'memory cannot be limited here: refused, and why' \
            grep -q 'no control group for memory' "$tmp/why"
    fi
    if bpsh -N --cpus 0.5 0 true 2>"$tmp/why"; then
        from=$(date +%s%N)
        bpsh -N --cpus 0.1 0 "$CM_BUILD/tests/body" burn 200
        # 200 ms of processor time at a tenth
        ok 'processors: a tenth of one is not more' test $(($(date +%s%N) - from)) -gt 1000000000
    else
        ok 'processors cannot be limited here: refused, and why' \
            grep -q 'no control group for processors' "$tmp/why"
    fi
    ok 'a size that is none' exits 2 bpsh --mem much 0 true
    ok 'less than no processor' exits 2 bpsh --cpus -1 0 true
    ok 'limits of the shell go along' is '77 1024' \
        bash -c 'ulimit -S -n 77; ulimit -f 512; bpsh 0 sh -c "ulimit -n; ulimit -f" | xargs'
}

# In a frozen group SIGKILL does nothing: as stuck as in a driver that hangs.
stuck() {
    local tree pid
    tree=$(awk '$3 == "cgroup" && $4 ~ /(^|,)freezer(,|$)/ { print $2; exit }' /proc/self/mounts)
    if [ -z "$tree" ] || ! mkdir "$tree/cm-$cluster"; then
        skip 'a process that does not die' 'no way to make one here'
        return
    fi
    begin
    pid=$(head -n 1 "$dir/n0/$launch/cgroup.procs")
    echo "$pid" >"$tree/cm-$cluster/cgroup.procs"
    echo FROZEN >"$tree/cm-$cluster/freezer.state"
    on_exit+=("rmdir $tree/cm-$cluster")
    end_launch
    ok 'a process that does not die: told' eventually 12 said launch.stuck
    ok 'with its kernel stack' grep -q '"stack":".*refrigerator' "$tmp/events"
    # shellcheck disable=SC2046
    why_stuck() { bpps --why $(bpstat -p | awk 'NR > 1 { print $1 }'); }
    ok 'bpps --why tells it' has 'runs since .*; process .* does not die of SIGKILL' why_stuck
    ok 'its node is held' eventually 5 node_is error
    ok 'and says why' has 'does not die' bpstat --json 0
    ok 'the launch is not empty' not said launch.empty
    echo THAWED >"$tree/cm-$cluster/freezer.state"
    ok 'when it goes, it is' eventually 5 said launch.empty
}

for mode in v2 v1; do
    cluster_with $mode
    dir=$(folder)
    if [ -z "$dir" ]; then
        skip "$mode: control groups" 'none of this kind here'
        cluster_without
        continue
    fi
    ok "$mode: a launch starts a child, a daemon, a group" begin
    ok "$mode: it has a group of its own, of this kind" kind_of "$dir/n0/$launch"
    ok "$mode: its end" end_launch
    ok "$mode: ends all of it" eventually 10 sleeps 0
    ok "$mode: its bpsh too" eventually 10 ended
    ok "$mode: is told when the last is gone" eventually 5 said launch.empty
    ok "$mode: its group is gone" not test -e "$dir/n0/$launch"

    bpsh -N 0 sh -c '(setsid sleep 1000 &); sleep 2' & job=$!
    eventually 5 launch_of $job
    wait $job
    ok "$mode: a launch is done while its daemon runs" eventually 5 said launch.done
    ok "$mode: but not empty" not said launch.empty
    ok "$mode: the daemon can still be ended as part of it" end_launch
    ok "$mode: then it is" eventually 6 said launch.empty
    if [ $mode = v2 ]; then
        limits
        stuck
    fi
    ok "$mode: the cluster leaves no group" cluster_without
done

cluster_with none
known() { [ "$(bpstat -p | wc -l)" -ge "$1" ]; } # of processes, and a heading
ok 'no control groups: a launch' begin
ok 'what it has started is known' eventually 5 known 5
ok 'its end' end_launch
ok 'ends all that is known of it' eventually 10 sleeps 0
ok 'its bpsh too' eventually 10 ended
ok 'and is told' eventually 5 said launch.empty
ok '--mem is refused' fails_with 'no control group for memory' bpsh --mem 100M 0 true
ok 'the cluster goes' cluster_without
done_testing
