/* append.c - one line more in the configuration, safely */
#include "clients/nodeadd/nodeadd.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_TRIES 250
#define LOCK_PAUSE_MS 20

/* The file, locked against other writers, and still the one at its path. */
static int open_locked(const char *path, struct stat *st, struct err *err)
{
    for (int i = 0; i < LOCK_TRIES; i++) {
        struct stat now;
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd < 0 || fstat(fd, st) < 0) {
            int why = errno;
            if (fd >= 0)
                close(fd);
            return err_set(err, why, "%s: %s", path, strerror(why));
        }
        if (flock(fd, LOCK_EX | LOCK_NB) == 0 && stat(path, &now) == 0 &&
            now.st_ino == st->st_ino && now.st_dev == st->st_dev && fstat(fd, st) == 0)
            return fd;
        close(fd); /* somebody writes, or has put another in its place */
        poll(NULL, 0, LOCK_PAUSE_MS);
    }
    return err_set(err, EBUSY, "%s: another program keeps it locked for writing", path);
}

static int copy(int from, int to, off_t size, bool *newline)
{
    char buf[65536];
    off_t at = 0;

    *newline = true;
    while (at < size) {
        ssize_t n = pread(from, buf, sizeof buf, at);
        if (n <= 0)
            return -1;
        for (ssize_t done = 0, k; done < n; done += k)
            if ((k = write(to, buf + done, (size_t)(n - done))) < 0)
                return -1;
        at += n;
        *newline = buf[n - 1] == '\n';
    }
    return 0;
}

static bool names_mac(const struct cm_config *c, const char *mac)
{
    for (size_t i = 0; i < c->nnodes; i++)
        for (size_t k = 0; k < c->nodes[i].macs.n; k++)
            if (strcmp(c->nodes[i].macs.v[k], mac) == 0)
                return true;
    return false;
}

/* The new file beside the old one, complete and on the disk. */
static int write_new(int old, const struct stat *st, const char *fresh, const char *line,
                     struct err *err)
{
    CLEANUP(cleanup_close) int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                                         0600);
    CLEANUP(cleanup_free) char *text = NULL;
    bool newline;

    if (fd < 0)
        return err_set(err, errno, "%s: %s", fresh, strerror(errno));
    if (copy(old, fd, st->st_size, &newline) < 0 ||
        asprintf(&text, "%s%s\n", newline ? "" : "\n", line) < 0 ||
        write(fd, text, strlen(text)) != (ssize_t)strlen(text) ||
        fchown(fd, st->st_uid, st->st_gid) < 0 || fchmod(fd, st->st_mode & 07777) < 0 ||
        fsync(fd) < 0)
        return err_set(err, errno, "%s: %s", fresh, strerror(errno));
    return 0;
}

int append_line(const char *file, const char *line, const char *mac, struct err *err)
{
    char path[PATH_MAX], fresh[PATH_MAX + 16];
    struct stat st;

    if (!realpath(file, path)) /* a link stays one */
        return err_set(err, errno, "%s: %s", file, strerror(errno));
    snprintf(fresh, sizeof fresh, "%s.nodeadd", path);
    CLEANUP(cleanup_close) int fd = open_locked(path, &st, err);
    if (fd < 0)
        return -1;
    int rc = write_new(fd, &st, fresh, line, err);
    if (rc == 0) {
        /* It is read before it counts: the old one again, and the new one. */
        struct err ignored = { 0 };
        flock(fd, LOCK_SH); /* so that we can read it ourselves */
        CLEANUP(config_free) struct cm_config *old = config_load(path, NULL, &ignored);
        CLEANUP(config_free) struct cm_config *new = config_load(fresh, NULL, err);
        if (old && names_mac(old, mac))
            rc = 1;
        else if (!new)
            rc = -1;
        else if (rename(fresh, path) < 0)
            rc = err_set(err, errno, "%s: %s", path, strerror(errno));
    }
    if (rc != 0)
        unlink(fresh);
    return rc;
}
