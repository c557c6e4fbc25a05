/* db.h - what nodemgr remembers over its own death: STATEDIR/nodemgr.db
 *
 * Memory is the truth while nodemgr runs; the file follows. Errors are those of
 * bus/store.h. */
#ifndef NODEMGR_DB_H
#define NODEMGR_DB_H
#include "services/nodemgr/nodes.h"

typedef struct db db_t;

struct lib {
    char *path;
    bool hand; /* added by a person, not by the configuration */
};
struct libs { /* the library list, oldest first */
    struct lib *v;
    size_t n;
};
void libs_free(struct libs *l); /* fits CLEANUP() */

db_t *db_open(const char *path, struct err *err);
void db_close(db_t **d);

/* Fill in what is remembered of this node; none remembered: nothing happens.
 * Its space counts as heard from at now. */
int db_load(db_t *d, struct node *n, int64_t now, struct err *err);
/* Write every dirty node, all or none; on success none is dirty any more. */
int db_flush(db_t *d, const nodes_t *s, struct err *err);
/* One text under a name ("" when there is none; the caller frees; NULL: *err). */
char *db_get(db_t *d, const char *name, struct err *err);
int db_put(db_t *d, const char *name, const char *value, struct err *err);
/* The whole library list. */
int db_load_libs(db_t *d, struct libs *l, struct err *err);
int db_save_libs(db_t *d, const struct libs *l, struct err *err);

#endif
