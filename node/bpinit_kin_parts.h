/* bpinit_kin_parts.h - stand-ins of parents from the inside
 *
 *   bpinit_kin.c    those that we make: processes that run in our memory
 *   bpinit_left.c   those that are programs: what a process becomes here that leaves
 *                   children behind, or what one of ours becomes when it comes
 */
#ifndef NODE_BPINIT_KIN_PARTS_H
#define NODE_BPINIT_KIN_PARTS_H
#include <stdatomic.h>
#include <stdbool.h>
#include "bus/rundir.h"
#include "node/bpinit_kin.h"
#include "node/bpinit_spawn.h"

#define KIN_CONTS 1024 /* two children that share one may miss each other's stop */

struct kin_parent {
    struct kin_parent *next;
    struct init *in;
    struct kin_name name;
    uid_t uid;
    gid_t gid;
    char comm[16];
    pid_t npid, init;
    int pidfd, read_fd, write_fd;
    uint32_t children;
    kin_parent_t *own; /* whose child it is itself, if that lives elsewhere */
    bool leaving;
    void *stack;
    _Atomic unsigned conts[KIN_CONTS]; /* by pid of child: 2 for each SIGCONT; odd: one is being sent */
    /* the call that it is to carry out */
    _Atomic int call;
    _Atomic int leave;
    struct child *child;
    pid_t want, result;
    struct kin_parent *under; /* or: make this one's stand-in */
    const struct plan *become; /* or: execute bpghost, with these */
    char **argv, **envp;
    _Atomic int program; /* cleared by the kernel when it has */
    /* of one that is a program */
    bool left;
    bool missed; /* it has waited for a child since its process is on the way back */
};

struct kin {
    struct kin_parent *first;
};

/* ---- bpinit_left.c ---- */
void left_begin(struct kin_parent *p);  /* it is a program from now on */
/* One that stands for a child here is its stand-in as a parent too. The row: [pid, ...] */
struct kin_parent *left_take(struct init *in, pid_t npid, const msgpack_object *name);
void left_leaves(struct kin_parent *p); /* nobody needs it any more */
void left_gone(struct kin_parent *p);   /* it has ended */

void kin_leaves(struct kin_parent *p); /* nobody needs it any more, or its process is dead */
/* Its process has ended, or it is none of these any more. */
void kin_forget(struct kin_parent *p);
/* What wait() has said to it of a child. */
void kin_told(struct kin_parent *p, pid_t pid, int status, const struct rusage *ru);
struct kin_parent **kin_place(kin_t *k, const struct kin_name *name);
int kin_read_name(const msgpack_object *o, struct kin_name *name);

#endif
