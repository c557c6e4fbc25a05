/* sched.c - each policy against a plain model, on thousands of random traces
 *
 * The models know nothing of profiles, lists or engines: they look at each second
 * of a time line. What the policies do in sched's own code has to be the same,
 * start for start, and to keep what they promise.
 */
#include <stdlib.h>
#include <string.h>
#include "services/sched/core.h"
#include "services/sched/replay.h"
#include "services/sched/swf.h"
#include "tests/unit/tap.h"

#define JOBS_MAX 40
#define HORIZON 4000 /* seconds: longer than any trace */
#define TRACES 2000

static uint64_t seed = 0x243f6a8885a308d3u;

static unsigned upto(unsigned n) /* 0..n */
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed >> 33) % (n + 1);
}

/* ---- traces ---- */

static void make_trace(struct swf *t, struct swf_job *v, uint32_t nodes)
{
    int64_t at = 0;

    *t = (struct swf){ .v = v, .n = 1 + upto(JOBS_MAX - 1), .nodes = nodes };
    for (size_t i = 0; i < t->n; i++) {
        at += upto(2) ? upto(6) : 0; /* some at the same time */
        v[i] = (struct swf_job){ .id = (int64_t)i + 1, .submit_s = at, .limit_s = 1 + upto(20),
                                 .nodes = 1 + upto(nodes - 1) };
        v[i].run_s = upto(2) ? v[i].limit_s : upto((unsigned)v[i].limit_s);
    }
}

/* ---- what sched's code does ---- */

struct seen {
    const struct swf *t;
    int64_t start[JOBS_MAX];              /* seconds; -1: not yet */
    int64_t busy[64];                     /* until when, by node */
    bool twice, wrong_count, same_twice;
};

static void on_start(void *arg, struct pool *p, struct job *j, int64_t now_ms)
{
    struct seen *s = arg;
    size_t i = j->pub.id - 1;
    int64_t now = now_ms / 1000;

    (void)p;
    s->same_twice = s->same_twice || s->start[i] >= 0;
    s->start[i] = now;
    s->wrong_count = s->wrong_count || j->pub.nodes != s->t->v[i].nodes || !j->place;
    for (uint32_t k = 0; k < j->pub.nodes; k++) {
        int n = j->place[k]->number;
        s->twice = s->twice || s->busy[n] > now;
        s->busy[n] = now + s->t->v[i].run_s;
        for (uint32_t m = 0; m < k; m++)
            s->twice = s->twice || j->place[m] == j->place[k];
    }
}

static struct pool *make_pool(const char *name, uint32_t nodes)
{
    struct err err = { 0 };
    struct pool *p = pool_create("test", &err);
    const char *build = getenv("CM_BUILD");
    char path[4096];

    snprintf(path, sizeof path, "%s/libexec/clustermatic/policies", build ? build : "build");
    if (!p || policy_load(p, name, path, &err) < 0) {
        printf("Bail out! %s\n", err.text);
        exit(1);
    }
    for (uint32_t i = 0; i < nodes; i++)
        if (pool_add_node(p, (int)i, &err) == 0)
            node_usable(p->node[i], true, 8, 1024);
    return p;
}

static bool play(const char *name, const struct swf *t, struct seen *s)
{
    struct replay_figures f;
    struct pool *p = make_pool(name, t->nodes);

    *s = (struct seen){ .t = t };
    for (int i = 0; i < JOBS_MAX; i++)
        s->start[i] = -1;
    int rc = replay_run(p, t, &f, on_start, s);
    pool_free(&p);
    return rc == 0 && f.jobs == t->n && f.never == 0;
}

/* ---- the models ---- */

enum kind { SIMPLE, FILLER, EASY };

struct model {
    const struct swf *t;
    int64_t start[JOBS_MAX];
    int64_t promise[JOBS_MAX]; /* the latest start that it was told; -1: none */
    bool late;                 /* a promise was broken */
};

