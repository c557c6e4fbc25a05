/* ranks.c - what becomes of the ranks, and what that means for the job
 *
 * The bpsh of each program says how a rank ended, its helper whether that was
 * in the middle of MPI. A rank that failed is judged when both have spoken, so
 * that the reason given is the right one: an MPI_Abort is no mere exit status.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "clients/mpirun/mpirun.h"

#define HEAR_MS 1000 /* for the helper's word */
#define ASK_MS 3000

struct doubt { /* is a rank dead (or its helper), or its node? */
    struct job *job;
    uint32_t rank;
    int node;
    bool helper;
};

void job_fail(struct job *j, int status, const char *fmt, ...)
{
    va_list ap;

    if (!j->failed && !j->interrupted) {
        j->failed = true;
        j->status = status;
        if (!j->opt.quiet && fmt) {
            CLEANUP(cleanup_free) char *text = NULL;
            va_start(ap, fmt);
            if (vasprintf(&text, fmt, ap) > 0)
                fprintf(stderr, "mpirun: %s\n", text);
            va_end(ap);
        }
    }
    end_begin(j, SIGTERM);
}

static void on_looked(void *arg, const msgpack_object *value, const struct err *err)
{
    struct doubt *d = arg;
    const msgpack_object *o = value && value->type == MSGPACK_OBJECT_ARRAY &&
                                      value->via.array.size
                                  ? &value->via.array.ptr[0]
                                  : NULL;
    const msgpack_object *reach = o ? mp_get(o, "reach") : NULL,
                         *state = o ? mp_get(o, "state") : NULL;

    (void)err;
    d->job->asking--;
    if (!d->job->opt.quiet) {
        if ((reach && mp_is(reach, "no")) || (state && mp_is(state, "down")))
            fprintf(stderr, "mpirun: node %d was lost, and rank %u with it\n", d->node, d->rank);
        else if (d->helper)
            fprintf(stderr, "mpirun: node %d: the helper of this job was killed\n", d->node);
        else
            fprintf(stderr, "mpirun: rank %u on node %d was killed by signal %d (%s)\n", d->rank,
                    d->node, SIGKILL, strsignal(SIGKILL));
    }
    free(d);
}

/* SIGKILL is also how a rank ends whose node is gone. */
static void killed(struct job *j, uint32_t rank, bool helper)
{
    CLEANUP(mp_free) mp_buf m;
    char spec[16];
    struct doubt *d = malloc(sizeof *d);

    mp_init(&m);
    bool news = !j->failed && !j->interrupted;
    job_fail(j, 128 + SIGKILL, NULL);
    if (!d || !news) {
        free(d);
        return;
    }
    *d = (struct doubt){ j, rank, j->rank[rank].node, helper };
    snprintf(spec, sizeof spec, "%d", d->node);
    mp_map(&m, 1);
    mp_kstr(&m, "spec", spec);
    j->asking++;
    if (calls_start(j->calls, "nodemgr.list", &m, ASK_MS, on_looked, d, NULL) < 0) {
        j->asking--;
        free(d);
    }
}

static void judge(struct job *j, uint32_t rank)
{
    struct rank *r = &j->rank[rank];

    if (r->state != RANK_ENDED || r->judged)
        return;
    r->judged = true;
    if (WIFSIGNALED(r->status) && WTERMSIG(r->status) == SIGKILL)
        killed(j, rank, false);
    else if (WIFSIGNALED(r->status))
        job_fail(j, 128 + WTERMSIG(r->status), "rank %u on node %d was killed by signal %d (%s)",
                 rank, r->node, WTERMSIG(r->status), strsignal(WTERMSIG(r->status)));
    else if (WEXITSTATUS(r->status))
        job_fail(j, WEXITSTATUS(r->status), "rank %u on node %d ended with status %d", rank,
                 r->node, WEXITSTATUS(r->status));
    else if (r->inside)
        job_fail(j, EXIT_FAILURE, "rank %u on node %d ended without MPI_Finalize", rank, r->node);
    else
        r->judged = false;
}

static void on_heard(void *arg)
{
    struct job *j = arg;

    j->hear_timer = 0;
    for (uint32_t r = 0; r < j->ranks; r++)
        judge(j, r);
}

static void rank_ended(struct job *j, uint32_t rank, int status)
{
    struct rank *r = &j->rank[rank];

    if (r->state == RANK_ENDED)
        return;
    r->state = RANK_ENDED;
    r->status = status;
    if (r->gone || j->from < 0)
        judge(j, rank);
    else if (status && !j->hear_timer)
        j->hear_timer = loop_timer(j->loop, HEAR_MS, false, on_heard, j);
}

void rank_gone(struct job *j, uint32_t rank, bool inside)
{
    if (rank >= j->ranks)
        return;
    j->rank[rank].gone = true;
    j->rank[rank].inside = inside;
    judge(j, rank);
}

