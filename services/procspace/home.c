/* home.c - processes whose parents wait for them on another node
 *
 * A program on node H has started them elsewhere. Its stand-ins for them, on H,
 * are kids of H like others, with ghosts here; what is different is that their
 * body is a process of its own, with a launch and a rank, on another machine:
 * kid->body, whose `home` is H. What happens to the body is told to both, to the
 * stand-in on H by way of its bell and to the ghost here; what the stand-in or
 * the ghost is sent goes to the body.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/kin.h"
#include "services/procspace/family.h"

#define RING_MS 10000
#define AGAIN_MS 200 /* a node whose agent was not there is asked again */
#define HOME_KILL 8  /* of node.N.ring */

/* ---- bells of stand-ins, in order, until they are heard ---- */

struct ring {
    struct ring *next;
    int op;
    uint32_t arg;
};

struct line { /* to one stand-in */
    procspace_t *ps;
    struct line *next;
    int node;
    pid_t npid;
    struct ring *first, **end;
    bool asked;
    bool held; /* there is no stand-in yet */
    bool left; /* its process is no more: it goes when all is said */
    svc_token *told; /* whoever has told us of the last: answered when it is said */
};

static void all_said(struct line *l)
{
    CLEANUP(mp_free) mp_buf nil;
    svc_token *t = l->told;

    mp_init(&nil);
    mp_nil(&nil);
    l->told = NULL;
    if (t)
        svc_answer(l->ps->svc, t, &nil);
}

static void line_free(struct line *l)
{
    struct line **at = &l->ps->lines;

    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    all_said(l);
    while (l->first) {
        struct ring *r = l->first;
        l->first = r->next;
        free(r);
    }
    free(l);
}

static void say_next(void *arg);

static void on_rung(void *arg, int node, const msgpack_object *value, const struct err *err)
{
    struct line *l = arg;
    struct node_space *ns = node_space(l->ps, node);

    if (!value && (err->code == BE_NODEDOWN || err->code == ETIMEDOUT ||
                   err->code == ENOTCONN) && ns && ns->space[0]) {
        loop_timer(l->ps->loop, AGAIN_MS, false, say_next, l);
        return;
    }
    struct ring *r = l->first;
    l->first = r->next;
    if (!l->first)
        l->end = &l->first;
    free(r);
    l->asked = false;
    if (l->first) {
        say_next(l);
        return;
    }
    all_said(l);
    if (l->left)
        line_free(l);
}

static void say_next(void *arg)
{
    struct line *l = arg;
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    l->asked = true;
    mp_map(&m, 3);
    mp_kint(&m, "npid", l->npid);
    mp_kint(&m, "op", l->first->op);
    mp_kuint(&m, "arg", l->first->arg);
    svc_call_nodes(l->ps->svc, &l->node, 1, "ring", &m, RING_MS, on_rung, NULL, l);
}

static struct line *line_new(procspace_t *ps, int node, pid_t npid)
{
    struct line *l = calloc(1, sizeof *l);

    if (!l)
        abort();
    *l = (struct line){ .ps = ps, .next = ps->lines, .node = node, .npid = npid };
    l->end = &l->first;
    ps->lines = l;
    return l;
}

static void say(struct line *l, int op, uint32_t arg)
{
    struct ring *r = calloc(1, sizeof *r);

    if (!r)
        abort();
    *r = (struct ring){ NULL, op, arg };
    *l->end = r;
    l->end = &r->next;
    if (!l->asked && !l->held)
        say_next(l);
}

void home_ring(struct proc *p, enum ghost_op op, int arg)
{
    if (op == GHOST_DIE)
        arg &= ~0x80; /* nothing dumps there */
    say(p->line, op, (uint32_t)arg);
}

void home_signal(struct proc *p, int sig)
{
    if (sig == SIGKILL)
        say(p->line, HOME_KILL, 0);
    else if (sig == SIGCONT)
        say(p->line, GHOST_CONT, 0);
}

/* An end that was told after a restart of ours: nobody is known but the stand-in. */
void home_tell_end(procspace_t *ps, int node, pid_t npid, int status)
{
    struct proc p = { .pidfd = -1, .status = status, .homed = true, .line = line_new(ps, node, npid) };

    proc_tell_end(&p);
    p.line->left = true;
}

/* ---- bodies and their stand-ins ---- */

