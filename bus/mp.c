/* mp.c - small helpers over msgpack-c */
#include "bus/mp.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void mp_init(mp_buf *m)
{
    msgpack_sbuffer_init(&m->b);
    msgpack_packer_init(&m->pk, &m->b, msgpack_sbuffer_write);
}

void mp_free(mp_buf *m)
{
    int keep = errno;
    msgpack_sbuffer_destroy(&m->b);
    errno = keep;
}

void mp_map(mp_buf *m, uint32_t pairs) { msgpack_pack_map(&m->pk, pairs); }
void mp_array(mp_buf *m, uint32_t items) { msgpack_pack_array(&m->pk, items); }

void mp_str(mp_buf *m, const char *s)
{
    if (!s)
        msgpack_pack_nil(&m->pk);
    else
        msgpack_pack_str_with_body(&m->pk, s, strlen(s));
}

void mp_bin(mp_buf *m, const void *p, size_t len)
{
    msgpack_pack_bin_with_body(&m->pk, p, len);
}

void mp_int(mp_buf *m, int64_t v) { msgpack_pack_int64(&m->pk, v); }
void mp_uint(mp_buf *m, uint64_t v) { msgpack_pack_uint64(&m->pk, v); }
void mp_nil(mp_buf *m) { msgpack_pack_nil(&m->pk); }
void mp_obj(mp_buf *m, const msgpack_object *o) { msgpack_pack_object(&m->pk, *o); }

void mp_bool(mp_buf *m, bool v)
{
    if (v)
        msgpack_pack_true(&m->pk);
    else
        msgpack_pack_false(&m->pk);
}

void mp_kstr(mp_buf *m, const char *k, const char *v)
{
    mp_str(m, k);
    mp_str(m, v);
}

void mp_kbin(mp_buf *m, const char *k, const void *p, size_t len)
{
    mp_str(m, k);
    mp_bin(m, p, len);
}

void mp_kint(mp_buf *m, const char *k, int64_t v)
{
    mp_str(m, k);
    mp_int(m, v);
}

void mp_kuint(mp_buf *m, const char *k, uint64_t v)
{
    mp_str(m, k);
    mp_uint(m, v);
}

void mp_kbool(mp_buf *m, const char *k, bool v)
{
    mp_str(m, k);
    mp_bool(m, v);
}

bool mp_is(const msgpack_object *o, const char *text)
{
    size_t n = strlen(text);
    return o && o->type == MSGPACK_OBJECT_STR && o->via.str.size == n &&
           (n == 0 || memcmp(o->via.str.ptr, text, n) == 0);
}

const msgpack_object *mp_get(const msgpack_object *map, const char *key)
{
    if (!map || map->type != MSGPACK_OBJECT_MAP)
        return NULL;
    for (uint32_t i = 0; i < map->via.map.size; i++)
        if (mp_is(&map->via.map.ptr[i].key, key))
            return &map->via.map.ptr[i].val;
    return NULL;
}

bool mp_as_int(const msgpack_object *o, int64_t *out)
{
    if (!o)
        return false;
    if (o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER) {
        *out = o->via.i64;
        return true;
    }
    if (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER && o->via.u64 <= INT64_MAX) {
        *out = (int64_t)o->via.u64;
        return true;
    }
    return false;
}

int mp_get_int(const msgpack_object *map, const char *key, int64_t min, int64_t max,
               int64_t *out, struct err *err)
{
    int64_t v;

    if (!mp_as_int(mp_get(map, key), &v))
        return err_set(err, EPROTO, "%s: want a number", key);
    if (v < min || v > max)
        return err_set(err, EPROTO, "%s: %lld is not in %lld..%lld", key,
                       (long long)v, (long long)min, (long long)max);
    *out = v;
    return 0;
}

int mp_get_uint(const msgpack_object *map, const char *key, uint64_t *out,
                struct err *err)
{
    const msgpack_object *o = mp_get(map, key);

    if (!o || o->type != MSGPACK_OBJECT_POSITIVE_INTEGER)
        return err_set(err, EPROTO, "%s: want a number of 0 or more", key);
    *out = o->via.u64;
    return 0;
}

static bool as_bytes(const msgpack_object *o, const char **p, size_t *len)
{
    if (!o)
        return false;
    if (o->type == MSGPACK_OBJECT_STR) {
        *p = o->via.str.ptr;
        *len = o->via.str.size;
        return true;
    }
    if (o->type == MSGPACK_OBJECT_BIN) {
        *p = o->via.bin.ptr;
        *len = o->via.bin.size;
        return true;
    }
    return false;
}

int mp_get_bytes(const msgpack_object *map, const char *key, const char **p,
                 size_t *len, struct err *err)
{
    if (!as_bytes(mp_get(map, key), p, len))
        return err_set(err, EPROTO, "%s: want text or bytes", key);
    return 0;
}

char *mp_dup(const msgpack_object *o)
{
    const char *p;
    size_t len;

    if (!as_bytes(o, &p, &len) || (len && memchr(p, 0, len)))
        return NULL;
    char *s = malloc(len + 1);
    if (s) {
        if (len)
            memcpy(s, p, len);
        s[len] = 0;
    }
    return s;
}

