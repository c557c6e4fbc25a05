/* options.c - the command line of bpsh, decoded
 *
 * Options may stand before and after the node specification; the first word
 * after that is the command, and everything behind it belongs to the command.
 */
#include "clients/bpsh/options.h"
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "clients/common/opt.h"

#define BUFFER_DEFAULT 4096
#define BUFFER_MAX (1024 * 1024)
#define RANK_MAX 1000000

enum { OPT_STDIN_RANK = 256, OPT_FOLD, OPT_TIMEOUT, OPT_MEM, OPT_CPUS, OPT_VIA, OPT_WITH,
       OPT_REPORT_FD, OPT_FIRST_RANK, OPT_VERSION };

static const struct option longopts[] = {
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, OPT_VERSION },
    { "stdin", required_argument, NULL, 'I' },
    { "stdout", required_argument, NULL, 'O' },
    { "stderr", required_argument, NULL, 'E' },
    { "time", no_argument, NULL, 't' },
    { "stdin-rank", required_argument, NULL, OPT_STDIN_RANK },
    { "fold", no_argument, NULL, OPT_FOLD },
    { "mem", required_argument, NULL, OPT_MEM },
    { "cpus", required_argument, NULL, OPT_CPUS },
    { "timeout", required_argument, NULL, OPT_TIMEOUT },
    { "rank", no_argument, NULL, 'r' },
    { "first-rank", required_argument, NULL, OPT_FIRST_RANK },
    { "with", required_argument, NULL, OPT_WITH },
    { "via", required_argument, NULL, OPT_VIA },
    { "report-fd", required_argument, NULL, OPT_REPORT_FD },
    { NULL, 0, NULL, 0 },
};

static const char usage[] =
    "Usage: bpsh [OPTION...] NODES [OPTION...] COMMAND [ARGUMENT...]\n"
    "       bpsh -a|-A|-1 [OPTION...] COMMAND [ARGUMENT...]\n"
    "Run a command of this machine on nodes, with its input, output and status here.\n"
    "\n"
    "Where:\n"
    "  NODES                nodes, as in 0-3,7 or allup or master; one process for each\n"
    "  -a                   all nodes that are up\n"
    "  -A                   all nodes that are not down\n"
    "  -1                   this machine (the master)\n"
    "Output:\n"
    "  -L                   whole lines only\n"
    "  -p                   put the node number in front of each line\n"
    "  -r, --rank           the same with the rank\n"
    "      --first-rank N   count ranks from N (0)\n"
    "  -s                   one node after another, in the order of NODES\n"
    "  -d                   the same, with a divider before each node's output\n"
    "      --fold           print equal output once, after all have ended\n"
    "  -b BYTES             longest line of -L and -p, and size of a read of input\n"
    "                       (4096)\n"
    "Streams:\n"
    "  -n                   no input: the command sees an empty one\n"
    "  -N                   no input and no output\n"
    "      --stdin-rank N   input goes to process N only (0 is the first of NODES),\n"
    "                       or to `all' or `none'\n"
    "  -I, --stdin FILE     input comes from a file on the node\n"
    "  -O, --stdout FILE    output goes to a file on the node\n"
    "  -E, --stderr FILE    errors go to a file on the node\n"
    "Other:\n"
    "  -t, --time           print the elapsed seconds at the end\n"
    "      --timeout SECS   end everything after so many seconds, exit status 124\n"
    "      --mem SIZE       memory that the command and all it starts may use on each\n"
    "                       node together (K, M, G are understood)\n"
    "      --cpus N         processors that they may use, as in 2 or 0.5\n"
    "      --with PATH      send this file along, or all files of this folder, and the\n"
    "                       libraries that they need; may be given more than once\n"
    "      --via PROGRAM    start PROGRAM in the command's place: it is to go on as\n"
    "                       BPROC_PROGNAME when it is ready\n"
    "      --report-fd N    write what becomes of each process to descriptor N\n"
    "  -l NAME              ignored\n"
    "  -h, --help           this text\n"
    "  -v, --version        the version\n"
    "\n"
    "Exit status: the highest of the processes; 255 if one died by a signal; 127 if\n"
    "one could not be executed; 1 if one was refused or nothing could be started;\n"
    "2 for a mistake on the command line.\n";

static int __attribute__((format(printf, 2, 3))) wrong(int *status, const char *fmt, ...)
{
    va_list ap;

    fputs("bpsh: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputs("\nTry `bpsh --help'.\n", stderr);
    *status = OPT_EXIT_USAGE;
    return 1;
}

static bool seconds(const char *text, int64_t *ms)
{
    char *end;
    double v = strtod(text, &end);

    if (end == text || *end || !isfinite(v) || v <= 0 || v > 1e9)
        return false;
    *ms = (int64_t)(v * 1000);
    if (!*ms)
        *ms = 1;
    return true;
}

/* A number of bytes, with a unit. */
static bool size_of(const char *text, uint64_t *out)
{
    static const char units[] = "KMGT";
    char *end;
    double v = strtod(text, &end);
    const char *unit = *end ? strchr(units, *end & ~0x20) : NULL;

    if (end == text || !isfinite(v) || v <= 0 || (*end && (!unit || end[1])))
        return false;
    v = ldexp(v, unit ? 10 * (int)(unit - units + 1) : 0);
    if (v < 4096 || v > 0x1p62)
        return false;
    *out = (uint64_t)v;
    return true;
}

static bool cpus_of(const char *text, uint32_t *milli)
{
    char *end;
    double v = strtod(text, &end);

    if (end == text || *end || !isfinite(v) || v < 0.01 || v > 100000)
        return false;
    *milli = (uint32_t)(v * 1000 + 0.5);
    return true;
}

static int stdin_to(struct options *o, const char *text, int *status)
{
    if (strcmp(text, "all") == 0)
        o->stdin_to = STDIN_ALL;
    else if (strcmp(text, "none") == 0)
        o->stdin_to = STDIN_NONE;
    else if (!opt_number(text, 10, 0, UINT32_MAX - 1, &o->stdin_to))
        return wrong(status, "--stdin-rank: want a rank, `all' or `none', not \"%s\"", text);
    return 0;
}

