/* lists.c - procspace.list, procspace.result, procspace.ps */
#include <errno.h>
#include <stdlib.h>
#include "services/procspace/procspace.h"

#define PS_MS 5000
#define PS_MARGIN_MS 500

/* procspace.list: {} -> [{pid, npid, node, rank, launch, uid, argv0, since}] */
int on_list(void *self, struct svc_req *req, struct err *err)
{
    procspace_t *ps = self;
    uint32_t n = 0;

    (void)err;
    for (size_t b = 0; b < PROC_BUCKETS; b++)
        for (struct proc *p = ps->proc[b]; p; p = p->next)
            n += p->state != PROC_ENDED && !p->real;
    mp_array(req->reply, n);
    for (size_t b = 0; b < PROC_BUCKETS; b++)
        for (struct proc *p = ps->proc[b]; p; p = p->next) {
            if (p->state == PROC_ENDED || p->real)
                continue;
            mp_map(req->reply, 8);
            mp_kint(req->reply, "pid", p->pid);
            mp_kint(req->reply, "npid", proc_npid(p));
            const struct proc *body = p->kid ? kid_body(p->kid) : NULL;
            mp_kint(req->reply, "node", body ? body->node : p->node);
            mp_kint(req->reply, "rank", p->kid ? -1 : (int64_t)p->rank);
            mp_kuint(req->reply, "launch", p->launch->id);
            mp_kint(req->reply, "uid", p->uid);
            mp_kstr(req->reply, "argv0", p->kid ? kid_comm(p->kid) : p->launch->argv0);
            mp_kint(req->reply, "since", p->started);
        }
    return 0;
}

/* procspace.result: {launch}, or {pid} of one of its processes -> {ranks: [...], running} */
int on_result(void *self, struct svc_req *req, struct err *err)
{
    procspace_t *ps = self;
    uint64_t id = 0;
    int64_t pid = mp_opt_int(req->body, "pid", 0);
    uint32_t n = 0;

    if (!pid && mp_get_uint(req->body, "launch", &id, err) < 0)
        return -1;
    if (pid < 0 || pid > INT32_MAX)
        return err_set(err, EPROTO, "pid: %lld is no process number", (long long)pid);
    struct launch *l = pid ? launch_of(ps, (pid_t)pid) : launch_find(ps, id);
    if (!l && pid)
        return err_set(err, ENOENT, "process %lld: not of any launch known", (long long)pid);
    if (!l)
        return err_set(err, ENOENT, "launch %llu: not known, or its result was forgotten",
                       (unsigned long long)id);
    if (req->w->uid != 0 && req->w->uid != l->uid)
        return err_set(err, EPERM, "launch %llu is another user's", (unsigned long long)l->id);
    for (uint32_t i = 0; i < l->ranks; i++)
        n += l->rank[i] != NULL;
    mp_map(req->reply, 2);
    mp_key(req->reply, "ranks");
    mp_array(req->reply, n);
    for (uint32_t i = 0; i < l->ranks; i++) {
        const struct proc *p = l->rank[i];
        if (!p)
            continue;
        mp_array(req->reply, 9);
        mp_uint(req->reply, i);
        mp_int(req->reply, p->pid);
        mp_int(req->reply, p->node);
        if (p->state == PROC_ENDED)
            mp_int(req->reply, p->status);
        else
            mp_nil(req->reply);
        mp_int(req->reply, p->utime_us);
        mp_int(req->reply, p->stime_us);
        mp_int(req->reply, p->maxrss_kb);
        mp_int(req->reply, p->started);
        mp_int(req->reply, p->ended);
    }
    mp_kint(req->reply, "running", l->running);
    return 0;
}

struct listing { /* procspace.ps on its way */
    procspace_t *ps;
    svc_token *token;
    mp_buf procs, missing;
    uint32_t nprocs, nmissing;
};

