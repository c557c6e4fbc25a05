/* db.c - what nodemgr remembers over its own death */
#include "services/nodemgr/db.h"
#include "bus/store.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const schema[] = {
    "CREATE TABLE cluster (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE node ("
    "  node INTEGER PRIMARY KEY,"
    "  key TEXT NOT NULL, space TEXT NOT NULL, lost_space TEXT NOT NULL,"
    "  boot TEXT NOT NULL, addr TEXT NOT NULL, hostname TEXT NOT NULL,"
    "  kernel TEXT NOT NULL, macs TEXT NOT NULL, cpus INTEGER NOT NULL,"
    "  mem INTEGER NOT NULL, ready INTEGER NOT NULL, silent INTEGER NOT NULL,"
    "  down_why TEXT NOT NULL, down_who TEXT NOT NULL, down_since INTEGER NOT NULL,"
    "  state TEXT NOT NULL, why TEXT NOT NULL, who TEXT NOT NULL, since INTEGER NOT NULL,"
    "  mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL);"
    "CREATE TABLE attr ("
    "  node INTEGER NOT NULL REFERENCES node (node) ON DELETE CASCADE,"
    "  name TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (node, name)) WITHOUT ROWID",
    "CREATE TABLE lib (place INTEGER PRIMARY KEY, path TEXT NOT NULL, hand INTEGER NOT NULL)",
    "ALTER TABLE node ADD COLUMN boot_key INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE node ADD COLUMN image TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE node ADD COLUMN joined INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE node ADD COLUMN set_up INTEGER NOT NULL DEFAULT 0",
    NULL,
};

struct db {
    store_t *store;
    sqlite3_stmt *load, *load_attrs, *save, *drop_attrs, *save_attr, *get, *put;
    sqlite3_stmt *load_libs, *drop_libs, *save_lib;
};

