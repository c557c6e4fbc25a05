/* work.c - may the asker start work on a node, and if not, why */
#include <errno.h>
#include <stdlib.h>

#include "bus/nodespec.h"
#include "clients/bpstat/bpstat.h"

struct answer {
    int64_t node, code;
    const msgpack_object *why;
};

static int by_node(const void *a, const void *b)
{
    const struct answer *x = a, *y = b;

    return (x->node > y->node) - (x->node < y->node);
}

/* [node, state, reach, addr, code, why] */
static int answer_decode(struct answer *a, const msgpack_object *o, struct err *err)
{
    if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 6 ||
        !mp_as_int(&o->via.array.ptr[0], &a->node) || a->node < -1 ||
        a->node > NODE_MAX || !mp_as_int(&o->via.array.ptr[4], &a->code))
        return err_set(err, EPROTO, "nodemgr.resolve: a node of the reply is malformed");
    a->why = &o->via.array.ptr[5];
    return 0;
}

/* The answers, sorted by node; the caller frees them. NULL: *err. */
static struct answer *answers_decode(const msgpack_object *reply, size_t *n,
                                     struct err *err)
{
    const msgpack_object_array *list;
    struct answer *a;

    if (mp_get_array(reply, "nodes", &list, err) < 0)
        return NULL;
    a = calloc((size_t)list->size + 1, sizeof(*a));
    if (!a) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    for (uint32_t i = 0; i < list->size; i++) {
        if (answer_decode(&a[i], &list->ptr[i], err) < 0) {
            free(a);
            return NULL;
        }
    }
    qsort(a, list->size, sizeof(*a), by_node);
    *n = list->size;
    return a;
}

struct work *work_get(gate_t *g, const struct nodes *t, const struct options *o,
                      struct err *err)
{
    CLEANUP(mp_free) mp_buf body;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    CLEANUP(cleanup_free) struct answer *known = NULL;
    struct work *work;
    size_t n = 0;

    mp_init(&body);
    msgpack_unpacked_init(&reply);
    mp_map(&body, 2);
    mp_kstr(&body, "spec", o->spec ? o->spec : "all");
    mp_kbool(&body, "empty_ok", true);
    if (gate_call(g, "nodemgr.resolve", &body, BPSTAT_TIMEOUT_MS, &reply, err) < 0)
        return NULL;
    known = answers_decode(&reply.data, &n, err);
    if (!known)
        return NULL;
    work = calloc(t->n + 1, sizeof(*work));
    if (!work) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    for (size_t i = 0; i < t->n; i++) {
        struct answer key = { .node = t->row[i].node };
        const struct answer *a = bsearch(&key, known, n, sizeof(*known), by_node);

        /* not there: it changed between the two questions, so not now */
        work[i].yes = a && a->code == 0;
        work[i].why = a && a->code != 0 ? mp_dup(a->why) : NULL;
    }
    return work;
}

void work_free(struct work **work, size_t n)
{
    for (size_t i = 0; *work && i < n; i++)
        free((*work)[i].why);
    free(*work);
    *work = NULL;
}
