/* kids.c - processes that bodies made, and the ghosts that stand for them
 *
 * A node tells of them (report.c) by pid and start there. The ghost has to be a
 * child of the parent's ghost, so that one forks it: its bell is rung, it asks
 * procspace.ghost what to do, and the new ghost says procspace.here, from a pid
 * that is the same as on the node if that is free. One at a time for each
 * parent. Where the parent has ended, its children are init's on the master as
 * they are on the node: we make such a ghost ourselves.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "services/procspace/family.h"

#define ASK_MS 5000   /* for a ghost to be there after its parent's bell */
#define AGAIN_MS 100  /* that parent is no ghost yet */
#define KID_BUCKETS 1024

enum { DO_NOTHING = 0, DO_FORK = 1, DO_BECOME = 2, DO_START = 4, DO_BROTHER = 5 };

struct kids {
    procspace_t *ps;
    struct kid *bucket[KID_BUCKETS];
    struct kid *orphan; /* being made by ourselves, one at a time */
};

static struct kid **bucket(procspace_t *ps, int node, pid_t npid)
{
    return &ps->kids->bucket[((unsigned)npid * 31 + (unsigned)node) % KID_BUCKETS];
}

/* One that lives: of an ended one there may still be a ghost on its way out. */
struct kid *kid_find(procspace_t *ps, int node, pid_t npid)
{
    struct kid *k = *bucket(ps, node, npid);

    while (k && (k->npid != npid || k->p.node != node || k->p.state == PROC_ENDED))
        k = k->next;
    return k;
}

/* ---- who forks whom ---- */

static void kid_free(procspace_t *ps, struct kid *k);
static void regroup(procspace_t *ps, struct proc *p, pid_t npid, pid_t pgid, pid_t pgid_ghost,
                    pid_t sid);
static void kick(procspace_t *ps, struct proc *parent);
static void next_orphan(procspace_t *ps);
static void place_children_of(procspace_t *ps, const struct kid *up);

static void dequeue(struct proc *parent, struct kid *k)
{
    struct kid **at = &parent->to_fork;

    while (*at && *at != k)
        at = &(*at)->queued;
    if (*at)
        *at = k->queued;
    k->queued = NULL;
    k->via = 0;
}

/* Its ghost did not come: too many processes, or the user has ended it. It is
 * then not to be seen on the master, and what it makes is nobody's there. */
static void on_no_ghost(void *arg)
{
    struct kid *k = arg;
    procspace_t *ps = k->p.launch->ps;
    struct proc *parent = k->via ? proc_find(ps, k->via) : NULL;

    k->timer = 0;
    k->stage = KID_NONE;
    bool orphan = ps->kids->orphan == k;
    if (orphan)
        ps->kids->orphan = NULL;
    if (parent)
        dequeue(parent, k);
    if (k->p.state == PROC_ENDED)
        kid_free(ps, k);
    else
        place_children_of(ps, k);
    if (parent)
        kick(ps, parent);
    if (orphan)
        next_orphan(ps);
}

static void kick_again(void *arg)
{
    struct kid *k = arg;
    procspace_t *ps = k->p.launch->ps;
    struct proc *parent = proc_find(ps, k->via);

    k->timer = 0;
    if (parent)
        kick(ps, parent);
}

/* Have this ghost ask, if it has something to hear. */
static void kick(procspace_t *ps, struct proc *parent)
{
    struct kid *k = parent->to_fork;

    if (!k || k->stage != KID_WAITING || k->timer)
        return;
    if (!ghost_stands(parent) || parent->ghost_stopped) {
        k->timer = loop_timer(ps->loop, AGAIN_MS, false, kick_again, k);
        return;
    }
    k->stage = KID_ASKED;
    k->timer = loop_timer(ps->loop, ASK_MS, false, on_no_ghost, k);
    ghost_ring(parent, GHOST_ASK, 0);
}

