/* files.c - what a process has open: how it is carried, or that it cannot be
 *
 * A regular file is opened again by its path, where its place in it was. Open
 * for reading, the file there must have the same content; open for writing, it
 * must be the same file, which only a shared file system has: the same inode,
 * changed at the same nanosecond. Standard output and error are streams to
 * whoever reads them: on a node iofwd's, on the master whatever they are there,
 * a terminal, a pipe or a file, to which a forwarder copies what is said.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "mover/mover.h"

#define COMPARED_MAX (1ll << 30) /* bytes of a file that is read whole, to compare it */
#define O_SIGNALS 020000        /* O_ASYNC, as fdinfo has it */
#define KCMP_FILE 0

void held_free(struct held_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i].path);
    free(l->v);
    *l = (struct held_list){ 0 };
}

bool held_stream(const struct held_list *l, int fd)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].kind == HELD_STREAM && l->v[i].of == fd)
            return true;
    return false;
}

int held_copy(pid_t pid, int fd)
{
    CLEANUP(cleanup_close) int it = (int)syscall(SYS_pidfd_open, pid, 0);

    return it < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, it, fd, 0);
}

/* Everything that wrote to it has gone, and all is read. */
static bool at_end(pid_t pid, int fd)
{
    CLEANUP(cleanup_close) int copy = held_copy(pid, fd);
    struct pollfd p = { .fd = copy, .events = POLLIN };
    int bytes = 0;

    return copy >= 0 && poll(&p, 1, 0) == 1 && (p.revents & POLLHUP) &&
           ioctl(copy, FIONREAD, &bytes) == 0 && bytes == 0;
}

static bool harmless_device(dev_t d)
{
    unsigned minor_no = minor(d);

    return major(d) == 1 &&
           (minor_no == 3 || minor_no == 5 || minor_no == 7 || minor_no == 8 || minor_no == 9);
}

static bool terminal(dev_t d)
{
    unsigned m = major(d);

    return m == 4 || m == 5 || (m >= 136 && m <= 143);
}

static int set_path(struct held *f, const char *path, struct err *err)
{
    f->kind = HELD_FILE;
    f->path = strdup(path);
    return f->path ? 0 : err_set(err, ENOMEM, "out of memory");
}

/* Standard input that is no file: only one that is at its end is told from another. */
static int take_input(const struct mover_conf *c, struct held *f, const char *what, bool empty,
                      struct hindrances *h, struct err *err)
{
    f->at = 0;
    f->flags = O_RDONLY;
    if (!empty && !c->no_input)
        hindered(h, "input", "descriptor 0: %s is its standard input, and there may be more "
                 "(bpmove -n gives it an empty one)", what);
    return set_path(f, "/dev/null", err);
}

static int take_pipe(const struct mover_conf *c, struct held *f, const struct stat *st,
                     struct hindrances *h, struct err *err)
{
    for (int k = 1; k < 3; k++)
        if (c->node ? c->stream[k] == st->st_ino && st->st_ino : k == f->fd) {
            f->kind = HELD_STREAM;
            f->of = k;
            return 0;
        }
    if (f->fd == 0 && (!c->node || c->stream[0] == st->st_ino))
        return take_input(c, f, "a pipe", at_end(c->pid, 0), h, err);
    f->kind = HELD_PIPE; /* pipes.c says the rest */
    f->inode = st->st_ino;
    return 0;
}

static int take_device(const struct mover_conf *c, struct held *f, const struct stat *st,
                       const char *path, struct hindrances *h, struct err *err)
{
    if (harmless_device(st->st_rdev))
        return set_path(f, path, err);
    if (!terminal(st->st_rdev)) {
        hindered(h, "device", "descriptor %d: a device (%s)", f->fd, path);
    } else if (f->fd == 0) {
        return take_input(c, f, "a terminal", false, h, err);
    } else if (!c->node && f->fd < 3) {
        f->kind = HELD_STREAM;
        f->of = f->fd;
    } else {
        hindered(h, "terminal", "descriptor %d: a terminal (%s)", f->fd, path);
    }
    return 0;
}

