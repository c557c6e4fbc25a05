/* stream_out.c - stdout and stderr: from the ring to iofwd
 *
 * Bytes stay in the ring until the reader has acknowledged them, so going back
 * is only a matter of counting; tail moves with acknowledgements alone.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "node/agent/stream_parts.h"

#define CHUNK (256u * 1024)
#define BULK_MAX 32 /* threads */

static void queue(stream_t *st)
{
    streams_t *s = st->launch->all;

    if (st->queued)
        return;
    st->queued = true;
    st->next_work = NULL;
    *s->work_end = st;
    s->work_end = &st->next_work;
}

static uint64_t within(stream_t *st, uint64_t offset)
{
    uint64_t tail = atomic_load(&st->ring->tail), head = atomic_load(&st->ring->head);

    return offset < tail ? tail : offset > head ? head : offset;
}

/* 1 sent something, 0 nothing to send (now), -1 no room in the queue. */
static int send_chunk(stream_t *st)
{
    struct ring *r = st->ring;
    struct stream_msg m = { .kind = STREAM_DATA, .fd = (uint8_t)st->fd, .rank = st->rank,
                            .launch = st->launch->id, .offset = st->sent };
    /* The flag first: when it is set, head has its last value. */
    bool last = atomic_load(&r->flags) & RING_EOF;
    uint64_t head = atomic_load(&r->head);
    uint64_t n = head - st->sent;
    zmq_msg_t body;

    if (n > SPACE_RING_BYTES) {
        svc_log("error", "ring %u makes no sense", st->slot);
        return 0;
    }
    if (st->sent + n > st->limit)
        n = st->limit > st->sent ? st->limit - st->sent : 0;
    if (n > CHUNK)
        n = CHUNK;
    last = last && st->sent + n == head;
    if (n == 0 && (!last || st->eof_sent))
        return 0;
    if (zmq_msg_init_size(&body, n) < 0)
        return -1;
    size_t at = st->sent & (SPACE_RING_BYTES - 1), first = SPACE_RING_BYTES - at;
    if (first > n)
        first = n;
    memcpy(zmq_msg_data(&body), ring_data(r) + at, first);
    memcpy((char *)zmq_msg_data(&body) + first, ring_data(r), n - first);
    if (last)
        m.flags = STREAM_EOF | (atomic_load(&r->flags) & RING_MOVED ? STREAM_MOVED : 0);
    int rc = link_data(st->launch->all->link, &m, &body);
    zmq_msg_close(&body);
    if (rc < 0)
        return -1;
    st->sent += n;
    st->eof_sent = last;
    return 1;
}

void out_send_all(streams_t *s)
{
    while (s->work) {
        stream_t *st = s->work;
        int rc = 0;
        if (st->open && !st->hold && !st->bulk)
            rc = send_chunk(st);
        if (rc < 0)
            return; /* room wakes the loop, and we come back here */
        s->work = st->next_work;
        if (!s->work)
            s->work_end = &s->work;
        st->queued = false;
        if (rc > 0)
            queue(st); /* behind the others */
    }
}

void out_open(stream_t *st, uint64_t offset, uint64_t window)
{
    st->open = true;
    if (offset == STREAM_HOLD) {
        st->hold = !st->bulk;
        return;
    }
    out_stop_bulk(st);
    st->hold = false;
    st->eof_sent = false;
    st->sent = within(st, offset);
    st->limit = st->sent + (window < SPACE_RING_BYTES ? window : SPACE_RING_BYTES);
    queue(st);
}

void out_credit(stream_t *st, const struct stream_msg *m)
{
    struct ring *r = st->ring;
    uint64_t head = atomic_load(&r->head);

    if (m->offset > OFFSET_MAX || m->limit > OFFSET_MAX)
        return;
    ring_acknowledge(r, m->offset < head ? m->offset : head,
                     space_bell_fd(st->launch->all->a->space));
    if (m->limit > st->limit)
        st->limit = m->limit;
    if ((m->flags & STREAM_EOF) && (atomic_load(&r->flags) & RING_EOF) &&
        atomic_load(&r->tail) == atomic_load(&r->head)) {
        stream_finish(st);
        return;
    }
    if (st->sent < atomic_load(&r->tail))
        st->sent = atomic_load(&r->tail);
    queue(st);
}

