/* recover.c - after a restart: ghosts are found in /proc, bodies at the nodes
 *
 * A ghost in /proc says of itself which launch it belongs to, and anybody may
 * start one that lies. So it is only a candidate until a node names a body
 * with that pid, launch and user. The node's word about bodies is the truth: a
 * ghost whose node knows nothing of it dies by SIGKILL; a body whose ghost is
 * gone is ended.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "services/procspace/family.h"

#define ASK_MS 5000
#define AGAIN_MS 3000
#define HEARD_MS 120000 /* who says a signal again has done so by then */
#define SETTLE_MS 10000 /* exits that nodes had not yet reported come in by then */

struct candidate {
    pid_t pid;
    int pidfd;
    uint64_t launch;
    struct ghost_kid kid; /* npid 0: it is a body's */
    bool arriving;        /* its body has not been let go yet */
};

struct recovery {
    struct candidate *c;
    size_t n;
    bool whole;  /* every node has told its own */
    bool doubt;  /* of some it is not known whether they are what they were */
    bool again;  /* so they have all been asked twice */
    int silent;  /* nodes that were asked and did not answer */
    int settle;  /* its timer */
};

struct heard { /* signals that bodies have had before our start, wherever they are now */
    size_t n;
    struct {
        pid_t pid;
        uint64_t once;
    } of[];
};

static int compare_pid(const void *a, const void *b)
{
    pid_t x = ((const struct candidate *)a)->pid, y = ((const struct candidate *)b)->pid;
    return (x > y) - (x < y);
}

static struct candidate *candidate_find(procspace_t *ps, pid_t pid)
{
    struct candidate key = { .pid = pid };

    if (!ps->recovery || !ps->recovery->n)
        return NULL;
    return bsearch(&key, ps->recovery->c, ps->recovery->n, sizeof key, compare_pid);
}

bool recovered_signal(procspace_t *ps, pid_t pid, uint64_t once)
{
    const struct heard *h = ps->heard;

    for (size_t i = 0; h && i < h->n; i++)
        if (h->of[i].once == once && h->of[i].pid == pid)
            return true;
    return false;
}

bool recovered_all(procspace_t *ps) { return !ps->recovery || ps->recovery->whole; }

static void forget_heard(void *arg)
{
    procspace_t *ps = arg;

    free(ps->heard);
    ps->heard = NULL;
}

static void take_heard(procspace_t *ps, const msgpack_object *value)
{
    const msgpack_object_array *a;
    size_t had = ps->heard ? ps->heard->n : 0;
    int64_t pid;

    if (!ps->recovery || !mp_get(value, "heard") || mp_get_array(value, "heard", &a, NULL) < 0)
        return;
    struct heard *h = realloc(ps->heard, sizeof *h + (had + a->size / 2) * sizeof h->of[0]);
    if (!h)
        return;
    if (!ps->heard)
        loop_timer(ps->loop, HEARD_MS, false, forget_heard, ps);
    ps->heard = h;
    h->n = had;
    for (uint32_t i = 0; i + 1 < a->size; i += 2)
        if (mp_as_int(&a->ptr[i], &pid) && pid > 0 && pid <= INT32_MAX &&
            a->ptr[i + 1].type == MSGPACK_OBJECT_POSITIVE_INTEGER) {
            h->of[h->n].pid = (pid_t)pid;
            h->of[h->n++].once = a->ptr[i + 1].via.u64;
        }
}

bool recovering(procspace_t *ps, pid_t pid) { return candidate_find(ps, pid) != NULL; }

/* By its name: the launch that it names is its parent's ghost's first. */
int recovered_kid(procspace_t *ps, int node, pid_t npid, uint32_t gen, int64_t uid, pid_t *pid)
{
    for (size_t i = 0; ps->recovery && i < ps->recovery->n; i++) {
        const struct candidate *c = &ps->recovery->c[i];
        uint64_t of = 0;
        if (c->kid.npid != npid || c->kid.node != node || c->kid.gen != gen ||
            proc_find(ps, c->pid))
            continue;
        *pid = c->pid;
        return ghost_take(c->pid, uid, &of, NULL);
    }
    return -1;
}

