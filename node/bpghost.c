/* bpghost.c - the stand-in of processes that run on nodes
 *
 * No libc, no data segment, no descriptors held. One exec makes the ghosts of
 * a whole launch: argv is the program's own, so ps shows what the user
 * started, and the environment is one string,
 *
 *     CM_GHOST=COUNT:FD:GATE
 *
 * The first ghost clones COUNT-1 more that share its memory and are, like
 * itself, children of the caller. Then it writes COUNT int32 to FD, the pids
 * by rank (its own first), and closes it. Where no more processes could be
 * made, the entries are -errno; the caller ends those that do exist.
 *
 * A ghost sleeps with every signal blocked. Catchable ones go up as a request
 * procspace.signal over GATE, and are repeated under the same id until
 * somebody answers. Meanwhile later signals wait in the kernel's own queue,
 * values included; only the doorbell is heard.
 *
 * The doorbell is SIGRTMAX from uid 0 with value op << 32 | arg: 1 exit with
 * status arg, 2 die by signal arg (0x80: with a core dump), 3 stop by signal arg,
 * 5 ask procspace.ghost what to do, 6 go to process group arg (0: one of its own),
 * 7 begin a session, 9 stops rung before this are over (a SIGCONT from root with the
 * same value comes with it, which wakes us and goes no further), 10 children may be
 * real: from now on tell what wait() says of them (procspace.child; CM_REAL=1 in the
 * environment, to know it still under another name).
 *
 * What procspace.ghost can answer: make a ghost for a process that the body has
 * made, with this pid if it is free (bpghost has the file capability
 * cap_checkpoint_restore for that), as a child of its own or (5) of its parent, or bear another name from now on. Either is
 * an exec of ourselves with the new name's argv and the environment
 *
 *     CM_GHOST=0:0:GATE CM_LAUNCH=ID CM_COMM=NAME [CM_KID=NODE:PID:GEN]
 *
 * and such a ghost begins with a request procspace.here. Or (4) be a ghost no more and
 * execute args[0], which becomes the process itself. Only root's word is
 * taken for this: who listens at the gate must be root. Or (3) the process itself
 * comes, to be what it was stood in for: then the ghost fetches two descriptors
 * from "move", beside the gate, and executes bprestore, which becomes the
 * process, or a ghost again if that fails.
 */
#include <stdint.h>
#include "node/nolibc.h"
#include "node/nolibc_mem.h"

#define EAGAIN 11
#define EPIPE 32
#define ECONNRESET 104
#define ENOTCONN 107
#define ETIMEDOUT 110
#define ECONNREFUSED 111
#define BE_INVALIDPROC 304 /* bus/err.h */

#define SIGKILL 9
#define SIGCHLD 17
#define SIGCONT 18
#define SIGSTOP 19
#define DOORBELL 64
#define SIG_BIT(s) (1ul << ((s) - 1))
#define ALL_SIGNALS (~0ul)
enum { MASK_BLOCK = 0, MASK_UNBLOCK = 1, MASK_SET = 2 };
#define SI_QUEUE (-1)

#define RLIMIT_CORE 4
#define PR_SET_PDEATHSIG 1
#define PR_SET_NAME 15
#define PR_SET_DUMPABLE 4
#define O_WRONLY 1
#define AF_UNIX 1
#define SOCK_SEQPACKET 5
#define SOCK_CLOEXEC 02000000
#define SOL_SOCKET 1
#define SO_PEERCRED 17
#define SO_RCVTIMEO 20
#define SO_SNDTIMEO 21
#define MSG_NOSIGNAL 0x4000

#define CLONE_VM 0x100
#define CLONE_FS 0x200
#define CLONE_PARENT 0x8000
#define STACK_BYTES 4096

#define ANSWER_MS 2000 /* how long one try waits for its answer */
#define RETRY_FIRST_MS 100
#define RETRY_LAST_MS 2000
#define ASK_TRIES 5

enum op { OP_EXIT = 1, OP_DIE = 2, OP_STOP = 3, OP_ASK = 5, OP_GROUP = 6, OP_SESSION = 7,
          OP_CONT = 9, OP_REAL = 10 };
enum { DO_FORK = 1, DO_BECOME = 2, DO_RESTORE = 3, DO_START = 4, DO_BROTHER = 5 }; /* what
                                                                  procspace.ghost says */
