# claims.sh - what must hold of mpirun with each MPI; sourced by 0910 and 0920
#
#     mpi=mpich . tests/mpi/claims.sh
#
# Compiles the examples and tests/mpi with that MPI, starts a cluster of 16
# virtual nodes and makes the claims. More of that one MPI's own may follow.
# shellcheck shell=bash disable=SC2016 # what is in quotes is for other shells

need bin/mpirun bin/bpsh bin/bpps libexec/clustermatic/bprank libexec/clustermatic/bpvnode
command -v "mpicc.$mpi" >/dev/null || plan_skip "mpicc.$mpi is not installed"

for source in doc/examples/mpi_*.c tests/mpi/*.c; do
    name=$(basename "$source" .c)
    if ! "mpicc.$mpi" -O -o "$tmp/$name" "$source" >"$tmp/mpicc.log" 2>&1; then
        diag "$(cat "$tmp/mpicc.log")"
        ok "$source compiles" false
        done_testing
    fi
done

# 64 ranks that poll on a few processors are no reason to give a node up. That one
# has died is seen all the same.
cat >"$tmp/config" <<'END'
interface cm0 198.18.0.1 255.254.0.0
iprange 0 198.18.1.0 198.18.1.15
pingtimeout 60
END
chmod 644 "$tmp/config"
cluster_up 16 --config "$tmp/config"
cd "$tmp" || exit 1

# mpirun, but not for ever: after a minute, who is missing, and its end.
run() {
    mpirun "$@" <&0 &
    ends_in_time $!
}
run_user() {
    as 12345 env HOME=/tmp mpirun "$@" <&0 &
    ends_in_time $!
}
ends_in_time() { # PID: its status
    local end=$((SECONDS + 60))
    until has_ended "$1"; do
        if [ $SECONDS -ge $end ]; then
            who_is_left "$1" >&2
            kill -KILL "$1"
            break
        fi
        sleep 0.02
    done
    wait "$1"
}
has_ended() { # PID: a child of ours
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
    stat=${stat##*) }
    [ "${stat%% *}" = Z ]
}
who_is_left() { # PID
    echo "mpirun ($1) has not ended; there are:"
    bpps | grep -E 'odd|basics|mpi_|bppmi|bprank'
    ps -eo pid,ppid,stat,wchan:20,args | grep -E "$tmp|mpirun|bpsh" | grep -v grep
}
# What N ranks of hello say, in order.
hello() { # RANKS NODES
    local r
    for ((r = 0; r < $1; r++)); do
        echo "rank $r of $1 on n$((r % $2))"
    done
}
says_hello() { # RANKS NODES OPTION...
    local ranks=$1 nodes=$2
    shift 2
    is "$(hello "$ranks" "$nodes")" sorted run -np "$ranks" "$@" ./mpi_hello
}
sorted() { "$@" | sort -V; return "${PIPESTATUS[0]}"; }
joined() { "$@" | paste -sd'|'; return "${PIPESTATUS[0]}"; }
# Nothing of a job is left, on the nodes or here.
nothing_left() { # PROGRAM
    eventually 20 none_on_nodes "$1" && eventually 20 none_here "$1"
}
none_here() { ! ps -eo args= | grep -E "^$tmp/$1( |\$)"; }
none_on_nodes() { bpps >"$tmp/left" && ! grep -E "$1|bppmi|bprank" "$tmp/left"; }
ends_with() { # STATUS PATTERN PROGRAM ARGUMENT...: and says why
    local want=$1 pattern=$2 rc
    shift 2
    run "$@" >"$tmp/out" 2>"$tmp/err"
    rc=$?
    [ $rc = "$want" ] && grep -Eq -- "$pattern" "$tmp/err" && return
    echo "status $rc, want $want; stderr:"
    cat "$tmp/err"
    return 1
}

# --- it runs ----------------------------------------------------------------

ok 'hello: 2 ranks on 1 node' says_hello 2 1 --nodes 0
ok '16 ranks on 4 nodes' says_hello 16 4 --nodes 0-3
ok 'one on each of 16' says_hello 16 16 # all nodes have what it takes from here on
ok '64 ranks on 16 nodes' says_hello 64 16
ok 'rank 0 is on n0 and rank 1 on n1' says_hello 2 2
ok 'two programs are one job' is "$(hello 3 3)" \
    sorted run -np 1 ./mpi_hello : -np 2 -x A=b ./mpi_hello
ok 'any user may do it' is "$(hello 4 2)" sorted run_user -np 4 --nodes 0-1 ./mpi_hello
ok 'a ring of 1000 rounds' is '1000 rounds over 4 ranks: 4000' run -np 4 ./mpi_ring 1000
ok '16 on 4 nodes, which share processors' is '50 rounds over 16 ranks: 800' \
    run -np 16 --nodes 0-3 ./mpi_ring 50
ok 'pi' is 'pi is about 3.1415926536' run -np 3 ./mpi_pi 100000
ok 'a halo exchange, and its files on the nodes' \
    is '3 ranks, 100 steps: mean 10.756 degrees' run -np 3 ./mpi_halo 100
ok 'are there' has '^47 0.000' bpsh 2 cat /tmp/rod.2
ok 'basics: point to point, collectives, communicators, types, 8 MB all-reduce' \
    is '67 claims hold' run -np 4 --ppn 2 ./basics
# Open MPI would like to start a daemon of its own even for that
ok 'an unchanged MPI program needs no mpirun: one rank' is 'rank 0 of 1 on n3' \
    env OMPI_MCA_ess_singleton_isolated=1 bpsh 3 ./mpi_hello

# --- streams and files --------------------------------------------------------

ok 'ranks write files where they are' is 'n0 0|n1 1|n2 2' joined sorted run -np 3 "$tmp/odd" file
head -c 300000 /dev/urandom >"$tmp/bytes"
stdin_clean() { run -np 2 "$tmp/odd" copy <"$tmp/bytes" | cmp - "$tmp/bytes"; }
ok 'stdin goes to rank 0 as it is' stdin_clean
whole_lines() {
    run -np 3 "$tmp/odd" lines 300 >"$tmp/lines" || return
    [ "$(sort -u "$tmp/lines" | wc -l)" = 900 ] &&
        ! grep -Evx 'rank 00[0-2] line 00[0-2][0-9][0-9] of 00300' "$tmp/lines"
}
ok "lines of ranks come out whole" whole_lines

# --- ranks that fail ------------------------------------------------------------

ok 'a rank that exits with 3' ends_with 3 'rank 1 on node 1 ended with status 3' \
    -np 3 "$tmp/odd" exit 1 3
ok 'one that dies by SIGSEGV' ends_with 139 'rank 1 on node 1 was killed by signal 11' \
    -np 3 "$tmp/odd" signal 1 11
ok 'one that calls MPI_Abort' ends_with 5 'rank 2 on node 2 called MPI_Abort with code 5' \
    -np 3 "$tmp/odd" abort 2 5
ok 'one that leaves without MPI_Finalize' \
    ends_with 1 'rank 1 on node 1 ended without MPI_Finalize' -np 2 "$tmp/odd" unfinished 1
# Started in the background, as $job: all of its ranks are there.
started() { # PROGRAM ARGUMENT...
    : >"$tmp/hang" # here, and not when the job gets to it: the last one's word is in it
    mpirun -np 3 "$@" >"$tmp/hang" 2>"$tmp/err" & job=$!
    eventually 15 grep -q ready "$tmp/hang" && return
    cat "$tmp/err"
    who_is_left "$job"
    kill -KILL "$job"
    return 1
}
job_ends() { # STATUS [WHY]: regular expressions
    local rc
    ends_in_time "$job"
    rc=$?
    [[ $rc =~ ^($1)$ ]] && { [ $# = 1 ] || grep -Eq -- "$2" "$tmp/err"; } && return
    echo "status $rc, want $1; stderr:"
    cat "$tmp/err"
    return 1
}
pid_on() { # NODE PATTERN: of a process there
    bpps | awk -v node="$1" -v what="$2" '$1 == node && $0 ~ what { print $2; exit }'
}
killed_ghost() {
    started "$tmp/odd" hang || return
    kill -KILL "$(pid_on 1 'odd hang')" || return
    job_ends 137 'rank 1 on node 1 was killed by signal 9'
}
ok 'one that is killed here, by its ghost' killed_ghost
ok 'spawning is refused, and said to be' is 'spawn was refused' run -np 1 "$tmp/odd" spawn
ok 'so are names' is 'publish was refused|lookup was refused|unpublish was refused' \
    joined run -np 1 "$tmp/odd" names
ok 'and ports' is 'accept was refused|connect was refused' joined run -np 1 "$tmp/odd" ports
says_why() { # WHAT PATTERN...: odd WHAT has on stderr
    local pattern what=$1
    shift
    run -np 1 "$tmp/odd" "$what" 2>&1 >"$tmp/out" | tee "$tmp/err"
    for pattern; do
        grep -Eq -- "$pattern" "$tmp/err" || return
    done
}
killed_helper() {
    started "$tmp/odd" hang || return
    kill -KILL "$(pid_on 1 'bppmix?')" || return
    job_ends 137 'node 1: the helper of this job was killed'
}
ok 'a helper is killed: the job ends' killed_helper
ok 'of all these nothing is left' nothing_left odd

# --- services that die under it --------------------------------------------------

agent() { pgrep -x -P "$(pid_of node.1)" bpnode; }
victim() { if [ "$1" = agent ]; then agent; else pid_of "$1"; fi; }
another() { local now; now=$(victim "$1") && [ "$now" != "$2" ]; }
turn() { # N, when one has been asked for: it has come
    echo >&8 && eventually 30 grep -qx "turn $1: $(($1 * 6))" "$tmp/turns"
}
turns_through() { # WHO...: is killed, one after the other; each turn is then as it should be
    local n=1 who old rc=0
    rm -f "$tmp/go"
    mkfifo "$tmp/go" && exec 8<>"$tmp/go" || return
    mpirun -np 3 "$tmp/odd" turns <"$tmp/go" >"$tmp/turns" 2>"$tmp/err" 8>&- & job=$!
    turn 1 || rc=1
    for who; do
        [ $rc = 0 ] || break
        old=$(victim "$who") && kill -KILL "$old" && turn $((n += 1)) &&
            eventually 30 another "$who" "$old" || { echo "after $who was killed:"; rc=1; }
    done
    exec 8>&-
    job_ends 0 || rc=1
    [ $rc = 0 ] && return
    cat "$tmp/turns" "$tmp/err"
    return 1
}
ok 'services are killed under it: it goes on, and ends well' \
    turns_through procspace iofwd nodemgr busd sched
ok 'so is the agent of a node, twice' turns_through agent agent
ok 'each turn has come once' is "$(for ((i = 1; i <= 3; i++)); do echo "turn $i: $((6 * i))"; done)" \
    cat "$tmp/turns"
on_its_way() { pgrep -x -P "$job" bpsh >"$tmp/bpsh" || has_ended "$job"; }
starts_through() { # WHO...: is killed while the next job starts
    local who old
    for who; do
        old=$(victim "$who") || return
        mpirun -np 6 ./mpi_hello >"$tmp/said" 2>"$tmp/err" & job=$!
        eventually 20 on_its_way && kill -KILL "$old" && job_ends 0 &&
            is "$(hello 6 6)" sort -V "$tmp/said" && eventually 30 another "$who" "$old" && continue
        echo "after $who was killed"
        return 1
    done
}
ok 'killed while a job starts, they do not keep it from its end' \
    starts_through procspace iofwd nodemgr busd agent
ok 'and nothing is left' nothing_left odd

# --- ends from outside ------------------------------------------------------------

lost_node() {
    started "$tmp/odd" hang || return
    kill -KILL "$(pid_of node.1)" || return
    job_ends 137 'node 1 was lost|rank 1 on node 1 was killed'
}
ok 'a node that dies under it' lost_node
ok 'the others are rid of it' nothing_left odd
ok 'and the node comes back' eventually 60 is up bpstat -s 1

takes() { # SIGNAL...: mpirun gets them, one after the other
    local sig
    for sig; do
        kill "-$sig" "$job" && eventually 10 took_all || return
    done
}
took_all() { # none waits to be taken; or it has ended
    has_ended "$job" || ! grep -Eq '^(Shd|Sig)Pnd:.*[1-9a-f]' "/proc/$job/status"
}
ends_by() { # STATUS HANG|DEAF SIGNAL...
    local want=$1
    started "$tmp/odd" "$2" || return
    shift 2
    takes "$@" && job_ends "$want"
}
ok 'SIGTERM ends all of it' ends_by 143 hang TERM
ok 'SIGTERM twice, though the ranks do not listen' ends_by 143 deaf TERM TERM
ok 'a time limit, and they do not listen either' \
    ends_with 124 'did not end within 0.5 s' --timeout 0.5 -np 2 "$tmp/odd" deaf
# Its own death leaves nobody: the helpers see to that.
orphans() {
    started "$tmp/odd" hang || return
    kill -KILL "$job"
    job_ends 137 && nothing_left odd
}
ok 'mpirun itself is killed, and nothing is left' orphans

cd "$OLDPWD" || exit 1
terminal() { timeout 120 tests/terminal.py "$@"; }
ok 'Ctrl-C ends it' terminal "cd $tmp" '=ready> ' "mpirun -np 2 $tmp/odd hang" '=^ready$' '^C' \
    '=ready> ' 'echo status=$?' '=^status=130'
ok 'Ctrl-C twice, though the ranks do not listen' terminal "cd $tmp" '=ready> ' \
    "mpirun -np 2 $tmp/odd deaf" '=^ready$' '^C' '=once more' '^C' '=ready> ' \
    'echo status=$?' '=^status=130'
ok 'nothing is left of those either' nothing_left odd
