/* dump.c - a process saved to a file, and gone on with from there */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "clients/libbproc/lib.h"
#include "clients/libbproc/save.h"

/* --- whose content goes along --- */

void dump_rule_open(struct dump_rule *r, int flags)
{
    r->flags = flags;
    r->libs = NULL;
    ssize_t n = readlink("/proc/self/exe", r->exe, sizeof r->exe - 1);
    r->exe[n > 0 ? n : 0] = 0;
}

void dump_rule_libs(struct dump_rule *r)
{
    /* Without a cluster there is no list: then no file is on it. */
    if (bproc_liblist(&r->libs) < 0)
        r->libs = NULL;
}

void dump_rule_close(struct dump_rule *r)
{
    free(r->libs);
    r->libs = NULL;
}

bool dump_by_value(void *arg, const char *path)
{
    const struct dump_rule *r = arg;

    if (strcmp(path, r->exe) == 0)
        return r->flags & BPROC_DUMP_EXEC;
    for (const char *l = r->libs; l && *l; l += strlen(l) + 1)
        if (strcmp(l, path) == 0)
            return r->flags & BPROC_DUMP_LIBS;
    return r->flags & BPROC_DUMP_OTHER;
}

/* --- the calls --- */

int bproc_dump(int fd, int flags)
{
    struct saving v = { 0 };
    struct dump_rule rule;
    sigset_t all, old;

    if (fcntl(fd, F_GETFL) < 0)
        return -1;
    if (flags & ~BPROC_DUMP_ALL)
        return lib_errno(EINVAL);
    if (save_threads())
        return lib_errno(EBUSY);
    dump_rule_open(&rule, flags);
    dump_rule_libs(&rule);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old);
    v.w.by_value = dump_by_value;
    v.w.arg = &rule;
    /* A dump's timers go on from where they stand, in both. */
    int rc = save_open(&v, true);
    if (rc == 0)
        rc = save_write(&v, fd);
    int code = errno;
    bool copy = rc > 0;
    uint64_t bytes = v.w.bytes;
    if (copy)
        v.timers = false; /* they run again already */
    save_close(&v, true);
    dump_rule_close(&rule);
    sigprocmask(SIG_SETMASK, &old, NULL);
    if (rc < 0)
        return lib_errno(code);
    return copy ? 0 : bytes > INT_MAX ? INT_MAX : (int)bytes;
}

int bproc_undump(int fd)
{
    char prog[PATH_MAX], number[16];
    char *argv[] = { (char *)"bprestore", number, NULL }, *envp[] = { NULL };
    struct image_start s;
    int flags = fcntl(fd, F_GETFD);

    if (flags < 0)
        return -1;
    if (!restore_program(prog))
        return lib_errno(ENOSYS);
    /* From a pipe it is only known when it is too late to go back. */
    off_t at = lseek(fd, 0, SEEK_CUR);
    if (at >= 0 && (pread(fd, &s, sizeof s, at) != sizeof s ||
                    memcmp(s.magic, IMAGE_MAGIC, sizeof s.magic) != 0 ||
                    s.version != IMAGE_VERSION || s.arch != IMAGE_X86_64))
        return lib_errno(EINVAL);
    if (fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC) < 0)
        return -1;
    lib_number(number, fd);
    execve(prog, argv, envp);
    int code = errno;
    fcntl(fd, F_SETFD, flags);
    return lib_errno(code);
}
