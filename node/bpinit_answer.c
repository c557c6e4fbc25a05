/* bpinit_answer.c - what has come of a launch's start
 *
 * Most is known at once. What a ghost has to begin for us is not, and until all of it
 * is, the answer waits. An agent that comes meanwhile is told of these by the list, and
 * waits for the same answer.
 */
#include <stdlib.h>
#include <string.h>
#include "node/bpinit.h"
#include "node/bpinit_begin.h"

struct answer {
    struct answer *next;
    uint64_t launch;
    struct outcome *o;
    size_t n;
    bool older;  /* another agent has asked */
    bool listed; /* and this one knows its streams, by the list */
};

static void pack_started(mp_buf *m, const struct outcome *o)
{
    mp_array(m, 5);
    mp_int(m, o->rank);
    mp_int(m, o->npid);
    for (int fd = 0; fd < 3; fd++)
        mp_int(m, o->slot[fd]);
}

static void pack(mp_buf *m, uint64_t launch, const struct outcome *o, size_t n)
{
    uint32_t bad = 0;

    for (size_t i = 0; i < n; i++)
        bad += o[i].err.code != 0;
    mp_map(m, 3);
    mp_kuint(m, "launch", launch);
    mp_key(m, "started");
    mp_array(m, (uint32_t)n - bad);
    for (size_t i = 0; i < n; i++)
        if (!o[i].err.code)
            pack_started(m, &o[i]);
    mp_key(m, "failed");
    mp_array(m, bad);
    for (size_t i = 0; i < n; i++) {
        if (!o[i].err.code)
            continue;
        mp_array(m, 3);
        mp_int(m, o[i].rank);
        mp_int(m, o[i].err.code);
        mp_str(m, o[i].err.text);
    }
}

static struct answer **place(struct init *in, uint64_t launch)
{
    struct answer **p = &in->answers;

    while (*p && (*p)->launch != launch)
        p = &(*p)->next;
    return p;
}

static void drop(struct answer **p)
{
    struct answer *a = *p;

    if (!a)
        return;
    *p = a->next;
    free(a->o);
    free(a);
}

bool answer_begin(struct init *in, uint64_t launch, struct outcome *o, size_t n, mp_buf *out)
{
    struct answer *a = NULL;
    bool pending = false;

    for (size_t i = 0; i < n; i++)
        pending |= o[i].pending;
    if (!pending) {
        pack(out, launch, o, n);
        return false;
    }
    drop(place(in, launch)); /* asked again: this is the answer to both */
    if (!(a = malloc(sizeof *a)))
        abort();
    *a = (struct answer){ in->answers, launch, o, n, false, false };
    in->answers = a;
    return true;
}

/* The agent that does not know them cannot give them back. */
static void release_streams(struct init *in, struct outcome *o)
{
    for (int fd = 0; fd < 3; fd++) {
        if (o->slot[fd] >= 0)
            pump_release(in->pump, (uint32_t)o->slot[fd]);
        o->slot[fd] = -1;
    }
}

static void settle_one(struct init *in, const struct answer *a, struct outcome *o,
                       const struct err *err)
{
    o->pending = false;
    if (!err)
        return;
    o->err = *err;
    if (!a->listed)
        release_streams(in, o);
}

void answer_settle(struct init *in, uint64_t launch, uint32_t rank, const struct err *err)
{
    struct answer **p = place(in, launch), *a = *p;
    bool pending = false;

    for (size_t i = 0; a && i < a->n; i++) {
        if (a->o[i].pending && a->o[i].rank == rank)
            settle_one(in, a, &a->o[i], err);
        pending |= a->o[i].pending;
    }
    if (!a || pending)
        return;
    CLEANUP(mp_free) mp_buf m;
    mp_init(&m);
    mp_array(&m, 2);
    mp_str(&m, "spawned");
    pack(&m, launch, a->o, a->n);
    drop(p);
    link_send(in->link, &m);
}

void answers_listed(struct init *in)
{
    for (struct answer *a = in->answers; a; a = a->next)
        a->listed = a->older;
}

void answers_new_agent(struct init *in)
{
    for (struct answer *a = in->answers; a; a = a->next) {
        a->older = true;
        a->listed = false;
    }
}

bool answer_listed(const struct init *in, uint64_t launch)
{
    const struct answer *a = in->answers;

    while (a && a->launch != launch)
        a = a->next;
    return a && a->listed;
}

void answers_destroy(struct init *in)
{
    while (in->answers)
        drop(&in->answers);
}
