#!/bin/bash
# 0900-mpirun: ranks, nodes, streams and refusals of mpirun, without any MPI
# shellcheck disable=SC2016 # what is in quotes is for the shells on the nodes
. tests/lib.sh

need bin/mpirun bin/bpsh bin/bpctl libexec/clustermatic/bppmi libexec/clustermatic/bprank
cluster_up 4

run() { timeout 60 mpirun "$@"; }
joined() { "$@" | sort -V | paste -sd'|'; return "${PIPESTATUS[0]}"; }
on() { # what each rank says about where it is
    joined run "$@" sh -c 'read -r h </etc/hostname; echo $BPROC_RANK $h'
}

# --- where ranks go -------------------------------------------------------------

ok 'one rank on each node' is '0000000 n0|0000001 n1|0000002 n2|0000003 n3' on
ok 'round all nodes' is '0000000 n0|0000001 n1|0000002 n2|0000003 n3|0000004 n0' on -np 5
ok '--nodes' is '0000000 n2|0000001 n1' on --nodes 2,1
ok '--ppn fills one node after another' \
    is '0000000 n0|0000001 n0|0000002 n1|0000003 n1' on -np 4 --ppn 2
ok '--ppn without -np: all of them' \
    is '0000000 n1|0000001 n1|0000002 n3|0000003 n3' on --ppn 2 --nodes 1,3
ok '--ppn and --map-by node' \
    is '0000000 n0|0000001 n1|0000002 n0|0000003 n1' on -np 4 --ppn 2 --map-by node --nodes 0-1
online=$(getconf _NPROCESSORS_ONLN) # of the machine; of these we may use so many:
cpus=$(nproc)
by_core() {
    on -np $((online + 1)) --map-by core >"$tmp/map"
    [ "$(tr '|' '\n' <"$tmp/map" | grep -c n0)" = "$online" ] && grep -q 'n1$' "$tmp/map"
}
ok '--map-by core fills the processors of a node' by_core
ok '--map-by slot is the same' is "$(on -np $((online + 1)) --map-by core)" \
    on -np $((online + 1)) --map-by slot
ok 'in a job, NODES says where' env NODES=3,1 bash -c \
    '[ "$(mpirun -p sh -c "read -r h </etc/hostname; echo \$h" | sort)" = "  0: n3
  1: n1" ]'
ok 'but --nodes counts more' is '0000000 n2' env NODES=3,1 bash -c \
    'mpirun --nodes 2 sh -c "read -r h </etc/hostname; echo \$BPROC_RANK \$h"'
bpctl -S 2 -m 000
ok 'a node that may not be used is left out' is '0000000 n0|0000001 n1|0000002 n3' on
ok 'and refused when it is named' fails_with 'node 2: ' run --nodes 1-2 true
bpctl -S 2 -m 111

# --- what ranks know ---------------------------------------------------------------

ok 'rank, size and nodes are in the environment' \
    is '  0: 0000000 3 0-1,0|  1: 0000001 3 0-1,0|  2: 0000002 3 0-1,0' \
    joined run -p -np 3 --nodes 0-1 sh -c 'echo $BPROC_RANK $BPROC_SIZE $BPROC_NODES'
ok 'the same of bpsh' is '0000000 3 1,0-1|0000001 3 1,0-1|0000002 3 1,0-1' \
    joined bpsh 1,0-1 sh -c 'echo $BPROC_RANK $BPROC_SIZE $BPROC_NODES'
ok 'nothing of how it was started' is '' run -np 1 sh -c 'set | grep CM_MPI; :'
ok '-x sets a variable' is 'one two' run -np 1 -x A=one -x B=two sh -c 'echo $A $B'
ok '-x NAME wants it to be there' fails_with 'no such variable' run -np 1 -x NO_SUCH_NAME true
mkdir "$tmp/dir"
printf '#!/bin/sh\necho here\n' >"$tmp/dir/prog"
chmod 755 "$tmp/dir" "$tmp/dir/prog"
ok '--wdir is where the program is looked for' is 'here' run -np 1 --wdir "$tmp/dir" ./prog
mkdir "$tmp/beside"
above() { cd "$tmp/beside" && run "$@"; }
ok 'a program by a path that goes up' is 'here' above -np 1 ../dir/../beside/.././dir/prog
ok 'one that is not there' fails_with 'dir/none: command not found' above -np 1 ../dir/none
ok '--wdir that is not there' fails_with "nowhere: No such file" run -np 1 --wdir /nowhere true
ok '--bind-to core: one processor each' is '0000000 1|0000001 1' joined run -np 2 --nodes 0 \
    --bind-to core sh -c 'while read -r k v; do
        case $k in Cpus_allowed_list:) case $v in *[-,]*) n=2 ;; *) n=1 ;; esac ;; esac
    done </proc/self/status; echo $BPROC_RANK $n'
