/* image.c - tests of the boot image's header: written, read, refused */
#include "bus/image.h"
#include "tests/unit/tap.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static int file_of(const char *text, size_t len)
{
    int fd = memfd_create("image", MFD_CLOEXEC);

    if (fd >= 0 && write(fd, text, len) != (ssize_t)len)
        ok(false, "a file can be written");
    return fd;
}

/* A good one: kernel "abc", initrd 5000 bytes. */
static int good_image(struct image *im)
{
    char header[IMAGE_ALIGN];
    struct err err = { 0 };
    char *initrd = calloc(1, 5000);
    int fd = memfd_create("image", MFD_CLOEXEC);

    *im = (struct image){ .fd = -1, .phase = 2, .arch = "x86_64", .release = "6.1.0-test",
                          .cmdline = "console=ttyS0 quiet" };
    im->kernel.size = 3;
    im->initrd.size = 5000;
    memcpy(im->kernel.hash, ABC, sizeof ABC);
    memcpy(im->initrd.hash, ABC, sizeof ABC);
    ok(image_header(im, header, &err) == 0 &&
       pwrite(fd, header, sizeof header, 0) == sizeof header &&
       pwrite(fd, "abc", 3, (off_t)im->kernel.offset) == 3 &&
       pwrite(fd, initrd, 5000, (off_t)im->initrd.offset) == 5000, "an image is written");
    free(initrd);
    return fd;
}

static void round_trip(void)
{
    struct err err = { 0 };
    struct image in, out;
    char hash[IMAGE_HASH];
    int fd = good_image(&in);

    if (!ok(image_open_fd(fd, "i", &out, &err) == 0, "and read again"))
        printf("# %s\n", err.text);
    ok(out.phase == 2 && out.kernel.offset == 4096 && out.kernel.size == 3 &&
       out.initrd.offset == 8192 && out.initrd.size == 5000 && out.size == 13192,
       "its parts are where they were put");
    is(out.cmdline, "console=ttyS0 quiet", "its command line comes back whole");
    is(out.release, "6.1.0-test", "its release too");
    ok(image_hash(fd, out.kernel.offset, out.kernel.size, hash, &err) == 0, "a part is hashed");
    is(hash, ABC, "with SHA-256");
    ok(image_hash(fd, 8192, 5001, hash, &err) < 0 && err.code == EPROTO,
       "more than there is cannot be hashed");

    ok(ftruncate(fd, 13191) == 0, "a byte is cut off");
    struct image cut;
    ok(image_open_fd(fd, "half.img", &cut, &err) < 0 && err.code == EPROTO,
       "an image that was not written to the end is refused");
    says(err.text, "half.img: is 13191 bytes long, but its initrd ends at 13192",
         "with name, length and what is missing");
    ok(ftruncate(fd, 13200) == 0 && image_open_fd(fd, "i", &cut, &err) < 0,
       "one with something behind is refused");
    says(err.text, "8 bytes follow", "and told how much");
    image_close(&out);
}

static void refuses(const char *text, const char *why, const char *name)
{
    struct err err = { 0 };
    struct image im;
    int fd = file_of(text, strlen(text));

    ok(image_open_fd(fd, "x", &im, &err) < 0 && err.code == EPROTO, "%s: refused", name);
    says(err.text, why, "with the reason");
    close(fd);
}

int main(void)
{
    struct err err = { 0 };
    struct image im, big = { .phase = 1, .cmdline = "one\ntwo" };
    char header[IMAGE_ALIGN];

    round_trip();
    refuses("", "is no boot image", "an empty file");
    refuses("BeoB and so on", "is no boot image", "another format");
    refuses("clustermatic-image 1\nphase 2\n", "it has no end", "half a header");
    refuses("clustermatic-image 1\narch a\nrelease b\nend\n", "phase, arch or release",
            "no phase");
    refuses("clustermatic-image 1\nphase 2\narch a\nrelease b\nkernel 4096 1 short\nend\n",
            "kernel: want OFFSET BYTES SHA256", "a hash that is none");
    refuses("clustermatic-image 1\nphase 2\narch a\nrelease b\nend\n", "no kernel",
            "no parts");
    refuses("clustermatic-image 1\nphase 2\narch a\nrelease b\nkernel 12 1 " ABC "\nend\n",
            "not where one can be", "a part in the header");
    refuses("clustermatic-image 1\nphase 2\narch a\nrelease b\n"
            "kernel 18446744073709547520 8192 " ABC "\nend\n",
            "not written to the end", "a part whose end is beyond numbers");
    ok(image_open("/nonexistent", &im, &err) < 0 && err.code == ENOENT && im.fd == -1,
       "a file that is not there: ENOENT");
    ok(image_header(&big, header, &err) < 0 && err.code == EINVAL,
       "a command line of two lines is refused");
    return done_testing();
}
