/* gate.h - the thread-free client: requests and events over RUN/gate
 *
 * For everything a user's shell starts, ghosts and libbproc: no ZeroMQ, no
 * threads, safe across fork (open a new one in the child) and exec (CLOEXEC).
 * If the bus or a service is away, calls wait and try again with the same
 * request id for up to the given time, and say so once on a terminal.
 */
#ifndef BUS_GATE_H
#define BUS_GATE_H
#include <msgpack.h>
#include "bus/err.h"
#include "bus/mp.h"
#include "bus/pkt.h"
#include "bus/wire.h"

typedef struct gate gate_t;

struct gate_msg { /* one thing that arrived; free with gate_msg_clear() */
    struct wire w;
    msgpack_unpacked u; /* payload: u.data */
    struct pkt pkt;
};

gate_t *gate_open(const char *program, struct err *err); /* program: for messages */
/* The same for a library: the gate in folder dir (NULL: RUN), never a word to
 * the terminal. */
gate_t *gate_open_at(const char *dir, struct err *err);
/* For a library whose callers must not wait: one try, which takes no longer
 * than this. Then gate_send() and gate_recv(), not gate_call(). */
gate_t *gate_open_within(const char *dir, int timeout_ms, struct err *err);
/* A connection that is there already, made by whoever is to be the asker; it is
 * the gate's then. gate_send() and gate_recv() only. NULL: sock is closed. */
gate_t *gate_adopt(int sock, struct err *err);
void gate_close(gate_t **g);
int gate_fd(gate_t *g); /* changes after a reconnect: ask each time; -1 none */

/* Ask and wait. *reply owns its memory (msgpack_unpacked_destroy).
 * Safe to repeat: the same id is used for every try of one call.
 * Errors: the service's own; ETIMEDOUT names the service; ECONNREFUSED:
 * no cluster runs here (says how to start one). */
int gate_call(gate_t *g, const char *topic, const mp_buf *body, int timeout_ms,
              msgpack_unpacked *reply, struct err *err);

/* Without waiting: send under an id (0: choose one, returned in *id). */
int gate_send(gate_t *g, const char *topic, const mp_buf *body, int timeout_ms,
              uint64_t *id, struct err *err);
/* Wait up to timeout_ms (-1: for ever) for a reply or an event.
 * 1 one is in *msg, 0 none in time, -1 the gate was lost (*err; call
 * gate_reopen() and send again what is unanswered, with the same ids). */
int gate_recv(gate_t *g, int timeout_ms, struct gate_msg *msg, struct err *err);
int gate_reopen(gate_t *g, int timeout_ms, struct err *err);
void gate_msg_clear(struct gate_msg *m);
/* A reply's value, which lives on without its message, or -1: the error that it is. */
int gate_answer(const struct gate_msg *m, msgpack_unpacked *reply, struct err *err);

/* Events whose topic begins with prefix now come out of gate_recv().
 * Kept over gate_reopen(). */
int gate_subscribe(gate_t *g, const char *prefix, struct err *err);

#endif
