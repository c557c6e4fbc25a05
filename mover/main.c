/* main.c - bpmover: a process of the master goes to a node, or could it?
 *
 * Started by procspace, as root. What it finds is one msgpack map on stdout.
 */
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "mover/mover.h"

static const char usage[] =
    "Usage: bpmover [-c] [-n] [-l PID] PID NODE\n"
    "       bpmover -e PID\n"
    "Started by procspace for bpmove(1): moves a process of the master to a node, and\n"
    "writes what has come of it as msgpack.\n"
    "\n"
    "  -c, --check       only look what stands in the way\n"
    "  -n, --no-input    its standard input becomes empty\n"
    "  -l, --like PID    it must be in the namespaces of this process\n"
    "  -e, --end         end a move whose bpmover has died\n"
    "  -h, --help        this text\n"
    "  -V, --version     the version\n";

static const struct option longopts[] = {
    { "check", no_argument, NULL, 'c' },    { "no-input", no_argument, NULL, 'n' },
    { "like", required_argument, NULL, 'l' }, { "end", no_argument, NULL, 'e' },
    { "help", no_argument, NULL, 'h' },     { "version", no_argument, NULL, 'V' },
    { NULL, 0, NULL, 0 },
};

static bool number(const char *text, long min, long max, long *out)
{
    char *end;

    *out = strtol(text, &end, 10);
    return end != text && !*end && *out >= min && *out <= max;
}

int main(int argc, char **argv)
{
    struct mover_conf conf = { .run = cm_rundir(), .like = getpid(), .note = -1 };
    CLEANUP(mp_free) mp_buf result;
    char path[PATH_MAX], name[32];
    struct err err = { 0 };
    long pid = 0, node = 0, like;
    bool end = false;
    int c;

    mp_init(&result);
    while ((c = getopt_long(argc, argv, "cnl:ehV", longopts, NULL)) != -1) {
        switch (c) {
        case 'c': conf.check = true; break;
        case 'n': conf.no_input = true; break;
        case 'e': end = true; break;
        case 'l':
            if (!number(optarg, 1, INT32_MAX, &like)) {
                fputs(usage, stderr);
                return 2;
            }
            conf.like = (pid_t)like;
            break;
        case 'h': fputs(usage, stdout); return EXIT_SUCCESS;
        case 'V': puts("bpmover (Clustermatic) " CM_VERSION); return EXIT_SUCCESS;
        default: fputs(usage, stderr); return 2;
        }
    }
    if (argc - optind != (end ? 1 : 2) || !number(argv[optind], 1, INT32_MAX, &pid) ||
        (!end && !number(argv[optind + 1], -1, INT32_MAX, &node))) {
        fputs(usage, stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN); /* who takes the image no more is its write's error */
    conf.pid = (pid_t)pid;
    conf.to = (int)node;
    snprintf(name, sizeof name, "held.%ld", pid);
    cm_path(path, name);
    if (!conf.check)
        conf.note = note_open(path, &end, &err);
    if (err.code)
        mover_result(&err, NULL, &result);
    else if (end)
        note_end(&conf, &result);
    else
        mover_run(&conf, &result);
    if (conf.note >= 0)
        unlink(path);
    for (size_t at = 0; at < result.b.size;) {
        ssize_t n = write(STDOUT_FILENO, result.b.data + at, result.b.size - at);
        if (n <= 0)
            return EXIT_FAILURE;
        at += (size_t)n;
    }
    return EXIT_SUCCESS;
}
