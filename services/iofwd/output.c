/* output.c - stdout and stderr: from a node, through a queue, to the reader
 *
 * Credit keeps the queue short: a node may send what the reader wants, but not
 * more than a window beyond what is already in the reader's socket. A node
 * that sends more all the same, or more windows than the budget holds, loses
 * nothing: what does not fit is dropped here, is kept there, and is asked for
 * again (RESUME) when there is room.
 */
#include <errno.h>
#include <stdlib.h>
#include "services/iofwd/iofwd.h"

#define BULK_AFTER (8u << 20) /* bytes of a stream before it is called bulk */
#define BULK_AGAIN (64u << 20) /* ... when a hand-over has failed */

uint64_t output_window(const launch_t *l)
{
    uint64_t w = reader_budget(l->reader) / (2 * (uint64_t)l->total);
    return w < WINDOW_MIN ? WINDOW_MIN : w > WINDOW_MAX ? WINDOW_MAX : w;
}

int output_open(launch_t *l, struct out *o, uint64_t received, struct err *err)
{
    uint64_t window = output_window(l);

    *o = (struct out){ 0 };
    if (received == STREAM_HOLD) {
        o->bulk = BULK_LIVE;
        return 0;
    }
    if (received > OFFSET_MAX)
        return err_set(err, EPROTO, "offset out of range");
    o->next = o->written = o->acked = received;
    o->want = received + l->window;
    o->granted = received + (window < l->window ? window : l->window);
    o->bulk_from = received + BULK_AFTER;
    return 0;
}

static struct out *out_of(launch_t *l, uint32_t rank, int fd)
{
    return &l->rank[rank].out[fd - 1];
}

uint64_t output_open_offset(launch_t *l, uint32_t rank, int fd)
{
    struct out *o = out_of(l, rank, fd);

    o->flags &= (uint8_t)~(OUT_STARVED | OUT_RESUMING);
    if (o->bulk == BULK_LIVE)
        return STREAM_HOLD;
    /* An invitation, and bytes from before the hand-over, went with the old
     * connection: start again from what we have. */
    if (o->bulk != BULK_NO) {
        handover_forget(l->io->handover, l, rank);
        o->bulk = BULK_NO;
        o->bulk_from = o->next + BULK_AGAIN;
    }
    return o->next;
}

void output_credit_node(launch_t *l, uint32_t rank, int fd, uint16_t flags)
{
    struct out *o = out_of(l, rank, fd);
    struct stream_msg m = { .kind = STREAM_CREDIT, .fd = (uint8_t)fd, .flags = flags,
                            .rank = rank, .launch = l->id, .offset = o->acked,
                            .limit = o->granted };

    nodes_send(l->io->nodes, l->rank[rank].node, &m, NULL, 0);
}

static void resume_node(launch_t *l, uint32_t rank, int fd)
{
    struct out *o = out_of(l, rank, fd);
    struct stream_msg m = { .kind = STREAM_RESUME, .fd = (uint8_t)fd, .rank = rank,
                            .launch = l->id, .offset = o->next, .limit = o->granted };

    o->flags |= OUT_RESUMING;
    nodes_send(l->io->nodes, l->rank[rank].node, &m, NULL, 0);
}

void output_reopen(launch_t *l, struct lnode *n, bool again)
{
    for (uint32_t i = 0; i < n->count; i++)
        for (int fd = 1; fd <= 2; fd++) {
            uint32_t rank = l->by_node[n->first + i];
            const struct out *o = out_of(l, rank, fd);
            /* OPEN says from where to go on, not that what was before may go:
             * a ring full of what the reader has had would stay full. */
            if (o->bulk == BULK_NO && !(o->flags & OUT_DONE) &&
                (again ? o->granted > o->next : o->acked > 0))
                output_credit_node(l, rank, fd, 0);
        }
}

/* Credit for what there is room for; true if it has grown enough to say so. */
static bool grant(launch_t *l, struct out *o)
{
    uint64_t window = output_window(l), g = o->written + window;

    if (g > o->want)
        g = o->want;
    if (g <= o->granted || (g < o->want && g - o->granted < window / 4))
        return false;
    o->granted = g;
    return true;
}

static void starve(launch_t *l, uint32_t rank, int fd)
{
    struct out *o = out_of(l, rank, fd);

    if (l->nstarved == l->starved_room) {
        size_t room = l->starved_room ? l->starved_room * 2 : 64;
        uint32_t *p = realloc(l->starved, room * sizeof *p);
        if (!p) { /* then it is asked for again at once, as often as it takes */
            resume_node(l, rank, fd);
            return;
        }
        l->starved = p;
        l->starved_room = room;
    }
    o->flags |= OUT_STARVED;
    l->starved[l->nstarved++] = rank * 2 + (uint32_t)(fd - 1);
}