static int64_t next_event(const struct model *m, int64_t now)
{
    int64_t best = INT64_MAX;

    for (size_t i = 0; i < m->t->n; i++) {
        const struct swf_job *j = &m->t->v[i];
        int64_t end = m->start[i] >= 0 ? m->start[i] + j->run_s : INT64_MAX;
        if (j->submit_s > now && j->submit_s < best)
            best = j->submit_s;
        if (end > now && end < best)
            best = end;
    }
    return best;
}

/* Nodes free in each second from now on, by the limits of what runs. */
static void time_line(const struct model *m, int64_t now, int *free)
{
    for (int k = 0; k < HORIZON; k++)
        free[k] = (int)m->t->nodes;
    for (size_t i = 0; i < m->t->n; i++) {
        const struct swf_job *j = &m->t->v[i];
        if (m->start[i] < 0 || m->start[i] + j->run_s <= now)
            continue;
        int64_t left = m->start[i] + j->limit_s - now;
        for (int k = 0; k < HORIZON && k < (left > 1 ? left : 1); k++)
            free[k] -= (int)j->nodes;
    }
}

static bool fits(const int *free, int at, const struct swf_job *j)
{
    for (int k = at; k < at + j->limit_s; k++)
        if (free[k] < (int)j->nodes)
            return false;
    return true;
}

static void take(int *free, int at, const struct swf_job *j)
{
    for (int k = at; k < at + j->limit_s; k++)
        free[k] -= (int)j->nodes;
}

static void promise(struct model *m, size_t i, int64_t at)
{
    if (m->promise[i] >= 0 && at > m->promise[i])
        m->late = true;
    m->promise[i] = at;
}

static bool waits(const struct model *m, size_t i, int64_t now)
{
    return m->start[i] < 0 && m->t->v[i].submit_s <= now;
}

static void decide_simple(struct model *m, int64_t now, int *free)
{
    for (size_t i = 0; i < m->t->n; i++) {
        if (!waits(m, i, now))
            continue;
        if (free[0] < (int)m->t->v[i].nodes)
            return;
        m->start[i] = now;
        free[0] -= (int)m->t->v[i].nodes;
    }
}

/* Where each waiting job goes, in order; those that fit now are started, if may. */
static void plan(struct model *m, int64_t now, int *free, int64_t *where, bool may)
{
    for (size_t i = 0; i < m->t->n; i++) {
        int at = 0;
        if (!waits(m, i, now))
            continue;
        while (!fits(free, at, &m->t->v[i]))
            at++;
        take(free, at, &m->t->v[i]);
        where[i] = now + at;
        if (at == 0 && may)
            m->start[i] = now;
    }
}

/* All is planned anew at each event. What was started out of turn must not change
 * the reservations that were made before its turn came. */
static void decide_filler(struct model *m, int64_t now, int *free)
{
    int64_t before[JOBS_MAX] = { 0 }, after[JOBS_MAX] = { 0 };

    plan(m, now, free, before, true);
    time_line(m, now, free);
    plan(m, now, free, after, false);
    for (size_t i = 0; i < m->t->n; i++)
        m->late = m->late || (waits(m, i, now) && after[i] > before[i]);
}

static void decide_easy(struct model *m, int64_t now, int *free)
{
    int shadow = -1, extra = 0;

    for (size_t i = 0; i < m->t->n; i++) {
        const struct swf_job *j = &m->t->v[i];
        if (!waits(m, i, now))
            continue;
        if (shadow < 0 && free[0] < (int)j->nodes) {
            shadow = 0;
            while (free[shadow] < (int)j->nodes)
                shadow++;
            extra = free[shadow] - (int)j->nodes;
            promise(m, i, now + shadow);
            continue;
        }
        bool over = j->limit_s <= shadow;
        if (free[0] < (int)j->nodes || (shadow >= 0 && !over && extra < (int)j->nodes))
            continue;
        if (shadow >= 0 && !over)
            extra -= (int)j->nodes;
        m->start[i] = now;
        if (m->promise[i] >= 0)
            promise(m, i, now);
        take(free, 0, j);
    }
}

