/* bpinit_arrive.c - processes that come from another machine
 *
 * The agent brings the end of a socket on which the image will come; a spawn
 * with "image" then starts bprestore in the process's place, which says on a
 * socket of ours that it is ready, or why it cannot be. It runs when we are told
 * to let it, and that is the one moment from which on the process is here: asked
 * again, we say the same. One that is not let go in time is ended, and then is
 * never let go.
 *
 * Where a bpghost stands for it, because it has relatives here, it comes into that
 * one's place: rung, the ghost asks what to do (arrival_order), makes what is to stand
 * for children elsewhere, fetches the image (arrival_fetch), and executes bprestore,
 * which is a ghost again if the process does not come after all. Where its parent is
 * such a ghost, that one makes it a ghost of its own first: so it is its child.
 *
 * Also the other way round: a process that has gone is ours no longer, and its
 * end is not told.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include "bus/pkt.h"
#include "bus/rundir.h"
#include "image/image.h"
#include "node/bpinit.h"
#include "node/bpinit_kids.h"
#include "node/bpinit_kin.h"
#include "node/bpinit_spawn.h"

#define READY_MS 120000 /* to be let go in */
#define GHOST_MS 10000   /* for a ghost to come for its process */
#define SETTLED_MAX 4096 /* that we still know the end of */
enum { DO_NOTHING = 0, DO_FORK = 1, DO_RESTORE = 3 }; /* node/bpghost.c */

enum arrival_state { ARRIVAL_EXPECTED, ARRIVAL_BUILDING, ARRIVAL_READY, ARRIVAL_HERE,
                     ARRIVAL_FAILED };

struct arrival {
    arrivals_t *all;
    struct arrival *next;
    uint64_t launch;
    uint32_t rank;
    enum arrival_state state;
    int image, control; /* -1: none (any more) */
    int timer;
    pid_t npid;
    uid_t uid;
    pid_t into; /* the ghost in whose place it comes; 0: none, it is a process of its own */
    pid_t under; /* or: who is to make that ghost, npid; 0 nobody */
    char comm[16];
    cage_t *cage;
    struct limit_plan *limits;
    size_t nlimits;
    gid_t gid;
    int stream[3];
    struct plan_child *child; /* of whom it is to make stand-ins */
    size_t children, made;
    bool asked; /* it has been told to make the next, or its parent to make it */
    pid_t late; /* of the one that it should have come into, once this has failed */
    struct err err; /* ARRIVAL_FAILED */
};

struct question { /* of the agent: how are they? */
    struct question *next;
    uint64_t id, launch;
    int64_t uid; /* whose; 0: any */
    bool go;
};

struct arrivals {
    struct init *in;
    struct arrival *first, **end;
    size_t settled;
    bool changed; /* somebody may have to be answered: at the end of the turn */
    struct question *asked;
    pid_t gone[64]; /* processes that have moved away and are about to end */
    unsigned ngone;
    struct {
        uint64_t move;
        uint64_t launch; /* of its stay here; 0: it was no body */
        pid_t npid;
    } left[1024]; /* who has left, and by which move */
    unsigned nleft;
};

static struct arrival *find(const arrivals_t *t, uint64_t launch, uint32_t rank)
{
    struct arrival *a = t->first;

    while (a && (a->launch != launch || a->rank != rank))
        a = a->next;
    return a;
}

static void close_all(struct arrival *a)
{
    loop_timer_del(a->all->in->loop, a->timer);
    a->timer = 0;
    cleanup_close(&a->image);
    if (a->control >= 0)
        loop_fd_del(a->all->in->loop, a->control);
    cleanup_close(&a->control);
    for (int fd = 0; fd < 3; fd++)
        cleanup_close(&a->stream[fd]);
    free(a->child);
    a->child = NULL;
    a->children = 0;
    free(a->limits);
    a->limits = NULL;
}

static bool settled(const struct arrival *a)
{
    return a->state == ARRIVAL_HERE || a->state == ARRIVAL_FAILED;
}

