/* bring.c - a program that a process takes along, to become it elsewhere
 *
 * On a node: there is no way to the master's contents from here, and the program may
 * be nowhere else. So the process reads it, moves, and executes there what it has
 * brought; the very same file, if that is there too.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "clients/libbproc/transfer.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x10u /* Linux 6.3: asked for, whatever the default is */
#endif

struct program {
    unsigned char *content; /* memory of our own, so that it goes along */
    size_t size;
    bool script;
    struct file_list needs; /* itself, its loader and libraries */
};

static void put_down(struct program *p)
{
    if (p->content)
        munmap(p->content, p->size);
    p->content = NULL;
    file_list_free(&p->needs);
}

static const char *library_path(char *const *envp)
{
    for (; *envp; envp++)
        if (strncmp(*envp, "LD_LIBRARY_PATH=", 16) == 0)
            return *envp + 16;
    return NULL;
}

static int read_whole(int fd, unsigned char *to, size_t size)
{
    for (size_t got = 0; got < size;) {
        ssize_t n = pread(fd, to + got, size - got, (off_t)got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return lib_errno(n < 0 ? errno : EIO);
        got += (size_t)n;
    }
    return 0;
}

/* As far as exec would say it before anything has happened. */
static int take(struct program *p, const char *cmd, char *const *envp)
{
    struct stat st;
    struct err err = { 0 };
    CLEANUP(cleanup_close) int fd = open(cmd, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0 || fstat(fd, &st) < 0)
        return -1;
    if (!S_ISREG(st.st_mode))
        return lib_errno(EACCES);
    if (faccessat(AT_FDCWD, cmd, X_OK, AT_EACCESS) < 0)
        return -1;
    if (st.st_size < 4)
        return lib_errno(ENOEXEC);
    void *m = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                   -1, 0);
    if (m == MAP_FAILED)
        return -1;
    p->content = m;
    p->size = (size_t)st.st_size;
    if (read_whole(fd, p->content, p->size) < 0)
        return -1;
    p->script = memcmp(p->content, "#!", 2) == 0;
    return elf_needs(cmd, library_path(envp), &p->needs, &err) < 0 ? lib_fail(&err) : 0;
}

/* --- there --- */

static bool is_here(const struct program *p, const char *cmd)
{
    struct stat st;
    CLEANUP(cleanup_close) int fd = open(cmd, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (size_t)st.st_size != p->size ||
        !p->size)
        return false;
    void *m = mmap(NULL, p->size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (m == MAP_FAILED)
        return false;
    bool same = memcmp(m, p->content, p->size) == 0;
    munmap(m, p->size);
    return same;
}

static int put_up(const struct program *p, const char *cmd)
{
    const char *slash = strrchr(cmd, '/');
    /* A script's interpreter opens it by its descriptor. */
    unsigned flags = p->script ? 0 : MFD_CLOEXEC;
    int fd = memfd_create(slash ? slash + 1 : cmd, flags | MFD_EXEC);

    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(slash ? slash + 1 : cmd, flags);
    for (size_t put = 0; fd >= 0 && put < p->size;) {
        ssize_t n = write(fd, p->content + put, p->size - put);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        put += (size_t)n;
    }
    return fd;
}

/* What was to be caught by the program that has gone has the new one's way. */
static void forget_handlers(void)
{
    struct sigaction sa, standard = { .sa_handler = SIG_DFL };

    for (int i = 1; i < NSIG; i++)
        if (sigaction(i, NULL, &sa) == 0 && sa.sa_handler != SIG_IGN && sa.sa_handler != SIG_DFL)
            sigaction(i, &standard, NULL);
}

static void __attribute__((noreturn)) become_it(const struct program *p, const struct start *s,
                                                const sigset_t *mask)
{
    bool here = s->found || is_here(p, s->cmd);
    int fd = here ? -1 : put_up(p, s->cmd);

    forget_handlers();
    if (here || fd >= 0) {
        sigprocmask(SIG_SETMASK, mask, NULL);
        if (here)
            execve(s->cmd, s->argv, s->envp);
        else
            syscall(SYS_execveat, fd, "", s->argv, s->envp, AT_EMPTY_PATH);
    }
    _exit(errno & 0xff ? errno & 0xff : 1);
}

int bring_and_become(int node, const struct start *s)
{
    struct program p = { 0 };
    sigset_t all, old;

    if (!s->found && take(&p, s->cmd, s->envp) < 0) {
        int code = errno;
        put_down(&p);
        return lib_errno(code);
    }
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old);
    if (move_with(node, s->io, s->iolen, BPROC_DUMP_EXEC | BPROC_DUMP_OTHER, &p.needs) == 0)
        become_it(&p, s, &old);
    int code = errno;
    put_down(&p);
    sigprocmask(SIG_SETMASK, &old, NULL);
    return lib_errno(code);
}