static void model(enum kind kind, const struct swf *t, struct model *m)
{
    static int free[HORIZON + 64];
    int64_t now = t->v[0].submit_s;

    *m = (struct model){ .t = t };
    for (int i = 0; i < JOBS_MAX; i++)
        m->start[i] = m->promise[i] = -1;
    for (; now != INT64_MAX; now = next_event(m, now)) {
        time_line(m, now, free);
        if (kind == SIMPLE)
            decide_simple(m, now, free);
        else if (kind == FILLER)
            decide_filler(m, now, free);
        else
            decide_easy(m, now, free);
    }
}

/* A job that ends when it starts frees its nodes for others in the same second,
 * which the model's time line cannot say: none of these. */
static void no_empty_runs(struct swf *t)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->v[i].run_s == 0)
            t->v[i].run_s = 1;
}

static void show(const struct swf *t, const struct seen *s, const struct model *m)
{
    for (size_t i = 0; i < t->n; i++)
        printf("#   job %zu at %lld: %u nodes, runs %lld of %lld s: started %lld, model %lld\n",
               i + 1, (long long)t->v[i].submit_s, t->v[i].nodes, (long long)t->v[i].run_s,
               (long long)t->v[i].limit_s, (long long)s->start[i], (long long)m->start[i]);
}

static void against_model(enum kind kind, const char *name)
{
    struct swf_job v[JOBS_MAX];
    struct swf t;
    struct seen s;
    struct model m;
    unsigned bad = 0, twice = 0, other = 0, late = 0, overtaken = 0, odd = 0;

    for (int round = 0; round < TRACES; round++) {
        make_trace(&t, v, 1 + upto(11));
        no_empty_runs(&t);
        if (!play(name, &t, &s)) {
            bad++;
            continue;
        }
        twice += s.twice;
        odd += s.wrong_count || s.same_twice;
        model(kind, &t, &m);
        bool differs = memcmp(m.start, s.start, t.n * sizeof *m.start) != 0;
        if (differs && !other)
            show(&t, &s, &m);
        other += differs;
        late += m.late;
        for (size_t i = 1; i < t.n; i++)
            overtaken += s.start[i] < s.start[i - 1];
    }
    ok(bad == 0, "%s: on %d traces all jobs are run", name, TRACES);
    ok(twice == 0, "%s: no node is given twice", name);
    ok(odd == 0, "%s: each job once, with as many nodes as it wants", name);
    ok(other == 0, "%s: each starts when the model says", name);
    if (kind == SIMPLE)
        ok(overtaken == 0, "%s: nobody is overtaken", name);
    else
        ok(late == 0, "%s: no reservation is delayed", name);
}

/* ---- the engine's word is the last ---- */

static int started, refused;

static void count_start(void *arg, struct job *j)
{
    (void)arg;
    (void)j;
    started++;
}

static void count_refusal(void *arg, struct pool *p, const char *why)
{
    (void)arg;
    (void)p;
    (void)why;
    refused++;
}

static void greedy(struct bjs_pool *p)
{
    const struct bjs_job *j = p->next(p);
    uint32_t twice[2] = { 0, 0 }, down[2] = { 0, 1 }, none[2] = { 0, 99 }, good[2] = { 0, 2 };

    p->start(p, j, twice);
    p->start(p, j, down);
    p->start(p, j, none);
    p->start(p, j, good);
    p->start(p, j, good);
    j = p->next(p);
    p->start(p, j, good);
}

