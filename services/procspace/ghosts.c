/* ghosts.c - the kernel's side of ghosts: pidfds, doorbells, who is a ghost
 *
 * A pidfd tells of a ghost's death, whoever caused it. A ghost that is stopped
 * by SIGSTOP tells nobody: bpsh says so when it is its parent and runs, the
 * kernel's tracepoint says so where it can be had (trace.c), and a slow sweep
 * sees the rest.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/kin.h"
#include "bus/rundir.h"
#include "image/image.h"
#include "services/procspace/procspace.h"

#define SWEEP_MS 250      /* a slice of the sweep */
#define SWEEP_SLICE 64    /* buckets looked at in a slice */

struct ghosts {
    size_t next_bucket;
    bool traced; /* the kernel tells of SIGSTOP: no sweep */
};

static int pidfd_open_(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

/* A ghost that is to die "core dumped" dumps a few pages into a folder of its
 * own, RUN/cores/UID/PID: one shared with others would be emptied while they
 * dump. Where dumps go elsewhere (core_pattern) the flag is not to be had. */
static bool cores_dir(const struct proc *p, char *dir)
{
    char pattern[2] = "";
    int fd = open("/proc/sys/kernel/core_pattern", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, pattern, 1);

    if (fd >= 0)
        close(fd);
    cm_path(dir, "cores");
    if (n != 1 || pattern[0] == '|' || pattern[0] == '/' ||
        (mkdir(dir, 0711) < 0 && errno != EEXIST))
        return false;
    size_t len = strlen(dir);
    len += (size_t)snprintf(dir + len, PATH_MAX - len, "/%lld", (long long)p->uid);
    if (mkdir(dir, 0711) < 0 && errno != EEXIST)
        return false;
    snprintf(dir + len, PATH_MAX - len, "/%d", (int)p->pid);
    return (mkdir(dir, 0700) == 0 || errno == EEXIST) &&
           lchown(dir, (uid_t)p->uid, (gid_t)p->gid) == 0;
}

static void cores_remove(const struct proc *p)
{
    char path[PATH_MAX], name[64];
    struct dirent *e;

    snprintf(name, sizeof name, "cores/%lld/%d", (long long)p->uid, (int)p->pid);
    int fd = open(cm_path(path, name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    while (d && (e = readdir(d)))
        if (strncmp(e->d_name, "core", 4) == 0)
            unlinkat(fd, e->d_name, 0);
    if (d)
        closedir(d);
    rmdir(path);
}

static int pidfd_send(int fd, int sig, siginfo_t *si)
{
    return (int)syscall(SYS_pidfd_send_signal, fd, sig, si, 0);
}

/* One field of /proc/PID/...; false when it cannot be read. */
static bool read_proc(pid_t pid, const char *name, char *buf, size_t room, size_t *len)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, buf, room - 1);
    if (n < 0)
        return false;
    buf[n] = 0;
    if (len)
        *len = (size_t)n;
    return true;
}

/* All four uids are his: nothing that runs with another's rights. */
static bool belongs_to(pid_t pid, int64_t uid)
{
    char buf[4096];
    unsigned long u[4];
    char *p;

    if (!read_proc(pid, "status", buf, sizeof buf, NULL) || !(p = strstr(buf, "\nUid:")) ||
        sscanf(p + 5, "%lu %lu %lu %lu", &u[0], &u[1], &u[2], &u[3]) != 4)
        return false;
    for (int i = 0; i < 4; i++)
        if ((int64_t)u[i] != uid)
            return false;
    return true;
}

static bool is_bpghost(pid_t pid)
{
    char link[64], exe[PATH_MAX], want[PATH_MAX], real[PATH_MAX];

    snprintf(link, sizeof link, "/proc/%d/exe", pid);
    ssize_t n = readlink(link, exe, sizeof exe - 1);
    if (n < 0)
        return false;
    exe[n] = 0;
    snprintf(want, sizeof want, "%.4000s/bpghost", cm_libexec());
    if (realpath(want, real) && strcmp(exe, real) == 0)
        return true;
    /* after an upgrade: the running ghosts' file is the old one */
    const char *base = strrchr(exe, '/');
    return base && (strcmp(base, "/bpghost") == 0 || strcmp(base, "/bpghost (deleted)") == 0);
}

/* Ours, and of which launch? A ghost's environment names its gate and launch. */
static bool ours(pid_t pid, uint64_t *launch)
{
    char env[PATH_MAX + 256], gate[PATH_MAX];
    size_t len;
    bool mine = false;

    *launch = 0;
    if (!read_proc(pid, "environ", env, sizeof env, &len))
        return false;
    cm_path(gate, "gate");
    for (char *p = env; p < env + len; p += strlen(p) + 1) {
        if (strncmp(p, "CM_GHOST=", 9) == 0) {
            char *q = strchr(p, '/');
            mine = q && strcmp(q, gate) == 0;
        } else if (strncmp(p, "CM_LAUNCH=", 10) == 0) {
            *launch = strtoull(p + 10, NULL, 10);
        }
    }
    return mine;
}

/* A pidfd of a process that has not ended. What is read of it from then on is
 * about this very process: the pidfd pins it. */
static int take_living(pid_t pid, struct err *err)
{
    char stat[512], *paren;
    int fd = pid > 0 ? pidfd_open_(pid) : -1;

    /* Out of descriptors is not the same as gone. */
    if (fd < 0 && pid > 0 && errno != ESRCH)
        return err_set(err, errno, "process %d: %s", pid, strerror(errno));
    if (fd < 0)
        return err_set(err, ESRCH, "process %d is not there", pid);
    errno = 0;
    if (read_proc(pid, "stat", stat, sizeof stat, NULL) && (paren = strrchr(stat, ')')) &&
        strlen(paren) > 2 && paren[2] != 'Z' && paren[2] != 'X')
        return fd;
    int code = errno == EMFILE || errno == ENFILE ? errno : ESRCH;
    close(fd);
    return err_set(err, code, "process %d %s", pid, code == ESRCH ? "has ended" : strerror(code));
}

int process_open(pid_t pid) { return pidfd_open_(pid); }

int process_take(pid_t pid, int64_t uid, struct err *err)
{
    int fd = take_living(pid, err);

    if (fd >= 0 && !belongs_to(pid, uid)) {
        close(fd);
        return err_set(err, EPERM, "process %d is not only user %lld's", pid, (long long)uid);
    }
    return fd;
}

/* It runs bprestore, which has put itself away into a hole of the process's memory, or is
 * about to. What is left of it there says nothing: nobody stands on it. */
bool restorer_stands(pid_t pid)
{
    char path[64], line[512], rights[8], call[256];
    unsigned long start, end, inode, sp = 0;
    bool it = false;

    /* "number 6 arguments sp pc", "running", or "-1 sp pc" */
    if (read_proc(pid, "syscall", call, sizeof call, NULL)) {
        char *pc = strrchr(call, ' ');
        if (pc)
            *pc = 0;
        char *at = pc ? strrchr(call, ' ') : NULL;
        sp = at ? strtoul(at, NULL, 16) : 0;
    }
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && !it && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-%lx %7s %*s %*s %lu", &start, &end, rights, &inode) != 4)
            continue;
        unsigned long hole = start - start % IMAGE_HOLE;
        it = (inode && strstr(line, "/bprestore") != NULL) ||
             (!inode && strcmp(rights, "rwxp") == 0 && end <= hole + IMAGE_HOLE && sp >= hole &&
              sp < hole + IMAGE_HOLE);
    }
    if (f)
        fclose(f);
    return it;
}

