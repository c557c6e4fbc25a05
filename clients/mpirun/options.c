/* options.c - the command line of mpirun */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "clients/common/opt.h"
#include "clients/mpirun/mpirun.h"

#define RANKS_MAX 1000000

enum { OPT_NP = 256, OPT_NODES, OPT_PPN, OPT_MAP_BY, OPT_BIND_TO, OPT_WDIR, OPT_STDIN,
       OPT_TIMEOUT, OPT_MPI, OPT_VERSION };

static const struct option longopts[] = {
    { "np", required_argument, NULL, OPT_NP },
    { "nodes", required_argument, NULL, OPT_NODES },
    { "ppn", required_argument, NULL, OPT_PPN },
    { "map-by", required_argument, NULL, OPT_MAP_BY },
    { "bind-to", required_argument, NULL, OPT_BIND_TO },
    { "wdir", required_argument, NULL, OPT_WDIR },
    { "stdin", required_argument, NULL, OPT_STDIN },
    { "timeout", required_argument, NULL, OPT_TIMEOUT },
    { "mpi", required_argument, NULL, OPT_MPI },
    { "prefix", no_argument, NULL, 'p' },
    { "quiet", no_argument, NULL, 'q' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, OPT_VERSION },
    { NULL, 0, NULL, 0 },
};

static const char usage[] =
    "Usage: mpirun [OPTION...] PROGRAM [ARGUMENT...] [: [OPTION...] PROGRAM ...]\n"
    "Run an MPI program of this machine on nodes, with its input, output and status here.\n"
    "\n"
    "Of each program:\n"
    "  -n, -np N            so many processes (ranks); one on each node if not given\n"
    "  -x NAME[=VALUE]      set this variable of its environment\n"
    "      --wdir DIR       start it in this directory\n"
    "Of the whole job:\n"
    "      --nodes NODES    on these nodes, as in 0-3,7; else those of the job that we\n"
    "                       are in (NODES), else all that are up and may be used\n"
    "      --ppn N          at most N ranks on a node, one node filled after another\n"
    "      --map-by WHAT    `node': the next rank on the next node (the default without\n"
    "                       --ppn); `core', `slot': fill a node's processors first\n"
    "      --bind-to WHAT   `core': each rank keeps to one processor; `none'\n"
    "      --stdin WHO      input goes to this rank (0), or to `all' or `none'\n"
    "  -p, --prefix         put the rank in front of each line of output\n"
    "      --timeout SECS   end everything after so many seconds, exit status 124\n"
    "      --mpi KIND       `pmi1' (MPICH), `pmix' (Open MPI) or `none'; found out from\n"
    "                       the libraries of the program if not given\n"
    "  -q, --quiet          do not say which rank failed\n"
    "  -h, --help           this text\n"
    "      --version        the version\n"
    "\n"
    "Exit status: that of the first rank that failed, 128 + N if signal N killed it; 127\n"
    "if a program could not be executed; 1 if a node refused or nothing could be\n"
    "started; 2 for a mistake on the command line.\n";

static int __attribute__((format(printf, 2, 3))) wrong(int *status, const char *fmt, ...)
{
    va_list ap;

    fputs("mpirun: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputs("\nTry `mpirun --help'.\n", stderr);
    *status = OPT_EXIT_USAGE;
    return 1;
}

static bool seconds(const char *text, int64_t *ms)
{
    char *end;
    double v = strtod(text, &end);

    if (end == text || *end || !isfinite(v) || v <= 0 || v > 1e9)
        return false;
    *ms = v < 0.001 ? 1 : (int64_t)(v * 1000);
    return true;
}

/* -x NAME=VALUE, or -x NAME for what we have ourselves (which travels anyway). */
static int take_env(struct app *a, const char *text, int *status)
{
    if (*text == '=' || !*text)
        return wrong(status, "-x: want NAME or NAME=VALUE, not \"%s\"", text);
    if (!strchr(text, '='))
        return getenv(text) ? 0 : wrong(status, "-x %s: there is no such variable", text);
    char **env = realloc(a->env, (a->envs + 1) * sizeof *env);
    if (!env)
        return wrong(status, "out of memory");
    a->env = env;
    return (env[a->envs++] = strdup(text)) ? 0 : wrong(status, "out of memory");
}

static int take_stdin(struct options *o, const char *text, int *status)
{
    if (strcmp(text, "all") == 0)
        o->stdin_to = STDIN_ALL;
    else if (strcmp(text, "none") == 0)
        o->stdin_to = STDIN_NONE;
    else if (!opt_number(text, 10, 0, RANKS_MAX - 1, &o->stdin_to))
        return wrong(status, "--stdin: want a rank, `all' or `none', not \"%s\"", text);
    return 0;
}

