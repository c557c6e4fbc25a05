/* options.c - bjssub's command line */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "clients/bjssub/bjssub.h"
#include "clients/common/opt.h"

#define SCRIPT_MAX (4u << 20)

static const char usage[] =
    "Usage: bjssub [options] COMMAND [ARGUMENT ...]\n"
    "       bjssub [options] < SCRIPT\n"
    "Submit a job. Its command runs on the master, with NODES naming the nodes that it\n"
    "was given: bpsh $NODES and mpirun use them.\n"
    "\n"
    "  -p, --pool NAME          pool (default \"default\")\n"
    "  -n, --nodes N            nodes (default 1)\n"
    "  -s, --seconds N          time limit (default: the pool's)\n"
    "  -b, --batch              run it when nodes are free (default)\n"
    "  -i, --interactive        wait for the nodes, then run it here, at this terminal\n"
    "  -D, --directory DIR      working directory, an absolute path (default: this one)\n"
    "  -O, --output FILE        its output, relative to that; '|COMMAND' pipes it there\n"
    "  -r, --restartable        run it again if it is lost with the master\n"
    "  -R, --requirement K[=V]  any other requirement\n"
    "      --name NAME          what it is called\n"
    "      --cpus N             processors that each node must have\n"
    "      --mem SIZE           memory that each node must have: 512M, 16G\n"
    "      --after ID[:ok|fail|any]  not before job ID has ended (default: ended well)\n"
    "      --hold               not before it is released: bjsctl release\n"
    "      --priority N         in pools that go by it; above 0: root only\n"
    "      --array A-B          a job for each number of A to B: JOBINDEX\n"
    "      --retry N            run it again if it fails, up to N times\n"
    "      --requeue-on-node-failure  run it again if it loses a node\n"
    "      --json               print what was submitted as JSON\n"
    "  -v                       say more\n"
    "  -h, --help               this text\n"
    "  -V, --version            version\n";

enum { OPT_NAME = 256, OPT_CPUS, OPT_MEM, OPT_AFTER, OPT_HOLD, OPT_PRIORITY, OPT_ARRAY,
       OPT_RETRY, OPT_REQUEUE, OPT_JSON, OPT_SOCKET };

static const struct option longopts[] = {
    { "pool", required_argument, NULL, 'p' },
    { "nodes", required_argument, NULL, 'n' },
    { "seconds", required_argument, NULL, 's' },
    { "batch", no_argument, NULL, 'b' },
    { "interactive", no_argument, NULL, 'i' },
    { "directory", required_argument, NULL, 'D' },
    { "output", required_argument, NULL, 'O' },
    { "restartable", no_argument, NULL, 'r' },
    { "requirement", required_argument, NULL, 'R' },
    { "name", required_argument, NULL, OPT_NAME },
    { "cpus", required_argument, NULL, OPT_CPUS },
    { "mem", required_argument, NULL, OPT_MEM },
    { "after", required_argument, NULL, OPT_AFTER },
    { "hold", no_argument, NULL, OPT_HOLD },
    { "priority", required_argument, NULL, OPT_PRIORITY },
    { "array", required_argument, NULL, OPT_ARRAY },
    { "retry", required_argument, NULL, OPT_RETRY },
    { "requeue-on-node-failure", no_argument, NULL, OPT_REQUEUE },
    { "json", no_argument, NULL, OPT_JSON },
    { "socket", required_argument, NULL, OPT_SOCKET },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { NULL, 0, NULL, 0 },
};

static bool number(const char *what, const char *text, int64_t min, int64_t max, int64_t *out)
{
    const char *digits = min < 0 && *text == '-' ? text + 1 : text;
    int64_t v;

    if (opt_number(digits, 10, 0, INT64_MAX, &v)) {
        v = digits == text ? v : -v;
        if (v >= min && v <= max) {
            *out = v;
            return true;
        }
    }
    fprintf(stderr, "bjssub: %s %s: want a number of %lld to %lld\n", what, text, (long long)min,
            (long long)max);
    return false;
}

static bool memory(const char *text, int64_t *mb)
{
    char *end;
    double v = strtod(text, &end);
    double unit = *end == 'K' ? 1.0 / 1024 : *end == 'M' || !*end ? 1 : *end == 'G' ? 1024
                  : *end == 'T' ? 1024 * 1024 : 0;

    if (end == text || v <= 0 || unit == 0 || (*end && end[1])) {
        fprintf(stderr, "bjssub: --mem %s: want a size as 512M or 16G\n", text);
        return false;
    }
    *mb = (int64_t)(v * unit + 0.999);
    return true;
}

static bool add_after(struct options *o, const char *text)
{
    static const char *const kinds[] = { "ok", "fail", "any" };
    size_t n = strcspn(text, ":");
    const char *kind = text[n] ? text + n + 1 : "ok";
    struct after *v = realloc(o->after, (o->nafter + 1) * sizeof *v);
    char id[24];

    if (!v)
        return false;
    o->after = v;
    snprintf(id, sizeof id, "%.*s", (int)(n < 23 ? n : 23), text);
    for (int i = 0; i < 3; i++)
        if (strcmp(kind, kinds[i]) == 0 && opt_number(id, 10, 1, INT64_MAX, &v[o->nafter].job)) {
            v[o->nafter++].kind = kinds[i];
            return true;
        }
    fprintf(stderr, "bjssub: --after %s: want a job's number, or that with :ok, :fail or :any\n",
            text);
    return false;
}

