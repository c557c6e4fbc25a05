/* bpinit_ghosts.c - what the bpghosts of this node say and ask
 *
 * Those that stand for somebody who is elsewhere: for a child of a process here, or
 * for a process that has left children here. They speak as they do on the master
 * (node/bpghost.c), but with us: GATE for what they have to tell, MOVE, beside it,
 * for the image of a process that comes back into its place. The kernel says who
 * asks. Each request is one connection, and is answered at once.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/callers.h"
#include "bus/pkt.h"
#include "bus/wire.h"
#include "node/bpinit_kids.h"
#include "node/bpinit_kin.h"

#define HEARD 1024 /* requests, which may be said again */

struct ghosts {
    struct init *in;
    callers_t *gate, *move;
    struct {
        pid_t npid;
        uint64_t id;
    } heard[HEARD];
    unsigned n;
};

static bool heard_before(ghosts_t *g, pid_t npid, uint64_t id)
{
    for (unsigned i = 0; i < HEARD; i++)
        if (g->heard[i].id == id && g->heard[i].npid == npid)
            return true;
    g->heard[g->n % HEARD].npid = npid;
    g->heard[g->n++ % HEARD].id = id;
    return false;
}

/* What wait() has said to one. */
static int child(struct init *in, pid_t npid, const msgpack_object *body, struct err *err)
{
    static const struct rusage none;
    int64_t pid, status;

    if (mp_get_int(body, "pid", 2, INT32_MAX, &pid, err) < 0 ||
        mp_get_int(body, "status", 0, 0xffff, &status, err) < 0)
        return -1;
    kin_left_child(in, npid, (pid_t)pid, (int)status, &none);
    return 0;
}

static int act(ghosts_t *g, const struct caller *k, const struct wire *w,
               const msgpack_object *body, mp_buf *reply, struct err *err)
{
    struct init *in = g->in;

    mp_nil(reply);
    if (strcmp(w->topic, "procspace.ghost") == 0) {
        msgpack_sbuffer_clear(&reply->b);
        arrival_order(in->arrivals, k->pid, reply);
        return 0;
    }
    if (heard_before(g, k->pid, w->id))
        return 0;
    if (strcmp(w->topic, "procspace.here") == 0) {
        stand_here(in, k->pid);
        return 0;
    }
    if (strcmp(w->topic, "procspace.orphan") == 0) /* its maker has: it is still wanted */
        return 0;
    if (strcmp(w->topic, "procspace.signal") == 0)
        return stand_cry(in, k->pid, body, err);
    if (strcmp(w->topic, "procspace.child") == 0)
        return child(in, k->pid, body, err);
    return err_set(err, ENOSYS, "%s: not here", w->topic);
}

static void answer(ghosts_t *g, const struct caller *k, const struct wire *asked,
                   const msgpack_object *body)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(mp_free) mp_buf reply;
    struct wire w = *asked;
    struct err err = { 0 };

    mp_init(&m);
    mp_init(&reply);
    w.kind = act(g, k, asked, body, &reply, &err) < 0 ? WIRE_ERROR : WIRE_REPLY;
    wire_pack(&m, &w);
    if (w.kind == WIRE_ERROR) {
        mp_array(&m, 2);
        mp_int(&m, err.code);
        mp_str(&m, err.text);
    } else {
        msgpack_sbuffer_write(&m.b, reply.b.data, reply.b.size);
    }
    pkt_send(k->fd, m.b.data, m.b.size, NULL, 0, NULL);
}

static bool on_question(void *arg, struct caller *k)
{
    struct pkt p;
    struct wire w;
    size_t used;
    struct err err = { 0 };

    if (pkt_recv(k->fd, &p, &err) <= 0)
        return false;
    if (k->pid > 1 && wire_unpack(&w, p.data, p.len, &used, &err) == 0 &&
        w.kind == WIRE_REQUEST) {
        CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked u;
        msgpack_unpacked_init(&u);
        if (mp_decode(&u, p.data + used, p.len - used, &err) == 0)
            answer(arg, k, &w, &u.data);
    }
    pkt_clear(&p);
    return false;
}

static bool on_token(void *arg, struct caller *k)
{
    const ghosts_t *g = arg;
    struct pkt p;

    if (pkt_recv(k->fd, &p, NULL) <= 0)
        return false;
    if (arrival_fetch(g->in->arrivals, k->pid, k->fd, p.data, p.len))
        k->fd = -1; /* what there is to say comes there */
    pkt_clear(&p);
    return false;
}

static callers_t *listener(ghosts_t *g, const char *path, callers_fn *fn, struct err *err)
{
    int fd = pkt_listen(path, 0666, err);

    return fd < 0 ? NULL : callers_open(g->in->loop, fd, 0, fn, g, err);
}

int ghosts_open(struct init *in, struct err *err)
{
    ghosts_t *g = calloc(1, sizeof *g);

    if (!g)
        return err_set(err, ENOMEM, "out of memory");
    g->in = in;
    in->ghosts = g;
    if ((mkdir(NODE_RUN, 0755) < 0 && errno != EEXIST) ||
        (mkdir(NODE_RUN "/kin", 0755) < 0 && errno != EEXIST))
        return err_set(err, errno, NODE_RUN "/kin: %s", strerror(errno));
    g->gate = listener(g, KIN_GATE, on_question, err);
    g->move = g->gate ? listener(g, NODE_RUN "/kin/move", on_token, err) : NULL;
    return g->move ? 0 : -1;
}

void ghosts_close(struct init *in)
{
    ghosts_t *g = in->ghosts;

    if (!g)
        return;
    callers_close(&g->gate);
    callers_close(&g->move);
    free(g);
    in->ghosts = NULL;
}
