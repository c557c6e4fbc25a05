/* libs.c - the library list, brought to nodes when they come up or it changes
 *
 * One round at a time: ask for the list, hash what it names, send it to the
 * nodes that wait. What happens meanwhile makes another round. A node that has
 * the files already answers at the cost of a look at each. Nothing here is
 * needed for a launch to succeed: it brings what is missing itself.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "bus/nodespec.h"
#include "services/procspace/procspace.h"

#define ASK_MS 10000
#define PLACE_MS 120000
#define GATHER_MS 50 /* nodes that come up together are served together */
#define AGAIN_MS 3000

struct libs {
    procspace_t *ps;
    struct file_list list;
    manifest_t *manifest;
    nodelist_t waiting; /* nodes for the next round */
    bool all;           /* every node that lives */
    nodelist_t now;     /* nodes of this round */
    bool running;
    int timer;
};

int libs_open(procspace_t *ps, struct err *err)
{
    struct libs *l = ps->libs = calloc(1, sizeof *l);

    if (!l)
        return err_set(err, ENOMEM, "out of memory");
    l->ps = ps;
    nodelist_init(&l->waiting);
    nodelist_init(&l->now);
    return 0;
}

void libs_close(procspace_t *ps)
{
    struct libs *l = ps->libs;

    if (!l)
        return;
    file_list_free(&l->list);
    nodelist_free(&l->waiting);
    nodelist_free(&l->now);
    free(l);
    ps->libs = NULL;
}

/* ---- the end of a round ---- */

static void round_begin(void *arg);

static void soon(struct libs *l, int delay_ms)
{
    if (!l->running && !l->timer)
        l->timer = loop_timer(l->ps->loop, delay_ms, false, round_begin, l);
}

static void round_end(struct libs *l, int pause_ms)
{
    manifest_unref(l->ps->contents, &l->manifest);
    nodelist_free(&l->now);
    nodelist_init(&l->now);
    l->running = false;
    if (l->all || l->waiting.n)
        soon(l, pause_ms);
}

/* Once more, for everybody: it is not known who has what. */
static void round_failed(struct libs *l, const char *why)
{
    svc_log("warning", "library list: %s", why);
    l->all = true;
    round_end(l, AGAIN_MS);
}

void libs_replaced(procspace_t *ps, uint64_t launch, int node, const msgpack_object *value)
{
    const msgpack_object_array *a;

    if (mp_get_array(value, "replaced", &a, NULL) < 0)
        return;
    for (uint32_t i = 0; i < a->size; i++) {
        const msgpack_object *row = &a->ptr[i];
        CLEANUP(mp_free) mp_buf m;

        mp_init(&m);
        if (row->type != MSGPACK_OBJECT_ARRAY || row->via.array.size < 2 ||
            row->via.array.ptr[1].type != MSGPACK_OBJECT_BOOLEAN)
            continue;
        mp_map(&m, 4);
        mp_kuint(&m, "launch", launch);
        mp_kint(&m, "node", node);
        mp_key(&m, "path");
        mp_obj(&m, &row->via.array.ptr[0]);
        mp_kbool(&m, "ours", row->via.array.ptr[1].via.boolean);
        svc_publish(ps->svc, "launch.replaced", &m);
    }
}

/* What is not there beforehand comes with the launch: no more than a word. */
static void say_failed(int node, const msgpack_object *value)
{
    const msgpack_object_array *a;

    if (mp_get_array(value, "failed", &a, NULL) < 0)
        return;
    for (uint32_t i = 0; i < a->size; i++) {
        const msgpack_object *row = &a->ptr[i];
        CLEANUP(cleanup_free) char *text =
            row->type == MSGPACK_OBJECT_ARRAY && row->via.array.size >= 3
                ? mp_dup(&row->via.array.ptr[2])
                : NULL;
        svc_log("warning", "library list: node %d: %s", node, text ? text : "odd answer");
    }
}

static void on_node(void *arg, int node, const msgpack_object *value, const struct err *err)
{
    struct libs *l = arg;

    if (!value) {
        svc_log(err->code == BE_NODEDOWN ? "info" : "warning", "library list: node %d: %s", node,
                err->text);
        return;
    }
    libs_replaced(l->ps, 0, node, value);
    say_failed(node, value);
}

