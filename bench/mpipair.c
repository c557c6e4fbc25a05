/* mpipair.c - latency or bandwidth between rank 0 and rank 1
 *
 * mpipair latency: half a round trip of 8 bytes, in microseconds
 * mpipair bandwidth: MB/s of messages of 1 MiB, one way
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL 8
#define LARGE (1024 * 1024)

static char *buf;
static int rank;

static double latency(int rounds)
{
    double began = MPI_Wtime();

    for (int i = 0; i < rounds; i++) {
        if (rank == 0)
            MPI_Send(buf, SMALL, MPI_CHAR, 1, 0, MPI_COMM_WORLD);
        MPI_Recv(buf, SMALL, MPI_CHAR, !rank, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        if (rank == 1)
            MPI_Send(buf, SMALL, MPI_CHAR, 0, 0, MPI_COMM_WORLD);
    }
    return (MPI_Wtime() - began) * 1e6 / rounds / 2;
}

static double bandwidth(int rounds)
{
    double began = MPI_Wtime();

    for (int i = 0; i < rounds; i++)
        if (rank == 0)
            MPI_Send(buf, LARGE, MPI_CHAR, 1, 0, MPI_COMM_WORLD);
        else
            MPI_Recv(buf, LARGE, MPI_CHAR, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    /* the last of them has come when the answer does */
    if (rank == 1)
        MPI_Send(buf, 1, MPI_CHAR, 0, 0, MPI_COMM_WORLD);
    else
        MPI_Recv(buf, 1, MPI_CHAR, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    return (double)rounds * LARGE / (MPI_Wtime() - began) / 1e6;
}

int main(int argc, char **argv)
{
    int wide = argc > 1 && strcmp(argv[1], "bandwidth") == 0;
    double (*fn)(int) = wide ? bandwidth : latency;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    buf = calloc(1, LARGE);
    if (!buf)
        MPI_Abort(MPI_COMM_WORLD, 1);
    fn(wide ? 50 : 200);
    MPI_Barrier(MPI_COMM_WORLD);
    double result = fn(wide ? 400 : 2000);
    if (rank == 0)
        printf("%.2f\n", result);
    free(buf);
    MPI_Finalize();
    return 0;
}
