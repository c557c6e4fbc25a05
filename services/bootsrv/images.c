/* images.c - boot images: read, checked, hashed, and known by their hash
 *
 * A file is looked at each time somebody wants it, so a new one is noticed by
 * itself. Hashing is done by a thread, for it takes a while; who asks meanwhile
 * is told EAGAIN. The descriptor of an image is kept: a file that was replaced
 * (renamed over) is served on to those that have begun with it.
 */
#include "services/bootsrv/images.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEEP_OLD 8 /* replaced images that are still served */

struct reading { /* what the thread works on; it alone, until it is told */
    images_t *s;
    pthread_t thread;
    struct image im;
    struct stat st;
    char hash[IMAGE_HASH];
    char *sums;
    struct err err;
};

struct images {
    loop_t *loop;
    int done[2]; /* pipe: pointers to finished readings */
    struct picture *first;
    unsigned running;
    loop_fn *changed;
    void *arg;
};

/* ---- the thread ---- */

static int hash_range(EVP_MD_CTX *c, int fd, uint64_t at, uint64_t size, unsigned char out[32],
                      EVP_MD_CTX *whole)
{
    static _Thread_local unsigned char buf[256 * 1024];
    unsigned len;

    if (EVP_DigestInit_ex(c, EVP_sha256(), NULL) != 1)
        return -1;
    while (size > 0) {
        ssize_t n = pread(fd, buf, size < sizeof buf ? (size_t)size : sizeof buf, (off_t)at);
        if (n <= 0 || EVP_DigestUpdate(c, buf, (size_t)n) != 1 ||
            (whole && EVP_DigestUpdate(whole, buf, (size_t)n) != 1))
            return -1;
        at += (uint64_t)n;
        size -= (uint64_t)n;
    }
    return EVP_DigestFinal_ex(c, out, &len) == 1 ? 0 : -1;
}

static void hex_of(const unsigned char *p, char *out)
{
    for (int i = 0; i < 32; i++)
        snprintf(out + 2 * i, 3, "%02x", p[i]);
}

/* The whole file's hash, and that of each chunk, in one go. */
static int hash_chunks(struct reading *r, EVP_MD_CTX *c, EVP_MD_CTX *whole)
{
    uint64_t n = (r->im.size + IMAGE_CHUNK - 1) / IMAGE_CHUNK;
    unsigned char md[32];
    unsigned len;

    r->sums = calloc(n, 65);
    if (!r->sums || EVP_DigestInit_ex(whole, EVP_sha256(), NULL) != 1)
        return -1;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = i * IMAGE_CHUNK, left = r->im.size - at;
        if (hash_range(c, r->im.fd, at, left < IMAGE_CHUNK ? left : IMAGE_CHUNK, md, whole) < 0)
            return -1;
        hex_of(md, r->sums + i * 65);
        r->sums[i * 65 + 64] = i + 1 < n ? ' ' : '\0';
    }
    if (EVP_DigestFinal_ex(whole, md, &len) != 1)
        return -1;
    hex_of(md, r->hash);
    return 0;
}

static int check_part(struct reading *r, EVP_MD_CTX *c, const struct image_part *p,
                      const char *what)
{
    unsigned char md[32];
    char hex[65];

    if (hash_range(c, r->im.fd, p->offset, p->size, md, NULL) < 0)
        return err_set(&r->err, EIO, "the %s cannot be read", what);
    hex_of(md, hex);
    if (strcmp(hex, p->hash) != 0)
        return err_set(&r->err, EILSEQ, "its %s is not what its header says: a copy that was cut "
                       "or damaged? Make it anew with beoboot", what);
    return 0;
}

