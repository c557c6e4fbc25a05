/* bpbegin.c - on a node: the first steps of a process that a ghost has made there
 *
 * What a parent has left on a node is a ghost, a program with its user's rights, and so
 * is the child that it makes for bpinit. That one fetches two descriptors and executes us:
 * CM_RESTORE=SOCKET:CONTROL. On SOCKET waits what the process is to have open (begin.h),
 * which bpinit has opened. A copy goes on as bprestore, with its image in SOCKET's
 * place. A program is executed when CONTROL says so; that it has been is seen by
 * CONTROL's end. What fails is a word there, then we are the ghost again.
 *
 * No libc: the node's root may have none.
 */
#include <stdint.h>
#include "bus/rundir.h"
#include "node/begin.h"
#include "node/nolibc.h"
#include "node/nolibc_mem.h"
#include "node/bpghost_text.h"

#define EIO 5
#define EINTR 4
#define ENOMEM 12
#define EPROTO 71
#define EXIT_NOT_STARTED 127

#define SIG_LAST 64
#define SIGKILL 9
#define SIGSTOP 19
#define F_DUPFD 0
#define RLIMIT_NOFILE 7
#define F_DUPFD_CLOEXEC 1030
#define PROT_BOTH 3
#define MAP_PRIVATE 2
#define MAP_PRIVATE_ANON 0x22
#define ENV_MAX 16

struct image_word { /* image/image.h, which has the kernel's own types */
    uint32_t code, npid;
    char text[184];
};

struct begin {
    int sock, control, last; /* descriptors; last: the image, or the program's file */
    const char *back;        /* the ghost's program; 0: there is none to be again */
    char **argv, *env[ENV_MAX + 1];
    unsigned envc;
    char restore[48];
    struct begin_head head;
    int fd[BEGIN_FDS + 1];
};

static const char *after(const char *s, const char *prefix)
{
    while (*prefix)
        if (*s++ != *prefix++)
            return 0;
    return s;
}

static void __attribute__((noreturn)) leave(int status)
{
    for (;;)
        sys1(NR_exit_group, status);
}

/* The ghost closes what it finds open. */
static void __attribute__((noreturn)) fail(struct begin *b, long code, const char *text)
{
    struct image_word w;
    unsigned n = 0;

    memset(&w, 0, sizeof w);
    w.code = code > 0 && code < 4096 ? (uint32_t)code : EIO;
    for (; text[n] && n + 1 < sizeof w.text; n++)
        w.text[n] = text[n];
    sys3(NR_write, b->control, &w, sizeof w);
    b->env[b->envc] = 0;
    if (b->back)
        sys3(NR_execve, b->back, b->argv, b->env);
    leave(EXIT_NOT_STARTED);
}

/* --- what comes --- */

static void take(struct begin *b)
{
    union {
        struct {
            unsigned long len; /* cmsghdr */
            int level, type;
            int fd[BEGIN_FDS + 1];
        } c;
        char room[16 + 4 * (BEGIN_FDS + 1) + 8];
    } control;
    struct {
        void *base;
        unsigned long len;
    } iov = { &b->head, sizeof b->head };
    struct message m;
    long n;

    memset(&m, 0, sizeof m);
    memset(&control, 0, sizeof control);
    m.iov = (void *)&iov;
    m.iovlen = 1;
    m.control = &control;
    m.controllen = sizeof control;
    do
        n = sys3(NR_recvmsg, b->sock, &m, 0);
    while (n == -EINTR);
    if (n != (long)sizeof b->head || b->head.fds > BEGIN_FDS ||
        control.c.len != 16 + 4ul * (b->head.fds + 1))
        fail(b, n < 0 ? -n : EPROTO, "what it is to begin with does not come");
    sys1(NR_close, b->sock);
    for (unsigned i = 0; i <= b->head.fds; i++)
        b->fd[i] = control.c.fd[i];
}

/* Beyond all that the process is to have. */
static int lift(struct begin *b, int fd, int how, int least)
{
    long other = sys3(NR_fcntl, fd, how, least);

    if (other < 0)
        fail(b, -other, "no descriptor is free");
    sys1(NR_close, fd);
    return (int)other;
}

