/* kexec.c - from one kernel into the next, without the firmware in between */
#include <errno.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "node/boot/boot.h"

#define STEP (16 << 20)

/* A part as a file of its own, which is what the kernel takes. */
static int part_file(const struct image *im, const struct image_part *part, const char *name,
                     struct err *err)
{
    CLEANUP(cleanup_close) int fd = memfd_create(name, MFD_CLOEXEC);
    off_t at = (off_t)part->offset;
    uint64_t left = part->size;
    char hash[IMAGE_HASH];

    if (fd < 0)
        return err_set(err, errno, "memory for the %s: %s", name, strerror(errno));
    while (left > 0) {
        off_t from = at;
        ssize_t n = sendfile(fd, im->fd, &at, left > STEP ? STEP : (size_t)left);
        if (n <= 0)
            return err_set(err, n < 0 ? errno : EPROTO, "copy the %s: %s", name,
                           n < 0 ? strerror(errno) : "the image ends too early");
        left -= (uint64_t)n;
        /* The memory is needed for the copy. */
        fallocate(im->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, n);
    }
    if (image_hash(fd, 0, part->size, hash, err) < 0)
        return -1;
    if (strcmp(hash, part->hash))
        return err_set(err, EBADMSG, "the image's %s has hash %.12s..., but should have "
                       "%.12s...: it is damaged, or another one", name, hash, part->hash);
    int out = fd;
    fd = -1;
    return out;
}

int kexec_go(const struct image *im, const char *cmdline, struct err *err)
{
    CLEANUP(cleanup_close) int kernel = part_file(im, &im->kernel, "kernel", err);
    if (kernel < 0)
        return -1;
    CLEANUP(cleanup_close) int initrd = part_file(im, &im->initrd, "initramfs", err);
    if (initrd < 0)
        return -1;
    if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(cmdline) + 1, cmdline, 0) < 0)
        return err_set(err, errno, "load kernel %s: %s", im->release, strerror(errno));
    sync();
    reboot(LINUX_REBOOT_CMD_KEXEC);
    return err_set(err, errno, "start kernel %s: %s", im->release, strerror(errno));
}
