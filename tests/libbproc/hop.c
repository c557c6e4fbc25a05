/* hop.c - a process that moves again and again while signals are sent to it
 *
 *     hop NODES TIMES SEED COUNT SAID     NODES: a list like 0,1,2,-1
 *
 * Its parent sends values by SIGRTMIN, which queue, and SIGUSR1, which does not;
 * then SIGTERM, which may overtake values that are still with its ghost: those are
 * waited for. What has come of the values is in the file SAID; status 1 if one has not.
 * At each quarter of them the parent says "sent N".
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "clients/libbproc/bproc.h"

static volatile sig_atomic_t usr1, ended, doubled;
static unsigned char seen[100000];
static volatile int values;
static char said[4096];

static void on_value(int sig, siginfo_t *si, void *context)
{
    int v = si->si_value.sival_int;

    (void)sig;
    (void)context;
    if (v < 1 || v >= (int)sizeof seen || seen[v])
        doubled++;
    else
        seen[v] = 1;
    values++;
}

static void on_usr1(int sig)
{
    (void)sig;
    usr1++;
}

static void on_term(int sig)
{
    (void)sig;
    ended++;
}

/* The child: moves, then waits for its end. */
static int child(char *list, int times, unsigned seed, int count, int ready)
{
    int nodes[32], n = 0, failed = 0, pid = getpid();
    struct sigaction sa = { .sa_sigaction = on_value, .sa_flags = SA_SIGINFO | SA_RESTART };
    sigset_t term, none;

    for (char *p = strtok(list, ","); p && n < 32; p = strtok(NULL, ","))
        nodes[n++] = atoi(p);
    srand(seed);
    sigaction(SIGRTMIN, &sa, NULL);
    signal(SIGUSR1, on_usr1);
    signal(SIGTERM, on_term);
    sigemptyset(&none);
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    if (write(ready, "", 1) != 1)
        return 5;
    close(ready);
    for (int i = 0; i < times; i++) {
        int to = nodes[rand() % n];
        if (bproc_move_io(to, NULL, 0) < 0)
            failed++;
        else if (bproc_currnode() != to || getpid() != pid)
            return 3;
    }
    /* Services may be on their way up again. */
    for (int tries = 0; bproc_move_io(-1, NULL, 0) < 0; tries++) {
        if (tries == 100)
            return 4;
        usleep(100000);
    }
    while (!ended)
        sigsuspend(&none);
    for (int tries = 0; values < count && tries < 1000; tries++)
        usleep(20000);
    FILE *f = fopen(said, "w");
    int last = 0, missing = 0;
    for (int v = 1; v < (int)sizeof seen; v++)
        if (seen[v])
            last = v;
    for (int v = 1; v <= count; v++)
        missing += !seen[v];
    if (f) {
        fprintf(f, "last %d missing %d doubled %d failed %d\n", last, missing, (int)doubled,
                failed);
        fclose(f);
    }
    return missing ? 1 : 0;
}

int main(int argc, char **argv)
{
    int p[2], status = 0;
    char c;

    if (argc != 6 || atoi(argv[4]) < 4 || pipe(p) < 0)
        return 2;
    snprintf(said, sizeof said, "%s", argv[5]);
    unlink(said);
    pid_t pid = fork();
    if (pid == 0) {
        close(p[0]);
        _exit(child(argv[1], atoi(argv[2]), (unsigned)atoi(argv[3]), atoi(argv[4]), p[1]));
    }
    close(p[1]);
    if (pid < 2 || read(p[0], &c, 1) != 1)
        return 2;
    srand((unsigned)atoi(argv[3]) + 1);
    for (int v = 1; v <= atoi(argv[4]); v++) {
        union sigval value = { .sival_int = v };
        if (sigqueue(pid, SIGRTMIN, value) < 0)
            fprintf(stderr, "value %d: %s\n", v, strerror(errno));
        kill(pid, SIGUSR1);
        if (v % (atoi(argv[4]) / 4) == 0) {
            printf("sent %d\n", v);
            fflush(stdout);
        }
        usleep((useconds_t)(rand() % 20000));
    }
    kill(pid, SIGTERM);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return 2;
    printf("status %x\n", (unsigned)status);
    return status != 0;
}
