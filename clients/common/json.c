/* json.c - values of the wire as JSON */
#include "clients/common/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bus/err.h"

json_t *json_text(const char *s, size_t len)
{
    json_t *whole = json_stringn(s, len);
    char *mended;
    size_t n = 0;

    if (whole)
        return whole;
    /* not UTF-8: keep ASCII, replace each other byte */
    mended = malloc(3 * len + 1);
    if (!mended)
        return NULL;
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)s[i] < 0x80) {
            mended[n++] = s[i];
        } else {
            mended[n++] = '\xef';
            mended[n++] = '\xbf';
            mended[n++] = '\xbd';
        }
    }
    whole = json_stringn(mended, n);
    free(mended);
    return whole;
}

static json_t *json_hex(const char *p, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    CLEANUP(cleanup_free) char *hex = malloc(2 * len + 1);

    if (!hex)
        return NULL;
    for (size_t i = 0; i < len; i++) {
        hex[2 * i] = digits[(unsigned char)p[i] >> 4];
        hex[2 * i + 1] = digits[(unsigned char)p[i] & 15];
    }
    return json_pack("{s:s%}", "hex", hex, 2 * len);
}

static json_t *json_bytes(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)p[i] < 0x20 || p[i] == 0x7f)
            return json_hex(p, len);
    json_t *text = json_stringn(p, len);
    return text ? text : json_hex(p, len);
}

static json_t *json_map(const msgpack_object_map *m)
{
    json_t *out = json_object();

    for (uint32_t i = 0; out && i < m->size; i++) {
        const msgpack_object *k = &m->ptr[i].key;
        char number[24];
        const char *key = number;
        size_t len;

        if (k->type == MSGPACK_OBJECT_STR) {
            key = k->via.str.ptr;
            len = k->via.str.size;
        } else if (k->type == MSGPACK_OBJECT_POSITIVE_INTEGER) {
            len = (size_t)snprintf(number, sizeof(number), "%llu",
                                   (unsigned long long)k->via.u64);
        } else {
            continue; /* no other kind of key is on our wire */
        }
        json_t *v = json_of(&m->ptr[i].val);
        if (!v) {
            json_decref(out);
            return NULL;
        }
        /* a key that is no UTF-8 is left out; takes v even when it fails */
        json_object_setn_new(out, key, len, v);
    }
    return out;
}

static json_t *json_list(const msgpack_object_array *a)
{
    json_t *out = json_array();

    for (uint32_t i = 0; out && i < a->size; i++) {
        if (json_array_append_new(out, json_of(&a->ptr[i])) < 0) {
            json_decref(out);
            return NULL;
        }
    }
    return out;
}

static json_t *json_unsigned(uint64_t v)
{
    char text[24];

    if (v <= INT64_MAX)
        return json_integer((json_int_t)v);
    snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
    return json_string(text);
}

json_t *json_of(const msgpack_object *o)
{
    switch (o->type) {
    case MSGPACK_OBJECT_BOOLEAN:
        return json_boolean(o->via.boolean);
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        return json_unsigned(o->via.u64);
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        return json_integer(o->via.i64);
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64: {
        json_t *v = json_real(o->via.f64);
        return v ? v : json_null(); /* JSON knows no NaN and no infinity */
    }
    case MSGPACK_OBJECT_STR:
        return json_text(o->via.str.ptr, o->via.str.size);
    case MSGPACK_OBJECT_BIN:
        return json_bytes(o->via.bin.ptr, o->via.bin.size);
    case MSGPACK_OBJECT_ARRAY:
        return json_list(&o->via.array);
    case MSGPACK_OBJECT_MAP:
        return json_map(&o->via.map);
    default:
        return json_null();
    }
}

int json_print(json_t *v)
{
    size_t flags = isatty(STDOUT_FILENO) ? JSON_INDENT(2) : JSON_COMPACT;
    int rc = v ? json_dumpf(v, stdout, flags) : -1;

    json_decref(v);
    if (rc < 0 || putchar('\n') == EOF)
        return -1;
    return 0;
}
