/* bjsstat.h - what bjsstat's parts share */
#ifndef BJSSTAT_H
#define BJSSTAT_H
#include <stdbool.h>
#include <stdint.h>
#include "bus/gate.h"

#define ASK_MS 30000

struct options {
    const char *pool;
    int64_t uid;   /* -1: everybody's */
    int64_t done;  /* so many ended jobs instead; 0: no */
    bool json, update;
};

/* The table of pools and jobs, or of ended ones. */
int table_show(gate_t *g, const struct options *o, struct err *err);
/* All about some jobs. Exit status. */
int detail_show(gate_t *g, const struct options *o, char **ids, int n);
/* Why they wait, or how they ended. Exit status. */
int why_show(gate_t *g, const struct options *o, char **ids, int n);

/* One text for people: control characters and bytes that are no UTF-8 do no harm. */
void print_text(const msgpack_object *o, int width); /* 0: as wide as it is */
/* What is run, or "(interactive)"; what was asked for. The caller frees them. */
char *command_of(const msgpack_object *job);
char *requirements_of(const msgpack_object *job);

#endif
