/* ghosts.c - stand-ins on the master, children of ours, one a remote process
 *
 * One exec makes them all. They are in our process group, so that what the
 * terminal does reaches them and, through them, the processes on the nodes.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "clients/bpsh/bpsh.h"

/* In the child of vfork(): nothing but system calls. */
static void __attribute__((noreturn)) become_ghost(const char *prog, char **argv, char **env,
                                                   int fd, volatile int *why)
{
    signals_in_child();
    fcntl(fd, F_SETFD, 0);
    execve(prog, argv, env);
    *why = errno;
    _exit(127);
}

int ghosts_start(struct bpsh *b, int *pids_fd, struct err *err)
{
    char prog[PATH_MAX], gate[PATH_MAX], param[PATH_MAX + 64], launch[64];
    char *env[] = { param, launch, NULL };
    int p[2];
    volatile int why = 0;

    snprintf(prog, sizeof prog, "%.4000s/bpghost", cm_libexec());
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_set(err, errno, "pipe: %s", strerror(errno));
    snprintf(param, sizeof param, "CM_GHOST=%u:%d:%s", b->remote, p[1], cm_path(gate, "gate"));
    /* by this a procspace that was restarted knows whose ghosts these are */
    snprintf(launch, sizeof launch, "CM_LAUNCH=%llu", (unsigned long long)b->launch);
    pid_t pid = vfork();
    if (pid == 0)
        become_ghost(prog, b->opt.argv, env, p[1], &why);
    int code = errno;
    close(p[1]);
    if (pid > 0 && !why) {
        *pids_fd = p[0];
        return 0;
    }
    close(p[0]);
    if (pid > 0)
        waitpid(pid, NULL, 0);
    return pid > 0 ? err_set(err, why, "%s: %s", prog, strerror(why))
                   : err_set(err, code, "a stand-in process: %s", strerror(code));
}

int ghosts_finish(struct bpsh *b, int pids_fd, struct err *err)
{
    CLEANUP(cleanup_close) int fd = pids_fd;
    size_t want = b->remote * sizeof(int32_t), got = 0;
    CLEANUP(cleanup_free) int32_t *pid = malloc(want);
    int failed = 0;

    if (!pid)
        return err_set(err, ENOMEM, "out of memory");
    while (got < want) {
        ssize_t n = read(fd, (char *)pid + got, want - got);
        if (n == 0)
            return err_set(err, ECHILD, "the stand-ins for %u processes could not be made",
                           b->remote);
        if (n < 0 && errno != EINTR)
            return err_set(err, errno, "read pids: %s", strerror(errno));
        if (n > 0)
            got += (size_t)n;
    }
    for (uint32_t r = 0; r < b->remote; r++) {
        if (pid[r] > 0)
            b->proc[b->by_rank[r]].pid = pid[r];
        else if (!failed)
            failed = -pid[r];
    }
    if (failed)
        return err_set(err, failed, "%u stand-in processes: %s%s", b->remote, strerror(failed),
                       failed == EAGAIN ? " (ulimit -u allows no more?)" : "");
    return 0;
}
