/* bpps.h - what the parts of bpps share */
#ifndef CLIENTS_BPPS_H
#define CLIENTS_BPPS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/gate.h"

#define BPPS_TIMEOUT_MS 15000 /* a node that is slow is named after this */

struct options {
    char *spec;     /* which nodes */
    int64_t *uid;   /* only these users; none: all */
    size_t uids;
    bool tree, json, wide;
    int64_t *pid;   /* --why: of these */
    size_t pids;
    bool why;
};

struct proc {
    int64_t node, pid, ppid, uid;
    int64_t cpu_us, rss_kb;
    char state;
    char *command; /* arguments, or [name] */
    int depth;     /* in the tree of its node */
    const msgpack_object *map;
};

struct missing {
    int64_t node;
    char *why;
};

struct procs {
    struct proc *v;
    size_t n;
    struct missing *missing;
    size_t missings;
    msgpack_unpacked reply; /* the rows point into it */
};

/* fetch.c */
int procs_get(gate_t *g, const struct options *o, struct procs *p, struct err *err);
void procs_free(struct procs *p);

/* tree.c: order by node and descent, and set depth. -1: out of memory. */
int tree_order(struct procs *p, struct err *err);

/* why.c: the exit status, or -1 */
int why(gate_t *g, const struct options *o, struct err *err);

/* print.c */
void print_table(const struct procs *p, const struct options *o);
int print_json(const struct procs *p, struct err *err);

#endif
