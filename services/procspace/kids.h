/* kids.h - processes that bodies made */
#ifndef PROCSPACE_KIDS_H
#define PROCSPACE_KIDS_H
#include "services/procspace/procspace.h"

#define KID_ARGS 4096

struct name {
    char comm[16];
    char *args; /* each ends with NUL */
    size_t args_len;
};

enum kid_stage {
    KID_WAITING, /* for its ghost to be made */
    KID_ASKED,   /* somebody is making it */
    KID_HERE,
    KID_NONE, /* there will be none */
};

struct kid {
    struct proc p; /* pid 0 and pidfd -1 until its ghost is here; gen: its start */
    struct kid *next;   /* in its bucket, by node and npid */
    struct proc *body;  /* it is a stand-in for this one, elsewhere (home.c) */
    struct kid *queued; /* behind it at the ghost that forks theirs */
    pid_t via;          /* that ghost; 0 none */
    pid_t npid, ppid;   /* on the node */
    pid_t parent_ghost; /* of ppid, if that is a body; else 0 */
    pid_t brother;      /* the ghost of one that has the same parent, elsewhere; 0 */
    pid_t pgid, pgid_ghost, sid;
    struct name name;
    enum kid_stage stage;
    bool orphan, given, stopped;
    bool stands; /* for one that lives elsewhere, as its node says */
    bool begun; /* its ghost was told to be a process (home.c) */
    int timer;
    struct cry *cries; /* what it was sent before it was known for whom it stands (home.c) */
    uint64_t as_body; /* the launch that it is to be, should its parent leave; 0 */
};

struct kid *kid_find(procspace_t *ps, int node, pid_t npid);
void kid_born(procspace_t *ps, int node, pid_t npid, uint32_t gen, const struct event *e);
void kid_gone(procspace_t *ps, struct kid *k, int status);

/* --- home.c --- */
void home_kid_born(procspace_t *ps, struct kid *k);
void home_kid_gone(struct kid *k);
void home_kid_here(procspace_t *ps, struct kid *k);
struct proc *kid_parent(procspace_t *ps, const struct kid *k);
/* e: its node says so; NULL: it was so before it was known for whom it stands */
void home_halted(procspace_t *ps, struct kid *k, const struct event *e);
/* k, whose process runs elsewhere as p, stands for it from now on; what it is to hear
 * waits until its node has heard that (home_speak). */
void home_stays(procspace_t *ps, struct proc *p, struct kid *k);
void home_speak(procspace_t *ps, int node, pid_t npid);
/* cries.c: what k was sent before it was known for whom it stands */
void home_cries(procspace_t *ps, struct kid *k);
void home_cries_free(struct kid *k);

void name_free(struct name **n);

/* p is what k was: its ghost, its number, its children. */
void kid_takes(procspace_t *ps, struct proc *p, struct kid *k);
/* pid, a ghost or (real) the process itself, is who stands for it on the master. */
void kid_stands(procspace_t *ps, struct kid *k, pid_t pid, int pidfd, bool real);
void kids_each(procspace_t *ps, void (*fn)(void *arg, struct kid *k), void *arg);
void kids_place(procspace_t *ps); /* those who still wait for what is not known */

/* --- reaped.c --- */
/* It has ended before we knew it, and its parent's ghost has told how: k is no more. */
bool reaped_before(procspace_t *ps, struct kid *k);
/* wait() has said so to that ghost, of a child that is not known. */
void reaped_note(procspace_t *ps, pid_t parent, pid_t pid, int status);

/* orphan.c: start a ghost that is init's child. It will say procspace.here. */
int orphan_start(const struct kid *k, struct err *err);

#endif
