/* bpinit.c - pid 1 of a node's process space: holds all that must outlive the agent
 *
 * Command line, start-up as a list, the loop. See bpinit.h for the parts.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "node/bpinit_begin.h"
#include "node/bpinit_kin.h"

#define EXIT_USAGE 2

static const char usage[] =
    "Usage: bpinit --space PATH [--root-fd N] [--hostname NAME] [--address ADDRESS]\n"
    "              [--boot ID] [--ready-fd N] [--listen-fd N] [--cgroup-fd N] [--memory-fd N]\n"
    "              [--cpu-fd N] [--pids FIRST:COUNT] [--machine]\n"
    "Pid 1 of a node's process space; bpvnode or bpboot starts it. See bpinit(8).\n";

void init_log(const char *fmt, ...)
{
    va_list ap;
    char text[512];

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fprintf(stderr, "bpinit: %s\n", text);
}

/* A number of a descriptor that is open, or -1 with a word to stderr. */
static int descriptor(const char *text, const char *option)
{
    char *end;
    long v = strtol(text, &end, 10);

    if (end == text || *end || v < 0 || v > INT32_MAX || fcntl((int)v, F_GETFD) < 0) {
        fprintf(stderr, "bpinit: %s %s: not an open descriptor\n", option, text);
        exit(EXIT_USAGE);
    }
    fcntl((int)v, F_SETFD, FD_CLOEXEC);
    return (int)v;
}

struct options {
    struct root_plan root;
    const char *space, *boot;
    int ready_fd, listen_fd;
    int cgroup[CAGE_TREES];
    int lease, lease_count;
};

static void lease(const char *text, struct options *o)
{
    char rest;

    if (sscanf(text, "%d:%d%c", &o->lease, &o->lease_count, &rest) == 2 && o->lease > 1 &&
        o->lease_count >= 16 && o->lease <= (1 << 22) - o->lease_count) {
        /* Not always from its beginning: pids of a machine that has just ended
         * may still be held on the master, by zombies of its ghosts. */
        unsigned from = 0;
        if (getrandom(&from, sizeof from, 0) != sizeof from)
            from = 0;
        o->root.first_pid = o->lease + (int)(from % (unsigned)(o->lease_count / 2));
        return;
    }
    fprintf(stderr, "bpinit: --pids %s: want FIRST:COUNT\n", text);
    exit(EXIT_USAGE);
}

static void read_options(int argc, char **argv, struct options *o)
{
    static const struct option longopts[] = {
        { "space", required_argument, NULL, 's' },
        { "root-fd", required_argument, NULL, 'r' },
        { "hostname", required_argument, NULL, 'n' },
        { "address", required_argument, NULL, 'a' },
        { "boot", required_argument, NULL, 'b' },
        { "ready-fd", required_argument, NULL, 'R' },
        { "listen-fd", required_argument, NULL, 'l' },
        { "cgroup-fd", required_argument, NULL, 'g' },
        { "memory-fd", required_argument, NULL, 'm' },
        { "cpu-fd", required_argument, NULL, 'c' },
        { "pids", required_argument, NULL, 'p' },
        { "machine", no_argument, NULL, 'M' },
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'V' },
        { NULL, 0, NULL, 0 },
    };
    int c;

    while ((c = getopt_long(argc, argv, "h", longopts, NULL)) != -1) {
        switch (c) {
        case 's': o->space = optarg; break;
        case 'r': o->root.fd = descriptor(optarg, "--root-fd"); break;
        case 'n': o->root.hostname = optarg; break;
        case 'a': o->root.address = optarg; break;
        case 'b': o->boot = optarg; break;
        case 'l': o->listen_fd = descriptor(optarg, "--listen-fd"); break;
        case 'R': o->ready_fd = descriptor(optarg, "--ready-fd"); break;
        case 'g': o->cgroup[0] = descriptor(optarg, "--cgroup-fd"); break;
        case 'm': o->cgroup[1] = descriptor(optarg, "--memory-fd"); break;
        case 'c': o->cgroup[2] = descriptor(optarg, "--cpu-fd"); break;
        case 'p': lease(optarg, o); break;
        case 'M': o->root.machine = true; break;
        case 'h': fputs(usage, stdout); exit(EXIT_SUCCESS);
        case 'V': puts("bpinit (Clustermatic) " CM_VERSION); exit(EXIT_SUCCESS);
        default: fputs(usage, stderr); exit(EXIT_USAGE);
        }
    }
    if (!o->space || optind != argc) {
        fputs(usage, stderr);
        exit(EXIT_USAGE);
    }
}

/* Signals all blocked and at their defaults: children inherit a clean slate,
 * and pid 1 cannot be surprised. */
