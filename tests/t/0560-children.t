#!/bin/bash
# 0560-children: what processes on a node start stands on the master too, under
# its parent, in its group and session, with its name and pid; and acts alike
# shellcheck disable=SC2317 # functions are called by ok and eventually
. tests/lib.sh

need bin/bpsh bin/bpps libexec/clustermatic/bpvnode libexec/clustermatic/procspace tests/body
cluster_up 2
for prog in 'sleep 0' 'setsid --version' 'bash -c true' 'hostname'; do
    # shellcheck disable=SC2086
    bpsh 0 $prog >"$tmp/out"
done

# tree PID: it and what comes of it here, as "NAME(CHILD CHILD)".
tree() {
    local child out=''
    for child in $(pgrep -P "$1" | sort -n); do
        out+="$(tree "$child") "
    done
    printf '%s%s' "$(ps -o comm= -p "$1")" "${out:+(${out% })}"
}
child_of() { # PARENT ARGS: its one child with this command line
    local p
    for p in $(pgrep -P "$1"); do
        [ "$(ps -o args= -p "$p")" = "$2" ] && echo "$p" && return
    done
    return 1
}
# The same of node 0, of what it says itself.
node_tree() {
    bpps --json 0 | python3 -c 'import json, sys
procs = json.load(sys.stdin)["procs"]
def tree(pid):
    name = [p["comm"] for p in procs if p["pid"] == pid][0]
    kids = [tree(p) for p in sorted(p["pid"] for p in procs if p["ppid"] == pid)]
    return name + ("(" + " ".join(kids) + ")" if kids else "")
print(tree(int(sys.argv[1])))' "$1"
}
node_has() { bpps 0 | grep -Eq " $1\$"; }
node_pid() { bpps 0 | awk -v what=" $1\$" '$0 ~ what { print $2; exit }'; }
node_field() { # FIELD ARGS
    bpps --json 0 | python3 -c 'import json, sys
print(*[p[sys.argv[1]] for p in json.load(sys.stdin)["procs"] if p["args"] in (sys.argv[2], [sys.argv[2]])])' "$@"
}
field() { ps --no-headers -o "$1" -p "$2" | tr -d ' '; } # FIELD PID, here
tree_is() { [ "$(tree "$2")" = "$1" ]; }
ghost() { pgrep -P "$1" | head -n 1; }
gone() { ! kill -0 "$1" 2>/dev/null; }
state_is() { [ "$(ps -o stat= -p "$1" | cut -c1)" = "$2" ]; }
node_state_is() { [ "$(node_field state "$1")" = "$2" ]; }
started() { top=$(ghost "$job") && [ -n "$top" ]; }
run() { # SHELL SCRIPT...: on node 0; sets job and top
    bpsh -N 0 "$1" -c "$2" & job=$!
    on_exit+=("kill -9 $job 2>/dev/null")
    eventually 15 started
}
# Never for ever: what does not end by itself is ended.
ended() { eventually 15 gone "$job" || { kill -KILL "$job"; return 1; }; }

kill() { # never everybody, by a pid that is not known
    local word
    for word; do
        case $word in '' | -1 | 0 | 1) echo "kill: pid \"$word\""; return 1 ;; esac
    done
    builtin kill "$@"
}

# --- the tree

run sh 'sleep 101 & sh -c "sleep 102 | sleep 103; true"; wait'
ok 'pipelines and background jobs stand here as there' \
    eventually 15 tree_is 'sh(sleep sh(sleep sleep))' "$top"
a=$(child_of "$top" 'sleep 101')
ok 'as the node says itself' is "$(tree "$top")" node_tree "$top"
ok 'with their command lines' test -n "$a"
ok 'and the pids they have there' is "$a" node_pid 'sleep 101'
ok 'which are of the node lease' test "$a" -ge 1000000
middle=$(pgrep -P "$top" -x sh)
ok 'parents are the same too' is "$middle" node_field ppid 'sleep 102'
ok 'in the group of bpsh' is "$(field pgid "$top")" field pgid "$a"
listed() { bpstat -p | grep -q "^${a}[[:space:]]*0"; }
ok 'bpstat -p knows them' listed

# --- signals

