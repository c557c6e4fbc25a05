/* share.c - those who fetch from us: served what has been checked so far
 *
 * One request a connection: GET /i/HASH, from an offset on. The answer's
 * length is that of the whole rest; its bytes follow as they come to us.
 */
#include "node/boot/share.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUEST_MAX 2048
#define IDLE_MS 15000
#define CHUNK (1u << 20)

struct child {
    int fd; /* -1: a free place */
    char request[REQUEST_MAX];
    size_t len;
    char head[256]; /* of the answer */
    size_t head_len, head_sent;
    uint64_t at;    /* next byte */
    bool asked, bad;
    int64_t active;
};

struct share {
    int listen;
    uint16_t port;
    char hash[65];
    int fd;
    uint64_t size, have;
    bool damage;
    struct child child[SHARE_MAX];
};

share_t *share_create(struct err *err)
{
    struct sockaddr_in in = { .sin_family = AF_INET };
    socklen_t n = sizeof in;
    share_t *s = calloc(1, sizeof *s);

    if (!s) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    for (size_t i = 0; i < SHARE_MAX; i++)
        s->child[i].fd = -1;
    s->listen = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->listen < 0 || bind(s->listen, (struct sockaddr *)&in, sizeof in) < 0 ||
        listen(s->listen, SHARE_MAX) < 0 ||
        getsockname(s->listen, (struct sockaddr *)&in, &n) < 0) {
        err_set(err, errno, "listen for neighbours: %s", strerror(errno));
        share_destroy(&s);
        return NULL;
    }
    s->port = ntohs(in.sin_port);
    return s;
}

static void hang_up(struct child *c)
{
    if (c->fd >= 0)
        close(c->fd);
    *c = (struct child){ .fd = -1 };
}

void share_close(share_t *s)
{
    if (s->listen >= 0)
        close(s->listen);
    s->listen = -1;
}

void share_destroy(share_t **sp)
{
    if (!*sp)
        return;
    share_close(*sp);
    for (size_t i = 0; i < SHARE_MAX; i++)
        hang_up(&(*sp)->child[i]);
    free(*sp);
    *sp = NULL;
}

uint16_t share_port(const share_t *s) { return s->port; }
void share_damage(share_t *s) { s->damage = true; }

void share_set(share_t *s, const char *hash, int fd, uint64_t size, uint64_t have)
{
    if (strcmp(s->hash, hash) != 0)
        for (size_t i = 0; i < SHARE_MAX; i++)
            if (s->child[i].asked)
                hang_up(&s->child[i]);
    snprintf(s->hash, sizeof s->hash, "%s", hash);
    s->fd = fd;
    s->size = size;
    s->have = have;
}

bool share_busy(const share_t *s)
{
    for (size_t i = 0; i < SHARE_MAX; i++)
        if (s->child[i].fd >= 0)
            return true;
    return false;
}

static bool has_something(const share_t *s, const struct child *c)
{
    return c->head_sent < c->head_len || c->bad || c->at < s->have;
}

size_t share_poll(share_t *s, struct pollfd *p)
{
    size_t n = 0;
    bool room = false;

    for (size_t i = 0; i < SHARE_MAX; i++) {
        const struct child *c = &s->child[i];
        room |= c->fd < 0;
        if (c->fd >= 0)
            p[n++] = (struct pollfd){ c->fd, c->asked && has_something(s, c) ? POLLOUT : POLLIN, 0 };
    }
    if (room && s->listen >= 0)
        p[n++] = (struct pollfd){ s->listen, POLLIN, 0 };
    return n;
}

