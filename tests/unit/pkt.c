/* pkt.c - packets: small, large, with descriptors, hostile */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bus/pkt.h"
#include "tests/unit/tap.h"

static int s[2];

static void travels(size_t len, const char *name)
{
    struct pkt p;
    struct err err = { 0 };
    char *data = malloc(len + 1);

    for (size_t i = 0; i < len; i++)
        data[i] = (char)(i * 7);
    ok(pkt_send(s[0], data, len, NULL, 0, &err) == 0 && pkt_recv(s[1], &p, &err) == 1 &&
           p.len == len && memcmp(p.data, data, len) == 0 && p.nfds == 0,
       "%s travels whole", name);
    pkt_clear(&p);
    free(data);
}

static void descriptors_travel(size_t len, const char *name)
{
    int pipes[2], fds[2];
    char c = 0;
    struct pkt p;
    char *data = calloc(1, len);

    if (pipe(pipes) < 0)
        return;
    fds[0] = pipes[0];
    fds[1] = pipes[1];
    ok(pkt_send(s[0], data, len, fds, 2, NULL) == 0 && pkt_recv(s[1], &p, NULL) == 1 &&
           p.nfds == 2,
       "two descriptors travel with %s", name);
    ok(p.nfds == 2 && write(p.fds[1], "x", 1) == 1 && read(pipes[0], &c, 1) == 1 && c == 'x',
       "and they are the ones that were sent");
    pkt_clear(&p);
    close(pipes[0]);
    close(pipes[1]);
    free(data);
}

/* A large message whose memfd can still change would change under the reader. */
static void unsealed_is_refused(void)
{
    struct pkt p;
    struct err err = { 0 };
    char tag = 1, ctl[CMSG_SPACE(sizeof(int))] = { 0 };
    int fd = memfd_create("x", MFD_ALLOW_SEALING);
    struct iovec iov = { &tag, 1 };
    struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl,
                         .msg_controllen = sizeof ctl };
    struct cmsghdr *c = CMSG_FIRSTHDR(&mh);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    ok(sendmsg(s[0], &mh, 0) == 1 && pkt_recv(s[1], &p, &err) < 0 && err.code == EPROTO,
       "a large message in an unsealed memfd is EPROTO");
    says(err.text, "sealed", "and the text says why");
    close(fd);
    ok(send(s[0], &tag, 1, 0) == 1 && pkt_recv(s[1], &p, &err) < 0,
       "a large message without its memfd is refused");
    ok(send(s[0], "\x07xyz", 4, 0) == 4 && pkt_recv(s[1], &p, &err) < 0,
       "an unknown kind of packet is refused");
}

static void ends(void)
{
    struct pkt p;
    struct err err = { 0 };

    close(s[0]);
    ok(pkt_recv(s[1], &p, &err) == 0, "a closed peer is the end, not an error");
    ok(pkt_send(s[1], "x", 1, NULL, 0, &err) < 0 && err.code == EPIPE,
       "sending to it is EPIPE, without a signal");
}

/* Who listens has stopped: nobody waits for that without end. */
static void stopped_peer(void)
{
    char path[] = "/tmp/cm-pkt.XXXXXX", sock[64];
    struct err err = { 0 };
    int c[8], n = 0, sent = 0;

    alarm(60);
    if (!mkdtemp(path))
        return;
    snprintf(sock, sizeof sock, "%s/sock", path);
    int l = pkt_listen(sock, 0600, &err);
    if (l < 0 || listen(l, 0) < 0)
        return;
    while (n < 8 && (c[n] = pkt_connect(sock, &err)) >= 0)
        n++;
    ok(n > 0 && n < 8, "a full queue of a listener ends the attempt to connect");
    says(err.text, sock, "with a word about which it is");
    err.code = 0;
    while (n && sent < 100000 && pkt_send(c[0], sock, sizeof sock, NULL, 0, &err) == 0)
        sent++;
    ok(sent > 0 && err.code == EAGAIN, "and so it is with a peer that does not read");
    while (n)
        close(c[--n]);
    close(l);
    unlink(sock);
    rmdir(path);
}

int main(void)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s) < 0)
        return 1;
    travels(0, "an empty message");
    travels(1, "one byte");
    travels(PKT_INLINE, "the largest inline message");
    travels(PKT_INLINE + 1, "one byte more");
    travels(5000000, "five megabytes");
    descriptors_travel(10, "a small message");
    descriptors_travel(200000, "a large message");
    unsealed_is_refused();
    ends();
    stopped_peer();
    return done_testing();
}
