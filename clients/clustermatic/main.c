/* main.c - clustermatic: start, end and look after a cluster
 *
 * Reads the command line and hands over; one file a subcommand.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bus/nodespec.h"
#include "bus/rundir.h"
#include "clients/clustermatic/commands.h"

static const char usage[] =
    "usage: clustermatic COMMAND [OPTION...]\n"
    "\n"
    "  up [--virtual N] [--node-size SIZE] [--config FILE]\n"
    "                      start the services, and N virtual nodes; wait for them\n"
    "  down [--purge]      end the cluster; --purge: forget its state and logs too\n"
    "  status [--json]     services, and how many nodes are in which state\n"
    "  restart SERVICE|node N   end it and start it again\n"
    "  reload              read the configuration again\n"
    "  logs [-f] [SERVICE|node N]\n"
    "  why node N [--json]      where its boot stopped, or how long each stage took\n"
    "  image [--json]      boot images, and who boots them\n"
    "  image set NODES FILE|default   what these nodes boot from now on\n"
    "  upgrade NODES [--at-once N] [--timeout S]\n"
    "                      reboot them one after the other, while all goes well\n"
    "  env                 shell exports: eval \"$(clustermatic env)\"\n"
    "  doctor [--json]     what this machine lacks, and what mends it\n"
    "\n"
    "  --name NAME    which cluster (default: $CM_RUNDIR, else the only one)\n"
    "  -h, --help     this text\n"
    "  -V, --version\n";

enum { OPT_VIRTUAL = 256, OPT_NAME, OPT_CONFIG, OPT_SIZE, OPT_JSON, OPT_PURGE, OPT_AT_ONCE,
       OPT_TIMEOUT };

static const struct option longopts[] = {
    { "virtual", required_argument, NULL, OPT_VIRTUAL },
    { "name", required_argument, NULL, OPT_NAME },
    { "config", required_argument, NULL, OPT_CONFIG },
    { "node-size", required_argument, NULL, OPT_SIZE },
    { "json", no_argument, NULL, OPT_JSON },
    { "purge", no_argument, NULL, OPT_PURGE },
    { "at-once", required_argument, NULL, OPT_AT_ONCE },
    { "timeout", required_argument, NULL, OPT_TIMEOUT },
    { "follow", no_argument, NULL, 'f' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { NULL, 0, NULL, 0 },
};

int refuse(const struct err *err)
{
    fprintf(stderr, "clustermatic: %s\n", err->text);
    return 1;
}

static int bad_usage(const char *what, const char *word)
{
    fprintf(stderr, "clustermatic: %s%s%s\n", what, word ? ": " : "", word ? word : "");
    fputs("Try `clustermatic --help`.\n", stderr);
    return 2;
}

/* 0 go on, else the exit status + 1 */
static int read_options(int argc, char **argv, struct options *o)
{
    int opt;
    char *end;

    while ((opt = getopt_long(argc, argv, "fhV", longopts, NULL)) != -1) {
        switch (opt) {
        case OPT_VIRTUAL:
            errno = 0;
            long n = strtol(optarg, &end, 10);
            if (errno || end == optarg || *end || n < 1 || n > VIRTUAL_MAX) {
                fprintf(stderr, "clustermatic: --virtual %s: want a number from 1 to %d\n",
                        optarg, VIRTUAL_MAX);
                return 3;
            }
            o->nodes = (int)n;
            break;
        case OPT_NAME: o->name = optarg; break;
        case OPT_CONFIG: o->config = optarg; break;
        case OPT_SIZE:
            /* handed on to tmpfs: digits, and k, m or g */
            strtoul(optarg, &end, 10);
            if (end == optarg || strlen(optarg) > 20 || (*end && !strchr("kKmMgG", *end)) ||
                (*end && end[1])) {
                fprintf(stderr, "clustermatic: --node-size %s: want bytes, or 64m, 1g\n", optarg);
                return 3;
            }
            o->node_size = optarg;
            break;
        case OPT_AT_ONCE:
        case OPT_TIMEOUT:
            errno = 0;
            long v = strtol(optarg, &end, 10);
            if (errno || end == optarg || *end || v < 1 || v > 1000000) {
                fprintf(stderr, "clustermatic: --%s %s: want a number from 1\n",
                        opt == OPT_TIMEOUT ? "timeout" : "at-once", optarg);
                return 3;
            }
            *(opt == OPT_TIMEOUT ? &o->timeout : &o->at_once) = (int)v;
            break;
        case OPT_JSON: o->json = true; break;
        case OPT_PURGE: o->purge = true; break;
        case 'f': o->follow = true; break;
        case 'h': fputs(usage, stdout); return 1;
        case 'V': printf("clustermatic %s\n", CM_VERSION); return 1;
        default: return bad_usage("no such option, or its value is missing", NULL) + 1;
        }
    }
    return 0;
}