int ghost_take(pid_t pid, int64_t uid, uint64_t *launch, struct err *err)
{
    CLEANUP(cleanup_close) int fd = take_living(pid, err);

    if (fd < 0)
        return -1;
    if (!is_bpghost(pid) || !ours(pid, launch))
        return err_set(err, EINVAL, "process %d is not a ghost of this cluster", pid);
    if (uid >= 0 && !belongs_to(pid, uid))
        return err_set(err, EPERM, "process %d is not user %lld's", pid, (long long)uid);
    int out = fd;
    fd = -1;
    return out;
}

bool ghost_early(procspace_t *ps, pid_t pid)
{
    uint64_t launch = 0;
    CLEANUP(cleanup_close) int fd = ghost_take(pid, -1, &launch, NULL);

    return fd >= 0 && launch && !launch_find(ps, launch);
}

/* procspace.orphan: from a ghost whose maker has ended: is it wanted? -> nil */
int on_orphan(void *self, struct svc_req *req, struct err *err)
{
    procspace_t *ps = self;
    pid_t pid = (pid_t)req->w->pid;

    if (!proc_find(ps, pid) && recovering(ps, pid))
        return err_set(err, EAGAIN, "process %d: its node has not been heard since "
                                    "procspace was restarted; try again", (int)pid);
    if (!proc_find(ps, pid))
        return err_set(err, BE_INVALIDPROC, "process %d: its launch has not come and never will",
                       (int)pid);
    mp_nil(req->reply);
    return 0;
}

