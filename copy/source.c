/* source.c - the sending side: walk files, send them to a fan of receivers
 *
 * An entry is an array [kind "d" "f" "l", path, mode, uid, gid, mtime s, ns,
 * atime s, ns, size, link target, tag]. Inside a tree no symlink is followed,
 * unless all are to be (-L). Holes are skipped. A big file is asked about
 * first, and only what is missing is sent; its hash is always of the whole.
 */
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "copy/copy.h"

struct place { /* a name in an open folder, and what it is called */
    int dir;
    const char *name;
    const char *shown; /* here, for messages */
    const char *path;  /* there */
    const struct above *above;
};
struct above { /* the folders that we are in */
    dev_t dev;
    ino_t ino;
    const struct above *up;
};

static void fault(struct source *s, const char *shown, const char *text)
{
    s->fault(s->arg, shown, text);
}

static void send_entry(struct source *s, enum copy_kind kind, const char *what, const char *path,
                       const struct stat *st, const char *link, const char *tag)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_array(&m, 12);
    mp_str(&m, what);
    mp_bin(&m, path, strlen(path));
    mp_int(&m, st->st_mode & 07777);
    mp_uint(&m, st->st_uid);
    mp_uint(&m, st->st_gid);
    mp_int(&m, st->st_mtim.tv_sec);
    mp_int(&m, st->st_mtim.tv_nsec);
    mp_int(&m, st->st_atim.tv_sec);
    mp_int(&m, st->st_atim.tv_nsec);
    mp_int(&m, st->st_size);
    mp_bin(&m, link, strlen(link));
    mp_str(&m, tag);
    fan_send(s->to, kind, m.b.data, m.b.size, NULL, 0);
}

/* --- one file --- */

/* The same for the same content of the same file, so that what is there of an
 * earlier try can be told. */
static int make_tag(const struct source *s, const struct place *p, const struct stat *st,
                    char tag[COPY_TAG + 1], struct err *err)
{
    char text[256];
    unsigned char hash[EVP_MAX_MD_SIZE];

    int n = snprintf(text, sizeof text, "%.60s %llu %llu %lld %lld.%09ld %lld.%09ld", s->place,
                     (unsigned long long)st->st_dev, (unsigned long long)st->st_ino,
                     (long long)st->st_size, (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
                     (long long)st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
    if (!EVP_Digest(text, (size_t)n, hash, NULL, EVP_sha256(), NULL))
        return err_set(err, ENOMEM, "%s: no SHA-256", p->shown);
    for (int i = 0; i < COPY_TAG / 2; i++)
        snprintf(tag + 2 * i, 3, "%02x", hash[i]);
    return 0;
}

static void hash_zeros(EVP_MD_CTX *md, uint64_t n)
{
    static const char zeros[65536];

    for (; n; n -= n < sizeof zeros ? n : sizeof zeros)
        EVP_DigestUpdate(md, zeros, n < sizeof zeros ? (size_t)n : sizeof zeros);
}

/* Where the next data are at or after off; size when there are none. */
static off_t next_data(int fd, off_t off, off_t size, off_t *end)
{
    off_t at = lseek(fd, off, SEEK_DATA);

    *end = size;
    if (at < 0)
        return errno == ENXIO ? size : off; /* a file system that cannot tell */
    if (at >= size)
        return size;
    off_t hole = lseek(fd, at, SEEK_HOLE);
    if (hole > at && hole < size)
        *end = hole;
    return at;
}

/* 0, or -1 with *err: the file is not as it was said to be. */
static int send_data(struct source *s, const struct place *p, int fd, off_t size, uint64_t have,
                     EVP_MD_CTX *md, struct err *err)
{
    off_t end = 0;

    for (off_t off = 0; off < size;) {
        if (off >= end) {
            off_t at = next_data(fd, off, size, &end);
            hash_zeros(md, (uint64_t)(at - off));
            off = at;
            if (off >= size)
                break;
        }
        size_t want = end - off < COPY_CHUNK ? (size_t)(end - off) : COPY_CHUNK;
        ssize_t n = pread(fd, s->buf, want, off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, errno, "%s", strerror(errno));
        if (n == 0)
            return err_set(err, EIO, "became shorter while it was read");
        EVP_DigestUpdate(md, s->buf, (size_t)n);
        if ((uint64_t)(off + n) > have) {
            uint64_t at = htole64((uint64_t)off);
            fan_send(s->to, COPY_DATA, &at, sizeof at, s->buf, (size_t)n);
            if (!fan_alive(s->to))
                return 0;
        }
        off += n;
        s->bytes += (uint64_t)n;
        if (s->progress)
            s->progress(s->arg, p->shown, s->bytes);
    }
    return 0;
}

static void file(struct source *s, const struct place *p, int fd, const struct stat *st,
                 struct err *err)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    char tag[COPY_TAG + 1] = "";
    struct err why = { 0 };
    uint64_t have = 0;
    struct stat after;

    if (st->st_size >= COPY_BIG && make_tag(s, p, st, tag, err) < 0)
        return;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    if (!md || !EVP_DigestInit_ex(md, EVP_sha256(), NULL)) {
        EVP_MD_CTX_free(md);
        err_set(err, ENOMEM, "%s: no SHA-256", p->shown);
        return;
    }
    send_entry(s, COPY_ENTRY, "f", p->path, st, "", tag);
    if (*tag) {
        fan_send(s->to, COPY_ASK, NULL, 0, NULL, 0);
        fan_flush(s->to);
        have = fan_have(s->to, (uint64_t)st->st_size);
    }
    int rc = send_data(s, p, fd, st->st_size, have, md, &why);
    if (rc == 0 && fstat(fd, &after) == 0 &&
        (after.st_size != st->st_size || after.st_mtim.tv_sec != st->st_mtim.tv_sec ||
         after.st_mtim.tv_nsec != st->st_mtim.tv_nsec))
        rc = err_set(&why, EBUSY, "changed while it was read");
    EVP_DigestFinal_ex(md, hash, NULL);
    EVP_MD_CTX_free(md);
    if (rc == 0) {
        fan_send(s->to, COPY_FEND, hash, COPY_HASH, NULL, 0);
        return;
    }
    fan_send(s->to, COPY_FBAD, NULL, 0, NULL, 0);
    fault(s, p->shown, why.text);
}

static void symlink_of(struct source *s, const struct place *p, const struct stat *st)
{
    char target[PATH_MAX + 1];
    ssize_t n = readlinkat(p->dir, p->name, target, PATH_MAX);

    if (n < 0) {
        fault(s, p->shown, strerror(errno));
        return;
    }
    target[n] = 0;
    send_entry(s, COPY_ENTRY, "l", p->path, st, target, "");
}

/* --- folders --- */

struct names {
    char **v;
    size_t n;
};

static void names_free(struct names *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i]);
    free(l->v);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All at once: what a copy into the same folder adds is not walked. */
