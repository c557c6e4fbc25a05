/* nodes.c - the pools' nodes: what nodemgr says of them, and whose they are
 *
 * A node of a pool is taken over (root's, closed) when sched starts, when it
 * comes up and when the configuration changes; then it is its jobs' users' in
 * turn, each change a compare-and-set. One that somebody else has changed is
 * left alone until it is as an idle node should be, or comes up anew.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "services/sched/sched.h"

#define GATHER_MS 20
#define AGAIN_MS 1000
#define SWEEP_MS 100

static void sweep(sched_t *s, struct pnode *n);
static void ask(void *arg);

/* ---- how a node should stand ---- */

bool node_stands(const struct pnode *n, uid_t uid, gid_t gid, unsigned mode)
{
    return n->uid == uid && n->gid == gid && n->mode == mode;
}

static unsigned idle_mode(const struct pool *p)
{
    return p->policy && p->policy->sharing ? 0111 : 0100;
}

static bool stands_idle(const struct pnode *n)
{
    return n->pool->open || node_stands(n, 0, 0, idle_mode(n->pool));
}

/* ---- setting ---- */

struct setting_op {
    sched_t *s;
    struct pnode **n;
    uint32_t count;
    uid_t uid;
    gid_t gid;
    unsigned mode;
    standing_fn *fn;
    void *arg;
    int *waiting; /* shared by the requests of one node_set() */
    void (*done)(void *arg);
};

static void one_set(struct setting_op *o, struct pnode *n, const struct err *err)
{
    n->busy = false;
    n->stamp = o->s->stamp;
    if (!err) {
        n->uid = o->uid;
        n->gid = o->gid;
        n->mode = o->mode;
        n->ours = true;
        n->given = !n->leaving && !stands_idle(n);
    }
    o->fn(o->arg, n, err);
}

static const struct err *refusal_of(const msgpack_object_array *failed, int node, struct err *err)
{
    for (uint32_t i = 0; i < failed->size; i++) {
        const msgpack_object *row = &failed->ptr[i];
        int64_t number, code;
        if (row->type != MSGPACK_OBJECT_ARRAY || row->via.array.size < 3 ||
            !mp_as_int(&row->via.array.ptr[0], &number) || number != node ||
            !mp_as_int(&row->via.array.ptr[1], &code))
            continue;
        CLEANUP(cleanup_free) char *text = mp_dup(&row->via.array.ptr[2]);
        err_set(err, (int)code, "%s", text ? text : err_name((int)code));
        return err;
    }
    return NULL;
}

static void on_set(void *arg, const msgpack_object *value, const struct err *err)
{
    struct setting_op *o = arg;
    const msgpack_object_array *failed = NULL;
    struct err odd = { 0 };

    o->s->stamp++;
    if (value && mp_get_array(value, "failed", &failed, &odd) < 0)
        err = &odd;
    for (uint32_t i = 0; i < o->count; i++) {
        struct err why = { 0 };
        one_set(o, o->n[i], failed ? refusal_of(failed, o->n[i]->number, &why) : err);
    }
    if (--*o->waiting == 0) {
        if (o->done)
            o->done(o->arg);
        free(o->waiting);
    }
    free(o->n);
    free(o);
}

/* One request for nodes that stand alike now. */
static void send_set(struct setting_op *o, const struct pnode *like)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 8);
    mp_key(&m, "nodes");
    mp_array(&m, o->count);
    for (uint32_t i = 0; i < o->count; i++)
        mp_int(&m, o->n[i]->number);
    mp_kuint(&m, "uid", o->uid);
    mp_kuint(&m, "gid", o->gid);
    mp_kuint(&m, "mode", o->mode);
    mp_kstr(&m, "if_state", "up");
    mp_kuint(&m, "if_uid", like->uid);
    mp_kuint(&m, "if_gid", like->gid);
    mp_kuint(&m, "if_mode", like->mode);
    svc_call(o->s->svc, "nodemgr.set", &m, ASK_MS, on_set, o);
}

void node_set(sched_t *s, struct pnode *const *n, uint32_t count, uid_t uid, gid_t gid,
              unsigned mode, standing_fn *fn, void (*done)(void *arg), void *arg)
{
    CLEANUP(cleanup_free) bool *sent = calloc(count + 1, sizeof *sent);
    int *waiting = calloc(1, sizeof *waiting);

    if (!sent || !waiting)
        abort();
    s->stamp++;
    for (uint32_t i = 0; i < count; i++) {
        if (sent[i])
            continue;
        struct setting_op *o = calloc(1, sizeof *o);
        struct pnode **like = malloc((count - i) * sizeof(struct pnode *));
        if (!o || !like)
            abort();
        *o = (struct setting_op){ s, like, 0, uid, gid, mode, fn, arg, waiting, done };
        for (uint32_t k = i; k < count; k++) {
            if (sent[k] || !node_stands(n[k], n[i]->uid, n[i]->gid, n[i]->mode))
                continue;
            sent[k] = n[k]->busy = true;
            n[k]->stamp = s->stamp;
            like[o->count++] = n[k];
        }
        ++*waiting;
        send_set(o, n[i]);
    }
}