static bool can_fork(const struct proc *p)
{
    return p && p->pidfd >= 0 && p->state != PROC_ENDED;
}

static struct proc *parent_of(procspace_t *ps, const struct kid *k)
{
    if (k->parent_ghost)
        return proc_find(ps, k->parent_ghost);
    struct kid *up = k->ppid > 1 ? kid_find(ps, k->p.node, k->ppid) : NULL;
    return up ? &up->p : NULL;
}

struct proc *kid_parent(procspace_t *ps, const struct kid *k) { return parent_of(ps, k); }

/* What a ghost stands for: it may be elsewhere than the kid that it is of (home.c). */
static struct proc *behind(struct proc *p) { return p && p->kid && p->kid->body ? p->kid->body : p; }

/* It was made as a child of its maker's parent (CLONE_PARENT), which is elsewhere: its
 * ghost is to be one of that one's. */
static struct proc *brother_of(procspace_t *ps, const struct kid *k)
{
    struct proc *p = k->brother ? proc_find(ps, k->brother) : NULL;
    const struct proc *b = behind(p);

    return b && !b->kid && b->node == k->p.node && b->launch == k->p.launch ? p : NULL;
}

/* Find somebody to fork its ghost. */
static void place_kid(procspace_t *ps, struct kid *k)
{
    struct proc *parent = parent_of(ps, k);

    if (!parent && (parent = brother_of(ps, k)) == NULL)
        k->brother = 0;
    else if (k->brother && behind(parent)->parent)
        kin_adopt(behind(parent)->parent, &k->p);
    if (parent && parent->kid && parent->kid->stage != KID_HERE &&
        parent->kid->stage != KID_NONE)
        return; /* it has none itself yet; then we are looked at again */
    if (!can_fork(parent) || (parent->kid && parent->kid->stage == KID_NONE)) {
        k->orphan = true;
        next_orphan(ps);
        return;
    }
    struct kid **end = &parent->to_fork;
    while (*end)
        end = &(*end)->queued;
    *end = k;
    k->via = parent->pid;
    kick(ps, parent);
}

static void place_children_of(procspace_t *ps, const struct kid *up)
{
    for (size_t b = 0; b < KID_BUCKETS; b++)
        for (struct kid *k = ps->kids->bucket[b]; k; k = k->next)
            if (k->stage == KID_WAITING && !k->via && !k->orphan && k->p.node == up->p.node &&
                k->ppid == up->npid && !k->parent_ghost)
                place_kid(ps, k);
}

void kids_parent_ended(procspace_t *ps, struct proc *parent)
{
    while (parent->to_fork) {
        struct kid *k = parent->to_fork;
        bool asked = k->stage == KID_ASKED;
        dequeue(parent, k);
        if (asked)
            continue; /* it may still come; else its timer says so */
        k->parent_ghost = k->brother = 0;
        k->ppid = 1;
        place_kid(ps, k);
    }
}

/* ---- orphans: their ghosts are init's ---- */

static void next_orphan(procspace_t *ps)
{
    struct kids *all = ps->kids;
    struct err err = { 0 };

    for (size_t b = 0; b < KID_BUCKETS && !all->orphan; b++)
        for (struct kid *k = all->bucket[b]; k && !all->orphan; k = k->next) {
            if (!k->orphan || k->stage != KID_WAITING)
                continue;
            if (orphan_start(k, &err) < 0) {
                svc_log("warning", "a ghost for process %d of node %d: %s", (int)k->npid,
                        k->p.node, err.text);
                k->stage = KID_NONE;
                continue;
            }
            all->orphan = k;
            k->stage = KID_ASKED;
            k->timer = loop_timer(ps->loop, ASK_MS, false, on_no_ghost, k);
        }
}

/* ---- what ghosts ask and say ---- */