void output_room(launch_t *l)
{
    size_t done = 0;
    uint64_t used = l->nstarved ? reader_queued(l->reader) : 0;

    for (; done < l->nstarved && used < reader_budget(l->reader); done++) {
        uint32_t rank = l->starved[done] / 2;
        int fd = 1 + (int)(l->starved[done] % 2);
        struct out *o = out_of(l, rank, fd);
        if (!(o->flags & OUT_STARVED))
            continue; /* opened again since */
        o->flags &= (uint8_t)~OUT_STARVED;
        grant(l, o);
        used += o->granted > o->next ? o->granted - o->next : 0;
        resume_node(l, rank, fd);
    }
    for (size_t i = done; i < l->nstarved; i++)
        l->starved[i - done] = l->starved[i];
    l->nstarved -= done;
}

void output_data(launch_t *l, const struct stream_msg *m, zmq_msg_t *body)
{
    struct out *o = out_of(l, m->rank, m->fd);
    struct stream_msg out = *m;

    if (m->offset > OFFSET_MAX || (o->flags & OUT_STARVED) ||
        (o->bulk >= BULK_WAIT && m->offset >= o->bulk_from))
        return;
    uint64_t end = m->offset + m->len;
    if (m->offset > o->next || end > o->granted) {
        if (!(o->flags & OUT_RESUMING))
            resume_node(l, m->rank, m->fd);
        return;
    }
    if (end < o->next || (end == o->next && !(m->flags & STREAM_EOF)))
        return; /* had already */
    if (reader_queued(l->reader) + m->len > reader_budget(l->reader) &&
        reader_queued(l->reader)) {
        starve(l, m->rank, m->fd);
        return;
    }
    o->flags &= (uint8_t)~OUT_RESUMING;
    out.offset = o->next;
    out.flags = m->flags & (STREAM_EOF | STREAM_MOVED);
    out.limit = 0;
    out.node = l->rank[m->rank].node;
    reader_send(l->reader, &out, body, o->next - m->offset);
    l->relayed += end - o->next;
    o->next = end;
    if (m->fd == 1 && l->raw && o->bulk == BULK_NO && end >= o->bulk_from &&
        !(m->flags & STREAM_EOF))
        handover_offer(l, m->rank);
    else if (o->bulk == BULK_WAIT && end >= o->bulk_from)
        handover_ready(l, m->rank);
}

void output_written(launch_t *l, uint32_t rank, int fd, uint64_t end)
{
    struct out *o = out_of(l, rank, fd);

    if (end > o->written)
        o->written = end;
    if (o->want > o->granted && o->bulk != BULK_LIVE && grant(l, o))
        output_credit_node(l, rank, fd, 0);
}

static struct out *named(launch_t *l, const struct stream_msg *m, struct err *err)
{
    if (m->rank >= l->nranks || m->fd == 0 || l->rank[m->rank].node < 0 ||
        m->offset > OFFSET_MAX || m->limit > OFFSET_MAX) {
        err_set(err, EPROTO, "kind %d for descriptor %d of rank %u, offset %llu", m->kind,
                m->fd, m->rank, (unsigned long long)m->offset);
        return NULL;
    }
    return out_of(l, m->rank, m->fd);
}

int output_credit(launch_t *l, const struct stream_msg *m, struct err *err)
{
    struct out *o = named(l, m, err);

    if (!o)
        return -1;
    if (o->bulk == BULK_LIVE && m->offset >= o->bulk_from)
        return 0; /* the bulk channel has acknowledgements of its own */
    if (m->offset > o->next)
        return err_set(err, EPROTO, "CREDIT for bytes that were not sent");
    if (m->offset > o->acked)
        o->acked = m->offset;
    if (m->limit > o->want)
        o->want = m->limit;
    if (m->flags & STREAM_EOF)
        o->flags |= OUT_DONE;
    grant(l, o);
    output_credit_node(l, m->rank, m->fd, m->flags & STREAM_EOF);
    return 0;
}

int output_taken(launch_t *l, const struct stream_msg *m, struct err *err)
{
    struct stream_msg out = *m;

    if (!named(l, m, err))
        return -1;
    nodes_send(l->io->nodes, l->rank[m->rank].node, &out, NULL, 0);
    return 0;
}

int output_resume(launch_t *l, const struct stream_msg *m, struct err *err)
{
    struct out *o = named(l, m, err);

    if (!o)
        return -1;
    if (m->offset < o->acked || (o->bulk != BULK_LIVE && m->offset > o->next))
        return err_set(err, EPROTO, "RESUME at %llu, which is not between %llu and %llu",
                       (unsigned long long)m->offset, (unsigned long long)o->acked,
                       (unsigned long long)o->next);
    if (o->bulk != BULK_NO && o->bulk != BULK_LIVE)
        handover_forget(l->io->handover, l, m->rank);
    o->bulk = BULK_NO;
    o->bulk_from = m->offset + BULK_AGAIN;
    o->next = o->written = o->acked = m->offset;
    if (m->limit)
        o->want = m->limit;
    uint64_t window = output_window(l);
    o->granted = o->want < m->offset + window ? o->want : m->offset + window;
    o->flags &= (uint8_t)~OUT_STARVED;
    resume_node(l, m->rank, m->fd);
    /* What came by the bulk channel may be acknowledged nowhere else: the node's
     * ring would stay full of it. */
    output_credit_node(l, m->rank, m->fd, 0);
    return 0;
}