static void forget_oldest(arrivals_t *t)
{
    for (struct arrival **p = &t->first; *p; p = &(*p)->next) {
        struct arrival *a = *p;
        if (!settled(a))
            continue;
        *p = a->next;
        if (!*p)
            t->end = p;
        t->settled--;
        close_all(a);
        free(a);
        return;
    }
}

static void settle(struct arrival *a, enum arrival_state state)
{
    close_all(a);
    a->state = state;
    a->all->settled++;
    a->all->changed = true;
}

/* Its rings are the agent's to give back, which knows them. */
static void tell_gone(const struct arrival *a)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_array(&m, 2);
    mp_str(&m, "gone");
    mp_map(&m, 2);
    mp_kuint(&m, "launch", a->launch);
    mp_kuint(&m, "rank", a->rank);
    link_send(a->all->in->link, &m);
}

/* Who stood for it does so still, but if that was made for it: there never was a body. */
static void not_into(struct arrival *a)
{
    struct init *in = a->all->in;
    struct body *b = bodies_by_rank(in->bodies, a->launch, a->rank);

    if (a->under && a->into)
        kill(a->into, SIGKILL);
    if (b) {
        kin_parent_t *parent = b->parent;
        b->parent = NULL;
        bodies_drop(in->bodies, b);
        kin_child_ended(in, parent);
        cages_body_ended(in->cages, a->launch, NULL);
    }
    a->late = a->npid;
    a->npid = 0;
    tell_gone(a);
}

static void fail(struct arrival *a, int code, const char *text)
{
    if (settled(a))
        return;
    if (!a->err.code)
        err_set(&a->err, code, "%s", text);
    stands_end(a->all->in, a->launch);
    if (a->npid > 0 && !a->into && !a->under)
        kill(a->npid, SIGKILL);
    bool into = (a->into || a->under) && a->npid;
    settle(a, ARRIVAL_FAILED);
    if (into)
        not_into(a);
}

static void on_too_late(void *arg)
{
    struct arrival *a = arg;

    a->timer = 0;
    fail(a, ETIMEDOUT, "nobody has said that it may go on here");
}

static void on_word(void *arg, int fd, uint32_t events)
{
    struct arrival *a = arg;
    struct image_word w;
    ssize_t n = recv(fd, &w, sizeof w, MSG_DONTWAIT);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n != sizeof w && a->into) { /* its ghost has been killed, or is one again */
        fail(a, EIO, "it did not arrive");
        return;
    }
    if (n != sizeof w) { /* its end is seen by the reaper */
        loop_fd_del(a->all->in->loop, fd);
        return;
    }
    w.text[sizeof w.text - 1] = 0;
    if (w.code) {
        fail(a, (int)w.code, w.text);
        return;
    }
    a->state = ARRIVAL_READY;
    a->timer = loop_timer(a->all->in->loop, READY_MS, false, on_too_late, a);
    a->all->changed = true;
}

static struct arrival *add(arrivals_t *t, uint64_t launch, uint32_t rank, struct err *err)
{
    struct arrival *a = calloc(1, sizeof *a);

    if (!a) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    *a = (struct arrival){ .all = t, .launch = launch, .rank = rank, .image = -1,
                           .control = -1, .stream = { -1, -1, -1 } };
    *t->end = a;
    t->end = &a->next;
    return a;
}

int arrival_expect(arrivals_t *t, uint64_t launch, uint32_t rank, int fd, struct err *err)
{
    struct arrival *a = find(t, launch, rank);

    if (a && a->state != ARRIVAL_EXPECTED)
        return err_set(err, EEXIST, "rank %u of launch %llu has its image", rank,
                       (unsigned long long)launch);
    if (!a && !(a = add(t, launch, rank, err)))
        return -1;
    cleanup_close(&a->image);
    a->image = fd;
    return 0;
}