static bool array(struct options *o, const char *text)
{
    char from[24];
    size_t n = strcspn(text, "-");

    snprintf(from, sizeof from, "%.*s", (int)(n < 23 ? n : 23), text);
    if (text[n] == '-' && opt_number(from, 10, 0, INT32_MAX, &o->from) &&
        opt_number(text + n + 1, 10, o->from, INT32_MAX, &o->to))
        return true;
    fprintf(stderr, "bjssub: --array %s: want A-B, as 1-100\n", text);
    return false;
}

/* The original's keys do what their options do; the rest is kept as it is. */
static bool requirement(struct options *o, const char *text)
{
    if (strncmp(text, "nodes=", 6) == 0)
        return number("-R nodes", text + 6, 1, 1000000, &o->nodes);
    if (strncmp(text, "secs=", 5) == 0)
        return number("-R secs", text + 5, 1, 1LL << 31, &o->secs);
    if (strncmp(text, "output=", 7) == 0)
        o->output = text + 7;
    else if (strcmp(text, "restartable") == 0)
        o->restartable = true;
    else if (strncmp(text, "job=", 4) == 0)
        return add_after(o, text + 4);
    else if (!*text || *text == '=' || strlen(text) > 1000) {
        fprintf(stderr, "bjssub: -R %s: want KEY or KEY=VALUE\n", text);
        return false;
    }
    if (strncmp(text, "output=", 7) == 0 || strcmp(text, "restartable") == 0)
        return true;
    return strlist_add(&o->reqs, text) == 0;
}

/* Long options beside the original's. 1: taken, 0: none of these, -1: bad. */
static int take_more(struct options *o, int c)
{
    bool good = true;

    switch (c) {
    case OPT_NAME: o->name = optarg; break;
    case OPT_CPUS: good = number("--cpus", optarg, 1, 1000000, &o->cpus); break;
    case OPT_MEM: good = memory(optarg, &o->mem_mb); break;
    case OPT_AFTER: good = add_after(o, optarg); break;
    case OPT_HOLD: o->hold = true; break;
    case OPT_PRIORITY:
        good = number("--priority", optarg, -1000000, 1000000, &o->priority);
        break;
    case OPT_ARRAY: good = array(o, optarg); break;
    case OPT_RETRY: good = number("--retry", optarg, 0, 1000, &o->retry); break;
    case OPT_REQUEUE: o->requeue = true; break;
    case OPT_JSON: o->json = true; break;
    case OPT_SOCKET: break; /* the original's: there is one way in, the gate */
    default: return 0;
    }
    return good ? 1 : -1;
}

static char *join(char **words, int n)
{
    size_t room = 1, used = 0;

    for (int i = 0; i < n; i++)
        room += strlen(words[i]) + 1;
    char *text = malloc(room);
    for (int i = 0; text && i < n; i++)
        used += (size_t)snprintf(text + used, room - used, "%s%s", i ? " " : "", words[i]);
    return text;
}

static char *read_script(void)
{
    size_t have = 0, room = 0;
    char *text = NULL;

    for (;;) {
        if (room - have < 4096) {
            char *more = realloc(text, room += 65536);
            if (!more)
                break;
            text = more;
        }
        ssize_t n = read(0, text + have, room - have - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || have > SCRIPT_MAX)
            break;
        if (n == 0) {
            text[have] = 0;
            if (have && strlen(text) == have)
                return text;
            break;
        }
        have += (size_t)n;
    }
    free(text);
    return NULL;
}

static int take_command(struct options *o, int argc, char **argv)
{
    if (optind < argc) {
        o->command = join(argv + optind, argc - optind);
        return o->command ? 0 : -1;
    }
    if (o->interactive || isatty(0)) {
        fputs("bjssub: no command; `bjssub --help' says more\n", stderr);
        return -1;
    }
    o->script = true;
    o->command = read_script();
    if (!o->command)
        fputs("bjssub: standard input is no script: it is empty, holds zero bytes or cannot be "
              "read\n", stderr);
    return o->command ? 0 : -1;
}

int options_parse(struct options *o, int argc, char **argv, int *status)
{
    int c;

    *o = (struct options){ .pool = "default", .nodes = 1, .secs = -1, .from = -1 };
    *status = OPT_EXIT_USAGE;
    while ((c = getopt_long(argc, argv, "+p:n:s:ibrD:O:R:vhV", longopts, NULL)) != -1) {
        bool good = true;
        int more = take_more(o, c);
        if (more < 0)
            return -1;
        if (more > 0)
            continue;
        switch (c) {
        case 'p': o->pool = optarg; break;
        case 'n': good = number("-n", optarg, 1, 1000000, &o->nodes); break;
        case 's': good = number("-s", optarg, 1, 1LL << 31, &o->secs); break;
        case 'i': o->interactive = true; break;
        case 'b': o->interactive = false; break;
        case 'r': o->restartable = true; break;
        case 'D': o->dir = optarg; break;
        case 'O': o->output = optarg; break;
        case 'R': good = requirement(o, optarg); break;
        case 'v': o->verbose = true; break;
        case 'h': fputs(usage, stdout); *status = opt_finish("bjssub"); return -1;
        case 'V': *status = opt_version("bjssub"); return -1;
        default: fputs("Try `bjssub --help'.\n", stderr); return -1;
        }
        if (!good)
            return -1;
    }
    if (o->dir && o->dir[0] != '/') {
        fprintf(stderr, "bjssub: -D %s: want an absolute path\n", o->dir);
        return -1;
    }
    return take_command(o, argc, argv);
}

void options_free(struct options *o)
{
    strlist_free(&o->reqs);
    free(o->after);
    free(o->command);
}
