/* restore_fill.c - pages that come with what is to be in them
 *
 * What is written over at once need not be cleared before: userfaultfd(2) makes pages of
 * bytes. Where the kernel has it; it is asked for what is large only.
 */
#include "node/restore.h"

#define USER_MODE_ONLY 1 /* such a one anybody may have; Linux 5.11 */
#define UFFDIO_API 0xc018aa3ful
#define UFFDIO_REGISTER 0xc020aa00ul
#define UFFDIO_COPY 0xc028aa03ul
#define API 0xaaul
#define MODE_MISSING 1ul
#define WORTH (1ul << 20) /* bytes in a row */
#define PIECE (256ul << 10) /* stays in the cache meanwhile */

static struct {
    int fd;   /* whose the mapping is, as long as it is open */
    int open;
    int none; /* the kernel gives none */
} fill;
LATER static unsigned char bytes[PIECE];

static void begin(void)
{
    unsigned long api[3] = { API, 0, 0 };
    unsigned long all[4] = { rs.map.start, rs.map.end - rs.map.start, MODE_MISSING, 0 };
    long fd = sys1(NR_userfaultfd, O_CLOEXEC | USER_MODE_ONLY);

    if (fd >= 0 && (sys3(NR_ioctl, fd, UFFDIO_API, api) < 0 ||
                    sys3(NR_ioctl, fd, UFFDIO_REGISTER, all) < 0)) {
        sys1(NR_close, fd);
        fd = -1;
    }
    fill.none = fd < 0;
    fill.open = fd >= 0;
    fill.fd = (int)fd;
}

void fill_end(void)
{
    if (fill.open)
        sys1(NR_close, fill.fd);
    fill.open = 0;
}

/* EAGAIN after some of it: another thread of ours has a mapping changed, were there one. */
static void give_pages(unsigned long at, unsigned long len)
{
    for (unsigned long done = 0; done < len;) {
        unsigned long c[5] = { at + done, (unsigned long)bytes + done, len - done, 0, 0 };
        long r = sys3(NR_ioctl, fill.fd, UFFDIO_COPY, c);
        if (r < 0 && (r != -EAGAIN || (long)c[4] <= 0))
            fail(-r, "no memory can be had here", 0);
        done += (unsigned long)c[4];
    }
}

int fill_take(unsigned long at, unsigned long len, unsigned long follows, uint32_t *crc)
{
    if (!fill.open && !fill.none && len + follows >= WORTH)
        begin();
    if (!fill.open)
        return 0;
    for (unsigned long done = 0, n; done < len; done += n) {
        n = len - done < PIECE ? len - done : PIECE;
        read_all(bytes, n);
        *crc = image_crc(*crc, bytes, n);
        give_pages(at + done, n);
    }
    return 1;
}
