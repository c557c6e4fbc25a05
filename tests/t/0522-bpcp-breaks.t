#!/bin/bash
# 0522-bpcp-breaks: copies that break, and nodes that do
. tests/lib.sh

need bin/bpcp libexec/clustermatic/bpcopy
cluster_up 8

bpcp() { timeout -k 1 60 "$CM_BUILD/bin/bpcp" "$@"; }
sums() { bpsh "$1" sha256sum "$2" | cut -d' ' -f1 | sort -u; }
sum() { sha256sum <"$1" | cut -d' ' -f1; }
# What the master has put on the cluster's wire, in bytes.
sent() { awk '$1 == "cm0:" { print $10 }' "/proc/$(pid_of procspace)/net/dev"; }
less_than() { [ "$1" -lt "$2" ] || { echo "$1, want less than $2"; return 1; }; }
init() { pgrep -x -P "$(pid_of "node.$1")" bpinit; }
helper_on() { pgrep -x -P "$(agent "$1")" bpcopy | head -n 1; }
# What has arrived of a file that is on its way; looked at from outside, to be quick.
partial_of() {
    local file
    for file in "/proc/$(init "$1")/root/tmp/".bpcp-*; do
        [ ! -s "$file" ] || basename "$file"
    done
}
node_has_some() { [ -n "$(partial_of "$1")" ]; }
none_left() { # of this cluster
    local pid
    for pid in $(pgrep -x bpcopy); do
        ! grep -qsz "^CM_RUNDIR=$run\$" "/proc/$pid/environ" || return 1
    done
}

# --- a copy that breaks

head -c 80000000 /dev/urandom >"$tmp/big"
begin() { # begin ARG...: a bpcp in the background
    "$CM_BUILD/bin/bpcp" "$@" >/dev/null 2>"$tmp/broken" &
    copy=$!
}
# in_midst NODES NODE CMD...: CMD succeeds while a copy to NODES stands still, of which
# NODE has some, but not nearly all. One that was too quick for that is made again.
in_midst() {
    local nodes=$1 node=$2 try size rc
    shift 2
    for try in {1..50}; do
        begin "$tmp/big" "$nodes:/tmp/"
        until node_has_some "$node" || ! kill -0 $copy 2>/dev/null; do :; done
        if kill -STOP $copy 2>/dev/null; then
            size=$(stat -c %s "/proc/$(init "$node")/root/tmp/$(partial_of "$node")" 2>/dev/null)
            if [ "${size:-0}" -gt 0 ] && [ "$size" -lt 40000000 ]; then
                "$@"
                rc=$?
                kill -CONT $copy 2>/dev/null
                return $rc
            fi
            kill -CONT $copy
        fi
        wait $copy
        bpsh "$nodes" rm -f /tmp/big
    done
    echo "$try copies were all quicker"
    return 1
}
kill_copy() {
    kill -9 $copy
    { wait $copy; } 2>/dev/null
    eventually 10 none_left
}
ok 'a copy is killed in its midst' in_midst 4-5 5 kill_copy
ok 'a copy that was killed leaves nobody' eventually 10 none_left
ok 'and no file' exits 1 bpsh 4,5 test -e /tmp/big
ok 'but what has arrived' node_has_some 4
name=$(partial_of 4)
have=$(bpsh 4,5 stat -c %s "/tmp/$name" | sort -n | head -n 1)
was=$(sent)
ok 'repeated' bpcp "$tmp/big" 4-5:/tmp/
now=$(sent)
ok 'it ends right' is "$(sum "$tmp/big")" sums 4-5 /tmp/big
ok 'only the rest was sent' less_than $((now - was)) $((2 * (80000000 - have) * 11 / 10 + 2000000))
ok 'and nothing is left over' is big bpsh 4 ls -A /tmp

ok 'another one as well' in_midst 7 7 kill_copy
name=$(partial_of 7)
echo spoiled | bpsh 7 dd of="/tmp/$name" conv=notrunc status=none
ok 'what is left and was spoiled is noticed' fails_with '^7: /tmp/big: .*copy it again' \
    bpcp "$tmp/big" 7:/tmp/
ok 'and taken away' is '' bpsh 7 ls -A /tmp
ok 'the next copy is right' bpcp "$tmp/big" 7:/tmp/
ok 'as can be seen' is "$(sum "$tmp/big")" sums 7 /tmp/big

# --- nodes that break in the middle

bpsh 4,5,7 rm -f /tmp/big
kill_helper() { kill -9 "$(helper_on 0)"; }
ok 'the process of a node that passes on is killed' in_midst 0-7 0 kill_helper
ok 'and the copy goes on' wait $copy
ok 'all have it' is "$(sum "$tmp/big")" sums 0-7 /tmp/big
bpsh 0-7 rm -f /tmp/big
kill_agent() { kill -9 "$(agent 1)"; }
ok 'the agent of one, too' in_midst 1-4 1 kill_agent
ok 'the copy goes on' wait $copy
ok 'all have it' is "$(sum "$tmp/big")" sums 1-4 /tmp/big
bpsh 1-4 rm -f /tmp/big
kill_procspace() { kill -9 "$(pid_of procspace)"; }
ok 'procspace, too' in_midst 4-7 4 kill_procspace
ok 'the copy goes on' wait $copy
ok 'all have it' is "$(sum "$tmp/big")" sums 4-7 /tmp/big
bpsh 4-7 rm -f /tmp/big
down() { [ "$(bpstat -s "$1")" = down ]; }
halt_it() { bpctl -S 4 -H && eventually 10 down 4; }
ok 'a node is halted in the middle' in_midst 4-7 4 halt_it
ok 'which is a failure' exits 1 wait $copy
ok 'and is named' has '^4: ' cat "$tmp/broken"
ok 'the others have it' is "$(sum "$tmp/big")" sums 5-7 /tmp/big
done_testing
