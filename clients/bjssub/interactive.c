/* interactive.c - wait for the nodes, run the command here, say how it ended
 *
 * The command has our terminal. We are the reaper of all that it starts, so
 * that nothing of it is left when it has ended, or when sched ends it.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/kin.h"
#include "bus/loop.h"
#include "bus/rundir.h"
#include "clients/bjssub/bjssub.h"

#define ASK_MS 30000
#define AGAIN_MS 1000
#define WHY_MS 2000
#define TWICE_MS 2000   /* Ctrl-C again within this leaves */
#define KILL_MS 5000
#define LOOK_MS 10

struct session {
    gate_t *g;
    int64_t job;
    int sigfd;
    int64_t asked_to_stop; /* now_ms() of the last Ctrl-C, TERM or HUP; 0: none */
    bool why_said;
    char *nodes;
};

static int open_signals(sigset_t *old, struct err *err)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, old);
    signal(SIGQUIT, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? err_set(err, errno, "signalfd: %s", strerror(errno)) : fd;
}

static int next_signal(int fd)
{
    struct signalfd_siginfo si;

    return read(fd, &si, sizeof si) == sizeof si ? (int)si.ssi_signo : 0;
}

static void call(struct session *s, const char *topic, mp_buf *m)
{
    msgpack_unpacked reply;
    struct err err = { 0 };

    msgpack_unpacked_init(&reply);
    if (gate_call(s->g, topic, m, ASK_MS, &reply, &err) < 0)
        fprintf(stderr, "bjssub: job %lld: %s\n", (long long)s->job, err.text);
    msgpack_unpacked_destroy(&reply);
}

static void give_up(struct session *s)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 2);
    mp_kstr(&m, "action", "remove");
    mp_key(&m, "jobs");
    mp_array(&m, 1);
    mp_int(&m, s->job);
    call(s, "sched.control", &m);
}

/* Somebody at a terminal wonders. */
static void say_why(struct session *s)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    const msgpack_object_array *lines;

    s->why_said = true;
    mp_init(&m);
    msgpack_unpacked_init(&reply);
    mp_map(&m, 1);
    mp_kint(&m, "job", s->job);
    if (gate_call(s->g, "sched.why", &m, AGAIN_MS, &reply, NULL) < 0 ||
        mp_get_array(&reply.data, "lines", &lines, NULL) < 0)
        return;
    for (uint32_t i = 0; i < lines->size; i++) {
        CLEANUP(cleanup_free) char *text = mp_dup(&lines->ptr[i]);
        if (text)
            fprintf(stderr, "bjssub: %s\n", text);
    }
}

/* Ctrl-C once says what it would do, twice does it. True: leave. */
static bool stop_asked(struct session *s, int sig)
{
    bool twice = s->asked_to_stop && now_ms() - s->asked_to_stop < TWICE_MS;

    s->asked_to_stop = now_ms();
    if (sig != SIGINT || twice)
        return true;
    fprintf(stderr, "\nbjssub: job %lld still waits for its nodes; Ctrl-C again gives it up\n",
            (long long)s->job);
    return false;
}

/* 1: it runs; 0: it has ended; -1: we were told to leave, or *err. */
static int take_answer(struct session *s, const struct gate_msg *m, struct err *err)
{
    if (m->w.kind == WIRE_ERROR) {
        CLEANUP(cleanup_free) char *text = NULL;
        if (m->u.data.type == MSGPACK_OBJECT_ARRAY && m->u.data.via.array.size > 1)
            text = mp_dup(&m->u.data.via.array.ptr[1]);
        return err_set(err, EIO, "%s", text ? text : "the answer was not understood");
    }
    if (!mp_is(mp_get(&m->u.data, "state"), "running")) {
        CLEANUP(cleanup_free) char *why = mp_opt_dup(&m->u.data, "why");
        return err_set(err, ECANCELED, "job %lld: %s", (long long)s->job,
                       why && *why ? why : "it has ended");
    }
    s->nodes = mp_opt_dup(&m->u.data, "nodes");
    return s->nodes ? 1 : err_set(err, EPROTO, "the answer was not understood");
}

static bool service_away(const struct gate_msg *m)
{
    int64_t code;

    return m->w.kind == WIRE_ERROR && m->u.data.type == MSGPACK_OBJECT_ARRAY &&
           m->u.data.via.array.size > 0 && mp_as_int(&m->u.data.via.array.ptr[0], &code) &&
           (code == ECONNREFUSED || code == EAGAIN || code == ETIMEDOUT);
}

static int wait_nodes(struct session *s, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    int64_t begun = now_ms(), sent = 0;
    uint64_t id = 0;

    mp_init(&m);
    mp_map(&m, 1);
    mp_kint(&m, "job", s->job);
    for (;;) {
        struct gate_msg msg;
        struct err lost = { 0 };
        int sig;

        if (gate_fd(s->g) < 0 && gate_reopen(s->g, ASK_MS, err) < 0)
            return -1;
        if (now_ms() - sent >= AGAIN_MS) { /* the same question, under the same id */
            gate_send(s->g, "sched.wait", &m, 86400000, &id, &lost);
            sent = now_ms();
        }
        struct pollfd fds[] = { { .fd = s->sigfd, .events = POLLIN },
                                { .fd = gate_fd(s->g), .events = POLLIN } };
        poll(fds, 2, 500);
        while ((sig = next_signal(s->sigfd)))
            if (sig != SIGCHLD && stop_asked(s, sig)) {
                give_up(s);
                return err_set(err, EINTR, "job %lld was given up", (long long)s->job);
            }
        int n = gate_recv(s->g, 0, &msg, &lost);
        if (n < 0 && gate_reopen(s->g, ASK_MS, err) < 0)
            return -1;
        if (n < 0)
            sent = 0;
        if (n > 0) {
            bool ours = msg.w.id == id && !service_away(&msg);
            int rc = ours && (msg.w.kind == WIRE_REPLY || msg.w.kind == WIRE_ERROR)
                         ? take_answer(s, &msg, err) : 0;
            gate_msg_clear(&msg);
            if (rc)
                return rc;
        }
        if (!s->why_said && now_ms() - begun >= WHY_MS && isatty(2))
            say_why(s);
    }
}

