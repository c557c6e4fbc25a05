/* move_cut.c - images that do not come
 *
 * Who sends one may find that it cannot all be written; or it is written, and who was to
 * carry it ends before that has begun. A node would wait for it for minutes, since nobody
 * tells it: so it is told.
 */
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
