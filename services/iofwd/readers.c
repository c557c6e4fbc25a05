/* readers.c - the readers' side: RUN/iofwd, one connection a launch
 *
 * Nothing here waits for a reader: what its socket does not take is queued, up
 * to a budget that output.c keeps to, and written when there is room again.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "services/iofwd/iofwd.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

#define BACKLOG 512
#define READERS_A_USER 2048
#define MESSAGES_A_TURN 16 /* of one reader, so that the others are heard */
#define PIECES 32          /* of one writev */
#define ACCEPT_PAUSE_MS 500

struct item { /* a message that waits for a reader */
    struct item *next;
    uint8_t kind, fd;
    uint32_t rank;
    uint64_t end; /* DATA: stream offset after it */
    int pass;     /* descriptor that goes with its first byte; -1 none */
    size_t done, total, skip;
    unsigned char head[STREAM_HEADER];
    zmq_msg_t body;
};

struct reader {
    struct readers *rs;
    int fd, pidfd;
    struct ucred peer;
    launch_t *launch;
    struct item *first, **end;
    size_t queued; /* bytes, headers and bookkeeping too */
    bool dirty, closing, starved_out; /* starved_out: waits for EPOLLOUT */
    reader_t *next_dirty, *prev, *next;
    /* what it is saying */
    unsigned char head[STREAM_HEADER];
    size_t got;
    struct stream_msg m;
    zmq_msg_t body;
};

struct readers {
    struct iofwd *io;
    char path[PATH_MAX];
    int listener, pause_timer;
    reader_t *first, *dirty;
    size_t n;
};

uint32_t reader_uid(const reader_t *r) { return r->peer.uid; }
int32_t reader_pid(const reader_t *r) { return r->peer.pid; }
size_t reader_queued(const reader_t *r) { return r->queued; }
void reader_set_launch(reader_t *r, launch_t *l) { r->launch = l; }

size_t reader_budget(const reader_t *r)
{
    size_t share = TOTAL_BUDGET / r->rs->n;
    return share < READER_BUDGET ? share : READER_BUDGET;
}

/* ---- out ---- */

static void item_free(struct item *i)
{
    if (i->pass >= 0)
        close(i->pass);
    zmq_msg_close(&i->body);
    free(i);
}

static void mark_dirty(reader_t *r)
{
    if (r->dirty)
        return;
    r->dirty = true;
    r->next_dirty = r->rs->dirty;
    r->rs->dirty = r;
}

static void enqueue(reader_t *r, const struct stream_msg *m, zmq_msg_t *body, size_t skip,
                    int pass)
{
    struct item *i = calloc(1, sizeof *i);
    struct stream_msg h = *m;

    if (!i) {
        /* A hole in a stream would be worse than its end. */
        svc_log("error", "reader %d: out of memory", r->peer.pid);
        if (pass >= 0)
            close(pass);
        reader_close(r);
        return;
    }
    zmq_msg_init(&i->body);
    if (body)
        zmq_msg_move(&i->body, body);
    h.len = (uint32_t)(zmq_msg_size(&i->body) - skip);
    stream_pack(i->head, &h);
    i->kind = h.kind;
    i->fd = h.fd;
    i->rank = h.rank;
    i->end = h.offset + h.len;
    i->skip = skip;
    i->pass = pass;
    i->total = STREAM_HEADER + h.len;
    r->queued += i->total + sizeof *i;
    *r->end = i;
    r->end = &i->next;
    mark_dirty(r);
}

void reader_send(reader_t *r, const struct stream_msg *m, zmq_msg_t *body, size_t skip)
{
    if (!r->closing)
        enqueue(r, m, body, skip, -1);
}

void reader_send_fd(reader_t *r, const struct stream_msg *m, const void *body, size_t len, int fd)
{
    zmq_msg_t b;

    if (r->closing || zmq_msg_init_size(&b, len) < 0) {
        close(fd);
        return;
    }
    memcpy(zmq_msg_data(&b), body, len);
    enqueue(r, m, &b, 0, fd);
    zmq_msg_close(&b);
}

static int pieces_of(const struct item *i, struct iovec *v)
{
    size_t body = i->total - STREAM_HEADER;
    size_t from = i->done > STREAM_HEADER ? i->done - STREAM_HEADER : 0;
    char *data = zmq_msg_data((zmq_msg_t *)&i->body);
    int n = 0;

    if (i->done < STREAM_HEADER)
        v[n++] = (struct iovec){ (char *)i->head + i->done, STREAM_HEADER - i->done };
    if (from < body)
        v[n++] = (struct iovec){ data + i->skip + from, body - from };
    return n;
}

