/* core.h - jobs, pools and the engine: what is decided, without any I/O
 *
 * sched and its replay simulator run the same code: pools with their waiting
 * and running jobs, and engine_pass(), which lets the pool's policy decide and
 * checks what it decides. Times: ms since the epoch (replay: of the trace).
 */
#ifndef SCHED_CORE_H
#define SCHED_CORE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "bus/err.h"
#include "services/sched/policy.h"

enum job_state {
    JOB_HELD,     /* until somebody releases it */
    JOB_AFTER,    /* until others have ended */
    JOB_QUEUED,
    JOB_CLAIMING, /* has nodes; nodemgr is asked to make them its user's */
    JOB_STARTING, /* its nodes are its own: to be started once this is on the disk */
    JOB_RUNNING,
    JOB_ENDING,   /* its command has ended; what it left is being ended */
    JOB_DONE,
};
const char *job_state_name(enum job_state s);

enum { /* struct job: flags; kept in the database */
    JOB_INTERACTIVE = 1,
    JOB_RESTARTABLE = 2, /* again, if it is lost with the master */
    JOB_REQUEUE = 4,     /* again, if a node is lost under it */
    JOB_SCRIPT = 8,      /* the command is a script's text */
    JOB_ON_HOLD = 16,    /* by the user or root */
    JOB_REMOVED = 32,    /* somebody wants it gone */
    JOB_TIMED_OUT = 64,
    JOB_NODE_LOST = 128,
    JOB_AGAIN = 256,     /* to be queued again once it has ended */
    JOB_GIVEN_UP = 512,  /* an attempt was, of which nothing had been heard */
    JOB_FREE_MEM = 1024, /* a node could not limit its memory to --mem */
    JOB_FREE_CPUS = 2048, /* ... its processors to --cpus */
};

struct pool;
struct run;  /* run.h: a job on its way through claims, start and end */
struct user; /* of one pool */

struct list { /* a ring; the head is no element */
    struct list *prev, *next;
};
void list_init(struct list *l);
void list_before(struct list *at, struct list *l); /* list_before(&head, l): at the end */
void list_out(struct list *l);                     /* fine if it is in none */
static inline bool list_in(const struct list *l) { return l->next && l->next != l; }
#define of_list(type, member, p) ((type *)(void *)((char *)(p) - offsetof(type, member)))

struct pnode { /* a node of a pool */
    struct pool *pool;
    uint32_t index; /* in pool->node and in the policy's view */
    int number;
    bool alive;       /* up, and heard of */
    bool was_up, fresh; /* fresh: to be taken over, whatever it is */
    bool ours;        /* it stands as we have set it */
    bool by_hand;     /* somebody else has changed it */
    bool given;       /* to a user, by us */
    bool sweeping;    /* processes of before are being ended */
    bool leaving;     /* of no pool any more, once its job is over */
    unsigned mode;    /* as nodemgr says */
    uid_t uid;
    gid_t gid;
    uint32_t cpus;
    uint64_t mem_mb;
    char space[65];
    char **attrs;     /* as the policy sees them; NULL: none */
    struct job *job;  /* of exclusive pools */
    uint64_t stamp;   /* of our last change to it: what was asked for before is old */
    bool busy;        /* nodemgr is being asked to change it */
};

struct job {
    struct bjs_job pub;
    enum job_state state;
    uint32_t flags;
    gid_t gid;
    struct pool *pool;
    struct user *user;
    uint32_t attempt, retries; /* started so often; so many failures are forgiven yet */
    int64_t text;              /* row of the text table: what is to be run */
    uint64_t array;            /* id of its first; 0: none */
    int32_t index;             /* in the array */
    int64_t ended_ms, planned_ms;
    int status;                /* as from wait() */
    struct used { /* of the last attempt; the most memory that one process had */
        int64_t utime_us, stime_us, maxrss_kb;
    } on_master, on_nodes;
    char *reason;              /* NULL: none */
    struct pnode **place;      /* pub.nodes of them while it has any */
    uint32_t at;               /* in pool->running */
    struct list fifo, bucket;  /* waiting */
    struct job *next;          /* in its hash chain */
    struct job *dirty;         /* not in the database as it is */
    bool is_dirty;
    int afters;                /* jobs that it waits for */
    struct run *run;
};

struct bucket { /* a user's waiting jobs of one priority, as submitted */
    int32_t priority;
    struct list jobs;
    struct bucket *next; /* of lower priority */
};

