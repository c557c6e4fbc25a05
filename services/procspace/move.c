/* move.c - images of processes on their way to nodes
 *
 * A launch with an image (launch.c) has each node start a restorer and say
 * where the image is to go. The mover gets a token for RUN/move, where it is
 * handed the descriptor to write to: the rest, a chain of nodes if there are
 * several, is not its concern. Then it asks procspace.moved, and each node lets
 * its processes go. That is the moment: before it nothing runs anywhere but the
 * mover, after it there is no way back. So a node that does not answer is asked
 * until it does, or until it is known to be lost.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/pkt.h"
#include "bus/rundir.h"
#include "services/procspace/family.h"
#include "services/procspace/move_kin.h"

#define ASK_MS 20000
#define RELAY_MS 10000
#define AGAIN_MS 100
#define KEEP_MS 300000 /* a move that is over, for who asks again */
#define SWEEP_MS 1000
#define PAST_SWEEP_MS 30000
#define DEPART_MS 5000
#define UNASKED_MS 120000
#define UNHEARD_MS 30000 /* a node of which we know nothing may still say something */

static struct move **past_of(struct moves *all, uint64_t launch)
{
    return &all->past[launch % MOVE_BUCKETS];
}

static bool unlink_from(struct move **p, const struct move *m)
{
    while (*p && *p != m)
        p = &(*p)->next;
    if (!*p)
        return false;
    *p = m->next;
    return true;
}

/* One that is past is among the others again then. */
struct move *move_find(procspace_t *ps, uint64_t launch)
{
    struct moves *all = ps->moves;
    struct move *m = all->first;

    while (m && m->launch != launch)
        m = m->next;
    if (m)
        return m;
    for (m = *past_of(all, launch); m && m->launch != launch;)
        m = m->next;
    if (m) {
        unlink_from(past_of(all, launch), m);
        m->next = all->first;
        all->first = m;
    }
    return m;
}

static void move_free(struct move *m)
{
    if (!unlink_from(&m->all->first, m))
        unlink_from(past_of(m->all, m->launch), m);
    loop_timer_del(m->all->ps->loop, m->timer);
    family_drop(m->all->ps, m->launch);
    home_free(m);
    comers_free(m);
    kin_move_free(m);
    loop_timer_del(m->all->ps->loop, m->depart_timer);
    loop_timer_del(m->all->ps->loop, m->come_timer);
    mp_free(&m->begun);
    mp_free(&m->failed);
    mp_free(&m->depart);
    if (m->stop)
        explicit_bzero(m->stop, m->stops * sizeof *m->stop);
    free(m->stop);
    free(m);
}

struct move *move_new(procspace_t *ps, uint64_t launch, int64_t uid, bool self)
{
    struct move *m = calloc(1, sizeof *m), *old = move_find(ps, launch);
    struct bulk_ticket t;

    if (!m)
        return NULL;
    if (old)
        move_free(old);
    m->all = ps->moves;
    m->home_fd = m->control = m->was_on = m->asked_on = -1;
    m->launch = launch;
    m->uid = uid;
    m->self = self;
    m->known = true;
    m->made = now_ms();
    bulk_ticket_make(&t);
    memcpy(m->token, t.token, sizeof m->token);
    mp_init(&m->begun);
    mp_init(&m->failed);
    mp_init(&m->depart);
    m->departs = -1;
    m->next = ps->moves->first;
    ps->moves->first = m;
    return m;
}

/* The way goes on from no stop of the master's. */
static void master_last(struct move *m)
{
    for (size_t i = 0; i + 1 < m->stops; i++)
        if (m->stop[i].node < 0 && !m->home) {
            struct stop s = m->stop[i];
            m->stop[i] = m->stop[m->stops - 1];
            m->stop[m->stops - 1] = s;
            explicit_bzero(&s, sizeof s);
            return;
        }
}

int move_stop(struct move *m, int node, const char *addr, const msgpack_object *image,
              struct err *err)
{
    CLEANUP(cleanup_free) char *token = NULL;
    const char *key;
    size_t len;
    int64_t port;

