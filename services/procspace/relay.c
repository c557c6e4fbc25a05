/* relay.c - connections of bodies back to whoever started them
 *
 * A launch may ask that a descriptor be a connection to a port of the asker's
 * (BPROC_IO_SOCKET to 0.0.0.0). Nodes reach the master's address. When the
 * asker lives in another network namespace than the cluster, as it does beside
 * virtual nodes, nobody listens there under that port: then we do, under a
 * port of our own that the node is told instead, and pass the bytes on.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "services/procspace/procspace.h"

#define BUFFER (64u * 1024)
#define OPEN_MS 180000 /* until all connections must have come */

struct side { /* one end; buf: what was read from it and not yet written to the other */
    struct pair *pair;
    struct side *other;
    int fd;
    bool eof, told; /* nothing more comes from it; the other end knows */
    size_t len, off;
    char buf[BUFFER];
};

struct pair {
    loop_t *loop;
    struct side node, asker;
};

struct relay {
    loop_t *loop;
    int listener, netns;
    uint16_t port; /* of the asker, network order */
    uint32_t wanted; /* connections that may still come */
    int timer;
};

/* --- bytes --- */

static void pair_close(struct pair *p)
{
    for (int i = 0; i < 2; i++) {
        struct side *s = i ? &p->asker : &p->node;
        loop_fd_del(p->loop, s->fd);
        close(s->fd);
    }
    free(p);
}

/* From s to the other one, as far as it goes now. -1: one of them is gone. */
static int move(struct side *s)
{
    for (;;) {
        if (s->len) {
            ssize_t n = send(s->other->fd, s->buf + s->off, s->len, MSG_NOSIGNAL);
            if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -1;
            s->off += (size_t)n;
            s->len -= (size_t)n;
        } else if (s->eof) {
            if (!s->told)
                shutdown(s->other->fd, SHUT_WR);
            s->told = true;
            return 0;
        } else {
            ssize_t n = recv(s->fd, s->buf, sizeof s->buf, 0);
            if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -1;
            s->eof = n == 0;
            s->off = 0;
            s->len = (size_t)n;
        }
    }
}

static void on_side(void *arg, int fd, uint32_t events);

static int watch(struct side *s)
{
    uint32_t want = (s->len || s->eof ? 0u : (uint32_t)EPOLLIN) |
                    (s->other->len ? (uint32_t)EPOLLOUT : 0u);

    if (!want) { /* a descriptor that has ended would wake us for ever */
        loop_fd_del(s->pair->loop, s->fd);
        return 0;
    }
    return loop_fd(s->pair->loop, s->fd, want, on_side, s, NULL);
}

static void pump(struct pair *p)
{
    if (move(&p->node) < 0 || move(&p->asker) < 0 || (p->node.told && p->asker.told) ||
        watch(&p->node) < 0 || watch(&p->asker) < 0)
        pair_close(p);
}

static void on_side(void *arg, int fd, uint32_t events)
{
    (void)fd;
    (void)events;
    pump(((struct side *)arg)->pair);
}

/* --- connections --- */

/* A socket in the asker's network, on its way to the asker's port. */
static int dial(const struct relay *r)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = r->port,
                              .sin_addr = { htonl(INADDR_LOOPBACK) } };
    CLEANUP(cleanup_close) int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

    if (home < 0 || setns(r->netns, CLONE_NEWNET) < 0)
        return -1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (setns(home, CLONE_NEWNET) < 0)
        abort(); /* nothing of ours could be reached from here */
    if (fd >= 0 && connect(fd, (struct sockaddr *)&in, sizeof in) < 0 && errno != EINPROGRESS)
        cleanup_close(&fd);
    return fd;
}

static void on_dialed(void *arg, int fd, uint32_t events)
{
    struct side *s = arg;
    int code = 0;
    socklen_t len = sizeof code;

    (void)events;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0 || code)
        pair_close(s->pair);
    else
        pump(s->pair);
}

static void relay_close(struct relay *r)
{
    loop_timer_del(r->loop, r->timer);
    loop_fd_del(r->loop, r->listener);
    close(r->listener);
    close(r->netns);
    free(r);
}

static void on_time(void *arg)
{
    struct relay *r = arg;

    r->timer = 0;
    relay_close(r);
}

