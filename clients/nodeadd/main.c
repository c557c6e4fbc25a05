/* main.c - nodeadd: machines that want to boot and that no line names become nodes
 *
 * Those that bootsrv has seen already come first, then each as it arrives.
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/loop.h"
#include "bus/nodespec.h"
#include "clients/common/follow.h"
#include "clients/common/opt.h"
#include "clients/nodeadd/nodeadd.h"

#define ASK_MS 10000
#define AGAIN_MS 5000
#define BUSY_TRIES 10

static const char usage[] =
    "Usage: nodeadd [OPTION]... INTERFACE\n"
    "Add the machines that ask for a boot image on INTERFACE to the configuration, in the\n"
    "order in which they arrive. Runs until it is ended.\n"
    "\n"
    "  -n, --node N       the first new machine is node N (else the one after the last\n"
    "                     node line)\n"
    "  -e, --every        write the number in every line, not only in the first\n"
    "  -a, --auto         have the configuration read again after each\n"
    "  -f, --file FILE    only machines named in FILE: lines \"MAC [NODE]\"\n"
    "  -c, --count N      end after N machines\n"
    "  -C, --config FILE  instead of the cluster's configuration\n"
    "  -h, --help         this text\n"
    "  -V, --version      the version\n";

static const struct option longopts[] = {
    { "node", required_argument, NULL, 'n' },   { "every", no_argument, NULL, 'e' },
    { "auto", no_argument, NULL, 'a' },         { "file", required_argument, NULL, 'f' },
    { "count", required_argument, NULL, 'c' },  { "config", required_argument, NULL, 'C' },
    { "help", no_argument, NULL, 'h' },         { "version", no_argument, NULL, 'V' },
    { NULL, 0, NULL, 0 },
};

struct name { /* of --file */
    char mac[MAC_TEXT];
    int64_t node; /* -1: none given */
};

struct adder {
    const char *config, *interface;
    char *own; /* the configuration's name, if nodemgr told it */
    int64_t node, count;
    bool every, automatic, by_file;
    struct name *name;
    size_t nnames;
    struct strlist seen;
    int64_t added;
};

/* ---- --file ---- */

static int on_name(void *arg, int argc, char **argv, struct err *err)
{
    struct adder *a = arg;
    struct name *more = realloc(a->name, (a->nnames + 1) * sizeof *more);

    if (!more)
        return err_set(err, ENOMEM, "out of memory");
    a->name = more;
    struct name *n = &more[a->nnames++];
    n->node = -1;
    if (argc > 2 || !mac_normalise(argv[0], n->mac))
        return err_set(err, EINVAL, "want MAC [NODE]");
    if (argc == 2 && !opt_number(argv[1][0] == 'n' ? argv[1] + 1 : argv[1], 10, 0, NODE_MAX, &n->node))
        return err_set(err, EINVAL, "\"%s\" is no node number", argv[1]);
    return 0;
}

static const struct name *named(const struct adder *a, const char *mac)
{
    for (size_t i = 0; i < a->nnames; i++)
        if (strcmp(a->name[i].mac, mac) == 0)
            return &a->name[i];
    return NULL;
}

/* ---- one machine ---- */

static int reload(gate_t *g, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    const msgpack_object_array *warnings;

    msgpack_unpacked_init(&reply);
    mp_init(&m);
    mp_map(&m, 0);
    if (gate_call(g, "nodemgr.reload", &m, ASK_MS, &reply, err) < 0)
        return -1;
    if (mp_get_array(&reply.data, "warnings", &warnings, NULL) < 0)
        return 0;
    for (uint32_t i = 0; i < warnings->size; i++) {
        CLEANUP(cleanup_free) char *text = mp_dup(&warnings->ptr[i]);
        fprintf(stderr, "nodeadd: warning: %s\n", text ? text : "?");
    }
    return 0;
}

static void spaced(const char *mac, char out[MAC_TEXT])
{
    for (int i = 0; i < MAC_TEXT; i++)
        out[i] = mac[i] == ':' ? ' ' : mac[i] >= 'a' ? (char)(mac[i] - 32) : mac[i];
}

static int add(struct adder *a, gate_t *g, const char *mac, struct err *err)
{
    char line[80], pretty[MAC_TEXT];
    const struct name *n = named(a, mac);
    int64_t node = n && n->node >= 0 ? n->node : a->node;

    if (a->by_file && !n)
        return 0;
    if (node >= 0)
        snprintf(line, sizeof line, "node %4lld %s", (long long)node, mac);
    else
        snprintf(line, sizeof line, "node      %s", mac);
    for (char *p = strchr(line + 5, ':') - 2; *p; p++)
        *p = *p >= 'a' ? (char)(*p - 32) : *p;
    int rc = append_line(a->config, line, mac, err);
    if (rc != 0)
        return rc < 0 ? -1 : 0;
    spaced(mac, pretty);
    printf("New MAC: %s\n", pretty);
    if (!n || n->node < 0)
        a->node = a->every && a->node >= 0 ? a->node + 1 : -1;
    a->added++;
    if (a->automatic) {
        puts("Sending SIGHUP to beoserv.");
        fflush(stdout);
        if (reload(g, err) < 0)
            return -1;
    }
    fflush(stdout);
    return 0;
}

