/* policy.h - a scheduling policy: which waiting job starts now, on which nodes
 *
 * A policy is a shared object NAME.so with one symbol, `policy', of the type
 * struct bjs_policy. sched loads it for each pool of bjs.conf that names it,
 * and calls schedule() whenever something has changed that could let a job
 * start: a job was submitted or released, nodes became free or came up. The
 * policy looks at the pool and calls start() for the jobs that are to start;
 * the pool shows the change at once. It need not look after time limits, dead
 * nodes or permissions: sched does.
 *
 * What a policy cannot do: start() refuses (-1, and a line in the log) whatever
 * would give a node twice, a node that is not up, or another number of nodes
 * than the job asked for. Jobs are on the disk before a policy sees them, so a
 * policy that crashes, exits or runs for more than BJS_PATIENCE_S seconds loses
 * none: sched is started again, and after the second time puts the policy aside
 * and has `simple' do its work, until bjs.conf is read again (SIGHUP).
 *
 * Everything reached through a struct bjs_pool is to be read only, but for
 * state; pointers are good until schedule() returns. Times are milliseconds
 * since the epoch, in a simulation those of the trace. One thread.
 *
 * Version: a policy of another BJS_POLICY_VERSION is not loaded.
 */
#ifndef BJS_POLICY_H
#define BJS_POLICY_H
#include <stdbool.h>
#include <stdint.h>

#define BJS_POLICY_VERSION 2
#define BJS_PATIENCE_S 10

struct bjs_job {
    uint64_t id;
    uint32_t uid;
    uint32_t nodes;    /* how many it wants, 1 or more */
    uint32_t cpus;     /* on each; 0: the node as it is */
    uint64_t mem_mb;   /* on each; 0: any */
    int64_t secs;      /* its time limit */
    int32_t priority;  /* higher is sooner; 0 unless asked for */
    int64_t submitted_ms;
    int64_t started_ms; /* running ones */
    const char *const *wants; /* what each node must have, "NAME" or "NAME=VALUE", NULL after
                                 the last; or NULL */
};

struct bjs_node {
    int number;
    bool up;            /* may be given */
    uint32_t jobs;      /* that it is given to */
    uint32_t cpus, cpus_used;
    uint64_t mem_mb, mem_used_mb;
    const char *const *attrs; /* its attributes, "NAME=VALUE", NULL after the last; or NULL */
};

struct bjs_pool {
    uint32_t version; /* sched's BJS_POLICY_VERSION */
    const char *name;
    int64_t now_ms;
    const struct bjs_node *node; /* in the order of bjs.conf */
    uint32_t nodes;
    uint32_t up;   /* nodes that are up ... */
    uint32_t idle; /* ... and have no job */
    const struct bjs_job *const *running;
    uint32_t nrunning;

    /* The next waiting job in the policy's order, NULL after the last; rewind()
     * begins again. A job that was started is not met again. */
    const struct bjs_job *(*next)(struct bjs_pool *p);
    void (*rewind)(struct bjs_pool *p);
    /* Start it on these nodes: indexes into node[], as many as it wants. The
     * nodes must be idle, unless the policy is a sharing one. 0, or -1. */
    int (*start)(struct bjs_pool *p, const struct bjs_job *j, const uint32_t *place);
    /* It will start at this time, as far as one can tell now (bjsstat why). */
    void (*plan)(struct bjs_pool *p, const struct bjs_job *j, int64_t at_ms);
    /* A word of the pool in bjs.conf that the policy knows. */
    long (*setting)(struct bjs_pool *p, const char *word, long dflt);

    void *state;  /* the policy's own; NULL at first */
    void *engine; /* sched's */
};

enum bjs_order {
    BJS_FIFO, /* as submitted */
    BJS_FAIR, /* by priority, then by who has used least of late, then as submitted */
};

struct bjs_policy {
    uint32_t version; /* BJS_POLICY_VERSION */
    const char *name, *about;
    enum bjs_order order;
    bool sharing; /* it may give a node to several jobs; nodes are open to all then */
    const char *const *settings; /* words it knows in bjs.conf, NULL after the last; or NULL */
    void (*schedule)(struct bjs_pool *p);
    void (*close)(struct bjs_pool *p); /* free state; may be NULL */
};

/* Are all of these wants among these attributes? Either may be NULL. */
bool bjs_has(const char *const *attrs, const char *const *wants);

/* May this job have this node, were it idle? */
bool bjs_suits(const struct bjs_job *j, const struct bjs_node *n);

/* Idle nodes for the job, the least able ones that do, in pool order among equals.
 * place has room for j->nodes. False: there are not as many now. */
bool bjs_pick(const struct bjs_pool *p, const struct bjs_job *j, uint32_t *place);

/* So many nodes of the pool would do if all were idle. */
uint32_t bjs_suiting(const struct bjs_pool *p, const struct bjs_job *j);

/* Free nodes over time, from now on: first what running jobs leave, by their time
 * limits (at least a second is left to each), then what is taken for others. */
struct bjs_profile {
    struct bjs_step {
        int64_t at;
        int32_t free;
    } *v;
    uint32_t n, room;
};
int bjs_profile_begin(struct bjs_profile *f, const struct bjs_pool *p); /* -1: no memory */
/* The earliest time from which so many are free for so long. -1: never. */
int64_t bjs_profile_find(const struct bjs_profile *f, uint32_t nodes, int64_t ms);
int bjs_profile_take(struct bjs_profile *f, int64_t from, uint32_t nodes, int64_t ms);
void bjs_profile_free(struct bjs_profile *f);

extern const struct bjs_policy policy __attribute__((visibility("default")));

#endif
