/* bpinit_child.c - the last steps before a body's exec
 *
 * The child is a vfork by clone3 with the pid chosen: it runs in our memory,
 * on a stack of its own, while we wait. It has a copy of our descriptors (all
 * close-on-exec), its own credentials and signal handlers. Raw calls where
 * glibc would tell other threads, of which there are none.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <string.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "node/bpinit_begin.h"
#include "node/bpinit_kin.h"
#include "node/bpinit_spawn.h"
#include "node/clone3.h"

#define STACK_BYTES (64u * 1024)
#define RESTORE_FDS 200 /* above what a process's own descriptors are likely to be */

#ifndef CAP_CHECKPOINT_RESTORE
#define CAP_CHECKPOINT_RESTORE 40
#endif

static void failed(struct child *c, const char *what)
{
    c->code = errno ? errno : EIO;
    c->what = what;
    for (;;)
        syscall(SYS_exit_group, 127);
}

static void open_file(struct child *c, int fd)
{
    const char *path = c->plan->stream[fd].path;
    int flags = fd == 0 ? O_RDONLY : O_WRONLY | O_CREAT | O_TRUNC;
    /* Non-blocking so that a FIFO cannot hold up the whole node. */
    int f = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);

    if (f < 0 || fcntl(f, F_SETFL, fcntl(f, F_GETFL) & ~O_NONBLOCK) < 0 || dup2(f, fd) < 0)
        failed(c, path);
}

void plan_set_limits(const struct plan *p, pid_t pid)
{
    for (size_t i = 0; i < p->nlimits; i++) {
        struct rlimit want = p->limits[i].limit, have;
        __rlimit_resource_t resource = (__rlimit_resource_t)p->limits[i].resource;

        if (prlimit(pid, resource, &want, NULL) == 0 || prlimit(pid, resource, NULL, &have) < 0)
            continue;
        /* More than this node allows: as much as it does. */
        if (want.rlim_max > have.rlim_max)
            want.rlim_max = have.rlim_max;
        if (want.rlim_cur > want.rlim_max)
            want.rlim_cur = want.rlim_max;
        prlimit(pid, resource, &want, NULL);
    }
}

static char *number(char *to, int v)
{
    char digits[12];
    int n = 0;

    do
        digits[n++] = (char)('0' + v % 10);
    while (v /= 10);
    while (n)
        *to++ = digits[--n];
    return to;
}

/* The image's program in place of its own. As a user it keeps one right, to set
 * the link to its program, which it gives up before it goes on. */
static void restore(struct child *c, int image, int control)
{
    struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2];
    char text[64] = "CM_RESTORE=", *envp[] = { text, NULL };
    char *at = number(text + strlen(text), image);

    if (fcntl(image, F_SETFD, 0) < 0 || fcntl(control, F_SETFD, 0) < 0)
        failed(c, "descriptors of an image");
    *at++ = ':';
    *number(at, control) = 0;
    if (c->plan->uid != 0) {
        memset(data, 0, sizeof data);
        data[1].permitted = data[1].effective = data[1].inheritable =
            CAP_TO_MASK(CAP_CHECKPOINT_RESTORE);
        if (syscall(SYS_capset, &head, data) == 0)
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHECKPOINT_RESTORE, 0, 0);
    }
    syscall(SYS_execveat, c->restore, "", c->plan->argv, envp, AT_EMPTY_PATH);
    failed(c, "bprestore");
}

/* ---- stand-ins of children of a process that arrives ---- */

struct stand_start {
    const struct plan *plan;
    struct plan_child *child;
    int code;
};

/* As the user; its parent waits till then. It is a ghost like those that libbproc
 * makes: it says procspace.here to us. */
static void become_stand(void *arg)
{
    struct stand_start *s = arg;
    char launch[48] = "CM_LAUNCH=", comm[32] = "CM_COMM=";
    char *argv[] = { s->child->comm, NULL };
    char *envp[] = { (char *)"CM_GHOST=0:0:" KIN_GATE, launch, comm, NULL };
    char digits[24];
    size_t n = 0, at = strlen(launch);

    for (uint64_t v = s->plan->launch; v || !n; v /= 10)
        digits[n++] = (char)('0' + v % 10);
    while (n)
        launch[at++] = digits[--n];
    launch[at] = 0;
    strncat(comm, s->child->comm, sizeof comm - strlen(comm) - 1);
    if (s->child->leads)
        setpgid(0, 0);
    if (syscall(SYS_setgroups, s->plan->ngroups, s->plan->groups) == 0 &&
        syscall(SYS_setresgid, s->plan->gid, s->plan->gid, s->plan->gid) == 0 &&
        syscall(SYS_setresuid, s->plan->uid, s->plan->uid, s->plan->uid) == 0)
        execve(NODE_BPGHOST, argv, envp);
    s->code = errno ? errno : EIO;
    for (;;)
        syscall(SYS_exit_group, 127);
}

