/* engine.c - one pass of a pool's policy, and the checks of what it decides */
#include "services/sched/core.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void rewind_jobs(struct bjs_pool *v)
{
    struct pool *p = v->engine;

    p->cursor = &p->fifo;
    for (struct user *u = p->users; u; u = u->next) {
        u->at = u->buckets;
        u->cursor = u->at ? &u->at->jobs : NULL;
        u->now = user_usage(p, u, v->now_ms);
    }
}

static const struct bjs_job *next_fifo(struct bjs_pool *v)
{
    struct pool *p = v->engine;

    if (p->cursor->next == &p->fifo)
        return NULL;
    p->cursor = p->cursor->next;
    return &of_list(struct job, fifo, p->cursor)->pub;
}

/* The user's next job, not yet taken; NULL: no more. */
static struct list *peek(struct user *u)
{
    while (u->at) {
        if (u->cursor->next != &u->at->jobs)
            return u->cursor->next;
        u->at = u->at->next;
        u->cursor = u->at ? &u->at->jobs : NULL;
    }
    return NULL;
}

static bool sooner(const struct user *a, const struct job *x, const struct user *b,
                   const struct job *y)
{
    if (x->pub.priority != y->pub.priority)
        return x->pub.priority > y->pub.priority;
    if (a->now != b->now)
        return a->now < b->now;
    return x->pub.id < y->pub.id;
}

/* Each user's jobs are in order: the best of their firsts is the next of all. */
static const struct bjs_job *next_fair(struct bjs_pool *v)
{
    struct pool *p = v->engine;
    struct user *best = NULL;
    struct job *found = NULL;

    for (struct user *u = p->users; u; u = u->next) {
        struct list *l = u->waiting ? peek(u) : NULL;
        struct job *j = l ? of_list(struct job, bucket, l) : NULL;
        if (j && (!best || sooner(u, j, best, found))) {
            best = u;
            found = j;
        }
    }
    if (!found)
        return NULL;
    best->cursor = &found->bucket;
    return &found->pub;
}

static int refuse(struct pool *p, const struct bjs_job *b, const char *why)
{
    char text[200];

    snprintf(text, sizeof text, "job %llu: %s", b ? (unsigned long long)b->id : 0ULL, why);
    if (p->hooks->refused)
        p->hooks->refused(p->hooks->arg, p, text);
    return -1;
}

/* A node for this job: is it there, up, not named twice, and free? */
static const char *check_place(struct pool *p, const struct job *j, const uint32_t *place,
                               uint32_t i)
{
    if (place[i] >= p->nodes)
        return "the policy named a node that the pool does not have";
    const struct bjs_node *n = &p->view_node[place[i]];
    if (!n->up)
        return "the policy wanted a node that is not up";
    if (!p->policy->sharing && n->jobs)
        return "the policy wanted a node that another job has";
    if (n->cpus < j->pub.cpus + (p->policy->sharing && j->pub.cpus ? n->cpus_used : 0) ||
        n->mem_mb < j->pub.mem_mb + (p->policy->sharing && j->pub.mem_mb ? n->mem_used_mb : 0))
        return "the policy wanted a node that is too small";
    if (!bjs_has(n->attrs, j->pub.wants))
        return "the policy wanted a node without what the job requires";
    return NULL;
}

static int compare_places(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static bool named_twice(const uint32_t *place, uint32_t n)
{
    uint32_t few[32], *sorted = n <= 32 ? few : malloc(n * sizeof *sorted);
    bool twice = false;

    if (!sorted)
        return true; /* out of memory: not now */
    memcpy(sorted, place, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, compare_places);
    for (uint32_t i = 1; !twice && i < n; i++)
        twice = sorted[i] == sorted[i - 1];
    if (sorted != few)
        free(sorted);
    return twice;
}

static int start(struct bjs_pool *v, const struct bjs_job *b, const uint32_t *place)
{
    struct pool *p = v->engine;
    struct job *j = b ? job_of_pub(b) : NULL;

    if (!j || j->pool != p || j->state != JOB_QUEUED)
        return refuse(p, b, "the policy wanted to start what does not wait");
    for (uint32_t i = 0; i < b->nodes; i++) {
        const char *why = check_place(p, j, place, i);
        if (why)
            return refuse(p, b, why);
    }
    if (named_twice(place, b->nodes))
        return refuse(p, b, "the policy named a node twice");
    struct pnode **nodes = malloc(b->nodes * sizeof(struct pnode *));
    for (uint32_t i = 0; nodes && i < b->nodes; i++)
        nodes[i] = p->node[place[i]];
    j->pub.started_ms = v->now_ms; /* as good as; its limit counts from the true start */
    int rc = nodes ? job_take(j, nodes) : -1;
    free(nodes);
    if (rc < 0)
        return refuse(p, b, "out of memory");
    job_dequeue(j);
    j->state = JOB_CLAIMING;
    v->running = p->running;
    v->nrunning = p->nrunning;
    p->hooks->started(p->hooks->arg, j);
    return 0;
}

static void plan(struct bjs_pool *v, const struct bjs_job *b, int64_t at_ms)
{
    (void)v;
    job_of_pub(b)->planned_ms = at_ms;
}

static long setting(struct bjs_pool *v, const char *word, long dflt)
{
    return pool_setting(v->engine, word, dflt);
}

static void look(struct pool *p, int64_t now_ms)
{
    struct bjs_pool *v = &p->view;

    v->now_ms = now_ms;
    v->version = BJS_POLICY_VERSION;
    v->name = p->name;
    v->node = p->view_node;
    v->nodes = p->nodes;
    v->running = p->running;
    v->nrunning = p->nrunning;
    v->next = p->policy->order == BJS_FAIR ? next_fair : next_fifo;
    v->rewind = rewind_jobs;
    v->start = start;
    v->plan = plan;
    v->setting = setting;
    v->engine = p;
    rewind_jobs(v);
}

static void done_looking(struct pool *p)
{
    p->cursor = NULL;
    for (struct user *u = p->users; u; u = u->next)
        u->cursor = NULL;
}

void engine_order(struct pool *p, int64_t now_ms,
                  bool (*fn)(void *arg, const struct bjs_pool *v, const struct bjs_job *j), void *arg)
{
    const struct bjs_job *j;

    look(p, now_ms);
    while ((j = p->view.next(&p->view)) && fn(arg, &p->view, j))
        ;
    done_looking(p);
}

void engine_pass(struct pool *p, int64_t now_ms, struct engine_hooks *h)
{
    struct bjs_pool *v = &p->view;

    p->wake = false;
    v->now_ms = now_ms;
    if (p->drained || !p->waiting || (!v->idle && !p->policy->sharing))
        return;
    look(p, now_ms);
    p->hooks = h;
    if (h->enter)
        h->enter(h->arg, p);
    p->policy->schedule(v);
    if (h->leave)
        h->leave(h->arg, p);
    p->hooks = NULL;
    done_looking(p);
    p->wake = false; /* what the pass itself has changed, it has seen */
}
