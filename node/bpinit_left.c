/* bpinit_left.c - processes that have gone elsewhere, and left children here
 *
 * The kernel must see a parent for those: the process itself, which executes bpghost
 * when it has gone (clients/libbproc/move.c, mover/), or a stand-in of ours that has
 * (bpinit_kin.c). It tells us what wait() says to it, and what it is sent
 * (bpinit_ghosts.c). What it made here by itself are bodies from now on, each with a
 * launch of its own, since their parent is to hear of them somewhere else. When the
 * process comes back it does so into this one's place, and has its children again.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "node/bpinit_kids.h"
#include "node/bpinit_kin_parts.h"

enum { OP_EXIT = 1, OP_REAL = 10 };

static struct kin_parent *find(const struct init *in, pid_t npid)
{
    struct kin_parent *p = in->kin->first;

    while (p && (p->npid != npid || !p->left))
        p = p->next;
    return p;
}

bool kin_is_left(const struct init *in, pid_t pid)
{
    const struct kin_parent *p = find(in, pid);

    return p && !p->leaving;
}

bool kin_keeps(const struct init *in, pid_t pid)
{
    return kin_is_left(in, pid) && find(in, pid)->children;
}

bool kin_keeps_under(const struct init *in, pid_t pid, pid_t up)
{
    return kin_keeps(in, pid) && kids_ppid(in->kids, pid) == up;
}

/* It is gone: not by our word, then its process must go too. */
static void on_pidfd(void *arg, int fd, uint32_t events)
{
    struct kin_parent *p = arg;

    (void)fd;
    (void)events;
    if (!p->leaving)
        journal_up(p->in, &p->name, SIGKILL, NULL, 0, 0);
    stands_left(p->in, p->npid);
    left_gone(p);
}

void left_gone(struct kin_parent *p)
{
    struct init *in = p->in;
    pid_t npid = p->npid;

    kin_forget(p);
    arrivals_maker_gone(in->arrivals, npid);
}

void left_begin(struct kin_parent *p)
{
    struct err err = { 0 };

    p->left = true;
    p->leaving = p->missed = false;
    if (p->pidfd < 0)
        p->pidfd = (int)syscall(SYS_pidfd_open, p->npid, 0);
    if (p->pidfd < 0 || loop_fd(p->in->loop, p->pidfd, EPOLLIN, on_pidfd, p, &err) < 0)
        init_log("process %d is not watched: %s", (int)p->npid, err.text);
}

void left_leaves(struct kin_parent *p)
{
    p->leaving = true;
    if (stand_known(p->in, p->npid)) /* it stands for a child as well */
        kin_forget(p);
    else
        stand_bell(p->npid, OP_EXIT, 0);
}

void kin_left_child(struct init *in, pid_t by, pid_t pid, int status, const struct rusage *ru)
{
    struct kin_parent *p = find(in, by);
    struct body *b = bodies_by_npid(in->bodies, pid);

    if (!p) { /* of a process that is on its way out */
        reap_status(in, pid, status, ru);
        return;
    }
    /* One that was told to go on since has not stopped. */
    if (WIFSTOPPED(status) && !kids_is_stopped(in->kids, pid))
        return;
    if (b && WIFCONTINUED(status) && !b->stopped)
        return;
    kin_told(p, pid, status, ru);
}

void kin_left_signal(struct init *in, pid_t npid, int sig, const uint64_t *value, pid_t from,
                     uid_t uid)
{
    const struct kin_parent *p = find(in, npid);

    if (p && (sig != SIGCONT || from != getpid())) /* ours: to go on after a stop */
        journal_up(in, &p->name, sig, value, from, uid);
}

/* ---- a process leaves ---- */

/* A row [npid, pid (its ghost's), launch, as] of one that it has made: a body like others
 * from now on. */
