/* main.c - bpevents: what happens in the cluster, a line of JSON each */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "clients/bpevents/watch.h"
#include "clients/common/opt.h"

static const char usage[] =
    "Usage: bpevents [options]\n"
    "Print each event of the cluster as one line of JSON, as it happens.\n"
    "\n"
    "  -f, --filter PREFIX    only topics that begin so: node.  launch.done\n"
    "                         (may be given several times)\n"
    "  -c, --count N          end after N events\n"
    "  -t, --timeout SECONDS  end after this time; with --count, exit status 1\n"
    "      --ready-fd N       write a newline there once no event is missed any more\n"
    "  -h, --help             this text\n"
    "  -v, -V, --version      version\n"
    "\n"
    "Missed events are noted on standard error: {\"gap\":{...}}.\n";

enum { OPT_READY = 256 };

static const struct option longopts[] = {
    { "filter", required_argument, NULL, 'f' },
    { "count", required_argument, NULL, 'c' },
    { "timeout", required_argument, NULL, 't' },
    { "ready-fd", required_argument, NULL, OPT_READY },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'v' },
    { NULL, 0, NULL, 0 },
};

/* The whole command line into *o; < 0: go on, else the exit status. */
static int parse(int argc, char **argv, struct watch_options *o)
{
    int64_t fd;
    int c;

    while ((c = getopt_long(argc, argv, "f:c:t:hvV", longopts, NULL)) != -1) {
        bool good = true;

        switch (c) {
        case 'f': o->filter[o->filters++] = optarg; break;
        case 'c': good = opt_number(optarg, 10, 1, INT64_MAX, &o->count); break;
        case 't': good = opt_number(optarg, 10, 1, INT32_MAX, &o->timeout_s); break;
        case OPT_READY:
            good = opt_number(optarg, 10, 0, 1 << 20, &fd);
            if (good)
                o->ready_fd = (int)fd;
            break;
        case 'h': fputs(usage, stdout); return opt_finish("bpevents");
        case 'v':
        case 'V': return opt_version("bpevents");
        default: fputs("Try `bpevents --help'.\n", stderr); return OPT_EXIT_USAGE;
        }
        if (!good) {
            fprintf(stderr, "bpevents: %s: not a number that fits here\n", optarg);
            return OPT_EXIT_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "bpevents: %s: not an option: topics are chosen by --filter\n",
                argv[optind]);
        return OPT_EXIT_USAGE;
    }
    return -1;
}

int main(int argc, char **argv)
{
    struct err err = { 0 };
    CLEANUP(cleanup_free) char **filter = calloc((size_t)argc + 1, sizeof(*filter));
    struct watch_options o = { .filter = filter, .ready_fd = -1 };

    if (!filter) {
        fprintf(stderr, "bpevents: out of memory\n");
        return EXIT_FAILURE;
    }
    int rc = parse(argc, argv, &o);
    if (rc >= 0)
        return rc;
    rc = watch(&o, &err);
    if (rc < 0)
        fprintf(stderr, "bpevents: %s\n", err.text);
    return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
