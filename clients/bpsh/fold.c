/* fold.c - output kept until the end, then equal output printed once */
#include "clients/bpsh/fold.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/nodespec.h"

#define COPY_BYTES 16384

struct piece {
    off_t at;
    size_t len;
};

struct text { /* what one process wrote to one descriptor */
    struct piece *piece;
    size_t pieces, room;
    uint64_t len, hash;
};

struct fold {
    int spool;
    off_t end;
    int *node;
    uint32_t n;
    struct text *text; /* 2 a process */
};

static int open_spool(struct err *err)
{
    const char *dir = getenv("TMPDIR");
    char path[4096];

    if (!dir || !*dir)
        dir = "/tmp";
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    /* Not every file system has O_TMPFILE. */
    snprintf(path, sizeof path, "%.4000s/bpsh.XXXXXX", dir);
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return err_set(err, errno, "a temporary file in %s: %s", dir, strerror(errno));
    unlink(path);
    return fd;
}

fold_t *fold_create(const int *node, uint32_t n, struct err *err)
{
    fold_t *f = calloc(1, sizeof *f);

    if (!f) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    f->n = n;
    f->spool = open_spool(err);
    f->node = malloc(n * sizeof *f->node);
    f->text = calloc(2ul * n, sizeof *f->text);
    if (f->spool < 0 || !f->node || !f->text) {
        if (f->spool >= 0)
            err_set(err, ENOMEM, "out of memory");
        fold_destroy(&f);
        return NULL;
    }
    memcpy(f->node, node, n * sizeof *node);
    return f;
}

void fold_destroy(fold_t **fp)
{
    fold_t *f = *fp;

    if (!f)
        return;
    if (f->spool >= 0)
        close(f->spool);
    for (uint64_t i = 0; f->text && i < 2ull * f->n; i++)
        free(f->text[i].piece);
    free(f->text);
    free(f->node);
    free(f);
    *fp = NULL;
}

static int note_piece(fold_t *f, struct text *t, size_t n, struct err *err)
{
    struct piece *last = t->pieces ? &t->piece[t->pieces - 1] : NULL;

    if (last && last->at + (off_t)last->len == f->end) {
        last->len += n;
        return 0;
    }
    if (t->pieces == t->room) {
        size_t room = t->room ? t->room * 2 : 4;
        struct piece *p = realloc(t->piece, room * sizeof *p);
        if (!p)
            return err_set(err, ENOMEM, "out of memory");
        t->piece = p;
        t->room = room;
    }
    t->piece[t->pieces++] = (struct piece){ f->end, n };
    return 0;
}

int fold_add(fold_t *f, uint32_t i, int fd, const void *p, size_t n, struct err *err)
{
    struct text *t = &f->text[2ul * i + (unsigned)(fd - 1)];
    const unsigned char *byte = p;

    for (size_t done = 0; done < n;) {
        ssize_t w = pwrite(f->spool, byte + done, n - done, f->end + (off_t)done);
        if (w < 0 && errno != EINTR)
            return err_set(err, errno, "keep the output: %s", strerror(errno));
        if (w > 0)
            done += (size_t)w;
    }
    if (note_piece(f, t, n, err) < 0)
        return -1;
    f->end += (off_t)n;
    t->len += n;
    if (!t->hash)
        t->hash = 0xcbf29ce484222325u; /* FNV-1a; equal ones are compared in full */
    for (size_t k = 0; k < n; k++)
        t->hash = (t->hash ^ byte[k]) * 0x100000001b3u;
    return 0;
}

/* Up to n bytes of a text from offset; they may end with a piece. */
static ssize_t text_read(const fold_t *f, const struct text *t, uint64_t offset, char *p,
                         size_t n)
{
    for (size_t k = 0; k < t->pieces; k++) {
        const struct piece *c = &t->piece[k];
        if (offset >= c->len) {
            offset -= c->len;
            continue;
        }
        size_t left = c->len - (size_t)offset;
        return pread(f->spool, p, n < left ? n : left, c->at + (off_t)offset);
    }
    return 0;
}

static int text_read_all(const fold_t *f, const struct text *t, uint64_t offset, char *p,
                         size_t n)
{
    while (n) {
        ssize_t r = text_read(f, t, offset, p, n);
        if (r <= 0)
            return -1;
        p += r;
        n -= (size_t)r;
        offset += (uint64_t)r;
    }
    return 0;
}

static bool same(const fold_t *f, const struct text *a, const struct text *b)
{
    char one[COPY_BYTES], two[COPY_BYTES];

    if (a->len != b->len || a->hash != b->hash)
        return false;
    for (uint64_t at = 0; at < a->len; at += COPY_BYTES) {
        size_t n = a->len - at < COPY_BYTES ? (size_t)(a->len - at) : COPY_BYTES;
        if (text_read_all(f, a, at, one, n) < 0 || text_read_all(f, b, at, two, n) < 0 ||
            memcmp(one, two, n) != 0)
            return false;
    }
    return true;
}

static int write_all(int fd, const char *p, size_t n, struct err *err)
{
    while (n) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EAGAIN) { /* somebody else made it non-blocking */
            struct pollfd pfd = { .fd = fd, .events = POLLOUT };
            poll(&pfd, 1, -1);
        } else if (w < 0 && errno != EINTR) {
            return err_set(err, errno, "write: %s", strerror(errno));
        } else if (w > 0) {
            p += w;
            n -= (size_t)w;
        }
    }
    return 0;
}

static int print_text(const fold_t *f, const struct text *t, int fd, struct err *err)
{
    char buf[COPY_BYTES];
    char last = '\n';

    for (uint64_t at = 0; at < t->len;) {
        ssize_t n = text_read(f, t, at, buf, sizeof buf);
        if (n <= 0)
            return err_set(err, EIO, "read back the output: %s", strerror(errno));
        if (write_all(fd, buf, (size_t)n, err) < 0)
            return -1;
        at += (uint64_t)n;
        last = buf[n - 1];
    }
    return last == '\n' ? 0 : write_all(fd, "\n", 1, err);
}

int fold_print(fold_t *f, int fd, struct err *err)
{
    CLEANUP(cleanup_free) bool *printed = calloc(f->n, sizeof *printed);

    if (!printed)
        return err_set(err, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < f->n; i++) {
        const struct text *t = &f->text[2ul * i + (unsigned)(fd - 1)];
        CLEANUP(nodelist_free) nodelist_t nodes;
        nodelist_init(&nodes);
        if (printed[i] || !t->len)
            continue;
        for (uint32_t k = i; k < f->n; k++) {
            const struct text *other = &f->text[2ul * k + (unsigned)(fd - 1)];
            if (printed[k] || !same(f, t, other))
                continue;
            printed[k] = true;
            if (nodelist_add(&nodes, f->node[k]) < 0)
                return err_set(err, ENOMEM, "out of memory");
        }
        CLEANUP(cleanup_free) char *list = nodelist_text(&nodes);
        if (!list)
            return err_set(err, ENOMEM, "out of memory");
        if (write_all(fd, list, strlen(list), err) < 0 || write_all(fd, ":\n", 2, err) < 0 ||
            print_text(f, t, fd, err) < 0)
            return -1;
    }
    return 0;
}