static void take_child(struct kin_parent *p, const msgpack_object *row, mp_buf *took,
                       uint32_t *n)
{
    struct init *in = p->in;
    int64_t npid, pid;
    struct body b = { .gen = 1, .uid = p->uid, .gid = p->gid, .start = wall_ms(),
                      .slot = { -1, -1, -1 }, .parent = p, .home = -1 };
    struct err err = { 0 };

    if (row->type != MSGPACK_OBJECT_ARRAY || row->via.array.size < 4 ||
        !mp_as_int(&row->via.array.ptr[0], &npid) || npid < 2 || npid > INT32_MAX ||
        !mp_as_int(&row->via.array.ptr[1], &pid) || pid < 2 || pid > INT32_MAX ||
        row->via.array.ptr[2].type != MSGPACK_OBJECT_POSITIVE_INTEGER ||
        row->via.array.ptr[3].type != MSGPACK_OBJECT_POSITIVE_INTEGER)
        return;
    b.npid = (pid_t)npid;
    b.pid = (pid_t)pid;
    b.launch = row->via.array.ptr[2].via.u64;
    b.as = row->via.array.ptr[3].via.u64;
    const struct body *known = bodies_by_npid(in->bodies, b.npid);
    if (!known && kids_to_body(in->kids, &b, p->npid) == 0 &&
        bodies_add(in->bodies, &b, &err) == 0) {
        p->children++;
        known = &b;
    } else if (!known) {
        free(b.argv0);
    }
    if (known && known->launch == b.launch) {
        mp_int(took, npid);
        ++*n;
    }
}

struct search {
    struct init *in;
    struct kin_parent *p;
};

/* A body that has waited for nobody's word but its own parent's till now. */
static void now_stood_for(void *arg, struct body *b)
{
    const struct search *s = arg;

    if (!b->local || kids_ppid(s->in->kids, b->npid) != s->p->npid)
        return;
    b->local = false;
    b->parent = s->p;
    s->p->children++;
}

/* What stands for children of it which have left some here: it is their parent still. */
static void keep_those_that_keep(struct kin_parent *p)
{
    for (struct kin_parent *q = p->in->kin->first; q; q = q->next)
        if (!q->own && kin_keeps_under(p->in, q->npid, p->npid)) {
            q->own = p;
            p->children++;
        }
}

static struct kin_parent *make(struct init *in, pid_t npid, const msgpack_object *name)
{
    struct kin_parent *p = calloc(1, sizeof *p);
    const msgpack_object_array *a = &name->via.array;
    int64_t uid, gid;

    if (!p || kin_read_name(name, &p->name) < 0 || a->size < 6 ||
        !mp_as_int(&a->ptr[3], &uid) || !mp_as_int(&a->ptr[4], &gid)) {
        free(p);
        return NULL;
    }
    CLEANUP(cleanup_free) char *comm = mp_dup(&a->ptr[5]);
    p->in = in;
    p->init = getpid();
    p->uid = (uid_t)uid;
    p->gid = (gid_t)gid;
    p->npid = npid;
    p->pidfd = p->read_fd = p->write_fd = -1;
    snprintf(p->comm, sizeof p->comm, "%s", comm ? comm : "parent");
    p->next = in->kin->first;
    in->kin->first = p;
    left_begin(p);
    return p;
}

struct kin_parent *left_take(struct init *in, pid_t npid, const msgpack_object *name)
{
    stand_bell(npid, OP_REAL, 0);
    return make(in, npid, name);
}

bool kin_leave(struct init *in, pid_t npid, struct kin_parent *own, const msgpack_object *map,
               mp_buf *took, uint32_t *n)
{
    const msgpack_object *name = mp_get(map, "name");
    struct kin_parent *p = find(in, npid);
    const msgpack_object_array *rows;

    *n = 0;
    if (!p && (!name || !kids_any_child(in->kids, npid) || !(p = make(in, npid, name))))
        return false;
    if (mp_get(map, "kids") && mp_get_array(map, "kids", &rows, NULL) == 0)
        for (uint32_t i = 0; i < rows->size; i++)
            take_child(p, &rows->ptr[i], took, n);
    bodies_change(in->bodies, now_stood_for, &(struct search){ in, p });
    keep_those_that_keep(p);
    if (p->children) {
        p->own = own ? own : p->own;
        return true;
    }
    kin_forget(p); /* all that it has are stand-ins, which end now */
    return false;
}

