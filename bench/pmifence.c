/* pmifence.c - the time of a PMI fence, without any MPI
 *
 * pmifence ROUNDS: each rank puts a key, fences, and gets the keys of both of
 * its neighbours; rank 0 prints the mean of ROUNDS in microseconds. Speaks PMI-1
 * over PMI_FD, as any launcher for MPICH has it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static FILE *pmi;

/* One command and its answer. */
static void ask(const char *command, const char *want, char *value, size_t room)
{
    char line[2048];

    fputs(command, pmi);
    fflush(pmi);
    if (!fgets(line, sizeof line, pmi) || strncmp(line, want, strlen(want)) != 0) {
        fprintf(stderr, "pmifence: %s: %s", command, line);
        exit(1);
    }
    char *v = value ? strstr(line, "value=") : NULL;
    if (v)
        snprintf(value, room, "%.*s", (int)strcspn(v + 6, " \n"), v + 6);
}

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

int main(int argc, char **argv)
{
    const char *fd = getenv("PMI_FD"), *rank_text = getenv("PMI_RANK"),
               *size_text = getenv("PMI_SIZE");
    int rounds = argc > 1 ? atoi(argv[1]) : 10;
    char space[300] = "", line[1024], value[64], want[64];

    if (!fd || !rank_text || !size_text || !(pmi = fdopen(atoi(fd), "r+")))
        return fputs("pmifence: run me by mpirun or mpiexec.hydra\n", stderr), 2;
    setvbuf(pmi, NULL, _IOFBF, 4096);
    int rank = atoi(rank_text), size = atoi(size_text);
    ask("cmd=init pmi_version=1 pmi_subversion=1\n", "cmd=response_to_init", NULL, 0);
    fputs("cmd=get_my_kvsname\n", pmi);
    fflush(pmi);
    if (!fgets(line, sizeof line, pmi) || sscanf(line, "cmd=my_kvsname kvsname=%255s", space) != 1)
        return 1;
    ask("cmd=barrier_in\n", "cmd=barrier_out", NULL, 0);
    double began = now_us();
    for (int i = 0; i < rounds; i++) {
        snprintf(line, sizeof line, "cmd=put kvsname=%s key=k%d.%d value=v%d.%d\n", space, i, rank, i,
                 rank);
        ask(line, "cmd=put_result rc=0", NULL, 0);
        ask("cmd=barrier_in\n", "cmd=barrier_out", NULL, 0);
        for (int k = 1; k <= size - 1 && k < 3; k++) {
            int of = (rank + (k == 1 ? 1 : size - 1)) % size;
            snprintf(line, sizeof line, "cmd=get kvsname=%s key=k%d.%d\n", space, i, of);
            snprintf(want, sizeof want, "v%d.%d", i, of);
            ask(line, "cmd=get_result rc=0", value, sizeof value);
            if (strcmp(value, want) != 0)
                return fprintf(stderr, "pmifence: %s, want %s\n", value, want), 1;
        }
    }
    if (rank == 0)
        printf("%.1f\n", (now_us() - began) / rounds);
    ask("cmd=finalize\n", "cmd=finalize_ack", NULL, 0);
    return 0;
}
