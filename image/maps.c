/* maps.c - what /proc says of a process's memory, and of the rest of it */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "image/machine.h"
#include "image/write.h"

#define HOLE_FIRST 0x100000000000ull /* bprestore is loaded below */
#define HOLE_LAST 0x700000000000ull

/* A file of /proc as a whole. Its length, or -1; -2: larger than that. */
static ssize_t read_proc(const struct image_writer *w, const char *name, char *buf, size_t room)
{
    int fd = openat(w->proc, name, O_RDONLY | O_CLOEXEC);
    size_t got = 0;

    if (fd < 0)
        return -1;
    for (;;) {
        if (got + 1 >= room) {
            close(fd);
            return -2;
        }
        ssize_t n = read(fd, buf + got, room - 1 - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    close(fd);
    buf[got] = 0;
    return (ssize_t)got;
}

static const char *hex(const char *p, uint64_t *v)
{
    *v = 0;
    for (;; p++) {
        if (*p >= '0' && *p <= '9')
            *v = *v * 16 + (uint64_t)(*p - '0');
        else if (*p >= 'a' && *p <= 'f')
            *v = *v * 16 + (uint64_t)(*p - 'a' + 10);
        else
            return p;
    }
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);

    return n >= k && strcmp(s + n - k, end) == 0;
}

/* Which content it is; it may also be another file than the mapped one by now. */
static bool look_at_file(struct image_writer *w, struct image_seen *seen)
{
    struct stat st;
    int fd = open(w->s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = -1;

    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_ino == seen->inode)
        n = pread(fd, w->s->small, IMAGE_PAGE, 0);
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return false;
    seen->size = (uint64_t)st.st_size;
    seen->head_crc = image_crc(0, w->s->small, (size_t)n);
    seen->id_len = image_build_id((const unsigned char *)w->s->small, (size_t)n, seen->id);
    return true;
}

static bool file_known(struct image_writer *w, uint64_t inode)
{
    struct image_seen *seen = w->s->seen,
                      new = { .inode = inode,
                              .path_crc = image_crc(0, w->s->path, strlen(w->s->path)) };
    struct image_map *m = &w->s->map;
    size_t i = 0;

    while (i < IMAGE_SEEN && (seen[i].inode != inode || seen[i].path_crc != new.path_crc))
        i++;
    if (i == IMAGE_SEEN) {
        if (!look_at_file(w, &new))
            return false;
        i = w->s->last_seen = (w->s->last_seen + 1) % IMAGE_SEEN;
        seen[i] = new;
    }
    m->file_size = seen[i].size;
    m->head_crc = seen[i].head_crc;
    m->id_len = seen[i].id_len;
    memcpy(m->id, seen[i].id, sizeof m->id);
    return true;
}

static int classify(struct image_writer *w, uint64_t inode)
{
    struct image_map *m = &w->s->map;
    char *path = w->s->path;

    if (strncmp(path, "[v", 2) == 0) {
        m->kind = IMAGE_MAP_VDSO;
        return 0;
    }
    m->kind = IMAGE_MAP_ANON;
    if (strcmp(path, "[stack]") == 0)
        m->flags |= IMAGE_MAP_GROWS;
    if (strncmp(path, "anon_inode:", 11) == 0)
        return image_fail(w, EINVAL, "memory shared with the kernel cannot go along", path);
    if (path[0] != '/' || !inode) {
        path[0] = 0;
        return 0;
    }
    bool gone = ends_with(path, " (deleted)");
    if (strncmp(path, "/dev/", 5) == 0 && !gone && strncmp(path, "/dev/shm/", 9) != 0)
        return image_fail(w, EINVAL, "a device's memory cannot go along", path);
    if (!gone && file_known(w, inode))
        m->kind = IMAGE_MAP_FILE;
    else if (gone && (m->flags & IMAGE_MAP_SHARED) && strncmp(path, "/dev/zero", 9) != 0)
        m->flags &= ~(uint32_t)IMAGE_MAP_SHARED; /* with whom is not known */
    return 0;
}

/* One line: START-END rwxp OFFSET MAJ:MIN INODE  PATH. 1: there is nothing. */
static int parse(struct image_writer *w, const char *line, const char *end)
{
    struct image_map *m = &w->s->map;
    uint64_t inode = 0;
    size_t n = 0;

    memset(m, 0, sizeof *m);
    line = hex(line, &m->start);
    line = hex(line + 1, &m->end);
    m->prot = (line[1] == 'r' ? PROT_READ : 0u) | (line[2] == 'w' ? PROT_WRITE : 0u) |
              (line[3] == 'x' ? PROT_EXEC : 0u);
    m->flags = line[4] == 's' ? IMAGE_MAP_SHARED : 0;
    line = hex(line + 6, &m->offset);
    while (*line == ' ')
        line++;
    while (*line != ' ') /* the device */
        line++;
    while (*line == ' ')
        line++;
    for (; *line >= '0' && *line <= '9'; line++)
        inode = inode * 10 + (uint64_t)(*line - '0');
    while (line < end && *line == ' ')
        line++;
    for (; line < end && n + 1 < IMAGE_PATH; line++)
        w->s->path[n++] = *line;
    w->s->path[n] = 0;
    if (m->start >= w->skip.start && m->end <= w->skip.end)
        return 1;
    if (strncmp(w->s->path, "[vsyscall]", 10) == 0 || strncmp(w->s->path, "[uprobes]", 9) == 0)
        return 1;
    /* What bprestore has left behind of an earlier move. */
    if (m->end - m->start == IMAGE_HOLE && m->prot == (PROT_READ | PROT_WRITE | PROT_EXEC) &&
        !inode && m->start >= HOLE_FIRST && m->start < HOLE_LAST && m->start % IMAGE_HOLE == 0)
        return 1;
    return classify(w, inode);
}

int image_maps(struct image_writer *w, image_map_fn *fn, void *arg)
{
    ssize_t n = read_proc(w, "maps", w->text, w->text_room);

    if (n < 0)
        return image_fail(w, n == -2 ? E2BIG : errno,
                          n == -2 ? "too many mappings" : "cannot be read", "maps");
    for (const char *p = w->text; *p;) {
        const char *end = strchr(p, '\n');
        if (!end)
            end = p + strlen(p);
        int rc = parse(w, p, end);
        if (rc < 0 || (rc == 0 && fn(w, arg) != 0))
            return -1;
        p = *end ? end + 1 : end;
    }
    return 0;
}

/* --- what is to be known before the first byte --- */

struct survey {
    uint64_t end; /* of the mapping before */
    bool hole;
};

static int survey_map(struct image_writer *w, void *arg)
{
    struct survey *v = arg;
    struct image_process *p = &w->s->process;
    const struct image_map *m = &w->s->map;
    struct image_machine *mc = &p->machine;
    uint32_t size = (uint32_t)(m->end - m->start);

    uint64_t at = v->end < HOLE_FIRST ? HOLE_FIRST : v->end;
    at = (at + IMAGE_HOLE - 1) & ~(uint64_t)(IMAGE_HOLE - 1);
    /* Room for the guard gap below a growing stack, too. */
    if (!v->hole && at + 2 * (uint64_t)IMAGE_HOLE <= m->start && at < HOLE_LAST) {
        p->hole = at;
        v->hole = true;
    }
    v->end = m->end;
    p->maps++;
    if (m->kind != IMAGE_MAP_VDSO)
        return 0;
    if (strcmp(w->s->path, "[vdso]") == 0) {
        mc->vdso_bytes = size;
        for (uint64_t done = 0; done < size;) {
            ssize_t n = pread(w->mem, w->s->bounce + done, size - done, (off_t)(m->start + done));
            if (n <= 0)
                return image_fail(w, EIO, "cannot be read", "[vdso]");
            done += (uint64_t)n;
        }
        mc->vdso_crc = image_crc(0, w->s->bounce, size);
    } else if (strcmp(w->s->path, "[vvar]") == 0) {
        mc->vvar_bytes = size;
    } else if (strcmp(w->s->path, "[vvar_vclock]") == 0) {
        mc->clock_bytes = size;
    }
    return 0;
}

int image_survey(struct image_writer *w)
{
    struct survey v = { 0 };
    struct image_process *p = &w->s->process;
    struct utsname u;

    p->maps = 0;
    memset(w->s->seen, 0, sizeof w->s->seen);
    memset(&p->machine, 0, sizeof p->machine);
    image_cpu(&p->machine);
    if (uname(&u) == 0)
        memcpy(p->machine.release, u.release,
               strnlen(u.release, sizeof p->machine.release - 1));
    if (image_maps(w, survey_map, &v) < 0)
        return -1;
    if (p->maps > IMAGE_MAPS)
        return image_fail(w, E2BIG, "too many mappings", NULL);
    return v.hole ? 0 : image_fail(w, ENOMEM, "its address space has no gap left", NULL);
}

/* Fields of stat, counted as in proc(5); p begins at field 3. */
static uint64_t stat_field(const char *p, int field)
{
    for (int i = 3; i < field && p; i++) {
        p = strchr(p, ' ');
        p = p ? p + 1 : NULL;
    }
    return p ? strtoull(p, NULL, 10) : 0;
}

static int link_text(struct image_writer *w, const char *name, char *to)
{
    ssize_t n = readlinkat(w->proc, name, to, IMAGE_PATH - 1);

    if (n < 0)
        return image_fail(w, errno, "cannot be read", name);
    to[n] = 0;
    return 0;
}

int image_describe(struct image_writer *w)
{
    static const int fields[] = { 26, 27, 45, 46, 47, 0, 28, 48, 49, 50, 51 };
    struct image_process *p = &w->s->process;
    char *text = w->s->small;

    if (read_proc(w, "stat", text, IMAGE_PATH) < 0)
        return image_fail(w, errno, "cannot be read", "stat");
    char *after = strrchr(text, ')'), *name = strchr(text, '(');
    if (!after || !name)
        return image_fail(w, EIO, "makes no sense", "stat");
    for (int i = 0; i < IMAGE_MM_FIELDS; i++)
        if (fields[i])
            p->mm[i] = stat_field(after + 2, fields[i]);
    p->nice = (int32_t)(int64_t)stat_field(after + 2, 19);
    *after = 0;
    memset(p->comm, 0, sizeof p->comm);
    memcpy(p->comm, name + 1, strnlen(name + 1, sizeof p->comm - 1));
    if (read_proc(w, "status", text, IMAGE_PATH) < 0)
        return image_fail(w, errno, "cannot be read", "status");
    const char *mask = strstr(text, "\nUmask:"), *nnp = strstr(text, "\nNoNewPrivs:");
    p->umask = mask ? (uint32_t)strtoul(mask + 7, NULL, 8) : 022;
    if (nnp && strtoul(nnp + 12, NULL, 10))
        p->flags |= IMAGE_NO_NEW_PRIVS;
    int fd = openat(w->proc, "auxv", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, p->auxv, sizeof p->auxv);
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return image_fail(w, errno, "cannot be read", "auxv");
    p->auxv_bytes = (uint32_t)n & ~15u;
    return link_text(w, "cwd", p->cwd) < 0 || link_text(w, "exe", p->exe) < 0 ? -1 : 0;
}
