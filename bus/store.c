/* store.c - a service's state in one SQLite file */
#include "bus/store.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct store {
    sqlite3 *db;
    char *path;
    sqlite3_stmt **stmt;
    size_t nstmt;
    sqlite3_stmt *begin, *commit;
};

/* SQLite's word for what went wrong, as an errno and words to act on. */
static int store_fail(store_t *s, int rc, struct err *err)
{
    const char *why = s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(rc);
    int sys = s->db ? sqlite3_system_errno(s->db) : 0;

    switch (rc & 0xff) {
    case SQLITE_FULL:
        return err_set(err, ENOSPC, "%s: the disk is full; make room on it, nothing is lost "
                       "until then", s->path);
    case SQLITE_IOERR:
        if (sys == ENOSPC || sys == EDQUOT)
            return err_set(err, ENOSPC, "%s: the disk is full; make room on it, nothing is "
                           "lost until then", s->path);
        return err_set(err, EIO, "%s: %s (%s); look after the disk", s->path, why,
                       strerror(sys ? sys : EIO));
    case SQLITE_READONLY:
        return err_set(err, EROFS, "%s: %s; it must be writable", s->path, why);
    case SQLITE_CANTOPEN:
        return err_set(err, sys ? sys : ENOENT, "%s: %s%s%s", s->path, why, sys ? ": " : "",
                       sys ? strerror(sys) : "");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return err_set(err, EBUSY, "%s: another program holds it (%s)", s->path, why);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return err_set(err, EILSEQ, "%s is damaged (%s); move it away and the service makes "
                       "a new one", s->path, why);
    case SQLITE_CONSTRAINT:
        return err_set(err, EEXIST, "%s: %s", s->path, why);
    case SQLITE_NOMEM:
        return err_set(err, ENOMEM, "%s: out of memory", s->path);
    default:
        return err_set(err, EIO, "%s: %s", s->path, why);
    }
}

static int store_exec(store_t *s, const char *sql, struct err *err)
{
    int rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);

    return rc == SQLITE_OK ? 0 : store_fail(s, rc, err);
}

static int read_version(store_t *s, int *version, struct err *err)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(s->db, "PRAGMA user_version", -1, &st, NULL);

    if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        *version = sqlite3_column_int(st, 0);
        rc = SQLITE_OK;
    }
    sqlite3_finalize(st);
    return rc == SQLITE_OK ? 0 : store_fail(s, rc, err);
}

static int migrate(store_t *s, const char *const *migrations, struct err *err)
{
    int have = 0, want = 0;

    while (migrations[want])
        want++;
    if (read_version(s, &have, err) < 0)
        return -1;
    if (have > want)
        return err_set(err, ENOTSUP, "%s was made by a newer version of this program (%d, "
                       "this one knows %d)", s->path, have, want);
    for (; have < want; have++) {
        char mark[64];

        snprintf(mark, sizeof mark, "PRAGMA user_version = %d", have + 1);
        if (store_exec(s, "BEGIN IMMEDIATE", err) < 0)
            return -1;
        if (store_exec(s, migrations[have], err) < 0 || store_exec(s, mark, err) < 0 ||
            store_exec(s, "COMMIT", err) < 0) {
            if (!sqlite3_get_autocommit(s->db))
                sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
            return err_prefix(err, "schema %d", have + 1);
        }
    }
    return 0;
}

store_t *store_open(const char *path, const char *const *migrations, struct err *err)
{
    CLEANUP(store_close) store_t *s = calloc(1, sizeof *s);

    if (!s || !(s->path = strdup(path))) {
        err_set(err, ENOMEM, "%s: out of memory", path);
        return NULL;
    }
    mode_t mask = umask(0077); /* SQLite's own files follow the main file's mode */
    int rc = sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                             SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (rc != SQLITE_OK) {
        umask(mask);
        store_fail(s, rc, err);
        return NULL;
    }
    sqlite3_busy_timeout(s->db, 2000);
    int bad = store_exec(s, "PRAGMA journal_mode = WAL;"
                            "PRAGMA synchronous = NORMAL;"
                            "PRAGMA foreign_keys = ON;"
                            "PRAGMA wal_autocheckpoint = 400", err);
    if (bad == 0)
        bad = migrate(s, migrations, err);
    umask(mask);
    if (bad < 0)
        return NULL;
    s->begin = store_prepare(s, "BEGIN IMMEDIATE", err);
    s->commit = s->begin ? store_prepare(s, "COMMIT", err) : NULL;
    if (!s->commit)
        return NULL;
    store_t *out = s;
    s = NULL;
    return out;
}

void store_close(store_t **sp)
{
    store_t *s = *sp;
    int keep = errno;

    if (!s)
        return;
    if (s->db && store_pending(s))
        store_commit(s, NULL);
    for (size_t i = 0; i < s->nstmt; i++)
        sqlite3_finalize(s->stmt[i]);
    free(s->stmt);
    sqlite3_close(s->db);
    free(s->path);
    free(s);
    *sp = NULL;
    errno = keep;
}

sqlite3_stmt *store_prepare(store_t *s, const char *sql, struct err *err)
{
    sqlite3_stmt **more = realloc(s->stmt, (s->nstmt + 1) * sizeof *more), *st;

    if (!more) {
        err_set(err, ENOMEM, "%s: out of memory", s->path);
        return NULL;
    }
    s->stmt = more;
    int rc = sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL);
    if (rc != SQLITE_OK) {
        store_fail(s, rc, err);
        return NULL;
    }
    s->stmt[s->nstmt++] = st;
    return st;
}

int store_prepare_all(store_t *s, const struct store_sql *all, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++)
        if (!(*all[i].st = store_prepare(s, all[i].sql, err)))
            return -1;
    return 0;
}

void store_reset(sqlite3_stmt *st)
{
    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
}

int store_step(store_t *s, sqlite3_stmt *st, struct err *err)
{
    int rc = sqlite3_step(st);

    if (rc == SQLITE_ROW)
        return 1;
    if (rc != SQLITE_DONE)
        store_fail(s, rc, err);
    store_reset(st);
    return rc == SQLITE_DONE ? 0 : -1;
}

bool store_pending(const store_t *s)
{
    return !sqlite3_get_autocommit(s->db);
}

int store_begin(store_t *s, struct err *err)
{
    return store_pending(s) ? 0 : store_step(s, s->begin, err);
}

int store_commit(store_t *s, struct err *err)
{
    if (!store_pending(s))
        return 0;
    if (store_step(s, s->commit, err) == 0)
        return 0;
    store_rollback(s);
    return -1;
}

void store_rollback(store_t *s)
{
    if (store_pending(s)) /* SQLite may have rolled back by itself */
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
}

char *store_text(sqlite3_stmt *st, int column)
{
    const char *text = (const char *)sqlite3_column_text(st, column);

    return text ? strdup(text) : NULL;
}
