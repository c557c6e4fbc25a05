/* mpi_halo.c - heat along a rod, and a file of each rank's part on its node
 *
 * Each rank has CELLS cells and one more at each side that belongs to its
 * neighbour: the halo, exchanged before each step. The rod begins cold, its
 * left end is held at 100 degrees. At the end each rank writes its cells to a
 * file on its node; see them with: bpsh 0-3 -p cat /tmp/rod.RANK
 *
 *   mpirun -np 4 ./mpi_halo 2000
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CELLS 16

static void exchange(double *cell, int left, int right)
{
    MPI_Request r[4];

    MPI_Irecv(&cell[0], 1, MPI_DOUBLE, left, 0, MPI_COMM_WORLD, &r[0]);
    MPI_Irecv(&cell[CELLS + 1], 1, MPI_DOUBLE, right, 0, MPI_COMM_WORLD, &r[1]);
    MPI_Isend(&cell[1], 1, MPI_DOUBLE, left, 0, MPI_COMM_WORLD, &r[2]);
    MPI_Isend(&cell[CELLS], 1, MPI_DOUBLE, right, 0, MPI_COMM_WORLD, &r[3]);
    MPI_Waitall(4, r, MPI_STATUSES_IGNORE);
}

static int write_part(int rank, const double *cell)
{
    char name[64];

    snprintf(name, sizeof name, "/tmp/rod.%d", rank);
    FILE *f = fopen(name, "w");
    if (!f)
        return -1;
    for (int i = 1; i <= CELLS; i++)
        fprintf(f, "%d %.3f\n", rank * CELLS + i - 1, cell[i]);
    return fclose(f);
}

int main(int argc, char **argv)
{
    int rank, size, steps = argc > 1 ? atoi(argv[1]) : 1000;
    double cell[CELLS + 2] = { 0 }, next[CELLS + 2], mine = 0, all;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    int left = rank > 0 ? rank - 1 : MPI_PROC_NULL;
    int right = rank < size - 1 ? rank + 1 : MPI_PROC_NULL;
    for (int t = 0; t < steps; t++) {
        exchange(cell, left, right);
        if (rank == 0)
            cell[0] = 100;
        if (rank == size - 1)
            cell[CELLS + 1] = cell[CELLS]; /* the far end keeps its heat */
        for (int i = 1; i <= CELLS; i++)
            next[i] = cell[i] + 0.25 * (cell[i - 1] - 2 * cell[i] + cell[i + 1]);
        memcpy(&cell[1], &next[1], CELLS * sizeof *cell);
    }
    for (int i = 1; i <= CELLS; i++)
        mine += cell[i];
    MPI_Reduce(&mine, &all, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    int failed = write_part(rank, cell) < 0, any;
    MPI_Allreduce(&failed, &any, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    if (rank == 0)
        printf("%d ranks, %d steps: mean %.3f degrees%s\n", size, steps,
               all / (size * CELLS), any ? "; a file could not be written" : "");
    MPI_Finalize();
    return any;
}
