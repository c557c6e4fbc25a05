/* owner.c - the program that asked for a launch, and what its death means
 *
 * A bpsh that is killed reads no more. iofwd sees its connection end and tells
 * the nodes; but iofwd may be away in that very moment, and after its restart
 * nobody would come. So its death is seen here too: the nodes close what the
 * launch writes to, as a pipe whose reader has gone.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "services/procspace/procspace.h"

#define HANGUP_MS 60000

static void on_node(void *arg, int node, const msgpack_object *value, const struct err *err)
{
    (void)arg;
    if (!value && err->code != BE_NODEDOWN)
        svc_log("warning", "node %d: close the streams of a dead reader: %s", node, err->text);
}

static void hang_up(struct launch *l)
{
    CLEANUP(mp_free) mp_buf m;
    int n;
    CLEANUP(cleanup_free) int *nodes = launch_nodes(l, &n);

    mp_init(&m);
    if (!nodes)
        abort();
    mp_map(&m, 1);
    mp_kuint(&m, "launch", l->id);
    svc_call_nodes(l->ps->svc, nodes, n, "hangup", &m, HANGUP_MS, on_node, NULL, NULL);
}

static void on_pidfd(void *arg, int fd, uint32_t events)
{
    struct launch *l = arg;

    (void)fd;
    (void)events;
    owner_forget(l);
    hang_up(l);
}

static void gone_already(void *arg)
{
    struct launch *l = arg;

    l->owner_timer = 0;
    hang_up(l);
}

void owner_watch(struct launch *l)
{
    l->owner_fd = l->owner > 0 ? (int)syscall(SYS_pidfd_open, l->owner, 0) : -1;
    if (l->owner_fd >= 0) {
        if (loop_fd(l->ps->loop, l->owner_fd, EPOLLIN, on_pidfd, l, NULL) < 0)
            owner_forget(l);
    } else if (l->owner > 0 && errno == ESRCH) {
        /* after a restart; not before all of the launch is known again */
        l->owner_timer = loop_timer(l->ps->loop, 1000, false, gone_already, l);
    }
}

void owner_forget(struct launch *l)
{
    loop_timer_del(l->ps->loop, l->owner_timer);
    l->owner_timer = 0;
    if (l->owner_fd < 0)
        return;
    loop_fd_del(l->ps->loop, l->owner_fd);
    close(l->owner_fd);
    l->owner_fd = -1;
}
