/* main.c - bpps: every process of the cluster */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/bpps/bpps.h"
#include "clients/common/opt.h"
#include "clients/common/users.h"

static const char usage[] =
    "Usage: bpps [options] [NODES ...]\n"
    "       bpps --why PID ...\n"
    "Print the processes that run on nodes; on all that are not down if none are\n"
    "named. A node that does not answer is named on standard error.\n"
    "\n"
    "  -a, --all           all nodes, also those that are down\n"
    "  -u, --user USER     only this user's (names or numbers, comma separated)\n"
    "  -t, --tree          children below their parents\n"
    "      --why           tell what has become of these processes, and why\n"
    "  -w, --wide          do not cut lines at the width of the terminal\n"
    "      --json          as JSON\n"
    "  -h, --help          this text\n"
    "  -v, -V, --version   version\n"
    "\n"
    "NODES: 5  5-8  5-  all  up  notdown ..., comma separated.\n"
    "TIME is processor time (minutes:seconds), RSS is memory in KiB.\n";

enum { OPT_JSON = 256, OPT_WHY };

static const struct option longopts[] = {
    { "all", no_argument, NULL, 'a' },
    { "user", required_argument, NULL, 'u' },
    { "tree", no_argument, NULL, 't' },
    { "wide", no_argument, NULL, 'w' },
    { "json", no_argument, NULL, OPT_JSON },
    { "why", no_argument, NULL, OPT_WHY },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'v' },
    { NULL, 0, NULL, 0 },
};

/* "root,1000": false names the word that is nobody in *bad. */
static bool add_users(struct options *o, char *text, const char **bad)
{
    for (char *save = NULL, *word = strtok_r(text, ",", &save); word;
         word = strtok_r(NULL, ",", &save)) {
        int64_t *grown = reallocarray(o->uid, o->uids + 1, sizeof(*grown));

        *bad = word;
        if (!grown)
            return false;
        o->uid = grown;
        if (!users_parse(word, &o->uid[o->uids]))
            return false;
        o->uids++;
    }
    *bad = text;
    return o->uids > 0;
}

static bool add_spec(struct options *o, const char *word)
{
    size_t old = o->spec ? strlen(o->spec) + 1 : 0;
    char *grown = realloc(o->spec, old + strlen(word) + 1);

    if (!grown)
        return false;
    if (old > 0)
        grown[old - 1] = ',';
    memcpy(grown + old, word, strlen(word) + 1);
    o->spec = grown;
    return true;
}

/* The words are process numbers. -1, or the exit status. */
static int add_pids(struct options *o, char **words)
{
    if (!*words) {
        fprintf(stderr, "bpps: --why: of which process?\nTry `bpps --help'.\n");
        return OPT_EXIT_USAGE;
    }
    for (; *words; words++) {
        char *end;
        long long pid = strtoll(*words, &end, 10);
        int64_t *grown = reallocarray(o->pid, o->pids + 1, sizeof(*grown));

        if (!grown) {
            fprintf(stderr, "bpps: out of memory\n");
            return EXIT_FAILURE;
        }
        o->pid = grown;
        if (end == *words || *end || pid < 1 || pid > INT32_MAX) {
            fprintf(stderr, "bpps: %s: not a process number\n", *words);
            return OPT_EXIT_USAGE;
        }
        o->pid[o->pids++] = pid;
    }
    return -1;
}

static int parse(int argc, char **argv, struct options *o)
{
    bool memory = true;
    const char *bad;
    int c;

    while ((c = getopt_long(argc, argv, "au:twhvV", longopts, NULL)) != -1) {
        switch (c) {
        case 'a': memory = add_spec(o, "all") && memory; break;
        case 'u':
            if (!add_users(o, optarg, &bad)) {
                fprintf(stderr, "bpps: Invalid user id: %s\n", bad);
                return EXIT_FAILURE;
            }
            break;
        case 't': o->tree = true; break;
        case 'w': o->wide = true; break;
        case OPT_JSON: o->json = true; break;
        case OPT_WHY: o->why = true; break;
        case 'h': fputs(usage, stdout); return opt_finish("bpps");
        case 'v':
        case 'V': return opt_version("bpps");
        default: fputs("Try `bpps --help'.\n", stderr); return OPT_EXIT_USAGE;
        }
    }
    if (o->why)
        return add_pids(o, argv + optind);
    for (int i = optind; i < argc; i++)
        memory = add_spec(o, argv[i]) && memory;
    if (!memory) {
        fprintf(stderr, "bpps: out of memory\n");
        return EXIT_FAILURE;
    }
    return -1;
}

static int show(const struct options *o, struct err *err)
{
    CLEANUP(procs_free) struct procs p = { 0 };
    CLEANUP(gate_close) gate_t *g = gate_open("bpps", err);

    if (g && o->why) {
        int rc = why(g, o, err);
        return rc < 0 ? -1 : opt_finish("bpps") ? EXIT_FAILURE : rc;
    }
    if (!g || procs_get(g, o, &p, err) < 0 || (o->tree && tree_order(&p, err) < 0))
        return -1;
    if (!o->json)
        print_table(&p, o);
    else if (print_json(&p, err) < 0)
        return -1;
    int status = opt_finish("bpps");
    for (size_t i = 0; i < p.missings; i++)
        fprintf(stderr, "%" PRId64 ": %s\n", p.missing[i].node, p.missing[i].why);
    return p.missings > 0 ? EXIT_FAILURE : status;
}

int main(int argc, char **argv)
{
    struct options o = { 0 };
    struct err err = { 0 };
    int status = parse(argc, argv, &o);

    if (status < 0) {
        status = show(&o, &err);
        if (status < 0) {
            fprintf(stderr, "bpps: %s\n", err.text);
            status = EXIT_FAILURE;
        }
    }
    free(o.spec);
    free(o.uid);
    free(o.pid);
    return status;
}
