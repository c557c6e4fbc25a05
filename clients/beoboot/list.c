/* list.c - what is in an image, or in an initramfs */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>
#include "clients/beoboot/beoboot.h"

#define HEAD 110 /* bytes of a cpio header */
#define NAME_MAX_BYTES 4096
#define MODE_TEXT 11

struct unpack { /* compressed bytes in, plain bytes out */
    int fd;
    uint64_t at, end;
    ZSTD_DCtx *z;
    char in[64 * 1024];
    ZSTD_inBuffer have;
};

struct entry {
    unsigned mode;
    uint64_t size;
    char name[NAME_MAX_BYTES];
};

typedef int entry_fn(void *arg, const struct entry *e, struct err *err);

static int fill(struct unpack *u, const char *name, struct err *err)
{
    size_t want = u->end - u->at < sizeof u->in ? (size_t)(u->end - u->at) : sizeof u->in;
    ssize_t n = pread(u->fd, u->in, want, (off_t)u->at);

    if (n <= 0)
        return err_set(err, n < 0 ? errno : EPROTO, "%s: %s", name,
                       n < 0 ? strerror(errno) : "its initramfs ends too early");
    u->at += (uint64_t)n;
    u->have = (ZSTD_inBuffer){ u->in, (size_t)n, 0 };
    return 0;
}

/* out NULL: passed over. */
static int take(struct unpack *u, char *out, uint64_t n, const char *name, struct err *err)
{
    char waste[16 * 1024];

    while (n > 0) {
        ZSTD_outBuffer o = { out ? out : waste, out || n < sizeof waste ? (size_t)n
                                                                       : sizeof waste, 0 };
        size_t rc = ZSTD_decompressStream(u->z, &o, &u->have);
        if (ZSTD_isError(rc))
            return err_set(err, EPROTO, "%s: its initramfs cannot be unpacked: %s", name,
                           ZSTD_getErrorName(rc));
        n -= o.pos;
        if (out)
            out += o.pos;
        if (o.pos == 0 && u->have.pos == u->have.size && fill(u, name, err) < 0)
            return -1;
    }
    return 0;
}

static unsigned hex(const char *text)
{
    char word[9];

    memcpy(word, text, 8);
    word[8] = 0;
    return (unsigned)strtoul(word, NULL, 16);
}

/* 1: an entry; 0: the end. */
static int next(struct unpack *u, struct entry *e, const char *file, struct err *err)
{
    char head[HEAD];

    if (take(u, head, HEAD, file, err) < 0)
        return -1;
    unsigned length = hex(head + 94);
    if (memcmp(head, "070701", 6) || length == 0 || length > sizeof e->name)
        return err_set(err, EPROTO, "%s: its initramfs is no cpio archive of this kind", file);
    e->mode = hex(head + 14);
    e->size = hex(head + 54);
    if (take(u, e->name, length, file, err) < 0 ||
        take(u, NULL, (4 - (HEAD + length) % 4) % 4, file, err) < 0 ||
        take(u, NULL, (e->size + 3) / 4 * 4, file, err) < 0)
        return -1;
    e->name[length - 1] = 0;
    return strcmp(e->name, "TRAILER!!!") != 0;
}

static int each_entry(int fd, uint64_t at, uint64_t size, const char *file, entry_fn *fn,
                      void *arg, struct err *err)
{
    CLEANUP(cleanup_free) struct unpack *u = calloc(1, sizeof *u);
    CLEANUP(cleanup_free) struct entry *e = calloc(1, sizeof *e);
    int rc = 1;

    if (!u || !e || !(u->z = ZSTD_createDCtx()))
        return err_set(err, ENOMEM, "out of memory");
    u->fd = fd;
    u->at = at;
    u->end = at + size;
    while (rc > 0 && (rc = next(u, e, file, err)) > 0)
        rc = fn(arg, e, err) < 0 ? -1 : 1;
    ZSTD_freeDCtx(u->z);
    return rc;
}

/* ---- saying it ---- */

