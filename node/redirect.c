/* redirect.c - one descriptor of a process that is being started */
#include "node/redirect.h"
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECT_SECONDS 10

/* A FIFO without another end must not hold up whoever starts us. */
static int open_file(const struct redirect *r)
{
    int keep = r->flags & O_NONBLOCK;
    int fd = open(r->path, r->flags | O_NONBLOCK | O_NOCTTY,
                  r->mode);

    if (fd < 0)
        return -1;
    if ((!keep && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) < 0) ||
        (r->offset > 0 && lseek(fd, r->offset, SEEK_SET) < 0))
        return -1;
    return fd;
}

static socklen_t fill_address(const struct redirect *r, const struct redirect_origin *origin,
                              struct sockaddr *a)
{
    struct sockaddr_in in;

    *a = r->addr;
    if (a->sa_family == AF_UNIX)
        return (socklen_t)(offsetof(struct sockaddr, sa_data) +
                           strnlen(a->sa_data, sizeof a->sa_data));
    memcpy(&in, a, sizeof in);
    if (in.sin_addr.s_addr == htonl(INADDR_ANY))
        in.sin_addr.s_addr = origin->addr;
    memcpy(a, &in, sizeof in);
    return sizeof in;
}

static int open_socket(const struct redirect *r, const struct redirect_origin *origin)
{
    struct timeval limit = { CONNECT_SECONDS, 0 }, none = { 0, 0 };
    struct sockaddr a;
    socklen_t len = fill_address(r, origin, &a);
    int fd = socket(a.sa_family, SOCK_STREAM, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd, &a, len) < 0) {
        if (errno == EINPROGRESS || errno == EAGAIN)
            errno = ETIMEDOUT;
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof none);
    return fd;
}

int redirect_apply(const struct redirect *r, const struct redirect_origin *origin, pid_t pid)
{
    int32_t info[2] = { pid, r->fd };
    int fd = r->socket ? open_socket(r, origin) : open_file(r);

    if (fd < 0)
        return -1;
    if (r->info && write(fd, info, sizeof info) != sizeof info)
        return -1;
    if (fd == r->fd)
        return 0;
    int rc = dup2(fd, r->fd);
    close(fd);
    return rc < 0 ? -1 : 0;
}
