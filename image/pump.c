/* pump.c - an image on its way: from one place to several, by a thread */
#include "image/pump.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bus/pkt.h"
#include "image/pipe.h"

#define CHUNK (256u * 1024)
#define LEND (64u * 1024) /* less is copied into a pipe */
#define PAGE 4096u
#define LENT_MAX (1024u * 1024) /* that a pipe has of us at most */
#define RING (LENT_MAX + 3 * CHUNK) /* so what comes round again was read */
#define STACK (256u * 1024)
#define DIAL_MS 10000
#define STUCK_MS 60000 /* a receiver that takes nothing for this long is lost */
#define SILENT_MS 15000

#define KEPT 4 /* threads that wait for the next: one's first handshake costs more */

struct pump {
    struct pump *next; /* that no thread has taken yet */
    struct pump_plan p;
    bulk_t *to[PUMP_DIALS];
    size_t living; /* outputs */
    bool lends, lent; /* pipes get parts of the ring; have got some */
    struct pump *next_read; /* of those that a connection brings it, shown with this */
    char token[BULK_TOKEN + 1];
    int fd; /* -1: not open yet, or no more */
    bool cut;
};

static void tcp_options(int fd)
{
    int one = 1, idle = 5, every = 5, silent = SILENT_MS;

    /* Without them it works too; a dead machine is only noticed later. */
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silent, sizeof silent);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static bulk_t *dial(const struct pump_dial *d)
{
    int fd = bulk_dial(d->addr, d->port, DIAL_MS, NULL);

    if (fd < 0)
        return NULL;
    tcp_options(fd);
    if (d->say_token && send(fd, d->ticket.token, BULK_TOKEN, MSG_NOSIGNAL) != BULK_TOKEN) {
        close(fd);
        return NULL;
    }
    return bulk_client(fd, &d->ticket, DIAL_MS, NULL);
}

static void open_all(struct pump *u)
{
    struct pump_plan *p = &u->p;

    if (p->conn >= 0) {
        tcp_options(p->conn);
        p->bulk = bulk_server(p->conn, &p->ticket, DIAL_MS, NULL);
        p->conn = -1;
    }
    for (size_t i = 0; i < p->dials; i++)
        u->living += (u->to[i] = dial(&p->dial[i])) != NULL;
    u->living += p->outs;
    u->lends = true;
    for (size_t i = 0; i < p->outs; i++)
        u->lends &= image_pipe_room(p->out[i]) <= LENT_MAX;
}

static ssize_t take(struct pump *u, char *buf)
{
    ssize_t n;

    if (u->p.bulk)
        return bulk_read(u->p.bulk, buf, CHUNK, -1, NULL);
    do
        n = u->p.in < 0 ? -1 : read(u->p.in, buf, CHUNK);
    while (n < 0 && errno == EINTR);
    return n;
}

static void drop_out(struct pump *u, size_t i)
{
    close(u->p.out[i]);
    u->p.out[i] = -1;
    u->living--;
}

/* Where the next bytes may go: behind these, if they are lent. */
static size_t give(struct pump *u, const char *buf, size_t at, size_t n)
{
    bool lend = u->lends && u->p.outs && n >= LEND;

    buf += at;
    for (size_t i = 0; i < u->p.outs; i++)
        for (size_t done = 0; u->p.out[i] >= 0 && done < n;) {
            ssize_t k = lend ? image_pipe_lend(u->p.out[i], buf + done, n - done)
                             : write(u->p.out[i], buf + done, n - done);
            if (k < 0 && errno == EINTR)
                continue;
            if (k < 0)
                drop_out(u, i);
            else
                done += (size_t)k;
        }
    for (size_t i = 0; i < u->p.dials; i++)
        if (u->to[i] && bulk_write(u->to[i], buf, n, STUCK_MS, NULL) < 0) {
            bulk_close(&u->to[i]);
            u->living--;
        }
    u->lent |= lend;
    if (lend)
        at += (n + PAGE - 1) & ~(size_t)(PAGE - 1);
    return at + CHUNK > RING ? 0 : at;
}

static void discard(struct pump_plan *p)
{
    if (p->in >= 0)
        close(p->in);
    if (p->conn >= 0)
        close(p->conn);
    bulk_close(&p->bulk);
    for (size_t i = 0; i < p->outs; i++)
        if (p->out[i] >= 0)
            close(p->out[i]);
    free(p->out);
    explicit_bzero(p, sizeof *p);
}

/* --- connections that are read, for pump_cut() --- */

static pthread_mutex_t reading = PTHREAD_MUTEX_INITIALIZER;
static struct pump *readers;

