/* procs.c - what runs where, and what the kernel cannot say of it */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
#include "clients/libbproc/lib.h"

int bproc_proclist(int node, struct bproc_proc_info_t **list)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    struct bproc_proc_info_t *out = NULL;
    int n = 0;

    msgpack_unpacked_init(&reply);
    *list = NULL;
    node = lib_node(node);
    if (lib_call(ENOENT, "procspace.list", NULL, CALL_MS, &reply) < 0)
        return -1;
    if (reply.data.type != MSGPACK_OBJECT_ARRAY)
        return lib_errno(EPROTO);
    uint32_t all = reply.data.via.array.size;
    if (all && !(out = malloc(all * sizeof *out)))
        return lib_errno(ENOMEM);
    for (uint32_t i = 0; i < all; i++) {
        int64_t pid, at;
        const msgpack_object *o = &reply.data.via.array.ptr[i];
        if (mp_get_int(o, "pid", 1, INT_MAX, &pid, NULL) < 0 ||
            mp_get_int(o, "node", -1, INT_MAX, &at, NULL) < 0 ||
            (node != BPROC_NODE_ANY && at != node))
            continue;
        out[n++] = (struct bproc_proc_info_t){ (int)pid, (int)at };
    }
    if (n == 0) {
        free(out);
        out = NULL;
    }
    *list = out;
    return n;
}

/* The node of a process; -2: it is on none. -1: errno. */
static int where(int pid)
{
    struct bproc_proc_info_t *list = NULL;
    int n = bproc_proclist(BPROC_NODE_ANY, &list), node = -2;

    if (n < 0)
        return -1;
    for (int i = 0; list && i < n; i++)
        if (list[i].pid == pid)
            node = list[i].node;
    free(list);
    return node;
}

int bproc_pidnode(int pid)
{
    int node = where(pid);

    if (node != -2)
        return node;
    errno = pid > 0 && (kill(pid, 0) == 0 || errno == EPERM) ? 0 : ESRCH;
    return BPROC_NODE_MASTER;
}

/* The line of procspace.ps about pid, while it runs on node. */
static int ps_line(int pid, int node, msgpack_unpacked *reply, const msgpack_object **line)
{
    CLEANUP(mp_free) mp_buf m;
    const msgpack_object_array *a;

    mp_init(&m);
    mp_map(&m, 1);
    mp_key(&m, "nodes");
    mp_array(&m, 1);
    mp_int(&m, node);
    if (lib_call(ENOENT, "procspace.ps", &m, CALL_MS, reply) < 0)
        return -1;
    if (mp_get_array(&reply->data, "procs", &a, NULL) < 0)
        return lib_errno(EPROTO);
    for (uint32_t i = 0; i < a->size; i++)
        if (mp_opt_int(&a->ptr[i], "pid", -1) == pid) {
            *line = &a->ptr[i];
            return 0;
        }
    /* The node did not answer, or it has just ended. */
    if (mp_get_array(&reply->data, "missing", &a, NULL) == 0 && a->size)
        return lib_errno(BE_NODEDOWN);
    return lib_errno(ESRCH);
}

int bproc_getsid(int pid)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    const msgpack_object *line;

    msgpack_unpacked_init(&reply);
    int node = where(pid);
    if (node == -2)
        return (int)getsid(pid);
    if (node < 0 || ps_line(pid, node, &reply, &line) < 0)
        return -1;
    return (int)mp_opt_int(line, "sid", -1);
}

static struct timeval tv(int64_t us)
{
    return (struct timeval){ .tv_sec = us / 1000000, .tv_usec = us % 1000000 };
}

static void put_usage(struct rusage *ru, int64_t utime_us, int64_t stime_us, int64_t rss_kb)
{
    memset(ru, 0, sizeof *ru);
    ru->ru_utime = tv(utime_us);
    ru->ru_stime = tv(stime_us);
    ru->ru_maxrss = rss_kb;
}

static const msgpack_object_array *row_of(const msgpack_object *o, int pid)
{
    const msgpack_object_array *ranks, *row;
    int64_t v;

    if (mp_get_array(o, "ranks", &ranks, NULL) < 0)
        return NULL;
    for (uint32_t i = 0; i < ranks->size; i++) {
        row = &ranks->ptr[i].via.array;
        if (ranks->ptr[i].type == MSGPACK_OBJECT_ARRAY && row->size >= 7 &&
            mp_as_int(&row->ptr[1], &v) && v == pid)
            return row;
    }
    return NULL;
}

/* status: as wait() gives it, -1 while it runs. Either may be NULL. */
int bproc_getrusage(int pid, int *status, struct rusage *usage)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked ps;
    CLEANUP(mp_free) mp_buf m;
    const msgpack_object *line;
    int64_t v[7];

    msgpack_unpacked_init(&reply);
    msgpack_unpacked_init(&ps);
    mp_init(&m);
    mp_map(&m, 1);
    mp_kint(&m, "pid", pid);
    if (lib_call(ENOSYS, "procspace.result", &m, CALL_MS, &reply) < 0)
        return errno == ENOENT ? lib_errno(ESRCH) : -1;
    const msgpack_object_array *row = row_of(&reply.data, pid);
    if (!row)
        return lib_errno(EPROTO);
    for (uint32_t i = 2; i < 7; i++)
        if (!mp_as_int(&row->ptr[i], &v[i]))
            v[i] = -1;
    if (v[3] < 0 && usage) {
        if (ps_line(pid, (int)v[2], &ps, &line) < 0)
            return -1;
        put_usage(usage, mp_opt_int(line, "utime_us", 0), mp_opt_int(line, "stime_us", 0),
                  mp_opt_int(line, "rss_kb", 0));
    } else if (usage) {
        put_usage(usage, v[4], v[5], v[6]);
    }
    if (status)
        *status = (int)v[3];
    return 0;
}
