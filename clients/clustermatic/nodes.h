/* nodes.h - what nodemgr says of the nodes */
#ifndef CLUSTERMATIC_NODES_H
#define CLUSTERMATIC_NODES_H
#include <stddef.h>
#include "bus/gate.h"
#include "bus/nodespec.h"
#include "clients/clustermatic/cluster.h"

struct node_info {
    int node;
    char state[32];
    char why[160];
};

struct node_table {
    struct node_info *node;
    size_t n;
};

int nodes_list(gate_t *g, int timeout_ms, struct node_table *t, struct err *err);
void nodes_free(struct node_table *t); /* fits CLEANUP() */

/* Wait until every node of the table is up, with progress on a terminal.
 * ETIMEDOUT: the text says which are not and why. */
int nodes_wait_up(const struct cluster *c, int timeout_ms, struct err *err);

/* The nodes of a specification, in its order. ENOENT: none. */
int nodes_named(gate_t *g, const char *spec, nodelist_t *out, struct err *err);

/* nodemgr.reload; prints the configuration's warnings. */
int nodes_reload(struct err *err);

#endif
