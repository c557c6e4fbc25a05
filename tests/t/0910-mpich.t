#!/bin/bash
# 0910-mpich: mpirun with Debian's MPICH, by PMI-1
# shellcheck disable=SC2016,SC2034 # for other shells; for claims.sh
. tests/lib.sh
mpi=mpich
. tests/mpi/claims.sh
done_testing
