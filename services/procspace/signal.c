/* signal.c - signals on their way from the master to bodies */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
#include "services/procspace/procspace.h"

#define SIGNAL_MS 10000
#define HEARD_MAX 4096 /* signals; only the last can still be on their way */
#define AWAY_MS 200 /* an agent that was not there is asked again */

struct sent { /* what was sent, and by whom */
    int sig;
    bool has_value;
    int64_t value, from_uid, from_pid;
    uint64_t once; /* its number; however often it comes, it is one. 0: none */
};

struct signals { /* answered together, once each is there or of no use any more */
    procspace_t *ps;
    svc_token *token;
    void (*fn)(void *arg); /* instead */
    void *arg;
    unsigned waiting;
};

struct forward { /* one signal on its way; the ghost waits for the answer */
    procspace_t *ps;
    svc_token *token; /* NULL: nobody waits */
    struct signals *with; /* NULL: it is of no such */
    pid_t pid;
    struct sent s;
    uint64_t launch, first; /* what the process was when it was sent; 0: not known */
    uint32_t rank, gen;
    bool homed; /* it is not in the table by pid */
};

static void send_signal(procspace_t *ps, struct proc *p, const struct sent *s, svc_token *token,
                        struct signals *with);

static void answer_nil(procspace_t *ps, svc_token *token)
{
    CLEANUP(mp_free) mp_buf nil;

    mp_init(&nil);
    if (!token)
        return;
    mp_nil(&nil);
    svc_answer(ps->svc, token, &nil);
}

struct signals *signals_begin(procspace_t *ps, svc_token *token)
{
    struct signals *all = malloc(sizeof *all);

    if (all)
        *all = (struct signals){ .ps = ps, .token = token, .waiting = 1 };
    return all;
}

struct signals *signals_then(void (*fn)(void *arg), void *arg)
{
    struct signals *all = malloc(sizeof *all);

    if (all)
        *all = (struct signals){ .fn = fn, .arg = arg, .waiting = 1 };
    return all;
}

void signals_end(struct signals *all)
{
    if (!all || --all->waiting)
        return;
    if (all->fn)
        all->fn(all->arg);
    else
        answer_nil(all->ps, all->token);
    free(all);
}

static uint64_t first_of(const struct proc *p) { return p->launch ? proc_first(p) : 0; }

/* Who it is by now: it may have moved on since, to the master even. Another that has
 * got its number is not it. */
static struct proc *whom(const struct forward *f)
{
    struct proc *p = f->homed ? home_find(f->ps, f->launch, f->rank) : proc_find(f->ps, f->pid);

    if (p && (f->homed || (first_of(p) == f->first && (!p->kid || p->gen == f->gen))))
        return p;
    p = proc_of_rank(f->ps, f->launch, f->rank);
    /* Or it is where its parent is, who waits for it by now. */
    return p && (f->homed || (p->pid == f->pid && p->left)) ? p : NULL;
}

static bool can_have(const struct proc *p)
{
    return p && (p->left || (p->state == PROC_RUNNING && (p->node >= 0 || home_is_local(p))));
}

static void send_again(void *arg)
{
    struct forward *f = arg;
    struct proc *p = whom(f);

    /* It was stopped as its ghost was, which has gone on since. */
    bool over = f->s.sig == SIGSTOP && p && !p->homed && !p->ghost_stopped;
    if (can_have(p) && !over)
        send_signal(f->ps, p, &f->s, NULL, f->with);
    signals_end(f->with);
    free(f);
}

/* Those that nobody would say again. */
static void keep(const struct forward *f)
{
    struct forward *later = malloc(sizeof *later);

    if (!later)
        return;
    *later = *f;
    if (later->with)
        later->with->waiting++;
    loop_timer(f->ps->loop, AWAY_MS, false, send_again, later);
}

/* The node has answered, but the process has left it since: what it had there its
 * departure tells, and nothing else does. */