/* The ghost is gone. Not by our word? Then its body must go too. */
static void on_pidfd(void *arg, int fd, uint32_t events)
{
    struct proc *p = arg;
    procspace_t *ps = p->launch->ps;

    (void)events;
    loop_fd_del(ps->loop, fd);
    close(fd);
    p->pidfd = -1;
    if (p->state == PROC_ENDED && WIFSIGNALED(p->status) && WCOREDUMP(p->status))
        cores_remove(p);
    if (p->kid) {
        kid_ghost_gone(ps, p->kid);
        return;
    }
    kids_parent_ended(ps, p);
    if (p->state != PROC_ENDED && p->real)
        return; /* its parent's ghost says how it has ended */
    if (p->state != PROC_ENDED)
        ghost_killed(ps, p);
    else
        proc_forget(ps, p);
}

void ghost_killed(procspace_t *ps, struct proc *p)
{
    if (ps->ghosts->traced)
        trace_look(ps); /* by whom? It may not have been read yet. */
    if (!p->cause || p->cause->sig != SIGKILL)
        cause_set(p, CAUSE_GHOST, SIGKILL, -1, 0, NULL);
    body_signal(ps, p, SIGKILL);
}

int ghost_watch(procspace_t *ps, struct proc *p, struct err *err)
{
    return loop_fd(ps->loop, p->pidfd, EPOLLIN, on_pidfd, p, err);
}

void ghost_unwatch(procspace_t *ps, struct proc *p)
{
    if (p->pidfd >= 0)
        loop_fd_del(ps->loop, p->pidfd);
}

/* The command travels in the signal's value. Only root and the same user can
 * signal a ghost, and that user could as well kill it: forging a command gains
 * nothing, so the doorbell needs no second trip to fetch it. */
void ghost_ring(struct proc *p, enum ghost_op op, int arg)
{
    char dir[PATH_MAX];
    siginfo_t si;

    if (p->homed)
        home_ring(p, op, arg);
    if (p->pidfd < 0 || p->real)
        return;
    if (op == GHOST_DIE && (arg & 0x80) && !cores_dir(p, dir))
        arg &= ~0x80;
    memset(&si, 0, sizeof si);
    si.si_signo = SIGRTMAX;
    si.si_code = SI_QUEUE;
    si.si_uid = 0;
    si.si_pid = getpid();
    si.si_value.sival_ptr = (void *)((uintptr_t)op << 32 | (uint32_t)arg);
    if (pidfd_send(p->pidfd, SIGRTMAX, &si) == 0 || errno == ESRCH)
        return;
    /* EAGAIN: the user's queue of signals is full. A ghost must not outlive
     * its body: SIGKILL needs no queue. */
    svc_log("warning", "ghost %d does not take its end (%s): killed", p->pid, strerror(errno));
    if (op == GHOST_EXIT || op == GHOST_DIE)
        pidfd_send(p->pidfd, SIGKILL, NULL);
}

