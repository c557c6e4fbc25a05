#!/bin/bash
# crowd.sh spawn|bpsh N PROGRAM - what N processes cost in memory, here
#
# Starts N of PROGRAM (spawn: on the spot; bpsh: on nodes 0-15, so that N ghosts
# are here) in a control group for memory, and prints the KiB of it that each
# takes, kernel memory included. The names and arguments that ps shows must be
# the program's own. Ends what it has started.
set -u
kind=$1 n=$2 program=$3
fail() { echo "crowd.sh: $*" >&2; exit 1; }

if grep -qs '\<memory\>' /sys/fs/cgroup/cgroup.controllers; then
    group=/sys/fs/cgroup/cm-crowd-$$ usage=memory.current
else
    group=/sys/fs/cgroup/memory/cm-crowd-$$ usage=memory.usage_in_bytes
fi
mkdir "$group" 2>/dev/null && [ -e "$group/$usage" ] || fail 'no control group for memory'
leader=
finish() {
    trap - EXIT
    if [ -n "$leader" ]; then
        kill -TERM -- "-$leader" 2>/dev/null
        for _ in $(seq 600); do
            [ -s "$group/cgroup.procs" ] || break
            sleep 0.1
        done
        wait "$leader" 2>/dev/null
    fi
    rmdir "$group" 2>/dev/null
}
trap finish EXIT
trap 'exit 143' TERM INT HUP

set -m # a process group for what is started
case $kind in
spawn)
    bash -c 'echo $$ >"$1/cgroup.procs"; for ((i = 0; i < $2; i++)); do "$3" & done; wait' \
        crowd "$group" "$n" "$program" &
    ;;
bpsh)
    spec=$(for ((i = 0; i < n; i++)); do echo $((i % 16)); done | paste -sd,)
    bash -c 'echo $$ >"$1/cgroup.procs"; exec bpsh -N "$2" "$3" 2>/dev/null' \
        crowd "$group" "$spec" "$program" &
    ;;
*) fail "$kind: want spawn or bpsh" ;;
esac
leader=$!
set +m
running() {
    if [ "$kind" = spawn ]; then pgrep -c -P "$leader"
    else bpstat -p | tail -n +2 | wc -l; fi
}
before=$(running)
for _ in $(seq 900); do
    [ "$(running)" -ge "$n" ] && break
    sleep 0.1
done
[ "$(running)" -ge "$n" ] || fail "only $(running) of $n are there (${before} at first)"
names=$(ps -o args= --ppid "$leader" | sort | uniq -c | sed 's/^ *//')
[ "$names" = "$n $program" ] || fail "ps shows: $names"
awk -v n="$n" '{ printf "%.2f\n", $1 / 1024 / n }' "$group/$usage"
