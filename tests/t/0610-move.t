#!/bin/bash
# 0610-move: a running process goes to a node, with all it has; what keeps it from
# going; and nothing that dies meanwhile loses it or makes it two
# shellcheck disable=SC2317 # functions are called by ok
. tests/lib.sh

need lib/libbproc.so libexec/clustermatic/bprestore bin/bpsh
need_root
export LD_LIBRARY_PATH=$libdir
flags=(-Wall -Wextra -Werror -g -I"$CM_BUILD/include" -I.)
chmod 755 "$tmp"
ok 'the program compiles' gcc "${flags[@]}" -o "$tmp/go" tests/libbproc/go.c \
    -L"$libdir" -lbproc -lm -lpthread
ok 'so does one in C++' g++ "${flags[@]}" -o "$tmp/throws" tests/libbproc/throws.cc \
    -L"$libdir" -lbproc
ok 'so does one with timers' gcc "${flags[@]}" -o "$tmp/timers" tests/libbproc/timers.c \
    -L"$libdir" -lbproc
cluster_up 3
go() { timeout -k 1 60 "$tmp/go" "$@" </dev/null; }
user=(setpriv --reuid 61001 --regid 61001 --clear-groups)
ugo() { timeout -k 1 60 "${user[@]}" "$tmp/go" "$@" </dev/null; }

ok 'a process goes to a node, and all it has is right' is 'from -1 to 0: 0 faults' go 1 0
ok 'that of a user too' is 'from -1 to 1: 0 faults' ugo 1 1
ok 'with 200 MB' is 'from -1 to 0: 0 faults' go 200 0
ok 'C++: what is thrown there is caught there' is 'caught on 1' timeout 60 "$tmp/throws" 1
ok 'POSIX timers go along' is '0 faults on -1' timeout 60 "$tmp/timers" 0 1 2 0 -1 1 -1
many() {
    local i
    for i in $(seq 20); do
        go 0 $((i % 2)) >"$tmp/many" || { cat "$tmp/many"; return 1; }
    done
}
ok 'twenty of them' many

# --- what stands in the way

refused() { go refused "$@"; }
ok 'a node that is not there' refused 99 300
ok 'any node' refused -4 300
ok 'our own node is no move' go 1 -1
bpctl -S 2 -m 100
urefused() { ugo refused "$@"; }
ok 'a node where we may not' urefused 2 13
bpctl -S 2 -m 111
ok 'threads: EBUSY' is 'on -1' go open threads 0
ok 'a child that ends at that moment is waited for there' is 'on 0' go open child 0
ok 'a pipe is closed on the way' is 'on 0' go open pipe 0
ok 'a socket too' is 'on 0' go open socket 0
ok 'no cluster: ENOSYS' env CM_RUNDIR=/run/nosuchcluster "$tmp/go" refused 0 38

# --- from a node: another program, under the same pid

