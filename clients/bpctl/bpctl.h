/* bpctl.h - what the parts of bpctl share */
#ifndef CLIENTS_BPCTL_H
#define CLIENTS_BPCTL_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/gate.h"

#define BPCTL_TIMEOUT_MS 10000
#define BPCTL_CONTROL_MS 30000 /* every node is asked before the answer comes */

enum action {
    ACT_TARGET,    /* text: node specification */
    ACT_STATE,     /* text, why */
    ACT_MODE,      /* number */
    ACT_USER,      /* number */
    ACT_GROUP,     /* number */
    ACT_CONTROL,   /* control, text: its argument or NULL */
    ACT_ACCEPT,    /* text: key */
    ACT_FORGET,
    ACT_PENDING,
};

struct step { /* one option that does something; texts are argv's */
    enum action action;
    const char *text, *why, *control;
    int64_t number;
};

struct plan {
    struct step *step;
    size_t n;
    bool json;
};

/* plan.c: from the command line. 0; -1: say usage, *err why; 1: *status is
 * what to exit with, all is said. */
int plan_make(struct plan *p, int argc, char **argv, int *status, struct err *err);
void plan_free(struct plan *p);

/* act.c: one after another; returns an exit status. */
int plan_run(const struct plan *p, gate_t *g);

/* pending.c: agents that wait for a yes. */
int pending_print(gate_t *g, bool json, struct err *err);
/* The whole key that begins with text: one of those that wait. Caller frees. */
char *pending_key(gate_t *g, const char *text, struct err *err);

#endif
