/* store.h - a service's state in one SQLite file
 *
 * WAL, foreign keys on, one writer: the service that owns the file. The schema
 * is a list of SQL texts; text i takes the file from user_version i to i+1.
 * Statements are prepared once and belong to the store. Changes are gathered
 * in a transaction: store_begin() before each change opens one if none is
 * open, store_commit() at the end of the loop's turn writes them together.
 * A power cut may lose the last moments but never leaves half of a commit.
 *
 * Errors: ENOSPC the disk (or quota) is full, EIO it fails, EROFS it cannot be
 * written, EBUSY another process holds the file, EILSEQ the file is damaged or
 * not ours, EEXIST a constraint; the text names the file and what to do.
 * Threads: none.
 */
#ifndef BUS_STORE_H
#define BUS_STORE_H
#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include "bus/err.h"

typedef struct store store_t;

/* Opens or makes the file (mode 0600). migrations end with NULL; never change
 * one that was released, add another. ENOTSUP: a newer program made the file. */
store_t *store_open(const char *path, const char *const *migrations, struct err *err);
void store_close(store_t **s); /* an open transaction is committed if it can be */

/* NULL: *err. Finalized by store_close(). */
sqlite3_stmt *store_prepare(store_t *s, const char *sql, struct err *err);
struct store_sql {
    sqlite3_stmt **st;
    const char *sql;
};
int store_prepare_all(store_t *s, const struct store_sql *all, size_t n, struct err *err);

/* Run a prepared statement one step. 1: a row is there (step again for the
 * next, or store_reset()); 0: finished, and reset for the next use; -1: *err,
 * and reset. Bindings are cleared by the reset. */
int store_step(store_t *s, sqlite3_stmt *st, struct err *err);
void store_reset(sqlite3_stmt *st);

int store_begin(store_t *s, struct err *err);    /* a transaction is open after it */
int store_commit(store_t *s, struct err *err);   /* 0 also when none is open; on
                                                    failure it is rolled back */
void store_rollback(store_t *s);
bool store_pending(const store_t *s);            /* is a transaction open? */

/* Column of the current row as fresh text; NULL column: NULL. */
char *store_text(sqlite3_stmt *st, int column);

#endif
