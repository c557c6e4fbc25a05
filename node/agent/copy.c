/* copy.c - node.N.copy: tickets for bpcopy, and the port where they are shown;
 * tickets for images, too
 *
 * {uid, gid, groups} -> {port, token, key}. Whoever connects says the token
 * first, in clear; it opens once, and a bpcopy of that user gets the connection
 * (copy/bpcopy.c), where TLS proves the key.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "copy/copy.h"
#include "image/pump.h"
#include "node/agent/agent.h"

#define TICKET_MS 60000
#define TICKETS_MAX 4096
#define TOKEN_MS 5000 /* for a caller to say its token */
#define CALLERS_MAX 256

struct ticket {
    struct copy_peer peer;
    int64_t made;
    struct pump_plan *image; /* it is for one; NULL: for a bpcopy */
    struct ticket *next;
    uint64_t launch; /* of an image */
};

struct caller { /* has not said its token yet */
    copies_t *c;
    int fd, timer;
    struct caller *next;
};

struct copies {
    agent_t *a;
    int listener;
    struct ticket *tickets; /* newest first */
    size_t ntickets, ncallers;
    struct caller *callers;
    struct copy_procs *procs;
};

static void ticket_free(copies_t *c, struct ticket **at)
{
    struct ticket *t = *at;

    *at = t->next;
    c->ntickets--;
    for (size_t i = 0; t->image && i < t->image->outs; i++)
        close(t->image->out[i]); /* who waits there sees that nothing comes */
    if (t->image)
        free(t->image->out);
    free(t->image);
    copy_peer_free(&t->peer);
    free(t);
}

static void caller_free(struct caller *k)
{
    struct caller **at = &k->c->callers;

    while (*at != k)
        at = &(*at)->next;
    *at = k->next;
    k->c->ncallers--;
    loop_timer_del(k->c->a->loop, k->timer);
    loop_fd_del(k->c->a->loop, k->fd);
    close(k->fd);
    free(k);
}

static void on_silent(void *arg)
{
    struct caller *k = arg;

    k->timer = 0;
    caller_free(k);
}

static void begin_image(struct ticket *t, int fd)
{
    struct pump_plan *p = t->image;
    struct err err = { 0 };

    p->conn = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    p->ticket = t->peer.ticket;
    if (pump_start(p, &err) < 0)
        svc_log("warning", "an image: %s", err.text);
    p->out = NULL;
    p->outs = 0;
}

static void begin(copies_t *c, int fd, const char *token)
{
    struct err err = { 0 };

    for (struct ticket **at = &c->tickets; *at; at = &(*at)->next) {
        struct copy_peer *p = &(*at)->peer;
        if (strcmp(p->ticket.token, token) != 0)
            continue;
        p->node = c->a->node;
        if ((*at)->image) {
            begin_image(*at, fd);
            ticket_free(c, at);
            return;
        }
        if (copy_procs_start(c->procs, "node", fd, c->a->root_fd, p, &err) < 0)
            svc_log("warning", "a copy: %s", err.text);
        ticket_free(c, at);
        return;
    }
    svc_log("warning", "a copy: a ticket that is not known, or was used, was shown");
}

/* The token is there whole in the first packet or soon: only looked at until
 * then, so that nothing of what follows it is taken. */
static void on_token(void *arg, int fd, uint32_t events)
{
    struct caller *k = arg;
    char token[BULK_TOKEN + 1] = "";
    int one = 1;
    ssize_t n = recv(fd, token, BULK_TOKEN, MSG_PEEK | MSG_DONTWAIT);

    (void)events;
    if (n > 0 && n < BULK_TOKEN)
        return;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == BULK_TOKEN && recv(fd, token, BULK_TOKEN, MSG_DONTWAIT) == n &&
        setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one) == 0)
        begin(k->c, fd, token);
    caller_free(k);
}

static void on_call(void *arg, int fd, uint32_t events)
{
    copies_t *c = arg;
    int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    int least = BULK_TOKEN;

    (void)events;
    if (conn < 0)
        return;
    struct caller *k = c->ncallers < CALLERS_MAX ? calloc(1, sizeof *k) : NULL;
    /* Readable only with a whole token: no turn of the loop for a part of it. */
    if (!k || setsockopt(conn, SOL_SOCKET, SO_RCVLOWAT, &least, sizeof least) < 0) {
        free(k);
        close(conn);
        return;
    }
    k->c = c;
    k->fd = conn;
    k->next = c->callers;
    c->callers = k;
    c->ncallers++;
    k->timer = loop_timer(c->a->loop, TOKEN_MS, false, on_silent, k);
    if (loop_fd(c->a->loop, conn, EPOLLIN, on_token, k, NULL) < 0)
        caller_free(k);
}

