/* main.c - bpmover: a process of the master goes to a node, or could it?
 *
 * Started by procspace, as root. What it finds is one msgpack map on stdout.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "mover/mover.h"

static const char usage[] =
    "Usage: bpmover [-c] [-n] [-l PID] PID NODE\n"
    "Started by procspace for bpmove(1): moves a process of the master to a node, and\n"
    "writes what has come of it as msgpack.\n"
    "\n"
    "  -c, --check       only look what stands in the way\n"
    "  -n, --no-input    its standard input becomes empty\n"
    "  -l, --like PID    it must be in the namespaces of this process\n"
    "  -h, --help        this text\n"
    "  -V, --version     the version\n";

static const struct option longopts[] = {
    { "check", no_argument, NULL, 'c' },    { "no-input", no_argument, NULL, 'n' },
    { "like", required_argument, NULL, 'l' }, { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },  { NULL, 0, NULL, 0 },
};

static bool number(const char *text, long min, long max, long *out)
{
    char *end;

    *out = strtol(text, &end, 10);
    return end != text && !*end && *out >= min && *out <= max;
}

int main(int argc, char **argv)
{
    struct mover_conf conf = { .run = cm_rundir(), .like = getpid() };
    CLEANUP(mp_free) mp_buf result;
    long pid = 0, node = 0, like;
    int c;

    mp_init(&result);
    while ((c = getopt_long(argc, argv, "cnl:hV", longopts, NULL)) != -1) {
        switch (c) {
        case 'c': conf.check = true; break;
        case 'n': conf.no_input = true; break;
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
    if (argc - optind != 2 || !number(argv[optind], 1, INT32_MAX, &pid) ||
        !number(argv[optind + 1], -1, INT32_MAX, &node)) {
        fputs(usage, stderr);
        return 2;
    }
    conf.pid = (pid_t)pid;
    conf.to = (int)node;
    mover_run(&conf, &result);
    for (size_t at = 0; at < result.b.size;) {
        ssize_t n = write(STDOUT_FILENO, result.b.data + at, result.b.size - at);
        if (n <= 0)
            return EXIT_FAILURE;
        at += (size_t)n;
    }
    return EXIT_SUCCESS;
}
