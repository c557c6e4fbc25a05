/* bpvnode.c - a virtual node, and the bridge that such nodes hang on
 *
 * Read the command line, hand the machine over to machine_run().
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bus/rundir.h"
#include "node/bpvnode.h"
#include "node/vnet.h"

#define EXIT_USAGE 2
#define SIZE_DEFAULT (512ull << 20)
#define SIZE_LEAST (1ull << 20)

static const char usage[] =
    "Usage: bpvnode --node N --run DIR --state DIR --bus ADDRESS:PORT [--size BYTES]\n"
    "               [--ready-fd N]\n"
    "       bpvnode --bridge\n"
    "A virtual node: its namespaces, network, root file system, bpinit and bpnode.\n"
    "  --node N       its number\n"
    "  --run DIR      the cluster's run folder\n"
    "  --state DIR    the cluster's state folder; the node's key is kept there\n"
    "  --bus A:P      where the node finds the master's bus\n"
    "  --size BYTES   limit of its root file system; K, M, G are understood (512M)\n"
    "  --ready-fd N   gets a newline when the node is ready\n"
    "  --bridge       make the master's end of the network here, and end\n"
    "  --help, --version\n";

static void __attribute__((noreturn)) bad(const char *what, const char *value)
{
    fprintf(stderr, "bpvnode: %s: %s\n%s", what, value, usage);
    exit(EXIT_USAGE);
}

static int number(const char *text, const char *option, long max)
{
    char *end;

    errno = 0;
    long v = strtol(text, &end, 10);
    if (end == text || *end || errno || v < 0 || v > max)
        bad(option, text);
    return (int)v;
}

static int node_number(const char *text)
{
    int node = number(text, "--node", 1000000);

    if (node < VNET_NODES_MAX)
        return node;
    fprintf(stderr, "bpvnode: node %d: a virtual cluster has at most %d nodes, 0-%d: one "
            "bridge takes no more\n", node, VNET_NODES_MAX, VNET_NODES_MAX - 1);
    exit(EXIT_FAILURE);
}

static uint64_t bytes(const char *text)
{
    static const char units[] = "KMG";
    char *end;

    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    const char *unit = *end ? strchr(units, *end & ~0x20) : NULL;
    if (unit)
        end++;
    int shift = unit ? 10 * (int)(unit - units + 1) : 0;
    if (end == text || *end || errno || *text == '-' || v > UINT64_MAX >> shift ||
        v << shift < SIZE_LEAST)
        bad("--size", text);
    return v << shift;
}

static bool read_options(struct machine *m, int argc, char **argv)
{
    static const struct option longopts[] = {
        { "node", required_argument, NULL, 'n' },
        { "run", required_argument, NULL, 'r' },
        { "state", required_argument, NULL, 's' },
        { "bus", required_argument, NULL, 'b' },
        { "size", required_argument, NULL, 'z' },
        { "ready-fd", required_argument, NULL, 'R' },
        { "bridge", no_argument, NULL, 'B' },
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'V' },
        { NULL, 0, NULL, 0 },
    };
    bool bridge = false;
    int c;

    while ((c = getopt_long(argc, argv, "h", longopts, NULL)) != -1) {
        switch (c) {
        case 'n': m->node = node_number(optarg); break;
        case 'r': m->run = optarg; break;
        case 's': m->state = optarg; break;
        case 'b': m->bus = optarg; break;
        case 'z': m->size = bytes(optarg); break;
        case 'R': m->ready_fd = number(optarg, "--ready-fd", 1 << 20); break;
        case 'B': bridge = true; break;
        case 'h': fputs(usage, stdout); exit(EXIT_SUCCESS);
        case 'V': puts("bpvnode (Clustermatic) " CM_VERSION); exit(EXIT_SUCCESS);
        default: fputs(usage, stderr); exit(EXIT_USAGE);
        }
    }
    if (optind < argc || (!bridge && (m->node < 0 || !m->run || !m->state || !m->bus))) {
        fputs(usage, stderr);
        exit(EXIT_USAGE);
    }
    return bridge;
}

static int make_bridge(struct err *err)
{
    CLEANUP(cleanup_close) int nl = vnet_open(-1, err);

    if (nl < 0 || vnet_up(nl, "lo", err) < 0 || vnet_bridge(nl, VNET_BRIDGE, err) < 0 ||
        vnet_address(nl, VNET_BRIDGE, VNET_MASTER, VNET_PREFIX, err) < 0)
        return -1;
    return vnet_up(nl, VNET_BRIDGE, err);
}

int main(int argc, char **argv)
{
    struct machine m = { .node = -1, .size = SIZE_DEFAULT, .ready_fd = -1, .root_fd = -1,
                         .cgroup = { -1, -1, -1 }, .netns = -1, .utsns = -1, .init_fd = -1, .agent_fd = -1 };
    struct err err = { 0 };
    bool bridge = read_options(&m, argc, argv);
    int fd;

    do /* 0-2 are taken, so that nothing of ours lands there */
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd < 3);
    cleanup_close(&fd);
    int status = bridge ? make_bridge(&err) : machine_run(&m, &err);
    if (status < 0) {
        fprintf(stderr, "bpvnode: %s\n", err.text);
        return EXIT_FAILURE;
    }
    return status;
}
