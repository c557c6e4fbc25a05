/* end.c - ending all of it; signals and time limits
 *
 * First the ranks are asked (SIGTERM, or the signal that we got ourselves), a
 * little later whatever the launches have left on the nodes is killed, and
 * should even that not be answered, we leave and say so. A second Ctrl-C does
 * not wait for the first step.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include "clients/mpirun/mpirun.h"

#define ASKED_MS 2000  /* ranks may tidy up for so long: */
#define SILENT_MS 300  /* after this, who waits at a terminal is told */
#define KILLED_MS 5000 /* nodes may take so long to answer */
#define HELPERS_MS 3000
#define LATE_MS 20000 /* all ranks have ended: a slow machine is no reason to fail */

static sigset_t old_mask;
static void (*old_pipe)(int);

/* --- killing --- */

static void on_swept(void *arg, const msgpack_object *value, const struct err *err)
{
    struct job *j = arg;

    (void)value, (void)err;
    j->asking--;
}

/* All that a launch has left on its nodes, children of ranks too. */
static void sweep(struct child *c)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    if (!c->launch)
        return;
    mp_map(&m, 2);
    mp_kuint(&m, "launch", c->launch);
    mp_kint(&m, "sig", SIGKILL);
    c->job->asking++;
    if (calls_start(c->job->calls, "procspace.end_launch", &m, KILLED_MS, on_swept, c->job,
                    NULL) < 0)
        c->job->asking--;
}

static void on_left(void *arg)
{
    struct job *j = arg;

    j->timer = 0;
    for (struct child *c = j->child; c; c = c->next)
        if (c->pid > 0)
            kill(c->pid, SIGKILL);
    fprintf(stderr, "mpirun: gave up waiting for the nodes; see bpps for what is left\n");
    j->left = true;
    if (!j->status)
        j->status = EXIT_FAILURE;
}

static void step(struct job *j, int ms, loop_fn *fn)
{
    loop_timer_del(j->loop, j->timer);
    j->timer = loop_timer(j->loop, ms, false, fn, j);
}

static void kill_ranks(void *arg)
{
    struct job *j = arg;

    j->timer = 0;
    if (j->killing)
        return;
    j->killing = true;
    for (struct child *c = j->child; c; c = c->next)
        if (!c->helper) {
            if (c->pid > 0)
                kill(c->pid, SIGTERM); /* where the launch is not known yet */
            sweep(c);
        }
    step(j, KILLED_MS, on_left);
}

/* Who has pressed Ctrl-C and sees nothing happen presses it again, knowing or not. */
static void on_slow(void *arg)
{
    struct job *j = arg;

    j->timer = 0;
    if (j->interrupted && !j->opt.quiet && isatty(STDERR_FILENO))
        fprintf(stderr, "mpirun: waiting for the ranks to end; once more kills them at once\n");
    step(j, ASKED_MS - SILENT_MS, kill_ranks);
}

static void pass_on(struct job *j, int sig)
{
    for (struct child *c = j->child; c; c = c->next)
        if (!c->helper && c->pid > 0)
            kill(c->pid, sig);
}

void end_begin(struct job *j, int sig)
{
    if (j->ending)
        return;
    j->ending = true;
    if (sig)
        pass_on(j, sig);
    step(j, SILENT_MS, on_slow);
}

static void on_helpers_late(void *arg)
{
    struct job *j = arg;

    j->timer = 0;
    sweep(j->helper);
    step(j, j->ending ? KILLED_MS : LATE_MS, on_left);
}

void end_helpers(struct job *j)
{
    if (j->closing)
        return;
    j->closing = true;
    if (j->ending && !j->killing) {
        j->killing = true;
        for (struct child *c = j->child; c; c = c->next)
            if (!c->helper)
                sweep(c);
    }
    fold_close(j);
    step(j, HELPERS_MS, on_helpers_late);
}

/* --- time limit --- */

static void on_time(void *arg)
{
    struct job *j = arg;

    job_fail(j, MPIRUN_TIMEOUT, "the job did not end within %g s",
             (double)j->opt.timeout_ms / 1000);
}

void time_limit(struct job *j)
{
    if (j->opt.timeout_ms)
        loop_timer(j->loop, j->opt.timeout_ms, false, on_time, j);
}

/* --- signals --- */

void signals_in_child(void)
{
    signal(SIGPIPE, old_pipe);
    sigprocmask(SIG_SETMASK, &old_mask, NULL);
}

void signals_die(int sig)
{
    struct rlimit none = { 0, 0 };
    sigset_t set;

    setrlimit(RLIMIT_CORE, &none);
    signal(sig, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, sig);
    raise(sig);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static void take(struct job *j, const struct signalfd_siginfo *si)
{
    int sig = (int)si->ssi_signo;
    bool terminal = si->ssi_code == SI_KERNEL; /* then the ranks have it already */

    if (sig == SIGCHLD) {
        ranks_reap(j);
        return;
    }
    if (j->interrupted) { /* asked for once more */
        kill_ranks(j);
        return;
    }
    j->interrupted = sig;
    if (j->ending && !terminal)
        pass_on(j, sig);
    end_begin(j, terminal ? 0 : sig);
}

static void on_signal(void *arg, int fd, uint32_t events)
{
    struct job *j = arg;
    struct signalfd_siginfo si;

    (void)events;
    while (read(fd, &si, sizeof si) == sizeof si)
        take(j, &si);
}

int signals_open(struct job *j, struct err *err)
{
    static const int taken[] = { SIGCHLD, SIGINT, SIGQUIT, SIGTERM, SIGHUP };
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        sigaddset(&set, taken[i]);
    old_pipe = signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* ignored, it would reap our children for us */
    sigprocmask(SIG_BLOCK, &set, &old_mask);
    j->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (j->sigfd < 0)
        return err_set(err, errno, "signalfd: %s", strerror(errno));
    return 0;
}

int signals_watch(struct job *j, struct err *err)
{
    return loop_fd(j->loop, j->sigfd, EPOLLIN, on_signal, j, err);
}
