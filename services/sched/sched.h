/* sched.h - what sched's parts share
 *
 * One turn of the loop gathers what has happened; at its end (turn.c) the pools'
 * policies decide, what has changed is written in one transaction, and only
 * what is on the disk is acted on: jobs are started, runners are let go, askers
 * are answered. What the disk does not take stays as it was and is tried again.
 */
#ifndef SCHED_H
#define SCHED_H
#include "bus/config.h"
#include "bus/loop.h"
#include "bus/mp.h"
#include "bus/nodespec.h"
#include "bus/svc.h"
#include "services/sched/core.h"

#define JOB_BUCKETS 65536
#define ASK_MS 60000

typedef struct sched sched_t;
typedef struct db db_t;
struct submission;

struct conf { /* what bjs.conf says beside pools */
    char *policy_path, *acct_log, *acct_json;
    int64_t keep_ms;   /* ended jobs are remembered so long ... */
    int64_t keep_jobs; /* ... and so many */
    struct pool *pools;
    struct pool *gone; /* of an earlier bjs.conf: what is under way may name them */
    bool built_in;     /* there is no bjs.conf */
};

/* What a job does once it is on the disk as it is. */
enum then { THEN_NOTHING, THEN_START, THEN_FORGET };

struct run { /* a job that has nodes, or is to end */
    sched_t *sched;
    struct job *job;
    enum then then;
    char (*space)[65];     /* of its nodes when it got them */
    int claims;            /* requests to nodemgr on their way */
    bool claim_failed;
    char why[200];         /* that failed, or why it is being ended */
    int runner;            /* connection; -1: none */
    pid_t pid, sid;        /* the runner and its session; interactive: bjssub */
    unsigned long long began; /* of bjssub */
    int pidfd;             /* of bjssub; -1: none */
    char *nodes;           /* what it had, once it has left them */
    int limit_timer, warn_timer, kill_timer, look_timer;
    bool has_report, stopping, sweeping;
    int sweeps, sweep_timer;
    svc_token *token;      /* sched.ended of bjssub: answered when it is on the disk */
};

struct sched {
    loop_t *loop;
    svc_t *svc;
    db_t *db;
    const char *config_path;
    int ready_fd, starter, listener;
    struct conf conf;
    bool connected, configured, stopping;
    bool turn_asked;
    struct job *job[JOB_BUCKETS]; /* that are not done */
    uint64_t next_id;
    size_t jobs;
    struct job *dirty, **dirty_end;
    struct submission *subs, **subs_end; /* to be written in this turn */
    struct job **claims; /* started by policies in this turn */
    size_t nclaims, claims_room;
    int *acks; /* runners whose report will be on the disk with this turn */
    size_t nacks, acks_room;
    int retry_timer, later_timer, acct_timer, keep_timer;
    char disk[200]; /* why the last write failed; "": it did not */
    struct engine_hooks hooks;
    unsigned char *mark; /* policy.c: which policy runs, as the next life will read it */
    /* nodes.c */
    struct nodespec_node *known; /* nodemgr's nodes, for node specifications */
    size_t nknown;
    int ask_timer;
    bool asking, ask_again;
    uint64_t stamp, asked_stamp;
};

/* --- conf.c --- */
/* Read bjs.conf, or the built-in configuration if there is none. */
int conf_load(sched_t *s, struct conf *c, struct strlist *warnings, struct err *err);
void conf_free(struct conf *c);
/* Take *c over, or refuse: nothing is changed then. */
int conf_apply(sched_t *s, struct conf *c, struct err *err);
/* Both, and its warnings to the log. */
int conf_take(sched_t *s, struct err *err);
struct pool *pool_find(const struct pool *pools, const char *name);
bool pool_allows(const struct pool *p, uint32_t uid, uint32_t gid, const uint32_t *groups,
                 size_t ngroups);

/* The nodes are known for the first time: pools, then the jobs of before. */
int sched_configure(sched_t *s);

