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
 * status arg, 2 die by signal arg (0x80: with a core dump), 3 stop by signal arg.
 */
#include <stdint.h>
#include "node/nolibc.h"

#define EAGAIN 11
#define EPIPE 32
#define ECONNRESET 104
#define ENOTCONN 107
#define ETIMEDOUT 110
#define ECONNREFUSED 111

#define SIGCHLD 17
#define SIGCONT 18
#define SIGSTOP 19
#define DOORBELL 64
#define SIG_BIT(s) (1ul << ((s) - 1))
#define ALL_SIGNALS (~0ul)
enum { MASK_BLOCK = 0, MASK_UNBLOCK = 1, MASK_SET = 2 };
#define SI_QUEUE (-1)

#define RLIMIT_CORE 4
#define PR_SET_NAME 15
#define PR_SET_DUMPABLE 4
#define O_WRONLY 1
#define AF_UNIX 1
#define SOCK_SEQPACKET 5
#define SOCK_CLOEXEC 02000000
#define SOL_SOCKET 1
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

enum op { OP_EXIT = 1, OP_DIE = 2, OP_STOP = 3 };
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
};

/* gcc may turn loops into calls of these. */
void *memcpy(void *to, const void *from, unsigned long n);
void *memset(void *to, int c, unsigned long n);
void *memcpy(void *to, const void *from, unsigned long n)
{
    for (unsigned long i = 0; i < n; i++)
        ((volatile char *)to)[i] = ((const char *)from)[i];
    return to;
}
void *memset(void *to, int c, unsigned long n)
{
    for (unsigned long i = 0; i < n; i++)
        ((volatile char *)to)[i] = (char)c;
    return to;
}

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

/* --- msgpack, as much as one request and its answer need --- */

struct out {
    unsigned char buf[160];
    unsigned n;
};

static void put(struct out *o, unsigned char c)
{
    o->buf[o->n++] = c;
}

static void put_text(struct out *o, const char *s, unsigned char len)
{
    put(o, 0xa0 | len);
    while (len--)
        put(o, (unsigned char)*s++);
}

static void put_u64(struct out *o, unsigned char type, uint64_t v)
{
    put(o, type);
    for (int shift = 56; shift >= 0; shift -= 8)
        put(o, (unsigned char)(v >> shift));
}

static void put_request(struct out *o, uint64_t id, const struct siginfo *si)
{
    static const char topic[] = "procspace.signal";

    put(o, 0); /* pkt.c: the message is in the packet itself */
    put(o, 0x9b);
    put(o, 1); /* version */
    put(o, 1); /* request */
    put_text(o, topic, sizeof topic - 1);
    put_u64(o, 0xcf, id);
    put_u64(o, 0xcf, ANSWER_MS);
    for (int i = 0; i < 4; i++)
        put(o, 0xff); /* uid, gid, pid, node: -1, busd knows better */
    put(o, 0xa0);
    put(o, 0xa0);
    put(o, si->code == SI_QUEUE ? 0x82 : 0x81);
    put_text(o, "sig", 3);
    put(o, (unsigned char)si->signo);
    if (si->code == SI_QUEUE) {
        put_text(o, "value", 5);
        put_u64(o, 0xd3, si->value);
    }
}

struct in {
    const unsigned char *p, *end;
};

static uint64_t get_be(struct in *in, int bytes)
{
    uint64_t v = 0;

    while (bytes-- && in->p < in->end)
        v = v << 8 | *in->p++;
    return v;
}

/* Step over one number or text; numbers are returned, -1 for others. */
static int64_t get(struct in *in)
{
    unsigned char c = (unsigned char)get_be(in, 1);
    uint64_t skip = 0;

    if (c < 0x80 || c >= 0xe0)
        return (signed char)c;
    if (c >= 0xcc && c <= 0xcf)
        return (int64_t)get_be(in, 1 << (c - 0xcc));
    if (c >= 0xd0 && c <= 0xd3)
        return (int64_t)get_be(in, 1 << (c - 0xd0));
    if (c >= 0xa0 && c < 0xc0)
        skip = c & 0x1f;
    else if (c == 0xd9 || c == 0xda)
        skip = get_be(in, c - 0xd8);
    if (skip > (uint64_t)(in->end - in->p))
        skip = (uint64_t)(in->end - in->p);
    in->p += skip;
    return -1;
}

/* 0 when the answer settles the matter, else try again. An answer too large
 * for its packet (in a memfd that we did not take) counts as settled. */
static int judge(const unsigned char *p, long len)
{
    struct in in = { p + 1, p + len };
    unsigned c = (unsigned)get_be(&in, 1);
    unsigned fields = c == 0xdc ? (unsigned)get_be(&in, 2) : c & 0x0f;

    get(&in);
    if (get(&in) != 3) /* not an error */
        return 0;
    for (unsigned i = 2; i < fields && in.p < in.end; i++)
        get(&in);
    get_be(&in, 1); /* [code, text] */
    switch (get(&in)) {
    case EAGAIN:
    case EPIPE:
    case ECONNRESET:
    case ENOTCONN:
    case ETIMEDOUT:
    case ECONNREFUSED:
        return -1; /* nobody who could know was asked */
    default:
        return 0;
    }
}

