/* readers.c - who reads what moving processes say
 *
 * Each move is a launch of its own, with streams of its own. Who has read them so
 * far, a forwarder (bpfwd) or a bpsh once a stream has ended by a move, is connected
 * here, at RUN/move: it is told under which launch and where its process goes on,
 * reads on there when it has read all of before, and says so when that is the case.
 * It has also given us its stdout (and stderr), for processes that come back to the
 * master.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "bus/pkt.h"
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
#define LATE_MS 20000 /* iofwd may have to be started again, a machine may be busy */

struct reader {
    procspace_t *ps;
    struct reader *next;
    pid_t pid;
    int fd, out[2]; /* out: for what is said on 1 and 2 */
    uint64_t first; /* the launch that it was started for */
    uint64_t last;  /* the newest that it knew of when it came */
    struct reading *reading; /* others, and those of it that have ended */
};

static void forget_readings(struct reader *r)
{
    while (r->reading) {
        struct reading *n = r->reading;
        r->reading = n->next;
        free(n);
    }
}

static void reader_free(struct reader *r)
{
    struct reader **at = &r->ps->readers;

    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    loop_fd_del(r->ps->loop, r->fd);
    close(r->fd);
    cleanup_close(&r->out[0]);
    cleanup_close(&r->out[1]);
    forget_readings(r);
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

/* Launches of before our start: all of them go by the one under which their process
 * left the master. Where it is now, in a launch that the reader does not know of. */
static const struct proc *gone_on(const struct reader *r)
{
    const struct proc *found = NULL;

    for (size_t b = 0; b < PROC_BUCKETS; b++)
        for (const struct proc *p = r->ps->proc[b]; p; p = p->next)
            if (!p->kid && p->state == PROC_RUNNING && proc_first(p) == r->first) {
                if (found)
                    return NULL; /* which of them? */
                found = p;
            }
    for (const struct reading *n = r->reading; n && found; n = n->next)
        if (n->launch == found->launch->id)
            return NULL;
    return found && found->launch->id != r->first ? found : NULL;
}

/* "reader FIRST LAUNCH...": since FIRST it has read these, the newest first. */
static bool knows_any(procspace_t *ps, struct reader *r, const char *list, uid_t uid)
{
    unsigned long long launch;
    bool known = false;
    int used;

    for (; sscanf(list, "%llu%n", &launch, &used) == 1; list += used) {
        const struct launch *l = launch_find(ps, launch);
        if (l && l->uid != (int64_t)uid && uid != 0)
            return false;
        known |= l != NULL;
        if (!r->first)
            r->first = r->last = launch;
        else if (launch != r->first)
            note(r, launch, 0);
        if (r->last == r->first)
            r->last = launch;
    }
    const struct proc *p = known ? NULL : gone_on(r);
    return known || (p && (p->uid == (int64_t)uid || uid == 0));
}

static void tell_next(struct reader *r, uint64_t launch, uint32_t rank, uint64_t next, int node);

bool readers_hello(procspace_t *ps, int fd, pid_t pid, uid_t uid, const struct pkt *p)
{
    if (strncmp(p->data, "reader ", 7) != 0 || p->data[p->len - 1] || p->nfds < 1 || p->nfds > 2)
        return false;
    struct reader *r = calloc(1, sizeof *r);
    if (!r)
        return false;
    *r = (struct reader){ .ps = ps, .pid = pid, .fd = fd, .out = { -1, -1 }, .next = ps->readers };
    if (!knows_any(ps, r, p->data + 7, uid)) {
        forget_readings(r);
        free(r);
        return false;
    }
    r->out[0] = dup(p->fds[0]);
    r->out[1] = dup(p->fds[p->nfds - 1]);
    ps->readers = r;
    if (loop_fd(ps->loop, fd, EPOLLIN, on_reader, r, NULL) < 0) {
        reader_free(r);
        return true;
    }
    tell_waiting(ps);
    const struct proc *on = gone_on(r);
    if (on && on->launch->forwarded) /* a procspace before us would have said so */
        tell_next(r, r->last, 0, on->launch->id, on->node);
    pkt_send(fd, "ok", 3, NULL, 0, NULL); /* it has heard all that was known */
    moves_drained(ps);
    return true;
}

static void tell_next(struct reader *r, uint64_t launch, uint32_t rank, uint64_t next, int node)
{
    char text[128];
    int n = snprintf(text, sizeof text, "next %llu %u %llu %d", (unsigned long long)launch, rank,
                     (unsigned long long)next, node);

    note(r, next, 0);
    if (pkt_send(r->fd, text, (size_t)n + 1, NULL, 0, NULL) < 0)
        svc_log("warning", "launch %llu: its reader does not listen", (unsigned long long)launch);
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
        tell_next(r, o->launch, o->rank, o->next_launch, o->node);
        free(o);
        at = &ps->onward; /* those that came before may be known by now */
    }
}

void readers_next(procspace_t *ps, uint64_t launch, uint32_t rank, const struct launch *next,
                  int node)
{
    struct onward *o = next->forwarded ? calloc(1, sizeof *o) : NULL;

    if (!o)
        return;
    *o = (struct onward){ .launch = launch, .rank = rank, .next_launch = next->id, .node = node };
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
    const struct launch *l = launch_find(ps, launch);

    if (!r && l && l->forwarded && l->owner > 0) /* a bpsh, which comes when it is at the end */
        return kill(l->owner, 0) == 0;
    for (struct reading *n = r ? r->reading : NULL; n; n = n->next)
        if (n->launch == launch && n->rank == rank)
            return !n->ended;
    return r != NULL;
}

/* Nothing can be written there now: who reads that does not. */
static bool is_full(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLOUT };

    return fd >= 0 && poll(&p, 1, 0) == 0;
}

bool readers_late(procspace_t *ps, uint64_t launch, struct patience *p)
{
    const struct reader *r = reader_of(ps, launch);
    const struct launch *l = launch_find(ps, launch);
    CLEANUP(cleanup_close) int out = readers_out(ps, launch, 1);
    CLEANUP(cleanup_close) int err = readers_out(ps, launch, 2);
    pid_t pid = r ? r->pid : l ? l->owner : 0;

    if (p->since == 0 || (pid > 0 && process_stopped(pid)) || is_full(out) || is_full(err))
        p->since = now_ms();
    return now_ms() - p->since > LATE_MS;
}

bool readers_heard(procspace_t *ps, uint64_t launch)
{
    const struct launch *l = launch_find(ps, launch);

    return reader_of(ps, launch) || (l && l->forwarded && l->owner > 0 && kill(l->owner, 0) == 0);
}

int readers_out(procspace_t *ps, uint64_t launch, int fd)
{
    struct reader *r = reader_of(ps, launch);
    const struct launch *l = launch_find(ps, launch);

    if (r)
        return dup(r->out[fd - 1]);
    if (!l || !l->forwarded || l->owner <= 0)
        return -1;
    CLEANUP(cleanup_close) int it = (int)syscall(SYS_pidfd_open, l->owner, 0);
    return it < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, it, fd, 0);
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
