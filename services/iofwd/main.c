/* main.c - iofwd: where readers and the streams of nodes meet
 *
 * Read the command line, open what we own, run the loop. Streams are in
 * launch.c, output.c and input.c (doc/streams.md).
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include "bus/rundir.h"
#include "bus/zloop.h"
#include "services/iofwd/iofwd.h"

static const char usage[] =
    "usage: iofwd [--port N] [--ready-fd N]\n"
    "\n"
    "Forward standard input, output and error between nodes and their readers.\n"
    "  --port N      listen here for agents, and on N + 1 for bulk streams\n"
    "                (default: bprocport + 1, from nodemgr)\n"
    "  --ready-fd N  write a newline to this descriptor when ready\n"
    "  --help, --version\n";

enum { OPT_PORT = 1, OPT_READY };

static const struct option longopts[] = {
    { "port", required_argument, NULL, OPT_PORT },
    { "ready-fd", required_argument, NULL, OPT_READY },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { NULL, 0, NULL, 0 }
};

static int port_number(const char *text)
{
    char *end;
    long v = strtol(text, &end, 10);

    if (*end || end == text || v < 1 || v > 65534) {
        fprintf(stderr, "iofwd: --port %s: want a number from 1 to 65534\n", text);
        exit(2);
    }
    return (int)v;
}

static int open_all(struct iofwd *io, uint16_t port, struct err *err)
{
    char path[PATH_MAX];
    struct curve_keys keys;

    /* The same keys as busd's, whichever of us comes first to make them. */
    if (snprintf(path, sizeof path, "%s/master.key", cm_statedir()) >= (int)sizeof path)
        return err_set(err, ENAMETOOLONG, "%s: too long", cm_statedir());
    if (curve_keys_load(path, true, &keys, err) < 0)
        return -1;
    io->svc = svc_create(io->loop, "iofwd", iofwd_methods, io, err);
    if (!io->svc || !(io->launches = launches_create(io, err)) ||
        !(io->closings = closings_create(io, err)) ||
        !(io->handover = handover_create(io, err)) ||
        !(io->nodes = nodes_create(io, keys.secret_key, err)) ||
        !(io->readers = readers_create(io, err)) || !(io->keys = keys_create(io, port, err)))
        return -1;
    explicit_bzero(&keys, sizeof keys);
    return port ? nodes_listen(io->nodes, port, err) : 0;
}

static void close_all(struct iofwd *io)
{
    keys_destroy(&io->keys);
    readers_destroy(&io->readers);
    nodes_destroy(&io->nodes);
    handover_destroy(&io->handover);
    closings_destroy(&io->closings);
    launches_destroy(&io->launches);
    svc_destroy(&io->svc);
    loop_destroy(&io->loop);
}

/* A descriptor a reader: as many as may be had. */
static void raise_limit(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

int main(int argc, char **argv)
{
    int port = 0, ready_fd = -1, c, status = EXIT_FAILURE;
    struct err err = { 0 };
    struct iofwd io = { 0 };

    while ((c = getopt_long(argc, argv, "hV", longopts, NULL)) != -1) {
        switch (c) {
        case OPT_PORT: port = port_number(optarg); break;
        case OPT_READY:
            if (!svc_ready_fd("iofwd", optarg, &ready_fd))
                return 2;
            break;
        case 'h': fputs(usage, stdout); return EXIT_SUCCESS;
        case 'V': puts("iofwd (Clustermatic) " CM_VERSION); return EXIT_SUCCESS;
        default: fputs(usage, stderr); return 2;
        }
    }
    if (optind != argc) {
        fputs(usage, stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    raise_limit();
    io.loop = loop_create(&err);
    if (io.loop && loop_stop_signals(io.loop, &err) == 0 &&
        open_all(&io, (uint16_t)port, &err) == 0) {
        svc_ready(ready_fd);
        status = loop_run(io.loop);
    } else {
        fprintf(stderr, "iofwd: %s\n", err.text);
    }
    close_all(&io);
    return status;
}
