/* bulk.h - the bulk channel: one TLS 1.3 connection opened by a ticket
 *
 * Two ends share a ticket (token, 32-byte key) given out by the owner service
 * over the bus. The end that listens is the TLS server. No certificates: the
 * key is an external PSK, its identity is the token. A key of zeros alone is none: who
 * connects says the token, and all goes in clear text. Blocking calls with a
 * time limit (-1: none; a handshake as a whole, else the time without any
 * progress): use them in a thread or a helper process, never in a loop.
 * shutdown(2) of the socket by another thread ends a call that waits.
 * Threads: a bulk_t belongs to one thread at a time, reading and writing alike.
 * The descriptor's flags are left alone, and no SIGPIPE is raised.
 */
#ifndef BUS_BULK_H
#define BUS_BULK_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "bus/err.h"

#define BULK_TOKEN 32 /* hex characters */
#define BULK_KEY 32   /* bytes */

struct bulk_ticket {
    char token[BULK_TOKEN + 1];
    unsigned char key[BULK_KEY];
};

typedef struct bulk bulk_t;

void bulk_ticket_make(struct bulk_ticket *t); /* random */
/* From now on this process makes tickets for clear text, or no more: what the config says
 * of the nodes' network (trustednetwork). A ticket that was made before stays what it is. */
void bulk_in_clear(bool yes);

/* TCP to addr:port within timeout_ms; O_CLOEXEC; -1 on error. */
int bulk_dial(const char *addr, uint16_t port, int timeout_ms, struct err *err);

/* Of a socket that will listen for such: they are sent at once, even where the system's
 * default is BBR. That is made for what is far away, and sends by timers. */
void bulk_near(int fd);

/* The same in two steps: a socket that is connecting, then the wait for it,
 * which shutdown(2) ends. */
int bulk_dial_start(const char *addr, uint16_t port, struct err *err);
int bulk_dial_wait(int fd, int timeout_ms, struct err *err);

/* TLS on a connected socket, which the bulk_t then owns (closed on failure too). */
bulk_t *bulk_client(int fd, const struct bulk_ticket *t, int timeout_ms, struct err *err);
/* Server for one known ticket. */
bulk_t *bulk_server(int fd, const struct bulk_ticket *t, int timeout_ms, struct err *err);
/* Server that looks the key up by token (NULL: refuse). */
typedef const unsigned char *bulk_lookup_fn(void *arg, const char *token);
bulk_t *bulk_server_lookup(int fd, bulk_lookup_fn *lookup, void *arg, int timeout_ms,
                           struct err *err);
void bulk_close(bulk_t **b); /* sends close_notify if all was well */

/* Read up to len: > 0 bytes, 0 end (close_notify seen), -1 error (a cut
 * connection is an error, not an end). bulk_read_all wants exactly len. */
ssize_t bulk_read(bulk_t *b, void *p, size_t len, int timeout_ms, struct err *err);
int bulk_read_all(bulk_t *b, void *p, size_t len, int timeout_ms, struct err *err);
/* Write all. */
int bulk_write(bulk_t *b, const void *p, size_t len, int timeout_ms, struct err *err);
/* Say that nothing follows (close_notify); reading goes on. */
int bulk_finish(bulk_t *b, int timeout_ms, struct err *err);
/* Is something readable now (pending or on the socket)? */
int bulk_readable(bulk_t *b, int timeout_ms);
int bulk_fd(const bulk_t *b);
const char *bulk_token(const bulk_t *b); /* of the peer */

#endif
