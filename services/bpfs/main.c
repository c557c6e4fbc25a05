/* main.c - bpfs: the nodes as files, for chmod, chown, setfattr and test -x
 *
 * Read the command line, open what we own, hand over to the loop. The mount is
 * made once the nodes are known, so that nobody sees an empty one. Where there
 * can be none, the service says so once and stays, without it.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bus/rundir.h"
#include "services/bpfs/bpfs.h"

#define DEFAULT_RUN "/run/clustermatic"

static const char usage[] =
    "usage: bpfs [--also DIR] [--ready-fd N]\n"
    "Shows the nodes as files in CM_RUNDIR/bpfs, through FUSE.\n"
    "  -a, --also DIR    in DIR too, if there is such a folder (the default cluster: /bpfs)\n"
    "  -r, --ready-fd N  write a newline to descriptor N when ready\n"
    "  -h, --help        this text\n"
    "  -V, --version     version\n";

static const struct option longopts[] = {
    { "also", required_argument, NULL, 'a' },
    { "ready-fd", required_argument, NULL, 'r' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { 0 },
};

/* bpfs.status: {} -> {mounted, path, also, why} */
static int on_status(void *self, struct svc_req *req, struct err *err)
{
    const bpfs_t *b = self;

    (void)err;
    mp_map(req->reply, 4);
    mp_kbool(req->reply, "mounted", b->session != NULL);
    mp_kstr(req->reply, "path", b->path);
    mp_kstr(req->reply, "also", b->session && b->also ? b->also : "");
    mp_kstr(req->reply, "why", b->why_not);
    return 0;
}

static const struct svc_method methods[] = {
    { "bpfs.status", on_status, SVC_USER },
    SVC_METHODS_END
};

void bpfs_begin(bpfs_t *b)
{
    struct err err = { 0 };

    if (mount_open(b, &err) < 0) {
        svc_log("warning", "no view of the nodes as files: %s", err.text);
        snprintf(b->why_not, sizeof b->why_not, "%.199s", err.text);
    }
    svc_ready(b->ready_fd);
    b->ready_fd = -1;
}

static int open_all(bpfs_t *b, struct err *err)
{
    if (!(b->loop = loop_create(err)) || loop_stop_signals(b->loop, err) < 0 ||
        !(b->svc = svc_create(b->loop, "bpfs", methods, b, err)) || follow_open(b, err) < 0)
        return -1;
    svc_on_connect(b->svc, follow_connected, b);
    return 0;
}

int main(int argc, char **argv)
{
    static bpfs_t b = { .ready_fd = -1 };
    struct err err = { 0 };
    int c;

    b.also = strcmp(cm_rundir(), DEFAULT_RUN) == 0 ? "/bpfs" : NULL;
    while ((c = getopt_long(argc, argv, "a:r:hV", longopts, NULL)) != -1) {
        switch (c) {
        case 'a': b.also = optarg; break;
        case 'r':
            if (!svc_ready_fd("bpfs", optarg, &b.ready_fd))
                return 2;
            break;
        case 'h': fputs(usage, stdout); return 0;
        case 'V': puts("bpfs " CM_VERSION); return 0;
        default: fputs(usage, stderr); return 2;
        }
    }
    if (optind < argc) {
        fputs(usage, stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    int rc = -1;
    if (open_all(&b, &err) < 0)
        fprintf(stderr, "bpfs: %s\n", err.text);
    else
        rc = loop_run(b.loop);
    mount_close(&b);
    status_close_all(&b);
    svc_destroy(&b.svc);
    follow_close(&b);
    loop_destroy(&b.loop);
    return rc != 0;
}