#define PR_GET_NAME 16
#define WNOHANG 1
#define WUNTRACED 2
#define WCONTINUED 8
#define ANSWER_BYTES 32768u
#define ARGS_MAX 1024u
#define CORE_FLAG 0x80

struct timespec {
    long sec, nsec;
};

struct siginfo {
    int signo, err, code, pad;
    int pid;
    unsigned uid;
    uint64_t value;
    int rest[24];
};

struct address { /* sockaddr_un */
    unsigned short family;
    char path[108];
};

struct ghost { /* shared by all, written before the first clone */
    const char *gate;
    const char *launch; /* CM_LAUNCH=..., or 0 */
    const char *kid;    /* CM_KID=..., or 0 */
    int real;           /* children that are no ghosts: set once, for all */
    long parent;        /* the caller, or 0: no matter */
    char **argv;
};

static void __attribute__((noreturn)) leave(int status)
{
    for (;;)
        sys1(NR_exit_group, status);
}

static void set_mask(int how, unsigned long set)
{
    sys4(NR_rt_sigprocmask, how, &set, 0, 8);
}

/* The number of the signal taken, or -EAGAIN after ms (-1: for ever). */
static int take_signal(unsigned long set, int ms, struct siginfo *si)
{
    struct timespec t = { ms / 1000, (ms % 1000) * 1000000l };

    return (int)sys4(NR_rt_sigtimedwait, &set, si, ms < 0 ? 0 : &t, 8);
}

static void *map(unsigned long bytes)
{
    return (void *)sys6(NR_mmap, 0, (long)bytes, 3, 0x4022, -1, 0);
}

static int bad_map(const void *p)
{
    return (unsigned long)p > -4096ul;
}

#include "node/bpghost_text.h"
#include "node/bpghost_wire.h"

/* --- what the doorbell asks for --- */

static void raise_default(int sig)
{
    struct kernel_sigaction dfl = { 0, 0, 0, 0 };

    sys4(NR_rt_sigaction, sig, &dfl, 0, 8);
    sys2(NR_kill, sys0(NR_getpid), sig);
    set_mask(MASK_UNBLOCK, SIG_BIT(sig));
}

/* "core dumped" in a wait status is the kernel's word alone: to have it, the
 * ghost really dumps, as little as can be, into RUN/cores/UID/PID, which
 * procspace has made and removes again. */
static void prepare_dump(const char *gate)
{
    char dir[sizeof(struct address) + 36];
    char *slash = dir, *p;
    const char *end = dir + sizeof dir;
    unsigned long limit[2] = { 0, 0 };

    add_text(dir, end, gate, ~0ul);
    for (p = dir; *p; p++)
        if (*p == '/')
            slash = p + 1;
    p = add_text(slash, end, "cores/", ~0ul);
    p = add_number(p, end, (unsigned long)sys0(NR_getuid));
    p = add_text(p, end, "/", 1);
    add_number(p, end, (unsigned long)sys0(NR_getpid));
    /* The ghosts of a launch have one working folder between them. */
    if (sys1(NR_unshare, CLONE_FS) < 0 || sys1(NR_chdir, dir) < 0)
        return;
    long fd = sys2(NR_open, "/proc/self/coredump_filter", O_WRONLY);
    if (fd >= 0) {
        sys3(NR_write, fd, "0", 1);
        sys1(NR_close, fd);
    }
    sys2(NR_getrlimit, RLIMIT_CORE, limit);
    limit[0] = limit[1];
    sys2(NR_setrlimit, RLIMIT_CORE, limit);
    sys2(NR_prctl, PR_SET_DUMPABLE, 1);
}

static void __attribute__((noreturn)) die_by(int sig, int core, const char *gate)
{
    /* 1, not 0: a core_pattern that is a pipe ignores 0. A dump of the ghost
     * would be of no use to anybody. */
    unsigned long limit[2] = { 1, 1 };

    if (core)
        prepare_dump(gate);
    else
        sys2(NR_setrlimit, RLIMIT_CORE, limit);
    raise_default(sig);
    leave(128 + sig);
}

static int from_procspace(const struct siginfo *si)
{
    return si->signo == DOORBELL && si->code == SI_QUEUE && si->uid == 0;
}

