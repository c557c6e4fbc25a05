/* spawn.c - a bpcopy for one connection, started by a service
 *
 * It finds the connection as descriptor 3, whom it serves as 4, and the node's
 * root as 5.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "bus/svc.h"
#include "copy/copy.h"

#define MAX_PROCS 512

struct proc {
    struct copy_procs *c;
    pid_t pid;
    int pidfd;
    struct proc *next;
};

struct copy_procs {
    loop_t *loop;
    struct proc *first;
    size_t n;
};

struct copy_procs *copy_procs_create(loop_t *loop)
{
    struct copy_procs *c = calloc(1, sizeof *c);

    if (c)
        c->loop = loop;
    return c;
}

static void forget(struct proc *p)
{
    struct proc **at = &p->c->first;

    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    p->c->n--;
    loop_fd_del(p->c->loop, p->pidfd);
    close(p->pidfd);
    free(p);
}

void copy_procs_destroy(struct copy_procs **cp)
{
    struct copy_procs *c = *cp;

    if (!c)
        return;
    while (c->first) {
        pid_t pid = c->first->pid;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        forget(c->first);
    }
    free(c);
    *cp = NULL;
}

static void on_end(void *arg, int fd, uint32_t events)
{
    struct proc *p = arg;

    (void)fd;
    (void)events;
    if (waitpid(p->pid, NULL, WNOHANG) != 0)
        forget(p);
}

static int peer_file(const struct copy_peer *peer, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    int fd = memfd_create("bpcopy", MFD_CLOEXEC);

    mp_init(&m);
    copy_peer_pack(peer, &m);
    if (fd >= 0 && write(fd, m.b.data, m.b.size) == (ssize_t)m.b.size)
        return fd;
    err_set(err, errno, "whom a copy is for: %s", strerror(errno));
    cleanup_close(&fd);
    return -1;
}

/* Out of the way of 3, 4 and 5. */
static int lift(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, 10);
}

static int start(const char *mode, int fd, int peer, int root, pid_t *pid)
{
    char path[PATH_MAX], owner[24];
    char *argv[] = { path, (char *)mode, owner, NULL };
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none;

    snprintf(path, sizeof path, "%s/bpcopy", cm_libexec());
    snprintf(owner, sizeof owner, "%d", (int)getpid());
    sigemptyset(&none);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_adddup2(&files, fd, 3);
    posix_spawn_file_actions_adddup2(&files, peer, 4);
    if (root >= 0)
        posix_spawn_file_actions_adddup2(&files, root, 5);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
    int rc = posix_spawn(pid, path, &files, &attr, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    return rc;
}

int copy_procs_start(struct copy_procs *c, const char *mode, int fd, int root,
                     const struct copy_peer *peer, struct err *err)
{
    CLEANUP(cleanup_close) int conn = lift(fd), top = root >= 0 ? lift(root) : -1;
    CLEANUP(cleanup_close) int file = -1;
    CLEANUP(cleanup_close) int who = peer_file(peer, err);

    if (who < 0)
        return -1;
    file = lift(who);
    if (conn < 0 || file < 0 || (root >= 0 && top < 0))
        return err_set(err, errno, "bpcopy: %s", strerror(errno));
    if (c->n >= MAX_PROCS)
        return err_set(err, EAGAIN, "too many copies at once here");
    struct proc *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(err, ENOMEM, "out of memory");
    int rc = start(mode, conn, file, top, &p->pid);
    if (rc) {
        free(p);
        return err_set(err, rc, "bpcopy: %s", strerror(rc));
    }
    p->c = c;
    p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    if (p->pidfd < 0 || loop_fd(c->loop, p->pidfd, EPOLLIN, on_end, p, err) < 0) {
        kill(p->pid, SIGKILL);
        waitpid(p->pid, NULL, 0);
        cleanup_close(&p->pidfd);
        free(p);
        return err_set(err, EAGAIN, "bpcopy: it cannot be watched");
    }
    p->next = c->first;
    c->first = p;
    c->n++;
    return 0;
}
