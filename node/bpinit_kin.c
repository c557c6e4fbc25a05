/* bpinit_kin.c - parents that live elsewhere: who stands for them here
 *
 * The stand-in is no thread: it has a pid, children and signals of its own. But
 * it runs in our memory, beside us, and shares errno with us; so outside of a
 * call, for which we wait, it does raw system calls only and touches nothing but
 * its own struct. It belongs to the user for kill(2), and keeps root's rights.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "node/bpinit_kids.h"
#include "node/bpinit_kin_parts.h"
#include "node/bpinit_spawn.h"
#include "node/clone3.h"
#include "node/raw.h"

#define STACK_BYTES (128u * 1024)
#define POLL_MS 50 /* of a call: is it still there, and not stopped? */
#define FULL_MS 5  /* the pipe is full */
#define LEAVE_MS 1000 /* to be gone once it is told */
#define BELL SIGRTMAX

enum { IDLE, ASKED, DONE };

struct note { /* what a stand-in tells us: less than a pipe takes at once */
    int is_signal;
    pid_t pid; /* child, or who sent the signal */
    int status; /* or signal */
    int code;
    uid_t uid;
    uint64_t value;
    unsigned conts; /* SIGCONTs that the child had been sent */
    struct rusage usage;
};

/* ---- the stand-in's own life: raw calls, no errno, no libc ---- */

#define APART __attribute__((no_sanitize("address", "undefined"), noinline))

APART static void nap(int ms)
{
    struct timespec t = { 0, ms * 1000000l };

    raw4(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, (long)&t, 0);
}

/* It is to be a ghost of its own: its process comes, and takes its place. */
APART static void __attribute__((noreturn)) become_program(struct kin_parent *p)
{
    raw3(SYS_set_tid_address, (long)&p->program, 0, 0);
    raw3(SYS_setresgid, p->gid, p->gid, p->gid);
    raw3(SYS_setgroups, (long)p->become->ngroups, (long)p->become->groups, 0);
    raw3(SYS_setresuid, p->uid, p->uid, p->uid);
    raw3(SYS_execve, (long)NODE_BPGHOST, (long)p->argv, (long)p->envp);
    for (;;)
        raw3(SYS_exit_group, 1, 0, 0);
}

static pid_t begin_stand(struct kin_parent *p);

/* We, that is bpinit, wait for this: libc may be used in here. idle: nothing is in our
 * hands that would be lost by an exec. */
APART static void carry_out(struct kin_parent *p, bool idle)
{
    if (atomic_load(&p->call) != ASKED || (p->become && !idle))
        return;
    if (p->become)
        become_program(p);
    p->result = p->under ? begin_stand(p->under) : child_start(p->child, p->want);
    atomic_store(&p->call, DONE);
    raw4(SYS_futex, (long)&p->call, FUTEX_WAKE, 1, 0);
}

APART static void tell(struct kin_parent *p, const struct note *n)
{
    while (raw3(SYS_write, p->write_fd, (long)n, sizeof *n) == -EAGAIN) {
        carry_out(p, false);
        nap(FULL_MS);
    }
}

APART static int wait_status(const siginfo_t *si)
{
    switch (si->si_code) {
    case CLD_EXITED: return (si->si_status & 0xff) << 8;
    case CLD_DUMPED: return si->si_status | 0x80;
    case CLD_KILLED: return si->si_status;
    case CLD_CONTINUED: return 0xffff;
    default: return si->si_status << 8 | 0x7f;
    }
}

APART static void tell_signal(struct kin_parent *p, int sig, const siginfo_t *si)
{
    struct note n;

    if (sig == BELL && si->si_code == SI_QUEUE && si->si_value.sival_ptr == p)
        return;
    /* From us: to go on after a stop that was none of its own. */
    if (sig == SIGCONT && si->si_pid == p->init && si->si_code == SI_USER)
        return;
    for (unsigned long i = 0; i < sizeof n / sizeof(long); i++)
        ((volatile long *)&n)[i] = 0;
    n.is_signal = 1;
    n.pid = si->si_pid;
    n.uid = si->si_uid;
    n.status = sig;
    n.code = si->si_code;
    n.value = (uint64_t)(uintptr_t)si->si_value.sival_ptr;
    tell(p, &n);
}

