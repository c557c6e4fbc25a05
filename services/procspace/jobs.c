/* jobs.c - procspace.end_job: all that jobs of the scheduler have started
 *
 * The nodes know what runs there, whatever we remember. But most jobs end with
 * nothing left, and then nobody need be asked: we note which launches were sent
 * where, and each node says when it is done with one, and of which job it was:
 * what that has used there is asked for at its end. After a restart, or when
 * a launch has failed half-way, a node is asked until it has none of anybody's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "bus/nodespec.h"
#include "services/procspace/procspace.h"

#define ASK_MS 10000
#define JOBS_MAX 100000
#define ENDED_MAX 4096 /* on a node, that nobody has asked for yet */

struct ending { /* one request */
    procspace_t *ps;
    svc_token *token;
    uint32_t jobs, waiting;
    uint32_t *left; /* by job */
    struct used {
        uint64_t utime_us, stime_us, maxrss_kb;
        bool free_mem, free_cpus;
    } *used;
};

struct asked { /* one job's nodes */
    struct ending *e;
    uint32_t job;
    uint64_t of;
    uint32_t n;
    struct had { /* what we believed when we asked */
        int node;
        uint32_t doubts, nsent;
        uint64_t *sent;
    } had[];
};

void jobs_sent(procspace_t *ps, int node, uint64_t launch)
{
    struct node_space *ns = node_space(ps, node);

    if (!ns)
        return;
    for (uint32_t i = 0; i < ns->nsent; i++)
        if (ns->sent[i] == launch)
            return;
    if (ns->nsent == ns->room) {
        uint32_t room = ns->room ? ns->room * 2 : 8;
        uint64_t *p = realloc(ns->sent, room * sizeof *p);
        if (!p) {
            jobs_unsure(ps, node);
            return;
        }
        ns->sent = p;
        ns->room = room;
    }
    ns->sent[ns->nsent++] = launch;
}

static bool has_ended(const struct node_space *ns, uint64_t job)
{
    for (uint32_t i = 0; job && i < ns->nended; i++)
        if (ns->ended[i] == job)
            return true;
    return false;
}

static void note_ended(struct node_space *ns, uint64_t job)
{
    if (!job || has_ended(ns, job))
        return;
    if (ns->nended == ns->ended_room && ns->ended_room < ENDED_MAX) {
        uint32_t room = ns->ended_room ? ns->ended_room * 2 : 8;
        uint64_t *p = realloc(ns->ended, room * sizeof *p);
        if (p) {
            ns->ended = p;
            ns->ended_room = room;
        }
    }
    if (ns->nended == ns->ended_room && ns->nended) /* of no job of the scheduler's, most likely */
        memmove(ns->ended, ns->ended + 1, --ns->nended * sizeof *ns->ended);
    if (ns->nended < ns->ended_room)
        ns->ended[ns->nended++] = job;
}

static void forget_ended(struct node_space *ns, uint64_t job)
{
    for (uint32_t i = 0; ns && i < ns->nended; i++)
        if (ns->ended[i] == job) {
            ns->ended[i] = ns->ended[--ns->nended];
            return;
        }
}

void jobs_done(procspace_t *ps, int node, uint64_t launch, uint64_t job)
{
    struct node_space *ns = node_space(ps, node);

    if (ns)
        note_ended(ns, job);
    for (uint32_t i = 0; ns && i < ns->nsent; i++)
        if (ns->sent[i] == launch) {
            ns->sent[i] = ns->sent[--ns->nsent];
            return;
        }
}

void jobs_unsure(procspace_t *ps, int node)
{
    struct node_space *ns = node_space(ps, node);

    if (ns) {
        ns->sure = false;
        ns->doubts++;
    }
}

void jobs_forget(struct node_space *ns)
{
    free(ns->sent);
    free(ns->ended);
    ns->sent = ns->ended = NULL;
    ns->nsent = ns->room = ns->nended = ns->ended_room = 0;
}