static void calm_signals(void)
{
    sigset_t all;

    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
}

/* Descriptors 0-2 are taken, so that no pipe of ours lands there. What else we
 * were started with is not for our children. */
static void many_descriptors(void)
{
    struct rlimit l;
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd < 3);
    cleanup_close(&fd);
    close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
    if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
        l.rlim_cur = l.rlim_max;
        setrlimit(RLIMIT_NOFILE, &l);
    }
}

static int make_id(char id[33], struct err *err)
{
    unsigned char raw[16];

    if (getrandom(raw, sizeof raw, 0) != sizeof raw)
        return err_set(err, errno, "random numbers: %s", strerror(errno));
    for (size_t i = 0; i < sizeof raw; i++)
        snprintf(id + 2 * i, 3, "%02x", raw[i]);
    return 0;
}

/* Beside us. Opened now: the node's root is another one. */
static int open_restore(void)
{
    char path[PATH_MAX + 32];
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);

    path[n > 0 ? n : 0] = 0;
    char *slash = strrchr(path, '/');
    if (!slash)
        return -1;
    snprintf(slash, 16, "/bprestore");
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        init_log("%s: %s: no process can be moved here", path, strerror(errno));
    return fd;
}

static void tell_ready(int fd)
{
    if (fd >= 0 && write(fd, "\n", 1) < 0)
        init_log("ready descriptor: %s", strerror(errno));
    cleanup_close(&fd);
}

/* The parts, in the order of their needs; the loop; and back. */
static int run(struct init *in, const struct options *o, struct err *err)
{
    CLEANUP(loop_destroy) loop_t *loop = in->loop = loop_create(err);
    if (!loop)
        return -1;
    CLEANUP(bodies_destroy) bodies_t *bodies = in->bodies = bodies_create(err);
    CLEANUP(journal_destroy) journal_t *journal = in->journal = journal_create(err);
    CLEANUP(rings_destroy) rings_t *rings = in->rings = rings_create(SPACE_SLOTS, err);
    CLEANUP(cages_destroy) cages_t *cages = in->cages = cages_create(in, o->cgroup, err);
    if (!bodies || !journal || !rings || !cages)
        return -1;
    CLEANUP(pump_destroy) pump_t *pump = in->pump = pump_create(in, err);
    CLEANUP(kids_destroy) kids_t *kids = kids_create(in, o->lease, o->lease_count, err);
    CLEANUP(signals_destroy) signals_t *signals = signals_create(err);
    in->signals = signals;
    CLEANUP(arrivals_destroy) arrivals_t *arrivals = in->arrivals = arrivals_create(in, err);
    if (!kids || !arrivals)
        return -1;
    CLEANUP(kin_destroy) kin_t *kin = kin_create(in, err);
    CLEANUP(stands_destroy) stands_t *stands = stands_create(in, err);
    if (!kin || !stands)
        return -1;
    in->restore_fd = open_restore();
    if (!pump || reap_start(in, err) < 0)
        return -1;
    /* Last, and before the old root is out of reach: who connects finds all ready. */
    CLEANUP(link_destroy) link_t *link = in->link = link_create(in, o->space, o->listen_fd, err);
    if (!link || root_enter(&o->root, err) < 0)
        return -1;
    cleanup_close(&(int){ o->root.fd });
    struct err why = { 0 };
    if (ghosts_open(in, &why) < 0)
        init_log("%s: programs here can have no relatives elsewhere", why.text);
    in->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (in->null_fd < 0)
        return err_set(err, errno, "open /dev/null: %s", strerror(errno));
    tell_ready(o->ready_fd);
    int status = loop_run(loop);
    ghosts_close(in);
    answers_destroy(in);
    return status;
}

int main(int argc, char **argv)
{
    struct options o = { .root = { .fd = -1, .hostname = "node" }, .boot = "",
                         .ready_fd = -1, .listen_fd = -1, .cgroup = { -1, -1, -1 } };
    struct init in = { .null_fd = -1, .restore_fd = -1 };
    struct err err = { 0 };

    read_options(argc, argv, &o);
    in.boot = o.boot;
    calm_signals();
    many_descriptors();
    /* Bodies are in our session but never in our group: their groups are then
     * not orphaned, and the terminal stops work. Fails only for a leader. */
    setsid();
    int status = make_id(in.id, &err) < 0 ? -1 : run(&in, &o, &err);
    cleanup_close(&in.null_fd);
    cleanup_close(&in.restore_fd);
    if (status < 0) {
        init_log("%s", err.text);
        return EXIT_FAILURE;
    }
    return status;
}
