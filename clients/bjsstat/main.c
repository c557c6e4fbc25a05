/* main.c - bjsstat: pools, and the jobs that run, wait and have ended */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "clients/bjsstat/bjsstat.h"
#include "clients/common/follow.h"
#include "clients/common/opt.h"
#include "clients/common/users.h"

#define DONE_DEFAULT 20

static const char usage[] =
    "Usage: bjsstat [options]\n"
    "       bjsstat [--json] ID ...\n"
    "       bjsstat [--json] why ID ...\n"
    "Print pools and their jobs; all about some jobs; or why they wait, until when, or how\n"
    "they have ended.\n"
    "\n"
    "  -p, --pool NAME      only this pool\n"
    "  -u, --user USER      only this user's jobs\n"
    "  -d, --done[=N]       the last N (20) jobs that have ended\n"
    "  -U, --update         again each time something changes\n"
    "      --json           everything that is known, as JSON\n"
    "  -h, --help           this text\n"
    "  -v, -V, --version    version\n";

enum { OPT_JSON = 256, OPT_SOCKET };

static const struct option longopts[] = {
    { "pool", required_argument, NULL, 'p' },
    { "user", required_argument, NULL, 'u' },
    { "done", optional_argument, NULL, 'd' },
    { "update", no_argument, NULL, 'U' },
    { "json", no_argument, NULL, OPT_JSON },
    { "socket", required_argument, NULL, OPT_SOCKET },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'v' },
    { NULL, 0, NULL, 0 },
};

struct shown {
    gate_t *g;
    const struct options *o;
};

static int show_again(void *arg, struct err *err)
{
    const struct shown *s = arg;

    return table_show(s->g, s->o, err);
}

static bool about_jobs(const char *topic)
{
    return strncmp(topic, "job.", 4) == 0 || strncmp(topic, "node.", 5) == 0;
}

static int update(gate_t *g, const struct options *o, struct err *err)
{
    struct shown s = { g, o };
    struct follow_table t = { .program = "bjsstat", .prefix = "", .clear = !o->json,
                              .fatal = ENOENT, .about = about_jobs, .show = show_again, .arg = &s };

    return follow_table(&t, err);
}

static int run(const struct options *o, char **words, int n)
{
    struct err err = { 0 };
    CLEANUP(gate_close) gate_t *g = gate_open("bjsstat", &err);

    if (!g) {
        fprintf(stderr, "bjsstat: %s\n", err.text);
        return EXIT_FAILURE;
    }
    if (n > 0) {
        bool why = strcmp(words[0], "why") == 0;
        int rc = why ? why_show(g, o, words + 1, n - 1) : detail_show(g, o, words, n);
        return opt_finish("bjsstat") != EXIT_SUCCESS ? EXIT_FAILURE : rc;
    }
    if ((o->update ? update(g, o, &err) : table_show(g, o, &err)) < 0) {
        fflush(stdout);
        fprintf(stderr, "bjsstat: %s\n", err.text);
        return EXIT_FAILURE;
    }
    return opt_finish("bjsstat");
}

int main(int argc, char **argv)
{
    struct options o = { .uid = -1 };
    int c;

    while ((c = getopt_long(argc, argv, "p:u:d::UhvV", longopts, NULL)) != -1) {
        switch (c) {
        case 'p': o.pool = optarg; break;
        case 'u':
            if (!users_parse(optarg, &o.uid)) {
                fprintf(stderr, "bjsstat: there is no user %s\n", optarg);
                return OPT_EXIT_USAGE;
            }
            break;
        case 'd':
            o.done = DONE_DEFAULT;
            if (optarg && *optarg == '=')
                optarg++;
            if (optarg && !opt_number(optarg, 10, 1, 1000000, &o.done)) {
                fprintf(stderr, "bjsstat: -d %s: want a number\n", optarg);
                return OPT_EXIT_USAGE;
            }
            break;
        case 'U': o.update = true; break;
        case OPT_JSON: o.json = true; break;
        case OPT_SOCKET: break; /* the original's: there is one way in, the gate */
        case 'h': fputs(usage, stdout); return opt_finish("bjsstat");
        case 'v':
        case 'V': return opt_version("bjsstat");
        default: fputs("Try `bjsstat --help'.\n", stderr); return OPT_EXIT_USAGE;
        }
    }
    if (optind < argc && strcmp(argv[optind], "why") == 0 && optind + 1 == argc) {
        fputs("bjsstat: why: which job?\n", stderr);
        return OPT_EXIT_USAGE;
    }
    return run(&o, argv + optind, argc - optind);
}
