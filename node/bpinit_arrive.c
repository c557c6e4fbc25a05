/* bpinit_arrive.c - processes that come from another machine
 *
 * The agent brings the end of a pipe in which the image will come; a spawn
 * with "image" then starts bprestore in the process's place, which says on a
 * socket of ours that it is ready, or why it cannot be. It runs when we are told
 * to let it, and that is the one moment from which on the process is here: asked
 * again, we say the same. One that is not let go in time is ended, and then is
 * never let go.
 *
 * Where something stands for it, because it has relatives here, it comes into that one's
 * place (bpinit_into.c).
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
#include "image/image.h"
#include "node/bpinit_arrive_parts.h"
#include "node/bpinit_kids.h"
#include "node/bpinit_kin.h"

#define READY_MS 120000 /* to be let go in */
#define SETTLED_MAX 4096 /* that we still know the end of */

struct arrival *arrival_find(const arrivals_t *t, uint64_t launch, uint32_t rank)
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
    begin_free(&a->begin);
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

void arrival_settle(struct arrival *a, enum arrival_state state)
{
    close_all(a);
    a->state = state;
    a->all->settled++;
    a->all->changed = true;
}

void arrival_fail(struct arrival *a, int code, const char *text)
{
    if (settled(a))
        return;
    if (!a->err.code)
        err_set(&a->err, code, "%s", text);
    stands_end(a->all->in, a->launch);
    if (a->npid > 0 && a->place == PLACE_OWN)
        kill(a->npid, SIGKILL);
    bool program = begin_program(a->begin);
    arrival_settle(a, ARRIVAL_FAILED);
    if (a->npid > 0 && a->place != PLACE_OWN) {
        arrival_not_into(a);
        arrival_tell_gone(a, program);
    }
}

static void on_too_late(void *arg)
{
    struct arrival *a = arg;

    a->timer = 0;
    arrival_fail(a, ETIMEDOUT, "nobody has said that it may go on here");
}

void arrival_word(void *arg, int fd, uint32_t events)
{
    struct arrival *a = arg;
    struct image_word w;
    ssize_t n = recv(fd, &w, sizeof w, MSG_DONTWAIT);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == 0 && arrival_begins(a))
        return;
    if (n != sizeof w && arrival_has_ghost(a)) { /* its ghost has been killed, or is one again */
        arrival_fail(a, EIO, "it did not arrive");
        return;
    }
    if (n != sizeof w) { /* its end is seen by the reaper */
        loop_fd_del(a->all->in->loop, fd);
        return;
    }
    w.text[sizeof w.text - 1] = 0;
    if (w.code && !w.text[0] && a->begin)
        begin_explain(a->begin, (int)w.code, &a->err);
    if (w.code) {
        arrival_fail(a, (int)w.code, w.text);
        return;
    }
    arrival_equipped(a);
    a->state = ARRIVAL_READY;
    if (begin_program(a->begin))
        return;
    a->timer = loop_timer(a->all->in->loop, READY_MS, false, on_too_late, a);
    a->all->changed = true;
}

struct arrival *arrival_add(arrivals_t *t, uint64_t launch, uint32_t rank, struct err *err)
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
    struct arrival *a = arrival_find(t, launch, rank);

    if (a && a->state != ARRIVAL_EXPECTED)
        return err_set(err, EEXIST, "rank %u of launch %llu has its image", rank,
                       (unsigned long long)launch);
    if (!a && !(a = arrival_add(t, launch, rank, err)))
        return -1;
    cleanup_close(&a->image);
    a->image = fd;
    return 0;
}

struct arrival *arrival_begin(arrivals_t *t, uint64_t launch, uint32_t rank, int *image,
                              int *control, struct err *err)
{
    struct arrival *a = arrival_find(t, launch, rank);
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
    if (loop_fd(t->in->loop, a->control, EPOLLIN, arrival_word, a, err) < 0) {
        close(p[1]);
        cleanup_close(&a->control);
        return NULL;
    }
    a->state = ARRIVAL_BUILDING;
    *image = a->image;
    *control = p[1];
    return a;
}

void arrival_begun(struct arrival *a, pid_t npid, uid_t uid, int theirs, const struct err *err)
{
    cleanup_close(&a->image); /* the child has it */
    close(theirs);
    a->npid = npid;
    a->uid = uid;
    if (err->code)
        arrival_fail(a, err->code, err->text);
}

