/* crash-policy.c - a policy that crashes whenever it is asked, or never comes back */
#include <stdlib.h>
#include "services/sched/policy.h"

static void schedule(struct bjs_pool *p)
{
    volatile long spins = 1;

    if (p->setting(p, "hang", 0))
        while (spins)
            ;
    abort();
}

static const char *const settings[] = { "hang", NULL };

const struct bjs_policy policy = {
    .version = BJS_POLICY_VERSION,
    .name = "crash",
    .settings = settings,
    .schedule = schedule,
};
