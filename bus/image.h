/* image.h - a network boot image: kernel, initramfs and command line in one file
 *
 * The first 4096 bytes are text, lines "KEY VALUE", the rest of them NUL:
 *
 *   clustermatic-image 1
 *   phase 2
 *   arch x86_64
 *   release 6.1.0-40-cloud-amd64
 *   kernel OFFSET BYTES SHA256
 *   initrd OFFSET BYTES SHA256
 *   cmdline ...
 *   end
 *
 * The parts begin at multiples of 4096, and the file ends with the last one.
 * Unknown lines are passed over, so later versions can say more. An image is
 * known by its hash: SHA-256 of the whole file, 64 lower-case hex digits.
 * Programs that use this link -lcrypto. Threads: no state.
 */
#ifndef BUS_IMAGE_H
#define BUS_IMAGE_H
#include <stddef.h>
#include <stdint.h>
#include "bus/err.h"

#define IMAGE_ALIGN 4096
#define IMAGE_HASH 65         /* hex digits and NUL */
#define IMAGE_CMDLINE 2048    /* what kernels take */

struct image_part {
    uint64_t offset, size; /* bytes */
    char hash[IMAGE_HASH];
};

struct image {
    int fd;
    uint64_t size; /* of the whole file */
    int phase;     /* 1 or 2 */
    char arch[16], release[96], cmdline[IMAGE_CMDLINE];
    struct image_part kernel, initrd;
};

/* Open and check: header whole, parts where they can be, file of the right
 * length. The contents' hashes are not checked here. Errors: EPROTO it is no
 * image, or a part of one; else open's. */
int image_open(const char *path, struct image *im, struct err *err);
/* The same of an open file, which im then owns, on success. */
int image_open_fd(int fd, const char *name, struct image *im, struct err *err);
void image_close(struct image *im); /* fits CLEANUP(); {.fd = -1} is fine */

/* The header of an image whose parts are known: offsets and size are set. */
int image_header(struct image *im, char out[IMAGE_ALIGN], struct err *err);

/* SHA-256 of size bytes from offset on. EPROTO: the file is shorter. */
int image_hash(int fd, uint64_t offset, uint64_t size, char hex[IMAGE_HASH],
               struct err *err);

#endif
