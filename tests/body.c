/* body.c - the program that tests start on nodes
 *
 *   body wait            say "PID RANK"; end with status RANK % 100 when input
 *                        ends. TERM: end with 42. HUP, USR1, USR2: say so. A
 *                        real-time signal: say its number, value and sender.
 *   body deaf            the same, but INT, QUIT and TERM are ignored
 *   body exit STATUS     end with it; STATUS may be the word rank
 *   body die SIGNAL      by its default action; SIGNAL may be the word rank;
 *                        98 if it does not kill
 *   body burn MS         that much processor time
 *   body forks N         so many children, one after the other, that end at once;
 *                        print the lowest and the highest of their pids
 *   body queue PID SIGNAL VALUE   send a signal with a value
 *   body wstatus CMD...  run CMD; print its wait status, as wait() gives it
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* One write, so that lines stay whole; snprintf of numbers and text only. */
static void say(const char *what, long a, long b)
{
    char line[128];
    int n = snprintf(line, sizeof line, "%d %s %ld %ld\n", (int)getpid(), what, a, b);

    if (write(1, line, (size_t)n) < 0)
        _exit(99);
}

static void on_term(int sig)
{
    (void)sig;
    _exit(42);
}

static void on_signal(int sig, siginfo_t *si, void *context)
{
    (void)context;
    if (sig >= SIGRTMIN)
        say("rt", sig - SIGRTMIN, si->si_value.sival_int);
    else
        say("signal", sig, si->si_uid);
}

static int wait_for_end(int deaf)
{
    static const int said[] = { SIGHUP, SIGUSR1, SIGUSR2 };
    const char *rank = getenv("BPROC_RANK");
    struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
    char buf[4096];

    sigfillset(&sa.sa_mask);
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        sigaction(said[i], &sa, NULL);
    for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++)
        sigaction(sig, &sa, NULL);
    signal(SIGTERM, deaf ? SIG_IGN : on_term);
    if (deaf) {
        signal(SIGINT, SIG_IGN);
        signal(SIGQUIT, SIG_IGN);
    }
    say("rank", rank ? atol(rank) : -1, 0);
    while (read(0, buf, sizeof buf) > 0)
        continue;
    return rank ? (int)(atol(rank) % 100) : 0;
}

static int die(int sig)
{
    struct rlimit none = { 0, 0 };
    sigset_t all;

    if (sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU)
        return 98;
    if (!getenv("CM_TEST_CORE"))
        setrlimit(RLIMIT_CORE, &none);
    signal(sig, SIG_DFL);
    sigfillset(&all);
    sigprocmask(SIG_UNBLOCK, &all, NULL);
    raise(sig);
    return 98;
}

static int burn(int ms)
{
    while (clock() < (clock_t)ms * (CLOCKS_PER_SEC / 1000))
        continue;
    return 0;
}

static int forks(int n)
{
    int low = 0, high = 0;

    for (int i = 0; i < n; i++) {
        int status;
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
            return 1;
        low = !low || pid < low ? pid : low;
        high = pid > high ? pid : high;
    }
    printf("%d %d\n", low, high);
    return fflush(stdout) < 0;
}

static int wstatus(char **argv)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        execvp(argv[0], argv);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return 1;
    printf("%d\n", status);
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    const char *rank = getenv("BPROC_RANK");
    int n = argc > 2 ? atoi(argv[2]) : 0;

    if (argc > 2 && rank && strcmp(argv[2], "rank") == 0)
        n = atoi(rank);
    if (strcmp(what, "wait") == 0)
        return wait_for_end(0);
    if (strcmp(what, "deaf") == 0)
        return wait_for_end(1);
    if (strcmp(what, "exit") == 0)
        return n;
    if (strcmp(what, "die") == 0)
        return die(n);
    if (strcmp(what, "burn") == 0)
        return burn(n);
    if (strcmp(what, "forks") == 0)
        return forks(n);
    if (strcmp(what, "queue") == 0 && argc > 4)
        return sigqueue(n, atoi(argv[3]), (union sigval){ .sival_int = atoi(argv[4]) }) < 0;
    if (strcmp(what, "wstatus") == 0 && argc > 2)
        return wstatus(argv + 2);
    fprintf(stderr, "body: what am I to do?\n");
    return 2;
}
