/* replay.h - a trace through the scheduling code, in simulated time */
#ifndef SCHED_REPLAY_H
#define SCHED_REPLAY_H
#include "services/sched/core.h"
#include "services/sched/swf.h"

struct replay_figures {
    size_t jobs;
    double wait_s, wait_max_s; /* mean, longest */
    double slowdown;           /* mean of (wait + run) / max(run, 10 s), 1 at least */
    double utilisation;        /* node-seconds used of those there were */
    int64_t makespan_s;
    size_t never;              /* jobs larger than the machine */
};

/* Called for each start, before the next event; may be NULL. */
typedef void replay_fn(void *arg, struct pool *p, struct job *j, int64_t now_ms);

/* p: a pool with its policy and nodes, all up. -1: no memory. */
int replay_run(struct pool *p, const struct swf *t, struct replay_figures *f, replay_fn *fn,
               void *arg);

#endif
