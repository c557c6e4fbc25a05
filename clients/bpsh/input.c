/* input.c - our stdin, to the processes that get it */
#include "clients/bpsh/input.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define KEEP_BYTES (1024 * 1024) /* read and not yet everywhere */
#define PIECE (128 * 1024)       /* of one message */
#define PIPE_AHEAD (64 * 1024)   /* for a local child: what may be read before it takes it */

#define BACKGROUND_MS 300        /* between looks whether the terminal is ours again */
#define FILE_TURN 8              /* pieces of a file before the rest of the loop goes on */

struct local {
    int fd; /* -1: it has closed its end, or has all */
    uint64_t sent;
    bool watched;
};

struct input {
    loop_t *loop;
    int fd;
    int own;         /* the same pipe or terminal, opened by ourselves; -1: none */
    bool socket;
    size_t chunk;
    bool watched, eof;
    bool terminal;
    bool always;     /* a file: readable at any time, and epoll does not take it */
    uint64_t base;   /* offset of the first byte kept */
    int timer;
    char *buf;       /* KEEP_BYTES, allocated when first needed */
    size_t start, len;

    reader_t *nodes; /* NULL: none */
    bool nodes_gone, eof_sent;
    uint64_t acked, sent, limit;
    struct local *local;
    size_t locals;
};

/* Others may read the same stdin, and take what we were just told of: we must
 * not wait for more then. O_NONBLOCK belongs to the opening, which they share:
 * it is set on one of our own. */
static int open_own(const input_t *in)
{
    struct stat st;
    char path[40];
    int flags = fcntl(in->fd, F_GETFL);

    if (flags < 0 || (flags & O_ACCMODE) == O_WRONLY || fstat(in->fd, &st) < 0 ||
        (!S_ISFIFO(st.st_mode) && !in->terminal))
        return -1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", in->fd);
    return open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

input_t *input_create(loop_t *l, int fd, size_t chunk, struct err *err)
{
    input_t *in = calloc(1, sizeof *in);
    struct stat st;

    if (!in) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    *in = (input_t){ .loop = l, .fd = fd, .chunk = chunk, .terminal = isatty(fd),
                     .socket = fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) };
    in->own = open_own(in);
    return in;
}

static void local_close(input_t *in, struct local *l)
{
    if (l->fd < 0)
        return;
    if (l->watched)
        loop_fd_del(in->loop, l->fd);
    close(l->fd);
    l->fd = -1;
}

void input_destroy(input_t **inp)
{
    input_t *in = *inp;

    if (!in)
        return;
    for (size_t i = 0; i < in->locals; i++)
        local_close(in, &in->local[i]);
    if (in->watched)
        loop_fd_del(in->loop, in->fd);
    loop_timer_del(in->loop, in->timer);
    if (in->own >= 0)
        close(in->own);
    free(in->local);
    free(in->buf);
    free(in);
    *inp = NULL;
}

void input_to_nodes(input_t *in, reader_t *r) { in->nodes = r; }

int input_to_pipe(input_t *in, int fd, struct err *err)
{
    struct local *l = realloc(in->local, (in->locals + 1) * sizeof *l);

    if (!l) {
        close(fd);
        return err_set(err, ENOMEM, "out of memory");
    }
    in->local = l;
    in->local[in->locals++] = (struct local){ .fd = fd };
    fcntl(fd, F_SETFL, O_NONBLOCK); /* our own end of our own pipe */
    return 0;
}

void input_credit(input_t *in, uint64_t acked, uint64_t limit, bool gone)
{
    uint64_t end = in->base + in->len;

    if (gone)
        in->nodes_gone = true;
    if (acked > in->acked && acked <= end)
        in->acked = acked;
    if (in->sent < in->acked)
        in->sent = in->acked;
    if (limit > in->limit)
        in->limit = limit;
}

void input_again(input_t *in, uint64_t offset)
{
    uint64_t from = offset > in->acked ? offset : in->acked;

    if (from < in->sent)
        in->sent = from;
    in->eof_sent = false;
}

/* --- who may get how much --- */

static bool wanted(const input_t *in)
{
    if (in->nodes && !in->nodes_gone)
        return true;
    for (size_t i = 0; i < in->locals; i++)
        if (in->local[i].fd >= 0)
            return true;
    return false;
}

/* The slowest receiver sets the pace. */
static uint64_t may_read_to(const input_t *in)
{
    uint64_t to = in->base + KEEP_BYTES;

    if (in->nodes && !in->nodes_gone && in->limit < to)
        to = in->limit;
    for (size_t i = 0; i < in->locals; i++)
        if (in->local[i].fd >= 0 && in->local[i].sent + PIPE_AHEAD < to)
            to = in->local[i].sent + PIPE_AHEAD;
    return to;
}

/* Forget what everybody has. */
static void trim(input_t *in)
{
    uint64_t least = in->base + in->len;

    if (in->nodes && !in->nodes_gone && in->acked < least)
        least = in->acked;
    for (size_t i = 0; i < in->locals; i++)
        if (in->local[i].fd >= 0 && in->local[i].sent < least)
            least = in->local[i].sent;
    size_t n = (size_t)(least - in->base);
    in->base += n;
    in->start += n;
    in->len -= n;
    if (!in->len)
        in->start = 0;
}

/* --- in --- */

static void on_readable(void *arg, int fd, uint32_t events);