/* ---- taking over, and giving back ---- */

static void usable(struct pnode *n)
{
    bool good = n->alive && !n->leaving && !n->sweeping && !n->busy && !n->by_hand &&
                (n->pool->open || n->ours);

    /* of a job's node this says nothing: it is not idle anyway */
    if (n->pool->view_node[n->index].jobs)
        good = n->alive && !n->leaving;
    node_usable(n, good, n->cpus, n->mem_mb);
}

static void ask_later(sched_t *s, const struct pnode *n, const struct err *err)
{
    if (s->asking || s->ask_timer)
        return;
    svc_log("warning", "node %d: take it over: %s", n->number, err->text);
    s->ask_timer = loop_timer(s->loop, AGAIN_MS, false, ask, s);
}

static void on_taken(void *arg, struct pnode *n, const struct err *err)
{
    sched_t *s = arg;

    if (err) { /* again, from what it is now */
        n->sweeping = false;
        n->fresh = true;
        if (err->code == ESTALE)
            nodes_ask(s);
        else
            ask_later(s, n, err);
    } else if (n->pool->policy->sharing) {
        n->sweeping = false;
    } else {
        sweep(s, n);
    }
    usable(n);
    turn_soon(s);
}

struct sweeping {
    sched_t *s;
    struct pnode *n;
};

static void on_sweep_timer(void *arg)
{
    struct sweeping *w = arg;
    sched_t *s = w->s;
    struct pnode *n = w->n;

    free(w);
    sweep(s, n);
}

static void on_swept(void *arg, const msgpack_object *value, const struct err *err)
{
    struct sweeping *w = arg;
    const msgpack_object_array *left;
    int64_t k = -1;

    (void)err;
    if (value && mp_get_array(value, "left", &left, NULL) == 0 && left->size == 1)
        mp_as_int(&left->ptr[0], &k);
    if (k != 0 && w->n->alive) {
        loop_timer(w->s->loop, SWEEP_MS, false, on_sweep_timer, w);
        return;
    }
    w->n->sweeping = false;
    usable(w->n);
    turn_soon(w->s);
    free(w);
}

/* End what users have there from before; root's own services stay. */
static void sweep(sched_t *s, struct pnode *n)
{
    CLEANUP(mp_free) mp_buf m;
    struct sweeping *w = malloc(sizeof *w);

    if (!w)
        abort();
    *w = (struct sweeping){ s, n };
    mp_init(&m);
    mp_map(&m, 2);
    mp_key(&m, "jobs");
    mp_array(&m, 1);
    mp_array(&m, 3);
    mp_uint(&m, 0);
    mp_int(&m, -1);
    mp_array(&m, 1);
    mp_int(&m, n->number);
    mp_kint(&m, "sig", SIGKILL);
    svc_call(s->svc, "procspace.end_job", &m, ASK_MS, on_swept, w);
}

void node_check(sched_t *s, struct pnode *n)
{
    bool idle = !n->pool->view_node[n->index].jobs;

    if (n->alive && idle && !n->busy && !n->leaving && !n->pool->open) {
        if (stands_idle(n)) {
            n->ours = true;
            n->by_hand = n->fresh = false;
        } else if (n->fresh) {
            n->fresh = false;
            n->sweeping = true;
            node_set(s, &n, 1, 0, 0, idle_mode(n->pool), on_taken, NULL, s);
        } else if (n->ours && !n->given) {
            svc_log("notice", "node %d was changed by somebody else: it gets no jobs until it is "
                    "root's with mode %03o again", n->number, idle_mode(n->pool));
            n->by_hand = true;
            n->ours = false;
        }
    }
    usable(n);
    turn_soon(s);
}

/* A node that no pool has any more is everybody's. */
static void on_left(void *arg, struct pnode *n, const struct err *err)
{
    (void)arg;
    if (err)
        svc_log("notice", "node %d: open it to all: %s", n->number, err->text);
}

void node_leave(sched_t *s, struct pnode *n)
{
    usable(n);
    if (!n->leaving || n->pool->open || n->pool->view_node[n->index].jobs || !n->alive)
        return;
    n->given = false;
    node_set(s, &n, 1, 0, 0, 0111, on_left, NULL, s);
}

