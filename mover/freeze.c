/* freeze.c - a process stopped from outside, and system calls in its name
 *
 * While its registers and its mask are ours (calls_begin, calls_end) they are such that
 * it comes back to itself if it is let go: should we die, at whatever moment, it goes on
 * (back.c). What is sent to it meanwhile waits in the kernel's queue, for itself or for
 * who it is elsewhere.
 *
 * Once it may run elsewhere it is parked: between the rows of calls its registers are
 * those of one that waits for ever, and that is what it comes back to. Should we die then,
 * it does that, until another of us has found out where it is to go on (frozen_again).
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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "bus/loop.h"
#include "mover/mover.h"

#define STOP_MS 5000
#define TRIES_MAX 500 /* to find it outside the kernel's page of code */
#define NAP_NS 5000
#define CONNECT_MS 10000
#define QUEUE_ROWS 32
#define NO_CALL UINT64_MAX
#define CALL_STOP (SIGTRAP | 0x80)

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
    back_find(f);
    CLEANUP(cleanup_free) unsigned char *b = f->call_at ? NULL : malloc(end - start);
    ssize_t n = b ? pread(f->mem, b, end - start, (off_t)start) : -1;

    for (ssize_t i = 0; i + 1 < n && !f->call_at; i++)
        if (b[i] == 0x0f && b[i + 1] == 0x05)
            f->call_at = start + (uint64_t)i;
    return f->call_at ? 0
                      : err_set(err, ENOSYS, "this kernel's page of code (vdso) cannot be used");
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
        int sig = *status >> 16 || WSTOPSIG(*status) == CALL_STOP ? 0 : WSTOPSIG(*status);
        if (ours && sig == SIGSTOP)
            f->was_stopped = true;
        if (ptrace(PTRACE_CONT, f->pid, 0, ours ? 0 : sig) < 0)
            return died(f, err);
    }
}

static int interrupt(struct frozen *f, struct err *err)
{
    int status;

    if (ptrace(PTRACE_INTERRUPT, f->pid, 0, 0) < 0)
        return died(f, err);
    if (interrupted(f, false, &status, err) < 0)
        return -1;
    if (WSTOPSIG(status) != SIGTRAP)
        return err_set(err, EBUSY, "process %d is stopped: continue it first", (int)f->pid);
    return ptrace(PTRACE_GETREGS, f->pid, 0, &f->regs) < 0 ||
                   ptrace(PTRACE_GETSIGMASK, f->pid, sizeof f->mask, &f->mask) < 0
               ? died(f, err)
               : 0;
}

static int stop(struct frozen *f, struct err *err)
{
    /* The end of a call is told with bit 7 set: that is no signal, and comes to nothing if
     * we die there. */
    if (ptrace(PTRACE_SEIZE, f->pid, 0, PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD) < 0)
        return err_set(err, errno, "process %d cannot be stopped: %s", (int)f->pid,
                       strerror(errno));
    f->held = true;
    return interrupt(f, err);
}

/* All is blocked but what the kernel takes out. */
static bool is_parked(const struct frozen *f)
{
    uint64_t never = 1ull << (SIGKILL - 1) | 1ull << (SIGSTOP - 1);

    return (f->mask | never) == ~0ull &&
           (f->regs.rip == f->call_at || f->regs.rip == f->call_at + 2) &&
           (f->regs.orig_rax == SYS_pause || f->regs.rax == SYS_pause);
}

/* Not in the middle of what the kernel's page reads of this machine's clock, nor on the way
 * back from where another mover has died: it runs on for a moment. A step would tell its end
 * by a signal, of which it would die with us. */
static int step_out(struct frozen *f, uint64_t start, uint64_t end, struct err *err)
{
    for (int i = 0; i < TRIES_MAX; i++) {
        bool reads = f->regs.rip >= start && f->regs.rip < end;
        if (is_parked(f) || !(reads || back_runs(f, f->regs.rip)))
            return 0;
        if (ptrace(PTRACE_CONT, f->pid, 0, 0) < 0)
            return died(f, err);
        nanosleep(&(struct timespec){ .tv_nsec = NAP_NS * (1 + i % 16) }, NULL);
        if (interrupt(f, err) < 0)
            return -1;
    }
    return err_set(err, EAGAIN, "process %d does nothing but look at the clock", (int)f->pid);
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

    *f = (struct frozen){ .pid = pid, .pidfd = -1, .mem = -1, .undo_fd = -1 };
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
    if (f->regs.cs != 0x33)
        return err_set(err, ENOSYS, "process %d runs 32-bit code", (int)pid);
    f->alarmed = waits(pid, SIGALRM);
    if (find_vdso(f, &start, &end) < 0)
        return err_set(err, ENOSYS, "process %d has no page of the kernel's (vdso)", (int)pid);
    return find_call(f, start, end, err) < 0 ? -1 : step_out(f, start, end, err);
}

static void waits_for_ever(const struct frozen *f, struct user_regs_struct *r)
{
    *r = f->regs;
    r->rip = f->call_at;
    r->rax = SYS_pause;
    r->orig_rax = NO_CALL;
}