static void finish(struct ending *e)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 2);
    mp_key(&m, "left");
    mp_array(&m, e->jobs);
    for (uint32_t i = 0; i < e->jobs; i++)
        mp_uint(&m, e->left[i]);
    mp_key(&m, "used");
    mp_array(&m, e->jobs);
    for (uint32_t i = 0; i < e->jobs; i++) {
        mp_array(&m, 5);
        mp_uint(&m, e->used[i].utime_us);
        mp_uint(&m, e->used[i].stime_us);
        mp_uint(&m, e->used[i].maxrss_kb);
        mp_bool(&m, e->used[i].free_mem);
        mp_bool(&m, e->used[i].free_cpus);
    }
    svc_answer(e->ps->svc, e->token, &m);
    free(e->left);
    free(e->used);
    free(e);
}

/* Nothing of anybody's was there when it was asked. */
static void believe(procspace_t *ps, const struct had *h)
{
    struct node_space *ns = node_space(ps, h->node);

    for (uint32_t i = 0; i < h->nsent; i++)
        jobs_done(ps, h->node, h->sent[i], 0);
    if (ns && ns->doubts == h->doubts)
        ns->sure = true;
}

/* [utime_us, stime_us, maxrss_kb, free_mem, free_cpus] */
static void add_used(struct used *u, const msgpack_object *o)
{
    const msgpack_object *v = o->via.array.ptr;
    int64_t n[3];

    if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 5)
        return;
    for (int i = 0; i < 3; i++)
        if (!mp_as_int(&v[i], &n[i]) || n[i] < 0)
            return;
    u->utime_us += (uint64_t)n[0];
    u->stime_us += (uint64_t)n[1];
    u->maxrss_kb = (uint64_t)n[2] > u->maxrss_kb ? (uint64_t)n[2] : u->maxrss_kb;
    u->free_mem = u->free_mem || (v[3].type == MSGPACK_OBJECT_BOOLEAN && v[3].via.boolean);
    u->free_cpus = u->free_cpus || (v[4].type == MSGPACK_OBJECT_BOOLEAN && v[4].via.boolean);
}

static void on_node(void *arg, int node, const msgpack_object *value, const struct err *err)
{
    struct asked *q = arg;

    (void)err;
    if (!value) { /* it may be back with all that it had */
        q->e->left[q->job]++;
        return;
    }
    uint32_t left = (uint32_t)mp_opt_int(value, "left", 1);
    q->e->left[q->job] += left;
    if (mp_get(value, "used"))
        add_used(&q->e->used[q->job], mp_get(value, "used"));
    if (!left)
        forget_ended(node_space(q->e->ps, node), q->of);
    if (mp_opt_int(value, "all", 1) != 0)
        return;
    for (uint32_t i = 0; i < q->n; i++)
        if (q->had[i].node == node)
            believe(q->e->ps, &q->had[i]);
}

static void on_nodes(void *arg)
{
    struct asked *q = arg;
    struct ending *e = q->e;

    for (uint32_t i = 0; i < q->n; i++)
        free(q->had[i].sent);
    free(q);
    if (--e->waiting == 0)
        finish(e);
}

static bool remember(struct had *h, int node, const struct node_space *ns)
{
    *h = (struct had){ node, ns->doubts, ns->nsent, NULL };
    if (!ns->nsent)
        return true;
    h->sent = malloc(ns->nsent * sizeof *h->sent);
    if (h->sent)
        memcpy(h->sent, ns->sent, ns->nsent * sizeof *h->sent);
    return h->sent != NULL;
}

struct row {
    uint64_t id, of;
    int64_t uid, attempt;
    const msgpack_object_array *nodes;
};

