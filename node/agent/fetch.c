/* fetch.c - threads that bring content into the cache folder
 *
 * A few threads, started when there is work and ended when there is none for a
 * while; each keeps its connection to the content server while jobs with the
 * same ticket come.
 */
#include "node/agent/fetch.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define THREADS 2
#define IDLE_S 5
#define DIAL_MS 5000
#define IO_MS 20000
#define CHUNK (256 * 1024)
#define NOT_HAD UINT64_MAX

struct worker {
    fetch_t *f;
    pthread_t thread;
    bool used;  /* a thread was started and is not joined */
    bool over;  /* it has ended */
    int fd;     /* of its connection, to cut it; -1 none */
    bulk_t *conn;
    struct fetch_source conn_to;
    char buf[CHUNK];
};

struct fetch {
    loop_t *loop;
    int cache;
    fetch_done_fn *done;
    void *arg;
    int wake; /* eventfd: done jobs are there */
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct fetch_job *todo, **todo_end;
    struct fetch_job *ready, **ready_end;
    size_t idle; /* workers waiting for work */
    bool stop;
    uint64_t temps;
    struct worker *worker; /* THREADS of them */
};

void fetch_job_free(struct fetch_job *job)
{
    if (!job)
        return;
    free(job->name);
    free(job->path);
    free(job->twin);
    free(job);
}

/* ---- bytes in: from a connection or from a file ---- */

static void drop_conn(struct worker *w)
{
    pthread_mutex_lock(&w->f->lock);
    w->fd = -1;
    pthread_mutex_unlock(&w->f->lock);
    if (w->conn)
        bulk_close(&w->conn);
}

/* A connection with this job's ticket; *fresh: it was not used before. */
static int need_conn(struct worker *w, const struct fetch_source *to, bool *fresh,
                     struct err *err)
{
    *fresh = false;
    if (w->conn && !strcmp(w->conn_to.addr, to->addr) && w->conn_to.port == to->port &&
        !memcmp(w->conn_to.ticket.token, to->ticket.token, BULK_TOKEN))
        return 0;
    drop_conn(w);
    *fresh = true;
    int fd = bulk_dial(to->addr, to->port, DIAL_MS, err);
    if (fd < 0)
        return err_prefix(err, "fetch from the master");
    w->conn = bulk_client(fd, &to->ticket, DIAL_MS, err);
    if (!w->conn)
        return err_prefix(err, "fetch from the master");
    w->conn_to = *to;
    pthread_mutex_lock(&w->f->lock);
    w->fd = bulk_fd(w->conn);
    bool stop = w->f->stop;
    pthread_mutex_unlock(&w->f->lock);
    if (stop)
        return err_set(err, ECANCELED, "the agent is ending");
    return 0;
}

static uint64_t get_u64le(const unsigned char *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

/* Ask for the job's content. Then its bytes come. */
static int ask(struct worker *w, struct fetch_job *job, struct err *err)
{
    unsigned char head[8];

    if (bulk_write(w->conn, job->hash, FETCH_HASH, IO_MS, err) < 0 ||
        bulk_read_all(w->conn, head, sizeof head, IO_MS, err) < 0)
        return -1;
    uint64_t size = get_u64le(head);
    if (size == NOT_HAD)
        return err_set(err, ENOENT, "%s: the master no longer has this content "
                       "(was it changed just now? run it again)", job->path);
    if (size != job->size)
        return err_set(err, EPROTO, "%s: the master sends %" PRIu64 " bytes, not %" PRIu64,
                       job->path, size, job->size);
    return 0;
}

static int write_all(int fd, const char *p, size_t n, const struct fetch_job *job,
                     struct err *err)
{
    while (n) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return err_set(err, errno, "%s: write to the node's cache: %s", job->path,
                           strerror(errno));
        p += w;
        n -= (size_t)w;
    }
    return 0;
}

/* job->size bytes from in (or the connection when in < 0) to out (unless
 * out < 0), hashed. EBADMSG: not the content that was asked for. */
static int pass_bytes(struct worker *w, struct fetch_job *job, int in, int out,
                      struct err *err)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    int rc = -1;

    if (!md || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1) {
        err_set(err, ENOMEM, "SHA-256: out of memory");
        goto out;
    }
    for (uint64_t left = job->size; left;) {
        size_t want = left < CHUNK ? (size_t)left : CHUNK;
        ssize_t n = in < 0 ? bulk_read(w->conn, w->buf, want, IO_MS, err)
                           : read(in, w->buf, want);
        if (n < 0 && in >= 0)
            err_set(err, errno, "%s: read the node's cache: %s", job->path, strerror(errno));
        if (n == 0)
            err_set(err, EBADMSG, "%s: content is cut short", job->path);
        if (n <= 0)
            goto out;
        EVP_DigestUpdate(md, w->buf, (size_t)n);
        if (out >= 0 && write_all(out, w->buf, (size_t)n, job, err) < 0)
            goto out;
        left -= (uint64_t)n;
    }
    EVP_DigestFinal_ex(md, hash, NULL);
    rc = memcmp(hash, job->hash, FETCH_HASH)
             ? err_set(err, EBADMSG, "%s: content is damaged: its SHA-256 differs", job->path)
             : 0;
