/* write.c - records of an image, and the memory in it */
#include "image/write.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include "image/pipe.h"

/* Linux 6.7's way to ask for runs of pages; the headers here may be older. */
struct scan { /* struct pm_scan_arg */
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t inverted, mask, anyof, out;
};
#define SCAN _IOWR('f', 16, struct scan)
#define PAGE_FILE (1u << 2)
#define PAGE_PRESENT (1u << 3)
#define PAGE_SWAPPED (1u << 4)
#define PAGE_ZERO (1u << 5)

#define PM_PRESENT (1ull << 63)
#define PM_SWAPPED (1ull << 62)
#define PM_FILE (1ull << 61)

int image_fail(struct image_writer *w, int code, const char *why, const char *what)
{
    size_t n = 0;

    w->code = code ? code : EIO;
    w->why = why;
    for (; what && what[n] && n + 1 < sizeof w->what; n++)
        w->what[n] = what[n];
    w->what[n] = 0;
    return -1;
}

/* Shared, so that the kernel joins it with no mapping of the process. */
struct image_scratch *image_scratch_map(struct image_writer *w)
{
    size_t size = sizeof(struct image_scratch) + w->text_room;
    void *p;

    size = (size + IMAGE_PAGE - 1) & ~(size_t)(IMAGE_PAGE - 1);
    p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    w->s = p;
    w->text = (char *)p + sizeof(struct image_scratch);
    w->skip = (struct image_span){ (uintptr_t)p, (uintptr_t)p + size };
    return p;
}

void image_scratch_unmap(struct image_writer *w)
{
    if (w->s)
        munmap(w->s, w->skip.end - w->skip.start);
    w->s = NULL;
}

int image_open(struct image_writer *w, const char *proc)
{
    w->mem = w->pagemap = -1;
    w->proc = open(proc, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->proc >= 0) {
        w->mem = openat(w->proc, "mem", O_RDONLY | O_CLOEXEC);
        w->pagemap = openat(w->proc, "pagemap", O_RDONLY | O_CLOEXEC);
    }
    if (w->pagemap >= 0 && w->mem >= 0)
        return 0;
    int code = errno;
    image_close(w);
    return image_fail(w, code, "its memory cannot be read", proc);
}

void image_close(struct image_writer *w)
{
    if (w->mem >= 0)
        close(w->mem);
    if (w->pagemap >= 0)
        close(w->pagemap);
    if (w->proc >= 0)
        close(w->proc);
    w->mem = w->pagemap = w->proc = -1;
}

/* --- records --- */

/* A reader that has gone is an error, and no signal to who has them blocked. */
static int write_failed(struct image_writer *w, int code)
{
    static const struct timespec now;
    sigset_t it;

    sigemptyset(&it);
    sigaddset(&it, SIGPIPE);
    if (code == EPIPE && !w->sigpipe)
        (void)sigtimedwait(&it, NULL, &now);
    return image_fail(w, code, "the image cannot be written", NULL);
}

static int write_now(struct image_writer *w, struct iovec *v, int n)
{
    while (n > 0) {
        ssize_t k = syscall(SYS_writev, w->out, v, n); /* not writev(): see copy() */
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return write_failed(w, errno);
        w->bytes += (uint64_t)k;
        for (; n > 0 && (size_t)k >= v->iov_len; v++, n--)
            k -= (ssize_t)v->iov_len;
        if (n > 0) {
            v->iov_base = (char *)v->iov_base + k;
            v->iov_len -= (size_t)k;
        }
    }
    return 0;
}

