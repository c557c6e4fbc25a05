/* store.c - tests of the SQLite helper, a full disk among them */
#include "bus/store.h"
#include "tests/unit/tap.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const v1[] = {
    "CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT NOT NULL UNIQUE)", NULL,
};
static const char *const v2[] = {
    "CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT NOT NULL UNIQUE)",
    "ALTER TABLE t ADD COLUMN more BLOB; CREATE INDEX i ON t (more)", NULL,
};
static const char *const bad[] = {
    "CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT NOT NULL UNIQUE)",
    "CREATE TABLE u (a); ALTER TABLE nosuch ADD COLUMN b", NULL,
};

static char dir[] = "/tmp/store-test-XXXXXX";
static char path[64];

static int put(store_t *s, sqlite3_stmt *st, int k, const char *v, struct err *err)
{
    if (store_begin(s, err) < 0)
        return -1;
    sqlite3_bind_int(st, 1, k);
    sqlite3_bind_text(st, 2, v, -1, SQLITE_TRANSIENT);
    return store_step(s, st, err);
}

static int count(store_t *s)
{
    sqlite3_stmt *st = store_prepare(s, "SELECT count(*) FROM t", NULL);
    int n = st && store_step(s, st, NULL) == 1 ? sqlite3_column_int(st, 0) : -1;

    if (st)
        store_reset(st);
    return n;
}

static void basics(void)
{
    struct err err = { 0 };
    struct stat info;
    CLEANUP(store_close) store_t *s = store_open(path, v1, &err);

    if (!ok(s != NULL, "a new file is made: %s", err.text))
        return;
    ok(stat(path, &info) == 0 && (info.st_mode & 0777) == 0600, "readable by its owner only");
    sqlite3_stmt *st = store_prepare(s, "INSERT INTO t (k, v) VALUES (?, ?)", &err);
    ok(!store_prepare(s, "INSERT INTO nosuch VALUES (1)", &err) && err.code == EIO,
       "a statement that means nothing is refused: %s", err.text);
    ok(put(s, st, 1, "one", &err) == 0 && put(s, st, 2, "two", &err) == 0 && store_pending(s),
       "changes gather in one transaction");
    ok(store_commit(s, &err) == 0 && !store_pending(s) && count(s) == 2, "until the commit");
    ok(store_commit(s, &err) == 0, "a commit of nothing is fine");
    ok(put(s, st, 3, "two", &err) < 0 && err.code == EEXIST, "a constraint is EEXIST: %s",
       err.text);
    ok(put(s, st, 3, "three", &err) == 0, "the statement can be used again after it");
    store_rollback(s);
    ok(count(s) == 2, "a rollback undoes");
    ok(put(s, st, 4, "four", &err) == 0, "what is open at the end");
    store_close(&s);
    s = store_open(path, v1, &err);
    ok(s && count(s) == 3, "is there after it");
}

static void versions(void)
{
    struct err err = { 0 };
    CLEANUP(store_close) store_t *s = store_open(path, bad, &err);

    ok(!s && strstr(err.text, "schema 2") && strstr(err.text, "nosuch"),
       "a migration that fails says which: %s", err.text);
    s = store_open(path, v2, &err);
    ok(s && count(s) == 3 && store_prepare(s, "SELECT more FROM t", &err) &&
       !store_prepare(s, "SELECT a FROM u", NULL),
       "left nothing behind, and a good one keeps the rows");
    store_close(&s);
    s = store_open(path, v1, &err);
    ok(!s && err.code == ENOTSUP, "an older program refuses a newer file: %s", err.text);
}

static void broken_files(void)
{
    struct err err = { 0 };
    CLEANUP(store_close) store_t *s = store_open("/no/such/folder/x.db", v1, &err);

    ok(!s && err.code == ENOENT, "a missing folder is said: %s", err.text);
    FILE *f = fopen(path, "we");
    for (int i = 0; f && i < 2000; i++)
        fputs("no database ", f);
    if (f)
        fclose(f);
    s = store_open(path, v1, &err);
    ok(!s && err.code == EILSEQ, "a file that is no database is said: %s", err.text);
    unlink(path);
}

static void full_disk(void)
{
    struct err err = { 0 };
    char mnt[64], db[80], file[80], junk[4096] = { 0 };

    snprintf(mnt, sizeof mnt, "%s/full", dir);
    snprintf(db, sizeof db, "%s/s.db", mnt);
    snprintf(file, sizeof file, "%s/junk", mnt);
    mkdir(mnt, 0700);
    if (mount("store-test", mnt, "tmpfs", 0, "size=512k") < 0) {
        skip("a full disk", "mounting a small tmpfs needs root");
        return;
    }
    CLEANUP(store_close) store_t *s = store_open(db, v1, &err);
    sqlite3_stmt *st = s ? store_prepare(s, "INSERT INTO t (k, v) VALUES (?, ?)", &err) : NULL;
    ok(st && put(s, st, 1, "kept", &err) == 0 && store_commit(s, &err) == 0, "one row is in");
    FILE *f = fopen(file, "we");
    while (f && fwrite(junk, sizeof junk, 1, f) == 1 && fflush(f) == 0)
        ;
    if (f)
        fclose(f);
    char big[20000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    int rc = put(s, st, 2, big, &err);
    if (rc == 0)
        rc = store_commit(s, &err);
    ok(rc < 0 && err.code == ENOSPC && strstr(err.text, "disk is full"),
       "on a full disk a change is ENOSPC: %s", err.text);
    store_rollback(s);
    ok(count(s) == 1, "what was there is still read");
    unlink(file);
    ok(put(s, st, 2, big, &err) == 0 && store_commit(s, &err) == 0 && count(s) == 2,
       "with room again the same change goes in");
    store_close(&s);
    umount(mnt);
    rmdir(mnt);
}

int main(void)
{
    if (!mkdtemp(dir))
        return 99;
    snprintf(path, sizeof path, "%s/s.db", dir);
    basics();
    versions();
    broken_files();
    full_disk();
    rmdir(dir);
    return done_testing();
}
