/* family.c - children of a process that moves
 *
 * They stay where they are. Where their parent goes, a stand-in is made for each of
 * them with it (node/bpinit_child.c), and told as a kid like any that it makes there.
 * Once it runs there, what was known of the child is tied to that kid (home.c): its
 * ghost, which is a child of the parent's ghost, stays. A child that is a process of
 * the master becomes known by this. Coming to the master, the parent has them as its
 * children by itself, since it takes the place of its ghost.
 *
 * A child that runs where its parent goes is its child there at once: who stood for
 * the parent becomes the parent (node/bpinit_left.c). One that it has made on the node
 * that it leaves is a body like others from then on, whose parent has a stand-in there.
 */
#include "services/procspace/family.h"
#include "services/procspace/move_kin.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/rests.h"

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
    bool there; /* it runs where its parent goes */
    bool made;  /* on the node that its parent leaves, where it is none of ours yet */
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

static struct family **of(procspace_t *ps, const struct family *it)
{
    struct family **b = &ps->families;

    while (*b && *b != it)
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
    return proc_of_rank(ps, c->launch, c->rank);
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
        CLEANUP(cleanup_close) int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (proc >= 0 && !p->real && !ghost_rests(proc, c->pid))
            return err_set(err, EAGAIN, "its child %d was sent something a moment ago", (int)c->pid);
        c->there = p->state == PROC_RUNNING && p->node == s->node[0];
        if (c->there && !p->parent)
            return busy(c->pid, "runs where it would go to, and has another parent there", err);
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

/* Of one that is on a node already: we have its books. One whose ghost did not get its
 * number, since another process had that, would be unknown to its parent anywhere else. */
static int take_there(const struct starting *s, struct child *c, struct err *err)
{
    static const char other[] = "has another number on the master";
    struct kid *k = kid_find(s->ps, s->from, c->pid);
    struct proc *p = k ? k->body : NULL, *here = k ? NULL : proc_there(s->ps, s->from, c->pid);
    const struct proc *mover = kin_made(s);

    if (here && here->node == s->from && here->local == s->mover_npid) {
        /* it was made there, or was there before */
        pid_t ghost = home_ghost(here);
        return ghost && ghost != c->pid ? busy(c->pid, other, err) : name_it(c, here, err);
    }
    if (!k)
        return err_set(err, EAGAIN, "its child %d is not known yet", (int)c->pid);
    c->made = !p;
    if (c->made)
        p = &k->p;
    if (kid_parent(s->ps, k) != (mover ? mover : proc_find(s->ps, s->mover)))
        return err_set(err, EINVAL, "process %d is no child of process %d", (int)c->pid,
                       (int)s->mover);
    if (p->state != PROC_RUNNING || k->stage != KID_HERE || k->p.pidfd < 0)
        return err_set(err, EAGAIN, "its child %d is being started", (int)c->pid);
    if (k->p.pid != c->pid)
        return busy(c->pid, other, err);
    c->there = !c->made && s->node[0] >= 0 && p->node == s->node[0];
    return c->made ? 0 : name_it(c, p, err);
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

static uint32_t count(const struct starting *s, bool there)
{
    const struct family *b = *place(s->ps, s->id);
    uint32_t n = 0;

    for (uint32_t i = 0; b && i < b->n; i++)
        n += b->child[i].there == there;
    return n;
}

bool family_any(const struct starting *s, bool there) { return count(s, there) > 0; }

void family_pack_there(const struct starting *s, mp_buf *m)
{
    const struct family *b = *place(s->ps, s->id);

    mp_array(m, count(s, true));
    for (uint32_t i = 0; b && i < b->n; i++) {
        const struct proc *p = b->child[i].there ? proc_of(s->ps, &b->child[i]) : NULL;
        if (b->child[i].there)
            mp_int(m, p && p->npid ? p->npid : b->child[i].pid);
    }
}

void family_pack(const struct starting *s, mp_buf *m)
{
    const struct family *b = *place(s->ps, s->id);

    mp_array(m, count(s, false));
    for (uint32_t i = 0; b && i < b->n; i++) {
        if (b->child[i].there)
            continue;
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
    struct err err = { 0 };
    int fd = kin_ppid(c->pid) == b->ghost ? process_open(c->pid) : -1;

    struct launch *l = fd < 0 ? NULL
                              : launch_add(ps, launch_new_id(), 1, k->p.launch->uid, k->p.launch->gid, 0,
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

/* Its parent has come to where it is, and waits for it itself. */
static void is_with(procspace_t *ps, const struct family *b, struct child *c)
{
    struct proc *p = proc_of(ps, c);

    c->done = true;
    if (!p || p->state != PROC_RUNNING)
        return;
    if (p->homed)
        home_back(ps, p);
    p->local = b->ghost;
    if (p->parent)
        kin_came(p->parent, b->to, b->launch);
    kin_release(&p->parent);
}

static void settle(procspace_t *ps, struct family *b)
{
    bool all = true;

    for (uint32_t i = 0; i < b->n; i++) {
        struct child *c = &b->child[i];
        bool part = c->made && !c->launch && !c->ended; /* of what its parent was, not yet */
        struct kid *k = c->done || c->there || part ? NULL : kid_find(ps, b->to, c->pid);
        if (c->there && !c->done)
            is_with(ps, b, c);
        if (k && k->p.launch->id == b->launch && !k->body)
            tie(ps, b, c, k);
        all &= c->done;
    }
    if (all)
        forget(of(ps, b));
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
        const struct child *c = &b->child[i];
        const struct proc *p = proc_of(ps, c);
        const struct kid *k = c->made && !p ? kid_find(ps, b->from, c->pid) : NULL;
        if (c->ended || (!k && (!p || p->state != PROC_RUNNING)))
            return false;
    }
    return true;
}

void family_took(procspace_t *ps, uint64_t launch, pid_t npid, const struct proc *p)
{
    struct family *b = *place(ps, launch);

    for (uint32_t i = 0; b && i < b->n; i++)
        if (b->child[i].made && b->child[i].pid == npid)
            b->child[i].launch = p->launch->id;
}

void family_parted(procspace_t *ps, uint64_t launch)
{
    struct family *b = *place(ps, launch);

    if (b && b->gone && b->to >= 0)
        settle(ps, b);
}

void family_stands(procspace_t *ps, const struct proc *parent, int node, pid_t npid,
                   const struct proc *p)
{
    struct family *b = calloc(1, sizeof *b + sizeof b->child[0]);

    if (!b)
        abort();
    *b = (struct family){ .next = ps->families, .launch = parent->launch->id, .from = -1,
                          .to = node, .ghost = parent->kid ? 0 : parent->pid, .gone = true,
                          .n = 1 };
    b->child[0] = (struct child){ .pid = npid, .launch = p->launch->id, .rank = p->rank };
    ps->families = b;
    settle(ps, b);
}

void family_made_ended(procspace_t *ps, const struct kid *k, int status)
{
    for (struct family *b = ps->families; b; b = b->next)
        for (uint32_t i = 0; b->from == k->p.node && i < b->n; i++) {
            struct child *c = &b->child[i];
            if (c->made && !c->launch && c->pid == k->npid) {
                c->ended = true;
                c->status = status;
            }
        }
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

static bool is_real(procspace_t *ps, const struct child *c)
{
    const struct proc *p = proc_of(ps, c);

    return c->real || (p && p->real);
}

void family_ended(procspace_t *ps, pid_t pid, int status)
{
    for (struct family *b = ps->families; b; b = b->next)
        for (uint32_t i = 0; b->gone && i < b->n; i++)
            if (b->child[i].pid == pid && !b->child[i].done && is_real(ps, &b->child[i])) {
                b->child[i].ended = true;
                b->child[i].status = status;
            }
}

/* --- their kids --- */

static void look_again(procspace_t *ps);

/* Its number on the master. When that has left the node, what stands for it there has it. */
static pid_t parent_of(const struct kid *k)
{
    if (k->parent_ghost || !k->stands || kid_find(k->p.launch->ps, k->p.node, k->ppid))
        return k->parent_ghost;
    return k->ppid > 1 ? k->ppid : 0;
}

/* Of a move that an earlier procspace began, or whose end is not known yet: by the
 * kernel's word there is one that it may stand for, a child of its parent's ghost under
 * its number. */
bool family_may_stand(const struct kid *k)
{
    struct ghost_kid who;
    pid_t parent = parent_of(k);

    return !k->via && parent && k->p.pidfd < 0 &&
           k->stage == KID_WAITING && kin_ppid(k->npid) == parent &&
           !(ghost_kid(k->npid, &who) && who.node == k->p.node && who.npid == k->npid &&
             who.gen == k->p.gen);
}

static struct family *that_awaits(procspace_t *ps, const struct kid *k)
{
    for (struct family *b = ps->families; b; b = b->next)
        for (uint32_t i = 0; b->launch == k->p.launch->id && b->to == k->p.node && i < b->n; i++)
            if (b->child[i].pid == k->npid && !b->child[i].done && !b->child[i].there &&
                k->parent_ghost == b->ghost)
                return b;
    return NULL;
}

bool family_awaits(procspace_t *ps, const struct kid *k)
{
    return that_awaits(ps, k) || family_may_stand(k);
}

bool family_born(procspace_t *ps, struct kid *k)
{
    struct family *b = that_awaits(ps, k);

    if (b) {
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
    pid_t up = parent_of(k);
    const struct kid *stays = up ? NULL : kid_find(ps, k->p.node, k->ppid);
    const struct proc *parent = up ? proc_find(ps, up) : stays ? stays->body : NULL;
    struct err err = { 0 };
    uint64_t of;

    if (!k->body || k->body->state != PROC_RUNNING || (!up && !parent))
        return false;
    if (parent)
        return parent->state == PROC_RUNNING && parent->node != k->p.node;
    CLEANUP(cleanup_close) int fd = ghost_take(up, -1, &of, &err);
    return fd < 0 && err.code == EINVAL;
}

static void recover(procspace_t *ps, struct kid *k)
{
    struct proc *parent = proc_find(ps, parent_of(k)), *p = proc_find(ps, k->npid);
    struct family b = { .to = k->p.node, .ghost = parent_of(k) };
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

static void recover_one(void *arg, struct kid *k)
{
    if (family_may_stand(k))
        recover(arg, k);
}

static void count_waiting(void *arg, struct kid *k)
{
    procspace_t *ps = arg;

    ps->families_waiting += family_may_stand(k);
}

static void on_look(void *arg)
{
    procspace_t *ps = arg;

    ps->families_timer = 0;
    if (ps->recovery)
        return;
    kids_each(ps, recover_one, ps);
    ps->families_waiting = 0;
    kids_each(ps, count_waiting, ps);
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
static void let_be(void *arg, struct kid *k)
{
    (void)arg;
    if (family_may_stand(k))
        home_kid_gone(k);
}

void families_recover(procspace_t *ps, bool last)
{
    kin_find(ps);
    kids_each(ps, recover_one, ps);
    if (!last)
        return;
    kids_each(ps, let_be, ps);
    kids_place(ps);
    home_recover_plain(ps);
    look_again(ps);
}