static void take(share_t *s, int64_t now)
{
    const int one = 1;
    int fd = accept4(s->listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    for (size_t i = 0; fd >= 0 && i < SHARE_MAX; i++) {
        if (s->child[i].fd >= 0)
            continue;
        s->child[i].fd = fd;
        s->child[i].active = now;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* ends of chunks */
        return;
    }
    if (fd >= 0)
        close(fd);
}

/* The whole request is there: what is wanted of it. */
static void understand(share_t *s, struct child *c)
{
    char hash[65] = "", *range = strcasestr(c->request, "\nrange: bytes=");
    unsigned long long from = 0;
    bool good = s->hash[0] && sscanf(c->request, "GET /i/%64[0-9a-f] HTTP/1.", hash) == 1 &&
                strcmp(hash, s->hash) == 0;

    if (range && sscanf(range + strlen("\nrange: bytes="), "%19llu-", &from) != 1)
        good = false;
    c->asked = true;
    c->bad = !good || from >= s->size;
    c->at = c->bad ? s->size : from;
    c->head_len = (size_t)snprintf(c->head, sizeof c->head,
                                   c->bad ? "HTTP/1.1 404 Not here\r\nContent-Length: %llu\r\n"
                                            "Connection: close\r\n\r\n"
                                          : "HTTP/1.1 206 Partial\r\nContent-Length: %llu\r\n"
                                            "Connection: close\r\n\r\n",
                                   c->bad ? 0ull : (unsigned long long)(s->size - from));
}

static void read_request(share_t *s, struct child *c)
{
    ssize_t n = recv(c->fd, c->request + c->len, sizeof c->request - 1 - c->len, 0);

    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            hang_up(c);
        return;
    }
    c->len += (size_t)n;
    c->request[c->len] = '\0';
    if (c->asked)
        c->len = 0; /* nothing more is wanted */
    else if (strstr(c->request, "\r\n\r\n"))
        understand(s, c);
    else if (c->len == sizeof c->request - 1)
        hang_up(c);
}

/* For tests: the first byte of each chunk is another. */
static ssize_t send_damaged(const share_t *s, const struct child *c, size_t n)
{
    char buf[65536];
    uint64_t mark = (c->at + CHUNK - 1) / CHUNK * CHUNK;
    ssize_t got = pread(s->fd, buf, n < sizeof buf ? n : sizeof buf, (off_t)c->at);

    if (got > 0 && mark < c->at + (uint64_t)got)
        buf[mark - c->at] = (char)~buf[mark - c->at];
    return got > 0 ? send(c->fd, buf, (size_t)got, MSG_NOSIGNAL) : -1;
}

static void write_answer(share_t *s, struct child *c, int64_t now)
{
    ssize_t n;

    if (c->head_sent < c->head_len) {
        n = send(c->fd, c->head + c->head_sent, c->head_len - c->head_sent, MSG_NOSIGNAL);
        if (n > 0)
            c->head_sent += (size_t)n;
    } else if (c->at < s->have) {
        off_t at = (off_t)c->at;
        size_t most = (size_t)(s->have - c->at < CHUNK ? s->have - c->at : CHUNK);
        n = s->damage ? send_damaged(s, c, most) : sendfile(c->fd, s->fd, &at, most);
        if (n > 0)
            c->at += (uint64_t)n;
    } else {
        n = 1;
    }
    if (n > 0)
        c->active = now;
    bool over = c->head_sent == c->head_len && c->at >= s->size;
    if (over || (n < 0 && errno != EAGAIN && errno != EINTR))
        hang_up(c);
}

void share_run(share_t *s, const struct pollfd *p, size_t n, int64_t now)
{
    for (size_t k = 0; k < n; k++) {
        if (p[k].revents && p[k].fd == s->listen) {
            take(s, now);
            continue;
        }
        for (size_t i = 0; i < SHARE_MAX; i++) {
            struct child *c = &s->child[i];
            if (c->fd < 0 || c->fd != p[k].fd || !p[k].revents)
                continue;
            if (p[k].revents & POLLOUT)
                write_answer(s, c, now);
            else
                read_request(s, c);
        }
    }
    for (size_t i = 0; i < SHARE_MAX; i++) {
        struct child *c = &s->child[i];
        /* One that waits for us to get more is not idle. */
        if (c->fd >= 0 && !(c->asked && !has_something(s, c)) && now - c->active > IDLE_MS)
            hang_up(c);
    }
}