/* ---- the command ---- */

static void set_number(const char *name, int64_t v)
{
    char text[24];

    snprintf(text, sizeof text, "%lld", (long long)v);
    if (v > 0)
        setenv(name, text, 1);
    else
        unsetenv(name);
}

static void child(const struct session *s, const struct options *o, const sigset_t *old)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody would end it then */
    signal(SIGQUIT, SIG_DFL);
    sigprocmask(SIG_SETMASK, old, NULL);
    setenv("NODES", s->nodes, 1);
    set_number("JOBID", s->job);
    set_number("JOBATTEMPT", 0); /* there is but one */
    set_number("JOBCPUS", o->cpus);
    set_number("JOBMEM", o->mem_mb);
    setenv("CM_RUNDIR", cm_rundir(), 1);
    if (chdir(job_dir(o)) < 0) {
        fprintf(stderr, "bjssub: %s: %s\n", job_dir(o), strerror(errno));
        _exit(127);
    }
    execl(job_shell(), job_shell(), "-c", o->command, (char *)NULL);
    fprintf(stderr, "bjssub: %s: %s\n", job_shell(), strerror(errno));
    _exit(127);
}

/* Take the dead; the command's own end goes to *status. True: nobody is left. */
static bool reap(pid_t command, int *status, bool *ended)
{
    for (;;) {
        int st;
        pid_t pid = waitpid(-1, &st, WNOHANG);
        if (pid == 0)
            return false;
        if (pid < 0)
            return errno == ECHILD;
        if (pid == command) {
            *status = st;
            *ended = true;
        }
    }
}

static int run(struct session *s, const struct options *o, const sigset_t *old)
{
    bool ended = false;
    int status = 127 << 8, sig;
    int64_t kill_at = 0;

    prctl(PR_SET_CHILD_SUBREAPER, 1);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        child(s, o, old);
    if (pid < 0) {
        fprintf(stderr, "bjssub: start a process: %s\n", strerror(errno));
        return status;
    }
    s->asked_to_stop = 0;
    while (!reap(pid, &status, &ended)) {
        if (ended || (kill_at && now_ms() >= kill_at))
            kin_signal(getpid(), 0, SIGKILL); /* what it has left */
        struct pollfd fd = { .fd = s->sigfd, .events = POLLIN };
        poll(&fd, 1, ended ? LOOK_MS : kill_at ? 100 : -1);
        while ((sig = next_signal(s->sigfd))) {
            bool twice = s->asked_to_stop && now_ms() - s->asked_to_stop < TWICE_MS;
            if (sig == SIGCHLD)
                continue;
            s->asked_to_stop = now_ms();
            if (sig == SIGINT && !twice)
                continue; /* the command got it too: it is its own affair */
            kin_signal(getpid(), 0, SIGTERM);
            if (!kill_at)
                kill_at = now_ms() + KILL_MS;
        }
    }
    return status;
}

static void report(struct session *s, int status)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    struct err err = { 0 };
    struct rusage u;

    mp_init(&m);
    msgpack_unpacked_init(&reply);
    getrusage(RUSAGE_CHILDREN, &u);
    mp_map(&m, 5);
    mp_kint(&m, "job", s->job);
    mp_kint(&m, "status", status & 0xffff);
    mp_kint(&m, "utime", u.ru_utime.tv_sec * 1000000LL + u.ru_utime.tv_usec);
    mp_kint(&m, "stime", u.ru_stime.tv_sec * 1000000LL + u.ru_stime.tv_usec);
    mp_kint(&m, "maxrss", u.ru_maxrss);
    if (gate_call(s->g, "sched.ended", &m, ASK_MS, &reply, &err) < 0) {
        fprintf(stderr, "bjssub: job %lld: its end is not noted: %s\n", (long long)s->job,
                err.text);
        return;
    }
    CLEANUP(cleanup_free) char *why = mp_opt_dup(&reply.data, "why");
    if (why && *why)
        fprintf(stderr, "bjssub: job %lld: %s\n", (long long)s->job, why);
}

static void say_nodes(const struct session *s)
{
    printf("(nodes %lld", (long long)s->job);
    putchar(' ');
    for (const char *p = s->nodes; *p; p++)
        putchar(*p == ',' ? ' ' : *p);
    printf(")\nStarting interactive job.\nNODES=%s\nJOBID=%lld\n", s->nodes, (long long)s->job);
    fflush(stdout);
}

int interactive(gate_t *g, const struct options *o, int64_t job)
{
    struct session s = { .g = g, .job = job };
    struct err err = { 0 };
    sigset_t old;

    s.sigfd = open_signals(&old, &err);
    if (s.sigfd < 0) {
        fprintf(stderr, "bjssub: %s\n", err.text);
        return 1;
    }
    puts("Waiting for interactive job nodes.");
    fflush(stdout);
    if (wait_nodes(&s, &err) < 0) {
        fprintf(stderr, "bjssub: %s\n", err.text);
        free(s.nodes);
        return err.code == EINTR ? 130 : 1;
    }
    say_nodes(&s);
    int status = run(&s, o, &old);
    report(&s, status);
    free(s.nodes);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