/* Parked it does wait, and is stopped for each row of calls; behind a call it stands where
 * no signal can be looked for, nor a call be made anew. */
static int halt(struct frozen *f, struct err *err)
{
    int status;

    if ((!f->runs && !f->behind) || !f->held)
        return 0;
    if (ptrace(PTRACE_INTERRUPT, f->pid, 0, 0) < 0 ||
        (f->behind && ptrace(PTRACE_CONT, f->pid, 0, 0) < 0))
        return died(f, err);
    f->runs = f->behind = false;
    return interrupted(f, true, &status, err);
}

/* What it is while we do nothing with it. */
static void itself(const struct frozen *f, struct user_regs_struct *r, uint64_t *mask)
{
    if (f->parked)
        waits_for_ever(f, r);
    else
        *r = f->regs;
    *mask = f->parked ? ~0ull : f->mask;
}

/* Let go from here, it is itself. */
static int way_back(struct frozen *f)
{
    struct user_regs_struct r = f->regs;

    if (!f->frame)
        return 0;
    r.rip = f->back_at;
    r.rsp = f->frame + sizeof f->frame; /* as the return leaves it */
    r.orig_rax = NO_CALL;
    return ptrace(PTRACE_SETREGS, f->pid, 0, &r) == 0 ? 0 : -1;
}

/* Anew whenever it would have to undo something else. */
static int prepare_back(struct frozen *f)
{
    struct user_regs_struct r;
    uint64_t mask;

    f->frame = f->back_at ? back_below_stack(f) : 0;
    if (f->back_at && !f->frame && f->mapped)
        f->frame = f->room - BACK_BYTES;
    f->other = !f->other; /* the one in use must stay as it is until then */
    f->frame += f->frame && f->other ? FRAME_BYTES : 0;
    itself(f, &r, &mask);
    if (!f->parked)
        back_registers(f, &r);
    if (f->frame && back_write(f, &r, mask) < 0)
        f->frame = 0;
    return way_back(f);
}

/* Behind a row of calls. Parked it runs into its wait. */
static int rest(struct frozen *f)
{
    struct user_regs_struct r;
    uint64_t mask;

    if (halt(f, NULL) < 0)
        return -1;
    itself(f, &r, &mask);
    if (!(f->parked && f->frame) && /* it goes back by itself */
        (ptrace(PTRACE_SETSIGMASK, f->pid, sizeof mask, &mask) < 0 ||
         ptrace(PTRACE_SETREGS, f->pid, 0, &r) < 0))
        return -1;
    if (f->parked && ptrace(PTRACE_CONT, f->pid, 0, 0) < 0)
        return -1;
    f->runs = f->parked;
    return 0;
}

int frozen_park(struct frozen *f, struct err *err)
{
    f->parked = true;
    return f->held && prepare_back(f) == 0 && rest(f) == 0 ? 0 : died(f, err);
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
        ptrace(PTRACE_DETACH, f->pid, 0, 0);
    f->held = false;
    if (f->was_stopped)
        syscall(SYS_pidfd_send_signal, f->pidfd, SIGSTOP, NULL, 0);
    cleanup_close(&f->mem);
    cleanup_close(&f->pidfd);
}

int frozen_again(struct frozen *f, pid_t pid, const msgpack_object *note, struct err *err)
{
    uint64_t start = 0, end = 0;
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
    if (step_out(f, start, end, err) < 0)
        return -1;
    f->parked = is_parked(f);
    if (!f->parked) /* it runs, and has never stood still for long */
        return calls_begin(f, err) < 0 || room_make(f, IMAGE_PAGE, err) < 0 ||
                       calls_end(f, err) < 0
                   ? -1
                   : 0;
    if (mp_get_bytes(note, "regs", &regs, &len, err) < 0 || len != sizeof f->regs ||
        mp_get_uint(note, "mask", &f->mask, err) < 0 ||
        mp_get_uint(note, "room", &f->room, err) < 0 ||
        mp_get_uint(note, "room_bytes", &f->room_bytes, err) < 0)
        return err_set(err, EPROTO, "process %d: what was noted of it makes no sense", (int)pid);
    memcpy(&f->regs, regs, sizeof f->regs);
    f->mapped = f->room != 0;
    return 0;
}

void thaw(struct frozen *f)
{
    uint64_t arg[6] = { f->room - BACK_BYTES, BACK_BYTES + f->room_bytes };
    int64_t out;

    halt(f, NULL);
    f->borrowed |= f->parked;
    f->parked = false;
    f->mapped = false; /* the way back is elsewhere */
    if (f->held && f->room && calls_begin(f, NULL) == 0 &&
        call_in(f, SYS_munmap, arg, &out, NULL) == 0)
        f->room = 0;
    if (f->held && f->borrowed)
        rest(f);
    let_go(f);
}

int calls_begin(struct frozen *f, struct err *err)
{
    uint64_t all = ~0ull;

    if (halt(f, err) < 0)
        return -1;
    f->borrowed = true;
    return f->held && prepare_back(f) == 0 &&
                   ptrace(PTRACE_SETSIGMASK, f->pid, sizeof all, &all) == 0
               ? 0
               : died(f, err);
}

