/* reader.c - the reader's side of doc/streams.md: one launch's stdio at iofwd */
#include "bus/le.h"
#include "clients/bpsh/reader.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "bus/stream.h"

#define RX_BYTES (256 * 1024)
#define RX_TURN 8                /* reads before the rest of the loop has its turn */
#define TX_ROOM (256 * 1024)     /* pieces of stdin that may wait to be sent */
#define SMALL_BODY 4096          /* bodies of messages other than DATA */
#define ACK_BYTES (256 * 1024)   /* acknowledge at the latest after so many */
#define RETRY_FIRST_MS 10
#define RETRY_LAST_MS 500
#define FDS 8                    /* descriptors that may have come ahead of their BULK */

struct in_stream {
    uint64_t received, taken, acked, limit;
    uint64_t asked; /* say when all before this is taken; 0: do not */
    bool over;     /* its end was seen, or it is forgotten */
    bool at_end;   /* received is the end: says EOF when acknowledging */
    bool bulk;     /* on the bulk channel */
    bool moved;    /* its end was said to be none of what its process says */
    bool resuming; /* a gap was seen and RESUME was sent */
};

struct reader {
    loop_t *loop;
    struct sockaddr_un addr;
    struct reader_conf conf;
    struct reader_ops ops;
    void *arg;
    struct in_stream *stream; /* 2 a rank */
    int *node;
    bool *heard, *forgotten; /* a rank */
    bool started;   /* the launch was answered */
    bool closed[3]; /* we have said that we do not want this fd any more */
    uint64_t input_acked;
    bool input_wanted; /* a CREDIT for stdin came over this connection */

    int sock, timer, delay_ms;
    bool watching_out;
    int fd[FDS], nfds;
    char *rx;
    size_t rx_len;
    struct stream_msg cur; /* a DATA message whose body is on its way */
    size_t body_left;
    char *tx;
    size_t tx_start, tx_len, tx_room;
    bool broken; /* lose the connection at the end of this call */
};

static void on_socket(void *arg, int fd, uint32_t events);
static void connect_now(void *arg);

static struct in_stream *stream_of(reader_t *r, uint32_t rank, int fd)
{
    return &r->stream[2ul * rank + (unsigned)(fd - 1)];
}

/* --- sending --- */

/* Room at the end of what waits; NULL: out of memory, or no connection. */
static char *tx_reserve(reader_t *r, size_t n)
{
    if (r->sock < 0)
        return NULL;
    if (r->tx_start + r->tx_len + n > r->tx_room && r->tx_start) {
        memmove(r->tx, r->tx + r->tx_start, r->tx_len);
        r->tx_start = 0;
    }
    if (r->tx_len + n > r->tx_room) {
        size_t room = r->tx_room ? r->tx_room : 4096;
        while (room < r->tx_len + n)
            room *= 2;
        char *tx = realloc(r->tx, room);
        if (!tx) {
            r->broken = true; /* try again from what is known, when there is memory */
            return NULL;
        }
        r->tx = tx;
        r->tx_room = room;
    }
    return r->tx + r->tx_start + r->tx_len;
}

/* The header; returns where n bytes of body go, or NULL. */
static char *tx_message(reader_t *r, const struct stream_msg *m)
{
    struct stream_msg full = *m;
    char *p = tx_reserve(r, STREAM_HEADER + m->len);

    if (!p)
        return NULL;
    full.launch = r->conf.launch;
    stream_pack((unsigned char *)p, &full);
    r->tx_len += STREAM_HEADER + m->len;
    return p + STREAM_HEADER;
}

static void send_credit(reader_t *r, uint32_t rank, int fd)
{
    struct in_stream *s = stream_of(r, rank, fd);
    struct stream_msg m = { .kind = STREAM_CREDIT, .fd = (uint8_t)fd, .rank = rank,
                            .flags = s->at_end ? STREAM_EOF : 0, .offset = s->received };

    s->limit = s->taken + r->conf.window;
    s->acked = s->received;
    m.limit = s->limit;
    tx_message(r, &m);
}

