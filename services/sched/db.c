/* db.c - writing and reading jobs (db.h) */
#include "services/sched/db.h"
#include "services/sched/db_parts.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const schema[] = {
    "CREATE TABLE text (id INTEGER PRIMARY KEY, shell BLOB, command BLOB, dir BLOB, output BLOB,"
    " name BLOB, reqs BLOB, env BLOB, groups BLOB, umask INTEGER NOT NULL);"
    "CREATE TABLE job (id INTEGER PRIMARY KEY, text INTEGER NOT NULL, pool TEXT NOT NULL,"
    " state INTEGER NOT NULL, flags INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL,"
    " nodes INTEGER NOT NULL, cpus INTEGER NOT NULL, mem INTEGER NOT NULL, secs INTEGER NOT NULL,"
    " priority INTEGER NOT NULL, attempt INTEGER NOT NULL, retries INTEGER NOT NULL,"
    " first INTEGER NOT NULL, place INTEGER NOT NULL, submitted INTEGER NOT NULL,"
    " started INTEGER NOT NULL, ended INTEGER NOT NULL, status INTEGER NOT NULL,"
    " utime INTEGER NOT NULL, stime INTEGER NOT NULL, maxrss INTEGER NOT NULL, reason TEXT,"
    " node_list TEXT, spaces TEXT, pid INTEGER NOT NULL, began INTEGER NOT NULL,"
    " told INTEGER NOT NULL);"
    "CREATE INDEX job_open ON job (id) WHERE state < 7;"
    "CREATE INDEX job_ended ON job (ended) WHERE state = 7;"
    "CREATE INDEX job_untold ON job (id) WHERE state = 7 AND told = 0;"
    "CREATE INDEX job_text ON job (text);"
    "CREATE TABLE after (job INTEGER NOT NULL, target INTEGER NOT NULL, kind INTEGER NOT NULL,"
    " PRIMARY KEY (job, target)) WITHOUT ROWID;"
    "CREATE TABLE token (uid INTEGER NOT NULL, token TEXT NOT NULL, first INTEGER NOT NULL,"
    " count INTEGER NOT NULL, PRIMARY KEY (uid, token)) WITHOUT ROWID;"
    "CREATE INDEX token_first ON token (first);"
    "CREATE TABLE usage (pool TEXT NOT NULL, uid INTEGER NOT NULL, seconds REAL NOT NULL,"
    " at INTEGER NOT NULL, PRIMARY KEY (pool, uid)) WITHOUT ROWID;"
    "CREATE TABLE number (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;",
    "ALTER TABLE job ADD COLUMN node_utime INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE job ADD COLUMN node_stime INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE job ADD COLUMN node_maxrss INTEGER NOT NULL DEFAULT 0;",
    NULL,
};

