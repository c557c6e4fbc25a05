/* setup.c - node_up, node_down: who waits, who runs, how many at once
 *
 * Each run is a bpsetup of its own, which keeps the log, runs the script and
 * tells nodemgr how it ended. It goes on when this service is restarted: a
 * lock (RUN/node_up/N) says that it lives, and is what the new one looks for.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "services/bootsrv/bootsrv.h"
#include "services/bootsrv/machines.h"

extern char **environ;

#define SPACE_LEN 64
#define LOOK_MS 10000
#define LOOK_AGAIN_MS 1000

enum phase { WAITS, RUNS, ENDS }; /* ENDS: told to stop */

struct run {
    int node;
    char space[SPACE_LEN + 1];
    enum phase phase;
    bool down; /* node_down; why is the reason */
    char why[200];
    pid_t pid;
    int pidfd; /* -1: not running */
    int64_t begun;
    struct run *next;
};

struct setup {
    bootsrv_t *b;
    struct run *first, **last; /* in the order in which they came */
    int running, at_once;
};

static void go_on(setup_t *s);

/* ---- the list ---- */

static struct run *find(setup_t *s, int node, const char *space, bool down)
{
    for (struct run *r = s->first; r; r = r->next)
        if (r->node == node && r->down == down && (!space || strcmp(r->space, space) == 0))
            return r;
    return NULL;
}

static struct run *add(setup_t *s, int node, const char *space, bool down)
{
    struct run *r = calloc(1, sizeof *r);

    if (!r)
        return NULL;
    r->node = node;
    r->down = down;
    r->pidfd = -1;
    snprintf(r->space, sizeof r->space, "%s", space);
    *s->last = r;
    s->last = &r->next;
    return r;
}

static void drop(setup_t *s, struct run *gone)
{
    struct run **link = &s->first;

    while (*link != gone)
        link = &(*link)->next;
    *link = gone->next;
    if (!*link)
        s->last = link;
    if (gone->pidfd >= 0) {
        loop_fd_del(s->b->loop, gone->pidfd);
        close(gone->pidfd);
        s->running--;
    }
    free(gone);
}

/* ---- the end of a run ---- */

/* A bpsetup that could not tell nodemgr itself. */
static void on_told(void *arg, const msgpack_object *value, const struct err *err)
{
    (void)arg;
    if (!value)
        svc_log("warning", "a failed node_up could not be told to nodemgr: %s", err->text);
}

static void tell_failed(setup_t *s, const struct run *r, const char *why)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 5);
    mp_key(&m, "nodes");
    mp_array(&m, 1);
    mp_int(&m, r->node);
    mp_kstr(&m, "state", "error");
    mp_kstr(&m, "why", why);
    mp_kstr(&m, "if_state", "boot");
    mp_kstr(&m, "if_space", r->space);
    svc_call(s->b->svc, "nodemgr.set", &m, 60000, on_told, NULL);
}

/* One of another life of ours: how it ended is not ours to know. */
static void look_again(bootsrv_t *b, int node);

static void on_end(void *arg, int fd, uint32_t events)
{
    setup_t *s = arg;
    struct run *r = s->first;
    siginfo_t si = { 0 };
    int status = 0;

    (void)events;
    while (r && r->pidfd != fd)
        r = r->next;
    if (!r)
        return;
    bool ours = waitid(P_PIDFD, (id_t)fd, &si, WEXITED) == 0;
    if (ours && si.si_code != CLD_EXITED)
        status = 128 + si.si_status;
    else if (ours)
        status = si.si_status;
    svc_log(status ? "warning" : "info", "%s of node %d has ended%s", r->down ? "node_down" : "node_up",
            r->node, !ours ? "" : status == 0 ? ": all is well" : ": it failed, see the node's log");
    if (ours && status >= 128 && !r->down && r->phase == RUNS) {
        char why[100];
        snprintf(why, sizeof why, "node_up's keeper was killed by signal %d", status - 128);
        tell_failed(s, r, why);
    }
    int node = r->node;
    drop(s, r);
    if (!ours)
        look_again(s->b, node);
    go_on(s);
}

