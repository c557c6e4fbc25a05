/* basics.c - what every MPI program relies on, claimed by all ranks
 *
 * basics: pt2pt, coll, comm, datatype; rank 0 prints "N claims hold", or each
 * rank what did not hold, and the status is 1.
 */
#include <mpi.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BIG (2 * 1024 * 1024) /* ints: 8 MB */

static int rank, size, claims, failures;

static void holds(int good, const char *what)
{
    claims++;
    if (!good) {
        failures++;
        printf("rank %d: %s: no\n", rank, what);
    }
}

static void pt2pt(void)
{
    int next = (rank + 1) % size, last = (rank + size - 1) % size, got = -1, flag, n;
    int *big = malloc(BIG * sizeof *big), *in = malloc(BIG * sizeof *in);
    MPI_Request r[2];
    MPI_Status st;

    MPI_Sendrecv(&rank, 1, MPI_INT, next, 1, &got, 1, MPI_INT, last, 1, MPI_COMM_WORLD, &st);
    holds(got == last && st.MPI_SOURCE == last && st.MPI_TAG == 1, "sendrecv");
    for (int i = 0; i < BIG; i++)
        big[i] = rank + i;
    MPI_Irecv(in, BIG, MPI_INT, last, 2, MPI_COMM_WORLD, &r[0]);
    MPI_Isend(big, BIG, MPI_INT, next, 2, MPI_COMM_WORLD, &r[1]);
    MPI_Wait(&r[0], &st);
    MPI_Wait(&r[1], MPI_STATUS_IGNORE);
    MPI_Get_count(&st, MPI_INT, &n);
    int same = n == BIG;
    for (int i = 0; same && i < BIG; i++)
        same = in[i] == last + i;
    holds(same, "8 MB to a neighbour");
    if (rank == 0)
        for (int i = 1; i < size; i++) {
            MPI_Probe(MPI_ANY_SOURCE, 3, MPI_COMM_WORLD, &st);
            MPI_Get_count(&st, MPI_INT, &n);
            MPI_Recv(in, n, MPI_INT, st.MPI_SOURCE, 3, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            holds(n == st.MPI_SOURCE && (n == 0 || in[0] == st.MPI_SOURCE), "probe, any source");
        }
    else {
        for (int i = 0; i < rank; i++)
            big[i] = rank;
        MPI_Ssend(big, rank, MPI_INT, 0, 3, MPI_COMM_WORLD);
    }
    MPI_Iprobe(MPI_ANY_SOURCE, 99, MPI_COMM_WORLD, &flag, MPI_STATUS_IGNORE);
    holds(!flag, "no message that nobody sent");
    free(big);
    free(in);
}

static void coll(void)
{
    int v = rank == 0 ? 42 : 0, sum, *all = calloc((size_t)size, sizeof *all), good = 1;
    int *to = malloc((size_t)size * sizeof *to);
    long *big = malloc(BIG / 2 * sizeof *big), *out = malloc(BIG / 2 * sizeof *out);

    MPI_Bcast(&v, 1, MPI_INT, 0, MPI_COMM_WORLD);
    holds(v == 42, "bcast");
    MPI_Reduce(&rank, &sum, 1, MPI_INT, MPI_SUM, 0, MPI_COMM_WORLD);
    holds(rank || sum == size * (size - 1) / 2, "reduce");
    MPI_Allgather(&rank, 1, MPI_INT, all, 1, MPI_INT, MPI_COMM_WORLD);
    for (int i = 0; i < size; i++)
        good &= all[i] == i;
    holds(good, "allgather");
    for (int i = 0; i < size; i++)
        to[i] = rank * 1000 + i;
    MPI_Alltoall(to, 1, MPI_INT, all, 1, MPI_INT, MPI_COMM_WORLD);
    for (int i = 0; i < size; i++)
        good &= all[i] == i * 1000 + rank;
    holds(good, "alltoall");
    MPI_Scan(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    holds(sum == rank * (rank + 1) / 2, "scan");
    MPI_Scatter(to, 1, MPI_INT, &v, 1, MPI_INT, 0, MPI_COMM_WORLD);
    holds(v == rank, "scatter");
    for (int i = 0; i < BIG / 2; i++)
        big[i] = i + rank;
    MPI_Allreduce(big, out, BIG / 2, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    for (long i = 0; i < BIG / 2; i++)
        good &= out[i] == i * size + (long)size * (size - 1) / 2;
    holds(good, "allreduce of 8 MB");
    MPI_Barrier(MPI_COMM_WORLD);
    free(all);
    free(to);
    free(big);
    free(out);
}

static void comm(void)
{
    MPI_Comm half, dup, node;
    int r, n, result, sum;

    MPI_Comm_split(MPI_COMM_WORLD, rank % 2, rank, &half);
    MPI_Comm_rank(half, &r);
    MPI_Comm_size(half, &n);
    holds(r == rank / 2 && n == (size + (rank % 2 == 0)) / 2, "split");
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, half);
    int want = 0;
    for (int i = rank % 2; i < size; i += 2)
        want += i;
    holds(sum == want, "allreduce in half");
    MPI_Comm_dup(MPI_COMM_WORLD, &dup);
    MPI_Comm_compare(MPI_COMM_WORLD, dup, &result);
    holds(result == MPI_CONGRUENT, "dup");
    /* Ranks of one node are those that have its name. */
    char name[MPI_MAX_PROCESSOR_NAME] = "", *names = calloc((size_t)size, sizeof name);
    MPI_Get_processor_name(name, &n);
    MPI_Allgather(name, sizeof name, MPI_CHAR, names, sizeof name, MPI_CHAR, MPI_COMM_WORLD);
    want = 0;
    for (int i = 0; i < size; i++)
        want += strcmp(name, names + (size_t)i * sizeof name) == 0;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
    MPI_Comm_size(node, &n);
    holds(n == want, "split by node");
    free(names);
    MPI_Comm_free(&half);
    MPI_Comm_free(&dup);
    MPI_Comm_free(&node);
}

static void datatype(void)
{
    struct pair {
        char c;
        double d;
        int i[3];
    } mine = { (char)('a' + rank % 26), rank * 0.5, { rank, rank + 1, rank + 2 } }, theirs;
    int block[3] = { 1, 1, 3 }, last = (rank + size - 1) % size;
    MPI_Aint at[3] = { offsetof(struct pair, c), offsetof(struct pair, d),
                       offsetof(struct pair, i) };
    MPI_Datatype kind[3] = { MPI_CHAR, MPI_DOUBLE, MPI_INT }, t, column;
    int m[8][8], col[8], good = 1;

    MPI_Type_create_struct(3, block, at, kind, &t);
    MPI_Type_commit(&t);
    MPI_Sendrecv(&mine, 1, t, (rank + 1) % size, 5, &theirs, 1, t, last, 5, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
    holds(theirs.c == 'a' + last % 26 && theirs.d == last * 0.5 && theirs.i[2] == last + 2,
          "a struct");
    MPI_Type_free(&t);
    for (int i = 0; i < 64; i++)
        m[i / 8][i % 8] = rank * 100 + i;
    MPI_Type_vector(8, 1, 8, MPI_INT, &column);
    MPI_Type_commit(&column);
    MPI_Sendrecv(&m[0][3], 1, column, (rank + 1) % size, 6, col, 8, MPI_INT, last, 6,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    for (int i = 0; i < 8; i++)
        good &= col[i] == last * 100 + 8 * i + 3;
    holds(good, "a column");
    MPI_Type_free(&column);
}

int main(int argc, char **argv)
{
    int all_claims, all_failures;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    pt2pt();
    coll();
    comm();
    datatype();
    MPI_Reduce(&claims, &all_claims, 1, MPI_INT, MPI_SUM, 0, MPI_COMM_WORLD);
    MPI_Allreduce(&failures, &all_failures, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (rank == 0)
        printf("%d claims hold\n", all_claims - all_failures);
    MPI_Finalize();
    return all_failures != 0;
}