/* Its node has asked: is all before that out of our hands? */
static void say_taken(reader_t *r, uint32_t rank, int fd)
{
    struct in_stream *s = stream_of(r, rank, fd);

    if (!s->asked || s->taken < s->asked)
        return;
    s->asked = 0;
    tx_message(r, &(struct stream_msg){ .kind = STREAM_TAKEN, .fd = (uint8_t)fd, .rank = rank,
                                        .offset = s->taken });
}

/* What a stream may still send of the window, as we have said so far. */
static uint64_t allowed(const struct in_stream *s)
{
    return s->limit > s->received ? s->limit - s->received : 0;
}

/* One limit is for all streams: say what the least may, then tell the others. */
static void send_open(reader_t *r)
{
    const uint32_t most = (STREAM_BODY_MAX - 4) / 28;
    uint64_t least = r->conf.window;

    for (uint64_t i = 0; i < 2ull * r->conf.n; i++) {
        struct in_stream *s = &r->stream[i];
        s->limit = s->taken + r->conf.window;
        if (!s->over && !s->bulk && r->conf.use[i & 1] && allowed(s) < least)
            least = allowed(s);
    }
    for (uint32_t from = 0; from < r->conf.n; from += most) {
        uint32_t n = r->conf.n - from < most ? r->conf.n - from : most;
        unsigned char *p = (unsigned char *)tx_message(r, &(struct stream_msg){
            .kind = STREAM_OPEN, .rank = from, .offset = r->conf.n, .limit = least, .len = 4 + 28 * n,
            .flags = (uint16_t)((r->conf.raw ? STREAM_RAW : 0) |
                                (r->started ? STREAM_STARTED : 0)) });
        if (!p)
            return;
        p = le_put32(p, n);
        for (uint32_t i = from; i < from + n; i++)
            p = le_put32(p, (uint32_t)r->node[i]);
        for (uint32_t i = from; i < from + n; i++) {
            p = le_put64(p, r->input_acked);
            for (int fd = 1; fd <= 2; fd++) {
                struct in_stream *s = stream_of(r, i, fd);
                p = le_put64(p, s->bulk ? STREAM_HOLD : s->received);
                s->acked = s->received;
                s->resuming = false;
            }
        }
    }
    for (uint32_t i = 0; i < r->conf.n; i++)
        for (int fd = 1; fd <= 2; fd++) {
            struct in_stream *s = stream_of(r, i, fd);
            if (r->conf.use[fd - 1] && !s->over && !s->bulk && allowed(s) > least)
                send_credit(r, i, fd);
        }
}

static void disconnect(reader_t *r)
{
    r->broken = false;
    if (r->sock >= 0) {
        loop_fd_del(r->loop, r->sock);
        close(r->sock);
    }
    r->sock = -1;
    r->watching_out = false;
    r->input_wanted = false;
    r->rx_len = r->body_left = 0;
    r->tx_start = r->tx_len = 0;
    while (r->nfds)
        close(r->fd[--r->nfds]);
    loop_timer_del(r->loop, r->timer);
    r->timer = loop_timer(r->loop, r->delay_ms, false, connect_now, r);
    r->delay_ms = r->delay_ms * 2 > RETRY_LAST_MS ? RETRY_LAST_MS : r->delay_ms * 2;
}

static bool try_connect(reader_t *r)
{
    int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (sock < 0)
        return false;
    if (connect(sock, (struct sockaddr *)&r->addr, sizeof r->addr) < 0 ||
        loop_fd(r->loop, sock, EPOLLIN, on_socket, r, NULL) < 0) {
        close(sock);
        return false;
    }
    r->sock = sock;
    return true;
}

/* We want nothing of this rank (STREAM_ALL: of any). */
static void send_gone(reader_t *r, uint32_t rank)
{
    tx_message(r, &(struct stream_msg){ .kind = STREAM_CLOSE, .rank = rank,
                                        .flags = STREAM_GONE });
}

static void connect_now(void *arg)
{
    reader_t *r = arg;

    r->timer = 0;
    if (!try_connect(r)) {
        disconnect(r);
        return;
    }
    send_open(r);
    for (int fd = 0; fd <= 2; fd++)
        if (r->closed[fd])
            tx_message(r, &(struct stream_msg){ .kind = STREAM_CLOSE, .fd = (uint8_t)fd,
                                                .rank = STREAM_ALL });
    for (uint32_t i = 0; i < r->conf.n; i++)
        if (r->forgotten[i])
            send_gone(r, i);
    r->ops.again(r->arg, 0);
    reader_flush(r);
}

