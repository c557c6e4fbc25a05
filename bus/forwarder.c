/* forwarder.c - a bpfwd that copies what a process of a node says to descriptors here */
#include "bus/forwarder.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/err.h"
#include "bus/rundir.h"

/* In the child: as its user, and nobody's child. */
static void __attribute__((noreturn)) become(const char *prog, char *const *argv, uid_t uid,
                                             gid_t gid, int list, const int out[2])
{
    static char *env[] = { NULL };
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    if (dup2(list, 3) < 0 || dup2(out[0], 1) < 0 || dup2(out[1], 2) < 0 ||
        syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, gid, gid, gid) < 0 ||
        syscall(SYS_setresuid, uid, uid, uid) < 0)
        _exit(127);
    fcntl(3, F_SETFD, 0);
    close_range(4, ~0u, 0);
    execve(prog, argv, env);
    _exit(127);
}

int forwarder_start(uint64_t launch, int node, uid_t uid, gid_t gid, const int out[2])
{
    char prog[PATH_MAX], path[PATH_MAX], id[32];
    char *argv[] = { (char[]){ "bpfwd" }, id, path, NULL };
    int32_t row[2] = { node, 0 };
    CLEANUP(cleanup_close) int list = memfd_create("bpfwd", MFD_CLOEXEC);
    CLEANUP(cleanup_close) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int to[2] = { out[0] >= 0 ? out[0] : null, out[1] >= 0 ? out[1] : null };

    snprintf(prog, sizeof prog, "%.4000s/bpfwd", cm_libexec());
    snprintf(id, sizeof id, "%llu", (unsigned long long)launch);
    cm_path(path, "iofwd");
    if (list < 0 || null < 0 || write(list, row, sizeof row) != sizeof row ||
        lseek(list, 0, SEEK_SET) < 0)
        return -1;
    pid_t between = fork();
    if (between == 0) {
        if (fork() == 0)
            become(prog, argv, uid, gid, list, to);
        _exit(0);
    }
    while (between > 0 && waitpid(between, NULL, 0) < 0 && errno == EINTR)
        continue;
    return between < 0 ? -1 : 0;
}
