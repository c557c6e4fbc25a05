/* bpsh_reader - the reader's side of the stream protocol, against a hand-made iofwd */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "bus/stream.h"
#include "clients/bpsh/reader.h"
#include "tests/unit/tap.h"

#define LAUNCH 0x1234567890u
#define WINDOW 65536

static loop_t *loop;
static int listener, peer = -1;
static struct {
    char data[256];
    size_t n;
    bool end, lost, gone;
    uint64_t acked, limit, bulk_at;
    int again, bulk_fd;
    char token[BULK_TOKEN + 1];
} seen;

static void on_data(void *arg, uint32_t rank, int fd, const void *p, size_t n)
{
    (void)arg, (void)rank, (void)fd;
    if (seen.n + n < sizeof seen.data)
        memcpy(seen.data + seen.n, p, n);
    seen.n += n;
}
static void on_end(void *arg, uint32_t rank, int fd, bool lost)
{
    (void)arg, (void)rank, (void)fd;
    seen.end = true;
    seen.lost = lost;
}
static void on_input(void *arg, uint64_t acked, uint64_t limit, bool gone)
{
    (void)arg;
    seen.acked = acked;
    seen.limit = limit;
    seen.gone = gone;
}
static void on_again(void *arg, uint64_t offset)
{
    (void)arg, (void)offset;
    seen.again++;
}
static void on_bulk(void *arg, uint32_t rank, uint64_t offset, const struct bulk_ticket *t, int fd)
{
    (void)arg, (void)rank;
    seen.bulk_at = offset;
    seen.bulk_fd = fd;
    memcpy(seen.token, t->token, sizeof seen.token);
}

static void turn(reader_t *r)
{
    for (int i = 0; i < 5; i++) {
        reader_flush(r);
        loop_once(loop, 0);
    }
}

static void say(uint8_t kind, uint8_t fd, uint32_t rank, uint64_t offset, uint16_t flags,
                const char *body, size_t len)
{
    unsigned char h[STREAM_HEADER];

    stream_pack(h, &(struct stream_msg){ .kind = kind, .fd = fd, .rank = rank, .flags = flags,
                                         .launch = LAUNCH, .offset = offset,
                                         .limit = offset + 100, .len = (uint32_t)len });
    if (send(peer, h, sizeof h, MSG_NOSIGNAL) < 0 || (len && send(peer, body, len, MSG_NOSIGNAL) < 0))
        printf("# send: %s\n", strerror(errno));
}

/* The next message that came from the reader; kind 0: none. */
static struct stream_msg next(char *body, size_t room)
{
    unsigned char h[STREAM_HEADER];
    struct stream_msg m = { 0 };
    struct pollfd p = { .fd = peer, .events = POLLIN };

    if (poll(&p, 1, 0) <= 0 || recv(peer, h, sizeof h, MSG_WAITALL) != sizeof h ||
        stream_unpack(&m, h) < 0)
        return (struct stream_msg){ 0 };
    if (m.len && (m.len > room || recv(peer, body, m.len, MSG_WAITALL) != (ssize_t)m.len))
        return (struct stream_msg){ 0 };
    return m;
}

static bool closed(void)
{
    char c;
    struct pollfd p = { .fd = peer, .events = POLLIN };

    while (poll(&p, 1, 0) > 0) {
        ssize_t n = recv(peer, &c, 1, 0);
        if (n <= 0)
            return true;
    }
    return false;
}

static void meet(reader_t *r)
{
    struct pollfd p = { .fd = listener, .events = POLLIN };

    if (peer >= 0)
        close(peer);
    peer = -1;
    for (int i = 0; i < 200 && peer < 0; i++) {
        loop_once(loop, 5);
        if (poll(&p, 1, 0) > 0)
            peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    }
    turn(r);
}

static uint64_t offset_in(const char *body, uint32_t n, uint32_t rank, int fd)
{
    uint64_t v;

    memcpy(&v, body + 4 + 4 * n + 24 * rank + 8 * (unsigned)fd, sizeof v);
    return le64toh(v);
}