/* Memory of which enough follows that nobody reads it later than that is written. */
static int write_lent(struct image_writer *w, const char *from, size_t n)
{
    while (n > 0) {
        ssize_t k = image_pipe_lend(w->out, from, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return write_failed(w, errno);
        w->bytes += (uint64_t)k;
        from += k;
        n -= (size_t)k;
    }
    return 0;
}

static int write_gathered(struct image_writer *w)
{
    struct iovec v = { w->s->gather, w->gathered };

    w->gathered = 0;
    return v.iov_len ? write_now(w, &v, 1) : 0;
}

/* Not memcpy: a sanitizer would have its own opinion of what we may read. */
static void copy(void *to, const void *from, size_t n)
{
#if defined(__x86_64__)
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
#else
    memcpy(to, from, n);
#endif
}

/* What is small waits for more: each write wakes who carries it. */
static int write_all(struct image_writer *w, struct iovec *v, int n)
{
    size_t len = 0;

    for (int i = 0; i < n; i++)
        len += v[i].iov_len;
    bool large = len > IMAGE_GATHER / 2;
    if ((large || len > IMAGE_GATHER - w->gathered) && write_gathered(w) < 0)
        return -1;
    if (large)
        return write_now(w, v, n);
    for (int i = 0; i < n; i++) {
        copy(w->s->gather + w->gathered, v[i].iov_base, v[i].iov_len);
        w->gathered += v[i].iov_len;
    }
    return 0;
}

static int put_at(struct image_writer *w, uint32_t kind, uint64_t addr, const void *a,
                  size_t alen, const void *b, size_t blen)
{
    struct image_record r = { .kind = kind, .len = alen + blen, .addr = addr };

    if (kind == IMAGE_END)
        r.chain = w->chain;
    if (kind == IMAGE_PAGES)
        r.chain = w->follows;
    uint32_t crc = image_crc(0, &r, sizeof r);
    if (alen)
        crc = image_crc(crc, a, alen);
    if (blen)
        crc = image_crc(crc, b, blen);
    r.crc = crc;
    w->chain = image_crc(w->chain, &crc, sizeof crc);
    w->records++;
    /* Pages in their own place, with enough behind them to know that they were read. */
    bool lend = w->lend && w->follows >= w->lend && kind == IMAGE_PAGES &&
                (uintptr_t)a == addr;
    struct iovec v[3] = { { &r, sizeof r },
                          { (void *)(uintptr_t)a, alen },
                          { (void *)(uintptr_t)b, blen } };
    if (lend)
        return write_all(w, v, 1) < 0 || write_gathered(w) < 0 ? -1 : write_lent(w, a, alen);
    return write_all(w, v, blen ? 3 : alen ? 2 : 1);
}

int image_put(struct image_writer *w, uint32_t kind, const void *a, size_t alen, const void *b,
              size_t blen)
{
    return put_at(w, kind, 0, a, alen, b, blen);
}

int image_begin(struct image_writer *w)
{
    struct image_start start = { .version = IMAGE_VERSION, .arch = IMAGE_X86_64 };
    struct iovec v = { &start, sizeof start };
    sigset_t pending;

    memcpy(start.magic, IMAGE_MAGIC, sizeof start.magic);
    w->chain = 0;
    w->records = 0;
    w->gathered = 0;
    w->follows = 0;
    w->sigpipe = sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) > 0;
    if (write_all(w, &v, 1) < 0)
        return -1;
    return put_at(w, IMAGE_PROCESS, 0, &w->s->process, sizeof w->s->process, NULL, 0);
}

int image_end(struct image_writer *w)
{
    return put_at(w, IMAGE_END, w->records, NULL, 0, NULL, 0) < 0 ? -1 : write_gathered(w);
}

/* --- pages --- */

static bool moves(const struct image_writer *w, uint64_t start, uint64_t end)
{
    for (size_t i = 0; i < sizeof w->moving / sizeof *w->moving; i++)
        if (start < w->moving[i].end && end > w->moving[i].start)
            return true;
    return false;
}

/* Zeros that only look like content are left out of by_value copies. */
static bool all_zero(const unsigned char *p, size_t n)
{
    const uint64_t *v = (const void *)p;

    for (size_t i = 0; i < n / sizeof *v; i++)
        if (v[i])
            return false;
    return true;
}

static int put_chunk(struct image_writer *w, uint64_t at, size_t n, bool dense)
{
    struct image_scratch *s = w->s;
    const void *from = (const void *)(uintptr_t)at;

    /* Dense: pages that are there, so that to look at them is no fault. */
    if (w->self && (s->map.prot & PROT_READ) && dense) {
        if (moves(w, at, at + n)) {
            copy(s->bounce, from, n);
            from = s->bounce;
        }
        return put_at(w, IMAGE_PAGES, at, from, n, NULL, 0);
    }
    for (size_t got = 0; got < n;) {
        ssize_t k = pread(w->mem, s->bounce + got, n - got, (off_t)(at + got));
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0) { /* a page that has no content: past the end of its file */
            size_t page = IMAGE_PAGE - got % IMAGE_PAGE;
            memset(s->bounce + got, 0, page);
            k = (ssize_t)page;
        }
        got += (size_t)k;
    }
    if (dense)
        return put_at(w, IMAGE_PAGES, at, s->bounce, n, NULL, 0);
    for (size_t i = 0, k; i < n; i = k) {
        while (i < n && all_zero(s->bounce + i, IMAGE_PAGE))
            i += IMAGE_PAGE;
        for (k = i; k < n && !all_zero(s->bounce + k, IMAGE_PAGE);)
            k += IMAGE_PAGE;
        if (k > i && put_at(w, IMAGE_PAGES, at + i, s->bounce + i, k - i, NULL, 0) < 0)
            return -1;
    }
    return 0;
}

