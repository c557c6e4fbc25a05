/* bpinit_stand.c - stand-ins of children that live elsewhere
 *
 * Their parent, a process here, has made them: bpghosts, as on the master. For
 * the master they are children of it like others, told by bpinit_kids.c. What is
 * more: we ring their bells, pass on what they are sent, in one row with the
 * stops that are seen of them, and tell when one is killed.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "node/bpinit_kids.h"
#include "node/bpinit_kin.h"

#define BELL SIGRTMAX
enum { OP_STOP = 3, OP_KILL = 8, OP_CONT = 9 };

struct stand {
    struct stand *next;
    struct init *in;
    pid_t npid, parent;
    uint32_t gen;
    uint64_t launch; /* with which its parent arrived; 0: its parent has made it */
    uint64_t said; /* the last event that tells what it was sent */
    int pidfd;
    bool ending; /* by our word */
    bool parting; /* its parent has left: it is about to end */
};

struct stands {
    struct stand *first;
};

static struct stand *find(const struct init *in, pid_t npid)
{
    struct stand *s = in->stands->first;

    while (s && s->npid != npid)
        s = s->next;
    return s;
}

bool stand_is(const struct init *in, pid_t npid) { return find(in, npid) != NULL; }

static void forget(struct stand *s)
{
    struct stand **at = &s->in->stands->first;

    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    loop_fd_del(s->in->loop, s->pidfd);
    close(s->pidfd);
    free(s);
}

/* It was killed, and is told of as gone only after that: then nobody knows any more for
 * whom it stood. */
static void cut(struct stand *s)
{
    if (!s->ending)
        journal_cut(s->in, s->npid, s->gen);
    s->ending = true;
}

void stand_gone(struct init *in, pid_t npid, uint32_t gen)
{
    struct stand *s = find(in, npid);

    if (s && s->gen == gen)
        cut(s);
}

static void on_pidfd(void *arg, int fd, uint32_t events)
{
    struct stand *s = arg;

    (void)fd;
    (void)events;
    cut(s);
    stands_left(s->in, s->npid);
    forget(s);
}

/* Its number may have been another's until a moment ago, of whose end we hear next. */
static struct stand *find_living(const struct init *in, pid_t npid)
{
    struct stand *s = find(in, npid);
    struct pollfd ended = { s ? s->pidfd : -1, POLLIN, 0 };

    if (!s || poll(&ended, 1, 0) <= 0)
        return s;
    on_pidfd(s, s->pidfd, EPOLLIN);
    return NULL;
}

/* 0: npid is a child of its parent, and stands for somebody from now on. */
static int add(struct init *in, pid_t npid, pid_t parent, uint32_t *gen, struct err *err)
{
    struct stand *s = find_living(in, npid);

    find_living(in, parent); /* what stood for it itself must not take these with it later */
    if (s) {
        *gen = s->gen;
        return 0;
    }
    int fd = (int)syscall(SYS_pidfd_open, npid, 0);
    s = fd >= 0 ? calloc(1, sizeof *s) : NULL;
    if (!s || loop_fd(in->loop, fd, EPOLLIN, on_pidfd, s, err) < 0) {
        free(s);
        bool ended = fd < 0;
        cleanup_close(&fd);
        return ended ? err_set(err, ESRCH, "process %d has ended", (int)npid)
                     : err_set(err, ENOMEM, "out of memory");
    }
    *s = (struct stand){ in->stands->first, in, npid, parent, 0, 0, 0, fd, false, false };
    in->stands->first = s; /* told of as one that stands */
    if (kids_note(in->kids, npid, parent, gen) < 0) {
        forget(s);
        return err_set(err, ESRCH, "process %d is no child of process %d", (int)npid,
                       (int)parent);
    }
    s->gen = *gen;
    return 0;
}

int stand_made(struct init *in, pid_t npid, pid_t parent, uint64_t launch, struct err *err)
{
    uint32_t gen;

    if (add(in, npid, parent, &gen, err) < 0)
        return -1;
    struct stand *s = find(in, npid);
    if (s)
        s->launch = launch;
    return 0;
}

void stand_said(struct init *in, pid_t npid)
{
    struct stand *s = find(in, npid);

    if (s)
        s->said = journal_seq(in->journal);
}

