/* gate.c - the gate: plain SOCK_SEQPACKET for programs that must not load ZeroMQ
 *
 * One packet a request, one packet an answer or event. Who asks is the
 * kernel's word (SO_PEERCRED). A client that does not read is dropped when
 * QUEUE_MAX bytes wait for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bus/busd/busd.h"
#include "bus/pkt.h"
#include "bus/rundir.h"
#include "bus/svc.h"

#define QUEUE_MAX (16u * 1024 * 1024)
#define BATCH 16 /* packets of one client before the others get a turn */
#define ACCEPT_PAUSE_MS 200
/* What one user's requests may be in all, so that others are heard: bytes, and
 * as much again for each request. Nobody who works comes near it. */
#define CREDIT_MAX (64 << 20)
#define CREDIT_MS (CREDIT_MAX / 1000) /* grows back by this a millisecond */
#define REQUEST_COST 1024
#define PAUSE_MS 20

struct waiting {
    struct waiting *next;
    size_t len;
    char data[];
};

struct user {
    uid_t uid;
    size_t clients;
    int64_t credit, at; /* as it was at now_ms() */
    struct user *next;
};

struct client {
    gatesrv_t *g;
    struct user *user;
    bool paused; /* not read, for want of credit */
    int fd;
    uint64_t id;
    struct ucred who;
    char **prefix;
    size_t prefixes;
    struct waiting *first, **last;
    size_t queued;
    struct client *next, **link;
};

struct gatesrv {
    loop_t *loop;
    busd_t *bus;
    int listener;
    uint64_t next_id;
    struct client *bucket[1024];
    size_t nsubscribed;
    struct user *users;
    size_t user_max; /* connections of one user; root: no limit */
    int pause_timer, credit_timer;
};

/* ---- users ---- */

static bool has_credit(struct user *u)
{
    int64_t now = now_ms();

    if (u->uid == 0)
        return true;
    u->credit += (now - u->at) * CREDIT_MS;
    u->at = now;
    if (u->credit > CREDIT_MAX)
        u->credit = CREDIT_MAX;
    return u->credit > 0;
}

/* Without connections, and nothing owed: not worth remembering. */
static void users_sweep(gatesrv_t *g)
{
    for (struct user **p = &g->users; *p;) {
        struct user *u = *p;
        if (u->clients || !has_credit(u)) {
            p = &u->next;
        } else {
            *p = u->next;
            free(u);
        }
    }
}

static struct user *user_get(gatesrv_t *g, uid_t uid)
{
    struct user *u = g->users;

    while (u && u->uid != uid)
        u = u->next;
    if (u)
        return u;
    users_sweep(g);
    if ((u = calloc(1, sizeof *u))) {
        *u = (struct user){ .uid = uid, .credit = CREDIT_MAX, .at = now_ms(), .next = g->users };
        g->users = u;
    }
    return u;
}

/* ---- clients ---- */

static void client_drop(struct client *c)
{
    loop_fd_del(c->g->loop, c->fd);
    close(c->fd);
    c->user->clients--;
    if (c->prefixes)
        c->g->nsubscribed--;
    for (size_t i = 0; i < c->prefixes; i++)
        free(c->prefix[i]);
    free(c->prefix);
    while (c->first) {
        struct waiting *n = c->first->next;
        free(c->first);
        c->first = n;
    }
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    free(c);
}

static void make_route(const struct client *c, unsigned char out[9])
{
    out[0] = ROUTE_GATE;
    memcpy(out + 1, &c->id, 8);
}

static struct client *client_of(gatesrv_t *g, const void *route, size_t len)
{
    uint64_t id;

    if (len != 9)
        return NULL;
    memcpy(&id, (const char *)route + 1, 8);
    struct client *c = g->bucket[id % 1024];
    while (c && c->id != id)
        c = c->next;
    return c;
}

/* False: it makes no sense, so neither will what follows. */
static bool on_packet(struct client *c, const struct pkt *p)
{
    unsigned char route[9];
    struct wire w;
    struct err err = { 0 };
    size_t used;

    if (wire_unpack(&w, p->data, p->len, &used, &err) < 0) {
        /* No envelope, so no id to answer under: a broken client. */
        svc_log("warning", "gate: pid %d uid %u sent no envelope: %s", c->who.pid,
                c->who.uid, err.text);
        return false;
    }
    if (w.kind != WIRE_REQUEST)
        return true; /* programs ask; they answer and publish nothing */
    w.uid = c->who.uid;
    w.gid = c->who.gid;
    w.pid = c->who.pid;
    w.node = -1;
    w.from[0] = w.addr[0] = 0;
    make_route(c, route);
    route_request(c->g->bus, route, sizeof route, &w, p->data + used, p->len - used, NULL);
    return true;
}

