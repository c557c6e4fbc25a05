/* restore_go.c - what the memory does not say, and the jump
 *
 * What may fail is done before "ready" is said (settle), the rest after the
 * word to go: from then on it is the process that runs.
 */
#include "node/restore.h"

#define PR_SET_DUMPABLE 4
#define PR_SET_NAME 15
#define PR_SET_MM 35
#define PR_SET_MM_MAP 14
#define PR_SET_NO_NEW_PRIVS 38
#define ARCH_SET_GS 0x1001
#define ARCH_SET_FS 0x1002
#define SS_DISABLE 2
#define SIGKILL 9
#define SIGSTOP 19
#define SIGRT_LAST 64
#define SIGEV_THREAD_ID 4
#define PR_TIMER_CREATE_RESTORE_IDS 77
#define TIMER_TRIES 100000

static long timer_new(const struct image_timer *t, int32_t *id)
{
    struct { /* sigevent */
        uint64_t value;
        int32_t signo, notify, tid, pad[11];
    } ev = { t->value, t->sig, t->notify, 0, { 0 } };

    if (t->notify == SIGEV_THREAD_ID)
        ev.tid = (int32_t)sys0(NR_gettid);
    return sys3(NR_timer_create, t->clock, &ev, id);
}

/* Under the numbers that the process knows. Since Linux 6.15 one may ask for them; before
 * that they are given out one after another. Set they are when it goes on. */
static void make_timers(const struct image_process *p)
{
    int chosen = p->timers && sys5(NR_prctl, PR_TIMER_CREATE_RESTORE_IDS, 1, 0, 0, 0) == 0;

    if (p->timers > IMAGE_TIMERS)
        fail(EBADMSG, "the image makes no sense: too many timers", 0);
    for (uint32_t i = 0; i < p->timers; i++) {
        const struct image_timer *t = &p->timer[i];
        int32_t id = t->id;
        long rc = timer_new(t, &id);
        for (int tries = 0; rc == 0 && id != t->id && !chosen && tries < TIMER_TRIES; tries++) {
            sys1(NR_timer_delete, id);
            rc = timer_new(t, &id);
        }
        if (rc || id != t->id)
            fail(rc ? -rc : EEXIST, "a timer cannot be made (timer_create)", 0);
    }
    if (chosen)
        sys5(NR_prctl, PR_TIMER_CREATE_RESTORE_IDS, 0, 0, 0, 0);
}

static void set_mm(void)
{
    struct {
        uint64_t field[IMAGE_MM_FIELDS];
        uint64_t auxv;
        uint32_t auxv_bytes, exe;
    } mm;
    /* The exe link needs a right that not every node gives: fine without. */
    long exe = sys2(NR_open, rs.p.exe, 0);

    if (rs.p.auxv_bytes > sizeof rs.p.auxv)
        fail(EBADMSG, "the image makes no sense: auxv", 0);
    __builtin_memcpy(mm.field, rs.p.mm, sizeof mm.field);
    mm.auxv = (uint64_t)(unsigned long)rs.p.auxv;
    mm.auxv_bytes = rs.p.auxv_bytes;
    mm.exe = exe < 0 ? ~0u : (uint32_t)exe;
    long r = sys5(NR_prctl, PR_SET_MM, PR_SET_MM_MAP, &mm, sizeof mm, 0);
    if (r < 0 && exe >= 0) {
        mm.exe = ~0u;
        r = sys5(NR_prctl, PR_SET_MM, PR_SET_MM_MAP, &mm, sizeof mm, 0);
    }
    if (exe >= 0)
        sys1(NR_close, exe);
    if (r < 0)
        fail(-r, "the kernel does not take the memory's borders", 0);
}

static int ours(uint64_t at, uint64_t bytes)
{
    return at < rs.p.hole + IMAGE_HOLE && at + bytes > rs.p.hole;
}

void settle(void)
{
    const struct image_process *p = &rs.p;

    maps_done();
    files_settle();
    make_timers(p);
    if (ours(p->rseq, 64) || ours(p->tid_address, 4) || ours(p->alt_sp, p->alt_size))
        fail(EBADMSG, "the image makes no sense: it points into us", 0);
    if ((p->flags & IMAGE_FULL) &&
        (rs.xstate_bytes < 576 || rs.xstate_bytes > XSTATE_MAX - 64))
        fail(EBADMSG, "the image makes no sense: no registers", 0);
    set_mm();
    sys2(NR_prctl, PR_SET_NAME, p->comm);
    sys1(NR_umask, p->umask);
    if (sys1(NR_chdir, p->cwd) < 0)
        sys1(NR_chdir, "/");
    sys3(NR_setpriority, 0, 0, p->nice);
}

/* --- the jump --- */

struct frame { /* what rt_sigreturn takes */
    uint64_t flags, link;
    uint64_t ss_sp;
    uint32_t ss_flags, pad;
    uint64_t ss_size;
    uint64_t r8_to_r15[8], di, si, bp, bx, dx, ax, cx, sp, ip, fl;
    uint16_t cs, gs, fs, ss;
    uint64_t err, trap, oldmask, cr2, fpstate, reserved[8];
    uint64_t mask;
    unsigned char info[128];
};