/* The body goes on. The bell is for stops that the ghost has not obeyed yet; the
 * signal wakes it, and is not passed up. */
void ghost_continue(struct proc *p)
{
    siginfo_t si;

    ghost_ring(p, GHOST_CONT, 0);
    memset(&si, 0, sizeof si);
    si.si_signo = SIGCONT;
    si.si_code = SI_QUEUE;
    si.si_pid = getpid();
    si.si_value.sival_ptr = (void *)((uintptr_t)GHOST_CONT << 32);
    if (p->pidfd >= 0 && !p->real)
        pidfd_send(p->pidfd, SIGCONT, &si);
}

void proc_goes_on(struct proc *p)
{
    p->halted = false;
    if (p->ghost_stopped) /* continued from somewhere else than its ghost */
        ghost_continue(p);
    p->ghost_stopped = false;
    home_continued(p);
}

void ghost_signal(struct proc *p, int sig)
{
    if (p->homed)
        home_signal(p, sig);
    if (p->real)
        return;
    if (p->pidfd >= 0)
        pidfd_send(p->pidfd, sig, NULL);
}

bool ghost_lives(const struct proc *p)
{
    return p->pidfd >= 0 && pidfd_send(p->pidfd, 0, NULL) == 0;
}

void ghost_seen_stopped(procspace_t *ps, struct proc *p)
{
    if (p->ghost_stopped || p->state == PROC_ENDED || p->real)
        return;
    p->ghost_stopped = true;
    if (p->state == PROC_RUNNING) /* else it is told once it does */
        body_signal(ps, p, SIGSTOP);
}

bool ghost_stands(const struct proc *p)
{
    return p->pidfd >= 0 && is_bpghost(p->pid);
}

bool ghost_kid(pid_t pid, struct ghost_kid *out)
{
    char env[PATH_MAX + 256];
    size_t len;

    if (!read_proc(pid, "environ", env, sizeof env, &len))
        return false;
    for (char *p = env; p < env + len; p += strlen(p) + 1)
        if (sscanf(p, "CM_KID=%d:%d:%u", &out->node, &out->npid, &out->gen) == 3)
            return true;
    return false;
}

void ghost_arrived(procspace_t *ps, struct proc *p)
{
    trace_look(ps); /* stops of before it left are its own, and so is what ended them */
    p->state = PROC_RUNNING;
    if (!p->ghost_stopped)
        return;
    p->ghost_stopped = false;
    if (p->pidfd >= 0 && kin_state(p->pid) == 'T')
        ghost_seen_stopped(ps, p);
}

static void look_at_bucket(procspace_t *ps, size_t b)
{
    for (struct proc *p = ps->proc[b % PROC_BUCKETS]; p; p = p->next)
        if (p->pidfd >= 0 && p->state == PROC_RUNNING && !p->ghost_stopped && kin_state(p->pid) == 'T')
            ghost_seen_stopped(ps, p);
}

static void sweep(void *arg)
{
    procspace_t *ps = arg;

    for (int i = 0; ps->procs && i < SWEEP_SLICE; i++)
        look_at_bucket(ps, ps->ghosts->next_bucket++);
}

void ghosts_look(procspace_t *ps)
{
    for (size_t b = 0; ps->procs && b < PROC_BUCKETS; b++)
        look_at_bucket(ps, b);
}

int ghosts_open(procspace_t *ps, struct err *err)
{
    struct err why = { 0 };

    ps->ghosts = calloc(1, sizeof *ps->ghosts);
    if (!ps->ghosts)
        return err_set(err, ENOMEM, "out of memory");
    ps->ghosts->traced = trace_open(ps, &why) == 0;
    if (!ps->ghosts->traced) {
        svc_log("info", "SIGSTOP of ghosts is found by a slow sweep: %s", why.text);
        loop_timer(ps->loop, SWEEP_MS, true, sweep, ps);
    }
    return 0;
}
