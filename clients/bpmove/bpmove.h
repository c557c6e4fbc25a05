/* bpmove.h - bpmove from the inside
 *
 *   main.c   command line
 *   one.c    one process: could it, or have it go
 *   drain.c  all of a node
 */
#ifndef BPMOVE_H
#define BPMOVE_H
#include <stdbool.h>
#include <stdint.h>
#include "bus/err.h"
#include "bus/gate.h"
#include "clients/common/json.h"

struct options {
    bool json, quiet, no_input;
};

/* What has come of one. */
struct outcome {
    int64_t node;      /* where it was; -1 the master */
    int64_t code;      /* 0: good */
    bool good;         /* it has gone there, or could */
    char *text;        /* why not, or a remark; "" */
    json_t *hindrances; /* [{what, text}...] */
};
void outcome_free(struct outcome *o);

/* to: node, -1 the master; check: only look. -1: *err, the cluster's. */
int move_one(gate_t *g, const struct options *opt, int64_t pid, int64_t to, bool check,
             struct outcome *out, struct err *err);
/* One line for each thing that stands in the way. */
void outcome_say(FILE *f, int64_t pid, const struct outcome *o);
json_t *outcome_json(int64_t pid, const struct outcome *o);

/* All of the user's on this node, root's: all. How many are left; -1: *err. */
int drain(gate_t *g, const struct options *opt, int64_t node, struct err *err);

#endif
