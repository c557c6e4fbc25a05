/* family.c - children of a process that moves
 *
 * They stay where they are. Where their parent goes, a stand-in is made for each of
 * them with it (node/bpinit_child.c), and told as a kid like any that it makes there.
 * Once it runs there, what was known of the child is tied to that kid (home.c): its
 * ghost, which is a child of the parent's ghost, stays. A child that is a process of
 * the master becomes known by this. Coming to the master, the parent has them as its
 * children by itself, since it takes the place of its ghost.
 *
 * What cannot be kept is a child that the kernel must see as a real one at the place
 * that the parent leaves or goes to: one that runs on that node itself.
 */
#include "services/procspace/family.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define FAMILY_MAX 100000
#define QUIET_MS 300
#define LOOK_MS 50

struct child {
    pid_t pid; /* as its parent knows it, and its ghost's */
    bool leads;
    char comm[16];
    bool real; /* a process of the master that we know nothing of */
    uint64_t launch; /* else: which it is */
    uint32_t rank;
    bool done;  /* it is tied to its kid */
    bool ended; /* before that: how */
    int status;
};

struct family {
    struct family *next;
    uint64_t launch; /* of the move */
    int from, to;
    pid_t ghost; /* the parent's */
    bool gone;
    uint32_t n;
    struct child child[];
};

static struct family **place(procspace_t *ps, uint64_t launch)
{
    struct family **b = &ps->families;

    while (*b && (*b)->launch != launch)
        b = &(*b)->next;
    return b;
}

static void forget(struct family **at)
{
    struct family *b = *at;

    if (!b)
        return;
    *at = b->next;
    free(b);
}

static struct proc *proc_of(procspace_t *ps, const struct child *c)
{
    struct launch *l = c->launch ? launch_find(ps, c->launch) : NULL;

    return l && c->rank < l->ranks ? l->rank[c->rank] : NULL;
}

/* --- which they are --- */

static int busy(pid_t pid, const char *why, struct err *err)
{
    return err_set(err, EBUSY, "its child %d %s", (int)pid, why);
}

/* One that was stopped or continued a moment ago: first all who stand for it have to
 * hear of it, or its parent would hear of it twice. */
static int name_it(struct child *c, const struct proc *p, struct err *err)
{
    c->launch = p->launch->id;
    c->rank = p->rank;
    if (p->turned && now_ms() - p->turned < QUIET_MS)
        return err_set(err, EAGAIN, "its child %d has just stopped, or gone on", (int)c->pid);
    return 0;
}

/* Of a process of the master. */
static int take_here(const struct starting *s, struct child *c, struct err *err)
{
    struct proc *p = proc_find(s->ps, c->pid);
    uint64_t of;

    if (kin_ppid(c->pid) != s->mover)
        return err_set(err, EINVAL, "process %d is no child of process %d", (int)c->pid,
                       (int)s->mover);
    if (p && p->kid)
        return busy(c->pid, "was made on a node", err);
    if (p) {
        if (p->state == PROC_STARTING)
            return err_set(err, EAGAIN, "its child %d is being started", (int)c->pid);
        if (p->state == PROC_RUNNING && p->node == s->node[0])
            return busy(c->pid, "runs on the node that it would go to", err);
        return name_it(c, p, err);
    }
    CLEANUP(cleanup_close) int fd = ghost_take(c->pid, -1, &of, NULL);
    if (fd >= 0)
        return err_set(err, EAGAIN, "its child %d is not known yet", (int)c->pid);
    if (s->who.uid != 0 && !kin_is_of(c->pid, s->who.uid))
        return busy(c->pid, "is another user's", err);
    c->real = true;
    return 0;
}

