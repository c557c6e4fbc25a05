/* queens.c - in how many ways N queens stand on a board without a quarrel
 *
 * Spreads itself: each node has a copy of the program, with all that it has
 * worked out already, and takes its share of the first two rows.
 *
 *     gcc -o queens queens.c -lbproc
 *     ./queens 10 0 1 2 3
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/bproc.h>
#include <sys/wait.h>
#include <unistd.h>

static int size;

static long ways(int row, unsigned cols, unsigned left, unsigned right)
{
    long sum = 0;

    if (row == size)
        return 1;
    for (int c = 0; c < size; c++) {
        unsigned bit = 1u << c;
        if (!((cols | left | right) & bit))
            sum += ways(row + 1, cols | bit, (left | bit) << 1, (right | bit) >> 1);
    }
    return sum;
}

/* The share of one of n: every n-th place of the first two queens. */
static long share(int me, int n)
{
    long sum = 0;

    for (int i = me; i < size * size; i += n) {
        unsigned a = 1u << i / size, b = 1u << i % size;
        if (!((a | a << 1 | a >> 1) & b))
            sum += ways(2, a | b, (a << 1 | b) << 1, (a >> 1 | b) >> 1);
    }
    return sum;
}

int main(int argc, char **argv)
{
    int n = argc - 2, nodes[256], pids[256], p[2], status;
    long sum = 0, part;

    if (argc < 3 || n > 256 || (size = atoi(argv[1])) < 2 || size > 15) {
        fputs("usage: queens SIZE NODE...\n", stderr);
        return 2;
    }
    for (int i = 0; i < n; i++)
        nodes[i] = atoi(argv[2 + i]);
    /* What the copies write to descriptor 1 comes to ours: a pipe, for once. */
    int out = dup(1);
    if (out < 0 || pipe(p) < 0 || dup2(p[1], 1) < 0)
        return 1;
    close(p[1]);
    int me = bproc_vrfork(n, nodes, pids);
    if (me >= 0 && me < n) { /* a copy, on its node */
        part = share(me, n);
        return write(1, &part, sizeof part) == sizeof part ? 0 : 1;
    }
    dup2(out, 1);
    if (me < 0) {
        fprintf(stderr, "queens: %s\n", bproc_strerror(errno));
        return 1;
    }
    for (int i = 0; i < n; i++) {
        if (pids[i] < 0)
            fprintf(stderr, "node %d: %s\n", nodes[i], bproc_strerror(-pids[i]));
        else if (read(p[0], &part, sizeof part) == sizeof part)
            sum += part;
    }
    for (int i = 0; i < n; i++)
        if (pids[i] > 0)
            waitpid(pids[i], &status, 0);
    printf("%ld ways\n", sum);
    return 0;
}
