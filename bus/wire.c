/* wire.c - the envelope in front of every payload */
#include "bus/wire.h"
#include <errno.h>
#include <string.h>

void wire_pack(mp_buf *m, const struct wire *w)
{
    mp_array(m, 11);
    mp_int(m, WIRE_VERSION);
    mp_int(m, w->kind);
    mp_str(m, w->topic);
    mp_uint(m, w->id);
    mp_int(m, w->deadline);
    mp_int(m, w->uid);
    mp_int(m, w->gid);
    mp_int(m, w->pid);
    mp_int(m, w->node);
    mp_str(m, w->from);
    mp_str(m, w->addr);
}

static int text(const msgpack_object *o, char *out, size_t room)
{
    if (o->type != MSGPACK_OBJECT_STR || o->via.str.size >= room)
        return -1;
    size_t n = o->via.str.size; /* 0: ptr may be NULL */
    if (n && memchr(o->via.str.ptr, 0, n))
        return -1;
    if (n)
        memcpy(out, o->via.str.ptr, n);
    out[n] = 0;
    return 0;
}

static bool nested(const msgpack_object *o)
{
    return o->type == MSGPACK_OBJECT_ARRAY || o->type == MSGPACK_OBJECT_MAP;
}

static int fields(struct wire *w, const msgpack_object *a, uint32_t n, struct err *err)
{
    int64_t version, kind;

    for (uint32_t i = 0; i < n; i++)
        if (nested(&a[i]))
            return err_set(err, EPROTO, "envelope: field %u is not a plain value", i);
    if (!mp_as_int(&a[0], &version) || version < 1 || version > 1000)
        return err_set(err, EPROTO, "envelope: bad version");
    if (!mp_as_int(&a[1], &kind) || kind < WIRE_REQUEST || kind > WIRE_PUBLISH)
        return err_set(err, EPROTO, "envelope: bad kind");
    w->version = (int)version;
    w->kind = (int)kind;
    if (text(&a[2], w->topic, sizeof w->topic) < 0)
        return err_set(err, EPROTO, "envelope: bad topic");
    if (a[3].type != MSGPACK_OBJECT_POSITIVE_INTEGER)
        return err_set(err, EPROTO, "envelope: bad request id");
    w->id = a[3].via.u64;
    if (!mp_as_int(&a[4], &w->deadline) || !mp_as_int(&a[5], &w->uid) ||
        !mp_as_int(&a[6], &w->gid) || !mp_as_int(&a[7], &w->pid) ||
        !mp_as_int(&a[8], &w->node))
        return err_set(err, EPROTO, "envelope: a number is missing");
    if (n > 9 && text(&a[9], w->from, sizeof w->from) < 0)
        return err_set(err, EPROTO, "envelope: bad sender");
    if (n > 10 && text(&a[10], w->addr, sizeof w->addr) < 0)
        return err_set(err, EPROTO, "envelope: bad address");
    return 0;
}

int wire_unpack(struct wire *w, const void *p, size_t len, size_t *used,
                struct err *err)
{
    size_t off = 0;
    int rc;
    msgpack_unpacked u;

    memset(w, 0, sizeof *w);
    msgpack_unpacked_init(&u);
    size_t size = mp_measure(p, len < WIRE_ENVELOPE_MAX ? len : WIRE_ENVELOPE_MAX);
    if (!size || msgpack_unpack_next(&u, p, size, &off) != MSGPACK_UNPACK_SUCCESS)
        rc = err_set(err, EPROTO, "envelope: not msgpack");
    else if (u.data.type != MSGPACK_OBJECT_ARRAY || u.data.via.array.size < 9)
        rc = err_set(err, EPROTO, "envelope: want a list of at least 9 fields");
    else
        rc = fields(w, u.data.via.array.ptr, u.data.via.array.size, err);
    msgpack_unpacked_destroy(&u);
    if (used)
        *used = off;
    return rc;
}
