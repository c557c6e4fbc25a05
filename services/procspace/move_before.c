/* move_before.c - a move that an earlier procspace began
 *
 * Its nodes know what has become of it; theirs is the only word that counts. On the
 * master it is the kernel's: what was let go is a process, and no ghost.
 */
#include <errno.h>
#include <stdlib.h>
#include "services/procspace/move_kin.h"
#include "services/procspace/move_parts.h"

#define AGAIN_MS 100 /* not all nodes have spoken yet */

struct move *move_of_before(procspace_t *ps, uint64_t launch, const struct who *a,
                            const msgpack_object *body, struct err *err)
{
    int64_t uid = a->who.uid;
    pid_t ghost = a->pid ? a->pid : a->npid;
    const msgpack_object_array *nodes;
    int64_t node;

    if (mp_get_array(body, "nodes", &nodes, err) < 0)
        return NULL;
    bool copies = mp_get(body, "pids") != NULL;
    struct move *m = move_new(ps, launch, uid, !copies);
    if (m) {
        m->token[0] = 0;
        m->known = false;
        m->copies = copies;
        m->asked_on = a->node;
        m->mover = a->pid;
        m->ghost = copies ? 0 : ghost;
        m->was_on = copies ? -1 : a->node;
        m->was_npid = a->node >= 0 ? a->npid : 0;
        m->stop = calloc(nodes->size + 1, sizeof *m->stop);
    }
    if (!m || !m->stop) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    for (uint32_t i = 0; i < nodes->size; i++)
        if (mp_as_int(&nodes->ptr[i], &node) && node >= (copies ? -1 : 0) && node <= INT32_MAX)
            m->stop[m->stops++].node = (int)node;
    if (copies && comers_of_before(m, body, err) < 0) {
        m->over = true;
        return NULL;
    }
    if (!m->stops) { /* to the master */
        m->home = HOME_SOUGHT;
        home_seek(m);
    }
    return m;
}

bool move_is_asked(procspace_t *ps, uint64_t launch)
{
    const struct move *m = move_find(ps, launch);

    return m && !m->over && m->asker;
}

/* The node that it has left is told; with less known than of moves of ours (move_depart). */
void move_left_node(void *arg)
{
    struct move *m = arg;
    procspace_t *ps = m->all->ps;
    const struct launch *l = launch_find(ps, m->launch);
    struct proc *p = l && l->ranks ? l->rank[0] : NULL, plain = { .pid = m->ghost };

    m->timer = 0;
    if (!recovered_all(ps)) { /* whom it has left there, and where it is now */
        m->timer = loop_timer(ps->loop, AGAIN_MS, false, move_left_node, m);
        return;
    }
    if (!p)
        kin_seen(m, proc_find(ps, m->ghost));
    move_depart(m, p && p->was ? p->was : &plain, m->was_on);
}