static void read_begin(struct pump *u)
{
    const struct pump_plan *p = &u->p;

    if (!p->bulk && p->conn < 0)
        return;
    memcpy(u->token, p->bulk ? bulk_token(p->bulk) : p->ticket.token, sizeof u->token);
    pthread_mutex_lock(&reading);
    u->next_read = readers;
    readers = u;
    pthread_mutex_unlock(&reading);
}

static void read_open(struct pump *u)
{
    pthread_mutex_lock(&reading);
    u->fd = u->p.bulk ? bulk_fd(u->p.bulk) : -1;
    if (u->cut && u->fd >= 0)
        shutdown(u->fd, SHUT_RDWR);
    pthread_mutex_unlock(&reading);
}

static void read_end(const struct pump *u)
{
    pthread_mutex_lock(&reading);
    for (struct pump **p = &readers; *p; p = &(*p)->next_read)
        if (*p == u) {
            *p = u->next_read;
            break;
        }
    pthread_mutex_unlock(&reading);
}

void pump_cut(const char *token)
{
    pthread_mutex_lock(&reading);
    for (struct pump *u = readers; u; u = u->next_read)
        if (strcmp(u->token, token) == 0) {
            u->cut = true;
            if (u->fd >= 0)
                shutdown(u->fd, SHUT_RDWR);
        }
    pthread_mutex_unlock(&reading);
}

static void carry(struct pump *u, char *buf)
{
    ssize_t n = -1;
    size_t at = 0;

    read_begin(u);
    open_all(u);
    read_open(u);
    while (buf && u->living && (n = take(u, buf + at)) > 0)
        at = give(u, buf, at, (size_t)n);
    if (u->lent) /* a pipe keeps what it has; the next image gets other memory */
        madvise(buf, RING, MADV_DONTNEED);
    for (size_t i = 0; i < u->p.dials; i++) {
        /* A cut image stays one: only a whole one ends with close_notify. */
        if (u->to[i] && n == 0)
            bulk_finish(u->to[i], STUCK_MS, NULL);
        bulk_close(&u->to[i]);
    }
    read_end(u);
    discard(&u->p);
    free(u);
}

/* --- threads --- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t come = PTHREAD_COND_INITIALIZER;
static struct pump *queue;   /* each has a thread that waits */
static unsigned waiting;     /* threads that nothing in the queue is for */

/* NULL: enough of them wait already. */
static struct pump *next_pump(void)
{
    struct pump *u = NULL;

    pthread_mutex_lock(&lock);
    if (waiting < KEPT) {
        waiting++;
        while (!queue)
            pthread_cond_wait(&come, &lock);
        u = queue;
        queue = u->next;
    }
    pthread_mutex_unlock(&lock);
    return u;
}

static bool give_to_waiting(struct pump *u)
{
    pthread_mutex_lock(&lock);
    bool there = waiting > 0;
    if (there) {
        waiting--;
        u->next = queue;
        queue = u;
        pthread_cond_signal(&come);
    }
    pthread_mutex_unlock(&lock);
    return there;
}

static void *run(void *arg)
{
    void *p = mmap(NULL, RING, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *buf = p == MAP_FAILED ? NULL : p;

    for (struct pump *u = arg; u; u = next_pump())
        carry(u, buf);
    if (buf)
        munmap(buf, RING);
    OPENSSL_thread_stop();
    return NULL;
}

int pump_start(const struct pump_plan *plan, struct err *err)
{
    struct pump *u = calloc(1, sizeof *u);
    pthread_attr_t attr;
    sigset_t all, old;
    pthread_t t;

    if (!u) {
        struct pump_plan copy = *plan;
        discard(&copy);
        return err_set(err, ENOMEM, "out of memory");
    }
    u->p = *plan;
    u->fd = -1;
    if (give_to_waiting(u))
        return 0;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the loop's */
    int rc = pthread_create(&t, &attr, run, u);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (rc) {
        discard(&u->p);
        free(u);
        return err_set(err, rc, "an image's thread: %s", strerror(rc));
    }
    return 0;
}

int pump_give(int sock, const struct pump_dial *to, struct err *err)
{
    struct pump_plan p = { .in = -1, .conn = -1, .dials = 1 };
    int s[2];

    if (image_pipe(s) < 0)
        return err_set(err, errno, "a pipe: %s", strerror(errno));
    CLEANUP(cleanup_close) int theirs = s[1];
    p.in = s[0];
    p.dial[0] = *to;
    if (pkt_send(sock, "", 1, &theirs, 1, err) == 0)
        return pump_start(&p, err);
    close(s[0]);
    return -1;
}