static int take_regular(const struct mover_conf *c, struct held *f, const struct stat *st,
                        const char *path, struct hindrances *h, struct err *err)
{
    struct stat now;

    if (!c->node && (f->fd == 1 || f->fd == 2) && (f->flags & O_ACCMODE) != O_RDONLY) {
        f->kind = HELD_STREAM; /* the forwarder goes on writing to it */
        f->of = f->fd;
        return 0;
    }
    if (st->st_nlink == 0 || stat(path, &now) < 0 || now.st_ino != st->st_ino ||
        now.st_dev != st->st_dev) {
        if (strncmp(path, "/memfd:", 7) == 0)
            hindered(h, "memory-file", "descriptor %d: a file in memory (%s)", f->fd, path);
        else if (st->st_nlink == 0)
            hindered(h, "deleted", "descriptor %d: %s", f->fd, path);
        else
            hindered(h, "renamed", "descriptor %d: %s is another file by now", f->fd, path);
    } else if (strncmp(path, "/proc/", 6) == 0 || strncmp(path, "/sys/", 5) == 0) {
        hindered(h, "kernel-file", "descriptor %d: %s is this machine's", f->fd, path);
    } else if (S_ISDIR(st->st_mode) && f->at) {
        hindered(h, "directory", "descriptor %d: it is reading the directory %s", f->fd, path);
    } else if ((f->flags & O_ACCMODE) == O_RDONLY && st->st_size > COMPARED_MAX) {
        hindered(h, "large-file", "descriptor %d: %s is too large to be compared (%lld bytes; at "
                 "most %lld)", f->fd, path, (long long)st->st_size, (long long)COMPARED_MAX);
    }
    return set_path(f, path, err);
}

static void take_other(const struct held *f, const struct stat *st, const char *path,
                       struct hindrances *h)
{
    if (S_ISSOCK(st->st_mode))
        hindered(h, "socket", "descriptor %d: a socket", f->fd);
    else if (strncmp(path, "anon_inode:", 11) == 0)
        hindered(h, "kernel-object", "descriptor %d: %s", f->fd, path + 11);
    else
        hindered(h, "descriptor", "descriptor %d: %s", f->fd, path);
}

/* A copy of one that is carried as what it is? */
static bool same_as(const struct mover_conf *c, struct held_list *l, struct held *f)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct held *o = &l->v[i];
        if (o->kind == HELD_SAME || o->kind == HELD_NOTHING ||
            (o->fd == 0 && o->path && strcmp(o->path, "/dev/null") == 0) ||
            syscall(SYS_kcmp, c->pid, c->pid, KCMP_FILE, o->fd, f->fd) != 0)
            continue;
        f->kind = HELD_SAME;
        f->of = o->fd;
        return true;
    }
    return false;
}

static int read_info(pid_t pid, struct held *f, struct hindrances *h)
{
    char name[64];
    unsigned long flags = 0;

    snprintf(name, sizeof name, "fdinfo/%d", f->fd);
    CLEANUP(cleanup_free) char *info = proc_text(pid, name, NULL);
    const char *pos = info ? strstr(info, "pos:") : NULL, *fl = info ? strstr(info, "flags:") : NULL;
    if (!pos || !fl)
        return -1;
    f->at = strtoll(pos + 4, NULL, 10);
    flags = strtoul(fl + 6, NULL, 8);
    f->flags = (int)flags;
    if (strstr(info, "\nlock:"))
        hindered(h, "lock", "descriptor %d: it holds a lock", f->fd);
    if (flags & O_SIGNALS)
        hindered(h, "signals", "descriptor %d: it sends signals (O_ASYNC)", f->fd);
    return 0;
}

static int take(const struct mover_conf *c, struct held_list *l, struct held *f,
                struct hindrances *h, struct err *err)
{
    char name[64], path[IMAGE_PATH];
    struct stat st;

    snprintf(name, sizeof name, "/proc/%d/fd/%d", (int)c->pid, f->fd);
    ssize_t n = readlink(name, path, sizeof path - 1);
    if (n < 0 || stat(name, &st) < 0 || read_info(c->pid, f, h) < 0)
        return 0; /* closed meanwhile: it is looked at again when it stands still */
    path[n] = 0;
    f->kind = HELD_NOTHING;
    if (same_as(c, l, f))
        return 1;
    int rc = 0;
    if (S_ISFIFO(st.st_mode))
        rc = take_pipe(c, f, &st, h, err);
    else if (S_ISCHR(st.st_mode))
        rc = take_device(c, f, &st, path, h, err);
    else if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
        rc = take_regular(c, f, &st, path, h, err);
    else
        take_other(f, &st, path, h);
    return rc < 0 ? -1 : 1;
}

