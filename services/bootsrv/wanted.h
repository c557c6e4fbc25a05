/* wanted.h - images that people have set for nodes, over what the configuration says */
#ifndef BOOTSRV_WANTED_H
#define BOOTSRV_WANTED_H
#include <stddef.h>
#include "bus/store.h"

typedef struct wanted wanted_t;

/* Errors are those of bus/store.h. */
wanted_t *wanted_open(store_t *store, struct err *err);
void wanted_close(wanted_t **w);

const char *wanted_file(const wanted_t *w, int node); /* NULL: as the configuration says */
/* file NULL: as the configuration says. All or nothing, and on the disk. */
int wanted_set(wanted_t *w, const int *nodes, size_t n, const char *file, struct err *err);

#endif