    if (mp_get_int(image, "port", 1, 65535, &port, err) < 0 ||
        mp_get_dup(image, "token", &token, err) < 0 ||
        mp_get_bytes(image, "key", &key, &len, err) < 0)
        return -1;
    if (strlen(token) != BULK_TOKEN || len != BULK_KEY || !*addr)
        return err_set(err, EPROTO, "where its image is to go is not known");
    struct stop *s = realloc(m->stop, (m->stops + 1) * sizeof *s);
    if (!s)
        return err_set(err, ENOMEM, "out of memory");
    m->stop = s;
    s += m->stops++;
    memset(s, 0, sizeof *s);
    s->node = node;
    s->to.port = (uint16_t)port;
    s->to.say_token = true;
    snprintf(s->to.addr, sizeof s->to.addr, "%s", addr);
    memcpy(s->to.ticket.token, token, BULK_TOKEN + 1);
    memcpy(s->to.ticket.key, key, BULK_KEY);
    master_last(m);
    return 0;
}

const char *move_token(const struct move *m) { return m->token; }

void move_pack_way(const struct move *m, mp_buf *out)
{
    static const struct stop none;
    const struct stop *s = m->stops ? &m->stop[0] : &none;

    mp_kbool(out, "say_token", s->to.say_token);
    mp_kstr(out, "addr", s->to.addr);
    mp_kint(out, "port", s->to.port);
    mp_kstr(out, "ticket", s->to.ticket.token);
    mp_kbin(out, "key", s->to.ticket.key, BULK_KEY);
}

/* --- the way of the image: a tree of nodes --- */

static void begun(struct move *m)
{
    svc_token *t = m->asker;

    m->asker = NULL;
    svc_answer(m->all->ps->svc, t, &m->begun);
}

bool move_begun(procspace_t *ps, uint64_t launch, int64_t uid, svc_token *asker)
{
    const struct move *m = move_find(ps, launch);
    struct err err = { 0 };

    if (!m || !m->known || !m->begun.b.size || m->uid != uid || (m->self && m->over))
        return false;
    err_set(&err, EAGAIN, "launch %llu is being answered", (unsigned long long)launch);
    if (m->asker)
        svc_fail(ps->svc, asker, &err);
    else
        svc_answer(ps->svc, asker, &m->begun);
    return true;
}

/* A node that does not take the order: those behind it will see no image. */
static void on_relay(void *arg, const msgpack_object *value, const struct err *err)
{
    struct move *m = arg;

    if (!value)
        svc_log("warning", "an image's way: %s", err->text);
    if (--m->waiting == 0)
        begun(m);
}

void move_begin(struct move *m, svc_token *asker, pid_t mover, const mp_buf *answer)
{
    char topic[48];

    m->asker = asker;
    m->mover = mover;
    msgpack_sbuffer_write(&m->begun.b, answer->b.data, answer->b.size);
    m->waiting = 1;
    for (size_t i = 0; i * FAN_OUT + 1 < m->stops; i++) {
        size_t from = i * FAN_OUT + 1;
        size_t n = m->stops - from < FAN_OUT ? m->stops - from : FAN_OUT;
        CLEANUP(mp_free) mp_buf b;
        mp_init(&b);
        mp_map(&b, 2);
        mp_kstr(&b, "token", m->stop[i].to.ticket.token);
        mp_key(&b, "to");
        mp_array(&b, (uint32_t)n);
        for (size_t k = from; k < from + n; k++) {
            mp_array(&b, 5);
            mp_str(&b, m->stop[k].to.addr); /* "": the master's */
            mp_int(&b, m->stop[k].to.port);
            mp_str(&b, m->stop[k].to.ticket.token);
            mp_bin(&b, m->stop[k].to.ticket.key, BULK_KEY);
            mp_bool(&b, m->stop[k].to.say_token);
        }
        snprintf(topic, sizeof topic, "node.%d.relay", m->stop[i].node);
        m->waiting++;
        svc_call(m->all->ps->svc, topic, &b, RELAY_MS, on_relay, m);
    }
    if (--m->waiting == 0)
        begun(m);
}

/* --- RUN/move: a descriptor for the image --- */