/* A descriptor goes with the first byte of a sendmsg: such a message starts one. */
static ssize_t write_some(reader_t *r)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec v[PIECES];
    struct msghdr h = { .msg_iov = v };

    for (const struct item *i = r->first; i && h.msg_iovlen + 2 <= PIECES; i = i->next) {
        if (i->pass >= 0 && i != r->first)
            break;
        h.msg_iovlen += (size_t)pieces_of(i, v + h.msg_iovlen);
    }
    if (r->first->pass >= 0) {
        memset(&control, 0, sizeof control);
        h.msg_control = &control;
        h.msg_controllen = sizeof control;
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &r->first->pass, sizeof(int));
    }
    return sendmsg(r->fd, &h, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void advance(reader_t *r, size_t n)
{
    while (n && r->first) {
        struct item *i = r->first;
        size_t take = i->total - i->done < n ? i->total - i->done : n;
        if (i->pass >= 0) {
            close(i->pass);
            i->pass = -1;
        }
        i->done += take;
        n -= take;
        if (i->done < i->total)
            return;
        r->first = i->next;
        if (!r->first)
            r->end = &r->first;
        r->queued -= i->total + sizeof *i;
        if (i->kind == STREAM_DATA && r->launch)
            launch_written(r->launch, i->rank, i->fd, i->end);
        item_free(i);
    }
}

static void on_event(void *arg, int fd, uint32_t events);

/* 0 all is written or waits for room; -1 the connection is broken. */
static int flush(reader_t *r)
{
    struct err err = { 0 };

    while (r->first) {
        ssize_t n = write_some(r);
        if (n > 0) {
            advance(r, (size_t)n);
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            return -1;
        if (!r->starved_out && !r->closing) {
            r->starved_out = true;
            return loop_fd(r->rs->io->loop, r->fd, EPOLLIN | EPOLLOUT, on_event, r, &err);
        }
        return 0;
    }
    if (r->starved_out) {
        r->starved_out = false;
        return loop_fd(r->rs->io->loop, r->fd, EPOLLIN, on_event, r, &err);
    }
    return 0;
}

/* ---- the end ---- */

static void destroy(reader_t *r)
{
    readers_t *rs = r->rs;

    if (r->prev)
        r->prev->next = r->next;
    else
        rs->first = r->next;
    if (r->next)
        r->next->prev = r->prev;
    rs->n--;
    while (r->first) {
        struct item *i = r->first;
        r->first = i->next;
        item_free(i);
    }
    loop_fd_del(rs->io->loop, r->fd);
    close(r->fd);
    if (r->pidfd >= 0)
        close(r->pidfd);
    zmq_msg_close(&r->body);
    free(r);
}

void reader_close(reader_t *r)
{
    if (r->closing)
        return;
    r->closing = true;
    loop_fd_del(r->rs->io->loop, r->fd);
    mark_dirty(r); /* destroyed at the end of the turn */
}

/* Its connection has ended: is it dead, or may it come back? */
static void detach(reader_t *r)
{
    launch_t *l = r->launch;
    int pidfd = r->pidfd;

    if (!l)
        return;
    r->launch = NULL;
    r->pidfd = -1;
    launch_reader_lost(l, pidfd);
}

static void lost(reader_t *r)
{
    detach(r);
    reader_close(r);
}

static void broke_rules(reader_t *r, const struct err *err)
{
    launch_t *l = r->launch;

    svc_log("warning", "reader %d of user %u: %s", r->peer.pid, r->peer.uid, err->text);
    if (l) {
        r->launch = NULL;
        launch_end(l, true);
    }
    reader_close(r);
}

/* At the end of each turn: one write for all that has come for a reader. */
static void flush_all(void *arg)
{
    readers_t *rs = arg;

    while (rs->dirty) {
        reader_t *r = rs->dirty;
        rs->dirty = r->next_dirty;
        r->dirty = false;
        if (flush(r) < 0 && !r->closing) {
            lost(r);
        } else if (r->closing) {
            detach(r); /* when it was for want of memory */
            destroy(r);
        } else if (r->launch && r->queued < reader_budget(r) / 2) {
            launch_room(r->launch);
        }
    }
}

/* ---- in ---- */

static int check_size(const struct stream_msg *m, struct err *err)
{
    if (m->kind == STREAM_OPEN || (m->kind == STREAM_DATA && m->len <= WINDOW_MAX) || !m->len)
        return 0;
    return err_set(err, EPROTO, "message of kind %d with %u bytes", m->kind, m->len);
}

/* 1 more was read, 0 nothing there now, -1 the end (err->code 0: closed). */
static int read_some(reader_t *r, void *p, size_t len, struct err *err)
{
    ssize_t n = recv(r->fd, p, len, MSG_DONTWAIT);

    if (n > 0) {
        r->got += (size_t)n;
        return 1;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    (void)err;
    return -1;
}

static int handle(reader_t *r, struct err *err)
{
    if (r->launch)
        return launch_from_reader(r->launch, &r->m, &r->body, err);
    return launch_open(r->rs->io, r, &r->m, zmq_msg_data(&r->body), err);
}

/* One message, or part of one: as read_some(). */
static int take(reader_t *r, struct err *err)
{
    if (r->got < STREAM_HEADER) {
        int rc = read_some(r, r->head + r->got, STREAM_HEADER - r->got, err);
        if (rc <= 0 || r->got < STREAM_HEADER)
            return rc;
        if (stream_unpack(&r->m, r->head) < 0)
            return err_set(err, EPROTO, "not a stream message");
        if (check_size(&r->m, err) < 0)
            return -1;
        zmq_msg_close(&r->body);
        if (zmq_msg_init_size(&r->body, r->m.len) < 0) {
            zmq_msg_init(&r->body);
            return err_set(err, ENOMEM, "out of memory");
        }
    }
    size_t at = r->got - STREAM_HEADER;
    if (at < r->m.len) {
        int rc = read_some(r, (char *)zmq_msg_data(&r->body) + at, r->m.len - at, err);
        if (rc <= 0 || r->got < STREAM_HEADER + r->m.len)
            return rc;
    }
    r->got = 0;
    return handle(r, err) < 0 ? -1 : 1;
}

static void on_event(void *arg, int fd, uint32_t events)
{
    reader_t *r = arg;

    (void)fd;
    if (events & EPOLLOUT)
        mark_dirty(r);
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    for (int i = 0; i < MESSAGES_A_TURN && !r->closing; i++) {
        struct err err = { 0 };
        int rc = take(r, &err);
        if (rc == 0)
            return;
        if (rc < 0 && err.code)
            broke_rules(r, &err);
        else if (rc < 0)
            lost(r);
    }
}

/* ---- connections ---- */

static size_t count_user(const readers_t *rs, uint32_t uid)
{
    size_t n = 0;

    for (const reader_t *r = rs->first; r; r = r->next)
        n += r->peer.uid == uid;
    return n;
}

/* The kernel's word on who has connected, not on who has that pid by now. */
static int open_pidfd(int fd, pid_t pid)
{
    int pidfd = -1;
    socklen_t len = sizeof pidfd;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) == 0)
        return pidfd;
    return errno == ENOPROTOOPT ? pidfd_open(pid, 0) : -1;
}

static void welcome(readers_t *rs, int fd)
{
    struct err err = { 0 };
    reader_t *r = calloc(1, sizeof *r);
    socklen_t len = sizeof r->peer;

    if (!r) {
        close(fd);
        return;
    }
    r->rs = rs;
    r->fd = fd;
    r->end = &r->first;
    zmq_msg_init(&r->body);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &r->peer, &len) < 0 ||
        (r->peer.uid != 0 && count_user(rs, r->peer.uid) >= READERS_A_USER) ||
        loop_fd(rs->io->loop, fd, EPOLLIN, on_event, r, &err) < 0) {
        svc_log("warning", "reader %d of user %u: too many", r->peer.pid, r->peer.uid);
        close(fd);
        free(r);
        return;
    }
    r->pidfd = open_pidfd(fd, r->peer.pid);
    r->next = rs->first;
    if (rs->first)
        rs->first->prev = r;
    rs->first = r;
    rs->n++;
}

