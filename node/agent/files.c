/* files.c - the files a launch needs: by content, cached, placed */
#include "node/agent/files.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "bus/svc.h"
#include "node/agent/cache.h"

#define PLACES "places"
#define SOURCES 3 /* that content is looked for at, after the first */
#define ROUNDS 3 /* times a file may turn out changed before a launch gives up */

/* What a file looked like when its content was known: any write, chmod or
 * link since then shows, since nobody can set ctime. */
struct stamp {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime, ctime;
};

enum state {
    ABSENT,  /* being fetched, or failed and about to be forgotten */
    UNKNOWN, /* the file is there, its content was not looked at by us */
    HAVE,
};

struct content {
    char name[CACHE_NAME]; /* HASH.uid.gid.mode */
    unsigned char hash[FETCH_HASH];
    uint64_t size;
    uid_t uid;
    gid_t gid;
    mode_t mode;
    enum state state;
    struct stamp stamp; /* HAVE */
    struct fetch_job *job;
    bool retried;       /* the job, when there was room all the same */
    unsigned sources;   /* that it was tried from, after the first */
    uint32_t holds;
    uint64_t used;      /* when, by files->clock */
    struct place *places;
    struct content *next, **link;
};

struct place {
    char *path;
    struct content *content;
    bool copied;        /* another file system: no link, a stamp of its own */
    struct stamp stamp; /* copied */
    struct place *next; /* of the same content */
};

struct held {
    struct content *c;
    int rounds;
    bool waiting;
};

struct files_hold {
    int chroot; /* the folder rq.prefix; -1: the node's root */
    struct held *file;
    size_t n;
    size_t waiting;
    struct files_request rq;
    files_done_fn *cb;
    void *arg;
    files_hold_t *next, **link; /* of those waiting; link NULL: not in there */
};

struct files {
    int root, cache;
    fetch_t *fetch;
    void *by_name, *by_path; /* tsearch trees of content, place */
    struct content *all;
    files_hold_t *waiting;
    uint64_t clock;
    int places_fd; /* -1: places are not written down */
};

static int cmp_content(const void *a, const void *b)
{
    return strcmp(((const struct content *)a)->name, ((const struct content *)b)->name);
}

static int cmp_place(const void *a, const void *b)
{
    return strcmp(((const struct place *)a)->path, ((const struct place *)b)->path);
}

/* ---- stamps ---- */

