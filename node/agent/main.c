/* main.c - bpnode: the one daemon of a node, network side
 *
 * Read the command line, open what we own, hand over to the loop. Nothing of
 * value lives in this process: bodies, their pipes and their last words are
 * bpinit's, so it may be killed at any time and started again.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "node/agent/agent.h"
#include "node/agent/files.h"
#include "node/agent/streams.h"

#define KEY_RETRY_MS 100

static const char usage[] =
    "Usage: bpnode --root-fd FD|--root DIR --space PATH --key FILE --master-key FILE\n"
    "              --bus ADDRESS[:PORT] [--node-hint N] [--boot ID] [--boot-key]\n"
    "              [--image HASH] [--ready-fd FD]\n"
    "The agent of a node: joins the master, starts and ends processes through bpinit.\n"
    "\n"
    "      --root DIR         the node's root file system\n"
    "      --root-fd FD       the same, as an open descriptor\n"
    "      --space PATH       socket of the node's bpinit\n"
    "      --key FILE         the node's own CURVE keys; made if absent\n"
    "      --master-key FILE  the master's public key (waited for if absent)\n"
    "      --bus ADDRESS:PORT where the master's bus is\n"
    "      --node-hint N      the number that this node will probably have\n"
    "      --boot ID          a text that is new with each start of the machine\n"
    "      --boot-key         the key does not outlive this boot of the machine\n"
    "      --image HASH       the boot image that this machine runs\n"
    "      --ready-fd FD      write a newline there when the node is ready\n"
    "  -h, --help             this text\n"
    "  -V, --version          the version\n";

enum { OPT_ROOT = 256, OPT_ROOT_FD, OPT_SPACE, OPT_KEY, OPT_MASTER_KEY, OPT_BUS, OPT_HINT,
       OPT_BOOT, OPT_BOOT_KEY, OPT_IMAGE, OPT_READY_FD };

static const struct option longopts[] = {
    { "root", required_argument, NULL, OPT_ROOT },
    { "root-fd", required_argument, NULL, OPT_ROOT_FD },
    { "space", required_argument, NULL, OPT_SPACE },
    { "key", required_argument, NULL, OPT_KEY },
    { "master-key", required_argument, NULL, OPT_MASTER_KEY },
    { "bus", required_argument, NULL, OPT_BUS },
    { "node-hint", required_argument, NULL, OPT_HINT },
    { "boot", required_argument, NULL, OPT_BOOT },
    { "boot-key", no_argument, NULL, OPT_BOOT_KEY },
    { "image", required_argument, NULL, OPT_IMAGE },
    { "ready-fd", required_argument, NULL, OPT_READY_FD },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { NULL, 0, NULL, 0 },
};

struct program {
    agent_t agent;
    const char *space, *key, *master_key, *root;
    bool waiting_said;
};

const struct svc_method agent_methods[] = {
    { "node.*.launch", on_launch, SVC_ADMIN | SVC_CHANGES },
    { "node.*.place", on_place, SVC_ADMIN },
    { "node.*.signal", on_signal, SVC_ADMIN | SVC_CHANGES },
    { "node.*.end_launch", on_end_launch, SVC_ADMIN | SVC_CHANGES },
    { "node.*.orphan", on_orphan, SVC_ADMIN },
    { "node.*.end_job", on_end_job, SVC_ADMIN | SVC_CHANGES },
    { "node.*.ring", on_ring, SVC_ADMIN | SVC_CHANGES },
    { "node.*.home", on_home, SVC_ADMIN },
    { "node.*.hangup", on_hangup, SVC_ADMIN | SVC_CHANGES },
    { "node.*.procs", on_procs, SVC_ADMIN },
    { "node.*.ps", on_ps, SVC_ADMIN },
    { "node.*.control", on_control, SVC_ADMIN | SVC_CHANGES },
    { "node.*.copy", on_copy, SVC_ADMIN | SVC_CHANGES },
    { "node.*.relay", on_relay, SVC_ADMIN },
    { "node.*.arrived", on_arrived, SVC_ADMIN },
    { "node.*.depart", on_depart, SVC_ADMIN },
    { "node.*.said", on_said, SVC_ADMIN },
    { "node.*.move", on_move, SVC_ADMIN | SVC_CHANGES },
    SVC_METHODS_END,
};

/* ---- the command line ---- */

