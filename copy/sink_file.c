/* sink_file.c - one file of the receiving side: grows aside, then takes its place */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>
#include "copy/sink.h"

void sink_temp_name(char out[64])
{
    uint64_t r[2] = { 0, 0 };

    /* Should the kernel give none, the name is merely taken and refused. */
    if (getrandom(r, sizeof r, 0) < 0)
        r[0] = (uint64_t)getpid();
    snprintf(out, 64, ".bpcp-%016llx%016llx", (unsigned long long)r[0], (unsigned long long)r[1]);
}

int sink_dress(sink_t *s, int fd, const struct sink_entry *e, const struct stat *was)
{
    mode_t mode = e->mode & 0777 & ~s->o.umask;
    struct stat st;

    if (was && !s->o.preserve)
        mode = was->st_mode & 0777;
    if (s->root && s->o.preserve && fchown(fd, e->uid, e->gid) < 0)
        return -1;
    if (was && !s->o.preserve) {
        /* For others than root: as far as it goes, as for any file made anew. */
        int rc = fchown(fd, s->root ? was->st_uid : (uid_t)-1, was->st_gid);
        if (rc < 0 && s->root)
            return -1;
    }
    if (s->o.preserve) {
        if (fstat(fd, &st) < 0)
            return -1;
        /* Set-id bits speak of an owner: not without him. */
        mode = e->mode & (st.st_uid == e->uid && st.st_gid == e->gid ? 07777 : 01777);
    }
    return fchmod(fd, mode);
}

/* --- beginning --- */

static bool ours(int fd, int dir, const char *name)
{
    struct stat st, now;

    return flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
           st.st_uid == geteuid() && st.st_nlink == 1 && (st.st_mode & 077) == 0 &&
           fstatat(dir, name, &now, AT_SYMLINK_NOFOLLOW) == 0 && now.st_ino == st.st_ino &&
           now.st_dev == st.st_dev;
}

/* The rest of an earlier try under the tag's name, or a new one. What is there
 * is hashed; that it is right shows at the end. */