void reader_flush(reader_t *r)
{
    while (r->sock >= 0 && r->tx_len && !r->broken) {
        ssize_t n = send(r->sock, r->tx + r->tx_start, r->tx_len, MSG_NOSIGNAL);
        if (n >= 0) {
            r->tx_start += (size_t)n;
            r->tx_len -= (size_t)n;
        } else if (errno == EAGAIN) {
            break;
        } else if (errno != EINTR) {
            r->broken = true;
        }
    }
    if (r->broken) {
        disconnect(r);
        return;
    }
    if (r->sock < 0)
        return;
    if (!r->tx_len)
        r->tx_start = 0;
    bool want = r->tx_len > 0;
    if (want != r->watching_out &&
        loop_fd(r->loop, r->sock, want ? EPOLLIN | EPOLLOUT : EPOLLIN, on_socket, r, NULL) == 0)
        r->watching_out = want;
}

void reader_drain(reader_t *r, int ms)
{
    int64_t end = now_ms() + ms;

    for (reader_flush(r); r->sock >= 0 && r->tx_len && now_ms() < end; reader_flush(r)) {
        struct pollfd p = { .fd = r->sock, .events = POLLOUT };
        poll(&p, 1, (int)(end - now_ms()));
    }
}

/* --- receiving --- */

static void stream_over(reader_t *r, uint32_t rank, int fd, bool lost)
{
    struct in_stream *s = stream_of(r, rank, fd);

    if (s->over || !r->conf.use[fd - 1])
        return;
    s->over = true;
    r->ops.end(r->arg, rank, fd, lost);
}

/* n bytes of the body of cur, whose offset moves along. */
static void take_data(reader_t *r, const char *p, size_t n)
{
    struct stream_msg *m = &r->cur;
    struct in_stream *s = stream_of(r, m->rank, m->fd);
    uint64_t at = m->offset;

    m->offset += n;
    if (s->over || s->bulk)
        return;
    if (at > s->received) {
        if (!s->resuming)
            tx_message(r, &(struct stream_msg){ .kind = STREAM_RESUME, .fd = m->fd,
                                                .rank = m->rank, .offset = s->received,
                                                .limit = s->limit });
        s->resuming = true;
        return;
    }
    if (at + n <= s->received)
        return;
    p += s->received - at;
    n -= s->received - at;
    if (s->received + n > s->limit) {
        r->broken = true; /* more than we let it send */
        return;
    }
    s->resuming = false;
    s->received += n;
    r->ops.data(r->arg, m->rank, m->fd, p, n);
    if (s->received - s->acked >= ACK_BYTES)
        send_credit(r, m->rank, m->fd);
}

static void data_complete(reader_t *r)
{
    const struct stream_msg *m = &r->cur;
    struct in_stream *s = stream_of(r, m->rank, m->fd);

    if (!(m->flags & STREAM_EOF) || s->bulk)
        return;
    if (!s->over && s->received != m->offset)
        return; /* there was a gap */
    if (!s->over || s->at_end) {
        s->at_end = true;
        s->moved = m->flags & STREAM_MOVED;
        send_credit(r, m->rank, m->fd); /* a repeated end is acknowledged again */
    }
    stream_over(r, m->rank, m->fd, false);
}

static void take_none(reader_t *r, const struct stream_msg *m)
{
    for (uint32_t i = 0; i < r->conf.n; i++) {
        if (m->rank == STREAM_ALL ? r->node[i] != m->node : i != m->rank)
            continue;
        r->heard[i] = true;
        for (int fd = 1; fd <= 2; fd++)
            if (!stream_of(r, i, fd)->bulk)
                stream_over(r, i, fd, true);
    }
}

static void take_bulk(reader_t *r, const struct stream_msg *m, const char *body)
{
    struct bulk_ticket t;

    if (!r->nfds || m->fd != 1 || m->rank >= r->conf.n || m->len < BULK_TOKEN + BULK_KEY) {
        r->broken = true;
        return;
    }
    int sock = r->fd[0];
    memmove(r->fd, r->fd + 1, sizeof r->fd - sizeof r->fd[0]);
    r->nfds--;
    struct in_stream *s = stream_of(r, m->rank, 1);
    if (s->over || s->bulk || m->offset != s->received) {
        close(sock); /* the sender notices, and goes on the normal way */
        return;
    }
    memcpy(t.token, body, BULK_TOKEN);
    t.token[BULK_TOKEN] = '\0';
    memcpy(t.key, body + BULK_TOKEN, BULK_KEY);
    s->bulk = true;
    r->ops.bulk(r->arg, m->rank, m->offset, &t, sock);
}

