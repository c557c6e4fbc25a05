/* db.h - STATEDIR/sched.db: jobs, what they run, who waits for whom, usage
 *
 * Jobs that are not done are in memory too (but for what they run); ended ones
 * are only here. One writer, one transaction a turn.
 */
#ifndef SCHED_DB_H
#define SCHED_DB_H
#include "services/sched/sched.h"

struct text { /* what is to be run; shared by the jobs of an array. Wire values */
    char *shell, *command, *dir, *output, *name, *reqs;
    size_t env_bytes;
    void *env;    /* a msgpack array of texts */
    size_t groups_bytes;
    void *groups; /* a msgpack array of numbers */
    int umask;
};
void text_free(struct text *t); /* fits CLEANUP() */

db_t *db_open(const char *path, struct err *err);
void db_close(db_t **d);

/* Calls fn for each job that is not done, in order of ids. pool: its name. */
typedef int db_job_fn(void *arg, struct job *j, const char *pool, const char *nodes,
                      const char *spaces, int64_t pid, int64_t began);
int db_load(db_t *d, sched_t *s, db_job_fn *fn, void *arg, struct err *err);
int db_load_afters(db_t *d, sched_t *s, struct err *err);
int db_load_usage(db_t *d, struct pool *p, struct err *err);
uint64_t db_next_id(db_t *d, struct err *err); /* 0: *err */

int db_begin(db_t *d, struct err *err);
int db_commit(db_t *d, struct err *err);
void db_rollback(db_t *d);
int db_mark(db_t *d, struct err *err); /* what comes now can be taken back alone ... */
void db_back(db_t *d);                 /* ... by this */
int db_put_job(db_t *d, const struct job *j, const char *nodes, const char *spaces, int64_t pid,
               int64_t began, struct err *err);
int64_t db_put_text(db_t *d, const struct text *t, struct err *err); /* its row; -1 */
int db_put_after(db_t *d, uint64_t job, uint64_t target, int kind, struct err *err);
int db_put_token(db_t *d, uint32_t uid, const char *token, uint64_t first, uint32_t count,
                 struct err *err);
int db_put_usage(db_t *d, const char *pool, const struct user *u, struct err *err);
int db_put_drained(db_t *d, const char *pool, bool drained, struct err *err);
bool db_drained(db_t *d, const char *pool);
int db_put_next(db_t *d, uint64_t next, struct err *err);

/* 1: this token was used already; first and count of its jobs. */
int db_token(db_t *d, uint32_t uid, const char *token, uint64_t *first, uint32_t *count,
             struct err *err);
int db_text(db_t *d, int64_t row, struct text *t, struct err *err); /* 1 found, 0, -1 */
/* 1: it has ended; status and, if it is the first of an array, how many. */
int db_ended(db_t *d, uint64_t id, int *status, struct err *err);

/* Job maps (doc/wire.md) of unfinished jobs, or ended ones, the newest first; packed one
 * after the other. *n: how many. */
struct db_query {
    uint64_t id;         /* only this; 0: all */
    bool ended;          /* those that have ended */
    const char *pool;    /* NULL: all */
    int64_t uid;         /* -1: all */
    int64_t limit;
};
int db_pack(db_t *d, const struct db_query *q, sched_t *s, mp_buf *out, uint32_t *n,
            struct err *err);

/* Accounting lines not yet written: fn returns -1 to stop. */
struct acct {
    uint64_t id;
    const char *pool;
    uint32_t uid, gid, nodes;
    int64_t started_ms, ended_ms;
};
typedef int db_acct_fn(void *arg, const struct acct *a, struct err *err);
int db_untold(db_t *d, db_acct_fn *fn, void *arg, struct err *err);
int db_told(db_t *d, uint64_t upto, struct err *err);

/* Forget ended jobs beyond what is to be kept; a few hundred a call: how many. */
int db_forget(db_t *d, int64_t before_ms, int64_t keep, struct err *err);

#endif
