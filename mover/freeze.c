/* freeze.c - a process stopped from outside, and system calls in its name
 *
 * Its registers and its mask are its own again after each row of calls
 * (calls_begin, calls_end): should we die while it stands still, it goes on. What
 * is sent to it meanwhile waits in the kernel's queue, for itself or for who it
 * is elsewhere.
 *
 * Once it may run elsewhere it is parked: between the rows its registers are those of
 * one that waits for ever. Should we die then, it does that, until another of us has
 * found out where it is to go on (frozen_again).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/loop.h"
#include "mover/mover.h"

#define STOP_MS 5000
#define STEPS_MAX 100000 /* out of the kernel's page of code */
#define CONNECT_MS 10000
#define QUEUE_ROWS 32
#define NO_CALL UINT64_MAX

static int died(struct frozen *f, struct err *err)
{
    f->held = false;
    return err_set(err, ESRCH, "process %d has ended", (int)f->pid);
}

/* One stop of it, within ms (-1: for ever). -1: it has died, or that took too long. */
static int wait_stop(struct frozen *f, int64_t ms, int *status, struct err *err)
{
    int64_t end = now_ms() + ms;

    for (;;) {
        pid_t n = waitpid(f->pid, status, __WALL | (ms < 0 ? 0 : WNOHANG));
        if (n == f->pid)
            return WIFSTOPPED(*status) ? 0 : died(f, err);
        if (n < 0 && errno != EINTR)
            return died(f, err);
        if (n == 0 && now_ms() >= end)
            return err_set(err, EBUSY, "process %d cannot be stopped: it waits in the kernel",
                           (int)f->pid);
        if (n == 0)
            poll(NULL, 0, 1);
    }
}

static int find_vdso(struct frozen *f, uint64_t *start, uint64_t *end)
{
    CLEANUP(cleanup_free) char *maps = proc_text(f->pid, "maps", NULL);
    char *line = maps ? strstr(maps, "[vdso]") : NULL;

    while (line && line > maps && line[-1] != '\n')
        line--;
    return line && sscanf(line, "%lx-%lx", start, end) == 2 ? 0 : -1;
}

/* An instruction that calls the kernel: there is one in the kernel's own page. */
static int find_call(struct frozen *f, uint64_t start, uint64_t end, struct err *err)
{
    CLEANUP(cleanup_free) unsigned char *b = malloc(end - start);
    ssize_t n = b ? pread(f->mem, b, end - start, (off_t)start) : -1;

    for (ssize_t i = 0; i + 1 < n; i++)
        if (b[i] == 0x0f && b[i + 1] == 0x05) {
            f->call_at = start + (uint64_t)i;
            return 0;
        }
    return err_set(err, ENOSYS, "this kernel's page of code (vdso) cannot be used");
}

/* Not in the middle of what the kernel's page reads of this machine's clock. */
static int step_out(struct frozen *f, uint64_t start, uint64_t end, struct err *err)
{
    int status;

    for (int i = 0; f->regs.rip >= start && f->regs.rip < end && i < STEPS_MAX; i++) {
        if (ptrace(PTRACE_SINGLESTEP, f->pid, 0, 0) < 0 || wait_stop(f, -1, &status, err) < 0 ||
            ptrace(PTRACE_GETREGS, f->pid, 0, &f->regs) < 0)
            return died(f, err);
        if (WSTOPSIG(status) != SIGTRAP) { /* a signal: it has it when it goes on */
            f->owed = WSTOPSIG(status);
            return err_set(err, EAGAIN, "process %d was sent a signal", (int)f->pid);
        }
    }
    return 0;
}

/* Until it stands as it is interrupted. Signals that come before that it has; not where
 * its mask and registers are ours: only SIGSTOP comes then, and it is noted. */
