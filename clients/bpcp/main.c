/* main.c - bpcp: copy files between the master and nodes
 *
 * The command line; then the operands, taken in runs that come from one place.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "clients/bpcp/bpcp.h"
#include "clients/common/opt.h"

static const char usage[] =
    "Usage: bpcp [-p] [-L|-P] [NODE:]FILE [NODES:]FILE\n"
    "       bpcp [-r] [-p] [-L|-P] [NODE:]FILE... [NODES:]DIRECTORY\n"
    "Copy files between the master and nodes. NODE is a node's number or \"master\";\n"
    "NODES is any node specification: bpcp data 0-63:/tmp/\n"
    "\n"
    "  -r, --recursive       copy directories with all that is in them\n"
    "  -p, --preserve        keep modes and times; for root, owners too\n"
    "  -L, --dereference     copy what symbolic links lead to, everywhere\n"
    "  -P, --no-dereference  copy symbolic links as links, everywhere\n"
    "  -h, --help            this text\n"
    "  -v, -V, --version     the version\n";

static const struct option longopts[] = {
    { "recursive", no_argument, NULL, 'r' },
    { "preserve", no_argument, NULL, 'p' },
    { "dereference", no_argument, NULL, 'L' },
    { "no-dereference", no_argument, NULL, 'P' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { NULL, 0, NULL, 0 },
};

static int bad_usage(const char *why)
{
    if (why)
        fprintf(stderr, "bpcp: %s\n", why);
    fputs("Usage: bpcp [-r] [-p] [-L|-P] [NODE:]FILE... [NODES:]FILE|DIRECTORY\n"
          "bpcp --help says more.\n", stderr);
    return OPT_EXIT_USAGE;
}

static int parse(struct bpcp *b, int argc, char **argv, struct err *err)
{
    bool remote = false;

    b->nsources = (size_t)(argc - 1);
    b->source = calloc(b->nsources, sizeof *b->source);
    if (!b->source)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < b->nsources; i++) {
        if (operand_parse(&b->source[i], argv[i], err) < 0)
            return -1;
        remote |= b->source[i].spec != NULL;
    }
    if (operand_parse(&b->target, argv[argc - 1], err) < 0)
        return -1;
    remote |= b->target.spec != NULL;
    if (!(b->cwd = getcwd(NULL, 0)) && !(b->cwd = strdup("/")))
        return err_set(err, ENOMEM, "out of memory");
    b->umask = umask(0);
    return remote ? 1 : 0;
}

static int resolve(struct bpcp *b, struct err *err)
{
    /* Sources first: one that cannot be had is said, and the others go on. */
    for (size_t i = 0; i < b->nsources; i++)
        if (operand_resolve(b, &b->source[i], false, err) < 0)
            return -1;
    return operand_resolve(b, &b->target, true, err);
}

static bool same_place(const struct operand *a, const struct operand *c)
{
    return a->nodes.n && c->nodes.n && a->nodes.node[0] == c->nodes.node[0];
}

static int copy_run(struct bpcp *b, struct operand *o, size_t n, struct err *err)
{
    const nodelist_t *to = &b->target.nodes;
    int node = o->nodes.node[0];
    bool here = false, there = false;

    if (node == BPCP_MASTER)
        return send_from_here(b, o, n, err);
    for (size_t i = 0; i < to->n; i++) {
        here |= to->node[i] == BPCP_MASTER;
        there |= to->node[i] != BPCP_MASTER;
        for (size_t k = 0; to->node[i] == node && k < n; k++) {
            const char *clash = operand_clash(b, &o[k], node);
            if (clash) {
                say(b, node, o[k].path, clash);
                return 0;
            }
        }
    }
    if (there && send_from_node(b, o, n, err) < 0)
        return -1;
    return here ? fetch(b, o, n, err) : 0;
}

static int copy(struct bpcp *b, struct err *err)
{
    size_t n;

    if (b->target.nodes.n == 0)
        return 0;
    for (size_t i = 0; i < b->nsources; i += n) {
        struct operand *o = &b->source[i];
        for (n = 1; i + n < b->nsources && same_place(o, &o[n]);)
            n++;
        if (o->nodes.n && copy_run(b, o, n, err) < 0)
            return -1;
    }
    return 0;
}

static void bpcp_free(struct bpcp *b)
{
    for (size_t i = 0; b->source && i < b->nsources; i++)
        operand_free(&b->source[i]);
    free(b->source);
    operand_free(&b->target);
    free(b->cwd);
    gate_close(&b->gate);
}

int main(int argc, char **argv)
{
    CLEANUP(bpcp_free) struct bpcp b = { 0 };
    struct err err = { 0 };
    int c;

    while ((c = getopt_long(argc, argv, "rpLPhvV", longopts, NULL)) != -1) {
        switch (c) {
        case 'r': b.recurse = true; break;
        case 'p': b.preserve = true; break;
        case 'L': b.follow = LINKS_ALL; break;
        case 'P': b.follow = LINKS_NEVER; break;
        case 'h': fputs(usage, stdout); return opt_finish("bpcp");
        case 'v':
        case 'V': return opt_version("bpcp");
        default: return bad_usage(NULL);
        }
    }
    if (argc - optind < 2)
        return bad_usage(argc == optind ? "no files were named" : "no destination was named");
    signal(SIGPIPE, SIG_IGN);
    int remote = parse(&b, argc - optind, argv + optind, &err);
    if (remote < 0) {
        fprintf(stderr, "bpcp: %s\n", err.text);
        return OPT_EXIT_USAGE;
    }
    if ((remote && !(b.gate = gate_open("bpcp", &err))) || resolve(&b, &err) < 0 ||
        copy(&b, &err) < 0) {
        say_end(&b);
        fprintf(stderr, "bpcp: %s\n", err.text);
        return EXIT_FAILURE;
    }
    say_end(&b);
    return b.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