static void on_node(void *arg, int listener, uint32_t events)
{
    struct relay *r = arg;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct pair *p = fd < 0 ? NULL : calloc(1, sizeof *p);
    int to = p ? dial(r) : -1;

    (void)events;
    if (to < 0) {
        if (fd >= 0)
            close(fd);
        free(p);
    } else {
        p->loop = r->loop;
        p->node = (struct side){ .pair = p, .other = &p->asker, .fd = fd };
        p->asker = (struct side){ .pair = p, .other = &p->node, .fd = to };
        if (loop_fd(r->loop, to, EPOLLOUT, on_dialed, &p->asker, NULL) < 0)
            pair_close(p);
    }
    if (fd >= 0 && --r->wanted == 0)
        relay_close(r);
}

static int relay_open(procspace_t *ps, int netns, uint16_t port, uint32_t connections,
                      uint16_t *out, struct err *err)
{
    struct sockaddr_in in = { .sin_family = AF_INET };
    socklen_t len = sizeof in;
    struct relay *r = calloc(1, sizeof *r);

    if (!r)
        return err_set(err, ENOMEM, "out of memory");
    *r = (struct relay){ .loop = ps->loop, .port = port, .wanted = connections,
                         .netns = fcntl(netns, F_DUPFD_CLOEXEC, 0),
                         .listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                                            0) };
    if (r->netns < 0 || r->listener < 0 ||
        bind(r->listener, (struct sockaddr *)&in, sizeof in) < 0 ||
        listen(r->listener, SOMAXCONN) < 0 ||
        getsockname(r->listener, (struct sockaddr *)&in, &len) < 0 ||
        loop_fd(r->loop, r->listener, EPOLLIN, on_node, r, NULL) < 0) {
        err_set(err, errno, "a way back to the asker: %s", strerror(errno));
        relay_close(r);
        return -1;
    }
    r->timer = loop_timer(r->loop, OPEN_MS, false, on_time, r);
    *out = in.sin_port;
    return 0;
}

/* --- the request --- */

/* The asker's network, if it is not ours; -1: it is. */
static int other_network(pid_t asker)
{
    char path[64];
    struct stat ours, theirs;

    snprintf(path, sizeof path, "/proc/%d/ns/net", asker);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &theirs) == 0 && stat("/proc/self/ns/net", &ours) == 0 &&
        (ours.st_ino != theirs.st_ino || ours.st_dev != theirs.st_dev))
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static bool to_asker(const msgpack_object *entry, struct sockaddr_in *in)
{
    const char *p;
    size_t len;

    if (mp_get_bytes(entry, "addr", &p, &len, NULL) < 0 || len != sizeof *in)
        return false;
    memcpy(in, p, sizeof *in);
    return in->sin_family == AF_INET && in->sin_addr.s_addr == htonl(INADDR_ANY);
}

static void pack_entry(mp_buf *out, const msgpack_object *entry, const struct sockaddr_in *in)
{
    const msgpack_object_map *m = &entry->via.map;

    mp_map(out, m->size);
    for (uint32_t i = 0; i < m->size; i++) {
        mp_obj(out, &m->ptr[i].key);
        if (mp_is(&m->ptr[i].key, "addr"))
            mp_bin(out, in, sizeof *in);
        else
            mp_obj(out, &m->ptr[i].val);
    }
}

/* There: the asker's machine; NULL: this one, in another network, to which we pass on. */
static int rewrite(procspace_t *ps, int netns, const struct in_addr *there, uint32_t ranks,
                   const msgpack_object *body, mp_buf *out, struct err *err)
{
    const msgpack_object_array *io;
    struct sockaddr_in in;

    if (mp_get_array(body, "io", &io, err) < 0)
        return -1;
    if (io->size > 16)
        return err_set(err, EINVAL, "io: %u entries; at most 16", io->size);
    mp_array(out, io->size);
    for (uint32_t i = 0; i < io->size; i++) {
        if (!to_asker(&io->ptr[i], &in)) {
            mp_obj(out, &io->ptr[i]);
            continue;
        }
        if (there)
            in.sin_addr = *there;
        else if (relay_open(ps, netns, in.sin_port, ranks, &in.sin_port, err) < 0)
            return -1;
        pack_entry(out, &io->ptr[i], &in);
    }
    return 1;
}

int relay_io_there(const char *addr, const msgpack_object *body, mp_buf *out, struct err *err)
{
    struct in_addr there;

    if (!mp_get(body, "io") || inet_pton(AF_INET, addr, &there) != 1)
        return 0;
    return rewrite(NULL, -1, &there, 0, body, out, err);
}

int relay_io(procspace_t *ps, pid_t asker, uint32_t ranks, const msgpack_object *body,
             mp_buf *out, struct err *err)
{
    CLEANUP(cleanup_close) int netns = -1;

    if (!mp_get(body, "io") || (netns = other_network(asker)) < 0)
        return 0;
    return rewrite(ps, netns, NULL, ranks, body, out, err);
}
