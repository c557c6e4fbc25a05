/* collect.c - what an image needs that the kernel tells only the process itself
 *
 * And where it goes on: a system call that was interrupted is made anew, as it
 * would be after any stop.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "image/timers.h"
#include "mover/mover.h"

#define RSEQ_ASK 0x420f /* PTRACE_GET_RSEQ_CONFIGURATION */
#define ROOM_BYTES 8192

struct rseq_conf {
    uint64_t pointer;
    uint32_t size, signature, flags, pad;
};

static void go_on(const struct frozen *f, struct image_process *p)
{
    struct user_regs_struct r;

    back_registers(f, &r);
    memcpy(p->regs, &r, sizeof r);
    p->fs_base = r.fs_base;
    p->gs_base = r.gs_base;
}

/* In the middle of a sequence that must not be interrupted: it begins again. */
static void rseq(const struct frozen *f, struct image_process *p)
{
    struct {
        uint32_t version, flags;
        uint64_t start, length, abort;
    } cs;
    struct user_regs_struct *r = (void *)p->regs;
    struct rseq_conf c = { 0 };
    uint64_t at = 0;

    if (ptrace(RSEQ_ASK, f->pid, sizeof c, &c) <= 0 || !c.pointer)
        return;
    p->rseq = c.pointer;
    p->rseq_len = c.size;
    p->rseq_sig = c.signature;
    if (pread(f->mem, &at, sizeof at, (off_t)(c.pointer + 8)) != sizeof at || !at ||
        pread(f->mem, &cs, sizeof cs, (off_t)at) != sizeof cs)
        return;
    if (r->rip - cs.start < cs.length)
        r->rip = cs.abort;
}

static int ask(struct frozen *f, long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
               void *to, size_t n, struct err *err)
{
    uint64_t arg[6] = { a, b, c, d };
    int64_t out;

    if (call_in(f, nr, arg, &out, err) < 0)
        return -1;
    if (out < 0 && out > -4096)
        return err_set(err, (int)-out, "process %d: what it holds cannot be asked (%ld): %s",
                       (int)f->pid, nr, strerror((int)-out));
    return room_get(f, 0, to, n, err);
}

static int handlers(struct frozen *f, struct image_process *p, struct err *err)
{
    CLEANUP(cleanup_free) char *s = proc_text(f->pid, "status", NULL);
    uint64_t set = s ? status_number(s, "SigIgn", 16, 0) | status_number(s, "SigCgt", 16, 0) : ~0ull;

    for (int i = 1; i <= 64; i++)
        if (set >> (i - 1) & 1 &&
            ask(f, SYS_rt_sigaction, (uint64_t)i, 0, f->room, 8, &p->sigaction[i - 1],
                sizeof p->sigaction[i - 1], err) < 0)
            return -1;
    return 0;
}

/* They are not stopped: if the mover is killed, all is as it was. What rings from now
 * on rings there, too, and is dropped here. */
static int posix_timers(struct frozen *f, struct image_process *p, struct err *err)
{
    CLEANUP(cleanup_free) char *text = proc_text(f->pid, "timers", NULL);
    const char *why = "it has too many POSIX timers";
    int n = text ? image_timers(text, p->timer, &why) : 0;

    if (n < 0 || n > (int)IMAGE_TIMERS)
        return err_set(err, EBUSY, "process %d: %s", (int)f->pid, why);
    p->timers = (uint32_t)n;
    for (int i = 0; i < n; i++) {
        struct image_timer *t = &p->timer[i];
        if (ask(f, SYS_timer_gettime, (uint64_t)t->id, f->room, 0, 0, t->interval,
                sizeof t->interval + sizeof t->left, err) < 0)
            return -1;
        if (frozen_rang(f, t->id)) {
            t->left[0] = 0;
            t->left[1] = 1;
        }
    }
    return 0;
}

static int inside(struct frozen *f, struct image_process *p, struct err *err)
{
    uint64_t brk[6] = { 0 };
    int64_t out;
    struct {
        uint64_t sp;
        int32_t flags, pad;
        uint64_t size;
    } alt;

    if (ask(f, SYS_prctl, PR_GET_TID_ADDRESS, f->room, 0, 0, &p->tid_address, 8, err) < 0 ||
        ask(f, SYS_sigaltstack, 0, f->room, 0, 0, &alt, sizeof alt, err) < 0 ||
        handlers(f, p, err) < 0)
        return -1;
    p->alt_sp = alt.sp;
    p->alt_flags = (uint32_t)alt.flags;
    p->alt_size = alt.size;
    if (alt.flags & SS_DISABLE)
        p->alt_sp = p->alt_size = 0;
    for (int i = 0; i < 3; i++)
        if (ask(f, SYS_getitimer, (uint64_t)i, f->room, 0, 0, p->itimer[i],
                sizeof p->itimer[i], err) < 0)
            return -1;
    if (posix_timers(f, p, err) < 0 || call_in(f, SYS_brk, brk, &out, err) < 0)
        return -1;
    p->mm[5] = (uint64_t)out;
    return 0;
}

static int outside(struct frozen *f, struct image_writer *w, struct xstate *x, struct err *err)
{
    struct image_process *p = &w->s->process;
    char path[64];
    struct stat st;

    if (back_state(f, x) < 0)
        return err_set(err, errno, "process %d: its registers cannot be read: %s", (int)f->pid,
                       strerror(errno));
    p->pid = (uint32_t)f->pid;
    p->flags |= IMAGE_FULL;
    p->mask = f->mask;
    syscall(SYS_get_robust_list, f->pid, &p->robust, &p->robust_len);
    go_on(f, p);
    rseq(f, p);
    /* Then its folder in /proc is root's. */
    snprintf(path, sizeof path, "/proc/%d", (int)f->pid);
    CLEANUP(cleanup_free) char *s = proc_text(f->pid, "status", NULL);
    if (s && status_number(s, "Uid", 10, 0) && stat(path, &st) == 0 && st.st_uid == 0)
        p->flags |= IMAGE_UNDUMPABLE;
    return 0;
}

int collect(struct frozen *f, struct image_writer *w, struct xstate *x, struct err *err)
{
    char path[64];

    w->mem = w->pagemap = w->proc = -1;
    w->text_room = 16u * 1024 * 1024;
    if (!image_scratch_map(w))
        return err_set(err, errno, "out of memory");
    if (calls_begin(f, err) < 0 || room_make(f, ROOM_BYTES, err) < 0)
        return -1;
    w->skip = (struct image_span){ f->room - BACK_BYTES, f->room + f->room_bytes };
    snprintf(path, sizeof path, "/proc/%d", (int)f->pid);
    if (image_open(w, path) < 0 || image_describe(w) < 0)
        return err_set(err, w->code, "process %d: %s: %s", (int)f->pid, w->what, w->why);
    int rc = inside(f, &w->s->process, err);
    if (calls_end(f, f->held ? err : NULL) < 0 || rc < 0)
        return -1;
    return outside(f, w, x, err);
}
