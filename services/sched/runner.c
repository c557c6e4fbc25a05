/* runner.c - one batch job on the master, from its start to its report (starter.h) */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/kin.h"
#include "bus/loop.h"
#include "bus/mp.h"
#include "bus/pkt.h"
#include "bus/rundir.h"
#include "services/sched/starter.h"

#define RETRY_MS 200
#define LOOK_MS 5          /* for what the command has left behind */
#define LOOK_MAX_MS 200
#define PIPE_MS 10000      /* for the command that takes the output, at the end */
#define SCRIPT_FD 9        /* where a script is read from */

struct runner {
    const msgpack_object *job;
    uint64_t id;
    uint32_t attempt;
    pid_t main, consumer; /* 0: none, or ended */
    int sched, sigfd;
    int status;
    int64_t started, ended, consumer_until, look_at, look_ms;
    char why[512]; /* it could not be started */
    bool over, killing, reported;
};

/* ---- the child: becomes the user, then the command ---- */

struct child {
    struct runner *r;
    int why_fd; /* closed by exec */
    char **env;
};

__attribute__((noreturn))
static void die(const struct child *c, const char *what)
{
    char text[400];
    int n = snprintf(text, sizeof text, "%.300s: %s", what, strerror(errno));

    if (write(c->why_fd, text, (size_t)n) < 0)
        _exit(126);
    _exit(127);
}

static char **list_dup(const msgpack_object *map, const char *key, uint32_t more)
{
    const msgpack_object_array *a = NULL;
    uint32_t n = mp_get_array(map, key, &a, NULL) == 0 ? a->size : 0, k = 0;
    char **v = calloc(n + more + 1, sizeof(char *));

    if (!v)
        return NULL;
    for (uint32_t i = 0; i < n; i++)
        if ((v[k] = mp_dup(&a->ptr[i])))
            k++;
    return v;
}

/* The submitted environment, and what the job is to know of itself. */
static char **environment(const struct runner *r)
{
    static const char *const ours[] = { "NODES=",   "JOBID=",  "JOBATTEMPT=", "JOBINDEX=",
                                        "JOBARRAY=", "JOBMEM=", "JOBCPUS=",   "CM_RUNDIR=",
                                        "CM_SUPERVISED=" };
    char **v = list_dup(r->job, "env", 11);
    CLEANUP(cleanup_free) char *nodes = mp_opt_dup(r->job, "nodes");
    const char *supervised = getenv("CM_SUPERVISED");
    int64_t index = mp_opt_int(r->job, "index", -1);
    long long cpus = mp_opt_int(r->job, "cpus", 0), mem = mp_opt_int(r->job, "mem_mb", 0);
    uint32_t n = 0, bad = 0;

    for (uint32_t i = 0; v && v[i]; i++) {
        bool mine = false;
        for (size_t k = 0; k < sizeof ours / sizeof *ours; k++)
            mine = mine || strncmp(v[i], ours[k], strlen(ours[k])) == 0;
        if (!mine)
            v[n++] = v[i];
    }
    if (!v)
        return NULL;
    bad += asprintf(&v[n++], "NODES=%s", nodes ? nodes : "") < 0;
    bad += asprintf(&v[n++], "JOBID=%llu", (unsigned long long)r->id) < 0;
    bad += asprintf(&v[n++], "JOBATTEMPT=%u", r->attempt) < 0;
    if (cpus > 0) /* nodes go by these two: what they limit it to */
        bad += asprintf(&v[n++], "JOBCPUS=%lld", cpus) < 0;
    if (mem > 0)
        bad += asprintf(&v[n++], "JOBMEM=%lld", mem) < 0;
    bad += asprintf(&v[n++], "CM_RUNDIR=%s", cm_rundir()) < 0;
    if (supervised) /* so that `clustermatic down' finds what is left of us */
        bad += asprintf(&v[n++], "CM_SUPERVISED=%s", supervised) < 0;
    if (index >= 0) {
        bad += asprintf(&v[n++], "JOBINDEX=%lld", (long long)index) < 0;
        bad += asprintf(&v[n++], "JOBARRAY=%lld",
                        (long long)mp_opt_int(r->job, "array", 0)) < 0;
    }
    v[n] = NULL;
    return bad ? NULL : v;
}

