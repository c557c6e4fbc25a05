/* bpinit_io.c - a launch's redirections beyond its three streams, and how its
 * processes are numbered
 *
 * A connection is waited for while pid 1 stands still: not for long, and after
 * the first that did not come about the launch's others are not tried.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "node/bpinit_spawn.h"

#define CONNECT_MS 500

static int get_file(const msgpack_object *o, struct redirect *r, struct err *err)
{
    int64_t flags, mode;
    char *path;

    if (mp_get_int(o, "flags", 0, INT32_MAX, &flags, err) < 0 ||
        mp_get_int(o, "mode", 0, 07777, &mode, err) < 0 ||
        mp_get_int(o, "offset", 0, INT64_MAX, &r->offset, err) < 0 ||
        mp_get_dup(o, "path", &path, err) < 0)
        return -1;
    r->path = path;
    r->flags = (int)flags;
    r->mode = (mode_t)mode;
    return 0;
}

static int get_socket(const msgpack_object *o, struct redirect *r, struct err *err)
{
    const char *p;
    size_t len;

    if (mp_get_bytes(o, "addr", &p, &len, err) < 0)
        return -1;
    if (len != sizeof r->addr)
        return err_set(err, EPROTO, "io: addr: want %zu bytes", sizeof r->addr);
    memcpy(&r->addr, p, len);
    r->socket = true;
    if (r->addr.sa_family != AF_INET && r->addr.sa_family != AF_UNIX)
        return err_set(err, EAFNOSUPPORT, "io: address family %d", r->addr.sa_family);
    return 0;
}

static int get_redirect(const msgpack_object *o, struct redirect *r, struct err *err)
{
    int64_t fd;

    if (mp_get_int(o, "fd", 0, REDIRECT_FD_MAX, &fd, err) < 0)
        return -1;
    r->fd = (int)fd;
    r->info = mp_opt_bool(o, "info", false);
    r->delay = mp_opt_bool(o, "delay", false);
    return mp_get(o, "addr") ? get_socket(o, r, err) : get_file(o, r, err);
}

static int get_index(const msgpack_object *map, struct plan *p, struct err *err)
{
    const msgpack_object_array *a;
    int64_t v;

    if (!mp_get(map, "index"))
        return 0;
    if (mp_get_array(map, "index", &a, err) < 0)
        return -1;
    p->index = calloc((size_t)a->size + 1, sizeof *p->index);
    if (!p->index)
        return err_set(err, ENOMEM, "index: out of memory");
    for (uint32_t i = 0; i < a->size; i++) {
        if (!mp_as_int(&a->ptr[i], &v) || v < 0 || v > 9999999)
            return err_set(err, EPROTO, "index: item %u: want 0..9999999", i);
        p->index[p->nindex++] = (uint32_t)v;
    }
    return 0;
}

int plan_io_read(const msgpack_object *map, struct plan *p, struct err *err)
{
    CLEANUP(cleanup_free) char *origin = mp_opt_dup(map, "origin");
    const msgpack_object_array *a;
    struct in_addr in = { htonl(INADDR_LOOPBACK) };

    if (get_index(map, p, err) < 0)
        return -1;
    if (!mp_get(map, "io"))
        return 0;
    if (mp_get_array(map, "io", &a, err) < 0)
        return -1;
    if (a->size > REDIRECT_MAX)
        return err_set(err, EINVAL, "io: %u entries; at most %d", a->size, REDIRECT_MAX);
    for (uint32_t i = 0; i < a->size; i++)
        if (get_redirect(&a->ptr[i], &p->io[p->nio++], err) < 0)
            return -1;
    if (origin)
        inet_pton(AF_INET, origin, &in);
    p->origin = (struct redirect_origin){ in.s_addr, CONNECT_MS };
    return 0;
}

void plan_io_free(struct plan *p)
{
    for (size_t i = 0; i < p->nio; i++)
        free((char *)(uintptr_t)p->io[i].path);
    free(p->index);
}

uint32_t plan_index(const struct plan *p, uint32_t rank)
{
    return rank < p->nindex ? p->index[rank] : rank;
}

int plan_io_beyond(const struct plan *p)
{
    int least = 3;

    for (size_t i = 0; i < p->nio; i++)
        least = p->io[i].fd >= least ? p->io[i].fd + 1 : least;
    return least;
}

/* We share bpinit's memory: what is noted here holds for the next child. */
int plan_io_apply(const struct plan *p, pid_t pid, const char **what)
{
    struct redirect_origin *origin = (struct redirect_origin *)(uintptr_t)&p->origin;

    for (int late = 0; late < 2; late++)
        for (size_t i = 0; i < p->nio; i++) {
            if (p->io[i].delay != late || redirect_apply(&p->io[i], origin, pid) == 0)
                continue;
            if (errno == ETIMEDOUT)
                origin->wait_ms = 0;
            if (late) /* it runs without */
                continue;
            *what = p->io[i].socket ? "connect to who started it" : p->io[i].path;
            return -1;
        }
    return 0;
}
