/* supervise.c - the s6 side: service folders, the scanner, states */
#include "clients/clustermatic/supervise.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "bus/loop.h"
#include "bus/rundir.h"
#include "clients/clustermatic/procs.h"
#include "clients/clustermatic/tool.h"

const char *const service_names[] = { "busd", "nodemgr", "procspace", "iofwd", "bpfs", "bootsrv",
                                      "sched", NULL };

/* One script serves all services, one all loggers, one all nodes: which one
 * it is for is the folder's name. */
static const char run_service[] =
    "#!/bin/sh\n"
    "exec 2>&1\n"
    "exec \"$CM_LIBEXEC/${PWD##*/}\" --ready-fd 3\n";

static const char run_log[] =
    "#!/bin/sh\n"
    "service=${PWD%/log}\n"
    "exec s6-log T n10 s1000000 \"$CM_LOGDIR/${service##*/}\"\n";

static const char run_node[] =
    "#!/bin/sh\n"
    "# The machine of a virtual node; its log is put aside at a megabyte.\n"
    "node=${PWD##*/node.}\n"
    "log=$CM_LOGDIR/node.$node\n"
    "[ -z \"$(find \"$log\" -size +1000k 2>/dev/null)\" ] || mv \"$log\" \"$log.1\"\n"
    "exec \"$CM_LIBEXEC/bpvnode\" --node \"$node\" --run \"$CM_RUNDIR\" \\\n"
    "    --state \"$CM_STATEDIR\" --bus \"$CM_BUS\" --ready-fd 3 \\\n"
    "    ${CM_NODE_SIZE:+--size \"$CM_NODE_SIZE\"} >>\"$log\" 2>&1\n";

/* 125: the node was halted or powered off. Let it lie. */
static const char finish_node[] =
    "#!/bin/sh\n"
    "[ \"$1\" != 125 ] || exit 125\n"
    "exit 0\n";

bool service_known(const char *name)
{
    for (const char *const *s = service_names; *s; s++)
        if (strcmp(*s, name) == 0)
            return true;
    return false;
}

static char *unit_dir(const struct cluster *c, const char *unit, char *buf)
{
    char scan[PATH_MAX];

    return path_join(buf, path_join(scan, c->run, "s6"), unit);
}

static int put(const char *dir, const char *name, mode_t mode, const char *text,
               struct err *err)
{
    char path[PATH_MAX];

    return write_file(path_join(path, dir, name), mode, err, "%s", text);
}

static int prepare_service(const struct cluster *c, const char *name, struct err *err)
{
    char dir[PATH_MAX], log[PATH_MAX], out[PATH_MAX];

    unit_dir(c, name, dir);
    if (make_dirs(path_join(log, dir, "log"), 0755, err) < 0 ||
        make_dirs(path_join(out, c->log, name), 0755, err) < 0)
        return -1;
    return put(dir, "run", 0755, run_service, err) < 0 ||
           put(dir, "notification-fd", 0644, "3\n", err) < 0 ||
           put(dir, "timeout-kill", 0644, "5000\n", err) < 0 ||
           put(dir, "max-death-tally", 0644, "1000\n", err) < 0 ||
           put(log, "run", 0755, run_log, err) < 0 ? -1 : 0;
}

static int prepare_node(const struct cluster *c, int node, struct err *err)
{
    char dir[PATH_MAX], unit[32];

    snprintf(unit, sizeof unit, "node.%d", node);
    unit_dir(c, unit, dir);
    return make_dirs(dir, 0755, err) < 0 ||
           put(dir, "run", 0755, run_node, err) < 0 ||
           put(dir, "finish", 0755, finish_node, err) < 0 ||
           put(dir, "notification-fd", 0644, "3\n", err) < 0 ||
           put(dir, "timeout-kill", 0644, "5000\n", err) < 0 ? -1 : 0;
}

int supervise_prepare(const struct cluster *c, struct err *err)
{
    for (const char *const *s = service_names; *s; s++)
        if (prepare_service(c, *s, err) < 0)
            return -1;
    for (int node = 0; node < c->nodes; node++)
        if (prepare_node(c, node, err) < 0)
            return -1;
    return 0;
}

