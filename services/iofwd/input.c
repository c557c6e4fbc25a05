/* input.c - stdin: one stream of the reader, a copy to each node, answers folded
 *
 * The reader keeps what the slowest node has not acknowledged, and may send
 * what the fullest node has room for. Nodes that nobody reads stdin on any more
 * do not count.
 */
#include <errno.h>
#include "services/iofwd/iofwd.h"

int input_data(launch_t *l, const struct stream_msg *m, zmq_msg_t *body, struct err *err)
{
    struct stream_msg out = { .kind = STREAM_DATA, .flags = m->flags & STREAM_EOF,
                              .rank = STREAM_ALL, .launch = l->id, .offset = m->offset };

    if (m->fd != 0)
        return err_set(err, EPROTO, "DATA for descriptor %d from a reader", m->fd);
    if (m->offset > OFFSET_MAX || (m->len && m->offset + m->len > l->in_limit))
        return err_set(err, EPROTO, "stdin beyond the credit that was given");
    if (m->offset + m->len > l->in_sent)
        l->in_sent = m->offset + m->len;
    if (m->flags & STREAM_EOF)
        l->in_eof_sent = true;
    for (uint32_t i = 0; i < l->nnodes; i++)
        if (!l->lnode[i].gone)
            nodes_send_shared(l->io->nodes, l->lnode[i].node, &out, body);
    return 0;
}

void input_fold(launch_t *l)
{
    struct stream_msg m = { .kind = STREAM_CREDIT, .rank = STREAM_ALL, .launch = l->id,
                            .offset = UINT64_MAX, .limit = UINT64_MAX };
    uint32_t live = 0, eof = 0;

    for (uint32_t i = 0; i < l->nnodes; i++) {
        const struct lnode *n = &l->lnode[i];
        if (!n->answered)
            return;
        if (n->gone)
            continue;
        live++;
        eof += n->eof;
        if (n->acked < m.offset)
            m.offset = n->acked;
        if (n->limit < m.limit)
            m.limit = n->limit;
    }
    if (!l->reader || l->nnodes == 0)
        return;
    if (live == 0) {
        m.flags = STREAM_GONE;
        m.offset = m.limit = 0;
    } else if (eof == live) {
        m.flags = STREAM_EOF;
    }
    bool news = m.offset > l->in_acked || m.limit > l->in_limit ||
                (m.flags & STREAM_GONE && !l->in_told_gone) ||
                (m.flags & STREAM_EOF && !l->in_told_eof);
    if (!news)
        return;
    l->in_told_gone = m.flags & STREAM_GONE;
    l->in_told_eof = m.flags & STREAM_EOF;
    if (m.offset > l->in_acked)
        l->in_acked = m.offset;
    if (m.limit > l->in_limit)
        l->in_limit = m.limit;
    m.offset = l->in_acked;
    m.limit = l->in_limit;
    reader_send(l->reader, &m, NULL, 0);
}

void input_answer(launch_t *l, struct lnode *n, const struct stream_msg *m)
{
    uint64_t most = m->offset + WINDOW_MAX;

    if (m->offset > OFFSET_MAX || n->none)
        return;
    n->answered = true;
    if (m->flags & STREAM_GONE)
        n->gone = true;
    if (m->offset < l->in_acked && !n->gone) {
        /* It once had these bytes, and the reader has them no more. */
        svc_log("error", "node %d wants stdin of launch %016llx again from %llu", n->node,
                (unsigned long long)l->id, (unsigned long long)m->offset);
        n->gone = true;
    }
    n->eof = m->flags & STREAM_EOF;
    n->acked = m->offset;
    n->limit = m->limit < most ? m->limit : most;
    input_fold(l);
    if (m->kind != STREAM_RESUME || n->gone)
        return;
    if (m->offset < l->in_sent || (l->in_eof_sent && !n->eof))
        reader_send(l->reader, &(struct stream_msg){ .kind = STREAM_RESUME,
                    .rank = STREAM_ALL, .launch = l->id, .offset = m->offset }, NULL, 0);
}
