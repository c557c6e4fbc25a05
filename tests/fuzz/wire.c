/* wire.c - fuzz: envelope and payload, as any program may send them */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "bus/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every helper that handlers read a payload with. */
static void read_all(const msgpack_object *o)
{
    static const char *const keys[] = { "a", "nodes", "spec", "launch", "pid", "" };
    const msgpack_object_array *array;
    const char *p;
    char *s = NULL;
    size_t len;
    int64_t i;
    uint64_t u;

    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        mp_get_int(o, keys[k], -5, 1000000, &i, NULL);
        mp_get_uint(o, keys[k], &u, NULL);
        if (mp_get_bytes(o, keys[k], &p, &len, NULL) == 0 && len)
            u += (unsigned char)p[len - 1];
        if (mp_get_dup(o, keys[k], &s, NULL) == 0) {
            u += strlen(s);
            free(s);
        }
        if (mp_get_array(o, keys[k], &array, NULL) == 0)
            for (uint32_t n = 0; n < array->size; n++)
                mp_as_int(&array->ptr[n], &i);
        free(mp_opt_dup(o, keys[k]));
    }
}

static void payload(const uint8_t *data, size_t size)
{
    msgpack_unpacked u;
    CLEANUP(mp_free) mp_buf again;

    msgpack_unpacked_init(&u);
    mp_init(&again);
    if (mp_decode(&u, data, size, NULL) == 0) {
        read_all(&u.data);
        mp_obj(&again, &u.data); /* packed again it must be one whole value, too */
        if (mp_measure(again.b.data, again.b.size) != again.b.size)
            abort();
    }
    msgpack_unpacked_destroy(&u);
}

/* What msgpack takes for a value, and how long it finds it, we must as well. */
static void agree(const uint8_t *data, size_t size)
{
    msgpack_unpacked u;
    size_t off = 0, mine = mp_measure(data, size);

    if (!mine)
        return;
    msgpack_unpacked_init(&u);
    msgpack_unpack_return r = msgpack_unpack_next(&u, (const char *)data, size, &off);
    /* It may only be stricter, about depth. */
    if ((r == MSGPACK_UNPACK_SUCCESS || r == MSGPACK_UNPACK_EXTRA_BYTES) && off != mine)
        abort();
    if (r == MSGPACK_UNPACK_CONTINUE)
        abort();
    msgpack_unpacked_destroy(&u);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire w;
    struct err err = { 0 };
    size_t used = 0;

    agree(data, size);
    if (wire_unpack(&w, data, size, &used, &err) == 0) {
        CLEANUP(mp_free) mp_buf m;
        struct wire same;
        mp_init(&m);
        wire_pack(&m, &w);
        if (used > size || wire_unpack(&same, m.b.data, m.b.size, NULL, &err) < 0 ||
            same.id != w.id || strcmp(same.topic, w.topic) != 0)
            abort();
        payload(data + used, size - used);
    }
    payload(data, size);
    return 0;
}