/* --- the scanner ------------------------------------------------------- */

/* The master's end of the virtual network, in the namespace we are now in. */
static int make_bridge(struct err *err)
{
    char program[PATH_MAX], out[200];
    const char *argv[] = { path_join(program, cm_libexec(), "bpvnode"), "--bridge", NULL };

    int rc = tool_run(argv, 10000, out, sizeof out, err);
    if (rc < 0)
        return -1;
    out[strcspn(out, "\n")] = 0;
    if (rc != 0)
        return err_set(err, EIO, "make the virtual network: %s",
                       *out ? out : "bpvnode --bridge failed");
    return 0;
}

/* What the supervised tree sees: nothing of the caller's environment. */
static int scanner_environment(const struct cluster *c)
{
    static char libexec[PATH_MAX];
    char bus[64];

    snprintf(libexec, sizeof libexec, "%s", cm_libexec());
    snprintf(bus, sizeof bus, MASTER_ADDR ":%d", c->port);
    const char *cgroup = getenv("CM_CGROUP");
    char kind[8] = "";
    if (cgroup)
        snprintf(kind, sizeof kind, "%s", cgroup);
    if (clearenv() != 0)
        return -1;
    cluster_setenv(c);
    setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    setenv("CM_LIBEXEC", libexec, 1);
    if (kind[0]) /* which control groups virtual nodes use: bpvnode(8) */
        setenv("CM_CGROUP", kind, 1);
    setenv("CM_SUPERVISED", c->run, 1);
    if (c->nodes) {
        setenv("CM_BUS", bus, 1);
        if (*c->node_size)
            setenv("CM_NODE_SIZE", c->node_size, 1);
    }
    return 0;
}

