/* nodes.c - node maps from nodemgr, decoded */
#include "clients/common/nodes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bus/nodespec.h"

void nodes_init(struct nodes *t)
{
    memset(t, 0, sizeof(*t));
    msgpack_unpacked_init(&t->reply);
}

static void rows_free(struct nodes *t)
{
    for (size_t i = 0; i < t->n; i++) {
        struct node_row *r = &t->row[i];

        free(r->name);
        free(r->state);
        free(r->why);
        free(r->who);
        free(r->reach);
        free(r->addr);
    }
    free(t->row);
    t->row = NULL;
    t->n = 0;
}

void nodes_free(struct nodes *t)
{
    rows_free(t);
    msgpack_unpacked_destroy(&t->reply);
}

/* The text under key, or dflt where there is none. */
static char *text(const msgpack_object *map, const char *key, const char *dflt)
{
    char *s = mp_opt_dup(map, key);

    return s ? s : strdup(dflt);
}

static int row_decode(struct node_row *r, const msgpack_object *map,
                      struct err *err)
{
    int64_t mode;

    if (mp_get_int(map, "node", -1, NODE_MAX, &r->node, err) < 0 ||
        mp_get_int(map, "mode", 0, 07777, &mode, err) < 0 ||
        mp_get_int(map, "uid", 0, UINT32_MAX, &r->uid, err) < 0 ||
        mp_get_int(map, "gid", 0, UINT32_MAX, &r->gid, err) < 0 ||
        mp_get_dup(map, "state", &r->state, err) < 0)
        return -1;
    r->mode = (unsigned)mode;
    r->since = mp_opt_int(map, "since", 0);
    r->name = text(map, "name", "");
    r->why = text(map, "why", "");
    r->who = text(map, "who", "");
    r->reach = text(map, "reach", "-");
    r->addr = text(map, "addr", "");
    r->map = map;
    if (!r->name || !r->why || !r->who || !r->reach || !r->addr)
        return err_set(err, ENOMEM, "out of memory");
    return 0;
}

int nodes_decode(struct nodes *t, const msgpack_object *list, struct err *err)
{
    uint32_t n;

    rows_free(t);
    if (list->type != MSGPACK_OBJECT_ARRAY)
        return err_set(err, EPROTO, "nodemgr.list: the reply is not a list");
    n = list->via.array.size;
    if (n == 0)
        return 0;
    t->row = calloc(n, sizeof(*t->row));
    if (!t->row)
        return err_set(err, ENOMEM, "out of memory for %u nodes", n);
    t->n = n;
    for (uint32_t i = 0; i < n; i++)
        if (row_decode(&t->row[i], &list->via.array.ptr[i], err) < 0)
            return err_prefix(err, "nodemgr.list: node %u of the reply", i + 1);
    return 0;
}

int nodes_get(gate_t *g, const char *spec, int timeout_ms, struct nodes *t,
              struct err *err)
{
    CLEANUP(mp_free) mp_buf body;

    mp_init(&body);
    mp_map(&body, spec ? 1 : 0);
    if (spec)
        mp_kstr(&body, "spec", spec);
    rows_free(t);
    msgpack_unpacked_destroy(&t->reply);
    msgpack_unpacked_init(&t->reply);
    if (gate_call(g, "nodemgr.list", &body, timeout_ms, &t->reply, err) < 0)
        return -1;
    return nodes_decode(t, &t->reply.data, err);
}
