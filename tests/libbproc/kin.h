/* kin.h - a parent's side: it starts children, and hears of them
 *
 * For kin.c only.
 */
#ifndef TESTS_LIBBPROC_KIN_H
#define TESTS_LIBBPROC_KIN_H
#include <signal.h>
#include <stdio.h>
#include "tests/libbproc/check.h"

#define LIMIT_MS 60000

static const char *me;
static int place[2];
static bool forks;

static int child(int argc, char **argv);

static pid_t start_on(int node, const char *a, const char *b, const char *c)
{
    char *argv[] = { text("kin"), text(a), text(b), text(c), NULL };
    int pid = 0;

    if (node == -2) {
        if ((pid = fork()) == 0) {
            execv(me, argv);
            _exit(127);
        }
        return pid;
    }
    if (forks && (pid = bproc_rfork_io(node, NULL, 0)) == 0)
        exit(child(c ? 4 : 3, argv));
    if (forks && pid < 0)
        printf("#   on %d: %s\n", node, bproc_strerror(errno));
    if (forks)
        return pid > 0 ? pid : 0;
    if (bproc_vexecmove_io(1, &node, &pid, NULL, 0, me, argv, environ) != 1) {
        printf("#   on %d: %s\n", node, bproc_strerror(errno));
        return 0;
    }
    if (pid < 0)
        printf("#   on %d: %s\n", node, bproc_strerror(-pid));
    return pid > 0 ? pid : 0;
}

/* SIGCHLD is blocked all the time. One comes for each change, before wait() tells
 * of it; those that come late are counted at the end. */
static int extra;

static bool one_sigchld(void)
{
    const struct timespec limit = { LIMIT_MS / 1000, 0 }, now = { 0, 0 };
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    if (sigtimedwait(&set, NULL, &limit) != SIGCHLD)
        return false;
    while (sigtimedwait(&set, NULL, &now) == SIGCHLD)
        extra++;
    return true;
}

static bool no_sigchld(int ms)
{
    const struct timespec t = { 0, ms * 1000000l };
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    return sigtimedwait(&set, NULL, &t) != SIGCHLD;
}

static bool came(int sig)
{
    const struct timespec t = { LIMIT_MS / 1000, 0 };
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, sig);
    return sigtimedwait(&set, NULL, &t) == sig;
}

/* As reap(), for stops too; never for ever. */
static int next_status(pid_t pid)
{
    int status = -1;

    if (pid <= 0)
        return -1;
    alarm(LIMIT_MS / 1000);
    pid_t got = waitpid(pid, &status, WUNTRACED | WCONTINUED);
    alarm(0);
    return got == pid ? status : -1;
}

static void goes_to(int node)
{
    int rc = bproc_move(node), code = errno;

    if (!ok(rc == 0, "it goes to %d", node))
        printf("#   %s\n", bproc_strerror(code));
}

static char *number(pid_t n)
{
    static char buf[4][16];
    static int i;

    i = (i + 1) % 4;
    snprintf(buf[i], sizeof buf[i], "%d", (int)n);
    return buf[i];
}

static pid_t start_waiting(int node)
{
    pid_t pid = start_on(node, "wait", number(getpid()), NULL);

    ok(pid > 0 && came(SIGUSR2), "one is ready, on %d", node);
    return pid;
}

static void on_alarm(int sig) { (void)sig; }

static void prepare(int a, int b)
{
    struct sigaction sa;
    sigset_t set;

    place[0] = a;
    place[1] = b;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = on_alarm;
    sigaction(SIGALRM, &sa, NULL);
}

#endif
