/* follow.h - events by a connection of their own
 *
 * gate_call() passes over events that arrive while it waits, so who needs
 * every event has a second connection. Once follow_open() or follow_again()
 * has returned, no later event is missed until follow_next() returns -1.
 */
#ifndef CLIENTS_FOLLOW_H
#define CLIENTS_FOLLOW_H
#include "bus/gate.h"

typedef struct follow follow_t;

/* Events whose topic begins with prefix; "" for all. */
follow_t *follow_open(const char *program, const char *prefix, struct err *err);
void follow_close(follow_t **f);

/* 1: an event is in *m (gate_msg_clear() it). 0: none within timeout_ms (-1:
 * no limit), or a signal came. -1: the bus was lost, follow_again() is next. */
int follow_next(follow_t *f, int timeout_ms, struct gate_msg *m, struct err *err);

/* Connect and subscribe again; what happened in between is lost. */
int follow_again(follow_t *f, int timeout_ms, struct err *err);

/* Show a table again each time something about it changes, on a cleared screen
 * if clear is set. show() gives -1 with *err; with err->code == fatal that is
 * the end, since it will not mend itself. about() says whether an event's topic
 * is about the table. -1 only: *err, or nobody reads the table any more. */
struct follow_table {
    const char *program, *prefix;
    bool clear;
    int fatal;
    bool (*about)(const char *topic); /* NULL: each is */
    int (*show)(void *arg, struct err *err);
    void *arg;
};
int follow_table(const struct follow_table *t, struct err *err);

#endif