static bool left_since(const struct forward *f, const struct proc *p)
{
    return p->left || p->gen != f->gen || move_leaving(f->ps, p) || move_left(f->ps, p);
}

/* A node that does not answer now may be back before its grace is over (its
 * agent may only be restarting): no signal must get lost on the way. */
static void on_node(void *arg, int node, const msgpack_object *value, const struct err *err)
{
    struct forward *f = arg;
    struct err away;
    struct proc *p = whom(f);
    bool there = can_have(p);
    svc_token *token = f->token;
    bool insists = !token || svc_token_wire(token)->pid == f->pid; /* it, or its ghost */
    bool again = !value && there &&
                 (err->code == BE_NODEDOWN || err->code == ENOTCONN || err->code == EAGAIN ||
                  (err->code == ETIMEDOUT && insists));

    f->token = NULL;
    if (value && f->s.once && there && left_since(f, p)) {
        send_signal(f->ps, p, &f->s, token, f->with);
    } else if (!token) {
        if (again)
            keep(f);
    } else if (value) {
        answer_nil(f->ps, token);
    } else if (again) { /* if it did get there, it is known by its number */
        err_set(&away, EAGAIN, "node %d does not answer now; try again", node);
        svc_fail(f->ps->svc, token, &away);
    } else {
        svc_fail(f->ps->svc, token, err);
    }
}

static void done(void *arg)
{
    struct forward *f = arg;

    signals_end(f->with);
    free(f);
}

