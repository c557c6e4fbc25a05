/* fold.h - output kept until the end, then equal output printed once
 *
 * Memory holds only where each piece lies; the bytes are in an unlinked file.
 */
#ifndef BPSH_FOLD_H
#define BPSH_FOLD_H
#include <stddef.h>
#include <stdint.h>
#include "bus/err.h"

typedef struct fold fold_t;

fold_t *fold_create(const int *node, uint32_t n, struct err *err);
void fold_destroy(fold_t **f);

/* More bytes of process i's fd (1 or 2). */
int fold_add(fold_t *f, uint32_t i, int fd, const void *p, size_t n, struct err *err);

/* For each different output to fd: the nodes, as in "0-2,5:", and the output.
 * Processes without any are left out. */
int fold_print(fold_t *f, int fd, struct err *err);

#endif
