/* main.c - busd: who is connected under which name; requests and events between them
 *
 * Read the command line, open the sockets, hand over to the loop. Routing is in
 * router.c, the gate in gate.c.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bus/busd/busd.h"
#include "bus/rundir.h"
#include "bus/svc.h"

static const char usage[] =
    "usage: busd [--listen ENDPOINT]... [--ready-fd N]\n"
    "The cluster's message bus. Sockets in RUN (CM_RUNDIR, /run/clustermatic): bus,\n"
    "events, gate; nodes connect with CURVE to tcp port 2223.\n"
    "  -l, --listen ENDPOINT  where nodes connect, as tcp://ADDRESS:PORT; may be given\n"
    "                         several times (default tcp://*:2223)\n"
    "  -r, --ready-fd N       write a newline to descriptor N when ready\n"
    "  -h, --help             this text\n"
    "  -V, --version          version\n";

static const struct option longopts[] = {
    { "listen", required_argument, NULL, 'l' },
    { "ready-fd", required_argument, NULL, 'r' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { 0 },
};

static void on_stop(void *arg, int signo)
{
    (void)signo;
    loop_stop(arg, 0);
}

int main(int argc, char **argv)
{
    const char *dflt = "tcp://*:2223", *listen[64];
    struct busd_options o = { .listen = listen };
    int ready_fd = -1, c;
    struct err err = { 0 };

    while ((c = getopt_long(argc, argv, "l:r:hV", longopts, NULL)) != -1) {
        switch (c) {
        case 'l':
            if (o.nlisten == 64) {
                fprintf(stderr, "busd: more than 64 --listen\n");
                return 2;
            }
            listen[o.nlisten++] = optarg;
            break;
        case 'r': ready_fd = atoi(optarg); break;
        case 'h': fputs(usage, stdout); return 0;
        case 'V': puts("busd " CM_VERSION); return 0;
        default: fputs(usage, stderr); return 2;
        }
    }
    if (!o.nlisten)
        listen[o.nlisten++] = dflt;

    signal(SIGPIPE, SIG_IGN);
    CLEANUP(loop_destroy) loop_t *loop = loop_create(&err);
    CLEANUP(busd_destroy) busd_t *bus = loop ? busd_create(loop, &o, &err) : NULL;
    if (!bus || loop_signal(loop, SIGTERM, on_stop, loop, &err) < 0 ||
        loop_signal(loop, SIGINT, on_stop, loop, &err) < 0) {
        fprintf(stderr, "busd: %s\n", err.text);
        return 1;
    }
    svc_ready(ready_fd);
    return loop_run(loop) < 0;
}
