/* bpstat.h - what the parts of bpstat share */
#ifndef CLIENTS_BPSTAT_H
#define CLIENTS_BPSTAT_H
#include <stdbool.h>

#include "clients/common/nodes.h"

#define BPSTAT_TIMEOUT_MS 10000

enum layout {
    LAYOUT_COMPACT,
    LAYOUT_LONG,
    LAYOUT_ADDRESS,
    LAYOUT_STATUS,
    LAYOUT_NUMBER,
    LAYOUT_TOTAL,
    LAYOUT_EXPLAIN,
    LAYOUT_MAP,    /* processes, not nodes */
    LAYOUT_FILTER, /* the same, beside ps output from stdin */
    LAYOUT_HOST,   /* the node that has an address */
    LAYOUT_BOOT,   /* images, wanted and running */
};

enum order {
    ORDER_LAYOUT, /* by state for compact, else by number */
    ORDER_NUMBER,
    ORDER_STATUS,
    ORDER_KEEP,
};

struct options {
    enum layout layout;
    enum order order;
    bool reverse, update, lock, json, explain;
    const char *host;
    char *spec; /* NULL: all */
};

/* May the asker start work there? In the order of the node table. */
struct work {
    bool yes;
    char *why; /* NULL, or why not */
};

/* sort.c */
void sort_nodes(struct nodes *t, const struct options *o);

/* layout.c: print the table; work is NULL but for -x. -1: *err says why. */
int layout_print(const struct nodes *t, const struct work *work,
                 const struct options *o, struct err *err);

/* work.c: a new array of t->n, freed by work_free(); NULL: *err says why. */
struct work *work_get(gate_t *g, const struct nodes *t, const struct options *o,
                      struct err *err);
void work_free(struct work **work, size_t n);

/* procs.c: -p, -P; return an exit status. */
int procs_map(gate_t *g, const struct options *o);
int procs_filter(gate_t *g);

/* boot.c: --boot; returns an exit status. */
int boot_show(gate_t *g, const struct options *o);

/* host.c: -A; returns an exit status. */
int host_find(gate_t *g, const struct options *o);

#endif
