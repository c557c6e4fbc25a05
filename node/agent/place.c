/* place.c - paths inside a node's root, whatever is on the node */
#include "node/agent/place.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

int place_check(const char *path, struct err *err)
{
    const char *p = path;

    if (*p != '/' || strlen(path) >= PATH_MAX)
        return err_set(err, EPROTO, "path \"%.80s\": want an absolute path", path);
    while (*p) {
        p++; /* the slash */
        size_t n = strcspn(p, "/");
        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.') ||
            n > NAME_MAX)
            return err_set(err, EPROTO, "path \"%.80s\": empty, dotted or overlong part",
                           path);
        p += n;
    }
    return 0;
}

int place_open(int root, const char *path, int flags, mode_t mode)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
        .mode = flags & (O_CREAT | O_TMPFILE) ? mode : 0,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    long fd;

    /* EAGAIN: somebody renamed folders above while the kernel looked. */
    for (int i = 0; i < 64; i++) {
        fd = syscall(SYS_openat2, root, path, &how, sizeof how);
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
            break;
    }
    return (int)fd;
}

int place_stat(int root, const char *path, struct stat *st)
{
    CLEANUP(cleanup_close) int fd = place_open(root, path, O_PATH | O_NOFOLLOW, 0);

    return fd < 0 ? -1 : fstat(fd, st);
}

/* Make folder name in parent; it is open when this returns. */
static int make_folder(int parent, const char *name, const char *path,
                       const struct place_dirs *dirs, struct err *err)
{
    const struct place_dir root_owned = { .mode = 0755 };
    const struct place_dir *as = &root_owned;
    struct stat st;

    for (size_t i = 0; dirs && i < dirs->n; i++)
        if (!strcmp(dirs->dir[i].path, path))
            as = &dirs->dir[i];
    if (mkdirat(parent, name, 0700) < 0) {
        if (errno != EEXIST)
            return err_set(err, errno, "make folder %s: %s", path, strerror(errno));
        /* Made by somebody just now, or a symlink to nowhere. */
        int there = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (there >= 0)
            return there;
        return err_set(err, ENOTDIR, "make folder %s: something else is there on the node",
                       path);
    }
    CLEANUP(cleanup_close) int fd =
        openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    /* The one just made is root's; another would be somebody's trick. */
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != 0)
        return err_set(err, EPERM, "make folder %s: it was exchanged", path);
    if (fchown(fd, as->uid, as->gid) < 0 || fchmod(fd, as->mode & 07777) < 0)
        return err_set(err, errno, "folder %s: owner and mode: %s", path, strerror(errno));
    int out = fd;
    fd = -1;
    return out;
}

int place_folder(int root, const char *path, const struct place_dirs *dirs, struct err *err)
{
    CLEANUP(cleanup_close) int fd = place_open(root, path, O_PATH | O_DIRECTORY, 0);

    if (fd < 0 && errno != ENOENT)
        return err_set(err, errno, "folder %s: %s", path, strerror(errno));
    if (fd < 0) { /* the one above first */
        CLEANUP(cleanup_free) char *up = strdup(path);
        char *slash = up ? strrchr(up, '/') : NULL;
        if (!slash)
            return err_set(err, up ? EPROTO : ENOMEM, "folder %s: no such folder", path);
        *slash = 0;
        CLEANUP(cleanup_close) int parent =
            place_folder(root, slash == up ? "/" : up, dirs, err);
        if (parent < 0)
            return -1;
        fd = make_folder(parent, slash + 1, path, dirs, err);
        if (fd < 0)
            return -1;
    }
    int out = fd;
    fd = -1;
    return out;
}

static int copy_bytes(int in, int out)
{
    char buf[65536];

    for (;;) {
        ssize_t n = read(in, buf, sizeof buf);
        if (n <= 0)
            return (int)n;
        for (ssize_t done = 0; done < n;) {
            ssize_t w = write(out, buf + done, (size_t)(n - done));
            if (w < 0)
                return -1;
            done += w;
        }
    }
}

static int copy_file(int cache, const char *name, int folder, const char *tmp)
{
    struct stat st;
    CLEANUP(cleanup_close) int in = openat(cache, name, O_RDONLY | O_CLOEXEC);
    if (in < 0 || fstat(in, &st) < 0)
        return -1;
    CLEANUP(cleanup_close) int out =
        openat(folder, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (out < 0)
        return -1;
    if (copy_bytes(in, out) < 0 || fchown(out, st.st_uid, st.st_gid) < 0)
        return -1;
    return fchmod(out, st.st_mode & 07777);
}

int place_file(int cache, const char *name, int root, const char *path,
               const struct place_dirs *dirs, bool *copied, struct stat *st,
               struct err *err)
{
    CLEANUP(cleanup_free) char *up = strdup(path);
    char tmp[32];
    uint64_t random;

    if (!up)
        return err_set(err, ENOMEM, "%s: out of memory", path);
    char *slash = strrchr(up, '/');
    *slash = 0;
    const char *base = slash + 1;
    CLEANUP(cleanup_close) int folder = place_folder(root, slash == up ? "/" : up, dirs, err);
    if (folder < 0)
        return -1;
    if (getrandom(&random, sizeof random, 0) != sizeof random)
        return err_set(err, errno, "random: %s", strerror(errno));
    snprintf(tmp, sizeof tmp, ".cm-%016llx", (unsigned long long)random);
    *copied = false;
    int rc = linkat(cache, name, folder, tmp, 0);
    if (rc < 0 && errno == EXDEV) {
        *copied = true;
        rc = copy_file(cache, name, folder, tmp);
    }
    if (rc == 0)
        rc = fstatat(folder, tmp, st, AT_SYMLINK_NOFOLLOW);
    if (rc == 0)
        rc = renameat(folder, tmp, folder, base);
    if (rc < 0)
        err_set(err, errno, "put %s on the node: %s", path, strerror(errno));
    /* Renaming one link of an inode onto another leaves both, by POSIX: take
     * the temporary one away in any case. */
    unlinkat(folder, tmp, 0);
    if (rc == 0 && fstatat(folder, base, st, AT_SYMLINK_NOFOLLOW) < 0)
        rc = err_set(err, errno, "put %s on the node: %s", path, strerror(errno));
    return rc;
}

void place_remove(int root, const char *path, dev_t dev, ino_t ino)
{
    CLEANUP(cleanup_free) char *up = strdup(path);
    struct stat st;

    if (!up)
        return;
    char *slash = strrchr(up, '/');
    *slash = 0;
    CLEANUP(cleanup_close) int folder =
        place_open(root, slash == up ? "/" : up, O_PATH | O_DIRECTORY, 0);
    if (folder >= 0 && fstatat(folder, slash + 1, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        st.st_dev == dev && st.st_ino == ino)
        unlinkat(folder, slash + 1, 0);
}
