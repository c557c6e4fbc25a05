/* signals.c - what bpsh is told to do while processes run
 *
 * The terminal's signals reach the ghosts by themselves, since they are in our
 * process group; then we only wait for what comes of it. A signal that was
 * sent to us alone is passed on.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include "clients/bpsh/bpsh.h"

static sigset_t old_mask;
static void (*old_pipe)(int);

void signals_in_child(void)
{
    signal(SIGPIPE, old_pipe);
    sigprocmask(SIG_SETMASK, &old_mask, NULL);
}

bool signals_pipe_default(void) { return old_pipe == SIG_DFL; }

void signals_die(int sig)
{
    struct rlimit none = { 0, 0 };
    sigset_t set;

    setrlimit(RLIMIT_CORE, &none); /* nobody wants a dump of bpsh itself */
    signal(sig, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, sig);
    raise(sig);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

int signals_open(struct bpsh *b, struct err *err)
{
    static const int taken[] = { SIGCHLD, SIGINT, SIGQUIT, SIGTERM, SIGHUP };
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        sigaddset(&set, taken[i]);
    sigprocmask(SIG_BLOCK, &set, &old_mask);
    old_pipe = signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* ignored, it would reap our children for us */
    b->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (b->sigfd < 0)
        return err_set(err, errno, "signalfd: %s", strerror(errno));
    return 0;
}

#define START_MS 5000 /* what is only being started need not be waited for longer */

/* Nobody has said yet that anything runs, so nobody ends because of the signal:
 * a node, or a service, may be stuck. */
static void on_no_start(void *arg)
{
    struct bpsh *b = arg;

    if (b->answered)
        return;
    procs_kill(b, SIGKILL);
    leave(b, -b->told);
}

static void told(struct bpsh *b, int sig)
{
    if (!b->told && b->remote && !b->answered)
        loop_timer(b->loop, START_MS, false, on_no_start, b);
    b->told = sig;
}

/* Sent by the kernel on behalf of the terminal: to the whole process group. */
static bool from_terminal(const struct signalfd_siginfo *si) { return si->ssi_code == SI_KERNEL; }

static void take(struct bpsh *b, const struct signalfd_siginfo *si)
{
    int sig = (int)si->ssi_signo;

    if (sig == SIGCHLD) {
        procs_reap(b);
        return;
    }
    told(b, sig);
    if (!from_terminal(si)) {
        if (b->alive)
            procs_kill(b, sig);
        else
            leave(b, -sig); /* only their streams are still awaited */
        return;
    }
    if (sig == SIGINT || sig == SIGQUIT) {
        /* Asked for once more: do not wait for anybody. */
        if (b->interrupted) {
            procs_kill(b, SIGKILL);
            leave(b, -sig);
            return;
        }
        b->interrupted = sig;
    }
}

static void on_signal(void *arg, int fd, uint32_t events)
{
    struct bpsh *b = arg;
    struct signalfd_siginfo si[8];
    ssize_t n;

    (void)events;
    while ((n = read(fd, si, sizeof si)) > 0)
        for (size_t i = 0; i < (size_t)n / sizeof *si; i++)
            take(b, &si[i]);
}

int signals_watch(struct bpsh *b, struct err *err)
{
    return loop_fd(b->loop, b->sigfd, EPOLLIN, on_signal, b, err);
}
