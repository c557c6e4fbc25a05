/* restore_maps.c - memory: our own put away, the process's put in place
 *
 * The hole is a gap of the process, chosen by who made the image. It holds us,
 * in its lower half, and the kernel's pages (vdso, vvar) in the upper one until
 * the process's own places for them are known. No mapping may touch it.
 */
#include "node/restore.h"

#define PARK (8ul << 20) /* in the hole */
#define TOP (1ul << 47)
#define MREMAP_MOVE_FIXED 3
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */

static const char *hex(const char *p, unsigned long *v)
{
    *v = 0;
    for (;; p++) {
        if (*p >= '0' && *p <= '9')
            *v = *v * 16 + (unsigned long)(*p - '0');
        else if (*p >= 'a' && *p <= 'f')
            *v = *v * 16 + (unsigned long)(*p - 'a' + 10);
        else
            return p;
    }
}

static int in_hole(unsigned long start, unsigned long end)
{
    return start < rs.p.hole + IMAGE_HOLE && end > rs.p.hole;
}

/* What is mapped in us now. */
void own_read(void)
{
    long fd = sys2(NR_open, "/proc/self/maps", 0), n = 0, r;

    if (fd < 0)
        fail(-fd, "cannot be read", "/proc/self/maps");
    while ((r = sys3(NR_read, fd, later.text + n, sizeof later.text - 1 - (unsigned long)n)) > 0)
        n += r;
    sys1(NR_close, fd);
    later.text[n] = 0;
    for (const char *p = later.text; *p && rs.owns < OWN_MAPS;) {
        struct own_map *o = &rs.own[rs.owns];
        const char *name;
        unsigned k = 0;
        p = hex(p, &o->start);
        p = hex(p + (*p == '-'), &o->end);
        name = p;
        while (*p && *p != '\n')
            p++;
        while (name < p && *name != '[' && *name != '/')
            name++;
        while (name < p && k + 1 < sizeof o->name)
            o->name[k++] = *name++;
        o->name[k] = 0;
        if (*p)
            p++;
        if (!begins(o->name, "[vsyscall"))
            rs.owns++;
    }
}

static struct own_map *own_find(const char *name)
{
    for (unsigned i = 0; i < rs.owns; i++)
        if (same(rs.own[i].name, name))
            return &rs.own[i];
    return 0;
}

static unsigned long own_bytes(const char *name)
{
    const struct own_map *o = own_find(name);

    return o ? o->end - o->start : 0;
}

/* Whatever the process has taken for granted is so here too. */
void machine_check(void)
{
    static struct image_machine here;
    const struct own_map *vdso = own_find("[vdso]");
    const struct image_machine *from = &rs.p.machine;

    image_cpu(&here);
    const char *lacks = image_cpu_lacks(from, &here);
    if (lacks)
        fail(ENOTUNIQ, "this processor has it not; the process may use it", lacks);
    if ((vdso ? vdso->end - vdso->start : 0) != from->vdso_bytes ||
        own_bytes("[vvar]") != from->vvar_bytes ||
        own_bytes("[vvar_vclock]") != from->clock_bytes ||
        (vdso && image_crc(0, (const void *)vdso->start, from->vdso_bytes) != from->vdso_crc))
        fail(ENOTUNIQ, "another kernel (its vdso differs) than the process comes from",
             from->release);
}