static int pending(int sig)
{
    unsigned long set = 0;

    sys2(NR_rt_sigpending, &set, 8);
    return (set & SIG_BIT(sig)) != 0;
}

static void stop_by(int sig)
{
    if (sig != SIGSTOP) {
        raise_default(sig);
        set_mask(MASK_BLOCK, SIG_BIT(sig));
        /* Only SIGCONT ends a stop, and ours is blocked. Without one we never
         * stopped: the kernel spares orphaned groups terminal stops. */
        if (pending(SIGCONT))
            return;
    }
    sys2(NR_kill, sys0(NR_getpid), SIGSTOP);
}

/* --- another ghost, or another name --- */

struct clone_args {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls,
        set_tid, set_tid_size, cgroup;
};

struct order { /* in the answer of procspace.ghost */
    int64_t what, pid, uid, gid, node, npid, gen, group;
    const char *comm, *args;
    unsigned comm_len, args_len;
};

struct scratch { /* ghosts' stacks are small */
    unsigned char answer[ANSWER_BYTES];
    char *argv[ARGS_MAX + 1];
    char *envp[8];
    char text[4][512];
};

static const char *get_bytes(struct in *in, unsigned *len)
{
    unsigned c = (unsigned)get_be(in, 1);
    const char *at;

    *len = c == 0xc4 ? (unsigned)get_be(in, 1) : c == 0xc5 ? (unsigned)get_be(in, 2) : 0;
    at = (const char *)in->p;
    if (*len > (unsigned long)(in->end - in->p))
        *len = 0;
    in->p += *len;
    return at;
}

static int read_order(const unsigned char *p, long n, struct order *o)
{
    struct in in = { p + 1, p + n };
    unsigned c = (unsigned)get_be(&in, 1);
    unsigned fields = c == 0xdc ? (unsigned)get_be(&in, 2) : c & 0x0f;

    get(&in);
    if (get(&in) != 2) /* not a reply */
        return -1;
    for (unsigned i = 2; i < fields && in.p < in.end; i++)
        get(&in);
    if (get_be(&in, 1) != 0x9a)
        return -1;
    int64_t *number[] = { &o->what, &o->pid, &o->uid, &o->gid, &o->node, &o->npid, &o->gen,
                          &o->group };
    for (unsigned i = 0; i < 8; i++)
        *number[i] = get(&in);
    o->comm = get_bytes(&in, &o->comm_len);
    o->args = get_bytes(&in, &o->args_len);
    return o->args_len && !o->args[o->args_len - 1] ? 0 : -1;
}

/* argv and environment of the ghost that the order wants. */
static void compose(const struct ghost *g, const struct order *o, struct scratch *s)
{
    unsigned argc = 0, envc = 0;
    char *p, *end;

    for (unsigned i = 0; i < o->args_len && argc < ARGS_MAX; argc++) {
        s->argv[argc] = (char *)(unsigned long)(o->args + i);
        while (o->args[i++])
            ;
    }
    end = s->text[1];
    p = add_text(s->text[0], end, "CM_GHOST=0:0:", ~0ul);
    add_text(p, end, g->gate, ~0ul);
    s->envp[envc++] = s->text[0];
    end = s->text[2];
    p = add_text(s->text[1], end, "CM_COMM=", ~0ul);
    add_text(p, end, o->comm, o->comm_len);
    s->envp[envc++] = s->text[1];
    if (g->real)
        s->envp[envc++] = (char *)(unsigned long)"CM_REAL=1";
    if (g->launch)
        s->envp[envc++] = (char *)(unsigned long)g->launch;
    if (o->what != DO_FORK && o->what != DO_BROTHER) {
        if (g->kid)
            s->envp[envc++] = (char *)(unsigned long)g->kid;
        return;
    }
    end = s->text[3];
    p = add_text(s->text[2], end, "CM_KID=", ~0ul);
    p = add_number(p, end, (uint64_t)o->node);
    p = add_text(p, end, ":", 1);
    p = add_number(p, end, (uint64_t)o->npid);
    p = add_text(p, end, ":", 1);
    add_number(p, end, (uint64_t)o->gen);
    s->envp[envc++] = s->text[2];
}

