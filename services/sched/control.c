/* control.c - what is done to jobs and pools, and what bjssub -i asks and says */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "services/sched/db.h"

/* ---- one job ---- */

static int may(const struct job *j, const struct wire *w, struct err *err)
{
    if (w->uid == 0 || w->uid == (int64_t)j->pub.uid)
        return 0;
    return err_set(err, EPERM, "Permission denied.");
}

static void who_text(const struct wire *w, char *out, size_t room)
{
    if (w->uid == 0)
        snprintf(out, room, "root");
    else
        snprintf(out, room, "user %lld", (long long)w->uid);
}

static int do_remove(sched_t *s, struct job *j, const struct wire *w, const msgpack_object *body,
                     struct err *err)
{
    char who[40], why[80];

    (void)body;
    (void)err;
    who_text(w, who, sizeof who);
    snprintf(why, sizeof why, "removed by %s", who);
    if (j->flags & JOB_REMOVED)
        return 0;
    j->flags |= JOB_REMOVED;
    job_reason(j, "%s", why);
    if (j->state < JOB_CLAIMING) {
        j->status = SIGTERM;
        job_done(s, j);
    } else {
        run_stop(s, j, false, why);
        job_noted(s, j);
    }
    return 0;
}

static int do_hold(sched_t *s, struct job *j, const struct wire *w, const msgpack_object *body,
                   struct err *err)
{
    char who[40];

    (void)body;
    if (j->state >= JOB_CLAIMING)
        return err_set(err, EBUSY, "Job %llu runs already.", (unsigned long long)j->pub.id);
    who_text(w, who, sizeof who);
    j->flags |= JOB_ON_HOLD;
    job_dequeue(j);
    j->state = JOB_HELD;
    job_reason(j, "held by %s", who);
    job_changed(s, j);
    job_say(s, j, "held");
    return 0;
}

static int do_release(sched_t *s, struct job *j, const struct wire *w, const msgpack_object *body,
                      struct err *err)
{
    (void)body;
    (void)w;
    if (!(j->flags & JOB_ON_HOLD))
        return err_set(err, EINVAL, "Job %llu is not held.", (unsigned long long)j->pub.id);
    j->flags &= ~(uint32_t)JOB_ON_HOLD;
    free(j->reason);
    j->reason = NULL;
    job_wait(s, j);
    job_changed(s, j);
    job_say(s, j, "released");
    return 0;
}

static int do_signal(sched_t *s, struct job *j, const struct wire *w, const msgpack_object *body,
                     struct err *err)
{
    int64_t sig;

    (void)w;
    if (mp_get_int(body, "sig", 1, SIGRTMAX, &sig, err) < 0)
        return -1;
    if (j->state != JOB_RUNNING)
        return err_set(err, ESRCH, "Job %llu does not run.", (unsigned long long)j->pub.id);
    run_signal(s, j, (int)sig);
    return 0;
}

static int do_priority(sched_t *s, struct job *j, const struct wire *w, const msgpack_object *body,
                       struct err *err)
{
    int64_t v;

    if (mp_get_int(body, "priority", -1000000, 1000000, &v, err) < 0)
        return -1;
    if (v > 0 && w->uid != 0)
        return err_set(err, EPERM, "Only root gives a job a priority above 0.");
    bool queued = j->state == JOB_QUEUED;
    if (queued)
        job_dequeue(j);
    j->pub.priority = (int32_t)v;
    if (queued && job_enqueue(j) < 0)
        return err_set(err, ENOMEM, "out of memory");
    job_changed(s, j);
    return 0;
}

static int do_requeue(sched_t *s, struct job *j, const struct wire *w, const msgpack_object *body,
                      struct err *err)
{
    char who[40], why[80];

    (void)body;
    if (j->flags & JOB_INTERACTIVE)
        return err_set(err, EINVAL, "Job %llu is interactive.", (unsigned long long)j->pub.id);
    if (j->state != JOB_RUNNING && j->state != JOB_STARTING)
        return err_set(err, ESRCH, "Job %llu does not run.", (unsigned long long)j->pub.id);
    who_text(w, who, sizeof who);
    snprintf(why, sizeof why, "queued again by %s", who);
    j->flags |= JOB_AGAIN;
    run_stop(s, j, false, why);
    return 0;
}

static const struct {
    const char *name;
    int (*fn)(sched_t *s, struct job *j, const struct wire *w, const msgpack_object *body,
              struct err *err);
} actions[] = {
    { "remove", do_remove },   { "hold", do_hold },         { "release", do_release },
    { "signal", do_signal },   { "priority", do_priority }, { "requeue", do_requeue },
};

static int one(sched_t *s, uint64_t id, size_t action, struct svc_req *req, struct err *err)
{
    struct job *j = job_find(s, id);

    if (!j || j->state == JOB_DONE)
        return err_set(err, ENOENT, "No job %llu found.", (unsigned long long)id);
    if (may(j, req->w, err) < 0)
        return -1;
    return actions[action].fn(s, j, req->w, req->body, err);
}