static void engine_checks(void)
{
    static const struct bjs_policy bad = { .version = BJS_POLICY_VERSION, .name = "greedy",
                                           .schedule = greedy };
    struct engine_hooks h = { .started = count_start, .refused = count_refusal };
    struct pool *p = make_pool("simple", 3);
    const struct bjs_policy *own = p->policy;
    struct job a = { .pool = p, .pub = { .id = 1, .nodes = 2, .secs = 9 } };
    struct job b = { .pool = p, .pub = { .id = 2, .nodes = 2, .secs = 9 } };

    p->policy = &bad;
    node_usable(p->node[1], false, 8, 1024);
    job_enqueue(&a);
    job_enqueue(&b);
    engine_pass(p, 1000, &h);
    ok(started == 1, "of a greedy policy's starts only the good one counts");
    ok(refused == 5, "a node twice, one that is down, one that is not there, a job twice, a node "
       "of another: all refused");
    ok(a.state == JOB_CLAIMING && b.state == JOB_QUEUED, "the other job still waits");
    ok(p->view.idle == 0 && p->view.up == 2, "the pool is right about its nodes");
    job_leave(&a, 2000);
    ok(p->view.idle == 2, "also afterwards");
    job_dequeue(&b);
    job_clear(&a);
    job_clear(&b);
    p->policy = own;
    pool_free(&p);
}

static bool note_order(void *arg, const struct bjs_pool *v, const struct bjs_job *j)
{
    char *out = arg;

    (void)v;
    snprintf(out + strlen(out), 8, "%llu ", (unsigned long long)j->id);
    return true;
}

static void fair_order(void)
{
    struct pool *p = make_pool("easy", 4);
    struct job j[6];
    static const struct { uint32_t uid; int32_t priority; } who[6] = {
        { 1, 0 }, { 1, 0 }, { 2, 0 }, { 1, 5 }, { 2, -1 }, { 3, 0 },
    };
    char order[64] = "";

    for (int i = 0; i < 6; i++) {
        j[i] = (struct job){ .pool = p, .pub = { .id = (uint64_t)i + 1, .uid = who[i].uid,
                                                 .priority = who[i].priority, .nodes = 1,
                                                 .secs = 10 } };
        job_enqueue(&j[i]);
    }
    pool_user(p, 1)->usage = 1000;
    pool_user(p, 3)->usage = 10;
    for (struct user *u = p->users; u; u = u->next)
        u->usage_ms = 1000;
    engine_order(p, 1000, note_order, order);
    is(order, "4 3 6 1 2 5 ", "by priority, then who has used least, then as submitted");
    int64_t week = 7LL * 24 * 3600 * 1000;
    double later = user_usage(p, pool_user(p, 1), 1000 + week);
    ok(later > 499 && later < 501, "a week later it counts half");
    for (int i = 0; i < 6; i++)
        job_dequeue(&j[i]);
    pool_free(&p);
}

/* The reference's example: a gap as long as the job is long enough. */
static void gap_of_filler(void)
{
    struct swf_job v[5] = {
        { 1, 0, 100, 100, 2, 0 }, { 2, 0, 50, 50, 4, 0 }, { 3, 0, 100, 100, 2, 0 },
        { 4, 0, 100, 100, 2, 0 }, { 5, 0, 10, 10, 1, 0 },
    };
    const struct swf t = { .v = v, .n = 5, .nodes = 4 };
    struct seen s;

    play("filler", &t, &s);
    ok(s.start[0] == 0 && s.start[1] == 100, "the second job waits for all nodes");
    ok(s.start[2] == 0, "the third fills the gap before it, which is just as long");
    ok(s.start[3] == 150, "the fourth comes after them");
}

