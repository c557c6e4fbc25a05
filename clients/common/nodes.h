/* nodes.h - node maps from nodemgr, decoded
 *
 * nodes_get() asks nodemgr.list. The table owns the reply that its rows
 * refer to. A reply that is not what doc/wire.md says is EPROTO.
 */
#ifndef CLIENTS_NODES_H
#define CLIENTS_NODES_H
#include <stddef.h>
#include <stdint.h>

#include "bus/gate.h"

struct node_row {
    int64_t node; /* -1 the master */
    char *name, *state, *why, *who, *reach, *addr; /* never NULL */
    int64_t since;  /* ms since the epoch, 0 not known */
    unsigned mode;
    int64_t uid, gid;
    const msgpack_object *map; /* all that nodemgr said */
};

struct nodes {
    struct node_row *row;
    size_t n;
    msgpack_unpacked reply;
};

void nodes_init(struct nodes *t);
void nodes_free(struct nodes *t); /* fits CLEANUP() */

/* spec NULL: all nodes. Replaces what t held. */
int nodes_get(gate_t *g, const char *spec, int timeout_ms, struct nodes *t,
              struct err *err);
/* The decoding alone: an array of node maps that outlives t's rows. */
int nodes_decode(struct nodes *t, const msgpack_object *list, struct err *err);

#endif
