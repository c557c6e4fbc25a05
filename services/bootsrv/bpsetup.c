/* bpsetup.c - one run of node_up or node_down for one node
 *
 * Holds the node's lock, runs the script, writes what it says into the node's
 * log with the time of each line, and tells nodemgr how it ended: up, or error
 * with the reason. That is done only while the node is still in state boot and
 * the same space: whoever changed it meanwhile wins. bootsrv starts it, and
 * may die and come back while it runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "bus/gate.h"
#include "bus/loop.h"
#include "bus/rundir.h"

#define LOG_MAX (1 << 20) /* larger ones are put aside before a run */
#define KILL_MS 2000
#define TELL_MS 60000
#define LINE 1000
#define EXIT_BUSY 75
#define EXIT_LOST 3 /* told to stop: the node is not there any more */

static const char usage[] =
    "usage: bpsetup --node N --space ID --config FILE [--down WHY]\n"
    "Run node_up for a node that has joined, or node_down for one that was lost: the\n"
    "script beside FILE, or else the built-in node_up. For bootsrv(8).\n";

static const struct option longopts[] = {
    { "node", required_argument, NULL, 'n' }, { "space", required_argument, NULL, 's' },
    { "config", required_argument, NULL, 'c' }, { "down", required_argument, NULL, 'd' },
    { "help", no_argument, NULL, 'h' },         { "version", no_argument, NULL, 'V' },
    { 0 },
};

struct job {
    const char *space, *config, *down;
    int node;
    char text[16]; /* the node's number */
    char script[PATH_MAX];
    bool builtin;
    FILE *log;
    char line[LINE];
    size_t len;
    char last[LINE]; /* the last line that said something */
    pid_t pid;
};

/* ---- the log ---- */

static void say(struct job *j, const char *text)
{
    struct timespec t;
    struct tm tm;
    char when[40];

    clock_gettime(CLOCK_REALTIME, &t);
    localtime_r(&t.tv_sec, &tm);
    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
    fprintf(j->log, "%s.%03ld  %s\n", when, t.tv_nsec / 1000000, text);
    fflush(j->log);
}

static int open_log(struct job *j, struct err *err)
{
    char path[PATH_MAX], old[PATH_MAX + 8];
    struct stat st;

    snprintf(path, sizeof path, "%s/node.%d", cm_logdir(), j->node);
    snprintf(old, sizeof old, "%s.1", path);
    if (stat(path, &st) == 0 && st.st_size > LOG_MAX)
        rename(path, old);
    umask(077);
    j->log = fopen(path, "ae");
    return j->log ? 0 : err_set(err, errno, "%s: %s", path, strerror(errno));
}

static void end_line(struct job *j)
{
    j->line[j->len] = '\0';
    j->len = 0;
    say(j, j->line);
    if (j->line[strspn(j->line, " \t\r")])
        memcpy(j->last, j->line, sizeof j->last);
}

static void take_output(struct job *j, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n' || j->len == LINE - 1)
            end_line(j);
        if (p[i] != '\n' && p[i] != '\0')
            j->line[j->len++] = p[i];
    }
}

/* false: no more comes, now (at least) */
static bool read_output(struct job *j, int fd)
{
    char buf[8192];
    ssize_t n = read(fd, buf, sizeof buf);

    if (n > 0)
        take_output(j, buf, (size_t)n);
    return n > 0;
}

/* ---- the script ---- */

