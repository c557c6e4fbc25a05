/* bjssub.h - what bjssub's parts share */
#ifndef BJSSUB_H
#define BJSSUB_H
#include <stdbool.h>
#include <stdint.h>
#include "bus/config.h"
#include "bus/gate.h"

struct after {
    int64_t job;
    const char *kind;
};

struct options {
    const char *pool, *dir, *output, *name;
    int64_t nodes, secs, cpus, mem_mb, priority, retry, from, to; /* secs -1, from -1: none */
    struct after *after;
    size_t nafter;
    struct strlist reqs; /* as bjsstat shows them */
    bool interactive, restartable, requeue, hold, json, verbose;
    char *command;       /* words joined, or a script's text */
    bool script;
};

/* 0, or the exit status in *status and -1. */
int options_parse(struct options *o, int argc, char **argv, int *status);
void options_free(struct options *o);

int64_t submit(gate_t *g, const struct options *o, int64_t *count, struct err *err); /* -1 */
int interactive(gate_t *g, const struct options *o, int64_t job); /* exit status */
const char *job_dir(const struct options *o); /* absolute */
const char *job_shell(void);

#endif
