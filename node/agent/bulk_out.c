/* bulk_out.c - a stream that goes to its reader over the bulk channel */
#include "node/agent/bulk_out.h"
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DIAL_MS 5000
#define CHUNK (128u * 1024)
#define ACK_EVERY (128u * 1024) /* the reader acknowledges at least this often */
#define LOOK_AFTER (256u * 1024) /* sent before it is worth looking for their word */
#define STACK (256u * 1024)

struct bulk_out {
    struct bulk_out_plan plan;
    int sock; /* a copy of the connection's descriptor, only to shut it down */
    pthread_t thread;
    _Atomic int state;
    atomic_bool stop;
    struct err err;
    /* the thread's own */
    int fd;
    bulk_t *b;
    uint64_t sent;
    unsigned char ack[8]; /* the one that is arriving */
    size_t ack_got;
};

void ring_acknowledge(struct ring *r, uint64_t to, int bell_fd)
{
    uint64_t tail = atomic_load(&r->tail), one = 1;

    while (tail < to && !atomic_compare_exchange_weak(&r->tail, &tail, to))
        continue;
    if ((atomic_load(&r->flags) & RING_FULL) && ring_step_free(r) &&
        atomic_exchange(&r->dirty_for_init, 1) == 0)
        while (write(bell_fd, &one, sizeof one) < 0 && errno == EINTR)
            continue;
}

