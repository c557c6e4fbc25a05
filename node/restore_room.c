/* restore_room.c - memory for pages that are about to come
 *
 * They are written at once, so the memory for them is made first: large pages as far as the
 * kernel has them and these are the cheaper ones, else small ones in one call. In a virtual
 * machine they need not be: a host that has taken free memory back, in large pages, gives it
 * again small page by small page while the kernel clears it. That is seen by the time that it
 * takes; then small pages are made for a while, of memory that is in use.
 */
#include "node/restore.h"

#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#define MADV_COLLAPSE 25       /* Linux 6.1 */
#define HUGE (2ul << 20)
#define ROOM_MAX (16ul << 20)   /* made at once: what is read into it soon is in the cache */
#define SMALL_BYTES (32ul << 20) /* in small pages, before large ones are tried again */
#define SLOW_NS 1000000         /* for one large page: as small ones it takes less */
#define LOOK_BYTES (32ul << 20) /* between two looks at what memory is left */

static struct {
    unsigned long ready; /* large pages end here */
    unsigned long step;  /* made at once */
    unsigned long small; /* bytes still to come in small pages */
    int none;            /* the kernel has no large ones */
} room;

static long now_ns(void)
{
    long t[2] = { 0, 0 };

    sys2(NR_clock_gettime, 1 /* CLOCK_MONOTONIC */, t);
    return t[0] * 1000000000 + t[1];
}

static void make_large(unsigned long from, unsigned long to)
{
    long begin = now_ns();

    for (unsigned long p = from; p < to; p += HUGE)
        *(volatile char *)p = 0; /* a place where nothing is cannot become one */
    room.none = sys3(NR_madvise, from, to - from, MADV_COLLAPSE) < 0;
    room.ready = to;
    if (now_ns() - begin > (long)((to - from) / HUGE) * SLOW_NS) {
        room.small = SMALL_BYTES;
        room.step = HUGE;
    } else if (room.step < ROOM_MAX) {
        room.step *= 2;
    }
}

/* Nobody is told of a failure here: it is the reads' to find out. The image's word on what
 * follows is a hint. */
static void make_room(unsigned long at, unsigned long len, unsigned long follows)
{
    const struct image_map *m = &rs.map;
    unsigned long first = (at > room.ready ? at + HUGE - 1 : room.ready) & ~(HUGE - 1);
    unsigned long end = at + len, most;

    if (!room.step)
        room.step = HUGE;
    most = first + room.step;
    end = follows < m->end - end ? end + follows : m->end;
    end = (end < most ? end : most) & ~(HUGE - 1);
    if (room.small)
        room.small -= room.small < len ? room.small : len;
    else if (!room.none && m->kind == IMAGE_MAP_ANON && !(m->flags & IMAGE_MAP_SHARED) &&
             first < at + len && first < end)
        make_large(first, end);
    if (at + len > room.ready)
        sys3(NR_madvise, at, len, MADV_POPULATE_WRITE);
}

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

void room_make(unsigned long at, unsigned long len, unsigned long follows)
{
    look_for_memory(len);
    make_room(at, len, follows);
}