static int interrupted(struct frozen *f, bool ours, int *status, struct err *err)
{
    for (;;) {
        if (wait_stop(f, STOP_MS, status, err) < 0)
            return -1;
        if (*status >> 16 == PTRACE_EVENT_STOP)
            return 0;
        int sig = *status >> 16 ? 0 : WSTOPSIG(*status);
        if (ours && sig == SIGSTOP)
            f->was_stopped = true;
        if (ptrace(PTRACE_CONT, f->pid, 0, ours ? 0 : sig) < 0)
            return died(f, err);
    }
}

static int stop(struct frozen *f, struct err *err)
{
    int status;

    if (ptrace(PTRACE_SEIZE, f->pid, 0, PTRACE_O_TRACEEXEC) < 0)
        return err_set(err, errno, "process %d cannot be stopped: %s", (int)f->pid,
                       strerror(errno));
    f->held = true;
    if (ptrace(PTRACE_INTERRUPT, f->pid, 0, 0) < 0)
        return died(f, err);
    if (interrupted(f, false, &status, err) < 0)
        return -1;
    if (WSTOPSIG(status) != SIGTRAP)
        return err_set(err, EBUSY, "process %d is stopped: continue it first", (int)f->pid);
    return 0;
}

/* The restorer's place in it: what is left of one that has done its work looks the
 * same, but nothing runs there any more. */
bool frozen_arrives(const struct frozen *f)
{
    CLEANUP(cleanup_free) char *maps = proc_text(f->pid, "maps", NULL);
    unsigned long start, end, inode;
    char rights[8], *rest;

    for (char *line = maps ? strtok_r(maps, "\n", &rest) : NULL; line;
         line = strtok_r(NULL, "\n", &rest))
        if (sscanf(line, "%lx-%lx %7s %*s %*s %lu", &start, &end, rights, &inode) == 4 &&
            !inode && end - start == IMAGE_HOLE && start % IMAGE_HOLE == 0 &&
            strcmp(rights, "rwxp") == 0 &&
            ((f->regs.rip >= start && f->regs.rip < end) ||
             (f->regs.rsp >= start && f->regs.rsp < end)))
            return true;
    return false;
}

static bool waits(pid_t pid, int sig)
{
    CLEANUP(cleanup_free) char *s = proc_text(pid, "status", NULL);
    uint64_t bit = 1ull << (sig - 1);

    return s && ((status_number(s, "SigPnd", 16, 0) | status_number(s, "ShdPnd", 16, 0)) & bit);
}

static int open_it(struct frozen *f, pid_t pid, struct err *err)
{
    char path[64];

    *f = (struct frozen){ .pid = pid, .pidfd = -1, .mem = -1 };
    f->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    if (f->pidfd < 0 || (f->mem = open(path, O_RDWR | O_CLOEXEC)) < 0)
        return err_set(err, errno, "process %d: %s", (int)pid, strerror(errno));
    return stop(f, err);
}

int freeze(struct frozen *f, pid_t pid, struct err *err)
{
    uint64_t start = 0, end = 0;

    if (open_it(f, pid, err) < 0)
        return -1;
    if (ptrace(PTRACE_GETREGS, pid, 0, &f->regs) < 0 ||
        ptrace(PTRACE_GETSIGMASK, pid, sizeof f->mask, &f->mask) < 0)
        return died(f, err);
    if (f->regs.cs != 0x33)
        return err_set(err, ENOSYS, "process %d runs 32-bit code", (int)pid);
    f->alarmed = waits(pid, SIGALRM);
    if (find_vdso(f, &start, &end) < 0)
        return err_set(err, ENOSYS, "process %d has no page of the kernel's (vdso)", (int)pid);
    return step_out(f, start, end, err) < 0 ? -1 : find_call(f, start, end, err);
}

static void waits_for_ever(const struct frozen *f, struct user_regs_struct *r)
{
    *r = f->regs;
    r->rip = f->call_at;
    r->rax = SYS_pause;
    r->orig_rax = NO_CALL;
}

/* Parked it does wait, and is stopped for each row of calls. */
static int halt(struct frozen *f, struct err *err)
{
    int status;

    if (!f->runs || !f->held)
        return 0;
    if (ptrace(PTRACE_INTERRUPT, f->pid, 0, 0) < 0)
        return died(f, err);
    f->runs = false;
    return interrupted(f, true, &status, err);
}