void arrivals_sent_anew(arrivals_t *t, pid_t npid, uint64_t launch, uid_t uid)
{
    const struct arrival *own = arrival_find(t, launch, 0);

    if (!own || settled(own)) /* it has been given up itself meanwhile */
        return;
    for (struct arrival *a = t->first; a; a = a->next)
        if (a->npid == npid && a->launch != launch && a->uid == uid && !settled(a))
            arrival_fail(a, ECANCELED, "it was sent anew");
}

bool arrival_ended(arrivals_t *t, const struct body *b, bool starved)
{
    struct arrival *a = arrival_find(t, b->launch, b->rank);

    if (!a || a->npid != b->npid || a->state == ARRIVAL_HERE)
        return false;
    bool program = begin_program(a->begin);
    a->npid = 0;
    /* Its last word may be waiting still. */
    if ((a->state == ARRIVAL_BUILDING || program) && a->control >= 0)
        arrival_word(a, a->control, EPOLLIN);
    if (a->state == ARRIVAL_HERE)
        return false;
    if (starved)
        arrival_fail(a, ENOMEM, "the node has no memory left for it");
    else
        arrival_fail(a, EIO, program ? "it was ended before it was executed"
                                     : "it was ended while it arrived");
    arrival_tell_gone(a, program);
    return true;
}

/* --- what the agent asks --- */

/* Its restorer waits for nothing but this word; one that has been killed since
 * is a process that was killed here. */
static void let_go(struct arrival *a)
{
    struct image_go g = { .go = IMAGE_GO, .rank = (int32_t)a->rank, .fds = arrival_has_ghost(a) && !a->begin ? 3 : 0 };
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof a->stream)];
    } ctl;
    struct iovec iov = { &g, sizeof g };
    struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (g.fds) {
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

static void decide(arrivals_t *t, const struct question *q)
{
    for (struct arrival *a = t->first; a && q->go; a = a->next) {
        if (!meant(a, q) || a->state != ARRIVAL_READY)
            continue;
        if (arrival_has_ghost(a) && kin_missed(t->in, a->ghost)) {
            arrival_fail(a, EBUSY, "a child of it has ended meanwhile");
            continue;
        }
        a->state = ARRIVAL_HERE;
        t->settled++;
        struct body *b = bodies_by_rank(t->in->bodies, a->launch, a->rank);
        if (b)
            b->arriving = false;
        if (b && arrival_has_ghost(a)) {
            kin_arrived(t->in, b);
            arrivals_makes_none(t, a->ghost);
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
                arrival_fail(a, ECANCELED, "it was called off");
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
        const struct arrival *a = arrival_find(t, r->launch, r->rank);
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

    stands_part(in, npid);
    d->stays = stand_self(in, npid, &d->gen) == 0;
    if (!d->stays)
        d->gen = 0;
    if (kin_leave(in, npid, own, map, &d->took, &d->ntook))
        d->stays = true;
    else if (d->stays)
        kin_child_ended(in, own);
}

static void about_to_end(arrivals_t *t, pid_t npid, kin_parent_t *own)
{
    unsigned at = t->ngone++ % (sizeof t->gone / sizeof *t->gone);

    if (t->gone[at].npid)
        kin_child_ended(t->in, t->gone[at].parent);
    t->gone[at].npid = npid;
    t->gone[at].parent = own;
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
        about_to_end(t, self, parent);
    cages_body_ended(in->cages, launch, NULL);
    return 0;
}

bool arrivals_departed(const arrivals_t *t, pid_t npid)
{
    for (size_t i = 0; i < sizeof t->gone / sizeof *t->gone; i++)
        if (t->gone[i].npid == npid)
            return true;
    return false;
}

void arrivals_forget_parent(arrivals_t *t, const kin_parent_t *p)
{
    for (size_t i = 0; i < sizeof t->gone / sizeof *t->gone; i++)
        if (t->gone[i].parent == p)
            t->gone[i].parent = NULL;
}

void arrivals_departed_end(arrivals_t *t, pid_t npid)
{
    for (size_t i = 0; i < sizeof t->gone / sizeof *t->gone; i++)
        if (t->gone[i].npid == npid) {
            kin_parent_t *own = t->gone[i].parent;
            t->gone[i].npid = 0;
            t->gone[i].parent = NULL;
            stands_left(t->in, npid);
            kin_child_ended(t->in, own);
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
