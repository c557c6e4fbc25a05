/* forwarder.h - a bpfwd that copies what a process of a node says to descriptors here */
#ifndef BUS_FORWARDER_H
#define BUS_FORWARDER_H
#include <stdint.h>
#include <sys/types.h>

/* Of the one process of this launch, which runs on node. As its user, and nobody's
 * child. out: for what is said on 1 and 2; -1: /dev/null. Called as root. -1: errno. */
int forwarder_start(uint64_t launch, int node, uid_t uid, gid_t gid, const int out[2]);

#endif
