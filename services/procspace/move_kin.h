/* move_kin.h - processes that move, and their relatives on the node that they leave */
#ifndef PROCSPACE_MOVE_KIN_H
#define PROCSPACE_MOVE_KIN_H
#include "services/procspace/kids.h"
#include "services/procspace/move_parts.h"
#include "services/procspace/starting.h"

/* The mover is npid of node s->from, which its agent knows by that alone: one that was
 * made there. */
int kin_mover(struct starting *s, pid_t npid, struct err *err);
/* The mover is a process of the master whose parent waits on a node, by k. */
int kin_take_local(struct starting *s, struct launch *l, struct kid *k, struct err *err);
/* The kid that it is; NULL: it is none. */
struct proc *kin_made(const struct starting *s);
/* What it was may be a kid; whoever waits for it there is s->parent. */
int kin_take_mover(struct starting *s, const struct proc *old, struct err *err);
/* Nobody reads what it says where it is. */
bool kin_mute(procspace_t *ps, const struct proc *was);
/* The node where its parent will wait for it, and for whom there; -1: on the master. */
int kin_home(const struct starting *s, const struct proc *was, pid_t *npid);
/* The launch in whose streams it speaks and others will when it has gone; 0: none. */
uint64_t kin_speaks_in(procspace_t *ps, const struct proc *was);
/* p is there: in the place of what it was, as its relatives see it. */
void kin_arrived(struct move *m, struct proc *p);
/* What the node that it leaves is told besides: "name", "kids". */
uint32_t kin_pack_departure(struct move *m, const struct proc *was, mp_buf *out);
/* The same of a move that an earlier procspace began: p, or NULL, is what we took it for
 * till now. */
void kin_seen(struct move *m, struct proc *p);
/* The node's answer. */
void kin_departed(struct move *m, const msgpack_object *value);
/* p comes to the master: whoever stands for it there is told. */
int kin_call_home(struct move *m, struct proc *p, struct err *err);
/* It is there. True: its parent waits for it on a node. */
bool kin_is_home(struct move *m, struct proc *p);
/* Who stands for it on a node; NULL: nobody. */
struct kid *kin_stand(const struct proc *was);
void kin_move_free(struct move *m);

#endif