struct arrival *arrival_begin(arrivals_t *t, uint64_t launch, uint32_t rank, int *image,
                              int *control, struct err *err)
{
    struct arrival *a = find(t, launch, rank);
    int p[2];

    if (!a || a->state != ARRIVAL_EXPECTED) {
        err_set(err, a ? EAGAIN : EPROTO, "no image is on its way for it");
        return NULL;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p) < 0) {
        err_set(err, errno, "socketpair: %s", strerror(errno));
        return NULL;
    }
    a->control = p[0];
    if (loop_fd(t->in->loop, a->control, EPOLLIN, on_word, a, err) < 0) {
        close(p[1]);
        cleanup_close(&a->control);
        return NULL;
    }
    a->state = ARRIVAL_BUILDING;
    *image = a->image;
    *control = p[1];
    return a;
}

/* --- into the place of a ghost --- */

#define BELL_ASK 5

static void on_no_ghost(void *arg)
{
    struct arrival *a = arg;

    a->timer = 0;
    fail(a, ETIMEDOUT, "its stand-in does not answer");
}

static void is_there(struct arrival *a, pid_t ghost)
{
    a->into = ghost;
    cage_take(a->cage, ghost);
    plan_set_limits(&(struct plan){ .limits = a->limits, .nlimits = a->nlimits }, ghost);
}

static bool copy_plan(struct arrival *a, const struct plan *p)
{
    a->child = malloc((p->nchildren + 1) * sizeof *a->child);
    a->limits = malloc((p->nlimits + 1) * sizeof *a->limits);
    if (!a->child || !a->limits)
        return false;
    for (size_t i = 0; i < p->nchildren; i++)
        a->child[i] = p->children[i];
    for (size_t i = 0; i < p->nlimits; i++)
        a->limits[i] = p->limits[i];
    a->children = p->nchildren;
    a->nlimits = p->nlimits;
    return true;
}

int arrival_into(arrivals_t *t, const struct plan *p, uint32_t rank, pid_t ghost, pid_t under,
                 cage_t *cage, int stream[3], struct err *err)
{
    struct arrival *a = find(t, p->launch, rank);
    const char *name = strrchr(p->argv[0] ? p->argv[0] : "", '/');

    if (!a || a->state != ARRIVAL_EXPECTED)
        return err_set(err, a ? EAGAIN : EPROTO, "no image is on its way for it");
    if (p->nio || p->root)
        return err_set(err, EBUSY, "process %d has relatives here: it comes with its streams "
                                   "as they are", (int)ghost);
    if (!copy_plan(a, p))
        return err_set(err, ENOMEM, "out of memory");
    snprintf(a->comm, sizeof a->comm, "%s", name ? name + 1 : p->argv[0] ? p->argv[0] : "");
    a->cage = cage;
    for (int fd = 0; fd < 3; fd++) {
        a->stream[fd] = stream[fd];
        stream[fd] = -1;
    }
    a->npid = ghost;
    a->uid = p->uid;
    a->gid = p->gid;
    a->state = ARRIVAL_BUILDING;
    a->timer = loop_timer(t->in->loop, GHOST_MS, false, on_no_ghost, a);
    if (under)
        a->under = under;
    else
        is_there(a, ghost);
    stand_bell(under ? under : ghost, BELL_ASK, 0);
    return 0;
}

static struct arrival *of_ghost(const arrivals_t *t, pid_t ghost)
{
    struct arrival *a = t->first;

    while (a && (a->into != ghost || a->state != ARRIVAL_BUILDING))
        a = a->next;
    return a;
}

/* The ghost for it is to be made by this one. asked: that one has been told. */
static struct arrival *of_maker(const arrivals_t *t, pid_t maker, bool asked)
{
    struct arrival *a = t->first;

    while (a && (a->under != maker || a->into || a->state != ARRIVAL_BUILDING ||
                 a->asked != asked))
        a = a->next;
    return a;
}

static void pack_order(mp_buf *out, int what, const struct arrival *a,
                       const struct plan_child *c, const char *args, size_t len)
{
    mp_array(out, 10);
    mp_int(out, what);
    mp_int(out, c ? c->pid : 0);
    mp_int(out, a ? a->uid : 0);
    mp_int(out, a ? a->gid : 0);
    mp_int(out, 0);
    mp_int(out, 0);
    mp_int(out, 0);
    mp_int(out, c && c->leads);
    mp_bin(out, c ? c->comm : "", c ? strlen(c->comm) : 0);
    mp_bin(out, args, len);
}

