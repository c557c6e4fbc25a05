/* timers.c - a program with POSIX timers moves about, or is moved
 *
 *     timers NODE...   to each of these in turn; -1 is the master
 *     timers wait      says "ready", and checks itself when SIGTERM comes
 *
 * One that is far, one that ticks, one that nobody is told of, one of processor time,
 * and one that has rung while its signal is blocked: it is heard once, at the end.
 * Ends with the number of faults.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "clients/libbproc/bproc.h"

enum { FAR, GAP, TICK, NONE, CPU, RUNG, TIMERS };

static timer_t timer[TIMERS];
static volatile sig_atomic_t ticks, rung, wrong, told;

#define BAD(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), 1)

static void on_tick(int sig, siginfo_t *si, void *context)
{
    (void)sig;
    (void)context;
    ticks++;
    wrong += si->si_code != SI_TIMER || si->si_value.sival_int != 22;
}

static void on_rung(int sig, siginfo_t *si, void *context)
{
    (void)sig;
    (void)context;
    rung++;
    wrong += si->si_code != SI_TIMER || si->si_value.sival_int != 33;
}

static void on_term(int sig)
{
    (void)sig;
    told = 1;
}

static void set(int which, clockid_t clock, int notify, int sig, int value, long ms, long every)
{
    struct sigevent ev = { .sigev_notify = notify, .sigev_signo = sig };
    struct itimerspec it = { { every / 1000, every % 1000 * 1000000 },
                             { ms / 1000, ms % 1000 * 1000000 } };

    ev.sigev_value.sival_int = value;
    if (timer_create(clock, &ev, &timer[which]) < 0 ||
        timer_settime(timer[which], 0, &it, NULL) < 0) {
        perror("timer");
        exit(100);
    }
}

static int left(int which, const char *name, long from, long to)
{
    struct itimerspec it;

    if (timer_gettime(timer[which], &it) < 0)
        return BAD("the %s timer: %s", name, strerror(errno));
    if (it.it_value.tv_sec < from || it.it_value.tv_sec > to)
        return BAD("the %s timer is at %ld s", name, (long)it.it_value.tv_sec);
    return 0;
}

static int check(void)
{
    struct itimerspec it;
    time_t end = time(NULL) + 10;
    int bad = left(FAR, "far", 1000, 3000) + left(NONE, "silent", 1000, 2000) +
              left(CPU, "processor's", 1000, 3000);

    for (int from = ticks; ticks < from + 3 && time(NULL) < end;)
        usleep(1000);
    if (time(NULL) >= end)
        bad += BAD("nothing ticks");
    if (timer_gettime(timer[GAP], &it) == 0 || errno != EINVAL)
        bad += BAD("the timer that was given up is there");
    if (rung)
        bad += BAD("a blocked signal has come");
    return bad;
}

int main(int argc, char **argv)
{
    struct sigaction tick = { .sa_sigaction = on_tick, .sa_flags = SA_SIGINFO | SA_RESTART };
    struct sigaction ring = { .sa_sigaction = on_rung, .sa_flags = SA_SIGINFO };
    sigset_t blocked, now;
    int bad = 0;

    if (argc < 2)
        return 2;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGRTMIN + 3);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    sigaction(SIGRTMIN + 2, &tick, NULL);
    sigaction(SIGRTMIN + 3, &ring, NULL);
    signal(SIGTERM, on_term);
    set(FAR, CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 1, 11, 3000000, 0);
    set(GAP, CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 1, 12, 3000000, 0);
    set(TICK, CLOCK_REALTIME, SIGEV_SIGNAL, SIGRTMIN + 2, 22, 5, 5);
    set(NONE, CLOCK_BOOTTIME, SIGEV_NONE, 0, 0, 2000000, 0);
    set(CPU, CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGRTMIN + 1, 13, 3000000, 0);
    set(RUNG, CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 3, 33, 1, 0);
    timer_delete(timer[GAP]);
    do
        sigpending(&now);
    while (!sigismember(&now, SIGRTMIN + 3));
    if (strcmp(argv[1], "wait") == 0) {
        puts("ready");
        fflush(stdout);
        while (!told)
            usleep(1000);
        bad += check();
    }
    for (int i = 1; i < argc && !told; i++) {
        if (bproc_move(atoi(argv[i])) < 0)
            return bad + BAD("move to %s: %s", argv[i], bproc_strerror(errno));
        bad += check();
    }
    sigprocmask(SIG_UNBLOCK, &blocked, NULL);
    if (rung != 1)
        bad += BAD("a timer that rang once was heard %d times", (int)rung);
    if (wrong)
        bad += BAD("%d signals were not its timers'", (int)wrong);
    printf("%d faults on %d\n", bad, bproc_currnode());
    return bad;
}
