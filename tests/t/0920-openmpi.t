#!/bin/bash
# 0920-openmpi: mpirun with Debian's Open MPI, by PMIx
# shellcheck disable=SC2016,SC2034 # for other shells; for claims.sh
. tests/lib.sh
need libexec/clustermatic/bppmix
mpi=openmpi
. tests/mpi/claims.sh
no_folders() { ! bpsh -a ls /tmp | grep clustermatic-mpi; }
killed_helper() {
    started "$tmp/odd" hang || return
    kill -KILL "$(pid_on 0 bppmix)" || return
    job_ends '[1-9].*' && nothing_left odd
}
ok 'no folder of PMIx is left on the nodes' no_folders
cd "$tmp" || exit 1
ok 'a helper is killed: the job ends' killed_helper
cd "$OLDPWD" || exit 1
no_old_folders() { mpirun --nodes 0 -np 1 "$tmp/odd" exit 0 0 && no_folders; }
ok 'what it left is removed by the next of its user' no_old_folders
cd "$tmp" || exit 1
ok '--mpi pmi1 for a program that wants PMIx fails, and does not hang' \
    not run --mpi pmi1 --timeout 20 -np 2 ./mpi_hello
cd "$OLDPWD" || exit 1
done_testing
