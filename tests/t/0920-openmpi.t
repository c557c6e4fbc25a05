#!/bin/bash
# 0920-openmpi: mpirun with Debian's Open MPI, by PMIx
# shellcheck disable=SC2016,SC2034 # for other shells; for claims.sh
. tests/lib.sh
need libexec/clustermatic/bppmix
mpi=openmpi
. tests/mpi/claims.sh
ok 'why names are refused is said' \
    says_why names 'not supported in' 'MPI function: *MPI_Publish_name'
ok 'and ports' says_why ports 'not supported in' 'MPI function: *MPI_Comm_(accept|connect)'
no_folders() { ! bpsh -a ls /tmp | grep clustermatic-mpi; }
ok 'no folder of PMIx is left on the nodes' no_folders
left_folder() {
    started "$tmp/odd" hang && kill -KILL "$(pid_on 0 bppmix)" && job_ends 137 && nothing_left odd
}
cd "$tmp" || exit 1
ok 'a helper is killed' left_folder
cd "$OLDPWD" || exit 1
no_old_folders() { mpirun --nodes 0 -np 1 "$tmp/odd" exit 0 0 && no_folders; }
ok 'what it left is removed by the next of its user' no_old_folders
cd "$tmp" || exit 1
ok '--mpi pmi1 for a program that wants PMIx fails, and does not hang' \
    not run --mpi pmi1 --timeout 20 -np 2 ./mpi_hello
cd "$OLDPWD" || exit 1
done_testing
