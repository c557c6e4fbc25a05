/* easy.c - EASY backfill, by priority and fair share
 *
 * Jobs start in their order as long as they fit. The first that does not gets
 * a reservation: the time at which enough nodes will be free by the limits of
 * what runs. Others start before it only if they end by then, or use nodes
 * that it will not need.
 *
 * The order: priority, then who has used least of late, then submission. The
 * first `depth' jobs are looked at.
 */
#include <stdlib.h>
#include "services/sched/policy.h"

#define DEPTH 256

struct shadow {       /* of the first job that has to wait */
    int64_t at;       /* its start */
    uint32_t extra;   /* nodes free then that it leaves over */
};

static int cast_shadow(struct bjs_pool *p, const struct bjs_job *first, struct shadow *s)
{
    struct bjs_profile f = { 0 };
    int32_t free_then = 0;

    if (bjs_profile_begin(&f, p) < 0) {
        bjs_profile_free(&f);
        return -1;
    }
    /* The profile only rises: whoever fits once fits from then on. */
    s->at = bjs_profile_find(&f, first->nodes, 1);
    for (uint32_t i = 0; i < f.n && f.v[i].at <= s->at; i++)
        free_then = f.v[i].free;
    bjs_profile_free(&f);
    s->extra = free_then > (int32_t)first->nodes ? (uint32_t)free_then - first->nodes : 0;
    return s->at < 0 ? -1 : 0;
}

/* Special wishes: the reserved job may need the very nodes that are idle now. */
static bool special(const struct bjs_job *j) { return j->cpus || j->mem_mb || j->wants; }

static void schedule(struct bjs_pool *p)
{
    uint32_t *place = malloc((p->nodes + 1) * sizeof *place);
    const struct bjs_job *j, *first = NULL;
    struct shadow s = { 0 };

    for (long left = p->setting(p, "depth", DEPTH);
         place && left > 0 && p->idle && (j = p->next(p)); left--) {
        if (j->nodes > bjs_suiting(p, j))
            continue;
        if (!first) {
            if (bjs_pick(p, j, place)) {
                if (p->start(p, j, place) < 0)
                    break;
                continue;
            }
            first = j;
            if (cast_shadow(p, j, &s) < 0)
                break;
            p->plan(p, j, s.at);
            continue;
        }
        bool over = p->now_ms + j->secs * 1000 <= s.at;
        if (!over && (special(first) || s.extra < j->nodes))
            continue;
        if (!bjs_pick(p, j, place) || p->start(p, j, place) < 0)
            continue;
        if (!over)
            s.extra -= j->nodes;
    }
    free(place);
}

static const char *const settings[] = { "depth", NULL };

const struct bjs_policy policy = {
    .version = BJS_POLICY_VERSION,
    .name = "easy",
    .about = "EASY backfill by priority and fair share",
    .order = BJS_FAIR,
    .settings = settings,
    .schedule = schedule,
};
