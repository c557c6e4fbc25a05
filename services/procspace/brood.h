/* brood.h - children of a process that moves */
#ifndef PROCSPACE_BROOD_H
#define PROCSPACE_BROOD_H
#include "services/procspace/kids.h"
#include "services/procspace/starting.h"

/* "children" of the request: [[pid, leads, comm]...], as their parent knows them. EBUSY:
 * one of them cannot be kept. Nothing is changed by it. */
int brood_take(struct starting *s, struct err *err);
bool brood_any(const struct starting *s);
void brood_pack(const struct starting *s, mp_buf *m); /* the list, for the node */

/* Have none of them ended that would be waited for where nobody is any more? */
bool brood_whole(procspace_t *ps, uint64_t launch);
/* Their parent runs at the place that it went to. */
void brood_gone(procspace_t *ps, uint64_t launch);
/* It does not. */
void brood_drop(procspace_t *ps, uint64_t launch);
void broods_lost(procspace_t *ps, int node);

/* A node has told of k. True: it stands for one of a brood, or of what may be one of
 * before our start; nobody needs to make a ghost for it. */
bool brood_born(procspace_t *ps, struct kid *k);
/* A process of the master has ended, whose parent's ghost says how. */
void brood_ended(procspace_t *ps, pid_t pid, int status);
/* After a restart: more is known. last: all that will be. */
void broods_recover(procspace_t *ps, bool last);

#endif