static const char *mode_of(unsigned mode, char out[MODE_TEXT])
{
    static const char bits[] = "rwxrwxrwx";

    out[0] = S_ISDIR(mode) ? 'd' : S_ISLNK(mode) ? 'l' : S_ISCHR(mode) ? 'c'
             : S_ISBLK(mode) ? 'b' : '-';
    for (int i = 0; i < 9; i++)
        out[i + 1] = mode & (0400u >> i) ? bits[i] : '-';
    out[MODE_TEXT - 1] = 0;
    return out;
}

static int print_entry(void *arg, const struct entry *e, struct err *err)
{
    char mode[MODE_TEXT];

    (void)arg;
    (void)err;
    printf("%s %10" PRIu64 " /%s\n", mode_of(e->mode, mode), e->size, e->name);
    return 0;
}

static int json_entry(void *arg, const struct entry *e, struct err *err)
{
    json_t *row = json_pack("{s:s+, s:i, s:I}", "name", "/", e->name, "mode", (int)e->mode, "size",
                            (json_int_t)e->size);

    return row && json_array_append_new(arg, row) == 0 ? 0 : err_set(err, ENOMEM, "out of memory");
}

static int list_json(const struct image *im, int fd, const char *hash, uint64_t at, uint64_t size,
                     const char *path, struct err *err)
{
    json_t *files = json_array();
    json_t *top = im ? json_pack("{s:i, s:s, s:s, s:s, s:I, s:s, s:I, s:I}", "phase", im->phase,
                                 "arch", im->arch, "release", im->release, "cmdline", im->cmdline,
                                 "size", (json_int_t)im->size, "sha256", hash, "kernel_bytes",
                                 (json_int_t)im->kernel.size, "initrd_bytes",
                                 (json_int_t)im->initrd.size)
                     : json_object();
    int rc = files && top && json_object_set_new(top, "files", files) == 0
             ? each_entry(fd, at, size, path, json_entry, files, err)
             : err_set(err, ENOMEM, "out of memory");

    if (rc == 0) {
        json_dumpf(top, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
        putchar('\n');
    }
    json_decref(top);
    return rc;
}

/* The parts must be what the header says, else it is a list of something else. */
static int check(const struct image *im, const char *path, char hash[IMAGE_HASH], struct err *err)
{
    const struct image_part *parts[] = { &im->kernel, &im->initrd };

    for (int i = 0; i < 2; i++) {
        if (image_hash(im->fd, parts[i]->offset, parts[i]->size, hash, err) < 0)
            return -1;
        if (strcmp(hash, parts[i]->hash))
            return err_set(err, EBADMSG, "%s: its %s is damaged: hash %.12s..., should be "
                           "%.12s...", path, i ? "initramfs" : "kernel", hash, parts[i]->hash);
    }
    return image_hash(im->fd, 0, im->size, hash, err);
}

static int list_whole(const struct image *im, const char *path, bool json, struct err *err)
{
    char hash[IMAGE_HASH];

    if (check(im, path, hash, err) < 0)
        return -1;
    if (json)
        return list_json(im, im->fd, hash, im->initrd.offset, im->initrd.size, path, err);
    printf("phase    %d\narch     %s\nkernel   %s, %" PRIu64 " bytes\ninitrd   %" PRIu64
           " bytes\ncmdline  %s\nsize     %" PRIu64 "\nsha256   %s\n",
           im->phase, im->arch, im->release, im->kernel.size, im->initrd.size, im->cmdline,
           im->size, hash);
    return each_entry(im->fd, im->initrd.offset, im->initrd.size, path, print_entry, NULL, err);
}

int list_image(const char *path, bool json, struct err *err)
{
    CLEANUP(image_close) struct image im = { .fd = -1 };
    struct stat st;
    uint32_t magic = 0;

    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    if (pread(fd, &magic, sizeof magic, 0) == sizeof magic && magic == ZSTD_MAGICNUMBER)
        return json ? list_json(NULL, fd, "", 0, (uint64_t)st.st_size, path, err)
                    : each_entry(fd, 0, (uint64_t)st.st_size, path, print_entry, NULL, err);
    return image_open(path, &im, err) < 0 ? -1 : list_whole(&im, path, json, err);
}
