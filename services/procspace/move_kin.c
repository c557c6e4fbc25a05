/* move_kin.c - processes whose parents are processes of a node go elsewhere
 *
 * One that a body has made there is a kid of that node to us (kids.c). When it has
 * gone, what it was stands for it, as its parent's child, and it is a body whose
 * parent waits for it there (home.c). Should it come back, it takes that place, and is
 * a body that its parent waits for itself. The third time it goes, the node tells of
 * its stand-in anew (family.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "services/procspace/family.h"
#include "services/procspace/move_kin.h"

/* Who waits for it at the node that it is on. */
static struct proc *parent_of(procspace_t *ps, const struct proc *p)
{
    struct proc *up = p->kid ? kid_parent(ps, p->kid) : p->local ? proc_there(ps, p->node, p->local)
                                                                 : NULL;

    return up && up->state == PROC_RUNNING && up->node == p->node ? up : NULL;
}

struct proc *kin_maker(procspace_t *ps, const struct proc *p, pid_t *npid)
{
    *npid = p->kid ? p->kid->ppid : p->local;
    return parent_of(ps, p);
}

int kin_mover(struct starting *s, pid_t npid, struct err *err)
{
    struct kid *k = kid_find(s->ps, s->from, npid);

    /* Or one that has been home, whose agent knows it by its number only. */
    if (!k && proc_find(s->ps, npid)) {
        s->mover = npid;
        return 0;
    }
    if (!k || k->stage != KID_HERE || k->p.pidfd < 0)
        return err_set(err, EAGAIN, "process %d of node %d is not known yet", (int)npid, s->from);
    s->mover = npid;
    return 0;
}

struct proc *kin_made(const struct starting *s)
{
    struct kid *k = kid_find(s->ps, s->from, s->mover_npid);

    return k && !k->body ? &k->p : NULL;
}

int kin_take_local(struct starting *s, struct launch *l, struct kid *k, struct err *err)
{
    struct proc *was = k->body, *p = l->rank[0];
    CLEANUP(cleanup_close) int fd = process_take(s->pid[0], s->who.uid, err);

    if (fd < 0)
        return -1;
    if (!p && !(p = proc_new(s->ps, l, 0, s->mover, -1, s->node[0], err)))
        return -1;
    p->was = was;
    p->gen = s->gen = was->gen + 1;
    if (s->node[0] == was->home) /* it is its parent's child there */
        kin_release(&s->parent);
    return 0;
}

int kin_take_mover(struct starting *s, const struct proc *old, struct err *err)
{
    pid_t npid;
    struct proc *up = kin_maker(s->ps, old, &npid);

    if (old->kid && old->kid->body)
        return err_set(err, EAGAIN, "process %d stands for one that is elsewhere",
                       (int)s->mover_npid);
    if (!up)
        return 0;
    kin_release(&s->parent);
    s->parent = kin_parent_there(up, npid, err);
    return s->parent ? 0 : -1;
}

bool kin_mute(procspace_t *ps, const struct proc *was)
{
    if (was->kid || was->speaks)
        return !readers_heard(ps, was->kid ? was->launch->id : was->speaks);
    return (was->homed || was->local) && !was->launch->forwarded;
}

struct sharing {
    const struct proc *was;
    bool any;
};

static void look_sharing(void *arg, struct kid *k)
{
    struct sharing *s = arg;

    s->any |= k->p.node == s->was->node && k->p.launch == s->was->launch && !k->body &&
              k->p.state != PROC_ENDED;
}

uint64_t kin_speaks_in(procspace_t *ps, const struct proc *was)
{
    struct sharing s = { .was = was };

    if (was->kid || was->speaks)
        return was->kid ? was->launch->id : was->speaks;
    if (was->launch->forwarded)
        kids_each(ps, look_sharing, &s);
    return s.any ? was->launch->id : 0;
}

int kin_home(const struct starting *s, const struct proc *was, pid_t *npid)
{
    int home = -1;

    if (was->homed) {
        home = was->home;
        *npid = was->home_npid;
    } else if (parent_of(s->ps, was)) {
        home = was->node;
        *npid = was->kid ? was->kid->npid : was->npid;
    }
    return home == s->node[0] ? -1 : home; /* there it is its parent's child */
}

struct leaving {
    mp_buf rows;
    uint32_t n;
    int node;
    pid_t npid, ghost;
};

static bool is_of(const struct leaving *l, const struct kid *k)
{
    return k->p.node == l->node && k->p.state != PROC_ENDED &&
           (k->parent_ghost ? k->parent_ghost == l->ghost : k->ppid == l->npid);
}

static bool is_left(const struct leaving *l, const struct kid *k)
{
    return is_of(l, k) && !k->body && k->p.pidfd >= 0;
}

