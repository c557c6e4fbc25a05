#!/bin/bash
# 0930-glue: mpirun in jobs of the scheduler; nodes by pdsh and ClusterShell
# shellcheck disable=SC2016 # what is in quotes is for other shells
. tests/lib.sh
. tests/jobs.sh

need bin/bpsh bin/mpirun bin/bpctl
cluster_up 4
joined() { "$@" | sort -V | paste -sd'|'; return "${PIPESTATUS[0]}"; }
top=$PWD
cd "$tmp" || exit 1
mkdir -m 777 work
a=12345

# --- in a job -------------------------------------------------------------------

if [ -x "$CM_BUILD/bin/bjssub" ]; then
    in_job() { # NODES COMMAND: what the job says, when it has ended
        local job
        job=$(as $a bjssub -n "$1" -O "$tmp/work/out" "$2" | sed -n 's/^JOBID=//p')
        ended "$job" 60 && sort "$tmp/work/out"
    }
    cd work || exit 1
    up_for_jobs 4
    ok 'a batch job: mpirun uses its nodes' \
        is $'  0: 0000000 2 0-1\n  1: 0000001 2 0-1' \
        in_job 2 'mpirun -p sh -c "echo \$BPROC_RANK \$BPROC_SIZE \$BPROC_NODES"'
    ok 'two ranks on each' is $'  0: n0\n  1: n0\n  2: n1\n  3: n1' in_job 2 'mpirun -p --ppn 2 hostname'
    if command -v mpicc.mpich >/dev/null && mpicc.mpich -O -o mpi_hello "$top/doc/examples/mpi_hello.c"; then
        ok 'an MPI program in a batch job' is $'rank 0 of 2 on n0\nrank 1 of 2 on n1' \
            in_job 2 'mpirun ./mpi_hello'
    else
        skip 'an MPI program in a batch job' 'mpicc.mpich is not installed'
    fi
    failing() { in_job 1 'mpirun sh -c "exit 9"; echo $? >>out'; }
    ok 'its status is the job'"'"'s to see' has '^9$' failing
    ok 'an interactive job' has '^  2: n2' as $a bjssub -n 3 -i mpirun -p hostname
    cd "$tmp" || exit 1
fi

# --- pdsh -------------------------------------------------------------------------

if command -v pdsh >/dev/null; then
    ok 'pdsh -R exec runs bpsh for each node' is 'n0: n0|n1: n1|n3: n3' \
        joined pdsh -R exec -w 'n[0-1,3]' bpsh %h hostname
    ok 'its -S gives the status' exits 3 pdsh -S -R exec -w 'n[0-1]' bpsh %h sh -c 'exit 3'
else
    skip 'pdsh -R exec runs bpsh for each node' 'pdsh is not installed'
fi

# --- ClusterShell ------------------------------------------------------------------

if command -v clush >/dev/null; then
    mkdir -p cs/groups.conf.d
    printf '[Main]\ndefault: clustermatic\nconfdir: %s/cs/groups.conf.d\n' "$tmp" >cs/groups.conf
    cp "$top/etc/samples/clustershell.conf" cs/groups.conf.d/
    export CLUSTERSHELL_CFGDIR=$tmp/cs
    ok 'clush -R exec runs bpsh for each node' is 'n0: n0|n2: n2' \
        joined clush -R exec -w 'n[0,2]' bpsh %h hostname
    ok 'a group of the nodes that are up' is 'n[0-3]' nodeset -f @clustermatic:up
    bpctl -S 1 -s error
    ok 'it knows at once' is 'n[0,2-3]' nodeset -f @clustermatic:up
    ok 'and the others by their state' is n1 nodeset -f @clustermatic:error
    ok 'all' is 'n[0-3]' nodeset -f -s clustermatic -a
    ok 'the groups of a node' has '@clustermatic:error' nodeset -s clustermatic -l n1
    ok 'clush on a group' is 'n0: n0|n2: n2|n3: n3' \
        joined clush -R exec -w @clustermatic:up bpsh %h hostname
else
    skip 'clush -R exec runs bpsh for each node' 'ClusterShell is not installed'
fi
done_testing