db_t *db_open(const char *path, struct err *err)
{
    CLEANUP(db_close) db_t *d = calloc(1, sizeof *d);
    sqlite3_stmt *st;

    if (!d) {
        err_set(err, ENOMEM, "%s: out of memory", path);
        return NULL;
    }
    d->store = store_open(path, schema, err);
    if (!d->store)
        return NULL;
    /* one job of a long queue is found in memory, too */
    if (!(st = store_prepare(d->store, "PRAGMA cache_size = -16384", err)) ||
        store_step(d->store, st, err) < 0)
        return NULL;
    const struct store_sql all[] = {
        { &d->put_job, "INSERT INTO job VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11,"
                       " ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25,"
                       " ?26, ?27, ?28, 0, ?29, ?30, ?31) ON CONFLICT (id) DO UPDATE SET pool=?3, state=?4,"
                       " flags=?5, secs=?11, priority=?12, attempt=?13, retries=?14, started=?18,"
                       " ended=?19, status=?20, utime=?21, stime=?22, maxrss=?23, reason=?24,"
                       " node_list=?25, spaces=?26, pid=?27, began=?28, node_utime=?29,"
                       " node_stime=?30, node_maxrss=?31" },
        { &d->put_text, "INSERT INTO text (shell, command, dir, output, name, reqs, env, groups,"
                        " umask) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)" },
        { &d->put_after, "INSERT OR IGNORE INTO after VALUES (?, ?, ?)" },
        { &d->drop_after, "DELETE FROM after WHERE job = ?" },
        { &d->put_token, "INSERT INTO token VALUES (?, ?, ?, ?)" },
        { &d->put_usage, "INSERT INTO usage VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET"
                         " seconds = ?3, at = ?4" },
        { &d->put_number, "INSERT INTO number VALUES (?1, ?2) ON CONFLICT DO UPDATE SET"
                          " value = ?2" },
        { &d->number, "SELECT value FROM number WHERE name = ?" },
        { &d->token, "SELECT first, count FROM token WHERE uid = ? AND token = ?" },
        { &d->text, "SELECT shell, command, dir, output, name, reqs, env, groups, umask"
                    " FROM text WHERE id = ?" },
        { &d->ended, "SELECT status FROM job WHERE id = ? AND state = 7" },
        { &d->load, "SELECT job.id, job.text, pool, state, flags, uid, gid, nodes, cpus, mem, secs,"
                    " priority, attempt, retries, first, place, submitted, started, status,"
                    " reason, node_list, spaces, pid, began, reqs FROM job LEFT JOIN text"
                    " ON text.id = job.text WHERE state < 7 ORDER BY job.id" },
        { &d->load_after, "SELECT job, target, kind FROM after" },
        { &d->load_usage, "SELECT uid, seconds, at FROM usage WHERE pool = ?" },
        { &d->pack_one, PACK_COLUMNS " WHERE job.id = ?1 AND (?2 < 0 OR job.state = 7 OR ?2 = 0)"
                        " AND (?3 IS NULL OR pool = ?3) AND (?4 < 0 OR uid = ?4) LIMIT ?5" },
        { &d->pack_open, PACK_COLUMNS " WHERE state < 7 AND (?3 IS NULL OR pool = ?3)"
                         " AND (?4 < 0 OR uid = ?4) ORDER BY job.id LIMIT ?5" },
        { &d->pack_ended, PACK_COLUMNS " WHERE state = 7 AND (?3 IS NULL OR pool = ?3)"
                          " AND (?4 < 0 OR uid = ?4) ORDER BY ended DESC LIMIT ?5" },
        { &d->untold, "SELECT id, pool, uid, gid, nodes, started, ended FROM job"
                      " WHERE state = 7 AND told = 0 ORDER BY id LIMIT 1000" },
        { &d->tell, "UPDATE job SET told = 1 WHERE state = 7 AND told = 0 AND id <= ?" },
        { &d->old, "SELECT id, text FROM job WHERE state = 7 AND told = 1 AND"
                   " (ended < ?1 OR ended < (SELECT ended FROM job WHERE state = 7"
                   " ORDER BY ended DESC LIMIT 1 OFFSET ?2)) ORDER BY ended LIMIT 500" },
        { &d->drop_job, "DELETE FROM job WHERE id = ?" },
        { &d->drop_text, "DELETE FROM text WHERE id = ?1 AND NOT EXISTS"
                         " (SELECT 1 FROM job WHERE text = ?1)" },
        { &d->mark, "SAVEPOINT submission" },
        { &d->back, "ROLLBACK TO submission" },
        { &d->drop_token, "DELETE FROM token WHERE first = ?" },
    };
    if (store_prepare_all(d->store, all, sizeof all / sizeof all[0], err) < 0)
        return NULL;
    db_t *out = d;
    d = NULL;
    return out;
}

void db_close(db_t **d)
{
    if (!*d)
        return;
    store_close(&(*d)->store);
    free(*d);
    *d = NULL;
}

void text_free(struct text *t)
{
    free(t->shell);
    free(t->command);
    free(t->dir);
    free(t->output);
    free(t->name);
    free(t->reqs);
    free(t->env);
    free(t->groups);
    *t = (struct text){ 0 };
}

int db_begin(db_t *d, struct err *err) { return store_begin(d->store, err); }
int db_commit(db_t *d, struct err *err) { return store_commit(d->store, err); }
void db_rollback(db_t *d) { store_rollback(d->store); }

/* --- writing -------------------------------------------------------------- */