static void default_signals(void)
{
    sigset_t none;

    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The file and process limits: as many descriptors as may be had. */
static void raise_limits(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

/* Become the scanner. Returns only on failure. */
static int become_scanner(const struct cluster *c, int report, struct err *err)
{
    char path[PATH_MAX], scan[PATH_MAX], max[16];

    default_signals();
    raise_limits();
    umask(022);
    path_join(path, c->log, "s6.log");
    CLEANUP(cleanup_close) int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log < 0)
        return err_set(err, errno, "open %s: %s", path, strerror(errno));
    CLEANUP(cleanup_close) int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
        return err_set(err, errno, "open /dev/null: %s", strerror(errno));
    for (int fd = 3; fd < 1024; fd++) /* the caller's shell may have left some open */
        if (fd != report)
            close(fd);
    path_join(scan, c->run, "s6");
    if (chdir(scan) < 0 || scanner_environment(c) < 0)
        return err_set(err, errno, "go to %s: %s", scan, strerror(errno));
    if (write_file(path_join(path, c->run, "svscan"), 0644, err, "%d %llu\n", (int)getpid(),
                   (unsigned long long)proc_start(getpid())) < 0)
        return -1;
    snprintf(max, sizeof max, "%d", c->nodes + 64);
    execlp("s6-svscan", "s6-svscan", "-c", max, scan, (char *)NULL);
    return err_set(err, errno, "run s6-svscan: %s", strerror(errno));
}

/* Runs in a child: make the surroundings, then leave the scanner behind as a
 * daemon. What goes wrong is told through the pipe. */
static void start_in_child(const struct cluster *c, int report)
{
    struct err e = { 0 };

    setsid();
    if (c->nodes && unshare(CLONE_NEWNET) < 0)
        err_set(&e, errno, "make a network namespace: %s", strerror(errno));
    else if (!c->nodes || make_bridge(&e) == 0) {
        pid_t pid = fork();
        if (pid > 0)
            _exit(0);
        if (pid == 0)
            become_scanner(c, report, &e);
        else
            err_set(&e, errno, "start the supervisor: %s", strerror(errno));
    }
    if (write(report, &e, sizeof e) != sizeof e)
        _exit(2);
    _exit(1);
}

int supervise_start(const struct cluster *c, struct err *err)
{
    int ends[2];
    struct err e;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_set(err, errno, "make a pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid < 0) {
        int code = errno;
        close(ends[0]);
        close(ends[1]);
        return err_set(err, code, "start the supervisor: %s", strerror(code));
    }
    if (pid == 0)
        start_in_child(c, ends[1]);
    close(ends[1]);
    CLEANUP(cleanup_close) int from = ends[0];
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    /* End of file: the scanner was executed, which closed its end. */
    ssize_t n;
    while ((n = read(from, &e, sizeof e)) < 0 && errno == EINTR)
        ;
    if (n == 0 && cluster_supervisor(c))
        return 0;
    if (n == sizeof e)
        return err_set(err, e.code, "%s", e.text);
    return err_set(err, EIO, "the supervisor died at once: see %s/s6.log", c->log);
}

/* --- states ------------------------------------------------------------ */

char *log_path(const struct cluster *c, const char *unit, char *buf)
{
    char dir[PATH_MAX];

    path_join(dir, c->log, unit);
    if (strcmp(unit, "s6") == 0)
        return path_join(buf, c->log, "s6.log");
    return service_known(unit) ? path_join(buf, dir, "current") : path_join(buf, c->log, unit);
}

void log_last(const struct cluster *c, const char *unit, char *line, size_t size)
{
    char path[PATH_MAX], text[1024];
    CLEANUP(cleanup_close) int fd = open(log_path(c, unit, path), O_RDONLY | O_CLOEXEC);

    *line = 0;
    off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    off_t from = end > (off_t)sizeof text - 1 ? end - (off_t)sizeof text + 1 : 0;
    ssize_t n = end > 0 ? pread(fd, text, sizeof text - 1, from) : 0;
    if (n <= 0)
        return;
    while (n > 0 && text[n - 1] == '\n')
        n--;
    text[n] = 0;
    char *start = strrchr(text, '\n');
    start = start ? start + 1 : text;
    /* The logger's time is of no use in a one-line answer. */
    char *space = service_known(unit) ? strchr(start, ' ') : NULL;
    start = space ? space + 1 : start;
    snprintf(line, size, "%.*s", (int)strnlen(start, size - 1), start);
}

static int count_lines(const char *text)
{
    int n = 0;

    for (; *text; text++)
        n += *text == '\n';
    return n;
}

int supervise_stat(const struct cluster *c, const char *unit, struct service *s,
                   struct err *err)
{
    char dir[PATH_MAX], up[8], ready[8], paused[8];
    long long pid, seconds;
    const size_t tally_size = 64 * 1024;
    CLEANUP(cleanup_free) char *out = malloc(tally_size);

    memset(s, 0, sizeof *s);
    snprintf(s->name, sizeof s->name, "%s", unit);
    snprintf(s->state, sizeof s->state, "missing");
    s->restarts = -1;
    if (!out)
        return err_set(err, ENOMEM, "ask about %s", unit);
    unit_dir(c, unit, dir);
    const char *stat[] = { "s6-svstat", "-o", "up,ready,paused,pid,updownfor", dir, NULL };
    int rc = tool_run(stat, 5000, out, tally_size, err);
    if (rc < 0)
        return -1;
    if (rc != 0 || sscanf(out, "%7s %7s %7s %lld %lld", up, ready, paused, &pid, &seconds) != 5)
        return 0; /* not supervised now */
    const char *state = strcmp(up, "true") != 0 ? "down"
                        : strcmp(paused, "true") == 0 ? "paused"
                        : strcmp(ready, "true") == 0 ? "ready"
                                                      : "starting";
    snprintf(s->state, sizeof s->state, "%s", state);
    s->pid = pid > 0 ? (pid_t)pid : 0;
    s->since_ms = (wall_ms() / 1000 - seconds) * 1000;
    const char *tally[] = { "s6-svdt", dir, NULL };
    if (tool_run(tally, 5000, out, tally_size, NULL) == 0)
        s->restarts = count_lines(out);
    return 0;
}

enum { SERVICES_MAX = 16, SLICE_MS = 2000, DEATHS_MAX = 4 };

/* 0: all are ready. -1: *err says of the first that is not; hopeless when it
 * dies again and again. deaths: how many at the first look, -1 at first. */
static int not_ready(const struct cluster *c, int waited_ms, int *deaths, bool *hopeless,
                     struct err *err)
{
    char line[160];

    for (int i = 0; service_names[i]; i++) {
        struct service s;
        if (supervise_stat(c, service_names[i], &s, err) < 0)
            return -1;
        if (strcmp(s.state, "ready") == 0)
            continue;
        if (deaths[i] < 0)
            deaths[i] = s.restarts;
        *hopeless = s.restarts - deaths[i] >= DEATHS_MAX;
        log_last(c, s.name, line, sizeof line);
        return err_set(err, ETIMEDOUT, "%s is not ready after %d s (%s)%s%s; "
                       "see `clustermatic logs %s`", s.name, waited_ms / 1000, s.state,
                       *line ? ": " : "", line, s.name);
    }
    return 0;
}

int supervise_wait_ready(const struct cluster *c, int timeout_ms, struct err *err)
{
    static char dirs[SERVICES_MAX][PATH_MAX];
    char limit[16], out[512];
    const char *argv[SERVICES_MAX + 6] = { "s6-svwait", "-U", "-a", "-t", limit };
    int64_t begun = now_ms(), end = begun + timeout_ms;
    int deaths[SERVICES_MAX], n = 0;
    bool hopeless = false;

    for (; service_names[n]; n++) {
        char supervise[PATH_MAX];
        deaths[n] = -1;
        argv[5 + n] = unit_dir(c, service_names[n], dirs[n]);
        /* s6-svwait wants the service to be under supervision already. */
        path_join(supervise, dirs[n], "supervise/status");
        while (access(supervise, F_OK) < 0 && now_ms() < end && cluster_supervisor(c)) {
            const struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };
            nanosleep(&pause, NULL);
        }
    }
    argv[5 + n] = NULL;
    for (;;) {
        int64_t left = end - now_ms();
        snprintf(limit, sizeof limit, "%d", left > SLICE_MS ? SLICE_MS : left > 1 ? (int)left : 1);
        int rc = tool_run(argv, SLICE_MS + 5000, out, sizeof out, err);
        if (rc <= 0)
            return rc;
        if (not_ready(c, (int)(now_ms() - begun), deaths, &hopeless, err) == 0)
            return 0;
        if (hopeless || now_ms() >= end || err->code != ETIMEDOUT)
            return -1;
    }
}