/* Where it stands after a step it would have the step's SIGTRAP if we died, and die of
 * it: so it is let go on to its next stop, without a step in between. */
static int step_over(struct frozen *f, struct err *err)
{
    int status;

    return ptrace(PTRACE_INTERRUPT, f->pid, 0, 0) < 0 || ptrace(PTRACE_CONT, f->pid, 0, 0) < 0
               ? died(f, err)
               : interrupted(f, true, &status, err);
}

/* What it is while we do nothing with it. Parked it is let run into its wait: so
 * nothing is left of the single steps by which calls are made. */
static int rest(struct frozen *f)
{
    struct user_regs_struct r = f->regs;
    uint64_t all = ~0ull, mask = f->parked ? all : f->mask;

    if (f->parked)
        waits_for_ever(f, &r);
    if (ptrace(PTRACE_SETREGS, f->pid, 0, &r) < 0 ||
        ptrace(PTRACE_SETSIGMASK, f->pid, sizeof mask, &mask) < 0 ||
        (f->parked && ptrace(PTRACE_CONT, f->pid, 0, 0) < 0))
        return -1;
    f->runs = f->parked;
    return 0;
}

int frozen_park(struct frozen *f, struct err *err)
{
    f->parked = true;
    return f->held && rest(f) == 0 ? 0 : died(f, err);
}

void frozen_note(const struct frozen *f, mp_buf *m)
{
    mp_map(m, 4);
    mp_kbin(m, "regs", &f->regs, sizeof f->regs);
    mp_kuint(m, "mask", f->mask);
    mp_kuint(m, "room", f->room);
    mp_kuint(m, "room_bytes", f->room_bytes);
}

static void let_go(struct frozen *f)
{
    if (f->held)
        ptrace(PTRACE_DETACH, f->pid, 0, f->owed);
    f->owed = 0;
    f->held = false;
    if (f->was_stopped)
        syscall(SYS_pidfd_send_signal, f->pidfd, SIGSTOP, NULL, 0);
    if (f->was_trapped)
        syscall(SYS_pidfd_send_signal, f->pidfd, SIGTRAP, NULL, 0);
    cleanup_close(&f->mem);
    cleanup_close(&f->pidfd);
}

int frozen_again(struct frozen *f, pid_t pid, const msgpack_object *note, struct err *err)
{
    struct user_regs_struct now;
    uint64_t start = 0, end = 0, mask = 0;
    const char *regs;
    size_t len;
    int64_t until = now_ms() + STOP_MS;

    for (;; poll(NULL, 0, 5)) { /* the kernel may be about to take it from the other */
        struct err why = { 0 };
        if (open_it(f, pid, &why) == 0)
            break;
        if (why.code != EPERM || now_ms() > until)
            return err_set(err, why.code, "%s", why.text);
        let_go(f);
    }
    if (find_vdso(f, &start, &end) < 0 || find_call(f, start, end, err) < 0)
        return err_set(err, ENOSYS, "process %d has no page of the kernel's (vdso)", (int)pid);
    if (ptrace(PTRACE_GETREGS, pid, 0, &now) < 0 ||
        ptrace(PTRACE_GETSIGMASK, pid, sizeof mask, &mask) < 0)
        return died(f, err);
    /* All but those that the kernel takes out. */
    mask |= 1ull << (SIGKILL - 1) | 1ull << (SIGSTOP - 1) | 1ull << (SIGTRAP - 1);
    f->parked = mask == ~0ull && (now.rip == f->call_at || now.rip == f->call_at + 2) &&
                (now.orig_rax == SYS_pause || now.rax == SYS_pause);
    int status;
    if (f->parked && waits(pid, SIGTRAP) && /* of a step that the other did not see the end of */
        (ptrace(PTRACE_CONT, pid, 0, 0) < 0 || wait_stop(f, STOP_MS, &status, err) < 0))
        return died(f, err);
    if (!f->parked) { /* it runs, and has never stood still for long */
        f->regs = now;
        f->mask = mask;
        return step_out(f, start, end, err) < 0 || calls_begin(f, err) < 0 ||
                       room_make(f, IMAGE_PAGE, err) < 0 || calls_end(f, err) < 0
                   ? -1
                   : 0;
    }
    if (mp_get_bytes(note, "regs", &regs, &len, err) < 0 || len != sizeof f->regs ||
        mp_get_uint(note, "mask", &f->mask, err) < 0 ||
        mp_get_uint(note, "room", &f->room, err) < 0 ||
        mp_get_uint(note, "room_bytes", &f->room_bytes, err) < 0)
        return err_set(err, EPROTO, "process %d: what was noted of it makes no sense", (int)pid);
    memcpy(&f->regs, regs, sizeof f->regs);
    return 0;
}

