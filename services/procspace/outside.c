/* outside.c - bpmove(1): processes that are moved, and know nothing of it
 *
 * The work (mover/) is done where the process runs: on a node by its bpinit, on
 * the master by the program bpmover. From there all goes the road of a process
 * that moves itself (move.c): this file only says who may, and where it is. A bpmover
 * that died leaves a note, RUN/held.PID: another one ends what it has begun.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "services/procspace/procspace.h"

#define MOVE_MS 180000
#define LOOK_MS 2000
#define RESULT_MAX (256u * 1024)

struct outside {
    procspace_t *ps;
    svc_token *token;
    pid_t pid; /* on the master: whose bpmover this is */
    int node; /* where it is */
    int fd;   /* what bpmover says */
    char *text;
    size_t got;
};

static void answer(struct outside *o, const msgpack_object *value)
{
    CLEANUP(cleanup_free) char *text = mp_opt_dup(value, "text");
    const msgpack_object *rows = mp_get(value, "hindrances");
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 4);
    mp_kint(&m, "node", o->node);
    mp_kint(&m, "code", mp_opt_int(value, "code", EPROTO));
    mp_kstr(&m, "text", text ? text : "");
    mp_key(&m, "hindrances");
    if (rows && rows->type == MSGPACK_OBJECT_ARRAY)
        mp_obj(&m, rows);
    else
        mp_array(&m, 0);
    svc_answer(o->ps->svc, o->token, &m);
}

static void answer_there(mp_buf *m, int64_t pid, int node)
{
    char text[80];

    if (node < 0)
        snprintf(text, sizeof text, "process %d is on the master already", (int)pid);
    else
        snprintf(text, sizeof text, "process %d is on node %d already", (int)pid, node);
    mp_map(m, 4);
    mp_kint(m, "node", node);
    mp_kint(m, "code", 0);
    mp_kstr(m, "text", text);
    mp_key(m, "hindrances");
    mp_array(m, 0);
}

/* --- on a node --- */

static void on_node_word(void *arg, const msgpack_object *value, const struct err *err)
{
    struct outside *o = arg;

    if (value)
        answer(o, value);
    else
        svc_fail(o->ps->svc, o->token, err);
    free(o);
}

static int ask_node(struct outside *o, const struct proc *p, const struct svc_req *req, int to)
{
    CLEANUP(mp_free) mp_buf m;
    char topic[48];

    mp_init(&m);
    mp_map(&m, p->kid ? 6 : 5);
    if (p->kid)
        mp_kint(&m, "npid", kid_npid(p->kid));
    mp_kint(&m, "pid", p->pid);
    mp_kuint(&m, "launch", p->launch->id);
    mp_kint(&m, "to", to);
    mp_kbool(&m, "check", mp_opt_bool(req->body, "check", false));
    mp_kbool(&m, "no_input", mp_opt_bool(req->body, "no_input", false));
    snprintf(topic, sizeof topic, "node.%d.move", p->node);
    svc_call(o->ps->svc, topic, &m, MOVE_MS, on_node_word, o);
    return SVC_LATER;
}

/* --- on the master --- */