kill "$a"
ok 'kill here ends it there' eventually 15 not node_has 'sleep 101'
ok 'and here' eventually 15 gone "$a"
kill -KILL "$middle"
ok 'SIGKILL of one in the middle' eventually 15 not node_has 'sh -c sleep 102.*true'
ok 'its children live on there' node_has 'sleep 10[23]'
b=$(node_pid 'sleep 102')
ok 'and here, as those of init' eventually 15 is 1 field ppid "$b"
kill "$b" "$(node_pid 'sleep 103')"
ok 'they can be ended' eventually 15 not node_has 'sleep 10[23]'
ok 'the shell ends' ended

run sh 'sleep 111; true'
eventually 15 child_of "$top" 'sleep 111' >"$tmp/out"
a=$(child_of "$top" 'sleep 111')
kill -STOP "$a"
ok 'SIGSTOP here stops it there' eventually 15 node_state_is 'sleep 111' T
kill -CONT "$a"
ok 'SIGCONT' eventually 15 node_state_is 'sleep 111' S
kill -TSTP "$a"
ok 'SIGTSTP' eventually 15 node_state_is 'sleep 111' T
ok 'its stand-in stops with it' eventually 15 state_is "$a" T
kill -CONT "$a"
ok 'and goes on' eventually 15 node_state_is 'sleep 111' S
bpsh 0 sh -c "kill -STOP $(node_pid 'sleep 111')"
ok 'stopped on the node: here too' eventually 15 state_is "$a" T
bpsh 0 sh -c "kill -CONT $(node_pid 'sleep 111')"
ok 'continued there' eventually 15 state_is "$a" S
bpsh 0 sh -c "kill -KILL $(node_pid 'sleep 111')"
ok 'killed there: gone here' eventually 15 gone "$a"
ok 'and the shell saw it' ended

# --- groups, sessions, daemons, names

run bash 'set -m; sleep 121 | sleep 122 & sleep 123 & wait'
ok 'groups of a shell with job control' eventually 15 tree_is 'bash(sleep sleep sleep)' "$top"
a=$(child_of "$top" 'sleep 121')
pgid_is() { [ "$(field pgid "$2")" = "$1" ]; }
ok 'one leads a group' eventually 15 pgid_is "$a" "$a"
ok 'the other end of the pipe is in it' eventually 15 pgid_is "$a" "$(child_of "$top" 'sleep 122')"
ok 'the other job is not' not pgid_is "$a" "$(child_of "$top" 'sleep 123')"
# Never signal group 1 or "everybody": that would be this whole machine.
[ "${a:-0}" -gt 1 ] && pgid_is "$a" "$a" && kill -- -"$a"
ok 'kill -- -PGID ends the group' eventually 15 not node_has 'sleep 12[12]'
ok 'and no other' node_has 'sleep 123'
kill "$(child_of "$top" 'sleep 123')"
ended

run sh '(setsid sleep 131 &); sleep 132'
ok 'a daemon: there' eventually 15 node_has 'sleep 131'
a=$(node_pid 'sleep 131')
ok 'here it is a child of init' eventually 15 is 1 field ppid "$a"
ok 'in a session of its own' is "$a" field sid "$a"
kill "$(child_of "$top" 'sleep 132')"
ended
ok 'bpsh does not wait for it' node_has 'sleep 131'
ok 'it stands here still' state_is "$a" S
kill "$a"
ok 'and is ended from here' eventually 15 not node_has 'sleep 131'

run sh 'exec sleep 141'
args_are() { [ "$(ps -o args= -p "$2")" = "$1" ]; }
comm_is() { [ "$(ps -o comm= -p "$2")" = "$1" ]; }
ok 'another program: its name follows' eventually 15 args_are 'sleep 141' "$top"
ok 'the short one too' eventually 15 comm_is sleep "$top"
kill "$top"
wait "$job"
ok 'under the same pid, for its parent too' test $? = 255

# Its group is known before it is seen to stop: a shell here would look at it.
run bash 'set -m; sleep 128 & kill -STOP $!; sleep 129; true'
halted() { # it may not have become a sleep before
    for a in $(pgrep -P "$top"); do
        ! state_is "$a" T || return 0
    done
    return 1
}
ok 'one that stops at once: here too' eventually 15 halted
ok 'and by then in its own group' pgid_is "$a" "$a"
kill -KILL "$a"
kill "$(child_of "$top" 'sleep 129')"
ended

