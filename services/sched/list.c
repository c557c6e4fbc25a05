/* list.c - sched.list, sched.job, sched.why */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "services/sched/db.h"

static void pack_limits(mp_buf *m, const struct limits *l)
{
    mp_kuint(m, "minnodes", l->minnodes);
    mp_kuint(m, "maxnodes", l->maxnodes);
    mp_kint(m, "minsecs", l->minsecs);
    mp_kint(m, "maxsecs", l->maxsecs);
    mp_kint(m, "defaultsecs", l->defaultsecs);
}

static void pack_pool(const struct pool *p, mp_buf *m)
{
    mp_map(m, 16);
    mp_kstr(m, "name", p->name);
    mp_kstr(m, "policy", p->policy_name);
    mp_kstr(m, "aside", p->aside);
    mp_kbool(m, "takeover", !p->open);
    mp_kbool(m, "drained", p->drained);
    mp_kuint(m, "total", pool_size(p));
    mp_kuint(m, "up", p->view.up);
    mp_kuint(m, "free", p->view.idle);
    mp_kuint(m, "waiting", p->waiting);
    mp_kuint(m, "running", p->nrunning);
    pack_limits(m, &p->limit);
    mp_key(m, "set_aside"); /* nodes that somebody else has changed */
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->nodes; i++)
        n += p->node[i]->by_hand;
    mp_array(m, n);
    for (uint32_t i = 0; i < p->nodes; i++)
        if (p->node[i]->by_hand)
            mp_int(m, p->node[i]->number);
}

/* sched.list: {pool?, uid?, done?: n} -> {pools: [...], jobs: [...], disk: text} */
int on_list(void *self, struct svc_req *req, struct err *err)
{
    sched_t *s = self;
    CLEANUP(cleanup_free) char *pool = mp_opt_dup(req->body, "pool");
    CLEANUP(mp_free) mp_buf jobs;
    int64_t done = mp_opt_int(req->body, "done", 0);
    struct db_query q = { .pool = pool, .uid = mp_opt_int(req->body, "uid", -1),
                          .ended = done > 0, .limit = done };
    uint32_t pools = 0, n;

    mp_init(&jobs);
    if (!s->configured)
        return err_set(err, EAGAIN, "sched does not know the nodes yet; try again");
    if (pool && !pool_find(s->conf.pools, pool))
        return err_set(err, ENOENT, "No pool named: %s", pool);
    turn_now(s);
    if (db_pack(s->db, &q, s, &jobs, &n, err) < 0)
        return -1;
    for (const struct pool *p = s->conf.pools; p; p = p->next)
        pools += !pool || strcmp(p->name, pool) == 0;
    mp_map(req->reply, 3);
    mp_key(req->reply, "pools");
    mp_array(req->reply, pools);
    for (const struct pool *p = s->conf.pools; p; p = p->next)
        if (!pool || strcmp(p->name, pool) == 0)
            pack_pool(p, req->reply);
    mp_key(req->reply, "jobs");
    mp_array(req->reply, n);
    msgpack_sbuffer_write(&req->reply->b, jobs.b.data ? jobs.b.data : "", jobs.b.size);
    mp_kstr(req->reply, "disk", s->disk);
    return 0;
}

static int64_t asked_id(const struct svc_req *req, struct err *err)
{
    int64_t id = 0;

    return mp_get_int(req->body, "job", 1, INT64_MAX, &id, err) < 0 ? -1 : id;
}

/* sched.job: {job} -> its map */
int on_job(void *self, struct svc_req *req, struct err *err)
{
    sched_t *s = self;
    int64_t id = asked_id(req, err);
    struct db_query q = { .id = (uint64_t)id, .uid = -1, .limit = 1 };
    uint32_t n;

    if (id < 0)
        return -1;
    if (!s->configured)
        return err_set(err, EAGAIN, "sched does not know the nodes yet; try again");
    turn_now(s);
    if (db_pack(s->db, &q, s, req->reply, &n, err) < 0)
        return -1;
    return n ? 0 : err_set(err, ENOENT, "No job %lld found.", (long long)id);
}

/* ---- why ---- */

struct why {
    mp_buf lines;
    uint32_t n;
    int64_t start_ms; /* 0: not known */
};