static void __attribute__((noreturn)) go_full(void)
{
    static struct frame f __attribute__((aligned(64)));
    const uint64_t *u = rs.p.regs; /* r15 r14 r13 r12 bp bx r11 r10 r9 r8 ax cx dx si di
                                      orig ip cs fl sp ss fs_base gs_base ds es fs gs */
    uint32_t n = rs.xstate_bytes;
    uint32_t word[5];

    for (int i = 0; i < 4; i++) {
        f.r8_to_r15[i] = u[9 - i];
        f.r8_to_r15[4 + i] = u[3 - i];
    }
    f.flags = 7;
    f.di = u[14];
    f.si = u[13];
    f.bp = u[4];
    f.bx = u[5];
    f.dx = u[12];
    f.ax = u[10];
    f.cx = u[11];
    f.sp = u[19];
    f.ip = u[16];
    f.fl = u[18];
    f.cs = (uint16_t)u[17];
    f.ss = (uint16_t)u[20];
    f.mask = rs.p.mask;
    f.ss_sp = rs.p.alt_sp;
    f.ss_flags = rs.p.alt_flags & SS_DISABLE;
    f.ss_size = rs.p.alt_size;
    /* The kernel's marks around an extended state. */
    __builtin_memcpy(&word[3], later.xstate + 464, 8); /* xfeatures, from XCR0 there */
    word[0] = 0x46505853;
    word[1] = n + 4;
    __builtin_memcpy(later.xstate + 464, word, 8);
    __builtin_memcpy(later.xstate + 472, &word[3], 8);
    __builtin_memcpy(later.xstate + 480, &n, 4);
    word[0] = 0x46505845;
    __builtin_memcpy(later.xstate + n, word, 4);
    f.fpstate = (uint64_t)(unsigned long)later.xstate;
    __asm__ volatile("mov %0, %%rsp\n\tmov $15, %%eax\n\tsyscall\n\thlt"
                     : : "r"(&f) : "memory");
    __builtin_unreachable();
}

/* Back from image_point() in the process, with its number + 1. */
static void __attribute__((noreturn)) go_call(void)
{
    __asm__ volatile("ldmxcsr 64(%%rdx)\n\tfldcw 68(%%rdx)\n\t"
                     "mov 0(%%rdx), %%rbx\n\tmov 8(%%rdx), %%rbp\n\t"
                     "mov 16(%%rdx), %%r12\n\tmov 24(%%rdx), %%r13\n\t"
                     "mov 32(%%rdx), %%r14\n\tmov 40(%%rdx), %%r15\n\t"
                     "mov 48(%%rdx), %%rsp\n\tmov 56(%%rdx), %%rcx\n\t"
                     "jmp *%%rcx"
                     : : "d"(&rs.p.rbx), "a"(rs.rank + 1) : "memory");
    __builtin_unreachable();
}

static void set_signals(void)
{
    const struct image_process *p = &rs.p;
    struct {
        uint64_t sp;
        uint32_t flags, pad;
        uint64_t size;
    } alt = { p->alt_sp, 0, 0, p->alt_size };

    if (!(p->alt_flags & SS_DISABLE))
        sys2(NR_sigaltstack, &alt, 0);
    for (int i = 1; i <= SIGRT_LAST; i++)
        if (i != SIGKILL && i != SIGSTOP)
            sys4(NR_rt_sigaction, i, &p->sigaction[i - 1], 0, 8);
}

static void give_up_rights(const struct image_process *p)
{
    uint32_t head[2] = { 0x20080522, 0 }, none[6] = { 0 };

    if (sys0(NR_getuid) != 0 && sys2(NR_capset, head, none) < 0)
        fail(EIO, "rights cannot be given up", 0);
    if (p->flags & IMAGE_NO_NEW_PRIVS)
        sys5(NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    sys2(NR_prctl, PR_SET_DUMPABLE, p->flags & IMAGE_UNDUMPABLE ? 0 : 1);
}

/* Where a ghost has stood, procspace's bell may have rung for it: that is not for
 * the process. */
static void silence_bell(void)
{
    static const uint64_t now[2];
    uint64_t bell = 1ull << 63;
    struct {
        int signo, err, code, pad, pid;
        unsigned uid;
        uint64_t rest[13];
    } si;

    while (rs.back_bytes && sys4(NR_rt_sigtimedwait, &bell, &si, now, 8) > 0)
        continue;
}

void go(void)
{
    const struct image_process *p = &rs.p;

    silence_bell();
    sys1(NR_close, rs.image);
    if (rs.control >= 0)
        sys1(NR_close, rs.control);
    files_place();
    give_up_rights(p);
    sys2(NR_arch_prctl, ARCH_SET_FS, p->fs_base);
    if (p->gs_base)
        sys2(NR_arch_prctl, ARCH_SET_GS, p->gs_base);
    if (p->tid_address) {
        sys1(NR_set_tid_address, p->tid_address);
        *(volatile int *)p->tid_address = (int)sys0(NR_getpid);
    }
    if (p->robust)
        sys2(NR_set_robust_list, p->robust, p->robust_len);
    if (p->rseq) {
        volatile uint32_t *r = (volatile uint32_t *)p->rseq;
        r[0] = 0;
        r[1] = ~0u;
        r[2] = r[3] = 0;
        sys4(NR_rseq, p->rseq, p->rseq_len, 0, p->rseq_sig);
    }
    set_signals();
    for (int i = 0; i < 3; i++)
        if (p->itimer[i][2] || p->itimer[i][3])
            sys3(NR_setitimer, i, p->itimer[i], 0);
    for (uint32_t i = 0; i < p->timers; i++)
        if (p->timer[i].left[0] || p->timer[i].left[1])
            sys4(NR_timer_settime, p->timer[i].id, 0, p->timer[i].interval, 0);
    if (p->flags & IMAGE_FULL)
        go_full();
    go_call();
}