static void give(const struct caller *k, struct move *m)
{
    struct err err = { 0 };

    m->token[0] = 0;
    if (m->stops && pump_give(k->fd, &m->stop[0].to, &err) < 0)
        svc_log("warning", "an image: %s", err.text);
}

static bool on_token(void *arg, struct caller *k)
{
    struct moves *all = arg;
    struct pkt p;
    int n = pkt_recv(k->fd, &p, NULL);

    if (n <= 0)
        return false;
    if (readers_hello(all->ps, k->fd, k->pid, k->uid, &p)) {
        k->fd = -1; /* it is theirs */
        pkt_clear(&p);
        return false;
    }
    if (comers_give(all, k, &p)) {
        pkt_clear(&p);
        return false;
    }
    for (struct move *m = all->first; m; m = m->next)
        if (m->token[0] && p.len == BULK_TOKEN && memcmp(p.data, m->token, BULK_TOKEN) == 0 &&
            m->uid == (int64_t)k->uid) {
            if (m->home)
                home_give(k, m);
            else
                give(k, m);
            break;
        }
    pkt_clear(&p);
    return false;
}

/* --- procspace.moved --- */

static void round_begin(struct move *m);

static void failed_row(struct move *m, uint32_t rank, int code, const char *text)
{
    m->nfailed++;
    mp_array(&m->failed, 3);
    mp_uint(&m->failed, rank);
    mp_int(&m->failed, code);
    mp_str(&m->failed, text);
}

void move_failed(struct move *m, uint32_t rank, int code, const char *text)
{
    struct launch *l = launch_find(m->all->ps, m->launch);
    struct proc *p = l && rank < l->ranks ? l->rank[rank] : NULL;

    if (m->known && (!p || p->state != PROC_STARTING))
        return;
    family_drop(m->all->ps, m->launch);
    failed_row(m, rank, code, text);
    if (!p || p->state == PROC_ENDED)
        return;
    if (m->self)
        proc_forget(m->all->ps, p); /* the asker goes on as itself: no bell for it */
    proc_ended(m->all->ps, p, 1 << 8);
}

static void node_failed(struct move *m, int node, int code, const char *text)
{
    struct launch *l = launch_find(m->all->ps, m->launch);

    for (uint32_t r = 0; m->known && l && r < l->ranks; r++)
        if (l->rank[r] && l->rank[r]->node == node && l->rank[r]->state == PROC_STARTING)
            move_failed(m, r, code, text);
    for (size_t i = 0; !m->known && i < m->stops; i++) /* one rank a stop then */
        if (m->stop[i].node == node)
            move_failed(m, (uint32_t)i, code, text);
}

/* The last step: the asker hears of it. */
void move_tell(struct move *m)
{
    CLEANUP(mp_free) mp_buf b;

    mp_init(&b);
    m->over = true;
    m->ended = now_ms();
    if (!m->asker)
        return;
    mp_map(&b, 2);
    mp_kbool(&b, "stands", m->stands);
    mp_key(&b, "failed");
    mp_array(&b, m->nfailed);
    msgpack_sbuffer_write(&b.b, m->failed.b.data, m->failed.b.size);
    svc_token *t = m->asker;
    m->asker = NULL;
    svc_answer(m->all->ps->svc, t, &b);
}

/* The signals that it has had there, which may be said again; it may have gone on. */
static void take_heard(struct move *m, const msgpack_object *value)
{
    const struct launch *l = launch_find(m->all->ps, m->launch);
    struct proc *p = l && l->ranks ? l->rank[0] : NULL;
    const msgpack_object_array *a;

    if (!p || !mp_get(value, "heard") || mp_get_array(value, "heard", &a, NULL) < 0)
        return;
    /* On the way to the master it is the old one that is spoken of till the end. */
    if (m->home && p->was && !p->was->moved_to)
        p = p->was;
    signal_heard(proc_now(p), a);
}

static void departed(struct move *m, const msgpack_object *value)
{
    kin_departed(m, value);
    said_wait(m, m->departs, value);
    m->departs = -1;
    m->waiting = 0;
    if (m->home == HOME_DEPARTING)
        home_settled(m);
    else
        move_tell(m);
}

static void say_depart(void *arg);

