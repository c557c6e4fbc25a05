/* drain.c - all that can move off a node does; the rest is named
 *
 * Each goes to the node that may take work and has the fewest processes; where
 * one does not take it, to the next.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "clients/bpmove/bpmove.h"

#define LIST_MS 20000

struct place {
    int64_t node, procs;
};

struct draining {
    gate_t *g;
    const struct options *opt;
    int64_t node;
    struct place *place;
    size_t places;
    bool no_such; /* of the node */
    json_t *said; /* with --json */
    int left;
};

static int list(gate_t *g, const char *topic, msgpack_unpacked *reply, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 0);
    if (gate_call(g, topic, &m, LIST_MS, reply, err) < 0)
        return -1;
    return reply->data.type == MSGPACK_OBJECT_ARRAY
               ? 0
               : err_set(err, EPROTO, "%s: the answer was not understood", topic);
}

static int find_places(struct draining *d, struct err *err)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;

    msgpack_unpacked_init(&reply);
    if (list(d->g, "nodemgr.list", &reply, err) < 0)
        return -1;
    d->place = calloc((size_t)reply.data.via.array.size + 1, sizeof *d->place);
    if (!d->place)
        return err_set(err, ENOMEM, "out of memory");
    d->no_such = true;
    for (uint32_t i = 0; i < reply.data.via.array.size; i++) {
        const msgpack_object *o = &reply.data.via.array.ptr[i];
        const msgpack_object *state = mp_get(o, "state"), *reach = mp_get(o, "reach");
        int64_t node = mp_opt_int(o, "node", -1);
        if (node == d->node)
            d->no_such = false;
        else if (node >= 0 && state && mp_is(state, "up") && reach && mp_is(reach, "yes"))
            d->place[d->places++] = (struct place){ node, mp_opt_int(o, "procs", 0) };
    }
    return 0;
}

static int by_load(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    if (x->procs != y->procs)
        return x->procs < y->procs ? -1 : 1;
    return (x->node > y->node) - (x->node < y->node);
}

static void tell_moved(struct draining *d, int64_t pid, int64_t to)
{
    if (!d->said) {
        printf("process %" PRId64 ": to node %" PRId64 "\n", pid, to);
        fflush(stdout);
        return;
    }
    json_t *row = json_object();
    json_object_set_new(row, "pid", json_integer(pid));
    json_object_set_new(row, "moved", json_true());
    json_object_set_new(row, "node", json_integer(to));
    json_object_set_new(row, "text", json_string(""));
    json_object_set_new(row, "hindrances", json_array());
    json_array_append_new(d->said, row);
}

static void tell_left(struct draining *d, int64_t pid, const struct outcome *o)
{
    d->left++;
    if (!d->said) {
        fputs("bpmove: ", stderr);
        outcome_say(stderr, pid, o);
        return;
    }
    json_t *row = outcome_json(pid, o);
    json_object_del(row, "can");
    json_object_set_new(row, "moved", json_false());
    json_array_append_new(d->said, row);
}

/* By what the cluster says of the process itself, no other node would do. */
static bool final(const struct outcome *o)
{
    return o->good || json_array_size(o->hindrances) > 0 || o->code == ESRCH;
}

static void move_off(struct draining *d, int64_t pid)
{
    struct outcome o = { 0 };

    qsort(d->place, d->places, sizeof *d->place, by_load);
    for (size_t i = 0; i < d->places; i++) {
        struct err err = { 0 };
        outcome_free(&o);
        if (move_one(d->g, d->opt, pid, d->place[i].node, false, &o, &err) < 0) {
            o.code = err.code;
            o.node = d->node;
            o.text = strdup(err.text);
            o.hindrances = json_array();
        }
        if (o.good) {
            d->place[i].procs++;
            tell_moved(d, pid, d->place[i].node);
        }
        if (final(&o))
            break;
    }
    if (!d->places) {
        o.node = d->node;
        o.text = strdup("there is no other node that is up");
        o.hindrances = json_array();
    }
    if (!o.good && o.code != ESRCH) /* that one has ended: it has left, too */
        tell_left(d, pid, &o);
    outcome_free(&o);
}

static int move_all(struct draining *d, struct err *err)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    int64_t me = (int64_t)geteuid();

    msgpack_unpacked_init(&reply);
    if (list(d->g, "procspace.list", &reply, err) < 0)
        return -1;
    for (uint32_t i = 0; i < reply.data.via.array.size; i++) {
        const msgpack_object *o = &reply.data.via.array.ptr[i];
        int64_t pid = mp_opt_int(o, "pid", 0);
        if (pid > 0 && mp_opt_int(o, "node", -1) == d->node &&
            (me == 0 || mp_opt_int(o, "uid", -1) == me))
            move_off(d, pid);
    }
    return 0;
}

int drain(gate_t *g, const struct options *opt, int64_t node, struct err *err)
{
    struct draining d = { .g = g, .opt = opt, .node = node };

    if (find_places(&d, err) < 0)
        return -1;
    d.said = opt->json ? json_array() : NULL;
    int rc = d.no_such ? err_set(err, ENOENT, "there is no node %" PRId64, node)
                       : move_all(&d, err);
    free(d.place);
    if (d.said && rc < 0)
        json_decref(d.said);
    else if (d.said && json_print(d.said) < 0)
        rc = err_set(err, EIO, "standard output was lost");
    return rc < 0 ? -1 : d.left;
}
