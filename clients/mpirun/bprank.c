/* bprank.c - the first steps of a rank, on its node: take a seat, then become it
 *
 * mpirun has bpsh start this in the program's place (bpsh --via), under the
 * program's own arguments. It connects to the helper on this node (bppmi,
 * bppmix), says its rank, is given its environment, and goes on as the program,
 * whose path is in BPROC_PROGNAME. The connection stays open: with PMI-1 it is
 * the rank's PMI_FD.
 *
 * Static, so that nothing of it has to be on the node and it starts in no time.
 */
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "bus/rundir.h"

#define PATIENCE_MS 60000 /* the helper may have to travel to the node first */
#define ANSWER_MAX (256 * 1024)
#define SLACK_NS 1000000L /* how late a rank may be woken that shares its processor */

static int __attribute__((format(printf, 2, 3))) end(int status, const char *fmt, ...)
{
    va_list ap;

    fputs("mpirun: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return status;
}

static long now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Only the user's own helper is believed: anybody may take a name. */
static int is_ours(int fd)
{
    struct ucred peer;
    socklen_t n = sizeof peer;

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 &&
           (peer.uid == geteuid() || peer.uid == 0);
}

/* The helper is started side by side with us: wait until it listens. */
static int connect_to(const char *job)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    int len = snprintf(sa.sun_path + 1, sizeof sa.sun_path - 1, "clustermatic-mpi-%s", job);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
    struct timespec pause = { 0, 200000 };
    long limit = now_ms() + PATIENCE_MS;

    for (;;) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0); /* stays open over the exec */
        if (fd < 0)
            return -1;
        if (connect(fd, (struct sockaddr *)&sa, size) == 0 && is_ours(fd))
            return fd;
        int code = errno;
        close(fd);
        if ((code != ECONNREFUSED && code != EAGAIN) || now_ms() > limit) {
            errno = code;
            return -1;
        }
        nanosleep(&pause, NULL);
        if (pause.tv_nsec < 20000000)
            pause.tv_nsec += pause.tv_nsec / 2;
    }
}

/* One processor for each rank of this node, in turn, of those that we may use. */
static void bind_to(long local)
{
    cpu_set_t may, one;
    int n = 0;

    if (sched_getaffinity(0, sizeof may, &may) < 0 || CPU_COUNT(&may) == 0)
        return;
    local %= CPU_COUNT(&may);
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &may) && n++ == local)
            CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
}

/* Ranks that poll wake all the time. Where they share processors they must not push
 * aside those that still work, be it the node's own agent, each time they do; and
 * those that look again every 100 us, as Open MPI's do while it starts, would leave
 * little for anything else. */
static void be_patient(void)
{
    struct sched_param none = { 0 };

    if (sched_getscheduler(0) == SCHED_OTHER)
        sched_setscheduler(0, SCHED_BATCH, &none);
    prctl(PR_SET_TIMERSLACK, SLACK_NS, 0, 0, 0);
}

/* NAME=VALUE is set, NAME?VALUE if it is not there yet, "bind N" and "batch" are that. */
static void take(char *line, int fd)
{
    char *sep = line + strcspn(line, "=?"), how = *sep, number[16];

    if (strncmp(line, "bind ", 5) == 0) {
        bind_to(strtol(line + 5, NULL, 10));
        return;
    }
    if (strcmp(line, "batch") == 0) {
        be_patient();
        return;
    }
    if (!how)
        return;
    *sep = 0;
    snprintf(number, sizeof number, "%d", fd);
    setenv(line, strcmp(sep + 1, "@fd") == 0 ? number : sep + 1, how == '=');
}

/* All lines up to "go". -1: it has closed. */
static int take_all(int fd)
{
    static char buf[ANSWER_MAX];
    size_t have = 0;

    for (;;) {
        ssize_t n = read(fd, buf + have, sizeof buf - 1 - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        have += (size_t)n;
        buf[have] = 0;
        if (have >= 3 && strcmp(buf + have - 3, "go\n") == 0 && (have == 3 || buf[have - 4] == '\n'))
            break;
        if (have == sizeof buf - 1)
            return -1;
    }
    buf[have - 3] = 0;
    for (char *line = buf, *next; *line; line = next) {
        char *nl = strchr(line, '\n');
        if (!nl)
            break;
        *nl = 0;
        next = nl + 1;
        take(line, fd);
    }
    return 0;
}

/* In front of what the user has there. */
static void preload(const char *path)
{
    const char *old = getenv("LD_PRELOAD");
    char *both;

    if (!path)
        return;
    if (!old || !*old)
        setenv("LD_PRELOAD", path, 1);
    else if (asprintf(&both, "%s:%s", path, old) > 0)
        setenv("LD_PRELOAD", both, 1);
}

/* Nobody has told us of a job: these words are for us, not for a program. */
static int by_hand(int argc, char **argv)
{
    static const char usage[] = "Usage: bprank [--help | --version]\n"
                                "Started by mpirun on nodes, to become a rank of a job.\n";

    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        return fputs(usage, stdout) < 0 || fflush(stdout) != 0;
    if (argc > 1 && strcmp(argv[1], "--version") == 0)
        return printf("bprank version " CM_VERSION "\n") < 0 || fflush(stdout) != 0;
    return end(2, "bprank is started by mpirun, not by hand");
}

int main(int argc, char **argv)
{
    const char *job = getenv("CM_MPI_JOB"), *rank = getenv("BPROC_RANK"),
               *prog = getenv("BPROC_PROGNAME");
    static const char *const ours[] = { "CM_MPI_JOB", "CM_MPI_MAP", "CM_MPI_APPS",
                                        "CM_MPI_HOST", "CM_MPI_BIND", "CM_MPI_PRELOAD" };
    char hello[32];

    if (argc < 1 || !job || !rank || !prog)
        return by_hand(argc, argv);
    int fd = connect_to(job);
    if (fd < 0)
        return end(1, "rank %ld: no helper on this node: %s", strtol(rank, NULL, 10),
                   strerror(errno));
    int n = snprintf(hello, sizeof hello, "rank %ld\n", strtol(rank, NULL, 10));
    if (send(fd, hello, (size_t)n, MSG_NOSIGNAL) != n || take_all(fd) < 0)
        return end(1, "rank %ld: the helper on this node has ended", strtol(rank, NULL, 10));
    preload(getenv("CM_MPI_PRELOAD"));
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        unsetenv(ours[i]);
    execv(prog, argv);
    int code = errno;
    return end(code == ENOENT || code == ENOTDIR ? 127 : 126, "%s: %s", prog, strerror(code));
}