/* As many as its user may: what was left has the limits of then. */
static void open_many(void)
{
    unsigned long l[2];

    if (sys2(NR_getrlimit, RLIMIT_NOFILE, l) < 0)
        return;
    l[0] = l[1];
    sys2(NR_setrlimit, RLIMIT_NOFILE, l);
}

/* As far as its user may; bpinit may more. */
static void set_limits(const struct begin_head *h)
{
    for (uint32_t i = 0; i < h->limits && i < BEGIN_LIMITS; i++) {
        unsigned long want[2] = { h->limit[i].soft, h->limit[i].hard }, have[2];
        if (sys2(NR_setrlimit, h->limit[i].resource, want) == 0 ||
            sys2(NR_getrlimit, h->limit[i].resource, have) < 0)
            continue;
        have[0] = want[0] < have[1] ? want[0] : have[1];
        sys2(NR_setrlimit, h->limit[i].resource, have);
    }
}

/* None but these, and ours. */
static void place(struct begin *b)
{
    int how = b->head.copy ? F_DUPFD : F_DUPFD_CLOEXEC, least = 3;

    for (unsigned i = 0; i < b->head.fds; i++)
        if (b->head.at[i] >= least)
            least = b->head.at[i] + 1;
    b->control = lift(b, b->control, how, least);
    for (unsigned i = 0; i <= b->head.fds; i++)
        b->fd[i] = lift(b, b->fd[i], how, least);
    b->last = b->fd[b->head.fds];
    for (unsigned i = 0; i < b->head.fds; i++) {
        long rc = sys2(NR_dup2, b->fd[i], b->head.at[i]);
        if (rc < 0)
            fail(b, -rc, "no descriptor is free");
        sys1(NR_close, b->fd[i]);
    }
}

/* --- a copy --- */

static void __attribute__((noreturn)) go_on_as_copy(struct begin *b)
{
    static const char prog[] = NODE_RUN "/bprestore";
    const char *end = b->restore + sizeof b->restore;
    unsigned envc = b->envc;

    set_limits(&b->head);
    char *p = add_text(b->restore, end, "CM_RESTORE=", ~0ul);
    p = add_number(p, end, (uint64_t)b->last);
    p = add_text(p, end, ":", 1);
    add_number(p, end, (uint64_t)b->control);
    b->env[b->envc++] = b->restore;
    if (b->back) /* as the ghost has said it: with its name */
        b->env[b->envc++] = (char *)(unsigned long)(b->back - 8);
    long rc = sys3(NR_execve, prog, b->argv, b->env);
    b->envc = envc;
    fail(b, -rc, prog);
}

/* --- a program --- */

struct program {
    char *cwd, *path, **argv, **envp;
    uint32_t *groups;
};

/* The next text, which ends within the file. */
static char *next(struct begin *b, char **at, const char *end)
{
    char *text = *at;

    while (*at < end && **at)
        ++*at;
    if (*at >= end)
        fail(b, EPROTO, "what it is to execute makes no sense");
    ++*at;
    return text;
}

static void *map(struct begin *b, unsigned long bytes, int flags, int fd)
{
    long at = sys6(NR_mmap, 0, (long)bytes, PROT_BOTH, flags, fd, 0);

    if (at < 0 && at > -4096)
        fail(b, -at, "memory for its arguments");
    return (void *)at;
}

static void read_program(struct begin *b, struct program *p)
{
    const struct begin_head *h = &b->head;
    char *all = map(b, h->bytes, MAP_PRIVATE, b->last), *end = all + h->bytes;
    char **list = map(b, ((unsigned long)h->argc + h->envc + 2) * sizeof *list, MAP_PRIVATE_ANON, -1);
    char *at = all + 4ul * h->groups;

    sys1(NR_close, b->last);
    p->groups = (void *)all;
    p->cwd = next(b, &at, end);
    p->path = next(b, &at, end);
    p->argv = list;
    for (uint32_t i = 0; i < h->argc; i++)
        *list++ = next(b, &at, end);
    *list++ = 0;
    p->envp = list;
    for (uint32_t i = 0; i < h->envc; i++)
        *list++ = next(b, &at, end);
    *list = 0;
}