void thaw(struct frozen *f)
{
    uint64_t arg[6] = { f->room, f->room_bytes };
    int64_t out;

    halt(f, NULL);
    f->borrowed |= f->parked;
    f->parked = false;
    if (f->held && f->room && calls_begin(f, NULL) == 0)
        call_in(f, SYS_munmap, arg, &out, NULL);
    if (f->held && f->borrowed) /* by this, or by what has failed */
        calls_end(f, NULL);
    let_go(f);
}

int calls_begin(struct frozen *f, struct err *err)
{
    /* The kernel says by SIGTRAP that a step is done: blocked, it would lose its handler. */
    uint64_t all = ~(1ull << (SIGTRAP - 1));

    if (halt(f, err) < 0)
        return -1;
    f->borrowed = true;
    return f->held && ptrace(PTRACE_SETSIGMASK, f->pid, sizeof all, &all) == 0 ? 0 : died(f, err);
}

int calls_end(struct frozen *f, struct err *err)
{
    f->borrowed = false;
    return f->held && rest(f) == 0 ? 0 : died(f, err);
}

/* A SIGTRAP that is a step's, and not one that somebody has sent. */
static bool stepped(struct frozen *f)
{
    siginfo_t si;

    if (ptrace(PTRACE_GETSIGINFO, f->pid, 0, &si) < 0 || si.si_code > 0)
        return true;
    f->was_trapped = true;
    return false;
}

int call_in(struct frozen *f, long nr, const uint64_t arg[6], int64_t *out, struct err *err)
{
    struct user_regs_struct r = f->regs;
    int status;

    r.rip = f->call_at;
    r.rax = (uint64_t)nr;
    r.orig_rax = NO_CALL;
    r.rdi = arg[0];
    r.rsi = arg[1];
    r.rdx = arg[2];
    r.r10 = arg[3];
    r.r8 = arg[4];
    r.r9 = arg[5];
    if (!f->held || ptrace(PTRACE_SETREGS, f->pid, 0, &r) < 0)
        return died(f, err);
    for (;;) {
        if (ptrace(PTRACE_SINGLESTEP, f->pid, 0, 0) < 0 || wait_stop(f, -1, &status, err) < 0)
            return died(f, err);
        if (status >> 16 == PTRACE_EVENT_EXEC ||
            (status >> 16 == 0 && WSTOPSIG(status) == SIGTRAP && stepped(f)))
            break;
        if (status >> 16 == 0 && WSTOPSIG(status) == SIGSTOP) /* nobody can block it */
            f->was_stopped = true;
    }
    *out = 0;
    if (status >> 16 == PTRACE_EVENT_EXEC)
        return 0;
    if (ptrace(PTRACE_GETREGS, f->pid, 0, &r) < 0)
        return died(f, err);
    *out = (int64_t)r.rax;
    if (f->parked) /* not behind the call, should we die before the next */
        waits_for_ever(f, &r);
    else
        r = f->regs;
    return ptrace(PTRACE_SETREGS, f->pid, 0, &r) == 0 ? step_over(f, err) : died(f, err);
}

