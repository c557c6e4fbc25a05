/* cpio.c - an archive as the kernel unpacks it ("newc"), compressed on the way */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>
#include "clients/beoboot/beoboot.h"

/* A level for files that go over a fast network, and one for small ones. */
#define LEVEL_FAST 6
#define LEVEL_SMALL 15
#define STEP (128 * 1024)

struct cpio {
    int fd;
    ZSTD_CCtx *z;
    char *out;
    size_t out_room;
    uint64_t bytes;
    unsigned inode;
    struct strlist names;
    struct err err; /* the first that went wrong */
};

cpio_t *cpio_create(int fd, enum squeeze how, struct err *err)
{
    cpio_t *c = calloc(1, sizeof *c);

    if (c) {
        c->fd = fd;
        c->out_room = ZSTD_CStreamOutSize();
        c->out = malloc(c->out_room);
        c->z = ZSTD_createCCtx();
    }
    if (!c || !c->out || !c->z) {
        cpio_destroy(&c);
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    ZSTD_CCtx_setParameter(c->z, ZSTD_c_compressionLevel,
                           how == SQUEEZE_SMALL ? LEVEL_SMALL : LEVEL_FAST);
    return c;
}

void cpio_destroy(cpio_t **cp)
{
    cpio_t *c = *cp;

    if (!c)
        return;
    ZSTD_freeCCtx(c->z);
    free(c->out);
    strlist_free(&c->names);
    free(c);
    *cp = NULL;
}

bool cpio_has(const cpio_t *c, const char *path)
{
    for (size_t i = 0; i < c->names.n; i++)
        if (strcmp(c->names.v[i], path) == 0)
            return true;
    return false;
}

uint64_t cpio_bytes(const cpio_t *c)
{
    return c->bytes;
}

static int write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return -1;
        p += w;
        n -= (size_t)w;
    }
    return 0;
}

static void squeeze(cpio_t *c, const void *data, size_t n, ZSTD_EndDirective how)
{
    ZSTD_inBuffer in = { data, n, 0 };
    size_t left;

    if (c->err.code)
        return;
    do {
        ZSTD_outBuffer out = { c->out, c->out_room, 0 };
        left = ZSTD_compressStream2(c->z, &out, &in, how);
        if (ZSTD_isError(left)) {
            err_set(&c->err, EIO, "compress: %s", ZSTD_getErrorName(left));
            return;
        }
        if (write_all(c->fd, c->out, out.pos) < 0) {
            err_set(&c->err, errno, "write the initramfs: %s", strerror(errno));
            return;
        }
    } while (how == ZSTD_e_end ? left > 0 : in.pos < in.size);
    c->bytes += n;
}

static void put(cpio_t *c, const void *data, size_t n)
{
    squeeze(c, data, n, ZSTD_e_continue);
}

static void pad(cpio_t *c)
{
    put(c, "\0\0\0", (4 - c->bytes % 4) % 4);
}

static void header(cpio_t *c, const char *path, mode_t mode, uint64_t size, unsigned major,
                   unsigned minor)
{
    char text[128];
    const char *name = *path == '/' ? path + 1 : path;

    if (size > UINT32_MAX && !c->err.code)
        err_set(&c->err, EFBIG, "%s: is too large for an initramfs", path);
    int n = snprintf(text, sizeof text,
                     "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
                     ++c->inode, (unsigned)mode, 0, 0, S_ISDIR(mode) ? 2 : 1, 0, (unsigned)size, 0,
                     0, major, minor, (unsigned)strlen(name) + 1, 0);
    put(c, text, (size_t)n);
    put(c, name, strlen(name) + 1);
    pad(c);
}

/* True: it is new, and its folders are there. */
static bool begin(cpio_t *c, const char *path)
{
    char *part = strdup(path);

    if (part && !c->err.code && !cpio_has(c, path)) {
        char *slash = strrchr(part, '/');
        if (slash && slash != part) {
            *slash = 0;
            cpio_dir(c, part, 0755);
        }
        free(part);
        if (strlist_add(&c->names, path) == 0)
            return true;
        err_set(&c->err, ENOMEM, "out of memory");
        return false;
    }
    if (!part)
        err_set(&c->err, ENOMEM, "out of memory");
    free(part);
    return false;
}

void cpio_dir(cpio_t *c, const char *path, mode_t mode)
{
    if (begin(c, path))
        header(c, path, S_IFDIR | mode, 0, 0, 0);
}

void cpio_text(cpio_t *c, const char *path, mode_t mode, const char *text, size_t len)
{
    if (!begin(c, path))
        return;
    header(c, path, S_IFREG | mode, len, 0, 0);
    put(c, text, len);
    pad(c);
}

void cpio_device(cpio_t *c, const char *path, mode_t mode, unsigned major, unsigned minor)
{
    if (begin(c, path))
        header(c, path, mode, 0, major, minor);
}

static void contents(cpio_t *c, int fd, uint64_t size, const char *from)
{
    char buf[STEP];

    while (size > 0 && !c->err.code) {
        ssize_t n = read(fd, buf, size < STEP ? (size_t)size : STEP);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            err_set(&c->err, n < 0 ? errno : EIO, "read %s: %s", from,
                    n < 0 ? strerror(errno) : "it has become shorter");
            return;
        }
        put(c, buf, (size_t)n);
        size -= (uint64_t)n;
    }
    pad(c);
}

void cpio_file(cpio_t *c, const char *path, mode_t mode, const char *from)
{
    struct stat st;

    if (!begin(c, path))
        return;
    CLEANUP(cleanup_close) int fd = open(from, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        err_set(&c->err, errno, "%s: %s", from, strerror(errno));
        return;
    }
    if (!S_ISREG(st.st_mode)) {
        err_set(&c->err, EINVAL, "%s: is no regular file", from);
        return;
    }
    header(c, path, S_IFREG | mode, (uint64_t)st.st_size, 0, 0);
    contents(c, fd, (uint64_t)st.st_size, from);
}

int cpio_close(cpio_t **cp, struct err *err)
{
    cpio_t *c = *cp;

    header(c, "TRAILER!!!", 0, 0, 0, 0);
    squeeze(c, NULL, 0, ZSTD_e_end);
    int rc = c->err.code ? err_set(err, c->err.code, "%s", c->err.text) : 0;
    cpio_destroy(cp);
    return rc;
}