how_run() { # RANKS: policy and timer slack, of all the same
    run -np "$1" sh -c 'read -r l </proc/self/stat; read -r s </proc/self/timerslack_ns
        set -- ${l##*) }; shift 38; echo "$1 $s"' | sort -u
}
ok 'ranks that have a processor each run as they would anywhere' is '0 50000' how_run "$cpus"
ok 'on virtual nodes, one more shares: as a batch, woken when it suits' is '3 1000000' \
    how_run $((cpus + 1))

# --- several programs -----------------------------------------------------------------

ok 'programs separated by a colon' is 'a 0000000 3|b 0000001 3|b 0000002 3' joined \
    run -np 1 sh -c 'echo a $BPROC_RANK $BPROC_SIZE' : -np 2 sh -c 'echo b $BPROC_RANK $BPROC_SIZE'
ok 'with variables of their own' is '1|2' joined \
    run -np 1 -x V=1 sh -c 'echo $V' : -np 1 -x V=2 sh -c 'echo $V'
ok 'each must say how many' fails_with 'np is needed' run -np 1 true : true
ok 'a program is missing after a colon' fails_with 'which program' run -np 1 true :

# --- streams ----------------------------------------------------------------------------

ok 'stdin goes to rank 0' is '  0: text' run -p -np 2 cat <<<text
ok 'or to another' is '  1: text' run -p -np 2 --stdin 1 cat <<<text
ok 'or to all' is '  0: text|  1: text' joined run -p -np 2 --stdin all cat <<<text
head -c 100000 /dev/urandom >"$tmp/bytes"
to_all() { run -p -np 2 --stdin all cksum <"$tmp/bytes"; }
sum=$(cksum <"$tmp/bytes")
ok 'as it is, byte by byte' is "  0: $sum|  1: $sum" joined to_all
ok 'or to none' is '' run -p -np 2 --stdin none cat <<<text
ok 'with several programs too' is '  2: text' \
    run -p -np 1 --stdin 2 cat : -np 2 cat <<<text
closed() { run -np 2 sh -c 'echo $BPROC_RANK' <&- | wc -l | grep -qx 2; }
ok 'a closed stdin is none' closed
ok 'standard error is kept apart' is '' bash -c 'mpirun -np 2 sh -c "echo oops >&2" 2>/dev/null'
broken() { run -np 2 sh -c 'while echo y; do :; done' | head -n 1 | grep -qx y; }
ok 'nobody reads: it ends' broken

# --- status ---------------------------------------------------------------------------------

ends() { # STATUS PATTERN ARGUMENT...
    local want=$1 pattern=$2 rc
    shift 2
    run "$@" >"$tmp/out" 2>"$tmp/err"
    rc=$?
    [ $rc = "$want" ] && grep -Eq -- "$pattern" "$tmp/err" && return
    echo "status $rc, want $want"
    cat "$tmp/err"
    return 1
}
ok 'all is well' exits 0 run -np 4 true
ok 'the status of the rank that failed' ends 3 'rank 1 on node 1 ended with status 3' \
    -np 3 sh -c '[ $BPROC_RANK != 0000001 ] || exit 3'
ok 'the others are not waited for' ends 4 'rank 0 on node 0 ended with status 4' \
    -np 2 sh -c '[ $BPROC_RANK = 0000000 ] && exit 4; while :; do read -r x; done'
ok 'a signal' ends 138 'rank 0 on node 0 was killed by signal 10' -np 1 sh -c 'kill -USR1 $$'
ok '-q says nothing' exits 3 run -q -np 1 sh -c 'exit 3'
ok 'no such program' ends 127 'no_such: command not found' -np 2 no_such
ok 'one that is not to be run' ends 1 'Permission denied' -np 2 /etc/passwd
printf '\177ELF and no more' >"$tmp/broken"
chmod 755 "$tmp/broken"
ok 'one that is none' ends 1 'broken: ' -np 1 "$tmp/broken"
ok '--timeout' ends 124 'did not end within 0.5 s' --timeout 0.5 -np 2 sh -c \
    'while :; do read -r x </dev/zero; done'

# --- mistakes ---------------------------------------------------------------------------------

ok 'no program' exits 2 run -np 2
ok '-np 0' fails_with 'np: want a number' run -np 0 true
ok 'a wrong option' exits 2 run --no-such true
ok '--map-by' fails_with "map-by: want .node" run --map-by moon true
ok '--bind-to' fails_with "bind-to: want .core" run --bind-to socket true
ok '--stdin' fails_with "stdin: want a rank" run --stdin some true
ok '--stdin of a rank that is not' fails_with 'only 2 ranks, 0-1' run -np 2 --stdin 2 true
ok '--timeout' fails_with 'want seconds' run --timeout soon true
ok '--mpi' fails_with 'want .pmi1' run --mpi lam true
ok 'nodes that are not' fails_with 'only 4 nodes' run --nodes 9 true
ok 'the master' fails_with 'the master is no node for ranks' run --nodes master true
ok 'too many for --ppn' fails_with '9 ranks do not fit 4 nodes' run -np 9 --ppn 2 true
ok '--help' has 'Usage: mpirun' mpirun --help
ok '--version' has 'mpirun version' mpirun --version
ok 'no cluster' fails_with 'start one' env CM_RUNDIR="$tmp/none" mpirun true
ok 'bprank is not for people' fails_with 'not by hand' "$libexec/bprank"
ok 'nor is bppmi' fails_with 'not by hand' "$libexec/bppmi"

# --- services that die under it --------------------------------------------------------------

survives() { # UNIT
    rm -f "$tmp/slow"
    run -np 4 sh -c 'echo begun; read -r x </run/go; echo $BPROC_RANK' >"$tmp/slow" 2>"$tmp/err" &
    local job=$! rc
    eventually 30 all_begun || return
    kill -KILL "$(pid_of "$1")"
    for n in 0 1 2 3; do
        bpsh "$n" sh -c 'echo on >/run/go' || return
    done
    wait $job
    rc=$?
    cat "$tmp/err"
    [ $rc = 0 ] && [ "$(grep -c '^000000[0-3]$' "$tmp/slow")" = 4 ]
}
all_begun() { [ "$(grep -c begun "$tmp/slow")" = 4 ]; }
bpsh 0-3 mkfifo /run/go
for service in busd procspace iofwd nodemgr; do
    ok "$service is killed meanwhile, and nothing is lost" survives $service
done

# --- files that are sent along -------------------------------------------------------------------

mkdir -p "$tmp/along/deeper"
echo one >"$tmp/along/one"
echo two >"$tmp/along/deeper/two"
echo archive >"$tmp/along/lib.a"
chmod -R a+rX "$tmp/along"
ok 'bpsh --with a file' is one bpsh --with "$tmp/along/one" 2 cat "$tmp/along/one"
ok 'bpsh --with a folder' is two bpsh --with "$tmp/along" 3 cat "$tmp/along/deeper/two"
ok 'archives stay here' fails_with 'No such file' bpsh 3 cat "$tmp/along/lib.a"
echo new >"$tmp/along/three"
ok 'what has come since is sent too' is new bpsh --with "$tmp/along" 3 cat "$tmp/along/three"
ok '--with what is not there' fails_with 'nowhere: No such file' bpsh --with /nowhere 0 true
ok '--with wants a whole path' fails_with 'want an absolute path' bpsh --with here 0 true
chmod 600 "$tmp/along/one"
ok '--with what the user may not read' fails_with 'Permission denied' \
    as 1234 bpsh --with "$tmp/along/one" 0 true
ok 'bpsh --via another program' is "$(type -P true)" \
    bpsh --via "$(command -v sh)" 0 true -c 'echo $BPROC_PROGNAME'
report() { bpsh --report-fd 5 --first-rank 7 1,1 sh -c 'exit 3' 5>&1 | sort; }
ok 'bpsh --report-fd tells of each process' has '^ended 8 1 exit 3$' report
ok 'that it was started' has '^started 7 1 [0-9]+$' report
ok 'the launch' has '^launch [0-9]+$' report
ok '--report-fd that is not open' fails_with 'want an open descriptor' bpsh --report-fd 9 0 true 9>&-
ok 'bpsh -r: ranks in front of lines' is '  0: x|  1: x' joined bpsh -r 3,2 echo x
done_testing