/* Where it is, and whose: the user and its first group are the ghost's, as asked. */
static void settle(struct begin *b, const struct program *p)
{
    if (sys0(NR_getuid) == 0)
        sys2(NR_setgroups, b->head.groups, p->groups);
    sys1(NR_umask, b->head.umask);
    set_limits(&b->head);
    if (sys1(NR_chdir, p->cwd) < 0) {
        long rc = sys1(NR_chdir, "/");
        if (rc < 0)
            fail(b, -rc, p->cwd);
    }
}

/* Those of its limits that we may not set are set meanwhile. */
static void wait_for_go(struct begin *b)
{
    struct image_word ready;
    char go[16];
    long n;

    memset(&ready, 0, sizeof ready);
    ready.npid = (uint32_t)sys0(NR_getpid);
    if (sys3(NR_write, b->control, &ready, sizeof ready) != (long)sizeof ready)
        fail(b, EIO, "nobody waits for it any more");
    do
        n = sys3(NR_read, b->control, go, sizeof go);
    while (n == -EINTR);
    if (n <= 0) /* it was called off */
        leave(EXIT_NOT_STARTED);
}

static void take_signals(void)
{
    struct kernel_sigaction dfl = { 0, 0, 0, 0 };
    static const long now[2];
    unsigned long bell = 1ul << (SIG_LAST - 1), none = 0;
    char info[128];

    for (int sig = 1; sig <= SIG_LAST; sig++)
        if (sig != SIGKILL && sig != SIGSTOP)
            sys4(NR_rt_sigaction, sig, &dfl, 0, 8);
    /* For the ghost that we were: nobody's any more. Others are ours. */
    while (sys4(NR_rt_sigtimedwait, &bell, info, now, 8) > 0)
        continue;
    sys4(NR_rt_sigprocmask, 2, &none, 0, 8);
}

static void __attribute__((noreturn)) go_on_as_program(struct begin *b)
{
    struct program p;

    read_program(b, &p);
    settle(b, &p);
    wait_for_go(b);
    take_signals();
    long rc = sys3(NR_execve, p.path, p.argv, p.envp);
    b->back = 0; /* it would not be the ghost of anything: it has no mask, and no number */
    fail(b, -rc, ""); /* bpinit knows the words for it */
}

/* --- start --- */

static const char *number(const char *s, int *out)
{
    int v = 0;

    while (*s >= '0' && *s <= '9' && v <= 1000000)
        v = v * 10 + (*s++ - '0');
    *out = v;
    return s;
}

static void say(int fd, const char *text)
{
    unsigned long n = 0;

    while (text[n])
        n++;
    sys3(NR_write, fd, text, n);
}

static void __attribute__((noreturn)) by_hand(char **argv)
{
    if (argv[0] && argv[1] && after(argv[1], "--version")) {
        say(1, "bpbegin (Clustermatic) " GHOST_VERSION "\n");
        leave(0);
    }
    if (argv[0] && argv[1] && after(argv[1], "--help")) {
        say(1, "Usage: started by bpghost on a node; see bpbegin(8)\n");
        leave(0);
    }
    say(2, "bpbegin: CM_RESTORE=SOCKET:CONTROL is not set: bpghost starts me, nobody else\n");
    leave(2);
}

__attribute__((used)) void begin_start(long *sp);
void begin_start(long *sp)
{
    struct begin b;
    char **envp = (char **)(sp + 1) + sp[0] + 1;
    const char *what = 0, *s;

    memset(&b, 0, sizeof b);
    b.argv = (char **)(sp + 1);
    for (; *envp; envp++) {
        if ((s = after(*envp, "CM_RESTORE=")))
            what = s;
        else if ((s = after(*envp, "CM_BACK=")))
            b.back = s;
        else if (b.envc < ENV_MAX - 2) /* room for these two */
            b.env[b.envc++] = *envp;
    }
    if (!what || *(what = number(what, &b.sock)) != ':')
        by_hand(b.argv);
    number(what + 1, &b.control);
    open_many();
    take(&b);
    place(&b);
    if (b.head.copy)
        go_on_as_copy(&b);
    go_on_as_program(&b);
}
NOLIBC_START(begin_start);
