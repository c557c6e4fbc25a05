/* move_said.c - what a process has said in streams that it shared with others
 *
 * One that was made by fork on a node says things in its parent's streams, and one that
 * leaves such children behind leaves its own to them: these do not end when it goes. So
 * the node says how far they had come by then, and what the process says elsewhere is for
 * its reader when that has done with all up to there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "bus/forwarder.h"
#include "services/procspace/family.h"
#include "services/procspace/move_kin.h"

#define ASK_MS 2000
#define AGAIN_MS 20
#define AGAIN_LAST_MS 250

struct said {
    struct said *next;
    procspace_t *ps;
    int node;
    uint64_t in;  /* this launch's streams */
    mp_buf body;  /* of node.N.said */
    bool read;
    int timer, again_ms;
    struct patience patience;
    uint64_t launch; /* of its move */
    bool home;       /* it waits for this; else a forwarder does, for its streams there: */
    int to, out[2]; /* out: its reader's, who may have ended by then */
    int64_t uid, gid;
};

static void said_free(struct said *s)
{
    struct said **at = &s->ps->said;

    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    loop_timer_del(s->ps->loop, s->timer);
    mp_free(&s->body);
    cleanup_close(&s->out[0]);
    cleanup_close(&s->out[1]);
    free(s);
}

/* What it says elsewhere goes where its launch's output does, by way of the master. */
static void speak(const struct said *s)
{
    if (forwarder_start(s->launch, s->to, (uid_t)s->uid, (gid_t)s->gid, s->out) < 0)
        svc_log("warning", "launch %llu: what it says on node %d is lost: %s",
                (unsigned long long)s->launch, s->to, strerror(errno));
}

static void done(struct said *s)
{
    struct move *m = s->home ? move_find(s->ps, s->launch) : NULL;

    if (!s->home)
        speak(s);
    said_free(s);
    if (m)
        home_settled(m);
}

static void on_said_there(void *arg, int node, const msgpack_object *value, const struct err *err)
{
    struct said *s = arg;

    (void)node;
    /* A node that is no more: nothing of it will be read. */
    s->read = value ? mp_opt_bool(value, "read", true)
                    : err->code != ETIMEDOUT && err->code != ENOTCONN && err->code != BE_NODEDOWN;
}

static void ask(void *arg);

static void on_asked(void *arg)
{
    struct said *s = arg;
    const struct node_space *ns = node_space(s->ps, s->node);

    if (s->read || !ns || !ns->space[0] || readers_late(s->ps, s->in, &s->patience)) {
        done(s);
        return;
    }
    s->timer = loop_timer(s->ps->loop, s->again_ms, false, ask, s);
    if (s->again_ms < AGAIN_LAST_MS)
        s->again_ms *= 2;
}

static void ask(void *arg)
{
    struct said *s = arg;

    s->timer = 0;
    svc_call_nodes(s->ps->svc, &s->node, 1, "said", &s->body, ASK_MS, on_said_there, on_asked, s);
}

void said_wait(struct move *m, int node, const msgpack_object *value)
{
    procspace_t *ps = m->all->ps;
    const struct launch *l = launch_find(ps, m->launch);
    const msgpack_object_array *rows;
    struct said *s;

    if (!m->speaks || (!m->home && (!l || !l->forwarded || m->nfailed)))
        return;
    if (!(s = calloc(1, sizeof *s))) {
        svc_log("error", "launch %llu: out of memory", (unsigned long long)m->launch);
        return;
    }
    *s = (struct said){ .next = ps->said, .ps = ps, .node = node, .in = m->speaks,
                        .again_ms = AGAIN_MS, .home = m->home != HOME_NO, .launch = m->launch,
                        .to = m->stops ? m->stop[0].node : -1, .uid = m->uid,
                        .gid = l ? l->gid : m->uid };
    for (int fd = 1; fd <= 2; fd++)
        s->out[fd - 1] = s->home ? -1 : readers_out(ps, s->in, fd);
    mp_init(&s->body);
    ps->said = s;
    if (!value || !mp_get(value, "said") || mp_get_array(value, "said", &rows, NULL) < 0) {
        done(s); /* nobody knows how far */
        return;
    }
    mp_map(&s->body, 2);
    mp_kuint(&s->body, "launch", m->speaks);
    mp_key(&s->body, "said");
    mp_obj(&s->body, mp_get(value, "said"));
    ask(s);
}

bool said_waits(const struct move *m)
{
    const struct said *s = m->all->ps->said;

    while (s && (!s->home || s->launch != m->launch))
        s = s->next;
    return s != NULL;
}

bool said_speaks_yet(procspace_t *ps, uint64_t launch)
{
    const struct said *s = ps->said;

    while (s && (s->home || s->launch != launch))
        s = s->next;
    return s != NULL;
}

void said_close(procspace_t *ps)
{
    while (ps->said)
        said_free(ps->said);
}