static void *read_image(void *arg)
{
    struct reading *r = arg;
    EVP_MD_CTX *c = EVP_MD_CTX_new(), *whole = EVP_MD_CTX_new();
    struct stat after;

    if (!c || !whole || hash_chunks(r, c, whole) < 0)
        err_set(&r->err, EIO, "it cannot be read");
    else if (check_part(r, c, &r->im.kernel, "kernel") == 0 &&
             check_part(r, c, &r->im.initrd, "initramfs") == 0 &&
             (fstat(r->im.fd, &after) < 0 || after.st_mtim.tv_sec != r->st.st_mtim.tv_sec ||
              after.st_mtim.tv_nsec != r->st.st_mtim.tv_nsec || after.st_size != r->st.st_size))
        err_set(&r->err, EAGAIN, "it is being written");
    EVP_MD_CTX_free(c);
    EVP_MD_CTX_free(whole);
    if (write(r->s->done[1], &r, sizeof r) != sizeof r)
        return r; /* joined at the end of the service */
    return NULL;
}

/* ---- the list ---- */

static void picture_free(struct picture *p)
{
    image_close(&p->im);
    free(p->path);
    free(p->sums);
    free(p);
}

static bool same_file(const struct picture *p, const struct stat *st)
{
    return p->dev == st->st_dev && p->ino == st->st_ino && (off_t)p->file_size == st->st_size &&
           p->mtime.tv_sec == st->st_mtim.tv_sec && p->mtime.tv_nsec == st->st_mtim.tv_nsec;
}

static struct picture *current(const images_t *s, const char *path)
{
    for (struct picture *p = s->first; p; p = p->next)
        if (!p->old && strcmp(p->path, path) == 0)
            return p;
    return NULL;
}

static void drop_old(images_t *s)
{
    unsigned n = 0;

    for (struct picture **link = &s->first; *link;) {
        struct picture *p = *link;
        bool drop = p->old && !p->reading && (!p->good || ++n > KEEP_OLD);
        if (drop) {
            *link = p->next;
            picture_free(p);
        } else {
            link = &p->next;
        }
    }
}

static struct picture *add(images_t *s, const char *path)
{
    struct picture *p = calloc(1, sizeof *p);

    if (!p || !(p->path = strdup(path))) {
        free(p);
        return NULL;
    }
    p->im.fd = -1;
    p->next = s->first;
    s->first = p;
    return p;
}

static void failed(images_t *s, struct picture *p, const struct err *err)
{
    (void)s;
    p->code = err->code;
    snprintf(p->why, sizeof p->why, "%.250s", err->text);
    svc_log("error", "image %s: %s", p->path, p->why);
}

/* Opened and its header checked here; its content by the thread. */
static void start(images_t *s, struct picture *p)
{
    struct reading *r = calloc(1, sizeof *r);
    struct err err = { 0 };
    struct stat st;

    if (!r) {
        err_set(&err, ENOMEM, "out of memory");
        failed(s, p, &err);
        return;
    }
    r->s = s;
    r->im.fd = -1;
    if (image_open(p->path, &r->im, &err) < 0 || fstat(r->im.fd, &st) < 0) {
        if (stat(p->path, &st) == 0) { /* not looked at again before it is another */
            p->dev = st.st_dev;
            p->ino = st.st_ino;
            p->file_size = (uint64_t)st.st_size;
            p->mtime = st.st_mtim;
        }
        failed(s, p, &err);
        image_close(&r->im);
        free(r);
        return;
    }
    p->dev = st.st_dev;
    p->ino = st.st_ino;
    p->file_size = (uint64_t)st.st_size;
    p->mtime = st.st_mtim;
    r->st = st;
    int rc = pthread_create(&r->thread, NULL, read_image, r);
    if (rc != 0) {
        err_set(&err, rc, "start a thread: %s", strerror(rc));
        failed(s, p, &err);
        image_close(&r->im);
        free(r);
        return;
    }
    p->reading = r;
    s->running++;
}

