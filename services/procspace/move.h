/* move.h - images of processes on their way to nodes: between launch.c and move.c */
#ifndef PROCSPACE_MOVE_H
#define PROCSPACE_MOVE_H
#include "services/procspace/procspace.h"

struct move;

struct move *move_new(procspace_t *ps, uint64_t launch, int64_t uid, bool self);
/* A node has said where its image is to go. */
int move_stop(struct move *m, int node, const char *addr, const msgpack_object *image,
              struct err *err);
/* p, which is on a node, is to come to the master, in the place of its ghost. */
int move_home(struct move *m, struct proc *p, struct err *err);
/* Those of l that are being started here come as copies of a process of a node. */
int comers_open(struct move *m, const struct launch *l, struct err *err);
const char *move_token(const struct move *m);
/* Five pairs of a map: where its image is to go. */
void move_pack_way(const struct move *m, mp_buf *out);
/* It has been answered once, to who could not hear it: the same again. */
/* Its mover asks whether it has gone. */
bool move_is_asked(procspace_t *ps, uint64_t launch);
bool move_begun(procspace_t *ps, uint64_t launch, int64_t uid, svc_token *asker);
/* All have: tell them of each other, then give the asker its answer. mover: whose
 * copies they are, or its ghost; 0: it has none here. */
void move_begin(struct move *m, svc_token *asker, pid_t mover, const mp_buf *answer);

#endif
