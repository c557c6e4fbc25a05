/* pipes.c - pipes that a process has to itself
 *
 * Many programs have one, to wake themselves from their handlers. It goes along if both
 * its ends are open once here and by nobody else, and nothing is in it.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "mover/mover.h"

static bool is_pipe(const struct held *f, uint64_t inode)
{
    return f->kind == HELD_PIPE && f->inode == inode;
}

static bool is_one_of(const struct held_list *l, const char *name)
{
    unsigned long inode;

    if (sscanf(name, "pipe:[%lu]", &inode) == 1)
        for (size_t i = 0; i < l->n; i++)
            if (is_pipe(&l->v[i], inode))
                return true;
    return false;
}

/* Of what somebody else has open: what is one of these pipes is a pipe to him. */
static void look_at(const char *pid, struct held_list *l)
{
    char path[300], name[64];
    struct dirent *e;
    unsigned long inode;

    snprintf(path, sizeof path, "/proc/%s/fd", pid);
    DIR *d = opendir(path);
    while (d && (e = readdir(d))) {
        ssize_t n = readlinkat(dirfd(d), e->d_name, name, sizeof name - 1);
        name[n > 0 ? n : 0] = 0;
        if (n <= 0 || !is_one_of(l, name) || sscanf(name, "pipe:[%lu]", &inode) != 1)
            continue;
        for (size_t i = 0; i < l->n; i++)
            if (is_pipe(&l->v[i], inode))
                l->v[i].shared = true;
    }
    if (d)
        closedir(d);
}

static void look_at_all(const struct mover_conf *c, struct held_list *l)
{
    DIR *d = opendir("/proc");
    struct dirent *e;

    while (d && (e = readdir(d)))
        if (isdigit((unsigned char)e->d_name[0]) && atoi(e->d_name) != c->pid)
            look_at(e->d_name, l);
    if (d)
        closedir(d);
}

/* The other end of f, if it has one, and no third; NULL. */
static const struct held *other_end(const struct held_list *l, const struct held *f)
{
    const struct held *other = NULL;

    for (size_t i = 0; i < l->n; i++) {
        const struct held *o = &l->v[i];
        if (o == f || !is_pipe(o, f->inode))
            continue;
        if (other || (o->flags & O_ACCMODE) == (f->flags & O_ACCMODE) ||
            (o->flags & O_ACCMODE) == O_RDWR || o->fd < 3)
            return NULL;
        other = o;
    }
    return f->fd < 3 || (f->flags & O_ACCMODE) == O_RDWR ? NULL : other;
}

static int size_of(const struct mover_conf *c, struct held *f, int *unread)
{
    CLEANUP(cleanup_close) int copy = held_copy(c->pid, f->fd);

    f->at = copy < 0 ? -1 : fcntl(copy, F_GETPIPE_SZ);
    return f->at < 0 || ioctl(copy, FIONREAD, unread) < 0 ? -1 : 0;
}

void pipes_look(const struct mover_conf *c, struct held_list *l, struct hindrances *h)
{
    bool any = false;

    for (size_t i = 0; i < l->n; i++)
        any |= l->v[i].kind == HELD_PIPE && other_end(l, &l->v[i]);
    if (any)
        look_at_all(c, l);
    for (size_t i = 0; i < l->n; i++) {
        struct held *f = &l->v[i];
        if (f->kind != HELD_PIPE)
            continue;
        const struct held *other = f->shared ? NULL : other_end(l, f);
        int unread = 0;
        if (!other)
            hindered(h, "pipe", "descriptor %d: a pipe to other processes", f->fd);
        else if (size_of(c, f, &unread) < 0)
            hindered(h, "pipe", "descriptor %d: a pipe that cannot be looked at: %s", f->fd,
                     strerror(errno));
        else if (unread)
            hindered(h, "pipe", "descriptor %d: a pipe of its own with %d bytes in it", f->fd, unread);
        else
            f->of = other->fd < f->fd ? other->fd : -1;
    }
}