/* ["quiet", {id, pids}] -> ["standing", {id}] or {id, error: [code, text]} */
int stand_quiet(struct init *in, const msgpack_object *map, struct err *err)
{
    const msgpack_object_array *pids;
    CLEANUP(mp_free) mp_buf m;
    uint64_t id;
    int64_t npid, busy = 0;

    mp_init(&m);
    if (mp_get_uint(map, "id", &id, err) < 0 || mp_get_array(map, "pids", &pids, err) < 0)
        return -1;
    for (uint32_t i = 0; i < pids->size && !busy; i++) {
        const struct stand *s = mp_as_int(&pids->ptr[i], &npid) && npid > 1 && npid <= INT32_MAX
                                    ? find(in, (pid_t)npid) : NULL;
        if (s && !s->ending &&
            (s->said > journal_known(in->journal) || !kids_rests(in->kids, s->npid)))
            busy = s->npid;
    }
    mp_array(&m, 2);
    mp_str(&m, "standing");
    mp_map(&m, busy ? 2 : 1);
    mp_kuint(&m, "id", id);
    if (busy) {
        char text[80];
        snprintf(text, sizeof text, "its child %d was sent something a moment ago", (int)busy);
        mp_key(&m, "error");
        mp_array(&m, 2);
        mp_int(&m, EAGAIN);
        mp_str(&m, text);
    }
    link_send(in->link, &m);
    return 0;
}

static void ring_with(pid_t npid, int sig, uint64_t value)
{
    siginfo_t si;

    memset(&si, 0, sizeof si);
    si.si_signo = sig;
    si.si_code = SI_QUEUE;
    si.si_pid = getpid();
    si.si_value.sival_ptr = (void *)(uintptr_t)value;
    syscall(SYS_rt_sigqueueinfo, npid, sig, &si);
}

void stand_bell(pid_t npid, int op, uint32_t arg)
{
    ring_with(npid, BELL, (uint64_t)op << 32 | arg);
}

/* It is not waited for here any more; children of it that run here have it as their parent
 * still, and it hears of them, even if it stood for one that was stopped. */
static void keeps_only(struct stand *s)
{
    struct init *in = s->in;
    pid_t npid = s->npid;

    forget(s);
    kids_reaped(in->kids, npid, 0);
    stand_bell(npid, OP_CONT, 0);
    ring_with(npid, SIGCONT, (uint64_t)OP_CONT << 32);
}

static void end(struct stand *s)
{
    if (kin_keeps(s->in, s->npid)) {
        keeps_only(s);
        return;
    }
    s->ending = true;
    kill(s->npid, SIGKILL);
}

void stands_end(struct init *in, uint64_t launch)
{
    for (struct stand *s = in->stands->first, *next; s; s = next) {
        next = s->next;
        if (s->launch == launch)
            end(s);
    }
}

void stands_left(struct init *in, pid_t parent)
{
    for (struct stand *s = in->stands->first, *next; s; s = next) {
        next = s->next;
        if (s->parent == parent)
            end(s);
    }
}

static int stand_all(struct init *in, pid_t asker, const msgpack_object_array *pids,
                     mp_buf *out, struct err *err)
{
    int64_t npid;
    uint32_t gen;

    mp_key(out, "pids");
    mp_array(out, pids->size);
    for (uint32_t i = 0; i < pids->size; i++) {
        if (!mp_as_int(&pids->ptr[i], &npid) || npid < 2 || npid > INT32_MAX)
            return err_set(err, EPROTO, "pids: item %u: want a process number", i);
        if (add(in, (pid_t)npid, asker, &gen, err) < 0)
            return -1;
        mp_array(out, 2);
        mp_int(out, npid);
        mp_uint(out, gen);
    }
    return 0;
}

/* ["stand", {id, asker, pids}] -> ["standing", {id, asker: [ghost, gen], pids: [[npid, gen]...]}]
 * or {id, error: [code, text]} */
int stand_begin(struct init *in, const msgpack_object *map, struct err *err)
{
    const msgpack_object_array *pids;
    CLEANUP(mp_free) mp_buf list;
    CLEANUP(mp_free) mp_buf m;
    struct err why = { 0 };
    uint64_t id;
    uint32_t gen = 0;
    int64_t asker;

    mp_init(&m);
    mp_init(&list);
    if (mp_get_uint(map, "id", &id, err) < 0 ||
        mp_get_int(map, "asker", 2, INT32_MAX, &asker, err) < 0 ||
        mp_get_array(map, "pids", &pids, err) < 0)
        return -1;
    pid_t ghost = kids_ghost_of(in, (pid_t)asker);
    if (!ghost && kids_note(in->kids, (pid_t)asker, 0, &gen) < 0)
        err_set(&why, ESRCH, "process %d has ended", (int)asker);
    else
        stand_all(in, (pid_t)asker, pids, &list, &why);
    mp_array(&m, 2);
    mp_str(&m, "standing");
    mp_map(&m, why.code ? 2 : 3);
    mp_kuint(&m, "id", id);
    if (why.code) {
        mp_key(&m, "error");
        mp_array(&m, 2);
        mp_int(&m, why.code);
        mp_str(&m, why.text);
    } else {
        mp_key(&m, "asker");
        mp_array(&m, 2);
        mp_int(&m, ghost);
        mp_uint(&m, gen);
        msgpack_sbuffer_write(&m.b, list.b.data, list.b.size);
    }
    link_send(in->link, &m);
    return 0;
}

