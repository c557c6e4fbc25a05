/* redirect.c - one descriptor of a process that is being started */
#include "node/redirect.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

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

static int connected(int fd, int wait_ms)
{
    struct pollfd p = { .fd = fd, .events = POLLOUT };
    int code = 0;
    socklen_t len = sizeof code;

    if (poll(&p, 1, wait_ms) <= 0) {
        errno = ETIMEDOUT;
        return -1;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0)
        return -1;
    errno = code;
    return code ? -1 : 0;
}

static int open_socket(const struct redirect *r, const struct redirect_origin *origin)
{
    struct sockaddr a;
    socklen_t len = fill_address(r, origin, &a);
    int fd = socket(a.sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0);

    if (fd < 0 || (connect(fd, &a, len) < 0 &&
                   (errno != EINPROGRESS || connected(fd, origin->wait_ms) < 0)))
        return -1;
    return fcntl(fd, F_SETFL, 0) < 0 ? -1 : fd;
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
