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
    kill -KILL "$(bpps | awk '$1 == 0 && /bppmix/ { print $2; exit }')"
    wait "$job"
    local rc=$?
    cat "$tmp/err"
    [ $rc != 0 ] && nothing_left odd
}
ok 'no folder of PMIx is left on the nodes' no_folders
cd "$tmp" || exit 1
ok 'a helper is killed: the job ends' killed_helper
ok '--mpi pmi1 for a program that wants PMIx fails, and does not hang' \
    not timeout 60 mpirun --mpi pmi1 --timeout 20 -np 2 ./mpi_hello
cd "$OLDPWD" || exit 1
done_testing