void rank_abort(struct job *j, uint32_t rank, int code)
{
    if (rank >= j->ranks)
        return;
    j->rank[rank].judged = true;
    job_fail(j, code & 0xff ? code & 0xff : EXIT_FAILURE,
             "rank %u on node %d called MPI_Abort with code %d", rank, j->rank[rank].node, code);
}

/* --- what a bpsh tells: its own tell.c --- */

static void helper_line(struct job *j, const char *what, int node, const char *rest)
{
    int number = 0;

    if (strcmp(what, "failed") == 0) {
        job_fail(j, EXIT_FAILURE, "node %d: %s", node, rest);
        return;
    }
    if (strcmp(what, "ended") != 0 || j->to < 0 || j->failed || j->interrupted)
        return;
    /* Its node's ranks have most likely died with it, and say more. */
    for (uint32_t r = 0; r < j->ranks; r++)
        if (j->rank[r].node == node && sscanf(rest, "signal %d", &number) == 1 &&
            number == SIGKILL) {
            killed(j, r, true);
            return;
        }
    job_fail(j, EXIT_FAILURE, "node %d: the helper of this job has ended (%s)", node, rest);
}

static void take(struct child *c, char *line)
{
    struct job *j = c->job;
    char what[16];
    unsigned rank;
    int node, at = 0, number = 0;

    if (sscanf(line, "launch %llu", (unsigned long long *)&c->launch) == 1)
        return;
    if (sscanf(line, "%15s %u %d %n", what, &rank, &node, &at) < 3 || !at)
        return;
    if (c->helper) {
        helper_line(j, what, node, line + at);
        return;
    }
    if (rank >= j->ranks)
        return;
    if (strcmp(what, "started") == 0 && j->rank[rank].state == RANK_WAITING) {
        j->rank[rank].state = RANK_RUNS;
    } else if (strcmp(what, "failed") == 0) {
        j->rank[rank].state = RANK_ENDED;
        j->rank[rank].judged = true;
        job_fail(j, EXIT_FAILURE, "rank %u on node %d was not started: %s", rank, node,
                 line + at);
    } else if (sscanf(line + at, "exit %d", &number) == 1) {
        rank_ended(j, rank, (number & 0xff) << 8);
    } else if (sscanf(line + at, "signal %d", &number) == 1) {
        rank_ended(j, rank, number & 0x7f);
    }
}

static void report_close(struct child *c)
{
    if (c->report < 0)
        return;
    loop_fd_del(c->job->loop, c->report);
    close(c->report);
    c->report = -1;
}

static void on_report(void *arg, int fd, uint32_t events)
{
    struct child *c = arg;
    char *p, *nl;

    (void)events;
    if (c->room - c->len < 4096) {
        char *more = realloc(c->buf, c->room + 16384);
        if (!more)
            return;
        c->buf = more;
        c->room += 16384;
    }
    ssize_t n = read(fd, c->buf + c->len, c->room - c->len);
    if (n < 0 && errno == EINTR)
        return;
    if (n <= 0) {
        report_close(c);
        return;
    }
    c->len += (size_t)n;
    for (p = c->buf; (nl = memchr(p, '\n', c->len - (size_t)(p - c->buf))); p = nl + 1) {
        *nl = 0;
        take(c, p);
    }
    c->len -= (size_t)(p - c->buf);
    memmove(c->buf, p, c->len);
}

int ranks_watch(struct child *c, struct err *err)
{
    return loop_fd(c->job->loop, c->report, EPOLLIN, on_report, c, err);
}

/* --- the ends of the bpshs themselves --- */

static bool rank_of(const struct job *j, uint32_t rank, enum rank_state state)
{
    return j->rank[rank].state == state;
}

/* A bpsh that ended by itself has told of all its ranks before. */
static void bpsh_ended(struct job *j, const struct child *c)
{
    bool early = false;

    if (c->helper && j->to < 0)
        return;
    for (uint32_t r = 0; r < j->ranks; r++)
        early |= !rank_of(j, r, RANK_ENDED);
    if (j->failed || j->interrupted || (!c->helper && !early))
        return;
    if (WIFSIGNALED(c->status))
        job_fail(j, EXIT_FAILURE, "bpsh was killed by signal %d (%s)", WTERMSIG(c->status),
                 strsignal(WTERMSIG(c->status)));
    else if (c->helper || (WEXITSTATUS(c->status) && c->launch == 0))
        job_fail(j, WEXITSTATUS(c->status) ? WEXITSTATUS(c->status) : EXIT_FAILURE, NULL);
}

void ranks_reap(struct job *j)
{
    for (struct child *c = j->child; c; c = c->next) {
        if (c->pid <= 0 || waitpid(c->pid, &c->status, WNOHANG) <= 0)
            continue;
        c->pid = 0;
        while (c->report >= 0) /* what it has told before that */
            on_report(c, c->report, EPOLLIN);
        bpsh_ended(j, c);
    }
}

bool ranks_done(const struct job *j)
{
    for (const struct child *c = j->child; c; c = c->next)
        if (!c->helper && c->pid > 0)
            return false;
    return true;
}
