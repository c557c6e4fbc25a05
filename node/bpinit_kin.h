/* bpinit_kin.h - stand-ins, on a node, of processes whose relatives are here
 *
 * A parent that lives on another machine: its children here must have somebody
 * whom getppid() names, who waits for them, and whom they can signal. That is a
 * process of ours under the parent's pid, which shares our memory and our
 * descriptors, so that whatever makes a child in bpinit makes one in there.
 * What it sees (ends and stops of children, signals) comes by a pipe.
 *
 * A child that lives on another machine: its parent here has made a bpghost, as
 * on the master. We watch that it is not killed, and ring its bell.
 */
#ifndef NODE_BPINIT_KIN_H
#define NODE_BPINIT_KIN_H
#include <signal.h>
#include <stdint.h>
#include <sys/types.h>
#include "bus/rundir.h"
#include "node/bpinit.h"

struct kin_name { /* of a parent, everywhere */
    pid_t pid;   /* as it sees itself */
    int node;    /* where it is; -1 the master */
    uint64_t id; /* its start there, so that a pid used again is somebody else */
};

typedef struct kin_parent kin_parent_t;
struct plan;

#define NODE_BPGHOST NODE_RUN "/bpghost"

kin_t *kin_create(struct init *in, struct err *err);
void kin_destroy(kin_t **k);

/* The stand-in for "parent" of a map: [pid, node, id, uid, gid, comm], made now
 * if it is not there. 0 and *out NULL: the map names none. */
int kin_parent(struct init *in, const msgpack_object *map, kin_parent_t **out,
               struct err *err);
pid_t kin_parent_npid(const kin_parent_t *p);
pid_t kin_program(const kin_parent_t *p); /* the same, of one that is a bpghost; else 0 */
void kin_pack_name(const kin_parent_t *p, mp_buf *m); /* [pid, node, id, its own parent's?] */

/* The stand-in becomes a ghost of its own (bpinit_left.c), as which its process, which
 * plan is about, comes back. */
int kin_become(kin_parent_t *p, const struct plan *plan, struct err *err);

/* What all stand-ins have told till now. They tell the end of a child before they take it:
 * so of whoever had a number that is free all is heard then, before another gets it.
 * keep, whose next child that will be, does not end by it; NULL fine. */
void kin_hear(struct init *in, kin_parent_t *keep);

/* child_start(), as the parent's stand-in does it; NULL: ourselves. */
pid_t kin_start(struct init *in, kin_parent_t *p, struct child *c, pid_t pid);
void kin_child_added(kin_parent_t *p); /* a body is its child; NULL fine */
void kin_child_not(kin_parent_t *p);   /* it is none after all; before kin_parent_settle() */
/* It ends if no child of it was made. NULL fine. */
void kin_parent_settle(kin_parent_t *p);
/* Before it is sent SIGCONT, and after. NULL fine. */
void kin_child_continues(kin_parent_t *p, pid_t npid);
void kin_child_ended(struct init *in, kin_parent_t *p);

/* The real parent is dead: its children are ours. */
int kin_orphan(struct init *in, const msgpack_object *map, struct err *err);
/* True: npid is, or was, one of our stand-ins, and its status has been dealt with. */
bool kin_status(struct init *in, pid_t npid, int status);
bool kin_stands(const struct init *in, pid_t npid);
kin_parent_t *kin_by_npid(const struct init *in, pid_t npid); /* one of our own; NULL */

/* ---- bpinit_left.c: processes that leave children here, and come back ---- */
/* npid, which is somewhere else now, has children here: it stands for itself, as a
 * program. map: "name" as "parent" above, "kids" [[npid, launch]...], of which took
 * gets the *n that are bodies now. own: whose child it is itself; NULL none. False: it
 * has none here, and may end. */
bool kin_leave(struct init *in, pid_t npid, struct kin_parent *own, const msgpack_object *map,
               mp_buf *took, uint32_t *n);
/* What wait() has said to by. */
void kin_left_child(struct init *in, pid_t by, pid_t pid, int status, const struct rusage *ru);
/* What npid was sent, if it is one of these. */
void kin_left_signal(struct init *in, pid_t npid, int sig, const uint64_t *value, pid_t from,
                     uid_t uid);
/* pid stands for one that is elsewhere, as a program, and is to go on so; it has children. */
bool kin_is_left(const struct init *in, pid_t pid);
bool kin_keeps(const struct init *in, pid_t pid);
/* The same, and it is a child of up. */
bool kin_keeps_under(const struct init *in, pid_t pid, pid_t up);
/* Somebody stands for process pid here, and is ready to be it; err->code: not. */
bool kin_waits(struct init *in, const struct plan *plan, pid_t pid, struct err *err);
/* A child has ended since, of which it does not know. */
bool kin_missed(const struct init *in, pid_t npid);
/* b is what stood for it till now. */
void kin_arrived(struct init *in, struct body *b);

/* ---- bpinit_stand.c: children that live elsewhere ---- */
stands_t *stands_create(struct init *in, struct err *err);
void stands_destroy(stands_t **t);
bool stand_is(const struct init *in, pid_t npid);
/* It has ended, and is about to be told of as gone. */
void stand_gone(struct init *in, pid_t npid, uint32_t gen);
int stand_begin(struct init *in, const msgpack_object *map, struct err *err);
/* npid, a child of parent's, was made to stand for somebody when parent arrived. */
int stand_made(struct init *in, pid_t npid, pid_t parent, uint64_t launch, struct err *err);
/* parent has not come after all, by this launch. */
void stands_end(struct init *in, uint64_t launch);
/* parent lives elsewhere, and its old self is gone: so are those of its children, but for
 * those that have children here themselves (kin_keeps). */
void stands_left(struct init *in, pid_t parent);
/* It has just left: they are about to end. */
void stands_part(struct init *in, pid_t parent);
bool stand_parts(const struct init *in, pid_t npid);
/* Something that it was sent is in the journal. */
void stand_said(struct init *in, pid_t npid);
/* Has all that what stands for these was sent reached those? */
int stand_quiet(struct init *in, const msgpack_object *map, struct err *err);
int stand_ring(struct init *in, const msgpack_object *map, struct err *err);
/* npid, who stands for a child or a parent, was sent what the map says. */
int stand_cry(struct init *in, pid_t npid, const msgpack_object *map, struct err *err);
/* A ghost is at its place. */
void stand_here(struct init *in, pid_t npid);
/* npid, a process here that is elsewhere now, stands for itself. -1: its parent is not
 * here. gen: its name with npid. */
int stand_self(struct init *in, pid_t npid, uint32_t *gen);
bool stand_known(const struct init *in, pid_t npid);
void stand_forget(struct init *in, pid_t npid); /* it is the process itself */
void stand_bell(pid_t npid, int op, uint32_t arg);

#endif