/* Has a bpmover of this process died that had begun something? */
static bool left_behind(pid_t pid)
{
    char path[PATH_MAX], name[32];

    snprintf(name, sizeof name, "held.%d", (int)pid);
    CLEANUP(cleanup_close) int fd = open(cm_path(path, name), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
}

static int run_ender(struct outside *o, struct err *err);

static void over(struct outside *o)
{
    msgpack_unpacked u;
    struct err err = { 0 };

    loop_fd_del(o->ps->loop, o->fd);
    close(o->fd);
    if (o->got == 0 && left_behind(o->pid) && run_ender(o, &err) == 0)
        return;
    msgpack_unpacked_init(&u);
    if (o->got == 0)
        err_set(&err, EIO, "bpmover has ended");
    if (!o->token)
        svc_log("info", "process %d: its bpmover had died: ended by another", (int)o->pid);
    else if (!err.code && mp_decode(&u, o->text, o->got, &err) == 0)
        answer(o, &u.data);
    else
        svc_fail(o->ps->svc, o->token, &err);
    msgpack_unpacked_destroy(&u);
    free(o->text);
    free(o);
}

static void on_said(void *arg, int fd, uint32_t events)
{
    struct outside *o = arg;
    ssize_t n = read(fd, o->text + o->got, RESULT_MAX - o->got);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        o->got += (size_t)n;
    else
        over(o);
}

/* As nobody's child: it goes on if we are restarted. System calls only. */
static int start(const char *prog, char *const *argv, int out)
{
    int status = 0;
    pid_t between = fork();

    if (between == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        if (fork() == 0) {
            setsid();
            if (dup2(out, STDOUT_FILENO) >= 0)
                execv(prog, argv);
            _exit(127);
        }
        _exit(0);
    }
    while (between > 0 && waitpid(between, &status, 0) < 0 && errno == EINTR)
        continue;
    return between < 0 ? -1 : 0;
}

static int run(struct outside *o, const char *prog, char *const *argv, struct err *err)
{
    int p[2] = { -1, -1 };

    if (pipe2(p, O_CLOEXEC) < 0)
        return err_set(err, errno, "pipe: %s", strerror(errno));
    o->fd = p[0];
    int rc = fcntl(p[0], F_SETFL, O_NONBLOCK);
    if (rc == 0)
        rc = loop_fd(o->ps->loop, p[0], EPOLLIN, on_said, o, err);
    if (rc == 0 && start(prog, argv, p[1]) < 0) {
        rc = err_set(err, errno, "bpmover: %s", strerror(errno));
        loop_fd_del(o->ps->loop, p[0]);
    }
    close(p[1]);
    if (rc < 0)
        close(p[0]);
    return rc;
}

static int run_ender(struct outside *o, struct err *err)
{
    char prog[PATH_MAX], name[] = "bpmover", end[] = "-e", who[16];
    char *argv[] = { name, end, who, NULL };

    snprintf(prog, sizeof prog, "%.4000s/bpmover", cm_libexec());
    snprintf(who, sizeof who, "%d", (int)o->pid);
    return run(o, prog, argv, err);
}

/* Of those that have died, and whose procspace has too: nobody waits for their word. */
static void look_behind(void *arg)
{
    procspace_t *ps = arg;
    DIR *d = opendir(cm_rundir());
    struct dirent *e;
    int pid;

    while (d && (e = readdir(d))) {
        struct err err = { 0 };
        if (sscanf(e->d_name, "held.%d", &pid) != 1 || pid < 2 || !left_behind(pid))
            continue;
        struct outside *o = calloc(1, sizeof *o);
        if (o)
            *o = (struct outside){ .ps = ps, .pid = pid, .fd = -1, .text = malloc(RESULT_MAX) };
        if (o && o->text && run_ender(o, &err) == 0)
            continue;
        if (o)
            free(o->text);
        free(o);
    }
    if (d)
        closedir(d);
}

void outside_open(procspace_t *ps) { loop_timer(ps->loop, LOOK_MS, true, look_behind, ps); }

static int run_mover(struct outside *o, pid_t pid, const struct svc_req *req, int to,
                     struct err *err)
{
    char prog[PATH_MAX], who[16], where[16], like[16];
    char name[] = "bpmover", look[] = "-c", empty[] = "-n", end[] = "--";
    char *argv[8], **a = argv;

    snprintf(prog, sizeof prog, "%.4000s/bpmover", cm_libexec());
    snprintf(who, sizeof who, "%d", (int)pid);
    snprintf(where, sizeof where, "%d", to);
    snprintf(like, sizeof like, "-l%d", (int)req->w->pid);
    *a++ = name;
    *a++ = like;
    if (mp_opt_bool(req->body, "check", false))
        *a++ = look;
    if (mp_opt_bool(req->body, "no_input", false))
        *a++ = empty;
    *a++ = end;
    *a++ = who;
    *a++ = where;
    *a = NULL;
    o->pid = pid;
    o->text = malloc(RESULT_MAX);
    if (!o->text)
        return err_set(err, ENOMEM, "out of memory");
    return run(o, prog, argv, err) < 0 ? -1 : SVC_LATER;
}

/* --- procspace.move --- */

static int owner_of(pid_t pid, int64_t *uid, struct err *err)
{
    char path[64], line[256];
    long long u = -1;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && u < 0 && fgets(line, sizeof line, f))
        if (sscanf(line, "Uid: %lld", &u) == 1)
            break;
    if (f)
        fclose(f);
    *uid = u;
    return u < 0 ? err_set(err, ESRCH, "there is no process %d", (int)pid) : 0;
}