static void streams(reader_t *r)
{
    char body[4096];
    struct stream_msg m = next(body, sizeof body);

    ok(m.kind == STREAM_OPEN && m.launch == LAUNCH && m.len == 4 + 2 * 28, "OPEN comes first");
    ok(m.limit == WINDOW && offset_in(body, 2, 1, 1) == 0, "with the window, from the start");
    say(STREAM_DATA, 1, 0, 0, 0, "hello ", 6);
    say(STREAM_DATA, 1, 0, 3, 0, "lo world", 8);
    turn(r);
    ok(seen.n == 11 && memcmp(seen.data, "hello world", 11) == 0,
       "bytes that were had already are dropped");
    say(STREAM_DATA, 1, 0, 20, 0, "gap", 3);
    say(STREAM_DATA, 1, 0, 23, 0, "gap", 3);
    turn(r);
    m = next(body, sizeof body);
    ok(seen.n == 11 && m.kind == STREAM_RESUME && m.offset == 11, "a gap is asked for");
    ok(next(body, sizeof body).kind == 0, "once");
    say(STREAM_TAKEN, 1, 0, 11, 0, NULL, 0);
    reader_taken(r, 0, 1, 10);
    turn(r);
    ok(next(body, sizeof body).kind == 0, "a little progress is not worth a message");
    reader_taken(r, 0, 1, 11);
    turn(r);
    m = next(body, sizeof body);
    ok(m.kind == STREAM_TAKEN && m.fd == 1 && m.offset == 11, "but what was asked for is");
    say(STREAM_TAKEN, 1, 0, 7, 0, NULL, 0);
    turn(r);
    m = next(body, sizeof body);
    ok(m.kind == STREAM_TAKEN && m.offset == 11, "at once, if it was taken already");

    /* the connection is lost, and goes on where it was */
    say(STREAM_CREDIT, 0, STREAM_ALL, 5, 0, NULL, 0);
    turn(r);
    ok(seen.acked == 5 && seen.limit == 105 && reader_room(r), "CREDIT opens stdin");
    meet(r);
    m = next(body, sizeof body);
    ok(m.kind == STREAM_OPEN && offset_in(body, 2, 0, 1) == 11 &&
       offset_in(body, 2, 0, 2) == 0 && offset_in(body, 2, 0, 0) == 5,
       "after a reconnect OPEN says what was received");
    ok(seen.again == 2 && !reader_room(r), "and stdin waits to be asked for");

    say(STREAM_DATA, 1, 0, 11, STREAM_EOF, "!", 1);
    turn(r);
    m = next(body, sizeof body);
    ok(seen.end && !seen.lost, "the end is seen");
    ok(m.kind == STREAM_CREDIT && (m.flags & STREAM_EOF) && m.offset == 12, "and acknowledged");
    say(STREAM_DATA, 1, 0, 12, STREAM_EOF, NULL, 0);
    turn(r);
    m = next(body, sizeof body);
    ok(m.kind == STREAM_CREDIT && (m.flags & STREAM_EOF), "again when it is repeated");
}

static void bulk(reader_t *r)
{
    char body[4096], ticket[BULK_TOKEN + BULK_KEY];
    unsigned char h[STREAM_HEADER];
    int pair[2];
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } ctl = { 0 };

    memset(ticket, 'a', sizeof ticket);
    say(STREAM_DATA, 1, 1, 0, 0, "before", 6);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return;
    stream_pack(h, &(struct stream_msg){ .kind = STREAM_BULK, .fd = 1, .rank = 1,
                                         .launch = LAUNCH, .offset = 6, .len = sizeof ticket });
    struct iovec iov[2] = { { h, sizeof h }, { ticket, sizeof ticket } };
    struct msghdr mh = { .msg_iov = iov, .msg_iovlen = 2, .msg_control = &ctl,
                         .msg_controllen = sizeof ctl };
    struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &pair[0], sizeof(int));
    ok(sendmsg(peer, &mh, MSG_NOSIGNAL) > 0, "a hand-over is sent");
    turn(r);
    ok(seen.bulk_at == 6 && seen.bulk_fd >= 0 && seen.token[0] == 'a',
       "it arrives with its descriptor");
    meet(r);
    ok(next(body, sizeof body).kind == STREAM_OPEN && offset_in(body, 2, 1, 1) == STREAM_HOLD,
       "OPEN holds a stream that is on the bulk channel");
    reader_bulk_done(r, 1, 1000, false);
    turn(r);
    struct stream_msg m = next(body, sizeof body);
    ok(m.kind == STREAM_RESUME && m.offset == 1000 && m.limit == 1000 + WINDOW,
       "a hand-over that is cut goes on the normal way");
    close(seen.bulk_fd);
    close(pair[0]);
    close(pair[1]);
}

static void hostile(reader_t *r)
{
    CLEANUP(cleanup_free) char *big = calloc(1, WINDOW + 1);

    for (size_t at = 0; at < WINDOW + 1; at += 4096) /* small: the socket must hold them */
        say(STREAM_DATA, 2, 1, at, 0, big, at + 4096 > WINDOW + 1 ? 1 : 4096);
    turn(r);
    ok(closed(), "more than the window allows ends the connection");
    meet(r);
    say(STREAM_DATA, 1, 7, 0, 0, "x", 1);
    turn(r);
    ok(closed(), "so does a rank that there is not");
    meet(r);
    say(STREAM_BULK, 1, 1, 0, 0, big, BULK_TOKEN + BULK_KEY);
    turn(r);
    ok(closed(), "and a hand-over without a descriptor");
    meet(r);
    seen.end = seen.lost = false;
    say(STREAM_NONE, 0, 1, 0, 0, NULL, 0);
    turn(r);
    ok(seen.end && seen.lost, "NONE ends the streams of a rank as lost");
}

int main(void)
{
    static const struct reader_ops ops = { on_data, on_end, on_input, on_again, on_bulk };
    static const int node[] = { 3, 4 };
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    struct err err = { 0 };

    signal(SIGPIPE, SIG_IGN);
    snprintf(a.sun_path, sizeof a.sun_path, "/tmp/bpsh_reader.%d", (int)getpid());
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    loop = loop_create(&err);
    struct reader_conf conf = { .path = a.sun_path, .launch = LAUNCH, .node = node, .n = 2,
                                .window = WINDOW, .raw = true, .use = { true, true } };
    reader_t *r = reader_create(loop, &conf, &ops, NULL, &err);
    ok(r != NULL, "iofwd need not be there yet");
    if (bind(listener, (struct sockaddr *)&a, sizeof a) < 0 || listen(listener, 5) < 0)
        printf("# %s: %s\n", a.sun_path, strerror(errno));
    meet(r);
    streams(r);
    bulk(r);
    hostile(r);
    reader_destroy(&r);
    close(peer);
    close(listener);
    unlink(a.sun_path);
    loop_destroy(&loop);
    return done_testing();
}