/* What a child has sent before it ended is told before its end. */
APART static void tell_signals(struct kin_parent *p)
{
    struct timespec now = { 0, 0 };
    unsigned long all = ~(1ul << (SIGCHLD - 1));
    siginfo_t si;
    long sig;

    while ((sig = raw4(SYS_rt_sigtimedwait, (long)&all, (long)&si, (long)&now, 8)) > 0)
        tell_signal(p, (int)sig, &si);
}

/* None is being sent then: what it has done to the child can be seen. bpinit, which sends
 * it, waits for nothing meanwhile. */
APART static unsigned conts_of(struct kin_parent *p, pid_t pid)
{
    const struct timespec moment = { 0, 50000 };
    unsigned n;

    while ((n = atomic_load(&p->conts[(unsigned)pid % KIN_CONTS])) & 1)
        raw3(SYS_nanosleep, (long)&moment, 0, 0);
    return n;
}

/* An end is told first and taken then: if we are killed in between it is told
 * twice, not never, since bpinit inherits what is not taken. A stop or its end is
 * taken first: another one might have come meanwhile. */
APART static void reap(struct kin_parent *p)
{
    struct note n;
    siginfo_t si;

    for (;;) {
        for (unsigned long i = 0; i < sizeof n / sizeof(long); i++)
            ((volatile long *)&n)[i] = 0;
        si.si_pid = 0;
        if (raw5(SYS_waitid, P_ALL, 0, (long)&si,
                 WEXITED | WSTOPPED | WCONTINUED | WNOHANG | WNOWAIT, (long)&n.usage) < 0 ||
            si.si_pid == 0)
            return;
        pid_t pid = n.pid = si.si_pid;
        bool ended = si.si_code == CLD_EXITED || si.si_code == CLD_KILLED ||
                     si.si_code == CLD_DUMPED;
        if (!ended) {
            n.conts = conts_of(p, pid);
            si.si_pid = 0;
            raw5(SYS_waitid, P_PID, pid, (long)&si, WSTOPPED | WCONTINUED | WNOHANG,
                 (long)&n.usage);
            if (si.si_pid == 0)
                continue;
            n.status = wait_status(&si);
            /* A SIGCONT just now: was this before it, or after? If before, there
             * is more to be told. */
            unsigned now = conts_of(p, pid);
            si.si_pid = 0;
            if (now != n.conts &&
                raw5(SYS_waitid, P_PID, pid, (long)&si,
                     WSTOPPED | WCONTINUED | WNOHANG | WNOWAIT, 0) == 0 && si.si_pid == 0)
                n.conts = now;
        } else {
            n.status = wait_status(&si);
            tell_signals(p);
        }
        tell(p, &n);
        if (ended)
            raw5(SYS_waitid, P_PID, pid, (long)&si, WEXITED | WNOHANG, 0);
    }
}

APART static void __attribute__((noreturn)) haunt(void *arg)
{
    struct kin_parent *p = arg;
    unsigned long all = ~0ul;
    siginfo_t si;

    raw3(SYS_setpgid, 0, 0, 0);
    raw3(SYS_prctl, PR_SET_NAME, (long)p->comm, 0);
    raw3(SYS_setresgid, p->gid, 0, p->gid);
    raw3(SYS_setresuid, p->uid, 0, p->uid);
    for (;;) {
        long sig = raw4(SYS_rt_sigtimedwait, (long)&all, (long)&si, 0, 8);
        carry_out(p, false);
        if (sig == SIGCHLD)
            reap(p);
        else if (sig > 0)
            tell_signal(p, (int)sig, &si);
        carry_out(p, true);
        if (atomic_load(&p->leave)) {
            tell_signals(p);
            reap(p);
            for (;;)
                raw3(SYS_exit_group, 0, 0, 0);
        }
    }
}

/* ---- making and ending them ---- */

static void ring(struct kin_parent *p)
{
    siginfo_t si;

    memset(&si, 0, sizeof si);
    si.si_signo = BELL;
    si.si_code = SI_QUEUE;
    si.si_pid = getpid();
    si.si_value.sival_ptr = p;
    /* A user's queue of signals can be full; any other signal wakes it as well. */
    if (syscall(SYS_rt_sigqueueinfo, p->npid, BELL, &si) < 0)
        kill(p->npid, SIGCONT);
}

