/* bpinit_into.c - processes that arrive where something stands for them
 *
 * A bpghost does, because they have relatives here, and they come into its place: rung,
 * it asks what to do (arrival_order), makes what is to stand for children elsewhere,
 * fetches the image (arrival_fetch), and executes bprestore, which is a ghost again if
 * the process does not come after all. Where only a parent's ghost is here, that one
 * makes it a ghost of its own first: so it is its child.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "bus/pkt.h"
#include "bus/rundir.h"
#include "image/image.h"
#include "node/bpinit_arrive_parts.h"
#include "node/bpinit_kids.h"
#include "node/bpinit_kin.h"

#define GHOST_MS 10000 /* for a ghost to come for its process */
#define BEGIN_MS 60000 /* for a program to be executed */
#define BELL_ASK 5
enum { DO_NOTHING = 0, DO_FORK = 1, DO_RESTORE = 3 }; /* node/bpghost.c */

static void on_no_ghost(void *arg)
{
    struct arrival *a = arg;

    a->timer = 0;
    if (a->maker && !arrival_has_ghost(a))
        arrival_fail(a, EAGAIN, "what its parent has left here makes no child: it is held up, or "
                                "there are too many processes");
    else
        arrival_fail(a, ETIMEDOUT, "its stand-in does not answer");
}

static void on_held_up(void *arg)
{
    struct arrival *a = arg;

    a->timer = 0;
    arrival_fail(a, ETIMEDOUT, "it was held up before it was executed");
}

