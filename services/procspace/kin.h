/* kin.h - relatives on different machines
 *
 * A parent has a name, [pid, node, id]: its pid as it sees itself, where it was
 * when it was first spoken of (-1 the master), and its start there. Nodes that
 * run children of it have a stand-in of that name (node/bpinit_kin.h).
 */
#ifndef PROCSPACE_KIN_H
#define PROCSPACE_KIN_H
#include "bus/nodespec.h"
#include "services/procspace/procspace.h"

struct parent {
    struct parent *next;
    procspace_t *ps;
    pid_t pid;
    int node;
    uint64_t id;
    int64_t uid, gid;
    char comm[16];
    struct proc *proc; /* it, if it is one that we know: on a node */
    int pidfd;         /* its, or its ghost's, on the master; -1 none */
    struct parent *over; /* its own, as its children's nodes know it; NULL: none */
    uint32_t refs;
    bool kept; /* one of these is ours, until it ends */
    nodelist_t nodes; /* that may have a stand-in of it */
};

/* The process pid of the master as a parent; a reference that kin_release()
 * gives back. NULL: *err. */
struct parent *kin_parent_here(procspace_t *ps, pid_t pid, struct err *err);
/* The parent of pid here; NULL: it has none that counts. */
struct parent *kin_parent_of(procspace_t *ps, pid_t pid);
/* One that runs on a node, under this pid there. */
struct parent *kin_parent_there(struct proc *p, pid_t npid, struct err *err);
/* The same process by the name that it has on this node, if something stands for it there
 * already: it had left children when it was somewhere else. */
void kin_as_known(struct parent **par, int node);
void kin_release(struct parent **par);
/* It is where its child is, by this launch: nothing stands for it there any more. */
void kin_came(const struct parent *par, int to, uint64_t launch);
struct parent *kin_hold(struct parent *par); /* one reference more */
/* It has, or may have, a stand-in on that node. */
void kin_stands(struct parent *par, int node);
/* Something stands for it there whose only child may be a stand-in too: known till it ends. */
void kin_keep(struct parent *par, int node);
/* A parent of this number may have a stand-in there. */
bool kin_may_stand(procspace_t *ps, pid_t pid, int node);
/* p is its child, and runs on p->node. */
void kin_adopt(struct parent *par, struct proc *p);
/* p is now what old was, somewhere else; NULL: a process of the master. */
void kin_moved(procspace_t *ps, const struct proc *old, struct proc *p);
/* Who has made p by fork, and runs beside it, by its number there; NULL: nobody. (move_kin.c) */
struct proc *kin_maker(procspace_t *ps, const struct proc *p, pid_t *npid);
/* What the kernel says of a process of the master: its parent (0: it is not there),
 * whether its real or saved user is uid. */
pid_t kin_ppid(pid_t pid);
bool kin_is_of(pid_t pid, int64_t uid);
/* The value of "parent" in what is sent to nodes. over: with its own parent, as whose child
 * its stand-in is made, and so it itself once it comes into that one's place. */
void kin_pack(struct parent *par, bool over, mp_buf *m);

#endif