static bool dead(const struct kin_parent *p)
{
    struct pollfd fd = { p->pidfd, POLLIN, 0 };
    const struct timespec now = { 0, 0 };

    return raw5(SYS_ppoll, (long)&fd, 1, (long)&now, 0, 8) > 0;
}

/* It does what is asked of it. False: it was killed. errno is not ours meanwhile. */
static bool ask(struct kin_parent *p)
{
    const struct timespec step = { 0, POLL_MS * 1000000l };

    atomic_store(&p->call, ASKED);
    ring(p);
    while (atomic_load(&p->call) != DONE) {
        raw5(SYS_futex, (long)&p->call, FUTEX_WAIT, ASKED, (long)&step, 0);
        if (atomic_load(&p->call) == DONE)
            break;
        if (dead(p))
            return false;
        raw3(SYS_kill, p->npid, SIGCONT, 0); /* it may have been stopped */
    }
    atomic_store(&p->call, IDLE);
    return true;
}

static void parent_free(struct kin_parent *p)
{
    if (p->read_fd >= 0)
        loop_fd_del(p->in->loop, p->read_fd);
    if (p->left && p->pidfd >= 0)
        loop_fd_del(p->in->loop, p->pidfd);
    cleanup_close(&p->read_fd);
    cleanup_close(&p->write_fd);
    cleanup_close(&p->pidfd);
    if (p->stack)
        munmap(p->stack, STACK_BYTES);
    free(p);
}

void kin_told(struct kin_parent *p, pid_t pid, int status, const struct rusage *ru)
{
    p->missed |= !WIFSTOPPED(status) && !WIFCONTINUED(status);
    if (kin_status(p->in, pid, status)) /* one that stands for itself */
        return;
    reap_status(p->in, pid, status, ru);
}

static void on_note(struct kin_parent *p, const struct note *n)
{
    if (!n->is_signal) {
        /* It may have been told to go on since its stop was seen: then that is over. */
        if (!WIFSTOPPED(n->status) ||
            n->conts == atomic_load(&p->conts[(unsigned)n->pid % KIN_CONTS]))
            kin_told(p, n->pid, n->status, &n->usage);
        return;
    }
    bool queued = n->code == SI_QUEUE;
    journal_up(p->in, &p->name, n->status, queued ? &n->value : NULL, n->pid, n->uid);
}

static void drain(struct kin_parent *p)
{
    struct note n;

    while (read(p->read_fd, &n, sizeof n) == sizeof n)
        on_note(p, &n);
}

static void on_pipe(void *arg, int fd, uint32_t events)
{
    struct kin_parent *p = arg;
    struct note n;

    (void)events;
    /* One at a time: what it means may be the end of p. */
    if (read(fd, &n, sizeof n) == sizeof n)
        on_note(p, &n);
}

struct kin_parent **kin_place(kin_t *k, const struct kin_name *name)
{
    struct kin_parent **p = &k->first;

    while (*p && ((*p)->leaving || (*p)->name.pid != name->pid ||
                  (*p)->name.node != name->node || (*p)->name.id != name->id))
        p = &(*p)->next;
    return p;
}

void kin_forget(struct kin_parent *p)
{
    struct kin_parent **at = &p->in->kin->first;

    p->leaving = true;
    if (!p->left)
        drain(p);
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    for (struct kin_parent *q = p->in->kin->first; q; q = q->next)
        if (q->own == p) /* our child from now on */
            q->own = NULL;
    bodies_forget_parent(p->in->bodies, p);
    kids_forget_parent(p->in->kids, p);
    arrivals_forget_parent(p->in->arrivals, p);
    kin_parent_t *own = p->own;
    struct init *in = p->in;
    parent_free(p);
    kin_child_ended(in, own);
}

void kin_leaves(struct kin_parent *p)
{
    if (p->leaving)
        return;
    if (p->left) {
        left_leaves(p);
        return;
    }
    p->leaving = true;
    atomic_store(&p->leave, 1);
    ring(p);
}

static struct kin_parent *on_its_way_out(const struct init *in, pid_t npid)
{
    struct kin_parent *p = in->kin->first;

    while (p && !(p->leaving && p->npid == npid))
        p = p->next;
    return p;
}

