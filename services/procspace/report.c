/* report.c - what nodes say: exits, stops, nodes that are lost
 *
 * Events of a node's space are numbered, come in order and are repeated until
 * acknowledged. After a restart of ours the numbers are not known: then every
 * event is taken, and does nothing if it had been dealt with.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "services/procspace/family.h"

static bool int_at(const struct event *e, uint32_t i, int64_t *out)
{
    return i < e->n && mp_as_int(&e->v[i], out);
}

static uint64_t uint_at(const struct event *e, uint32_t i)
{
    return i < e->n && e->v[i].type == MSGPACK_OBJECT_POSITIVE_INTEGER ? e->v[i].via.u64 : 0;
}

static void on_exit_event(procspace_t *ps, int node, const struct event *e, struct proc *p,
                          pid_t pid, uint32_t gen)
{
    int64_t status = 0, v;

    if (!int_at(e, 3, &status) || status < 0 || status > 0xffff)
        return;
    if (!p) {
        int64_t home, npid;
        if (int_at(e, 10, &home) && home >= 0 && int_at(e, 11, &npid) && npid > 1)
            home_tell_end(ps, (int)home, (pid_t)npid, (int)status);
        else
            end_unknown(ps, pid, gen, uint_at(e, 7), uint_at(e, 12), (int)status);
        return;
    }
    if (p->node >= 0 && p->node != node)
        return; /* a node speaks only of what is its own */
    p->node = node;
    if (int_at(e, 4, &v))
        p->utime_us = v;
    if (int_at(e, 5, &v))
        p->stime_us = v;
    if (int_at(e, 6, &v))
        p->maxrss_kb = v;
    if (e->n > 9 && e->v[9].type == MSGPACK_OBJECT_BOOLEAN && e->v[9].via.boolean)
        cause_set(p, CAUSE_MEMORY, 0, -1, 0, NULL);
    proc_ended(ps, p, (int)status);
}

/* ["done", launch, job]: nothing of it is left there. */
static void on_done_event(procspace_t *ps, int node, const struct event *e)
{
    CLEANUP(mp_free) mp_buf m;

    jobs_done(ps, node, uint_at(e, 1), uint_at(e, 2));
    mp_init(&m);
    mp_map(&m, 2);
    mp_kuint(&m, "launch", uint_at(e, 1));
    mp_kint(&m, "node", node);
    svc_publish(ps->svc, "launch.empty", &m);
}

static void on_held(void *arg, const msgpack_object *value, const struct err *err)
{
    (void)arg;
    if (!value)
        svc_log("warning", "a node with a stuck process is not held: %s", err->text);
}

/* ["stuck", launch, npid, text, stack]: nobody else should be sent there. */
static void on_stuck_event(procspace_t *ps, int node, const struct event *e)
{
    CLEANUP(cleanup_free) char *text = e->n > 3 ? mp_dup(&e->v[3]) : NULL;
    CLEANUP(cleanup_free) char *stack = e->n > 4 ? mp_dup(&e->v[4]) : NULL;
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(mp_free) mp_buf event;
    int64_t npid = 0;

    int_at(e, 2, &npid);
    past_stuck(ps, node, uint_at(e, 1), (pid_t)npid, text ? text : "stuck");
    svc_log("warning", "node %d: %s\n%s", node, text ? text : "a process is stuck",
            stack ? stack : "");
    mp_init(&event);
    mp_map(&event, 5);
    mp_kuint(&event, "launch", uint_at(e, 1));
    mp_kint(&event, "node", node);
    mp_kint(&event, "pid", npid);
    mp_kstr(&event, "why", text ? text : "");
    mp_kstr(&event, "stack", stack ? stack : "");
    svc_publish(ps->svc, "launch.stuck", &event);
    mp_init(&m);
    mp_map(&m, 3);
    mp_key(&m, "nodes");
    mp_array(&m, 1);
    mp_int(&m, node);
    mp_kstr(&m, "state", "error");
    mp_kstr(&m, "why", text ? text : "a process is stuck");
    svc_call(ps->svc, "nodemgr.set", &m, 10000, on_held, NULL);
}

static void on_body_event(procspace_t *ps, int node, const struct event *e)
{
    int64_t pid, gen, sig;

    if (!int_at(e, 1, &pid) || pid <= 0 || pid > INT32_MAX || !int_at(e, 2, &gen))
        return;
    struct proc *p = proc_find(ps, (pid_t)pid);
    bool is_exit = mp_is(&e->v[0], "exit");
    uint64_t of = uint_at(e, is_exit ? 7 : mp_is(&e->v[0], "stop") ? 4 : 3);
    struct proc *here = of ? move_heard(ps, (pid_t)pid, node, of) : NULL;
    if (here)
        p = here;
    if (p && p->was && p->state != PROC_ENDED && gen < p->gen)
        return; /* of what it was before it moved */
    uint64_t launch = uint_at(e, is_exit ? 7 : mp_is(&e->v[0], "stop") ? 4 : 3);

    if (p && launch && launch != p->launch->id)
        p = NULL; /* the pid has been used again since */
    if (!p && launch)
        p = home_find(ps, launch, uint_at(e, is_exit ? 8 : mp_is(&e->v[0], "stop") ? 5 : 4));
    if (p && gen < p->gen)
        return; /* of where it was before it moved */
    if (is_exit) {
        on_exit_event(ps, node, e, p, (pid_t)pid, (uint32_t)gen);
        return;
    }
    if (!p || p->node != node || p->state == PROC_ENDED)
        return;
    p->turned = now_ms();
    if (mp_is(&e->v[0], "stop") && int_at(e, 3, &sig) && sig > 0 && sig <= SIGRTMAX) {
        int64_t conts;
        if (int_at(e, 6, &conts) && conts < p->conts)
            return; /* it has been told to go on since */
        p->halted = true;
        if (!p->ghost_stopped)
            ghost_ring(p, GHOST_STOP, (int)sig);
        p->ghost_stopped = true;
        home_stopped(p, (int)sig);
    } else if (mp_is(&e->v[0], "cont")) {
        int64_t halts;
        if (int_at(e, 5, &halts) && halts < p->halts)
            return; /* it has been stopped since */
        proc_goes_on(p);
    }
}