static int open_tagged(sink_t *s)
{
    char buf[65536];
    struct stat st;

    snprintf(s->tmp, sizeof s->tmp, ".bpcp-%s", s->e.tag);
    int fd = openat(s->parent, s->tmp, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
                    0600);
    if (fd < 0 || !ours(fd, s->parent, s->tmp) || fstat(fd, &st) < 0 ||
        (uint64_t)st.st_size > s->e.size) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    s->keeps = true;
    while (s->at < (uint64_t)st.st_size) {
        ssize_t n = pread(fd, buf, sizeof buf, (off_t)s->at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        EVP_DigestUpdate(s->md, buf, (size_t)n);
        s->at += (uint64_t)n;
    }
    s->have = s->at;
    return fd;
}

static int open_new(sink_t *s)
{
    sink_temp_name(s->tmp);
    s->keeps = false;
    return openat(s->parent, s->tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

/* Where no file can be made beside it, or it would change its owner. */
static int open_in_place(sink_t *s)
{
    s->tmp[0] = 0;
    s->keeps = false;
    return openat(s->parent, s->target, O_WRONLY | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK |
                  (S_ISREG(s->old.st_mode) ? O_TRUNC : 0) | O_CLOEXEC);
}

static int open_file(sink_t *s, bool named)
{
    bool there = s->old.st_nlink > 0;

    if (there && S_ISDIR(s->old.st_mode)) {
        errno = EISDIR;
        return -1;
    }
    if (there && (S_ISCHR(s->old.st_mode) || S_ISBLK(s->old.st_mode)) && named)
        return open_in_place(s);
    if (there && !S_ISREG(s->old.st_mode) && !S_ISLNK(s->old.st_mode)) {
        errno = EEXIST;
        return -1;
    }
    if (there && S_ISREG(s->old.st_mode) && !s->root && s->old.st_uid != geteuid())
        return open_in_place(s);
    int fd = *s->e.tag ? open_tagged(s) : -1;
    if (fd < 0)
        fd = open_new(s);
    if (fd < 0 && (errno == EACCES || errno == EPERM) && there && S_ISREG(s->old.st_mode))
        fd = open_in_place(s);
    return fd;
}

void sink_file_begin(sink_t *s, const char *name, const struct sink_entry *e)
{
    s->e = *e;
    s->e.path = s->e.link = NULL;
    s->at = s->have = 0;
    s->target = strdup(name);
    s->md = EVP_MD_CTX_new();
    if (!s->target || !s->md || !EVP_DigestInit_ex(s->md, EVP_sha256(), NULL)) {
        sink_fault(s, "out of memory");
        sink_file_drop(s, false);
        return;
    }
    if (fstatat(s->parent, name, &s->old, AT_SYMLINK_NOFOLLOW) < 0)
        memset(&s->old, 0, sizeof s->old);
    s->fd = open_file(s, s->name && s->depth == 0);
    if (s->fd < 0) {
        sink_fault(s, strerror(errno));
        sink_file_drop(s, false);
    }
}

uint64_t sink_have(const sink_t *s)
{
    return s->fd >= 0 ? s->have : UINT64_MAX; /* a dropped file needs nothing */
}

/* --- the bytes --- */

static void zeros(sink_t *s, uint64_t upto)
{
    static const char none[65536];

    while (s->at < upto) {
        size_t n = upto - s->at < sizeof none ? (size_t)(upto - s->at) : sizeof none;
        EVP_DigestUpdate(s->md, none, n);
        s->at += n;
    }
}

int sink_file_data(sink_t *s, uint64_t off, const char *p, size_t len, struct err *err)
{
    if (s->fd < 0)
        return 0;
    if (off > s->e.size || len > s->e.size - off)
        return err_set(err, EPROTO, "%s: data past its end were sent", s->shown);
    if (off + len <= s->at)
        return 0; /* had already */
    if (off < s->at) {
        p += s->at - off;
        len -= (size_t)(s->at - off);
        off = s->at;
    }
    zeros(s, off);
    EVP_DigestUpdate(s->md, p, len);
    s->at += len;
    while (len) {
        /* Devices have no offset to speak of. */
        ssize_t n = S_ISREG(s->old.st_mode) || *s->tmp ? pwrite(s->fd, p, len, (off_t)off)
                                                       : write(s->fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            sink_fault(s, strerror(errno));
            sink_file_drop(s, false);
            return 0;
        }
        p += n;
        off += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

/* --- the end --- */

static int finish(sink_t *s)
{
    const struct stat *was = S_ISREG(s->old.st_mode) && s->old.st_nlink ? &s->old : NULL;
    struct timespec times[2] = { s->e.atime, s->e.mtime };

    if (!*s->tmp && !S_ISREG(s->old.st_mode))
        return 0;
    if (ftruncate(s->fd, (off_t)s->e.size) < 0)
        return -1;
    if ((*s->tmp || s->o.preserve) && sink_dress(s, s->fd, &s->e, was) < 0)
        return -1;
    if (s->o.preserve && futimens(s->fd, times) < 0)
        return -1;
    if (*s->tmp && renameat(s->parent, s->tmp, s->parent, s->target) < 0)
        return -1;
    s->tmp[0] = 0;
    return 0;
}

void sink_file_end(sink_t *s, const unsigned char hash[COPY_HASH])
{
    unsigned char mine[EVP_MAX_MD_SIZE];

    if (s->fd >= 0) {
        zeros(s, s->e.size);
        EVP_DigestFinal_ex(s->md, mine, NULL);
        if (memcmp(mine, hash, COPY_HASH) != 0)
            sink_fault(s, s->have ? "what an earlier try left was not right and is removed; "
                                    "copy it again"
                                  : "differs from its source after the copy");
        else if (finish(s) < 0)
            sink_fault(s, strerror(errno));
    }
    sink_file_drop(s, false);
}

void sink_file_drop(sink_t *s, bool broken)
{
    if (s->fd >= 0 && *s->tmp && !(broken && s->keeps && s->at > 0))
        unlinkat(s->parent, s->tmp, 0);
    s->tmp[0] = 0;
    cleanup_close(&s->fd);
    s->fd = -1;
    EVP_MD_CTX_free(s->md);
    s->md = NULL;
    free(s->target);
    s->target = NULL;
}
