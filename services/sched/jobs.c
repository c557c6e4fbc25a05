/* jobs.c - the table of jobs that are not done, and what is said of them */
#include "services/sched/db.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct job **place(sched_t *s, uint64_t id)
{
    struct job **at = &s->job[id % JOB_BUCKETS];

    while (*at && (*at)->pub.id != id)
        at = &(*at)->next;
    return at;
}

struct job *job_find(sched_t *s, uint64_t id) { return *place(s, id); }

struct job *job_new(sched_t *s, uint64_t id)
{
    struct job *j = calloc(1, sizeof *j);

    if (!j)
        return NULL;
    j->pub.id = id;
    j->index = -1;
    struct job **head = &s->job[id % JOB_BUCKETS];
    j->next = *head;
    *head = j;
    s->jobs++;
    return j;
}

static void not_dirty(sched_t *s, struct job *j)
{
    struct job **at = &s->dirty;

    if (!j->is_dirty)
        return;
    while (*at != j)
        at = &(*at)->dirty;
    *at = j->dirty;
    if (s->dirty_end == &j->dirty)
        s->dirty_end = at;
}

void job_forget(sched_t *s, struct job *j)
{
    struct job **at = place(s, j->pub.id);

    if (*at == j) {
        *at = j->next;
        s->jobs--;
    }
    not_dirty(s, j);
    job_dequeue(j);
    after_drop(s, j);
    if (job_placed(j))
        job_leave(j, wall_ms());
    run_free(s, j);
    job_clear(j);
    free(j);
}

static void make_dirty(sched_t *s, struct job *j)
{
    if (j->is_dirty)
        return;
    j->is_dirty = true;
    j->dirty = NULL;
    *s->dirty_end = j;
    s->dirty_end = &j->dirty;
}

void job_changed(sched_t *s, struct job *j)
{
    make_dirty(s, j);
    turn_soon(s);
}

void job_noted(sched_t *s, struct job *j)
{
    make_dirty(s, j);
    turn_later(s);
}

void job_reason(struct job *j, const char *fmt, ...)
{
    va_list ap;

    free(j->reason);
    va_start(ap, fmt);
    if (vasprintf(&j->reason, fmt, ap) < 0)
        j->reason = NULL;
    va_end(ap);
}

void job_say(sched_t *s, const struct job *j, const char *what)
{
    CLEANUP(mp_free) mp_buf b;
    char topic[40];

    mp_init(&b);
    snprintf(topic, sizeof topic, "job.%s", what);
    mp_map(&b, 6);
    mp_kuint(&b, "job", j->pub.id);
    mp_kstr(&b, "state", job_state_name(j->state));
    mp_kstr(&b, "pool", j->pool ? j->pool->name : "");
    mp_kuint(&b, "uid", j->pub.uid);
    mp_kint(&b, "status", j->status);
    mp_kstr(&b, "why", j->reason);
    svc_publish(s->svc, topic, &b);
}

void job_wait(sched_t *s, struct job *j)
{
    if (j->flags & JOB_ON_HOLD)
        j->state = JOB_HELD;
    else if (j->afters)
        j->state = JOB_AFTER;
    else if (!j->pool || job_enqueue(j) < 0)
        svc_log("error", "job %llu: it cannot be queued", (unsigned long long)j->pub.id);
    turn_soon(s);
}

void job_done(sched_t *s, struct job *j)
{
    job_dequeue(j);
    after_drop(s, j);
    j->state = JOB_DONE;
    if (!j->ended_ms)
        j->ended_ms = wall_ms();
    if (!j->run && run_begin(s, j) < 0)
        return;
    j->run->then = THEN_FORGET;
    job_changed(s, j);
}
