/* serve.c - files by hash over the bulk channel, to agents that hold a ticket
 *
 * A ticket opens the files of one manifest and nothing else. A request is a
 * 32-byte hash; the answer is a u64 size (little endian; all ones: not had)
 * and the bytes. A thread a connection: the transfer blocks, the loop never.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "image/pump.h"
#include "services/procspace/contents.h"

#define TICKET_REUSE_MS 60000  /* a manifest's ticket is given out again this long */
#define TICKET_LIFE_MS 300000  /* and opens this long */
#define EXPIRE_MS 5000
#define IDLE_MS 30000
#define MAX_CONNECTIONS 256
#define CHUNK (256 * 1024)

struct connection {
    contents_t *c;
    int fd;
    manifest_t *m;
    int *image; /* where an image goes, instead; NULL */
    size_t images;
    unsigned char key[BULK_KEY];
    struct connection *next; /* serving_now, with the lock held */
};

/* With the lock held. */
static void expire(contents_t *c)
{
    int64_t now = now_ms();
    struct ticket **p = &c->tickets;

    if (now - c->expired < EXPIRE_MS)
        return;
    c->expired = now;
    while (*p) {
        struct ticket *t = *p;
        if (now - t->made < TICKET_LIFE_MS) {
            p = &t->next;
            continue;
        }
        *p = t->next;
        manifest_t *m = t->m;
        if (m->ticket == t)
            m->ticket = NULL;
        free(t);
        pthread_mutex_unlock(&c->lock);
        manifest_unref(c, &m);
        pthread_mutex_lock(&c->lock);
        p = &c->tickets;
    }
}

void ticket_for(contents_t *c, manifest_t *m, struct bulk_ticket *out)
{
    pthread_mutex_lock(&c->lock);
    expire(c);
    if (m->ticket && now_ms() - m->ticket->made < TICKET_REUSE_MS) {
        *out = m->ticket->t;
        pthread_mutex_unlock(&c->lock);
        return;
    }
    struct ticket *t = calloc(1, sizeof *t);
    bulk_ticket_make(out);
    if (t) { /* without memory the agent is refused, and says so */
        t->t = *out;
        t->m = m;
        m->refs++;
        t->made = now_ms();
        t->next = c->tickets;
        c->tickets = m->ticket = t;
    }
    pthread_mutex_unlock(&c->lock);
}

static const unsigned char *lookup(void *arg, const char *token)
{
    struct connection *k = arg;
    const unsigned char *key = NULL;

    pthread_mutex_lock(&k->c->lock);
    for (struct ticket *t = k->c->tickets; t && !key; t = t->next)
        if (!k->m && strcmp(t->t.token, token) == 0) {
            memcpy(k->key, t->t.key, BULK_KEY);
            key = k->key;
            k->m = t->m;
            k->m->refs++;
        }
    for (struct image_ticket **at = &k->c->images; *at && !key; at = &(*at)->next) {
        struct image_ticket *t = *at;
        if (strcmp(t->t.token, token) != 0)
            continue;
        memcpy(k->key, t->t.key, BULK_KEY);
        key = k->key;
        k->image = t->fd;
        k->images = t->fds;
        *at = t->next; /* it opens once */
        explicit_bzero(t, sizeof *t);
        free(t);
        break;
    }
    pthread_mutex_unlock(&k->c->lock);
    return key;
}

static const struct content_file *wanted(const manifest_t *m, const unsigned char hash[32])
{
    for (size_t i = 0; i < m->nfiles; i++)
        if (memcmp(m->file[i].hash, hash, 32) == 0)
            return &m->file[i];
    return NULL;
}

static int send_size(bulk_t *b, uint64_t size, struct err *err)
{
    size = htole64(size);
    return bulk_write(b, &size, sizeof size, IDLE_MS, err);
}

