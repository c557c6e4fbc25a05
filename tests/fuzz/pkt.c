/* pkt.c - fuzz: packets of the gate, inline and in a memfd, with odd descriptors
 *
 * First byte of the input: how it is sent; second: with how many descriptors at
 * most; the rest is the packet.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bus/pkt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SEALED = 1, A_MEMFD = 2, A_PIPE = 4, TWICE = 8, TWO_MESSAGES = 32 };
enum { HOW = 2 }; /* bytes */

static int memfd_of(const uint8_t *data, size_t size, bool sealed)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || (size && write(fd, data, size) != (ssize_t)size))
        abort();
    if (sealed)
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    return fd;
}

static void send_raw(int sock, const uint8_t *data, size_t size, const int *fds, int nfds)
{
    char control[CMSG_SPACE(sizeof(int) * 32)];
    struct iovec v = { (void *)(uintptr_t)data, size };
    struct msghdr h = { .msg_iov = &v, .msg_iovlen = 1 };

    memset(control, 0, sizeof control);
    if (nfds) {
        h.msg_control = control;
        h.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)nfds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)nfds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * (size_t)nfds);
    }
    (void)!sendmsg(sock, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int pair[2], fds[32], nfds = 0, pipes[2] = { -1, -1 };
    uint8_t how = size ? data[0] : 0, count = size > 1 ? data[1] % 32 : 0;
    size_t skip = size < HOW ? size : HOW;
    struct pkt p;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
        return 0;
    if (how & A_MEMFD)
        fds[nfds++] = memfd_of(data, size, how & SEALED);
    if (how & A_PIPE && pipe2(pipes, O_CLOEXEC) == 0)
        fds[nfds++] = pipes[0];
    while (nfds && nfds < count) {
        fds[nfds] = dup(fds[0]);
        nfds++;
    }
    for (int i = 0; i < (how & TWO_MESSAGES ? 2 : 1); i++)
        send_raw(pair[0], data + skip, size - skip, fds, nfds);
    for (int i = 0; i < nfds; i++)
        close(fds[i]);
    if (pipes[1] >= 0)
        close(pipes[1]);
    for (int i = 0; i < 3; i++) {
        int rc = pkt_recv(pair[1], &p, NULL);
        if (rc == 1 && p.data[p.len] != 0)
            abort();
        pkt_clear(&p);
        if (how & TWICE)
            pkt_clear(&p);
    }
    /* What was sent in order is received as it was. */
    if (pkt_send(pair[0], data, size, NULL, 0, NULL) == 0 &&
        (pkt_recv(pair[1], &p, NULL) != 1 || p.len != size ||
         (size && memcmp(p.data, data, size) != 0)))
        abort();
    pkt_clear(&p);
    close(pair[0]);
    close(pair[1]);
    return 0;
}