static void on_nodes_done(void *arg)
{
    struct libs *l = arg;
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(cleanup_free) char *nodes = nodelist_text(&l->now);

    mp_init(&m);
    mp_map(&m, 2);
    mp_kuint(&m, "files", l->list.n);
    mp_kstr(&m, "nodes", nodes ? nodes : "");
    svc_publish(l->ps->svc, "launch.libs", &m);
    round_end(l, GATHER_MS);
}

/* ---- third: the nodes ---- */

static void to_nodes(struct libs *l)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    if (!l->now.n) {
        round_end(l, GATHER_MS);
        return;
    }
    mp_map(&m, 3);
    manifest_pack(l->ps->contents, l->manifest, &m);
    svc_call_nodes(l->ps->svc, l->now.node, (int)l->now.n, "place", &m, PLACE_MS, on_node,
                   on_nodes_done, l);
}

static void on_all_nodes(void *arg, const msgpack_object *value, const struct err *err)
{
    struct libs *l = arg;

    if (!value || value->type != MSGPACK_OBJECT_ARRAY) {
        round_failed(l, value ? "odd list of nodes" : err->text);
        return;
    }
    l->now.n = 0;
    for (uint32_t i = 0; i < value->via.array.size; i++) {
        const msgpack_object *o = &value->via.array.ptr[i];
        int64_t node = mp_opt_int(o, "node", -1);
        CLEANUP(cleanup_free) char *space = mp_opt_dup(o, "space");
        if (node >= 0 && node <= NODE_MAX && space && space[0] &&
            nodelist_add(&l->now, (int)node) < 0)
            break; /* no memory: these must do */
    }
    to_nodes(l);
}

/* ---- second: the content ---- */

static void on_manifest(void *arg, manifest_t *m, const struct err *err)
{
    struct libs *l = arg;
    CLEANUP(mp_free) mp_buf body;

    mp_init(&body);
    l->manifest = m;
    if (!m) {
        round_failed(l, err->text);
        return;
    }
    if (!l->all) {
        to_nodes(l);
        return;
    }
    l->all = false;
    mp_map(&body, 0);
    svc_call(l->ps->svc, "nodemgr.list", &body, ASK_MS, on_all_nodes, l);
}

/* ---- first: the list ---- */

static int take_list(struct libs *l, const msgpack_object *value)
{
    if (value->type != MSGPACK_OBJECT_ARRAY)
        return -1;
    file_list_free(&l->list);
    l->list.path = calloc((size_t)value->via.array.size + 1, sizeof *l->list.path);
    for (uint32_t i = 0; l->list.path && i < value->via.array.size; i++) {
        char *path = mp_dup(&value->via.array.ptr[i]);
        if (!path)
            return -1;
        l->list.path[l->list.n++] = path;
    }
    return l->list.path ? 0 : -1;
}

static void on_list_answer(void *arg, const msgpack_object *value, const struct err *err)
{
    struct libs *l = arg;

    if (!value || take_list(l, value) < 0) {
        round_failed(l, value ? "odd answer" : err->text);
    } else if (!l->list.n) {
        l->all = false;
        round_end(l, GATHER_MS);
    } else {
        manifest_of_list(l->ps->contents, &l->list, on_manifest, l);
    }
}

static void round_begin(void *arg)
{
    struct libs *l = arg;
    CLEANUP(mp_free) mp_buf m;

    l->timer = 0;
    l->running = true;
    nodelist_free(&l->now);
    l->now = l->waiting;
    nodelist_init(&l->waiting);
    mp_init(&m);
    mp_map(&m, 0);
    svc_call(l->ps->svc, "nodemgr.libs", &m, ASK_MS, on_list_answer, l);
}

/* ---- what makes a round ---- */

void libs_changed(procspace_t *ps)
{
    ps->libs->all = true;
    soon(ps->libs, GATHER_MS);
}

void libs_node(procspace_t *ps, int node)
{
    if (!ps->libs->all && nodelist_add(&ps->libs->waiting, node) < 0)
        ps->libs->all = true;
    soon(ps->libs, GATHER_MS);
}