/* Where it was, its end is not one any more. Then its old self is told, which
 * passes on what signals it has got there. What it has had there nobody else knows:
 * an agent that was not there is asked again. */
static void on_departed(void *arg, int node, const msgpack_object *value, const struct err *err)
{
    struct move *m = arg;

    if (m->departs != node)
        return; /* the node is lost */
    struct node_space *ns = node_space(m->all->ps, node);
    bool may_be = (ns && ns->space[0]) || now_ms() < m->depart_until;
    if (!value && may_be &&
        (err->code == BE_NODEDOWN || err->code == ETIMEDOUT || err->code == ENOTCONN)) {
        m->depart_timer = loop_timer(m->all->ps->loop, AGAIN_MS, false, say_depart, m);
        return;
    }
    if (!value)
        svc_log("info", "a process that has moved: %s", err->text);
    else
        take_heard(m, value);
    departed(m, value);
}

static void say_depart(void *arg)
{
    struct move *m = arg;

    m->depart_timer = 0;
    svc_call_nodes(m->all->ps->svc, &m->departs, 1, "depart", &m->depart, DEPART_MS, on_departed,
                   NULL, m);
}

void move_depart(struct move *m, const struct proc *was, int node)
{
    mp_buf *b = &m->depart;

    mp_free(b);
    mp_init(b);
    m->departs = node;
    CLEANUP(mp_free) mp_buf kin;
    mp_init(&kin);
    mp_map(b, 6 + kin_pack_departure(m, was, &kin) + (m->speaks != 0));
    msgpack_sbuffer_write(&b->b, kin.b.data, kin.b.size);
    if (m->speaks)
        mp_kuint(b, "speaks", m->speaks);
    mp_kuint(b, "move", m->launch);
    mp_kint(b, "npid", m->was_npid);
    mp_kint(b, "pid", was->pid);
    mp_kuint(b, "gen", was->gen);
    mp_kuint(b, "launch", was->launch ? was->launch->id : 0);
    mp_kint(b, "rank", was->rank);
    m->waiting = 1;
    m->depart_until = now_ms() + UNHEARD_MS;
    say_depart(m);
}

/* Nobody goes while he is stopped: a stop that was told before is over, and its end may
 * never be told, since who would see it is where it was. */
static void runs(struct proc *was)
{
    if (was->kid ? was->kid->stopped : was->halted)
        proc_goes_on(was);
    if (was->kid)
        was->kid->stopped = false;
}

static void arrived(struct move *m, struct proc *p)
{
    procspace_t *ps = m->all->ps;

    if (!p->was) {
        ghost_arrived(ps, p);
    } else {
        runs(p->was);
        p->state = PROC_RUNNING;
        m->was = p->was->kid ? NULL : p->was;
        m->was_on = p->was->node;
        m->speaks = kin_speaks_in(ps, p->was);
        if (m->was && !m->speaks)
            readers_next(ps, p->was->launch->id, p->was->rank, p->launch, p->node);
        kin_arrived(m, p);
    }
    family_gone(ps, m->launch);
    if (p->pidfd < 0 && !p->homed) /* killed meanwhile */
        body_signal(ps, p, SIGKILL);
}

/* They run there. */
static void finish(struct move *m)
{
    struct launch *l = launch_find(m->all->ps, m->launch);

    for (uint32_t r = 0; l && !m->over && r < l->ranks; r++)
        if (l->rank[r] && l->rank[r]->state == PROC_STARTING)
            arrived(m, l->rank[r]);
    if (m->was_on < 0 || m->nfailed)
        move_tell(m);
    else if (m->known && m->was)
        move_depart(m, m->was, m->was_on);
    else if (m->known && m->was_npid)
        move_depart(m, &(struct proc){ .pid = m->was_npid }, m->was_on);
    else if (m->known)
        move_tell(m);
    else
        move_left_node(m);
}

/* A node speaks of a process that is on its way there: then it has arrived, and
 * the answer that says so is on its way too. */
struct proc *move_heard(procspace_t *ps, pid_t pid, int node, uint64_t launch)
{
    for (struct move *m = ps->moves->first; m; m = m->next) {
        struct launch *l = m->over || m->home ? NULL : launch_find(ps, m->launch);
        struct proc *p = l && m->self && l->ranks ? l->rank[0] : NULL;
        if (!p || p->state != PROC_STARTING || p->pid != pid || p->node != node || !m->asker ||
            (launch && launch != l->id))
            continue;
        arrived(m, p);
        return p;
    }
    return NULL;
}