void arrival_order(arrivals_t *t, pid_t ghost, mp_buf *out)
{
    struct arrival *a = of_ghost(t, ghost), *u = of_maker(t, ghost, false);
    char text[80];

    if (u && !of_maker(t, ghost, true)) { /* one at a time */
        const struct plan_child c = { .pid = u->npid };
        u->asked = true;
        pack_order(out, DO_FORK, u, &c, u->comm, strlen(u->comm) + 1);
    } else if (!a || a->image < 0 || a->asked) {
        pack_order(out, DO_NOTHING, NULL, NULL, "", 0);
    } else if (a->made < a->children) {
        const struct plan_child *c = &a->child[a->made];
        a->asked = true;
        pack_order(out, DO_FORK, a, c, c->comm, strlen(c->comm) + 1);
    } else {
        int n = snprintf(text, sizeof text, "%llu%c" NODE_RUN "/bprestore",
                         (unsigned long long)a->launch, 0);
        pack_order(out, DO_RESTORE, NULL, NULL, text, (size_t)n + 1);
    }
}

/* One that was made too late for its process, which has failed by then. */
static bool is_late(const arrivals_t *t, pid_t npid, pid_t parent)
{
    for (const struct arrival *a = t->first; a; a = a->next)
        if (a->under == parent && a->state == ARRIVAL_FAILED && a->asked && a->late == npid)
            return true;
    return false;
}

/* The parent of u, if that is awaited, has made npid for it. */
static bool made_for(struct arrival *u, pid_t npid, pid_t parent)
{
    if (!u)
        return false;
    u->asked = false;
    if (u->npid == npid) {
        is_there(u, npid);
        stand_bell(npid, BELL_ASK, 0);
    } else {
        kill(npid, SIGKILL);
        fail(u, EAGAIN, "its number is another's here");
    }
    stand_bell(parent, BELL_ASK, 0); /* there may be more for it to do */
    return true;
}

bool arrival_made(arrivals_t *t, pid_t npid, pid_t parent)
{
    struct arrival *a = of_ghost(t, parent), *u = of_maker(t, parent, true);
    struct err why = { 0 };

    if ((!a || !a->asked || a->made >= a->children || a->child[a->made].pid != npid) &&
        made_for(u, npid, parent))
        return true;
    if (!u && is_late(t, npid, parent)) {
        kill(npid, SIGKILL);
        return true;
    }
    if (!a || !a->asked || a->made >= a->children)
        return false;
    if (a->child[a->made].pid != npid || stand_made(t->in, npid, parent, a->launch, &why) < 0) {
        kill(npid, SIGKILL);
        fail(a, EAGAIN, why.code ? why.text : "the number of a child is another's here");
        return true;
    }
    a->asked = false;
    a->made++;
    stand_bell(parent, BELL_ASK, 0);
    return true;
}

bool arrival_fetch(arrivals_t *t, pid_t ghost, int conn, const char *token, size_t len)
{
    struct arrival *a = of_ghost(t, ghost);
    char want[32];
    int n = a ? snprintf(want, sizeof want, "%llu", (unsigned long long)a->launch) : 0;

    if (!a || a->image < 0 || (size_t)n != len || memcmp(token, want, len) != 0 ||
        pkt_send(conn, "", 1, &a->image, 1, NULL) < 0 ||
        loop_fd(t->in->loop, conn, EPOLLIN, on_word, a, NULL) < 0)
        return false;
    loop_timer_del(t->in->loop, a->timer);
    a->timer = 0;
    cleanup_close(&a->image);
    a->control = conn;
    return true;
}

void arrival_begun(struct arrival *a, pid_t npid, uid_t uid, int theirs, const struct err *err)
{
    cleanup_close(&a->image); /* the child has it */
    close(theirs);
    a->npid = npid;
    a->uid = uid;
    if (err->code)
        fail(a, err->code, err->text);
}