static int not_yours(pid_t pid, struct err *err)
{
    return err_set(err, EPERM, "process %d is another user's", (int)pid);
}

static int on_known(struct outside *o, struct proc *p, struct svc_req *req, int64_t uid, int to,
                    bool check, struct err *err)
{
    if (p->kid && kid_body(p->kid)) /* it stands for that one */
        p = kid_body(p->kid);
    o->node = p->node;
    if (uid != 0 && uid != p->uid)
        return not_yours(p->pid, err);
    if (p->state == PROC_STARTING)
        return err_set(err, EAGAIN, "process %d is being started, or moves", (int)p->pid);
    if (p->state != PROC_RUNNING)
        return err_set(err, ESRCH, "process %d has ended", (int)p->pid);
    if (!check && to == p->node) {
        answer_there(req->reply, p->pid, p->node);
        return 0;
    }
    return ask_node(o, p, req, to);
}

static int on_ours(struct outside *o, pid_t pid, struct svc_req *req, int64_t uid, int to,
                   bool check, struct err *err)
{
    int64_t owner;
    uint64_t launch;

    o->node = -1;
    if (owner_of(pid, &owner, err) < 0)
        return -1;
    if (uid != 0 && uid != owner)
        return not_yours(pid, err);
    CLEANUP(cleanup_close) int ghost = ghost_take(pid, owner, &launch, NULL);
    if (ghost >= 0)
        return err_set(err, EAGAIN, "process %d is a stand-in whose process is not known (yet)",
                       (int)pid);
    if (!check && to < 0) {
        answer_there(req->reply, pid, -1);
        return 0;
    }
    return run_mover(o, pid, req, to, err);
}

/* procspace.move: {pid, to?, check?, no_input?} -> {node, code, text, hindrances:
 * [[what, text]...]}: it has gone there (code 0), or could; node: where it was */
int on_move_outside(void *self, struct svc_req *req, struct err *err)
{
    procspace_t *ps = self;
    bool check = mp_opt_bool(req->body, "check", false);
    struct identity who;
    int64_t pid, to = -1;

    if (mp_get_int(req->body, "pid", 1, INT32_MAX, &pid, err) < 0 ||
        (!check && mp_get_int(req->body, "to", -1, INT32_MAX, &to, err) < 0) ||
        identity_of(req->w, &who, err) < 0)
        return -1;
    int64_t uid = who.uid;
    identity_free(&who);
    struct outside *o = calloc(1, sizeof *o);
    if (!o)
        return err_set(err, ENOMEM, "out of memory");
    *o = (struct outside){ .ps = ps, .token = req->token, .fd = -1 };
    struct proc *p = proc_find(ps, (pid_t)pid);
    int rc = p && !p->left && !p->real
                 ? on_known(o, p, req, uid, (int)to, check, err)
                 : on_ours(o, (pid_t)pid, req, uid, (int)to, check, err);
    if (rc != SVC_LATER) {
        free(o->text);
        free(o);
    }
    return rc;
}
