/* act.c - carry out the steps, one after another
 *
 * A node that refuses is named on stderr and the rest goes on; a request that
 * fails as a whole ends it, since the later steps may rest on it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "bus/nodespec.h"
#include "clients/bpctl/bpctl.h"
#include "clients/common/opt.h"

struct run {
    gate_t *g;
    nodelist_t target;
    bool failed; /* some node refused something */
    bool json;
};

static int target_add(nodelist_t *l, int64_t node, struct err *err)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->node[i] == node)
            return 0; /* "0,0": no node is rebooted twice */
    return nodelist_add(l, (int)node) < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

static int set_target(struct run *r, const char *spec, struct err *err)
{
    CLEANUP(mp_free) mp_buf body;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    const msgpack_object_array *list;

    mp_init(&body);
    msgpack_unpacked_init(&reply);
    mp_map(&body, 1);
    mp_kstr(&body, "spec", spec);
    r->target.n = 0;
    if (gate_call(r->g, "nodemgr.resolve", &body, BPCTL_TIMEOUT_MS, &reply, err) < 0 ||
        mp_get_array(&reply.data, "nodes", &list, err) < 0)
        return -1;
    for (uint32_t i = 0; i < list->size; i++) {
        const msgpack_object *o = &list->ptr[i];
        int64_t node;

        if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 1 ||
            !mp_as_int(&o->via.array.ptr[0], &node) || node < -1 || node > NODE_MAX)
            return err_set(err, EPROTO, "nodemgr.resolve: a node of the reply is malformed");
        if (target_add(&r->target, node, err) < 0)
            return -1;
    }
    return 0;
}

/* Say which nodes refused: {failed: [[n, code, why]...]}. */
static int note_failed(struct run *r, const msgpack_object *reply, struct err *err)
{
    const msgpack_object_array *failed;

    if (mp_get_array(reply, "failed", &failed, err) < 0)
        return -1;
    for (uint32_t i = 0; i < failed->size; i++) {
        const msgpack_object *o = &failed->ptr[i];
        int64_t node, code;

        if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 3 ||
            !mp_as_int(&o->via.array.ptr[0], &node) ||
            !mp_as_int(&o->via.array.ptr[1], &code) || code < 0 || code > INT32_MAX)
            return err_set(err, EPROTO, "the answer was not understood");
        CLEANUP(cleanup_free) char *why = mp_dup(&o->via.array.ptr[2]);
        fprintf(stderr, "%" PRId64 ": %s\n", node,
                why && why[0] ? why : err_name((int)code));
        r->failed = true;
    }
    return 0;
}

/* The request body's beginning: a map of 1 + more pairs with the target. */
static void pack_target(const struct run *r, mp_buf *body, uint32_t more)
{
    mp_map(body, 1 + more);
    mp_key(body, "nodes");
    mp_array(body, (uint32_t)r->target.n);
    for (size_t i = 0; i < r->target.n; i++)
        mp_int(body, r->target.node[i]);
}

static int set(struct run *r, const struct step *s, struct err *err)
{
    CLEANUP(mp_free) mp_buf body;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;

    mp_init(&body);
    msgpack_unpacked_init(&reply);
    pack_target(r, &body, s->why ? 2 : 1);
    switch (s->action) {
    case ACT_STATE: mp_kstr(&body, "state", s->text); break;
    case ACT_MODE: mp_kint(&body, "mode", s->number); break;
    case ACT_USER: mp_kint(&body, "uid", s->number); break;
    default: mp_kint(&body, "gid", s->number); break;
    }
    if (s->why)
        mp_kstr(&body, "why", s->why);
    if (gate_call(r->g, "nodemgr.set", &body, BPCTL_TIMEOUT_MS, &reply, err) < 0)
        return -1;
    return note_failed(r, &reply.data, err);
}

static int control(struct run *r, const struct step *s, struct err *err)
{
    CLEANUP(mp_free) mp_buf body;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;

    mp_init(&body);
    msgpack_unpacked_init(&reply);
    pack_target(r, &body, s->text ? 2 : 1);
    mp_kstr(&body, "action", s->control);
    if (s->text)
        mp_kstr(&body, "arg", s->text);
    if (gate_call(r->g, "nodemgr.control", &body, BPCTL_CONTROL_MS, &reply, err) < 0)
        return -1;
    return note_failed(r, &reply.data, err);
}

static int accept_key(struct run *r, const struct step *s, struct err *err)
{
    CLEANUP(mp_free) mp_buf body;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    CLEANUP(cleanup_free) char *key = NULL;

    mp_init(&body);
    msgpack_unpacked_init(&reply);
    if (r->target.n != 1)
        return err_set(err, EINVAL, "--accept: a key is one node's, and -S named %zu",
                       r->target.n);
    key = pending_key(r->g, s->text, err);
    if (!key)
        return -1;
    mp_map(&body, 2);
    mp_kstr(&body, "key", key);
    mp_kint(&body, "node", r->target.node[0]);
    return gate_call(r->g, "nodemgr.accept", &body, BPCTL_TIMEOUT_MS, &reply, err);
}

static int forget_key(struct run *r, int node, struct err *err)
{
    CLEANUP(mp_free) mp_buf body;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;

    mp_init(&body);
    msgpack_unpacked_init(&reply);
    mp_map(&body, 1);
    mp_kint(&body, "node", node);
    return gate_call(r->g, "nodemgr.forget", &body, BPCTL_TIMEOUT_MS, &reply, err);
}

static void forget(struct run *r)
{
    for (size_t i = 0; i < r->target.n; i++) {
        struct err err = { 0 };

        if (forget_key(r, r->target.node[i], &err) < 0) {
            fprintf(stderr, "%d: %s\n", r->target.node[i], err.text);
            r->failed = true;
        }
    }
}

static int act(struct run *r, const struct step *s, struct err *err)
{
    switch (s->action) {
    case ACT_TARGET: return set_target(r, s->text, err);
    case ACT_CONTROL: return control(r, s, err);
    case ACT_ACCEPT: return accept_key(r, s, err);
    case ACT_FORGET: forget(r); return 0;
    case ACT_PENDING: return pending_print(r->g, r->json, err);
    default: return set(r, s, err);
    }
}

int plan_run(const struct plan *p, gate_t *g)
{
    struct run r = { .g = g, .json = p->json };
    struct err err = { 0 };
    int status;

    nodelist_init(&r.target);
    for (size_t i = 0; i < p->n && err.code == 0; i++)
        act(&r, &p->step[i], &err);
    nodelist_free(&r.target);
    status = opt_finish("bpctl");
    if (err.code != 0)
        fprintf(stderr, "bpctl: %s\n", err.text);
    return err.code != 0 || r.failed ? EXIT_FAILURE : status;
}
