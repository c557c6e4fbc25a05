/* input.h - our stdin, to the processes that get it
 *
 * Bytes are read only when every receiver may take them, and kept until every
 * receiver has them. Receivers are the nodes (as one, through the reader) and
 * local children. Who closes its end does not count any more; when nobody is
 * left, nothing is read.
 */
#ifndef BPSH_INPUT_H
#define BPSH_INPUT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "bus/err.h"
#include "bus/loop.h"
#include "clients/bpsh/reader.h"

typedef struct input input_t;

/* Reads fd in pieces of up to chunk bytes. */
input_t *input_create(loop_t *l, int fd, size_t chunk, struct err *err);
void input_destroy(input_t **in);

/* Receivers: before the loop runs. */
void input_to_nodes(input_t *in, reader_t *r);
/* A pipe's writing end, which the input then owns. */
int input_to_pipe(input_t *in, int fd, struct err *err);

/* The nodes' word, from the reader. */
void input_credit(input_t *in, uint64_t acked, uint64_t limit, bool gone);
void input_again(input_t *in, uint64_t offset);

/* Read and hand on what can be: at the end of each turn. */
void input_pump(input_t *in);

#endif