/* ["ring", {npid, op, arg}]: ops as in doc/wire.md, 8 be killed */
int stand_ring(struct init *in, const msgpack_object *map, struct err *err)
{
    int64_t npid, op, arg;

    if (mp_get_int(map, "npid", 2, INT32_MAX, &npid, err) < 0 ||
        mp_get_int(map, "op", 1, 255, &op, err) < 0 ||
        mp_get_int(map, "arg", 0, UINT32_MAX, &arg, err) < 0)
        return -1;
    struct stand *s = find(in, (pid_t)npid);
    if (!s)
        return 0; /* it has gone meanwhile */
    if (op == OP_KILL || op == 1 || op == 2)
        s->ending = true;
    if (op == OP_STOP || op == OP_CONT)
        kids_stopped(in->kids, s->npid, op == OP_STOP);
    if (op == OP_KILL) {
        kill(s->npid, SIGKILL);
        return 0;
    }
    stand_bell(s->npid, (int)op, (uint32_t)arg);
    if (op == OP_CONT)
        ring_with(s->npid, SIGCONT, (uint64_t)OP_CONT << 32);
    return 0;
}

int stand_cry(struct init *in, pid_t npid, const msgpack_object *map, struct err *err)
{
    int64_t sig, value;
    pid_t from = (pid_t)mp_opt_int(map, "from_pid", 0);
    uid_t uid = (uid_t)mp_opt_int(map, "from_uid", 0);
    const struct stand *s = find(in, npid);
    uint64_t v = 0;

    if (mp_get_int(map, "sig", 1, 64, &sig, err) < 0)
        return -1;
    bool has_value = mp_as_int(mp_get(map, "value"), &value);
    if (has_value)
        v = (uint64_t)value;
    /* What its children here send it goes its own way: who waits for it may come or go. */
    if (!s || (sig != SIGCONT && kin_keeps(in, npid) && kids_ppid(in->kids, from) == npid)) {
        kin_left_signal(in, npid, (int)sig, has_value ? &v : NULL, from, uid);
        return 0;
    }
    if (sig == SIGCONT)
        kids_stopped(in->kids, s->npid, false);
    journal_cry(in, s->npid, s->gen, (int)sig, has_value ? &v : NULL, from, uid);
    stand_said(in, s->npid);
    return 0;
}

void stand_here(struct init *in, pid_t npid)
{
    bool known = find_living(in, npid) || kin_is_left(in, npid);
    pid_t parent = known ? 0 : kids_ppid(in->kids, npid);

    if (parent > 1)
        arrival_made(in->arrivals, npid, parent);
    stands_left(in, npid);
}

int stand_self(struct init *in, pid_t npid, uint32_t *gen)
{
    struct err err = { 0 };
    pid_t parent = kids_local_parent(in->kids, npid);

    if (parent && !find(in, npid))
        kids_no_body(in->kids, npid);
    return parent ? add(in, npid, parent, gen, &err) : -1;
}

void stands_part(struct init *in, pid_t parent)
{
    for (struct stand *s = in->stands->first; s; s = s->next)
        s->parting |= s->parent == parent;
}

bool stand_parts(const struct init *in, pid_t npid)
{
    const struct stand *s = find(in, npid);

    return s && s->parting;
}

bool stand_known(const struct init *in, pid_t npid)
{
    const struct stand *s = find(in, npid);

    return s && !s->ending;
}

void stand_forget(struct init *in, pid_t npid)
{
    struct stand *s = find(in, npid);

    if (s)
        forget(s);
}

stands_t *stands_create(struct init *in, struct err *err)
{
    stands_t *t = calloc(1, sizeof *t);

    if (!t)
        err_set(err, ENOMEM, "out of memory");
    in->stands = t;
    return t;
}

void stands_destroy(stands_t **tp)
{
    if (!*tp)
        return;
    while ((*tp)->first)
        forget((*tp)->first);
    free(*tp);
    *tp = NULL;
}
