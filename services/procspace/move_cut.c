/* move_cut.c - images that do not come
 *
 * Who sends one may find that it cannot all be written; or it is written, and who was to
 * carry it ends before that has begun. A node would wait for it for minutes, since nobody
 * tells it: so it is told. The same if the node that passes it on is lost: that may be a
 * machine which only stands still, and its connections with it.
 */
#include <stdio.h>
#include <stdlib.h>
#include "services/procspace/move_parts.h"

#define SAY_MS 20000
#define COME_MS 5000 /* for an image that was sent to begin to come */

static void on_said(void *arg, int node, const msgpack_object *value, const struct err *err)
{
    (void)arg;
    (void)node;
    (void)value;
    (void)err;
}

static void on_all_said(void *arg) { (void)arg; }

void move_say(struct move *m, const char *what)
{
    CLEANUP(cleanup_free) int *nodes = malloc((m->stops + 1) * sizeof *nodes);
    CLEANUP(mp_free) mp_buf b;
    int n = 0;

    mp_init(&b);
    if (!nodes)
        abort();
    for (size_t i = 0; i < m->stops; i++)
        if (m->stop[i].node >= 0)
            nodes[n++] = m->stop[i].node;
    mp_map(&b, 3);
    mp_kuint(&b, "launch", m->launch);
    mp_kint(&b, "uid", m->uid);
    mp_kbool(&b, what, true);
    if (n)
        svc_call_nodes(m->all->ps->svc, nodes, n, "arrived", &b, SAY_MS, on_said, on_all_said,
                       NULL);
}

/* What has not begun by now will not: it is cut. What has begun goes on. */
static void on_late(void *arg)
{
    struct move *m = arg;

    m->come_timer = 0;
    if (m->over || m->cut)
        return;
    m->cut = true;
    move_say(m, "cut");
    move_look(m);
}

void move_sent(struct move *m, bool cut)
{
    if (m->home || m->over)
        return;
    m->cut |= cut;
    if (!m->come_timer)
        m->come_timer = loop_timer(m->all->ps->loop, COME_MS, false, on_late, m);
}

static void on_cut(void *arg, const msgpack_object *value, const struct err *err)
{
    (void)arg;
    (void)value;
    (void)err;
}

static void cut_stop(const struct move *m, const struct stop *s)
{
    CLEANUP(mp_free) mp_buf b;
    char topic[48];

    mp_init(&b);
    if (s->node < 0) {
        if (!contents_image_drop(m->all->ps->contents, s->to.ticket.token))
            pump_cut(s->to.ticket.token);
        return;
    }
    mp_map(&b, 2);
    mp_kstr(&b, "token", s->to.ticket.token);
    mp_kbool(&b, "cut", true);
    snprintf(topic, sizeof topic, "node.%d.relay", s->node);
    svc_call(m->all->ps->svc, topic, &b, SAY_MS, on_cut, NULL);
}

void move_cut_behind(struct move *m, size_t stop)
{
    size_t first = stop * FAN_OUT + 1;

    if (m->known && !m->home)
        for (size_t i = first; i < first + FAN_OUT && i < m->stops; i++)
            cut_stop(m, &m->stop[i]); /* it cuts it for those behind itself */
}