static void sizes(void)
{
    struct engine_hooks h = { .started = count_start, .refused = count_refusal };
    struct pool *p = make_pool("easy", 3);
    struct job big = { .pool = p, .pub = { .id = 1, .nodes = 1, .cpus = 16, .secs = 9 } };
    struct job small = { .pool = p, .pub = { .id = 2, .nodes = 1, .cpus = 1, .secs = 9 } };

    node_usable(p->node[0], true, 16, 1024);
    job_enqueue(&small);
    engine_pass(p, 1000, &h);
    ok(small.place && small.place[0]->number == 1, "a small job leaves the large node to others");
    job_enqueue(&big);
    engine_pass(p, 1000, &h);
    ok(big.place && big.place[0]->number == 0, "the large job gets it");
    job_leave(&big, 1);
    job_leave(&small, 1);
    pool_free(&p);
}

static void shared_pool(void)
{
    struct engine_hooks h = { .started = count_start, .refused = count_refusal };
    struct pool *p = make_pool("shared", 2);
    struct job j[6];

    for (int i = 0; i < 6; i++) {
        j[i] = (struct job){ .pool = p, .pub = { .id = (uint64_t)i + 1, .nodes = 1, .secs = 9,
                                                 .cpus = i < 4 ? 0 : 6 } };
        job_enqueue(&j[i]);
    }
    engine_pass(p, 1000, &h);
    ok(p->view_node[0].jobs == 3 && p->view_node[1].jobs == 3, "shared: evenly, and all at once");
    struct job more = { .pool = p, .pub = { .id = 7, .nodes = 1, .cpus = 6, .secs = 9 } };
    job_enqueue(&more);
    engine_pass(p, 1000, &h);
    ok(more.state == JOB_QUEUED, "but who wants 6 of 8 processors waits for them");
    job_leave(&j[4], 1);
    engine_pass(p, 1000, &h);
    ok(more.state == JOB_CLAIMING, "until they are there");
    for (int i = 0; i < 6; i++)
        job_leave(&j[i], 1);
    job_leave(&more, 1);
    pool_free(&p);
}

/* ---- shared, against a plain model: random jobs come, and end in any order ---- */

#define SHARED_NODES 8
#define SHARED_STEPS 60

struct crowd { /* the model: what is on each node */
    uint32_t nodes;
    struct crowd_node {
        uint32_t cpus, mem, cpus_used, mem_used, jobs;
        bool up;
        int colour; /* of colours; 0: none */
    } node[SHARED_NODES];
    struct job job[JOBS_MAX];
    int wants[JOBS_MAX];
    uint32_t place[JOBS_MAX][SHARED_NODES];
    bool waits[JOBS_MAX], runs[JOBS_MAX];
    int jobs;
};

static const char *const colours[] = { "", "colour=red ", "colour=blue " };

static void crowd_node_is(struct crowd *c, struct pool *p, uint32_t i)
{
    char **attrs = c->node[i].colour ? calloc(2, sizeof(char *)) : NULL;

    if (attrs) {
        attrs[0] = strdup(colours[c->node[i].colour]);
        attrs[0][strlen(attrs[0]) - 1] = 0;
    }
    node_attrs(p->node[i], attrs);
    node_usable(p->node[i], c->node[i].up, c->node[i].cpus, c->node[i].mem);
}

static struct pool *crowd_begin(struct crowd *c)
{
    *c = (struct crowd){ .nodes = 1 + upto(SHARED_NODES - 1) };
    struct pool *p = make_pool("shared", c->nodes);
    for (uint32_t i = 0; i < c->nodes; i++) {
        c->node[i] = (struct crowd_node){ .cpus = 1 + upto(15), .mem = 1 + upto(999), .up = true,
                                          .colour = (int)upto(2) };
        crowd_node_is(c, p, i);
    }
    return p;
}

static void crowd_submit(struct crowd *c, struct pool *p)
{
    int i = c->jobs++;
    struct job *j = &c->job[i];

    *j = (struct job){ .pool = p, .pub = { .id = (uint64_t)i + 1, .nodes = 1 + upto(c->nodes - 1),
                                           .secs = 9, .cpus = upto(1) ? upto(9) : 0,
                                           .mem_mb = upto(1) ? upto(600) : 0 } };
    c->wants[i] = upto(3) ? 0 : 1 + (int)upto(1);
    wants_get(colours[c->wants[i]], &j->pub.wants);
    c->waits[i] = true;
    job_enqueue(j);
}

