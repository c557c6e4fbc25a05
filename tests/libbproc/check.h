/* check.h - what the programs that try libbproc share; C and C++ */
#ifndef LIBBPROC_CHECK_H
#define LIBBPROC_CHECK_H
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/bproc.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "tests/unit/tap.h"

/* kill, but never everybody: a pid that was not to be had is -1. */
static inline int kill_one(pid_t pid, int sig)
{
    if (pid > 1)
        return kill(pid, sig);
    errno = EINVAL;
    return -1;
}
#define kill(pid, sig) kill_one(pid, sig)

/* -1, and errno is this. */
static inline bool fails(int rc, int code, const char *name)
{
    int got = errno;
    bool good = rc == -1 && got == code;

    if (!ok(good, "%s", name))
        printf("#   got %d, errno %d (%s)\n#   want -1, errno %d (%s)\n", rc, got,
               bproc_strerror(got), code, bproc_strerror(code));
    return good;
}

static inline bool equals(long got, long want, const char *name)
{
    int code = errno;
    bool good = got == want;

    if (!ok(good, "%s", name))
        printf("#   got %ld (errno %s), want %ld\n", got, bproc_strerror(code), want);
    return good;
}

/* Wait for a child of ours; its status. */
static inline int reap(int pid)
{
    int status = -1;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return status;
}

static inline char *text(const char *s) { return (char *)(uintptr_t)s; }

extern char **environ;

#endif