int recover_ghosts(procspace_t *ps, struct err *err)
{
    DIR *d = opendir("/proc");
    struct dirent *e;
    size_t room = 0;
    struct recovery *r = ps->recovery = calloc(1, sizeof *r);

    if (!r || !d) {
        if (d)
            closedir(d);
        return err_set(err, r ? errno : ENOMEM, "/proc: %s", strerror(r ? errno : ENOMEM));
    }
    while ((e = readdir(d))) {
        struct candidate c = { 0 };
        if (!isdigit((unsigned char)e->d_name[0]))
            continue;
        c.pid = (pid_t)atoi(e->d_name);
        c.pidfd = ghost_take(c.pid, -1, &c.launch, NULL);
        if (c.pidfd < 0)
            continue;
        if (!ghost_kid(c.pid, &c.kid))
            c.kid.npid = 0;
        if (r->n == room) {
            room = room ? room * 2 : 64;
            struct candidate *p = realloc(r->c, room * sizeof *p);
            if (!p) {
                closedir(d);
                return err_set(err, ENOMEM, "out of memory");
            }
            r->c = p;
        }
        r->c[r->n++] = c;
    }
    closedir(d);
    if (r->n) {
        qsort(r->c, r->n, sizeof *r->c, compare_pid);
        svc_log("info", "found %zu ghosts of an earlier procspace", r->n);
    }
    return 0;
}

/* Somebody reads what it says: it has streams of its own there. */
static bool has_streams(const msgpack_object *o)
{
    const msgpack_object_array *a;
    int64_t slot;

    if (mp_get_array(o, "streams", &a, NULL) < 0)
        return false;
    for (uint32_t fd = 1; fd < a->size; fd++)
        if (mp_as_int(&a->ptr[fd], &slot) && slot >= 0)
            return true;
    return false;
}

static struct launch *launch_known(procspace_t *ps, uint64_t id, uint32_t rank, int64_t uid,
                                   int64_t gid, const msgpack_object *o)
{
    CLEANUP(cleanup_free) char *argv0 = mp_opt_dup(o, "argv0");
    struct launch *l = launch_find(ps, id);
    struct err err = { 0 };

    if (!l && (l = launch_add(ps, id, rank + 1, uid, gid, (pid_t)mp_opt_int(o, "owner", 0),
                              argv0 ? argv0 : "", &err)))
        l->forwarded = has_streams(o);
    return l && l->uid == uid && launch_grow(l, rank + 1, &err) == 0 ? l : NULL;
}

/* It is no ghost. One that has just moved, and does not know it yet, is the process itself,
 * and asks about it. So is what is to be it on the master, and may be its ghost again. But
 * if it has come home, what its node speaks of is what it was there, about to end. */
static bool is_it_still(procspace_t *ps, pid_t pid, uint64_t launch, int64_t gen)
{
    struct recovery *r = ps->recovery;

    if (restorer_stands(pid) || (gen > 1 && move_is_asked(ps, launch)))
        return true;
    if (gen > 1 && r && !r->again)
        r->doubt = true; /* who asks may have been killed */
    return gen > 1 && r && r->again;
}

/* The candidate is whom the node speaks of: from now on it is a process. */
static struct proc *adopt(procspace_t *ps, pid_t pid, uint32_t rank, uint64_t launch,
                          int64_t uid, int64_t gid, const msgpack_object *o)
{
    struct err err = { 0 };
    uint64_t of = 0;
    int fd = ghost_take(pid, uid, &of, &err);

    if (fd < 0 && err.code == EINVAL && is_it_still(ps, pid, launch, mp_opt_int(o, "gen", 1))) {
        fd = process_take(pid, uid, &err);
        of = launch;
    }
    if (fd < 0)
        return NULL;
    uint64_t as = 0;
    if (mp_get(o, "as") && mp_get_uint(o, "as", &as, NULL) == 0 && of == as)
        of = launch; /* its ghost stands since an earlier move */
    struct ghost_kid who;
    if (of != launch && ghost_kid(pid, &who) && who.npid == pid) {
        as = of; /* it stood on a node too, beside a parent that has left it since */
        of = launch;
    }
    struct launch *l = of == launch ? launch_known(ps, launch, rank, uid, gid, o) : NULL;
    struct proc *p = NULL;
    if (l && !l->rank[rank])
        p = proc_add(ps, l, rank, pid, fd, -1, &err);
    if (!p) {
        close(fd);
        return NULL;
    }
    p->state = PROC_RUNNING;
    p->as = as;
    p->started = mp_opt_int(o, "start", p->started);
    ghost_watch(ps, p, &err);
    return p;
}

