/* save.c - this process, written as an image by itself */
#include "clients/libbproc/save.h"
#include <asm/prctl.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "clients/libbproc/lib.h"
#include "image/timers.h"

#define TEXT_ROOM (4u * 1024 * 1024) /* of maps; touched as far as needed */
#define NEAR (1024 * 1024) /* what may change while we write lies this near */
#define OTHERS_MAX 64 /* signals of one number that wait */
#define RSEQ_LEN 32
#define RSEQ_SIGNATURE 0x53053053

#if !defined(__x86_64__)
#error "image_point: add the registers that a call keeps for this processor"
#endif

/* Notes where we are, and returns 0; in the copy it returns again. */
int image_point(uint64_t *regs) __attribute__((returns_twice, visibility("hidden")));
__asm__(".text\n.globl image_point\n.hidden image_point\n.type image_point, @function\n"
        "image_point:\n\t"
        "mov %rbx, 0(%rdi)\n\tmov %rbp, 8(%rdi)\n\tmov %r12, 16(%rdi)\n\t"
        "mov %r13, 24(%rdi)\n\tmov %r14, 32(%rdi)\n\tmov %r15, 40(%rdi)\n\t"
        "lea 8(%rsp), %rax\n\tmov %rax, 48(%rdi)\n\t"
        "mov (%rsp), %rax\n\tmov %rax, 56(%rdi)\n\t"
        "stmxcsr 64(%rdi)\n\tfnstcw 68(%rdi)\n\t"
        "xor %eax, %eax\n\tret\n"
        ".size image_point, . - image_point\n");

/* glibc 2.35 and later. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned __rseq_size __attribute__((weak));

bool save_threads(void)
{
    DIR *d = opendir("/proc/self/task");
    struct dirent *e;
    int n = 0;

    while (d && (e = readdir(d)))
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
    return n > 1;
}

static void signals(struct image_process *p)
{
    stack_t alt;

    for (int i = 1; i <= 64; i++)
        syscall(SYS_rt_sigaction, i, NULL, &p->sigaction[i - 1], 8);
    if (sigaltstack(NULL, &alt) == 0) {
        p->alt_sp = (uintptr_t)alt.ss_sp;
        p->alt_flags = (uint32_t)alt.ss_flags;
        p->alt_size = alt.ss_size;
    }
}

static void thread(struct image_process *p)
{
    uint64_t len = 0;

    syscall(SYS_arch_prctl, ARCH_GET_FS, &p->fs_base);
    syscall(SYS_arch_prctl, ARCH_GET_GS, &p->gs_base);
    prctl(PR_GET_TID_ADDRESS, &p->tid_address);
    syscall(SYS_get_robust_list, 0, &p->robust, &len);
    p->robust_len = len;
    if (&__rseq_size && __rseq_size) {
        p->rseq = p->fs_base + (uint64_t)__rseq_offset;
        p->rseq_len = RSEQ_LEN;
        p->rseq_sig = RSEQ_SIGNATURE;
    }
}

/* --- POSIX timers: by the kernel's names of them; libc has others for some --- */

/* Its signal, blocked as all are, has come: taken. To stop a timer that has rung takes
 * that back, in newer kernels. */
static bool take_ring(const struct image_timer *t)
{
    static const struct timespec now;
    siginfo_t other[OTHERS_MAX];
    size_t n = 0;
    bool rung = false;
    sigset_t it;

    if (t->notify == SIGEV_NONE)
        return false;
    sigemptyset(&it);
    sigaddset(&it, t->sig);
    while (!rung && n < OTHERS_MAX && sigtimedwait(&it, &other[n], &now) > 0)
        if (other[n].si_code == SI_TIMER && other[n].si_timerid == t->id)
            rung = true;
        else
            n++;
    for (size_t i = 0; i < n; i++) /* to oneself, as they were */
        syscall(SYS_rt_sigqueueinfo, getpid(), t->sig, &other[i]);
    return rung;
}