int supervise_restart(const struct cluster *c, const char *unit, struct err *err)
{
    char dir[PATH_MAX], out[256], line[160];
    struct service s;

    if (supervise_stat(c, unit, &s, err) < 0)
        return -1;
    if (strcmp(s.state, "missing") == 0)
        return err_set(err, ENOENT, "%s is not under supervision", unit);
    unit_dir(c, unit, dir);
    /* Down and up rather than "restart": down also wakes a stopped process,
     * and kills one that does not end in time (timeout-kill). */
    const char *down[] = { "s6-svc", "-wD", "-T", "15000", "-d", dir, NULL };
    const char *up[] = { "s6-svc", "-wU", "-T", "15000", "-u", dir, NULL };
    int rc = strcmp(s.state, "down") == 0 ? 0 : tool_run(down, 20000, out, sizeof out, err);
    if (rc > 0)
        return err_set(err, ETIMEDOUT, "%s (pid %d) does not end", unit, (int)s.pid);
    if (rc == 0)
        rc = tool_run(up, 20000, out, sizeof out, err);
    if (rc < 0)
        return -1;
    if (rc != 0) {
        log_last(c, unit, line, sizeof line);
        return err_set(err, ETIMEDOUT, "%s did not come back in 15 s%s%s", unit,
                       *line ? ": " : "", line);
    }
    return 0;
}