static void on_released(void *arg, struct pnode *n, const struct err *err)
{
    sched_t *s = arg;

    n->given = false;
    if (err)
        nodes_ask(s);
    node_check(s, n);
}

/* Idle now, and not given to the next job in this turn. */
void nodes_release(sched_t *s)
{
    for (struct pool *p = s->conf.pools; p; p = p->next) {
        CLEANUP(cleanup_free) struct pnode **v = NULL;
        uint32_t n = 0;
        if (p->open || p->policy->sharing || !p->left)
            continue;
        p->left = false;
        v = malloc((p->nodes + 1) * sizeof(struct pnode *));
        for (uint32_t i = 0; v && i < p->nodes; i++) {
            struct pnode *k = p->node[i];
            if (k->leaving) {
                if (k->given)
                    node_leave(s, k);
                continue;
            }
            if (!k->given || p->view_node[i].jobs || k->busy || !k->alive)
                continue;
            v[n++] = k;
        }
        if (n)
            node_set(s, v, n, 0, 0, 0100, on_released, NULL, s);
        for (uint32_t i = 0; i < n; i++)
            usable(v[i]);
    }
}

/* ---- lost ---- */

static void lost(sched_t *s, struct pnode *n, const char *why)
{
    struct pool *p = n->pool;

    for (uint32_t i = 0; i < p->nrunning; i++) {
        struct job *j = job_of_pub(p->running[i]);
        char text[160];
        bool on_it = false;
        for (uint32_t k = 0; k < j->pub.nodes; k++)
            on_it = on_it || j->place[k] == n;
        /* We may hear that it has failed before we hear why. */
        bool well = j->state == JOB_ENDING && j->status == 0;
        if (!on_it || (j->flags & JOB_NODE_LOST) || !j->run || well)
            continue;
        j->flags |= JOB_NODE_LOST;
        snprintf(text, sizeof text, "node %d was lost%s%.100s", n->number, *why ? ": " : "", why);
        run_stop(s, j, true, text);
    }
    n->given = false;
}

/* ---- what nodemgr says ---- */

static struct pnode *node_of(sched_t *s, int64_t number)
{
    struct pnode *left = NULL;

    for (struct pool *p = s->conf.pools; p && number >= 0; p = p->next) {
        struct pnode *n = pool_node(p, (int)number);
        if (n && !n->leaving)
            return n;
        left = n ? n : left;
    }
    return left;
}

/* Its attributes as "NAME=VALUE"; NULL: none, or no memory. */
static char **attrs_of(const msgpack_object *o)
{
    const msgpack_object *map = mp_get(o, "attrs");
    uint32_t n = map && map->type == MSGPACK_OBJECT_MAP ? map->via.map.size : 0, k = 0;
    char **v = n ? calloc(n + 1, sizeof(char *)) : NULL;

    if (!v)
        return NULL;
    for (uint32_t i = 0; i < n; i++) {
        CLEANUP(cleanup_free) char *name = mp_dup(&map->via.map.ptr[i].key);
        CLEANUP(cleanup_free) char *value = mp_dup(&map->via.map.ptr[i].val);
        if (name && value && asprintf(&v[k], "%s=%s", name, value) >= 0)
            k++;
        else
            v[k] = NULL;
    }
    return v;
}

/* Have we changed it since that was the stamp, in this pool or in its last one? */
static bool changed_since(const struct pool *pools, int number, uint64_t stamp)
{
    for (const struct pool *p = pools; p; p = p->next) {
        const struct pnode *n = pool_node(p, number);
        if (n && (n->busy || n->stamp > stamp))
            return true;
    }
    return false;
}

static void take_node(sched_t *s, const msgpack_object *o)
{
    struct pnode *n = node_of(s, mp_opt_int(o, "node", -1));
    CLEANUP(cleanup_free) char *space = mp_opt_dup(o, "space");
    bool up = mp_is(mp_get(o, "state"), "up"), near = mp_is(mp_get(o, "reach"), "yes");

    if (!n)
        return;
    bool down = mp_is(mp_get(o, "state"), "down") && (!space || !*space);
    bool other = strcmp(n->space, space ? space : "") != 0;
    if ((down || other) && n->space[0])
        lost(s, n, down ? "it is down" : "it has started afresh");
    if (other) {
        snprintf(n->space, sizeof n->space, "%s", space ? space : "");
        n->fresh = true;
        n->ours = n->by_hand = false;
    }
    if (up && !n->was_up)
        n->fresh = true; /* what is set when a node comes up is not by hand */
    n->was_up = up;
    n->alive = up && near;
    n->cpus = (uint32_t)mp_opt_int(o, "cpus", 0);
    n->mem_mb = (uint64_t)mp_opt_int(o, "mem", 0) >> 20;
    node_attrs(n, attrs_of(o));
    if (changed_since(s->conf.pools, n->number, s->asked_stamp) ||
        changed_since(s->conf.gone, n->number, s->asked_stamp)) {
        usable(n); /* whose it is will be asked again */
        turn_soon(s);
        return;
    }
    n->uid = (uid_t)mp_opt_int(o, "uid", 0);
    n->gid = (gid_t)mp_opt_int(o, "gid", 0);
    n->mode = (unsigned)mp_opt_int(o, "mode", 0);
    node_check(s, n);
}

