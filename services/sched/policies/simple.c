/* simple.c - first come, first served: nothing behind a job that waits is started */
#include <stdlib.h>
#include "services/sched/policy.h"

static void schedule(struct bjs_pool *p)
{
    uint32_t *place = malloc((p->nodes + 1) * sizeof *place);
    const struct bjs_job *j;

    while (place && p->idle && (j = p->next(p))) {
        if (j->nodes > bjs_suiting(p, j))
            continue; /* not with the nodes that are up now */
        if (!bjs_pick(p, j, place) || p->start(p, j, place) < 0)
            break;
    }
    free(place);
}

#ifdef BJS_BUILTIN /* sched's own copy: what it falls back on */
#define policy policy_simple
extern const struct bjs_policy policy_simple;
#endif
const struct bjs_policy policy = {
    .version = BJS_POLICY_VERSION,
    .name = "simple",
    .about = "first come, first served",
    .order = BJS_FIFO,
    .schedule = schedule,
};