static int lock(const struct job *j, struct err *err)
{
    char path[PATH_MAX], name[32];
    struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

    snprintf(name, sizeof name, "node_up/%d", j->node);
    int fd = open(cm_path(path, name), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    if (fcntl(fd, F_SETLK, &l) == 0)
        return 0; /* held until we end */
    close(fd);
    return err_set(err, EBUSY, "another script of node %d runs", j->node);
}

static void choose(struct job *j)
{
    const char *slash = strrchr(j->config, '/');

    snprintf(j->script, sizeof j->script, "%.*s%s", slash ? (int)(slash - j->config) + 1 : 0,
             j->config, j->down ? "node_down" : "node_up");
    if (j->down || access(j->script, F_OK) == 0)
        return;
    j->builtin = true;
    snprintf(j->script, sizeof j->script, "%s/node_up", cm_libexec());
}

/* What the script sees: our commands first, and which cluster it is about. */
static void environment(const struct job *j)
{
    char text[PATH_MAX * 2];
    const char *path = getenv("PATH");

    snprintf(text, sizeof text, "%s/../../bin:%s", cm_libexec(),
             path && *path ? path : "/usr/sbin:/usr/bin:/sbin:/bin");
    setenv("PATH", text, 1);
    setenv("CM_LIBEXEC", cm_libexec(), 1);
    setenv("CM_RUNDIR", cm_rundir(), 1);
    setenv("CM_NODE_UP", j->text, 1); /* node_up leaves the state to us */
    if (j->down)
        setenv("CM_NODE_WHY", j->down, 1);
}

static void in_child(struct job *j, int out)
{
    char *argv[] = { j->script, j->text, NULL };
    sigset_t none;
    int null = open("/dev/null", O_RDONLY);

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
        _exit(126);
    umask(022);
    environment(j);
    execv(j->script, argv);
    int why = errno;
    dprintf(2, "%s: %s%s\n", j->script, strerror(why),
            why == EACCES ? " (chmod +x it)" : why == ENOEXEC ? " (its first line is not #!)" : "");
    _exit(126);
}

/* Until the script has ended; what it left in the background is not waited
 * for. Its wait status; -1 when we were told to stop. */
static int watch(struct job *j, int out, int sig)
{
    struct pollfd p[] = { { out, POLLIN, 0 }, { sig, POLLIN, 0 } };
    bool stopped = false;
    int64_t kill_at = 0;
    int status;

    for (;;) {
        int rc = poll(p, 2, stopped ? 50 : -1);
        struct signalfd_siginfo si;

        if (rc > 0 && p[0].revents && !read_output(j, out))
            p[0].fd = -1;
        if (rc > 0 && p[1].revents && read(sig, &si, sizeof si) == sizeof si &&
            si.ssi_signo == SIGTERM && !stopped) {
            stopped = true;
            kill_at = now_ms() + KILL_MS;
            say(j, "the node is gone: the script is ended");
            killpg(j->pid, SIGTERM);
        }
        if (stopped && now_ms() >= kill_at)
            killpg(j->pid, SIGKILL);
        pid_t got = waitpid(j->pid, &status, WNOHANG);
        if (got == j->pid || (got < 0 && errno == ECHILD))
            break;
    }
    while (p[0].fd >= 0 && poll(p, 1, 0) > 0 && read_output(j, out))
        ;
    if (j->len)
        end_line(j);
    if (stopped)
        killpg(j->pid, SIGKILL);
    return stopped ? -1 : status;
}

static int run(struct job *j, int *status, struct err *err)
{
    int out[2];
    sigset_t mask;

    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigaddset(&mask, SIGTERM);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    CLEANUP(cleanup_close) int sig = signalfd(-1, &mask, SFD_CLOEXEC);
    if (sig < 0 || pipe2(out, O_CLOEXEC) < 0)
        return err_set(err, errno, "pipe: %s", strerror(errno));
    j->pid = fork();
    if (j->pid == 0)
        in_child(j, out[1]);
    close(out[1]);
    if (j->pid < 0)
        err_set(err, errno, "fork: %s", strerror(errno));
    else
        *status = watch(j, out[0], sig);
    close(out[0]);
    return j->pid < 0 ? -1 : 0;
}

/* ---- nodemgr ---- */

static int set_state(const struct job *j, const char *state, const char *why, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    CLEANUP(gate_close) gate_t *g = gate_open("node_up", err);
    const msgpack_object_array *failed;
    bool up = strcmp(state, "up") == 0;

    msgpack_unpacked_init(&reply);
    mp_init(&m);
    mp_map(&m, up ? 6 : 5);
    mp_key(&m, "nodes");
    mp_array(&m, 1);
    mp_int(&m, j->node);
    mp_kstr(&m, "state", state);
    mp_kstr(&m, "why", why);
    mp_kstr(&m, "if_state", "boot");
    mp_kstr(&m, "if_space", j->space);
    if (up)
        mp_kuint(&m, "mode", 0111);
    if (!g || gate_call(g, "nodemgr.set", &m, TELL_MS, &reply, err) < 0 ||
        mp_get_array(&reply.data, "failed", &failed, err) < 0)
        return -1;
    if (failed->size == 0)
        return 0;
    const msgpack_object *row = &failed->ptr[0];
    CLEANUP(cleanup_free) char *text =
        row->type == MSGPACK_OBJECT_ARRAY && row->via.array.size > 2 ? mp_dup(&row->via.array.ptr[2])
                                                                     : NULL;
    return err_set(err, ESTALE, "%s", text ? text : "odd answer");
}

static void settle(struct job *j, const char *state, const char *why)
{
    struct err err = { 0 };
    char text[400];

    if (set_state(j, state, why, &err) == 0)
        snprintf(text, sizeof text, "--- node %d is %s: %s", j->node, state, why);
    else
        snprintf(text, sizeof text, "--- node %d is left as it is: %.300s", j->node, err.text);
    say(j, text);
}

/* How it ended, in a line of at most what nodemgr keeps. */
static void reason(const struct job *j, int status, char out[200])
{
    char how[60];

    if (WIFSIGNALED(status))
        snprintf(how, sizeof how, "was killed by signal %d", WTERMSIG(status));
    else
        snprintf(how, sizeof how, "ended with status %d", WEXITSTATUS(status));
    snprintf(out, 199, "node_up %s%s%.120s", how, j->last[0] ? ": " : "", j->last);
    for (char *p = out; *p; p++)
        if ((unsigned char)*p < ' ')
            *p = ' ';
}

static int work(struct job *j, struct err *err)
{
    char text[PATH_MAX + 64], why[200];
    int status = 0;

    if (lock(j, err) < 0 || open_log(j, err) < 0)
        return err->code == EBUSY ? EXIT_BUSY : 1;
    choose(j);
    snprintf(text, sizeof text, "--- %s of node %d: %s", j->down ? "node_down" : "node_up",
             j->node, j->builtin ? "the built-in one" : j->script);
    say(j, text);
    int64_t begun = now_ms();
    if (run(j, &status, err) < 0) {
        settle(j, "error", err->text);
        return 1;
    }
    snprintf(text, sizeof text, "--- it took %.3f s", (double)(now_ms() - begun) / 1000);
    say(j, text);
    if (j->down || status < 0)
        return j->down ? status != 0 : EXIT_LOST;
    if (status == 0) {
        settle(j, "up", "set up");
        return 0;
    }
    reason(j, status, why);
    settle(j, "error", why);
    return 1;
}

int main(int argc, char **argv)
{
    struct job j = { .node = -1 };
    struct err err = { 0 };
    char *end;
    int c;

    while ((c = getopt_long(argc, argv, "hV", longopts, NULL)) != -1) {
        switch (c) {
        case 'n':
            j.node = (int)strtol(optarg, &end, 10);
            if (end == optarg || *end || j.node < 0) {
                fprintf(stderr, "bpsetup: --node %s: want a node's number\n", optarg);
                return 2;
            }
            break;
        case 's': j.space = optarg; break;
        case 'c': j.config = optarg; break;
        case 'd': j.down = optarg; break;
        case 'h': fputs(usage, stdout); return 0;
        case 'V': puts("bpsetup " CM_VERSION); return 0;
        default: fputs(usage, stderr); return 2;
        }
    }
    if (optind < argc || j.node < 0 || !j.space || !j.config) {
        fputs(usage, stderr);
        return 2;
    }
    snprintf(j.text, sizeof j.text, "%d", j.node);
    signal(SIGPIPE, SIG_IGN);
    int rc = work(&j, &err);
    if (err.code)
        fprintf(stderr, "bpsetup: %s\n", err.text);
    return rc;
}
