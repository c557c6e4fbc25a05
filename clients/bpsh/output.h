/* output.h - what arrives from processes, put on stdout and stderr in form
 *
 * Each process has two lanes, 1 and 2. Bytes of a lane wait here until they
 * can be written; how many may wait is up to whoever feeds the lane, who is
 * told how many bytes have been taken. In line form a lane holds an
 * unfinished line of up to line_max bytes: let it have more than that.
 */
#ifndef BPSH_OUTPUT_H
#define BPSH_OUTPUT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "bus/err.h"
#include "bus/loop.h"

typedef struct output output_t;

struct output_form {
    bool lines;      /* whole lines; longer ones are broken at line_max */
    bool prefix;     /* "%3d: " before each line; means lines */
    bool sequential; /* one process after another */
    bool divider;    /* and a divider before each; means sequential */
    size_t line_max;
    int fd[2];       /* where lanes 1 and 2 go */
};

/* taken: of this lane so many bytes in all are written or in the last buffer.
 * broken: fd (1 or 2) cannot be written to any more, code is errno; its lanes
 * swallow what still comes. */
typedef void output_taken_fn(void *arg, uint32_t proc, int fd, uint64_t taken);
typedef void output_broken_fn(void *arg, int fd, int code);

/* node[i]: the node of process i, for prefixes and dividers. */
output_t *output_create(loop_t *l, const struct output_form *form, const int *node, uint32_t n,
                        output_taken_fn *taken, output_broken_fn *broken, void *arg,
                        struct err *err);
void output_destroy(output_t **o);

/* More bytes of a lane. -1: ENOMEM. */
int output_data(output_t *o, uint32_t proc, int fd, const void *p, size_t n, struct err *err);
/* No more comes; again is fine. */
void output_end(output_t *o, uint32_t proc, int fd);
/* Something else (the bulk channel) wrote n bytes of this lane. */
void output_passed(output_t *o, uint32_t proc, int fd, uint64_t n);
uint64_t output_taken(const output_t *o, uint32_t proc, int fd); /* of this lane, in all */
bool output_flushed(const output_t *o); /* what was taken is written */
bool output_ended(const output_t *o, uint32_t proc); /* both lanes were ended */
bool output_idle(const output_t *o, uint32_t proc, int fd); /* nothing of it waits to be written */
/* Bytes that are here: of an unfinished line, if it is idle. */
size_t output_kept(const output_t *o, uint32_t proc, int fd);

/* Write what can be written: call at the end of each turn of the loop. */
void output_pump(output_t *o);
/* All lanes are at their end and all is written. */
bool output_done(const output_t *o);

#endif