struct user {
    uint32_t uid;
    struct bucket *buckets;
    double usage;      /* node-seconds, halved every half-life ... */
    int64_t usage_ms;  /* ... as of then */
    uint32_t waiting, running_nodes;
    /* the merge of engine's next() */
    struct bucket *at;
    struct list *cursor;
    double now;
    bool dirty; /* its usage is not in the database */
    struct user *next;
};

struct setting {
    char *word;
    long value;
    struct setting *next;
};

struct limits {
    uint32_t minnodes, maxnodes; /* 0: none */
    int64_t minsecs, maxsecs, defaultsecs;
    uint32_t *users;
    size_t nusers; /* 0 with no groups: everybody */
    uint32_t *groups;
    size_t ngroups;
};

struct pool {
    char name[32];
    char *policy_name;
    const struct bjs_policy *policy;
    void *handle; /* of dlopen; NULL: built in */
    char aside[160]; /* why simple does the policy's work; "" : it does not */
    struct limits limit;
    bool open;    /* nodes stay everybody's (takeover no) */
    bool drained; /* starts nothing */
    int64_t halflife_ms, warn_ms, kill_ms;
    int warn_signal;
    struct setting *settings;
    struct pnode **node;
    struct bjs_node *view_node;
    uint32_t nodes;
    struct list fifo; /* all waiting */
    uint32_t waiting;
    struct user *users;
    const struct bjs_job **running; /* the jobs' pubs */
    uint32_t nrunning, running_room;
    struct bjs_pool view;
    bool left;        /* a job has left nodes */
    bool wake;        /* something has changed that could start a job */
    struct list *cursor;
    struct engine_hooks *hooks; /* during a pass */
    struct pool *next;
};

struct pool *pool_create(const char *name, struct err *err);
void pool_free(struct pool **p);
int pool_add_node(struct pool *p, int number, struct err *err);
struct pnode *pool_node(const struct pool *p, int number); /* NULL: not of it */
uint32_t pool_size(const struct pool *p); /* without nodes that are leaving it */
long pool_setting(const struct pool *p, const char *word, long dflt);
int pool_set(struct pool *p, const char *word, long value); /* -1: no memory */
struct user *pool_user(struct pool *p, uint32_t uid); /* made if need be; NULL: no memory */

/* What the node's attributes are: taken over. */
void node_attrs(struct pnode *n, char **attrs);
/* The node can be given (or not), and what it has. */
void node_usable(struct pnode *n, bool up, uint32_t cpus, uint64_t mem_mb);

/* Waiting: state becomes JOB_QUEUED. A job that waited before finds its place by id. */
int job_enqueue(struct job *j);
void job_dequeue(struct job *j);
/* Has it nodes? */
static inline bool job_placed(const struct job *j) { return j->place != NULL; }
int job_take(struct job *j, struct pnode *const *place); /* claim pub.nodes nodes: -1 no memory */
void job_leave(struct job *j, int64_t now_ms);     /* its nodes are idle; usage is charged */
void job_clear(struct job *j); /* free what it points to */
static inline struct job *job_of_pub(const struct bjs_job *b)
{
    return (struct job *)(uintptr_t)b; /* pub comes first */
}

struct engine_hooks {
    void (*started)(void *arg, struct job *j); /* it has nodes: JOB_CLAIMING */
    void (*refused)(void *arg, struct pool *p, const char *why); /* the policy was wrong */
    void (*enter)(void *arg, struct pool *p); /* around the policy's call; may be NULL */
    void (*leave)(void *arg, struct pool *p);
    void *arg;
};
/* Let the policy decide. */
void engine_pass(struct pool *p, int64_t now_ms, struct engine_hooks *h);

/* The waiting jobs in the policy's order, until fn says false. */
void engine_order(struct pool *p, int64_t now_ms,
                  bool (*fn)(void *arg, const struct bjs_pool *v, const struct bjs_job *j),
                  void *arg);

/* --- wants.c --- */
/* Of requirements as they are kept ("KEY=VALUE KEY "); *out NULL: none is a node's
 * matter. To be given back by wants_put(). -1: no memory. */
int wants_get(const char *reqs, const char *const **out);
void wants_put(const char *const *v);

double user_usage(const struct pool *p, const struct user *u, int64_t now_ms);

/* --- policies.c --- */
/* Load NAME.so from one of the folders ("A:B"), or the built-in simple.
 * ENOENT with where was looked, ENOTSUP another version. */
int policy_load(struct pool *p, const char *name, const char *path, struct err *err);
void policy_builtin(struct pool *p); /* from now on simple, whatever was */
void policy_unload(struct pool *p);

#endif