static void is_there(struct arrival *a)
{
    a->place = PLACE_GHOST;
    cage_take(a->cage, a->ghost);
    if (!a->begin) /* else when it has what it is to have open */
        plan_set_limits(&(struct plan){ .limits = a->limits, .nlimits = a->nlimits }, a->ghost);
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

/* Of a program nothing was expected; one that has failed, another try, is not found again. */
static struct arrival *entry(arrivals_t *t, const struct plan *p, uint32_t rank, struct err *err)
{
    struct arrival *a = arrival_find(t, p->launch, rank);

    if (!p->image && a)
        a->launch = 0;
    if (!p->image)
        return arrival_add(t, p->launch, rank, err);
    if (a && a->state == ARRIVAL_EXPECTED)
        return a;
    err_set(err, a ? EAGAIN : EPROTO, "no image is on its way for it");
    return NULL;
}

/* Its descriptors: as they are, or all that it is to have from the beginning. */
static int take_streams(struct arrival *a, struct plan *p, pid_t pid, int stream[3],
                        struct err *err)
{
    struct init *in = a->all->in;

    if (!p->image || p->nio) {
        a->begin = begin_create(in, p, a->rank, pid, &a->image, stream, err);
        return a->begin ? 0 : -1;
    }
    for (int fd = 0; fd < 3; fd++) {
        a->stream[fd] = stream[fd] >= 0 ? stream[fd] : fcntl(in->null_fd, F_DUPFD_CLOEXEC, 3);
        stream[fd] = -1;
        if (a->stream[fd] < 0)
            return err_set(err, errno, "descriptors: %s", strerror(errno));
    }
    return 0;
}

int arrival_into(arrivals_t *t, struct plan *p, uint32_t rank, pid_t ghost, pid_t maker,
                 cage_t *cage, int stream[3], struct err *err)
{
    const char *name = strrchr(p->argv[0] ? p->argv[0] : "", '/');

    if (p->root)
        return err_set(err, EBUSY, "process %d has relatives here, whose root is another",
                       (int)ghost);
    struct arrival *a = entry(t, p, rank, err);
    if (!a)
        return -1;
    if (!copy_plan(a, p))
        err_set(err, ENOMEM, "out of memory");
    if (err->code || take_streams(a, p, ghost, stream, err) < 0) {
        arrival_fail(a, err->code, err->text);
        return -1;
    }
    snprintf(a->comm, sizeof a->comm, "%s", name ? name + 1 : p->argv[0] ? p->argv[0] : "");
    a->cage = cage;
    a->npid = a->ghost = ghost;
    a->uid = p->uid;
    a->gid = p->gid;
    a->state = ARRIVAL_BUILDING;
    a->timer = loop_timer(t->in->loop, GHOST_MS, false, on_no_ghost, a);
    a->maker = maker;
    if (maker)
        a->place = PLACE_WANTED;
    else
        is_there(a);
    stand_bell(maker ? maker : ghost, BELL_ASK, 0);
    return 0;
}

bool arrival_has_ghost(const struct arrival *a)
{
    return a->place == PLACE_GHOST || a->place == PLACE_MAKES;
}

static struct arrival *of_ghost(const arrivals_t *t, pid_t ghost)
{
    struct arrival *a = t->first;

    while (a && (a->ghost != ghost || a->state != ARRIVAL_BUILDING || !arrival_has_ghost(a)))
        a = a->next;
    return a;
}

/* The ghost for it is to be made by this one, which has been told, or has not. */
static struct arrival *of_maker(const arrivals_t *t, pid_t maker, enum arrival_place place)
{
    struct arrival *a = t->first;

    while (a && (a->maker != maker || a->state != ARRIVAL_BUILDING || a->place != place))
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

/* What stands for them has children here, and is the ghost's child already. */
static void take_those_that_keep(struct arrival *a)
{
    struct init *in = a->all->in;
    struct err why = { 0 };

    while (a->made < a->children && kin_keeps_under(in, a->child[a->made].pid, a->ghost)) {
        kids_no_body(in->kids, a->child[a->made].pid); /* that it was itself, here */
        if (stand_made(in, a->child[a->made].pid, a->ghost, a->launch, &why) < 0)
            return;
        a->made++;
    }
}

void arrival_order(arrivals_t *t, pid_t ghost, mp_buf *out)
{
    struct arrival *a = of_ghost(t, ghost), *u = of_maker(t, ghost, PLACE_WANTED);
    char text[80];

    if (a)
        take_those_that_keep(a);
    if (u && !of_maker(t, ghost, PLACE_ORDERED)) { /* one at a time */
        const struct plan_child c = { .pid = u->ghost };
        u->place = PLACE_ORDERED;
        pack_order(out, DO_FORK, u, &c, u->comm, strlen(u->comm) + 1);
    } else if (!a || a->image < 0 || a->place == PLACE_MAKES) {
        pack_order(out, DO_NOTHING, NULL, NULL, "", 0);
    } else if (a->made < a->children) {
        const struct plan_child *c = &a->child[a->made];
        a->place = PLACE_MAKES;
        pack_order(out, DO_FORK, a, c, c->comm, strlen(c->comm) + 1);
    } else {
        int n = snprintf(text, sizeof text, "%llu%c%s", (unsigned long long)a->launch, 0,
                         a->begin ? NODE_BPBEGIN : NODE_RUN "/bprestore");
        pack_order(out, DO_RESTORE, NULL, NULL, text, (size_t)n + 1);
    }
}

/* One that was made too late for its process, which has failed by then. */
static bool is_late(const arrivals_t *t, pid_t npid, pid_t maker)
{
    for (const struct arrival *a = t->first; a; a = a->next)
        if (a->place == PLACE_LATE && a->maker == maker && a->ghost == npid)
            return true;
    return false;
}

/* The maker of u, if that is awaited, has made npid for it. */
static bool made_for(struct arrival *u, pid_t npid)
{
    if (!u)
        return false;
    if (u->ghost == npid) {
        is_there(u);
        stand_bell(npid, BELL_ASK, 0);
        if (cage_killed(u->cage))
            arrival_fail(u, ECANCELED, "its launch was ended before it began");
    } else {
        u->place = PLACE_WANTED; /* the one that it has got is none */
        kill(npid, SIGKILL);
        arrival_fail(u, EAGAIN, "its number is another's here");
    }
    stand_bell(u->maker, BELL_ASK, 0); /* there may be more for it to do */
    return true;
}

/* It was told to make npid for a child of a's. */
static bool makes(const struct arrival *a, pid_t npid)
{
    return a && a->place == PLACE_MAKES && a->made < a->children && a->child[a->made].pid == npid;
}

bool arrival_made(arrivals_t *t, pid_t npid, pid_t parent)
{
    struct arrival *a = of_ghost(t, parent), *u = of_maker(t, parent, PLACE_ORDERED);
    struct err why = { 0 };

    if (!makes(a, npid) && made_for(u, npid))
        return true;
    if (!u && is_late(t, npid, parent)) {
        kill(npid, SIGKILL);
        return true;
    }
    if (!a || a->place != PLACE_MAKES)
        return false;
    if (!makes(a, npid) || stand_made(t->in, npid, parent, a->launch, &why) < 0) {
        kill(npid, SIGKILL);
        arrival_fail(a, EAGAIN, why.code ? why.text : "the number of a child is another's here");
        return true;
    }
    a->place = PLACE_GHOST;
    a->made++;
    stand_bell(parent, BELL_ASK, 0);
    return true;
}

bool arrival_fetch(arrivals_t *t, pid_t ghost, int conn, const char *token, size_t len)
{
    struct arrival *a = of_ghost(t, ghost);
    char want[32];
    int n = a ? snprintf(want, sizeof want, "%llu", (unsigned long long)a->launch) : 0;
    struct err err = { 0 };

    if (!a || a->image < 0 || (size_t)n != len || memcmp(token, want, len) != 0)
        return false;
    if (a->begin && begin_fill(a->begin, ghost, &err) < 0) {
        arrival_fail(a, err.code, err.text);
        return false;
    }
    if (pkt_send(conn, "", 1, &a->image, 1, NULL) < 0 ||
        loop_fd(t->in->loop, conn, EPOLLIN, arrival_word, a, NULL) < 0)
        return false;
    loop_timer_del(t->in->loop, a->timer);
    a->timer = begin_program(a->begin)
                   ? loop_timer(t->in->loop, BEGIN_MS, false, on_held_up, a) : 0;
    cleanup_close(&a->image);
    a->control = conn;
    return true;
}

void arrival_not_into(struct arrival *a)
{
    struct init *in = a->all->in;
    struct body *b = bodies_by_rank(in->bodies, a->launch, a->rank);

    if (a->maker && arrival_has_ghost(a))
        kill(a->ghost, SIGKILL);
    if (a->place == PLACE_ORDERED)
        a->place = PLACE_LATE;
    a->npid = 0;
    if (!b)
        return;
    kin_parent_t *parent = b->parent; /* there never was a body */
    b->parent = NULL;
    bodies_drop(in->bodies, b);
    kin_child_ended(in, parent);
    cages_body_ended(in->cages, a->launch, NULL);
}

void arrivals_makes_none(arrivals_t *t, pid_t maker)
{
    for (struct arrival *a = t->first; a; a = a->next)
        if (a->maker == maker && a->state == ARRIVAL_BUILDING && !arrival_has_ghost(a))
            arrival_fail(a, EAGAIN, "its parent has just come");
}

/* ---- what begins as bpbegin ---- */

void arrivals_maker_gone(arrivals_t *t, pid_t maker)
{
    for (struct arrival *a = t->first; a; a = a->next)
        if (a->maker == maker && (a->state == ARRIVAL_BUILDING || begin_program(a->begin)))
            arrival_fail(a, EAGAIN, "what its parent had left here has just ended");
}

void arrival_equipped(struct arrival *a)
{
    const struct image_go g = { .go = IMAGE_GO };

    if (a->begin)
        begin_limits(a->begin, a->ghost);
    if (begin_program(a->begin) &&
        send(a->control, &g, sizeof g, MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof g)
        init_log("process %d: %s", (int)a->ghost, strerror(errno));
}

bool arrival_begins(struct arrival *a)
{
    struct init *in = a->all->in;
    struct body *b = bodies_by_rank(in->bodies, a->launch, a->rank);

    if (!begin_program(a->begin) || a->state != ARRIVAL_READY)
        return false;
    if (b) {
        b->arriving = b->starting = false;
        b->start = wall_ms();
    }
    arrival_settle(a, ARRIVAL_HERE);
    answer_settle(in, a->launch, a->rank, NULL);
    kids_look_soon(in->kids);
    return true;
}

/* Its rings are the agent's to give back, which knows them. A program's it knows by the
 * list alone. */
void arrival_tell_gone(const struct arrival *a, bool program)
{
    struct init *in = a->all->in;
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_array(&m, 2);
    mp_str(&m, "gone");
    mp_map(&m, 2);
    mp_kuint(&m, "launch", a->launch);
    mp_kuint(&m, "rank", a->rank);
    if (!program || answer_listed(in, a->launch))
        link_send(in->link, &m);
    if (program)
        answer_settle(in, a->launch, a->rank, &a->err);
}
