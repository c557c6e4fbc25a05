/* bpinit_local.c - bodies whose parents are processes here, which wait for them
 *
 * Nobody tells us how they end: that they have is said by a pidfd, and how by /proc,
 * if their parent has not asked yet. It is asked by nobody else then.
 */
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "node/bpinit.h"

struct local {
    struct init *in;
    uint64_t launch;
    uint32_t rank;
    pid_t npid;
    int fd;
};

static void on_end(void *arg, int fd, uint32_t events)
{
    static const struct rusage none;
    struct local *l = arg;
    struct body *b = bodies_by_rank(l->in->bodies, l->launch, l->rank);
    int status;

    (void)events;
    loop_fd_del(l->in->loop, fd);
    close(fd);
    /* Left, or told by who has become its parent since. */
    if (b && b->local && !b->ended && b->npid == l->npid) {
        status = kids_status(l->in->kids, l->npid);
        b->local = false;
        reap_status(l->in, l->npid, status, &none);
    }
    free(l);
}

void local_watch(struct init *in, struct body *b)
{
    struct local *l = malloc(sizeof *l);
    struct err err = { 0 };

    b->local = true;
    if (!l)
        abort();
    *l = (struct local){ in, b->launch, b->rank, b->npid, -1 };
    l->fd = (int)syscall(SYS_pidfd_open, b->npid, 0);
    if (l->fd >= 0 && loop_fd(in->loop, l->fd, EPOLLIN, on_end, l, &err) == 0)
        return;
    init_log("process %d is not watched: %s", (int)b->npid, err.text);
    cleanup_close(&l->fd);
    free(l);
}