void arrivals_sent_anew(arrivals_t *t, pid_t npid, uint64_t launch, uid_t uid)
{
    const struct arrival *own = find(t, launch, 0);

    if (!own || settled(own)) /* it has been given up itself meanwhile */
        return;
    for (struct arrival *a = t->first; a; a = a->next)
        if (a->npid == npid && a->launch != launch && a->uid == uid && !settled(a))
            fail(a, ECANCELED, "it was sent anew");
}

bool arrival_ended(arrivals_t *t, const struct body *b, bool starved)
{
    struct arrival *a = find(t, b->launch, b->rank);

    if (!a || a->npid != b->npid || a->state == ARRIVAL_HERE)
        return false;
    a->npid = 0;
    /* Its last word may be waiting still. */
    if (a->state == ARRIVAL_BUILDING && a->control >= 0)
        on_word(a, a->control, EPOLLIN);
    if (starved)
        fail(a, ENOMEM, "the node has no memory left for it");
    else
        fail(a, EIO, "it was ended while it arrived");
    tell_gone(a);
    return true;
}

/* --- what the agent asks --- */

/* Its restorer waits for nothing but this word; one that has been killed since
 * is a process that was killed here. */
static void let_go(struct arrival *a)
{
    struct image_go g = { .go = IMAGE_GO, .rank = (int32_t)a->rank, .fds = a->into ? 3 : 0 };
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof a->stream)];
    } ctl;
    struct iovec iov = { &g, sizeof g };
    struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (a->into) {
        memset(&ctl, 0, sizeof ctl);
        mh.msg_control = &ctl;
        mh.msg_controllen = sizeof ctl.room;
        struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof a->stream);
        memcpy(CMSG_DATA(c), a->stream, sizeof a->stream);
    }
    if (sendmsg(a->control, &mh, MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof g)
        init_log("process %d: %s", (int)a->npid, strerror(errno));
    close_all(a);
}

/* Nobody lets another user's go. */
static bool meant(const struct arrival *a, const struct question *q)
{
    return a->launch == q->launch && (q->uid == 0 || (int64_t)a->uid == q->uid);
}

static void pack_answer(const arrivals_t *t, const struct question *q, mp_buf *m)
{
    uint32_t n = 0;

    for (const struct arrival *a = t->first; a; a = a->next)
        n += meant(a, q);
    mp_array(m, 2);
    mp_str(m, "arrivals");
    mp_map(m, 3);
    mp_kuint(m, "id", q->id);
    mp_kuint(m, "launch", q->launch);
    mp_key(m, "ranks");
    mp_array(m, n);
    for (const struct arrival *a = t->first; a; a = a->next) {
        if (!meant(a, q))
            continue;
        mp_array(m, 3);
        mp_uint(m, a->rank);
        mp_int(m, a->state == ARRIVAL_FAILED ? a->err.code : 0);
        mp_str(m, a->state == ARRIVAL_FAILED ? a->err.text : "");
    }
}

static bool all_known(const arrivals_t *t, const struct question *q)
{
    for (const struct arrival *a = t->first; a; a = a->next)
        if (meant(a, q) &&
            (a->state == ARRIVAL_EXPECTED || a->state == ARRIVAL_BUILDING))
            return false;
    return true;
}

/* It is the process itself by now. */
static void makes_none(arrivals_t *t, pid_t maker)
{
    for (struct arrival *a = t->first; a; a = a->next)
        if (a->under == maker && !a->into && a->state == ARRIVAL_BUILDING)
            fail(a, EAGAIN, "its parent has just come");
}

static void decide(arrivals_t *t, const struct question *q)
{
    for (struct arrival *a = t->first; a && q->go; a = a->next) {
        if (!meant(a, q) || a->state != ARRIVAL_READY)
            continue;
        if (a->into && kin_missed(t->in, a->into)) {
            fail(a, EBUSY, "a child of it has ended meanwhile");
            continue;
        }
        a->state = ARRIVAL_HERE;
        t->settled++;
        struct body *b = bodies_by_rank(t->in->bodies, a->launch, a->rank);
        if (b)
            b->arriving = false;
        if (b && a->into) {
            kin_arrived(t->in, b);
            makes_none(t, a->into);
        }
    }
}

