/* execdump.c - a program saved as an image before its first instruction
 *
 * A child of ours executes it, traced: the kernel stops it when all is as the
 * program would find it. It is written from outside, and ends there.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>
#include "clients/libbproc/lib.h"
#include "image/write.h"

#define NOTE_XSTATE 0x202 /* NT_X86_XSTATE */
#define XSTATE_MAX 16384
#define TEXT_ROOM (1u << 20) /* of maps: a program that has not begun has few */

struct born {
    pid_t pid;
    struct image_writer w;
    struct dump_rule rule;
    unsigned char xstate[XSTATE_MAX];
    size_t xstate_len;
};

static void __attribute__((noreturn)) child(int report, const char *cmd, char *const *argv,
                                            char *const *envp)
{
    int code = 0;
    sigset_t trap;

    sigemptyset(&trap);
    sigaddset(&trap, SIGTRAP);
    sigprocmask(SIG_UNBLOCK, &trap, NULL); /* what stops it */
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 || execve(cmd, argv, envp) < 0)
        code = errno;
    if (write(report, &code, sizeof code) < 0)
        _exit(2);
    _exit(1);
}

/* No signal tells the caller of this child, and no wait() of its own finds it. */
static int start(struct born *b, const char *cmd, char *const *argv, char *const *envp)
{
    int p[2], code = 0, status;

    if (pipe2(p, O_CLOEXEC) < 0)
        return -1;
    b->pid = (pid_t)syscall(SYS_clone, 0, NULL, NULL, NULL, 0);
    if (b->pid == 0)
        child(p[1], cmd, argv, envp);
    int why = errno;
    close(p[1]);
    CLEANUP(cleanup_close) int in = p[0];
    if (b->pid < 0)
        return lib_errno(why);
    while (waitpid(b->pid, &status, __WALL) < 0 && errno == EINTR)
        continue;
    if (WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP)
        return 0;
    if (!WIFSTOPPED(status)) /* it has ended */
        b->pid = 0;
    return lib_errno(read(in, &code, sizeof code) == sizeof code && code ? code : EIO);
}

static void end(struct born *b)
{
    if (b->pid <= 0)
        return;
    kill(b->pid, SIGKILL);
    while (waitpid(b->pid, NULL, __WALL) < 0 && errno == EINTR)
        continue;
}

/* What exec leaves as it was, and would be another thing in the child. */
static void inherited(struct image_process *p, const sigset_t *mask)
{
    struct itimerval t;

    memcpy(&p->mask, mask, sizeof p->mask);
    for (int i = 1; i <= 64; i++) {
        struct image_sigaction *a = &p->sigaction[i - 1];
        if (syscall(SYS_rt_sigaction, i, NULL, a, 8) < 0 || a->handler != (uintptr_t)SIG_IGN)
            memset(a, 0, sizeof *a);
    }
    for (int i = 0; i < 3; i++)
        if (getitimer((__itimer_which_t)i, &t) == 0)
            memcpy(p->itimer[i], &t, sizeof t);
}

static int describe(struct born *b, const sigset_t *mask)
{
    struct image_writer *w = &b->w;
    struct user_regs_struct regs;
    struct iovec v = { b->xstate, sizeof b->xstate };
    char path[32];

    w->mem = w->pagemap = w->proc = -1;
    w->text_room = TEXT_ROOM;
    if (!image_scratch_map(w))
        return -1;
    struct image_process *p = &w->s->process;
    if (ptrace(PTRACE_GETREGS, b->pid, NULL, &regs) < 0 ||
        ptrace(PTRACE_GETREGSET, b->pid, (void *)NOTE_XSTATE, &v) < 0)
        return -1;
    b->xstate_len = v.iov_len;
    snprintf(path, sizeof path, "/proc/%d", (int)b->pid);
    if (image_open(w, path) < 0 || image_describe(w) < 0)
        return lib_errno(w->code);
    p->pid = (uint32_t)b->pid;
    p->flags |= IMAGE_FULL | IMAGE_KEEPS_FILES;
    p->alt_flags = SS_DISABLE;
    p->mm[5] = p->mm[4]; /* its heap is empty */
    memcpy(p->regs, &regs, sizeof regs);
    inherited(p, mask);
    dump_rule_open(&b->rule, b->rule.flags);
    memcpy(b->rule.exe, p->exe, sizeof p->exe);
    dump_rule_libs(&b->rule);
    w->by_value = dump_by_value;
    w->arg = &b->rule;
    return 0;
}

static int save(struct born *b, int fd)
{
    struct image_writer *w = &b->w;

    w->out = fd;
    if (image_survey(w) < 0 || image_begin(w) < 0 || image_memory(w) < 0 ||
        image_put(w, IMAGE_XSTATE, b->xstate, b->xstate_len, NULL, 0) < 0 || image_end(w) < 0)
        return lib_errno(w->code);
    return 0;
}

int bproc_execdump(int fd, int flags, const char *cmd, char *const argv[], char *const envp[])
{
    sigset_t all, old;

    if (fcntl(fd, F_GETFL) < 0)
        return -1;
    if (flags & ~BPROC_DUMP_ALL)
        return lib_errno(EINVAL);
    if (!cmd || !argv || !envp)
        return lib_errno(EFAULT);
    if (!argv[0])
        return lib_errno(EINVAL);
    struct born *b = calloc(1, sizeof *b);
    if (!b)
        return lib_errno(ENOMEM);
    b->rule.flags = flags;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old); /* no other stop than that of exec */
    bool heard = child_heard();
    int rc = start(b, cmd, argv, envp);
    if (rc == 0)
        rc = describe(b, &old);
    if (rc == 0)
        rc = save(b, fd);
    int code = errno;
    end(b);
    if (rc == 0)
        _exit(0);
    dump_rule_close(&b->rule);
    if (b->w.s) {
        image_close(&b->w);
        image_scratch_unmap(&b->w);
    }
    free(b);
    child_unheard(heard); /* that it stood still is told to who traces it */
    sigprocmask(SIG_SETMASK, &old, NULL);
    return lib_errno(code);
}