static void crowd_add(struct crowd *c, int i, int sign)
{
    const struct bjs_job *b = &c->job[i].pub;

    for (uint32_t k = 0; k < b->nodes; k++) {
        struct crowd_node *n = &c->node[c->place[i][k]];
        n->jobs += (uint32_t)sign;
        n->cpus_used += (uint32_t)sign * b->cpus;
        n->mem_used += (uint32_t)sign * (uint32_t)b->mem_mb;
    }
}

static void crowd_end(struct crowd *c)
{
    int i = (int)upto((unsigned)c->jobs);

    if (i == c->jobs || !c->runs[i] || !c->job[i].place)
        return;
    crowd_add(c, i, -1);
    c->runs[i] = false;
    job_leave(&c->job[i], 1);
}

static void crowd_flip(struct crowd *c, struct pool *p)
{
    uint32_t i = upto(c->nodes - 1);

    if (c->node[i].jobs)
        return;
    c->node[i].up = !c->node[i].up;
    crowd_node_is(c, p, i);
}

/* Each waiting job in turn: on the nodes with the fewest jobs, if as many have room. */
static void crowd_decide(struct crowd *c)
{
    for (int i = 0; i < c->jobs; i++) {
        const struct bjs_job *b = &c->job[i].pub;
        bool taken[SHARED_NODES] = { false };
        uint32_t have = 0;

        for (; c->waits[i] && have < b->nodes; have++) {
            int best = -1;
            for (uint32_t k = 0; k < c->nodes; k++) {
                const struct crowd_node *n = &c->node[k];
                if (!taken[k] && n->up && n->cpus_used + b->cpus <= n->cpus &&
                    n->mem_used + b->mem_mb <= n->mem &&
                    (!c->wants[i] || n->colour == c->wants[i]) &&
                    (best < 0 || n->jobs < c->node[best].jobs))
                    best = (int)k;
            }
            if (best < 0)
                break;
            taken[best] = true;
            c->place[i][have] = (uint32_t)best;
        }
        if (!c->waits[i] || have < b->nodes)
            continue;
        c->waits[i] = false;
        c->runs[i] = true;
        crowd_add(c, i, 1);
    }
}

/* Are the same jobs on the same nodes? */
static bool crowd_agrees(const struct crowd *c, const struct pool *p)
{
    for (int i = 0; i < c->jobs; i++) {
        const struct job *j = &c->job[i];
        if ((j->place != NULL) != c->runs[i] || (j->state == JOB_QUEUED) != c->waits[i])
            return false;
        for (uint32_t a = 0; j->place && a < j->pub.nodes; a++) {
            bool found = false;
            for (uint32_t b = 0; b < j->pub.nodes; b++)
                found = found || c->place[i][b] == j->place[a]->index;
            if (!found)
                return false;
        }
    }
    for (uint32_t k = 0; k < c->nodes; k++)
        if (p->view_node[k].jobs != c->node[k].jobs ||
            p->view_node[k].cpus_used != c->node[k].cpus_used)
            return false;
    return true;
}

static void crowd_finish(struct crowd *c, struct pool *p)
{
    for (int i = 0; i < c->jobs; i++) {
        if (c->job[i].place)
            job_leave(&c->job[i], 1);
        if (c->job[i].state == JOB_QUEUED)
            job_dequeue(&c->job[i]);
        job_clear(&c->job[i]);
    }
    pool_free(&p);
}

