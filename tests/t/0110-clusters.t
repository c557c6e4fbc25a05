#!/bin/bash
# 0110-clusters: up, status, down; two clusters side by side; nothing left
. tests/lib.sh

need_root
need libexec/clustermatic/busd libexec/clustermatic/nodemgr libexec/clustermatic/procspace \
    libexec/clustermatic/iofwd libexec/clustermatic/bpvnode

# Network namespaces in use by all processes, or by those given.
netns_ids() {
    local p
    [ $# -gt 0 ] || set -- /proc/[0-9]*
    for p; do
        readlink "/proc/${p#/proc/}/ns/net"
    done 2>/dev/null | sort -u
}
# Those of clusters beside us come and go.
links() { ls /sys/class/net; }
# Every process whose environment or command line speaks of this run folder.
processes_of() { # RUN
    grep -lsxz "CM_SUPERVISED=$1" /proc/[0-9]*/environ | sed 's|^/proc/\([0-9]*\)/.*|\1|' |
        grep -vx "$$"
    return 0
}
field() { python3 -c 'import json, sys
print(eval(sys.argv[1], {"s": json.load(sys.stdin)}))' "$1"; }
status() { clustermatic status --json --name "$1" | field "$2"; }

mounts >"$tmp/mounts.before"; links >"$tmp/links.before"
free=t$$b

ok 'no cluster: status says so' fails_with 'no cluster runs in /run/clustermatic-t' \
    clustermatic status --name "$free"
ok 'no cluster: down says so' fails_with 'no cluster runs in' clustermatic down --name "$free"
ok 'a name that cannot be is refused' fails_with 'want 1-32 letters' \
    clustermatic up --name ../x --virtual 1
ok '--virtual 0 is a mistake' exits 2 clustermatic up --name "$free" --virtual 0
ok 'and so is --virtual 1001' exits 2 clustermatic up --name "$free" --virtual 1001
ok 'a configuration that is not there is refused' fails_with 'No such file' \
    clustermatic up --name "$free" --config /no/such/file
ok 'an ordinary user is refused' fails_with 'only root' \
    as 65534 clustermatic up --name "$free" --virtual 1
ok 'none of these left a run folder' not test -e "/run/clustermatic-$free"

cluster_up 2
one=$cluster
ok 'two nodes up' is 2 status "$one" 's["nodes"]["states"]["up"]'
ok 'all services ready, with pids' is True status "$one" \
    'len(s["services"]) >= 6 and all(v["state"] == "ready" and v["pid"] > 1 for v in s["services"])'
ok 'the table shows them too' has '^nodemgr +ready +[0-9]+ +0 ' clustermatic status --name "$one"
ok 'up again: already up, fine' clustermatic up --name "$one" --virtual 2
ok 'up with another number of nodes is refused' fails_with 'already runs, with 2 virtual nodes' \
    clustermatic up --name "$one" --virtual 3
ok 'a user may ask for the status' has '^nodes: 2' as 65534 clustermatic status --name "$one"
ok 'env can be evaluated' is "$run" bash -c "$(clustermatic env --name "$one"); echo \$CM_RUNDIR"
ok 'env puts the programs on the path' is "$CM_BUILD/bin/bpsh" \
    env -i bash -c "$(clustermatic env --name "$one")"'; command -v bpsh'

also_end "$free"
ok 'a second cluster beside it' clustermatic up --name "$free" --virtual 1
ok 'its one node is up' is 1 status "$free" 's["nodes"]["states"]["up"]'
ok 'and the first is as it was' is 2 status "$one" 's["nodes"]["states"]["up"]'
ok 'the host has no new network interface' diff "$tmp/links.before" <(links)
ok 'down of the second' clustermatic down --name "$free" --purge
ok 'leaves no run folder' not test -e "/run/clustermatic-$free"
ok 'no process' is '' processes_of "/run/clustermatic-$free"
ok 'no state, since it was purged' not test -e "/var/lib/clustermatic-$free"
ok 'and the first runs on' is 2 status "$one" 's["nodes"]["states"]["up"]'

# shellcheck disable=SC2046 # one word a process
netns_ids $(processes_of "$run") | grep -vxF "$(readlink /proc/self/ns/net)" >"$tmp/netns"
ok 'it lives in network namespaces of its own: one for the master, one for each node' \
    is 3 bash -c "wc -l <'$tmp/netns'"
# Held open, so that no cluster beside this one gets a namespace of the same number.
# shellcheck disable=SC2034 # held
for p in $(processes_of "$run"); do exec {held}<"/proc/$p/ns/net"; done

# The supervisor killed: the cluster is not up, and up mends it.
kill -9 "$(cut -d' ' -f1 "$run/svscan")"
ok 'supervisor killed: status says that no cluster runs' eventually 20 fails_with 'no cluster runs' \
    clustermatic status --name "$one"
ok 'up ends the remains and starts again' clustermatic up --name "$one" --virtual 2
ok 'with two nodes' is 2 status "$one" 's["nodes"]["states"]["up"]'

# Programs running: they die with the cluster, their ghosts too, and bpsh ends.
bpsh 0-1 sleep 1000 </dev/null >/dev/null 2>&1 &
bpsh=$!
two_ghosts() { [ "$(pgrep -c -P $bpsh)" = 2 ]; }
ok 'two programs run' eventually 10 two_ghosts
ghosts=$(pgrep -P $bpsh | tr '\n' ' ')
kill -9 "$(cut -d' ' -f1 "$run/svscan")"
ok 'down works on remains' clustermatic down --name "$one"
ok 'no process is left' is '' processes_of "$run"
# shellcheck disable=SC2086 # one word a ghost
ok 'no ghost either' not kill -0 $ghosts
bpsh_ended() { ! kill -0 $bpsh; }
ok 'and bpsh has seen it' eventually 30 bpsh_ended
kill -KILL $bpsh 2>/dev/null # so that the next line cannot wait for ever
ok 'as a death by a signal' exits 255 wait $bpsh

same_mounts() { mounts | diff "$tmp/mounts.before" -; }
ok 'mounts are as before' eventually 30 same_mounts
none_of_them() { ! netns_ids | grep -xFf "$tmp/netns"; }
ok 'and nobody is in its network namespaces any more' eventually 30 none_of_them
done_testing