/* Shared, so that the kernel joins it with nothing of its own. */
int room_make(struct frozen *f, uint64_t bytes, struct err *err)
{
    uint64_t arg[6] = { 0, (bytes + IMAGE_PAGE - 1) & ~(uint64_t)(IMAGE_PAGE - 1),
                        PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, UINT64_MAX, 0 };
    int64_t out;

    if (call_in(f, SYS_mmap, arg, &out, err) < 0)
        return -1;
    if (out < 0 && out > -4096)
        return err_set(err, (int)-out, "process %d: no room: %s", (int)f->pid,
                       strerror((int)-out));
    f->room = (uint64_t)out;
    f->room_bytes = arg[1];
    return 0;
}

int room_put(struct frozen *f, uint64_t at, const void *p, size_t n, struct err *err)
{
    return pwrite(f->mem, p, n, (off_t)(f->room + at)) == (ssize_t)n ? 0 : died(f, err);
}

int room_get(struct frozen *f, uint64_t at, void *p, size_t n, struct err *err)
{
    return pread(f->mem, p, n, (off_t)(f->room + at)) == (ssize_t)n ? 0 : died(f, err);
}

static int connect_once(struct frozen *f, const struct sockaddr_un *a, int *fd, struct err *err)
{
    uint64_t socket_arg[6] = { AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK };
    int64_t sock, out = -EIO, closed;

    *fd = -1;
    if (calls_begin(f, err) < 0 || room_put(f, 0, a, sizeof *a, err) < 0 ||
        call_in(f, SYS_socket, socket_arg, &sock, err) < 0)
        return -1;
    if (sock >= 0) {
        uint64_t arg[6] = { (uint64_t)sock, f->room, sizeof *a };
        if (call_in(f, SYS_connect, arg, &out, err) < 0)
            return -1;
        if (out == 0)
            *fd = (int)syscall(SYS_pidfd_getfd, f->pidfd, (int)sock, 0);
        if (out == 0 && *fd < 0)
            out = -errno;
        if (call_in(f, SYS_close, arg, &closed, err) < 0) {
            cleanup_close(fd);
            return -1;
        }
    } else {
        out = sock;
    }
    if (calls_end(f, err) < 0) {
        cleanup_close(fd);
        return -1;
    }
    if (*fd >= 0)
        return 0;
    return err_set(err, (int)-out, "%s: %s", a->sun_path, strerror((int)-out));
}

int frozen_connect(struct frozen *f, const char *path, struct err *err)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int64_t end = now_ms() + CONNECT_MS;
    int fd = -1;

    if (strlen(path) >= sizeof a.sun_path)
        return err_set(err, ENAMETOOLONG, "%s: too long", path);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    for (;;) {
        struct err why = { 0 };
        if (connect_once(f, &a, &fd, &why) == 0) {
            fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
            return fd;
        }
        bool again = f->held && (why.code == EAGAIN || why.code == ECONNREFUSED || why.code == ENOENT);
        if (!again || now_ms() > end)
            return err_set(err, why.code, "%s", why.text);
        poll(NULL, 0, 20);
    }
}

/* --- the end --- */

static bool rang(struct frozen *f, uint32_t flags, int timer)
{
    struct __ptrace_peeksiginfo_args a = { .flags = flags, .nr = QUEUE_ROWS };
    siginfo_t si[QUEUE_ROWS];
    long got;

    for (; (got = ptrace(PTRACE_PEEKSIGINFO, f->pid, &a, si)) > 0; a.off += (uint64_t)got)
        for (long i = 0; i < got; i++)
            if (si[i].si_code == SI_TIMER && si[i].si_timerid == timer)
                return true;
    return false;
}

bool frozen_rang(struct frozen *f, int timer)
{
    return rang(f, PTRACE_PEEKSIGINFO_SHARED, timer) || rang(f, 0, timer);
}

