/* replay_run.c - submissions and ends in order of time; the policy decides between them */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "services/sched/replay.h"

struct end {
    int64_t at;
    struct job *j;
};

struct sim {
    struct pool *p;
    const struct swf *t;
    struct job *job; /* one for each of the trace */
    struct end *heap;
    size_t ends;
    int64_t now;
    struct replay_figures *f;
    replay_fn *fn;
    void *arg;
    double node_seconds;
};

static const struct swf_job *trace_of(const struct sim *s, const struct job *j)
{
    return &s->t->v[j - s->job];
}

static void push(struct sim *s, int64_t at, struct job *j)
{
    size_t i = s->ends++;

    while (i && s->heap[(i - 1) / 2].at > at) {
        s->heap[i] = s->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    s->heap[i] = (struct end){ at, j };
}

static struct job *pop(struct sim *s)
{
    struct job *j = s->heap[0].j;
    struct end last = s->heap[--s->ends];
    size_t i = 0;

    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= s->ends)
            break;
        if (c + 1 < s->ends && s->heap[c + 1].at < s->heap[c].at)
            c++;
        if (s->heap[c].at >= last.at)
            break;
        s->heap[i] = s->heap[c];
        i = c;
    }
    s->heap[i] = last;
    return j;
}

static void on_started(void *arg, struct job *j)
{
    struct sim *s = arg;
    const struct swf_job *t = trace_of(s, j);
    double wait = (double)(s->now - j->pub.submitted_ms) / 1000;
    double run = (double)t->run_s, slow = (wait + run) / (run > 10 ? run : 10);

    j->state = JOB_RUNNING;
    push(s, s->now + t->run_s * 1000, j);
    s->f->jobs++;
    s->f->wait_s += wait;
    if (wait > s->f->wait_max_s)
        s->f->wait_max_s = wait;
    s->f->slowdown += slow > 1 ? slow : 1;
    s->node_seconds += run * t->nodes;
    if (s->fn)
        s->fn(s->arg, s->p, j, s->now);
}

static int submit(struct sim *s, size_t i)
{
    const struct swf_job *t = &s->t->v[i];
    struct job *j = &s->job[i];

    if (t->nodes > s->p->nodes) {
        s->f->never++;
        return 0;
    }
    *j = (struct job){ .pool = s->p, .index = -1,
                       .pub = { .id = i + 1, .uid = t->uid, .nodes = t->nodes,
                                .secs = t->limit_s, .submitted_ms = t->submit_s * 1000 } };
    return job_enqueue(j);
}

static void pass(struct sim *s)
{
    struct engine_hooks h = { .started = on_started, .arg = s };

    if (s->p->wake)
        engine_pass(s->p, s->now, &h);
}

static int run(struct sim *s)
{
    size_t next = 0;

    while (next < s->t->n || s->ends) {
        int64_t submit_at = next < s->t->n ? s->t->v[next].submit_s * 1000 : INT64_MAX;
        int64_t end_at = s->ends ? s->heap[0].at : INT64_MAX;
        s->now = submit_at < end_at ? submit_at : end_at;
        s->p->view.now_ms = s->now;
        while (s->ends && s->heap[0].at == s->now) {
            struct job *j = pop(s);
            job_leave(j, s->now);
            j->state = JOB_DONE;
        }
        for (; next < s->t->n && s->t->v[next].submit_s * 1000 == s->now; next++)
            if (submit(s, next) < 0)
                return -1;
        pass(s);
    }
    return 0;
}

int replay_run(struct pool *p, const struct swf *t, struct replay_figures *f, replay_fn *fn,
               void *arg)
{
    struct sim s = { .p = p, .t = t, .f = f, .fn = fn, .arg = arg };

    *f = (struct replay_figures){ 0 };
    s.job = calloc(t->n + 1, sizeof *s.job);
    s.heap = calloc(t->n + 1, sizeof *s.heap);
    int rc = s.job && s.heap ? run(&s) : -1;
    if (rc == 0 && f->jobs) {
        f->makespan_s = s.now / 1000 - t->v[0].submit_s;
        f->wait_s /= (double)f->jobs;
        f->slowdown /= (double)f->jobs;
        if (f->makespan_s > 0)
            f->utilisation = s.node_seconds / ((double)f->makespan_s * p->nodes);
    }
    for (size_t i = 0; s.job && i < t->n; i++)
        job_clear(&s.job[i]);
    free(s.job);
    free(s.heap);
    return rc;
}
