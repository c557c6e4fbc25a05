/* table.c - the nodes as nodemgr last told them; no I/O */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bus/nodespec.h"
#include "services/bpfs/bpfs.h"

void fsnode_clear(struct fsnode *n)
{
    for (size_t i = 0; i < n->nattr; i++) {
        free(n->attr[i].name);
        free(n->attr[i].value);
    }
    free(n->attr);
    *n = (struct fsnode){ 0 };
}

void table_free(struct table *t)
{
    for (size_t i = 0; i < t->n; i++)
        fsnode_clear(&t->v[i]);
    free(t->v);
    *t = (struct table){ 0 };
}

size_t table_from(const struct table *t, int number)
{
    return node_place(t->v, t->n, sizeof *t->v, number);
}

struct fsnode *table_get(const struct table *t, int number)
{
    return node_row(t->v, t->n, sizeof *t->v, number);
}

const struct fsattr *fsnode_attr(const struct fsnode *n, const char *name)
{
    for (size_t i = 0; i < n->nattr; i++)
        if (strcmp(n->attr[i].name, name) == 0)
            return &n->attr[i];
    return NULL;
}

bool fsnode_same(const struct fsnode *a, const struct fsnode *b)
{
    if (strcmp(a->state, b->state) != 0 || a->mode != b->mode || a->uid != b->uid ||
        a->gid != b->gid || a->nattr != b->nattr || a->addr.sin_family != b->addr.sin_family ||
        a->addr.sin_addr.s_addr != b->addr.sin_addr.s_addr || a->since_ms != b->since_ms)
        return false;
    for (size_t i = 0; i < a->nattr; i++) {
        const struct fsattr *x = &a->attr[i], *y = fsnode_attr(b, x->name);
        if (!y || x->len != y->len || memcmp(x->value, y->value, x->len) != 0)
            return false;
    }
    return true;
}

/* ---- nodemgr's node maps ---- */

static int add_attr(struct fsnode *n, const char *name, const void *value, size_t len,
                    struct err *err)
{
    struct fsattr *a = realloc(n->attr, (n->nattr + 1) * sizeof *a);

    if (!a)
        return err_set(err, ENOMEM, "out of memory");
    n->attr = a;
    a[n->nattr] = (struct fsattr){ strdup(name), malloc(len + 1), len };
    if (!a[n->nattr].name || !a[n->nattr].value) {
        free(a[n->nattr].name);
        free(a[n->nattr].value);
        return err_set(err, ENOMEM, "out of memory");
    }
    memcpy(a[n->nattr++].value, value, len);
    return 0;
}

static int take_attrs(struct fsnode *n, const msgpack_object *o, struct err *err)
{
    const msgpack_object *attrs = mp_get(o, "attrs");

    if (!attrs || attrs->type != MSGPACK_OBJECT_MAP)
        return 0;
    for (uint32_t i = 0; i < attrs->via.map.size; i++) {
        const msgpack_object *v = &attrs->via.map.ptr[i].val;
        CLEANUP(cleanup_free) char *name = mp_dup(&attrs->via.map.ptr[i].key);
        if (!name || v->type != MSGPACK_OBJECT_BIN)
            continue;
        if (add_attr(n, name, v->via.bin.ptr, v->via.bin.size, err) < 0)
            return -1;
    }
    return 0;
}

/* What the node said of its machine, unless somebody has set it. */
static int take_machine(struct fsnode *n, const msgpack_object *o, struct err *err)
{
    int64_t cpus = mp_opt_int(o, "cpus", 0), mem = mp_opt_int(o, "mem", 0);
    int32_t cpus32 = (int32_t)cpus;

    if (cpus > 0 && cpus < INT32_MAX && !fsnode_attr(n, "cpus") &&
        add_attr(n, "cpus", &cpus32, sizeof cpus32, err) < 0)
        return -1;
    if (mem > 0 && !fsnode_attr(n, "mem") && add_attr(n, "mem", &mem, sizeof mem, err) < 0)
        return -1;
    return 0;
}

static int parse_node(struct fsnode *n, const msgpack_object *o, struct err *err)
{
    CLEANUP(cleanup_free) char *state = NULL, *addr = mp_opt_dup(o, "addr");
    int64_t number, mode, uid, gid;

    if (mp_get_int(o, "node", -1, NODE_MAX, &number, err) < 0 ||
        mp_get_dup(o, "state", &state, err) < 0 ||
        mp_get_int(o, "mode", 0, 0777, &mode, err) < 0 ||
        mp_get_int(o, "uid", 0, UINT32_MAX, &uid, err) < 0 ||
        mp_get_int(o, "gid", 0, UINT32_MAX, &gid, err) < 0)
        return -1;
    n->number = (int)number;
    snprintf(n->state, sizeof n->state, "%s", state);
    n->mode = (uint32_t)mode;
    n->uid = (uint32_t)uid;
    n->gid = (uint32_t)gid;
    n->since_ms = mp_opt_int(o, "since", 0);
    if (strcmp(state, "down") == 0) /* nothing stands there */
        return 0;
    if (addr && inet_pton(AF_INET, addr, &n->addr.sin_addr) == 1)
        n->addr.sin_family = AF_INET;
    return take_attrs(n, o, err) < 0 ? -1 : take_machine(n, o, err);
}

static int by_number(const void *a, const void *b)
{
    int x = ((const struct fsnode *)a)->number, y = ((const struct fsnode *)b)->number;
    return (x > y) - (x < y);
}

int table_parse(struct table *t, const msgpack_object *list, struct err *err)
{
    *t = (struct table){ 0 };
    if (list->type != MSGPACK_OBJECT_ARRAY)
        return err_set(err, EPROTO, "nodemgr.list: the answer is not a list");
    t->v = calloc((size_t)list->via.array.size + 1, sizeof *t->v);
    if (!t->v)
        return err_set(err, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < list->via.array.size; i++) {
        int rc = parse_node(&t->v[t->n], &list->via.array.ptr[i], err);
        if (rc < 0 || t->v[t->n].number < 0)
            fsnode_clear(&t->v[t->n]); /* the master has an entry of its own */
        else
            t->n++;
        if (rc < 0) {
            table_free(t);
            return -1;
        }
    }
    qsort(t->v, t->n, sizeof *t->v, by_number);
    return 0;
}