/* The group on the master that is pgid on the node; -1: not (yet) to be had. */
static pid_t master_group(procspace_t *ps, int node, pid_t pgid, pid_t pgid_ghost)
{
    const struct proc *body = pgid_ghost ? proc_find(ps, pgid_ghost) : NULL;
    const struct kid *leader = kid_find(ps, node, pgid);

    if (body)
        return body->leads ? body->pid : getpgid(body->pid);
    return leader && leader->stage == KID_HERE && leader->p.leads ? leader->p.pid : -1;
}

/* For the new ghost: 0 its parent's, 1 one of its own, 2 a session, else that. */
static pid_t group_of(procspace_t *ps, struct kid *k)
{
    if (k->sid == k->npid)
        return 2;
    if (k->pgid == k->npid)
        return 1;
    pid_t want = master_group(ps, k->p.node, k->pgid, k->pgid_ghost);
    return want > 2 ? want : 0;
}

static void pack_order(procspace_t *ps, mp_buf *m, int what, struct kid *k,
                       const struct proc *p)
{
    mp_array(m, 10);
    mp_int(m, what);
    mp_int(m, k ? k->npid : 0);
    mp_int(m, k ? k->p.uid : p->uid);
    mp_int(m, k ? k->p.gid : p->gid);
    mp_int(m, k ? k->p.node : 0);
    mp_int(m, k ? k->npid : 0);
    mp_int(m, k ? k->p.gen : 0);
    mp_int(m, k ? group_of(ps, k) : 0);
    const struct name *n = k ? &k->name : p->name;
    mp_bin(m, n ? n->comm : "", n ? strlen(n->comm) : 0);
    mp_bin(m, n ? n->args : "", n ? n->args_len : 0);
}

/* Be no ghost any more, but the process itself (home.c). */
static void pack_start(mp_buf *m, const struct proc *p)
{
    char prog[PATH_MAX];

    snprintf(prog, sizeof prog, "%.4000s/bpstart", cm_libexec());
    mp_array(m, 10);
    mp_int(m, DO_START);
    mp_int(m, p->pid);
    mp_int(m, p->uid);
    mp_int(m, p->gid);
    for (int i = 0; i < 4; i++)
        mp_int(m, 0);
    mp_bin(m, p->kid->name.comm, strlen(p->kid->name.comm));
    mp_bin(m, prog, strlen(prog) + 1);
}

/* procspace.ghost: from a ghost whose bell was rung -> [what, ...] */
int on_ghost(void *self, struct svc_req *req, struct err *err)
{
    procspace_t *ps = self;
    struct proc *p = proc_find(ps, (pid_t)req->w->pid);

    if (!p || p->pidfd < 0)
        return err_set(err, BE_INVALIDPROC, "process %lld is no ghost", (long long)req->w->pid);
    struct kid *k = p->to_fork;
    if (move_order(ps, p, req->reply))
        return 0;
    if (p->kid && p->kid->body && home_is_local(p->kid->body)) {
        pack_start(req->reply, p);
    } else if (p->renamed && p->name) {
        p->renamed = false;
        pack_order(ps, req->reply, DO_BECOME, NULL, p);
    } else if (k && k->stage == KID_ASKED && !k->given) {
        k->given = true;
        pack_order(ps, req->reply, parent_of(ps, k) == p ? DO_FORK : DO_BROTHER, k, p);
    } else {
        pack_order(ps, req->reply, DO_NOTHING, NULL, p);
    }
    return 0;
}

/* The kid whose ghost this can be: an ended one too, whose ghost was on its way. */
static struct kid *expected(procspace_t *ps, const struct ghost_kid *who)
{
    struct kid *k = *bucket(ps, who->node, who->npid);

    while (k && (k->npid != who->npid || k->p.node != who->node || k->p.gen != who->gen ||
                 !(k->stage == KID_ASKED || (k->stage == KID_WAITING && !k->via))))
        k = k->next;
    return k;
}

