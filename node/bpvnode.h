/* bpvnode.h - a virtual node: "the machine" around one bpinit and its agent
 *
 *   bpvnode.c          command line
 *   bpvnode_parts.c    root file system, network, and the two programs
 *   bpvnode_machine.c  switch on, watch, switch off
 */
#ifndef NODE_BPVNODE_H
#define NODE_BPVNODE_H
#include <limits.h>
#include <stdint.h>
#include <sys/types.h>
#include "bus/err.h"

#define MACHINE_EXIT_OFF 125 /* halted or powered off: do not switch on again */

struct machine {
    int node;
    const char *run, *state, *bus;
    uint64_t size; /* of the root file system, bytes */
    int ready_fd;  /* handed to the first bpnode; -1 none */
    char space[PATH_MAX], key[PATH_MAX], master_key[PATH_MAX];
    char boot[33];
    char port[16];    /* our end of its network cable */
    char address[16]; /* the node's */
    int root_fd, netns, utsns;
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

/* A machine's whole life; what to exit with, or -1. */
int machine_run(struct machine *m, struct err *err);

void machine_log(const struct machine *m, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
