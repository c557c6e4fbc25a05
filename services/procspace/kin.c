/* kin.c - parents whose children run on other machines
 *
 * Their children's nodes have stand-ins of them. Here is known whose parent
 * lives where: signals to a stand-in go on to the real one, and when that is
 * dead its stand-ins are told to end, so that its children become pid 1's.
 */
#include "services/procspace/kin.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "services/procspace/kids.h"

#define ORPHAN_MS 10000
#define AGAIN_MS 300 /* a node whose agent was not there is asked again */

/* ---- what the kernel says of a process of the master ---- */

static bool read_text(pid_t pid, const char *name, char *buf, size_t room)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(buf, 1, room - 1, f) : 0;
    if (f)
        fclose(f);
    buf[n] = 0;
    return n > 0;
}

struct facts {
    pid_t ppid;
    uint64_t start;
    char comm[16];
};

static bool look_at(pid_t pid, struct facts *f)
{
    char text[1024];
    char state;
    int ppid;

    if (!read_text(pid, "stat", text, sizeof text))
        return false;
    char *open = strchr(text, '('), *close = strrchr(text, ')');
    if (!open || !close || close < open)
        return false;
    *close = 0;
    snprintf(f->comm, sizeof f->comm, "%s", open + 1);
    if (sscanf(close + 1,
               " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d "
               "%" SCNu64,
               &state, &ppid, &f->start) != 3)
        return false;
    f->ppid = ppid;
    return state != 'Z' && state != 'X';
}

/* Whose it is for kill(2): its real and its saved user. */
static bool ids_of(pid_t pid, int64_t *uid, int64_t *suid, int64_t *gid)
{
    char text[4096];

    if (!read_text(pid, "status", text, sizeof text))
        return false;
    const char *u = strstr(text, "\nUid:"), *g = strstr(text, "\nGid:");
    return u && g && sscanf(u + 5, "%" SCNd64 " %*d %" SCNd64, uid, suid) == 2 &&
           sscanf(g + 5, "%" SCNd64, gid) == 1;
}

bool kin_is_of(pid_t pid, int64_t uid)
{
    int64_t ruid, suid, gid;

    return ids_of(pid, &ruid, &suid, &gid) && (ruid == uid || suid == uid);
}

pid_t kin_ppid(pid_t pid)
{
    struct facts f = { 0 };

    look_at(pid, &f);
    return f.ppid;
}

/* ---- its stand-ins are to end ---- */

struct orphaning {
    procspace_t *ps;
    pid_t pid;
    int of, node;
    uint64_t id;
};

static void ask_orphan(void *arg);

static void on_orphaned(void *arg, int node, const msgpack_object *value,
                        const struct err *err)
{
    struct orphaning *o = arg;
    struct node_space *ns = node_space(o->ps, node);

    /* Until it has heard it, or its processes are gone anyway. */
    if (!value && (err->code == BE_NODEDOWN || err->code == ETIMEDOUT) && ns && ns->space[0])
        loop_timer(o->ps->loop, AGAIN_MS, false, ask_orphan, o);
    else
        free(o);
}

static void ask_orphan(void *arg)
{
    struct orphaning *o = arg;
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 1);
    mp_key(&m, "parent");
    mp_array(&m, 3);
    mp_int(&m, o->pid);
    mp_int(&m, o->of);
    mp_uint(&m, o->id);
    svc_call_nodes(o->ps->svc, &o->node, 1, "orphan", &m, ORPHAN_MS, on_orphaned, NULL, o);
}

static void orphan_on(const struct parent *par, int node)
{
    struct orphaning *o = malloc(sizeof *o);

    if (!o)
        return;
    *o = (struct orphaning){ par->ps, par->pid, par->node, node, par->id };
    ask_orphan(o);
}

/* ---- parents ---- */

/* After a restart of ours its node may not have spoken yet. */
static bool ps_recovering(const struct parent *par)
{
    return par->ps->recovery && par->node >= 0;
}

static bool gone(const struct parent *par) { return par->pidfd < 0 && !par->proc; }