/* Its group and session as they are on the node. */
static void regroup(procspace_t *ps, struct proc *p, pid_t npid, pid_t pgid, pid_t pgid_ghost,
                    pid_t sid)
{
    p->leads = pgid == npid;
    if (sid == npid) {
        if (getsid(p->pid) != p->pid)
            ghost_ring(p, GHOST_SESSION, 0);
        return;
    }
    pid_t want = p->leads ? p->pid : master_group(ps, p->node, pgid, pgid_ghost);
    if (want > 0 && getpgid(p->pid) != want)
        ghost_ring(p, GHOST_GROUP, p->leads ? 0 : want);
}

/* Those who wait for their leader to be here. */
static void regroup_members(procspace_t *ps, const struct kid *leader)
{
    for (size_t b = 0; b < KID_BUCKETS; b++)
        for (struct kid *k = ps->kids->bucket[b]; k; k = k->next)
            if (k != leader && k->stage == KID_HERE && k->p.node == leader->p.node &&
                k->pgid == leader->npid && !k->pgid_ghost && k->p.pidfd >= 0)
                regroup(ps, &k->p, k->npid, k->pgid, 0, k->sid);
}

static void now_here(procspace_t *ps, struct kid *k, pid_t pid, int pidfd)
{
    struct err err = { 0 };

    loop_timer_del(ps->loop, k->timer);
    k->timer = 0;
    k->stage = KID_HERE;
    k->p.pid = pid;
    k->p.pidfd = pidfd;
    proc_enter(ps, &k->p);
    if (ghost_watch(ps, &k->p, &err) < 0)
        svc_log("warning", "ghost %d is not watched: %s", (int)pid, err.text);
    if (k->p.state == PROC_ENDED) { /* it went meanwhile */
        ghost_ring(&k->p, GHOST_EXIT, 0);
        return;
    }
    regroup(ps, &k->p, k->npid, k->pgid, k->pgid_ghost, k->sid);
    if (k->stopped) {
        k->p.ghost_stopped = true;
        ghost_ring(&k->p, GHOST_STOP, SIGSTOP);
    }
    if (k->p.leads)
        regroup_members(ps, k);
    if (k->p.renamed)
        ghost_ring(&k->p, GHOST_ASK, 0);
    home_kid_here(ps, k);
    place_children_of(ps, k);
}

/* procspace.here: a ghost that another has made, or with a new name -> nil */
int on_here(void *self, struct svc_req *req, struct err *err)
{
    procspace_t *ps = self;
    pid_t pid = (pid_t)req->w->pid;
    struct proc *p = proc_find(ps, pid);
    uint64_t launch = 0;

    mp_nil(req->reply);
    if (p && p->pidfd >= 0) {
        kick(ps, p);
        ghost_ring(p, GHOST_ASK, 0); /* it may have taken several bells for one, before its exec */
        return 0;
    }
    struct ghost_kid who;
    int fd = ghost_take(pid, (int64_t)req->w->uid, &launch, err);
    if (fd < 0)
        return -1;
    /* It says itself whose it is; only one that was asked for is believed. */
    struct kid *k = ghost_kid(pid, &who) ? expected(ps, &who) : NULL;
    if (!k || (req->w->uid != k->p.uid && req->w->uid != k->p.launch->uid)) {
        if (!recovering(ps, pid)) /* else its node will tell */
            ghost_signal(&(struct proc){ .pid = pid, .pidfd = fd }, SIGKILL);
        close(fd);
        return 0;
    }
    struct proc *parent = k->via ? proc_find(ps, k->via) : NULL;
    k->p.uid = req->w->uid;
    if (parent)
        dequeue(parent, k);
    if (ps->kids->orphan == k)
        ps->kids->orphan = NULL;
    now_here(ps, k, pid, fd);
    if (parent)
        kick(ps, parent);
    else
        next_orphan(ps);
    return 0;
}

/* ---- what nodes tell ---- */

void name_free(struct name **n)
{
    if (*n)
        free((*n)->args);
    free(*n);
    *n = NULL;
}