static void on_ps_node(void *arg, int node, const msgpack_object *value, const struct err *err)
{
    struct listing *s = arg;

    if (!value || value->type != MSGPACK_OBJECT_ARRAY) {
        s->nmissing++;
        mp_array(&s->missing, 3);
        mp_int(&s->missing, node);
        mp_int(&s->missing, value ? EPROTO : err->code);
        mp_str(&s->missing, value ? "its list was not understood" : err->text);
        return;
    }
    for (uint32_t i = 0; i < value->via.array.size; i++) {
        const msgpack_object *o = &value->via.array.ptr[i];
        if (o->type != MSGPACK_OBJECT_MAP)
            continue;
        s->nprocs++;
        mp_map(&s->procs, o->via.map.size + 1);
        mp_kint(&s->procs, "node", node);
        for (uint32_t k = 0; k < o->via.map.size; k++) {
            mp_obj(&s->procs, &o->via.map.ptr[k].key);
            mp_obj(&s->procs, &o->via.map.ptr[k].val);
        }
    }
}

static void on_ps_done(void *arg)
{
    struct listing *s = arg;
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 2);
    mp_key(&m, "procs");
    mp_array(&m, s->nprocs);
    msgpack_sbuffer_write(&m.b, s->procs.b.data, s->procs.b.size);
    mp_key(&m, "missing");
    mp_array(&m, s->nmissing);
    msgpack_sbuffer_write(&m.b, s->missing.b.data, s->missing.b.size);
    svc_answer(s->ps->svc, s->token, &m);
    mp_free(&s->procs);
    mp_free(&s->missing);
    free(s);
}

static void ask(struct listing *s, const int *nodes, int n)
{
    int64_t ms = svc_token_wire(s->token)->deadline - PS_MARGIN_MS;
    if (ms < 1000 || ms > PS_MS)
        ms = PS_MS;
    svc_call_nodes(s->ps->svc, nodes, n, "ps", NULL, (int)ms, on_ps_node, on_ps_done, s);
}

/* No nodes named: all that can be reached. */
static void on_nodes(void *arg, const msgpack_object *value, const struct err *err)
{
    struct listing *s = arg;

    if (!value || value->type != MSGPACK_OBJECT_ARRAY) {
        struct err e = { 0 };
        if (value)
            err_set(&e, EPROTO, "nodemgr.list was not understood");
        svc_fail(s->ps->svc, s->token, value ? &e : err);
        mp_free(&s->procs);
        mp_free(&s->missing);
        free(s);
        return;
    }
    int n = 0;
    CLEANUP(cleanup_free) int *nodes = malloc((value->via.array.size + 1) * sizeof *nodes);
    if (!nodes)
        abort();
    for (uint32_t i = 0; i < value->via.array.size; i++) {
        const msgpack_object *o = &value->via.array.ptr[i];
        int64_t node = mp_opt_int(o, "node", -1);
        if (node >= 0 && !mp_is(mp_get(o, "reach"), "no"))
            nodes[n++] = (int)node;
    }
    ask(s, nodes, n);
}

/* procspace.ps: {nodes?} -> {procs: [...], missing: [[node, code, why]...]} */
int on_ps(void *self, struct svc_req *req, struct err *err)
{
    const msgpack_object *o = mp_get(req->body, "nodes");
    struct listing *s = calloc(1, sizeof *s);

    if (!s)
        return err_set(err, ENOMEM, "out of memory");
    s->ps = self;
    s->token = req->token;
    mp_init(&s->procs);
    mp_init(&s->missing);
    if (!o) {
        CLEANUP(mp_free) mp_buf m;
        mp_init(&m);
        mp_map(&m, 0);
        svc_call(s->ps->svc, "nodemgr.list", &m, PS_MS, on_nodes, s);
        return SVC_LATER;
    }
    int n = 0;
    int64_t v;
    CLEANUP(cleanup_free) int *nodes =
        o->type == MSGPACK_OBJECT_ARRAY ? calloc(o->via.array.size + 1, sizeof *nodes) : NULL;
    for (uint32_t i = 0; nodes && i < o->via.array.size; i++)
        if (mp_as_int(&o->via.array.ptr[i], &v) && v >= 0 && v <= INT32_MAX)
            nodes[n++] = (int)v;
    if (!nodes || (uint32_t)n != o->via.array.size) {
        mp_free(&s->procs);
        mp_free(&s->missing);
        free(s);
        return err_set(err, EPROTO, "nodes: want a list of node numbers");
    }
    ask(s, nodes, n);
    return SVC_LATER;
}
