/* calls.h - requests over the gate, answered while the loop goes on
 *
 * A request lives until its answer or its deadline. Should the bus go away it
 * is sent again, under the same id, once the bus is back.
 */
#ifndef CLIENTS_CALLS_H
#define CLIENTS_CALLS_H
#include "bus/err.h"
#include "bus/gate.h"
#include "bus/loop.h"

typedef struct calls calls_t;

/* Takes over an open gate. */
calls_t *calls_create(loop_t *l, gate_t *g, struct err *err);
void calls_destroy(calls_t **c);

/* cb is called exactly once, unless calls_destroy() comes first: with the
 * value, or with NULL and *err. */
typedef void calls_fn(void *arg, const msgpack_object *value, const struct err *err);
int calls_start(calls_t *c, const char *topic, const mp_buf *body, int timeout_ms,
                calls_fn *cb, void *arg, struct err *err);

#endif
