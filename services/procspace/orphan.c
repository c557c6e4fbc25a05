/* orphan.c - ghosts of processes whose parents have gone; room for their pids
 *
 * On the node such a process is bpinit's child, on the master it must be
 * init's: a child of ours makes the ghost and ends at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "services/procspace/kids.h"

#define ARGS_MAX 1024
#define PIDS_MAX 4194304   /* as many as there can be */
#define PIDS_OWN_MAX 262144 /* the master's own stay below: node's leases are above */
#define PIDS_OWN_FIRST 300
#define LOOK_MS 10000

/* In the child, which has our memory's copy and one thread: system calls only. */
static void __attribute__((noreturn)) become_ghost(const struct kid *k, const char *prog,
                                                   char **argv, char **envp)
{
    sigset_t none;

    sigemptyset(&none);
    for (int sig = 1; sig < 32; sig++)
        signal(sig, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    syscall(SYS_setsid);
    if (syscall(SYS_setgroups, 0, NULL) == 0 &&
        syscall(SYS_setresgid, k->p.gid, k->p.gid, k->p.gid) == 0 &&
        syscall(SYS_setresuid, k->p.uid, k->p.uid, k->p.uid) == 0)
        execve(prog, argv, envp);
    _exit(127);
}

static long clone_with(pid_t *pid)
{
    struct clone_args a = { .exit_signal = SIGCHLD, .set_tid = (uintptr_t)pid,
                            .set_tid_size = pid ? 1 : 0 };

    return syscall(SYS_clone3, &a, sizeof a);
}

int orphan_start(const struct kid *k, struct err *err)
{
    char prog[PATH_MAX], gate[PATH_MAX], ghost[PATH_MAX + 32], launch[64], comm[32], kid[96];
    char *argv[ARGS_MAX + 1] = { NULL }, *envp[] = { ghost, launch, comm, kid, NULL };
    int argc = 0;

    snprintf(prog, sizeof prog, "%.4000s/bpghost", cm_libexec());
    snprintf(ghost, sizeof ghost, "CM_GHOST=0:0:%s", cm_path(gate, "gate"));
    snprintf(launch, sizeof launch, "CM_LAUNCH=%llu", (unsigned long long)k->p.launch->id);
    snprintf(comm, sizeof comm, "CM_COMM=%s", k->name.comm);
    snprintf(kid, sizeof kid, "CM_KID=%d:%d:%u", k->p.node, (int)k->npid, k->p.gen);
    for (size_t i = 0; i < k->name.args_len && argc < ARGS_MAX;
         i += strlen(k->name.args + i) + 1)
        argv[argc++] = k->name.args + i;
    pid_t between = fork();
    if (between < 0)
        return err_set(err, errno, "fork: %s", strerror(errno));
    if (between == 0) {
        pid_t want = k->npid;
        long pid = clone_with(&want);
        if (pid < 0)
            pid = clone_with(NULL);
        if (pid == 0)
            become_ghost(k, prog, argv, envp);
        _exit(pid < 0);
    }
    int status = 0;
    while (waitpid(between, &status, 0) < 0 && errno == EINTR)
        continue;
    return status == 0 ? 0 : err_set(err, EAGAIN, "no process more can be made");
}

/* ---- room for the pids of nodes ---- */

static int read_number(const char *path)
{
    char text[32];
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    text[n > 0 ? n : 0] = 0;
    return atoi(text);
}

static bool write_number(const char *path, int v)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%d", v);
    CLEANUP(cleanup_close) int fd = open(path, O_WRONLY | O_CLOEXEC);

    return fd >= 0 && write(fd, text, (size_t)n) == n;
}

static void keep_low(void *arg)
{
    (void)arg;
    if (read_number("/proc/sys/kernel/ns_last_pid") > PIDS_OWN_MAX)
        write_number("/proc/sys/kernel/ns_last_pid", PIDS_OWN_FIRST);
}

/* Nodes give their own pids from 1000000 upward; without this, such a process
 * has another pid here than there, and everything works all the same. */
void pids_make_room(procspace_t *ps)
{
    static const char max[] = "/proc/sys/kernel/pid_max";

    if (read_number(max) < PIDS_MAX && !write_number(max, PIDS_MAX)) {
        svc_log("info", "%s cannot be raised: children born on nodes have other pids there",
                max);
        return;
    }
    loop_timer(ps->loop, LOOK_MS, true, keep_low, NULL);
}
