/* main.c - sched: batch and interactive jobs on the nodes
 *
 * Read the command line, make the starter while there is nothing to copy, open
 * what we own, hand over to the loop. Requests are listed in methods.c.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bus/rundir.h"
#include "services/sched/life.h"
#include "services/sched/starter.h"

static const char usage[] =
    "usage: sched [-C FILE] [--ready-fd N]\n"
    "       sched --replay TRACE [--policy A,B] [--nodes N] [--json]\n"
    "       sched --generate JOBS [--nodes N] [--seed N]\n"
    "The cluster's scheduler: pools, jobs, accounting. SIGHUP reads bjs.conf again; one\n"
    "with an error changes nothing.\n"
    "  -C, --config FILE    default CM_BJSCONF, else bjs.conf beside CM_CONFIG\n"
    "  -r, --ready-fd N     write a newline to descriptor N when ready\n"
    "  -R, --replay TRACE   run the policies on a trace in the Standard Workload Format\n"
    "                       (- for standard input), print what they would have done\n"
    "  -p, --policy A,B     for --replay (default simple,filler,easy)\n"
    "  -n, --nodes N        nodes of the machine (default: what the trace says)\n"
    "  -g, --generate JOBS  print a made-up trace of so many jobs\n"
    "  -s, --seed N         for --generate (default 1)\n"
    "  -j, --json           for --replay: JSON\n"
    "  -h, --help           this text\n"
    "  -V, --version        version\n"
    "Sockets are in CM_RUNDIR (/run/clustermatic), state is in CM_STATEDIR\n"
    "(/var/lib/clustermatic).\n";

static const struct option longopts[] = {
    { "config", required_argument, NULL, 'C' },
    { "ready-fd", required_argument, NULL, 'r' },
    { "replay", required_argument, NULL, 'R' },
    { "policy", required_argument, NULL, 'p' },
    { "nodes", required_argument, NULL, 'n' },
    { "generate", required_argument, NULL, 'g' },
    { "seed", required_argument, NULL, 's' },
    { "json", no_argument, NULL, 'j' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { 0 },
};

static bool number(const char *option, int min, int *out)
{
    char *end;
    long v = strtol(optarg, &end, 10);

    if (end == optarg || *end || v < min || v > INT_MAX) {
        fprintf(stderr, "sched: --%s %s: want a number of %d or more\n", option, optarg, min);
        return false;
    }
    *out = (int)v;
    return true;
}

static int serve(const char *config, int ready_fd)
{
    struct err err = { 0 };
    int starter = starter_begin(&err);

    signal(SIGPIPE, SIG_IGN);
    CLEANUP(loop_destroy) loop_t *loop = starter < 0 ? NULL : loop_create(&err);
    CLEANUP(sched_destroy) sched_t *s =
        loop ? sched_create(loop, config, ready_fd, starter, &err) : NULL;
    if (!s || loop_stop_signals(loop, &err) < 0) {
        fprintf(stderr, "sched: %s\n", err.text);
        return 1;
    }
    return loop_run(loop) < 0;
}

/* bjs.conf stands where the cluster's configuration does. */
static const char *config_file(char *buf)
{
    const char *env = getenv("CM_BJSCONF"), *config = cm_configfile();
    const char *slash = strrchr(config, '/');

    if (env && *env)
        return env;
    snprintf(buf, PATH_MAX, "%.*s/bjs.conf", slash ? (int)(slash - config) : 1,
             slash ? config : ".");
    return buf;
}

int main(int argc, char **argv)
{
    static char buf[PATH_MAX], path[PATH_MAX];
    const char *config = NULL;
    struct replay_options o = { .policies = "simple,filler,easy", .path = path };
    int ready_fd = -1, generate = 0, seed = 1, c;

    snprintf(path, sizeof path, "%.4000s/policies", cm_libexec());
    while ((c = getopt_long(argc, argv, "C:r:R:p:n:g:s:jhV", longopts, NULL)) != -1) {
        bool good = true;
        switch (c) {
        case 'C': config = optarg; break;
        case 'r': good = svc_ready_fd("sched", optarg, &ready_fd); break;
        case 'R': o.trace = optarg; break;
        case 'p': o.policies = optarg; break;
        case 'n': good = number("nodes", 1, &o.nodes); break;
        case 'g': good = number("generate", 1, &generate); break;
        case 's': good = number("seed", 0, &seed); break;
        case 'j': o.json = true; break;
        case 'h': fputs(usage, stdout); return 0;
        case 'V': puts("sched " CM_VERSION); return 0;
        default: good = false; fputs(usage, stderr);
        }
        if (!good)
            return 2;
    }
    if (optind < argc || (o.trace && generate)) {
        fputs(usage, stderr);
        return 2;
    }
    if (generate)
        return replay_generate(generate, o.nodes ? o.nodes : 64, (unsigned)seed);
    if (o.trace)
        return replay(&o);
    return serve(config ? config : config_file(buf), ready_fd);
}