static void link_kid(procspace_t *ps, struct proc *p)
{
    struct kid *k = kid_find(ps, p->home, p->home_npid);

    if (!k || k->body)
        return;
    k->body = p;
    p->stand = k;
    home_kid_here(ps, k);
}

void home_kid_born(procspace_t *ps, struct kid *k)
{
    for (struct proc *p = ps->homed; p; p = p->next_homed)
        if (p->home == k->p.node && p->home_npid == k->npid && !p->stand)
            link_kid(ps, p);
}

void home_kid_gone(struct kid *k)
{
    if (k->body)
        k->body->stand = NULL;
    k->body = NULL;
}

struct proc *home_add(procspace_t *ps, struct launch *l, uint32_t rank, int node, int home,
                      pid_t npid, struct err *err)
{
    struct proc *p = calloc(1, sizeof *p);

    if (!p) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    *p = (struct proc){ .pid = npid, .pidfd = -1, .node = node, .gen = 1, .rank = rank,
                        .uid = l->uid, .gid = l->gid, .launch = l, .started = wall_ms(),
                        .homed = true, .home = home, .home_npid = npid,
                        .next_homed = ps->homed, .line = line_new(ps, home, npid) };
    ps->homed = p;
    l->rank[rank] = p;
    l->running++;
    link_kid(ps, p);
    return p;
}

struct proc *home_find(procspace_t *ps, uint64_t launch, uint64_t rank)
{
    struct proc *p = proc_of_rank(ps, launch, rank);

    return p && p->homed ? p : NULL;
}

struct proc *home_there(procspace_t *ps, int node, pid_t pid)
{
    struct proc *p = ps->homed;

    while (p && (p->node != node || p->pid != pid || p->state != PROC_RUNNING))
        p = p->next_homed;
    return p;
}

void home_take_over(procspace_t *ps, struct proc *old, struct proc *p)
{
    struct proc **at = &ps->homed;

    while (*at && *at != old)
        at = &(*at)->next_homed;
    p->next_homed = old->next_homed;
    if (*at)
        *at = p;
    p->homed = true;
    p->home = old->home;
    p->home_npid = old->home_npid;
    p->line = old->line;
    p->stand = old->stand;
    if (p->stand)
        p->stand->body = p;
    old->homed = false;
    old->line = NULL;
    old->stand = NULL;
}

/* It has ended, and its stand-in was told: the ghost too. */
void home_ended(procspace_t *ps, struct proc *p)
{
    struct proc **at = &ps->homed;
    struct kid *k = p->stand;

    while (*at && *at != p)
        at = &(*at)->next_homed;
    if (*at)
        *at = p->next_homed;
    if (!k)
        return;
    home_kid_gone(k);
    kid_over(ps, k, p->status);
}

void home_forget(struct proc *p)
{
    if (!p->line)
        return;
    p->line->left = true;
    if (!p->line->asked && !(p->line->held && p->line->first))
        line_free(p->line);
    p->line = NULL;
}

/* ---- bodies on the master: the ghost becomes the process ---- */

int home_is_local(const struct proc *p) { return p->homed && p->node < 0; }

/* Its parent's ghost has to tell of it from now on; it is to be no ghost. */
void home_kid_here(procspace_t *ps, struct kid *k)
{
    struct proc *parent = kid_parent(ps, k);

    if (!k->body || !home_is_local(k->body) || !k->body->starting || k->stage != KID_HERE ||
        k->begun)
        return;
    k->begun = true;
    if (parent)
        ghost_ring(parent, GHOST_REAL, 0);
    ghost_ring(&k->p, GHOST_ASK, 0);
}

void home_start(struct proc *p)
{
    if (p->stand)
        home_kid_here(p->launch->ps, p->stand);
}

/* procspace.start: from what the ghost has become -> what it is to be */
int on_start(void *self, struct svc_req *req, struct err *err)
{
    procspace_t *ps = self;
    struct proc *g = proc_find(ps, (pid_t)req->w->pid);
    struct proc *p = g && g->kid ? g->kid->body : NULL;

    if (!p || !home_is_local(p) || req->w->uid != g->uid || !p->starting)
        return err_set(err, BE_INVALIDPROC, "process %lld is not to be started",
                       (long long)req->w->pid);
    const char *token = comer_token(ps, p->launch->id, p->rank);
    if (!token) {
        g->real = true;
        g->ghost_stopped = false;
        p->state = PROC_RUNNING;
    }
    launch_pack_local(p, token, req->reply);
    launch_local(p, 0, NULL);
    return 0;
}