/* Never waits, but for a disk. */
static ssize_t read_now(const input_t *in, char *p, size_t n)
{
    struct iovec v = { p, n };

    if (in->socket)
        return recv(in->fd, p, n, MSG_DONTWAIT);
    if (in->own >= 0)
        return read(in->own, p, n);
    if (in->always)
        return read(in->fd, p, n);
    /* Another user's pipe, which we may not open. Before Linux 6.4 pipes did not
     * know this flag: then what was just said of it must do. */
    ssize_t got = preadv2(in->fd, &v, 1, -1, RWF_NOWAIT);
    return got < 0 && errno == EOPNOTSUPP ? read(in->fd, p, n) : got;
}

static void read_some(input_t *in)
{
    uint64_t end = in->base + in->len, to = may_read_to(in);

    if (in->eof || to <= end)
        return;
    if (!in->buf && !(in->buf = malloc(KEEP_BYTES))) {
        fputs("bpsh: stdin: out of memory\n", stderr);
        in->eof = true;
        return;
    }
    size_t want = to - end < in->chunk ? (size_t)(to - end) : in->chunk;
    if (in->start + in->len + want > KEEP_BYTES) {
        memmove(in->buf, in->buf + in->start, in->len);
        in->start = 0;
    }
    if (in->len + want > KEEP_BYTES)
        want = KEEP_BYTES - in->len;
    ssize_t n = read_now(in, in->buf + in->start + in->len, want);
    if (n > 0) {
        in->len += (size_t)n;
    } else if (n == 0) {
        in->eof = true;
    } else if (errno != EINTR && errno != EAGAIN) {
        /* EIO: a terminal whose foreground we are not, and may not wait for */
        fprintf(stderr, "bpsh: stdin: %s\n", strerror(errno));
        in->eof = true;
    }
}

/* In the background what is typed is not for us: to read it would stop us, and
 * with us everything that runs on the nodes. */
static bool in_background(const input_t *in)
{
    pid_t front = in->terminal ? tcgetpgrp(in->fd) : -1;

    return front >= 0 && front != getpgrp();
}

static void watch(input_t *in);

static void on_readable(void *arg, int fd, uint32_t events)
{
    input_t *in = arg;

    (void)fd, (void)events;
    if (in_background(in))
        watch(in);
    else
        read_some(in);
}

static void on_turn(void *arg);

/* Watch stdin only while somebody may get more of it. */
static void watch(input_t *in)
{
    bool want = !in->eof && !in->always && wanted(in) &&
                may_read_to(in) > in->base + in->len;

    if (want && in_background(in)) {
        want = false;
        if (!in->timer)
            in->timer = loop_timer(in->loop, BACKGROUND_MS, false, on_turn, in);
    }
    if (want == in->watched)
        return;
    if (!want) {
        loop_fd_del(in->loop, in->fd);
        in->watched = false;
        return;
    }
    struct err err = { 0 };
    if (loop_fd(in->loop, in->fd, EPOLLIN, on_readable, in, &err) == 0) {
        in->watched = true;
    } else if (err.code == EPERM) {
        in->always = true;
    } else {
        fprintf(stderr, "bpsh: stdin: %s\n", err.text);
        in->eof = true;
    }
}

/* --- out --- */

static void on_writable(void *arg, int fd, uint32_t events)
{
    (void)fd, (void)events;
    input_pump(arg);
}

static void feed_nodes(input_t *in)
{
    uint64_t end = in->base + in->len;
    uint64_t to = end < in->limit ? end : in->limit;

    if (!in->nodes || in->nodes_gone)
        return;
    while (in->sent < to && reader_room(in->nodes)) {
        size_t n = to - in->sent < PIECE ? (size_t)(to - in->sent) : PIECE;
        bool last = in->eof && in->sent + n == end;
        reader_input(in->nodes, in->sent, in->buf + in->start + (in->sent - in->base), n, last);
        in->sent += n;
        in->eof_sent |= last;
    }
    if (in->eof && !in->eof_sent && in->sent == end && reader_room(in->nodes)) {
        reader_input(in->nodes, end, NULL, 0, true);
        in->eof_sent = true;
    }
}

static void feed_local(input_t *in, struct local *l)
{
    uint64_t end = in->base + in->len;
    bool full = false;

    while (l->fd >= 0 && l->sent < end && !full) {
        ssize_t n = write(l->fd, in->buf + in->start + (l->sent - in->base),
                          (size_t)(end - l->sent));
        if (n >= 0)
            l->sent += (uint64_t)n;
        else if (errno == EAGAIN)
            full = true;
        else if (errno != EINTR)
            local_close(in, l); /* it does not want more */
    }
    if (l->fd >= 0 && in->eof && l->sent == end)
        local_close(in, l);
    if (l->fd >= 0 && full != l->watched) {
        if (!full)
            loop_fd_del(in->loop, l->fd);
        else if (loop_fd(in->loop, l->fd, EPOLLOUT, on_writable, in, NULL) < 0)
            return;
        l->watched = full;
    }
}

static void on_turn(void *arg)
{
    input_t *in = arg;

    in->timer = 0;
    input_pump(in);
}

void input_pump(input_t *in)
{
    for (int i = 0;; i++) {
        uint64_t before = in->base + in->len;
        if (in->always && wanted(in))
            read_some(in);
        feed_nodes(in);
        for (size_t k = 0; k < in->locals; k++)
            feed_local(in, &in->local[k]);
        trim(in);
        if (in->base + in->len == before)
            break;
        /* A file is always ready: let the others have their turn, too. */
        if (i == FILE_TURN) {
            if (!in->timer)
                in->timer = loop_timer(in->loop, 0, false, on_turn, in);
            break;
        }
    }
    bool was = in->always;
    watch(in);
    if (in->always && !was)
        input_pump(in); /* it has just turned out to be a file */
}