static void take_ranks(struct move *m, int node, const msgpack_object *value)
{
    const msgpack_object_array *a;
    struct launch *l = launch_find(m->all->ps, m->launch);
    uint32_t seen = 0;

    if (mp_get_array(value, "ranks", &a, NULL) < 0)
        return;
    for (uint32_t i = 0; i < a->size; i++) {
        const msgpack_object *r = &a->ptr[i];
        int64_t rank, code;
        if (r->type != MSGPACK_OBJECT_ARRAY || r->via.array.size < 3 ||
            !mp_as_int(&r->via.array.ptr[0], &rank) || !mp_as_int(&r->via.array.ptr[1], &code) ||
            rank < 0 || rank > UINT32_MAX ||
            (m->known && (!l || rank >= l->ranks || !l->rank[rank] ||
                          l->rank[rank]->node != node)))
            continue;
        seen++;
        CLEANUP(cleanup_free) char *text = mp_dup(&r->via.array.ptr[2]);
        if (code)
            move_failed(m, (uint32_t)rank, (int)code, text ? text : "");
    }
    if (!seen) /* it does not remember it: then it never let it go, or has begun afresh */
        node_failed(m, node, m->known ? BE_SLAVEDIED : ESRCH, "the node knows nothing of it");
}

static void on_node(void *arg, int node, const msgpack_object *value, const struct err *err)
{
    struct move *m = arg;

    for (size_t i = 0; i < m->stops; i++) {
        if (m->stop[i].node != node || m->stop[i].state == STOP_DONE)
            continue;
        if (!value && (err->code == BE_NODEDOWN || err->code == ETIMEDOUT))
            return; /* it is asked again */
        m->stop[i].state = STOP_DONE;
    }
    if (value && m->list)
        recover_list(m->all->ps, node, value);
    else if (value)
        take_ranks(m, node, value);
    else if (!m->list)
        node_failed(m, node, err->code, err->text);
}

static bool round_done(const struct move *m)
{
    for (size_t i = 0; i < m->stops; i++)
        if (m->stop[i].state != STOP_DONE)
            return false;
    return true;
}

static void on_asked(void *arg)
{
    struct move *m = arg;

    m->waiting = 0;
    comers_look(m);
    if (!round_done(m)) {
        m->timer = loop_timer(m->all->ps->loop, AGAIN_MS, false, move_ask, m);
    } else if (m->go && (m->known || m->list || m->nfailed == m->stops)) {
        finish(m);
    } else if (m->go) { /* who is there? Nobody has told us. */
        m->list = true;
        round_begin(m);
    } else {
        m->go = true;
        round_begin(m);
    }
}

void move_ask(void *arg)
{
    struct move *m = arg;
    CLEANUP(cleanup_free) int *nodes = malloc((m->stops + 1) * sizeof *nodes);
    CLEANUP(mp_free) mp_buf b;
    int n = 0;

    m->timer = 0;
    mp_init(&b);
    if (!nodes)
        abort();
    for (size_t i = 0; i < m->stops; i++)
        if (m->stop[i].state != STOP_DONE && m->stop[i].node >= 0)
            nodes[n++] = m->stop[i].node;
    mp_map(&b, 5);
    mp_kbool(&b, "cut", m->cut || (!m->known && m->asked_on < 0)); /* it went through our
                                                                     predecessor */
    mp_kint(&b, "uid", m->uid);
    mp_kuint(&b, "launch", m->launch);
    mp_kbool(&b, "go", m->go && !m->back);
    mp_kbool(&b, "abort", m->back);
    m->waiting = 1;
    if (n)
        svc_call_nodes(m->all->ps->svc, nodes, n, m->list ? "procs" : "arrived", &b, ASK_MS,
                       on_node, on_asked, m);
    else
        on_asked(m);
}

