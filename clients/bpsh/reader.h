/* reader.h - the reader's side of doc/streams.md: one launch's stdio at iofwd
 *
 * Keeps for each stream what was received and what may still come, connects
 * again when iofwd goes away, and goes on at the very byte where it was.
 * Ranks are those of the launch, 0..n-1.
 */
#ifndef BPSH_READER_H
#define BPSH_READER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "bus/bulk.h"
#include "bus/err.h"
#include "bus/loop.h"

typedef struct reader reader_t;

struct reader_ops {
    /* The next bytes of a stream. */
    void (*data)(void *arg, uint32_t rank, int fd, const void *p, size_t n);
    /* The stream's end; lost: its node does not have it (any more). */
    void (*end)(void *arg, uint32_t rank, int fd, bool lost);
    /* stdin: done with up to acked, may be sent up to limit; gone: nobody
     * wants more. */
    void (*input)(void *arg, uint64_t acked, uint64_t limit, bool gone);
    /* stdin is to be sent again from here, or from what was acknowledged if
     * that is more. */
    void (*again)(void *arg, uint64_t offset);
    /* From offset on, stdout of rank comes over sock: the callee owns it. All
     * before offset has been given to data(). */
    void (*bulk)(void *arg, uint32_t rank, uint64_t offset, const struct bulk_ticket *t,
                 int sock);
};

struct reader_conf {
    const char *path; /* RUN/iofwd */
    uint64_t launch;
    const int *node;  /* of each rank */
    uint32_t n;
    uint64_t window;  /* bytes of a stream that may be on their way or with us */
    bool raw;         /* bulk hand-over is welcome */
    bool use[2];      /* stdout, stderr are forwarded */
    bool started;     /* the launch has been answered: reader_started() from the first */
};

reader_t *reader_create(loop_t *l, const struct reader_conf *c, const struct reader_ops *ops,
                        void *arg, struct err *err);
void reader_destroy(reader_t **r);

/* Of this stream so many bytes in all are out of our hands. */
void reader_taken(reader_t *r, uint32_t rank, int fd, uint64_t taken);
/* Bytes up to offset came over the bulk channel, which is over: that was the
 * end, or the rest is to come the normal way again. */
void reader_bulk_done(reader_t *r, uint32_t rank, uint64_t offset, bool eof);
/* Every stream of this rank is over as far as we are concerned (it never
 * started, or its node is lost): tell the others, drop what still comes. */
void reader_forget(reader_t *r, uint32_t rank);
/* Tell the writers of fd that nobody reads; -1: and the readers of stdin that
 * no more comes, we are leaving. */
void reader_close(reader_t *r, int fd);
/* The launch was answered: a node that does not know it never will. */
void reader_started(reader_t *r);

/* Is stdin wanted, and is there room for another piece of it? */
bool reader_room(const reader_t *r);
/* One piece of stdin; eof: nothing follows it. */
void reader_input(reader_t *r, uint64_t offset, const void *p, size_t n, bool eof);

/* This stream has ended, and its process may say more elsewhere. */
bool reader_moved(const reader_t *r, uint32_t rank, int fd);
bool reader_heard(const reader_t *r, uint32_t rank); /* anything at all from it */
/* Send what waits: at the end of each turn. */
void reader_flush(reader_t *r);
/* Send all that waits before we leave, within ms. */
void reader_drain(reader_t *r, int ms);

#endif
