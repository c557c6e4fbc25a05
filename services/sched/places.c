/* places.c - where sched, its starter and its runners meet; starting the starter */
#include "services/sched/starter.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
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

/* Out of the way first: nothing can be made in it then. */
static void shut(int dir, const char *name)
{
    char aside[300];
    struct dirent *e;

    snprintf(aside, sizeof aside, "shut%.250s", name + 4);
    if (strncmp(name, "gate.", 5) == 0 && renameat(dir, name, dir, aside) < 0)
        return;
    int fd = openat(dir, aside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    while (d && (e = readdir(d)))
        if (e->d_name[0] != '.')
            unlinkat(fd, e->d_name, 0);
    if (d)
        closedir(d);
    unlinkat(dir, aside, AT_REMOVEDIR);
}

/* A gate of our own, and none of before. */
static int make_gate(const char *top, char *gate, struct err *err)
{
    DIR *d = opendir(top);
    struct dirent *e;

    while (d && (e = readdir(d)))
        if (strncmp(e->d_name, "gate.", 5) == 0 || strncmp(e->d_name, "shut.", 5) == 0)
            shut(dirfd(d), e->d_name);
    if (d)
        closedir(d);
    sched_path(gate, "gate.XXXXXX");
    return d && mkdtemp(gate) ? 0 : err_set(err, errno, "make %s: %s", gate, strerror(errno));
}

int starter_begin(struct err *err)
{
    char dir[PATH_MAX], program[PATH_MAX], gate[PATH_MAX], fd[16];
    char *const argv[] = { program, fd, gate, NULL };
    int ends[2];
    pid_t pid;

    sched_path(dir, "");
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return err_set(err, errno, "make %s: %s", dir, strerror(errno));
    if (make_gate(dir, gate, err) < 0)
        return -1;
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
