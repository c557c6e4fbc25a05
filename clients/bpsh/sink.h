/* sink.h - a descriptor that output goes to, written without ever waiting
 *
 * The flags of a descriptor that we inherited are shared with the shell and
 * with whoever else holds it, so O_NONBLOCK is never set on it: pipes and
 * terminals are opened once more for ourselves, sockets are sent to with
 * MSG_DONTWAIT, and files do not block. Where that is not allowed (a pipe
 * made by another user) each write is small and asks first.
 */
#ifndef BPSH_SINK_H
#define BPSH_SINK_H
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "bus/err.h"

typedef struct sink {
    int fd;      /* what to write to, and to wait for with EPOLLOUT */
    bool own;    /* fd is ours to close */
    bool socket, asks;
    bool full;   /* the last write would have blocked */
    int broken;  /* errno of the write that failed for good; nothing goes there any more */
    char *buf;   /* composed output that waits */
    size_t start, len, room;
} sink_t;

int sink_open(sink_t *s, int fd, size_t room, struct err *err);
void sink_close(sink_t *s);

/* Bytes of p that were written now; what waits in the buffer goes first. */
size_t sink_write(sink_t *s, const void *p, size_t n);
/* Room for n bytes in the buffer, after writing what can be written. */
bool sink_reserve(sink_t *s, size_t n);
/* Append what was reserved. */
void sink_put(sink_t *s, const void *p, size_t n);
/* True when nothing waits. */
bool sink_flush(sink_t *s);

#endif
