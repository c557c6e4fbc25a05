/* cries.c - what stand-ins of children, on nodes, are sent
 *
 * Their nodes tell of it, in one row with what else happens to them; it goes to the
 * process that they stand for, wherever that is.
 */
#include <signal.h>
#include <stdlib.h>
#include "services/procspace/family.h"

/* For whom it stands is not known yet: its parent has just arrived. */
struct cry {
    struct cry *next;
    int sig;
    bool has_value;
    int64_t value, uid, from;
    uint64_t once;
    struct signals *with; /* its node is answered when it is given */
};

static struct kid *stand_of(procspace_t *ps, int node, const struct event *e)
{
    int64_t npid, gen;

    if (e->n < 3 || !mp_as_int(&e->v[1], &npid) || npid < 2 || npid > INT32_MAX ||
        !mp_as_int(&e->v[2], &gen))
        return NULL;
    struct kid *k = kid_find(ps, node, (pid_t)npid);
    return k && k->p.gen == gen ? k : NULL;
}

/* Whom it stands for. One that has ended since our start is in no list: what it has said
 * before is meant for whom is waited for there. */
static struct proc *body_of(procspace_t *ps, int node, const struct event *e)
{
    const struct kid *k = stand_of(ps, node, e);
    int64_t npid;
    struct proc *p = NULL;

    if (k)
        return k->body;
    if (ps->recovery && e->n > 1 && mp_as_int(&e->v[1], &npid) &&
        !kid_find(ps, node, (pid_t)npid))
        for (p = ps->homed; p && (p->home != node || p->home_npid != npid || p->stand);)
            p = p->next_homed;
    return p;
}

static void give(procspace_t *ps, struct proc *p, const struct cry *c)
{
    if (c->sig == SIGCONT)
        p->ghost_stopped = false;
    body_signal_value(ps, p, c->sig, c->has_value, c->value, c->uid, c->from, c->once, c->with);
    signals_end(c->with);
}

static void keep(struct kid *k, const struct cry *c)
{
    struct cry **end = &k->cries, *copy = malloc(sizeof *copy);

    if (!copy)
        abort();
    if (c->sig == SIGCONT) /* which ends a stop that was seen before it */
        k->stopped = false;
    *copy = *c;
    while (*end)
        end = &(*end)->next;
    *end = copy;
}

static bool cry(procspace_t *ps, int node, const struct event *e, struct cry *c)
{
    struct kid *k = stand_of(ps, node, e);
    struct proc *p = body_of(ps, node, e);

    if (!p && !(k && family_awaits(ps, k)))
        return recovered_all(ps);
    c->with = given_begin(ps, e);
    if (p)
        give(ps, p, c);
    else
        keep(k, c);
    return true;
}

/* Now it is. */
void home_cries(procspace_t *ps, struct kid *k)
{
    while (k->cries) {
        struct cry *c = k->cries;
        k->cries = c->next;
        give(ps, k->body, c);
        free(c);
    }
    if (k->stopped)
        home_halted(ps, k, NULL);
}

void home_cries_free(struct kid *k)
{
    while (k->cries) {
        struct cry *c = k->cries;
        k->cries = c->next;
        signals_end(c->with);
        free(c);
    }
}

/* ["cry", npid, gen, sig, value or nil, from, uid]: it was sent this. */
bool home_cry(procspace_t *ps, int node, const struct event *e)
{
    int64_t sig, value = 0, from = 0, uid = 0;

    if (e->n < 7 || !mp_as_int(&e->v[3], &sig) || sig < 1 || sig > SIGRTMAX)
        return true;
    mp_as_int(&e->v[5], &from);
    mp_as_int(&e->v[6], &uid);
    bool has_value = mp_as_int(&e->v[4], &value);
    return cry(ps, node, e,
               &(struct cry){ NULL, (int)sig, has_value, value, uid, from, e->once, NULL });
}

/* ["cut", npid, gen]: it was killed. */
bool home_cut(procspace_t *ps, int node, const struct event *e)
{
    return cry(ps, node, e, &(struct cry){ .sig = SIGKILL });
}

/* The stand-in was stopped there by SIGSTOP. */
void home_halted(procspace_t *ps, struct kid *k, const struct event *e)
{
    if (k->body->ghost_stopped)
        return;
    k->body->ghost_stopped = true;
    struct signals *with = e ? given_begin(ps, e) : NULL;
    if (e)
        body_signal_value(ps, k->body, SIGSTOP, false, 0, 0, 0, e->once, with);
    else
        body_signal(ps, k->body, SIGSTOP);
    signals_end(with);
}
