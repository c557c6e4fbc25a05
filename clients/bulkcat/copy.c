/* copy.c - a stream's bytes from the bulk channel to a descriptor */
#include "clients/bulkcat/copy.h"
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK (256 * 1024)
#define ACK_EVERY (128 * 1024) /* doc/streams.md; the sender counts on it */

/* Non-blocking or not is the business of whoever opened it: both work. */
static int write_all(int fd, const char *p, size_t len, uint64_t *offset, struct err *err)
{
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n >= 0) {
            p += n;
            len -= (size_t)n;
            *offset += (uint64_t)n;
        } else if (errno == EAGAIN) {
            poll(&(struct pollfd){ fd, POLLOUT, 0 }, 1, -1);
        } else if (errno != EINTR) {
            return err_set(err, errno, "write: %s", strerror(errno));
        }
    }
    return 0;
}

static int acknowledge(bulk_t *b, uint64_t offset, struct err *err)
{
    uint64_t le = htole64(offset);
    return bulk_write(b, &le, sizeof le, -1, err);
}

enum copy_end copy_stream(bulk_t *b, int out, uint64_t *offset, struct err *err)
{
    uint64_t acked = *offset;
    CLEANUP(cleanup_free) char *buf = malloc(CHUNK);

    if (!buf) {
        err_set(err, ENOMEM, "out of memory");
        return COPY_CUT;
    }
    /* The sender counts what is not acknowledged, from before the hand-over too;
     * with that taken along, neither of us would ever be owed a word. */
    acknowledge(b, acked, NULL);
    for (;;) {
        ssize_t n = bulk_read(b, buf, CHUNK, -1, err);
        if (n < 0)
            return COPY_CUT;
        if (n == 0)
            break;
        if (write_all(out, buf, (size_t)n, offset, err) < 0)
            return COPY_CLOSED;
        if (*offset - acked >= ACK_EVERY) {
            /* A peer that no longer listens shows in the next read. */
            acknowledge(b, *offset, NULL);
            acked = *offset;
        }
    }
    /* Without this word the sender would keep the last bytes for ever. */
    if (acknowledge(b, *offset, err) < 0)
        return COPY_CUT;
    return COPY_EOF;
}