bool process_stopped(pid_t pid)
{
    char state = kin_state(pid);

    return state == 'T' || state == 't';
}

/* procspace.child: {pid, status}: what wait() has said to a parent's ghost -> nil */
int on_child(void *self, struct svc_req *req, struct err *err)
{
    procspace_t *ps = self;
    int64_t pid, v;

    if (mp_get_int(req->body, "pid", 1, INT32_MAX, &pid, err) < 0 ||
        mp_get_int(req->body, "status", 0, 0xffff, &v, err) < 0)
        return -1;
    struct proc *g = proc_find(ps, (pid_t)pid);
    struct proc *p = g && g->kid && g->real ? g->kid->body : NULL;
    int status = (int)v;
    bool over = !WIFSTOPPED(status) && !WIFCONTINUED(status);
    if (!p)
        family_ended(ps, (pid_t)pid, status);
    if (!g && over)
        reaped_note(ps, (pid_t)req->w->pid, (pid_t)pid, status);
    if (p && p->line && over && p->state != PROC_ENDED && proc_find(ps, (pid_t)req->w->pid) &&
        kid_parent(ps, g->kid) == proc_find(ps, (pid_t)req->w->pid)) {
        p->line->told = req->token; /* said again, if we end before that */
        proc_ended(ps, p, status);
        return SVC_LATER;
    }
    mp_nil(req->reply);
    if (!p || !proc_find(ps, (pid_t)req->w->pid) ||
        kid_parent(ps, g->kid) != proc_find(ps, (pid_t)req->w->pid))
        return 0; /* a ghost, or not its child */
    p->turned = now_ms();
    if (WIFSTOPPED(status)) {
        if (!p->ghost_stopped && process_stopped((pid_t)pid)) {
            p->ghost_stopped = true;
            ghost_ring(p, GHOST_STOP, WSTOPSIG(status));
        }
    } else if (WIFCONTINUED(status)) {
        if (p->ghost_stopped)
            ghost_continue(p);
        p->ghost_stopped = false;
    }
    return 0;
}

static void nobody_told(void *arg)
{
    struct kid *k = arg;

    k->timer = 0;
    if (k->body)
        proc_ended(k->p.launch->ps, k->body, 0);
}

/* It has ended; its parent's ghost will say how, if that still is. */
void home_local_gone(procspace_t *ps, struct kid *k)
{
    if (!k->timer)
        k->timer = loop_timer(ps->loop, 5000, false, nobody_told, k);
}

void home_found(struct proc *p)
{
    struct kid *k = p->stand;

    if (!k || !process_stopped(k->p.pid))
        return;
    p->ghost_stopped = true;
    say(p->line, GHOST_STOP, SIGSTOP);
}

/* What its stand-in was sent; the kernel there has asked whether it may. */
void home_local_signal(struct proc *p, const struct passed *s)
{
    const struct proc *g = p->stand ? &p->stand->p : NULL;

    if (g && g->real && g->pidfd >= 0 &&
        (p->uid == 0 || kin_is_of(g->pid, p->uid))) /* still */
        pass_to(g->pidfd, g->pid, s, 1);
}

/* The body has stopped, or goes on: its ghost here is told as its stand-in is. */
void home_stopped(struct proc *p, int sig)
{
    struct kid *k = p->stand;

    if (!k || k->p.pidfd < 0 || k->p.ghost_stopped)
        return;
    k->p.ghost_stopped = true;
    ghost_ring(&k->p, GHOST_STOP, sig);
}

void home_continued(struct proc *p)
{
    struct kid *k = p->stand;

    if (!k || k->p.pidfd < 0 || !k->p.ghost_stopped)
        return;
    k->p.ghost_stopped = false;
    ghost_continue(&k->p);
}

/* ---- a body is told where its parent waits for it ---- */

struct telling { /* its node, where its parent is */
    procspace_t *ps;
    int node, home;
    uint64_t launch;
    uint32_t rank;
    pid_t npid;
};

static void tell_node(void *arg);

static void on_told(void *arg, int node, const msgpack_object *value, const struct err *err)
{
    struct telling *t = arg;
    struct node_space *ns = node_space(t->ps, node);
    const struct proc *p = home_find(t->ps, t->launch, t->rank);
    bool so = p ? p->home == t->home && p->home_npid == t->npid : t->home < 0;

    if (!value && (err->code == BE_NODEDOWN || err->code == ETIMEDOUT) && so && ns &&
        ns->space[0])
        loop_timer(t->ps->loop, AGAIN_MS, false, tell_node, t);
    else
        free(t);
}

