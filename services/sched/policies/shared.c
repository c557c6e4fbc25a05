/* shared.c - jobs share nodes: each starts at once where the fewest are
 *
 * A job that says how many processors or how much memory it needs (--cpus,
 * --mem) waits until so much is not taken by others that said so; those behind
 * it do not wait for it.
 */
#include <stdlib.h>
#include "services/sched/policy.h"

#define DEPTH 1024

static bool room(const struct bjs_job *j, const struct bjs_node *n)
{
    return bjs_suits(j, n) && n->cpus - n->cpus_used >= j->cpus &&
           n->mem_mb - n->mem_used_mb >= j->mem_mb;
}

/* The nodes with the fewest jobs that have room, in place[0..nodes). */
static bool fewest(const struct bjs_pool *p, const struct bjs_job *j, uint32_t *place)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < p->nodes; i++) {
        if (!room(j, &p->node[i]))
            continue;
        uint32_t at = n;
        while (at && p->node[i].jobs < p->node[place[at - 1]].jobs)
            at--;
        if (at == j->nodes)
            continue;
        if (n < j->nodes)
            n++;
        for (uint32_t k = n - 1; k > at; k--)
            place[k] = place[k - 1];
        place[at] = i;
    }
    return n == j->nodes;
}

static void schedule(struct bjs_pool *p)
{
    uint32_t *place = malloc((p->nodes + 1) * sizeof *place);
    const struct bjs_job *j;

    for (long left = p->setting(p, "depth", DEPTH); place && left > 0 && (j = p->next(p)); left--)
        if (fewest(p, j, place))
            p->start(p, j, place);
    free(place);
}

static const char *const settings[] = { "depth", NULL };

const struct bjs_policy policy = {
    .version = BJS_POLICY_VERSION,
    .name = "shared",
    .about = "jobs share nodes and start at once",
    .order = BJS_FIFO,
    .sharing = true,
    .settings = settings,
    .schedule = schedule,
};
