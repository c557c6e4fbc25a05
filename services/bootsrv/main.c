/* main.c - bootsrv: boots machines, and sets them up when they join
 *
 * Read the command line, open what we own, hand over to the loop.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include "bus/rundir.h"
#include "services/bootsrv/bootsrv.h"
#include "services/bootsrv/dhcp.h"
#include "services/bootsrv/http.h"
#include "services/bootsrv/history.h"
#include "services/bootsrv/images.h"
#include "services/bootsrv/machines.h"
#include "services/bootsrv/spread.h"
#include "services/bootsrv/wanted.h"

static const char usage[] =
    "usage: bootsrv [--ready-fd N]\n"
    "Serves boot images and runs node_up for nodes that join.\n"
    "  -r, --ready-fd N  write a newline to descriptor N when ready\n"
    "  -h, --help        this text\n"
    "  -V, --version     version\n";

static const struct option longopts[] = {
    { "ready-fd", required_argument, NULL, 'r' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { 0 },
};

static void on_image(void *arg)
{
    bootsrv_t *b = arg;

    http_news(b->http);
}

static const char *const migrations[] = {
    "CREATE TABLE wanted (node INTEGER PRIMARY KEY, file TEXT NOT NULL)",
    "CREATE TABLE boots (node INTEGER PRIMARY KEY, boot BLOB NOT NULL)",
    NULL
};

static int open_all(bootsrv_t *b, struct err *err)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/bootsrv.db", cm_statedir());
    if (!(b->loop = loop_create(err)) ||
        loop_stop_signals(b->loop, err) < 0 ||
        loop_signal(b->loop, SIGHUP, conf_hangup, b, err) < 0 ||
        !(b->svc = svc_create(b->loop, "bootsrv", bootsrv_methods, b, err)) ||
        !(b->store = store_open(path, migrations, err)) ||
        !(b->wanted = wanted_open(b->store, err)) || !(b->setup = setup_create(b, err)) ||
        !(b->machines = machines_create(b, err)) || !(b->history = history_open(b, err)) ||
        !(b->images = images_create(b->loop, on_image, b, err)) ||
        !(b->spread = spread_create(err)) || !(b->dhcp = dhcp_create(b, err)) ||
        !(b->http = http_create(b->loop, serve, serve_sent, b, err)) || conf_open(b, err) < 0)
        return -1;
    svc_on_connect(b->svc, conf_connected, b);
    return 0;
}

int main(int argc, char **argv)
{
    static bootsrv_t b = { .ready_fd = -1 };
    struct err err = { 0 };
    int c;

    while ((c = getopt_long(argc, argv, "r:hV", longopts, NULL)) != -1) {
        switch (c) {
        case 'r':
            if (!svc_ready_fd("bootsrv", optarg, &b.ready_fd))
                return 2;
            break;
        case 'h': fputs(usage, stdout); return 0;
        case 'V': puts("bootsrv " CM_VERSION); return 0;
        default: fputs(usage, stderr); return 2;
        }
    }
    if (optind < argc) {
        fputs(usage, stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_NAME, "beoserv"); /* people and scripts say killall -HUP beoserv */
    int rc = -1;
    if (open_all(&b, &err) < 0)
        fprintf(stderr, "bootsrv: %s\n", err.text);
    else
        rc = loop_run(b.loop);
    dhcp_destroy(&b.dhcp);
    http_destroy(&b.http);
    images_destroy(&b.images);
    spread_destroy(&b.spread);
    history_close(&b.history);
    machines_destroy(&b.machines);
    setup_destroy(&b.setup);
    wanted_close(&b.wanted);
    store_close(&b.store);
    svc_destroy(&b.svc);
    config_free(&b.config);
    loop_destroy(&b.loop);
    return rc != 0;
}
