/* make.c - files, folders, links, devices, libraries */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <unistd.h>
#include "bus/loop.h"
#include "node/nodeset/nodeset.h"

int make_parents(const char *path, struct err *err)
{
    char part[PATH_MAX];

    if (path[0] != '/' || strlen(path) >= sizeof part)
        return err_set(err, EINVAL, "%s: want an absolute path", path);
    for (const char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(p - path), path);
        if (mkdir(part, 0755) < 0 && errno != EEXIST)
            return err_set(err, errno, "make folder %s: %s", part, strerror(errno));
    }
    return 0;
}

struct what { /* path, mode, uid, gid of a step */
    char *path;
    int64_t mode, uid, gid;
};

static void what_free(struct what *w) { free(w->path); }

static int read_what(const msgpack_object_array *a, struct what *w, struct err *err)
{
    return arg_text(a, 1, &w->path, err) < 0 || arg_int(a, 2, &w->mode, err) < 0 ||
                   arg_int(a, 3, &w->uid, err) < 0 || arg_int(a, 4, &w->gid, err) < 0
               ? -1 : make_parents(w->path, err);
}

static int dress(const struct what *w, struct err *err)
{
    if (lchown(w->path, (uid_t)w->uid, (gid_t)w->gid) < 0 ||
        chmod(w->path, (mode_t)w->mode & 07777) < 0)
        return err_set(err, errno, "owner and mode of %s: %s", w->path, strerror(errno));
    return 0;
}

int step_dir(const msgpack_object_array *a, struct bytes *b, struct err *err)
{
    CLEANUP(what_free) struct what w = { 0 };
    struct stat st;

    (void)b;
    if (read_what(a, &w, err) < 0)
        return -1;
    if (mkdir(w.path, 0755) < 0 && errno != EEXIST)
        return err_set(err, errno, "make folder %s: %s", w.path, strerror(errno));
    if (stat(w.path, &st) < 0 || !S_ISDIR(st.st_mode))
        return err_set(err, ENOTDIR, "%s is there and is no folder", w.path);
    return dress(&w, err);
}

/* A new file beside it, then in its place: who has the old one open keeps it. */
int step_file(const msgpack_object_array *a, struct bytes *b, struct err *err)
{
    CLEANUP(what_free) struct what w = { 0 };
    char fresh[PATH_MAX + 16], buf[65536];
    struct stat st;
    int64_t mtime;
    ssize_t n;

    if (read_what(a, &w, err) < 0 || arg_int(a, 5, &mtime, err) < 0)
        return -1;
    if (lstat(w.path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
        return err_set(err, EEXIST, "%s is there and is no file", w.path);
    snprintf(fresh, sizeof fresh, "%s.node_up", w.path);
    CLEANUP(cleanup_close) int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(err, errno, "make %s: %s", fresh, strerror(errno));
    while ((n = bytes_read(b, buf, sizeof buf, err)) > 0) {
        for (ssize_t done = 0, k; done < n; done += k)
            if ((k = write(fd, buf + done, (size_t)(n - done))) < 0) {
                int why = errno;
                unlink(fresh);
                return err_set(err, why, "write %s: %s", w.path, strerror(why));
            }
    }
    const struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, { .tv_sec = mtime } };
    if (n < 0 || fchown(fd, (uid_t)w.uid, (gid_t)w.gid) < 0 ||
        fchmod(fd, (mode_t)w.mode & 07777) < 0 || futimens(fd, times) < 0 ||
        rename(fresh, w.path) < 0) {
        int why = errno;
        unlink(fresh);
        return n < 0 ? -1 : err_set(err, why, "make %s: %s", w.path, strerror(why));
    }
    return 0;
}

static int link_to(const char *path, const char *target, struct err *err)
{
    char fresh[PATH_MAX + 16];
    struct stat st;

    if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return err_set(err, EEXIST, "%s is there and is a folder", path);
    snprintf(fresh, sizeof fresh, "%s.node_up", path);
    unlink(fresh);
    if (symlink(target, fresh) < 0 || rename(fresh, path) < 0)
        return err_set(err, errno, "link %s: %s", path, strerror(errno));
    return 0;
}

int step_link(const msgpack_object_array *a, struct bytes *b, struct err *err)
{
    CLEANUP(cleanup_free) char *path = NULL, *target = NULL;

    (void)b;
    if (arg_text(a, 1, &path, err) < 0 || arg_text(a, 2, &target, err) < 0 ||
        make_parents(path, err) < 0)
        return -1;
    return link_to(path, target, err);
}

int step_dev(const msgpack_object_array *a, struct bytes *b, struct err *err)
{
    CLEANUP(what_free) struct what w = { 0 };
    int64_t rdev;
    struct stat st;

    (void)b;
    if (read_what(a, &w, err) < 0 || arg_int(a, 5, &rdev, err) < 0)
        return -1;
    if (lstat(w.path, &st) == 0) {
        if ((st.st_mode & S_IFMT) != ((mode_t)w.mode & S_IFMT) || st.st_rdev != (dev_t)rdev)
            return err_set(err, EEXIST, "%s is there and is another thing", w.path);
        return 0; /* the kernel's own folder of devices has it */
    }
    if (mknod(w.path, (mode_t)w.mode, (dev_t)rdev) < 0)
        return err_set(err, errno, "make device %s (%u:%u): %s", w.path, major((dev_t)rdev),
                       minor((dev_t)rdev), strerror(errno));
    return dress(&w, err);
}

/* ["libs", seconds, [[path, size, soname]...]]: the agent brings the library
 * list; here it is waited for, and each gets the name that programs ask for. */
static int one_lib(const msgpack_object *row, int64_t end, struct err *err)
{
    CLEANUP(cleanup_free) char *path = NULL, *soname = NULL;
    char link[PATH_MAX];
    struct stat st;
    int64_t size;

    if (row->type != MSGPACK_OBJECT_ARRAY || arg_text(&row->via.array, 0, &path, err) < 0 ||
        arg_int(&row->via.array, 1, &size, err) < 0 ||
        arg_text(&row->via.array, 2, &soname, err) < 0)
        return -1;
    while (stat(path, &st) < 0 || st.st_size != size) {
        if (now_ms() >= end)
            return err_set(err, ETIMEDOUT, "%s has not come: is there room for it? (bplib -l)", path);
        poll(NULL, 0, 20);
    }
    const char *slash = strrchr(path, '/');
    if (!*soname || strcmp(slash + 1, soname) == 0)
        return 0;
    snprintf(link, sizeof link, "%.*s%s", (int)(slash - path) + 1, path, soname);
    if (lstat(link, &st) == 0 && !S_ISLNK(st.st_mode))
        return 0; /* a file of its own: launches have brought it */
    return link_to(link, slash + 1, err);
}

int step_libs(const msgpack_object_array *a, struct bytes *b, struct err *err)
{
    int64_t seconds;

    (void)b;
    if (arg_int(a, 1, &seconds, err) < 0)
        return -1;
    if (a->size < 3 || a->ptr[2].type != MSGPACK_OBJECT_ARRAY)
        return err_set(err, EPROTO, "libs: no list");
    int64_t end = now_ms() + seconds * 1000;
    const msgpack_object_array *list = &a->ptr[2].via.array;
    for (uint32_t i = 0; i < list->size; i++)
        if (one_lib(&list->ptr[i], end, err) < 0)
            return -1;
    note("%u libraries are there", list->size);
    return 0;
}
