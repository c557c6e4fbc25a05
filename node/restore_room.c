/* restore_room.c - memory for pages that are about to come
 *
 * They are written at once, so the memory for them is made in one call, not fault by fault:
 * where it can be with what is to be in it. No large pages are made: they would be cleared
 * first, and in a virtual machine whose host has taken free memory back each may take
 * milliseconds; small ones are of memory that was in use.
 */
#include "node/restore.h"

#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#define LOOK_BYTES (32ul << 20) /* between two looks at what memory is left */

/* Bytes of memory that this machine still has to give, swap too; -1: not known. */
static long memory_left(void)
{
    long fd = sys2(NR_open, "/proc/meminfo", 0), n = -1, sum = 0;
    unsigned found = 0;

    if (fd >= 0) {
        n = sys4(NR_pread64, fd, later.text, sizeof later.text - 1, 0);
        sys1(NR_close, fd);
    }
    later.text[n > 0 ? n : 0] = 0;
    for (const char *p = later.text; *p; p += *p != 0) {
        if (begins(p, "MemAvailable:") || begins(p, "SwapFree:")) {
            long kb = 0;
            while (*p != ':')
                p++;
            while (*++p == ' ')
                continue;
            for (; *p >= '0' && *p <= '9'; p++)
                kb = kb * 10 + *p - '0';
            sum += kb * 1024;
            found++;
        }
        while (*p && *p != '\n')
            p++;
    }
    return found == 2 ? sum : -1;
}

/* There was enough when the process asked to come (image/room.h). A kernel that has none
 * left by now ends some process, on the master perhaps the ghost in whose place we are;
 * as long as it has some, to give up costs the process nothing. */
static void look_for_memory(unsigned long len)
{
    static unsigned long taken;

    taken += len;
    if (taken < LOOK_BYTES)
        return;
    taken = 0;
    long left = memory_left();
    if (left >= 0 && left < (long)LOOK_BYTES)
        fail(ENOMEM, "no memory is left here by now", 0);
}

/* What cannot be made is the reads' to find out. The image's word on what follows is a hint. */
void room_take(unsigned long at, unsigned long len, unsigned long follows, uint32_t *crc)
{
    const struct image_map *m = &rs.map;

    look_for_memory(len);
    if (m->kind == IMAGE_MAP_ANON && !(m->flags & IMAGE_MAP_SHARED) &&
        fill_take(at, len, follows, crc))
        return;
    sys3(NR_madvise, at, len, MADV_POPULATE_WRITE);
    read_all((void *)at, len);
    *crc = image_crc(*crc, (const void *)at, len);
}
