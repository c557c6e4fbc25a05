/* swf.h - traces in the Standard Workload Format
 *
 * One job a line, 18 numbers, -1 where nothing is known; lines that begin with
 * a semicolon are remarks, among them "; MaxNodes: N" and "; MaxProcs: N".
 */
#ifndef SCHED_SWF_H
#define SCHED_SWF_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "bus/err.h"

struct swf_job {
    int64_t id, submit_s, run_s, limit_s;
    uint32_t nodes, uid;
};

struct swf {
    struct swf_job *v; /* by time of submission */
    size_t n;
    uint32_t nodes;    /* of the machine: as it says, else the most that a job wants */
    size_t odd;        /* jobs that were left out: they never ran, or are damaged */
};

int swf_read(FILE *f, const char *name, struct swf *t, struct err *err);
void swf_free(struct swf *t); /* fits CLEANUP() */

/* A made-up trace: the same for the same seed. */
int swf_make(struct swf *t, size_t jobs, uint32_t nodes, unsigned seed);
void swf_write(FILE *f, const struct swf *t);

#endif