/* Still as root, so that they get the numbers that their parent knows. */
static void make_stands(struct child *c)
{
    static char stack[STACK_BYTES] __attribute__((aligned(16)));

    for (size_t i = 0; i < c->plan->nchildren; i++) {
        struct plan_child *k = &c->plan->children[i];
        struct stand_start s = { c->plan, k, 0 };
        struct clone_args args = {
            .flags = CLONE_VM | CLONE_VFORK | CLONE_CLEAR_SIGHAND, .exit_signal = SIGCHLD,
            .stack = (uintptr_t)stack, .stack_size = sizeof stack,
            .set_tid = (uintptr_t)&k->pid, .set_tid_size = 1,
        };
        long r = clone3_call(&args, become_stand, &s);
        if (r > 0)
            k->made = (pid_t)r;
        /* One of an earlier stay may be on its way out. */
        errno = r == -EEXIST ? EAGAIN : r < 0 ? (int)-r : s.code;
        if (errno)
            failed(c, "a stand-in of a child");
    }
}

/* Where none of what it is to have open will be: now, since it may not be allowed as many
 * when its limits are set. */
static int aside(struct child *c, int fd)
{
    int least = plan_io_beyond(c->plan);

    if (!c->plan->image && !c->hand)
        return -1;
    int other = fcntl(fd, F_DUPFD_CLOEXEC, least > RESTORE_FDS ? least : RESTORE_FDS);
    if (other < 0)
        failed(c, "descriptors of an image");
    return other;
}

static void run(void *arg)
{
    struct child *c = arg;
    const struct plan *p = c->plan;
    int image = aside(c, c->image), control = aside(c, c->control);
    sigset_t none;

    for (size_t i = 0; i < sizeof c->procs / sizeof *c->procs; i++)
        if (c->procs[i] >= 0 && write(c->procs[i], "0", 1) != 1)
            failed(c, "control group");
    if (!c->hand && setpgid(0, c->pgid) < 0)
        setpgid(0, 0);
    for (int fd = 0; fd < 3; fd++)
        if (c->fd[fd] >= 0 && dup2(c->fd[fd], fd) < 0)
            failed(c, "standard streams");
    umask(p->umask);
    if (p->root && (chroot(p->root) < 0 || chdir("/") < 0))
        failed(c, p->root);
    if (syscall(SYS_setgroups, p->ngroups, p->groups) < 0)
        failed(c, "set groups");
    if (syscall(SYS_setresgid, p->gid, p->gid, p->gid) < 0)
        failed(c, "set group");
    /* Files are found and opened as the user, limits set as root after that:
     * a low limit of descriptors would not let us open any here. */
    syscall(SYS_setfsuid, p->uid);
    if (chdir(p->cwd) < 0 && chdir("/") < 0)
        failed(c, p->cwd);
    for (int fd = 0; fd < 3; fd++)
        if (c->fd[fd] < 0)
            open_file(c, fd);
    const char *what = NULL;
    if (plan_io_apply(p, c->pid, &what) < 0)
        failed(c, what);
    if (c->hand) {
        begin_hand(c, image, control);
        failed(c, "hand over its descriptors");
    }
    make_stands(c);
    plan_set_limits(p, 0);
    if (p->image)
        prctl(PR_SET_KEEPCAPS, 1);
    if (syscall(SYS_setresuid, p->uid, p->uid, p->uid) < 0)
        failed(c, "set user");
    if (p->image)
        restore(c, image, control);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(p->path, p->argv, p->envp);
    failed(c, p->path);
}

pid_t child_start(struct child *c, pid_t pid)
{
    static void *stack;
    pid_t chosen = pid;

    if (!stack) {
        void *m = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        if (m == MAP_FAILED)
            return -errno;
        stack = m;
    }
    struct clone_args args = {
        .flags = CLONE_VM | CLONE_VFORK | CLONE_CLEAR_SIGHAND | CLONE_PARENT_SETTID,
        .parent_tid = (uintptr_t)&c->tid,
        .exit_signal = SIGCHLD,
        .stack = (uintptr_t)stack,
        .stack_size = STACK_BYTES,
        .set_tid = (uintptr_t)&chosen,
        .set_tid_size = 1,
    };
    if (c->cgroup >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)c->cgroup;
    }
    c->code = 0;
    long r = clone3_call(&args, run, c);
    if (r == -EEXIST && c->plan->image && c->plan->gen > 1)
        return -EAGAIN; /* its own: a group of those that it had here may have it still */
    if (r == -EEXIST || r == -EINVAL || r == -EPERM) {
        /* Taken, beyond this kernel's range, or not ours to choose. */
        args.set_tid = args.set_tid_size = 0;
        r = clone3_call(&args, run, c);
    }
    if (r > 0 && c->code)
        while (waitpid((pid_t)r, NULL, 0) < 0 && errno == EINTR)
            continue;
    return (pid_t)r;
}