static void take_message(reader_t *r, const struct stream_msg *m, const char *body)
{
    switch (m->kind) {
    case STREAM_CREDIT:
        if (m->fd != 0)
            break;
        r->input_wanted = true;
        if (m->offset > r->input_acked)
            r->input_acked = m->offset;
        r->ops.input(r->arg, m->offset, m->limit, m->flags & STREAM_GONE);
        break;
    case STREAM_RESUME:
        if (m->fd == 0)
            r->ops.again(r->arg, m->offset);
        break;
    case STREAM_TAKEN:
        if (m->fd < 1 || m->rank >= r->conf.n)
            break;
        stream_of(r, m->rank, m->fd)->asked = m->offset;
        say_taken(r, m->rank, m->fd);
        break;
    case STREAM_NONE: take_none(r, m); break;
    case STREAM_BULK: take_bulk(r, m, body); break;
    case STREAM_GO: r->delay_ms = RETRY_FIRST_MS; break;
    }
}

/* Use up what has arrived, as far as it is complete. */
static size_t take_bytes(reader_t *r, const char *p, size_t n)
{
    size_t used = 0;

    while (!r->broken) {
        struct stream_msg m;
        if (r->body_left) {
            size_t part = n - used < r->body_left ? n - used : r->body_left;
            if (!part)
                break;
            take_data(r, p + used, part);
            used += part;
            r->body_left -= part;
            if (!r->body_left)
                data_complete(r);
            continue;
        }
        if (n - used < STREAM_HEADER)
            break;
        if (stream_unpack(&m, (const unsigned char *)p + used) < 0 ||
            m.launch != r->conf.launch) {
            r->broken = true;
            break;
        }
        if (m.kind == STREAM_DATA) {
            if (m.fd < 1 || m.fd > 2 || m.rank >= r->conf.n) {
                r->broken = true;
                break;
            }
            used += STREAM_HEADER;
            r->heard[m.rank] = true;
            r->cur = m;
            r->body_left = m.len;
            if (!m.len)
                data_complete(r);
            continue;
        }
        if (m.len > SMALL_BODY) {
            r->broken = true;
            break;
        }
        if (n - used < STREAM_HEADER + m.len)
            break;
        take_message(r, &m, p + used + STREAM_HEADER);
        used += STREAM_HEADER + m.len;
    }
    return used;
}

/* Descriptors that came with the bytes. */
static void take_fds(reader_t *r, struct msghdr *mh)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (r->nfds < FDS) {
                r->fd[r->nfds++] = fd;
            } else {
                close(fd);
                r->broken = true;
            }
        }
    }
}

static void on_socket(void *arg, int fd, uint32_t events)
{
    reader_t *r = arg;

    (void)events;
    for (int i = 0; i < RX_TURN && !r->broken; i++) {
        struct iovec iov = { r->rx + r->rx_len, RX_BYTES - r->rx_len };
        union {
            struct cmsghdr align;
            char room[CMSG_SPACE(sizeof(int) * FDS)];
        } ctl;
        struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl,
                             .msg_controllen = sizeof ctl };
        ssize_t n = recvmsg(fd, &mh, MSG_CMSG_CLOEXEC);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (n <= 0) {
            r->broken = true;
            break;
        }
        take_fds(r, &mh);
        bool filled = (size_t)n == iov.iov_len;
        r->rx_len += (size_t)n;
        size_t used = take_bytes(r, r->rx, r->rx_len);
        r->rx_len -= used;
        memmove(r->rx, r->rx + used, r->rx_len);
        if (!filled)
            break; /* most likely that was all: leave the rest to the loop */
    }
    if (r->broken)
        disconnect(r);
}

/* --- from the others --- */