static uint32_t queue(struct frozen *f, uint32_t flags, mp_buf *rows)
{
    struct __ptrace_peeksiginfo_args a = { .flags = flags, .nr = QUEUE_ROWS };
    siginfo_t si[QUEUE_ROWS];
    uint32_t n = 0;
    long got;

    while ((got = ptrace(PTRACE_PEEKSIGINFO, f->pid, &a, si)) > 0) {
        for (long i = 0; i < got; i++) {
            /* Its own timers go on there, and ring there. */
            if ((si[i].si_signo == SIGALRM && si[i].si_code == SI_KERNEL && !f->alarmed) ||
                si[i].si_code == SI_TIMER)
                continue;
            n++;
            mp_array(rows, 2);
            mp_int(rows, si[i].si_signo);
            if (si[i].si_code == SI_QUEUE)
                mp_int(rows, (int64_t)(intptr_t)si[i].si_value.sival_ptr);
            else
                mp_nil(rows);
        }
        a.off += (uint64_t)got;
    }
    return n;
}

uint32_t frozen_signals(struct frozen *f, mp_buf *rows)
{
    if (halt(f, NULL) < 0)
        return 0;
    uint32_t n = queue(f, PTRACE_PEEKSIGINFO_SHARED, rows) + queue(f, 0, rows);

    if (f->was_stopped) {
        n++;
        mp_array(rows, 2);
        mp_int(rows, SIGSTOP);
        mp_nil(rows);
    }
    if (f->was_trapped) {
        n++;
        mp_array(rows, 2);
        mp_int(rows, SIGTRAP);
        mp_nil(rows);
    }
    return n;
}

void frozen_end(struct frozen *f)
{
    int status;

    syscall(SYS_pidfd_send_signal, f->pidfd, SIGKILL, NULL, 0);
    while (f->held && waitpid(f->pid, &status, __WALL) == f->pid && WIFSTOPPED(status))
        ptrace(PTRACE_CONT, f->pid, 0, 0);
    f->held = f->was_stopped = f->was_trapped = false;
    let_go(f);
}

static size_t put_texts(char *b, size_t at, char *const *v, uint64_t base, uint64_t *to)
{
    size_t i = 0;

    for (; v[i]; i++) {
        size_t n = strlen(v[i]) + 1;
        to[i] = base + at;
        memcpy(b + at, v[i], n);
        at += n;
    }
    to[i] = 0;
    return at;
}

static size_t texts_bytes(char *const *v)
{
    size_t n = sizeof(uint64_t);

    for (; *v; v++)
        n += strlen(*v) + 1 + sizeof(uint64_t);
    return n;
}

int frozen_exec(struct frozen *f, const char *path, char *const *argv, char *const *envp,
                struct err *err)
{
    size_t bytes = texts_bytes(argv) + texts_bytes(envp) + strlen(path) + 1 + 16, at;
    CLEANUP(cleanup_free) char *b = calloc(1, bytes);
    CLEANUP(cleanup_free) uint64_t *v = calloc(bytes, 1);
    size_t na = 0, ne = 0;
    int64_t out;

    if (!b || !v)
        return err_set(err, ENOMEM, "out of memory");
    while (argv[na])
        na++;
    while (envp[ne])
        ne++;
    if (calls_begin(f, err) < 0 || room_make(f, 2 * bytes + IMAGE_PAGE, err) < 0)
        return -1;
    uint64_t texts = f->room + (na + ne + 2) * sizeof *v;
    memcpy(b, path, strlen(path) + 1);
    at = strlen(path) + 1;
    at = put_texts(b, at, argv, texts, v);
    at = put_texts(b, at, envp, texts, v + na + 1);
    if (room_put(f, 0, v, (na + ne + 2) * sizeof *v, err) < 0 ||
        room_put(f, (na + ne + 2) * sizeof *v, b, at, err) < 0)
        return -1;
    uint64_t arg[6] = { texts, f->room, f->room + (na + 1) * sizeof *v };
    if (call_in(f, SYS_execve, arg, &out, err) < 0)
        return -1;
    if (out < 0)
        return err_set(err, (int)-out, "%s: %s", path, strerror((int)-out));
    let_go(f);
    return 0;
}
