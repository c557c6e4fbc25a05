/* forks.c - forks N: so many children one after the other, each ends at once
 * and is waited for. Prints the seconds that it took.
 */
#include <stdio.h>
#include <stdlib.h>
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
    int n = argc == 2 ? atoi(argv[1]) : 0;

    if (n < 1) {
        fputs("usage: forks N\n", stderr);
        return 2;
    }
    double begin = now();
    for (int i = 0; i < n; i++) {
        int status;
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status) {
            fputs("forks: a child failed\n", stderr);
            return 1;
        }
    }
    printf("%.9f\n", now() - begin);
    return 0;
}
