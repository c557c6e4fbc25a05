/* kept.c - children of a process that goes elsewhere
 *
 * They stay where they are, and are its children wherever it is: where it goes,
 * something stands for each of them. Which those are is what the kernel says;
 * where they are, the cluster knows.
 */
#include <errno.h>
#include <sys/wait.h>
#include "clients/libbproc/transfer.h"
#include "image/going.h"

static bool has_children(bool ended)
{
    siginfo_t si = { 0 };

    return waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) == 0 && (!ended || si.si_pid);
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
    return n > 0 ? 0 : lib_errno(EBUSY); /* a kernel that does not say who they are */
}

void kept_close(struct transfer *t)
{
    if (t->s.kept)
        mp_free(&t->kept);
    t->s.kept = NULL;
    t->s.nkept = 0;
}