static void unwatch(struct parent *par)
{
    if (par->pidfd < 0)
        return;
    loop_fd_del(par->ps->loop, par->pidfd);
    close(par->pidfd);
    par->pidfd = -1;
}

static void ended(struct parent *par)
{
    unwatch(par);
    par->proc = NULL;
    for (size_t i = 0; i < par->nodes.n; i++)
        orphan_on(par, par->nodes.node[i]);
    par->nodes.n = 0;
}

/* Those that have ended are kept no longer. */
static void let_go(procspace_t *ps)
{
    for (struct parent *par = ps->parents; par;) {
        struct parent *ours = par->kept && gone(par) && !par->nodes.n ? par : NULL;
        if (!ours) {
            par = par->next;
            continue;
        }
        ours->kept = false;
        kin_release(&ours);
        par = ps->parents; /* the next one may have gone with it */
    }
}

static void on_pidfd(void *arg, int fd, uint32_t events)
{
    struct parent *par = arg;
    procspace_t *ps = par->ps;

    (void)fd;
    (void)events;
    ended(par);
    let_go(ps);
}

static struct parent *find(procspace_t *ps, pid_t pid, int node, uint64_t id)
{
    struct parent *par = ps->parents;

    while (par && (par->pid != pid || par->node != node || par->id != id))
        par = par->next;
    return par;
}

static struct parent *add(procspace_t *ps, pid_t pid, int node, uint64_t id, struct err *err)
{
    struct parent *par = calloc(1, sizeof *par);

    if (!par) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    *par = (struct parent){ .next = ps->parents, .ps = ps, .pid = pid, .node = node,
                            .id = id, .pidfd = -1, .refs = 1 };
    nodelist_init(&par->nodes);
    ps->parents = par;
    return par;
}

struct parent *kin_hold(struct parent *par)
{
    par->refs++;
    return par;
}

void kin_release(struct parent **pp)
{
    struct parent *par = *pp;

    *pp = NULL;
    if (!par || --par->refs)
        return;
    struct parent **at = &par->ps->parents;
    while (*at != par)
        at = &(*at)->next;
    *at = par->next;
    kin_release(&par->over);
    unwatch(par);
    nodelist_free(&par->nodes);
    free(par);
}

/* Watch for its end; one that has ended is gone from the beginning. */
static void watch_here(struct parent *par)
{
    struct facts f;
    int fd = (int)syscall(SYS_pidfd_open, par->pid, 0);

    if (fd >= 0 && look_at(par->pid, &f) && f.start == par->id &&
        loop_fd(par->ps->loop, fd, EPOLLIN, on_pidfd, par, NULL) == 0)
        par->pidfd = fd;
    else
        cleanup_close(&fd);
}

/* It is on the master now, under whatever start. */
static void follow(struct parent *par)
{
    int fd = process_open(par->pid);

    if (fd >= 0 && loop_fd(par->ps->loop, fd, EPOLLIN, on_pidfd, par, NULL) == 0)
        par->pidfd = fd;
    else
        cleanup_close(&fd);
}

struct parent *kin_parent_here(procspace_t *ps, pid_t pid, struct err *err)
{
    struct facts f;
    int64_t suid;

    if (!look_at(pid, &f)) {
        err_set(err, ESRCH, "process %d has ended", (int)pid);
        return NULL;
    }
    struct parent *par = find(ps, pid, -1, f.start);
    if (par) {
        par->refs++;
        return par;
    }
    if (!(par = add(ps, pid, -1, f.start, err)))
        return NULL;
    ids_of(pid, &par->uid, &suid, &par->gid);
    memcpy(par->comm, f.comm, sizeof par->comm);
    watch_here(par);
    return par;
}

struct parent *kin_parent_of(procspace_t *ps, pid_t pid)
{
    struct facts f;
    struct err err = { 0 };

    return look_at(pid, &f) && f.ppid > 1 ? kin_parent_here(ps, f.ppid, &err) : NULL;
}

/* p, as it was before it left the master: what it was is its ghost now. */
static struct parent *of_before(procspace_t *ps, const struct proc *p, pid_t npid)
{
    struct facts f;