static void round_begin(struct move *m)
{
    for (size_t i = 0; i < m->stops; i++)
        m->stop[i].state = m->stop[i].lost ? STOP_DONE : STOP_OPEN;
    move_ask(m);
}

static void call_off(struct move *m)
{
    struct launch *l = launch_find(m->all->ps, m->launch);

    comers_call_off(m);
    if (m->home)
        home_call_off(m);
    else
        move_say(m, "abort");
    for (uint32_t r = 0; l && r < l->ranks; r++)
        if (l->rank[r] && l->rank[r]->state == PROC_STARTING)
            move_failed(m, r, ECANCELED, "it was called off");
    m->over = true;
    m->ended = now_ms();
}

void move_of(procspace_t *ps, const struct proc *was, struct proc *now)
{
    for (struct move *m = ps->moves ? ps->moves->first : NULL; m; m = m->next) {
        struct launch *l = launch_find(ps, m->launch);
        struct proc *p = l && l->ranks ? l->rank[0] : NULL;
        if (p && p->was == was)
            p->was = now;
    }
}

/* A process asks to go anew only if it has given up what it asked for before: nobody
 * will send that image, and who waits for it would stand in the way. */
int moves_sent_anew(procspace_t *ps, pid_t pid, uint64_t launch, struct err *err)
{
    const struct move *old = move_find(ps, launch);

    if (old && old->over)
        return err_set(err, EAGAIN, "launch %llu is over already", (unsigned long long)launch);
    for (struct move *m = ps->moves->first; m; m = m->next) {
        struct launch *l = m->self && !m->over && !m->asker && m->known && m->launch != launch
                               ? launch_find(ps, m->launch) : NULL;
        const struct proc *p = l && l->ranks ? l->rank[0] : NULL;
        if (p && p->pid == pid && p->state == PROC_STARTING)
            call_off(m);
    }
    return 0;
}

/* Of a launch that was asked for twice, by way of two agents, one has failed: then it has,
 * whatever the other has prepared. */
static bool failed_before(const struct move *m)
{
    const struct launch *l = m->known && m->self ? launch_find(m->all->ps, m->launch) : NULL;

    return l && l->ranks && l->rank[0] && l->rank[0]->state == PROC_ENDED;
}

/* procspace.moved: {launch, nodes, pids?, abort?, cut?} -> {failed: [[rank, code, text]...]}:
 * the image is sent: have them go on there; abort: they are not to; cut: not all of it
 * could be sent. pids, of copies: their stand-ins' */
int on_moved(void *self, struct svc_req *req, struct err *err)
{
    procspace_t *ps = self;
    uint64_t launch;
    struct who a;

    if (mp_get_uint(req->body, "launch", &launch, err) < 0 || who_of(req, &a, err) < 0)
        return -1;
    identity_free(&a.who);
    const struct launch *l = launch_find(ps, launch);
    if (l && l->starting) /* who asks has not heard the answer: it takes another's place */
        return err_set(err, EAGAIN, "launch %llu is being answered", (unsigned long long)launch);
    struct move *m = move_find(ps, launch);
    if (!m && !(m = move_of_before(ps, launch, &a, req->body, err)))
        return -1;
    if (m->uid != (int64_t)a.who.uid && a.who.uid != 0)
        return err_set(err, EPERM, "launch %llu is another user's", (unsigned long long)launch);
    if (m->asker)
        return err_set(err, EBUSY, "it is being answered");
    m->asker = req->token;
    move_sent(m, mp_opt_bool(req->body, "cut", false));
    if (mp_opt_bool(req->body, "abort", false) && !m->over && !m->waiting && !m->timer) {
        if (m->known)
            call_off(m);
        else
            m->back = true; /* its nodes say whether it can be, or its ghost */
    }
    if (!m->over && !m->waiting && !m->timer && failed_before(m)) {
        call_off(m);
        failed_row(m, 0, EAGAIN, "its launch has failed");
    }
    if (m->over)
        move_tell(m); /* asked again: the same answer */
    else if (m->home)
        home_settled(m);
    else if (!m->waiting && !m->timer) {
        /* All together, or nobody: with several, first whether they are ready. */
        m->go = m->stops == 1 || m->back;
        round_begin(m);
    }
    return SVC_LATER;
}