static void tell_node(void *arg)
{
    struct telling *t = arg;
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 4);
    mp_kuint(&m, "launch", t->launch);
    mp_kint(&m, "rank", t->rank);
    mp_kint(&m, "home", t->home);
    mp_kint(&m, "npid", t->npid);
    svc_call_nodes(t->ps->svc, &t->node, 1, "home", &m, RING_MS, on_told, NULL, t);
}

static void tell_home(const struct proc *p)
{
    struct telling *t = p->node >= 0 ? malloc(sizeof *t) : NULL;

    if (!t)
        return;
    *t = (struct telling){ p->launch->ps, p->node, p->homed ? p->home : -1, p->launch->id,
                           p->rank, p->homed ? p->home_npid : 0 };
    tell_node(t);
}

/* ---- nodes that end, restarts of ours ---- */

static void leave_home(procspace_t *ps, struct proc *p)
{
    struct proc **at = &ps->homed;

    while (*at && *at != p)
        at = &(*at)->next_homed;
    if (*at)
        *at = p->next_homed;
    home_forget(p);
    p->homed = false;
}

/* Its parent is dead with its node, and it lives: it is nobody's child now, and
 * what stands for it is the ghost here alone. Without one it ends. */
static void come_home(procspace_t *ps, struct proc *p)
{
    struct kid *k = p->stand;
    struct err err = { 0 };

    if (home_is_local(p)) { /* a process of the master: no more of our concern */
        if (k && k->p.real) {
            ghost_unwatch(ps, &k->p);
            cleanup_close(&k->p.pidfd);
        }
        family_let_go(ps, p);
        kin_moved(ps, p, NULL);
        proc_ended(ps, p, 0);
        return;
    }
    if (!k || k->p.pidfd < 0) {
        if (!ps->recovery) /* else it may be known yet (home_settle) */
            body_signal(ps, p, SIGKILL);
        return;
    }
    if (p->node == p->home) /* who waits for it there does so itself */
        p->local = k->ppid;
    leave_home(ps, p);
    home_kid_gone(k);
    p->pid = k->p.pid;
    p->pidfd = k->p.pidfd;
    p->ghost_stopped = k->p.ghost_stopped;
    p->leads = k->p.leads;
    p->to_fork = k->p.to_fork;
    k->p.to_fork = NULL;
    ghost_unwatch(ps, &k->p);
    k->p.pidfd = -1;
    kid_gone(ps, k, 0);
    proc_enter(ps, p);
    if (ghost_watch(ps, p, &err) < 0)
        svc_log("warning", "ghost %d is not watched: %s", (int)p->pid, err.text);
    tell_home(p);
}

/* ---- processes that leave a parent behind ---- */

static void wait_at(procspace_t *ps, struct proc *p, struct kid *k)
{
    if (!p->homed) {
        p->next_homed = ps->homed;
        ps->homed = p;
    }
    p->homed = true;
    p->home = k->p.node;
    p->home_npid = k->npid;
    p->line = line_new(ps, p->home, p->home_npid);
    p->stand = k;
    k->body = p;
}

void home_stays(procspace_t *ps, struct proc *p, struct kid *k)
{
    wait_at(ps, p, k);
    p->ghost_stopped = k->p.ghost_stopped;
    p->line->held = true;
}

void home_speak(procspace_t *ps, int node, pid_t npid)
{
    for (struct line *l = ps->lines; l; l = l->next) {
        if (!l->held || l->node != node || l->npid != npid)
            continue;
        l->held = false;
        if (l->first)
            say_next(l);
        else if (l->left)
            line_free(l);
        return;
    }
}

/* ---- parents that move ---- */

/* Whoever stands for it on the master does so for k from now on. */
static void give_ghost(procspace_t *ps, struct proc *g, struct kid *k)
{
    int fd = g->pidfd;

    ghost_unwatch(ps, g);
    g->pidfd = -1;
    k->p.to_fork = g->to_fork;
    g->to_fork = NULL;
    k->p.leads = g->leads;
    k->p.ghost_stopped = g->ghost_stopped;
    pid_t pid = g->pid;
    bool real = g->real;
    proc_forget(ps, g);
    if (g->kid) {
        g->pid = 0; /* it is not that one that ends */
        kid_gone(ps, g->kid, 0);
    }
    kid_stands(ps, k, pid, fd, real);
}