copies_t *copies_create(agent_t *a, struct err *err)
{
    copies_t *c = calloc(1, sizeof *c);
    int one = 1;

    if (!c || !(c->procs = copy_procs_create(a->loop))) {
        free(c);
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    c->a = a;
    struct sockaddr_in sa = { .sin_family = AF_INET,
                              .sin_port = htons((uint16_t)(a->master_port + CM_PORT_CONTENT)) };
    c->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->listener < 0 ||
        setsockopt(c->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind(c->listener, (struct sockaddr *)&sa, sizeof sa) < 0 ||
        listen(c->listener, 128) < 0 ||
        loop_fd(a->loop, c->listener, EPOLLIN, on_call, c, NULL) < 0) {
        /* An agent beside a master has its port taken: no copies to it, all else works. */
        svc_log("warning", "no files can be copied to this node: port %u: %s",
                ntohs(sa.sin_port), strerror(errno));
        cleanup_close(&c->listener);
    }
    return c;
}

void copies_destroy(copies_t **cp)
{
    copies_t *c = *cp;

    if (!c)
        return;
    while (c->callers)
        caller_free(c->callers);
    while (c->tickets)
        ticket_free(c, &c->tickets);
    copy_procs_destroy(&c->procs);
    if (c->listener >= 0) {
        loop_fd_del(c->a->loop, c->listener);
        close(c->listener);
    }
    free(c);
    *cp = NULL;
}

static void expire(copies_t *c)
{
    int64_t now = now_ms();

    for (struct ticket **at = &c->tickets; *at;)
        if (now - (*at)->made > TICKET_MS)
            ticket_free(c, at);
        else
            at = &(*at)->next;
}

static struct ticket *ticket_new(copies_t *c, struct err *err)
{
    if (c->listener < 0) {
        err_set(err, EADDRINUSE, "the port for copies is taken on this node");
        return NULL;
    }
    expire(c);
    if (c->ntickets >= TICKETS_MAX) {
        err_set(err, EAGAIN, "too many copies at once");
        return NULL;
    }
    struct ticket *t = calloc(1, sizeof *t);
    if (!t)
        err_set(err, ENOMEM, "out of memory");
    return t;
}

static void ticket_add(copies_t *c, struct ticket *t)
{
    bulk_ticket_make(&t->peer.ticket);
    t->made = now_ms();
    t->next = c->tickets;
    c->tickets = t;
    c->ntickets++;
}

uint16_t copies_port(const copies_t *c)
{
    return c->listener < 0 ? 0 : (uint16_t)(c->a->master_port + CM_PORT_CONTENT);
}

int copies_image(copies_t *c, uint64_t launch, int *out, size_t outs,
                 struct bulk_ticket *ticket, struct err *err)
{
    struct ticket *t = ticket_new(c, err);

    if (!t)
        return -1;
    t->image = calloc(1, sizeof *t->image);
    if (!t->image) {
        free(t);
        return err_set(err, ENOMEM, "out of memory");
    }
    *t->image = (struct pump_plan){ .in = -1, .conn = -1, .out = out, .outs = outs };
    t->launch = launch;
    ticket_add(c, t);
    *ticket = t->peer.ticket;
    return 0;
}

void copies_image_cut(copies_t *c, uint64_t launch)
{
    for (struct ticket **at = &c->tickets; *at;)
        if ((*at)->image && (*at)->launch == launch)
            ticket_free(c, at);
        else
            at = &(*at)->next;
}

int copies_image_on(copies_t *c, const char *token, const struct pump_dial *d, size_t n,
                    struct err *err)
{
    struct ticket *t = c->tickets;

    while (t && (!t->image || strcmp(t->peer.ticket.token, token) != 0))
        t = t->next;
    if (!t)
        return err_set(err, ENOENT, "no image is expected here under this ticket");
    if (n > PUMP_DIALS)
        return err_set(err, EINVAL, "an image goes on to %d at most", PUMP_DIALS);
    memcpy(t->image->dial, d, n * sizeof *d);
    t->image->dials = n;
    return 0;
}

int on_copy(void *self, struct svc_req *req, struct err *err)
{
    agent_t *a = self;
    copies_t *c = a->copies;
    struct ticket *t = ticket_new(c, err);

    if (!t)
        return -1;
    if (copy_peer_user(&t->peer, req->body, err) < 0) {
        free(t);
        return -1;
    }
    ticket_add(c, t);
    mp_map(req->reply, 3);
    mp_kint(req->reply, "port", a->master_port + CM_PORT_CONTENT);
    mp_kstr(req->reply, "token", t->peer.ticket.token);
    mp_kbin(req->reply, "key", t->peer.ticket.key, BULK_KEY);
    return 0;
}
