/* filler.c - conservative backfill: every waiting job has a reservation
 *
 * In the order of submission each job gets the earliest time at which enough
 * nodes are free for as long as it may run, next to the reservations of all
 * before it. If that is now, it starts. So a later job never delays an earlier
 * one as far as the time limits tell; who ends early is made use of at once,
 * since all is planned anew.
 *
 * The first `depth' jobs are planned: those behind them wait.
 */
#include <stdlib.h>
#include "services/sched/policy.h"

#define DEPTH 256

static void schedule(struct bjs_pool *p)
{
    uint32_t *place = malloc((p->nodes + 1) * sizeof *place);
    struct bjs_profile f = { 0 };
    const struct bjs_job *j;
    long left = p->setting(p, "depth", DEPTH);

    if (!place || !p->idle || bjs_profile_begin(&f, p) < 0)
        left = 0;
    for (; left > 0 && p->idle && (j = p->next(p)); left--) {
        if (j->nodes > bjs_suiting(p, j))
            continue;
        int64_t at = bjs_profile_find(&f, j->nodes, j->secs * 1000);
        if (at < 0)
            continue;
        if (at == p->now_ms && bjs_pick(p, j, place) && p->start(p, j, place) == 0) {
            if (bjs_profile_take(&f, at, j->nodes, j->secs * 1000) < 0)
                break;
            continue;
        }
        p->plan(p, j, at);
        if (bjs_profile_take(&f, at, j->nodes, j->secs * 1000) < 0)
            break;
    }
    bjs_profile_free(&f);
    free(place);
}

static const char *const settings[] = { "depth", NULL };

const struct bjs_policy policy = {
    .version = BJS_POLICY_VERSION,
    .name = "filler",
    .about = "conservative backfill: no job delays an earlier one",
    .order = BJS_FIFO,
    .settings = settings,
    .schedule = schedule,
};