/* The commands that may name a service or node. */
static int run_on_unit(struct cluster *c, const struct options *o, const char *cmd, int argc,
                       char **argv)
{
    struct err err = { 0 };
    char unit[64];

    if (argc > 2 || (argc == 2 && strcmp(argv[0], "node") != 0))
        return bad_usage("too many words", argv[argc - 1]);
    if (argc == 0)
        return strcmp(cmd, "logs") == 0 ? cmd_logs(c, o, NULL)
                                        : bad_usage("restart what? A service, or node N", NULL);
    bool raw = strcmp(cmd, "logs") == 0 && strcmp(argv[0], "s6") == 0;
    if (raw)
        snprintf(unit, sizeof unit, "s6");
    else if (unit_name(c, argv[0], argc > 1 ? argv[1] : NULL, unit, sizeof unit, &err) < 0)
        return refuse(&err) + 1; /* wrong usage */
    return strcmp(cmd, "logs") == 0 ? cmd_logs(c, o, unit) : cmd_restart(c, unit);
}

/* The commands about booting. -1: it is none of them. */
static int run_boot(struct cluster *c, const struct options *o, const char *cmd, int argc,
                    char **argv)
{
    char *end;

    if (strcmp(cmd, "why") == 0) {
        long n = argc == 2 && strcmp(argv[0], "node") == 0 ? strtol(argv[1], &end, 10) : -1;
        if (n < 0 || n > NODE_MAX || end == argv[1] || *end)
            return bad_usage("want why node N", NULL);
        return cmd_why(c, o, (int)n);
    }
    if (strcmp(cmd, "image") == 0) {
        if (argc == 0 || (argc == 1 && strcmp(argv[0], "list") == 0))
            return cmd_image(c, o, NULL, NULL);
        if (argc != 3 || strcmp(argv[0], "set") != 0)
            return bad_usage("want image, or image set NODES FILE|default", NULL);
        return cmd_image(c, o, argv[1], argv[2]);
    }
    if (strcmp(cmd, "upgrade") == 0)
        return argc == 1 ? cmd_upgrade(c, o, argv[0]) : bad_usage("want upgrade NODES", NULL);
    return -1;
}

static int run(struct cluster *c, const struct options *o, const char *cmd, int argc, char **argv)
{
    int rc = run_boot(c, o, cmd, argc, argv);

    if (rc >= 0)
        return rc;
    if (strcmp(cmd, "restart") == 0 || strcmp(cmd, "logs") == 0)
        return run_on_unit(c, o, cmd, argc, argv);
    if (argc > 0)
        return bad_usage("too many words", argv[0]);
    if (strcmp(cmd, "up") == 0)
        return cmd_up(c, o);
    if (strcmp(cmd, "down") == 0)
        return cmd_down(c, o);
    if (strcmp(cmd, "status") == 0)
        return cmd_status(c, o);
    if (strcmp(cmd, "reload") == 0)
        return cmd_reload(c);
    if (strcmp(cmd, "env") == 0)
        return cmd_env(c);
    if (strcmp(cmd, "doctor") == 0)
        return cmd_doctor(o);
    return bad_usage("no such command", cmd);
}

int main(int argc, char **argv)
{
    struct options o = { 0 };
    struct err err = { 0 };
    struct cluster c;

    int status = read_options(argc, argv, &o);
    if (status)
        return status - 1;
    if (optind == argc)
        return bad_usage("which command?", NULL);
    if (cluster_select(&c, o.name, &err) < 0) {
        refuse(&err);
        return err.code == EINVAL ? 2 : 1;
    }
    return run(&c, &o, argv[optind], argc - optind - 1, argv + optind + 1);
}
