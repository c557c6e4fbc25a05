/* output.c - a network image, or kernel and initramfs as a pair of files */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "clients/beoboot/beoboot.h"

void made_free(struct made *m)
{
    free(m->file[0]);
    free(m->file[1]);
    memset(m, 0, sizeof *m);
}

int copy_bytes(int from, uint64_t size, int to, struct err *err)
{
    off_t at = 0;
    char buf[64 * 1024];

    while (size > 0) {
        ssize_t n = pread(from, buf, size < sizeof buf ? (size_t)size : sizeof buf, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(err, n < 0 ? errno : EIO, "read: %s",
                           n < 0 ? strerror(errno) : "a file has become shorter");
        for (ssize_t done = 0; done < n;) {
            ssize_t w = write(to, buf + done, (size_t)(n - done));
            if (w < 0 && errno != EINTR)
                return err_set(err, errno, "write the image: %s", strerror(errno));
            done += w > 0 ? w : 0;
        }
        at += n;
        size -= (uint64_t)n;
    }
    return 0;
}

/* ---- whole or not at all ---- */

static int make_folder_of(const char *file, struct err *err)
{
    CLEANUP(cleanup_free) char *copy = strdup(file);
    char *slash = copy ? strrchr(copy, '/') : NULL;

    if (!copy)
        return err_set(err, ENOMEM, "out of memory");
    if (!slash || slash == copy)
        return 0;
    *slash = 0;
    for (char *s = strchr(copy + 1, '/');; s = strchr(s + 1, '/')) {
        if (s)
            *s = 0;
        if (mkdir(copy, 0755) < 0 && errno != EEXIST)
            return err_set(err, errno, "make folder %s: %s", copy, strerror(errno));
        if (!s)
            return 0;
        *s = '/';
    }
}

int place_begin(const char *file, char **temporary, struct err *err)
{
    if (make_folder_of(file, err) < 0)
        return -1;
    if (asprintf(temporary, "%s.%d", file, (int)getpid()) < 0) {
        *temporary = NULL;
        return err_set(err, ENOMEM, "out of memory");
    }
    int fd = open(*temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_set(err, errno, "%s: %s", *temporary, strerror(errno));
    return fd;
}

int place_end(int fd, const char *temporary, const char *file, struct err *err)
{
    if (fsync(fd) < 0 || rename(temporary, file) < 0)
        return err_set(err, errno, "%s: %s", file, strerror(errno));
    return 0;
}

int note_made(struct made *m, int which, const char *file, struct err *err)
{
    struct stat st;
    CLEANUP(cleanup_close) int fd = open(file, O_RDONLY | O_CLOEXEC);

    m->file[which] = strdup(file);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(err, errno, "%s: %s", file, strerror(errno));
    m->size[which] = (uint64_t)st.st_size;
    return image_hash(fd, 0, m->size[which], m->hash[which], err);
}

/* ---- the two kinds ---- */

static int open_sized(const char *path, uint64_t *size, struct err *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st) < 0) {
        err_set(err, errno, "%s: %s", path, strerror(errno));
        cleanup_close(&fd);
        return -1;
    }
    *size = (uint64_t)st.st_size;
    return fd;
}

static int write_file(int from, const char *file, struct made *m, int which, struct err *err)
{
    CLEANUP(cleanup_free) char *temporary = NULL;
    struct stat st;
    CLEANUP(cleanup_close) int fd = place_begin(file, &temporary, err);

    if (fd < 0)
        return -1;
    if (fstat(from, &st) < 0 || copy_bytes(from, (uint64_t)st.st_size, fd, err) < 0 ||
        place_end(fd, temporary, file, err) < 0) {
        unlink(temporary);
        return -1;
    }
    return note_made(m, which, file, err);
}

static int write_pair(const struct plan *p, int kernel, int initrd, struct made *m,
                      struct err *err)
{
    char file[PATH_MAX];

    snprintf(file, sizeof file, "%s.kernel", p->file);
    if (write_file(kernel, file, m, 0, err) < 0)
        return -1;
    snprintf(file, sizeof file, "%s.initrd", p->file);
    return write_file(initrd, file, m, 1, err);
}

static int write_image(struct image *im, int kernel, int initrd, int fd,
                       struct err *err)
{
    char header[IMAGE_ALIGN];

    if (image_hash(kernel, 0, im->kernel.size, im->kernel.hash, err) < 0 ||
        image_hash(initrd, 0, im->initrd.size, im->initrd.hash, err) < 0 ||
        image_header(im, header, err) < 0)
        return -1;
    if (write(fd, header, sizeof header) != sizeof header ||
        lseek(fd, (off_t)im->kernel.offset, SEEK_SET) < 0 ||
        copy_bytes(kernel, im->kernel.size, fd, err) < 0 ||
        lseek(fd, (off_t)im->initrd.offset, SEEK_SET) < 0)
        return err && err->code ? -1 : err_set(err, errno, "write: %s", strerror(errno));
    return copy_bytes(initrd, im->initrd.size, fd, err);
}

static int write_net(const struct plan *p, struct image *im, int kernel, int initrd,
                     struct made *m, struct err *err)
{
    CLEANUP(cleanup_free) char *temporary = NULL;
    struct utsname u;
    CLEANUP(cleanup_close) int fd = place_begin(p->file, &temporary, err);

    if (fd < 0)
        return -1;
    uname(&u);
    im->phase = p->o->phase;
    snprintf(im->arch, sizeof im->arch, "%.15s", u.machine);
    snprintf(im->release, sizeof im->release, "%.95s", p->release);
    snprintf(im->cmdline, sizeof im->cmdline, "%s", p->cmdline);
    if (write_image(im, kernel, initrd, fd, err) < 0 ||
        place_end(fd, temporary, p->file, err) < 0) {
        unlink(temporary);
        return -1;
    }
    return note_made(m, 0, p->file, err);
}

int output_write(const struct plan *p, int initrd, struct made *m, struct err *err)
{
    struct image im = { .fd = -1 };
    struct stat st;
    CLEANUP(cleanup_close) int kernel = open_sized(p->kernel, &im.kernel.size, err);

    if (kernel < 0)
        return -1;
    if (fstat(initrd, &st) < 0)
        return err_set(err, errno, "initramfs: %s", strerror(errno));
    im.initrd.size = (uint64_t)st.st_size;
    return p->o->output == OUT_PAIR ? write_pair(p, kernel, initrd, m, err)
                                    : write_net(p, &im, kernel, initrd, m, err);
}