static void flush(struct client *c, struct err *err)
{
    while (c->first) {
        struct waiting *q = c->first;
        if (pkt_send(c->fd, q->data, q->len, NULL, 0, err) < 0)
            return;
        c->first = q->next;
        c->queued -= q->len;
        free(q);
    }
    c->last = &c->first;
}

static void on_client(void *arg, int fd, uint32_t events);

static void watch(struct client *c, bool writing)
{
    loop_fd(c->g->loop, c->fd, (c->paused ? 0u : EPOLLIN) | (writing ? EPOLLOUT : 0u),
            on_client, c, NULL);
}

static void on_credit(void *arg)
{
    gatesrv_t *g = arg;
    bool more = false;

    g->credit_timer = 0;
    for (int b = 0; b < 1024; b++)
        for (struct client *c = g->bucket[b]; c; c = c->next) {
            if (!c->paused)
                continue;
            if (has_credit(c->user)) {
                c->paused = false;
                watch(c, c->first != NULL);
            } else {
                more = true;
            }
        }
    if (more)
        g->credit_timer = loop_timer(g->loop, PAUSE_MS, false, on_credit, g);
}

static void pause_client(struct client *c)
{
    c->paused = true;
    watch(c, c->first != NULL);
    if (!c->g->credit_timer)
        c->g->credit_timer = loop_timer(c->g->loop, PAUSE_MS, false, on_credit, c->g);
}

static void on_client(void *arg, int fd, uint32_t events)
{
    struct client *c = arg;
    gatesrv_t *g = c->g;
    uint64_t id = c->id;
    unsigned char route[9];
    struct err err = { 0 };

    make_route(c, route);
    if (events & EPOLLOUT) {
        flush(c, &err);
        watch(c, c->first != NULL);
        if (err.code && err.code != EAGAIN) {
            client_drop(c);
            return;
        }
    }
    if (c->paused && (events & (EPOLLHUP | EPOLLERR))) {
        client_drop(c); /* gone, and what it has left is more than its share */
        return;
    }
    for (int i = 0; i < BATCH && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)); i++) {
        struct pkt p;
        if (!has_credit(c->user)) {
            pause_client(c);
            return;
        }
        int n = pkt_recv(fd, &p, &err);
        if (n < 0 && err.code == EAGAIN)
            return;
        if (n <= 0) {
            client_drop(c);
            return;
        }
        c->user->credit -= REQUEST_COST + (int64_t)p.len;
        bool sense = on_packet(c, &p);
        pkt_clear(&p);
        /* answering may have dropped the client */
        c = client_of(g, route, sizeof route);
        if (!c || c->id != id)
            return;
        if (!sense) {
            client_drop(c);
            return;
        }
    }
}

/* One user must not take all descriptors. */
static bool too_many(const gatesrv_t *g, const struct user *u)
{
    if (u->uid == 0 || u->clients < g->user_max)
        return false;
    svc_log("warning", "gate: user %u has %zu connections: no more", u->uid, g->user_max);
    return true;
}

static void on_accept(void *arg, int fd, uint32_t events);

static void listen_again(void *arg)
{
    gatesrv_t *g = arg;
    struct err err = { 0 };

    g->pause_timer = 0;
    if (loop_fd(g->loop, g->listener, EPOLLIN, on_accept, g, &err) < 0)
        svc_log("error", "gate: %s", err.text);
}

static void on_accept(void *arg, int fd, uint32_t events)
{
    gatesrv_t *g = arg;
    socklen_t len = sizeof(struct ucred);

    (void)events;
    for (int i = 0; i < BATCH; i++) {
        int s = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (s < 0) {
            if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
                return;
            /* No descriptors left: who waits is heard when there are some. */
            svc_log("error", "gate: accept: %s", strerror(errno));
            loop_fd_del(g->loop, fd);
            g->pause_timer = loop_timer(g->loop, ACCEPT_PAUSE_MS, false, listen_again, g);
            return;
        }
        struct client *c = calloc(1, sizeof *c);
        if (!c || getsockopt(s, SOL_SOCKET, SO_PEERCRED, &c->who, &len) < 0 ||
            !(c->user = user_get(g, c->who.uid)) || too_many(g, c->user)) {
            free(c);
            close(s);
            continue;
        }
        c->g = g;
        c->user->clients++;
        c->fd = s;
        c->id = g->next_id++;
        c->last = &c->first;
        c->link = &g->bucket[c->id % 1024];
        c->next = *c->link;
        if (c->next)
            c->next->link = &c->next;
        *c->link = c;
        watch(c, false);
    }
}

