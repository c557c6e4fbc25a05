/* fetch.c - the processes of the cluster, from procspace */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bus/nodespec.h"
#include "clients/bpps/bpps.h"

/* The wanted nodes, packed as the request of procspace.ps. */
static int pack_nodes(gate_t *g, const struct options *o, mp_buf *body, struct err *err)
{
    CLEANUP(mp_free) mp_buf ask;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    const msgpack_object_array *list;

    mp_init(&ask);
    msgpack_unpacked_init(&reply);
    mp_map(&ask, 2);
    mp_kstr(&ask, "spec", o->spec ? o->spec : "allnotdown");
    mp_kbool(&ask, "empty_ok", !o->spec);
    if (gate_call(g, "nodemgr.resolve", &ask, BPPS_TIMEOUT_MS, &reply, err) < 0 ||
        mp_get_array(&reply.data, "nodes", &list, err) < 0)
        return -1;
    mp_map(body, 1);
    mp_key(body, "nodes");
    mp_array(body, list->size);
    for (uint32_t i = 0; i < list->size; i++) {
        const msgpack_object *n = &list->ptr[i];
        int64_t node;

        if (n->type != MSGPACK_OBJECT_ARRAY || n->via.array.size < 1 ||
            !mp_as_int(&n->via.array.ptr[0], &node))
            return err_set(err, EPROTO, "nodemgr.resolve: a node of the reply is malformed");
        mp_int(body, node);
    }
    return 0;
}

/* Arguments are separated by NULs; a kernel thread or a zombie has none. */
static char *command_of(const msgpack_object *map)
{
    const char *args;
    size_t len;
    char *text;

    if (mp_get_bytes(map, "args", &args, &len, NULL) == 0 && len > 0) {
        if (args[len - 1] == '\0')
            len--;
        text = malloc(len + 1);
        if (text) {
            for (size_t i = 0; i < len; i++)
                text[i] = args[i] ? args[i] : ' ';
            text[len] = '\0';
        }
        return text;
    }
    CLEANUP(cleanup_free) char *comm = mp_opt_dup(map, "comm");
    size_t room = (comm ? strlen(comm) : 1) + 3;
    text = malloc(room);
    if (text)
        snprintf(text, room, "[%s]", comm ? comm : "?");
    return text;
}

static int proc_decode(struct proc *p, const msgpack_object *map, struct err *err)
{
    const int64_t most = INT64_MAX / 4;
    int64_t utime, stime;
    const char *state;
    size_t len;

    if (mp_get_int(map, "node", -1, NODE_MAX, &p->node, err) < 0 ||
        mp_get_int(map, "pid", 0, INT32_MAX, &p->pid, err) < 0 ||
        mp_get_int(map, "ppid", 0, INT32_MAX, &p->ppid, err) < 0 ||
        mp_get_int(map, "uid", 0, UINT32_MAX, &p->uid, err) < 0 ||
        mp_get_int(map, "utime_us", 0, most, &utime, err) < 0 ||
        mp_get_int(map, "stime_us", 0, most, &stime, err) < 0 ||
        mp_get_int(map, "rss_kb", 0, most, &p->rss_kb, err) < 0 ||
        mp_get_bytes(map, "state", &state, &len, err) < 0)
        return -1;
    p->cpu_us = utime + stime;
    p->state = len > 0 && state[0] > ' ' && state[0] < 0x7f ? state[0] : '?';
    p->command = command_of(map);
    p->map = map;
    return p->command ? 0 : err_set(err, ENOMEM, "out of memory");
}

static bool wanted(const struct options *o, int64_t uid)
{
    for (size_t i = 0; i < o->uids; i++)
        if (o->uid[i] == uid)
            return true;
    return o->uids == 0;
}

static int decode_procs(const struct options *o, struct procs *p, struct err *err)
{
    const msgpack_object_array *list;

    if (mp_get_array(&p->reply.data, "procs", &list, err) < 0)
        return -1;
    p->v = calloc((size_t)list->size + 1, sizeof(*p->v));
    if (!p->v)
        return err_set(err, ENOMEM, "out of memory for %u processes", list->size);
    for (uint32_t i = 0; i < list->size; i++) {
        struct proc *at = &p->v[p->n];

        if (proc_decode(at, &list->ptr[i], err) < 0)
            return err_prefix(err, "procspace.ps");
        if (wanted(o, at->uid)) {
            p->n++;
        } else {
            free(at->command);
            at->command = NULL;
        }
    }
    return 0;
}

static int decode_missing(struct procs *p, struct err *err)
{
    const msgpack_object_array *list;

    if (mp_get_array(&p->reply.data, "missing", &list, err) < 0)
        return -1;
    p->missing = calloc((size_t)list->size + 1, sizeof(*p->missing));
    if (!p->missing)
        return err_set(err, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < list->size; i++) {
        const msgpack_object *o = &list->ptr[i];
        struct missing *m = &p->missing[p->missings];
        int64_t code;

        if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 3 ||
            !mp_as_int(&o->via.array.ptr[0], &m->node) ||
            !mp_as_int(&o->via.array.ptr[1], &code) || code < 0 || code > INT32_MAX)
            return err_set(err, EPROTO, "procspace.ps: a missing node is malformed");
        m->why = mp_dup(&o->via.array.ptr[2]);
        if (!m->why || !m->why[0]) {
            free(m->why);
            m->why = strdup(err_name((int)code));
        }
        if (!m->why)
            return err_set(err, ENOMEM, "out of memory");
        p->missings++;
    }
    return 0;
}

static int by_pid(const void *a, const void *b)
{
    const struct proc *x = a, *y = b;

    if (x->node != y->node)
        return x->node < y->node ? -1 : 1;
    return (x->pid > y->pid) - (x->pid < y->pid);
}

int procs_get(gate_t *g, const struct options *o, struct procs *p, struct err *err)
{
    CLEANUP(mp_free) mp_buf body;

    mp_init(&body);
    memset(p, 0, sizeof(*p));
    if (pack_nodes(g, o, &body, err) < 0 ||
        gate_call(g, "procspace.ps", &body, BPPS_TIMEOUT_MS, &p->reply, err) < 0 ||
        decode_procs(o, p, err) < 0 || decode_missing(p, err) < 0)
        return -1;
    qsort(p->v, p->n, sizeof(*p->v), by_pid);
    return 0;
}

void procs_free(struct procs *p)
{
    for (size_t i = 0; p->v && i <= p->n; i++)
        free(p->v[i].command); /* one more: the row where decoding stopped */
    for (size_t i = 0; i < p->missings; i++)
        free(p->missing[i].why);
    free(p->v);
    free(p->missing);
    msgpack_unpacked_destroy(&p->reply);
}
