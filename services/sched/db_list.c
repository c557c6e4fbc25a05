/* db_list.c - job maps for those who ask, accounting, and forgetting */
#include "services/sched/db.h"
#include "services/sched/db_parts.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static void pack_text(mp_buf *m, const char *key, sqlite3_stmt *st, int i)
{
    const void *p = sqlite3_column_blob(st, i);

    mp_key(m, key);
    if (sqlite3_column_type(st, i) == SQLITE_NULL)
        mp_nil(m);
    else
        mp_bin(m, p ? p : "", (size_t)sqlite3_column_bytes(st, i));
}

static void pack_job(sqlite3_stmt *st, sched_t *s, mp_buf *m)
{
    static const struct { const char *key; int column; } numbers[] = {
        { "uid", 4 },        { "gid", 5 },       { "nodes", 6 },    { "cpus", 7 },
        { "mem_mb", 8 },     { "secs", 9 },      { "priority", 10 }, { "attempt", 11 },
        { "retries", 12 },   { "array", 13 },    { "index", 14 },   { "submitted", 15 },
        { "started", 16 },   { "ended", 17 },    { "utime_us", 19 }, { "stime_us", 20 },
        { "maxrss_kb", 21 }, { "node_utime_us", 29 }, { "node_stime_us", 30 },
        { "node_maxrss_kb", 31 },
    };
    static const struct { const char *key; int column; } texts[] = {
        { "reason", 22 }, { "node_list", 23 }, { "name", 24 }, { "command", 25 },
        { "reqs", 26 },   { "output", 27 },    { "dir", 28 },
    };
    uint64_t id = (uint64_t)sqlite3_column_int64(st, 0);
    const struct job *j = job_find(s, id);
    unsigned flags = j ? j->flags : (unsigned)sqlite3_column_int64(st, 3);
    enum job_state state = j ? j->state : (enum job_state)sqlite3_column_int(st, 2);
    if (j && state == JOB_DONE) /* not on the disk yet */
        state = JOB_ENDING;
    int status = sqlite3_column_int(st, 18);
    bool done = state == JOB_DONE, ran = sqlite3_column_int64(st, 16) != 0;
    CLEANUP(mp_free) mp_buf afters;

    mp_init(&afters);
    uint32_t n = j ? after_pack(s, j, &afters) : 0;
    mp_map(m, 12 + sizeof numbers / sizeof *numbers + sizeof texts / sizeof *texts);
    mp_kuint(m, "id", id);
    mp_kstr(m, "pool", (const char *)sqlite3_column_text(st, 1));
    mp_kstr(m, "state", job_state_name(state));
    mp_kbool(m, "interactive", flags & JOB_INTERACTIVE);
    mp_kbool(m, "restartable", flags & JOB_RESTARTABLE);
    mp_kbool(m, "requeue", flags & JOB_REQUEUE);
    mp_kbool(m, "script", flags & JOB_SCRIPT);
    mp_kbool(m, "mem_not_limited", flags & JOB_FREE_MEM);
    mp_kbool(m, "cpus_not_limited", flags & JOB_FREE_CPUS);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        mp_kint(m, numbers[i].key, sqlite3_column_int64(st, numbers[i].column));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        pack_text(m, texts[i].key, st, texts[i].column);
    mp_key(m, "exit");
    if (done && ran && WIFEXITED(status))
        mp_int(m, WEXITSTATUS(status));
    else
        mp_nil(m);
    mp_key(m, "signal");
    if (done && ran && WIFSIGNALED(status))
        mp_int(m, WTERMSIG(status));
    else
        mp_nil(m);
    mp_key(m, "after");
    mp_array(m, n);
    msgpack_sbuffer_write(&m->b, afters.b.data ? afters.b.data : "", afters.b.size);
}

int db_pack(db_t *d, const struct db_query *q, sched_t *s, mp_buf *out, uint32_t *n,
            struct err *err)
{
    sqlite3_stmt *st = q->id ? d->pack_one : q->ended ? d->pack_ended : d->pack_open;
    int rc;

    *n = 0;
    if (q->id) {
        sqlite3_bind_int64(st, 1, (int64_t)q->id);
        sqlite3_bind_int64(st, 2, -1);
    }
    if (q->pool)
        sqlite3_bind_text(st, 3, q->pool, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(st, 4, q->uid);
    sqlite3_bind_int64(st, 5, q->limit > 0 ? q->limit : -1);
    while ((rc = store_step(d->store, st, err)) > 0) {
        pack_job(st, s, out);
        ++*n;
    }
    return rc;
}

int db_untold(db_t *d, db_acct_fn *fn, void *arg, struct err *err)
{
    sqlite3_stmt *st = d->untold;
    int rc;

    while ((rc = store_step(d->store, st, err)) > 0) {
        const struct acct a = { .id = (uint64_t)sqlite3_column_int64(st, 0),
                                .pool = (const char *)sqlite3_column_text(st, 1),
                                .uid = (uint32_t)sqlite3_column_int64(st, 2),
                                .gid = (uint32_t)sqlite3_column_int64(st, 3),
                                .nodes = (uint32_t)sqlite3_column_int64(st, 4),
                                .started_ms = sqlite3_column_int64(st, 5),
                                .ended_ms = sqlite3_column_int64(st, 6) };
        if (fn(arg, &a, err) < 0) {
            store_reset(st);
            return -1;
        }
    }
    return rc;
}

int db_told(db_t *d, uint64_t upto, struct err *err)
{
    sqlite3_bind_int64(d->tell, 1, (int64_t)upto);
    return store_step(d->store, d->tell, err);
}

static int drop(db_t *d, sqlite3_stmt *st, int64_t id, struct err *err)
{
    sqlite3_bind_int64(st, 1, id);
    return store_step(d->store, st, err);
}

int db_forget(db_t *d, int64_t before_ms, int64_t keep, struct err *err)
{
    struct old {
        int64_t id, text;
    } v[500];
    int n = 0, rc;

    sqlite3_bind_int64(d->old, 1, before_ms);
    sqlite3_bind_int64(d->old, 2, keep > 0 ? keep - 1 : 0);
    while ((rc = store_step(d->store, d->old, err)) > 0)
        if (n < 500)
            v[n++] = (struct old){ sqlite3_column_int64(d->old, 0),
                                   sqlite3_column_int64(d->old, 1) };
    for (int i = 0; rc == 0 && i < n; i++)
        if (drop(d, d->drop_job, v[i].id, err) < 0 || drop(d, d->drop_text, v[i].text, err) < 0 ||
            drop(d, d->drop_token, v[i].id, err) < 0)
            rc = -1;
    return rc < 0 ? -1 : n;
}