static void set_name(struct name *n, const msgpack_object *comm, const msgpack_object *args)
{
    size_t len = comm->via.bin.size < sizeof n->comm - 1 ? comm->via.bin.size
                                                         : sizeof n->comm - 1;

    memcpy(n->comm, comm->via.bin.ptr, len);
    n->comm[len] = 0;
    free(n->args);
    /* The last one ends with NUL, whatever the process has written there. */
    len = args->via.bin.size < KID_ARGS ? args->via.bin.size : KID_ARGS;
    n->args = calloc(1, len + sizeof n->comm + 1);
    n->args_len = 0;
    if (!n->args)
        return;
    memcpy(n->args, args->via.bin.ptr, len);
    if (len == 0) { /* it has overwritten all of them */
        len = strlen(n->comm) + 1;
        memcpy(n->args, n->comm, len);
    }
    n->args_len = n->args[len - 1] ? len + 1 : len;
}

static bool is_bin(const struct event *e, uint32_t i)
{
    return i < e->n && e->v[i].type == MSGPACK_OBJECT_BIN;
}

static bool pid_at(const struct event *e, uint32_t i, pid_t *out)
{
    int64_t v;

    if (i >= e->n || !mp_as_int(&e->v[i], &v) || v < 0 || v > INT32_MAX)
        return false;
    *out = (pid_t)v;
    return true;
}

/* The rest of ["born", npid, gen, ...] about a kid that is known by number. */
static bool read_born(struct kid *k, const struct event *e)
{
    pid_t sid;

    if (!pid_at(e, 3, &k->ppid) || !pid_at(e, 4, &k->parent_ghost) ||
        !pid_at(e, 6, &k->pgid) || !pid_at(e, 7, &k->pgid_ghost) || !pid_at(e, 8, &sid) ||
        e->n < 15 || !mp_as_int(&e->v[9], &k->p.uid) || k->p.uid < 0 ||
        !mp_as_int(&e->v[10], &k->p.gid) || k->p.gid < 0 ||
        !mp_as_int(&e->v[11], &k->p.started) || !is_bin(e, 12) || !is_bin(e, 13) ||
        e->v[14].type != MSGPACK_OBJECT_BOOLEAN)
        return false;
    k->sid = sid;
    k->stopped = e->v[14].via.boolean;
    if (!pid_at(e, 15, &k->brother))
        k->brother = 0;
    k->stands = e->n > 16 && e->v[16].type == MSGPACK_OBJECT_BOOLEAN && e->v[16].via.boolean;
    set_name(&k->name, &e->v[12], &e->v[13]);
    return k->name.args != NULL;
}

void kid_born(procspace_t *ps, int node, pid_t npid, uint32_t gen, const struct event *e)
{
    struct kid *old = kid_find(ps, node, npid);
    uint64_t id = e->n > 5 && e->v[5].type == MSGPACK_OBJECT_POSITIVE_INTEGER
                      ? e->v[5].via.u64 : 0;
    struct launch *l = launch_find(ps, id);

    if (old && old->p.gen == gen) { /* told again */
        old->stands |= e->n > 16 && e->v[16].type == MSGPACK_OBJECT_BOOLEAN &&
                       e->v[16].via.boolean;
        if (old->stands)
            reaped_before(ps, old);
        return;
    }
    if (old && (int32_t)(gen - old->p.gen) < 0) /* told again, of one before it, after a list */
        return;
    if (old)
        kid_gone(ps, old, 0);
    struct kid *k = calloc(1, sizeof *k);
    if (!k)
        return;
    k->npid = npid;
    k->p.kid = k;
    k->p.gen = gen;
    k->p.node = node;
    k->p.pidfd = -1;
    k->p.rank = UINT32_MAX;
    k->p.state = PROC_RUNNING;
    if (!read_born(k, e) || (!l && !(l = launch_adopt(ps, id, k->p.uid, k->p.gid, k->name.comm)))) {
        free(k->name.args);
        free(k);
        return;
    }
    k->p.launch = l;
    l->kids++;
    struct kid **head = bucket(ps, node, npid);
    k->next = *head;
    *head = k;
    home_kid_born(ps, k);
    pid_t pid;
    int pidfd = recovered_kid(ps, node, npid, gen, k->p.uid, &pid);
    if (pidfd < 0 && l->uid != k->p.uid)
        pidfd = recovered_kid(ps, node, npid, gen, l->uid, &pid);
    if (pidfd >= 0)
        now_here(ps, k, pid, pidfd);
    else if (!reaped_before(ps, k) && !family_born(ps, k))
        place_kid(ps, k);
}