int mp_get_dup(const msgpack_object *map, const char *key, char **out,
               struct err *err)
{
    char *s = mp_dup(mp_get(map, key));
    if (!s)
        return err_set(err, EPROTO, "%s: want text", key);
    *out = s;
    return 0;
}

int mp_get_array(const msgpack_object *map, const char *key,
                 const msgpack_object_array **out, struct err *err)
{
    const msgpack_object *o = mp_get(map, key);
    if (!o || o->type != MSGPACK_OBJECT_ARRAY)
        return err_set(err, EPROTO, "%s: want a list", key);
    *out = &o->via.array;
    return 0;
}

int64_t mp_opt_int(const msgpack_object *map, const char *key, int64_t dflt)
{
    int64_t v;
    return mp_as_int(mp_get(map, key), &v) ? v : dflt;
}

bool mp_opt_bool(const msgpack_object *map, const char *key, bool dflt)
{
    const msgpack_object *o = mp_get(map, key);
    return o && o->type == MSGPACK_OBJECT_BOOLEAN ? o->via.boolean : dflt;
}

char *mp_opt_dup(const msgpack_object *map, const char *key)
{
    return mp_dup(mp_get(map, key));
}

/* What follows the first byte of a value: bytes of a length field, then how
 * many bytes the value has beside it, and how many values it holds. */
static void shape(unsigned char tag, unsigned *length_bytes, uint64_t *fixed, unsigned *each)
{
    *length_bytes = *each = 0;
    *fixed = 0;
    if (tag <= 0x7f || tag >= 0xe0 || tag == 0xc0 || tag == 0xc2 || tag == 0xc3)
        return;
    if (tag >= 0xa0 && tag <= 0xbf)
        *fixed = tag & 0x1f; /* fixstr */
    else if (tag >= 0xc4 && tag <= 0xc6)
        *length_bytes = 1u << (tag - 0xc4); /* bin */
    else if (tag >= 0xc7 && tag <= 0xc9) {
        *length_bytes = 1u << (tag - 0xc7); /* ext: and its type */
        *fixed = 1;
    } else if (tag == 0xca || tag == 0xcb)
        *fixed = tag == 0xca ? 4 : 8; /* float */
    else if (tag >= 0xcc && tag <= 0xcf)
        *fixed = 1u << (tag - 0xcc); /* uint */
    else if (tag >= 0xd0 && tag <= 0xd3)
        *fixed = 1u << (tag - 0xd0); /* int */
    else if (tag >= 0xd4 && tag <= 0xd8)
        *fixed = 1 + (1u << (tag - 0xd4)); /* fixext */
    else if (tag >= 0xd9 && tag <= 0xdb)
        *length_bytes = 1u << (tag - 0xd9); /* str */
    else if (tag >= 0xdc) {
        *length_bytes = tag & 1 ? 4 : 2; /* array, map */
        *each = tag < 0xde ? 1 : 2;
    } else if (tag >= 0x80 && tag <= 0x9f) {
        *each = tag < 0x90 ? 2 : 1; /* fixmap, fixarray */
    }
}

size_t mp_measure(const void *data, size_t len)
{
    const unsigned char *p = data, *end = p + len;
    uint64_t left[MP_DEPTH], values = 0;
    unsigned depth = 0;

    do {
        unsigned length_bytes, each;
        uint64_t fixed, n = 0;

        if (p == end || *p == 0xc1 || ++values > MP_VALUES)
            return 0;
        if (depth)
            left[depth - 1]--;
        shape(*p, &length_bytes, &fixed, &each);
        if (each && !length_bytes)
            n = *p & 0x0f;
        p++;
        if ((size_t)(end - p) < length_bytes)
            return 0;
        for (unsigned i = 0; i < length_bytes; i++)
            n = n << 8 | *p++;
        uint64_t bytes = fixed + (each ? n * each : n); /* a value has a byte at least */
        if ((uint64_t)(end - p) < bytes)
            return 0;
        if (each && n) {
            if (depth == MP_DEPTH)
                return 0;
            left[depth++] = n * each;
        } else {
            p += bytes;
        }
        while (depth && !left[depth - 1])
            depth--;
    } while (depth);
    return (size_t)(p - (const unsigned char *)data);
}

int mp_decode(msgpack_unpacked *u, const void *p, size_t len, struct err *err)
{
    size_t off = 0;

    if (!mp_measure(p, len))
        return err_set(err, EPROTO, "message: not a whole msgpack value, or too large a one");
    msgpack_unpack_return r = msgpack_unpack_next(u, p, len, &off);

    if (r == MSGPACK_UNPACK_NOMEM_ERROR)
        return err_set(err, ENOMEM, "message: out of memory");
    if (r != MSGPACK_UNPACK_SUCCESS)
        return err_set(err, EPROTO, "message: not a whole msgpack value");
    if (off != len)
        return err_set(err, EPROTO, "message: %zu bytes too many", len - off);
    return 0;
}