static void know(sched_t *s, const msgpack_object_array *list)
{
    struct nodespec_node *v = calloc(list->size + 1, sizeof *v);
    size_t n = 0;

    for (uint32_t i = 0; v && i < list->size; i++) {
        int64_t number = mp_opt_int(&list->ptr[i], "node", -1);
        char *state = mp_opt_dup(&list->ptr[i], "state");
        if (number < 0 || !state) {
            free(state);
            continue;
        }
        v[n].node = (int)number;
        v[n++].state = state;
    }
    if (!v)
        return;
    for (size_t i = 0; i < s->nknown; i++)
        free((char *)(uintptr_t)s->known[i].state);
    free(s->known);
    s->known = v;
    s->nknown = n;
}

static void on_nodes_list(void *arg, const msgpack_object *value, const struct err *err)
{
    sched_t *s = arg;

    s->asking = false;
    if (!value && err->code == ENOENT) { /* none is configured */
        if (!s->configured)
            sched_configure(s);
        return;
    }
    if (!value || value->type != MSGPACK_OBJECT_ARRAY) {
        svc_log("warning", "the nodes are not known: %s", value ? "odd answer" : err->text);
        s->ask_timer = loop_timer(s->loop, AGAIN_MS, false, ask, s);
        return;
    }
    know(s, &value->via.array);
    if (!s->configured && sched_configure(s) < 0)
        return;
    /* what was changed while it was on its way is older than what we know */
    bool good = s->stamp == s->asked_stamp;
    for (uint32_t i = 0; i < value->via.array.size; i++)
        take_node(s, &value->via.array.ptr[i]);
    if (!good || s->ask_again)
        nodes_ask(s);
    turn_soon(s);
}

static void ask(void *arg)
{
    sched_t *s = arg;
    CLEANUP(mp_free) mp_buf m;

    s->ask_timer = 0;
    s->asking = true;
    s->ask_again = false;
    s->asked_stamp = s->stamp;
    mp_init(&m);
    mp_map(&m, 0);
    svc_call(s->svc, "nodemgr.list", &m, ASK_MS, on_nodes_list, s);
}

void nodes_ask(sched_t *s)
{
    if (s->asking)
        s->ask_again = true;
    else if (!s->ask_timer)
        s->ask_timer = loop_timer(s->loop, GATHER_MS, false, ask, s);
}

void nodes_connected(void *arg)
{
    sched_t *s = arg;

    s->connected = true;
    loop_timer_del(s->loop, s->ask_timer);
    s->ask_timer = 0;
    if (s->asking)
        s->ask_again = true;
    else
        ask(s);
}

static void on_event(void *arg, const struct wire *w, const msgpack_object *body)
{
    sched_t *s = arg;
    struct pnode *n = node_of(s, mp_opt_int(body, "node", -1));

    if (strcmp(w->from, "nodemgr") != 0)
        return;
    if (strcmp(w->topic, "node.owner") == 0) {
        /* our own changes come back to us like this */
        if (!n || n->busy ||
            node_stands(n, (uid_t)mp_opt_int(body, "uid", -1), (gid_t)mp_opt_int(body, "gid", -1),
                        (unsigned)mp_opt_int(body, "mode", -1)))
            return;
    }
    if (n && strcmp(w->topic, "node.lost") == 0) {
        CLEANUP(cleanup_free) char *space = mp_opt_dup(body, "space");
        CLEANUP(cleanup_free) char *why = mp_opt_dup(body, "why");
        if (space && strcmp(space, n->space) == 0) {
            lost(s, n, why ? why : "");
            n->space[0] = 0;
            n->alive = n->was_up = false;
            n->fresh = true;
            n->ours = n->by_hand = false;
            usable(n);
        }
    }
    nodes_ask(s);
}

int nodes_open(sched_t *s, struct err *err)
{
    return svc_follow(s->svc, "node.", on_event, s, err);
}
