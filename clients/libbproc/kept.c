/* kept.c - children of a process that goes elsewhere
 *
 * They stay where they are, and are its children wherever it is: where it goes,
 * something stands for each of them. Which those are is what the kernel says;
 * where they are, the cluster knows.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/kin.h"
#include "clients/libbproc/transfer.h"
#include "image/going.h"

static bool has_children(bool ended)
{
    siginfo_t si = { 0 };

    return waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) == 0 && (!ended || si.si_pid);
}

/* The stop, or its end, that wait() would tell of now: its code, or 0. */
static int untold(pid_t pid, int options)
{
    siginfo_t si = { 0 };

    return waitid(P_PID, (id_t)pid, &si, WSTOPPED | WCONTINUED | WNOHANG | options) == 0 && si.si_pid
               ? si.si_code : 0;
}

/* What they are, and whether we were told of that. */
static int note_children(struct transfer *t)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked row;
    size_t at = 0;
    int64_t pid;

    msgpack_unpacked_init(&row);
    t->child = calloc(t->s.nkept, sizeof *t->child);
    if (!t->child)
        return lib_errno(ENOMEM);
    for (uint32_t i = 0; i < t->s.nkept; i++) {
        if (msgpack_unpack_next(&row, t->kept.b.data, t->kept.b.size, &at) != MSGPACK_UNPACK_SUCCESS ||
            !mp_as_int(&row.data.via.array.ptr[0], &pid))
            return lib_errno(EPROTO);
        t->child[i] = (struct kept_child){ (pid_t)pid, kin_state((pid_t)pid) == 'T',
                                           untold((pid_t)pid, WNOWAIT) == 0 };
    }
    t->heard = child_heard();
    return 0;
}

int kept_open(struct transfer *t)
{
    if (!has_children(false))
        return 0;
    /* On a node, who has ended is told to us by nobody any more. */
    if (lib_on_node() && has_children(true))
        return lib_errno(EBUSY);
    mp_init(&t->kept);
    t->s.kept = &t->kept;
    int n = going_children(0, &t->kept);
    t->s.nkept = n > 0 ? (uint32_t)n : 0;
    /* 0: a kernel that does not say who they are */
    return n > 0 ? note_children(t) : lib_errno(EBUSY);
}

/* Who stood for us there may have left for wait() what we were told of before. What has
 * changed since is to be told. */
void kept_arrived(struct transfer *t)
{
    for (uint32_t i = 0; i < t->s.nkept; i++) {
        const struct kept_child *c = &t->child[i];
        int code = c->told ? untold(c->pid, WNOWAIT) : 0;
        if (code && (code == CLD_STOPPED) == c->stopped)
            untold(c->pid, 0);
    }
    if (t->s.nkept)
        child_unheard(t->heard);
}

void kept_close(struct transfer *t)
{
    if (t->s.kept)
        mp_free(&t->kept);
    free(t->child);
    t->child = NULL;
    t->s.kept = NULL;
    t->s.nkept = 0;
}