/* Its parent has told of its end, and has not let it go yet. */
static bool is_being_reaped(const struct init *in, pid_t npid)
{
    CLEANUP(cleanup_close) int fd = (int)syscall(SYS_pidfd_open, npid, 0);
    struct pollfd ended = { fd, POLLIN, 0 };

    return fd >= 0 && poll(&ended, 1, 0) > 0 && kids_ppid(in->kids, npid) > 1;
}

/* One that is on its way out has the pid that its successor wants. */
static void wait_for(struct init *in, pid_t npid)
{
    struct kin_parent *p = on_its_way_out(in, npid);
    int64_t end = now_ms() + LEAVE_MS;
    struct pollfd fd = { p ? p->pidfd : -1, POLLIN, 0 };
    int status;

    if (p && poll(&fd, 1, LEAVE_MS) <= 0)
        return;
    for (; p && on_its_way_out(in, npid) == p && now_ms() < end; poll(NULL, 0, 1))
        if (waitpid(npid, &status, WNOHANG) == npid)
            kin_forget(p);
        else if (p->own) /* who tells of it first, */
            drain(p->own);
    while (is_being_reaped(in, npid) && now_ms() < end) /* and then lets it go */
        poll(NULL, 0, 1);
}

/* As bpinit, or as the stand-in of its own parent. */
static pid_t begin_stand(struct kin_parent *p)
{
    struct clone_args a = {
        .flags = CLONE_VM | CLONE_FILES | CLONE_CLEAR_SIGHAND | CLONE_PIDFD | CLONE_PARENT_SETTID,
        .pidfd = (uintptr_t)&p->pidfd, .parent_tid = (uintptr_t)&p->npid, .exit_signal = SIGCHLD,
        .stack = (uintptr_t)p->stack, .stack_size = STACK_BYTES,
        .set_tid = (uintptr_t)&p->name.pid, .set_tid_size = 1,
    };
    long r = clone3_call(&a, haunt, p);

    if (r < 0) { /* taken, or not ours to choose: any then */
        a.set_tid = a.set_tid_size = 0;
        r = clone3_call(&a, haunt, p);
    }
    if (r > 0)
        setpgid((pid_t)r, (pid_t)r); /* before its first child wants to join */
    return (pid_t)r;
}

/* Where its parent has a stand-in as well, it is that one's child: so its process, when it
 * comes into its place, is it too. */
static pid_t begin(struct kin_parent *p)
{
    struct kin_parent *own = p->own;

    if (own) {
        own->under = p;
        bool done = ask(own);
        own->under = NULL;
        if (done ? own->result > 0 : p->npid > 0)
            return p->npid;
        p->own = NULL;
        kin_child_ended(p->in, own);
    }
    return begin_stand(p);
}

static int start(struct kin_parent *p, struct err *err)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_set(err, errno, "pipe: %s", strerror(errno));
    p->read_fd = fds[0];
    p->write_fd = fds[1];
    void *m = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (m == MAP_FAILED)
        return err_set(err, errno, "stack: %s", strerror(errno));
    p->stack = m;
    if (loop_fd(p->in->loop, p->read_fd, EPOLLIN, on_pipe, p, err) < 0)
        return -1;
    wait_for(p->in, p->name.pid);
    pid_t npid = begin(p);
    if (npid < 0)
        return err_set(err, -npid, "a stand-in of the parent: %s", strerror(-npid));
    p->npid = npid;
    return 0;
}

int kin_read_name(const msgpack_object *o, struct kin_name *name)
{
    const msgpack_object_array *a = &o->via.array;
    int64_t pid, node;

    if (o->type != MSGPACK_OBJECT_ARRAY || a->size < 3 || !mp_as_int(&a->ptr[0], &pid) ||
        pid < 2 || pid > INT32_MAX || !mp_as_int(&a->ptr[1], &node) || node < -1 ||
        node > INT32_MAX || a->ptr[2].type != MSGPACK_OBJECT_POSITIVE_INTEGER)
        return -1;
    *name = (struct kin_name){ (pid_t)pid, (int)node, a->ptr[2].via.u64 };
    return 0;
}

/* Of a row [pid, node, id, uid, gid, comm, its own parent?]; above: one of these rows, the
 * last of which does not count. */
static int stand_for(struct init *in, const msgpack_object *o, bool above, kin_parent_t **out,
                     struct err *err)
{
    const msgpack_object_array *a = &o->via.array;
    struct kin_name name;
    int64_t uid, gid;

