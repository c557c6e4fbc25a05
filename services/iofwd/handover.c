/* handover.c - a bulk stream leaves for a connection of its own
 *
 * We only bring the two together: the agent gets a ticket, connects and names
 * it, and the connected socket goes to the reader. What is said on it is
 * encrypted under a key that we forget.
 */
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bus/callers.h"
#include "services/iofwd/iofwd.h"

#define TICKET_MS 10000
#define PREAMBLE (BULK_TOKEN + 8)
#define BULK_AGAIN (64u << 20)

struct offer { /* a ticket; the connection, once it was used */
    struct offer *next;
    handover_t *h;
    launch_t *launch;
    uint32_t rank;
    struct bulk_ticket ticket;
    int timer, fd;
};

struct handover {
    struct iofwd *io;
    uint16_t port;
    struct offer *offers;
    callers_t *callers; /* NULL: not listened yet */
};

/* ---- offers ---- */

static void offer_free(struct offer *o)
{
    struct offer **at = &o->h->offers;

    while (*at != o)
        at = &(*at)->next;
    *at = o->next;
    loop_timer_del(o->h->io->loop, o->timer);
    if (o->fd >= 0)
        close(o->fd);
    explicit_bzero(o->ticket.key, sizeof o->ticket.key);
    free(o);
}

static void on_not_used(void *arg)
{
    struct offer *o = arg;
    struct out *out = &o->launch->rank[o->rank].out[0];

    o->timer = 0;
    out->bulk = BULK_NO;
    out->bulk_from = out->next + BULK_AGAIN;
    offer_free(o);
}

void handover_offer(launch_t *l, uint32_t rank)
{
    handover_t *h = l->io->handover;
    struct stream_msg m = { .kind = STREAM_BULK, .fd = 1, .rank = rank, .launch = l->id };
    unsigned char body[BULK_TOKEN + BULK_KEY + 2];
    struct offer *o = h->callers ? calloc(1, sizeof *o) : NULL;

    if (!o)
        return;
    *o = (struct offer){ .next = h->offers, .h = h, .launch = l, .rank = rank,
                          .fd = -1 };
    bulk_ticket_make(&o->ticket);
    o->timer = loop_timer(h->io->loop, TICKET_MS, false, on_not_used, o);
    h->offers = o;
    l->rank[rank].out[0].bulk = BULK_TICKET;
    memcpy(body, o->ticket.token, BULK_TOKEN);
    memcpy(body + BULK_TOKEN, o->ticket.key, BULK_KEY);
    uint16_t port = htole16(h->port);
    memcpy(body + BULK_TOKEN + BULK_KEY, &port, sizeof port);
    nodes_send(h->io->nodes, l->rank[rank].node, &m, body, sizeof body);
    explicit_bzero(body, sizeof body);
}

void handover_forget(handover_t *h, const launch_t *l, uint32_t rank)
{
    for (struct offer *o = h->offers, *next; o; o = next) {
        next = o->next;
        if (o->launch == l && (rank == STREAM_ALL || o->rank == rank))
            offer_free(o);
    }
}

void handover_ready(launch_t *l, uint32_t rank)
{
    handover_t *h = l->io->handover;
    struct offer *o = h->offers;
    struct out *out = &l->rank[rank].out[0];
    struct stream_msg m = { .kind = STREAM_BULK, .fd = 1, .rank = rank, .launch = l->id,
                            .offset = out->bulk_from, .node = l->rank[rank].node };
    unsigned char body[BULK_TOKEN + BULK_KEY];

    while (o && (o->launch != l || o->rank != rank))
        o = o->next;
    if (!o || !l->reader)
        return;
    memcpy(body, o->ticket.token, BULK_TOKEN);
    memcpy(body + BULK_TOKEN, o->ticket.key, BULK_KEY);
    reader_send_fd(l->reader, &m, body, sizeof body, o->fd);
    explicit_bzero(body, sizeof body);
    o->fd = -1;
    out->bulk = BULK_LIVE;
    offer_free(o);
}

/* Its preamble is here: whose is it? */
static void connect_through(handover_t *h, struct caller *c, const unsigned char *said)
{
    struct offer *o = h->offers;
    int on = 1, idle = 10, every = 5, count = 3;
    uint64_t from;

    memcpy(&from, said + BULK_TOKEN, sizeof from);
    from = le64toh(from);
    while (o && memcmp(o->ticket.token, said, BULK_TOKEN) != 0)
        o = o->next;
    if (!o)
        return;
    launch_t *l = o->launch;
    struct out *out = &l->rank[o->rank].out[0];
    if (out->bulk != BULK_TICKET || from < out->next || from > out->granted)
        return; /* the ticket runs out by itself */
    setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
    setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
    loop_fd_del(h->io->loop, c->fd);
    o->fd = c->fd;
    c->fd = -1;
    out->bulk = BULK_WAIT;
    out->bulk_from = from;
    /* DATA comes another way and may be slower: the reader gets the connection
     * behind the last byte from before it. */
    if (out->next == from)
        handover_ready(l, o->rank);
}

static bool on_said(void *arg, struct caller *c)
{
    unsigned char said[PREAMBLE];
    int n = caller_take(c, said, sizeof said);

    if (n > 0)
        connect_through(arg, c, said);
    explicit_bzero(said, sizeof said);
    return n == 0;
}

int handover_listen(handover_t *h, uint16_t port, struct err *err)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
    int on = 1;
    CLEANUP(cleanup_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 64) < 0)
        return err_set(err, errno, "listen on port %u: %s", port, strerror(errno));
    callers_t *callers = callers_open(h->io->loop, fd, PREAMBLE, on_said, h, err);
    fd = -1;
    if (!callers)
        return -1;
    callers_close(&h->callers);
    h->callers = callers;
    h->port = port;
    return 0;
}

handover_t *handover_create(struct iofwd *io, struct err *err)
{
    handover_t *h = calloc(1, sizeof *h);

    if (!h) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    h->io = io;
    return h;
}

void handover_destroy(handover_t **hp)
{
    handover_t *h = *hp;

    if (!h)
        return;
    while (h->offers)
        offer_free(h->offers);
    callers_close(&h->callers);
    free(h);
    *hp = NULL;
}
