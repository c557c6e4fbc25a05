/* main.c - bpmove: a program that knows nothing of it goes to another machine */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "clients/bpmove/bpmove.h"
#include "clients/common/opt.h"

#define NODE_MAX INT32_MAX

static const char usage[] =
    "Usage: bpmove [-n] PID NODE|master\n"
    "       bpmove --check [-n] [--json] PID ...\n"
    "       bpmove --drain [-n] [--json] NODE\n"
    "Have a running program go on on another machine: it keeps its number, its parent,\n"
    "its memory and its place in the code, and need not have been made for it. What\n"
    "cannot go along is told, before anything is touched.\n"
    "\n"
    "  -c, --check     only say what stands in the way\n"
    "  -d, --drain     move all off NODE that can move, to the nodes with the least to do,\n"
    "                  and name the rest\n"
    "  -n, --no-input  give it an empty standard input there, though it has more\n"
    "  -j, --json      with --check or --drain: as JSON\n"
    "  -h, --help      this text\n"
    "  -v, --version   the version\n";

static const struct option longopts[] = {
    { "check", no_argument, NULL, 'c' },
    { "drain", no_argument, NULL, 'd' },
    { "no-input", no_argument, NULL, 'n' },
    { "json", no_argument, NULL, 'j' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'v' },
    { NULL, 0, NULL, 0 },
};

static int wrong(const char *what, const char *text)
{
    fprintf(stderr, "bpmove: %s%s%s\nTry `bpmove --help'.\n", text ? text : "",
            text ? ": " : "", what);
    return OPT_EXIT_USAGE;
}

static bool machine(const char *text, int64_t *node)
{
    if (strcmp(text, "master") == 0 || strcmp(text, "-1") == 0) {
        *node = -1;
        return true;
    }
    return opt_number(text, 10, 0, NODE_MAX, node);
}

static int failed(const struct err *err)
{
    fprintf(stderr, "bpmove: %s\n", err->text);
    return EXIT_FAILURE;
}

static int check(gate_t *g, const struct options *opt, char **pids, int n)
{
    json_t *all = opt->json ? json_array() : NULL;
    int rc = EXIT_SUCCESS;

    for (int i = 0; i < n; i++) {
        struct outcome o;
        struct err err = { 0 };
        int64_t pid = strtoll(pids[i], NULL, 10);
        if (move_one(g, opt, pid, -1, true, &o, &err) < 0) {
            rc = failed(&err);
            continue;
        }
        if (!o.good)
            rc = EXIT_FAILURE;
        if (all)
            json_array_append_new(all, outcome_json(pid, &o));
        else if (o.good)
            printf("process %" PRId64 " can move\n", pid);
        else
            outcome_say(stdout, pid, &o);
        outcome_free(&o);
    }
    if (all && json_print(all) < 0)
        return EXIT_FAILURE;
    int lost = opt_finish("bpmove");
    return lost ? lost : rc;
}

static int move(gate_t *g, const struct options *opt, int64_t pid, int64_t to)
{
    struct outcome o;
    struct err err = { 0 };

    if (move_one(g, opt, pid, to, false, &o, &err) < 0)
        return failed(&err);
    int rc = o.good ? EXIT_SUCCESS : EXIT_FAILURE;
    if (!o.good || (o.text && *o.text)) {
        fputs("bpmove: ", stderr);
        outcome_say(stderr, pid, &o);
    }
    outcome_free(&o);
    return rc;
}

static int drain_node(gate_t *g, const struct options *opt, int64_t node)
{
    struct err err = { 0 };
    int left = drain(g, opt, node, &err);

    if (left < 0)
        return failed(&err);
    int lost = opt_finish("bpmove");
    return lost ? lost : left ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    struct options opt = { 0 };
    struct err err = { 0 };
    bool look = false, all = false;
    int64_t pid, to = -1;
    int c;

    while ((c = getopt_long(argc, argv, "+cdnjhv", longopts, NULL)) != -1) {
        switch (c) {
        case 'c': look = true; break;
        case 'd': all = true; break;
        case 'n': opt.no_input = true; break;
        case 'j': opt.json = true; break;
        case 'h': fputs(usage, stdout); return opt_finish("bpmove");
        case 'v': return opt_version("bpmove");
        default: fputs("Try `bpmove --help'.\n", stderr); return OPT_EXIT_USAGE;
        }
    }
    argv += optind;
    argc -= optind;
    if (look && all)
        return wrong("not together with --drain", "--check");
    if (opt.json && !look && !all)
        return wrong("only with --check or --drain", "--json");
    if (all && (argc != 1 || !opt_number(argv[0], 10, 0, NODE_MAX, &to)))
        return wrong("want one node's number", "--drain");
    if (argc == 0)
        return wrong("which process?", NULL);
    for (int i = 0; i < (look ? argc : all ? 0 : 1); i++)
        if (!opt_number(argv[i], 10, 1, INT32_MAX, &pid))
            return wrong("not a process number", argv[i]);
    if (!look && !all && argc == 1)
        return wrong("where to? a node's number, or master", NULL);
    if (!look && !all && argc > 2)
        return wrong("one process at a time", argv[2]);
    if (!look && !all && !machine(argv[1], &to))
        return wrong("neither a node's number nor master", argv[1]);
    CLEANUP(gate_close) gate_t *g = gate_open("bpmove", &err);
    if (!g)
        return failed(&err);
    if (all)
        return drain_node(g, &opt, to);
    return look ? check(g, &opt, argv, argc) : move(g, &opt, pid, to);
}