    if (kin_read_name(o, &name) < 0 || a->size < 6 || !mp_as_int(&a->ptr[3], &uid) || uid < 0 ||
        !mp_as_int(&a->ptr[4], &gid) || gid < 0)
        return err_set(err, EPROTO, "parent: want [pid, node, id, uid, gid, comm]");
    if ((*out = *kin_place(in->kin, &name)))
        return 0;
    for (const struct kin_parent *q = in->kin->first; q; q = q->next)
        if (!above && q->left && !q->leaving && q->npid == name.pid)
            return err_set(err, EBUSY, "process %d has left children here, and is known by "
                                       "another name", (int)name.pid);
    /* It was made here, and what stands for it to its own parent has its number. */
    if (!above && stand_known(in, name.pid) &&
        kids_is_of(in->kids, name.pid, (uid_t)uid, (gid_t)gid))
        return (*out = left_take(in, name.pid, o)) ? 0 : err_set(err, ENOMEM, "out of memory");
    struct kin_parent *p = calloc(1, sizeof *p);
    CLEANUP(cleanup_free) char *comm = mp_dup(&a->ptr[5]);
    if (!p)
        return err_set(err, ENOMEM, "out of memory");
    p->in = in;
    p->init = getpid();
    p->name = name;
    p->uid = (uid_t)uid;
    p->gid = (gid_t)gid;
    p->pidfd = p->read_fd = p->write_fd = -1;
    snprintf(p->comm, sizeof p->comm, "%s", comm ? comm : "parent");
    if (!above && a->size > 6 && stand_for(in, &a->ptr[6], true, &p->own, NULL) < 0)
        p->own = NULL;
    if (p->own && p->own->left) /* a program makes none */
        p->own = NULL;
    kin_child_added(p->own);
    if (start(p, err) < 0) {
        kin_child_ended(in, p->own);
        parent_free(p);
        return -1;
    }
    p->next = in->kin->first;
    in->kin->first = p;
    *out = p;
    return 0;
}

int kin_parent(struct init *in, const msgpack_object *map, kin_parent_t **out,
               struct err *err)
{
    const msgpack_object *o = mp_get(map, "parent");

    *out = NULL;
    return o ? stand_for(in, o, false, out, err) : 0;
}

pid_t kin_parent_npid(const kin_parent_t *p) { return p->npid; }
pid_t kin_program(const kin_parent_t *p) { return p && p->left ? p->npid : 0; }

void kin_pack_name(const kin_parent_t *p, mp_buf *m)
{
    mp_array(m, p->own ? 4 : 3);
    mp_int(m, p->name.pid);
    mp_int(m, p->name.node);
    mp_uint(m, p->name.id);
    if (p->own)
        kin_pack_name(p->own, m);
}

/* ---- children ---- */

int kin_become(kin_parent_t *p, const struct plan *plan, struct err *err)
{
    const struct timespec step = { 0, POLL_MS * 1000000l };
    char launch[48], comm[32];
    char *argv[] = { p->comm, NULL };
    char *envp[] = { (char *)"CM_GHOST=0:0:" KIN_GATE, launch, comm, (char *)"CM_REAL=1", NULL };

    if (access(NODE_BPGHOST, X_OK) < 0)
        return err_set(err, errno, NODE_BPGHOST ": %s", strerror(errno));
    snprintf(launch, sizeof launch, "CM_LAUNCH=%llu", (unsigned long long)plan->launch);
    snprintf(comm, sizeof comm, "CM_COMM=%s", p->comm);
    p->argv = argv;
    p->envp = envp;
    p->become = plan;
    p->leaving = true; /* if it ends now that says nothing about its process */
    atomic_store(&p->program, 1);
    atomic_store(&p->call, ASKED);
    ring(p);
    /* The kernel clears it when the exec has left our memory. */
    while (atomic_load(&p->program)) {
        raw5(SYS_futex, (long)&p->program, FUTEX_WAIT, 1, (long)&step, 0);
        if (!atomic_load(&p->program))
            break;
        if (dead(p))
            return err_set(err, ESRCH, "process %d: its stand-in was killed", (int)p->name.pid);
        raw3(SYS_kill, p->npid, SIGCONT, 0);
        drain(p); /* it may have more to tell than the pipe holds */
    }
    atomic_store(&p->call, IDLE);
    drain(p); /* what it has seen till then */
    left_begin(p);
    return 0;
}