/* With a way back it is left on that: our room in it goes with us. */
int calls_end(struct frozen *f, struct err *err)
{
    if (f->held && f->frame && !f->parked)
        return 0;
    f->borrowed = false;
    return f->held && rest(f) == 0 ? 0 : died(f, err);
}

/* Until it has executed something, or stands behind the call. */
static int make_call(struct frozen *f, int *status, struct err *err)
{
    bool begun = false;

    for (;;) {
        if (ptrace(PTRACE_SYSCALL, f->pid, 0, 0) < 0 || wait_stop(f, -1, status, err) < 0)
            return died(f, err);
        if (*status >> 16 == PTRACE_EVENT_EXEC)
            return 0;
        if (*status >> 16 == 0 && WSTOPSIG(*status) == CALL_STOP && begun)
            return 0;
        if (*status >> 16 == 0 && WSTOPSIG(*status) == CALL_STOP)
            begun = true;
        else if (*status >> 16 == 0 && WSTOPSIG(*status) == SIGSTOP) /* nobody can block it */
            f->was_stopped = true;
    }
}

int call_in(struct frozen *f, long nr, const uint64_t arg[6], int64_t *out, struct err *err)
{
    struct user_regs_struct r = f->regs;
    uint64_t mask;
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
    if (f->frame)
        r.rsp = f->frame;
    if (!f->held || ptrace(PTRACE_SETREGS, f->pid, 0, &r) < 0)
        return died(f, err);
    if (make_call(f, &status, err) < 0)
        return -1;
    *out = 0;
    if (status >> 16 == PTRACE_EVENT_EXEC)
        return 0;
    f->behind = true;
    if (ptrace(PTRACE_GETREGS, f->pid, 0, &r) < 0)
        return died(f, err);
    *out = (int64_t)r.rax;
    if (f->frame)
        return way_back(f) == 0 ? 0 : died(f, err);
    itself(f, &r, &mask);
    return ptrace(PTRACE_SETREGS, f->pid, 0, &r) == 0 ? 0 : died(f, err);
}

/* Shared, so that the kernel joins it with nothing of its own. */
int room_make(struct frozen *f, uint64_t bytes, struct err *err)
{
    uint64_t whole = (bytes + BACK_BYTES + IMAGE_PAGE - 1) & ~(uint64_t)(IMAGE_PAGE - 1);
    uint64_t at = back_gap(f, whole);
    uint64_t arg[6] = { at, whole, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, UINT64_MAX, 0 };
    int64_t out;

    if (!at)
        return err_set(err, ENOMEM, "process %d: its memory has no gap", (int)f->pid);
    arg[3] |= MAP_FIXED_NOREPLACE;
    f->room = at + BACK_BYTES;
    f->room_bytes = whole - BACK_BYTES;
    f->mapped = false;
    if (prepare_back(f) < 0 || call_in(f, SYS_mmap, arg, &out, err) < 0)
        return -1;
    if (out != (int64_t)at) {
        f->room = 0;
        return err_set(err, out < 0 && out > -4096 ? (int)-out : ENOMEM, "process %d: no room: %s",
                       (int)f->pid, strerror(out < 0 && out > -4096 ? (int)-out : ENOMEM));
    }
    f->mapped = true;
    return prepare_back(f) == 0 ? 0 : died(f, err);
}

int room_put(struct frozen *f, uint64_t at, const void *p, size_t n, struct err *err)
{
    return pwrite(f->mem, p, n, (off_t)(f->room + at)) == (ssize_t)n ? 0 : died(f, err);
}

int room_get(struct frozen *f, uint64_t at, void *p, size_t n, struct err *err)
{
    return pread(f->mem, p, n, (off_t)(f->room + at)) == (ssize_t)n ? 0 : died(f, err);
}

/* The number that its next descriptor will have. */
static int free_fd(const struct frozen *f)
{
    char path[64];
    struct stat st;
    int fd = -1;

    do
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)f->pid, ++fd);
    while (lstat(path, &st) == 0);
    return fd;
}

static int connect_once(struct frozen *f, const struct sockaddr_un *a, int *fd, struct err *err)
{
    uint64_t socket_arg[6] = { AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK };
    int64_t sock, out = -EIO, closed;

    *fd = -1;
    f->undo_fd = free_fd(f);
    if (calls_begin(f, err) < 0 || room_put(f, 0, a, sizeof *a, err) < 0 ||
        call_in(f, SYS_socket, socket_arg, &sock, err) < 0)
        return -1;
    if (sock >= 0 && sock != f->undo_fd) {
        f->undo_fd = (int)sock;
        if (prepare_back(f) < 0)
            return died(f, err);
    }
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
    f->undo_fd = -1;
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
    return n;
}

void frozen_end(struct frozen *f)
{
    int status;

    syscall(SYS_pidfd_send_signal, f->pidfd, SIGKILL, NULL, 0);
    while (f->held && waitpid(f->pid, &status, __WALL) == f->pid && WIFSTOPPED(status))
        ptrace(PTRACE_CONT, f->pid, 0, 0);
    f->held = f->was_stopped = false;
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