static void bind_text(sqlite3_stmt *st, int i, const char *s)
{
    if (s)
        sqlite3_bind_text(st, i, s, -1, SQLITE_TRANSIENT);
    else
        sqlite3_bind_null(st, i);
}

static void bind_bytes(sqlite3_stmt *st, int i, const char *s)
{
    if (s)
        sqlite3_bind_blob(st, i, s, (int)strlen(s), SQLITE_TRANSIENT);
    else
        sqlite3_bind_null(st, i);
}

int db_put_job(db_t *d, const struct job *j, const char *nodes, const char *spaces, int64_t pid,
               int64_t began, struct err *err)
{
    sqlite3_stmt *st = d->put_job;
    const int64_t v[] = { (int64_t)j->pub.id, j->text, 0, j->state, j->flags, j->pub.uid, j->gid,
                          j->pub.nodes, j->pub.cpus, (int64_t)j->pub.mem_mb, j->pub.secs,
                          j->pub.priority, j->attempt, j->retries, (int64_t)j->array, j->index,
                          j->pub.submitted_ms, j->pub.started_ms, j->ended_ms, j->status,
                          j->on_master.utime_us, j->on_master.stime_us, j->on_master.maxrss_kb };

    for (int i = 0; i < (int)(sizeof v / sizeof *v); i++)
        sqlite3_bind_int64(st, i + 1, v[i]);
    sqlite3_bind_text(st, 3, j->pool->name, -1, SQLITE_TRANSIENT);
    bind_text(st, 24, j->reason);
    bind_text(st, 25, nodes);
    bind_text(st, 26, spaces);
    sqlite3_bind_int64(st, 27, pid);
    sqlite3_bind_int64(st, 28, began);
    sqlite3_bind_int64(st, 29, j->on_nodes.utime_us);
    sqlite3_bind_int64(st, 30, j->on_nodes.stime_us);
    sqlite3_bind_int64(st, 31, j->on_nodes.maxrss_kb);
    if (store_step(d->store, st, err) < 0)
        return -1;
    if (j->state != JOB_DONE)
        return 0;
    sqlite3_bind_int64(d->drop_after, 1, (int64_t)j->pub.id);
    return store_step(d->store, d->drop_after, err);
}

int64_t db_put_text(db_t *d, const struct text *t, struct err *err)
{
    sqlite3_stmt *st = d->put_text;

    bind_bytes(st, 1, t->shell);
    bind_bytes(st, 2, t->command);
    bind_bytes(st, 3, t->dir);
    bind_bytes(st, 4, t->output);
    bind_bytes(st, 5, t->name);
    bind_bytes(st, 6, t->reqs);
    sqlite3_bind_blob(st, 7, t->env, (int)t->env_bytes, SQLITE_TRANSIENT);
    sqlite3_bind_blob(st, 8, t->groups, (int)t->groups_bytes, SQLITE_TRANSIENT);
    sqlite3_bind_int(st, 9, t->umask);
    if (store_step(d->store, st, err) < 0)
        return -1;
    return sqlite3_last_insert_rowid(sqlite3_db_handle(st));
}

static int put_numbers(db_t *d, sqlite3_stmt *st, const int64_t *v, int n, struct err *err)
{
    for (int i = 0; i < n; i++)
        sqlite3_bind_int64(st, i + 1, v[i]);
    return store_step(d->store, st, err);
}

int db_put_after(db_t *d, uint64_t job, uint64_t target, int kind, struct err *err)
{
    const int64_t v[] = { (int64_t)job, (int64_t)target, kind };

    return put_numbers(d, d->put_after, v, 3, err);
}

int db_put_token(db_t *d, uint32_t uid, const char *token, uint64_t first, uint32_t count,
                 struct err *err)
{
    sqlite3_stmt *st = d->put_token;

    sqlite3_bind_int64(st, 1, uid);
    bind_text(st, 2, token);
    sqlite3_bind_int64(st, 3, (int64_t)first);
    sqlite3_bind_int64(st, 4, count);
    return store_step(d->store, st, err);
}