/* --- jobs.c --- */
struct job *job_find(sched_t *s, uint64_t id);
struct job *job_new(sched_t *s, uint64_t id); /* in the table; NULL: no memory */
void job_forget(sched_t *s, struct job *j);   /* and free it */
void job_changed(sched_t *s, struct job *j);  /* to be written in this turn */
void job_noted(sched_t *s, struct job *j);    /* ... or a little later */
void job_reason(struct job *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *job_nodes(const struct job *j); /* "0,3"; NULL: it has none */
void job_say(sched_t *s, const struct job *j, const char *what); /* the event job.WHAT */
/* It waits, if nothing holds it. */
void job_wait(sched_t *s, struct job *j);
/* Over: with its status and reason; written, then forgotten. */
void job_done(sched_t *s, struct job *j);

/* --- turn.c --- */
void turn(void *arg);
void turn_soon(sched_t *s);  /* something is to be done at the end of this turn */
void turn_later(sched_t *s); /* ... in a moment: what is lost with us does no harm */
void turn_now(sched_t *s);   /* before somebody reads what is written */

/* --- run.c: claim, start, end --- */
int run_begin(sched_t *s, struct job *j);
void run_free(sched_t *s, struct job *j);
void run_claim(sched_t *s, struct job *j);
void run_start(sched_t *s, struct job *j);           /* JOB_STARTING is on the disk */
void run_started(sched_t *s, struct job *j, int64_t at_ms);
void run_failed_to_start(sched_t *s, struct job *j, const char *why);
void run_ended(sched_t *s, struct job *j, int status, int64_t at_ms);
void run_written(sched_t *s, struct job *j);         /* JOB_DONE is on the disk */
/* End it: TERM, and KILL after the pool's killsecs; hard: at once. why is kept. */
void run_stop(sched_t *s, struct job *j, bool hard, const char *why);
void run_signal(sched_t *s, struct job *j, int sig);
void run_limits(sched_t *s, struct job *j);          /* set the timers of a running job */
void run_recover(sched_t *s, struct job *j);         /* after a restart */
/* An interactive job ends with its bjssub. -1: that is gone. began 0: not known yet. */
int run_watch_bjssub(sched_t *s, struct job *j, pid_t pid, unsigned long long began);
void run_sweep_soon(sched_t *s, struct job *j);

/* --- runners.c: connections of runners, the starter's socket --- */
int runners_open(sched_t *s, struct err *err);
int runner_send(struct run *r, const char *key, int value);
int starter_send(sched_t *s, struct job *j, struct err *err);
/* -1: this attempt's runner lives; 0: there was none, and will be none; 1: it died. */
int runner_state(const struct job *j);
void runner_files_drop(const struct job *j);
void runner_files_tidy(sched_t *s); /* at the start: those of jobs that are over */
void runner_ack(sched_t *s, struct run *r); /* once this turn is written */
void acks_send(sched_t *s);

/* --- nodes.c --- */
int nodes_open(sched_t *s, struct err *err);
void nodes_connected(void *arg);
void nodes_ask(sched_t *s);                   /* what are they now? */
void node_check(sched_t *s, struct pnode *n); /* usable? to be taken over? */
void nodes_release(sched_t *s);               /* idle nodes that are still somebody's */
void node_leave(sched_t *s, struct pnode *n); /* of no pool any more: open to all */
typedef void standing_fn(void *arg, struct pnode *n, const struct err *err); /* err NULL: done */
void node_set(sched_t *s, struct pnode *const *n, uint32_t count, uid_t uid, gid_t gid,
              unsigned mode, standing_fn *fn, void (*done)(void *arg), void *arg);
bool node_stands(const struct pnode *n, uid_t uid, gid_t gid, unsigned mode);

/* --- limits of what users may do, submit.c, control.c, list.c --- */
int on_submit(void *self, struct svc_req *req, struct err *err);
void submissions_written(sched_t *s);
void submissions_failed(sched_t *s, const struct err *why);
int on_list(void *self, struct svc_req *req, struct err *err);
int on_job(void *self, struct svc_req *req, struct err *err);
int on_why(void *self, struct svc_req *req, struct err *err);
int on_control(void *self, struct svc_req *req, struct err *err);
int on_pool(void *self, struct svc_req *req, struct err *err);
int on_reload(void *self, struct svc_req *req, struct err *err);
int on_wait(void *self, struct svc_req *req, struct err *err);
int on_ended(void *self, struct svc_req *req, struct err *err);
int sched_reload(sched_t *s, struct err *err);

/* --- after.c: jobs that wait for others --- */
enum after { AFTER_OK, AFTER_FAIL, AFTER_ANY };
int after_add(sched_t *s, struct job *j, uint64_t target, enum after kind);
void after_ended(sched_t *s, uint64_t target, bool good);
void after_drop(sched_t *s, struct job *j);
uint64_t after_first(sched_t *s, const struct job *j, enum after *kind); /* 0: none */
uint32_t after_pack(sched_t *s, const struct job *j, mp_buf *rows);

/* --- guard.c: policies that crash --- */
int guard_open(sched_t *s, struct err *err);
void guard_pools(sched_t *s, struct pool *pools, bool forgive);

/* --- acct.c --- */
void acct_turn(void *arg);

/* --- wait.c is control.c's: interactive jobs --- */
void waiters_tell(sched_t *s, struct job *j);
void waiters_drop(sched_t *s);

#endif
