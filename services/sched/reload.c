/* reload.c - another bjs.conf while jobs wait and run
 *
 * Pools of the same name go on with their jobs; nodes that are new are taken
 * over, nodes that are in no pool any more are opened to all once their job is
 * over. A configuration that would leave jobs without a pool is refused.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "services/sched/db.h"

static bool has_jobs(const sched_t *s, const struct pool *p)
{
    for (size_t i = 0; i < JOB_BUCKETS; i++)
        for (const struct job *j = s->job[i]; j; j = j->next)
            if (j->pool == p)
                return true;
    return false;
}

/* A node may not go from one pool to another under a job. */
static int check_moves(const struct pool *old, const struct conf *c, struct err *err)
{
    for (uint32_t i = 0; i < old->nodes; i++) {
        if (!old->view_node[i].jobs)
            continue;
        for (const struct pool *p = c->pools; p; p = p->next)
            if (strcmp(p->name, old->name) != 0 && pool_node(p, old->node[i]->number))
                return err_set(err, EBUSY, "node %d is moved from pool %s to pool %s, but a job "
                               "has it: reload once that has ended", old->node[i]->number,
                               old->name, p->name);
    }
    return 0;
}

static int check(const sched_t *s, const struct conf *c, struct err *err)
{
    for (const struct pool *p = s->conf.pools; p; p = p->next) {
        if (!pool_find(c->pools, p->name) && has_jobs(s, p))
            return err_set(err, EBUSY, "pool %s is not in the new configuration, but has jobs: "
                           "remove them first, or keep it with `bjsctl drain %s'", p->name,
                           p->name);
        if (check_moves(p, c, err) < 0)
            return -1;
    }
    return 0;
}

#define SWAP(a, b) do { __typeof__(a) x_ = (a); (a) = (b); (b) = x_; } while (0)

static int merge(sched_t *s, struct pool *p, struct pool *fresh, struct err *err)
{
    for (uint32_t i = 0; i < fresh->nodes; i++)
        if (pool_add_node(p, fresh->node[i]->number, err) < 0)
            return -1;
    SWAP(p->limit, fresh->limit);
    SWAP(p->settings, fresh->settings);
    SWAP(p->policy, fresh->policy);
    SWAP(p->handle, fresh->handle);
    SWAP(p->view.state, fresh->view.state);
    SWAP(p->policy_name, fresh->policy_name);
    p->aside[0] = 0;
    p->open = fresh->open;
    p->halflife_ms = fresh->halflife_ms;
    p->warn_ms = fresh->warn_ms;
    p->warn_signal = fresh->warn_signal;
    p->kill_ms = fresh->kill_ms;
    for (uint32_t i = 0; i < p->nodes; i++) {
        struct pnode *n = p->node[i];
        bool was = n->leaving;
        n->leaving = !pool_node(fresh, n->number);
        n->fresh = !n->leaving;
        if (n->leaving && !was)
            node_leave(s, n);
    }
    p->wake = true;
    return 0;
}

static void retire(sched_t *s, struct pool *p)
{
    for (uint32_t i = 0; i < p->nodes; i++) {
        p->node[i]->leaving = true;
        node_leave(s, p->node[i]);
    }
    p->next = s->conf.gone;
    s->conf.gone = p;
}

int conf_apply(sched_t *s, struct conf *c, struct err *err)
{
    struct pool *old = s->conf.pools, *merged = NULL, **end = &merged;

    if (check(s, c, err) < 0)
        return -1;
    for (struct pool *f = c->pools, *next; f; f = next) {
        next = f->next;
        struct pool **at = &old;
        while (*at && strcmp((*at)->name, f->name) != 0)
            at = &(*at)->next;
        struct pool *p = *at;
        if (p) {
            *at = p->next;
            if (merge(s, p, f, err) < 0)
                abort(); /* out of memory half-way: the next life reads it all anew */
            pool_free(&f);
        } else {
            p = f;
            for (uint32_t i = 0; i < p->nodes; i++)
                p->node[i]->fresh = true;
            if (db_load_usage(s->db, p, err) < 0)
                svc_log("warning", "pool %s: %s", p->name, err->text);
        }
        p->next = NULL;
        *end = p;
        end = &p->next;
    }
    c->pools = NULL;
    while (old) {
        struct pool *p = old;
        old = p->next;
        retire(s, p);
    }
    c->gone = s->conf.gone;
    s->conf.gone = NULL;
    s->conf.pools = NULL;
    conf_free(&s->conf);
    s->conf = *c;
    s->conf.pools = merged;
    *c = (struct conf){ 0 };
    return 0;
}

int conf_take(sched_t *s, struct err *err)
{
    struct strlist warnings = { 0 };
    struct conf c;
    int rc = conf_load(s, &c, &warnings, err);

    for (size_t i = 0; i < warnings.n; i++)
        svc_log("warning", "%s", warnings.v[i]);
    strlist_free(&warnings);
    if (rc == 0)
        rc = conf_apply(s, &c, err);
    conf_free(&c);
    return rc;
}

int sched_reload(sched_t *s, struct err *err)
{
    if (conf_take(s, err) < 0) {
        svc_log("error", "the configuration stays as it was: %s", err->text);
        return -1;
    }
    guard_pools(s, s->conf.pools, true);
    nodes_ask(s);
    turn_soon(s);
    return 0;
}
