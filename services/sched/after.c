/* after.c - jobs that wait for others to end (--after) */
#include "services/sched/sched.h"
#include <stdlib.h>

#define BUCKETS 1024

struct wait { /* j waits for target */
    struct job *j;
    uint64_t target;
    enum after kind;
    struct wait *next;
};

static struct wait *bucket[BUCKETS]; /* by target; there is one sched a process */

int after_add(sched_t *s, struct job *j, uint64_t target, enum after kind)
{
    struct wait *w = malloc(sizeof *w);

    (void)s;
    if (!w)
        return -1;
    struct wait **at = &bucket[target % BUCKETS];
    while (*at)
        at = &(*at)->next;
    *w = (struct wait){ j, target, kind, NULL };
    *at = w;
    j->afters++;
    return 0;
}

void after_drop(sched_t *s, struct job *j)
{
    (void)s;
    for (int i = 0; j->afters && i < BUCKETS; i++)
        for (struct wait **at = &bucket[i]; *at;) {
            struct wait *w = *at;
            if (w->j != j) {
                at = &w->next;
                continue;
            }
            *at = w->next;
            free(w);
            j->afters--;
        }
}

/* Out of the lists, those that waited for this one. */
static struct wait *take(uint64_t target)
{
    struct wait *out = NULL, **end = &out;

    for (struct wait **at = &bucket[target % BUCKETS]; *at;) {
        struct wait *w = *at;
        if (w->target != target) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->next = NULL;
        *end = w;
        end = &w->next;
        w->j->afters--;
    }
    return out;
}

void after_ended(sched_t *s, uint64_t target, bool good)
{
    struct wait *w = take(target), *next;

    for (; w; w = next) {
        struct job *j = w->j;
        bool met = w->kind == AFTER_ANY || (w->kind == AFTER_OK) == good;
        next = w->next;
        free(w);
        if (j->state == JOB_DONE)
            continue;
        if (!met) {
            job_reason(j, "job %llu, which it was to follow, has %s", (unsigned long long)target,
                       good ? "not failed" : "failed");
            j->status = 1 << 8;
            job_done(s, j);
        } else if (!j->afters && j->state == JOB_AFTER) {
            job_wait(s, j);
            job_changed(s, j);
        }
    }
}

uint64_t after_first(sched_t *s, const struct job *j, enum after *kind)
{
    (void)s;
    for (int i = 0; j->afters && i < BUCKETS; i++)
        for (const struct wait *w = bucket[i]; w; w = w->next)
            if (w->j == j) {
                *kind = w->kind;
                return w->target;
            }
    return 0;
}

uint32_t after_pack(sched_t *s, const struct job *j, mp_buf *rows)
{
    static const char *const names[] = { "ok", "fail", "any" };
    uint32_t n = 0;

    (void)s;
    for (int i = 0; j->afters && i < BUCKETS; i++)
        for (const struct wait *w = bucket[i]; w; w = w->next)
            if (w->j == j) {
                mp_array(rows, 2);
                mp_uint(rows, w->target);
                mp_str(rows, names[w->kind]);
                n++;
            }
    return n;
}