void kid_stands(procspace_t *ps, struct kid *k, pid_t pid, int pidfd, bool real)
{
    struct err err = { 0 };

    k->stage = pidfd >= 0 ? KID_HERE : KID_NONE;
    if (k->p.pid) { /* one was made for it before it was known that another stands */
        if (k->p.pid != pid)
            ghost_signal(&k->p, SIGKILL);
        proc_forget(ps, &k->p);
    }
    if (pidfd < 0)
        return;
    k->p.pid = pid;
    k->p.pidfd = pidfd;
    k->p.real = real;
    proc_enter(ps, &k->p);
    if (ghost_watch(ps, &k->p, &err) < 0)
        svc_log("warning", "ghost %d is not watched: %s", (int)pid, err.text);
}

void kid_takes(procspace_t *ps, struct proc *p, struct kid *k)
{
    struct err err = { 0 };
    int fd = k->p.pidfd;

    for (size_t b = 0; b < KID_BUCKETS; b++)
        for (struct kid *c = ps->kids->bucket[b]; c; c = c->next)
            if (c->p.node == k->p.node && c->ppid == k->npid && !c->parent_ghost)
                c->parent_ghost = k->p.pid;
    move_of(ps, &k->p, p);
    ghost_unwatch(ps, &k->p);
    k->p.pidfd = -1;
    p->pidfd = fd;
    p->npid = p->node == k->p.node ? k->npid : p->npid;
    p->ghost_stopped = k->p.ghost_stopped;
    p->leads = k->p.leads;
    p->renamed = k->p.renamed;
    p->name = k->p.name;
    k->p.name = NULL;
    p->to_fork = k->p.to_fork;
    k->p.to_fork = NULL;
    kin_moved(ps, &k->p, p);
    proc_forget(ps, &k->p);
    k->p.pid = 0; /* it is not that one that ends */
    kid_gone(ps, k, 0);
    proc_enter(ps, p);
    if (p->pidfd >= 0 && ghost_watch(ps, p, &err) < 0)
        svc_log("warning", "ghost %d is not watched: %s", (int)p->pid, err.text);
}

void kids_each(procspace_t *ps, void (*fn)(void *arg, struct kid *k), void *arg)
{
    for (size_t b = 0; b < KID_BUCKETS; b++)
        for (struct kid *k = ps->kids->bucket[b], *next; k; k = next) {
            next = k->next;
            fn(arg, k);
        }
}

static void place_waiting(void *arg, struct kid *k)
{
    if (k->stage == KID_WAITING && !k->via && !k->orphan && k->parent_ghost &&
        !family_may_stand(k))
        place_kid(arg, k);
}

void kids_place(procspace_t *ps) { kids_each(ps, place_waiting, ps); }

void kid_gone(procspace_t *ps, struct kid *k, int status)
{
    struct proc *parent = k->via ? proc_find(ps, k->via) : NULL;

    if (k->p.state == PROC_ENDED)
        return;
    if (k->body)
        comer_gone(ps, k->body);
    k->p.state = PROC_ENDED;
    k->p.status = status & 0xffff;
    if (k->p.pid)
        family_made_ended(ps, k, k->p.status);
    k->p.ended = wall_ms();
    past_add(ps, &k->p);
    kids_parent_ended(ps, &k->p);
    kin_ended(ps, &k->p);
    place_children_of(ps, k);
    if (k->stage == KID_ASKED) { /* its ghost is on its way: ended when it comes */
        k->stopped = false;
        return;
    }
    if (parent)
        dequeue(parent, k);
    if (k->stage != KID_HERE || k->p.pidfd < 0) {
        kid_free(ps, k);
        return;
    }
    proc_tell_end(&k->p);
}