unsigned long hide(void)
{
    unsigned long from = (unsigned long)restore_begin, size = (unsigned long)(restore_end - restore_begin);
    unsigned long at = rs.p.hole;

    from &= ~(unsigned long)(IMAGE_PAGE - 1);
    unsigned long copied = (unsigned long)restore_later - from;
    size += (unsigned long)restore_begin - from;
    if (at % IMAGE_PAGE || at < IMAGE_PAGE || at > TOP - IMAGE_HOLE || size > PARK)
        fail(EBADMSG, "the image makes no sense: its hole", 0);
    long r = sys6(NR_mmap, (long)at, IMAGE_HOLE, PROT_ALL,
                  MAP_PRIVATE | MAP_ANON | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (r != (long)at)
        fail(r < 0 ? -r : EEXIST, "no room to build the process", 0);
    sys3(NR_madvise, at, copied, MADV_POPULATE_WRITE);
    __builtin_memcpy((void *)at, (const void *)from, copied);
    return at - from;
}

void own_away(void)
{
    unsigned long park = rs.p.hole + PARK;

    for (unsigned i = 0; i < rs.owns; i++) {
        struct own_map *o = &rs.own[i];
        unsigned long size = o->end - o->start;
        if (!begins(o->name, "[v")) {
            sys2(NR_munmap, o->start, size);
            continue;
        }
        if (park + size > rs.p.hole + IMAGE_HOLE)
            fail(ENOMEM, "the kernel's pages are too many", o->name);
        long r = sys5(NR_mremap, o->start, size, size, MREMAP_MOVE_FIXED, park);
        if (r != (long)park)
            fail(r < 0 ? -r : EIO, "this kernel has sealed it: nothing can be moved here",
                 o->name);
        o->start = park;
        o->end = park + size;
        park += size + IMAGE_PAGE;
    }
}

/* --- the process's --- */

static void place_vdso(unsigned long size)
{
    struct own_map *o = own_find(rs.path);

    if (!o || o->end - o->start != size)
        fail(ENOTUNIQ, "another size here", rs.path);
    long r = sys5(NR_mremap, o->start, size, size, MREMAP_MOVE_FIXED, rs.map.start);
    if (r != (long)rs.map.start)
        fail(r < 0 ? -r : EIO, "cannot be moved", rs.path);
    o->start = rs.map.start;
    o->end = o->start + size;
}

/* The file must have the content that the process has mapped. */
static void check_file(long fd)
{
    unsigned char id[20];
    struct { /* struct stat, as far as we need it */
        uint64_t dev, ino, nlink;
        uint32_t mode, uid, gid, pad;
        uint64_t rdev;
        int64_t size;
        uint64_t rest[11];
    } st;
    const struct image_map *m = &rs.map;

    long n = sys2(NR_fstat, fd, &st);
    if (n < 0 || (uint64_t)st.size != m->file_size)
        fail(ELIBBAD, "another file is here (its size differs)", rs.path);
    n = sys4(NR_pread64, fd, later.text, IMAGE_PAGE, 0);
    if (n < 0)
        fail(-n, "cannot be read", rs.path);
    uint32_t len = image_build_id((const unsigned char *)later.text, (size_t)n, id);
    int other = len != m->id_len;
    for (uint32_t i = 0; i < len && !other; i++)
        other = id[i] != m->id[i];
    if (other || image_crc(0, later.text, (size_t)n) != m->head_crc)
        fail(ELIBBAD, len ? "another file is here (its build-id differs)"
                          : "another file is here (its content differs)", rs.path);
}

/* Opened to be read, and looked at, for the mapping before. */
static int file_is_open(void)
{
    const struct image_map *a = &rs.map, *b = &rs.file_map;

    for (unsigned i = 0; i < sizeof a->id; i++)
        if (a->id[i] != b->id[i])
            return 0;
    return rs.file >= 0 && same(later.file_path, rs.path) && a->file_size == b->file_size &&
           a->head_crc == b->head_crc && a->id_len == b->id_len;
}

static void open_file(int flags)
{
    file_forget();
    long fd = sys2(NR_open, rs.path, flags);
    if (fd < 0)
        fail(-fd, fd == -ENOENT ? "is not here" : "cannot be opened here", rs.path);
    rs.file = (int)fd;
    check_file(fd);
    rs.file_map = rs.map;
    __builtin_memcpy(later.file_path, rs.path, sizeof rs.path);
}

void file_forget(void)
{
    if (rs.file >= 0)
        sys1(NR_close, rs.file);
    rs.file = -1;
}

static long map_file(unsigned long size)
{
    const struct image_map *m = &rs.map;
    int shared = m->flags & IMAGE_MAP_SHARED;
    int prot = (int)m->prot, writable = shared && (prot & PROT_WRITE);

    if (writable || !file_is_open())
        open_file(writable ? 2 : 0);
    long r = sys6(NR_mmap, (long)m->start, (long)size, prot,
                  (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED, rs.file, (long)m->offset);
    if (writable)
        file_forget();
    return r;
}

static long map_zeros(unsigned long size)
{
    const struct image_map *m = &rs.map;
    int flags = MAP_ANON | MAP_FIXED | MAP_NORESERVE;

    flags |= m->flags & IMAGE_MAP_SHARED ? MAP_SHARED : MAP_PRIVATE;
    if (m->flags & IMAGE_MAP_GROWS)
        flags |= MAP_GROWSDOWN;
    return sys6(NR_mmap, (long)m->start, (long)size, (int)m->prot, flags, -1, 0);
}

static void protect(unsigned prot)
{
    long r = sys3(NR_mprotect, rs.map.start, rs.map.end - rs.map.start, prot);

    if (r < 0)
        fail(-r, "memory cannot be protected", 0);
}

/* Pages come for it, that its process may only have read. */
static void make_writable(void)
{
    if ((rs.map.prot & PROT_WRITE) || rs.made_writable)
        return;
    protect(rs.map.prot | PROT_WRITE);
    rs.made_writable = 1;
}

/* A mapping whose pages have all come is what it was to its process. */
static void finish_map(void)
{
    fill_end();
    if (rs.made_writable)
        protect(rs.map.prot);
    rs.made_writable = 0;
}

void map_take(void)
{
    static struct image_map next;
    const struct image_map *m = &rs.map;
    unsigned long size = m->end - m->start;
    long r = 0;

    /* rs.map is the new one by now: the one before it was kept. */
    next = rs.map;
    rs.map = rs.before;
    finish_map();
    rs.map = rs.before = next;
    if (m->start % IMAGE_PAGE || m->end % IMAGE_PAGE || m->start < rs.end ||
        m->end <= m->start || m->end > TOP || m->prot > PROT_ALL || in_hole(m->start, m->end) ||
        rs.maps >= IMAGE_MAPS)
        fail(EBADMSG, "the image makes no sense: a mapping", rs.path);
    rs.end = m->end;
    rs.maps++;
    switch (m->kind) {
    case IMAGE_MAP_VDSO: place_vdso(size); return;
    case IMAGE_MAP_FILE: r = map_file(size); break;
    case IMAGE_MAP_ANON: r = map_zeros(size); break;
    default: fail(EBADMSG, "the image makes no sense: a kind of mapping", rs.path);
    }
    if (r != (long)m->start)
        fail(r < 0 ? -r : ENOMEM, r == -ENOMEM ? "not enough memory here" : "cannot be mapped",
             rs.path[0] ? rs.path : "memory");
}

void pages_take(uint32_t *crc)
{
    const struct image_record *c = &rs.rec;
    const struct image_map *m = &rs.map;

    if (rs.maps == 0 || m->kind == IMAGE_MAP_VDSO || c->len > IMAGE_CHUNK || c->len == 0 ||
        c->len % IMAGE_PAGE || c->addr < m->start || c->addr > m->end ||
        c->len > m->end - c->addr ||
        (m->kind == IMAGE_MAP_FILE && (m->flags & IMAGE_MAP_SHARED)))
        fail(EBADMSG, "the image makes no sense: pages", 0);
    make_writable();
    room_take(c->addr, c->len, c->chain, crc);
}

/* The hole is whole again where the kernel's pages were parked: by that who looks at
 * the process later knows it for what it is. */
void maps_done(void)
{
    file_forget();
    finish_map();
    sys6(NR_mmap, (long)(rs.p.hole + PARK), IMAGE_HOLE - PARK, PROT_ALL,
         MAP_PRIVATE | MAP_ANON | MAP_NORESERVE | MAP_FIXED, -1, 0);
}
