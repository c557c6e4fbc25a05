/* spawn.c - how fast can this machine start and reap N short processes?
 *
 * spawn N PROGRAM: posix_spawn() all of them, then wait for all of them. Prints
 * the seconds between the first start and the last end: the floor for anything
 * that starts the same number of programs.
 */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    int n = argc == 3 ? atoi(argv[1]) : 0;

    if (n < 1) {
        fputs("usage: spawn N PROGRAM\n", stderr);
        return 2;
    }
    double begin = now();
    for (int i = 0; i < n; i++) {
        char *child[] = { argv[2], NULL };
        pid_t pid;
        int rc = posix_spawn(&pid, argv[2], NULL, NULL, child, environ);
        if (rc) {
            fprintf(stderr, "spawn: %s: %s\n", argv[2], strerror(rc));
            return 1;
        }
    }
    for (int i = 0; i < n; i++) {
        int status;
        if (wait(&status) < 0 || status) {
            fputs("spawn: a child failed\n", stderr);
            return 1;
        }
    }
    printf("%.9f\n", now() - begin);
    return 0;
}
