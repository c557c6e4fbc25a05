/* fan_open.c - the children that an OPEN names: dialled, and sent their own OPEN */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "copy/copy.h"

struct child { /* [node, addr, port, token, key, children] */
    int64_t node, port;
    char *addr;
    struct bulk_ticket ticket;
    const msgpack_object *children;
};

static int child_parse(const msgpack_object *o, struct child *c, struct err *err)
{
    const msgpack_object *p = o->type == MSGPACK_OBJECT_ARRAY ? o->via.array.ptr : NULL;

    if (!p || o->via.array.size < 6 || !mp_as_int(&p[0], &c->node) || c->node < 0 ||
        c->node > INT32_MAX || !mp_as_int(&p[2], &c->port) || c->port < 1 || c->port > 65535 ||
        p[3].type != MSGPACK_OBJECT_STR || p[3].via.str.size != BULK_TOKEN ||
        p[4].type != MSGPACK_OBJECT_BIN || p[4].via.bin.size != BULK_KEY ||
        p[5].type != MSGPACK_OBJECT_ARRAY || !(c->addr = mp_dup(&p[1])))
        return err_set(err, EPROTO, "children: want [node, addr, port, token, key, children]");
    memcpy(c->ticket.token, p[3].via.str.ptr, BULK_TOKEN);
    c->ticket.token[BULK_TOKEN] = 0;
    memcpy(c->ticket.key, p[4].via.bin.ptr, BULK_KEY);
    c->children = &p[5];
    return 0;
}

/* The nodes of a subtree; depth is bounded by the decoder. */
static int subtree(const msgpack_object *o, int **node, size_t *n, struct err *err)
{
    struct child c = { 0 };
    int rc = child_parse(o, &c, err);

    free(c.addr);
    if (rc < 0)
        return -1;
    int *bigger = realloc(*node, (*n + 1) * sizeof *bigger);
    if (!bigger)
        return err_set(err, ENOMEM, "out of memory");
    *node = bigger;
    bigger[(*n)++] = (int)c.node;
    for (uint32_t i = 0; i < c.children->via.array.size; i++)
        if (subtree(&c.children->via.array.ptr[i], node, n, err) < 0)
            return -1;
    return 0;
}

static void pack_open(mp_buf *m, const msgpack_object *open, const struct child *c)
{
    const msgpack_object_map *b = &open->via.map;

    mp_map(m, b->size);
    for (uint32_t i = 0; i < b->size; i++) {
        mp_obj(m, &b->ptr[i].key);
        if (mp_is(&b->ptr[i].key, "children"))
            mp_obj(m, c->children);
        else
            mp_obj(m, &b->ptr[i].val);
    }
}

static int dial_child(struct fan *f, const msgpack_object *open, const msgpack_object *o,
                      struct err *err)
{
    CLEANUP(cleanup_free) int *node = NULL;
    CLEANUP(mp_free) mp_buf m;
    struct child c = { 0 };
    struct err why = { 0 };
    size_t n = 0;

    mp_init(&m);
    if (subtree(o, &node, &n, err) < 0)
        return -1;
    if (child_parse(o, &c, err) < 0)
        return -1;
    chan_t *ch = chan_dial(c.addr, (uint16_t)c.port, &c.ticket, &why);
    free(c.addr);
    pack_open(&m, open, &c);
    if (ch && chan_send(ch, COPY_OPEN, m.b.data, m.b.size, NULL, 0, &why) < 0)
        chan_close(&ch);
    return fan_add(f, ch, node, n, why.text, err);
}

int fan_open(struct fan *f, const msgpack_object *open, struct err *err)
{
    const msgpack_object_array *children;

    if (mp_get_array(open, "children", &children, err) < 0)
        return -1;
    for (uint32_t i = 0; i < children->size; i++)
        if (dial_child(f, open, &children->ptr[i], err) < 0)
            return -1;
    fan_flush(f);
    return 0;
}
