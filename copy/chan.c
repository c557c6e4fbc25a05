/* chan.c - a connection with buffers both ways, and frames on it
 *
 * A frame: u8 kind, three zero bytes, u32 length (little endian), payload.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "copy/copy.h"

#define OUT_BYTES (512u * 1024)
#define IN_BYTES (512u * 1024)
#define HEADER 8

struct chan {
    const struct chan_ops *ops;
    void *io;
    char *out, *in;
    size_t nout, in_at, in_end, in_room;
};

chan_t *chan_create(const struct chan_ops *ops, void *io, struct err *err)
{
    chan_t *c = calloc(1, sizeof *c);

    if (c) {
        *c = (chan_t){ .ops = ops, .io = io, .in_room = IN_BYTES };
        c->out = malloc(OUT_BYTES);
        c->in = malloc(IN_BYTES);
    }
    if (c && c->out && c->in)
        return c;
    err_set(err, ENOMEM, "out of memory");
    if (!c)
        ops->close(io);
    chan_close(&c);
    return NULL;
}

void chan_close(chan_t **cp)
{
    chan_t *c = *cp;

    if (!c)
        return;
    c->ops->close(c->io);
    free(c->out);
    free(c->in);
    free(c);
    *cp = NULL;
}

int chan_flush(chan_t *c, struct err *err)
{
    size_t n = c->nout;

    c->nout = 0;
    return n ? c->ops->write(c->io, c->out, n, err) : 0;
}

static int put(chan_t *c, const void *p, size_t len, struct err *err)
{
    if (len > OUT_BYTES - c->nout && chan_flush(c, err) < 0)
        return -1;
    if (len > OUT_BYTES)
        return c->ops->write(c->io, p, len, err);
    if (len)
        memcpy(c->out + c->nout, p, len);
    c->nout += len;
    return 0;
}

int chan_send(chan_t *c, enum copy_kind kind, const void *a, size_t alen, const void *b,
              size_t blen, struct err *err)
{
    unsigned char head[HEADER] = { (unsigned char)kind };
    uint32_t len = htole32((uint32_t)(alen + blen));

    if (alen > COPY_FRAME || blen > COPY_FRAME - alen)
        return err_set(err, EMSGSIZE, "more than %u bytes in one message", COPY_FRAME);
    memcpy(head + 4, &len, 4);
    if (put(c, head, sizeof head, err) < 0 || put(c, a, alen, err) < 0)
        return -1;
    return put(c, b, blen, err);
}

/* Have len bytes in a row in the buffer. 1; 0: the end, and nothing was there. */
static int want(chan_t *c, size_t len, struct err *err)
{
    if (c->in_end - c->in_at >= len)
        return 1;
    memmove(c->in, c->in + c->in_at, c->in_end - c->in_at);
    c->in_end -= c->in_at;
    c->in_at = 0;
    if (len > c->in_room) {
        char *bigger = realloc(c->in, len);
        if (!bigger)
            return err_set(err, ENOMEM, "out of memory");
        c->in = bigger;
        c->in_room = len;
    }
    while (c->in_end < len) {
        ssize_t n = c->ops->read(c->io, c->in + c->in_end, c->in_room - c->in_end, err);
        if (n < 0)
            return -1;
        if (n == 0 && c->in_end == 0)
            return 0;
        if (n == 0)
            return err_set(err, ECONNRESET, "the connection ended in the middle");
        c->in_end += (size_t)n;
    }
    return 1;
}

int chan_recv(chan_t *c, struct frame *f, struct err *err)
{
    uint32_t len;
    int rc = want(c, HEADER, err);

    if (rc <= 0)
        return rc;
    const unsigned char *h = (const unsigned char *)c->in + c->in_at;
    memcpy(&len, h + 4, 4);
    len = le32toh(len);
    f->kind = (enum copy_kind)h[0];
    if (len > COPY_FRAME || (f->kind == COPY_DATA && len > COPY_CHUNK + 8))
        return err_set(err, EPROTO, "a message of %u bytes", len);
    rc = want(c, HEADER + (size_t)len, err);
    if (rc < 0)
        return -1;
    f->p = c->in + c->in_at + HEADER;
    f->len = len;
    c->in_at += HEADER + (size_t)len;
    return 1;
}

int chan_expect(chan_t *c, enum copy_kind kind, msgpack_unpacked *u, struct err *err)
{
    struct frame f;
    int rc = chan_recv(c, &f, err);

    if (rc == 0)
        return err_set(err, ECONNRESET, "the connection ended");
    if (rc < 0)
        return -1;
    if (f.kind != kind)
        return err_set(err, EPROTO, "message %d came, %d was due", (int)f.kind, (int)kind);
    return mp_decode(u, f.p, f.len, err);
}

/* --- a plain descriptor --- */

static ssize_t plain_read(void *io, void *p, size_t len, struct err *err)
{
    ssize_t n;

    do
        n = read(*(int *)io, p, len);
    while (n < 0 && errno == EINTR);
    return n < 0 ? err_set(err, errno, "connection: %s", strerror(errno)) : n;
}

static int plain_write(void *io, const void *p, size_t len, struct err *err)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = write(*(int *)io, (const char *)p + done, len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, errno, "connection: %s", strerror(errno));
        done += (size_t)n;
    }
    return 0;
}

static void plain_close(void *io)
{
    close(*(int *)io);
    free(io);
}

chan_t *chan_plain(int fd, struct err *err)
{
    static const struct chan_ops ops = { plain_read, plain_write, plain_close };
    int *io = malloc(sizeof *io);

    if (!io) {
        close(fd);
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    *io = fd;
    return chan_create(&ops, io, err);
}
