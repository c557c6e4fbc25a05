/* pkt.c - one message, one SOCK_SEQPACKET packet, with descriptors
 *
 * First byte of a packet: 0 the message follows, 1 the message is in the memfd
 * that is the first descriptor.
 */
#include "bus/pkt.h"
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define ROOM_S 2 /* a peer that reads nothing is waited for so long */

static int send_packet(int sock, char tag, const void *data, size_t len,
                       const int *fds, int nfds, struct err *err)
{
    struct iovec iov[2] = { { &tag, 1 }, { (void *)(uintptr_t)data, len } };
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int) * (PKT_FDS + 1))];
    } ctl;
    struct msghdr mh = { .msg_iov = iov, .msg_iovlen = len ? 2 : 1 };

    if (nfds > 0) {
        memset(&ctl, 0, sizeof ctl);
        mh.msg_control = &ctl;
        mh.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)nfds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)nfds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * (size_t)nfds);
    }
    ssize_t n;
    do
        n = sendmsg(sock, &mh, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_set(err, errno, "send: %s", strerror(errno));
    return 0;
}

static int to_memfd(const void *data, size_t len, struct err *err)
{
    CLEANUP(cleanup_close) int fd = memfd_create("pkt", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    const char *p = data;

    if (fd < 0)
        return err_set(err, errno, "memfd for a large message: %s", strerror(errno));
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, errno, "memfd for a large message: %s", strerror(errno));
        p += n;
        len -= (size_t)n;
    }
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
    int out = fd;
    fd = -1;
    return out;
}

int pkt_send(int sock, const void *data, size_t len, const int *fds, int nfds,
             struct err *err)
{
    int all[PKT_FDS + 1];

    if (len > PKT_MAX)
        return err_set(err, EMSGSIZE, "message of %zu bytes: the limit is %d", len, PKT_MAX);
    if (nfds > PKT_FDS)
        return err_set(err, EINVAL, "%d descriptors in one packet: the limit is %d", nfds,
                       PKT_FDS);
    if (len <= PKT_INLINE)
        return send_packet(sock, 0, data, len, fds, nfds, err);
    CLEANUP(cleanup_close) int mem = to_memfd(data, len, err);
    if (mem < 0)
        return -1;
    all[0] = mem;
    if (nfds)
        memcpy(all + 1, fds, sizeof(int) * (size_t)nfds);
    return send_packet(sock, 1, NULL, 0, all, nfds + 1, err);
}

/* Take the message out of a sealed memfd: unsealed ones could change or shrink
 * under us. */
static int from_memfd(struct pkt *p, int fd, struct err *err)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);

    if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0 || st.st_size < 0 ||
        st.st_size > PKT_MAX)
        return err_set(err, EPROTO, "large message: not a sealed memfd of legal size");
    p->len = (size_t)st.st_size;
    p->data = malloc(p->len + 1);
    if (!p->data)
        return err_set(err, ENOMEM, "large message: out of memory");
    for (size_t got = 0; got < p->len;) {
        ssize_t n = pread(fd, p->data + got, p->len - got, (off_t)got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(err, EPROTO, "large message: cannot be read");
        got += (size_t)n;
    }
    return 0;
}

int pkt_recv(int sock, struct pkt *p, struct err *err)
{
    char buf[PKT_INLINE + 1];
    struct iovec iov = { buf, sizeof buf };
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int) * (PKT_FDS + 1))];
    } ctl;
    struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl,
                         .msg_controllen = sizeof ctl };
    /* Padding makes room for more than was meant, and the kernel uses it. */
    enum { GOT_MAX = (sizeof ctl.room - CMSG_LEN(0)) / sizeof(int) };
    int got[GOT_MAX], ngot = 0;
    ssize_t n;

    memset(p, 0, sizeof *p);
    do
        n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == ECONNRESET)
        return 0;
    if (n < 0)
        return err_set(err, errno, "receive: %s", strerror(errno));
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        int k = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (int i = 0; i < k && ngot < GOT_MAX; i++)
            memcpy(&got[ngot++], CMSG_DATA(c) + (size_t)i * sizeof(int), sizeof(int));
    }
    int rc = 1, first = 0;
    if (n == 0) { /* closed; or an empty packet, which may come with descriptors */
        rc = 0;
    } else if (mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        rc = err_set(err, EPROTO, "receive: packet is too large");
    } else if (buf[0] == 1) {
        if (ngot < 1)
            rc = err_set(err, EPROTO, "receive: large message without its memfd");
        else
            rc = from_memfd(p, got[0], err) < 0 ? -1 : 1;
        if (ngot > 0)
            close(got[0]);
        first = 1;
    } else if (buf[0] == 0) {
        p->len = (size_t)n - 1;
        p->data = malloc(p->len + 1);
        if (p->data)
            memcpy(p->data, buf + 1, p->len);
        else
            rc = err_set(err, ENOMEM, "receive: out of memory");
    } else {
        rc = err_set(err, EPROTO, "receive: unknown kind of packet");
    }
    if (rc == 1 && ngot - first > PKT_FDS)
        rc = err_set(err, EPROTO, "receive: %d descriptors in one packet: the limit is %d",
                     ngot - first, PKT_FDS);
    for (int i = first; i < ngot; i++) {
        if (rc == 1)
            p->fds[p->nfds++] = got[i];
        else
            close(got[i]);
    }
    if (rc == 1)
        p->data[p->len] = 0;
    else
        pkt_clear(p);
    return rc;
}

void pkt_clear(struct pkt *p)
{
    free(p->data);
    for (int i = 0; i < p->nfds; i++)
        if (p->fds[i] >= 0)
            close(p->fds[i]);
    memset(p, 0, sizeof *p);
}

static int address(const char *path, struct sockaddr_un *sa, struct err *err)
{
    memset(sa, 0, sizeof *sa);
    sa->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof sa->sun_path)
        return err_set(err, ENAMETOOLONG, "%s: longer than a socket's path may be (%zu)",
                       path, sizeof sa->sun_path - 1);
    strncpy(sa->sun_path, path, sizeof sa->sun_path - 1);
    return 0;
}

int pkt_listen(const char *path, int mode, struct err *err)
{
    struct sockaddr_un sa;

    if (address(path, &sa, err) < 0)
        return -1;
    CLEANUP(cleanup_close) int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (s < 0)
        return err_set(err, errno, "socket: %s", strerror(errno));
    unlink(path);
    if (bind(s, (struct sockaddr *)&sa, sizeof sa) < 0 || chmod(path, (mode_t)mode) < 0 ||
        listen(s, 1024) < 0)
        return err_set(err, errno, "listen on %s: %s", path, strerror(errno));
    int out = s;
    s = -1;
    return out;
}

int pkt_connect(const char *path, struct err *err)
{
    return pkt_connect_within(path, ROOM_S * 1000, err);
}

int pkt_connect_within(const char *path, int timeout_ms, struct err *err)
{
    const struct timeval room = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };
    struct sockaddr_un sa;

    if (address(path, &sa, err) < 0)
        return -1;
    CLEANUP(cleanup_close) int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (s < 0)
        return err_set(err, errno, "socket: %s", strerror(errno));
    /* Holds for connect() as well: somebody may have stopped who listens there. */
    setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &room, sizeof room);
    if (connect(s, (struct sockaddr *)&sa, sizeof sa) < 0)
        return err_set(err, errno, "connect to %s: %s", path, strerror(errno));
    int out = s;
    s = -1;
    return out;
}