static void become(const struct scratch *s)
{
    sys3(NR_execve, "/proc/self/exe", s->argv, s->envp);
}

static void fork_ghost(const struct order *o, const struct scratch *s)
{
    int32_t pid = (int32_t)o->pid;
    struct clone_args a;

    memset(&a, 0, sizeof a);
    if (o->what == DO_BROTHER)
        a.flags = CLONE_PARENT; /* which has our exit signal by itself */
    else
        a.exit_signal = SIGCHLD;
    a.set_tid = (uint64_t)(unsigned long)&pid;
    a.set_tid_size = 1;
    long r = sys2(NR_clone3, &a, sizeof a);
    if (r < 0) { /* taken, out of range, or not ours to choose: any then */
        a.set_tid = a.set_tid_size = 0;
        r = sys2(NR_clone3, &a, sizeof a);
    }
    if (r != 0)
        return;
    if (o->group == 2)
        sys0(NR_setsid);
    else if (o->group)
        sys2(NR_setpgid, 0, o->group == 1 ? 0 : o->group);
    /* A child that changed its user did so with a right that we have too, or
     * else we stay who we are. */
    if (sys0(NR_getgid) != o->gid)
        sys3(NR_setresgid, o->gid, o->gid, o->gid);
    if (sys0(NR_getuid) != o->uid) {
        sys2(NR_setgroups, 0, 0);
        sys3(NR_setresuid, o->uid, o->uid, o->uid);
    }
    become(s);
    leave(127);
}

