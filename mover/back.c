/* back.c - how a process comes back to itself, should its mover die in the middle of a call
 *
 * When a tracer dies, the kernel lets the process go on from where its registers are. So
 * while these are ours they are those of a way back: a call is made by an instruction that
 * is followed by a return, which takes from a frame of ours the address of code that calls
 * rt_sigreturn(2); and that takes all the rest from the frame, registers, mask and the
 * processor's state. Both pieces of code are in every C library: getpid(2), and where
 * handlers of signals return to. On the way it undoes what would be left of ours in it: each
 * such call has a frame, which returns to the next. They lie below its stack; where we do not
 * know how far that goes down, in memory that it was made to map, which then stays.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include "mover/mover.h"

#define NOTE_XSTATE 0x202
#define CODE_MAX (64u * 1024 * 1024) /* of a mapping that is looked through */
#define RED_ZONE 128
#define CALL_BYTES 2 /* of the instruction */
#define NO_STACK 0x40 /* a flag that sigaltstack(2) refuses: it stays as it is */

/* The kernel's words in rax for a call that was interrupted. */
enum { RESTART_SYS = 512, RESTART_NOINTR = 513, RESTART_NOHAND = 514, RESTART_BLOCK = 516 };

struct frame { /* what rt_sigreturn takes, with the address that is returned to */
    uint64_t back;
    uint64_t flags, link;
    uint64_t ss_sp;
    uint32_t ss_flags, pad;
    uint64_t ss_size;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp, ip, fl;
    uint16_t cs, gs, fs, ss;
    uint64_t err, trap, oldmask, cr2, fpstate, reserved[8];
    uint64_t mask;
    unsigned char info[128];
};
#define FRAMES 3
#define STATE_AT ((FRAMES * sizeof(struct frame) + 63) & ~63ul) /* of the processor's, for all */

_Static_assert(STATE_AT + XSTATE_ROOM + sizeof(uint32_t) <= FRAME_BYTES, "frames have their room");

static const unsigned char getpid_code[] = { 0xb8, 0x27, 0, 0, 0, 0x0f, 0x05, 0xc3 };
static const unsigned char return_glibc[] = { 0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05 };
static const unsigned char return_other[] = { 0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05 };

static uint64_t find(const unsigned char *b, size_t n, const unsigned char *what, size_t len,
                     uint64_t start)
{
    const unsigned char *p = memmem(b, n, what, len);

    return p ? start + (uint64_t)(p - b) : 0;
}

static void look_through(struct frozen *f, uint64_t start, uint64_t end)
{
    CLEANUP(cleanup_free) unsigned char *b = end - start > CODE_MAX ? NULL : malloc(end - start);
    ssize_t got = b ? pread(f->mem, b, end - start, (off_t)start) : -1;
    size_t n = got > 0 ? (size_t)got : 0;
    uint64_t at = n && !f->call_at ? find(b, n, getpid_code, sizeof getpid_code, start) : 0;

    if (at)
        f->call_at = at + sizeof getpid_code - 1 - CALL_BYTES;
    if (n && !f->back_at)
        f->back_at = find(b, n, return_glibc, sizeof return_glibc, start);
    if (n && !f->back_at)
        f->back_at = find(b, n, return_other, sizeof return_other, start);
}

/* A processor that watches where returns go to does not take such a one. */
static bool returns_are_watched(pid_t pid)
{
    CLEANUP(cleanup_free) char *s = proc_text(pid, "status", NULL);
    const char *line = s ? strstr(s, "\nx86_Thread_features:") : NULL, *end;

    if (!line || !(end = strchr(line + 1, '\n')))
        return false;
    const char *p = strstr(line, "shstk");
    return p && p < end;
}

void back_find(struct frozen *f)
{
    CLEANUP(cleanup_free) char *maps = proc_text(f->pid, "maps", NULL);
    unsigned long start, end, inode;
    char rights[8], *rest;

    f->call_at = f->back_at = 0;
    for (char *line = maps ? strtok_r(maps, "\n", &rest) : NULL;
         line && !(f->call_at && f->back_at); line = strtok_r(NULL, "\n", &rest))
        if (sscanf(line, "%lx-%lx %7s %*s %*s %lu", &start, &end, rights, &inode) == 4 && inode &&
            rights[0] == 'r' && rights[2] == 'x')
            look_through(f, start, end);
    if (!f->call_at || !f->back_at || returns_are_watched(f->pid))
        f->call_at = f->back_at = 0;
}

bool back_runs(const struct frozen *f, uint64_t rip)
{
    return f->back_at && ((rip >= f->back_at && rip <= f->back_at + sizeof return_glibc) ||
                          rip == f->call_at || rip == f->call_at + CALL_BYTES);
}

uint64_t back_gap(const struct frozen *f, uint64_t bytes)
{
    CLEANUP(cleanup_free) char *maps = proc_text(f->pid, "maps", NULL);
    unsigned long start, end, before = 0, widest = 0, at = 0;
    char *rest;

    for (char *line = maps ? strtok_r(maps, "\n", &rest) : NULL; line;
         line = strtok_r(NULL, "\n", &rest)) {
        if (sscanf(line, "%lx-%lx", &start, &end) != 2)
            break;
        if (before && start > before && start - before > widest && start < 1ul << 47) {
            widest = start - before;
            at = before + widest / 2;
        }
        before = end;
    }
    return widest > 4 * bytes ? at & ~(IMAGE_PAGE - 1ul) : 0;
}