/* ---- it comes back ---- */

static bool names(const struct plan *plan, pid_t child)
{
    for (size_t i = 0; i < plan->nchildren; i++)
        if (plan->children[i].pid == child)
            return true;
    return false;
}

/* q stands for a child of the one that comes, which is elsewhere and has children here. up: in
 * whose place it comes, 0 nobody's. As a ghost, and up's child, it can be that child to it. */
static int make_its_child(struct kin_parent *q, const struct plan *plan, pid_t up, struct err *err)
{
    if (q->leaving)
        return err_set(err, EAGAIN, "what stands here for its child %d is about to end",
                       (int)q->npid);
    if (!up || kids_ppid(q->in->kids, q->npid) != up)
        return err_set(err, EBUSY, "its child %d is elsewhere, and has children here, which "
                                   "came when it had no parent here: not before they have "
                                   "ended or left", (int)q->npid);
    if (!q->left && (q->uid != plan->uid || q->gid != plan->gid))
        return err_set(err, EBUSY, "its child %d is another user's, and has children here: not "
                                   "before they have ended or left", (int)q->npid);
    return q->left ? 0 : kin_become(q, plan, err);
}

/* Those that stand here for its children, with children of their own. */
static int take_those_that_keep(struct init *in, const struct plan *plan, pid_t up,
                                struct err *err)
{
    for (struct kin_parent *q = in->kin->first; q; q = q->next)
        if (names(plan, q->npid)) {
            if (make_its_child(q, plan, up, err) < 0)
                return -1;
        } else if (up && q->own && q->own->npid == up) {
            return err_set(err, EAGAIN, "its child %d has just ended", (int)q->name.pid);
        }
    return 0;
}

bool kin_waits(struct init *in, const struct plan *plan, pid_t pid, struct err *err)
{
    struct kin_parent *p = find(in, pid);

    p = p ? p : kin_by_npid(in, pid);
    if (p && p->leaving) /* it is on its way out */
        return false;
    if (take_those_that_keep(in, plan, p ? p->npid : 0, err) < 0)
        return false;
    if (!p && !stand_known(in, pid))
        return false;
    if (!p && stand_parts(in, pid)) { /* with its parent */
        err_set(err, EAGAIN, "what stands for process %d here is about to end", (int)pid);
        return false;
    }
    if (p && p->own && p->own != plan->parent && p->own->children == 1)
        kin_leaves(p->own); /* its parent has ended since */
    if (p && !p->left && kin_become(p, plan, err) < 0)
        return false;
    if (!kids_is_of(in->kids, pid, plan->uid, plan->gid)) {
        err_set(err, EBUSY, "process %d has relatives here, and is another user's since it left",
                (int)pid);
        return false;
    }
    for (size_t i = 0; i < plan->nhere; i++) {
        const struct body *b = bodies_by_npid(in->bodies, plan->here[i]);
        if (!p || !b || b->parent != p) {
            err_set(err, EAGAIN, "its child %d has just ended", (int)plan->here[i]);
            return false;
        }
    }
    if (p)
        p->missed = false;
    return true;
}

bool kin_missed(const struct init *in, pid_t npid)
{
    const struct kin_parent *p = find(in, npid);

    return p && p->missed;
}

static void now_its_own(void *arg, struct body *b)
{
    const struct search *s = arg;

    if (b->parent != s->p)
        return;
    b->parent = NULL;
    b->home = -1; /* wherever it waited till now */
    local_watch(s->in, b);
}

void kin_arrived(struct init *in, struct body *b)
{
    struct search s = { in, find(in, b->npid) };

    stand_forget(in, b->npid);
    kids_body(in->kids, b->npid);
    if (s.p) {
        bodies_change(in->bodies, now_its_own, &s);
        kin_forget(s.p);
    }
    if (kids_local_parent(in->kids, b->npid))
        local_watch(in, b);
}