/* False: the client was dropped. */
static bool client_send(struct client *c, const struct wire *w, const void *body, size_t len)
{
    CLEANUP(mp_free) mp_buf m;
    struct err err = { 0 };

    mp_init(&m);
    wire_pack(&m, w);
    msgpack_sbuffer_write(&m.b, body, len);
    if (!c->first) {
        if (pkt_send(c->fd, m.b.data, m.b.size, NULL, 0, &err) == 0)
            return true;
        if (err.code != EAGAIN) {
            client_drop(c);
            return false;
        }
    }
    struct waiting *q = NULL;
    if (c->queued + m.b.size <= QUEUE_MAX)
        q = malloc(sizeof *q + m.b.size);
    if (!q) {
        svc_log("warning", "gate: pid %d uid %u does not read its answers: dropped",
                c->who.pid, c->who.uid);
        client_drop(c);
        return false;
    }
    q->next = NULL;
    q->len = m.b.size;
    memcpy(q->data, m.b.data, m.b.size);
    *c->last = q;
    c->last = &q->next;
    c->queued += q->len;
    watch(c, true);
    return true;
}

void gatesrv_answer(gatesrv_t *g, const void *route, size_t route_len, const struct wire *w,
                    const void *body, size_t len)
{
    struct client *c = client_of(g, route, route_len);
    if (c)
        client_send(c, w, body, len);
}

void gatesrv_event(gatesrv_t *g, const struct wire *w, const void *body, size_t len)
{
    if (!g->nsubscribed)
        return;
    for (int b = 0; b < 1024; b++)
        for (struct client *c = g->bucket[b], *next; c; c = next) {
            next = c->next;
            for (size_t i = 0; i < c->prefixes; i++)
                if (strncmp(w->topic, c->prefix[i], strlen(c->prefix[i])) == 0) {
                    client_send(c, w, body, len);
                    break;
                }
        }
}

int gatesrv_subscribe(gatesrv_t *g, const void *route, size_t route_len, const char *prefix,
                      struct err *err)
{
    struct client *c = client_of(g, route, route_len);

    if (!c)
        return err_set(err, EPIPE, "the subscriber has gone");
    if (c->prefixes >= 16)
        return err_set(err, ENOSPC, "no more than 16 event prefixes a connection");
    char **p = realloc(c->prefix, (c->prefixes + 1) * sizeof *p);
    char *copy = strdup(prefix);
    if (p)
        c->prefix = p;
    if (!p || !copy) {
        free(copy);
        return err_set(err, ENOMEM, "out of memory");
    }
    if (!c->prefixes)
        g->nsubscribed++;
    c->prefix[c->prefixes++] = copy;
    return 0;
}

gatesrv_t *gatesrv_create(loop_t *l, busd_t *b, struct err *err)
{
    char path[PATH_MAX];
    gatesrv_t *g = calloc(1, sizeof *g);

    if (!g) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    g->loop = l;
    g->bus = b;
    /* Ids of an earlier busd must not be met again: its late answers. */
    g->next_id = (uint64_t)wall_ms() << 20;
    struct rlimit files = { .rlim_cur = 1024 };
    getrlimit(RLIMIT_NOFILE, &files);
    g->user_max = files.rlim_cur / 4;
    g->listener = pkt_listen(cm_path(path, "gate"), 0666, err);
    if (g->listener < 0 || fcntl(g->listener, F_SETFL, O_NONBLOCK) < 0 ||
        loop_fd(l, g->listener, EPOLLIN, on_accept, g, err) < 0) {
        free(g);
        return NULL;
    }
    return g;
}

void gatesrv_destroy(gatesrv_t **gp)
{
    gatesrv_t *g = *gp;

    if (!g)
        return;
    for (int b = 0; b < 1024; b++)
        while (g->bucket[b])
            client_drop(g->bucket[b]);
    while (g->users) {
        struct user *u = g->users;
        g->users = u->next;
        free(u);
    }
    loop_timer_del(g->loop, g->pause_timer);
    loop_timer_del(g->loop, g->credit_timer);
    loop_fd_del(g->loop, g->listener);
    close(g->listener);
    free(g);
    *gp = NULL;
}