static void let_all_go(arrivals_t *t)
{
    for (struct arrival *a = t->first; a; a = a->next)
        if (a->state == ARRIVAL_HERE && a->control >= 0)
            let_go(a);
}

static void on_turn(void *arg)
{
    arrivals_t *t = arg;

    if (!t->changed)
        return;
    t->changed = false;
    for (struct question **p = &t->asked; *p;) {
        struct question *q = *p;
        if (!all_known(t, q)) {
            p = &q->next;
            continue;
        }
        CLEANUP(mp_free) mp_buf m;
        mp_init(&m);
        decide(t, q);
        pack_answer(t, q, &m);
        *p = q->next;
        free(q);
        link_send(t->in->link, &m);
    }
    let_all_go(t); /* after the word of it: what they say comes later */
    while (t->settled > SETTLED_MAX)
        forget_oldest(t);
}

int arrivals_ask(arrivals_t *t, const msgpack_object *map, struct err *err)
{
    uint64_t id, launch;

    if (mp_get_uint(map, "id", &id, err) < 0 || mp_get_uint(map, "launch", &launch, err) < 0)
        return -1;
    if (mp_opt_bool(map, "abort", false))
        for (struct arrival *a = t->first; a; a = a->next)
            if (a->launch == launch)
                fail(a, ECANCELED, "it was called off");
    struct question *q = calloc(1, sizeof *q);
    if (!q)
        return err_set(err, ENOMEM, "out of memory");
    *q = (struct question){ .next = t->asked, .id = id, .launch = launch,
                            .uid = mp_opt_int(map, "uid", 0),
                            .go = mp_opt_bool(map, "go", false) };
    t->asked = q;
    t->changed = true;
    return 0;
}

/* Rings of those that did not come, if the agent before did not give them back. */
static void release_failed(arrivals_t *t)
{
    size_t n, k = 0;
    const uint32_t *list = rings_list(t->in->rings, &n);
    CLEANUP(cleanup_free) uint32_t *slot = malloc((n + 1) * sizeof *slot);

    for (size_t i = 0; slot && i < n; i++) {
        const struct ring *r = rings_get(t->in->rings, list[i]);
        const struct arrival *a = find(t, r->launch, r->rank);
        if (a && a->state == ARRIVAL_FAILED && !a->npid)
            slot[k++] = list[i];
    }
    for (size_t i = 0; i < k; i++)
        pump_release(t->in->pump, slot[i]);
}

static void forget_questions(arrivals_t *t)
{
    while (t->asked) {
        struct question *q = t->asked;
        t->asked = q->next;
        free(q);
    }
}

/* --- the other way --- */

/* What it has left here has a parent still. What stands for children of it elsewhere ends
 * with its old self, or as soon as that is a ghost (stand_here). */
static void leave_relatives(arrivals_t *t, pid_t npid, kin_parent_t *own,
                            const msgpack_object *map, struct departure *d)
{
    struct init *in = t->in;

    d->stays = stand_self(in, npid, &d->gen) == 0;
    if (!d->stays)
        d->gen = 0;
    if (kin_leave(in, npid, own, map, &d->took, &d->ntook))
        d->stays = true;
    else
        kin_child_ended(in, own);
}

/* Who has left by this move, if we have been told before, and our answer was not heard; 0. */
static pid_t left_by(const arrivals_t *t, uint64_t move, uint64_t *launch)
{
    for (size_t i = 0; move && i < sizeof t->left / sizeof *t->left; i++)
        if (t->left[i].move == move) {
            *launch = t->left[i].launch;
            return t->left[i].npid;
        }
    return 0;
}

static void note_left(arrivals_t *t, uint64_t move, uint64_t launch, pid_t npid)
{
    unsigned at = t->nleft++ % (sizeof t->left / sizeof *t->left);

    t->left[at].move = move;
    t->left[at].launch = launch;
    t->left[at].npid = npid;
}