static struct stamp stamp_of(const struct stat *st)
{
    return (struct stamp){ st->st_dev, st->st_ino, st->st_size, st->st_mtim, st->st_ctim };
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool intact(const struct stamp *s, const struct stat *st)
{
    return s->dev == st->st_dev && s->ino == st->st_ino && s->size == st->st_size &&
           same_time(s->mtime, st->st_mtim) && same_time(s->ctime, st->st_ctim);
}

/* Is the cached file as it was when it was hashed? */
static bool cache_intact(const files_t *f, const struct content *c)
{
    struct stat st;

    return c->state == HAVE &&
           fstatat(f->cache, c->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && intact(&c->stamp, &st);
}

/* We linked or unlinked it ourselves, which changes ctime. */
static void restamp(files_t *f, struct content *c)
{
    struct stat st;

    if (fstatat(f->cache, c->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        c->stamp = stamp_of(&st);
    else
        c->state = UNKNOWN;
}

/* ---- tables ---- */

static struct content *content_get(files_t *f, const struct files_want *w, struct err *err)
{
    struct content key;

    cache_name(key.name, w);
    struct content **at = tfind(&key, &f->by_name, cmp_content);
    if (at)
        return *at;
    struct content *c = calloc(1, sizeof *c);
    if (!c)
        goto none;
    memcpy(c->name, key.name, sizeof c->name);
    memcpy(c->hash, w->hash, sizeof c->hash);
    c->size = w->size;
    c->uid = w->uid;
    c->gid = w->gid;
    c->mode = w->mode & 07777;
    if (!tsearch(c, &f->by_name, cmp_content))
        goto none;
    c->next = f->all;
    c->link = &f->all;
    if (f->all)
        f->all->link = &c->next;
    f->all = c;
    return c;
none:
    free(c);
    err_set(err, ENOMEM, "%s: out of memory", w->path);
    return NULL;
}

static void content_forget(files_t *f, struct content *c)
{
    while (c->places) {
        struct place *p = c->places;
        c->places = p->next;
        tdelete(p, &f->by_path, cmp_place);
        free(p->path);
        free(p);
    }
    tdelete(c, &f->by_name, cmp_content);
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    free(c);
}

static struct place *place_find(files_t *f, const char *path)
{
    struct place key = { .path = (char *)(uintptr_t)path };
    struct place **at = tfind(&key, &f->by_path, cmp_place);

    return at ? *at : NULL;
}

/* path now is content c. Best effort: without the memory for it the path is
 * only looked at anew next time. */
static struct place *place_note(files_t *f, const char *path, struct content *c)
{
    struct place *p = place_find(f, path);

    if (p && p->content == c)
        return p;
    if (p) {
        struct place **at = &p->content->places;
        while (*at != p)
            at = &(*at)->next;
        *at = p->next;
    } else {
        p = calloc(1, sizeof *p);
        if (!p || !(p->path = strdup(path)) || !tsearch(p, &f->by_path, cmp_place)) {
            if (p)
                free(p->path);
            free(p);
            return NULL;
        }
    }
    p->content = c;
    p->next = c->places;
    c->places = p;
    return p;
}

/* ---- CACHE/places: NUL-ended pairs of content name and path ---- */

static void places_append(const files_t *f, const struct place *p)
{
    size_t a = strlen(p->content->name) + 1, b = strlen(p->path) + 1;
    CLEANUP(cleanup_free) char *rec = malloc(a + b);

    if (!rec || f->places_fd < 0)
        return;
    memcpy(rec, p->content->name, a);
    memcpy(rec + a, p->path, b);
    /* A full disk costs only this: the next agent finds the link by itself
     * when the path is asked for, but cannot evict it before. */
    if (write(f->places_fd, rec, a + b) != (ssize_t)(a + b))
        svc_log("warning", "%s: %s is not noted: %s", PLACES, p->path, strerror(errno));
}

static void places_load(files_t *f)
{
    size_t len = 0;
    CLEANUP(cleanup_free) char *text = cache_read(f->cache, PLACES, &len);

    for (char *p = text, *end = text + len; text && p < end;) {
        struct content key;
        char *path = p + strlen(p) + 1;
        if (path >= end)
            break;
        char *next = path + strlen(path) + 1;
        if (strlen(p) < sizeof key.name) {
            snprintf(key.name, sizeof key.name, "%s", p);
            struct content **at = tfind(&key, &f->by_name, cmp_content);
            struct stat st;
            /* Only what is still so. */
            if (at && place_check(path, NULL) == 0 && place_stat(f->root, path, &st) == 0 &&
                st.st_ino == (*at)->stamp.ino && st.st_dev == (*at)->stamp.dev)
                place_note(f, path, *at);
        }
        p = next;
    }
    f->places_fd = openat(f->cache, PLACES,
                          O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    for (const struct content *c = f->all; c; c = c->next)
        for (const struct place *q = c->places; q; q = q->next)
            places_append(f, q);
}

/* ---- what an earlier agent left ---- */

static int scan(files_t *f, struct err *err)
{
    int fd = openat(f->cache, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    if (!d) {
        int code = errno;
        if (fd >= 0)
            close(fd);
        return err_set(err, code, "%s: %s", FILES_CACHE, strerror(code));
    }
    while ((e = readdir(d))) {
        struct files_want w = { .path = e->d_name };
        struct stat st;
        if (!strncmp(e->d_name, ".new.", 5))
            unlinkat(f->cache, e->d_name, 0); /* half a file */
        if (!cache_parse(e->d_name, &w) ||
            fstatat(f->cache, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
            continue;
        w.size = (uint64_t)st.st_size;
        struct content *c = content_get(f, &w, err);
        if (!c) {
            closedir(d);
            return -1;
        }
        c->stamp = stamp_of(&st);
        /* What only root could have changed is believed; root on the node can
         * change us as well. The rest is hashed when it is wanted. */
        bool roots = st.st_uid == 0 && w.uid == 0 && !(st.st_mode & 022) &&
                     (st.st_mode & 07777) == w.mode;
        c->state = roots ? HAVE : UNKNOWN;
    }
    closedir(d);
    return 0;
}

/* ---- room ---- */

static void evict(files_t *f, struct content *c)
{
    for (const struct place *p = c->places; p; p = p->next)
        place_remove(f->root, p->path, p->copied ? p->stamp.dev : c->stamp.dev,
                     p->copied ? p->stamp.ino : c->stamp.ino);
    unlinkat(f->cache, c->name, 0);
    content_forget(f, c);
}

static uint64_t room_left(const files_t *f)
{
    struct statvfs v;

    return fstatvfs(f->cache, &v) < 0 ? 0 : (uint64_t)v.f_bavail * v.f_frsize;
}

static bool may_go(const struct content *c)
{
    return !c->holds && !c->job && c->size;
}

/* Throw out what was not used for longest, until bytes are free. false: all
 * that may go would not be enough; it stays then. */
static bool make_room(files_t *f, uint64_t bytes)
{
    uint64_t room = room_left(f), most = room;
    size_t gone = 0;

    for (const struct content *c = f->all; c; c = c->next)
        if (may_go(c))
            most += c->size;
    /* One at least: the file system may be out of something else than bytes. */
    while (most >= bytes && (room < bytes || !gone)) {
        struct content *oldest = NULL;
        for (struct content *c = f->all; c; c = c->next)
            if (may_go(c) && (!oldest || c->used < oldest->used))
                oldest = c;
        if (!oldest)
            break;
        room += oldest->size;
        gone++;
        evict(f, oldest);
    }
    return gone > 0;
}

static int no_room(const files_t *f, const char *path, uint64_t size, struct err *err)
{
    return err_set(err, ENOSPC,
                   "%s (%" PRIu64 " kB) does not fit: No space left on device; node root has "
                   "%" PRIu64 " kB free", path, (size + 1023) / 1024, room_left(f) / 1024);
}

/* ---- providing ---- */

static int hold_root(const files_t *f, const files_hold_t *h)
{
    return h->chroot >= 0 ? h->chroot : f->root;
}

static void full_path(char *out, size_t room, const files_hold_t *h, const char *path)
{
    snprintf(out, room, "%s%s", h->rq.prefix ? h->rq.prefix : "", path);
}

/* Is the file in place already? One look, no content read. */
static bool in_place(files_t *f, const files_hold_t *h, const struct content *c,
                     const struct files_want *w, const char *path)
{
    const struct place *p = place_find(f, path);
    struct stat st;

    if (!p || p->content != c || c->state != HAVE ||
        place_stat(hold_root(f, h), w->path, &st) < 0)
        return false;
    return intact(p->copied ? &p->stamp : &c->stamp, &st);
}

enum stood { NOTHING, OURS, FOREIGN }; /* what is about to be replaced */

/* Other content at the path? What we did not put there ourselves is read. */
static enum stood what_stood(const files_t *f, const struct content *c, const files_hold_t *h,
                             const struct files_want *w, const struct place *was)
{
    struct stat st;

    if (!h->rq.replaced || place_stat(hold_root(f, h), w->path, &st) < 0 || S_ISDIR(st.st_mode))
        return NOTHING;
    if (was && intact(was->copied ? &was->stamp : &was->content->stamp, &st))
        return memcmp(was->content->hash, c->hash, FETCH_HASH) ? OURS : NOTHING;
    if (S_ISREG(st.st_mode) && (uint64_t)st.st_size == c->size &&
        cache_same(f->cache, c->name, hold_root(f, h), w->path))
        return NOTHING;
    return FOREIGN;
}

static int put(files_t *f, struct content *c, files_hold_t *h, const struct files_want *w,
               const char *path, struct err *err)
{
    struct place *was = place_find(f, path);
    /* The file that stands there loses a link: its ctime moves too. */
    bool was_intact = was && was->content != c && cache_intact(f, was->content);
    enum stood stood = what_stood(f, c, h, w, was);
    struct stat st;
    bool copied;

    if (place_file(f->cache, c->name, hold_root(f, h), w->path, h->rq.dirs, &copied, &st,
                   err) < 0)
        return -1;
    if (was_intact)
        restamp(f, was->content);
    restamp(f, c);
    struct place *p = place_note(f, path, c);
    if (p) {
        p->copied = copied;
        p->stamp = stamp_of(&st);
        places_append(f, p);
    }
    if (stood != NOTHING)
        h->rq.replaced(h->arg, w, stood == OURS);
    return 0;
}

static void on_fetched(void *arg, struct fetch_job *job);

static int start_job(files_t *f, struct content *c, const files_hold_t *h, const char *path,
                     struct err *err)
{
    struct fetch_job *job = calloc(1, sizeof *job);

    if (!job || !(job->name = strdup(c->name)) || !(job->path = strdup(path))) {
        fetch_job_free(job);
        return err_set(err, ENOMEM, "%s: out of memory", path);
    }
    for (struct content *t = f->all; t && c->state == ABSENT; t = t->next)
        if (t != c && t->state == HAVE && !memcmp(t->hash, c->hash, FETCH_HASH)) {
            job->twin = strdup(t->name);
            break;
        }
    job->check = c->state == UNKNOWN;
    memcpy(job->hash, c->hash, FETCH_HASH);
    job->size = c->size;
    job->uid = c->uid;
    job->gid = c->gid;
    job->mode = c->mode;
    job->from = *h->rq.from;
    job->owner = c;
    c->job = job;
    fetch_start(f->fetch, job);
    return 0;
}

/* Bring file i of a hold as far as it goes now: in place, or waiting. */
static int advance(files_t *f, files_hold_t *h, size_t i, struct err *err)
{
    struct held *x = &h->file[i];
    const struct files_want *w = &h->rq.want[i];
    struct content *c = x->c;
    char path[2 * PATH_MAX];

    full_path(path, sizeof path, h, w->path);
    c->used = ++f->clock;
    if (in_place(f, h, c, w, path))
        return 0;
    if (c->state == HAVE && !cache_intact(f, c))
        c->state = UNKNOWN;
    if (c->state == HAVE) {
        struct err e = { 0 };
        int rc = put(f, c, h, w, path, &e);
        while (rc < 0 && e.code == ENOSPC && make_room(f, w->size))
            rc = put(f, c, h, w, path, &e);
        if (rc < 0 && e.code == ENOSPC)
            return no_room(f, path, w->size, err);
        if (rc < 0)
            return err_set(err, e.code, "%s", e.text);
        return 0;
    }
    if (++x->rounds > ROUNDS)
        return err_set(err, EBUSY, "%s: something on the node keeps changing it", path);
    if (!c->job) {
        c->retried = false;
        c->sources = 0;
        if (start_job(f, c, h, path, err) < 0)
            return -1;
    }
    x->waiting = true;
    h->waiting++;
    return 0;
}

static void hold_unlist(files_hold_t *h)
{
    if (!h->link)
        return;
    *h->link = h->next;
    if (h->next)
        h->next->link = h->link;
    h->link = NULL;
}

void files_drop(files_t *f, files_hold_t **hp)
{
    files_hold_t *h = *hp;

    if (!h)
        return;
    hold_unlist(h);
    for (size_t i = 0; i < h->n; i++) {
        struct content *c = h->file[i].c;
        if (c && --c->holds == 0 && c->state == ABSENT && !c->job)
            content_forget(f, c);
    }
    if (h->chroot >= 0)
        close(h->chroot);
    free(h->file);
    free(h);
    *hp = NULL;
}

int files_provide(files_t *f, const struct files_request *rq, files_done_fn *cb, void *arg,
                  files_hold_t **hold, struct err *err)
{
    files_hold_t *h = calloc(1, sizeof *h);

    if (h)
        h->file = calloc(rq->wants + 1, sizeof *h->file);
    if (!h || !h->file) {
        free(h);
        return err_set(err, ENOMEM, "out of memory");
    }
    h->chroot = -1;
    h->rq = *rq;
    h->cb = cb;
    h->arg = arg;
    if (rq->prefix) {
        h->chroot = place_open(f->root, rq->prefix, O_PATH | O_DIRECTORY, 0);
        if (h->chroot < 0) {
            err_set(err, errno, "the node's root %s: %s", rq->prefix, strerror(errno));
            files_drop(f, &h);
            return -1;
        }
    }
    /* Hold all of it first: making room for one must not take another. */
    for (; h->n < rq->wants; h->n++) {
        struct content *c = content_get(f, &rq->want[h->n], err);
        if (!c) {
            files_drop(f, &h);
            return -1;
        }
        c->holds++;
        h->file[h->n].c = c;
    }
    for (size_t i = 0; i < h->n; i++)
        if (advance(f, h, i, err) < 0) {
            files_drop(f, &h);
            return -1;
        }
    *hold = h;
    if (!h->waiting)
        return 0;
    h->next = f->waiting;
    h->link = &f->waiting;
    if (f->waiting)
        f->waiting->link = &h->next;
    f->waiting = h;
    return 1;
}

/* Something this hold waited for is there, or is not to be had. */
static void hold_wake(files_t *f, files_hold_t *h, const struct content *c,
                      const struct err *failed)
{
    struct err err = { 0 };
    bool bad = false;

    for (size_t i = 0; i < h->n && !bad; i++) {
        struct held *x = &h->file[i];
        if (x->c != c || !x->waiting)
            continue;
        x->waiting = false;
        h->waiting--;
        if (failed)
            bad = err_set(&err, failed->code, "%s", failed->text) < 0;
        else
            bad = advance(f, h, i, &err) < 0;
    }
    if (!bad && h->waiting)
        return;
    hold_unlist(h);
    h->cb(h->arg, bad ? &err : NULL);
}

static void wake_all(files_t *f, struct content *c, const struct err *failed)
{
    /* A callback may drop holds and provide anew: start over after each. A
     * hold that was woken no longer waits for c, so this ends. */
    c->holds++;
    for (bool again = true; again;) {
        again = false;
        for (files_hold_t *h = f->waiting; h && !again; h = h->next)
            for (size_t i = 0; i < h->n && !again; i++)
                if (h->file[i].c == c && h->file[i].waiting && !c->job) {
                    hold_wake(f, h, c, failed);
                    again = true;
                }
    }
    if (--c->holds == 0 && c->state == ABSENT && !c->job)
        content_forget(f, c);
}

/* Where else it may come from: a launch that waits for it, too, may have been asked for by a
 * newer master service, which does not know what the one before has promised. */
static const struct fetch_source *other_source(const files_t *f, const struct content *c,
                                               const struct fetch_job *job)
{
    switch (job->err.code) {
    case ENOSPC:
    case EDQUOT:
    case EROFS:
    case ECANCELED:
        return NULL;
    default:
        break;
    }
    for (const files_hold_t *h = f->waiting; h; h = h->next)
        for (size_t i = 0; i < h->n; i++)
            if (h->file[i].c == c && h->file[i].waiting &&
                memcmp(h->rq.from->ticket.token, job->from.ticket.token, BULK_TOKEN) != 0)
                return h->rq.from;
    return NULL;
}

static void on_fetched(void *arg, struct fetch_job *job)
{
    files_t *f = arg;
    struct content *c = job->owner;
    struct err err = job->err;
    const struct fetch_source *from =
        err.code && !job->check && c->sources < SOURCES ? other_source(f, c, job) : NULL;

    if (from) {
        c->sources++;
        job->from = *from;
        fetch_start(f->fetch, job);
        return;
    }

    /* Others that are fetched beside it take the same room, or have made it: so
     * again and again while something can go, and once when there is room. */
    if (err.code == ENOSPC &&
        (make_room(f, c->size) || (!c->retried && room_left(f) >= c->size))) {
        c->retried = true;
        free(job->twin); /* it may just have been thrown out */
        job->twin = NULL;
        fetch_start(f->fetch, job);
        return;
    }
    c->job = NULL;
    if (!err.code) {
        c->state = HAVE;
        c->stamp = stamp_of(&job->st);
        wake_all(f, c, NULL);
    } else if (job->check) {
        /* Not what it was: fetch it afresh. */
        unlinkat(f->cache, c->name, 0);
        c->state = ABSENT;
        wake_all(f, c, NULL);
    } else {
        if (err.code == ENOSPC)
            no_room(f, job->path, c->size, &err);
        c->state = ABSENT;
        wake_all(f, c, &err);
    }
    fetch_job_free(job);
}

files_hold_t *files_hold_all(files_t *f)
{
    files_hold_t *h = calloc(1, sizeof *h);
    size_t n = 0;

    for (const struct content *c = f->all; c; c = c->next)
        n++;
    if (h)
        h->file = calloc(n + 1, sizeof *h->file);
    if (!h || !h->file) {
        free(h);
        return NULL;
    }
    h->chroot = -1;
    for (struct content *c = f->all; c; c = c->next) {
        c->holds++;
        h->file[h->n++].c = c;
    }
    return h;
}

/* ---- notes ---- */

char *files_note_read(files_t *f, const char *name)
{
    size_t len;
    char *text = cache_read(f->cache, name, &len);

    if (text)
        text[strcspn(text, "\n")] = 0;
    return text;
}

int files_note_write(files_t *f, const char *name, const char *text, struct err *err)
{
    return cache_write(f->cache, name, text, err);
}

/* ---- life ---- */

files_t *files_create(loop_t *l, int root_fd, struct err *err)
{
    files_t *f = calloc(1, sizeof *f);

    if (!f) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    f->root = root_fd;
    f->places_fd = -1;
    f->cache = cache_open(root_fd, err);
    if (f->cache < 0 || scan(f, err) < 0 ||
        !(f->fetch = fetch_create(l, f->cache, on_fetched, f, err))) {
        files_destroy(&f);
        return NULL;
    }
    places_load(f);
    return f;
}

void files_destroy(files_t **fp)
{
    files_t *f = *fp;

    if (!f)
        return;
    fetch_destroy(&f->fetch);
    while (f->waiting) {
        files_hold_t *h = f->waiting;
        files_drop(f, &h);
    }
    while (f->all)
        content_forget(f, f->all);
    if (f->cache >= 0)
        close(f->cache);
    if (f->places_fd >= 0)
        close(f->places_fd);
    free(f);
    *fp = NULL;
}
