/* reach.c - tickets for nodes, connections to them, and the tree they make */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "bus/loop.h"
#include "bus/rundir.h"
#include "clients/bpcp/bpcp.h"

#define AGAIN_MS 200
#define PATIENCE_MS 3000 /* for a node's agent that is being restarted */

void dests_free(struct dests *d)
{
    for (size_t i = 0; i < d->n; i++) {
        free(d->d[i].addr);
        free(d->d[i].token);
        explicit_bzero(d->d[i].key, BULK_KEY);
    }
    free(d->d);
    *d = (struct dests){ 0 };
}

static int take_ticket(struct dests *out, const msgpack_object *row, struct err *err)
{
    const msgpack_object *p = row->type == MSGPACK_OBJECT_ARRAY ? row->via.array.ptr : NULL;
    int64_t node, port;
    struct dest *bigger = realloc(out->d, (out->n + 1) * sizeof *bigger);

    if (!bigger)
        return err_set(err, ENOMEM, "out of memory");
    out->d = bigger;
    struct dest *d = &bigger[out->n];
    *d = (struct dest){ 0 };
    if (!p || row->via.array.size < 5 || !mp_as_int(&p[0], &node) || node < 0 ||
        node > NODE_MAX || !mp_as_int(&p[2], &port) || port < 1 || port > 65535 ||
        p[4].type != MSGPACK_OBJECT_BIN || p[4].via.bin.size != BULK_KEY)
        return err_set(err, EPROTO, "procspace.copy: a node of the reply is malformed");
    out->n++;
    d->node = (int)node;
    d->port = (uint16_t)port;
    d->addr = mp_dup(&p[1]);
    d->token = mp_dup(&p[3]);
    memcpy(d->key, p[4].via.bin.ptr, BULK_KEY);
    if (!d->addr || !d->token || strlen(d->token) != BULK_TOKEN)
        return err_set(err, EPROTO, "procspace.copy: a ticket of the reply is malformed");
    return 0;
}

struct refusal {
    void (*fn)(void *arg, int node, int code, const char *text);
    void *arg;
    bool patient;
};

static int ask(struct bpcp *b, const nodelist_t *l, struct dests *out, const struct refusal *r,
               nodelist_t *again, struct err *err)
{
    CLEANUP(mp_free) mp_buf body;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    const msgpack_object_array *good, *bad;

    mp_init(&body);
    msgpack_unpacked_init(&reply);
    mp_map(&body, 1);
    mp_key(&body, "nodes");
    mp_array(&body, (uint32_t)l->n);
    for (size_t i = 0; i < l->n; i++)
        mp_int(&body, l->node[i]);
    if (gate_call(b->gate, "procspace.copy", &body, BPCP_TIMEOUT_MS, &reply, err) < 0 ||
        mp_get_array(&reply.data, "nodes", &good, err) < 0 ||
        mp_get_array(&reply.data, "failed", &bad, err) < 0)
        return -1;
    for (uint32_t i = 0; i < good->size; i++)
        if (take_ticket(out, &good->ptr[i], err) < 0)
            return -1;
    for (uint32_t i = 0; i < bad->size; i++) {
        const msgpack_object *o = &bad->ptr[i];
        int64_t node, code;
        if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 3 ||
            !mp_as_int(&o->via.array.ptr[0], &node) || node < 0 || node > NODE_MAX ||
            !mp_as_int(&o->via.array.ptr[1], &code))
            return err_set(err, EPROTO, "procspace.copy: a refusal was not understood");
        CLEANUP(cleanup_free) char *why = mp_dup(&o->via.array.ptr[2]);
        if (r->patient && code == BE_NODEDOWN && nodelist_add(again, (int)node) == 0)
            continue;
        r->fn(r->arg, (int)node, (int)code, why ? why : err_name((int)code));
    }
    return 0;
}

int dests_get(struct bpcp *b, const int *node, size_t n, struct dests *out,
              void (*refused)(void *arg, int node, int code, const char *text), void *arg,
              struct err *err)
{
    struct refusal r = { .fn = refused, .arg = arg, .patient = true };
    int64_t end = now_ms() + PATIENCE_MS;
    nodelist_t want;
    int rc = 0;

    nodelist_init(&want);
    for (size_t i = 0; rc == 0 && i < n; i++)
        if (nodelist_add(&want, node[i]) < 0)
            rc = err_set(err, ENOMEM, "out of memory");
    while (rc == 0 && want.n) {
        nodelist_t again;
        nodelist_init(&again);
        r.patient = now_ms() < end;
        rc = ask(b, &want, out, &r, &again, err);
        nodelist_free(&want);
        want = again;
        if (want.n)
            usleep(AGAIN_MS * 1000);
    }
    nodelist_free(&want);
    if (rc < 0)
        dests_free(out);
    return rc;
}

chan_t *dest_connect(const struct dest *d, struct err *err)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    char path[PATH_MAX];

    cm_path(path, "copy");
    if (strlen(path) >= sizeof sa.sun_path) {
        err_set(err, ENAMETOOLONG, "%s: too long for a socket", path);
        return NULL;
    }
    memcpy(sa.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0 ||
        send(fd, d->token, BULK_TOKEN, MSG_NOSIGNAL) != BULK_TOKEN) {
        /* procspace is being restarted, and the ticket is void: as a lost connection */
        err_set(err, ECONNRESET, "%s: %s", path, strerror(errno));
        cleanup_close(&fd);
        return NULL;
    }
    return chan_plain(fd, err);
}

size_t dests_part(size_t n, size_t i, size_t *from)
{
    size_t parts = n < BPCP_SPREAD ? n : BPCP_SPREAD;

    if (i >= parts)
        return 0;
    *from = n * i / parts;
    return n * (i + 1) / parts - *from;
}

void dests_pack(mp_buf *m, const struct dest *d, size_t n)
{
    size_t from, k;

    mp_array(m, (uint32_t)(n < BPCP_SPREAD ? n : BPCP_SPREAD));
    for (size_t i = 0; (k = dests_part(n, i, &from)); i++) {
        const struct dest *c = &d[from];
        mp_array(m, 6);
        mp_int(m, c->node);
        mp_str(m, c->addr);
        mp_int(m, c->port);
        mp_str(m, c->token);
        mp_bin(m, c->key, BULK_KEY);
        dests_pack(m, c + 1, k - 1);
    }
}

void pack_open(const struct bpcp *b, mp_buf *m, const struct dest *children, size_t n)
{
    const char *dest = b->target.path;
    bool slash = dest[strlen(dest) - 1] == '/';

    mp_map(m, 7);
    mp_kint(m, "version", COPY_VERSION);
    mp_kbin(m, "dest", dest, strlen(dest));
    mp_kbool(m, "must_be_dir", b->nsources > 1 || (slash && !b->recurse));
    mp_kbool(m, "preserve", b->preserve);
    mp_kbin(m, "cwd", b->cwd, strlen(b->cwd));
    mp_kint(m, "umask", b->umask);
    mp_key(m, "children");
    dests_pack(m, children, n);
}
