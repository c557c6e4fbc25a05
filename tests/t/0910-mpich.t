#!/bin/bash
# 0910-mpich: mpirun with Debian's MPICH, by PMI-1
# shellcheck disable=SC2016,SC2034 # for other shells; for claims.sh
. tests/lib.sh
mpi=mpich
. tests/mpi/claims.sh
ok 'why names are refused is said' says_why names 'rank 0: MPI_Publish_name is not offered' \
    'rank 0: MPI_Lookup_name is not offered' 'rank 0: MPI_Unpublish_name is not offered'
ok 'and ports' says_why ports 'not supported with ucx netmod'
done_testing