void home_move(procspace_t *ps, struct proc *p, struct kid *k)
{
    struct kid *old = p->stand;

    if (old)
        home_kid_gone(old);
    give_ghost(ps, old ? &old->p : p, k);
    home_forget(p); /* what its stand-in of before was told is told */
    wait_at(ps, p, k);
    if (p->ghost_stopped)
        say(p->line, GHOST_STOP, SIGSTOP);
    tell_home(p);
    home_cries(ps, k);
}

void home_back(procspace_t *ps, struct proc *p)
{
    struct kid *k = p->stand;

    if (!home_is_local(p)) {
        come_home(ps, p);
        return;
    }
    leave_home(ps, p); /* where it was, its stand-in ends with who waited for it */
    if (k) {
        home_kid_gone(k);
        ghost_unwatch(ps, &k->p);
        cleanup_close(&k->p.pidfd);
        kid_gone(ps, k, 0);
    }
    family_let_go(ps, p);
    kin_moved(ps, p, NULL);
    proc_ended(ps, p, 0);
}

void home_lost(procspace_t *ps, int node)
{
    for (struct proc *p = ps->homed, *next; p; p = next) {
        next = p->next_homed;
        if (p->node == node)
            proc_ended(ps, p, SIGKILL);
        else if (p->home == node)
            come_home(ps, p);
    }
}

/* A row of node.N.procs that names its home. */
void home_recover(procspace_t *ps, int node, const msgpack_object *o)
{
    const msgpack_object *home = mp_get(o, "home");
    const msgpack_object_array *a = &home->via.array;
    CLEANUP(cleanup_free) char *argv0 = mp_opt_dup(o, "argv0");
    int64_t rank = mp_opt_int(o, "rank", -1), h, npid;
    uint64_t id = 0;
    struct err err = { 0 };

    if (home->type != MSGPACK_OBJECT_ARRAY || a->size < 2 || !mp_as_int(&a->ptr[0], &h) ||
        h < 0 || h > INT32_MAX || !mp_as_int(&a->ptr[1], &npid) || npid < 2 ||
        npid > INT32_MAX || rank < 0 || rank > 1000000 ||
        mp_get_uint(o, "launch", &id, NULL) < 0)
        return;
    struct launch *l = launch_find(ps, id);
    if (!l)
        l = launch_add(ps, id, (uint32_t)rank + 1, mp_opt_int(o, "uid", -1),
                       mp_opt_int(o, "gid", -1), 0, argv0 ? argv0 : "", &err);
    if (!l || launch_grow(l, (uint32_t)rank + 1, &err) < 0)
        return;
    struct proc *p = l->rank[rank];
    if (!p)
        p = home_add(ps, l, (uint32_t)rank, node, (int)h, (pid_t)npid, &err);
    if (!p || !p->homed || p->node != node || p->state == PROC_ENDED)
        return;
    p->state = PROC_RUNNING;
    p->gen = (uint32_t)mp_opt_int(o, "gen", 1);
    p->npid = (pid_t)mp_opt_int(o, "npid", 0);
    p->local = (pid_t)mp_opt_int(o, "local", 0); /* its parent has left it a moment ago */
    p->conts = (uint32_t)mp_opt_int(o, "conts", 0);
    p->halts = (uint32_t)mp_opt_int(o, "halts", 0);
    p->started = mp_opt_int(o, "start", p->started);
    if (mp_get(o, "as"))
        mp_get_uint(o, "as", &p->as, NULL);
    p->ghost_stopped = p->halted = mp_opt_bool(o, "stopped", false);
    kin_recover(ps, p, o);
}

struct proc *home_unstood(procspace_t *ps, pid_t npid, int64_t uid, int node)
{
    struct proc *p = ps->homed;

    while (p && (p->home_npid != npid || p->uid != uid || home_is_local(p) ||
                 (p->stand && (p->home == node || p->stand->p.pidfd >= 0))))
        p = p->next_homed;
    if (p && p->stand) /* it is where its parent was, and goes with what that was */
        home_kid_gone(p->stand);
    return p;
}