static bool has_become(const struct proc *was, const struct proc *p)
{
    while (was && was != p)
        was = was->moved_to;
    return was != NULL;
}

bool move_leaving(procspace_t *ps, const struct proc *p)
{
    for (const struct move *m = ps->moves->first; m; m = m->next)
        if (!m->over && m->waiting &&
            (m->ghost == p->pid || (m->was && m->was->moved_to && has_become(m->was, p))))
            return true;
    return false;
}

bool move_left(procspace_t *ps, const struct proc *p)
{
    for (const struct move *m = ps->moves->first; m; m = m->next)
        if (m->home == HOME_DEPARTING && m->ghost == p->pid && !m->over)
            return true;
    return false;
}

void moves_node_lost(procspace_t *ps, int node)
{
    for (struct move *m = ps->moves->first; m; m = m->next) {
        if (m->departs == node) { /* nothing of it is there any more */
            loop_timer_del(ps->loop, m->depart_timer);
            m->depart_timer = 0;
            departed(m, NULL);
        }
        for (size_t i = 0; i < m->stops; i++)
            if (m->stop[i].node == node && !m->over) {
                m->stop[i].state = STOP_DONE;
                m->stop[i].lost = true;
                move_cut_behind(m, i);
                if (!m->list || m->copies)
                    node_failed(m, node, BE_SLAVEDIED, err_name(BE_SLAVEDIED));
                else if (m->ghost) /* it was there, and has ended with it */
                    end_unknown(ps, m->ghost, 2, m->launch, m->launch, SIGKILL);
            }
    }
}

/* --- moves that nobody ends --- */

static bool mover_lives(const struct move *m)
{
    const struct launch *l = launch_find(m->all->ps, m->launch);

    if (l && l->ranks && l->rank[0] && l->rank[0]->was) /* it is on a node */
        return l->rank[0]->was->state == PROC_RUNNING;
    if (m->self)
        return l && l->ranks && l->rank[0] && ghost_lives(l->rank[0]);
    return m->mover <= 0 || kill(m->mover, 0) == 0;
}

static void forget_past(struct moves *all, int64_t now)
{
    all->swept = now;
    passes_forget();
    for (size_t b = 0; b < MOVE_BUCKETS; b++)
        for (struct move *m = all->past[b], *next; m; m = next) {
            next = m->next;
            if (now - m->ended <= KEEP_MS)
                continue;
            move_free(m);
        }
}

static void sweep(void *arg)
{
    struct moves *all = arg;
    int64_t now = now_ms();

    for (struct move *m = all->first, *next; m; m = next) {
        next = m->next;
        bool old = m->comers && now - m->made > UNASKED_MS; /* as on nodes */
        if (!m->over && !m->asker && !m->waiting && !m->timer && (old || !mover_lives(m)))
            call_off(m);
        if (m->over && !m->asker && !m->waiting && !m->timer && m->departs < 0 && !m->depart_timer &&
            !m->awaited && unlink_from(&all->first, m)) {
            m->next = *past_of(all, m->launch);
            *past_of(all, m->launch) = m;
        }
    }
    if (now - all->swept > PAST_SWEEP_MS)
        forget_past(all, now);
}

int moves_open(procspace_t *ps, struct err *err)
{
    struct moves *m = calloc(1, sizeof *m);
    char path[PATH_MAX];

    ps->moves = m;
    if (!m)
        return err_set(err, ENOMEM, "out of memory");
    m->ps = ps;
    m->since = now_ms();
    int fd = pkt_listen(cm_path(path, "move"), 0666, err);
    if (fd < 0)
        return -1;
    loop_timer(ps->loop, SWEEP_MS, true, sweep, m);
    m->callers = callers_open(ps->loop, fd, 0, on_token, m, err);
    return m->callers ? 0 : -1;
}

void moves_close(procspace_t *ps)
{
    struct moves *m = ps->moves;

    if (!m)
        return;
    callers_close(&m->callers);
    while (m->first)
        move_free(m->first);
    for (size_t b = 0; b < MOVE_BUCKETS; b++)
        while (m->past[b])
            move_free(m->past[b]);
    said_close(ps);
    free(m);
    ps->moves = NULL;
}
