/* image.c - a network boot image: its header written, read and checked */
#define OPENSSL_SUPPRESS_DEPRECATED /* SHA256_*: a static program gets only those */
#include "bus/image.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/sha.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "clustermatic-image 1"

void image_close(struct image *im)
{
    cleanup_close(&im->fd);
}

static bool is_hash(const char *s)
{
    return strlen(s) == IMAGE_HASH - 1 && strspn(s, "0123456789abcdef") == IMAGE_HASH - 1;
}

static int read_part(const char *value, const char *key, struct image_part *p,
                     const char *name, struct err *err)
{
    char hash[IMAGE_HASH];

    if (sscanf(value, "%" SCNu64 " %" SCNu64 " %64s", &p->offset, &p->size, hash) != 3 ||
        !is_hash(hash))
        return err_set(err, EPROTO, "%s: header: %s: want OFFSET BYTES SHA256", name, key);
    memcpy(p->hash, hash, sizeof hash);
    return 0;
}

static int read_line(char *line, struct image *im, bool *end, const char *name,
                     struct err *err)
{
    char *value = strchr(line, ' ');

    if (strcmp(line, "end") == 0) {
        *end = true;
        return 0;
    }
    if (!value)
        return 0;
    *value++ = 0;
    if (strcmp(line, "phase") == 0)
        im->phase = strcmp(value, "1") == 0 ? 1 : strcmp(value, "2") == 0 ? 2 : 0;
    else if (strcmp(line, "arch") == 0)
        snprintf(im->arch, sizeof im->arch, "%s", value);
    else if (strcmp(line, "release") == 0)
        snprintf(im->release, sizeof im->release, "%s", value);
    else if (strcmp(line, "cmdline") == 0)
        snprintf(im->cmdline, sizeof im->cmdline, "%s", value);
    else if (strcmp(line, "kernel") == 0)
        return read_part(value, line, &im->kernel, name, err);
    else if (strcmp(line, "initrd") == 0)
        return read_part(value, line, &im->initrd, name, err);
    return 0;
}

/* A part may be anywhere behind the header, as long as it is in the file. */
static int check_part(const struct image_part *p, const char *key, const struct image *im,
                      const char *name, struct err *err)
{
    if (p->size == 0 || p->offset < IMAGE_ALIGN || p->offset % IMAGE_ALIGN)
        return err_set(err, EPROTO, "%s: header: no %s, or not where one can be", name, key);
    if (p->offset > im->size || p->size > im->size - p->offset)
        return err_set(err, EPROTO, "%s: is %" PRIu64 " bytes long, but its %s ends at %"
                       PRIu64 ": it was not written to the end; make it again", name, im->size,
                       key, p->offset + p->size);
    return 0;
}

static int parse(char *text, struct image *im, const char *name, struct err *err)
{
    char *save = NULL, *line = strtok_r(text, "\n", &save);
    bool end = false;

    if (!line || strcmp(line, MAGIC) != 0)
        return err_set(err, EPROTO, "%s: is no boot image (beoboot -n makes them)", name);
    while (!end && (line = strtok_r(NULL, "\n", &save)))
        if (read_line(line, im, &end, name, err) < 0)
            return -1;
    if (!end)
        return err_set(err, EPROTO, "%s: header: it has no end", name);
    if (!im->phase || !*im->arch || !*im->release)
        return err_set(err, EPROTO, "%s: header: phase, arch or release is missing", name);
    if (check_part(&im->kernel, "kernel", im, name, err) < 0 ||
        check_part(&im->initrd, "initrd", im, name, err) < 0)
        return -1;
    uint64_t last = im->kernel.offset > im->initrd.offset ? im->kernel.offset + im->kernel.size
                                                          : im->initrd.offset + im->initrd.size;
    if (last != im->size)
        return err_set(err, EPROTO, "%s: %" PRIu64 " bytes follow its last part", name,
                       im->size - last);
    return 0;
}

int image_open_fd(int fd, const char *name, struct image *im, struct err *err)
{
    char text[IMAGE_ALIGN + 1];
    struct stat st;

    memset(im, 0, sizeof *im);
    im->fd = -1;
    if (fstat(fd, &st) < 0)
        return err_set(err, errno, "%s: %s", name, strerror(errno));
    im->size = (uint64_t)st.st_size;
    ssize_t n = S_ISREG(st.st_mode) ? pread(fd, text, IMAGE_ALIGN, 0) : 0;
    if (n < 0)
        return err_set(err, errno, "%s: %s", name, strerror(errno));
    text[n] = 0;
    if (parse(text, im, name, err) < 0)
        return -1;
    im->fd = fd;
    return 0;
}

int image_open(const char *path, struct image *im, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    im->fd = -1;
    if (fd < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    if (image_open_fd(fd, path, im, err) == 0)
        return 0;
    close(fd);
    return -1;
}

static uint64_t aligned(uint64_t n)
{
    return (n + IMAGE_ALIGN - 1) / IMAGE_ALIGN * IMAGE_ALIGN;
}

int image_header(struct image *im, char out[IMAGE_ALIGN], struct err *err)
{
    if (strchr(im->cmdline, '\n'))
        return err_set(err, EINVAL, "the kernel's command line must be one line");
    im->kernel.offset = IMAGE_ALIGN;
    im->initrd.offset = aligned(im->kernel.offset + im->kernel.size);
    im->size = im->initrd.offset + im->initrd.size;
    memset(out, 0, IMAGE_ALIGN);
    int n = snprintf(out, IMAGE_ALIGN,
                     MAGIC "\nphase %d\narch %s\nrelease %s\n"
                     "kernel %" PRIu64 " %" PRIu64 " %s\ninitrd %" PRIu64 " %" PRIu64 " %s\n"
                     "cmdline %s\nend\n",
                     im->phase, im->arch, im->release, im->kernel.offset, im->kernel.size,
                     im->kernel.hash, im->initrd.offset, im->initrd.size, im->initrd.hash,
                     im->cmdline);
    if (n >= IMAGE_ALIGN)
        return err_set(err, E2BIG, "the header of the image is longer than %d bytes",
                       IMAGE_ALIGN);
    return 0;
}

int image_hash(int fd, uint64_t offset, uint64_t size, char hex[IMAGE_HASH],
               struct err *err)
{
    unsigned char sum[SHA256_DIGEST_LENGTH];
    static const size_t step = 64 * 1024;
    char buf[64 * 1024];
    SHA256_CTX ctx;

    SHA256_Init(&ctx);
    while (size > 0) {
        ssize_t n = pread(fd, buf, size < step ? (size_t)size : step, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, errno, "read: %s", strerror(errno));
        if (n == 0)
            return err_set(err, EPROTO, "the file ends too early");
        SHA256_Update(&ctx, buf, (size_t)n);
        offset += (uint64_t)n;
        size -= (uint64_t)n;
    }
    SHA256_Final(sum, &ctx);
    for (size_t i = 0; i < sizeof sum; i++)
        snprintf(hex + 2 * i, 3, "%02x", sum[i]);
    return 0;
}
