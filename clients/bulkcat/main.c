/* main.c - bulkcat: the reader's end of a stream on the bulk channel
 *
 * Started by bpsh when iofwd hands a stream over (doc/streams.md): it copies
 * the stream from a TLS connection to bpsh's standard output, so that bpsh
 * itself needs no TLS. Its last word is one line on --status-fd.
 */
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "clients/bulkcat/copy.h"

#define HANDSHAKE_MS 10000

static const char usage[] =
    "usage: bulkcat --fd N --key-fd N --token TEXT --offset BYTES --out N [--status-fd N]\n"
    "\n"
    "Copy a stream from the bulk channel to a descriptor. Started by bpsh.\n"
    "  --fd N         connected TCP socket\n"
    "  --key-fd N     where the 32 bytes of the key can be read\n"
    "  --token TEXT   the ticket's name, 32 characters\n"
    "  --offset BYTES the stream's offset of the first byte that comes\n"
    "  --out N        copy to this descriptor\n"
    "  --status-fd N  say here how it ended: \"OFFSET eof\", \"OFFSET cut\" (go on from\n"
    "                 OFFSET another way) or \"OFFSET closed\" (--out takes no more)\n"
    "  --help, --version\n";

enum { OPT_FD = 1, OPT_KEY, OPT_TOKEN, OPT_OFFSET, OPT_OUT, OPT_STATUS };

static const struct option longopts[] = {
    { "fd", required_argument, NULL, OPT_FD },
    { "key-fd", required_argument, NULL, OPT_KEY },
    { "token", required_argument, NULL, OPT_TOKEN },
    { "offset", required_argument, NULL, OPT_OFFSET },
    { "out", required_argument, NULL, OPT_OUT },
    { "status-fd", required_argument, NULL, OPT_STATUS },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { NULL, 0, NULL, 0 }
};

struct options {
    int fd, key_fd, out, status_fd;
    uint64_t offset;
    const char *token;
};

static uint64_t number(const char *text, const char *what, uint64_t max)
{
    char *end;

    errno = 0;
    uint64_t v = strtoull(text, &end, 10);
    if (errno || *end || end == text || *text == '-' || v > max) {
        fprintf(stderr, "bulkcat: %s %s: want a number up to %llu\n", what, text,
                (unsigned long long)max);
        exit(2);
    }
    return v;
}

static int descriptor(const char *text, const char *what)
{
    return (int)number(text, what, 1 << 20);
}

static void parse(int argc, char **argv, struct options *o)
{
    int c;

    *o = (struct options){ .fd = -1, .key_fd = -1, .out = -1, .status_fd = -1 };
    while ((c = getopt_long(argc, argv, "hV", longopts, NULL)) != -1) {
        switch (c) {
        case OPT_FD: o->fd = descriptor(optarg, "--fd"); break;
        case OPT_KEY: o->key_fd = descriptor(optarg, "--key-fd"); break;
        case OPT_TOKEN: o->token = optarg; break;
        case OPT_OFFSET: o->offset = number(optarg, "--offset", UINT64_MAX / 2); break;
        case OPT_OUT: o->out = descriptor(optarg, "--out"); break;
        case OPT_STATUS: o->status_fd = descriptor(optarg, "--status-fd"); break;
        case 'h': fputs(usage, stdout); exit(0);
        case 'V': puts("bulkcat (Clustermatic) " CM_VERSION); exit(0);
        default: fputs(usage, stderr); exit(2);
        }
    }
    if (o->fd < 0 || o->key_fd < 0 || o->out < 0 || !o->token || optind != argc) {
        fputs(usage, stderr);
        exit(2);
    }
}

static int take_key(const struct options *o, struct bulk_ticket *t, struct err *err)
{
    size_t got = 0;

    if (strlen(o->token) != BULK_TOKEN)
        return err_set(err, EINVAL, "--token: want %d characters", BULK_TOKEN);
    memcpy(t->token, o->token, BULK_TOKEN + 1);
    while (got < BULK_KEY) {
        ssize_t n = read(o->key_fd, t->key + got, BULK_KEY - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, errno, "read the key: %s", strerror(errno));
        if (n == 0)
            return err_set(err, EPROTO, "the key is short: %zu bytes of %d", got, BULK_KEY);
        got += (size_t)n;
    }
    close(o->key_fd);
    return 0;
}

/* A node that vanishes without a word must not leave us waiting for ever. */
static void notice_silence(int fd)
{
    int on = 1, idle = 10, every = 5, count = 3;

    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

int main(int argc, char **argv)
{
    static const char *const word[] = { "eof", "cut", "closed" };
    /* Ctrl-C is for the program on the node, whose last words we carry; if
     * bpsh goes, so do we. */
    static const int ignored[] = { SIGPIPE, SIGINT, SIGQUIT, SIGHUP, SIGTERM };
    struct options o;
    struct bulk_ticket t;
    struct err err = { 0 };
    enum copy_end end = COPY_CUT;

    parse(argc, argv, &o);
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (take_key(&o, &t, &err) == 0) {
        notice_silence(o.fd);
        bulk_t *b = bulk_server(o.fd, &t, HANDSHAKE_MS, &err);
        if (b) {
            end = copy_stream(b, o.out, &o.offset, &err);
            bulk_close(&b);
        }
    }
    if (err.code && err.code != EPIPE && err.code != ECONNRESET)
        fprintf(stderr, "bulkcat: %s\n", err.text);
    if (o.status_fd >= 0)
        dprintf(o.status_fd, "%llu %s\n", (unsigned long long)o.offset, word[end]);
    return end == COPY_EOF ? EXIT_SUCCESS : EXIT_FAILURE;
}
