/* nodes.c - what nodemgr says of the nodes */
#include "clients/clustermatic/nodes.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "bus/loop.h"
#include "bus/nodespec.h"
#include "clients/clustermatic/supervise.h"

#define ASK_MS 10000

void nodes_free(struct node_table *t)
{
    free(t->node);
    memset(t, 0, sizeof *t);
}

static void copy_text(const msgpack_object *map, const char *key, char *to, size_t size)
{
    CLEANUP(cleanup_free) char *text = mp_opt_dup(map, key);

    snprintf(to, size, "%.*s", (int)(size - 1), text ? text : "");
}

int nodes_list(gate_t *g, int timeout_ms, struct node_table *t, struct err *err)
{
    CLEANUP(mp_free) mp_buf body;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;

    memset(t, 0, sizeof *t);
    msgpack_unpacked_init(&reply);
    mp_init(&body);
    mp_map(&body, 0);
    if (gate_call(g, "nodemgr.list", &body, timeout_ms, &reply, err) < 0)
        return -1;
    if (reply.data.type != MSGPACK_OBJECT_ARRAY)
        return err_set(err, EPROTO, "nodemgr.list: the answer is not a list");
    const msgpack_object_array *list = &reply.data.via.array;
    t->node = calloc(list->size ? list->size : 1, sizeof *t->node);
    if (!t->node)
        return err_set(err, ENOMEM, "list nodes");
    for (uint32_t i = 0; i < list->size; i++) {
        struct node_info *n = &t->node[t->n];
        int64_t number;
        if (mp_get_int(&list->ptr[i], "node", -1, NODE_MAX, &number, err) < 0)
            return err_prefix(err, "nodemgr.list: item %u", i);
        n->node = (int)number;
        copy_text(&list->ptr[i], "state", n->state, sizeof n->state);
        copy_text(&list->ptr[i], "why", n->why, sizeof n->why);
        t->n += number >= 0; /* the master is no node to wait for */
    }
    return 0;
}

static size_t count_up(const struct node_table *t)
{
    size_t up = 0;

    for (size_t i = 0; i < t->n; i++)
        up += strcmp(t->node[i].state, "up") == 0;
    return up;
}

static void progress(size_t up, size_t all, bool done)
{
    if (isatty(2))
        fprintf(stderr, "\r\033[Knodes up: %zu of %zu%s", up, all, done ? "\r\033[K" : "");
}

/* "nodes 1-3 are down; node 1: REASON" with the reason of the first, from
 * nodemgr or, when it never heard of the node, from the machine's log. */
static int say_which(const struct cluster *c, const struct node_table *t, int seconds,
                     struct err *err)
{
    CLEANUP(nodelist_free) nodelist_t late;
    const struct node_info *first = NULL;

    nodelist_init(&late);
    for (size_t i = 0; i < t->n; i++) {
        if (strcmp(t->node[i].state, "up") == 0)
            continue;
        nodelist_add(&late, t->node[i].node);
        first = first ? first : &t->node[i];
    }
    if (!first)
        return err_set(err, ENOENT, "nodemgr knows of no node: see %s", c->config);

    CLEANUP(cleanup_free) char *which = nodelist_text(&late);
    char unit[32], line[160], why[160];
    snprintf(unit, sizeof unit, "node.%d", first->node);
    log_last(c, unit, line, sizeof line);
    snprintf(why, sizeof why, "%s", *line ? line : first->why);
    return err_set(err, ETIMEDOUT, "%zu of %zu nodes not up after %d s: %.60s; node %d is %s%s%s; "
                   "see `clustermatic logs node %d`", late.n, t->n, seconds,
                   which ? which : "?", first->node, first->state, *why ? ": " : "", why,
                   first->node);
}

/* Let a burst of node events pass, then look again; without events look once
 * a second all the same. */
static int wait_for_news(gate_t *g, struct err *err)
{
    struct gate_msg m;
    int got = gate_recv(g, 1000, &m, err);

    while (got > 0) {
        gate_msg_clear(&m);
        got = gate_recv(g, 30, &m, err);
    }
    return got < 0 ? gate_reopen(g, 5000, err) : 0;
}

int nodes_wait_up(const struct cluster *c, int timeout_ms, struct err *err)
{
    int64_t end = now_ms() + timeout_ms;
    CLEANUP(gate_close) gate_t *g = gate_open("clustermatic", err);

    if (!g || gate_subscribe(g, "node.", err) < 0)
        return -1;
    for (;;) {
        CLEANUP(nodes_free) struct node_table t;
        if (nodes_list(g, ASK_MS, &t, err) < 0)
            return -1;
        size_t up = count_up(&t);
        bool over = up == t.n && t.n > 0;
        progress(up, t.n, over || now_ms() >= end);
        if (over)
            return 0;
        if (now_ms() >= end)
            return say_which(c, &t, timeout_ms / 1000, err);
        if (wait_for_news(g, err) < 0)
            return -1;
    }
}

/* The boot server, if it runs, goes by the configuration of that generation. */
static int bootsrv_has(gate_t *g, int64_t generation, struct err *err)
{
    const struct timespec pause = { 0, 10000000 };
    int64_t end = now_ms() + ASK_MS, has = 0;

    for (;;) {
        CLEANUP(mp_free) mp_buf body;
        CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
        struct err why = { 0 };

        msgpack_unpacked_init(&reply);
        mp_init(&body);
        mp_map(&body, 0);
        if (gate_call(g, "bootsrv.status", &body, ASK_MS, &reply, &why) < 0)
            return why.code == ECONNREFUSED ? 0 : err_set(err, why.code, "%s", why.text);
        if (mp_get_int(&reply.data, "generation", 0, INT64_MAX, &has, err) < 0)
            return -1;
        if (has >= generation)
            return 0;
        if (now_ms() >= end)
            return err_set(err, ETIMEDOUT, "bootsrv does not take the new configuration: "
                                           "see clustermatic logs bootsrv");
        nanosleep(&pause, NULL);
    }
}

int nodes_reload(struct err *err)
{
    CLEANUP(mp_free) mp_buf body;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    CLEANUP(gate_close) gate_t *g = gate_open("clustermatic", err);
    const msgpack_object_array *warnings;

    msgpack_unpacked_init(&reply);
    mp_init(&body);
    mp_map(&body, 0);
    if (!g || gate_call(g, "nodemgr.reload", &body, ASK_MS, &reply, err) < 0)
        return -1;
    if (mp_get_array(&reply.data, "warnings", &warnings, err) < 0)
        return -1;
    for (uint32_t i = 0; i < warnings->size; i++) {
        CLEANUP(cleanup_free) char *text = mp_dup(&warnings->ptr[i]);
        fprintf(stderr, "clustermatic: warning: %s\n", text ? text : "?");
    }
    return bootsrv_has(g, mp_opt_int(&reply.data, "generation", 0), err);
}