reader_t *reader_create(loop_t *l, const struct reader_conf *c, const struct reader_ops *ops,
                        void *arg, struct err *err)
{
    reader_t *r = calloc(1, sizeof *r);

    if (!r) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    *r = (reader_t){ .loop = l, .conf = *c, .ops = *ops, .arg = arg, .sock = -1,
                     .started = c->started, .delay_ms = RETRY_FIRST_MS, .addr.sun_family = AF_UNIX };
    r->stream = calloc(2ul * c->n, sizeof *r->stream);
    r->node = malloc(c->n * sizeof *r->node);
    r->heard = calloc(c->n, sizeof *r->heard);
    r->forgotten = calloc(c->n, sizeof *r->forgotten);
    r->rx = malloc(RX_BYTES);
    if (!r->stream || !r->node || !r->heard || !r->forgotten || !r->rx) {
        err_set(err, ENOMEM, "out of memory");
        reader_destroy(&r);
        return NULL;
    }
    if (strlen(c->path) >= sizeof r->addr.sun_path) {
        err_set(err, ENAMETOOLONG, "%s: too long for a socket", c->path);
        reader_destroy(&r);
        return NULL;
    }
    snprintf(r->addr.sun_path, sizeof r->addr.sun_path, "%s", c->path);
    memcpy(r->node, c->node, c->n * sizeof *r->node);
    connect_now(r);
    return r;
}

void reader_destroy(reader_t **rp)
{
    reader_t *r = *rp;

    if (!r)
        return;
    loop_timer_del(r->loop, r->timer);
    if (r->sock >= 0) {
        loop_fd_del(r->loop, r->sock);
        close(r->sock);
    }
    while (r->nfds)
        close(r->fd[--r->nfds]);
    free(r->stream);
    free(r->node);
    free(r->heard);
    free(r->forgotten);
    free(r->rx);
    free(r->tx);
    free(r);
    *rp = NULL;
}

void reader_taken(reader_t *r, uint32_t rank, int fd, uint64_t taken)
{
    struct in_stream *s = stream_of(r, rank, fd);

    s->taken = taken;
    say_taken(r, rank, fd);
    if (!s->over && !s->bulk && taken + r->conf.window >= s->limit + r->conf.window / 2)
        send_credit(r, rank, fd);
}

void reader_bulk_done(reader_t *r, uint32_t rank, uint64_t offset, bool eof)
{
    struct in_stream *s = stream_of(r, rank, 1);

    s->bulk = false;
    s->received = s->taken = s->acked = offset;
    s->limit = offset + r->conf.window;
    if (eof) {
        s->at_end = true;
        s->moved = true; /* the bulk channel does not say: it may be */
        send_credit(r, rank, 1);
        stream_over(r, rank, 1, false);
        return;
    }
    tx_message(r, &(struct stream_msg){ .kind = STREAM_RESUME, .fd = 1, .rank = rank,
                                        .offset = offset, .limit = s->limit });
}

bool reader_moved(const reader_t *r, uint32_t rank, int fd)
{
    return r->stream[2 * rank + (unsigned)(fd - 1)].moved;
}

void reader_forget(reader_t *r, uint32_t rank)
{
    stream_of(r, rank, 1)->over = stream_of(r, rank, 2)->over = true;
    r->forgotten[rank] = true;
    send_gone(r, rank);
}

void reader_close(reader_t *r, int fd)
{
    if (fd < 0) {
        send_gone(r, STREAM_ALL);
        return;
    }
    r->closed[fd] = true;
    tx_message(r, &(struct stream_msg){ .kind = STREAM_CLOSE, .rank = STREAM_ALL,
                                        .fd = (uint8_t)fd });
}

void reader_started(reader_t *r) { r->started = true; }

bool reader_room(const reader_t *r)
{
    return r->sock >= 0 && r->input_wanted && r->tx_len < TX_ROOM;
}

void reader_input(reader_t *r, uint64_t offset, const void *p, size_t n, bool eof)
{
    char *body = tx_message(r, &(struct stream_msg){
        .kind = STREAM_DATA, .fd = 0, .rank = STREAM_ALL, .offset = offset,
        .len = (uint32_t)n, .flags = eof ? STREAM_EOF : 0 });

    if (body && n)
        memcpy(body, p, n);
}

bool reader_heard(const reader_t *r, uint32_t rank) { return r->heard[rank]; }
