/* one.c - one process: could it go, or have it go */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bus/loop.h"
#include "clients/bpmove/bpmove.h"
#include "clients/common/table.h"

#define MOVE_MS 200000
#define EARLY_MS 5000 /* for a process that is being started, or found again, to be known */
#define AGAIN_MS 50

void outcome_free(struct outcome *o)
{
    free(o->text);
    json_decref(o->hindrances);
    *o = (struct outcome){ 0 };
}

static int take_rows(const msgpack_object *value, struct outcome *out, struct err *err)
{
    const msgpack_object_array *rows;

    if (mp_get_array(value, "hindrances", &rows, err) < 0)
        return -1;
    out->hindrances = json_array();
    for (uint32_t i = 0; i < rows->size; i++) {
        const msgpack_object *r = &rows->ptr[i];
        if (r->type != MSGPACK_OBJECT_ARRAY || r->via.array.size < 2)
            continue;
        json_t *row = json_object();
        json_object_set_new(row, "what", json_of(&r->via.array.ptr[0]));
        json_object_set_new(row, "text", json_of(&r->via.array.ptr[1]));
        json_array_append_new(out->hindrances, row);
    }
    return 0;
}

int move_one(gate_t *g, const struct options *opt, int64_t pid, int64_t to, bool check,
             struct outcome *out, struct err *err)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    CLEANUP(mp_free) mp_buf m;

    *out = (struct outcome){ 0 };
    mp_init(&m);
    msgpack_unpacked_init(&reply);
    mp_map(&m, 4);
    mp_kint(&m, "pid", pid);
    mp_kint(&m, "to", to);
    mp_kbool(&m, "check", check);
    mp_kbool(&m, "no_input", opt->no_input);
    for (int64_t end = now_ms() + EARLY_MS;; poll(NULL, 0, AGAIN_MS)) {
        struct err why = { 0 };
        if (gate_call(g, "procspace.move", &m, MOVE_MS, &reply, &why) == 0)
            break;
        if (why.code != EAGAIN || now_ms() >= end)
            return err_set(err, why.code, "%s", why.text);
    }
    out->node = mp_opt_int(&reply.data, "node", -1);
    out->code = mp_opt_int(&reply.data, "code", -1);
    out->good = out->code == 0;
    out->text = mp_opt_dup(&reply.data, "text");
    if (take_rows(&reply.data, out, err) < 0) {
        outcome_free(out);
        return -1;
    }
    return 0;
}

static void say(FILE *f, int64_t pid, const char *text)
{
    fprintf(f, "process %" PRId64 ": ", pid);
    table_text(f, text, strlen(text), 0);
    putc('\n', f);
}

void outcome_say(FILE *f, int64_t pid, const struct outcome *o)
{
    json_t *row;
    size_t i;

    if (!json_array_size(o->hindrances))
        say(f, pid, o->text ? o->text : "");
    json_array_foreach(o->hindrances, i, row)
        say(f, pid, json_string_value(json_object_get(row, "text")));
}

json_t *outcome_json(int64_t pid, const struct outcome *o)
{
    json_t *v = json_object();

    json_object_set_new(v, "pid", json_integer(pid));
    json_object_set_new(v, "node", json_integer(o->node));
    json_object_set_new(v, "can", json_boolean(o->good));
    json_object_set_new(v, "text", json_text(o->text ? o->text : "",
                                             o->text ? strlen(o->text) : 0));
    json_object_set(v, "hindrances", o->hindrances);
    return v;
}
