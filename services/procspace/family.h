/* family.h - children of a process that moves */
#ifndef PROCSPACE_FAMILY_H
#define PROCSPACE_FAMILY_H
#include "services/procspace/kids.h"
#include "services/procspace/starting.h"

/* "children" of the request: [[pid, leads, comm]...], as their parent knows them. EBUSY:
 * one of them cannot be kept. Nothing is changed by it. */
int family_take(struct starting *s, struct err *err);
/* Those that are to have a stand-in where their parent goes; or that are there. */
bool family_any(const struct starting *s, bool there);
void family_pack(const struct starting *s, mp_buf *m); /* the list, for the node */
void family_pack_there(const struct starting *s, mp_buf *m); /* numbers */

/* Have none of them ended that would be waited for where nobody is any more? */
bool family_whole(procspace_t *ps, uint64_t launch);
/* Their parent runs at the place that it went to. */
void family_gone(procspace_t *ps, uint64_t launch);
/* And what it was on a node has given up those that it has made there. */
void family_took(procspace_t *ps, uint64_t launch, pid_t npid, const struct proc *p);
void family_parted(procspace_t *ps, uint64_t launch);
/* p, that has been there with its parent, has left: npid stands for it, as soon as the
 * node tells of it. */
void family_stands(procspace_t *ps, const struct proc *parent, int node, pid_t npid,
                   const struct proc *p);
void family_made_ended(procspace_t *ps, const struct kid *k, int status);
/* It does not. */
void family_drop(procspace_t *ps, uint64_t launch);
void families_lost(procspace_t *ps, int node);

/* A node has told of k. True: it stands for one of a family, or of what may be one of
 * before our start; nobody needs to make a ghost for it. */
bool family_born(procspace_t *ps, struct kid *k);
/* The same of one that has been told of: nobody knows yet for whom it stands. */
bool family_awaits(procspace_t *ps, const struct kid *k);
bool family_may_stand(const struct kid *k);
/* k has ended: because its parent is elsewhere, and so is what stands for its child? */
bool family_left(procspace_t *ps, const struct kid *k);
/* A process of the master has ended, whose parent's ghost says how. */
void family_ended(procspace_t *ps, pid_t pid, int status);
/* p, of the master, is not known to us any more: what its parent's ghost says of it is. */
void family_let_go(procspace_t *ps, const struct proc *p);
/* After a restart: more is known. last: all that will be. */
void families_recover(procspace_t *ps, bool last);

#endif