/* One try. 0: somebody answered. */
static int tell(const struct ghost *g, const struct out *o)
{
    struct address a;
    unsigned char answer[512];
    struct timespec limit = { ANSWER_MS / 1000, 0 };
    unsigned len = 0;
    long fd, n = -1;

    memset(&a, 0, sizeof a);
    a.family = AF_UNIX;
    while (g->gate[len] && len < sizeof a.path - 1) {
        a.path[len] = g->gate[len];
        len++;
    }
    fd = sys3(NR_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    sys5(NR_setsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    sys5(NR_setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (sys3(NR_connect, fd, &a, sizeof a) == 0 &&
        sys6(NR_sendto, fd, (long)o->buf, o->n, MSG_NOSIGNAL, 0, 0) == (long)o->n)
        n = sys6(NR_recvfrom, fd, (long)answer, sizeof answer, 0, 0, 0);
    sys1(NR_close, fd);
    return n > 0 ? judge(answer, n) : -1;
}

/* --- what the doorbell asks for --- */

static void raise_default(int sig)
{
    struct kernel_sigaction dfl = { 0, 0, 0, 0 };

    sys4(NR_rt_sigaction, sig, &dfl, 0, 8);
    sys2(NR_kill, sys0(NR_getpid), sig);
    set_mask(MASK_UNBLOCK, SIG_BIT(sig));
}

/* "core dumped" in a wait status is the kernel's word alone: to have it, the
 * ghost really dumps, as little as can be, into RUN/cores/UID, which procspace
 * has made and empties again. */
static void prepare_dump(const char *gate)
{
    char dir[sizeof(struct address) + 24];
    char digits[12];
    unsigned n = 0, end = 0, k = 0;
    unsigned long uid = (unsigned long)sys0(NR_getuid), limit[2] = { 0, 0 };

    for (; gate[n] && n < sizeof(struct address); n++) {
        dir[n] = gate[n];
        if (gate[n] == '/')
            end = n + 1;
    }
    for (const char *s = "cores/"; *s; s++)
        dir[end++] = *s;
    do
        digits[k++] = (char)('0' + uid % 10);
    while ((uid /= 10) && k < sizeof digits);
    while (k)
        dir[end++] = digits[--k];
    dir[end] = 0;
    if (sys1(NR_chdir, dir) < 0)
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

static void obey(const struct ghost *g, uint64_t value)
{
    unsigned arg = (unsigned)value;

    switch (value >> 32) {
    case OP_EXIT:
        leave((int)arg);
    case OP_DIE:
        die_by((int)(arg & ~CORE_FLAG & 0xff), (arg & CORE_FLAG) != 0, g->gate);
    case OP_STOP:
        if (arg > 0 && arg < DOORBELL)
            stop_by((int)arg);
        break;
    }
}

/* --- the life of a ghost --- */

/* Pass one signal up; return when it is known there. */
static void pass_up(const struct ghost *g, const struct siginfo *si)
{
    struct out o;
    uint64_t id = 0;
    int delay = RETRY_FIRST_MS;

    sys3(NR_getrandom, &id, sizeof id, 0);
    o.n = 0;
    put_request(&o, id >> 1, si);
    while (tell(g, &o) < 0) {
        struct siginfo bell;

        if (take_signal(SIG_BIT(DOORBELL), delay, &bell) == DOORBELL &&
            from_procspace(&bell))
            obey(g, bell.value);
        else if (delay < RETRY_LAST_MS)
            delay *= 2;
    }
}

/* The kernel's rule, for doorbells too: a SIGCONT cancels stops on their way. */
static void cancel_stops(const struct ghost *g)
{
    struct siginfo bell;

    while (take_signal(SIG_BIT(DOORBELL), 0, &bell) == DOORBELL)
        if (from_procspace(&bell) && bell.value >> 32 != OP_STOP)
            obey(g, bell.value);
}

static void haunt(void *arg)
{
    const struct ghost *g = arg;
    struct siginfo si;

    /* In clones: the pipe to the caller. The first has closed it by now. */
    sys3(NR_close_range, 0, ~0u, 0);
    for (;;) {
        if (take_signal(ALL_SIGNALS, -1, &si) < 0 || si.signo == SIGCHLD)
            continue;
        if (from_procspace(&si)) {
            obey(g, si.value);
            continue;
        }
        if (si.signo == SIGCONT)
            cancel_stops(g);
        pass_up(g, &si);
    }
}

static void *map(unsigned long bytes)
{
    return (void *)sys6(NR_mmap, 0, (long)bytes, 3, 0x4022, -1, 0);
}

static int bad_map(const void *p)
{
    return (unsigned long)p > -4096ul;
}

static void write_all(int fd, const char *p, unsigned long n)
{
    while (n > 0) {
        long w = sys3(NR_write, fd, p, n);
        if (w <= 0)
            leave(1);
        p += w;
        n -= (unsigned long)w;
    }
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
    for (unsigned i = 1; i < count; i++) {
        pids[i] = pids[i - 1];
        if (pids[i] > 0)
            pids[i] = (int32_t)clone_onto(CLONE_VM | CLONE_FS | CLONE_PARENT | SIGCHLD,
                                          stacks + (i + 1ul) * STACK_BYTES, haunt, g);
    }
    write_all((int)fd, (const char *)pids, count * 4ul);
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
    unsigned count = 0, fd = 0;

    set_mask(MASK_SET, ALL_SIGNALS);
    for (; *envp && !g.gate; envp++) {
        const char *s = after(*envp, "CM_GHOST=");
        if (s && (s = number(s, 1u << 22, &count)) && (s = number(s, 1u << 20, &fd)))
            g.gate = s;
    }
    if (!g.gate || count == 0)
        by_hand(argv);
    for (const char *s = base; s && *s; s++)
        if (*s == '/' && s[1])
            base = s + 1;
    if (base)
        sys2(NR_prctl, PR_SET_NAME, base);
    host(&g, count, fd);
}
NOLIBC_START(ghost_start);