# A session with several groups, and a process of its own in each.
run bash 'set -m; (setsid bash -c "set -m; sleep 135 & sleep 136 | sleep 137 & wait" &); sleep 138; true'
ok 'a session of several groups: there' eventually 15 node_has 'sleep 137'
leader=$(node_field sid 'sleep 135')
members() { ps -o pid= -s "$1" | wc -l; }
all_four() { [ "$(members "$leader")" = 4 ]; }
ok 'here too, all of it in one session' eventually 15 all_four
groups() { ps -o pgid= -s "$1" | sort -u | wc -l; }
three() { [ "$(groups "$leader")" = 3 ]; }
ok 'in its groups' eventually 15 three
ok 'which is not that of bpsh' not test "$leader" = "$(field sid "$top")"
# shellcheck disable=SC2046
all_four && kill -KILL $(ps -o pid= -s "$leader")
ok 'a session is ended' eventually 15 not node_has 'sleep 13[567]'
none_of_it() { [ "$(members "$leader")" = 0 ]; }
ok 'on both sides' eventually 15 none_of_it
ok 'and nothing beside it' node_has 'sleep 138'
kill "$(child_of "$top" 'sleep 138')"
ended

# --- an ordinary user

bpsh 1 sleep 0
setpriv --reuid 12345 --regid 12345 --clear-groups bpsh -N 1 sh -c 'sleep 151; true' & job=$!
eventually 15 started
ok 'an ordinary user: the same' eventually 15 child_of "$top" 'sleep 151'
a=$(child_of "$top" 'sleep 151')
ok 'his own' is 12345 field uid "$a"
if getcap "$libexec/bpghost" | grep -q checkpoint_restore; then
    ok 'with the same pid' test "$a" -ge 1000000
else
    skip 'with the same pid' 'bpghost has no file capability'
fi
ok 'nobody else ends it' not as 12346 kill "$a"
ok 'he does' as 12345 kill "$a"
ended

# --- where the pids cannot be the same: a bpghost that may not choose them

cp -r "$libexec" "$tmp/libexec" # without file capabilities
chmod 755 "$tmp" "$tmp/libexec"
CM_LIBEXEC=$tmp/libexec setpriv --reuid 12345 --regid 12345 --clear-groups \
    bpsh -N 1 sh -c 'sleep 155 & sleep 156; exit 7' & job=$!
eventually 15 started
both() { [ "$(pgrep -c -P "$top")" = 2 ]; }
ok 'other pids here than there: both children stand here' eventually 15 both
a=$(child_of "$top" 'sleep 155')
there=$(bpps 1 | awk '/ sleep 155$/ { print $2 }')
ok 'under other pids' test "$a" -lt 1000000 -a "$there" -ge 1000000
maps() { bpstat -p --json | python3 -c 'import json, sys
print(*[p["npid"] for p in json.load(sys.stdin) if p["pid"] == int(sys.argv[1])])' "$1"; }
ok 'which is which is known' is "$there" maps "$a"
ok 'the one there has a history here' has "^$a \\(sleep 155\\) on node 1: runs since" bpps --why "$there"
as 12345 kill "$a"
gone_there() { ! bpps 1 | grep -q ' sleep 155$'; }
ok 'a signal finds it' eventually 15 gone_there
ok 'its end comes back' eventually 15 gone "$a"
as 12345 kill "$(child_of "$top" 'sleep 156')"
wait "$job"
ok 'and what the shell makes of it' test $? = 7

# --- services that die, nodes that end

run sh 'sleep 161 & sleep 162; true'
eventually 15 child_of "$top" 'sleep 162' >"$tmp/out"
old=$(tree "$top")
kill -KILL "$(pid_of procspace)"
a=$(child_of "$top" 'sleep 161')
eventually 10 bash -c "bpstat -p | grep -q ^$a" >"$tmp/out"
ok 'procspace killed: the tree stands' is "$old" tree "$top"
kill "$a"
ok 'and acts' eventually 10 not node_has 'sleep 161'
b=$(child_of "$top" 'sleep 162')
bpctl -S 0 -R
ok 'a node that ends: its children are gone here' eventually 15 gone "$b"
ended

# --- many

# shellcheck disable=SC2016 # for the shell on the node
loop='i=0; while [ $i -lt 3000 ]; do (:); i=$((i+1)); done; sleep 171'
bpsh -N 1 sh -c "$loop" & job=$!
eventually 15 started
ok 'after 3000 short ones' eventually 30 tree_is 'sh(sleep)' "$top"
a=$(child_of "$top" 'sleep 171')
ok 'pids are of the lease still' test "$a" -ge 1003000 -a "$a" -lt 1010000
kill "$a"
ended
done_testing