void out_resume(stream_t *st, const struct stream_msg *m)
{
    if (m->offset > OFFSET_MAX || m->limit > OFFSET_MAX)
        return;
    bool anywhere = st->hold || st->bulk;
    out_stop_bulk(st);
    uint64_t offset = within(st, m->offset);
    if (anywhere || offset < st->sent)
        st->sent = offset;
    if (m->limit)
        st->limit = m->limit;
    st->hold = false;
    st->eof_sent = false;
    queue(st);
}

bool out_taken(stream_t *st, uint64_t offset)
{
    if (st->taken >= offset)
        return true;
    if (st->bulk) { /* there nobody can be asked: its reader says from where to go on */
        out_stop_bulk(st);
        st->hold = true;
    }
    if (st->open)
        link_say(st->launch->all->link,
                 &(struct stream_msg){ .kind = STREAM_TAKEN, .fd = (uint8_t)st->fd,
                                       .rank = st->rank, .launch = st->launch->id,
                                       .offset = offset });
    return false;
}

void out_changed(stream_t *st)
{
    if (st->open)
        queue(st);
}

/* ---- the bulk channel ---- */

void out_bulk(stream_t *st, const struct stream_msg *m, const unsigned char *body)
{
    streams_t *s = st->launch->all;
    struct bulk_out_plan plan = { .ring = st->ring, .bell_fd = space_bell_fd(s->a->space),
                                  .done_fd = s->bulk_done, .addr = s->a->master_addr,
                                  .from = st->sent };
    struct err err = { 0 };
    uint16_t port;

    if (st->fd != 1 || !st->open || st->hold || st->bulk || s->nbulk == BULK_MAX ||
        m->len != BULK_TOKEN + BULK_KEY + sizeof port)
        return; /* the offer lapses, and DATA goes on */
    memcpy(plan.ticket.token, body, BULK_TOKEN);
    memcpy(plan.ticket.key, body + BULK_TOKEN, BULK_KEY);
    memcpy(&port, body + BULK_TOKEN + BULK_KEY, sizeof port);
    plan.port = le16toh(port);
    st->bulk = bulk_out_start(&plan, &err);
    if (st->bulk)
        s->nbulk++;
    else
        svc_log("warning", "bulk channel to %s:%u: %s", plan.addr, plan.port, err.text);
    explicit_bzero(&plan, sizeof plan);
}

void out_stop_bulk(stream_t *st)
{
    if (!st->bulk)
        return;
    bulk_out_stop(&st->bulk);
    st->launch->all->nbulk--;
    /* While the thread ran, this mark was left set: it kept the bell still. */
    atomic_store(&st->ring->dirty_for_agent, 0);
}

static void bulk_ended(stream_t *st)
{
    enum bulk_out_state state = bulk_out_state(st->bulk);

    if (state == BULK_OUT_RUNS)
        return;
    if (state != BULK_OUT_ENDED)
        svc_log("notice", "launch %016llx, rank %u: stdout leaves the bulk channel: %s",
                (unsigned long long)st->launch->id, st->rank, bulk_out_why(st->bulk));
    out_stop_bulk(st);
    if (state == BULK_OUT_ENDED) {
        stream_finish(st);
        return;
    }
    st->hold = state == BULK_OUT_CUT;
    queue(st);
}

void out_bulk_ended(streams_t *s)
{
    for (size_t i = 0; i < STREAM_BUCKETS; i++)
        for (stream_t *st = s->bucket[i], *next; st; st = next) {
            next = st->next_bucket;
            if (st->bulk)
                bulk_ended(st);
        }
}
