/* sink.c - the receiving side: frames become files
 *
 * Nothing that the sender says leads out of the destination: below the folder
 * that the user named, no symlink is followed and no ".." is taken. A file
 * grows under a name of its own and takes its place whole, with its hash
 * checked. One that has a tag keeps that name when the copy breaks, and the
 * next try goes on from there. What goes wrong with a file is a fault and the
 * rest goes on.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "copy/sink.h"

static int beneath(int dir, const char *path, int flags)
{
    struct open_how how = { .flags = (uint64_t)(flags | O_CLOEXEC),
                            .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS };

    return (int)syscall(SYS_openat2, dir, *path ? path : ".", &how, sizeof how);
}

/* --- the destination --- */

/* DIR/NAME of a destination that is no folder (yet): its folder opened. */
static int open_parent(sink_t *s, char *path, struct err *err)
{
    size_t n = strlen(path);

    while (n > 1 && path[n - 1] == '/')
        path[--n] = 0;
    char *slash = strrchr(path, '/');
    s->name = strdup(slash ? slash + 1 : path);
    if (!s->name)
        return err_set(err, ENOMEM, "out of memory");
    if (slash)
        *(slash == path ? slash + 1 : slash) = 0;
    s->base = open(slash ? path : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return s->base < 0 ? err_set(err, errno, "%s", strerror(errno)) : 0;
}

static int open_dest(sink_t *s, bool must_be_dir, struct err *err)
{
    CLEANUP(cleanup_free) char *path = NULL;
    struct stat st;

    if (stat(s->dest, &st) == 0 && S_ISDIR(st.st_mode)) {
        s->base = open(s->dest, O_PATH | O_DIRECTORY | O_CLOEXEC);
        return s->base < 0 ? err_set(err, errno, "%s", strerror(errno)) : 0;
    }
    bool there = lstat(s->dest, &st) == 0;
    if (!there && errno != ENOENT)
        return err_set(err, errno, "%s", strerror(errno));
    if (must_be_dir)
        return there ? err_set(err, ENOTDIR, "not a directory")
                     : err_set(err, ENOENT, "no such directory");
    /* A link that the user named is followed to the file. */
    if (there && S_ISLNK(st.st_mode))
        path = realpath(s->dest, NULL);
    if (!path)
        path = strdup(s->dest);
    return path ? open_parent(s, path, err) : err_set(err, ENOMEM, "out of memory");
}

sink_t *sink_create(const struct sink_options *o, struct faults *to, struct err *err)
{
    sink_t *s = calloc(1, sizeof *s);

    if (!s) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    s->base = s->parent = s->fd = -1;
    s->o = *o;
    s->faults = to;
    s->root = geteuid() == 0;
    s->dest = strdup(*o->dest ? o->dest : ".");
    if (!s->dest)
        err_set(err, ENOMEM, "out of memory");
    if (!s->dest || open_dest(s, o->must_be_dir, err) < 0)
        sink_destroy(&s);
    return s;
}

void sink_destroy(sink_t **sp)
{
    sink_t *s = *sp;

    if (!s)
        return;
    sink_file_drop(s, true);
    cleanup_close(&s->base);
    cleanup_close(&s->parent);
    free(s->parent_path);
    free(s->shown);
    free(s->dest);
    free(s->name);
    free(s->made);
    free(s);
    *sp = NULL;
}

void sink_fault(sink_t *s, const char *text)
{
    faults_add(s->faults, s->shown ? s->shown : s->dest, text);
}

/* --- where an entry belongs --- */

static bool clean(const char *path)
{
    if (*path == 0 || *path == '/' || strlen(path) >= PATH_MAX)
        return false;
    for (const char *p = path; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL) {
        size_t n = strcspn(p, "/");
        if (n == 0 || (n == 2 && p[0] == '.' && p[1] == '.') ||
            (n == 1 && p[0] == '.' && p != path))
            return false;
    }
    return true;
}

static bool wanted(const sink_t *s, const char *path)
{
    size_t n = strcspn(path, "/");

    for (char *const *o = s->o.only; o && *o; o++)
        if (strlen(*o) == n && !memcmp(*o, path, n))
            return true;
    return !s->o.only;
}

/* The folder (s->parent) and the name in it; "" the destination itself. */
static int locate(sink_t *s, const char *path, char **name, struct err *err)
{
    const char *rest = path + strcspn(path, "/");
    CLEANUP(cleanup_free) char *rel = NULL;
    int n = s->name ? asprintf(&rel, "%s%s", s->name, rest)
            : path[0] == '.' && (path[1] == '/' || !path[1])
                ? asprintf(&rel, "%s", *rest ? rest + 1 : "")
                : asprintf(&rel, "%s", path);

    free(s->shown);
    s->shown = NULL;
    const char *between = s->dest[strlen(s->dest) - 1] == '/' ? "" : "/";
    if (n < 0 || asprintf(&s->shown, "%s%s%s", s->dest, s->name || !*rel ? "" : between,
                          s->name ? rest : rel) < 0) {
        s->shown = NULL;
        return err_set(err, ENOMEM, "out of memory");
    }
    char *slash = strrchr(rel, '/');
    *name = strdup(slash ? slash + 1 : rel);
    if (slash)
        *slash = 0;
    else
        *rel = 0;
    if (!*name)
        return err_set(err, ENOMEM, "out of memory");
    if (s->parent >= 0 && !strcmp(s->parent_path, rel))
        return 0;
    cleanup_close(&s->parent);
    free(s->parent_path);
    s->parent_path = rel;
    rel = NULL;
    s->parent = beneath(s->base, s->parent_path, O_PATH | O_DIRECTORY);
    return 0; /* what is wrong there (s->parent < 0) is the entry's fault */
}

/* --- folders and links --- */

static void set_times(sink_t *s, const struct sink_entry *e, int dir, const char *name)
{
    if (s->o.preserve &&
        utimensat(dir, name, (struct timespec[2]){ e->atime, e->mtime }, AT_SYMLINK_NOFOLLOW) < 0)
        sink_fault(s, strerror(errno));
}

static int begin_folder(sink_t *s, const char *name, const struct sink_entry *e)
{
    mode_t mode = (e->mode & 0777 & ~s->o.umask) | 0700;
    struct stat st;
    bool made = *name && mkdirat(s->parent, name, mode) == 0;

    if (!made && *name) {
        if (errno != EEXIST) {
            sink_fault(s, strerror(errno));
            return -1;
        }
        if (fstatat(s->parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode)) {
            sink_fault(s, "not a directory");
            return -1;
        }
    }
    s->made[s->depth - 1] = made;
    return 0;
}

static void end_folder(sink_t *s, const char *name, const struct sink_entry *e, bool made)
{
    CLEANUP(cleanup_close) int fd = -1;

    if (!made && !s->o.preserve)
        return;
    fd = beneath(s->parent, *name ? name : ".", O_RDONLY | O_DIRECTORY);
    if (fd < 0 || sink_dress(s, fd, e, NULL) < 0 ||
        (s->o.preserve && futimens(fd, (struct timespec[2]){ e->atime, e->mtime }) < 0))
        sink_fault(s, strerror(errno));
}

static void put_link(sink_t *s, const char *name, const struct sink_entry *e)
{
    char tmp[64];
    struct stat st;

    sink_temp_name(tmp);
    if (fstatat(s->parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode)) {
        sink_fault(s, "is a directory");
        return;
    }
    if (symlinkat(e->link, s->parent, tmp) < 0) {
        sink_fault(s, strerror(errno));
        return;
    }
    if (s->root && s->o.preserve &&
        fchownat(s->parent, tmp, e->uid, e->gid, AT_SYMLINK_NOFOLLOW) < 0)
        sink_fault(s, strerror(errno));
    set_times(s, e, s->parent, tmp);
    if (renameat(s->parent, tmp, s->parent, name) < 0) {
        sink_fault(s, strerror(errno));
        unlinkat(s->parent, tmp, 0);
    }
}

/* --- frames --- */

static int take_time(const msgpack_object *o, struct timespec *t)
{
    int64_t sec, ns;

    if (!mp_as_int(&o[0], &sec) || !mp_as_int(&o[1], &ns) || ns < 0 || ns > 999999999)
        return -1;
    *t = (struct timespec){ .tv_sec = (time_t)sec, .tv_nsec = (long)ns };
    return 0;
}

static int parse(const msgpack_object *o, struct sink_entry *e, struct err *err)
{
    const msgpack_object *p = o->type == MSGPACK_OBJECT_ARRAY ? o->via.array.ptr : NULL;
    int64_t mode, uid, gid, size;

    if (!p || o->via.array.size < 12 || p[0].type != MSGPACK_OBJECT_STR ||
        p[0].via.str.size != 1 || !strchr("dfl", p[0].via.str.ptr[0]) ||
        !mp_as_int(&p[2], &mode) || !mp_as_int(&p[3], &uid) || !mp_as_int(&p[4], &gid) ||
        mode < 0 || mode > 07777 || uid < 0 || uid >= UINT32_MAX || gid < 0 ||
        gid >= UINT32_MAX || take_time(&p[5], &e->mtime) < 0 || take_time(&p[7], &e->atime) < 0 ||
        !mp_as_int(&p[9], &size) || size < 0 || p[11].type != MSGPACK_OBJECT_STR)
        return err_set(err, EPROTO, "an entry was not understood");
    size_t tag = p[11].via.str.size;
    if (tag != 0 && tag != COPY_TAG)
        return err_set(err, EPROTO, "an entry's tag has a wrong length");
    memcpy(e->tag, p[11].via.str.ptr, tag);
    e->tag[tag] = 0;
    if (strspn(e->tag, "0123456789abcdef") != tag)
        return err_set(err, EPROTO, "an entry's tag is not hexadecimal");
    e->kind = p[0].via.str.ptr[0];
    e->mode = (mode_t)mode;
    e->uid = (uid_t)uid;
    e->gid = (gid_t)gid;
    e->size = (uint64_t)size;
    e->path = mp_dup(&p[1]);
    e->link = mp_dup(&p[10]);
    if (!e->path || !e->link || !clean(e->path))
        return err_set(err, EPROTO, "an entry's path is not a clean one");
    return 0;
}

static void entry_clear(struct sink_entry *e)
{
    free(e->path);
    free(e->link);
}

static int grow(sink_t *s, struct err *err)
{
    bool *bigger = realloc(s->made, (s->depth + 1) * sizeof *bigger);

    if (!bigger)
        return err_set(err, ENOMEM, "out of memory");
    s->made = bigger;
    s->made[s->depth++] = false;
    return 0;
}

static int on_entry(sink_t *s, const struct frame *f, bool end, struct err *err)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked u;
    CLEANUP(entry_clear) struct sink_entry e = { 0 };
    CLEANUP(cleanup_free) char *name = NULL;
    bool made = false;

    msgpack_unpacked_init(&u);
    if (mp_decode(&u, f->p, f->len, err) < 0 || parse(&u.data, &e, err) < 0)
        return -1;
    if (s->in_file || (end && (e.kind != 'd' || s->depth == 0)))
        return err_set(err, EPROTO, "an entry came out of order");
    if (!wanted(s, e.path))
        return err_set(err, EPROTO, "%s was sent, which nobody asked for", e.path);
    if (!end && e.kind == 'd' && grow(s, err) < 0)
        return -1;
    if (end)
        made = s->made[--s->depth];
    s->in_file = e.kind == 'f';
    if (s->skip) { /* in a folder that could not be made */
        if (end && s->depth < s->skip)
            s->skip = 0;
        return 0;
    }
    if (locate(s, e.path, &name, err) < 0 || !name)
        return -1;
    int rc = 0;
    if (s->parent < 0 || (!*name && e.kind != 'd')) {
        sink_fault(s, s->parent < 0 ? "not a directory" : "is a directory");
        rc = -1;
    } else if (end) {
        end_folder(s, name, &e, made);
    } else if (e.kind == 'd') {
        rc = begin_folder(s, name, &e);
    } else if (e.kind == 'l') {
        put_link(s, name, &e);
    } else {
        sink_file_begin(s, name, &e);
    }
    if (rc < 0 && e.kind == 'd' && !end)
        s->skip = s->depth;
    return 0;
}

int sink_frame(sink_t *s, const struct frame *f, struct err *err)
{
    uint64_t off;

    switch (f->kind) {
    case COPY_ENTRY: return on_entry(s, f, false, err);
    case COPY_DIREND: return on_entry(s, f, true, err);
    case COPY_DATA:
        if (f->len < 8 || !s->in_file)
            break;
        memcpy(&off, f->p, 8);
        return sink_file_data(s, le64toh(off), f->p + 8, f->len - 8, err);
    case COPY_FEND:
        if (f->len != COPY_HASH || !s->in_file)
            break;
        s->in_file = false;
        sink_file_end(s, (const unsigned char *)f->p);
        return 0;
    case COPY_FBAD:
        s->in_file = false;
        sink_file_drop(s, false);
        return 0;
    default: break;
    }
    return err_set(err, EPROTO, "message %d is not understood here", (int)f->kind);
}