uint64_t back_below_stack(const struct frozen *f)
{
    CLEANUP(cleanup_free) char *maps = proc_text(f->pid, "maps", NULL);
    uint64_t at = (f->regs.rsp - RED_ZONE - BACK_BYTES) & ~63ull;
    unsigned long start, end;
    char rights[8], *rest;

    for (char *line = maps ? strtok_r(maps, "\n", &rest) : NULL; line;
         line = strtok_r(NULL, "\n", &rest))
        if (sscanf(line, "%lx-%lx %7s", &start, &end, rights) == 3 && f->regs.rsp > start &&
            f->regs.rsp <= end) /* of another stack we do not know how far down it goes */
            return strstr(line, "[stack]") && at > start && at < f->regs.rsp ? at : 0;
    return 0;
}

/* A system call that was interrupted is made anew, as it would be after any stop. */
void back_registers(const struct frozen *f, struct user_regs_struct *r)
{
    *r = f->regs;
    if ((int64_t)r->orig_rax < 0)
        return;
    switch (-(int64_t)r->rax) {
    case RESTART_BLOCK: /* begun anew: a sleep with what glibc has left of it */
        if (r->orig_rax == SYS_restart_syscall) {
            r->rax = (uint64_t)-EINTR;
            break;
        }
        /* fall through */
    case RESTART_SYS:
    case RESTART_NOINTR:
    case RESTART_NOHAND:
        r->rax = r->orig_rax;
        r->rip -= CALL_BYTES;
        break;
    default: break;
    }
}

/* The kernel's marks around the processor's state. */
static void put_state(unsigned char *to, const struct xstate *x)
{
    uint32_t n = (uint32_t)x->len, begin = 0x46505853, whole = n + 4, end = 0x46505845;
    uint64_t has;

    memcpy(to, x->data, x->len);
    memcpy(&has, to + 464, sizeof has); /* XCR0, there */
    memcpy(to + 464, &begin, 4);
    memcpy(to + 468, &whole, 4);
    memcpy(to + 472, &has, 8);
    memcpy(to + 480, &n, 4);
    memcpy(to + n, &end, 4);
}

static struct frame frame_of(const struct frozen *f, const struct user_regs_struct *r,
                             uint64_t mask)
{
    return (struct frame){ .back = f->back_at, .flags = 7, .ss_flags = NO_STACK, .mask = mask,
                           .r8 = r->r8, .r9 = r->r9, .r10 = r->r10, .r11 = r->r11,
                           .r12 = r->r12, .r13 = r->r13, .r14 = r->r14, .r15 = r->r15,
                           .di = r->rdi, .si = r->rsi, .bp = r->rbp, .bx = r->rbx, .dx = r->rdx,
                           .ax = r->rax, .cx = r->rcx, .sp = r->rsp, .ip = r->rip,
                           .fl = r->eflags, .cs = (uint16_t)r->cs, .ss = (uint16_t)r->ss,
                           .fpstate = f->frame + STATE_AT };
}

/* One that makes this call, and returns to the frame behind it. */
static void put_call(const struct frozen *f, struct frame *s, size_t *n, uint64_t nr, uint64_t a,
                     uint64_t b)
{
    struct user_regs_struct r = f->regs;

    r.rip = f->call_at;
    r.rax = nr;
    r.rdi = a;
    r.rsi = b;
    r.rsp = f->frame + (*n + 1) * sizeof *s;
    s[(*n)++] = frame_of(f, &r, ~0ull);
}

int back_write(struct frozen *f, const struct user_regs_struct *r, uint64_t mask)
{
    CLEANUP(cleanup_free) unsigned char *b = calloc(1, FRAME_BYTES);
    CLEANUP(cleanup_free) struct xstate *x = malloc(sizeof *x);
    struct frame s[FRAMES] = { 0 };
    size_t n = 0;

    if (!b || !x || back_state(f, x) < 0)
        return -1;
    if (f->undo_fd >= 0)
        put_call(f, s, &n, SYS_close, (uint64_t)f->undo_fd, 0);
    if (f->room && !f->parked && (f->frame < f->room - BACK_BYTES || f->frame > f->room))
        put_call(f, s, &n, SYS_munmap, f->room - BACK_BYTES, BACK_BYTES + f->room_bytes);
    s[n] = frame_of(f, r, mask);
    memcpy(b, s, sizeof s);
    put_state(b + STATE_AT, x);
    return pwrite(f->mem, b, FRAME_BYTES, (off_t)f->frame) == FRAME_BYTES ? 0 : -1;
}

int back_state(const struct frozen *f, struct xstate *x)
{
    struct iovec v = { x->data, sizeof x->data };

    if (ptrace(PTRACE_GETREGSET, f->pid, NOTE_XSTATE, &v) < 0)
        return -1;
    x->len = v.iov_len;
    return 0;
}
