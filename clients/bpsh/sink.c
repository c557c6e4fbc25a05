/* sink.c - a descriptor that output goes to, written without ever waiting */
#include "clients/bpsh/sink.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

int sink_open(sink_t *s, int fd, size_t room, struct err *err)
{
    struct stat st;
    char path[40];

    *s = (sink_t){ .fd = fd, .room = room };
    s->buf = malloc(room);
    if (!s->buf)
        return err_set(err, ENOMEM, "out of memory");
    if (fstat(fd, &st) < 0)
        return err_set(err, errno, "descriptor %d: %s", fd, strerror(errno));
    if (S_ISSOCK(st.st_mode)) {
        s->socket = true;
    } else if (S_ISFIFO(st.st_mode) || (S_ISCHR(st.st_mode) && isatty(fd))) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        int own = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        if (own >= 0) {
            s->fd = own;
            s->own = true;
        } else {
            s->asks = true;
        }
    }
    return 0;
}

void sink_close(sink_t *s)
{
    if (s->own)
        close(s->fd);
    free(s->buf);
    *s = (sink_t){ .fd = -1 };
}

static ssize_t write_now(sink_t *s, const char *p, size_t n)
{
    if (s->socket)
        return send(s->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (s->asks) {
        struct pollfd pfd = { .fd = s->fd, .events = POLLOUT };
        if (poll(&pfd, 1, 0) == 0) {
            errno = EAGAIN;
            return -1;
        }
        /* A pipe that is ready takes this much without waiting. */
        if (n > PIPE_BUF)
            n = PIPE_BUF;
    }
    return write(s->fd, p, n);
}

static size_t write_some(sink_t *s, const char *p, size_t n)
{
    size_t done = 0;

    while (done < n && !s->broken) {
        ssize_t w = write_now(s, p + done, n - done);
        if (w >= 0) {
            done += (size_t)w;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            s->full = true;
            break;
        } else if (errno != EINTR) {
            s->broken = errno;
        }
    }
    if (done == n)
        s->full = false;
    return done;
}

bool sink_flush(sink_t *s)
{
    if (s->broken)
        s->len = 0;
    if (s->len) {
        size_t n = write_some(s, s->buf + s->start, s->len);
        s->start += n;
        s->len -= n;
    }
    if (s->broken)
        s->len = 0;
    if (!s->len)
        s->start = 0;
    return !s->len;
}

size_t sink_write(sink_t *s, const void *p, size_t n)
{
    return sink_flush(s) ? write_some(s, p, n) : 0;
}

bool sink_reserve(sink_t *s, size_t n)
{
    if (s->start + s->len + n <= s->room)
        return true;
    sink_flush(s);
    if (s->start) {
        memmove(s->buf, s->buf + s->start, s->len);
        s->start = 0;
    }
    return s->len + n <= s->room;
}

void sink_put(sink_t *s, const void *p, size_t n)
{
    memcpy(s->buf + s->start + s->len, p, n);
    s->len += n;
}
