/* bpinit_reap.c - pid 1 waits for everybody: bodies, and orphans of bodies
 *
 * What a body wrote before it ended is in its ring before its end is told.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "node/bpinit_kin.h"

#define END_LIMIT_MS 5000
#define DEPART_MS 3 /* nothing else is done meanwhile */

static void ended(struct init *in, struct body *b, int status, const struct rusage *ru)
{
    for (int fd = 1; fd < 3; fd++)
        pump_drain(in->pump, b->slot[fd]);
    rings_bell(in->rings);
    kin_parent_t *parent = b->parent;
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    bool starved = killed && cages_starved(in->cages, b->launch);
    if (arrival_ended(in->arrivals, b, starved)) {
        uint64_t launch = b->launch;
        b->parent = NULL;
        bodies_drop(in->bodies, b);
        kin_child_ended(in, parent);
        cages_body_ended(in->cages, launch, ru);
        return;
    }
    bodies_end(in->bodies, b);
    b->parent = NULL;
    journal_exit(in, b, status, ru, starved);
    kin_child_ended(in, parent);
    cages_body_ended(in->cages, b->launch, ru);
}

void reap_status(struct init *in, pid_t npid, int status, const struct rusage *ru)
{
    struct body *b = bodies_by_npid(in->bodies, npid);

    if (!b) { /* an orphan, a start that failed, what has moved away */
        if (!WIFSTOPPED(status) && !WIFCONTINUED(status)) {
            arrivals_departed_end(in->arrivals, npid);
            kids_reaped(in->kids, npid, status);
        }
        return;
    }
    if (WIFSTOPPED(status)) {
        b->stopped = true;
        kids_look_soon(in->kids); /* its group may have changed before */
        journal_stop(in, b, WSTOPSIG(status));
    } else if (WIFCONTINUED(status)) {
        b->stopped = false;
        journal_cont(in, b);
    } else {
        ended(in, b, status, ru);
    }
}

void reap_departed(struct init *in, pid_t npid)
{
    struct rusage ru;
    int status;

    if (!arrivals_departed(in->arrivals, npid))
        return;
    CLEANUP(cleanup_close) int fd = (int)syscall(SYS_pidfd_open, npid, 0);
    struct pollfd p = { fd, POLLIN, 0 };
    if (fd >= 0 && poll(&p, 1, DEPART_MS) > 0 && wait4(npid, &status, WNOHANG, &ru) == npid &&
        !kin_status(in, npid, status))
        reap_status(in, npid, status, &ru);
}

static void on_child(void *arg, int signo)
{
    struct init *in = arg;
    struct rusage ru;
    int status;
    pid_t npid;

    (void)signo;
    while ((npid = wait4(-1, &status, WNOHANG | WUNTRACED | WCONTINUED, &ru)) > 0)
        if (!kin_status(in, npid, status))
            reap_status(in, npid, status, &ru);
    if (npid < 0 && errno == ECHILD && in->ending)
        loop_stop(in->loop, in->end_status);
}

static void on_term(void *arg, int signo)
{
    (void)signo;
    reap_end_all(arg, SPACE_EXIT_END);
}

static void on_limit(void *arg)
{
    struct init *in = arg;

    /* The kernel ends what is left when pid 1 goes, however long that takes. */
    init_log("%u processes do not die; leaving them to the kernel",
             bodies_running(in->bodies));
    loop_stop(in->loop, in->end_status);
}

static void on_nothing(void *arg, int signo)
{
    (void)arg;
    (void)signo;
}

int reap_start(struct init *in, struct err *err)
{
    static const int quiet[] = { SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE };

    for (size_t i = 0; i < sizeof quiet / sizeof *quiet; i++)
        if (loop_signal(in->loop, quiet[i], on_nothing, in, err) < 0)
            return -1;
    if (loop_signal(in->loop, SIGTERM, on_term, in, err) < 0)
        return -1;
    return loop_signal(in->loop, SIGCHLD, on_child, in, err);
}

void reap_end_all(struct init *in, int status)
{
    if (in->ending)
        return;
    in->ending = true;
    in->end_status = status;
    if (getpid() == 1) /* outside a process space this would be everybody */
        kill(-1, SIGKILL);
    loop_timer(in->loop, END_LIMIT_MS, false, on_limit, in);
    on_child(in, SIGCHLD);
}
