/* chan_bulk.c - a chan over the bulk channel
 *
 * Who dials says the token in clear first: the node's agent listens, and finds
 * by it for whom the connection is. TLS then proves that the key is known.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "copy/copy.h"

#define DIAL_MS 10000
#define STUCK_MS 60000 /* a receiver that takes nothing for this long is lost */
#define SILENT_MS 15000

static ssize_t read_some(void *io, void *p, size_t len, struct err *err)
{
    return bulk_read(io, p, len, -1, err);
}

static int write_all(void *io, const void *p, size_t len, struct err *err)
{
    return bulk_write(io, p, len, STUCK_MS, err);
}

static void close_it(void *io)
{
    bulk_t *b = io;

    bulk_close(&b);
}

chan_t *chan_bulk(bulk_t *b, struct err *err)
{
    static const struct chan_ops ops = { read_some, write_all, close_it };

    return chan_create(&ops, b, err);
}

void chan_tcp_options(int fd)
{
    int one = 1, idle = 5, every = 5, silent = SILENT_MS;

    /* Without them a copy works too; it only notices a dead machine later. */
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silent, sizeof silent);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

bulk_t *bulk_dial_ticket(const char *addr, uint16_t port, const struct bulk_ticket *t,
                         struct err *err)
{
    int fd = bulk_dial(addr, port, DIAL_MS, err);

    if (fd < 0)
        return NULL;
    chan_tcp_options(fd);
    if (send(fd, t->token, BULK_TOKEN, MSG_NOSIGNAL) != BULK_TOKEN) {
        err_set(err, errno, "%s: %s", addr, strerror(errno));
        close(fd);
        return NULL;
    }
    return bulk_client(fd, t, DIAL_MS, err);
}

chan_t *chan_dial(const char *addr, uint16_t port, const struct bulk_ticket *t, struct err *err)
{
    bulk_t *b = bulk_dial_ticket(addr, port, t, err);

    return b ? chan_bulk(b, err) : NULL;
}
