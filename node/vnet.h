/* vnet.h - the virtual network of virtual nodes, by rtnetlink
 *
 * A bridge in the master's network namespace, one veth pair a node. A call
 * speaks to the namespace in which its socket was opened.
 */
#ifndef NODE_VNET_H
#define NODE_VNET_H
#include <netinet/in.h>
#include <stdint.h>
#include "bus/err.h"

#define VNET_BRIDGE "cm0"
#define VNET_PREFIX 15
#define VNET_MASTER 0xc6120001u /* 198.18.0.1 */
#define VNET_NODES 0xc6120100u  /* node N is this + N */
/* A bridge takes 1023 ports; and neighbour tables are made for about as many. */
#define VNET_NODES_MAX 1000
#define VNET_MTU 65535 /* nothing but memory is between them */

/* A netlink socket in the network namespace netns (-1: ours). Not for
 * programs with threads: it goes there and back. */
int vnet_open(int netns, struct err *err);

int vnet_bridge(int nl, const char *name, struct err *err); /* there already: fine */
/* One end here, named name, in the bridge; the other, named eth0, over there. */
int vnet_pair(int nl, const char *name, const char *bridge, int peer_netns,
              const uint8_t mac[6], struct err *err);
int vnet_address(int nl, const char *name, uint32_t address, int prefix, struct err *err);
int vnet_up(int nl, const char *name, struct err *err);
int vnet_delete(int nl, const char *name, struct err *err); /* not there: fine */

#endif