/* Of one that is on a node already: we have its books. */
static int take_there(const struct starting *s, struct child *c, struct err *err)
{
    struct kid *k = kid_find(s->ps, s->from, c->pid);
    struct proc *p = k ? k->body : NULL;

    if (!p && s->ps->recovery)
        return err_set(err, EAGAIN, "its child %d is not known yet", (int)c->pid);
    if (!p)
        return busy(c->pid, "was made on the node that it would leave", err);
    if (kid_parent(s->ps, k) != proc_find(s->ps, s->mover))
        return err_set(err, EINVAL, "process %d is no child of process %d", (int)c->pid,
                       (int)s->mover);
    if (p->state != PROC_RUNNING || k->stage != KID_HERE || k->p.pidfd < 0)
        return err_set(err, EAGAIN, "its child %d is being started", (int)c->pid);
    if (k->p.pid != c->pid)
        return busy(c->pid, "has another number on the master", err);
    if (s->node[0] >= 0 && p->node == s->node[0])
        return busy(c->pid, "runs on the node that it would go to", err);
    return name_it(c, p, err);
}

int family_take(struct starting *s, struct err *err)
{
    const msgpack_object_array *a;
    int64_t pid;

    if (!mp_get(&s->body, "children"))
        return 0;
    if (mp_get_array(&s->body, "children", &a, err) < 0)
        return -1;
    if (!s->self || !s->image || a->size > FAMILY_MAX)
        return err_set(err, EINVAL, "children: %u; at most %d, of who moves itself", a->size,
                       FAMILY_MAX);
    struct family *b = calloc(1, sizeof *b + a->size * sizeof b->child[0]);
    if (!b)
        return err_set(err, ENOMEM, "out of memory");
    trace_look(s->ps); /* what was stopped till now */
    forget(place(s->ps, s->id)); /* asked again */
    *b = (struct family){ .next = s->ps->families, .launch = s->id, .from = s->from,
                         .to = s->node[0], .ghost = s->mover };
    for (; b->n < a->size; b->n++) {
        const msgpack_object *o = &a->ptr[b->n];
        struct child *c = &b->child[b->n];
        if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 3 ||
            !mp_as_int(&o->via.array.ptr[0], &pid) || pid < 2 || pid > INT32_MAX ||
            o->via.array.ptr[1].type != MSGPACK_OBJECT_BOOLEAN) {
            free(b);
            return err_set(err, EPROTO, "children: want [pid, leads, comm] rows");
        }
        CLEANUP(cleanup_free) char *comm = mp_dup(&o->via.array.ptr[2]);
        c->pid = (pid_t)pid;
        c->leads = o->via.array.ptr[1].via.boolean;
        snprintf(c->comm, sizeof c->comm, "%s", comm ? comm : "child");
        if ((s->from < 0 ? take_here(s, c, err) : take_there(s, c, err)) < 0) {
            free(b);
            return -1;
        }
    }
    s->ps->families = b;
    return 0;
}

bool family_any(const struct starting *s)
{
    const struct family *b = *place(s->ps, s->id);

    return b && b->n;
}

void family_pack(const struct starting *s, mp_buf *m)
{
    const struct family *b = *place(s->ps, s->id);

    mp_array(m, b ? b->n : 0);
    for (uint32_t i = 0; b && i < b->n; i++) {
        mp_array(m, 3);
        mp_int(m, b->child[i].pid);
        mp_bool(m, b->child[i].leads);
        mp_bin(m, b->child[i].comm, strlen(b->child[i].comm));
    }
}

/* --- their parent is there --- */

/* A process of the master, of which we know from now on. */
static void tie_real(procspace_t *ps, const struct family *b, struct child *c, struct kid *k)
{
    uint64_t id = 0;
    struct err err = { 0 };
    int fd = kin_ppid(c->pid) == b->ghost ? process_open(c->pid) : -1;

    while (!(id >> 1) && getrandom(&id, sizeof id, 0) == sizeof id)
        ;
    struct launch *l = fd < 0 ? NULL
                              : launch_add(ps, id >> 1, 1, k->p.launch->uid, k->p.launch->gid, 0,
                                           k->name.comm, &err);
    struct proc *p = l ? home_add(ps, l, 0, -1, k->p.node, k->npid, &err) : NULL;
    if (!p) { /* it has ended, and nobody has told us how */
        cleanup_close(&fd);
        home_tell_end(ps, k->p.node, k->npid, 0);
        kid_gone(ps, k, 0);
        return;
    }
    p->state = PROC_RUNNING;
    kid_stands(ps, k, c->pid, fd, true);
    home_found(p);
}

