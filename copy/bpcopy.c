/* bpcopy.c - one end of one copy, as the user who asked for it
 *
 * bpnode starts "bpcopy node" for a connection that showed a ticket: it goes
 * into the node's root, becomes the user, and receives, relays or sends files.
 * procspace starts "bpcopy pipe" for a bpcp: it dials a node and passes bytes
 * between the bulk channel and bpcp's socket, so that bpcp needs neither the
 * cluster's network nor cryptography. The OpenSSL set-up is done before, since
 * afterwards another file system is in sight.
 */
#include <errno.h>
#include <grp.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "copy/copy.h"

#define CONNECTION 3
#define PEER 4
#define ROOT 5
#define GREET_MS 10000

static const char usage[] =
    "Usage: bpcopy node|pipe OWNER\n"
    "One end of a copy between machines; started by bpnode and procspace for bpcp(1).\n"
    "Descriptor 3 is the connection, 4 says whom it is for, 5 is the node's root.\n"
    "OWNER is the process that it ends with.\n"
    "\n"
    "  -h, --help     this text\n"
    "  -V, --version  the version\n";

static int read_peer(struct copy_peer *p, struct err *err)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked u;
    struct stat st;

    msgpack_unpacked_init(&u);
    if (fstat(PEER, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "descriptor %d: want a file", PEER);
    CLEANUP(cleanup_free) char *text = malloc((size_t)st.st_size + 1);
    if (!text || pread(PEER, text, (size_t)st.st_size, 0) != st.st_size)
        return err_set(err, EIO, "descriptor %d: not readable", PEER);
    close(PEER);
    return mp_decode(&u, text, (size_t)st.st_size, err) < 0 ? -1
                                                            : copy_peer_parse(p, &u.data, err);
}

/* The order matters: each step takes away what the one before it needed. */
static int become(const struct copy_peer *p, bool node, pid_t owner, struct err *err)
{
    if (node) {
        if (fchdir(ROOT) < 0 || chroot(".") < 0 || chdir("/") < 0)
            return err_set(err, errno, "the node's root: %s", strerror(errno));
        close(ROOT);
    }
    if (geteuid() == 0 && (setgroups((size_t)p->ngroups, p->groups) < 0 ||
                           setresgid(p->gid, p->gid, p->gid) < 0 ||
                           setresuid(p->uid, p->uid, p->uid) < 0))
        return err_set(err, errno, "user %u: %s", p->uid, strerror(errno));
    if (getuid() != p->uid || geteuid() != p->uid)
        return err_set(err, EPERM, "user %u: not possible here", p->uid);
    /* Cleared by a change of user, so not before. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        getppid() != owner)
        return err_set(err, ESRCH, "who started this has gone");
    return 0;
}

static int be_node(const struct copy_peer *p, struct err *err)
{
    chan_tcp_options(CONNECTION);
    bulk_t *b = bulk_server(CONNECTION, &p->ticket, GREET_MS, err);
    chan_t *up = b ? chan_bulk(b, err) : NULL;

    if (!up)
        return -1;
    struct relay r = { .up = up, .node = p->node, .children = fan_open };
    int rc = relay_serve(&r, err);
    chan_close(&r.up);
    return rc;
}

/* --- the pipe --- */

static int write_out(const char *p, size_t n, struct err *err)
{
    while (n) {
        ssize_t done = send(CONNECTION, p, n, MSG_NOSIGNAL);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return err_set(err, errno, "bpcp: %s", strerror(errno));
        p += done;
        n -= (size_t)done;
    }
    return 0;
}

/* All that has come, and not waiting for more: TLS has messages of its own, so
 * a readable socket need not mean bytes. 1 to go on, 0 the end, -1. */
static int drain(bulk_t *b, char *buf, struct err *err)
{
    for (;;) {
        struct err why = { 0 };
        ssize_t n = bulk_read(b, buf, COPY_CHUNK, 0, &why);
        if (n < 0 && why.code == ETIMEDOUT)
            return 1;
        if (n < 0)
            return err_set(err, why.code, "%s", why.text);
        if (n == 0)
            return 0;
        if (write_out(buf, (size_t)n, err) < 0)
            return -1;
    }
}

/* Either end's end is the end. */
static int pass(bulk_t *b, struct err *err)
{
    static char buf[COPY_CHUNK];

    for (;;) {
        int rc = drain(b, buf, err);
        if (rc <= 0)
            return rc;
        struct pollfd fds[2] = { { .fd = CONNECTION, .events = POLLIN },
                                 { .fd = bulk_fd(b), .events = POLLIN } };
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return err_set(err, errno, "poll: %s", strerror(errno));
        if (!fds[0].revents)
            continue;
        ssize_t n = recv(CONNECTION, buf, sizeof buf, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return 0;
        if (bulk_write(b, buf, (size_t)n, -1, err) < 0)
            return -1;
    }
}

static int be_pipe(const struct copy_peer *p, struct err *err)
{
    bulk_t *b = bulk_dial_ticket(p->addr, p->port, &p->ticket, err);

    if (!b)
        return -1;
    int rc = pass(b, err);
    bulk_close(&b);
    return rc;
}

int main(int argc, char **argv)
{
    struct copy_peer p = { 0 };
    struct err err = { 0 };
    char *end;

    if (argc == 2 && (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help"))) {
        fputs(usage, stdout);
        return EXIT_SUCCESS;
    }
    if (argc == 2 && (!strcmp(argv[1], "-V") || !strcmp(argv[1], "--version"))) {
        puts("bpcopy " CM_VERSION);
        return EXIT_SUCCESS;
    }
    bool node = argc == 3 && !strcmp(argv[1], "node");
    long owner = argc == 3 ? strtol(argv[2], &end, 10) : 0;
    if ((!node && (argc != 3 || strcmp(argv[1], "pipe"))) || owner < 1 || *end) {
        fputs(usage, stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    umask(0);
    OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
    int rc = read_peer(&p, &err);
    if (rc == 0)
        rc = become(&p, node, (pid_t)owner, &err);
    if (rc == 0)
        rc = node ? be_node(&p, &err) : be_pipe(&p, &err);
    if (rc < 0 && err.code != ECONNRESET && err.code != EPIPE)
        fprintf(stderr, "warning bpcopy: %s\n", err.text);
    /* Not exit(): a leak checker cannot look at a process that changed its user. */
    fflush(NULL);
    _exit(rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}