static int names_of(int fd, struct names *l, struct err *err)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
    const struct dirent *e;
    size_t room = 0;

    if (!d) {
        err_set(err, errno, "%s", strerror(errno));
        cleanup_close(&copy);
        return -1;
    }
    while (errno = 0, (e = readdir(d))) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (l->n == room) {
            room = room ? 2 * room : 64;
            char **bigger = realloc(l->v, room * sizeof *bigger);
            if (!bigger)
                break;
            l->v = bigger;
        }
        if (!(l->v[l->n] = strdup(e->d_name)))
            break;
        l->n++;
    }
    int code = errno;
    closedir(d);
    if (code)
        return err_set(err, code, "%s", strerror(code));
    if (l->n)
        qsort(l->v, l->n, sizeof *l->v, compare);
    return 0;
}

static void visit(struct source *s, const struct place *p, bool follow, struct err *err);

static void folder(struct source *s, const struct place *p, int fd, const struct stat *st,
                   struct err *err)
{
    CLEANUP(names_free) struct names l = { 0 };
    struct above here = { st->st_dev, st->st_ino, p->above };
    struct err why = { 0 };

    if (!s->recurse) {
        fault(s, p->shown, "is a directory; -r copies it");
        return;
    }
    for (const struct above *a = p->above; a; a = a->up)
        if (a->dev == st->st_dev && a->ino == st->st_ino) {
            fault(s, p->shown, "leads back into itself");
            return;
        }
    if (names_of(fd, &l, &why) < 0) {
        fault(s, p->shown, why.text);
        return;
    }
    send_entry(s, COPY_ENTRY, "d", p->path, st, "", "");
    for (size_t i = 0; i < l.n && !err->code && fan_alive(s->to); i++) {
        CLEANUP(cleanup_free) char *shown = NULL, *path = NULL;
        const char *slash = p->shown[strlen(p->shown) - 1] == '/' ? "" : "/";

        if (asprintf(&shown, "%s%s%s", p->shown, slash, l.v[i]) < 0 ||
            asprintf(&path, "%s/%s", p->path, l.v[i]) < 0) {
            err_set(err, ENOMEM, "out of memory");
            break;
        }
        visit(s, &(struct place){ fd, l.v[i], shown, path, &here }, s->follow == LINKS_ALL, err);
    }
    send_entry(s, COPY_DIREND, "d", p->path, st, "", "");
}

/* Whatever is there. *err only for what ends the whole copy. */
static void visit(struct source *s, const struct place *p, bool follow, struct err *err)
{
    struct stat st;

    if (fstatat(p->dir, p->name, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0) {
        fault(s, p->shown, strerror(errno));
        return;
    }
    if (S_ISLNK(st.st_mode)) {
        symlink_of(s, p, &st);
        return;
    }
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
        fault(s, p->shown, "not a plain file");
        return;
    }
    CLEANUP(cleanup_close) int fd = openat(p->dir, p->name, O_RDONLY | O_NONBLOCK | O_NOCTTY |
                                           O_CLOEXEC | (follow ? 0 : O_NOFOLLOW));
    if (fd < 0 || fstat(fd, &st) < 0)
        fault(s, p->shown, strerror(errno));
    else if (S_ISREG(st.st_mode))
        file(s, p, fd, &st, err);
    else if (S_ISDIR(st.st_mode))
        folder(s, p, fd, &st, err);
    else
        fault(s, p->shown, "not a plain file");
}

char *source_name(const char *path)
{
    size_t end = strlen(path);

    while (end && path[end - 1] == '/')
        end--;
    size_t from = end;
    while (from && path[from - 1] != '/')
        from--;
    if (end == from || (end - from == 1 && path[from] == '.') ||
        (end - from == 2 && path[from] == '.' && path[from + 1] == '.'))
        return strdup(".");
    return strndup(path + from, end - from);
}

int source_run(struct source *s, char *const *path, size_t n, struct err *err)
{
    struct err bad = { 0 };

    s->buf = malloc(COPY_CHUNK);
    if (!s->buf)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < n && !bad.code && fan_alive(s->to); i++) {
        CLEANUP(cleanup_free) char *name = source_name(path[i]);

        if (!name)
            err_set(&bad, ENOMEM, "out of memory");
        else
            visit(s, &(struct place){ AT_FDCWD, path[i], path[i], name, NULL },
                  s->follow != LINKS_NEVER, &bad);
    }
    free(s->buf);
    s->buf = NULL;
    return bad.code ? err_set(err, bad.code, "%s", bad.text) : 0;
}
