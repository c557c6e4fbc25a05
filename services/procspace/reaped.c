/* reaped.c - what wait() has said of children that we do not know yet
 *
 * A child that a program of a node has on the master can end while procspace is away.
 * The ghost of its parent tells how, once; and who has just been started knows neither
 * the child nor its stand-in before that one's node has spoken. So it is kept until then.
 */
#include <stdlib.h>
#include "services/procspace/kids.h"

#define KEEP_MS 60000

struct reaped {
    struct reaped *next;
    pid_t parent, pid; /* that ghost's, the child's */
    int status;
    int64_t until;
};

static void end(procspace_t *ps, struct kid *k, int status)
{
    home_tell_end(ps, k->p.node, k->npid, status);
    kid_gone(ps, k, status);
}

static bool is_it(const struct kid *k, pid_t parent, pid_t pid)
{
    return k->stands && !k->body && k->p.pidfd < 0 && k->p.state != PROC_ENDED &&
           k->parent_ghost == parent && k->npid == pid;
}

bool reaped_before(procspace_t *ps, struct kid *k)
{
    for (struct reaped **at = &ps->reaped; *at; at = &(*at)->next) {
        struct reaped *r = *at;
        if (!is_it(k, r->parent, r->pid))
            continue;
        int status = r->status;
        *at = r->next;
        free(r);
        end(ps, k, status);
        return true;
    }
    return false;
}

struct looking {
    pid_t parent, pid;
    struct kid *found;
};

static void may_be(void *arg, struct kid *k)
{
    struct looking *l = arg;

    if (is_it(k, l->parent, l->pid))
        l->found = k;
}

void reaped_note(procspace_t *ps, pid_t parent, pid_t pid, int status)
{
    int64_t now = now_ms();

    struct looking looking = { parent, pid, NULL };
    kids_each(ps, may_be, &looking);
    if (looking.found) {
        end(ps, looking.found, status);
        return;
    }
    for (struct reaped **at = &ps->reaped; *at;) {
        struct reaped *old = *at;
        if (old->until > now && (old->parent != parent || old->pid != pid)) {
            at = &old->next;
            continue;
        }
        *at = old->next;
        free(old);
    }
    struct reaped *r = ps->recovery ? malloc(sizeof *r) : NULL;
    if (!r)
        return;
    *r = (struct reaped){ ps->reaped, parent, pid, status, now + KEEP_MS };
    ps->reaped = r;
}
