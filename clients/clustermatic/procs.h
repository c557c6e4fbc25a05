/* procs.h - which processes belong to a cluster
 *
 * Every program under the cluster's supervisor carries CM_SUPERVISED=RUN in
 * its environment; those and all that descend from them (the nodes' bodies
 * among them) are the cluster's. Ghosts are children of whoever ran bpsh and
 * are known by the gate that they speak to. A process is a pid and its start
 * time, so that a pid used again is never mistaken for the old one.
 */
#ifndef CLUSTERMATIC_PROCS_H
#define CLUSTERMATIC_PROCS_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "bus/err.h"

struct proc {
    pid_t pid, ppid;
    uint64_t start; /* clock ticks since the machine's boot */
    char comm[16];
    char state;     /* as in /proc/PID/stat */
    int member;     /* of the cluster */
};

struct proclist {
    struct proc *proc;
    size_t n;
};

uint64_t proc_start(pid_t pid); /* 0: there is no such process */

/* Living processes of the cluster whose run folder this is, zombies left out;
 * ghosts: its ghosts instead. */
int procs_of(const char *run, int ghosts, struct proclist *l, struct err *err);
void procs_free(struct proclist *l); /* fits CLEANUP() */

/* Signal all (only_comm: those called so), by pidfd. */
void procs_signal(const struct proclist *l, int sig, const char *only_comm);
/* Wait until all have gone. Returns how many are left after timeout_ms. */
size_t procs_wait(const struct proclist *l, int timeout_ms);

#endif
