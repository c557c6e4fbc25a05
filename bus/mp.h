/* mp.h - small helpers over msgpack-c: packing maps, reading hostile maps
 *
 * Payloads are msgpack maps with short text keys. Readers ask for a key and a
 * type and a range; what is missing, mistyped or out of range is EPROTO with
 * a text that names the key. Unknown keys are ignored.
 */
#ifndef BUS_MP_H
#define BUS_MP_H
#include <msgpack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "bus/err.h"

typedef struct mp_buf { /* a growing buffer and its packer, as one thing */
    msgpack_sbuffer b;
    msgpack_packer pk;
} mp_buf;

void mp_init(mp_buf *m);
void mp_free(mp_buf *m); /* also for CLEANUP(mp_free) mp_buf m; mp_init(&m); */

/* Append one value. mp_key() is a text key of a map. */
void mp_map(mp_buf *m, uint32_t pairs);
void mp_array(mp_buf *m, uint32_t items);
void mp_str(mp_buf *m, const char *s);            /* NULL packs nil */
void mp_bin(mp_buf *m, const void *p, size_t len);
void mp_int(mp_buf *m, int64_t v);
void mp_uint(mp_buf *m, uint64_t v);
void mp_bool(mp_buf *m, bool v);
void mp_nil(mp_buf *m);
void mp_obj(mp_buf *m, const msgpack_object *o);  /* copy a decoded value */
#define mp_key(m, k) mp_str((m), (k))
/* key and value in one line */
void mp_kstr(mp_buf *m, const char *k, const char *v);
void mp_kbin(mp_buf *m, const char *k, const void *p, size_t len);
void mp_kint(mp_buf *m, const char *k, int64_t v);
void mp_kuint(mp_buf *m, const char *k, uint64_t v);
void mp_kbool(mp_buf *m, const char *k, bool v);

/* Reading. mp_get() returns NULL when absent or not a map. */
const msgpack_object *mp_get(const msgpack_object *map, const char *key);
/* Required values: -1 with EPROTO "KEY: want ..." */
int mp_get_int(const msgpack_object *map, const char *key, int64_t min,
               int64_t max, int64_t *out, struct err *err);
int mp_get_uint(const msgpack_object *map, const char *key, uint64_t *out,
                struct err *err);
/* Text or bytes (both accepted), not NUL-terminated. */
int mp_get_bytes(const msgpack_object *map, const char *key, const char **p,
                 size_t *len, struct err *err);
/* A fresh NUL-terminated copy; refuses embedded NULs. Caller frees. */
int mp_get_dup(const msgpack_object *map, const char *key, char **out,
               struct err *err);
int mp_get_array(const msgpack_object *map, const char *key,
                 const msgpack_object_array **out, struct err *err);
/* Optional values with a default. */
int64_t mp_opt_int(const msgpack_object *map, const char *key, int64_t dflt);
bool mp_opt_bool(const msgpack_object *map, const char *key, bool dflt);
char *mp_opt_dup(const msgpack_object *map, const char *key); /* NULL if absent */
/* Single objects. */
bool mp_as_int(const msgpack_object *o, int64_t *out); /* false: not an int */
bool mp_is(const msgpack_object *o, const char *text); /* equals this text */
char *mp_dup(const msgpack_object *o);                 /* NULL if not text/bytes or has NUL */

/* The length of the first value at p, without decoding it. 0: it is not whole,
 * or nested deeper than MP_DEPTH, or of more than MP_VALUES values: what is
 * decoded takes 24 bytes a value, however few it takes on the wire. */
#define MP_DEPTH 32
#define MP_VALUES (8u * 1024 * 1024)
size_t mp_measure(const void *p, size_t len);

/* Decode one value that must fill [p, p+len) entirely. The result refers to
 * its own zone and, for text, to p: keep p alive. -1: EPROTO. */
int mp_decode(msgpack_unpacked *u, const void *p, size_t len, struct err *err);

#endif
