/* wanted.c - images that people have set for nodes, over what the configuration says
 *
 * STATEDIR/bootsrv.db: one row a node. In memory it is a sorted list; a change
 * is on the disk before it is answered.
 */
#include "services/bootsrv/wanted.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bus/nodespec.h"

struct want {
    int node;
    char *file;
};

struct wanted {
    store_t *store;
    sqlite3_stmt *put, *del;
    struct want *v;
    size_t n;
};

const char *wanted_file(const wanted_t *w, int node)
{
    const struct want *v = node_row(w->v, w->n, sizeof *w->v, node);

    return v ? v->file : NULL;
}

/* file NULL: take it out. */
static int keep(wanted_t *w, int node, const char *file, struct err *err)
{
    size_t i = node_place(w->v, w->n, sizeof *w->v, node);
    bool there = i < w->n && w->v[i].node == node;
    char *copy = file ? strdup(file) : NULL;

    if (file && !copy)
        return err_set(err, ENOMEM, "out of memory");
    if (there) {
        free(w->v[i].file);
        w->v[i].file = copy;
        if (!copy)
            memmove(&w->v[i], &w->v[i + 1], (--w->n - i) * sizeof *w->v);
        return 0;
    }
    if (!copy)
        return 0;
    struct want *more = realloc(w->v, (w->n + 1) * sizeof *more);
    if (!more) {
        free(copy);
        return err_set(err, ENOMEM, "out of memory");
    }
    w->v = more;
    memmove(&more[i + 1], &more[i], (w->n++ - i) * sizeof *more);
    more[i] = (struct want){ node, copy };
    return 0;
}

int wanted_set(wanted_t *w, const int *nodes, size_t n, const char *file, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        sqlite3_stmt *st = file ? w->put : w->del;
        if (store_begin(w->store, err) < 0)
            return -1;
        sqlite3_bind_int(st, 1, nodes[i]);
        if (file)
            sqlite3_bind_text(st, 2, file, -1, SQLITE_TRANSIENT);
        if (store_step(w->store, st, err) < 0) {
            store_rollback(w->store);
            return -1;
        }
    }
    if (store_commit(w->store, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (keep(w, nodes[i], file, err) < 0)
            return -1;
    return 0;
}

static int load(wanted_t *w, struct err *err)
{
    sqlite3_stmt *all = store_prepare(w->store, "SELECT node, file FROM wanted", err);
    int rc = all ? 1 : -1;

    while (rc > 0 && (rc = store_step(w->store, all, err)) > 0) {
        CLEANUP(cleanup_free) char *file = store_text(all, 1);
        if (file && keep(w, sqlite3_column_int(all, 0), file, err) < 0)
            rc = -1;
    }
    return rc;
}

wanted_t *wanted_open(store_t *store, struct err *err)
{
    wanted_t *w = calloc(1, sizeof *w);

    if (!w) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    w->store = store;
    if (!(w->put = store_prepare(w->store, "INSERT OR REPLACE INTO wanted VALUES (?1, ?2)", err)) ||
        !(w->del = store_prepare(w->store, "DELETE FROM wanted WHERE node = ?1", err)) ||
        load(w, err) < 0)
        wanted_close(&w);
    return w;
}

void wanted_close(wanted_t **wp)
{
    wanted_t *w = *wp;

    if (!w)
        return;
    for (size_t i = 0; i < w->n; i++)
        free(w->v[i].file);
    free(w->v);
    free(w);
    *wp = NULL;
}