static int watch(setup_t *s, struct run *r, pid_t pid, struct err *err)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    if (fd < 0)
        return err_set(err, errno, "pid %d: %s", (int)pid, strerror(errno));
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (loop_fd(s->b->loop, fd, EPOLLIN, on_end, s, err) < 0) {
        close(fd);
        return -1;
    }
    r->pid = pid;
    r->pidfd = fd;
    r->phase = RUNS;
    r->begun = wall_ms();
    s->running++;
    return 0;
}

/* ---- the start of one ---- */

/* Who holds the lock of this node: 0 nobody. */
static pid_t holder(int node)
{
    char path[PATH_MAX], name[32];
    struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

    snprintf(name, sizeof name, "node_up/%d", node);
    CLEANUP(cleanup_close) int fd = open(cm_path(path, name), O_RDWR | O_CLOEXEC);
    return fd >= 0 && fcntl(fd, F_GETLK, &l) == 0 && l.l_type != F_UNLCK ? l.l_pid : 0;
}

static int start(setup_t *s, struct run *r, struct err *err)
{
    char program[PATH_MAX], node[16];
    const char *argv[] = { program, "--node", node, "--space", r->space, "--config",
                           s->b->file, r->down ? "--down" : NULL, r->why, NULL };
    sigset_t none;
    pid_t pid;

    snprintf(program, sizeof program, "%s/bpsetup", cm_libexec());
    snprintf(node, sizeof node, "%d", r->node);
    posix_spawnattr_t attr;
    posix_spawnattr_init(&attr);
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
    int rc = posix_spawn(&pid, program, NULL, &attr, (char **)argv, environ);
    posix_spawnattr_destroy(&attr);
    if (rc != 0)
        return err_set(err, rc, "%s: %s", program, strerror(rc));
    return watch(s, r, pid, err);
}

static void begin(setup_t *s, struct run *r)
{
    struct err err = { 0 };
    pid_t other = holder(r->node);

    if (other > 0 && watch(s, r, other, &err) == 0) {
        svc_log("info", "a script of node %d is running already (pid %d)", r->node, (int)other);
        return;
    }
    if (start(s, r, &err) == 0) {
        struct machine *m = r->down ? NULL : machines_node(s->b->machines, r->node, true);
        if (m)
            machine_stage(s->b->machines, m, "node_up", -1, false, NULL);
        svc_log("info", "%s of node %d begins", r->down ? "node_down" : "node_up", r->node);
        return;
    }
    svc_log("error", "node %d: %s", r->node, err.text);
    if (!r->down)
        tell_failed(s, r, err.text);
    drop(s, r);
}

/* One script of a node at a time; nodes side by side up to the limit. */
static bool may_begin(const setup_t *s, const struct run *r)
{
    if (r->phase != WAITS || s->running >= s->at_once)
        return false;
    for (const struct run *o = s->first; o; o = o->next)
        if (o != r && o->node == r->node && o->phase != WAITS)
            return false;
    return true;
}

static void go_on(setup_t *s)
{
    for (struct run *r = s->first, *next; r; r = next) {
        next = r->next;
        if (s->b->config && may_begin(s, r))
            begin(s, r);
    }
}

/* ---- what others say ---- */

void setup_want(setup_t *s, int node, const char *space)
{
    if (find(s, node, space, false) || strlen(space) > SPACE_LEN)
        return;
    if (add(s, node, space, false))
        go_on(s);
}

static void stop(struct run *r)
{
    if (r->phase != RUNS)
        return;
    r->phase = ENDS;
    if (syscall(SYS_pidfd_send_signal, r->pidfd, SIGTERM, NULL, 0) < 0 && errno != ESRCH)
        svc_log("warning", "node %d: end its set-up: %s", r->node, strerror(errno));
}

void setup_lost(setup_t *s, int node, const char *space, const char *why)
{
    char path[PATH_MAX];
    struct run *r = find(s, node, space, false);

    if (r && r->phase == WAITS)
        drop(s, r);
    else if (r)
        stop(r);
    if (access(conf_beside(s->b, "node_down", path), X_OK) < 0 || find(s, node, space, true))
        return;
    r = add(s, node, space, true);
    if (!r)
        return;
    snprintf(r->why, sizeof r->why, "%s", why);
    go_on(s);
}

