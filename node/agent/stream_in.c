/* stream_in.c - stdin: from iofwd into the ring of each rank that takes part
 *
 * One stream for the launch, one ring a rank. What is in all rings is
 * acknowledged, since bpinit keeps it from then on; what the fullest ring has
 * room for may be sent.
 */
#include <string.h>
#include "node/agent/stream_parts.h"

#define SAY_AFTER (SPACE_RING_BYTES / 8) /* new room worth a message */

static void ring_bell(stream_t *st)
{
    if (atomic_exchange(&st->ring->dirty_for_init, 1) == 0)
        space_bell(st->launch->all->a->space);
}

/* What is to be said: what all rings have, and have room for. */
static struct stream_msg fold(stream_launch_t *l, uint8_t kind)
{
    struct stream_msg m = { .kind = kind, .rank = STREAM_ALL, .launch = l->id,
                            .offset = UINT64_MAX, .limit = UINT64_MAX };
    uint32_t live = 0, eof = 0;

    for (stream_t *st = l->streams; st; st = st->next) {
        uint32_t flags = st->fd == 0 ? atomic_load(&st->ring->flags) : RING_GONE;
        if (flags & RING_GONE)
            continue;
        uint64_t head = atomic_load(&st->ring->head);
        uint64_t limit = atomic_load(&st->ring->tail) + SPACE_RING_BYTES;
        live++;
        eof += (flags & RING_EOF) != 0;
        if (head < m.offset)
            m.offset = head;
        if (limit < m.limit)
            m.limit = limit;
    }
    if (live == 0) {
        m.offset = m.limit = l->in_ended ? l->in_end : 0;
        m.flags = l->in_ended ? STREAM_EOF : STREAM_GONE;
    } else if (eof == live) {
        m.flags = STREAM_EOF;
    }
    return m;
}

static void say(stream_launch_t *l, uint8_t kind)
{
    struct stream_msg m = fold(l, kind);

    l->in_limit = m.limit;
    link_say(l->all->link, &m);
}

void in_open(stream_launch_t *l)
{
    say(l, STREAM_RESUME);
}

/* What of the message is new to this ring; false: there is a gap before it. */
static bool put(stream_t *st, const struct stream_msg *m, const unsigned char *body)
{
    struct ring *r = st->ring;
    uint32_t flags = atomic_load(&r->flags);
    uint64_t head = atomic_load(&r->head), end = m->offset + m->len;
    uint64_t room = atomic_load(&r->tail) + SPACE_RING_BYTES;

    if (flags & (RING_GONE | RING_EOF))
        return true;
    if (m->offset > head)
        return false;
    if (end > room) /* more than was allowed: as if it had not come */
        return false;
    if (end > head) {
        size_t n = end - head, at = head & (SPACE_RING_BYTES - 1), first = SPACE_RING_BYTES - at;
        const unsigned char *from = body + (head - m->offset);
        if (first > n)
            first = n;
        memcpy(ring_data(r) + at, from, first);
        memcpy(ring_data(r), from + first, n - first);
        atomic_store(&r->head, end);
    }
    if ((m->flags & STREAM_EOF) && end >= head)
        atomic_fetch_or(&r->flags, RING_EOF);
    ring_bell(st);
    return true;
}

void in_data(stream_launch_t *l, const struct stream_msg *m, const unsigned char *body)
{
    bool whole = true;

    if (m->offset > OFFSET_MAX || m->len > SPACE_RING_BYTES)
        return;
    for (stream_t *st = l->streams; st; st = st->next)
        if (st->fd == 0 && !put(st, m, body))
            whole = false;
    say(l, whole ? STREAM_CREDIT : STREAM_RESUME);
}

void in_changed(stream_t *st)
{
    stream_launch_t *l = st->launch;
    struct ring *r = st->ring;
    uint32_t flags = atomic_load(&r->flags);

    if (flags & RING_GONE) {
        uint64_t head = atomic_load(&r->head);
        if ((flags & RING_EOF) && atomic_load(&r->tail) == head) {
            l->in_ended = true;
            l->in_end = head;
        }
        bool opened = l->opened;
        struct stream_msg m;
        streams_t *s = l->all;
        stream_finish(st);
        /* The launch is remembered, over or not. */
        if (opened) {
            m = fold(l, STREAM_CREDIT);
            l->in_limit = m.limit;
            link_say(s->link, &m);
        }
        return;
    }
    if (l->opened && fold(l, STREAM_CREDIT).limit >= l->in_limit + SAY_AFTER)
        say(l, STREAM_CREDIT);
}

void in_end(stream_t *st)
{
    if (atomic_fetch_or(&st->ring->flags, RING_EOF) & RING_EOF)
        return;
    ring_bell(st);
}