static int by_number(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;

    return (x > y) - (x < y);
}

static int numbers(pid_t pid, int fd[HELD_MAX], struct hindrances *h, struct err *err)
{
    char path[64];
    struct dirent *e;
    int n = 0;

    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *d = opendir(path);
    if (!d)
        return err_set(err, errno, "process %d: what it has open cannot be seen: %s", (int)pid,
                       strerror(errno));
    while ((e = readdir(d))) {
        if (e->d_name[0] == '.')
            continue;
        if (n < HELD_MAX)
            fd[n] = atoi(e->d_name);
        n++;
    }
    closedir(d);
    if (n > HELD_MAX)
        hindered(h, "descriptors", "it has %d descriptors open (at most %d)", n, HELD_MAX);
    n = n > HELD_MAX ? HELD_MAX : n;
    qsort(fd, (size_t)n, sizeof *fd, by_number);
    return n;
}

int held_look(const struct mover_conf *c, struct held_list *l, struct hindrances *h,
              struct err *err)
{
    int fd[HELD_MAX], n = numbers(c->pid, fd, h, err);

    if (n < 0)
        return -1;
    l->v = calloc((size_t)n + 1, sizeof *l->v);
    if (!l->v)
        return err_set(err, ENOMEM, "out of memory");
    for (int i = 0; i < n; i++) {
        struct held *f = &l->v[l->n];
        *f = (struct held){ .fd = fd[i] };
        int rc = take(c, l, f, h, err);
        if (rc < 0) {
            free(f->path);
            return -1;
        }
        l->n += (size_t)rc;
    }
    pipes_look(c, l, h);
    return 0;
}

/* --- into the image --- */

static int file_crc(struct image_writer *w, int fd, const char *path, uint32_t *crc)
{
    off_t at = 0;
    ssize_t n;

    *crc = 0;
    while ((n = pread(fd, w->s->bounce, sizeof w->s->bounce, at)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return image_fail(w, errno, "cannot be read", path);
        *crc = image_crc(*crc, w->s->bounce, (size_t)n);
        at += n;
    }
    return 0;
}

static int describe(const struct mover_conf *c, const struct held *f, struct image_file *r,
                    struct image_writer *w)
{
    struct stat st;
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)c->pid, f->fd);
    if (strcmp(f->path, "/dev/null") == 0) { /* also where it stands for another */
        r->mode = S_IFCHR;
        return 0;
    }
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) < 0)
        return image_fail(w, errno, "cannot be read", f->path);
    r->mode = st.st_mode;
    r->size = (uint64_t)st.st_size;
    r->inode = st.st_ino;
    r->modified = st.st_mtim.tv_sec;
    r->modified_ns = (uint32_t)st.st_mtim.tv_nsec;
    r->changed = st.st_ctim.tv_sec;
    r->changed_ns = (uint32_t)st.st_ctim.tv_nsec;
    return S_ISREG(st.st_mode) && (f->flags & O_ACCMODE) == O_RDONLY
               ? file_crc(w, fd, f->path, &r->crc)
               : 0;
}

int held_write(const struct mover_conf *c, const struct held_list *l, struct image_writer *w)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct held *f = &l->v[i];
        struct image_file r = { .fd = f->fd, .flags = f->flags, .of = f->of,
                                .offset = (uint64_t)f->at };
        if (f->kind == HELD_PIPE)
            r.size = (uint64_t)f->at;
        const char *path = f->kind == HELD_FILE ? f->path : "";
        if (f->kind == HELD_NOTHING)
            continue;
        r.kind = f->kind == HELD_FILE     ? IMAGE_FILE_PATH
                 : f->kind == HELD_STREAM ? IMAGE_FILE_STREAM
                 : f->kind == HELD_PIPE   ? IMAGE_FILE_PIPE
                                          : IMAGE_FILE_SAME;
        r.path_len = (uint32_t)strlen(path) + 1;
        if ((f->kind == HELD_FILE && describe(c, f, &r, w) < 0) ||
            image_put(w, IMAGE_FILE, &r, sizeof r, path, r.path_len) < 0)
            return -1;
    }
    return 0;
}
