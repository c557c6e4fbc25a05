/* help.c - what policies share (policy.h): choosing nodes, free nodes over time */
#include <stdlib.h>
#include <string.h>
#include "services/sched/policy.h"

static bool is_attr(const char *attr, const char *want)
{
    size_t n = strlen(want);

    return strncmp(attr, want, n) == 0 && (!attr[n] || (attr[n] == '=' && !strchr(want, '=')));
}

bool bjs_has(const char *const *attrs, const char *const *wants)
{
    for (; wants && *wants; wants++) {
        const char *const *a = attrs;
        while (a && *a && !is_attr(*a, *wants))
            a++;
        if (!a || !*a)
            return false;
    }
    return true;
}

bool bjs_suits(const struct bjs_job *j, const struct bjs_node *n)
{
    return n->up && n->cpus >= j->cpus && n->mem_mb >= j->mem_mb && bjs_has(n->attrs, j->wants);
}

/* Less able first: what others may need is left to them. */
static bool less_able(const struct bjs_node *a, const struct bjs_node *b)
{
    return a->mem_mb != b->mem_mb ? a->mem_mb < b->mem_mb : a->cpus < b->cpus;
}

static bool all_alike(const struct bjs_pool *p)
{
    for (uint32_t i = 1; i < p->nodes; i++)
        if (p->node[i].mem_mb != p->node[0].mem_mb || p->node[i].cpus != p->node[0].cpus)
            return false;
    return true;
}

bool bjs_pick(const struct bjs_pool *p, const struct bjs_job *j, uint32_t *place)
{
    uint32_t n = 0;
    bool alike = all_alike(p);

    if (p->idle < j->nodes)
        return false;
    for (uint32_t i = 0; i < p->nodes && (n < j->nodes || !alike); i++) {
        if (p->node[i].jobs || !bjs_suits(j, &p->node[i]))
            continue;
        uint32_t at = n;
        while (at && less_able(&p->node[i], &p->node[place[at - 1]]))
            at--;
        if (at == j->nodes)
            continue;
        uint32_t last = n < j->nodes ? n++ : n - 1;
        memmove(place + at + 1, place + at, (last - at) * sizeof *place);
        place[at] = i;
    }
    return n == j->nodes;
}

uint32_t bjs_suiting(const struct bjs_pool *p, const struct bjs_job *j)
{
    uint32_t n = 0;

    if (!j->cpus && !j->mem_mb && !j->wants)
        return p->up;
    for (uint32_t i = 0; i < p->nodes; i++)
        n += bjs_suits(j, &p->node[i]);
    return n;
}

/* --- free nodes over time ------------------------------------------------ */

static int insert(struct bjs_profile *f, uint32_t i, int64_t at, int32_t free)
{
    if (f->n == f->room) {
        uint32_t room = f->room ? f->room * 2 : 64;
        struct bjs_step *v = realloc(f->v, room * sizeof *v);
        if (!v)
            return -1;
        f->v = v;
        f->room = room;
    }
    memmove(f->v + i + 1, f->v + i, (f->n - i) * sizeof *f->v);
    f->v[i] = (struct bjs_step){ at, free };
    f->n++;
    return 0;
}

/* The step that begins at this time, made if need be. */
static int64_t step_at(struct bjs_profile *f, int64_t at)
{
    uint32_t lo = 0, hi = f->n;

    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (f->v[mid].at < at)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < f->n && f->v[lo].at == at)
        return lo;
    return insert(f, lo, at, f->v[lo - 1].free) < 0 ? -1 : (int64_t)lo;
}

int bjs_profile_take(struct bjs_profile *f, int64_t from, uint32_t nodes, int64_t ms)
{
    int64_t a = step_at(f, from), b = a < 0 ? -1 : step_at(f, from + ms);

    if (b < 0)
        return -1;
    for (int64_t i = a; i < b; i++)
        f->v[i].free -= (int32_t)nodes;
    return 0;
}

int bjs_profile_begin(struct bjs_profile *f, const struct bjs_pool *p)
{
    f->n = 0;
    if (insert(f, 0, p->now_ms, (int32_t)p->up) < 0)
        return -1;
    for (uint32_t i = 0; i < p->nrunning; i++) {
        const struct bjs_job *j = p->running[i];
        int64_t left = j->started_ms + j->secs * 1000 - p->now_ms;
        if (bjs_profile_take(f, p->now_ms, j->nodes, left > 1000 ? left : 1000) < 0)
            return -1;
    }
    return 0;
}

int64_t bjs_profile_find(const struct bjs_profile *f, uint32_t nodes, int64_t ms)
{
    for (uint32_t i = 0; i < f->n; i++) {
        uint32_t k = i;
        while (k < f->n && f->v[k].free >= (int32_t)nodes && f->v[k].at < f->v[i].at + ms)
            k++;
        /* a gap as long as the job is long enough */
        if (k == f->n || f->v[k].at >= f->v[i].at + ms)
            return f->v[i].at;
        i = k; /* too few there: begin after it */
    }
    return -1;
}

void bjs_profile_free(struct bjs_profile *f)
{
    free(f->v);
    *f = (struct bjs_profile){ 0 };
}