/* True: one of them has told something, which may have been the end of another. */
static bool hear_one(const struct init *in, const struct kin_parent *but)
{
    struct note n;

    for (struct kin_parent *p = in->kin->first; p; p = p->next)
        if (!p->left && p != but && read(p->read_fd, &n, sizeof n) == sizeof n) {
            on_note(p, &n);
            return true;
        }
    return false;
}

void kin_hear(struct init *in, kin_parent_t *keep)
{
    /* It is about to have a child: none of these is its last. Who would tell of its own
     * end is heard later. */
    kin_child_added(keep);
    while (hear_one(in, keep ? keep->own : NULL))
        continue;
    if (keep)
        keep->children--;
}

pid_t kin_start(struct init *in, kin_parent_t *p, struct child *c, pid_t pid)
{
    (void)in;
    c->tid = 0;
    if (!p)
        return child_start(c, pid);
    p->child = c;
    p->want = pid;
    bool done = ask(p);
    p->child = NULL;
    if (done)
        return p->result;
    /* There may be a child that runs in our memory. */
    if (c->tid > 0 && kill(c->tid, SIGKILL) == 0)
        while (waitpid(c->tid, NULL, 0) < 0 && errno == EINTR)
            continue;
    return -ESRCH;
}

void kin_child_added(kin_parent_t *p)
{
    if (p)
        p->children++;
}

void kin_child_not(kin_parent_t *p)
{
    if (p)
        p->children--;
}

void kin_child_continues(kin_parent_t *p, pid_t npid)
{
    if (p)
        atomic_fetch_add(&p->conts[(unsigned)npid % KIN_CONTS], 1);
}

void kin_parent_settle(kin_parent_t *p)
{
    if (p && !p->children)
        kin_leaves(p);
}

void kin_child_ended(struct init *in, kin_parent_t *p)
{
    (void)in;
    if (p && --p->children == 0)
        kin_leaves(p);
}

int kin_orphan(struct init *in, const msgpack_object *map, struct err *err)
{
    const msgpack_object *o = mp_get(map, "parent");
    struct kin_name name;

    if (!o || kin_read_name(o, &name) < 0)
        return err_set(err, EPROTO, "parent: want [pid, node, id]");
    struct kin_parent *p = *kin_place(in->kin, &name);
    if (p)
        kin_leaves(p);
    return 0;
}

bool kin_status(struct init *in, pid_t npid, int status)
{
    struct kin_parent *p = in->kin->first;

    while (p && p->npid != npid)
        p = p->next;
    if (!p)
        return false;
    if (WIFSTOPPED(status)) { /* the parent is to stop, not its stand-in */
        journal_up(in, &p->name, WSTOPSIG(status), NULL, 0, 0);
        kill(npid, SIGCONT);
    } else if (!WIFCONTINUED(status)) {
        if (!p->leaving) /* somebody has killed it: that is meant for the parent */
            journal_up(in, &p->name, SIGKILL, NULL, 0, 0);
        if (p->left)
            left_gone(p);
        else
            kin_forget(p);
    }
    return true;
}

bool kin_stands(const struct init *in, pid_t npid)
{
    for (const struct kin_parent *p = in->kin->first; p; p = p->next)
        if (p->npid == npid)
            return true;
    return false;
}

kin_parent_t *kin_by_npid(const struct init *in, pid_t npid)
{
    kin_parent_t *p = in->kin->first;

    while (p && (p->npid != npid || p->leaving || p->left))
        p = p->next;
    return p;
}

kin_t *kin_create(struct init *in, struct err *err)
{
    kin_t *k = calloc(1, sizeof *k);

    if (!k)
        err_set(err, ENOMEM, "out of memory");
    in->kin = k;
    return k;
}

void kin_destroy(kin_t **kp)
{
    if (!*kp)
        return;
    while ((*kp)->first) {
        struct kin_parent *p = (*kp)->first;
        (*kp)->first = p->next;
        if (!p->left) { /* it runs on a stack of ours */
            struct pollfd fd = { p->pidfd, POLLIN, 0 };
            kill(p->npid, SIGKILL);
            poll(&fd, 1, LEAVE_MS);
            waitpid(p->npid, NULL, WNOHANG);
        }
        parent_free(p);
    }
    free(*kp);
    *kp = NULL;
}