static void finish(images_t *s, struct reading *r)
{
    struct picture *p = s->first;

    while (p && p->reading != r)
        p = p->next;
    pthread_join(r->thread, NULL);
    s->running--;
    if (p)
        p->reading = NULL;
    if (p && r->err.code == 0) {
        p->im = r->im;
        p->sums = r->sums;
        memcpy(p->hash, r->hash, sizeof p->hash);
        p->good = true;
        svc_log("info", "image %s: %s, %llu bytes", p->path, p->hash,
                (unsigned long long)p->im.size);
    } else {
        if (p)
            failed(s, p, &r->err);
        if (p && r->err.code == EAGAIN)
            p->mtime.tv_nsec = -1; /* look again */
        image_close(&r->im);
        free(r->sums);
    }
    free(r);
}

static void on_done(void *arg, int fd, uint32_t events)
{
    images_t *s = arg;
    struct reading *r;

    (void)events;
    if (read(fd, &r, sizeof r) != sizeof r)
        return;
    finish(s, r);
    drop_old(s);
    s->changed(s->arg);
}

const struct picture *images_for(images_t *s, const char *path, struct err *err)
{
    struct picture *p = current(s, path);
    struct stat st;

    if (stat(path, &st) < 0) {
        err_set(err, errno, "image %s: %s", path, strerror(errno));
        return NULL;
    }
    if (p && !p->reading && !same_file(p, &st)) {
        p->old = true;
        p = NULL;
        drop_old(s);
    }
    if (!p) {
        p = add(s, path);
        if (!p) {
            err_set(err, ENOMEM, "out of memory");
            return NULL;
        }
        start(s, p);
    }
    if (p->reading)
        err_set(err, EAGAIN, "image %s is being read", path);
    else if (!p->good)
        err_set(err, p->code, "image %s: %s", path, p->why);
    return p->good ? p : NULL;
}

struct picture *images_by_hash(images_t *s, const char *hash, size_t len)
{
    if (len != IMAGE_HASH - 1)
        return NULL;
    for (struct picture *p = s->first; p; p = p->next)
        if (p->good && memcmp(p->hash, hash, len) == 0)
            return p;
    return NULL;
}

const char *images_name(images_t *s, const char *hash)
{
    const struct picture *p = images_by_hash(s, hash, strlen(hash));

    return p ? p->path : NULL;
}

void images_pack(const images_t *s, mp_buf *out)
{
    uint32_t n = 0;

    for (const struct picture *p = s->first; p; p = p->next)
        n++;
    mp_array(out, n);
    for (const struct picture *p = s->first; p; p = p->next) {
        mp_map(out, 7);
        mp_kstr(out, "file", p->path);
        mp_kstr(out, "state", p->reading ? "reading" : !p->good ? "bad" : p->old ? "old" : "good");
        mp_kstr(out, "hash", p->hash);
        mp_kuint(out, "size", p->good ? p->im.size : 0);
        mp_kstr(out, "release", p->good ? p->im.release : "");
        mp_kuint(out, "sent", p->sent);
        mp_kstr(out, "why", p->why);
    }
}

images_t *images_create(loop_t *l, loop_fn *changed, void *arg, struct err *err)
{
    images_t *s = calloc(1, sizeof *s);

    if (!s || pipe2(s->done, O_CLOEXEC) < 0) {
        err_set(err, s ? errno : ENOMEM, "images: %s", strerror(s ? errno : ENOMEM));
        free(s);
        return NULL;
    }
    s->loop = l;
    s->changed = changed;
    s->arg = arg;
    if (loop_fd(l, s->done[0], EPOLLIN, on_done, s, err) < 0) {
        close(s->done[0]);
        close(s->done[1]);
        free(s);
        return NULL;
    }
    return s;
}

void images_destroy(images_t **sp)
{
    images_t *s = *sp;
    struct reading *r;

    if (!s)
        return;
    loop_fd_del(s->loop, s->done[0]);
    while (s->running && read(s->done[0], &r, sizeof r) == sizeof r)
        finish(s, r);
    while (s->first) {
        struct picture *p = s->first;
        s->first = p->next;
        picture_free(p);
    }
    close(s->done[0]);
    close(s->done[1]);
    free(s);
    *sp = NULL;
}