/* False: after a restart of ours it is not known yet what to do about it. */
static bool on_event(procspace_t *ps, int node, const struct event *e)
{
    const struct node_space *ns = node_space(ps, node);
    int64_t npid;

    if (mp_is(&e->v[0], "born") && ns && int_at(e, 1, &npid)) {
        if (!ns->listed && !recovered_all(ps))
            return false; /* nor is its parent, who would be taken for dead */
        if (e->seq <= ns->listed_seq && proc_there(ps, node, (pid_t)npid))
            return true; /* what it has become since is known by the list */
    }
    if (kid_event(ps, node, e))
        return true;
    if (mp_is(&e->v[0], "up"))
        return kin_up(ps, node, e);
    if (mp_is(&e->v[0], "cry"))
        return home_cry(ps, node, e);
    if (mp_is(&e->v[0], "cut"))
        return home_cut(ps, node, e);
    if (mp_is(&e->v[0], "done"))
        on_done_event(ps, node, e);
    else if (mp_is(&e->v[0], "stuck"))
        on_stuck_event(ps, node, e);
    else
        on_body_event(ps, node, e);
    return true;
}

/* Of a process space: enough of its name to tell its events from others'. */
static uint64_t name_of(const char *space)
{
    uint64_t v = 14695981039346656037u;

    while (*space)
        v = (v ^ (unsigned char)*space++) * 1099511628211u;
    return v;
}

int on_report(void *self, struct svc_req *req, struct err *err)
{
    procspace_t *ps = self;
    const msgpack_object_array *a;
    uint64_t first;

    if (req->w->node < 0)
        return err_set(err, EINVAL, "procspace.report is for nodes");
    CLEANUP(cleanup_free) char *space = NULL;
    if (mp_get_dup(req->body, "space", &space, err) < 0 ||
        mp_get_uint(req->body, "first", &first, err) < 0 ||
        mp_get_array(req->body, "events", &a, err) < 0)
        return -1;
    struct node_space *ns = node_space(ps, (int)req->w->node);
    if (!ns)
        return err_set(err, ENOMEM, "out of memory");
    if (strcmp(ns->space, space) != 0) {
        if (ns->space[0])
            node_lost(ps, (int)req->w->node, ns->space, "its process space is a new one");
        snprintf(ns->space, sizeof ns->space, "%s", space);
        ns->seq = 0;
    }
    uint64_t name = name_of(space), upto = first ? first - 1 : 0;
    for (uint32_t i = 0; i < a->size; i++, upto++) {
        uint64_t seq = first + i;
        if (a->ptr[i].type != MSGPACK_OBJECT_ARRAY || a->ptr[i].via.array.size == 0)
            return err_set(err, EPROTO, "events: item %u is not a list", i);
        if (seq <= ns->seq)
            continue;
        struct event e = { a->ptr[i].via.array.ptr, a->ptr[i].via.array.size,
                           signal_once(seq, name), name, seq };
        if (!on_event(ps, (int)req->w->node, &e))
            break;
        ns->seq = seq;
    }
    return given_answer(ps, req, name, upto);
}

/* Everything that ran there is dead: its relatives see SIGKILL. */
void node_lost(procspace_t *ps, int node, const char *space, const char *why)
{
    struct node_space *ns = node_space(ps, node);
    size_t n = 0;

    if (ns && space && ns->space[0] && strcmp(ns->space, space) != 0)
        return; /* an earlier space, mourned already */
    families_lost(ps, node);
    home_lost(ps, node);
    CLEANUP(cleanup_free) pid_t *pids = malloc((ps->procs + 1) * sizeof *pids);
    if (!pids)
        abort();
    moves_node_lost(ps, node); /* first: who was on the way there goes on where it is */
    for (size_t b = 0; b < PROC_BUCKETS; b++)
        for (struct proc *p = ps->proc[b]; p; p = p->next)
            if (p->node == node && p->state != PROC_ENDED)
                pids[n++] = p->pid;
    for (size_t i = 0; i < n; i++) { /* ending one may free others */
        struct proc *p = proc_find(ps, pids[i]);
        if (!p)
            continue;
        cause_set(p, CAUSE_NODE, 0, -1, 0, why);
        proc_ended(ps, p, SIGKILL);
    }
    kids_lost(ps, node, why);
    if (n)
        svc_log("warning", "node %d is lost (%s): %zu processes reported killed", node,
                why ? why : "no reason given", n);
    if (ns) {
        jobs_forget(ns);
        memset(ns, 0, sizeof *ns);
    }
}
