#!/bin/bash
# 0340-two-clusters: the same node numbers in two clusters at once, each with
# its own processes; nothing of either is left, however it ended
. tests/lib.sh

need_root
need bin/bpsh bin/bpstat bin/bpctl libexec/clustermatic/bpvnode libexec/clustermatic/procspace
a=t$$a b=t$$b
also_end $a
use_cluster $a
also_end $b
in_() { # NAME CMD...
    local CM_RUNDIR=/run/clustermatic-$1
    export CM_RUNDIR
    shift
    "$@"
}
# Every process of this cluster, ghosts too: by the run folder in its environment
members() {
    # one process for all of them: on a busy machine each costs
    grep -lsxzE "CM_(SUPERVISED|GHOST)=(.*:)?/run/clustermatic-$1(/.*)?" /proc/[0-9]*/environ |
        sed 's|^/proc/\([0-9]*\)/.*|\1|'
    return 0
}
# Their namespaces that are not ours, of all kinds: held open, so that no new one
# gets the number of an old one, and listed in a file
declare -A held=()
hold_spaces() { # NAME
    local p n space fd
    for p in $(members "$1") $(pgrep -f "bpinit --space /run/clustermatic-$1/"); do
        for n in cgroup ipc mnt net pid uts; do
            space=$(readlink "/proc/$p/ns/$n") || continue
            [ -z "${held[$space]:-}" ] && ! grep -qxF "$space" "$tmp/ours" &&
                { exec {fd}<"/proc/$p/ns/$n"; } 2>/dev/null && held[$space]=$fd
        done
    done
    printf '%s\n' "${!held[@]}" >"$tmp/spaces.$1"
}
let_go() {
    local fd
    for fd in "${held[@]}"; do exec {fd}<&-; done
    held=()
}
spaces_left() {
    readlink /proc/[0-9]*/ns/{cgroup,ipc,mnt,net,pid,uts} 2>/dev/null | sort -u | grep -xFf "$1"
}
readlink /proc/self/ns/{cgroup,ipc,mnt,net,pid,uts} >"$tmp/ours"
about() { # NAME: what the machine shows of it, beside processes
    ls -d /run/clustermatic-"$1"* 2>/dev/null
    grep -h "clustermatic-$1\b" /proc/self/mounts
    find /sys/fs/cgroup -maxdepth 4 -name "*clustermatic-$1*" 2>/dev/null
    return 0
}
links() { ls /sys/class/net; }
links >"$tmp/links"
nothing_left() { # NAME
    [ -z "$(members "$1")" ] && [ -z "$(about "$1")" ] && ! spaces_left "$tmp/spaces.$1" &&
        links | diff "$tmp/links" -
}

# --- side by side

ok 'one comes up' clustermatic up --name $a --virtual 2
ok 'another beside it' clustermatic up --name $b --virtual 3
in_ $a bpsh 1 -O /tmp/whose echo first
in_ $b bpsh 1 -O /tmp/whose echo second
ok "node 1 of one" is first in_ $a bpsh 1 cat /tmp/whose
ok 'is not node 1 of the other' is second in_ $b bpsh 1 cat /tmp/whose
ok 'each has its number of nodes' is '0-1 0-2' \
    bash -c "echo \$(CM_RUNDIR=/run/clustermatic-$a bpstat | awk 'NR == 2 { print \$1 }'
        CM_RUNDIR=/run/clustermatic-$b bpstat | awk 'NR == 2 { print \$1 }')"
ok 'the keys are their own' not cmp /run/clustermatic-{$a,$b}/master.pub

mkfifo "$tmp/hold"
in_ $a timeout -s KILL 60 bpsh 0-1 sh -c 'read -r x; exit 6' <>"$tmp/hold" & job_a=$!
in_ $b timeout -s KILL 60 bpsh 0-1 sleep 50 </dev/null 2>/dev/null & job_b=$!
on_exit+=("kill $job_a $job_b 2>/dev/null")
both() { [ "$(in_ $a bpstat -p | wc -l)$(in_ $b bpstat -p | wc -l)" = 33 ]; }
ok 'both run something on nodes 0 and 1' eventually 10 both
pid=$(in_ $a bpstat -p 1 | awk 'NR == 2 { print $1 }')
ok 'a process of one is none of the other' has '^304 .*not on any node' \
    in_ $b /usr/bin/python3 tests/intruder.py gate procspace.signal "{\"sig\": 9, \"pid\": $pid}"
ok 'nor its ghost a ghost there' has 'is not a ghost of this cluster' \
    in_ $b /usr/bin/python3 tests/intruder.py gate procspace.launch "{\"launch\": 7, \"nodes\": [1],
        \"pids\": [$pid], \"argv\": [\"true\"], \"env\": [], \"cwd\": \"/\", \"umask\": 18,
        \"limits\": [], \"path\": \"/bin/true\", \"streams\": []}"
hold_spaces $b
ok 'the nodes have namespaces of their own, of every kind' is 6 bash -c \
    "cut -d: -f1 '$tmp/spaces.$b' | sort -u | wc -l"

# --- one ends, the other does not

ok 'the other ends' clustermatic down --name $b
ok 'its bpsh sees its processes die' exits 255 wait $job_b
ok 'nothing of it is left' eventually 5 nothing_left $b
let_go
echo >"$tmp/hold"
ok 'the first has not noticed' exits 6 wait $job_a
ok 'and works' is first in_ $a bpsh 1 cat /tmp/whose

# --- ended by force

hold_spaces $a
in_ $a timeout -s KILL 60 bpsh 0-1 sleep 50 </dev/null 2>/dev/null & job_a=$!
on_exit+=("kill $job_a 2>/dev/null")
two() { [ "$(in_ $a bpstat -p | wc -l)" = 3 ]; }
eventually 10 two
kill -9 "$(cut -d' ' -f1 "/run/clustermatic-$a/svscan")"
ok 'down after its supervisor was killed' clustermatic down --name $a
ok 'its bpsh sees its processes die' exits 255 wait $job_a
ok 'nothing of it is left' eventually 5 nothing_left $a
let_go

# --- that never came up

mkdir "$tmp/libexec"
ln -s "$libexec"/* "$tmp/libexec/"
rm "$tmp/libexec/procspace"
printf '#!/bin/sh\necho "no luck today" >&2\nexit 1\n' >"$tmp/libexec/procspace"
chmod 755 "$tmp/libexec/procspace"
ok 'up with a service that dies says which and why' \
    fails_with 'procspace is not ready .*no luck today' \
    env CM_LIBEXEC="$tmp/libexec" clustermatic up --name $b --virtual 2
hold_spaces $b
if [ -e "/run/clustermatic-$b" ]; then
    ok 'its remains can be ended' clustermatic down --name $b
fi
ok 'nothing of it is left' eventually 5 nothing_left $b
let_go
done_testing