/* Two nodes know p: it has just moved from one to the other. */
static struct proc *moved_on(procspace_t *ps, struct proc *p, int node, uint32_t rank,
                             uint64_t launch, const msgpack_object *o)
{
    struct launch *l = launch_known(ps, launch, rank, p->uid, p->gid, o);
    struct err err = { 0 };

    if (!l)
        return NULL;
    struct proc *n = l->rank[rank];
    if (!n && !(n = proc_new(ps, l, rank, p->pid, -1, -1, &err)))
        return NULL;
    n->was = p;
    n->as = proc_first(p);
    n->state = PROC_RUNNING;
    n->started = mp_opt_int(o, "start", n->started);
    readers_next(ps, p->launch->id, p->rank, l, node);
    proc_take_over(ps, n);
    return n;
}

/* It runs here, or its ghost names a later launch: this is what it was there, and is about
 * to be told so. */
static bool has_moved_on(pid_t pid, int64_t uid)
{
    CLEANUP(cleanup_close) int fd = process_take(pid, uid, NULL);

    return fd >= 0;
}

/* One line of a node's list of bodies. */
static void on_body(procspace_t *ps, int node, const msgpack_object *o)
{
    int64_t pid = mp_opt_int(o, "pid", -1), rank = mp_opt_int(o, "rank", -1);
    int64_t gen = mp_opt_int(o, "gen", 1), uid = mp_opt_int(o, "uid", -1);
    uint64_t launch = 0;

    if (pid <= 0 || pid > INT32_MAX || rank < 0 || rank > 1000000 || uid < 0 ||
        mp_get_uint(o, "launch", &launch, NULL) < 0)
        return;
    if (mp_opt_bool(o, "arriving", false)) { /* it may be called off still */
        struct candidate *c = mp_get(o, "home") ? NULL : candidate_find(ps, (pid_t)pid);
        if (c)
            c->arriving = true;
        return;
    }
    if (mp_get(o, "home")) {
        home_recover(ps, node, o);
        return;
    }
    if (home_recover_here(ps, node, launch, (uint64_t)rank, o))
        return;
    struct proc *p = proc_find(ps, (pid_t)pid);
    if (p && p->launch->id != launch) {
        uint64_t as = launch;
        if (mp_get(o, "as"))
            mp_get_uint(o, "as", &as, NULL);
        if (p->state == PROC_RUNNING && proc_first(p) == as) {
            if (gen <= p->gen)
                return; /* what it was before it moved: about to end */
            p = moved_on(ps, p, node, (uint32_t)rank, launch, o);
        } else {
            p = NULL;
        }
    }
    if (!p)
        p = adopt(ps, (pid_t)pid, (uint32_t)rank, launch, uid, mp_opt_int(o, "gid", -1), o);
    if (!p && has_moved_on((pid_t)pid, uid))
        return;
    if (!p) { /* nobody stands for it on the master any more */
        struct proc body = { .pid = (pid_t)pid, .node = node, .gen = (uint32_t)gen,
                             .pidfd = -1 };
        svc_log("info", "node %d: process %lld has no ghost: ended", node, (long long)pid);
        body_signal(ps, &body, SIGKILL);
        return;
    }
    if (p->node >= 0 && p->node != node)
        return; /* a node speaks only of what is its own */
    p->node = node;
    p->gen = (uint32_t)gen;
    p->npid = (pid_t)mp_opt_int(o, "npid", 0);
    p->conts = (uint32_t)mp_opt_int(o, "conts", 0);
    p->halts = (uint32_t)mp_opt_int(o, "halts", 0);
    p->local = (pid_t)mp_opt_int(o, "local", 0);
    kin_recover(ps, p, o);
    if (p->pidfd < 0 && p->state == PROC_RUNNING)
        body_signal(ps, p, SIGKILL);
    if (mp_opt_bool(o, "stopped", false) && !p->ghost_stopped) {
        ghost_ring(p, GHOST_STOP, SIGSTOP);
        p->ghost_stopped = p->halted = true;
    }
}

void recover_list(procspace_t *ps, int node, const msgpack_object *value)
{
    const msgpack_object_array *a;

    if (mp_get_array(value, "procs", &a, NULL) < 0)
        return;
    take_heard(ps, value);
    CLEANUP(cleanup_free) char *space = mp_opt_dup(value, "space");
    struct node_space *ns = node_space(ps, node);
    if (ns && space && !ns->space[0])
        snprintf(ns->space, sizeof ns->space, "%s", space);
    if (ns) {
        ns->listed = true;
        mp_get_uint(value, "seq", &ns->listed_seq, NULL);
    }
    for (uint32_t i = 0; i < a->size; i++)
        on_body(ps, node, &a->ptr[i]);
    if (mp_get_array(value, "kids", &a, NULL) < 0)
        return;
    for (uint32_t i = 0; i < a->size; i++) {
        const msgpack_object *row = &a->ptr[i];
        struct event e = { row->via.array.ptr, row->via.array.size, 0, 0, 0 };
        if (row->type == MSGPACK_OBJECT_ARRAY && row->via.array.size)
            kid_event(ps, node, &e);
    }
    families_recover(ps, false);
}

