/* homed.c - launches that programs on nodes ask for
 *
 * Who asks is known from our own books (home.c). Ranks on other nodes are started
 * as any; those on the master are ghosts first, that become the process.
 */
#include <errno.h>
#include "services/procspace/starting.h"

#define LOCAL_MS 8000 /* for a ghost to be there, and to become the process */

/* The asker is a process of a node: whose it is we know ourselves. */
int parse_homed(struct starting *s, struct svc_req *req, struct err *err)
{
    struct proc *p = home_asker(s->ps, s->home, req->body, &s->asker, err);

    if (!p || home_identity(p, &s->who, err) < 0)
        return -1;
    if (s->self)
        return err_set(err, ENOSYS, "not from a node");
    s->mover = home_ghost(p);
    s->parent = kin_parent_there(p, s->asker, err);
    return s->parent ? take_ghosts(s, err) : -1;
}

/* --- ranks on the master --- */

void launch_local(struct proc *p, int code, const char *why)
{
    struct starting *s = p->starting;

    p->starting = NULL;
    if (!s)
        return;
    if (code)
        rank_failed(s, p->rank, code, why);
    if (--s->locals == 0 && s->nodes_done)
        starting_finish(s);
}

/* The request as it was, and which rank it is about; what opens the way of its image. */
void launch_pack_local(const struct proc *p, const char *token, mp_buf *out)
{
    const struct starting *s = p->starting;
    const msgpack_object_map *b = &s->body.via.map;

    mp_map(out, b->size + 1 + (token != NULL));
    for (uint32_t i = 0; i < b->size; i++) {
        mp_obj(out, &b->ptr[i].key);
        if (s->io.b.size && mp_is(&b->ptr[i].key, "io"))
            msgpack_sbuffer_write(&out->b, s->io.b.data, s->io.b.size);
        else
            mp_obj(out, &b->ptr[i].val);
    }
    mp_kuint(out, "rank", p->rank);
    if (token)
        mp_kstr(out, "token", token);
}

static void locals_late(void *arg)
{
    struct starting *s = arg;
    struct launch *l = launch_find(s->ps, s->id);

    s->late = 0;
    for (uint32_t r = 0; l && r < s->ranks; r++)
        if (l->rank[r] && l->rank[r]->starting == s) {
            bool last = s->locals == 1;
            launch_local(l->rank[r], EAGAIN, "its parent's ghost has not made it");
            if (last)
                return;
        }
}

static void start_local(struct starting *s, uint32_t r, struct proc *p)
{
    bool failed = p->state == PROC_ENDED && p->cause && p->cause->kind == CAUSE_START;

    if (failed) /* asked again: it has failed before */
        rank_failed(s, r, EAGAIN, p->cause->text ? p->cause->text : "it was not started");
    if (p->state != PROC_STARTING)
        return;
    p->starting = s;
    s->locals++;
}

void start_locals(struct starting *s)
{
    struct launch *l = launch_find(s->ps, s->id);

    for (uint32_t r = 0; l && r < s->ranks; r++)
        if (s->node[r] < 0 && !s->out[r] && l->rank[r])
            start_local(s, r, l->rank[r]);
    if (s->locals && s->image)
        image_locals(s);
    if (s->locals)
        s->late = loop_timer(s->ps->loop, LOCAL_MS, false, locals_late, s);
    for (uint32_t r = 0; l && r < s->ranks; r++)
        if (l->rank[r] && l->rank[r]->starting == s)
            home_start(l->rank[r]);
}