static bool number(const char *text, long min, long max, int *out)
{
    char *end;

    errno = 0;
    long v = strtol(text, &end, 10);
    if (end == text || *end || errno || v < min || v > max)
        return false;
    *out = (int)v;
    return true;
}

static bool parse_bus(agent_t *a, const char *text)
{
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : strlen(text);
    int port = CM_PORT;

    if (n == 0 || n >= sizeof a->master_addr ||
        (colon && !number(colon + 1, 1, 65535 - CM_PORT_CONTENT, &port)))
        return false;
    memcpy(a->master_addr, text, n);
    a->master_addr[n] = 0;
    a->master_port = (uint16_t)port;
    return true;
}

static void bad_usage(const char *what, const char *value)
{
    fprintf(stderr, "bpnode: %s%s%s\n%s", what, value ? ": " : "", value ? value : "", usage);
    exit(2);
}

static void parse(struct program *p, int argc, char **argv)
{
    agent_t *a = &p->agent;
    int c;

    while ((c = getopt_long(argc, argv, "hV", longopts, NULL)) != -1) {
        bool good = true;
        switch (c) {
        case OPT_ROOT: p->root = optarg; break;
        case OPT_ROOT_FD: good = number(optarg, 0, 1 << 20, &a->root_fd); break;
        case OPT_SPACE: p->space = optarg; break;
        case OPT_KEY: p->key = optarg; break;
        case OPT_MASTER_KEY: p->master_key = optarg; break;
        case OPT_BUS: good = parse_bus(a, optarg); break;
        case OPT_HINT: good = number(optarg, 0, 1000000, &a->node); break;
        case OPT_BOOT:
            good = *optarg && strlen(optarg) < sizeof a->boot;
            snprintf(a->boot, sizeof a->boot, "%s", optarg);
            break;
        case OPT_BOOT_KEY: a->boot_key = true; break;
        case OPT_IMAGE:
            good = strlen(optarg) == sizeof a->image - 1 &&
                   strspn(optarg, "0123456789abcdef") == sizeof a->image - 1;
            snprintf(a->image, sizeof a->image, "%s", optarg);
            break;
        case OPT_READY_FD: good = number(optarg, 0, 1 << 20, &a->ready_fd); break;
        case 'h': fputs(usage, stdout); exit(EXIT_SUCCESS);
        case 'V': printf("bpnode %s\n", CM_VERSION); exit(EXIT_SUCCESS);
        default: fputs(usage, stderr); exit(2);
        }
        if (!good)
            bad_usage("not understood", optarg);
    }
    if (optind < argc)
        bad_usage("too many arguments", argv[optind]);
    if (!p->space || !p->key || !p->master_key || !a->master_port ||
        (a->root_fd < 0) == (p->root == NULL))
        bad_usage("--space, --key, --master-key, --bus and one of --root and --root-fd "
                  "are needed", NULL);
}

/* ---- opening ---- */

