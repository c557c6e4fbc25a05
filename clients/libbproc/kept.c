/* kept.c - children of a process that goes elsewhere
 *
 * They stay where they are, and are its children wherever it is: where it goes,
 * something stands for each of them. Which those are is what the kernel says;
 * where they are, the cluster knows.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "clients/libbproc/transfer.h"

static void read_comm(struct kept *k)
{
    char path[48];

    snprintf(path, sizeof path, "/proc/%d/comm", (int)k->pid);
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, k->comm, sizeof k->comm - 1);
    k->comm[n > 0 ? n : 0] = 0;
    k->comm[strcspn(k->comm, "\n")] = 0;
    if (!k->comm[0])
        snprintf(k->comm, sizeof k->comm, "child");
}

static bool has_children(bool ended)
{
    siginfo_t si = { 0 };

    return waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) == 0 && (!ended || si.si_pid);
}

static int add(struct transfer *t, pid_t pid)
{
    struct kept *more = realloc(t->kept, (t->s.nkept + 1) * sizeof *more);

    if (!more)
        return lib_errno(ENOMEM);
    t->kept = more;
    t->s.kept = more;
    more += t->s.nkept++;
    *more = (struct kept){ .pid = pid, .leads = getpgid(pid) == pid };
    read_comm(more);
    return 0;
}

int kept_open(struct transfer *t)
{
    char path[64];
    int pid;

    if (!has_children(false))
        return 0;
    /* On a node, who has ended is told to us by nobody any more. */
    if (lib_on_node() && has_children(true))
        return lib_errno(EBUSY);
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *f = fopen(path, "re");
    if (!f) /* a kernel that does not say who they are */
        return lib_errno(EBUSY);
    int rc = 0;
    while (rc == 0 && fscanf(f, "%d", &pid) == 1)
        rc = add(t, pid);
    fclose(f);
    return rc == 0 && !t->s.nkept ? lib_errno(EBUSY) : rc;
}

void kept_close(struct transfer *t)
{
    free(t->kept);
    t->kept = NULL;
    t->s.kept = NULL;
    t->s.nkept = 0;
}
