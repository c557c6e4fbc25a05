/* main.c - busd: who is connected under which name; requests and events between them
 *
 * Read the command line, open the sockets, hand over to the loop. Routing is in
 * router.c, the gate in gate.c.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "bus/busd/busd.h"
#include "bus/config.h"
#include "bus/rundir.h"
#include "bus/svc.h"
#include "bus/zloop.h"

static const char usage[] =
    "usage: busd [--listen ENDPOINT]... [--ready-fd N]\n"
    "       busd --make-keys\n"
    "The cluster's message bus. Sockets in RUN (CM_RUNDIR, /run/clustermatic): bus,\n"
    "events, gate; nodes connect with CURVE over tcp.\n"
    "  -l, --listen ENDPOINT  where nodes connect, as tcp://ADDRESS:PORT; may be given\n"
    "                         several times (default: the interfaces and the port that\n"
    "                         the config names)\n"
    "  -r, --ready-fd N       write a newline to descriptor N when ready\n"
    "  -k, --make-keys        make the master's keys if there are none, and end\n"
    "  -h, --help             this text\n"
    "  -V, --version          version\n";

static const struct option longopts[] = {
    { "listen", required_argument, NULL, 'l' },
    { "ready-fd", required_argument, NULL, 'r' },
    { "make-keys", no_argument, NULL, 'k' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { 0 },
};

/* Every interface line of the config, at its port. A config that cannot be
 * read leaves the master's own programs served; nodemgr says what is wrong. */
static int listen_by_config(struct busd_options *o, struct err *err)
{
    struct err why = { 0 };
    CLEANUP(config_free) struct cm_config *c = config_load(cm_configfile(), NULL, &why);

    if (!c) {
        svc_log("error", "no node can connect: %s", why.text);
        return 0;
    }
    for (size_t i = 0; i < c->ninterfaces; i++) {
        char *endpoint;
        if (o->nlisten == BUSD_MAX_LISTEN)
            return err_set(err, E2BIG, "%s: more than %d interfaces", c->file, BUSD_MAX_LISTEN);
        if (asprintf(&endpoint, "tcp://%s:%u", c->interfaces[i].name, c->port) < 0)
            return err_set(err, ENOMEM, "out of memory");
        o->listen[o->nlisten++] = endpoint; /* for the life of the process */
    }
    if (!o->nlisten)
        svc_log("warning", "%s: no interface line, so no node can connect", c->file);
    return 0;
}

/* For who needs the public one before our first start. */
static int make_keys(void)
{
    struct curve_keys keys;
    char path[PATH_MAX];
    struct err err = { 0 };

    if (mkdir(cm_statedir(), 0755) < 0 && errno != EEXIST)
        err_set(&err, errno, "make folder %s: %s", cm_statedir(), strerror(errno));
    else if (snprintf(path, sizeof path, "%s/master.key", cm_statedir()) < (int)sizeof path &&
             curve_keys_load(path, true, &keys, &err) == 0)
        return 0;
    fprintf(stderr, "busd: %s\n", err.text);
    return 1;
}

int main(int argc, char **argv)
{
    static struct busd_options o;
    int ready_fd = -1, c;
    struct err err = { 0 };

    while ((c = getopt_long(argc, argv, "l:r:khV", longopts, NULL)) != -1) {
        switch (c) {
        case 'l':
            if (o.nlisten == BUSD_MAX_LISTEN) {
                fprintf(stderr, "busd: more than %d --listen\n", BUSD_MAX_LISTEN);
                return 2;
            }
            o.listen[o.nlisten++] = optarg;
            break;
        case 'r':
            if (!svc_ready_fd("busd", optarg, &ready_fd))
                return 2;
            break;
        case 'k': return make_keys();
        case 'h': fputs(usage, stdout); return 0;
        case 'V': puts("busd " CM_VERSION); return 0;
        default: fputs(usage, stderr); return 2;
        }
    }
    if (!o.nlisten && listen_by_config(&o, &err) < 0) {
        fprintf(stderr, "busd: %s\n", err.text);
        return 1;
    }

    signal(SIGPIPE, SIG_IGN);
    CLEANUP(loop_destroy) loop_t *loop = loop_create(&err);
    CLEANUP(busd_destroy) busd_t *bus = loop ? busd_create(loop, &o, &err) : NULL;
    if (!bus || loop_stop_signals(loop, &err) < 0) {
        fprintf(stderr, "busd: %s\n", err.text);
        return 1;
    }
    svc_ready(ready_fd);
    return loop_run(loop) < 0;
}
