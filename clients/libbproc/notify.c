/* notify.c - changes of the nodes, by a descriptor to wait on
 *
 * It is a connection to the gate that has asked for events: readable once
 * there was one, and also when the connection has ended, for then changes may
 * have been missed. bproc_nodelist_() reads it empty and connects it again.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "clients/libbproc/lib.h"

#define SETTLE_MS 5000
#define RETRY_MS 50

static const char *const topics[] = { "node.state", "node.owner", "node.attr", "node.joined",
                                      "node.config" };
#define TOPICS (int)(sizeof topics / sizeof *topics)

static int ask(gate_t *g)
{
    struct err err = { 0 };
    struct gate_msg m;

    for (int i = 0; i < TOPICS; i++)
        if (gate_subscribe(g, topics[i], &err) < 0)
            return lib_fail(&err);
    for (int answers = 0; answers < TOPICS;) {
        int n = gate_recv(g, SETTLE_MS, &m, &err);
        if (n <= 0)
            return n < 0 ? lib_fail(&err) : lib_errno(ETIMEDOUT);
        bool refused = m.w.kind == WIRE_ERROR;
        answers += m.w.kind != WIRE_EVENT;
        gate_msg_clear(&m);
        if (refused)
            return lib_errno(ENOSYS); /* as on a node */
    }
    return 0;
}

static int open_once(void)
{
    CLEANUP(gate_close) gate_t *g = lib_open(ENOENT);

    if (!g || ask(g) < 0)
        return -1;
    return fcntl(gate_fd(g), F_DUPFD_CLOEXEC, 3);
}

/* The bus may be going down just as we connect: the next one is there soon. */
int bproc_notifier(void)
{
    int fd = -1;

    for (int spent = 0; spent <= SETTLE_MS; spent += RETRY_MS) {
        fd = open_once();
        if (fd >= 0 || (errno != EPIPE && errno != ECONNRESET))
            break;
        poll(NULL, 0, RETRY_MS);
    }
    return fd;
}

/* All that is there is taken. 0: the connection has ended. */
static int drain(int fd)
{
    char byte;

    for (;;) {
        ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
        if (n == 0)
            return 0;
        if (n < 0 && errno == ECONNRESET)
            return 0;
        if (n < 0 && errno != EINTR)
            return errno == EAGAIN ? 1 : -1;
    }
}

static int acknowledge(int fd)
{
    int n = drain(fd);

    if (n != 0)
        return n < 0 ? -1 : 0;
    int fresh = bproc_notifier();
    if (fresh < 0)
        return -1;
    n = dup3(fresh, fd, O_CLOEXEC);
    close(fresh);
    return n < 0 ? -1 : 0;
}

int bproc_nodelist_(struct bproc_node_set_t *ns, int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    for (;;) {
        bproc_nodeset_init(ns, 0);
        if (acknowledge(fd) < 0)
            return -1;
        int n = bproc_nodelist(ns);
        if (n < 0 || poll(&p, 1, 0) == 0)
            return n;
        bproc_nodeset_free(ns); /* something changed meanwhile */
    }
}