static void tie(procspace_t *ps, const struct family *b, struct child *c, struct kid *k)
{
    struct proc *p = proc_of(ps, c);

    if (c->done)
        return;
    c->done = true;
    if (p && p->state == PROC_ENDED) {
        c->ended = true;
        c->status = p->status;
    }
    if (c->ended) {
        home_tell_end(ps, k->p.node, k->npid, c->status);
        kid_gone(ps, k, c->status);
    } else if (p) {
        home_move(ps, p, k);
    } else {
        tie_real(ps, b, c, k);
    }
}

static void settle(procspace_t *ps, struct family *b)
{
    bool all = true;

    for (uint32_t i = 0; i < b->n; i++) {
        struct kid *k = b->child[i].done ? NULL : kid_find(ps, b->to, b->child[i].pid);
        if (k && k->p.launch->id == b->launch && !k->body)
            tie(ps, b, &b->child[i], k);
        all &= b->child[i].done;
    }
    if (all)
        forget(place(ps, b->launch));
}

void family_gone(procspace_t *ps, uint64_t launch)
{
    struct family *b = *place(ps, launch);

    if (!b)
        return;
    b->gone = true;
    if (b->to >= 0) {
        settle(ps, b);
        return;
    }
    for (uint32_t i = 0; i < b->n; i++) { /* it has taken its ghost's place above them */
        struct proc *p = proc_of(ps, &b->child[i]);
        if (p && p->homed && p->state == PROC_RUNNING)
            home_back(ps, p);
    }
    forget(place(ps, launch));
}

bool family_whole(procspace_t *ps, uint64_t launch)
{
    const struct family *b = *place(ps, launch);

    for (uint32_t i = 0; b && i < b->n; i++) {
        const struct proc *p = proc_of(ps, &b->child[i]);
        if (!p || p->state != PROC_RUNNING)
            return false;
    }
    return true;
}

void family_drop(procspace_t *ps, uint64_t launch)
{
    struct family **b = place(ps, launch);

    if (*b && !(*b)->gone)
        forget(b);
}

void family_let_go(procspace_t *ps, const struct proc *p)
{
    for (struct family *b = ps->families; b; b = b->next)
        for (uint32_t i = 0; i < b->n; i++)
            if (!b->child[i].done && proc_of(ps, &b->child[i]) == p) {
                b->child[i].launch = 0;
                b->child[i].real = true;
            }
}

void families_lost(procspace_t *ps, int node)
{
    for (struct family **b = &ps->families; *b;) {
        if ((*b)->to == node && (*b)->gone)
            forget(b);
        else
            b = &(*b)->next;
    }
}

void family_ended(procspace_t *ps, pid_t pid, int status)
{
    for (struct family *b = ps->families; b; b = b->next)
        for (uint32_t i = 0; b->gone && i < b->n; i++)
            if (b->child[i].real && b->child[i].pid == pid && !b->child[i].done) {
                b->child[i].ended = true;
                b->child[i].status = status;
            }
}

/* --- their kids --- */

static void look_again(procspace_t *ps);

/* Of a move that an earlier procspace began, or whose end is not known yet: by the
 * kernel's word there is one that it may stand for, a child of its parent's ghost under
 * its number. */
bool family_may_stand(const struct kid *k)
{
    struct ghost_kid who;

    return !k->via && k->parent_ghost && k->p.pidfd < 0 &&
           k->stage == KID_WAITING && kin_ppid(k->npid) == k->parent_ghost &&
           !ghost_kid(k->npid, &who);
}