static void on_node(void *arg, int node, const msgpack_object *value, const struct err *err)
{
    procspace_t *ps = arg;

    (void)err;
    if (value)
        recover_list(ps, node, value);
    else if (ps->recovery)
        ps->recovery->silent++;
}

/* Since it was found it may have become the process itself, or that gone anew. */
static bool is_nobodys(procspace_t *ps, pid_t pid, uint64_t *of)
{
    const struct proc *p = proc_find(ps, pid);
    CLEANUP(cleanup_close) int fd = ghost_take(pid, -1, of, NULL);
    bool known = p && (p->pidfd >= 0 || proc_first(p) == *of);
    bool stands = p && p->kid && kid_body(p->kid); /* it names that one's launch */

    return fd >= 0 && !known && !stands;
}

/* Ghosts that no node knows, and no node has reported the end of. */
static void settle(void *arg)
{
    procspace_t *ps = arg;
    struct recovery *r = ps->recovery;
    bool wait = false;
    unsigned n = 0;

    for (size_t i = 0; i < r->n; i++)
        if (r->c[i].arriving && !proc_find(ps, r->c[i].pid)) {
            r->c[i].arriving = false; /* is it still? */
            wait = true;
        }
    if (wait || (r->doubt && !r->again)) {
        r->again = !wait;
        r->settle = 0;
        recover_nodes(ps);
        return;
    }
    families_recover(ps, true);
    for (size_t i = 0; i < r->n; i++) {
        struct proc left = { .pid = r->c[i].pid, .pidfd = r->c[i].pidfd };
        uint64_t of;
        if (is_nobodys(ps, left.pid, &of)) {
            const struct proc *p = proc_find(ps, left.pid);
            svc_log("warning", "ghost %d of launch %llu has no body on any node: killed (%s)",
                    (int)left.pid, (unsigned long long)of,
                    !p ? "unknown" : p->kid ? "a kid's" : "another launch's");
            ghost_signal(&left, SIGKILL);
            n++;
        }
        close(left.pidfd);
    }
    home_settle(ps);
    kin_settle(ps);
    free(r->c);
    free(r);
    ps->recovery = NULL;
    if (n)
        svc_log("warning", "%u ghosts without a body on any node: killed", n);
}

/* Until every node that may still hold bodies has answered, none is given up. */
static void on_all_asked(void *arg)
{
    procspace_t *ps = arg;

    if (!ps->recovery)
        return; /* only the bus was away */
    ps->recovery->whole |= !ps->recovery->silent;
    if (ps->recovery->silent)
        loop_timer(ps->loop, AGAIN_MS, false, recover_nodes, ps);
    else if (!ps->recovery->settle)
        ps->recovery->settle = loop_timer(ps->loop, ps->recovery->again ? 0 : SETTLE_MS, false,
                                          settle, ps);
}

static void on_nodes(void *arg, const msgpack_object *value, const struct err *err)
{
    procspace_t *ps = arg;

    if (!value || value->type != MSGPACK_OBJECT_ARRAY) {
        svc_log("warning", "nodes are not known yet: %s", value ? "odd answer" : err->text);
        loop_timer(ps->loop, AGAIN_MS, false, recover_nodes, ps);
        return;
    }
    CLEANUP(cleanup_free) int *nodes = malloc((value->via.array.size + 1) * sizeof *nodes);
    int n = 0;
    if (!nodes)
        abort();
    for (uint32_t i = 0; i < value->via.array.size; i++) {
        const msgpack_object *o = &value->via.array.ptr[i];
        int64_t node = mp_opt_int(o, "node", -1);
        CLEANUP(cleanup_free) char *space = mp_opt_dup(o, "space");
        if (node >= 0 && space && space[0]) /* without one, nothing runs there */
            nodes[n++] = (int)node;
    }
    if (ps->recovery)
        ps->recovery->silent = 0;
    svc_call_nodes(ps->svc, nodes, n, "procs", NULL, ASK_MS, on_node, on_all_asked, ps);
}

void recover_nodes(void *arg)
{
    procspace_t *ps = arg;
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 0);
    svc_call(ps->svc, "nodemgr.list", &m, 30000, on_nodes, ps);
}
