/* given.c - a node's report is acknowledged once the signals in it have been given
 *
 * What a report says of an end or a stop we do at once, and its node repeats it to a
 * procspace that comes after us if that has not been told. A signal goes on to where its
 * process is, which takes a while: acknowledged before, it would be lost with us. Said
 * again it is given once: it has a number, which is its event's (signal.c).
 */
#include <stdlib.h>
#include "services/procspace/procspace.h"

#define HOLD_MS 500 /* what else is new on the node must not wait for a process that is not there */

struct given { /* a signal on its way */
    struct given *next;
    procspace_t *ps;
    uint64_t space, seq;
};

struct held { /* the answer to a report */
    struct held *next;
    procspace_t *ps;
    svc_token *token;
    uint64_t space, seq;
    int timer;
};

static uint64_t firm(procspace_t *ps, uint64_t space, uint64_t seq)
{
    for (const struct given *g = ps->given; g; g = g->next)
        if (g->space == space && g->seq <= seq)
            seq = g->seq - 1;
    return seq;
}

static void say(struct held *h)
{
    struct held **at = &h->ps->held;
    CLEANUP(mp_free) mp_buf m;

    while (*at != h)
        at = &(*at)->next;
    *at = h->next;
    loop_timer_del(h->ps->loop, h->timer);
    mp_init(&m);
    mp_map(&m, 1);
    mp_kuint(&m, "seq", firm(h->ps, h->space, h->seq));
    svc_answer(h->ps->svc, h->token, &m);
    free(h);
}

static void on_late(void *arg)
{
    struct held *h = arg;

    h->timer = 0;
    say(h);
}

static void on_given(void *arg)
{
    struct given *g = arg, **at = &g->ps->given;
    procspace_t *ps = g->ps;

    while (*at != g)
        at = &(*at)->next;
    *at = g->next;
    for (struct held *h = ps->held, *next; h; h = next) {
        next = h->next;
        if (h->space == g->space && firm(ps, h->space, h->seq) == h->seq)
            say(h);
    }
    free(g);
}

struct signals *given_begin(procspace_t *ps, const struct event *e)
{
    struct given *g = malloc(sizeof *g);
    struct signals *all = g ? signals_then(on_given, g) : NULL;

    if (!all) {
        free(g);
        return NULL;
    }
    *g = (struct given){ ps->given, ps, e->space, e->seq };
    ps->given = g;
    return all;
}

int given_answer(procspace_t *ps, struct svc_req *req, uint64_t space, uint64_t seq)
{
    struct held *h = firm(ps, space, seq) < seq ? malloc(sizeof *h) : NULL;

    if (!h) {
        mp_map(req->reply, 1);
        mp_kuint(req->reply, "seq", firm(ps, space, seq));
        return 0;
    }
    *h = (struct held){ ps->held, ps, req->token, space, seq, 0 };
    h->timer = loop_timer(ps->loop, HOLD_MS, false, on_late, h);
    ps->held = h;
    return SVC_LATER;
}