static int consider(struct adder *a, gate_t *g, const msgpack_object *o, struct err *err)
{
    CLEANUP(cleanup_free) char *mac = mp_opt_dup(o, "mac"), *interface = mp_opt_dup(o, "interface");
    char clean[MAC_TEXT];

    if (!mac || !interface || !mac_normalise(mac, clean) || strcmp(interface, a->interface) != 0)
        return 0;
    for (size_t i = 0; i < a->seen.n; i++)
        if (strcmp(a->seen.v[i], clean) == 0)
            return 0;
    if (strlist_add(&a->seen, clean) < 0)
        return err_set(err, ENOMEM, "out of memory");
    return add(a, g, clean, err);
}

/* ---- all that come ---- */

static bool enough(const struct adder *a) { return a->count && a->added >= a->count; }

static int those_seen(struct adder *a, gate_t *g, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;

    msgpack_unpacked_init(&reply);
    mp_init(&m);
    mp_map(&m, 0);
    if (gate_call(g, "bootsrv.unknown", &m, ASK_MS, &reply, err) < 0)
        return -1;
    if (reply.data.type != MSGPACK_OBJECT_ARRAY)
        return err_set(err, EPROTO, "bootsrv.unknown: the answer is not a list");
    for (uint32_t i = 0; i < reply.data.via.array.size && !enough(a); i++)
        if (consider(a, g, &reply.data.via.array.ptr[i], err) < 0)
            return -1;
    return 0;
}

static int run(struct adder *a, struct err *err)
{
    CLEANUP(follow_close) follow_t *f = follow_open("nodeadd", "boot.unknown", err);
    CLEANUP(gate_close) gate_t *g = f ? gate_open("nodeadd", err) : NULL;

    if (!g || those_seen(a, g, err) < 0)
        return -1;
    while (!enough(a)) {
        struct gate_msg m;
        int n = follow_next(f, -1, &m, NULL);
        int rc = 0;
        if (n > 0) {
            rc = consider(a, g, &m.u.data, err);
            gate_msg_clear(&m);
        } else if (n < 0 && follow_again(f, AGAIN_MS, err) == 0) {
            rc = those_seen(a, g, err);
        }
        if (rc < 0)
            return -1;
    }
    return 0;
}

/* The cluster's configuration, and is this one of its interfaces? */
static int prepare(struct adder *a, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    CLEANUP(gate_close) gate_t *g = gate_open("nodeadd", err);

    msgpack_unpacked_init(&reply);
    mp_init(&m);
    mp_map(&m, 0);
    if (!g)
        return -1;
    if (!a->config) {
        if (gate_call(g, "nodemgr.config", &m, ASK_MS, &reply, err) < 0 ||
            mp_get_dup(&reply.data, "file", &a->own, err) < 0)
            return -1;
        a->config = a->own;
    }
    CLEANUP(config_free) struct cm_config *c = NULL;
    for (int i = 0; !c && i < BUSY_TRIES; i++) {
        *err = (struct err){ 0 };
        c = config_load(a->config, NULL, err);
        if (!c && err->code != EBUSY)
            break; /* else somebody writes it, and a second was not enough */
    }
    if (!c)
        return -1;
    for (size_t i = 0; i < c->ninterfaces; i++)
        if (strcmp(c->interfaces[i].name, a->interface) == 0)
            return 0;
    return err_set(err, ENOENT, "%s has no line `interface %s': nothing boots from there", a->config,
                   a->interface);
}

static void banner(const struct adder *a)
{
    if (a->automatic)
        puts("Automatic daemon reload enabled.");
    if (a->node >= 0)
        printf("Starting node numbering at node %lld\n", (long long)a->node);
    if (a->every)
        puts("Numbering every node entry.");
    printf("Listening on interface: %s\n", a->interface);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct adder a = { .node = -1 };
    const char *file = NULL;
    struct err err = { 0 };
    int c, rc = 0;

    while ((c = getopt_long(argc, argv, "n:eaf:c:C:hV", longopts, NULL)) != -1) {
        bool good = true;
        switch (c) {
        case 'n': good = opt_number(optarg, 10, 0, NODE_MAX, &a.node); break;
        case 'e': a.every = true; break;
        case 'a': a.automatic = true; break;
        case 'f': file = optarg; break;
        case 'c': good = opt_number(optarg, 10, 1, NODE_MAX, &a.count); break;
        case 'C': a.config = optarg; break;
        case 'h': fputs(usage, stdout); return EXIT_SUCCESS;
        case 'V': return opt_version("nodeadd");
        default: fputs(usage, stderr); return OPT_EXIT_USAGE;
        }
        if (!good) {
            fprintf(stderr, "nodeadd: -%c %s: want a number up to %d\n", c, optarg, NODE_MAX);
            return OPT_EXIT_USAGE;
        }
    }
    if (optind != argc - 1) {
        fputs(usage, stderr);
        return OPT_EXIT_USAGE;
    }
    a.interface = argv[optind];
    if (file) {
        a.by_file = true;
        rc = config_each_line(file, on_name, &a, &err);
    }
    if (rc == 0 && (rc = prepare(&a, &err)) == 0) {
        banner(&a);
        rc = run(&a, &err);
    }
    if (rc < 0)
        fprintf(stderr, "nodeadd: %s\n", err.text);
    strlist_free(&a.seen);
    free(a.name);
    free(a.own);
    return rc < 0 ? EXIT_FAILURE : opt_finish("nodeadd");
}