static int with_add(struct options *o, const char *path, int *status)
{
    if (*path != '/')
        return wrong(status, "--with: want an absolute path, not \"%s\"", path);
    if (o->withs == OPTIONS_WITH)
        return wrong(status, "--with: at most %d times", OPTIONS_WITH);
    o->with[o->withs++] = path;
    return 0;
}

/* All options up to the next word that is none. */
static int take_options(struct options *o, int argc, char **argv, int *status)
{
    int64_t number;
    int c;

    while ((c = getopt_long(argc, argv, "+hvaA1l:nNLprsdb:I:O:E:t", longopts, NULL)) != -1) {
        switch (c) {
        case 'h':
            fputs(usage, stdout);
            *status = opt_finish("bpsh");
            return 1;
        case 'v':
        case OPT_VERSION:
            *status = opt_version("bpsh");
            return 1;
        case 'a':
        case 'A':
        case '1': {
            const char *spec = c == 'a' ? "allup" : c == 'A' ? "allnotdown" : "master";
            if (o->spec && strcmp(o->spec, spec) != 0)
                return wrong(status, "-%c: the nodes are already given: %s", c, o->spec);
            o->spec = spec;
            break;
        }
        case 'l': break;
        case 'n': o->stdin_to = STDIN_NONE; break;
        case 'N': o->null_all = true; break;
        case 'L': o->lines = true; break;
        case 'p': o->prefix = o->lines = true; break;
        case 'r': o->by_rank = o->prefix = o->lines = true; break;
        case 's': o->sequential = true; break;
        case 'd': o->divider = o->sequential = true; break;
        case 't': o->time = true; break;
        case 'b':
            /* As in C: 0x1000 and 010000 are welcome. */
            if (!opt_number(optarg, 0, 1, BUFFER_MAX, &number))
                return wrong(status, "Invalid buffer size: %s (want 1 to %d)", optarg,
                             BUFFER_MAX);
            o->buffer = (size_t)number;
            o->buffer_given = true;
            break;
        case 'I': o->file[0] = optarg; break;
        case 'O': o->file[1] = optarg; break;
        case 'E': o->file[2] = optarg; break;
        case OPT_FOLD: o->fold = true; break;
        case OPT_STDIN_RANK:
            if (stdin_to(o, optarg, status))
                return 1;
            break;
        case OPT_MEM:
            if (!size_of(optarg, &o->mem))
                return wrong(status, "--mem: want a size, as in 100M, not \"%s\"", optarg);
            break;
        case OPT_CPUS:
            if (!cpus_of(optarg, &o->cpu_milli))
                return wrong(status, "--cpus: want a number, as in 2 or 0.5, not \"%s\"",
                             optarg);
            break;
        case OPT_VIA: o->via = optarg; break;
        case OPT_WITH:
            if (with_add(o, optarg, status))
                return 1;
            break;
        case OPT_REPORT_FD:
            if (!opt_number(optarg, 10, 3, 1023, &number) || 
                fcntl((int)number, F_SETFD, FD_CLOEXEC) < 0)
                return wrong(status, "--report-fd: want an open descriptor from 3 on, not \"%s\"",
                             optarg);
            o->report_fd = (int)number;
            break;
        case OPT_FIRST_RANK:
            if (!opt_number(optarg, 10, 0, RANK_MAX, &o->first_rank))
                return wrong(status, "--first-rank: want a number up to %d, not \"%s\"",
                             RANK_MAX, optarg);
            break;
        case OPT_TIMEOUT:
            if (!seconds(optarg, &o->timeout_ms))
                return wrong(status, "--timeout: want seconds, not \"%s\"", optarg);
            break;
        default:
            fputs("Try `bpsh --help'.\n", stderr);
            *status = OPT_EXIT_USAGE;
            return 1;
        }
    }
    return 0;
}

int options_parse(struct options *o, int argc, char **argv, int *status)
{
    *o = (struct options){ .buffer = BUFFER_DEFAULT, .stdin_to = STDIN_ALL,
                            .report_fd = -1 };
    if (take_options(o, argc, argv, status))
        return 1;
    if (!o->spec) {
        if (optind >= argc)
            return wrong(status, "which nodes?");
        o->spec = argv[optind++];
        if (take_options(o, argc, argv, status))
            return 1;
    }
    if (optind >= argc)
        return wrong(status, "which command?");
    o->argv = argv + optind;
    for (int i = 0; i < 3; i++)
        if (o->file[i] && !*o->file[i])
            return wrong(status, "-%c: want the name of a file", "IOE"[i]);
    if (o->fold && (o->sequential || o->lines))
        return wrong(status, "--fold has its own form of output: leave out -L, -p, -s and -d");
    return 0;
}

bool options_raw(const struct options *o)
{
    return !o->lines && !o->sequential && !o->fold;
}