    return p->pid == npid && look_at(p->pid, &f) ? find(ps, p->pid, -1, f.start) : NULL;
}

struct parent *kin_parent_there(struct proc *p, pid_t npid, struct err *err)
{
    procspace_t *ps = p->launch->ps;
    uint64_t id = p->kid ? p->gen : (p->launch->id ^ (uint64_t)p->rank << 32) >> 1;
    struct parent *par = ps->parents;

    /* Its children from elsewhere know it by another name. */
    while (par && (par->proc != p || par->pid != npid))
        par = par->next;
    if (!par)
        par = p->kid ? NULL : of_before(ps, p, npid);
    if (!par)
        par = find(ps, npid, p->node, id);
    if (par) {
        par->refs++;
        return par;
    }
    if (!(par = add(ps, npid, p->node, id, err)))
        return NULL;
    par->proc = p;
    par->uid = p->uid;
    par->gid = p->gid;
    snprintf(par->comm, sizeof par->comm, "%s", p->kid ? kid_comm(p->kid) : p->launch->argv0);
    return par;
}

/* Its number as a process of the master; 0: it is elsewhere, or has ended. */
static pid_t pid_here(const struct parent *par)
{
    const struct proc *p = par->proc;

    if (!p)
        return par->pidfd >= 0 ? par->pid : 0;
    return home_is_local(p) && p->stand ? p->stand->p.pid : 0;
}

static bool same_process(const struct parent *a, const struct parent *b)
{
    return a->pid == b->pid &&
           ((a->proc && a->proc == b->proc) || (pid_here(a) && pid_here(a) == pid_here(b)));
}

static bool may_stand(const struct parent *par, int node)
{
    for (size_t i = 0; i < par->nodes.n; i++)
        if (par->nodes.node[i] == node)
            return true;
    return false;
}

void kin_as_known(struct parent **par, int node)
{
    struct parent *known = NULL;

    for (struct parent *q = (*par)->ps->parents; q && node >= 0; q = q->next)
        if (same_process(q, *par) && may_stand(q, node) && (!known || q->node == node))
            known = q;
    if (!known || (may_stand(*par, node) && ((*par)->node == node || known->node != node)))
        return;
    kin_hold(known);
    kin_release(par);
    *par = known;
}

/* One of before a restart of ours: its node has told of it since. */
struct proc *proc_there(procspace_t *ps, int node, pid_t npid)
{
    struct kid *k = kid_find(ps, node, npid);

    for (size_t b = 0; b < PROC_BUCKETS; b++)
        for (struct proc *p = ps->proc[b]; p; p = p->next)
            if (p->node == node && p->npid == npid && p->state == PROC_RUNNING && !p->kid)
                return p;
    for (struct proc *p = ps->homed; p; p = p->next_homed)
        if (p->node == node && p->npid == npid && p->state == PROC_RUNNING)
            return p;
    return k && !k->body ? &k->p : NULL;
}

/* Whom the name means that was given to a parent before it moved on: numbers are kept. */
static struct proc *proc_named(procspace_t *ps, int node, pid_t npid)
{
    struct proc *p = proc_there(ps, node, npid), *now = proc_find(ps, npid);

    return p ? p : now && !now->kid && now->gen > 1 && now->state == PROC_RUNNING ? now : NULL;
}

void kin_find(procspace_t *ps)
{
    for (struct parent *par = ps->parents; par; par = par->next)
        if (par->node >= 0 && gone(par))
            par->proc = proc_named(ps, par->node, par->pid);
}

/* By the kernel's word it is on the master, whatever it is called by where its children
 * are: it is their ghosts' parent. */
static bool is_here(const struct parent *par)
{
    for (size_t b = 0; b < PROC_BUCKETS; b++)
        for (const struct proc *p = par->ps->proc[b]; p; p = p->next)
            if (p->parent == par && kin_ppid(p->pid) == par->pid)
                return true;
    return false;
}