static void say(struct why *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void say(struct why *w, const char *fmt, ...)
{
    char text[400];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    mp_str(&w->lines, text);
    w->n++;
}

static void time_text(int64_t ms, char out[32])
{
    time_t t = (time_t)(ms / 1000);
    struct tm tm;

    if (!localtime_r(&t, &tm) || !strftime(out, 32, "%Y-%m-%d %H:%M:%S", &tm))
        snprintf(out, 32, "%lld", (long long)t);
}

struct ahead { /* those before a job, in the policy's order */
    const struct job *j;
    struct bjs_profile f;
    uint32_t n, planned;
    uint64_t first;
    int64_t at; /* where the job itself would go */
    bool broken;
};

#define AHEAD_MAX 1000 /* reckoned with; the rest is counted */

static bool on_ahead(void *arg, const struct bjs_pool *v, const struct bjs_job *b)
{
    struct ahead *a = arg;
    int64_t ms = b->secs * 1000;

    if (b == &a->j->pub) {
        a->at = bjs_profile_find(&a->f, b->nodes, ms);
        return false;
    }
    a->n++;
    if (b->nodes > v->up)
        return true; /* nobody waits for it */
    if (!a->first)
        a->first = b->id;
    if (a->planned >= AHEAD_MAX)
        return true;
    int64_t at = bjs_profile_find(&a->f, b->nodes, ms);
    a->broken = a->broken || at < 0 || bjs_profile_take(&a->f, at, b->nodes, ms) < 0;
    a->planned++;
    return !a->broken;
}

static void why_queued(const struct job *j, struct why *w)
{
    struct pool *p = j->pool;
    uint32_t suits = bjs_suiting(&p->view, &j->pub);
    struct ahead a = { .j = j, .at = -1 };
    char when[32];

    p->view.now_ms = wall_ms();
    p->view.node = p->view_node;
    p->view.nodes = p->nodes;
    p->view.running = p->running;
    p->view.nrunning = p->nrunning;
    if (p->drained)
        say(w, "Pool %s is drained: nothing is started there (bjsctl undrain %s).", p->name,
            p->name);
    if (p->aside[0])
        say(w, "The pool's policy %s; simple does its work.", p->aside);
    say(w, "It asks for %u node%s; pool %s has %u, %u of them up and %u free.", j->pub.nodes,
        j->pub.nodes == 1 ? "" : "s", p->name, pool_size(p), p->view.up, p->view.idle);
    if (suits < j->pub.nodes) {
        say(w, "Only %u node%s up that would do: it waits for more, and others go before it.",
            suits, suits == 1 ? " is" : "s are");
        return;
    }
    if (bjs_profile_begin(&a.f, &p->view) == 0)
        engine_order(p, p->view.now_ms, on_ahead, &a);
    if (a.n)
        say(w, "%u job%s ahead of it; first of them is job %llu.", a.n, a.n == 1 ? " is" : "s are",
            (unsigned long long)a.first);
    else
        say(w, "No job is ahead of it.");
    int64_t at = j->planned_ms ? j->planned_ms : a.at;
    if (at > 0 && !p->drained && !p->policy->sharing) {
        w->start_ms = at;
        time_text(at, when);
        say(w, "It starts about %s, or before: reckoned from the time limits of %u running "
            "job%s and of %u ahead of it%s.", when, p->nrunning, p->nrunning == 1 ? "" : "s",
            a.planned, j->planned_ms ? ", as the policy has planned" : "");
    }
    bjs_profile_free(&a.f);
}

static void why_open(sched_t *s, const struct job *j, struct why *w)
{
    enum after kind = AFTER_ANY;
    uint64_t target;
    CLEANUP(cleanup_free) char *nodes = job_nodes(j);
    char when[32];

    switch (j->state) {
    case JOB_HELD:
        say(w, "It is held%s%s: bjsctl release %llu.", j->reason ? ": " : "",
            j->reason ? j->reason : "", (unsigned long long)j->pub.id);
        break;
    case JOB_AFTER:
        target = after_first(s, j, &kind);
        say(w, "It waits for job %llu to %s.", (unsigned long long)target,
            kind == AFTER_OK ? "end well" : kind == AFTER_FAIL ? "fail" : "end");
        break;
    case JOB_QUEUED:
        why_queued(j, w);
        break;
    case JOB_CLAIMING:
    case JOB_STARTING:
        say(w, "It is being started on node%s %s.", j->pub.nodes == 1 ? "" : "s",
            nodes ? nodes : "");
        break;
    case JOB_ENDING:
        say(w, "Its command has ended; what it left on its nodes is being ended.");
        break;
    default:
        time_text(j->pub.started_ms + j->pub.secs * 1000, when);
        say(w, "It runs on node%s %s; its time limit is over at %s.",
            j->pub.nodes == 1 ? "" : "s", nodes ? nodes : "", when);
    }
    if (s->disk[0])
        say(w, "Nothing is started now: %s.", s->disk);
}

static int why_ended(sched_t *s, uint64_t id, struct why *w, struct err *err)
{
    struct db_query q = { .id = id, .uid = -1, .limit = 1 };
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked u;
    uint32_t n;

    mp_init(&m);
    msgpack_unpacked_init(&u);
    if (db_pack(s->db, &q, s, &m, &n, err) < 0)
        return -1;
    if (!n)
        return err_set(err, ENOENT, "No job %llu found.", (unsigned long long)id);
    if (mp_decode(&u, m.b.data, m.b.size, err) < 0)
        return -1;
    CLEANUP(cleanup_free) char *reason = mp_opt_dup(&u.data, "reason");
    CLEANUP(cleanup_free) char *output = mp_opt_dup(&u.data, "output");
    if (reason && *reason)
        say(w, "It has ended: %s.", reason);
    else
        say(w, "It has ended, with status 0.");
    if (output && *output)
        say(w, "Its output went to %s.", output);
    return 0;
}

/* sched.why: {job} -> {state, lines: [text], start} */
int on_why(void *self, struct svc_req *req, struct err *err)
{
    sched_t *s = self;
    int64_t id = asked_id(req, err);
    struct why w = { .n = 0 };

    if (id < 0)
        return -1;
    if (!s->configured)
        return err_set(err, EAGAIN, "sched does not know the nodes yet; try again");
    mp_init(&w.lines);
    turn_now(s);
    const struct job *j = job_find(s, (uint64_t)id);
    int rc = 0;
    if (j && j->state != JOB_DONE)
        why_open(s, j, &w);
    else
        rc = why_ended(s, (uint64_t)id, &w, err);
    if (rc == 0) {
        mp_map(req->reply, 3);
        mp_kstr(req->reply, "state", job_state_name(j ? j->state : JOB_DONE));
        mp_kint(req->reply, "start", w.start_ms);
        mp_key(req->reply, "lines");
        mp_array(req->reply, w.n);
        msgpack_sbuffer_write(&req->reply->b, w.lines.b.data ? w.lines.b.data : "",
                              w.lines.b.size);
    }
    mp_free(&w.lines);
    return rc;
}
