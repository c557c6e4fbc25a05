/* send.c - parts of files to many sockets: one epoll, sendfile until it is full */
#include "services/bootsrv/send.h"
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#define AT_ONCE (2u << 20) /* bytes to one before another has its turn */
#define ROUNDS 4           /* before the bus is looked at */
#define MANY 64

struct send_one {
    send_all_t *s;
    int socket, file;
    off_t at;
    uint64_t left;
    char head[512];
    size_t head_len, head_sent;
    int64_t moved; /* when it last took something */
    int idle_ms;
    loop_fn *done;
    void *arg;
    struct send_one *next, **link;
};

struct send_all {
    loop_t *loop;
    int ep;
    bool more;
    struct send_one *first;
};

void send_stop(send_one_t **op)
{
    send_one_t *o = *op;

    if (!o)
        return;
    epoll_ctl(o->s->ep, EPOLL_CTL_DEL, o->socket, NULL);
    *o->link = o->next;
    if (o->next)
        o->next->link = o->link;
    free(o);
    *op = NULL;
}

static void over(send_one_t *o)
{
    loop_fn *done = o->done;
    void *arg = o->arg;

    send_stop(&o);
    done(arg);
}

/* 1: more can be sent; 0: its socket is full; -1: over, well or not. */
static int head(send_one_t *o)
{
    ssize_t n = send(o->socket, o->head + o->head_sent, o->head_len - o->head_sent,
                     MSG_DONTWAIT | MSG_NOSIGNAL | (o->left ? MSG_MORE : 0));

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    o->head_sent += (size_t)n;
    return o->left ? 1 : o->head_sent == o->head_len ? -1 : 0;
}

static int some(send_one_t *o)
{
    uint64_t end = o->left > AT_ONCE ? o->left - AT_ONCE : 0;

    if (o->head_sent < o->head_len) {
        int rc = head(o);
        if (rc <= 0)
            return rc;
    }
    while (o->left > end) {
        ssize_t n = sendfile(o->socket, o->file, &o->at, (size_t)(o->left - end));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        if (n == 0)
            return -1; /* the file has become shorter */
        o->left -= (uint64_t)n;
    }
    return o->left ? 1 : -1;
}

static bool ready(void *arg)
{
    const send_all_t *s = arg;

    return s->more;
}

static void run(void *arg)
{
    send_all_t *s = arg;
    struct epoll_event e[MANY];
    int64_t now = now_ms();

    s->more = true;
    for (int round = 0; s->more && round < ROUNDS; round++) {
        int n = epoll_wait(s->ep, e, MANY, 0);
        s->more = n > 0;
        for (int i = 0; i < n; i++) {
            send_one_t *o = e[i].data.ptr;
            o->moved = now;
            if ((e[i].events & (EPOLLERR | EPOLLHUP)) || some(o) < 0)
                over(o);
        }
    }
}

void send_end(send_all_t *s)
{
    while (s->first)
        over(s->first);
}

void send_idle(send_all_t *s)
{
    int64_t now = now_ms();

    for (send_one_t *o = s->first, *next; o; o = next) {
        next = o->next;
        if (now - o->moved > o->idle_ms)
            over(o);
    }
}

send_one_t *send_start(send_all_t *s, int socket, const char *text, int file, uint64_t offset,
                       uint64_t n, int idle_ms, loop_fn *done, void *arg, struct err *err)
{
    send_one_t *o = calloc(1, sizeof *o);
    struct epoll_event e = { .events = EPOLLOUT, .data.ptr = o };

    if (!o) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    *o = (send_one_t){ .s = s, .socket = socket, .file = file, .at = (off_t)offset, .left = n,
                       .moved = now_ms(), .idle_ms = idle_ms, .done = done, .arg = arg,
                       .next = s->first, .link = &s->first };
    o->head_len = strlen(text);
    if (o->head_len >= sizeof o->head || epoll_ctl(s->ep, EPOLL_CTL_ADD, socket, &e) < 0) {
        err_set(err, errno, "send: %s", strerror(errno));
        free(o);
        return NULL;
    }
    memcpy(o->head, text, o->head_len);
    if (o->next)
        o->next->link = &o->next;
    s->first = o;
    return o;
}

send_all_t *send_create(loop_t *l, struct err *err)
{
    send_all_t *s = calloc(1, sizeof *s);

    if (!s) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    s->loop = l;
    s->ep = epoll_create1(EPOLL_CLOEXEC);
    if (s->ep < 0 || loop_source(l, s->ep, ready, run, s, err) < 0) {
        if (s->ep < 0)
            err_set(err, errno, "epoll: %s", strerror(errno));
        cleanup_close(&s->ep);
        free(s);
        return NULL;
    }
    return s;
}

void send_destroy(send_all_t **sp)
{
    send_all_t *s = *sp;

    if (!s)
        return;
    loop_source_del(s->loop, s);
    cleanup_close(&s->ep);
    free(s);
    *sp = NULL;
}
