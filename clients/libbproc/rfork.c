/* rfork.c - copies of this process elsewhere: not yet */
#include <errno.h>
#include "clients/libbproc/lib.h"

/* What can be said before: a mistake is told even where copying is not. */
static int check_io(const struct bproc_io_t *io, int iolen)
{
    struct start s = { .cmd = "", .io = io, .iolen = iolen };

    return start_check(&s) < 0 ? -1 : lib_errno(ENOSYS);
}

static int check_nodes(int nnodes, const int *nodes, const int *pids)
{
    if (nnodes <= 0)
        return lib_errno(EINVAL);
    return nodes && pids ? 0 : lib_errno(EFAULT);
}

int _bproc_rfork_io(int node, struct bproc_io_t *io, int iolen, int flags)
{
    (void)node;
    (void)flags;
    return check_io(io, iolen);
}

int _bproc_rfork(int node, int flags) { return _bproc_rfork_io(node, NULL, -1, flags); }
int bproc_rfork(int node) { return _bproc_rfork(node, BPROC_DUMP_EXEC | BPROC_DUMP_OTHER); }

int bproc_rfork_io(int node, struct bproc_io_t *io, int iolen)
{
    return _bproc_rfork_io(node, io, iolen, BPROC_DUMP_EXEC | BPROC_DUMP_OTHER);
}

int _bproc_vrfork_io(int nnodes, int *nodes, int *pids, struct bproc_io_t *io, int iolen,
                     int flags)
{
    (void)flags;
    return check_nodes(nnodes, nodes, pids) < 0 ? -1 : check_io(io, iolen);
}

int _bproc_vrfork(int nnodes, int *nodes, int *pids, int flags)
{
    return _bproc_vrfork_io(nnodes, nodes, pids, NULL, -1, flags);
}

int bproc_vrfork(int nnodes, int *nodes, int *pids)
{
    return _bproc_vrfork(nnodes, nodes, pids, BPROC_DUMP_EXEC | BPROC_DUMP_OTHER);
}

int bproc_vrfork_io(int nnodes, int *nodes, int *pids, struct bproc_io_t *io, int iolen)
{
    return _bproc_vrfork_io(nnodes, nodes, pids, io, iolen,
                            BPROC_DUMP_EXEC | BPROC_DUMP_OTHER);
}