bool family_born(procspace_t *ps, struct kid *k)
{
    struct family *b = *place(ps, k->p.launch->id);

    for (uint32_t i = 0; b && b->to == k->p.node && i < b->n; i++)
        if (b->child[i].pid == k->npid && !b->child[i].done && k->parent_ghost == b->ghost) {
            if (b->gone)
                settle(ps, b);
            return true;
        }
    if (!family_may_stand(k))
        return false;
    if (!ps->recovery)
        look_again(ps);
    return true;
}

/* Its parent has left for another place, or is a process of the master by now. */
bool family_left(procspace_t *ps, const struct kid *k)
{
    const struct proc *parent = k->parent_ghost ? proc_find(ps, k->parent_ghost) : NULL;
    struct err err = { 0 };
    uint64_t of;

    if (!k->parent_ghost || !k->body || k->body->state != PROC_RUNNING)
        return false;
    if (parent)
        return parent->state == PROC_RUNNING && parent->node != k->p.node;
    CLEANUP(cleanup_close) int fd = ghost_take(k->parent_ghost, -1, &of, &err);
    return fd < 0 && err.code == EINVAL;
}

static void recover(procspace_t *ps, struct kid *k)
{
    struct proc *parent = proc_find(ps, k->parent_ghost), *p = proc_find(ps, k->npid);
    struct family b = { .to = k->p.node, .ghost = k->parent_ghost };
    struct child c = { .pid = k->npid };
    uint64_t of;
    struct err err = { 0 };

    if (!parent || parent->state != PROC_RUNNING || parent->node != k->p.node || (p && p->kid) ||
        restorer_stands(k->npid))
        return;
    if (p) { /* its node has not been told yet whose it is */
        if (p->state == PROC_RUNNING)
            home_move(ps, p, k);
        return;
    }
    int fd = ghost_take(k->npid, -1, &of, &err);
    if (k->body && fd >= 0) {
        kid_stands(ps, k, k->npid, fd, false);
        return;
    }
    p = fd >= 0 ? home_unstood(ps, k->npid, k->p.uid, k->p.node) : NULL;
    if (p) { /* its node has been told of an earlier home only */
        p->pidfd = fd;
        home_move(ps, p, k);
        return;
    }
    cleanup_close(&fd);
    if (err.code == EINVAL && (k->p.uid == 0 || kin_is_of(k->npid, k->p.uid))) /* no ghost */
        tie_real(ps, &b, &c, k);
}

static void recover_one(procspace_t *ps, struct kid *k)
{
    if (family_may_stand(k))
        recover(ps, k);
}

static void count_waiting(procspace_t *ps, struct kid *k)
{
    ps->families_waiting += family_may_stand(k);
}

static void on_look(void *arg)
{
    procspace_t *ps = arg;

    ps->families_timer = 0;
    if (ps->recovery)
        return;
    kids_each(ps, recover_one);
    ps->families_waiting = 0;
    kids_each(ps, count_waiting);
    if (ps->families_waiting)
        look_again(ps);
}

/* Whoever it stands for is tied to it once its parent is known to be there; if that
 * comes to nothing, its node ends it. */
static void look_again(procspace_t *ps)
{
    if (!ps->families_timer)
        ps->families_timer = loop_timer(ps->loop, LOOK_MS, false, on_look, ps);
}

/* Its parent is not there, or not known to be: the child's ghost stands for it alone. */
static void let_be(procspace_t *ps, struct kid *k)
{
    (void)ps;
    if (family_may_stand(k))
        home_kid_gone(k);
}

void families_recover(procspace_t *ps, bool last)
{
    kids_each(ps, recover_one);
    if (!last)
        return;
    kids_each(ps, let_be);
    kids_place(ps);
    home_recover_plain(ps);
    look_again(ps);
}
