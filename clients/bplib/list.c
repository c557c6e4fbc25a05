/* list.c - the library list: asked for, changed */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/bplib/bplib.h"

#define TIMEOUT_MS 10000

static int print_json(const msgpack_object_array *list)
{
    json_t *out = json_array();

    for (uint32_t i = 0; i < list->size; i++) {
        const msgpack_object *o = &list->ptr[i];
        if (o->type == MSGPACK_OBJECT_STR)
            json_array_append_new(out, json_stringn(o->via.str.ptr, o->via.str.size));
    }
    int rc = json_dumpf(out, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(out);
    return rc;
}

int list_print(gate_t *g, bool json, struct err *err)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;

    msgpack_unpacked_init(&reply);
    if (gate_call(g, "nodemgr.libs", NULL, TIMEOUT_MS, &reply, err) < 0)
        return -1;
    if (reply.data.type != MSGPACK_OBJECT_ARRAY)
        return err_set(err, EPROTO, "nodemgr.libs: the answer is not a list");
    const msgpack_object_array *list = &reply.data.via.array;
    if (json)
        return print_json(list) < 0 ? err_set(err, EIO, "the list could not be written") : 0;
    for (uint32_t i = 0; i < list->size; i++) {
        CLEANUP(cleanup_free) char *path = mp_dup(&list->ptr[i]);
        if (!path)
            return err_set(err, EPROTO, "nodemgr.libs: item %u is no text", i + 1);
        puts(path);
    }
    return 0;
}

int list_change(gate_t *g, const char *verb, const struct strlist *paths, struct err *err)
{
    CLEANUP(mp_free) mp_buf body;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;

    mp_init(&body);
    msgpack_unpacked_init(&reply);
    mp_map(&body, 1);
    if (strcmp(verb, "clear") == 0) {
        mp_kbool(&body, verb, true);
    } else {
        mp_key(&body, verb);
        mp_array(&body, (uint32_t)paths->n);
        for (size_t i = 0; i < paths->n; i++)
            mp_str(&body, paths->v[i]);
    }
    return gate_call(g, "nodemgr.setlibs", &body, TIMEOUT_MS, &reply, err);
}