static int open_root(struct program *p, struct err *err)
{
    agent_t *a = &p->agent;

    if (p->root) {
        a->root_fd = open(p->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (a->root_fd < 0)
            return err_set(err, errno, "%s: %s", p->root, strerror(errno));
        return 0;
    }
    if (fcntl(a->root_fd, F_SETFD, FD_CLOEXEC) < 0)
        return err_set(err, errno, "--root-fd %d: %s", a->root_fd, strerror(errno));
    return 0;
}

static int read_line(const char *path, char *out, size_t room, struct err *err)
{
    FILE *f = fopen(path, "re");

    if (!f)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    char *got = fgets(out, (int)room, f);
    fclose(f);
    if (!got)
        return err_set(err, ENOENT, "%s: is empty", path);
    out[strcspn(out, "\n")] = 0;
    return 0;
}

static int read_boot_id(agent_t *a, struct err *err)
{
    return a->boot[0] ? 0
                      : read_line("/proc/sys/kernel/random/boot_id", a->boot,
                                  sizeof a->boot, err);
}

static void on_connected(void *arg)
{
    agent_t *a = arg;

    join_connected(a->join);
}

/* bpinit has set up the root and told what runs: now the rest can be made. */
int agent_go_online(agent_t *a, struct err *err)
{
    char endpoint[sizeof a->master_addr + 64];
    struct svc_curve curve = { endpoint, a->master_key, a->keys.public_key,
                               a->keys.secret_key };
    struct err no_names = { 0 };

    a->files = files_create(a->loop, a->root_fd, err);
    if (!a->files)
        return -1;
    way_read(a);
    way_endpoint(a, a->master_port, true, endpoint, sizeof endpoint);
    a->chroot = files_note_read(a->files, "chroot");
    if (a->chroot && !strcmp(a->chroot, "/")) {
        free(a->chroot);
        a->chroot = NULL;
    }
    a->join = join_create(a, err);
    if (!a->join)
        return -1;
    a->streams = streams_create(a, err);
    if (!a->streams)
        return -1;
    a->gate = gate_create(a, err);
    if (!a->gate)
        return -1;
    if (names_place(a, &no_names) < 0)
        svc_log("warning", "%s", no_names.text);
    a->copies = copies_create(a, err);
    if (!a->copies)
        return -1;
    a->moves = moves_create(a, err);
    if (!a->moves)
        return -1;
    a->svc = svc_create_agent(a->loop, &curve, agent_methods, a, err);
    if (!a->svc)
        return -1;
    svc_on_connect(a->svc, on_connected, a);
    return 0;
}

static void on_term(void *arg, int signo)
{
    agent_t *a = arg;

    (void)signo;
    loop_stop(a->loop, EXIT_SUCCESS);
}

/* The master's first start makes its key; until then there is nobody to join. */
static void start_when_key(void *arg)
{
    struct program *p = arg;
    agent_t *a = &p->agent;
    char line[128];
    struct err err = { 0 };

    if (read_line(p->master_key, line, sizeof line, &err) < 0 || strlen(line) != 40) {
        if (!p->waiting_said)
            svc_log("info", "waiting for the master's key: %s",
                    err.code ? err.text : "it is not 40 characters yet");
        p->waiting_said = true;
        loop_timer(a->loop, KEY_RETRY_MS, false, start_when_key, p);
        return;
    }
    memcpy(a->master_key, line, sizeof a->master_key);
    a->space = space_create(a, p->space, &err);
    if (!a->space) {
        svc_log("error", "%s", err.text);
        loop_stop(a->loop, EXIT_FAILURE);
    }
}

static void close_all(agent_t *a)
{
    copies_destroy(&a->copies);
    moves_destroy(&a->moves);
    streams_destroy(&a->streams);
    join_destroy(&a->join);
    report_destroy(&a->report);
    launches_destroy(&a->launches);
    space_destroy(&a->space);
    ahead_end(a);
    files_destroy(&a->files);
    svc_destroy(&a->svc);
    gate_destroy(&a->gate);
    loop_destroy(&a->loop);
    free(a->chroot);
}

static int serve(struct program *p, struct err *err)
{
    agent_t *a = &p->agent;

    if (open_root(p, err) < 0 || read_boot_id(a, err) < 0 ||
        curve_keys_load(p->key, true, &a->keys, err) < 0)
        return -1;
    a->loop = loop_create(err);
    if (!a->loop || loop_signal(a->loop, SIGTERM, on_term, a, err) < 0 ||
        loop_signal(a->loop, SIGINT, on_term, a, err) < 0)
        return -1;
    a->launches = launches_create(a, err);
    if (!a->launches)
        return -1;
    a->report = report_create(a, err);
    if (!a->report)
        return -1;
    loop_timer(a->loop, 0, false, start_when_key, p);
    return loop_run(a->loop);
}

int main(int argc, char **argv)
{
    struct program p = { .agent = { .root_fd = -1, .node = -1, .ready_fd = -1 } };
    struct err err = { 0 };

    parse(&p, argc, argv);
    signal(SIGPIPE, SIG_IGN);
    int rc = serve(&p, &err);
    if (rc < 0)
        fprintf(stderr, "bpnode: %s\n", err.code ? err.text : "the event loop failed");
    close_all(&p.agent);
    return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
