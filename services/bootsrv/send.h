/* send.h - parts of files to many sockets, as fast as each takes them; no HTTP
 *
 * libmicrohttpd gives each connection 128 KiB at a turn, and a turn costs a call
 * for each of them; here one gets up to 2 MiB, and only if its socket has room.
 */
#ifndef BOOTSRV_SEND_H
#define BOOTSRV_SEND_H
#include <stdint.h>
#include "bus/loop.h"

typedef struct send_all send_all_t;
typedef struct send_one send_one_t;

send_all_t *send_create(loop_t *l, struct err *err);
void send_destroy(send_all_t **s); /* none may be left */

/* Send head, then n bytes of file from offset on. Both descriptors are the
 * caller's and stay open meanwhile. done is called once, from the loop: all is
 * sent, or the other end is gone, or took nothing for idle_ms. NULL: *err. */
send_one_t *send_start(send_all_t *s, int socket, const char *head, int file, uint64_t offset,
                       uint64_t n, int idle_ms, loop_fn *done, void *arg, struct err *err);
/* Give it up; done is not called. */
void send_stop(send_one_t **one);
void send_end(send_all_t *s);  /* all of them are over now */
void send_idle(send_all_t *s); /* once in a while: ends those that take nothing */

#endif
