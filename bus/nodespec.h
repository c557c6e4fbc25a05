/* nodespec.h - the node specification grammar (reference 1.1) and node lists
 *
 * One string, comma separated: 5 n5 .5 5-8 5- all up allup notdown
 * allnotdown STATE master. Numbers are decimal ("010" is ten). A trailing,
 * leading or doubled comma is forgiven. Order and duplicates are kept.
 */
#ifndef BUS_NODESPEC_H
#define BUS_NODESPEC_H
#include <stdbool.h>
#include <stddef.h>
#include "bus/err.h"

#define NODE_MAX 1000000 /* highest legal node number */

typedef struct nodelist {
    int *node; /* -1 = the master */
    size_t n, alloc;
} nodelist_t;

void nodelist_init(nodelist_t *l);
void nodelist_free(nodelist_t *l); /* fits CLEANUP() */
int nodelist_add(nodelist_t *l, int node); /* -1 only when out of memory */
/* "0-3,7" for what is in l, in l's order; caller frees. Empty: "". */
char *nodelist_text(const nodelist_t *l);

/* The first of n rows that is not below this node; n: none. Each row begins with
 * its node number, an int; they ascend. */
size_t node_place(const void *rows, size_t n, size_t row_size, int node);
/* The row of this node; NULL: it has none. */
void *node_row(const void *rows, size_t n, size_t row_size, int node);

/* What the grammar is evaluated against: configured nodes, ascending. */
struct nodespec_node {
    int node;
    const char *state;
};

/* Errors: EINVAL with what is wrong at which word and what would be right;
 * an unknown state word (no node has it and it is not one of down boot up
 * error unavailable) suggests the nearest; ENOENT for an empty result ("no
 * node is in state X", "node 9: there are only 4 nodes, 0-3").
 * allow_empty: an empty result is no error. */
int nodespec_eval(const char *spec, const struct nodespec_node *nodes, size_t n,
                  bool allow_empty, nodelist_t *out, struct err *err);

/* Numbers and ranges only, no node table needed: "0-3,7". */
int nodespec_numbers(const char *spec, nodelist_t *out, struct err *err);

#endif
