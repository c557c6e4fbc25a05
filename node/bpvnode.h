/* bpvnode.h - "the machine" around one bpinit and its agent
 *
 * A virtual node (bpvnode), or a real one, of which we are the first program
 * (boot/).
 *
 *   bpvnode.c          command line
 *   bpvnode_parts.c    root file system, network, and the two programs
 *   bpvnode_cgroup.c   its control groups
 *   bpvnode_machine.c  switch on, watch, switch off
 */
#ifndef NODE_BPVNODE_H
#define NODE_BPVNODE_H
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "bus/err.h"
#include "bus/loop.h"

#define MACHINE_EXIT_OFF 125 /* halted or powered off: do not switch on again */

struct machine {
    int node;      /* real: -1 if it is not known yet */
    bool real;     /* network and host name are the machine's own; its devices are seen */
    const char *image; /* real: hash of the boot image, or NULL */
    /* real: called once, before the loop runs */
    void (*on_loop)(loop_t *loop, void *arg);
    void *on_loop_arg;
    int init_status; /* what bpinit exited with, SPACE_EXIT_*; -1: it did not */
    const char *run, *state, *bus;
    uint64_t size; /* of the root file system, bytes */
    int ready_fd;  /* handed to the first bpnode; -1 none */
    char space[PATH_MAX], key[PATH_MAX], master_key[PATH_MAX];
    char boot[33];
    char port[16];    /* our end of its network cable */
    char address[16]; /* the node's */
    int root_fd, netns, utsns;
    int space_fd; /* where bpinit will listen for the agent, until it has it */
    int cgroup[3]; /* its control groups: main, memory, processors; -1 none */
    bool cgroup2;  /* the main one is of version 2 */
    pid_t init, agent;
    int init_fd, agent_fd; /* pidfds */
};

/* Where everything of this node is. Makes its folders. */
int machine_places(struct machine *m, struct err *err);
int machine_root(struct machine *m, struct err *err);
/* bpinit in new namespaces, held at the threshold of its exec: *go is written
 * one byte when the network is there. */
int machine_start_init(struct machine *m, int *go, struct err *err);
int machine_network(struct machine *m, struct err *err);
int machine_start_agent(struct machine *m, struct err *err);

/* Best effort: a node can do without. */
void machine_cgroups(struct machine *m);
/* In bpinit-to-be: into the node's group, which becomes the top of what it sees. */
void machine_enter_cgroup(const struct machine *m);
void machine_remove_cgroups(struct machine *m);

/* A machine's whole life; what to exit with, or -1. A real one is to look at
 * init_status. */
int machine_run(struct machine *m, struct err *err);

void machine_log(const struct machine *m, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
