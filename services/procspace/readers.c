/* readers.c - who reads what moving processes say
 *
 * Each move is a launch of its own, with streams of its own. The forwarder that
 * has read them so far (bpfwd) is connected here, at RUN/move: it is told under
 * which launch and where its process goes on, reads on there when it has read
 * all of before, and says so when that is the case. It has also given us its
 * stdout, for processes that come back to the master.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/pkt.h"
#include "bus/rundir.h"
#include "services/procspace/procspace.h"

struct reading { /* a rank that it reads */
    struct reading *next;
    uint64_t launch;
    uint32_t rank;
    bool ended;
};

struct onward { /* a rank that has moved on, of which its reader is to hear */
    struct onward *next;
    uint64_t launch, next_launch;
    uint32_t rank;
    int node;
};

#define WAITING_MAX 4096

struct reader {
    procspace_t *ps;
    struct reader *next;
    int fd, out;
    uint64_t first; /* the launch that it was started for */
    struct reading *reading; /* others, and those of it that have ended */
};

static void reader_free(struct reader *r)
{
    struct reader **at = &r->ps->readers;

    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    loop_fd_del(r->ps->loop, r->fd);
    close(r->fd);
    cleanup_close(&r->out);
    while (r->reading) {
        struct reading *n = r->reading;
        r->reading = n->next;
        free(n);
    }
    moves_drained(r->ps);
    free(r);
}

static struct reading *note(struct reader *r, uint64_t launch, uint32_t rank)
{
    for (struct reading *n = r->reading; n; n = n->next)
        if (n->launch == launch && n->rank == rank)
            return n;
    struct reading *n = calloc(1, sizeof *n);
    if (n) {
        n->launch = launch;
        n->rank = rank;
        n->next = r->reading;
        r->reading = n;
    }
    return n;
}

static struct reader *reader_of(procspace_t *ps, uint64_t launch)
{
    for (struct reader *r = ps->readers; r; r = r->next) {
        if (r->first == launch)
            return r;
        for (struct reading *n = r->reading; n; n = n->next)
            if (n->launch == launch)
                return r;
    }
    return NULL;
}

static void on_reader(void *arg, int fd, uint32_t events)
{
    struct reader *r = arg;
    procspace_t *ps = r->ps;
    unsigned long long launch;
    unsigned rank;
    struct pkt p;
    int n = pkt_recv(fd, &p, NULL);

    (void)events;
    if (n <= 0) {
        reader_free(r);
        return;
    }
    if (sscanf(p.data, "ended %llu %u", &launch, &rank) == 2) {
        struct reading *g = note(r, launch, rank);
        if (g)
            g->ended = true;
        moves_drained(ps);
    }
    pkt_clear(&p);
}

static void tell_waiting(procspace_t *ps);

bool readers_hello(procspace_t *ps, int fd, uid_t uid, const struct pkt *p)
{
    unsigned long long launch;

    if (sscanf(p->data, "reader %llu", &launch) != 1 || p->nfds != 1)
        return false;
    const struct launch *l = launch_find(ps, launch);
    if (!l || (l->uid != (int64_t)uid && uid != 0))
        return false;
    struct reader *r = calloc(1, sizeof *r);
    if (!r)
        return false;
    *r = (struct reader){ .ps = ps, .fd = fd, .out = dup(p->fds[0]), .first = launch,
                          .next = ps->readers };
    ps->readers = r;
    if (loop_fd(ps->loop, fd, EPOLLIN, on_reader, r, NULL) < 0) {
        reader_free(r);
        return true;
    }
    tell_waiting(ps);
    pkt_send(fd, "ok", 3, NULL, 0, NULL); /* it has heard all that was known */
    moves_drained(ps);
    return true;
}

static void tell_next(struct reader *r, const struct onward *o)
{
    char text[128];
    int n = snprintf(text, sizeof text, "next %llu %u %llu %d", (unsigned long long)o->launch,
                     o->rank, (unsigned long long)o->next_launch, o->node);

    note(r, o->next_launch, 0);
    if (pkt_send(r->fd, text, (size_t)n + 1, NULL, 0, NULL) < 0)
        svc_log("warning", "launch %llu: its reader does not listen",
                (unsigned long long)o->launch);
}