void setup_limit(setup_t *s, int at_once)
{
    s->at_once = at_once;
    go_on(s);
}

void setup_pack(const setup_t *s, mp_buf *out)
{
    uint32_t n = 0;

    for (const struct run *r = s->first; r; r = r->next)
        n++;
    mp_array(out, n);
    for (const struct run *r = s->first; r; r = r->next) {
        mp_array(out, 4);
        mp_int(out, r->node);
        mp_str(out, r->down ? "node_down" : "node_up");
        mp_int(out, r->phase == WAITS ? 0 : r->pid);
        mp_int(out, r->begun);
    }
}

/* ---- events, and what was missed ---- */

static void on_event(void *arg, const struct wire *w, const msgpack_object *body)
{
    setup_t *s = arg;
    CLEANUP(cleanup_free) char *space = mp_opt_dup(body, "space");
    CLEANUP(cleanup_free) char *why = mp_opt_dup(body, "why");
    int64_t node = mp_opt_int(body, "node", -1);

    if (strcmp(w->from, "nodemgr") != 0 || node < 0 || node > INT_MAX || !space)
        return;
    if (strcmp(w->topic, "node.ready") == 0)
        setup_want(s, (int)node, space);
    else if (strcmp(w->topic, "node.lost") == 0)
        setup_lost(s, (int)node, space, why ? why : "");
}

static void look_at_all(void *arg);

static void on_list(void *arg, const msgpack_object *value, const struct err *err)
{
    bootsrv_t *b = arg;

    if (!value || value->type != MSGPACK_OBJECT_ARRAY) {
        svc_log("warning", "list of nodes: %s; asking again", value ? "odd answer" : err->text);
        loop_timer(b->loop, LOOK_AGAIN_MS, false, look_at_all, b);
        return;
    }
    for (uint32_t i = 0; i < value->via.array.size; i++) {
        const msgpack_object *o = &value->via.array.ptr[i], *state = mp_get(o, "state");
        CLEANUP(cleanup_free) char *space = mp_opt_dup(o, "space");
        int64_t node = mp_opt_int(o, "node", -1);
        if (node < 0 || node > INT_MAX || !space || !*space)
            continue;
        machines_there(b->machines, (int)node, o);
        if (state && mp_is(state, "boot") && mp_opt_bool(o, "ready", false))
            setup_want(b->setup, (int)node, space);
    }
}

static void look_again(bootsrv_t *b, int node)
{
    CLEANUP(mp_free) mp_buf m;
    char spec[16];

    mp_init(&m);
    mp_map(&m, node >= 0);
    if (node >= 0) {
        snprintf(spec, sizeof spec, "%d", node);
        mp_kstr(&m, "spec", spec);
    }
    svc_call(b->svc, "nodemgr.list", &m, LOOK_MS, on_list, b);
}

static void look_at_all(void *arg) { look_again(arg, -1); }

void setup_look(setup_t *s) { look_again(s->b, -1); }

setup_t *setup_create(bootsrv_t *b, struct err *err)
{
    CLEANUP(setup_destroy) setup_t *s = calloc(1, sizeof *s);
    char path[PATH_MAX];

    if (!s) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    s->b = b;
    s->last = &s->first;
    s->at_once = 256;
    if (mkdir(cm_path(path, "node_up"), 0700) < 0 && errno != EEXIST) {
        err_set(err, errno, "%s: %s", path, strerror(errno));
        return NULL;
    }
    if (svc_follow(b->svc, "node.ready", on_event, s, err) < 0 ||
        svc_follow(b->svc, "node.lost", on_event, s, err) < 0)
        return NULL;
    setup_t *out = s;
    s = NULL;
    return out;
}

/* What runs goes on by itself. */
void setup_destroy(setup_t **sp)
{
    setup_t *s = *sp;

    if (!s)
        return;
    while (s->first)
        drop(s, s->first);
    free(s);
    *sp = NULL;
}