out:
    EVP_MD_CTX_free(md);
    return rc;
}

/* ---- one job ---- */

static bool looks_right(const struct fetch_job *job, const struct stat *st)
{
    return S_ISREG(st->st_mode) && (uint64_t)st->st_size == job->size &&
           st->st_uid == job->uid && st->st_gid == job->gid &&
           (st->st_mode & 07777) == (job->mode & 07777);
}

/* Is the file there still what its name says? */
static int check_file(struct worker *w, struct fetch_job *job, struct err *err)
{
    struct stat after;
    CLEANUP(cleanup_close) int fd =
        openat(w->f->cache, job->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &job->st) < 0)
        return err_set(err, errno, "%s: the node's cache: %s", job->path, strerror(errno));
    if (!looks_right(job, &job->st))
        return err_set(err, EBADMSG, "%s: cached content was changed", job->path);
    if (pass_bytes(w, job, fd, -1, err) < 0)
        return -1;
    if (fstat(fd, &after) < 0 || after.st_ctim.tv_sec != job->st.st_ctim.tv_sec ||
        after.st_ctim.tv_nsec != job->st.st_ctim.tv_nsec)
        return err_set(err, EBADMSG, "%s: cached content is being changed", job->path);
    return 0;
}

/* Write the file under a name of its own, then give it the right one. */
static int make_file(struct worker *w, struct fetch_job *job, int in, struct err *err)
{
    char tmp[32];
    int cache = w->f->cache;

    pthread_mutex_lock(&w->f->lock);
    snprintf(tmp, sizeof tmp, ".new.%" PRIu64, ++w->f->temps);
    pthread_mutex_unlock(&w->f->lock);
    CLEANUP(cleanup_close) int out =
        openat(cache, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (out < 0)
        return err_set(err, errno, "%s: the node's cache: %s", job->path, strerror(errno));
    int rc = 0;
    /* Room for all of it, or none is written. */
    if (job->size && fallocate(out, 0, 0, (off_t)job->size) < 0 && errno != EOPNOTSUPP)
        rc = err_set(err, errno, "%s: room in the node's cache: %s", job->path,
                     strerror(errno));
    if (rc == 0)
        rc = pass_bytes(w, job, in, out, err);
    if (rc == 0 && (fchown(out, job->uid, job->gid) < 0 ||
                    fchmod(out, job->mode & 07777) < 0 ||
                    renameat(cache, tmp, cache, job->name) < 0 || fstat(out, &job->st) < 0))
        rc = err_set(err, errno, "%s: the node's cache: %s", job->path, strerror(errno));
    if (rc < 0)
        unlinkat(cache, tmp, 0);
    return rc;
}

static int from_twin(struct worker *w, struct fetch_job *job, struct err *err)
{
    CLEANUP(cleanup_close) int in =
        openat(w->f->cache, job->twin, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (in < 0)
        return err_set(err, errno, "%s: the node's cache: %s", job->path, strerror(errno));
    return make_file(w, job, in, err);
}

/* Errors of the node's own disk, and the master's clear no, are final; a
 * connection that broke or a damaged byte deserves one more try. */
static bool worth_another_try(const struct err *err)
{
    switch (err->code) {
    case ENOSPC:
    case EDQUOT:
    case EROFS:
    case ENOENT:
    case EPROTO:
    case ECANCELED:
        return false;
    default:
        return true;
    }
}

static int from_master(struct worker *w, struct fetch_job *job, struct err *err)
{
    for (int try = 0;; try++) {
        bool fresh;
        *err = (struct err){ 0 };
        if (need_conn(w, &job->from, &fresh, err) == 0 && ask(w, job, err) == 0 &&
            make_file(w, job, -1, err) == 0)
            return 0;
        /* After ENOENT the conversation stands as it was; else it is out of step. */
        if (err->code != ENOENT)
            drop_conn(w);
        if (!worth_another_try(err) || (fresh && try > 0) || try > 1)
            return -1;
    }
}

static void work(struct worker *w, struct fetch_job *job)
{
    struct err err = { 0 };

    if (job->check ? check_file(w, job, &err) == 0
                   : (job->twin && from_twin(w, job, &err) == 0))
        return;
    if (!job->check && (!job->twin || err.code != ENOSPC)) {
        err = (struct err){ 0 };
        if (from_master(w, job, &err) == 0)
            return;
    }
    job->err = err;
    if (!job->err.code)
        job->err.code = EIO;
}

/* ---- threads ---- */

/* The next job; NULL: end. Called and returns with the lock held. */
static struct fetch_job *next_job(struct worker *w)
{
    fetch_t *f = w->f;
    struct timespec until;
    int rc = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_S;
    f->idle++;
    while (!f->todo && !f->stop && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&f->work, &f->lock, &until);
    f->idle--;
    struct fetch_job *job = f->stop ? NULL : f->todo;
    if (job) {
        f->todo = job->next;
        if (!f->todo)
            f->todo_end = &f->todo;
        job->next = NULL;
    }
    return job;
}

static void *run(void *arg)
{
    struct worker *w = arg;
    fetch_t *f = w->f;
    struct fetch_job *job;
    uint64_t one = 1;

    pthread_mutex_lock(&f->lock);
    while ((job = next_job(w))) {
        pthread_mutex_unlock(&f->lock);
        work(w, job);
        pthread_mutex_lock(&f->lock);
        *f->ready_end = job;
        f->ready_end = &job->next;
        if (write(f->wake, &one, sizeof one) < 0)
            continue; /* it has rung already */
    }
    w->over = true;
    pthread_mutex_unlock(&f->lock);
    drop_conn(w);
    return NULL;
}

static void start_worker(fetch_t *f, struct worker *w)
{
    sigset_t all, old;

    if (w->used && w->over) {
        pthread_mutex_unlock(&f->lock);
        pthread_join(w->thread, NULL);
        pthread_mutex_lock(&f->lock);
        w->used = false;
    }
    if (w->used)
        return;
    w->over = false;
    w->fd = -1;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    w->used = pthread_create(&w->thread, NULL, run, w) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void fetch_start(fetch_t *f, struct fetch_job *job)
{
    job->next = NULL;
    job->err = (struct err){ 0 };
    pthread_mutex_lock(&f->lock);
    *f->todo_end = job;
    f->todo_end = &job->next;
    if (f->idle)
        pthread_cond_signal(&f->work);
    bool running = false;
    for (int i = 0; i < THREADS; i++)
        running |= f->worker[i].used && !f->worker[i].over;
    /* A second thread only when the others are busy. */
    for (int i = 0; i < THREADS && (!f->idle || !running); i++) {
        struct worker *w = &f->worker[i];
        if (w->used && !w->over)
            continue;
        start_worker(f, w);
        running |= w->used;
        break;
    }
    if (!running) { /* no thread at all can be had: say so through the usual way */
        f->todo = NULL;
        f->todo_end = &f->todo;
        err_set(&job->err, EAGAIN, "%s: no thread to fetch it with", job->path);
        *f->ready_end = job;
        f->ready_end = &job->next;
        uint64_t one = 1;
        if (write(f->wake, &one, sizeof one) < 0)
            job->err.code = EAGAIN;
    }
    pthread_mutex_unlock(&f->lock);
}

static void on_ready(void *arg, int fd, uint32_t events)
{
    fetch_t *f = arg;
    uint64_t n;

    (void)events;
    if (read(fd, &n, sizeof n) < 0)
        return;
    pthread_mutex_lock(&f->lock);
    struct fetch_job *job = f->ready;
    f->ready = NULL;
    f->ready_end = &f->ready;
    pthread_mutex_unlock(&f->lock);
    while (job) {
        struct fetch_job *next = job->next;
        job->next = NULL;
        f->done(f->arg, job);
        job = next;
    }
}

fetch_t *fetch_create(loop_t *l, int cache_fd, fetch_done_fn *done, void *arg,
                      struct err *err)
{
    pthread_condattr_t attr;
    fetch_t *f = calloc(1, sizeof *f);

    if (f)
        f->worker = calloc(THREADS, sizeof *f->worker);
    if (!f || !f->worker) {
        free(f);
        err_set(err, ENOMEM, "fetch: out of memory");
        return NULL;
    }
    for (int i = 0; i < THREADS; i++) {
        f->worker[i].f = f;
        f->worker[i].fd = -1;
    }
    f->loop = l;
    f->cache = cache_fd;
    f->done = done;
    f->arg = arg;
    f->todo_end = &f->todo;
    f->ready_end = &f->ready;
    pthread_mutex_init(&f->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&f->work, &attr);
    pthread_condattr_destroy(&attr);
    f->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (f->wake < 0 || loop_fd(l, f->wake, EPOLLIN, on_ready, f, err) < 0) {
        if (f->wake < 0)
            err_set(err, errno, "eventfd: %s", strerror(errno));
        fetch_destroy(&f);
        return NULL;
    }
    return f;
}

static void free_jobs(struct fetch_job *job)
{
    while (job) {
        struct fetch_job *next = job->next;
        fetch_job_free(job);
        job = next;
    }
}

void fetch_destroy(fetch_t **fp)
{
    fetch_t *f = *fp;

    if (!f)
        return;
    pthread_mutex_lock(&f->lock);
    f->stop = true;
    pthread_cond_broadcast(&f->work);
    for (int i = 0; i < THREADS; i++)
        if (f->worker[i].fd >= 0)
            shutdown(f->worker[i].fd, SHUT_RDWR);
    pthread_mutex_unlock(&f->lock);
    for (int i = 0; i < THREADS; i++)
        if (f->worker[i].used)
            pthread_join(f->worker[i].thread, NULL);
    if (f->wake >= 0) {
        loop_fd_del(f->loop, f->wake);
        close(f->wake);
    }
    free_jobs(f->todo);
    free_jobs(f->ready);
    pthread_cond_destroy(&f->work);
    pthread_mutex_destroy(&f->lock);
    free(f->worker);
    free(f);
    *fp = NULL;
}