db_t *db_open(const char *path, struct err *err)
{
    CLEANUP(db_close) db_t *d = calloc(1, sizeof *d);

    if (!d) {
        err_set(err, ENOMEM, "%s: out of memory", path);
        return NULL;
    }
    d->store = store_open(path, schema, err);
    if (!d->store)
        return NULL;
    const struct store_sql all[] = {
        { &d->load, "SELECT key, space, lost_space, boot, addr, hostname, kernel, macs, cpus,"
                    " mem, ready, silent, down_why, down_who, down_since, state, why, who,"
                    " since, mode, uid, gid, boot_key, image, joined, set_up FROM node WHERE node = ?" },
        { &d->load_attrs, "SELECT name, value FROM attr WHERE node = ?" },
        { &d->save, "INSERT INTO node VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11,"
                    " ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27)"
                    " ON CONFLICT (node) DO UPDATE SET key=?2, space=?3, lost_space=?4, boot=?5,"
                    " addr=?6, hostname=?7, kernel=?8, macs=?9, cpus=?10, mem=?11, ready=?12,"
                    " silent=?13, down_why=?14, down_who=?15, down_since=?16, state=?17,"
                    " why=?18, who=?19, since=?20, mode=?21, uid=?22, gid=?23,"
                    " boot_key=?24, image=?25, joined=?26, set_up=?27" },
        { &d->drop_attrs, "DELETE FROM attr WHERE node = ?" },
        { &d->save_attr, "INSERT INTO attr VALUES (?, ?, ?)" },
        { &d->get, "SELECT value FROM cluster WHERE name = ?" },
        { &d->put, "INSERT INTO cluster VALUES (?, ?)"
                   " ON CONFLICT (name) DO UPDATE SET value = excluded.value" },
        { &d->load_libs, "SELECT path, hand FROM lib ORDER BY place" },
        { &d->drop_libs, "DELETE FROM lib" },
        { &d->save_lib, "INSERT INTO lib VALUES (?, ?, ?)" },
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

/* ---- reading ---- */

static void column(char *out, size_t room, sqlite3_stmt *st, int i)
{
    const unsigned char *text = sqlite3_column_text(st, i);

    snprintf(out, room, "%s", text ? (const char *)text : "");
}
#define COLUMN(field, i) column(field, sizeof(field), st, i)

static int read_macs(struct machine *m, sqlite3_stmt *st, int i)
{
    CLEANUP(cleanup_free) char *text = store_text(st, i);
    char *save = NULL;

    strlist_free(&m->macs);
    for (char *t = text ? strtok_r(text, " ", &save) : NULL; t; t = strtok_r(NULL, " ", &save))
        if (strlist_add(&m->macs, t) < 0)
            return -1;
    return 0;
}

static int read_row(struct node *n, sqlite3_stmt *st, int64_t now)
{
    struct machine *m = n->machine;
    struct standing *s = n->standing;

    COLUMN(m->key, 0);
    COLUMN(m->space, 1);
    COLUMN(m->lost_space, 2);
    COLUMN(m->boot, 3);
    COLUMN(m->addr, 4);
    COLUMN(m->hostname, 5);
    COLUMN(m->kernel, 6);
    if (read_macs(m, st, 7) < 0)
        return -1;
    m->cpus = sqlite3_column_int64(st, 8);
    m->mem = sqlite3_column_int64(st, 9);
    m->ready = sqlite3_column_int(st, 10);
    m->silent = sqlite3_column_int(st, 11);
    COLUMN(n->down.why, 12);
    COLUMN(n->down.who, 13);
    n->down.since = sqlite3_column_int64(st, 14);
    COLUMN(s->state, 15);
    COLUMN(s->word.why, 16);
    COLUMN(s->word.who, 17);
    s->word.since = sqlite3_column_int64(st, 18);
    s->mode = (unsigned)sqlite3_column_int(st, 19) & 0111;
    s->uid = (uid_t)sqlite3_column_int64(st, 20);
    s->gid = (gid_t)sqlite3_column_int64(st, 21);
    m->boot_key = sqlite3_column_int(st, 22);
    COLUMN(m->image, 23);
    m->joined = sqlite3_column_int64(st, 24);
    m->set_up_at = sqlite3_column_int64(st, 25);
    m->heard_at = now;
    return 0;
}

static int read_attrs(db_t *d, struct node *n, struct err *err)
{
    sqlite3_stmt *st = d->load_attrs;
    int rc;

    sqlite3_bind_int(st, 1, n->number);
    while ((rc = store_step(d->store, st, err)) > 0) {
        const char *name = (const char *)sqlite3_column_text(st, 0);
        const void *value = sqlite3_column_blob(st, 1);
        int len = sqlite3_column_bytes(st, 1);

        if (!name || standing_attr(n->standing, name, value ? value : "", (size_t)len, err) < 0) {
            store_reset(st);
            return -1;
        }
    }
    return rc;
}

int db_load(db_t *d, struct node *n, int64_t now, struct err *err)
{
    sqlite3_bind_int(d->load, 1, n->number);
    int rc = store_step(d->store, d->load, err);
    if (rc <= 0)
        return rc;
    rc = read_row(n, d->load, now);
    store_reset(d->load);
    if (rc < 0)
        return err_set(err, ENOMEM, "node %d: out of memory", n->number);
    return read_attrs(d, n, err);
}

/* ---- writing ---- */

static void text(sqlite3_stmt *st, int i, const char *s)
{
    sqlite3_bind_text(st, i, s, -1, SQLITE_TRANSIENT);
}

static char *macs_text(const struct machine *m)
{
    char *out = NULL;
    size_t len;
    FILE *f = open_memstream(&out, &len);

    if (!f)
        return NULL;
    for (size_t i = 0; i < m->macs.n; i++)
        fprintf(f, "%s%s", i ? " " : "", m->macs.v[i]);
    return fclose(f) == 0 ? out : NULL;
}

static int save_node(db_t *d, const struct node *n, struct err *err)
{
    const struct machine *m = n->machine;
    const struct standing *s = n->standing;
    CLEANUP(cleanup_free) char *macs = macs_text(m);
    sqlite3_stmt *st = d->save;

    if (!macs)
        return err_set(err, ENOMEM, "node %d: out of memory", n->number);
    sqlite3_bind_int(st, 1, n->number);
    text(st, 2, m->key);
    text(st, 3, m->space);
    text(st, 4, m->lost_space);
    text(st, 5, m->boot);
    text(st, 6, m->addr);
    text(st, 7, m->hostname);
    text(st, 8, m->kernel);
    text(st, 9, macs);
    sqlite3_bind_int64(st, 10, m->cpus);
    sqlite3_bind_int64(st, 11, m->mem);
    sqlite3_bind_int(st, 12, m->ready);
    sqlite3_bind_int(st, 13, m->silent);
    text(st, 14, n->down.why);
    text(st, 15, n->down.who);
    sqlite3_bind_int64(st, 16, n->down.since);
    text(st, 17, s->state);
    text(st, 18, s->word.why);
    text(st, 19, s->word.who);
    sqlite3_bind_int64(st, 20, s->word.since);
    sqlite3_bind_int64(st, 21, s->mode);
    sqlite3_bind_int64(st, 22, s->uid);
    sqlite3_bind_int64(st, 23, s->gid);
    sqlite3_bind_int(st, 24, m->boot_key);
    text(st, 25, m->image);
    sqlite3_bind_int64(st, 26, m->joined);
    sqlite3_bind_int64(st, 27, m->set_up_at);
    return store_step(d->store, st, err);
}

static int save_attrs(db_t *d, const struct node *n, struct err *err)
{
    sqlite3_bind_int(d->drop_attrs, 1, n->number);
    if (store_step(d->store, d->drop_attrs, err) < 0)
        return -1;
    for (size_t i = 0; i < n->standing->nattr; i++) {
        const struct attr *a = &n->standing->attr[i];

        sqlite3_bind_int(d->save_attr, 1, n->number);
        text(d->save_attr, 2, a->name);
        sqlite3_bind_blob(d->save_attr, 3, a->len ? (const void *)a->value : "", (int)a->len,
                          SQLITE_TRANSIENT);
        if (store_step(d->store, d->save_attr, err) < 0)
            return -1;
    }
    return 0;
}

int db_flush(db_t *d, const nodes_t *s, struct err *err)
{
    bool any = false;

    for (size_t i = 0; i < s->n; i++) {
        const struct node *n = s->v[i];

        if (!n->dirty)
            continue;
        any = true;
        if (store_begin(d->store, err) < 0 || save_node(d, n, err) < 0 ||
            (n->attrs_dirty && save_attrs(d, n, err) < 0)) {
            store_rollback(d->store);
            return -1;
        }
    }
    if (!any)
        return 0;
    if (store_commit(d->store, err) < 0)
        return -1;
    for (size_t i = 0; i < s->n; i++)
        s->v[i]->dirty = s->v[i]->attrs_dirty = false;
    return 0;
}

char *db_get(db_t *d, const char *name, struct err *err)
{
    text(d->get, 1, name);
    int rc = store_step(d->store, d->get, err);
    if (rc < 0)
        return NULL;
    char *out = rc ? store_text(d->get, 0) : strdup("");
    if (rc)
        store_reset(d->get);
    if (!out)
        err_set(err, ENOMEM, "out of memory");
    return out;
}

int db_put(db_t *d, const char *name, const char *value, struct err *err)
{
    text(d->put, 1, name);
    text(d->put, 2, value);
    return store_step(d->store, d->put, err);
}

/* ---- the library list ---- */

int db_load_libs(db_t *d, struct libs *l, struct err *err)
{
    int rc;

    while ((rc = store_step(d->store, d->load_libs, err)) > 0) {
        struct lib *v = realloc(l->v, (l->n + 1) * sizeof *v);
        char *path = v ? store_text(d->load_libs, 0) : NULL;

        if (v)
            l->v = v;
        if (!path) {
            store_reset(d->load_libs);
            return err_set(err, ENOMEM, "no memory for the library list");
        }
        v[l->n++] = (struct lib){ path, sqlite3_column_int(d->load_libs, 1) != 0 };
    }
    return rc;
}

static int save_libs(db_t *d, const struct libs *l, struct err *err)
{
    if (store_step(d->store, d->drop_libs, err) < 0)
        return -1;
    for (size_t i = 0; i < l->n; i++) {
        sqlite3_bind_int64(d->save_lib, 1, (int64_t)i);
        text(d->save_lib, 2, l->v[i].path);
        sqlite3_bind_int(d->save_lib, 3, l->v[i].hand);
        if (store_step(d->store, d->save_lib, err) < 0)
            return -1;
    }
    return 0;
}

int db_save_libs(db_t *d, const struct libs *l, struct err *err)
{
    if (store_begin(d->store, err) < 0)
        return -1;
    if (save_libs(d, l, err) < 0) {
        store_rollback(d->store);
        return -1;
    }
    return store_commit(d->store, err);
}
