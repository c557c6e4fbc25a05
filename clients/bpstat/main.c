/* main.c - bpstat: the state of the nodes
 *
 * Read the command line, ask nodemgr once (or again at each change, -U), and
 * hand what it says to a layout.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/bpstat/bpstat.h"
#include "clients/common/follow.h"
#include "clients/common/opt.h"

static const char usage[] =
    "Usage: bpstat [options] [NODES ...]\n"
    "Print the state of nodes; all of them if none are named.\n"
    "\n"
    "  -c, --compact        nodes that are alike share a row (default)\n"
    "  -l, --long           one row a node\n"
    "  -x, --explain        one row a node: reachable? may take work? since when, why\n"
    "      --boot           images: which each node runs, and which it is to run\n"
    "  -a, --address        address of each node\n"
    "  -s, --status         state of each node\n"
    "  -n, --number         number of each node\n"
    "  -t, --total          how many nodes\n"
    "      --json           everything that is known about the nodes, as JSON\n"
    "  -N, --sort-number    sort by number (default for all but -c)\n"
    "  -S, --sort-status    sort by state, then number (default for -c)\n"
    "  -O, --keep-order     as the arguments name them\n"
    "  -R, --sort-reverse   the other way round\n"
    "  -U, --update         again each time something changes\n"
    "  -L, --lock           ignore the keyboard's interrupt and stop\n"
    "  -p                   processes and their nodes\n"
    "  -P                   put the node in front of each line of ps (standard input)\n"
    "  -A HOST              number of the node with this address or name\n"
    "  -h, --help           this text\n"
    "  -v, -V, --version    version\n"
    "\n"
    "NODES: 5  5-8  5-  all  up  notdown  master ..., comma separated.\n";

enum { OPT_JSON = 256, OPT_BOOT };

static const struct option longopts[] = {
    { "compact", no_argument, NULL, 'c' },
    { "long", no_argument, NULL, 'l' },
    { "explain", no_argument, NULL, 'x' },
    { "address", no_argument, NULL, 'a' },
    { "status", no_argument, NULL, 's' },
    { "number", no_argument, NULL, 'n' },
    { "total", no_argument, NULL, 't' },
    { "json", no_argument, NULL, OPT_JSON },
    { "sort-number", no_argument, NULL, 'N' },
    { "sort-status", no_argument, NULL, 'S' },
    { "keep-order", no_argument, NULL, 'O' },
    { "sort-reverse", no_argument, NULL, 'R' },
    { "update", no_argument, NULL, 'U' },
    { "lock", no_argument, NULL, 'L' },
    { "boot", no_argument, NULL, OPT_BOOT },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'v' },
    { NULL, 0, NULL, 0 },
};

/* All arguments as one node specification; NULL if there are none. */
static char *join(char **words, int n)
{
    size_t room = 1, used = 0;
    char *text;

    for (int i = 0; i < n; i++)
        room += strlen(words[i]) + 1;
    text = n > 0 ? malloc(room) : NULL;
    for (int i = 0; text && i < n; i++)
        used += (size_t)snprintf(text + used, room - used, "%s%s", i ? "," : "", words[i]);
    return text;
}

/* Ask and print. An empty selection is an error that still has its header,
 * or its 0: scripts count nodes with -t. */
static int show(gate_t *g, const struct options *o, struct err *err)
{
    CLEANUP(nodes_free) struct nodes t;
    struct work *work = NULL;
    struct err late = { 0 };
    int rc;

    nodes_init(&t);
    if (nodes_get(g, o->spec, BPSTAT_TIMEOUT_MS, &t, err) < 0) {
        if (err->code == ENOENT)
            layout_print(&t, work, o, &late);
        return -1;
    }
    sort_nodes(&t, o);
    if (o->explain) {
        work = work_get(g, &t, o, err);
        if (!work)
            return -1;
    }
    rc = layout_print(&t, work, o, err);
    work_free(&work, t.n);
    return rc;
}

struct shown {
    gate_t *g;
    const struct options *o;
};

static int show_again(void *arg, struct err *err)
{
    const struct shown *s = arg;

    return show(s->g, s->o, err);
}

static int update(gate_t *g, const struct options *o, struct err *err)
{
    struct shown s = { g, o };
    struct follow_table t = { .program = "bpstat", .prefix = "node.", .clear = !o->json,
                              .fatal = EINVAL, /* what is wrong with the question */
                              .show = show_again, .arg = &s };

    return follow_table(&t, err);
}

static int run(const struct options *o)
{
    struct err err = { 0 };
    CLEANUP(gate_close) gate_t *g = gate_open("bpstat", &err);
    int rc;

    if (!g) {
        fprintf(stderr, "bpstat: %s\n", err.text);
        return EXIT_FAILURE;
    }
    if (o->layout == LAYOUT_MAP)
        return procs_map(g, o);
    if (o->layout == LAYOUT_FILTER)
        return procs_filter(g);
    if (o->layout == LAYOUT_HOST)
        return host_find(g, o);
    if (o->layout == LAYOUT_BOOT)
        return boot_show(g, o);
    rc = o->update ? update(g, o, &err) : show(g, o, &err);
    if (rc < 0) {
        fflush(stdout);
        fprintf(stderr, "bpstat: %s\n", err.text);
        return EXIT_FAILURE;
    }
    return opt_finish("bpstat");
}

int main(int argc, char **argv)
{
    struct options o = { .layout = LAYOUT_COMPACT, .order = ORDER_LAYOUT };
    int c, status;

    while ((c = getopt_long(argc, argv, "clxasntNSORULpPA:hvV", longopts, NULL)) != -1) {
        switch (c) {
        case 'c': o.layout = LAYOUT_COMPACT; break;
        case 'l': o.layout = LAYOUT_LONG; break;
        case 'x': o.layout = LAYOUT_EXPLAIN; break;
        case 'a': o.layout = LAYOUT_ADDRESS; break;
        case 's': o.layout = LAYOUT_STATUS; break;
        case 'n': o.layout = LAYOUT_NUMBER; break;
        case 't': o.layout = LAYOUT_TOTAL; break;
        case 'p': o.layout = LAYOUT_MAP; break;
        case 'P': o.layout = LAYOUT_FILTER; break;
        case 'A': o.layout = LAYOUT_HOST; o.host = optarg; break;
        case OPT_JSON: o.json = true; break;
        case OPT_BOOT: o.layout = LAYOUT_BOOT; break;
        case 'N': o.order = ORDER_NUMBER; break;
        case 'S': o.order = ORDER_STATUS; break;
        case 'O': o.order = ORDER_KEEP; break;
        case 'R': o.reverse = true; break;
        case 'U': o.update = true; break;
        case 'L': o.lock = true; break;
        case 'h': fputs(usage, stdout); return opt_finish("bpstat");
        case 'v':
        case 'V': return opt_version("bpstat");
        default: fputs("Try `bpstat --help'.\n", stderr); return OPT_EXIT_USAGE;
        }
    }
    o.explain = o.layout == LAYOUT_EXPLAIN;
    o.spec = join(argv + optind, argc - optind);
    if (o.lock) {
        signal(SIGINT, SIG_IGN);
        signal(SIGTSTP, SIG_IGN);
    }
    status = run(&o);
    free(o.spec);
    return status;
}
