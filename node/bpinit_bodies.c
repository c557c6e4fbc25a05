/* bpinit_bodies.c - the table of bodies: by pid, by local pid, by rank */
#include <errno.h>
#include <stdlib.h>
#include "node/bpinit.h"

#define BUCKETS 4096 /* of chains: a limit for speed only */

struct bodies {
    struct body *by_pid[BUCKETS], *by_npid[BUCKETS], *by_rank[BUCKETS];
    uint32_t running;
};

static struct body **pid_bucket(struct body **table, pid_t pid)
{
    return &table[(uint32_t)pid % BUCKETS];
}

static struct body **rank_bucket(bodies_t *t, uint64_t launch, uint32_t rank)
{
    return &t->by_rank[(launch * 31 + rank) % BUCKETS];
}

bodies_t *bodies_create(struct err *err)
{
    bodies_t *t = calloc(1, sizeof *t);

    if (!t)
        err_set(err, ENOMEM, "bodies: out of memory");
    return t;
}

static void body_free(struct body *b)
{
    free(b->argv0);
    free(b);
}

void bodies_destroy(bodies_t **tp)
{
    bodies_t *t = *tp;

    if (!t)
        return;
    for (int i = 0; i < BUCKETS; i++)
        while (t->by_rank[i]) {
            struct body *b = t->by_rank[i];
            t->by_rank[i] = b->by_rank;
            body_free(b);
        }
    free(t);
    *tp = NULL;
}

int bodies_add(bodies_t *t, const struct body *from, struct err *err)
{
    struct body *b = malloc(sizeof *b);

    if (!b)
        return err_set(err, ENOMEM, "bodies: out of memory");
    *b = *from;
    struct body **head = pid_bucket(t->by_pid, b->pid);
    b->by_pid = *head;
    *head = b;
    head = pid_bucket(t->by_npid, b->npid);
    b->by_npid = *head;
    *head = b;
    head = rank_bucket(t, b->launch, b->rank);
    b->by_rank = *head;
    *head = b;
    t->running++;
    return 0;
}

struct body *bodies_by_pid(const bodies_t *t, pid_t pid)
{
    struct body *b = t->by_pid[(uint32_t)pid % BUCKETS];

    while (b && b->pid != pid)
        b = b->by_pid;
    return b;
}

struct body *bodies_by_npid(const bodies_t *t, pid_t npid)
{
    struct body *b = t->by_npid[(uint32_t)npid % BUCKETS];

    while (b && b->npid != npid)
        b = b->by_npid;
    return b;
}

struct body *bodies_by_rank(const bodies_t *t, uint64_t launch, uint32_t rank)
{
    struct body *b = t->by_rank[(launch * 31 + rank) % BUCKETS];

    while (b && (b->launch != launch || b->rank != rank))
        b = b->by_rank;
    return b;
}

void bodies_end(bodies_t *t, struct body *b)
{
    struct body **p = pid_bucket(t->by_pid, b->pid);

    while (*p != b)
        p = &(*p)->by_pid;
    *p = b->by_pid;
    p = pid_bucket(t->by_npid, b->npid);
    while (*p != b)
        p = &(*p)->by_npid;
    *p = b->by_npid;
    b->ended = true;
    t->running--;
}

void bodies_drop(bodies_t *t, struct body *b)
{
    if (!b->ended)
        bodies_end(t, b);
    struct body **p = rank_bucket(t, b->launch, b->rank);
    while (*p != b)
        p = &(*p)->by_rank;
    *p = b->by_rank;
    body_free(b);
}

void bodies_each(const bodies_t *t, body_fn *fn, void *arg)
{
    for (int i = 0; i < BUCKETS; i++)
        for (const struct body *b = t->by_pid[i]; b; b = b->by_pid)
            fn(arg, b);
}

void bodies_forget_parent(bodies_t *t, const struct kin_parent *p)
{
    for (int i = 0; i < BUCKETS; i++)
        for (struct body *b = t->by_pid[i]; b; b = b->by_pid)
            if (b->parent == p)
                b->parent = NULL;
}

void bodies_change(bodies_t *t, void (*fn)(void *arg, struct body *b), void *arg)
{
    for (int i = 0; i < BUCKETS; i++)
        for (struct body *b = t->by_pid[i]; b; b = b->by_pid)
            fn(arg, b);
}

uint32_t bodies_running(const bodies_t *t) { return t->running; }
