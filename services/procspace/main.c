/* main.c - procspace: launches, processes, where their ghosts stand
 *
 * Read the command line, open what we own, hand over to the loop.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include "bus/rundir.h"
#include "services/procspace/methods.h"

static const char usage[] =
    "usage: procspace [--port N] [--ready-fd N]\n"
    "The cluster's process table: starts programs on nodes, keeps their ghosts and\n"
    "bodies together, sends programs to nodes by content.\n"
    "  -p, --port N      TCP port of the content server (default 2226)\n"
    "  -r, --ready-fd N  write a newline to descriptor N when ready\n"
    "  -h, --help        this text\n"
    "  -V, --version     version\n";

static const struct option longopts[] = {
    { "port", required_argument, NULL, 'p' },
    { "ready-fd", required_argument, NULL, 'r' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { 0 },
};

static void on_connect(void *arg)
{
    recover_nodes(arg);
    libs_changed(arg);
    network_ask(arg);
}

static int open_all(procspace_t *ps, int port, struct err *err)
{
    if (!(ps->loop = loop_create(err)) ||
        loop_stop_signals(ps->loop, err) < 0 || past_open(ps, err) < 0 || !(ps->contents = contents_create(ps, err)) ||
        contents_listen(ps->contents, port, err) < 0 || ghosts_open(ps, err) < 0 ||
        kids_open(ps, err) < 0 ||
        recover_ghosts(ps, err) < 0 || libs_open(ps, err) < 0)
        return -1;
    outside_open(ps);
    if (copies_open(ps, err) < 0 || moves_open(ps, err) < 0)
        return -1;
    if (!(ps->svc = svc_create(ps->loop, "procspace", procspace_methods, ps, err)) ||
        svc_follow(ps->svc, "node.", on_node_event, ps, err) < 0)
        return -1;
    svc_on_connect(ps->svc, on_connect, ps);
    return 0;
}

int main(int argc, char **argv)
{
    static procspace_t ps;
    int ready_fd = -1, port = CM_PORT + CM_PORT_CONTENT, c;
    struct err err = { 0 };

    while ((c = getopt_long(argc, argv, "p:r:hV", longopts, NULL)) != -1) {
        switch (c) {
        case 'p': port = atoi(optarg); break;
        case 'r':
            if (!svc_ready_fd("procspace", optarg, &ready_fd))
                return 2;
            break;
        case 'h': fputs(usage, stdout); return 0;
        case 'V': puts("procspace " CM_VERSION); return 0;
        default: fputs(usage, stderr); return 2;
        }
    }
    if (port < 1 || port > 65535) {
        fprintf(stderr, "procspace: --port %d: want 1..65535\n", port);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    if (open_all(&ps, port, &err) < 0) {
        fprintf(stderr, "procspace: %s\n", err.text);
        return 1;
    }
    svc_ready(ready_fd);
    int rc = loop_run(ps.loop);
    svc_destroy(&ps.svc);
    copies_close(&ps);
    moves_close(&ps);
    readers_close(&ps);
    free(ps.heard);
    contents_destroy(&ps.contents);
    libs_close(&ps);
    past_close(&ps);
    return rc < 0;
}
