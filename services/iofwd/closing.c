/* closing.c - CLOSE: what the reader wants no more of, until the nodes know
 *
 * Nothing answers a CLOSE, and one that is lost would leave a program waiting
 * for ever with a full pipe. So it is said again on each new connection: for a
 * launch that has a reader after OPEN, for one whose reader is gone from a list
 * of goodbyes, kept as long as a broken connection may go unnoticed, or until
 * the node is back.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include "services/iofwd/iofwd.h"

#define ALL_FDS 7
#define SAID_MS 30000     /* a connection may have been broken this long */
#define UNSAID_MS 3600000 /* a node may be away this long */
#define GOODBYES_MAX 65536 /* of each list */

struct goodbye {
    struct goodbye *next;
    uint64_t launch;
    uint32_t uid;
    int node;
    int64_t until;
};

struct list { /* oldest first */
    struct goodbye *first, **end;
    size_t n;
};

struct closings {
    struct iofwd *io;
    struct list said, unsaid;
};

/* The node compares uid with its launch's: whoever wants to close streams has
 * not necessarily been let in to read them. */
static void send_close(struct iofwd *io, int node, uint32_t uid, struct stream_msg *m)
{
    uint32_t body = htole32(uid);

    m->kind = STREAM_CLOSE;
    nodes_send(io->nodes, node, m, &body, sizeof body);
}

/* ---- goodbyes ---- */

static void drop_first(struct list *l)
{
    struct goodbye *g = l->first;

    l->first = g->next;
    if (!l->first)
        l->end = &l->first;
    l->n--;
    free(g);
}

static void remember(struct list *l, const launch_t *launch, int node, int64_t for_ms)
{
    int64_t now = now_ms();
    struct goodbye *g = malloc(sizeof *g);

    while (l->first && (l->first->until < now || l->n == GOODBYES_MAX))
        drop_first(l);
    if (!g)
        return;
    *g = (struct goodbye){ NULL, launch->id, launch->uid, node, now + for_ms };
    *l->end = g;
    l->end = &g->next;
    l->n++;
}

void closing_goodbye(launch_t *l)
{
    closings_t *c = l->io->closings;

    for (uint32_t i = 0; i < l->nnodes; i++) {
        int node = l->lnode[i].node;
        struct stream_msg m = { .flags = STREAM_GONE, .rank = STREAM_ALL, .launch = l->id };
        if (l->lnode[i].none)
            continue;
        send_close(l->io, node, l->uid, &m);
        /* Sending is how we learn that it is away. */
        if (nodes_connected(l->io->nodes, node))
            remember(&c->said, l, node, SAID_MS);
        else
            remember(&c->unsaid, l, node, UNSAID_MS);
    }
}

static void say_again(closings_t *c, struct list *l, int node)
{
    int64_t now = now_ms();

    for (struct goodbye **at = &l->first; *at;) {
        struct goodbye *g = *at;
        struct stream_msg m = { .flags = STREAM_GONE, .rank = STREAM_ALL, .launch = g->launch };
        bool over = g->until < now;
        if (g->node == node && !over) {
            /* A reader may have opened it again since. */
            if (!launches_find(c->io->launches, g->launch))
                send_close(c->io, node, g->uid, &m);
            over = true;
        }
        if (!over) {
            at = &g->next;
            continue;
        }
        *at = g->next;
        if (!*at)
            l->end = at;
        l->n--;
        free(g);
    }
}

void closing_node_here(closings_t *c, int node)
{
    say_again(c, &c->said, node);
    say_again(c, &c->unsaid, node);
}

/* ---- of a launch that is read on ---- */

static void send_bits(launch_t *l, int node, uint32_t rank, uint8_t closed)
{
    struct stream_msg m = { .rank = rank, .launch = l->id };

    if (closed == ALL_FDS) {
        m.flags = STREAM_GONE;
        send_close(l->io, node, l->uid, &m);
        return;
    }
    for (uint8_t fd = 0; fd <= 2; fd++)
        if (closed & 1 << fd) {
            m.fd = fd;
            send_close(l->io, node, l->uid, &m);
        }
}

void closing_reopen(launch_t *l, struct lnode *at)
{
    send_bits(l, at->node, STREAM_ALL, l->closed);
    for (uint32_t i = 0; i < at->count; i++) {
        uint32_t rank = l->by_node[at->first + i];
        send_bits(l, at->node, rank, l->rank[rank].closed);
    }
}

static void close_rank(launch_t *l, uint32_t rank, uint8_t closed)
{
    struct rank *r = &l->rank[rank];

    if (r->node < 0)
        return;
    struct lnode *at = &l->lnode[r->at];
    bool takes_input = !(r->closed & 1);
    r->closed |= closed;
    send_bits(l, r->node, rank, closed);
    if (takes_input && (closed & 1) && --at->open == 0) {
        at->gone = at->answered = true;
        input_fold(l);
    }
}

int closing_from_reader(launch_t *l, const struct stream_msg *m, struct err *err)
{
    uint8_t closed = m->flags & STREAM_GONE ? ALL_FDS : (uint8_t)(1 << m->fd);

    if (m->rank != STREAM_ALL && m->rank >= l->nranks)
        return err_set(err, EPROTO, "CLOSE: rank %u of %u", m->rank, l->nranks);
    if (m->rank != STREAM_ALL) {
        close_rank(l, m->rank, closed);
    } else if (closed == ALL_FDS) {
        reader_set_launch(l->reader, NULL);
        launch_end(l, true);
    } else {
        l->closed |= closed;
        for (uint32_t i = 0; i < l->nnodes; i++)
            send_bits(l, l->lnode[i].node, STREAM_ALL, closed);
    }
    return 0;
}

/* ---- making and ending ---- */

closings_t *closings_create(struct iofwd *io, struct err *err)
{
    closings_t *c = calloc(1, sizeof *c);

    if (!c) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    c->io = io;
    c->said.end = &c->said.first;
    c->unsaid.end = &c->unsaid.first;
    return c;
}

void closings_destroy(closings_t **cp)
{
    closings_t *c = *cp;

    if (!c)
        return;
    while (c->said.first)
        drop_first(&c->said);
    while (c->unsaid.first)
        drop_first(&c->unsaid);
    free(c);
    *cp = NULL;
}