int db_put_usage(db_t *d, const char *pool, const struct user *u, struct err *err)
{
    sqlite3_stmt *st = d->put_usage;

    bind_text(st, 1, pool);
    sqlite3_bind_int64(st, 2, u->uid);
    sqlite3_bind_double(st, 3, u->usage);
    sqlite3_bind_int64(st, 4, u->usage_ms);
    return store_step(d->store, st, err);
}

static int put_number(db_t *d, const char *name, int64_t value, struct err *err)
{
    bind_text(d->put_number, 1, name);
    sqlite3_bind_int64(d->put_number, 2, value);
    return store_step(d->store, d->put_number, err);
}

int db_put_drained(db_t *d, const char *pool, bool drained, struct err *err)
{
    char name[64];

    snprintf(name, sizeof name, "drained %s", pool);
    return put_number(d, name, drained, err);
}

/* --- looking up ------------------------------------------------------------ */

int db_put_next(db_t *d, uint64_t next, struct err *err)
{
    return put_number(d, "next", (int64_t)next, err);
}

static int get_number(db_t *d, const char *name, int64_t *out, struct err *err)
{
    bind_text(d->number, 1, name);
    int rc = store_step(d->store, d->number, err);
    if (rc > 0) {
        *out = sqlite3_column_int64(d->number, 0);
        store_reset(d->number);
    }
    return rc;
}

uint64_t db_next_id(db_t *d, struct err *err)
{
    int64_t id = 1;

    return get_number(d, "next", &id, err) < 0 ? 0 : (uint64_t)id;
}

bool db_drained(db_t *d, const char *pool)
{
    char name[64];
    int64_t v = 0;

    snprintf(name, sizeof name, "drained %s", pool);
    return get_number(d, name, &v, NULL) > 0 && v;
}

int db_token(db_t *d, uint32_t uid, const char *token, uint64_t *first, uint32_t *count,
             struct err *err)
{
    sqlite3_bind_int64(d->token, 1, uid);
    bind_text(d->token, 2, token);
    int rc = store_step(d->store, d->token, err);
    if (rc <= 0)
        return rc;
    *first = (uint64_t)sqlite3_column_int64(d->token, 0);
    *count = (uint32_t)sqlite3_column_int64(d->token, 1);
    store_reset(d->token);
    return 1;
}

int db_ended(db_t *d, uint64_t id, int *status, struct err *err)
{
    sqlite3_bind_int64(d->ended, 1, (int64_t)id);
    int rc = store_step(d->store, d->ended, err);
    if (rc <= 0)
        return rc;
    *status = sqlite3_column_int(d->ended, 0);
    store_reset(d->ended);
    return 1;
}

static char *column_bytes(sqlite3_stmt *st, int i)
{
    const void *p = sqlite3_column_blob(st, i);
    int n = sqlite3_column_bytes(st, i);

    if (sqlite3_column_type(st, i) == SQLITE_NULL)
        return NULL;
    return p ? strndup(p, (size_t)n) : strdup("");
}

static void *column_blob(sqlite3_stmt *st, int i, size_t *n)
{
    const void *p = sqlite3_column_blob(st, i);

    *n = (size_t)sqlite3_column_bytes(st, i);
    void *out = p && *n ? malloc(*n) : NULL;
    if (out)
        memcpy(out, p, *n);
    else
        *n = 0;
    return out;
}

int db_text(db_t *d, int64_t row, struct text *t, struct err *err)
{
    sqlite3_stmt *st = d->text;

    sqlite3_bind_int64(st, 1, row);
    int rc = store_step(d->store, st, err);
    if (rc <= 0)
        return rc;
    t->shell = column_bytes(st, 0);
    t->command = column_bytes(st, 1);
    t->dir = column_bytes(st, 2);
    t->output = column_bytes(st, 3);
    t->name = column_bytes(st, 4);
    t->reqs = column_bytes(st, 5);
    t->env = column_blob(st, 6, &t->env_bytes);
    t->groups = column_blob(st, 7, &t->groups_bytes);
    t->umask = sqlite3_column_int(st, 8);
    store_reset(st);
    return 1;
}

/* --- at the start ----------------------------------------------------------- */