/* Stopped; one that has rung, and is not heard yet, rings as soon as it is set again. */
static void stop_timer(struct image_timer *t)
{
    static const struct itimerspec none;
    struct itimerspec before = { 0 }, now = { 0 };
    bool rung = take_ring(t);

    syscall(SYS_timer_gettime, t->id, &before);
    syscall(SYS_timer_settime, t->id, 0, &none, &now);
    memcpy(t->interval, &now, sizeof now);
    if (before.it_value.tv_sec + before.it_value.tv_nsec > 0 &&
        now.it_value.tv_sec + now.it_value.tv_nsec == 0) { /* in between */
        take_ring(t);
        rung = true;
    }
    if (rung) {
        t->left[0] = 0;
        t->left[1] = 1;
    }
}

static int stop_posix_timers(struct saving *v)
{
    struct image_writer *w = &v->w;
    char text[IMAGE_TIMERS_TEXT];
    const char *why = "it has too many POSIX timers";
    int fd = openat(w->proc, "timers", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof text - 1) : 0; /* whole in one read */

    if (fd >= 0)
        close(fd);
    text[got > 0 ? got : 0] = 0;
    int n = image_timers(text, v->posix, &why);
    if (n < 0 || n > (int)IMAGE_TIMERS)
        return image_fail(w, EINVAL, why, NULL);
    for (int i = 0; i < n; i++)
        stop_timer(&v->posix[i]);
    v->posix_timers = w->s->process.timers = (uint32_t)n;
    memcpy(w->s->process.timer, v->posix, sizeof v->posix);
    return 0;
}

static void timers(struct saving *v)
{
    static const struct itimerval none;

    for (int i = 0; i < 3 && v->timers; i++) {
        setitimer((__itimer_which_t)i, &none, &v->timer[i]);
        memcpy(v->w.s->process.itimer[i], &v->timer[i], sizeof v->timer[i]);
    }
}

int save_open(struct saving *v, bool stop_timers)
{
    struct image_writer *w = &v->w;

    w->self = true;
    w->text_room = TEXT_ROOM;
    w->mem = w->pagemap = w->proc = -1;
    if (!image_scratch_map(w))
        return -1;
    struct image_process *p = &w->s->process;
    p->pid = (uint32_t)getpid();
    if (prctl(PR_GET_DUMPABLE) == 0)
        p->flags |= IMAGE_UNDUMPABLE;
    if (image_open(w, "/proc/self") < 0 || image_describe(w) < 0 ||
        (stop_timers && stop_posix_timers(v) < 0)) {
        int code = w->code;
        save_close(v, true);
        return lib_errno(code);
    }
    signals(p);
    thread(p);
    v->timers = stop_timers;
    timers(v);
    return 0;
}

/* Of the caller's frame nothing may change from the point on that the copy
 * looks at: all of it is in *v, or in registers that were noted. */
__attribute__((noinline)) int save_write(struct saving *v, int out)
{
    struct image_writer *w = &v->w;
    char *volatile here = __builtin_frame_address(0);

    w->out = out;
    w->bytes = 0;
    /* From here on no mapping comes or goes. */
    w->s->process.mm[5] = (uintptr_t)sbrk(0);
    if (image_survey(w) < 0)
        return lib_errno(w->code);
    v->hole = w->s->process.hole;
    w->moving[0] = (struct image_span){ (uintptr_t)here - NEAR, (uintptr_t)here + NEAR };
    w->moving[1] = (struct image_span){ w->s->process.fs_base - NEAR,
                                        w->s->process.fs_base + NEAR };
    int copy = image_point(&w->s->process.rbx);
    if (copy) {
        munmap((void *)(uintptr_t)v->hole, IMAGE_HOLE);
        w->s = NULL; /* it is no part of the image */
        w->mem = w->pagemap = w->proc = -1;
        return copy;
    }
    if (image_begin(w) < 0 || image_memory(w) < 0 || image_end(w) < 0)
        return lib_errno(w->code);
    return 0;
}

void save_close(struct saving *v, bool stays)
{
    if (v->w.s) { /* it was opened; and we are no copy */
        image_close(&v->w);
        image_scratch_unmap(&v->w);
    }
    for (int i = 0; i < 3 && stays && v->timers; i++)
        setitimer((__itimer_which_t)i, &v->timer[i], NULL);
    for (uint32_t i = 0; i < v->posix_timers && stays && v->timers; i++)
        syscall(SYS_timer_settime, v->posix[i].id, 0, v->posix[i].interval, NULL);
    v->timers = false;
}