/* The image's descriptor, on a connection that shows the token; -1. */
static long fetch_image(const struct ghost *g, const char *token, long *conn)
{
    unsigned char packet[1 + 64], control[64], answer[8];
    struct timespec limit = { ANSWER_MS / 1000, 0 };
    struct {
        void *base;
        unsigned long len;
    } iov = { answer, sizeof answer };
    struct message m;
    struct address a;
    unsigned len = 0, end = 0, n = 0;
    int fd = -1;

    memset(&a, 0, sizeof a);
    a.family = AF_UNIX;
    for (; g->gate[len] && len < sizeof a.path - 6; len++) {
        a.path[len] = g->gate[len];
        if (a.path[len] == '/')
            end = len + 1;
    }
    memset(a.path + end, 0, sizeof a.path - end);
    for (const char *s = "move"; *s; s++)
        a.path[end++] = *s;
    packet[n++] = 0;
    while (*token && n < sizeof packet)
        packet[n++] = (unsigned char)*token++;
    *conn = sys3(NR_socket, AF_UNIX, SOCK_SEQPACKET, 0);
    if (*conn < 0)
        return -1;
    sys5(NR_setsockopt, *conn, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    memset(&m, 0, sizeof m);
    memset(control, 0, sizeof control);
    m.iov = (void *)&iov;
    m.iovlen = 1;
    m.control = control;
    m.controllen = sizeof control;
    if (sys3(NR_connect, *conn, &a, sizeof a) == 0 &&
        sys6(NR_sendto, *conn, (long)packet, n, MSG_NOSIGNAL, 0, 0) == (long)n &&
        sys3(NR_recvmsg, *conn, &m, 0) > 0 && m.controllen > 16)
        memcpy(&fd, control + 16, sizeof fd);
    limit.sec = 0; /* none, for who comes after us */
    sys5(NR_setsockopt, *conn, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (fd < 0)
        sys1(NR_close, *conn);
    return fd;
}

/* Our process comes home. Returns if it does not. */
static void restore(const struct ghost *g, const struct order *o, struct scratch *s)
{
    const char *token = o->args, *prog = token;
    char comm[16];
    unsigned envc = 0;
    long conn;

    while (*prog)
        prog++;
    prog++; /* read_order() has seen that the last one ends */
    long fd = fetch_image(g, token, &conn);
    if (fd < 0)
        return;
    const char *end = s->text[1];
    char *p = add_text(s->text[0], end, "CM_RESTORE=", ~0ul);
    p = add_number(p, end, (uint64_t)fd);
    p = add_text(p, end, ":", 1);
    add_number(p, end, (uint64_t)conn);
    s->envp[envc++] = s->text[0];
    end = s->text[2];
    p = add_text(s->text[1], end, "CM_GHOST=0:0:", ~0ul);
    add_text(p, end, g->gate, ~0ul);
    s->envp[envc++] = s->text[1];
    end = s->text[3];
    p = add_text(s->text[2], end, "CM_COMM=", ~0ul);
    sys2(NR_prctl, PR_GET_NAME, comm);
    add_text(p, end, comm, sizeof comm);
    s->envp[envc++] = s->text[2];
    p = add_text(s->text[3], s->text[3] + 512, "CM_BACK=", ~0ul);
    own_path(p, 400);
    s->envp[envc++] = s->text[3];
    if (g->launch)
        s->envp[envc++] = (char *)(unsigned long)g->launch;
    if (g->kid)
        s->envp[envc++] = (char *)(unsigned long)g->kid;
    if (g->real)
        s->envp[envc++] = (char *)(unsigned long)"CM_REAL=1";
    sys3(NR_execve, prog, g->argv, s->envp);
    sys1(NR_close, fd);
    sys1(NR_close, conn);
}

/* False: nobody has answered who can know, or it could not be done yet. */
static int ask_once(const struct ghost *g, struct scratch *s)
{
    struct order order;
    struct out o;

    put_head(&o, "procspace.ghost");
    put(&o, 0x80);
    memset(&order, 0, sizeof order);
    long n = exchange(g, &o, s->answer, sizeof s->answer, 1);
    if (n <= 0 || judge(s->answer, n) < 0)
        return 0;
    if (read_order(s->answer, n, &order) != 0)
        return 1;
    compose(g, &order, s);
    if (order.what == DO_START)
        sys3(NR_execve, s->argv[0], s->argv, s->envp);
    else if (order.what == DO_FORK || order.what == DO_BROTHER)
        fork_ghost(&order, s);
    else if (order.what == DO_BECOME)
        become(s);
    else if (order.what == DO_RESTORE)
        restore(g, &order, s);
    return order.what != DO_RESTORE;
}

/* A bell is rung once: the answer to it may be late on a machine that is busy. */
static void ask(const struct ghost *g)
{
    struct scratch *s = map(sizeof *s);
    struct siginfo none;

    if (bad_map(s))
        return;
    for (int tries = 0; tries < ASK_TRIES && !ask_once(g, s); tries++)
        take_signal(0, RETRY_FIRST_MS, &none);
    sys2(NR_munmap, s, sizeof *s);
}

static int obey(const struct ghost *g, uint64_t value, int busy);

/* As often as it was asked to: each time it hears of one thing. What an exec leaves undone
 * procspace rings for again, once it has said that it is here. */
static void ask_all(const struct ghost *g, int later)
{
    while (later-- > 0)
        ask(g);
}

/* Bells come in order. One that is followed by a word to go on is none. */
static int stop_unless_over(const struct ghost *g, unsigned sig, int busy)
{
    struct siginfo bell;
    int later = 0, over = 0;

    while (!over && take_signal(SIG_BIT(DOORBELL), 0, &bell) == DOORBELL) {
        if (!from_procspace(&bell))
            continue;
        over = bell.value >> 32 == OP_CONT || bell.value >> 32 == OP_STOP;
        later += obey(g, bell.value, busy);
    }
    if (!over && sig > 0 && sig < DOORBELL)
        stop_by((int)sig);
    return later;
}

/* How often it is to ask when there is time. */
static int obey(const struct ghost *g, uint64_t value, int busy)
{
    unsigned arg = (unsigned)value;

    switch (value >> 32) {
    case OP_EXIT:
        leave((int)arg);
    case OP_DIE:
        die_by((int)(arg & ~CORE_FLAG & 0xff), (arg & CORE_FLAG) != 0, g->gate);
    case OP_STOP: return stop_unless_over(g, arg, busy);
    case OP_GROUP: sys2(NR_setpgid, 0, (int)arg); break;
    case OP_SESSION: sys0(NR_setsid); break;
    case OP_REAL: ((struct ghost *)(unsigned long)g)->real = 1; break;
    case OP_ASK:
        if (busy) /* with a signal that would be lost by an exec */
            return 1;
        ask(g);
        break;
    }
    return 0;
}

/* --- the life of a ghost --- */

/* Say it until somebody who can know has answered: 0, or the error's code. later: how often
 * it was told to ask meanwhile, which is done once no signal is in our hands. */
static int insist(const struct ghost *g, const struct out *o, int *later)
{
    int delay = RETRY_FIRST_MS, code;

    while ((code = tell(g, o)) < 0) {
        struct siginfo bell;

        if (take_signal(SIG_BIT(DOORBELL), delay, &bell) == DOORBELL &&
            from_procspace(&bell))
            *later += obey(g, bell.value, 1);
        else if (delay < RETRY_LAST_MS)
            delay *= 2;
    }
    return code;
}

/* Pass one signal up; return when it is known there. */
static void pass_up(const struct ghost *g, const struct siginfo *si, int *later)
{
    struct out o;

    put_request(&o, si);
    insist(g, &o, later);
}

/* What wait() says of children: of interest if there may be some that are real. */
static void reap(const struct ghost *g)
{
    int status = 0, later = 0;
    long pid;
    struct out o;
    struct siginfo bell;

    /* That a child is real was rung before it could end; SIGCHLD goes before bells. */
    while (take_signal(SIG_BIT(DOORBELL), 0, &bell) == DOORBELL)
        if (from_procspace(&bell))
            later += obey(g, bell.value, 1);

    while ((pid = sys4(NR_wait4, -1, &status,
                       WNOHANG | (g->real ? WUNTRACED | WCONTINUED : 0), 0)) > 0) {
        if (!g->real)
            continue;
        put_head(&o, "procspace.child");
        put(&o, 0x82);
        put_text(&o, "pid", 3);
        put_u64(&o, 0xd3, (uint64_t)pid);
        put_text(&o, "status", 6);
        put_u64(&o, 0xd3, (uint64_t)status);
        insist(g, &o, &later);
    }
    ask_all(g, later);
}

/* The kernel's rule, for doorbells too: a SIGCONT cancels stops on their way. */
static void cancel_stops(const struct ghost *g, int *later)
{
    struct siginfo bell;

    while (take_signal(SIG_BIT(DOORBELL), 0, &bell) == DOORBELL)
        if (from_procspace(&bell) && bell.value >> 32 != OP_STOP)
            *later += obey(g, bell.value, 1);
}

static void go_on(const struct ghost *g, const struct siginfo *si, int *later)
{
    if (si->code == SI_QUEUE && si->uid == 0 && si->value >> 32 == OP_CONT)
        return; /* from procspace, to wake us, no more */
    cancel_stops(g, later);
    pass_up(g, si, later);
}

/* Who made us has ended: with a launch under way, or before it began one? Then
 * nobody will ever end us. */
static void outlive(const struct ghost *g)
{
    struct out o;
    int later = 0;

    put_head(&o, "procspace.orphan");
    put(&o, 0x80);
    if (insist(g, &o, &later) == BE_INVALIDPROC)
        leave(1);
    ask_all(g, later);
}

static void haunt(void *arg)
{
    const struct ghost *g = arg;
    struct siginfo si, cont;
    long parent = g->parent;

    /* In clones: the pipe to the caller. The first has closed it by now. */
    sys3(NR_close_range, 0, ~0u, 0);
    if (parent)
        sys2(NR_prctl, PR_SET_PDEATHSIG, SIGCHLD);
    for (;;) {
        if (parent && sys0(NR_getppid) != parent) {
            parent = 0;
            outlive(g);
        }
        if (take_signal(ALL_SIGNALS, -1, &si) < 0)
            continue;
        if (si.signo == SIGCHLD) { /* of a process that the body has reaped */
            reap(g);
            continue;
        }
        if (from_procspace(&si)) {
            obey(g, si.value, 0);
            continue;
        }
        /* The kernel gives lower numbers first, and acts on SIGCONT when it is sent:
         * what was sent after one must not stop a body that it then continues. */
        int later = 0;
        if (si.signo != SIGCONT && take_signal(SIG_BIT(SIGCONT), 0, &cont) == SIGCONT)
            go_on(g, &cont, &later);
        if (si.signo == SIGCONT)
            go_on(g, &si, &later);
        else
            pass_up(g, &si, &later);
        ask_all(g, later);
    }
}

/* One that another ghost has made, or that has got another name. */
static void here(struct ghost *g)
{
    struct out o;
    int later = 0;

    sys3(NR_close_range, 0, ~0u, 0);
    put_head(&o, "procspace.here");
    put(&o, 0x80);
    insist(g, &o, &later);
    ask_all(g, later);
    if (g->real) /* one may have ended before we stood here */
        reap(g);
    haunt(g);
}

static int write_all(int fd, const char *p, unsigned long n)
{
    while (n > 0) {
        long w = sys3(NR_write, fd, p, n);
        if (w <= 0)
            return 0;
        p += w;
        n -= (unsigned long)w;
    }
    return 1;
}

static void host(struct ghost *g, unsigned count, unsigned fd)
{
    int32_t *pids = map(count * 4ul);
    char *stacks = map((unsigned long)count * STACK_BYTES);

    if (bad_map(pids) || bad_map(stacks))
        leave(1);
    if (fd > 0)
        sys3(NR_close_range, 0, fd - 1, 0);
    sys3(NR_close_range, fd + 1, ~0u, 0);
    pids[0] = (int32_t)sys0(NR_getpid);
    g->parent = sys0(NR_getppid);
    for (unsigned i = 1; i < count; i++) {
        pids[i] = pids[i - 1];
        if (pids[i] > 0)
            pids[i] = (int32_t)clone_onto(CLONE_VM | CLONE_FS | CLONE_PARENT | SIGCHLD,
                                          stacks + (i + 1ul) * STACK_BYTES, haunt, g);
    }
    if (!write_all((int)fd, (const char *)pids, count * 4ul)) { /* nobody is there */
        for (unsigned i = 1; i < count && pids[i] > 0; i++)
            sys2(NR_kill, pids[i], SIGKILL);
        leave(1);
    }
    if (g->real) /* one may have ended before we stood here */
        reap(g);
    haunt(g);
}

static const char *number(const char *s, unsigned max, unsigned *out)
{
    unsigned v = 0;

    while (*s >= '0' && *s <= '9' && v <= max)
        v = v * 10 + (unsigned)(*s++ - '0');
    if (*s != ':' || v > max)
        return 0;
    *out = v;
    return s + 1;
}

static const char *after(const char *s, const char *prefix)
{
    while (*prefix)
        if (*s++ != *prefix++)
            return 0;
    return s;
}

static void say(int fd, const char *text)
{
    unsigned long n = 0;

    while (text[n])
        n++;
    sys3(NR_write, fd, text, n);
}

static void by_hand(char **argv)
{
    if (argv[0] && argv[1] && after(argv[1], "--version")) {
        say(1, "bpghost (Clustermatic) " GHOST_VERSION "\n");
        leave(0);
    }
    if (argv[0] && argv[1] && after(argv[1], "--help")) {
        say(1, "Usage: started by bpsh; see bpghost(8)\n");
        leave(0);
    }
    say(2, "bpghost: CM_GHOST=COUNT:FD:GATE is not set: bpsh starts me, nobody else\n");
    leave(2);
}

__attribute__((used)) void ghost_start(long *sp);
void ghost_start(long *sp)
{
    char **argv = (char **)(sp + 1), **envp = argv + sp[0] + 1;
    struct ghost g = { 0 };
    const char *base = argv[0];
    const char *comm = 0;
    unsigned count = 0, fd = 0;

    set_mask(MASK_SET, ALL_SIGNALS);
    for (; *envp; envp++) {
        const char *s = after(*envp, "CM_GHOST=");
        if (s && (s = number(s, 1u << 22, &count)) && (s = number(s, 1u << 20, &fd)))
            g.gate = s;
        else if ((s = after(*envp, "CM_COMM=")))
            comm = s;
        else if (after(*envp, "CM_LAUNCH="))
            g.launch = *envp;
        else if (after(*envp, "CM_KID="))
            g.kid = *envp;
        else if (after(*envp, "CM_REAL="))
            g.real = 1;
    }
    g.argv = argv;
    if (!g.gate || !base)
        by_hand(argv);
    for (const char *s = base; s && *s; s++)
        if (*s == '/' && s[1])
            base = s + 1;
    sys2(NR_prctl, PR_SET_NAME, comm ? comm : base);
    if (count > 0)
        host(&g, count, fd);
    here(&g);
}
NOLIBC_START(ghost_start);