bpsh 0 /bin/sh -c : # there it is then
printf '#!/bin/sh\nread -r h </proc/sys/kernel/hostname; echo "$$ on $h: $1"; exit 7\n' >"$tmp/own.sh"
chmod 755 "$tmp/own.sh"
bpcp "$tmp/own.sh" 0:/tmp/
bpcp /bin/dash 0:/tmp/own
# shellcheck disable=SC2016 # for the shell there
there='read -r h </proc/sys/kernel/hostname; echo "$$ on $h: $BPROC_SIZE $BPROC_NODES"; exit 7'
becomes() { # "HOST: WHAT IT SAYS" NODE THERE PROGRAM ARG...
    local want=$1 rc pid
    shift
    go exec "$@" >"$tmp/becomes"
    rc=$?
    eventually 20 grep -q : "$tmp/becomes"
    pid=$(sed -n "s/ on $1\$//p" "$tmp/becomes")
    [ $rc = 7 ] && [ "$(sed -n 2p "$tmp/becomes")" = "$pid on $want" ] ||
        { echo "status $rc"; cat "$tmp/becomes"; return 1; }
}
stays() { # "WHY": and it goes on on node 0
    local why=$1
    shift
    [ "$("$@" | tail -1)" = "$why on 0" ]
}
ok 'execmove from node to node' becomes 'n1: 1 1' 0 1 /bin/sh -c "$there"
ok 'from a node to the master' becomes "$(hostname): 1 master" 0 -1 /bin/sh -c "$there"
ok 'rexec: the program of the other node' becomes 'n0: 1 0' 1 0 r /bin/sh -c "$there"
ok 'a program that only the first node has' becomes 'n1: 1 1' 0 1 /tmp/own -c "$there"
ok 'a script of that kind' becomes 'n1: word' 0 1 /tmp/own.sh word
ok 'to the master' becomes "$(hostname): word" 0 -1 /tmp/own.sh word
ok 'a program that there is not: it goes on' stays 'No such file or directory' go exec 0 1 /no/such
ok 'what is no program' stays 'Permission denied' go exec 0 1 /etc/hosts
ok 'where it is already' stays 'Move to same node' go exec 0 0 /bin/sh
ok 'a node that is not there' stays 'Invalid node number' go exec 0 99 /bin/sh
bpctl -S 2 -m 100
ok 'where it may not go' stays 'Permission denied' ugo exec 0 2 /bin/sh
bpctl -S 2 -m 111
no_such() { go exec 0 1 r /no/such; }
ok 'what rexec does not find when it is there: the status is the error' exits 2 no_such

# --- what dies meanwhile

# Each of a handful of processes ends up in exactly one place, and says so there.
survives() { # HOW-TO-KILL: while 12 processes try to go
    local i rc pids=() words moved=0
    rm -f "$tmp"/word.*
    for i in $(seq 12); do
        go try 8 $((i % 2)) >"$tmp/word.$i" 2>"$tmp/err.$i" &
        pids+=($!)
        if [ $((i % 4)) = 0 ]; then
            eval "$1"
        fi
    done
    for i in $(seq 12); do
        wait "${pids[$((i - 1))]}"
        rc=$?
        eventually 20 test -s "$tmp/word.$i" # what it said comes by another way
        words=$(cat "$tmp/word.$i")
        case $rc in
        40) moved=$((moved + 1)); [ "$words" = "on $((i % 2))" ] ;;
        41) [ "$words" = "on -1" ] ;;
        *) false ;;
        esac || { echo "number $i: status $rc: $words"; cat "$tmp/err.$i"; return 1; }
    done
    diag "$moved of 12 moved" >&2
}
# shellcheck disable=SC2016
ok 'procspace is killed: each is in one place' survives 'kill -9 "$(pid_of procspace)"'
# shellcheck disable=SC2016
ok 'busd is killed' survives 'kill -9 "$(pid_of busd)"'
agents() { pgrep -f "^[^ ]*bpnode .*--space $run/space/[01]( |\$)"; }
ok 'agents are there' agents
# shellcheck disable=SC2016 # it is evaluated each time
ok 'agents are killed' survives 'for a in $(agents); do kill -9 "$a"; done'
ok 'and a move works as before' is 'from -1 to 1: 0 faults' go 1 1
left() { bpstat -p | tail -n +2 | grep -q .; }
ok 'nothing is left on the nodes' eventually 20 not left
ghosts() { pgrep -af "^$tmp/go "; }
ok 'nor ghosts here' eventually 20 not ghosts

# --- a cluster later
ok 'one that was on a node is saved to a file' is 'saved on -1' go dump "$tmp/image" 0
again() { clustermatic down --name "$cluster" && clustermatic up --name "$cluster" --virtual 1; }
ok 'the cluster stops and starts' again
ok 'it goes on from there, and to a node' is 'again on 0: 0 faults' go load "$tmp/image"
done_testing