void kin_settle(procspace_t *ps)
{
    kin_find(ps);
    for (struct parent *par = ps->parents; par; par = par->next) {
        if (gone(par) && is_here(par))
            follow(par);
        if (gone(par))
            ended(par);
    }
    let_go(ps);
}

void kin_stands(struct parent *par, int node)
{
    if (!may_stand(par, node))
        nodelist_add(&par->nodes, node);
}

bool kin_may_stand(procspace_t *ps, pid_t pid, int node)
{
    bool any = false;

    for (const struct parent *par = ps->parents; par; par = par->next)
        any |= par->pid == pid && may_stand(par, node);
    return any;
}

static void stands_on(struct parent *par, int node)
{
    if (gone(par) && !ps_recovering(par))
        orphan_on(par, node);
    else
        kin_stands(par, node);
}

void kin_keep(struct parent *par, int node)
{
    stands_on(par, node);
    if (par->kept || (gone(par) && !ps_recovering(par)))
        return;
    par->kept = true;
    kin_hold(par);
}

void kin_adopt(struct parent *par, struct proc *p)
{
    if (p->parent == par || p->state == PROC_ENDED)
        return;
    kin_release(&p->parent);
    p->parent = par;
    par->refs++;
    if (par->over)
        stands_on(par->over, p->node);
    stands_on(par, p->node);
}

/* As what a launch of its own that moves it would name its parent (launch.c). */
static struct parent *over_of(const struct parent *par)
{
    struct err err = { 0 };
    pid_t npid, here = par->proc ? par->proc->pid : par->pid;
    struct proc *up = par->proc ? kin_maker(par->ps, par->proc, &npid) : NULL;

    if (up)
        return kin_parent_there(up, npid, &err);
    return par->proc || par->node < 0 ? kin_parent_of(par->ps, here) : NULL;
}

static void pack(const struct parent *par, mp_buf *m)
{
    mp_int(m, par->pid);
    mp_int(m, par->node);
    mp_uint(m, par->id);
    mp_int(m, par->uid);
    mp_int(m, par->gid);
    mp_str(m, par->comm);
}

void kin_pack(struct parent *par, bool over, mp_buf *m)
{
    if (over) {
        kin_release(&par->over);
        par->over = over_of(par);
        over = par->over && !gone(par->over);
    }
    mp_array(m, over ? 7 : 6);
    pack(par, m);
    if (over) {
        mp_array(m, 6);
        pack(par->over, m);
    }
}

void kin_moved(procspace_t *ps, const struct proc *old, struct proc *p)
{
    for (struct parent *par = ps->parents; par; par = par->next) {
        if (par->proc != old)
            continue;
        par->proc = p;
        if (!p)
            follow(par);
    }
}

/* ---- what happens ---- */

void kin_ended(procspace_t *ps, struct proc *p)
{
    for (struct parent *par = ps->parents; par; par = par->next)
        if (par->proc == p)
            ended(par);
    let_go(ps);
    kin_release(&p->parent);
}

static void signal_here(const struct parent *par, const struct passed *s)
{
    /* The kernel of the node has asked whether the sender may signal the stand-in,
     * which is the parent's user's of then. Is the parent so still? */
    if (par->uid == 0 || kin_is_of(par->pid, par->uid))
        pass_to(par->pidfd, par->pid, s, 1);
}

/* One of before our start, as a node names it. A reference. */
static struct parent *recovered(procspace_t *ps, pid_t pid, int node, uint64_t id)
{
    struct parent *par = find(ps, pid, node, id);
    struct err err = { 0 };
    int64_t suid;

    if (par)
        return kin_hold(par);
    if (!(par = add(ps, pid, node, id, &err)))
        return NULL;
    if (node < 0) {
        ids_of(pid, &par->uid, &suid, &par->gid);
        watch_here(par);
    } else {
        par->proc = proc_named(ps, node, pid);
    }
    return par;
}

/* ---- those who have come to a child ---- */

void kin_came(const struct parent *par, int to, uint64_t launch)
{
    procspace_t *ps = par->ps;

    ps->came[ps->ncame++ % KIN_CAME] = (struct came){ par->pid, par->node, to, par->id, launch };
}

