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
#include "bus/callers.h"
#include "bus/rundir.h"
#include "copy/copy.h"
#include "image/pump.h"
#include "node/agent/agent.h"

#define TICKET_MS 60000
#define TICKETS_MAX 4096

struct ticket {
    struct copy_peer peer;
    int64_t made;
    struct pump_plan *image; /* it is for one; NULL: for a bpcopy */
    struct ticket *next;
    uint64_t launch; /* of an image */
    size_t gone;     /* who waited for it, and do no more */
};

struct copies {
    agent_t *a;
    struct ticket *tickets; /* newest first */
    size_t ntickets;
    callers_t *callers; /* NULL: nobody can be listened to */
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

static bool on_token(void *arg, struct caller *k)
{
    char token[BULK_TOKEN + 1] = "";
    int n = caller_take(k, token, BULK_TOKEN);

    if (n > 0)
        begin(arg, k->fd, token);
    return n == 0;
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
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bulk_near(fd);
    if (fd >= 0 && (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
                    bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0 || listen(fd, 128) < 0)) {
        err_set(err, errno, "%s", strerror(errno));
        cleanup_close(&fd);
    } else if (fd < 0) {
        err_set(err, errno, "%s", strerror(errno));
    }
    if (fd >= 0)
        c->callers = callers_open(a->loop, fd, BULK_TOKEN, on_token, c, err);
    if (!c->callers) /* beside a master its port is taken: no copies to it, all else works */
        svc_log("warning", "no files can be copied to this node: port %u: %s",
                ntohs(sa.sin_port), err->text);
    return c;
}

void copies_destroy(copies_t **cp)
{
    copies_t *c = *cp;

    if (!c)
        return;
    callers_close(&c->callers);
    while (c->tickets)
        ticket_free(c, &c->tickets);
    copy_procs_destroy(&c->procs);
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
    if (!c->callers) {
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
    return !c->callers ? 0 : (uint16_t)(c->a->master_port + CM_PORT_CONTENT);
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

void copies_image_stop(copies_t *c, const char *token)
{
    for (struct ticket **at = &c->tickets; *at; at = &(*at)->next)
        if ((*at)->image && strcmp((*at)->peer.ticket.token, token) == 0) {
            ticket_free(c, at);
            return;
        }
    pump_cut(token); /* it has begun, or has come */
}

void copies_image_gone(copies_t *c, uint64_t launch)
{
    for (struct ticket **at = &c->tickets; *at; at = &(*at)->next)
        if ((*at)->image && (*at)->launch == launch) {
            if (++(*at)->gone >= (*at)->image->outs)
                ticket_free(c, at);
            return;
        }
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