static int by_number(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* The oldest first; a node that is asked twice tells it twice: what is known already would
 * push out what other nodes have told. */
void signal_heard(struct proc *p, const msgpack_object_array *list)
{
    size_t had = p->nheard;
    uint64_t *ids = realloc(p->heard, (had + list->size + 1) * sizeof *ids);
    CLEANUP(cleanup_free) uint64_t *known = malloc((had + 1) * sizeof *known);

    p->heard = ids ? ids : p->heard;
    if (!ids || !known)
        return;
    memcpy(known, ids, had * sizeof *known);
    qsort(known, had, sizeof *known, by_number);
    for (uint32_t i = 0; i < list->size; i++)
        if (list->ptr[i].type == MSGPACK_OBJECT_POSITIVE_INTEGER &&
            !bsearch(&list->ptr[i].via.u64, known, had, sizeof *known, by_number))
            ids[p->nheard++] = list->ptr[i].via.u64;
    uint32_t old = p->nheard > HEARD_MAX ? p->nheard - HEARD_MAX : 0;
    memmove(ids, ids + old, (p->nheard - old) * sizeof *ids);
    p->nheard -= old;
}

/* It had it where it was before it moved. */
bool signal_had(procspace_t *ps, const struct proc *p, uint64_t once)
{
    for (uint32_t i = 0; once && i < p->nheard; i++)
        if (p->heard[i] == once)
            return true;
    return once && !p->kid && !p->homed && recovered_signal(ps, p->pid, once);
}

/* What it has had is not known yet: a node has not told. */
static bool not_known(procspace_t *ps, const struct proc *p)
{
    return move_leaving(ps, p) || (p->gen > 1 && !p->kid && !p->homed && !recovered_all(ps));
}

static void pack_signal(struct proc *p, const struct sent *s, mp_buf *m)
{
    bool halt = s->sig == SIGSTOP, cont = s->sig == SIGCONT;

    /* Said again it is no other one. */
    if (halt && (!s->once || s->once != p->halt_once))
        p->halts++;
    if (cont && (!s->once || s->once != p->cont_once))
        p->conts++;
    if (halt)
        p->halt_once = s->once;
    if (cont)
        p->cont_once = s->once;
    mp_map(m, 4u + s->has_value + (halt || cont ? 2 : 0) + (s->once != 0));
    if (s->once)
        mp_kuint(m, "once", s->once);
    if (halt || cont) {
        mp_kuint(m, "conts", halt ? p->halts : p->conts);
        mp_kuint(m, "after", halt ? p->conts : p->halts);
    }
    mp_key(m, "pids");
    mp_array(m, 1);
    mp_array(m, p->kid ? 3 : 2);
    mp_int(m, p->pid);
    mp_int(m, p->gen);
    if (p->kid)
        mp_int(m, kid_npid(p->kid));
    mp_kint(m, "sig", s->sig);
    if (s->has_value)
        mp_kint(m, "value", s->value);
    mp_kint(m, "from_uid", s->from_uid);
    mp_kint(m, "from_pid", s->from_pid);
}

static void send_signal(procspace_t *ps, struct proc *p, const struct sent *s, svc_token *token,
                        struct signals *with)
{
    CLEANUP(mp_free) mp_buf m;
    struct err err = { 0 };

    mp_init(&m);
    if (p->kid && kid_body(p->kid)) /* it is elsewhere than its stand-in */
        p = kid_body(p->kid);
    if (home_is_local(p)) {
        p->turned = s->sig == SIGSTOP || s->sig == SIGCONT ? now_ms() : p->turned;
        home_local_signal(p, &(struct passed){ s->sig, s->has_value, s->value, s->once, s->from_uid,
                                               (pid_t)s->from_pid });
        answer_nil(ps, token);
        return;
    }
    if (s->sig == SIGSTOP || s->sig == SIGCONT)
        p->turned = now_ms();
    if (signal_had(ps, p, s->once)) {
        answer_nil(ps, token);
        return;
    }
    struct forward *f = calloc(1, sizeof *f);
    if (!f) {
        err_set(&err, ENOMEM, "out of memory");
        if (token)
            svc_fail(ps->svc, token, &err);
        return;
    }
    *f = (struct forward){ .ps = ps, .token = token, .with = with, .pid = p->pid, .s = *s,
                           .launch = p->launch ? p->launch->id : 0, .first = first_of(p),
                           .rank = p->rank, .gen = p->gen, .homed = p->homed };
    if (s->once && not_known(ps, p)) {
        if (token) {
            err_set(&err, EAGAIN, "process %d is moving; try again", (int)p->pid);
            svc_fail(ps->svc, token, &err);
        } else {
            keep(f);
        }
        free(f);
        return;
    }
    if (p->left || move_left(ps, p)) { /* it goes on here */
        pass_here(p->pid, p->uid,
                  &(struct passed){ s->sig, s->has_value, s->value, s->once, s->from_uid,
                                    (pid_t)s->from_pid }, 1);
        free(f);
        answer_nil(ps, token);
        return;
    }
    if (with)
        with->waiting++;
    pack_signal(p, s, &m);
    svc_call_nodes(ps->svc, &p->node, 1, "signal", &m, SIGNAL_MS, on_node, done, f);
}

/* A number for one that nobody else has numbered. */
static uint64_t own_number(void)
{
    static uint64_t n;

    return signal_once((uint64_t)wall_ms() << 20 | (++n & 0xfffff), (uint64_t)getpid());
}

void body_signal(procspace_t *ps, struct proc *p, int sig)
{
    struct sent s = { .sig = sig, .once = sig == SIGKILL ? 0 : own_number() };

    if (p->node >= 0 || home_is_local(p))
        send_signal(ps, p, &s, NULL, NULL);
}

void body_signal_value(procspace_t *ps, struct proc *p, int sig, bool has_value, int64_t value,
                       int64_t from_uid, int64_t from_pid, uint64_t once, struct signals *with)
{
    struct sent s = { sig, has_value, value, from_uid, from_pid, once };

    send_signal(ps, p, &s, NULL, with);
}

/* Askers choose their requests' numbers, each among its own. */
uint64_t signal_once(uint64_t id, uint64_t of)
{
    uint64_t v = (id ^ of * 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu;

    return (v ^ v >> 33) >> 1 | 1;
}

/* Can it end a process that does nothing about it? */
static bool deadly(int sig)
{
    return sig != SIGCONT && sig != SIGSTOP && sig != SIGTSTP && sig != SIGTTIN &&
           sig != SIGTTOU && sig != SIGCHLD && sig != SIGURG && sig != SIGWINCH;
}

/* procspace.signal: from a ghost (its own pid), or by anybody who may: -> nil */
int on_signal(void *self, struct svc_req *req, struct err *err)
{
    procspace_t *ps = self;
    int64_t sig, value, pid = mp_opt_int(req->body, "pid", req->w->pid);
    bool has_value = mp_as_int(mp_get(req->body, "value"), &value);

    if (mp_get_int(req->body, "sig", 1, SIGRTMAX, &sig, err) < 0)
        return -1;
    if (pid <= 0 || pid > INT32_MAX)
        return err_set(err, EPROTO, "pid: %lld is no process number", (long long)pid);
    struct proc *p = proc_find(ps, (pid_t)pid);
    if (!p && recovering(ps, (pid_t)pid))
        return err_set(err, EAGAIN, "process %lld: its node has not been heard since "
                                    "procspace was restarted; try again", (long long)pid);
    if (!p && ghost_early(ps, (pid_t)pid))
        return err_set(err, EAGAIN, "process %lld: its launch is not here yet; try again",
                       (long long)pid);
    if (!p)
        return err_set(err, BE_INVALIDPROC, "process %lld is not on any node", (long long)pid);
    if (req->w->uid != 0 && req->w->uid != p->uid)
        return err_set(err, EPERM, "process %lld is another user's", (long long)pid);
    if (p->state == PROC_ENDED || p->node < 0)
        return err_set(err, ESRCH, "process %lld has ended", (long long)pid);
    if (p->state == PROC_STARTING) /* its node may not have heard of it yet */
        return err_set(err, EAGAIN, "process %lld is being started; try again", (long long)pid);
    if (sig == SIGCONT) {
        trace_look(ps); /* a SIGSTOP that came before it must not overtake it */
        p->ghost_stopped = p->halted = false;
    }
    /* A ghost says who has sent it; others are who they are. */
    int64_t uid = req->w->uid, from = req->w->pid;
    if (pid == req->w->pid) {
        uid = mp_opt_int(req->body, "from_uid", uid);
        from = mp_opt_int(req->body, "from_pid", from);
    }
    if (uid < 0 || uid >= UINT32_MAX || from < 0 || from > INT32_MAX)
        return err_set(err, EPROTO, "from_uid, from_pid: want a user and a process");
    if (deadly((int)sig))
        cause_set(p, CAUSE_SIGNAL, (int)sig, uid, (pid_t)from, NULL);
    struct sent it = { (int)sig, has_value, has_value ? value : 0, uid, from,
                       signal_once(req->w->id, (uint64_t)req->w->pid) };
    send_signal(ps, p, &it, req->token, NULL);
    return SVC_LATER;
}

/* procspace.stopped: {pid}: its parent saw the ghost stopped by SIGSTOP -> nil */
int on_stopped(void *self, struct svc_req *req, struct err *err)
{
    procspace_t *ps = self;
    int64_t pid;

    if (mp_get_int(req->body, "pid", 1, INT32_MAX, &pid, err) < 0)
        return -1;
    struct proc *p = proc_find(ps, (pid_t)pid);
    if (!p && recovering(ps, (pid_t)pid))
        return err_set(err, EAGAIN, "process %lld: its node has not been heard since "
                                    "procspace was restarted; try again", (long long)pid);
    if (!p)
        return err_set(err, BE_INVALIDPROC, "process %lld is not on any node", (long long)pid);
    if (req->w->uid != 0 && req->w->uid != p->uid)
        return err_set(err, EPERM, "process %lld is another user's", (long long)pid);
    ghost_seen_stopped(ps, p);
    mp_nil(req->reply);
    return 0;
}

/* --- all of a launch --- */

struct ending {
    procspace_t *ps;
    svc_token *token;
    unsigned waiting; /* launches whose nodes have not all answered */
    struct err err; /* the first node's that did not */
};

static void on_node_ends(void *arg, int node, const msgpack_object *value,
                         const struct err *err)
{
    struct ending *e = arg;

    if (!value && !e->err.code)
        err_set(&e->err, err->code, "node %d: %s", node, err->text);
}

static void on_all_end(void *arg)
{
    struct ending *e = arg;

    if (--e->waiting)
        return;
    if (e->err.code)
        svc_fail(e->ps->svc, e->token, &e->err);
    else
        answer_nil(e->ps, e->token);
    free(e);
}

/* Each move of a process is a launch of its own: which of them are of this one? */
static bool of_launch(const struct launch *l, uint64_t id)
{
    if (l->id == id)
        return true;
    for (uint32_t r = 0; r < l->ranks; r++)
        if (l->rank[r] && proc_first(l->rank[r]) == id)
            return true;
    return false;
}

static struct launch *next_of_launch(procspace_t *ps, uint64_t id, size_t *bucket,
                                     struct launch *l)
{
    for (l = l ? l->next : ps->launch[*bucket];; l = ps->launch[*bucket]) {
        while (l && !of_launch(l, id))
            l = l->next;
        if (l || ++*bucket == LAUNCH_BUCKETS)
            return l;
    }
}

static void end_one(struct ending *e, const struct launch *l, int sig)
{
    CLEANUP(mp_free) mp_buf m;
    int n;

    mp_init(&m);
    CLEANUP(cleanup_free) int *nodes = launch_nodes(l, &n);
    if (!nodes) {
        err_set(&e->err, ENOMEM, "out of memory");
        return;
    }
    mp_map(&m, 2);
    mp_kuint(&m, "launch", l->id);
    mp_kint(&m, "sig", sig);
    e->waiting++;
    svc_call_nodes(e->ps->svc, nodes, n, "end_launch", &m, SIGNAL_MS, on_node_ends, on_all_end,
                   e);
}

/* procspace.end_launch: {launch, sig?} -> nil: signal whatever a launch has
 * started on its nodes, whoever its parent is by now, and wherever it has moved */
int on_end_launch(void *self, struct svc_req *req, struct err *err)
{
    procspace_t *ps = self;
    uint64_t id;
    int64_t sig = mp_opt_int(req->body, "sig", SIGKILL);
    size_t b = 0;

    if (mp_get_uint(req->body, "launch", &id, err) < 0)
        return -1;
    if (sig < 1 || sig > SIGRTMAX)
        return err_set(err, EINVAL, "sig: %lld is no signal", (long long)sig);
    struct launch *l = next_of_launch(ps, id, &b, NULL);
    if (!l)
        return err_set(err, ESRCH, "launch %llu: not known", (unsigned long long)id);
    if (req->w->uid != 0 && req->w->uid != l->uid)
        return err_set(err, EPERM, "launch %llu is another user's", (unsigned long long)id);
    struct ending *e = calloc(1, sizeof *e);
    if (!e)
        return err_set(err, ENOMEM, "out of memory");
    *e = (struct ending){ .ps = ps, .token = req->token, .waiting = 1 };
    for (size_t i = 0; deadly((int)sig) && i < PROC_BUCKETS; i++)
        for (struct proc *p = ps->proc[i]; p; p = p->next)
            if (p->launch->id == id || proc_first(p) == id)
                cause_set(p, CAUSE_LAUNCH, (int)sig, req->w->uid, (pid_t)req->w->pid, NULL);
    for (; l; l = next_of_launch(ps, id, &b, l))
        end_one(e, l, (int)sig);
    on_all_end(e); /* all are asked */
    return SVC_LATER;
}