/* Ask those of the nodes that may hold something, or know what it has used. */
static int ask(struct ending *e, uint32_t job, const struct row *r, int sig, struct err *err)
{
    const msgpack_object_array *nodes = r->nodes;
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(nodelist_free) nodelist_t who;
    struct asked *q = calloc(1, sizeof *q + nodes->size * sizeof *q->had);

    mp_init(&m);
    nodelist_init(&who);
    if (!q)
        return err_set(err, ENOMEM, "out of memory");
    q->e = e;
    q->job = job;
    q->of = r->of;
    for (uint32_t i = 0; i < nodes->size; i++) {
        int64_t node = -1;
        mp_as_int(&nodes->ptr[i], &node); /* checked before */
        const struct node_space *ns = node_space(e->ps, (int)node);
        if (ns && ns->sure && !ns->nsent && !has_ended(ns, r->of))
            continue;
        if (!ns || nodelist_add(&who, (int)node) < 0 ||
            !remember(&q->had[q->n++], (int)node, ns)) {
            on_nodes(q); /* nothing has been sent of this job */
            e->waiting++;
            return err_set(err, ENOMEM, "out of memory");
        }
    }
    mp_map(&m, 5);
    mp_kint(&m, "uid", r->uid);
    mp_kuint(&m, "job", r->id);
    mp_kint(&m, "sig", sig);
    mp_kuint(&m, "of", r->of);
    mp_kint(&m, "attempt", r->attempt);
    svc_call_nodes(e->ps->svc, who.node, (int)who.n, "end_job", &m, ASK_MS, on_node, on_nodes, q);
    return 0;
}

static int read_row(const msgpack_object *o, struct row *r, struct err *err)
{
    int64_t id, of = 0;

    r->attempt = 0;
    if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 3 ||
        !mp_as_int(&o->via.array.ptr[0], &id) || id < 0 ||
        !mp_as_int(&o->via.array.ptr[1], &r->uid) || r->uid < -1 || r->uid > UINT32_MAX ||
        o->via.array.ptr[2].type != MSGPACK_OBJECT_ARRAY)
        return err_set(err, EPROTO, "jobs: want rows of [job, uid, [node...]]");
    if (o->via.array.size > 4 && (!mp_as_int(&o->via.array.ptr[3], &of) || of < 0 ||
                                  !mp_as_int(&o->via.array.ptr[4], &r->attempt)))
        return err_set(err, EPROTO, "jobs: want rows of [job, uid, [node...], job, attempt]");
    r->id = (uint64_t)id;
    r->of = (uint64_t)of;
    r->nodes = &o->via.array.ptr[2].via.array;
    for (uint32_t i = 0; i < r->nodes->size; i++) {
        int64_t node;
        if (!mp_as_int(&r->nodes->ptr[i], &node) || node < 0 || node > NODE_MAX)
            return err_set(err, EPROTO, "jobs: item %u is no node number", i + 1);
    }
    return 0;
}

int on_end_job(void *self, struct svc_req *req, struct err *err)
{
    const msgpack_object_array *jobs;
    struct row r;
    int64_t sig;

    if (mp_get_array(req->body, "jobs", &jobs, err) < 0 ||
        mp_get_int(req->body, "sig", 0, 64, &sig, err) < 0)
        return -1;
    if (jobs->size > JOBS_MAX)
        return err_set(err, EPROTO, "jobs: more than %d", JOBS_MAX);
    for (uint32_t i = 0; i < jobs->size; i++)
        if (read_row(&jobs->ptr[i], &r, err) < 0)
            return -1;
    struct ending *e = calloc(1, sizeof *e);
    if (e) {
        e->left = calloc(jobs->size + 1, sizeof *e->left);
        e->used = calloc(jobs->size + 1, sizeof *e->used);
    }
    if (!e || !e->left || !e->used) {
        free(e ? e->left : NULL);
        free(e ? e->used : NULL);
        free(e);
        return err_set(err, ENOMEM, "out of memory");
    }
    e->ps = self;
    e->token = req->token;
    e->jobs = jobs->size;
    e->waiting = 1; /* ours */
    for (uint32_t i = 0; i < jobs->size; i++) {
        struct err why = { 0 };
        read_row(&jobs->ptr[i], &r, &why);
        e->waiting++;
        if (ask(e, i, &r, (int)sig, &why) < 0) {
            e->left[i]++; /* the asker tries again */
            e->waiting--;
        }
    }
    if (--e->waiting == 0)
        finish(e);
    return SVC_LATER;
}
