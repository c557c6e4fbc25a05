/* pump.h - an image on its way: from one place to several, by a thread
 *
 * In: a pipe, or a connection of the bulk channel that has shown a ticket. Out:
 * pipes, and connections that the thread makes. What
 * cannot be written to is dropped, and its reader sees a cut image; the others
 * get theirs. Nobody is told how it went: the restorers at the ends know.
 */
#ifndef IMAGE_PUMP_H
#define IMAGE_PUMP_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "bus/bulk.h"

#define PUMP_DIALS 8

struct pump_dial {
    char addr[64];
    uint16_t port;
    bool say_token; /* in clear, before TLS: agents want to know whom it is for */
    struct bulk_ticket ticket;
};

struct pump_plan {
    int in;        /* a pipe; -1: conn */
    int conn;      /* a connection that was accepted; or -1: bulk */
    struct bulk_ticket ticket; /* of conn */
    bulk_t *bulk;  /* a connection that is open already */
    int *out;      /* pipes (image/pipe.h); from malloc */
    size_t outs;
    struct pump_dial dial[PUMP_DIALS];
    size_t dials;
};

/* All that is in the plan is the thread's from now on, or closed. */
int pump_start(const struct pump_plan *p, struct err *err);

/* Hand who is at the other end of this socket a pipe: what he writes to it goes there. */
int pump_give(int sock, const struct pump_dial *to, struct err *err);

/* No more is read of what comes under this ticket: those that it goes to see a cut image. */
void pump_cut(const char *token);

#endif