static int send_file(bulk_t *b, const struct content_file *f, char *buf, struct err *err)
{
    struct stat st;
    CLEANUP(cleanup_close) int fd =
        f ? open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;

    /* Changed since it was hashed: the launch is told, and its next try hashes anew. */
    if (f && fd < 0 && errno != ENOENT)
        svc_log("error", "content server: %s: %s", f->path, strerror(errno));
    if (fd < 0 || fstat(fd, &st) < 0 || !sig_same(&f->sig, &st))
        return send_size(b, UINT64_MAX, err);
    if (send_size(b, (uint64_t)f->sig.size, err) < 0)
        return -1;
    for (off_t off = 0; off < f->sig.size;) {
        size_t want = f->sig.size - off < CHUNK ? (size_t)(f->sig.size - off) : CHUNK;
        ssize_t n = pread(fd, buf, want, off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(err, EIO, "%s: became shorter while it was sent", f->path);
        if (bulk_write(b, buf, (size_t)n, IDLE_MS, err) < 0)
            return -1;
        off += n;
    }
    return 0;
}

/* While it stands in serving_now, serve_stop() may cut its connection. */
static void enter(struct connection *k)
{
    pthread_mutex_lock(&k->c->lock);
    k->next = k->c->serving_now;
    k->c->serving_now = k;
    if (k->c->stopping)
        shutdown(k->fd, SHUT_RDWR);
    pthread_mutex_unlock(&k->c->lock);
}

static void leave(struct connection *k)
{
    pthread_mutex_lock(&k->c->lock);
    struct connection **p = &k->c->serving_now;
    while (*p != k)
        p = &(*p)->next;
    *p = k->next;
    pthread_mutex_unlock(&k->c->lock);
}

static void close_all(int *fd, size_t n)
{
    for (size_t i = 0; i < n; i++)
        close(fd[i]);
    free(fd);
}

/* A pump has it from here on. */
static void take_image(struct connection *k, bulk_t **b, struct err *err)
{
    struct pump_plan p = { .in = -1, .conn = -1, .bulk = *b, .out = k->image,
                           .outs = k->images };

    *b = NULL;
    k->image = NULL;
    if (p.bulk)
        pump_start(&p, err);
    else
        close_all(p.out, p.outs);
}

static void image_ticket_free(struct image_ticket *t)
{
    close_all(t->fd, t->fds);
    explicit_bzero(t, sizeof *t);
    free(t);
}

int contents_image(contents_t *c, const int *fd, size_t fds, struct bulk_ticket *t,
                   uint16_t *port, struct err *err)
{
    struct image_ticket *n = calloc(1, sizeof *n);

    if (n)
        n->fd = malloc((fds + 1) * sizeof *n->fd);
    if (!n || !n->fd) {
        free(n);
        return err_set(err, ENOMEM, "out of memory");
    }
    memcpy(n->fd, fd, fds * sizeof *fd);
    n->fds = fds;
    bulk_ticket_make(t);
    n->t = *t;
    n->made = now_ms();
    *port = (uint16_t)c->port;
    pthread_mutex_lock(&c->lock);
    for (struct image_ticket **at = &c->images; *at;) {
        struct image_ticket *old = *at;
        if (n->made - old->made < TICKET_LIFE_MS) {
            at = &old->next;
            continue;
        }
        *at = old->next;
        image_ticket_free(old);
    }
    n->next = c->images;
    c->images = n;
    pthread_mutex_unlock(&c->lock);
    return 0;
}

bool contents_image_drop(contents_t *c, const char *token)
{
    bool found = false;

    pthread_mutex_lock(&c->lock);
    for (struct image_ticket **at = &c->images; *at; at = &(*at)->next) {
        struct image_ticket *t = *at;
        if (strcmp(t->t.token, token) != 0)
            continue;
        *at = t->next;
        image_ticket_free(t);
        found = true;
        break;
    }
    pthread_mutex_unlock(&c->lock);
    return found;
}

static void *serve(void *arg)
{
    struct connection *k = arg;
    contents_t *c = k->c;
    struct err err = { 0 };
    unsigned char hash[32];
    char *buf = malloc(CHUNK);

    enter(k);
    bulk_t *b = bulk_server_lookup(k->fd, lookup, k, IDLE_MS, &err);

    if (k->image)
        take_image(k, &b, &err);
    while (b && buf && bulk_readable(b, IDLE_MS) > 0) {
        ssize_t n = bulk_read(b, hash, sizeof hash, IDLE_MS, NULL);
        if (n <= 0)
            break; /* between files an agent may just go */
        if ((size_t)n < sizeof hash &&
            bulk_read_all(b, hash + n, sizeof hash - (size_t)n, IDLE_MS, &err) < 0)
            break;
        if (send_file(b, wanted(k->m, hash), buf, &err) < 0)
            break;
    }
    leave(k);
    if (err.code)
        svc_log("warning", "content server: %s", err.text);
    bulk_close(&b);
    manifest_unref(c, &k->m);
    free(buf);
    free(k);
    OPENSSL_thread_stop(); /* here, since at the end nobody waits for more than this */
    pthread_mutex_lock(&c->lock);
    if (--c->connections == 0)
        pthread_cond_signal(&c->idle);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

static void *server(void *arg)
{
    contents_t *c = arg;
    pthread_attr_t attr;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, 256 * 1024);
    for (;;) {
        int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);
        pthread_mutex_lock(&c->lock);
        bool stop = c->stopping, full = c->connections >= MAX_CONNECTIONS;
        if (fd >= 0 && !stop && !full)
            c->connections++;
        pthread_mutex_unlock(&c->lock);
        if (stop)
            break;
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE)
                poll(NULL, 0, 100); /* until connections end: accept would spin */
            continue;
        }
        pthread_t t;
        struct connection *k = full ? NULL : calloc(1, sizeof *k);
        if (k) {
            k->c = c;
            k->fd = fd;
        }
        int rc = k ? pthread_create(&t, &attr, serve, k) : full ? EBUSY : ENOMEM;
        if (rc) {
            svc_log("error", "content server: no thread for a connection: %s", strerror(rc));
            close(fd);
            free(k);
            pthread_mutex_lock(&c->lock);
            c->connections -= !full;
            pthread_mutex_unlock(&c->lock);
        }
    }
    pthread_attr_destroy(&attr);
    return NULL;
}