struct standing {
    const struct leaving *l;
    procspace_t *ps;
    bool any;
};

/* What stands there for a child of it may have children itself. */
static void look_standing(void *arg, struct kid *k)
{
    struct standing *s = arg;

    s->any |= (k->body || k->stands) && is_of(s->l, k) && kin_may_stand(s->ps, k->npid, s->l->node);
}

static bool any_standing(procspace_t *ps, const struct leaving *l)
{
    struct standing s = { .l = l, .ps = ps };

    kids_each(ps, look_standing, &s);
    return s.any;
}

static struct leaving leaves(const struct proc *was, int node, pid_t npid)
{
    return (struct leaving){ .node = node, .ghost = was->pid,
                             .npid = npid ? npid : was->npid ? was->npid : was->pid };
}

void kin_arrived(struct move *m, struct proc *p)
{
    procspace_t *ps = m->all->ps;
    struct proc *was = p->was, *up = parent_of(ps, was);
    struct leaving left = leaves(was, was->node, was->kid ? was->kid->npid : 0);

    m->standing = any_standing(ps, &left); /* its children's stand-ins are others soon */
    if (was->kid) {
        struct kid *k = was->kid;
        p->was = NULL; /* it stays, or is no more */
        m->was_npid = k->npid;
        kin_moved(ps, was, p);
        if (up)
            home_stays(ps, p, k);
        else
            kid_takes(ps, p, k); /* nobody waits for it there */
        return;
    }
    if (was->homed && was->stand && home_is_local(was))
        was->stand->p.real = false; /* it becomes a ghost again */
    bool back = was->homed && was->home == p->node;
    proc_take_over(ps, p);
    if (back)
        home_back(ps, p);
    else if (up) /* the node tells of its stand-in */
        family_stands(ps, up, was->node, was->npid ? was->npid : was->pid, p);
}

/* ---- what it leaves behind ---- */

/* The launch that its ghost names. */
static uint64_t named_by(const struct proc *p)
{
    uint64_t of = 0;
    CLEANUP(cleanup_close) int fd = ghost_take(p->pid, -1, &of, NULL);

    return fd >= 0 ? of : 0;
}

static void pack_left(void *arg, struct kid *k)
{
    struct leaving *l = arg;

    if (!is_left(l, k))
        return;
    if (!k->as_body)
        k->as_body = launch_new_id();
    l->n++;
    mp_array(&l->rows, 4);
    mp_int(&l->rows, k->npid);
    mp_int(&l->rows, k->p.pid);
    mp_uint(&l->rows, k->as_body);
    mp_uint(&l->rows, named_by(&k->p));
}

void kin_seen(struct move *m, struct proc *p)
{
    struct err err = { 0 };

    if (m->par || m->ghost <= 0)
        return;
    if (p && !p->kid && p->state == PROC_RUNNING)
        m->par = kin_parent_there(p, m->was_npid ? m->was_npid : p->pid, &err);
    else if (!p)
        m->par = kin_parent_here(m->all->ps, m->ghost, &err);
}

static bool is_with(const struct proc *p, int node, pid_t npid)
{
    return p->node == node && p->local && p->local == npid && p->state == PROC_RUNNING;
}

static bool any_with(procspace_t *ps, int node, pid_t npid)
{
    bool any = false;

    for (size_t b = 0; b < PROC_BUCKETS; b++)
        for (const struct proc *p = ps->proc[b]; p; p = p->next)
            any |= is_with(p, node, npid);
    for (const struct proc *p = ps->homed; p; p = p->next_homed)
        any |= is_with(p, node, npid);
    return any;
}

uint32_t kin_pack_departure(struct move *m, const struct proc *was, mp_buf *out)
{
    procspace_t *ps = m->all->ps;
    const struct launch *l = launch_find(ps, m->launch);
    struct proc *p = l && l->ranks ? l->rank[0] : NULL;
    struct leaving left = leaves(was, m->departs, m->was_npid);
    struct err err = { 0 };

    /* On its way to the master it is the old one that is spoken of till the end. */
    if (p && m->home && p->was)
        p = p->was;
    p = proc_now(p);
    if (p && p->left) { /* it has been on the master since, and is nobody's to know there */
        if (!m->par)
            m->par = kin_parent_here(ps, p->pid, &err);
        p = NULL;
    }
    if (!p && !m->par)
        return 0;
    m->left_npid = left.npid;
    mp_init(&left.rows);
    kids_each(ps, pack_left, &left);
    if (!left.n && !any_with(ps, left.node, left.npid) && !m->standing && !any_standing(ps, &left))
        kin_release(&m->par);
    else if (!m->par)
        m->par = kin_parent_there(p, left.npid, &err);
    if (!m->par) {
        mp_free(&left.rows);
        return 0;
    }
    kin_stands(m->par, left.node); /* it may speak before it answers */
    mp_key(out, "name");
    kin_pack(m->par, false, out);
    mp_key(out, "kids");
    mp_array(out, left.n);
    msgpack_sbuffer_write(&out->b, left.rows.b.data, left.rows.b.size);
    mp_free(&left.rows);
    return 2;
}