/* A reader has come, or another launch is its: what waits for it? */
static void tell_waiting(procspace_t *ps)
{
    for (struct onward **at = &ps->onward; *at;) {
        struct onward *o = *at;
        struct reader *r = reader_of(ps, o->launch);
        if (!r) {
            at = &o->next;
            continue;
        }
        *at = o->next;
        tell_next(r, o);
        free(o);
        at = &ps->onward; /* those that came before may be known by now */
    }
}

/* In the child: system calls only. */
static void __attribute__((noreturn)) become_forwarder(const char *prog, char *const *argv,
                                                       const struct launch *l, int list, int out)
{
    static char *env[] = { NULL };
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    if (dup2(list, 3) < 0 || dup2(out, 1) < 0 || syscall(SYS_setgroups, 0, NULL) < 0 ||
        syscall(SYS_setresgid, l->gid, l->gid, l->gid) < 0 ||
        syscall(SYS_setresuid, l->uid, l->uid, l->uid) < 0)
        _exit(127);
    execve(prog, argv, env);
    _exit(127);
}

/* bpsh reads a launch of its own, and knows nothing of others: what its process
 * says elsewhere goes to its stdout by a forwarder of ours. */
static void start_forwarder(procspace_t *ps, const struct launch *l, pid_t owner, int node)
{
    char prog[PATH_MAX], path[PATH_MAX], id[32];
    char *argv[] = { (char *)"bpfwd", id, path, NULL };
    int32_t row[2] = { node, 0 };
    CLEANUP(cleanup_close) int list = memfd_create("bpfwd", 0);
    CLEANUP(cleanup_close) int it = (int)syscall(SYS_pidfd_open, owner, 0);
    CLEANUP(cleanup_close) int out = it < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, it, 1, 0);

    if (list < 0 || out < 0 || write(list, row, sizeof row) != sizeof row) {
        svc_log("warning", "launch %llu: nobody reads what it says now",
                (unsigned long long)l->id);
        return;
    }
    snprintf(prog, sizeof prog, "%.4000s/bpfwd", cm_libexec());
    snprintf(id, sizeof id, "%llu", (unsigned long long)l->id);
    cm_path(path, "iofwd");
    pid_t between = fork();
    if (between == 0) {
        if (fork() == 0)
            become_forwarder(prog, argv, l, list, out);
        _exit(0);
    }
    while (between > 0 && waitpid(between, NULL, 0) < 0 && errno == EINTR)
        continue;
    (void)ps;
}

void readers_next(procspace_t *ps, uint64_t launch, uint32_t rank, const struct launch *next,
                  int node)
{
    const struct launch *l = launch_find(ps, launch);
    struct onward *o = next->forwarded ? calloc(1, sizeof *o) : NULL;

    if (!o)
        return;
    *o = (struct onward){ .launch = launch, .rank = rank, .next_launch = next->id, .node = node };
    if (l && l->owner > 0 && l->forwarded && !reader_of(ps, launch)) {
        start_forwarder(ps, next, l->owner, node);
        free(o);
        return;
    }
    size_t n = 0;
    struct onward **end = &ps->onward;
    for (; *end; end = &(*end)->next)
        n++;
    if (n > WAITING_MAX) { /* of launches that nobody came to read */
        struct onward *old = ps->onward;
        ps->onward = old->next;
        if (end == &old->next)
            end = &ps->onward;
        free(old);
    }
    *end = o;
    tell_waiting(ps);
}

bool readers_awaited(procspace_t *ps, uint64_t launch)
{
    const struct launch *l = launch_find(ps, launch);

    return l && l->forwarded && l->owner <= 0 && !reader_of(ps, launch);
}

bool readers_busy(procspace_t *ps, uint64_t launch, uint32_t rank)
{
    struct reader *r = reader_of(ps, launch);

    for (struct reading *n = r ? r->reading : NULL; n; n = n->next)
        if (n->launch == launch && n->rank == rank)
            return !n->ended;
    return r != NULL;
}

int readers_stdout(procspace_t *ps, uint64_t launch)
{
    struct reader *r = reader_of(ps, launch);
    const struct launch *l = launch_find(ps, launch);

    if (r)
        return dup(r->out);
    if (!l || !l->forwarded || l->owner <= 0)
        return -1;
    CLEANUP(cleanup_close) int it = (int)syscall(SYS_pidfd_open, l->owner, 0);
    return it < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, it, 1, 0);
}

void readers_close(procspace_t *ps)
{
    while (ps->onward) {
        struct onward *o = ps->onward;
        ps->onward = o->next;
        free(o);
    }
    while (ps->readers)
        reader_free(ps->readers);
}