static int put_run(struct image_writer *w, uint64_t start, uint64_t end, bool dense)
{
    for (uint64_t at = start; at < end;) {
        /* Borders at the same addresses, whatever came before. */
        size_t n = IMAGE_CHUNK - at % IMAGE_CHUNK;
        if (n > end - at)
            n = (size_t)(end - at);
        w->follows = dense ? end - at - n : 0;
        if (put_chunk(w, at, n, dense) < 0)
            return -1;
        at += n;
    }
    return 0;
}

/* Before Linux 6.7: eight bytes for each page there could be. */
static int put_by_pagemap(struct image_writer *w, uint64_t start, uint64_t end, bool file)
{
    uint64_t *pm = w->s->pagemap;

    for (uint64_t at = start; at < end;) {
        uint64_t pages = (end - at) / IMAGE_PAGE, run = 0;
        if (pages > IMAGE_REGIONS)
            pages = IMAGE_REGIONS;
        ssize_t n = pread(w->pagemap, pm, pages * 8, (off_t)(at / IMAGE_PAGE * 8));
        if (n != (ssize_t)(pages * 8))
            return image_fail(w, n < 0 ? errno : EIO, "pagemap cannot be read", NULL);
        for (uint64_t i = 0; i <= pages; i++) {
            bool take = i < pages && (pm[i] & (PM_PRESENT | PM_SWAPPED)) &&
                        !(file && (pm[i] & PM_FILE));
            if (take) {
                run++;
                continue;
            }
            if (run && put_run(w, at + (i - run) * IMAGE_PAGE, at + i * IMAGE_PAGE, true) < 0)
                return -1;
            run = 0;
        }
        at += pages * IMAGE_PAGE;
    }
    return 0;
}

static int put_touched(struct image_writer *w, uint64_t start, uint64_t end, bool file)
{
    struct scan a = { .size = sizeof a, .start = start, .end = end,
                      .vec = (uintptr_t)w->s->region, .vec_len = IMAGE_REGIONS,
                      .inverted = PAGE_FILE | PAGE_ZERO, .mask = PAGE_FILE | PAGE_ZERO,
                      .anyof = PAGE_PRESENT | PAGE_SWAPPED,
                      .out = PAGE_PRESENT | PAGE_SWAPPED };

    if (end - start < IMAGE_REGIONS * (uint64_t)IMAGE_PAGE) /* the kernel has a copy of it */
        a.vec_len = (end - start) / IMAGE_PAGE;
    while (a.start < end) {
        int n = ioctl(w->pagemap, SCAN, &a);
        if (n < 0 && (errno == ENOTTY || errno == EINVAL))
            return put_by_pagemap(w, a.start, end, file);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return image_fail(w, errno, "pagemap cannot be read", NULL);
        for (int i = 0; i < n; i++)
            if (put_run(w, w->s->region[i].start, w->s->region[i].end, true) < 0)
                return -1;
        if (a.walk_end <= a.start)
            break;
        a.start = a.walk_end;
    }
    return 0;
}

static int put_map(struct image_writer *w, void *arg)
{
    struct image_scratch *s = w->s;
    struct image_map *m = &s->map;
    const bool *whole = arg;

    m->path_len = (uint32_t)strlen(s->path) + 1;
    if (put_at(w, IMAGE_MAP, 0, m, sizeof *m, s->path, m->path_len) < 0)
        return -1;
    if (m->kind == IMAGE_MAP_VDSO || (m->kind == IMAGE_MAP_FILE && (m->flags & IMAGE_MAP_SHARED)))
        return 0;
    if (*whole || (m->flags & IMAGE_MAP_SHARED))
        return put_run(w, m->start, m->end, false);
    return put_touched(w, m->start, m->end, m->kind == IMAGE_MAP_FILE);
}

/* A file whose content goes along becomes plain memory. */
static int put_any(struct image_writer *w, void *arg)
{
    struct image_map *m = &w->s->map;
    bool whole = false;

    (void)arg;
    if (m->kind == IMAGE_MAP_FILE && w->by_value && w->by_value(w->arg, w->s->path)) {
        if ((m->flags & IMAGE_MAP_SHARED) && (m->prot & PROT_WRITE))
            return image_fail(w, EINVAL, "memory shared with a file cannot go along",
                              w->s->path);
        m->flags &= ~(uint32_t)IMAGE_MAP_SHARED;
        m->kind = IMAGE_MAP_ANON;
        whole = true;
    } else if (m->kind == IMAGE_MAP_ANON && w->s->path[0] == '/') {
        whole = true; /* of a file that is not there any more */
    }
    return put_map(w, &whole);
}

int image_memory(struct image_writer *w)
{
    return image_maps(w, put_any, NULL);
}
