/* launch.c - one launch of one reader: its ranks, its nodes, its life
 *
 * Everything here can be made again from what a reader says in OPEN and what
 * its nodes answer: a restart of iofwd loses nothing but this memory.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/le.h"
#include "bus/nodespec.h"
#include "services/iofwd/iofwd.h"

#define BUCKETS 1024
#define COME_BACK_MS 10000
#define OPEN_ENTRY 28       /* bytes a rank in a reader's OPEN */
#define NODE_ENTRY 32       /* ... in an OPEN to a node */
#define NODE_ENTRIES ((STREAM_BODY_MAX - 8) / NODE_ENTRY)

struct launches {
    struct iofwd *io;
    launch_t *bucket[BUCKETS];
    uint32_t n;
};

/* ---- the table ---- */

static launch_t **slot(const launches_t *ls, uint64_t id)
{
    return (launch_t **)&ls->bucket[(id ^ id >> 17) % BUCKETS];
}

launch_t *launches_find(const launches_t *ls, uint64_t id)
{
    launch_t *l = *slot(ls, id);

    while (l && l->id != id)
        l = l->next;
    return l;
}

void launches_each(launches_t *ls, void (*fn)(void *arg, launch_t *l), void *arg)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (launch_t *l = ls->bucket[i], *next; l; l = next) {
            next = l->next;
            fn(arg, l);
        }
}

uint32_t launches_count(const launches_t *ls) { return ls->n; }

launches_t *launches_create(struct iofwd *io, struct err *err)
{
    launches_t *ls = calloc(1, sizeof *ls);

    if (!ls)
        err_set(err, ENOMEM, "out of memory");
    else
        ls->io = io;
    return ls;
}

static void launch_free(launch_t *l)
{
    if (l->pidfd >= 0) {
        loop_fd_del(l->io->loop, l->pidfd);
        close(l->pidfd);
    }
    loop_timer_del(l->io->loop, l->back_timer);
    free(l->rank);
    free(l->lnode);
    free(l->by_node);
    free(l->starved);
    free(l);
}

static void free_one(void *arg, launch_t *l)
{
    (void)arg;
    launch_free(l);
}

void launches_destroy(launches_t **lsp)
{
    launches_t *ls = *lsp;

    if (!ls)
        return;
    launches_each(ls, free_one, NULL);
    free(ls);
    *lsp = NULL;
}

/* ---- nodes of a launch ---- */

struct lnode *launch_lnode(launch_t *l, int node)
{
    return node_row(l->lnode, l->nnodes, sizeof *l->lnode, node);
}

struct pair {
    int32_t node;
    uint32_t rank;
};

