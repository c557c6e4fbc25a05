/* main.c - nodemgr: which nodes exist, who they are, and what state each is in
 *
 * Read the command line, open what we own, hand over to the loop. Requests are
 * listed in methods.c.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include "bus/rundir.h"
#include "services/nodemgr/nodemgr.h"

static const char usage[] =
    "usage: nodemgr [--config FILE] [--ready-fd N]\n"
    "The cluster's node table: configuration, keys, states, owners. SIGHUP reads the\n"
    "configuration again; one with an error changes nothing.\n"
    "  -c, --config FILE  configuration (default CM_CONFIG, /etc/clustermatic/config)\n"
    "  -r, --ready-fd N   write a newline to descriptor N when ready\n"
    "  -h, --help         this text\n"
    "  -V, --version      version\n"
    "Sockets are in CM_RUNDIR (/run/clustermatic), state is in CM_STATEDIR\n"
    "(/var/lib/clustermatic).\n";

static const struct option longopts[] = {
    { "config", required_argument, NULL, 'c' },
    { "ready-fd", required_argument, NULL, 'r' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { 0 },
};

int main(int argc, char **argv)
{
    const char *config = cm_configfile();
    struct err err = { 0 };
    int ready_fd = -1, c;

    while ((c = getopt_long(argc, argv, "c:r:hV", longopts, NULL)) != -1) {
        switch (c) {
        case 'c': config = optarg; break;
        case 'r':
            if (!svc_ready_fd("nodemgr", optarg, &ready_fd))
                return 2;
            break;
        case 'h': fputs(usage, stdout); return 0;
        case 'V': puts("nodemgr " CM_VERSION); return 0;
        default: fputs(usage, stderr); return 2;
        }
    }
    if (optind < argc) {
        fputs(usage, stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    CLEANUP(loop_destroy) loop_t *loop = loop_create(&err);
    CLEANUP(nodemgr_destroy) nodemgr_t *m =
        loop ? nodemgr_create(loop, config, ready_fd, &err) : NULL;
    if (!m || loop_stop_signals(loop, &err) < 0) {
        fprintf(stderr, "nodemgr: %s\n", err.text);
        return 1;
    }
    return loop_run(loop) < 0;
}