static void on_connect(void *arg, int fd, uint32_t events);

static void listen_again(void *arg)
{
    readers_t *rs = arg;
    struct err err = { 0 };

    rs->pause_timer = 0;
    if (loop_fd(rs->io->loop, rs->listener, EPOLLIN, on_connect, rs, &err) < 0)
        svc_log("error", "%s", err.text);
}

static void on_connect(void *arg, int fd, uint32_t events)
{
    readers_t *rs = arg;

    (void)events;
    for (;;) {
        int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (c >= 0) {
            welcome(rs, c);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        if (errno != EAGAIN) { /* no descriptors left: do not spin on it */
            svc_log("error", "accept: %s", strerror(errno));
            loop_fd_del(rs->io->loop, fd);
            rs->pause_timer = loop_timer(rs->io->loop, ACCEPT_PAUSE_MS, false, listen_again, rs);
        }
        return;
    }
}

static int listen_on(readers_t *rs, struct err *err)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };

    if (strlen(rs->path) >= sizeof at.sun_path)
        return err_set(err, ENAMETOOLONG, "%s: too long for a socket", rs->path);
    memcpy(at.sun_path, rs->path, strlen(rs->path) + 1);
    unlink(rs->path);
    rs->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (rs->listener < 0 || bind(rs->listener, (struct sockaddr *)&at, sizeof at) < 0 ||
        chmod(rs->path, 0666) < 0 || listen(rs->listener, BACKLOG) < 0)
        return err_set(err, errno, "%s: %s", rs->path, strerror(errno));
    return loop_fd(rs->io->loop, rs->listener, EPOLLIN, on_connect, rs, err);
}

readers_t *readers_create(struct iofwd *io, struct err *err)
{
    readers_t *rs = calloc(1, sizeof *rs);

    if (!rs) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    rs->io = io;
    rs->listener = -1;
    cm_path(rs->path, "iofwd");
    if (listen_on(rs, err) < 0) {
        readers_destroy(&rs);
        return NULL;
    }
    loop_turn(io->loop, flush_all, rs);
    return rs;
}

void readers_destroy(readers_t **rsp)
{
    readers_t *rs = *rsp;

    if (!rs)
        return;
    while (rs->first) {
        rs->first->launch = NULL;
        destroy(rs->first);
    }
    if (rs->listener >= 0) {
        loop_fd_del(rs->io->loop, rs->listener);
        close(rs->listener);
        unlink(rs->path);
    }
    loop_timer_del(rs->io->loop, rs->pause_timer);
    free(rs);
    *rsp = NULL;
}