static int by_pair(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;

    if (x->node != y->node)
        return x->node < y->node ? -1 : 1;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* Which ranks are on which node, once all are known. Ranks on the master are
 * the reader's own business. */
static int index_nodes(launch_t *l, struct err *err)
{
    uint32_t n = l->nranks;
    CLEANUP(cleanup_free) struct pair *p = calloc(n, sizeof *p);

    l->by_node = calloc(n, sizeof *l->by_node);
    l->lnode = calloc(n, sizeof *l->lnode);
    if (!p || !l->by_node || !l->lnode)
        return err_set(err, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < n; i++)
        p[i] = (struct pair){ l->rank[i].node, i };
    qsort(p, n, sizeof *p, by_pair);
    for (uint32_t i = 0; i < n; i++) {
        l->by_node[i] = p[i].rank;
        if (p[i].node < 0)
            continue;
        if (!l->nnodes || l->lnode[l->nnodes - 1].node != p[i].node)
            l->lnode[l->nnodes++] = (struct lnode){ .node = p[i].node, .first = i };
        struct lnode *at = &l->lnode[l->nnodes - 1];
        at->count++;
        at->open++;
        l->rank[p[i].rank].at = l->nnodes - 1;
    }
    struct lnode *less = realloc(l->lnode, (l->nnodes ? l->nnodes : 1) * sizeof *less);
    if (less)
        l->lnode = less;
    return 0;
}

/* OPEN for ranks [from, from + n) of a node's. */
static void open_part(launch_t *l, struct lnode *at, uint32_t from, uint32_t n, uint64_t window)
{
    struct stream_msg m = { .kind = STREAM_OPEN, .launch = l->id, .limit = window };
    CLEANUP(cleanup_free) unsigned char *body = malloc(8 + (size_t)n * NODE_ENTRY);

    if (!body) {
        svc_log("error", "launch %016llx: out of memory", (unsigned long long)l->id);
        return;
    }
    m.flags = (uint16_t)((l->raw ? STREAM_RAW : 0) | (l->started ? STREAM_STARTED : 0));
    unsigned char *p = le_put32(le_put32(body, l->uid), n);
    for (uint32_t i = from; i < from + n; i++) {
        uint32_t rank = l->by_node[at->first + i];
        p = le_put32(le_put32(p, rank), 0);
        p = le_put64(p, l->in_acked);
        p = le_put64(p, output_open_offset(l, rank, 1));
        p = le_put64(p, output_open_offset(l, rank, 2));
    }
    nodes_send(l->io->nodes, at->node, &m, body, (size_t)(p - body));
}

static void open_node(launch_t *l, struct lnode *at)
{
    /* A node that may not have the launch yet keeps OPEN for it, and nothing
     * else: then its credit must be in there. */
    bool again = at->opened && at->heard;
    uint64_t window = output_window(l);

    if (!nodes_connected(l->io->nodes, at->node))
        return;
    at->opened = true;
    at->answered = at->gone;
    snprintf(at->space, sizeof at->space, "%s", nodes_space(l->io->nodes, at->node));
    if (window > l->window)
        window = l->window;
    for (uint32_t i = 0; i < at->count; i += NODE_ENTRIES)
        open_part(l, at, i, at->count - i < NODE_ENTRIES ? at->count - i : NODE_ENTRIES,
                  again ? 0 : window);
    /* The first time all streams have the same credit; later each its own. */
    output_reopen(l, at, again);
    closing_reopen(l, at);
}

/* ---- OPEN from a reader ---- */

static int take_piece(launch_t *l, const struct stream_msg *m, const unsigned char *body,
                      struct err *err)
{
    uint32_t n = m->len >= 4 ? le_get32(body) : 0;

    if (!n || m->len != 4 + (uint64_t)n * OPEN_ENTRY || m->rank != l->nranks ||
        n > l->total - l->nranks)
        return err_set(err, EPROTO, "OPEN: %u bytes for ranks %u.. of %u", m->len, m->rank,
                       l->total);
    struct rank *rank = realloc(l->rank, (l->nranks + (size_t)n) * sizeof *rank);
    if (!rank)
        return err_set(err, ENOMEM, "out of memory");
    l->rank = rank;
    const unsigned char *node = body + 4, *at = node + (size_t)n * 4;
    for (uint32_t i = 0; i < n; i++, node += 4, at += 24) {
        struct rank *r = &rank[l->nranks];
        uint64_t in = le_get64(at);
        *r = (struct rank){ .node = (int32_t)le_get32(node), .at = UINT32_MAX };
        if (in > OFFSET_MAX || output_open(l, &r->out[0], le_get64(at + 8), err) < 0 ||
            output_open(l, &r->out[1], le_get64(at + 16), err) < 0)
            return err_set(err, EPROTO, "OPEN: an offset of rank %u is out of range", l->nranks);
        if (l->nranks == 0 || in < l->in_acked)
            l->in_acked = l->in_sent = in;
        l->nranks++;
    }
    if (l->nranks < l->total)
        return 0;
    if (index_nodes(l, err) < 0)
        return -1;
    l->open = true;
    reader_send(l->reader, &(struct stream_msg){ .kind = STREAM_GO, .launch = l->id }, NULL, 0);
    for (uint32_t i = 0; i < l->nnodes; i++)
        open_node(l, &l->lnode[i]);
    input_fold(l);
    return 0;
}

/* A launch that another connection has opened: it may be the same reader, back
 * before we noticed that it was gone. */
static int take_over(launch_t *old, const reader_t *r, struct err *err)
{
    if (old->uid != reader_uid(r) && reader_uid(r) != 0)
        return err_set(err, EACCES, "launch %016llx has a reader of user %u",
                       (unsigned long long)old->id, old->uid);
    if (old->reader) {
        reader_set_launch(old->reader, NULL);
        reader_close(old->reader);
    }
    launch_end(old, false);
    return 0;
}

int launch_open(struct iofwd *io, reader_t *r, const struct stream_msg *m,
                const unsigned char *body, struct err *err)
{
    if (m->kind != STREAM_OPEN)
        return err_set(err, EPROTO, "message of kind %d before OPEN", m->kind);
    uint64_t total = m->offset ? m->offset : m->len >= 4 ? le_get32(body) : 0;
    if (total == 0 || total > RANKS_MAX)
        return err_set(err, EPROTO, "OPEN: %llu ranks", (unsigned long long)total);
    launch_t *old = launches_find(io->launches, m->launch);
    if (old && take_over(old, r, err) < 0)
        return -1;
    launch_t *l = calloc(1, sizeof *l);
    if (!l)
        return err_set(err, ENOMEM, "out of memory");
    l->io = io;
    l->id = m->launch;
    l->uid = reader_uid(r);
    l->reader = r;
    l->raw = m->flags & STREAM_RAW;
    l->started = m->flags & STREAM_STARTED;
    l->window = m->limit < WINDOW_MAX ? (uint32_t)m->limit : WINDOW_MAX;
    l->total = (uint32_t)total;
    l->pidfd = -1;
    launch_t **at = slot(io->launches, l->id);
    l->next = *at;
    *at = l;
    io->launches->n++;
    reader_set_launch(r, l);
    return take_piece(l, m, body, err);
}

/* ---- the end ---- */

void launch_end(launch_t *l, bool tell)
{
    launches_t *ls = l->io->launches;
    launch_t **at = slot(ls, l->id);

    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    ls->n--;
    handover_forget(l->io->handover, l, STREAM_ALL);
    if (tell)
        closing_goodbye(l);
    launch_free(l);
}

static void on_too_late(void *arg)
{
    launch_t *l = arg;

    l->back_timer = 0;
    svc_log("notice", "launch %016llx: its reader did not come back",
            (unsigned long long)l->id);
    launch_end(l, true);
}

static void on_reader_died(void *arg, int fd, uint32_t events)
{
    (void)fd;
    (void)events;
    launch_end(arg, true);
}

void launch_reader_lost(launch_t *l, int pidfd)
{
    struct err err = { 0 };

    l->reader = NULL;
    l->pidfd = pidfd;
    l->nstarved = 0;
    /* A dying process closes its sockets a moment before its pidfd says so. */
    if (pidfd < 0 || loop_fd(l->io->loop, pidfd, EPOLLIN, on_reader_died, l, &err) < 0) {
        launch_end(l, true);
        return;
    }
    l->back_timer = loop_timer(l->io->loop, COME_BACK_MS, false, on_too_late, l);
}

/* ---- from the reader ---- */

int launch_from_reader(launch_t *l, const struct stream_msg *m, zmq_msg_t *body, struct err *err)
{
    if (m->launch != l->id)
        return err_set(err, EPROTO, "a message about another launch");
    if (m->kind == STREAM_OPEN && !l->open)
        return take_piece(l, m, zmq_msg_data(body), err);
    if (!l->open)
        return err_set(err, EPROTO, "message of kind %d in the middle of OPEN", m->kind);
    switch (m->kind) {
    case STREAM_DATA: return input_data(l, m, body, err);
    case STREAM_CREDIT: return output_credit(l, m, err);
    case STREAM_RESUME: return output_resume(l, m, err);
    case STREAM_CLOSE: return closing_from_reader(l, m, err);
    case STREAM_TAKEN: return output_taken(l, m, err);
    default: return err_set(err, EPROTO, "message of kind %d from a reader", m->kind);
    }
}

void launch_written(launch_t *l, uint32_t rank, int fd, uint64_t end)
{
    output_written(l, rank, fd, end);
}

void launch_room(launch_t *l)
{
    output_room(l);
}

/* ---- from nodes ---- */

/* Nothing (more) of this launch is on that node. */
static void node_none(launch_t *l, struct lnode *at, uint16_t flags)
{
    struct stream_msg m = { .kind = STREAM_NONE, .rank = STREAM_ALL, .launch = l->id,
                            .node = at->node, .flags = flags & STREAM_GONE };

    at->none = at->gone = at->answered = true;
    if (!l->reader)
        return;
    reader_send(l->reader, &m, NULL, 0);
    if (!(flags & STREAM_GONE)) {
        input_fold(l);
        return;
    }
    /* Somebody else's launch: make way for the reader whose it is. */
    svc_log("warning", "launch %016llx is not one of user %u", (unsigned long long)l->id, l->uid);
    reader_set_launch(l->reader, NULL);
    reader_close(l->reader);
    launch_end(l, false);
}

void launch_from_node(launch_t *l, int node, const struct stream_msg *m, zmq_msg_t *body)
{
    struct lnode *at = launch_lnode(l, node);
    bool all = m->rank == STREAM_ALL;

    if (!at || !l->open || !l->reader)
        return;
    if (!all && (m->rank >= l->nranks || l->rank[m->rank].node != node))
        return;
    at->heard = true;
    if (m->kind == STREAM_DATA && m->fd != 0 && !all) {
        output_data(l, m, body);
    } else if ((m->kind == STREAM_CREDIT || m->kind == STREAM_RESUME) && m->fd == 0) {
        input_answer(l, at, m);
    } else if (m->kind == STREAM_NONE && all) {
        node_none(l, at, m->flags);
    } else if (m->kind == STREAM_NONE || (m->kind == STREAM_TAKEN && m->fd != 0)) {
        struct stream_msg out = *m;
        out.node = node;
        reader_send(l->reader, &out, NULL, 0);
    }
}

struct here {
    int node;
    const char *space;
    bool fresh;
};

static void node_here(void *arg, launch_t *l)
{
    const struct here *h = arg;
    struct lnode *at = launch_lnode(l, h->node);

    if (!at || at->none || !l->open || !l->reader)
        return;
    if (at->space[0] && strcmp(at->space, h->space) != 0)
        node_none(l, at, 0); /* the node was started anew: nothing of it lives */
    else if (h->fresh)
        open_node(l, at);
}

void launches_node_here(launches_t *ls, int node, const char *space, bool fresh)
{
    launches_each(ls, node_here, &(struct here){ node, space, fresh });
    if (fresh)
        closing_node_here(ls->io->closings, node);
}

static void node_lost(void *arg, launch_t *l)
{
    const struct here *h = arg;
    struct lnode *at = launch_lnode(l, h->node);

    if (!at || at->none || !l->open)
        return;
    /* Opened in a newer life of the node than the one that is over? */
    if (at->space[0] ? strcmp(at->space, h->space) == 0
                     : !nodes_connected(l->io->nodes, h->node))
        node_none(l, at, 0);
}

void launches_node_lost(launches_t *ls, int node, const char *space)
{
    launches_each(ls, node_lost, &(struct here){ node, space, false });
}