static void ring_wake(struct ring *r)
{
    atomic_store(&r->bulk_waiter, 0);
    syscall(SYS_futex, &r->bulk_waiter, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Sleep until bpinit adds something, or we are to stop. */
static void wait_for_bytes(struct bulk_out *b)
{
    struct ring *r = b->plan.ring;

    atomic_store(&r->bulk_waiter, 1);
    if (atomic_load(&r->head) != b->sent || (atomic_load(&r->flags) & RING_EOF) ||
        atomic_load(&b->stop))
        atomic_store(&r->bulk_waiter, 0);
    else
        syscall(SYS_futex, &r->bulk_waiter, FUTEX_WAIT, 1, NULL, NULL, 0);
}

/* Take what acknowledgements there are; waits if there is none. */
static int take_acks(struct bulk_out *b)
{
    unsigned char buf[512];
    ssize_t n = bulk_read(b->b, buf, sizeof buf, -1, &b->err);

    if (n < 0)
        return -1;
    if (n == 0)
        return err_set(&b->err, EPIPE, "the reader has ended the bulk channel");
    for (ssize_t i = 0; i < n; i++) {
        b->ack[b->ack_got++] = buf[i];
        if (b->ack_got < sizeof b->ack)
            continue;
        uint64_t to;
        memcpy(&to, b->ack, sizeof to);
        to = le64toh(to);
        b->ack_got = 0;
        if (to > b->sent)
            return err_set(&b->err, EPROTO, "the reader acknowledges what was not sent");
        ring_acknowledge(b->plan.ring, to, b->plan.bell_fd);
    }
    return 0;
}

static int send_chunk(struct bulk_out *b, uint64_t head)
{
    struct ring *r = b->plan.ring;
    size_t at = b->sent & (SPACE_RING_BYTES - 1), n = SPACE_RING_BYTES - at;

    if (head - b->sent < n)
        n = head - b->sent;
    if (n > CHUNK)
        n = CHUNK;
    if (bulk_write(b->b, ring_data(r) + at, n, -1, &b->err) < 0)
        return -1;
    b->sent += n;
    return 0;
}

/* 1 the end is acknowledged, -1 broken. */
static int copy(struct bulk_out *b)
{
    struct ring *r = b->plan.ring;

    while (!atomic_load(&b->stop)) {
        /* The flag first: when it is set, head has its last value. */
        bool last = atomic_load(&r->flags) & RING_EOF;
        uint64_t head = atomic_load(&r->head);
        if (head - b->sent > SPACE_RING_BYTES)
            return err_set(&b->err, EPROTO, "the ring makes no sense");
        uint64_t unsaid = b->sent - atomic_load(&r->tail);
        if (unsaid >= LOOK_AFTER && bulk_readable(b->b, 0) && take_acks(b) < 0)
            return -1;
        if (b->sent < head) {
            if (send_chunk(b, head) < 0)
                return -1;
        } else if (last) {
            if (bulk_finish(b->b, -1, &b->err) < 0)
                return -1;
            while (atomic_load(&r->tail) < head)
                if (take_acks(b) < 0)
                    return -1;
            return 1;
        } else if (b->sent - atomic_load(&r->tail) >= ACK_EVERY) {
            /* So much in flight that an acknowledgement must come; without it
             * the ring may be full, and no byte comes that would wake us. */
            if (take_acks(b) < 0)
                return -1;
        } else {
            wait_for_bytes(b);
        }
    }
    return err_set(&b->err, ECANCELED, "stopped");
}

static int say_token(struct bulk_out *b)
{
    unsigned char said[BULK_TOKEN + 8];
    uint64_t from = htole64(b->plan.from);

    memcpy(said, b->plan.ticket.token, BULK_TOKEN);
    memcpy(said + BULK_TOKEN, &from, sizeof from);
    ssize_t n = send(b->fd, said, sizeof said, MSG_NOSIGNAL);
    if (n == sizeof said)
        return 0;
    return err_set(&b->err, n < 0 ? errno : EIO, "bulk channel: %s",
                   n < 0 ? strerror(errno) : "no room for 40 bytes");
}

static int connect_reader(struct bulk_out *b)
{
    if (bulk_dial_wait(b->fd, DIAL_MS, &b->err) < 0 || say_token(b) < 0)
        return -1;
    /* No time limit: a stopped reader is as slow as it likes. */
    b->b = bulk_client(b->fd, &b->plan.ticket, -1, &b->err);
    b->fd = -1;
    return b->b ? 0 : -1;
}

static void *run(void *arg)
{
    struct bulk_out *b = arg;
    uint64_t one = 1;
    int state = BULK_OUT_REFUSED;

    if (connect_reader(b) == 0)
        state = copy(b) == 1 ? BULK_OUT_ENDED : BULK_OUT_CUT;
    bulk_close(&b->b);
    cleanup_close(&b->fd);
    atomic_store(&b->state, state);
    while (write(b->plan.done_fd, &one, sizeof one) < 0 && errno == EINTR)
        continue;
    return NULL;
}

static int start_thread(bulk_out_t *b, struct err *err)
{
    sigset_t all, old;
    pthread_attr_t attr;

    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the loop's */
    int rc = pthread_create(&b->thread, &attr, run, b);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return rc ? err_set(err, rc, "bulk thread: %s", strerror(rc)) : 0;
}

static void notice_silence(int fd)
{
    int on = 1, idle = 10, every = 5, count = 3;

    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

static void discard(bulk_out_t *b)
{
    cleanup_close(&b->fd);
    cleanup_close(&b->sock);
    explicit_bzero(&b->plan.ticket, sizeof b->plan.ticket);
    free(b);
}

bulk_out_t *bulk_out_start(const struct bulk_out_plan *p, struct err *err)
{
    bulk_out_t *b = calloc(1, sizeof *b);

    if (!b) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    b->plan = *p;
    b->plan.addr = NULL;
    b->sent = p->from;
    b->sock = -1;
    b->fd = bulk_dial_start(p->addr, p->port, err);
    if (b->fd < 0) {
        discard(b);
        return NULL;
    }
    notice_silence(b->fd);
    b->sock = fcntl(b->fd, F_DUPFD_CLOEXEC, 0);
    if (b->sock < 0)
        err_set(err, errno, "bulk channel: %s", strerror(errno));
    if (b->sock < 0 || start_thread(b, err) < 0) {
        discard(b);
        return NULL;
    }
    return b;
}

enum bulk_out_state bulk_out_state(const bulk_out_t *b)
{
    return (enum bulk_out_state)atomic_load(&b->state);
}

const char *bulk_out_why(const bulk_out_t *b) { return b->err.text; }

void bulk_out_stop(bulk_out_t **bp)
{
    bulk_out_t *b = *bp;

    if (!b)
        return;
    atomic_store(&b->stop, true);
    shutdown(b->sock, SHUT_RDWR);
    ring_wake(b->plan.ring);
    pthread_join(b->thread, NULL);
    discard(b);
    *bp = NULL;
}