static void shared_against_model(void)
{
    static struct crowd c;
    struct engine_hooks h = { .started = count_start, .refused = count_refusal };
    unsigned other = 0, ran = 0;

    refused = 0;
    for (int round = 0; round < TRACES; round++) {
        struct pool *p = crowd_begin(&c);
        bool same = true;
        for (int step = 0; same && step < SHARED_STEPS; step++) {
            unsigned what = upto(9);
            if (what < 5 && c.jobs < JOBS_MAX)
                crowd_submit(&c, p);
            else if (what < 9)
                crowd_end(&c);
            else
                crowd_flip(&c, p);
            engine_pass(p, 1000, &h);
            crowd_decide(&c);
            same = crowd_agrees(&c, p);
        }
        other += !same;
        for (int i = 0; i < c.jobs; i++)
            ran += !c.waits[i];
        crowd_finish(&c, p);
    }
    ok(other == 0, "shared: on %d traces each job is where the model says", TRACES);
    ok(refused == 0, "shared: and asks for nothing that is not to be had");
    ok(ran > TRACES * 5, "shared: %u jobs have been started", ran);
}

static void required(void)
{
    struct engine_hooks h = { .started = count_start, .refused = count_refusal };
    const char *const *w, *const *again, *const *none;
    struct pool *p = make_pool("easy", 3);
    struct job j = { .pool = p, .pub = { .id = 1, .nodes = 1, .secs = 9 } };
    static const char *const any[] = { "colour", NULL }, *const part[] = { "colour=bl", NULL };
    char **attrs = calloc(2, sizeof(char *));

    wants_get("colour=blue gpu restartable output=out put x=1 ", &w);
    ok(w && strcmp(w[0], "colour=blue") == 0 && strcmp(w[1], "gpu") == 0 && !w[2],
       "what is required of nodes, without the words that are not theirs");
    wants_get("colour=blue gpu output=other", &again);
    ok(w == again, "the same list for all who want the same");
    wants_get("restartable output=out", &none);
    ok(!none, "none is none");
    wants_put(again);
    wants_put(w);
    attrs[0] = strdup("colour=blue");
    node_attrs(p->node[2], attrs);
    ok(bjs_has(p->view_node[2].attrs, any), "a name alone is any value");
    ok(!bjs_has(p->view_node[2].attrs, part), "a value is all of it");
    wants_get("colour=blue ", &j.pub.wants);
    job_enqueue(&j);
    engine_pass(p, 1000, &h);
    ok(j.place && j.place[0]->number == 2, "the job gets the node that has it");
    job_leave(&j, 1);
    node_attrs(p->node[2], NULL);
    ok(p->wake, "an attribute that changes may let jobs start");
    job_enqueue(&j);
    engine_pass(p, 1000, &h);
    ok(j.state == JOB_QUEUED, "and waits when none has");
    job_dequeue(&j);
    job_clear(&j);
    pool_free(&p);
}

static void traces(void)
{
    struct swf a = { 0 }, b = { 0 };
    struct err err = { 0 };
    FILE *f = tmpfile();

    swf_make(&a, 200, 32, 7);
    swf_write(f, &a);
    rewind(f);
    ok(swf_read(f, "made up", &b, &err) == 0, "a trace that was made up can be read");
    ok(a.n == b.n && b.nodes == 32 && memcmp(a.v, b.v, a.n * sizeof *a.v) == 0,
       "and is the same");
    fclose(f);
    swf_free(&b);
    f = tmpfile();
    fputs("; MaxNodes: 8\n1 0 -1 5 2\n", f);
    rewind(f);
    ok(swf_read(f, "odd", &b, &err) < 0, "a line with 5 numbers is refused");
    says(err.text, "odd:2: 5 numbers, want 18", "with its number");
    fclose(f);
    swf_free(&a);
    swf_free(&b);
}

int main(void)
{
    against_model(SIMPLE, "simple");
    against_model(FILLER, "filler");
    against_model(EASY, "easy");
    gap_of_filler();
    engine_checks();
    fair_order();
    sizes();
    shared_pool();
    shared_against_model();
    required();
    traces();
    return done_testing();
}