/* What stood for it there is the process itself by now: its node may tell late of what that
 * was sent before. */
static struct proc *came(procspace_t *ps, pid_t pid, int of, uint64_t id, int node)
{
    for (size_t i = 0; i < KIN_CAME; i++) {
        const struct came *c = &ps->came[i];
        struct proc *p = c->pid == pid && c->node == of && c->id == id && c->to == node
                             ? proc_of_rank(ps, c->launch, 0) : NULL;
        if (p && (p->state == PROC_RUNNING || p->left))
            return p;
    }
    return NULL;
}

/* ["up", pid, node, id, sig, value or nil, from, uid]: of one of the node's own. */
bool kin_up(procspace_t *ps, int node, const struct event *e)
{
    int64_t v[4], value = 0, from = 0, uid = 0;

    if (e->n < 8 || e->v[3].type != MSGPACK_OBJECT_POSITIVE_INTEGER ||
        !mp_as_int(&e->v[1], &v[0]) || !mp_as_int(&e->v[2], &v[1]) ||
        !mp_as_int(&e->v[4], &v[2]) || v[2] < 1 || v[2] > SIGRTMAX ||
        !mp_as_int(&e->v[6], &from) || !mp_as_int(&e->v[7], &uid))
        return true;
    /* The child may have ended since, which we shall hear next: then no list names it. */
    struct parent *par = ps->recovery ? recovered(ps, (pid_t)v[0], (int)v[1], e->v[3].via.u64)
                                      : find(ps, (pid_t)v[0], (int)v[1], e->v[3].via.u64);
    CLEANUP(kin_release) struct parent *ours = ps->recovery ? par : NULL;
    bool there = ours != NULL || (par && may_stand(par, node));
    if (there && gone(par) && ps->recovery)
        kin_find(ps);
    if (there && gone(par) && recovered_all(ps) && is_here(par))
        follow(par);
    bool ended = !there || gone(par);
    struct proc *p = ended ? came(ps, (pid_t)v[0], (int)v[1], e->v[3].via.u64, node) : par->proc;
    if (ended && !p) /* no child of it runs there */
        return recovered_all(ps);
    bool has_value = mp_as_int(&e->v[5], &value);
    const struct passed s = { (int)v[2], has_value, value, e->once, uid, (pid_t)from };
    struct signals *with = given_begin(ps, e);
    if (p && (p->node >= 0 || p->left))
        body_signal_value(ps, p, (int)v[2], has_value, value, uid, from, e->once, with);
    else if (p)
        home_local_signal(p, &s);
    else if (par->pidfd >= 0)
        signal_here(par, &s);
    signals_end(with);
    return true;
}

/* A name [pid, node, id, ...] of a node's list. A reference. */
static struct parent *recovered_name(procspace_t *ps, const msgpack_object *o)
{
    const msgpack_object_array *a = &o->via.array;
    int64_t pid, node;

    if (o->type != MSGPACK_OBJECT_ARRAY || a->size < 3 || !mp_as_int(&a->ptr[0], &pid) ||
        pid < 2 || pid > INT32_MAX || !mp_as_int(&a->ptr[1], &node) || node < -1 ||
        node > INT32_MAX || a->ptr[2].type != MSGPACK_OBJECT_POSITIVE_INTEGER)
        return NULL;
    return recovered(ps, (pid_t)pid, (int)node, a->ptr[2].via.u64);
}

/* After a restart: a row of node.N.procs, or p that is one, says whose child it is, and under
 * whom that one stands there. */
void kin_recover(procspace_t *ps, struct proc *p, const msgpack_object *row)
{
    const msgpack_object *o = mp_get(row, "parent");
    CLEANUP(kin_release) struct parent *par = o ? recovered_name(ps, o) : NULL;

    if (!par)
        return;
    if (!par->over)
        par->over = over_of(par);
    kin_adopt(par, p);
    while (o->via.array.size > 3) {
        o = &o->via.array.ptr[3];
        CLEANUP(kin_release) struct parent *over = recovered_name(ps, o);
        if (!over)
            return;
        kin_keep(over, p->node);
    }
}
