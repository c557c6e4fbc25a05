/* late.c - ends of processes whose stand-ins are not there yet
 *
 * A process can have moved, run and ended while procspace was away, or before
 * it has heard of the move, and its old self learns only now that it is to be
 * the ghost. Such an end is kept until that ghost stands, which is then told. What
 * is no ghost is never signalled: only the kernel knows who bears that number.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/wait.h>
#include "services/procspace/procspace.h"

#define LOOK_MS 50
#define KEEP_MS 300000

struct late {
    procspace_t *ps;
    pid_t pid;
    uint64_t launch, as;
    int status;
    int64_t until;
};

/* True: there is nothing more to do about it. */
static bool told(const struct late *e)
{
    struct proc p = { .pid = e->pid };
    struct err err = { 0 };
    struct ghost_kid who;
    uint64_t of;

    p.pidfd = ghost_take(e->pid, -1, &of, &err);
    if (p.pidfd < 0)
        return err.code == ESRCH;
    /* It may have stood beside a parent on a node, and names that one's launch. */
    if (of == e->launch || (e->as && of == e->as) ||
        (!proc_find(e->ps, e->pid) && ghost_kid(e->pid, &who) && who.npid == e->pid)) {
        p.status = e->status;
        proc_tell_end(&p);
    }
    close(p.pidfd);
    return true;
}

static void look(void *arg)
{
    struct late *e = arg;
    bool over = now_ms() > e->until;

    if (!told(e) && !over) {
        loop_timer(e->ps->loop, LOOK_MS, false, look, e);
        return;
    }
    if (over)
        svc_log("warning", "process %d has ended where it moved to, and nobody became its ghost",
                (int)e->pid);
    free(e);
}

void end_unknown(procspace_t *ps, pid_t pid, uint32_t gen, uint64_t launch, uint64_t as, int status)
{
    struct proc *p = proc_find(ps, pid);
    struct late e = { ps, pid, launch, as, status, now_ms() + KEEP_MS };

    if (p && p->state != PROC_ENDED && proc_first(p) == (as ? as : launch)) {
        if (gen > p->gen) /* it has moved on, and we have not been told */
            proc_ended(ps, p, status);
        return;
    }
    if (told(&e) || gen < 2)
        return;
    struct late *kept = malloc(sizeof *kept);
    if (!kept) {
        svc_log("error", "process %d has ended, and its ghost is not told: out of memory",
                (int)pid);
        return;
    }
    *kept = e;
    loop_timer(ps->loop, LOOK_MS, false, look, kept);
}