static void kid_free(procspace_t *ps, struct kid *k)
{
    struct kid **at = bucket(ps, k->p.node, k->npid);
    struct launch *l = k->p.launch;

    while (*at && *at != k)
        at = &(*at)->next;
    if (*at)
        *at = k->next;
    move_of(ps, &k->p, NULL);
    home_kid_gone(k);
    home_cries_free(k);
    loop_timer_del(ps->loop, k->timer);
    if (ps->kids->orphan == k)
        ps->kids->orphan = NULL;
    if (k->p.pid)
        proc_forget(ps, &k->p);
    name_free(&k->p.name);
    cause_free(&k->p.cause);
    free(k->name.args);
    free(k->p.heard);
    free(k);
    l->kids--;
    launch_maybe_over(ps, l);
}

void kid_ghost_gone(procspace_t *ps, struct kid *k)
{
    if (k->p.state == PROC_ENDED)
        kid_free(ps, k);
    else if (k->p.real)
        home_local_gone(ps, k);
    else if (k->body && home_is_local(k->body))
        comer_gone(ps, k->body);
    else
        ghost_killed(ps, &k->p);
}

static void rename_proc(struct proc *p, const struct event *e)
{
    if (!is_bin(e, 5) || !is_bin(e, 6))
        return;
    if (!p->name && !(p->name = calloc(1, sizeof *p->name)))
        return;
    set_name(p->name, &e->v[5], &e->v[6]);
    p->renamed = p->name->args != NULL;
    if (p->renamed && ghost_stands(p))
        ghost_ring(p, GHOST_ASK, 0);
}

/* The ghost of "name" and "group" rows: of a body, or of a kid. */
static struct proc *whose(procspace_t *ps, int node, pid_t npid, uint32_t gen,
                          const struct event *e)
{
    pid_t ghost = 0;
    uint64_t id = e->n > 4 && e->v[4].type == MSGPACK_OBJECT_POSITIVE_INTEGER
                      ? e->v[4].via.u64 : 0;

    if (!pid_at(e, 3, &ghost))
        return NULL;
    if (ghost) {
        struct proc *p = proc_find(ps, ghost);
        return p && p->node == node && p->launch->id == id && can_fork(p) ? p : NULL;
    }
    struct kid *k = kid_find(ps, node, npid);
    return k && k->p.gen == gen && can_fork(&k->p) ? &k->p : NULL;
}

/* The ghost of a body whose parent is on another node: that of its stand-in there. */
static struct proc *homed_ghost(procspace_t *ps, int node, const struct event *e)
{
    pid_t ghost = 0;
    uint64_t id = e->n > 4 && e->v[4].type == MSGPACK_OBJECT_POSITIVE_INTEGER
                      ? e->v[4].via.u64 : 0;
    struct proc *p = pid_at(e, 3, &ghost) && ghost ? proc_find(ps, ghost) : NULL;
    const struct proc *b = behind(p);

    return b && b != p && b->node == node && b->launch->id == id && can_fork(p) ? p : NULL;
}

static void on_group(procspace_t *ps, int node, pid_t npid, uint32_t gen, const struct event *e)
{
    pid_t pgid, pgid_ghost, sid;
    struct kid *k = kid_find(ps, node, npid);

    if (!pid_at(e, 5, &pgid) || !pid_at(e, 6, &pgid_ghost) || !pid_at(e, 7, &sid))
        return;
    if (k && k->p.gen == gen) {
        k->pgid = pgid;
        k->pgid_ghost = pgid_ghost;
        k->sid = sid;
    }
    struct proc *p = whose(ps, node, npid, gen, e);
    if (p)
        regroup(ps, p, npid, pgid, pgid_ghost, sid);
}