/* ["depart", {pid, gen, launch, npid, move, name, kids, speaks}]: it runs elsewhere now. npid:
 * of that very process, whatever the rest is; or 0. name, kids: kin_leave(). speaks: the
 * launch in whose streams it has spoken, and others go on to */
int arrivals_depart(arrivals_t *t, const msgpack_object *map, struct departure *d,
                    struct err *err)
{
    struct init *in = t->in;
    int64_t pid, gen, npid = mp_opt_int(map, "npid", 0);
    uint64_t of, move = 0, speaks = 0;

    if (mp_get(map, "move"))
        mp_get_uint(map, "move", &move, NULL);
    if (mp_get(map, "speaks") && mp_get_uint(map, "speaks", &speaks, NULL) == 0)
        d->nsaid = pump_said(in->pump, speaks, &d->said);
    if (mp_get_int(map, "pid", 0, INT32_MAX, &pid, err) < 0 ||
        mp_get_uint(map, "launch", &of, err) < 0 ||
        mp_get_int(map, "gen", 0, UINT32_MAX, &gen, err) < 0)
        return -1;
    pid_t before = left_by(t, move, &d->launch);
    npid = before ? before : npid;
    struct body *b = npid ? bodies_by_npid(in->bodies, (pid_t)npid)
                          : bodies_by_pid(in->bodies, (pid_t)pid);
    if (before && b && !b->arriving)
        return 0; /* it is back by now */
    if (before)
        b = NULL; /* or about to be, in the place of what it was, which waits for this answer */
    if (b && !npid && (b->gen != gen || b->launch != of))
        b = NULL; /* asked again; it may even be back by now */
    if (!b && npid && !arrivals_departed(t, (pid_t)npid)) { /* a kid, or asked again */
        if (!before)
            note_left(t, move, 0, (pid_t)npid);
        leave_relatives(t, (pid_t)npid, NULL, map, d);
        return 0;
    }
    if (!b)
        return 0;
    /* What it has said is told to its end, wherever it says more. */
    pump_hangup(in->pump, b->launch, b->rank, 0);
    for (int fd = 1; fd < 3 && b->launch != speaks; fd++)
        pump_depart(in->pump, b->slot[fd]);
    rings_bell(in->rings);
    uint64_t launch = d->launch = b->launch;
    pid_t self = b->npid;
    kin_parent_t *parent = b->parent;
    b->parent = NULL;
    bodies_drop(in->bodies, b);
    note_left(t, move, launch, self);
    leave_relatives(t, self, parent, map, d);
    if (!d->stays)
        t->gone[t->ngone++ % (sizeof t->gone / sizeof *t->gone)] = self;
    cages_body_ended(in->cages, launch, NULL);
    return 0;
}

bool arrivals_departed(const arrivals_t *t, pid_t npid)
{
    for (size_t i = 0; i < sizeof t->gone / sizeof *t->gone; i++)
        if (t->gone[i] == npid)
            return true;
    return false;
}

void arrivals_departed_end(arrivals_t *t, pid_t npid)
{
    for (size_t i = 0; i < sizeof t->gone / sizeof *t->gone; i++)
        if (t->gone[i] == npid) {
            t->gone[i] = 0;
            stands_left(t->in, npid);
        }
}

void arrivals_new_agent(arrivals_t *t)
{
    forget_questions(t);
    release_failed(t);
}

arrivals_t *arrivals_create(struct init *in, struct err *err)
{
    arrivals_t *t = calloc(1, sizeof *t);

    if (!t) {
        err_set(err, ENOMEM, "arrivals: out of memory");
        return NULL;
    }
    t->in = in;
    t->end = &t->first;
    loop_turn(in->loop, on_turn, t);
    return t;
}

void arrivals_destroy(arrivals_t **tp)
{
    arrivals_t *t = *tp;

    if (!t)
        return;
    while (t->first) {
        struct arrival *a = t->first;
        t->first = a->next;
        close_all(a);
        free(a);
    }
    forget_questions(t);
    free(t);
    *tp = NULL;
}
