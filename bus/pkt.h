/* pkt.h - one message, one SOCK_SEQPACKET packet, with descriptors
 *
 * Used where ZeroMQ must not be: the gate, and bpnode to bpinit. A message
 * over PKT_INLINE bytes travels in a memfd; the receiver does not see the
 * difference. Threads: none.
 */
#ifndef BUS_PKT_H
#define BUS_PKT_H
#include <stddef.h>
#include <sys/types.h>
#include "bus/err.h"

#define PKT_INLINE (96 * 1024)
#define PKT_MAX (64 * 1024 * 1024)
#define PKT_FDS 16

struct pkt {
    char *data; /* from malloc; pkt_clear() frees it */
    size_t len;
    int fds[PKT_FDS]; /* O_CLOEXEC; pkt_clear() closes those left >= 0 */
    int nfds;
};

/* Errors: EAGAIN (non-blocking socket is full), EPIPE, EMSGSIZE, ... */
int pkt_send(int sock, const void *data, size_t len, const int *fds, int nfds,
             struct err *err);
/* 1 a packet, 0 the peer has closed, -1 error (EAGAIN: none there now). */
int pkt_recv(int sock, struct pkt *p, struct err *err);
void pkt_clear(struct pkt *p);

int pkt_listen(const char *path, int mode, struct err *err); /* unlinks first */
/* A peer that does not listen or read is waited for two seconds, here and in
 * pkt_send() on this socket: EAGAIN. */
int pkt_connect(const char *path, struct err *err);
/* The same with another limit. */
int pkt_connect_within(const char *path, int timeout_ms, struct err *err);

#endif