static void become_user(const struct child *c)
{
    const msgpack_object *job = c->r->job;
    uid_t uid = (uid_t)mp_opt_int(job, "uid", -1);
    gid_t gid = (gid_t)mp_opt_int(job, "gid", -1);
    const msgpack_object_array *a = NULL;
    uint32_t n = mp_get_array(job, "groups", &a, NULL) == 0 ? a->size : 0;
    gid_t *groups = calloc(n + 1, sizeof *groups);

    if (!groups)
        die(c, "the groups of the job's user");
    for (uint32_t i = 0; i < n; i++) {
        int64_t g = 0;
        mp_as_int(&a->ptr[i], &g);
        groups[i] = (gid_t)g;
    }
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, "0", 1) < 0)
        errno = 0; /* the service's protection stays: no harm done */
    if (fd >= 0)
        close(fd);
    if (setgroups(n, groups) < 0 || setgid(gid) < 0 || setuid(uid) < 0)
        die(c, "become the job's user");
    /* Its runner is root's: if that is killed, nobody would end the job. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        die(c, "prctl");
}

/* The starter has made all the others plain. */
static void plain_signals(void)
{
    static const int ignored[] = { SIGPIPE, SIGINT, SIGHUP, SIGTERM, SIGCHLD };
    sigset_t none;

    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

__attribute__((noreturn))
static void run_shell(const struct child *c, const char *command)
{
    CLEANUP(cleanup_free) char *shell = mp_opt_dup(c->r->job, "shell");
    const char *sh = shell && *shell ? shell : "/bin/sh";
    char *argv[] = { (char *)(uintptr_t)sh, (char *)(uintptr_t)"-c",
                     (char *)(uintptr_t)command, NULL };

    execve(sh, argv, c->env);
    die(c, sh);
}

/* A script's text: by its own first line, else by the shell. */
__attribute__((noreturn))
static void run_script(const struct child *c, const char *text)
{
    CLEANUP(cleanup_free) char *shell = mp_opt_dup(c->r->job, "shell");
    const char *sh = shell && *shell ? shell : "/bin/sh";
    char path[32];
    char *argv[] = { (char *)(uintptr_t)sh, path, NULL };

    snprintf(path, sizeof path, "/proc/self/fd/%d", SCRIPT_FD);
    if (text[0] == '#' && text[1] == '!') {
        execve(path, argv + 1, c->env);
        die(c, "run the script by its first line");
    }
    execve(sh, argv, c->env);
    die(c, sh);
}

static void open_output(const struct child *c, int pipe_fd)
{
    CLEANUP(cleanup_free) char *output = mp_opt_dup(c->r->job, "output");
    int in = open("/dev/null", O_RDONLY), out = pipe_fd;

    if (pipe_fd < 0) {
        const char *name = output && *output ? output : "/dev/null";
        out = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_NOCTTY, 0666);
        if (out < 0) {
            char what[PATH_MAX + 20];
            snprintf(what, sizeof what, "output %s", name);
            die(c, what);
        }
    }
    if (in < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
        die(c, "/dev/null");
    if (in > 2)
        close(in);
    if (out > 2)
        close(out);
}

static void enter_dir(const struct child *c)
{
    CLEANUP(cleanup_free) char *dir = mp_opt_dup(c->r->job, "dir");

    umask((mode_t)mp_opt_int(c->r->job, "umask", 022) & 0777);
    if (chdir(dir && *dir ? dir : "/") < 0) {
        char what[PATH_MAX + 20];
        snprintf(what, sizeof what, "directory %s", dir && *dir ? dir : "/");
        die(c, what);
    }
}

static int script_file(const char *text, struct err *err)
{
    int fd = memfd_create("job", 0);
    size_t n = strlen(text), done = 0;

    while (fd >= 0 && done < n) {
        ssize_t k = write(fd, text + done, n - done);
        if (k < 0)
            break;
        done += (size_t)k;
    }
    if (fd < 0 || done < n || fchmod(fd, 0755) < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return err_set(err, errno, "the script: %s", strerror(errno));
    return fd;
}

__attribute__((noreturn))
static void child_main(struct child *c, int pipe_fd, int script)
{
    CLEANUP(cleanup_free) char *command = mp_opt_dup(c->r->job, "command");

    setsid();
    plain_signals();
    if (script >= 0 && script != SCRIPT_FD) {
        if (dup2(script, SCRIPT_FD) < 0)
            die(c, "the script");
        close(script);
    }
    become_user(c);
    enter_dir(c);
    open_output(c, pipe_fd);
    if (script >= 0)
        run_script(c, command ? command : "");
    run_shell(c, command ? command : "");
}

/* -O '|COMMAND': it gets what the job writes. */
static void consumer_main(struct child *c, const char *command, int in)
{
    int null = open("/dev/null", O_WRONLY);

    plain_signals();
    become_user(c);
    enter_dir(c);
    if (null < 0 || dup2(in, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
        die(c, "/dev/null");
    close(in);
    if (null > 2)
        close(null);
    run_shell(c, command);
}

/* What a child could not do comes through the pipe; a running one closes it. */
static void read_why(struct runner *r, int fd)
{
    size_t have = strlen(r->why);

    for (;;) {
        ssize_t n = read(fd, r->why + have, sizeof r->why - 1 - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    r->why[have] = 0;
}

static int start_consumer(struct runner *r, struct child *c, const char *command, int *in)
{
    int p[2];

    if (pipe2(p, O_CLOEXEC) < 0)
        return -1;
    r->consumer = fork();
    if (r->consumer == 0) {
        close(p[1]);
        consumer_main(c, command, p[0]);
    }
    close(p[0]);
    *in = p[1];
    if (r->consumer > 0)
        return 0;
    r->consumer = 0;
    close(p[1]);
    *in = -1;
    return -1;
}

/* vfork: the child needs nothing of ours but what it reads until it executes, and
 * a copy of our memory costs as much as all that we do. */
static void start_main(struct runner *r, struct child *c, int out, int script)
{
    pid_t pid = vfork();

    if (pid == 0)
        child_main(c, out, script);
    r->main = pid;
}

static void start(struct runner *r)
{
    CLEANUP(cleanup_free) char *output = mp_opt_dup(r->job, "output");
    CLEANUP(cleanup_free) char *command = mp_opt_dup(r->job, "command");
    struct child c = { .r = r, .env = environment(r) };
    struct err err = { 0 };
    int why[2] = { -1, -1 }, out = -1, script = -1;

    r->started = wall_ms();
    if (mp_opt_bool(r->job, "script", false))
        script = script_file(command ? command : "", &err);
    if (!c.env)
        err_set(&err, ENOMEM, "its environment: %s", strerror(ENOMEM));
    else if (pipe2(why, O_CLOEXEC) < 0)
        err_set(&err, errno, "a pipe: %s", strerror(errno));
    c.why_fd = why[1];
    if (!err.code && output && output[0] == '|' &&
        start_consumer(r, &c, output + 1, &out) < 0)
        err_set(&err, errno, "output %s: %s", output, strerror(errno));
    if (!err.code) {
        start_main(r, &c, out, script);
        if (r->main < 0) {
            err_set(&err, errno, "start a process: %s", strerror(errno));
            r->main = 0;
        }
    }
    if (why[1] >= 0)
        close(why[1]);
    if (out >= 0)
        close(out);
    if (script >= 0)
        close(script);
    if (err.code)
        snprintf(r->why, sizeof r->why, "%s", err.text);
    else
        read_why(r, why[0]);
    if (why[0] >= 0)
        close(why[0]);
    if (r->main <= 0) {
        r->status = 127 << 8;
        r->ended = wall_ms();
        r->over = true;
    }
}

/* ---- sched ---- */

static void connect_sched(struct runner *r)
{
    CLEANUP(mp_free) mp_buf m;
    char path[PATH_MAX];

    mp_init(&m);
    if (r->sched >= 0)
        return;
    r->sched = pkt_connect(sched_path(path, "runners"), NULL);
    if (r->sched < 0)
        return;
    r->reported = false;
    mp_map(&m, 5);
    mp_kuint(&m, "job", r->id);
    mp_kuint(&m, "attempt", r->attempt);
    mp_kint(&m, "pid", getpid());
    mp_kint(&m, "sid", r->main);
    mp_kint(&m, "started", r->started);
    if (pkt_send(r->sched, m.b.data, m.b.size, NULL, 0, NULL) < 0)
        cleanup_close(&r->sched);
}

static void report(struct runner *r)
{
    CLEANUP(mp_free) mp_buf m;
    struct rusage u;

    mp_init(&m);
    if (r->sched < 0 || r->reported)
        return;
    getrusage(RUSAGE_CHILDREN, &u);
    mp_map(&m, r->why[0] ? 8 : 7);
    mp_kuint(&m, "job", r->id);
    mp_kuint(&m, "attempt", r->attempt);
    mp_kint(&m, "ended", r->ended);
    mp_kint(&m, "status", r->status);
    mp_kint(&m, "utime", u.ru_utime.tv_sec * 1000000LL + u.ru_utime.tv_usec);
    mp_kint(&m, "stime", u.ru_stime.tv_sec * 1000000LL + u.ru_stime.tv_usec);
    mp_kint(&m, "maxrss", u.ru_maxrss);
    if (r->why[0])
        mp_kbin(&m, "why", r->why, strlen(r->why));
    if (pkt_send(r->sched, m.b.data, m.b.size, NULL, 0, NULL) < 0)
        cleanup_close(&r->sched);
    else
        r->reported = true;
}

static void hear(struct runner *r)
{
    msgpack_unpacked u;
    struct pkt p;
    int rc = pkt_recv(r->sched, &p, NULL);

    if (rc <= 0) {
        if (rc == 0 || errno != EINTR)
            cleanup_close(&r->sched);
        return;
    }
    msgpack_unpacked_init(&u);
    if (mp_decode(&u, p.data, p.len, NULL) == 0) {
        int64_t sig = mp_opt_int(&u.data, "sig", 0);
        if (mp_opt_bool(&u.data, "ack", false))
            _exit(0);
        if (sig > 0 && sig < NSIG)
            kin_signal(getpid(), r->consumer, (int)sig);
        if (mp_opt_bool(&u.data, "kill", false)) {
            r->killing = true;
            r->look_at = 0;
        }
    }
    msgpack_unpacked_destroy(&u);
    pkt_clear(&p);
}

/* ---- ends ---- */

/* Take the dead. True: none of ours is left. */
static bool reap(struct runner *r)
{
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid < 0)
            return true;
        if (pid == 0)
            return false;
        if (pid == r->main) {
            r->status = status;
            r->main = 0;
            r->look_at = 0;
            if (!r->ended)
                r->ended = wall_ms();
        } else if (pid == r->consumer) {
            r->consumer = 0;
        }
    }
}

/* The command has ended, or is to: end all that it has started. */
static void end_rest(struct runner *r)
{
    int64_t now = now_ms();

    if (now < r->look_at)
        return;
    pid_t spare = r->consumer;
    if (r->main == 0 && r->consumer && !r->consumer_until)
        r->consumer_until = now + PIPE_MS;
    if (r->consumer_until && now > r->consumer_until)
        spare = 0;
    int n = kin_signal(getpid(), spare, SIGKILL);
    r->look_ms = n == 0 ? LOOK_MAX_MS : r->look_ms ? r->look_ms * 2 : LOOK_MS;
    if (r->look_ms > LOOK_MAX_MS)
        r->look_ms = LOOK_MAX_MS;
    r->look_at = now + r->look_ms;
}

static int patience(const struct runner *r)
{
    int64_t left = -1;

    if (r->sched < 0)
        left = RETRY_MS;
    if (!r->over && (r->main == 0 || r->killing)) {
        int64_t look = r->look_at - now_ms();
        look = look > 0 ? look : 0;
        left = left < 0 || look < left ? look : left;
    }
    return (int)left;
}

static void watch(struct runner *r)
{
    struct signalfd_siginfo si;

    for (;;) {
        if (!r->over && reap(r))
            r->over = true;
        if (!r->over && (r->main == 0 || r->killing))
            end_rest(r);
        connect_sched(r);
        if (r->over)
            report(r);
        struct pollfd fds[] = { { .fd = r->sigfd, .events = POLLIN },
                                { .fd = r->sched, .events = POLLIN } };
        poll(fds, 2, patience(r));
        while (fds[0].revents && read(r->sigfd, &si, sizeof si) == sizeof si)
            ;
        if (fds[1].revents && r->sched >= 0)
            hear(r);
    }
}

/* ---- begin ---- */

/* One runner for each attempt, ever: who makes the file is it. */
static bool only_one(const struct runner *r, const char *gate)
{
    char path[PATH_MAX], mine[PATH_MAX + 32], text[32];

    sched_lock_path(path, r->id, r->attempt);
    snprintf(mine, sizeof mine, "%s/%d", gate, (int)getpid());
    int fd = open(mine, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
        return false;
    int n = snprintf(text, sizeof text, "%d\n", (int)getpid());
    bool good = write(fd, text, (size_t)n) == n && link(mine, path) == 0;
    unlink(mine);
    return good; /* fd stays open: it is the lock */
}

void runner_main(const msgpack_object *job, const char *gate)
{
    struct runner r = { .job = job, .sched = -1 };
    char name[16];
    sigset_t set;

    r.id = (uint64_t)mp_opt_int(job, "job", 0);
    r.attempt = (uint32_t)mp_opt_int(job, "attempt", 0);
    snprintf(name, sizeof name, "bjs-job %llu", (unsigned long long)r.id);
    prctl(PR_SET_NAME, name);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGCHLD, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    setpgid(0, 0);
    r.sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (r.sigfd < 0 || !only_one(&r, gate))
        _exit(1);
    start(&r);
    watch(&r);
    _exit(0);
}
