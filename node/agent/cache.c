/* cache.c - the cache folder of a node: its files' names, small texts in it */
#include "node/agent/cache.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_MAX (64 << 20)

int cache_open(int root, struct err *err)
{
    char path[] = FILES_CACHE;
    struct place_dir private = { path, 0, 0, 0700 };
    struct place_dirs dirs = { &private, 1 };
    CLEANUP(cleanup_close) int folder = place_folder(root, FILES_CACHE, &dirs, err);

    if (folder < 0)
        return -1;
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && fchown(fd, 0, 0) == 0 && fchmod(fd, 0700) == 0)
        return fd;
    err_set(err, errno, "%s: %s", FILES_CACHE, strerror(errno));
    cleanup_close(&fd);
    return -1;
}

void cache_name(char out[CACHE_NAME], const struct files_want *w)
{
    for (int i = 0; i < FETCH_HASH; i++)
        snprintf(out + 2 * i, 3, "%02x", w->hash[i]);
    snprintf(out + 2 * FETCH_HASH, CACHE_NAME - 2 * FETCH_HASH, ".%u.%u.%o", (unsigned)w->uid,
             (unsigned)w->gid, (unsigned)(w->mode & 07777));
}

bool cache_parse(const char *name, struct files_want *w)
{
    unsigned uid, gid, mode;
    int end = 0;

    if (strlen(name) <= 2 * FETCH_HASH)
        return false;
    for (int i = 0; i < FETCH_HASH; i++) {
        unsigned v;
        if (strspn(name + 2 * i, "0123456789abcdef") < 2 ||
            sscanf(name + 2 * i, "%2x", &v) != 1)
            return false;
        w->hash[i] = (unsigned char)v;
    }
    if (sscanf(name + 2 * FETCH_HASH, ".%u.%u.%o%n", &uid, &gid, &mode, &end) != 3 || !end ||
        name[2 * FETCH_HASH + end] || mode > 07777)
        return false;
    w->uid = uid;
    w->gid = gid;
    w->mode = mode;
    return true;
}

char *cache_read(int cache, const char *name, size_t *len)
{
    struct stat st;
    CLEANUP(cleanup_close) int fd = openat(cache, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > TEXT_MAX)
        return NULL;
    char *text = malloc((size_t)st.st_size + 1);
    size_t got = 0;
    while (text && got < (size_t)st.st_size) {
        ssize_t n = read(fd, text + got, (size_t)st.st_size - got);
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    if (text)
        text[got] = 0;
    *len = got;
    return text;
}

int cache_write(int cache, const char *name, const char *text, struct err *err)
{
    char tmp[64];
    size_t n = strlen(text);

    snprintf(tmp, sizeof tmp, ".new.%s", name);
    unlinkat(cache, tmp, 0);
    CLEANUP(cleanup_close) int fd =
        openat(cache, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text, n) != (ssize_t)n || write(fd, "\n", 1) != 1 ||
        renameat(cache, tmp, cache, name) < 0)
        return err_set(err, errno, "%s/%s: %s", FILES_CACHE, name, strerror(errno));
    return 0;
}

bool cache_same(int cache, const char *name, int root, const char *path)
{
    char a[32768], b[32768];
    CLEANUP(cleanup_close) int ours = openat(cache, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    CLEANUP(cleanup_close) int theirs = place_open(root, path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0);

    if (ours < 0 || theirs < 0)
        return false;
    for (off_t off = 0;;) {
        ssize_t n = pread(ours, a, sizeof a, off);
        if (n < 0 || pread(theirs, b, sizeof b, off) != n || memcmp(a, b, (size_t)n) != 0)
            return false;
        if (n == 0)
            return true;
        off += n;
    }
}
