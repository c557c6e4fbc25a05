/* move.c - this process goes on elsewhere
 *
 * Every signal is blocked from before the first question until the process runs
 * where it belongs: those that come meanwhile wait, here in the ghost that we
 * turn into, which passes them on. The image is sent, then the cluster is asked
 * to let it go; until it has answered, nothing of us has been given up.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bus/loop.h"
#include "bus/rundir.h"
#include "clients/libbproc/transfer.h"

#define AGAIN_MAX_MS 5000
#define PLAIN (BPROC_DUMP_EXEC | BPROC_DUMP_OTHER)

/* What can be said before anything is asked. */
static int check(int node, const struct bproc_io_t *io, int iolen, int flags)
{
    struct start s = { .cmd = "", .io = io, .iolen = iolen };

    if (start_check(&s) < 0)
        return -1;
    if (flags & ~BPROC_DUMP_ALL)
        return lib_errno(EINVAL);
    if (node < BPROC_NODE_MASTER)
        return lib_errno(BE_INVALIDNODE);
    return save_threads() ? lib_errno(EBUSY) : 0;
}

static int move(int node, struct transfer *t)
{
    int32_t pid = getpid();
    int code = 0;

    if (kept_open(t) < 0 || transfer_open(t, true) < 0)
        return -1;
    t->self = true;
    int64_t end = now_ms() + AGAIN_MAX_MS;
    int rc = transfer_ask(t, &node, &pid, NULL, 1, &code);
    /* Who comes back to where it was a moment ago may still be ending there; children
     * may be on their way into a stop, or out of it. */
    for (int ms = 1; (rc == 0 ? code : errno) == EAGAIN && now_ms() < end;
         ms = ms < 50 ? ms * 2 : ms) {
        poll(NULL, 0, ms);
        t->launch = launch_id();
        rc = transfer_ask(t, &node, &pid, NULL, 1, &code);
    }
    if (rc == 0 && code)
        rc = lib_errno(code);
    if (rc == 0)
        rc = transfer_send(t, &node, 1, &code);
    if (rc > 0) {
        kept_arrived(t);
        return 0;
    }
    if (rc == 0 && code)
        rc = lib_errno(code);
    if (rc == 0 && lib_on_node()) {
        if (t->stands) /* it has relatives here, who see what it was */
            ghost_become(t->launch, t->s.argv, t->s.nkept > 0);
        transfer_pass(t);
        _exit(0);
    }
    if (rc == 0 && (t->s.iolen >= 0 || forward_start(t->launch, &node, &code, 1) == 0))
        ghost_become(t->launch, t->s.argv, t->s.nkept > 0);
    if (rc == 0) /* it runs there, and there is no way back */
        _exit(errno & 0xff ? errno & 0xff : 1);
    return -1;
}

int move_with(int node, const struct bproc_io_t *io, int iolen, int flags,
              const struct file_list *also)
{
    struct transfer t = { .s = { .io = io, .iolen = iolen }, .flags = flags, .also = also };
    int here = bproc_currnode();
    sigset_t all, old;

    node = lib_node(node);
    if (node == here)
        return 0;
    if (check(node, io, iolen, flags) < 0)
        return -1;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old);
    int rc = move(node, &t), code = errno;
    transfer_close(&t, rc < 0);
    sigprocmask(SIG_SETMASK, &old, NULL);
    return rc < 0 ? lib_errno(code) : 0;
}

int _bproc_move_io(int node, struct bproc_io_t *io, int iolen, int flags)
{
    return move_with(node, io, iolen, flags, NULL);
}

int _bproc_move(int node, int flags) { return _bproc_move_io(node, NULL, -1, flags); }
int bproc_move(int node) { return _bproc_move(node, PLAIN); }

int bproc_move_io(int node, struct bproc_io_t *io, int iolen)
{
    return _bproc_move_io(node, io, iolen, PLAIN);
}
