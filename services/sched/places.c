/* places.c - where sched, its starter and its runners meet; starting the starter */
#include "services/sched/starter.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/rundir.h"

extern char **environ;

char *sched_path(char *buf, const char *name)
{
    snprintf(buf, PATH_MAX, "%.3000s/sched/%.1000s", cm_rundir(), name);
    return buf;
}

char *sched_lock_path(char *buf, uint64_t job, uint32_t attempt)
{
    char name[64];

    snprintf(name, sizeof name, "%llu.%u", (unsigned long long)job, attempt);
    return sched_path(buf, name);
}

int starter_begin(struct err *err)
{
    char dir[PATH_MAX], program[PATH_MAX], fd[16];
    char *const argv[] = { program, fd, NULL };
    int ends[2];
    pid_t pid;

    sched_path(dir, "");
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return err_set(err, errno, "make %s: %s", dir, strerror(errno));
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return err_set(err, errno, "socketpair: %s", strerror(errno));
    snprintf(program, sizeof program, "%.4000s/bjsrun", cm_libexec());
    snprintf(fd, sizeof fd, "%d", ends[1]);
    fcntl(ends[1], F_SETFD, 0); /* this one is for it */
    int code = posix_spawn(&pid, program, NULL, NULL, argv, environ);
    close(ends[1]);
    if (code == 0)
        return ends[0];
    close(ends[0]);
    return err_set(err, code, "%s: %s", program, strerror(code));
}