static void on_halt(procspace_t *ps, struct kid *k, bool stopped, const struct event *e)
{
    if (k->body) {
        if (stopped)
            home_halted(ps, k, e);
        return;
    }
    k->stopped = stopped;
    if (k->p.pidfd < 0 || k->p.ghost_stopped == stopped)
        return;
    k->p.ghost_stopped = stopped;
    if (stopped) {
        ghost_ring(&k->p, GHOST_STOP, SIGSTOP);
    } else {
        ghost_continue(&k->p);
    }
}

/* A stand-in has ended because its parent is elsewhere. One that has no ghost is of before
 * our start: where its parent is another one stands. */
static void left_behind(procspace_t *ps, struct kid *k, int status)
{
    if (k->p.pidfd >= 0 || !ps->recovery) {
        home_back(ps, k->body);
        return;
    }
    home_kid_gone(k);
    kid_gone(ps, k, status);
    families_recover(ps, false);
}

bool kid_event(procspace_t *ps, int node, const struct event *e)
{
    static const char *const kinds[] = { "born", "gone", "halt", "name", "group" };
    size_t kind = 0, n = sizeof kinds / sizeof *kinds;
    pid_t npid, gen;

    while (kind < n && !mp_is(&e->v[0], kinds[kind]))
        kind++;
    if (kind == n)
        return false;
    if (!pid_at(e, 1, &npid) || npid < 2 || !pid_at(e, 2, &gen))
        return true;
    struct kid *k = kid_find(ps, node, npid);
    if (k && k->p.gen != (uint32_t)gen)
        k = NULL;
    switch (kind) {
    case 0: kid_born(ps, node, npid, (uint32_t)gen, e); break;
    case 1: {
        pid_t status = 0;
        if (k && pid_at(e, 3, &status) && family_left(ps, k))
            left_behind(ps, k, status);
        else if (k && pid_at(e, 3, &status))
            kid_gone(ps, k, status);
        break;
    }
    case 2:
        if (k && e->n > 3 && e->v[3].type == MSGPACK_OBJECT_BOOLEAN)
            on_halt(ps, k, e->v[3].via.boolean, e);
        break;
    case 3: {
        if (k && is_bin(e, 5) && is_bin(e, 6))
            set_name(&k->name, &e->v[5], &e->v[6]);
        struct proc *p = whose(ps, node, npid, (uint32_t)gen, e);
        if (!p && k && k->stage == KID_ASKED)
            p = &k->p; /* its ghost comes with the old name */
        if (!p)
            p = homed_ghost(ps, node, e);
        if (p)
            rename_proc(p, e);
        break;
    }
    default: on_group(ps, node, npid, (uint32_t)gen, e); break;
    }
    return true;
}

void kid_over(procspace_t *ps, struct kid *k, int status) { kid_gone(ps, k, status); }
pid_t kid_npid(const struct kid *k) { return k->npid; }
struct proc *kid_body(const struct kid *k) { return k->body; }
const char *kid_comm(const struct kid *k) { return k->name.comm; }

/* The space is gone: kids that no ghost stands for yet, too. */
void kids_lost(procspace_t *ps, int node, const char *why)
{
    for (size_t b = 0; b < KID_BUCKETS; b++)
        for (struct kid *k = ps->kids->bucket[b], *next; k; k = next) {
            next = k->next;
            if (k->p.node == node) {
                cause_set(&k->p, CAUSE_NODE, 0, -1, 0, why);
                kid_gone(ps, k, SIGKILL);
            }
        }
}

int kids_open(procspace_t *ps, struct err *err)
{
    ps->kids = calloc(1, sizeof *ps->kids);
    if (!ps->kids)
        return err_set(err, ENOMEM, "out of memory");
    ps->kids->ps = ps;
    pids_make_room(ps);
    return 0;
}