static void read_job(sqlite3_stmt *st, struct job *j)
{
    j->text = sqlite3_column_int64(st, 1);
    j->state = (enum job_state)sqlite3_column_int(st, 3);
    j->flags = (uint32_t)sqlite3_column_int64(st, 4);
    j->pub.uid = (uint32_t)sqlite3_column_int64(st, 5);
    j->gid = (gid_t)sqlite3_column_int64(st, 6);
    j->pub.nodes = (uint32_t)sqlite3_column_int64(st, 7);
    j->pub.cpus = (uint32_t)sqlite3_column_int64(st, 8);
    j->pub.mem_mb = (uint64_t)sqlite3_column_int64(st, 9);
    j->pub.secs = sqlite3_column_int64(st, 10);
    j->pub.priority = sqlite3_column_int(st, 11);
    j->attempt = (uint32_t)sqlite3_column_int64(st, 12);
    j->retries = (uint32_t)sqlite3_column_int64(st, 13);
    j->array = (uint64_t)sqlite3_column_int64(st, 14);
    j->index = sqlite3_column_int(st, 15);
    j->pub.submitted_ms = sqlite3_column_int64(st, 16);
    j->pub.started_ms = sqlite3_column_int64(st, 17);
    j->status = sqlite3_column_int(st, 18);
    j->reason = store_text(st, 19);
}

int db_load(db_t *d, sched_t *s, db_job_fn *fn, void *arg, struct err *err)
{
    sqlite3_stmt *st = d->load;
    int rc;

    while ((rc = store_step(d->store, st, err)) > 0) {
        struct job *j = job_new(s, (uint64_t)sqlite3_column_int64(st, 0));
        CLEANUP(cleanup_free) char *pool = store_text(st, 2);
        CLEANUP(cleanup_free) char *nodes = store_text(st, 20);
        CLEANUP(cleanup_free) char *spaces = store_text(st, 21);
        if (!j || !pool) {
            store_reset(st);
            return err_set(err, ENOMEM, "out of memory");
        }
        read_job(st, j);
        CLEANUP(cleanup_free) char *reqs = column_bytes(st, 24);
        if (wants_get(reqs, &j->pub.wants) < 0) {
            store_reset(st);
            return err_set(err, ENOMEM, "out of memory");
        }
        if (fn(arg, j, pool, nodes, spaces, sqlite3_column_int64(st, 22),
               sqlite3_column_int64(st, 23)) < 0) {
            store_reset(st);
            return err_set(err, ENOMEM, "out of memory");
        }
    }
    return rc;
}

int db_load_afters(db_t *d, sched_t *s, struct err *err)
{
    int rc;

    while ((rc = store_step(d->store, d->load_after, err)) > 0) {
        struct job *j = job_find(s, (uint64_t)sqlite3_column_int64(d->load_after, 0));
        uint64_t target = (uint64_t)sqlite3_column_int64(d->load_after, 1);
        enum after kind = (enum after)sqlite3_column_int(d->load_after, 2);
        if (j && job_find(s, target) && after_add(s, j, target, kind) < 0) {
            store_reset(d->load_after);
            return err_set(err, ENOMEM, "out of memory");
        }
    }
    return rc;
}

int db_load_usage(db_t *d, struct pool *p, struct err *err)
{
    int rc;

    bind_text(d->load_usage, 1, p->name);
    while ((rc = store_step(d->store, d->load_usage, err)) > 0) {
        struct user *u = pool_user(p, (uint32_t)sqlite3_column_int64(d->load_usage, 0));
        if (!u) {
            store_reset(d->load_usage);
            return err_set(err, ENOMEM, "out of memory");
        }
        u->usage = sqlite3_column_double(d->load_usage, 1);
        u->usage_ms = sqlite3_column_int64(d->load_usage, 2);
    }
    return rc;
}

/* --- one submission among others in the transaction -------------------------- */

int db_mark(db_t *d, struct err *err)
{
    return store_begin(d->store, err) < 0 || store_step(d->store, d->mark, err) < 0 ? -1 : 0;
}

void db_back(db_t *d)
{
    if (!store_pending(d->store)) /* a full disk may have ended it all */
        return;
    store_step(d->store, d->back, NULL);
}