/* Nobody waits for it on a node, whatever that has been told: its ghost stands for it alone. */
static void be_plain(procspace_t *ps, struct proc *p)
{
    struct ghost_kid who;
    struct err err = { 0 };
    uint64_t of;

    if (p->stand || home_is_local(p) || proc_find(ps, p->home_npid))
        return;
    /* Its ghost may have stood for the kid that it was, or beside a parent on a node. */
    bool kid = ghost_kid(p->home_npid, &who) && who.npid == p->home_npid;
    int fd = ghost_take(p->home_npid, p->uid, &of, NULL);
    if (fd < 0 || (of != proc_first(p) && !kid)) {
        cleanup_close(&fd);
        return;
    }
    if (of != p->launch->id)
        p->as = of;
    leave_home(ps, p);
    p->pidfd = fd;
    proc_enter(ps, p);
    if (ghost_watch(ps, p, &err) < 0)
        svc_log("warning", "ghost %d is not watched: %s", (int)p->pid, err.text);
    tell_home(p);
}

/* Their parents had come to the master, and their nodes had not been told. */
void home_recover_plain(procspace_t *ps)
{
    for (struct proc *p = ps->homed, *next; p; p = next) {
        next = p->next_homed;
        be_plain(ps, p);
    }
}

/* Such a row that names no home: its parent has come to where it is since it was told of. */
bool home_recover_here(procspace_t *ps, int node, uint64_t launch, uint64_t rank,
                       const msgpack_object *o)
{
    struct proc *p = home_find(ps, launch, rank);

    if (!p || p->node != node || p->state != PROC_RUNNING)
        return false;
    if (p->stand && p->stand->p.pidfd < 0)
        home_kid_gone(p->stand);
    if (p->stand)
        come_home(ps, p);
    else
        be_plain(ps, p);
    if (!p->homed)
        p->local = (pid_t)mp_opt_int(o, "local", 0);
    return true;
}

/* All nodes have spoken: for whom does nobody stand? */
void home_settle(procspace_t *ps)
{
    for (struct proc *p = ps->homed; p; p = p->next_homed)
        if (!p->stand)
            body_signal(ps, p, SIGKILL);
}

/* ---- a launch that a program on a node asks for ---- */

/* The asker as we know it, by the node's word and our own books. EAGAIN: not yet. */
struct proc *home_asker(procspace_t *ps, int node, const msgpack_object *body,
                        pid_t *npid, struct err *err)
{
    const msgpack_object_array *a;
    int64_t v[3] = { 0, 0, 0 };
    struct proc *p = NULL;

    if (mp_get_array(body, "asker", &a, err) < 0)
        return NULL;
    for (uint32_t i = 0; i < 3; i++)
        if (i >= a->size || !mp_as_int(&a->ptr[i], &v[i]) || v[i] < 0 || v[i] > INT32_MAX) {
            err_set(err, EPROTO, "asker: want [npid, ghost, gen]");
            return NULL;
        }
    *npid = (pid_t)v[0];
    if (v[1]) {
        p = proc_find(ps, (pid_t)v[1]);
        if (p && (p->kid || p->node != node))
            p = NULL;
        /* Or it is one itself whose parent is on yet another node. */
        for (struct proc *h = ps->homed; !p && h; h = h->next_homed)
            if (h->node == node && h->pid == (pid_t)v[1])
                p = h;
    } else {
        struct kid *k = kid_find(ps, node, (pid_t)v[0]);
        if (k && k->p.gen == v[2] && (k->stage == KID_HERE || k->stage == KID_NONE))
            p = &k->p;
    }
    if (!p || p->state == PROC_ENDED)
        err_set(err, EAGAIN, "process %d of node %d is not known yet", (int)*npid, node);
    return p && p->state != PROC_ENDED ? p : NULL;
}

pid_t home_ghost(const struct proc *p)
{
    return p->pidfd >= 0 ? p->pid : p->stand && p->stand->p.pidfd >= 0 ? p->stand->p.pid : 0;
}

int home_identity(const struct proc *p, struct identity *id, struct err *err)
{
    pid_t ghost = home_ghost(p);

    if (ghost)
        return identity_of_pid(ghost, p->uid, p->gid, id, err);
    if (p->homed)
        return err_set(err, EAGAIN, "its ghost is not there yet");
    memset(id, 0, sizeof *id); /* none stands for it: as itself, without groups */
    id->uid = (uid_t)p->uid;
    id->gid = (gid_t)p->gid;
    return 0;
}