static int take_map_by(struct options *o, const char *text, int *status)
{
    if (strcmp(text, "node") == 0)
        o->map_by = MAP_NODE;
    else if (strcmp(text, "core") == 0 || strcmp(text, "slot") == 0)
        o->map_by = MAP_CORE;
    else
        return wrong(status, "--map-by: want `node', `core' or `slot', not \"%s\"", text);
    return 0;
}

static int take_kind(struct options *o, const char *text, int *status)
{
    if (strcmp(text, "pmi1") == 0)
        o->kind = KIND_PMI1;
    else if (strcmp(text, "pmix") == 0)
        o->kind = KIND_PMIX;
    else if (strcmp(text, "none") == 0)
        o->kind = KIND_NONE;
    else
        return wrong(status, "--mpi: want `pmi1', `pmix' or `none', not \"%s\"", text);
    return 0;
}

static int take_option(struct options *o, struct app *a, int c, int *status)
{
    switch (c) {
    case 'h':
        fputs(usage, stdout);
        *status = opt_finish("mpirun");
        return 1;
    case OPT_VERSION:
        *status = opt_version("mpirun");
        return 1;
    case 'n':
    case OPT_NP:
        return opt_number(optarg, 10, 1, RANKS_MAX, &a->np)
                   ? 0
                   : wrong(status, "-np: want a number from 1 to %d, not \"%s\"", RANKS_MAX,
                           optarg);
    case OPT_PPN:
        return opt_number(optarg, 10, 1, RANKS_MAX, &o->ppn)
                   ? 0
                   : wrong(status, "--ppn: want a number from 1 to %d, not \"%s\"", RANKS_MAX,
                           optarg);
    case OPT_NODES: o->nodes = optarg; return 0;
    case OPT_WDIR: a->wdir = optarg; return 0;
    case OPT_MAP_BY: return take_map_by(o, optarg, status);
    case OPT_BIND_TO:
        o->bind = strcmp(optarg, "core") == 0;
        return o->bind || strcmp(optarg, "none") == 0
                   ? 0
                   : wrong(status, "--bind-to: want `core' or `none', not \"%s\"", optarg);
    case OPT_STDIN: return take_stdin(o, optarg, status);
    case OPT_TIMEOUT:
        return seconds(optarg, &o->timeout_ms)
                   ? 0
                   : wrong(status, "--timeout: want seconds, not \"%s\"", optarg);
    case OPT_MPI: return take_kind(o, optarg, status);
    case 'x': return take_env(a, optarg, status);
    case 'p': o->prefix = true; return 0;
    case 'q': o->quiet = true; return 0;
    default:
        fputs("Try `mpirun --help'.\n", stderr);
        *status = OPT_EXIT_USAGE;
        return 1;
    }
}

/* One program, up to ":" or the end. */
static int take_app(struct options *o, struct app *a, int argc, char **argv, int *status)
{
    int c;

    optind = 0;
    while ((c = getopt_long_only(argc, argv, "+hn:x:pq", longopts, NULL)) != -1)
        if (take_option(o, a, c, status))
            return 1;
    if (optind >= argc)
        return wrong(status, "which program?");
    a->argv = argv + optind;
    return 0;
}

int options_parse(struct options *o, int argc, char **argv, int *status)
{
    *o = (struct options){ 0 };
    for (int from = 0; from < argc;) {
        int to = from + 1;
        while (to < argc && strcmp(argv[to], ":") != 0)
            to++;
        struct app *app = realloc(o->app, (o->apps + 1) * sizeof *app);
        if (!app)
            return wrong(status, "out of memory");
        o->app = app;
        o->app[o->apps] = (struct app){ 0 };
        /* Words of its own: the first is what getopt takes for our name. */
        char **words = calloc((size_t)(to - from) + 1, sizeof *words);
        if (!words)
            return wrong(status, "out of memory");
        memcpy(words, argv + from, (size_t)(to - from) * sizeof *words);
        words[0] = (char *)"mpirun";
        o->app[o->apps].words = words;
        if (take_app(o, &o->app[o->apps++], to - from, words, status))
            return 1;
        from = to;
    }
    for (size_t i = 0; o->apps > 1 && i < o->apps; i++)
        if (!o->app[i].np)
            return wrong(status, "%s: -np is needed for each of several programs",
                         o->app[i].argv[0]);
    return 0;
}

void options_free(struct options *o)
{
    for (size_t i = 0; i < o->apps; i++) {
        for (size_t k = 0; k < o->app[i].envs; k++)
            free(o->app[i].env[k]);
        free(o->app[i].env);
        free(o->app[i].words);
        free(o->app[i].path);
    }
    free(o->app);
}