int contents_listen(contents_t *c, int port, struct err *err)
{
    int one = 1;
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

    if (c->serving)
        return 0;
    c->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bulk_near(c->listener);
    if (c->listener < 0 ||
        setsockopt(c->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind(c->listener, (struct sockaddr *)&sa, sizeof sa) < 0 ||
        listen(c->listener, 1024) < 0 ||
        (errno = pthread_create(&c->server, NULL, server, c))) {
        int code = errno;
        if (c->listener >= 0)
            close(c->listener);
        c->listener = -1;
        return err_set(err, code, "content server on port %d: %s", port, strerror(code));
    }
    c->port = port;
    c->serving = true;
    return 0;
}

void serve_stop(contents_t *c)
{
    if (c->serving) {
        shutdown(c->listener, SHUT_RDWR); /* wakes accept() */
        pthread_join(c->server, NULL);
        close(c->listener);
    }
    pthread_mutex_lock(&c->lock);
    for (const struct connection *k = c->serving_now; k; k = k->next)
        shutdown(k->fd, SHUT_RDWR);
    while (c->connections)
        pthread_cond_wait(&c->idle, &c->lock);
    pthread_mutex_unlock(&c->lock);
    while (c->images) {
        struct image_ticket *t = c->images;
        c->images = t->next;
        image_ticket_free(t);
    }
    while (c->tickets) {
        struct ticket *t = c->tickets;
        c->tickets = t->next;
        manifest_unref(c, &t->m);
        free(t);
    }
}