/* A kid that is a body of its own now. */
static void took(struct move *m, int node, pid_t npid)
{
    procspace_t *ps = m->all->ps;
    struct kid *k = kid_find(ps, node, npid);
    struct err err = { 0 };

    if (!k || k->body || !k->as_body || k->p.pidfd < 0)
        return;
    struct launch *l = launch_add(ps, k->as_body, 1, k->p.uid, k->p.gid, 0, k->name.comm, &err);
    struct proc *p = l ? proc_new(ps, l, 0, k->p.pid, -1, node, &err) : NULL;
    if (!p) {
        svc_log("warning", "process %d of node %d: %s", (int)npid, node, err.text);
        return;
    }
    p->as = named_by(&k->p);
    p->speaks = k->p.launch->id;
    p->state = PROC_RUNNING;
    kid_takes(ps, p, k);
    kin_adopt(m->par, p);
    family_took(ps, m->launch, npid, p);
}

/* A stand-in waits for it now. */
static void parted(const struct move *m, struct proc *p)
{
    if (!is_with(p, m->departs, m->left_npid))
        return;
    p->local = 0;
    kin_adopt(m->par, p);
}

void kin_departed(struct move *m, const msgpack_object *value)
{
    procspace_t *ps = m->all->ps;
    const msgpack_object_array *a;
    int64_t npid;

    m->stands = value && mp_opt_bool(value, "stays", false);
    if (m->stands && m->par)
        kin_keep(m->par, m->departs);
    if (m->par && value && mp_get(value, "took") && mp_get_array(value, "took", &a, NULL) == 0)
        for (uint32_t i = 0; i < a->size; i++)
            if (mp_as_int(&a->ptr[i], &npid) && npid > 1 && npid <= INT32_MAX)
                took(m, m->departs, (pid_t)npid);
    for (size_t b = 0; m->par && b < PROC_BUCKETS; b++)
        for (struct proc *p = ps->proc[b]; p; p = p->next)
            parted(m, p);
    for (struct proc *p = ps->homed; m->par && p; p = p->next_homed)
        parted(m, p);
    family_parted(ps, m->launch);
    home_speak(ps, m->departs, m->left_npid);
}

void kin_move_free(struct move *m) { kin_release(&m->par); }

/* ---- to the master ---- */

struct kid *kin_stand(const struct proc *was)
{
    return was->kid ? was->kid : was->homed ? was->stand : NULL;
}

int kin_call_home(struct move *m, struct proc *p, struct err *err)
{
    procspace_t *ps = m->all->ps;
    struct kid *k = kin_stand(p->was);
    struct proc *up = k ? kid_parent(ps, k) : p->was->local ? parent_of(ps, p->was) : NULL;

    if (p->was->homed && (!k || k->p.pidfd < 0))
        return err_set(err, EAGAIN, "its stand-in is not known yet");
    if (k && k->p.pid != p->pid)
        return err_set(err, EBUSY, "process %d is %d on the master: it would have two numbers",
                       (int)p->pid, (int)k->p.pid);
    if (p->was->kid)
        m->was_npid = p->was->kid->npid;
    if (up) /* its ghost will be the parent of a real process */
        ghost_ring(up, GHOST_REAL, 0);
    ghost_ring(k ? &k->p : p->was, GHOST_ASK, 0);
    return 0;
}

bool kin_is_home(struct move *m, struct proc *p)
{
    procspace_t *ps = m->all->ps;
    struct proc *was = p->was, *up = was ? parent_of(ps, was) : NULL;
    struct kid *k = was ? kin_stand(was) : NULL;
    int node = was ? was->node : -1;

    if (was && was->homed) {
        proc_take_over(ps, p);
        if (!k) /* its stand-in was killed */
            return true;
    } else if (k && up) {
        p->was = NULL;
        kin_moved(ps, was, p);
        home_stays(ps, p, k);
        home_speak(ps, node, m->was_npid);
    } else if (k) { /* nobody waits for it there */
        p->was = NULL;
        kid_takes(ps, p, k);
        return false;
    } else {
        pid_t npid = was ? was->npid ? was->npid : was->pid : 0;
        proc_take_over(ps, p);
        p->real = true;
        if (up) /* told of as soon as its node has */
            family_stands(ps, up, node, npid, p);
        return up != NULL;
    }
    k->p.real = true;
    k->p.ghost_stopped = p->ghost_stopped = false;
    return true;
}