/* sched.control: {action, jobs: [id], sig?, priority?} -> {results: [[id, code, text]...]} */
int on_control(void *self, struct svc_req *req, struct err *err)
{
    const size_t n = sizeof actions / sizeof *actions;
    const msgpack_object_array *jobs;
    sched_t *s = self;
    size_t a = 0;

    while (a < n && !mp_is(mp_get(req->body, "action"), actions[a].name))
        a++;
    if (a == n)
        return err_set(err, EINVAL, "action: want remove, hold, release, signal, priority or "
                       "requeue");
    if (mp_get_array(req->body, "jobs", &jobs, err) < 0)
        return -1;
    mp_map(req->reply, 1);
    mp_key(req->reply, "results");
    mp_array(req->reply, jobs->size);
    for (uint32_t i = 0; i < jobs->size; i++) {
        struct err why = { 0 };
        int64_t id = 0;
        if (!mp_as_int(&jobs->ptr[i], &id) || id < 0)
            return err_set(err, EPROTO, "jobs: item %u is no job's number", i);
        one(s, (uint64_t)id, a, req, &why);
        mp_array(req->reply, 3);
        mp_int(req->reply, id);
        mp_int(req->reply, why.code);
        mp_str(req->reply, why.text);
    }
    return 0;
}

/* sched.pool (admin): {pool, drain: bool} -> nil */
int on_pool(void *self, struct svc_req *req, struct err *err)
{
    sched_t *s = self;
    CLEANUP(cleanup_free) char *name = NULL;

    if (mp_get_dup(req->body, "pool", &name, err) < 0)
        return -1;
    struct pool *p = pool_find(s->conf.pools, name);
    if (!p)
        return err_set(err, ENOENT, "No pool named: %s", name);
    p->drained = mp_opt_bool(req->body, "drain", true);
    if (db_begin(s->db, err) < 0 || db_put_drained(s->db, p->name, p->drained, err) < 0)
        return -1;
    p->wake = true;
    turn_now(s);
    return 0;
}

int on_reload(void *self, struct svc_req *req, struct err *err)
{
    (void)req;
    return sched_reload(self, err);
}

/* ---- interactive ---- */

struct waiter {
    svc_token *token;
    uint64_t id;
    struct waiter *next;
};

static struct waiter *waiters; /* a handful; there is one sched a process */

static void pack_state(const struct job *j, mp_buf *m)
{
    CLEANUP(cleanup_free) char *nodes = j ? job_nodes(j) : NULL;

    mp_map(m, 3);
    mp_kstr(m, "state", j ? job_state_name(j->state) : "done");
    mp_kstr(m, "nodes", nodes ? nodes : "");
    mp_kstr(m, "why", j ? j->reason : NULL);
}

/* sched.wait: {job} -> {state, nodes, why}, once it runs or has ended */
int on_wait(void *self, struct svc_req *req, struct err *err)
{
    sched_t *s = self;
    int64_t id;

    if (mp_get_int(req->body, "job", 1, INT64_MAX, &id, err) < 0)
        return -1;
    struct job *j = job_find(s, (uint64_t)id);
    if (!j || j->state >= JOB_RUNNING) {
        pack_state(j, req->reply);
        return 0;
    }
    struct waiter *w = malloc(sizeof *w);
    if (!w)
        return err_set(err, ENOMEM, "out of memory");
    *w = (struct waiter){ req->token, (uint64_t)id, waiters };
    waiters = w;
    return SVC_LATER;
}

void waiters_tell(sched_t *s, struct job *j)
{
    for (struct waiter **at = &waiters; *at;) {
        struct waiter *w = *at;
        CLEANUP(mp_free) mp_buf m;
        mp_init(&m);
        if (w->id != j->pub.id) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        pack_state(j, &m);
        svc_answer(s->svc, w->token, &m);
        free(w);
    }
}

/* sched.ended: {job, status, utime, stime, maxrss}: by its bjssub -> nil, when noted */
int on_ended(void *self, struct svc_req *req, struct err *err)
{
    sched_t *s = self;
    int64_t id, status;

    if (mp_get_int(req->body, "job", 1, INT64_MAX, &id, err) < 0 ||
        mp_get_int(req->body, "status", 0, 0xffff, &status, err) < 0)
        return -1;
    struct job *j = job_find(s, (uint64_t)id);
    if (!j)
        return 0; /* noted already */
    if (may(j, req->w, err) < 0)
        return -1;
    if (!(j->flags & JOB_INTERACTIVE) || j->state < JOB_STARTING || !j->run)
        return err_set(err, EINVAL, "job %lld does not run", (long long)id);
    j->on_master = (struct used){ mp_opt_int(req->body, "utime", 0),
                                  mp_opt_int(req->body, "stime", 0),
                                  mp_opt_int(req->body, "maxrss", 0) };
    if (j->run->token || j->run->has_report)
        return 0;
    j->run->token = req->token;
    run_ended(s, j, (int)status, wall_ms());
    return SVC_LATER;
}
