/* address.c - where the nodes find the master: its address on their network */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include "services/nodemgr/nodemgr.h"

static in_addr_t ip_of(const struct sockaddr *sa)
{
    struct sockaddr_in in;

    memcpy(&in, sa, sizeof in);
    return in.sin_addr.s_addr;
}

/* Some node is on this interface's network. */
static bool serves_nodes(const nodemgr_t *m, in_addr_t addr, in_addr_t mask)
{
    struct in_addr node;

    for (size_t i = 0; i < m->nodes.n; i++) {
        char text[64];
        const char *known = node_addr(m->nodes.v[i]);
        snprintf(text, sizeof text, "%.*s", (int)strcspn(known, ":/"), known);
        if (inet_pton(AF_INET, text, &node) == 1 && (node.s_addr & mask) == (addr & mask))
            return true;
    }
    return false;
}

void master_address(const nodemgr_t *m, char out[INET_ADDRSTRLEN])
{
    struct ifaddrs *all = NULL;

    out[0] = 0;
    if (getifaddrs(&all) < 0)
        return;
    for (const struct ifaddrs *i = all; i && !out[0]; i = i->ifa_next)
        if (i->ifa_addr && i->ifa_netmask && i->ifa_addr->sa_family == AF_INET &&
            !(i->ifa_flags & IFF_LOOPBACK) &&
            serves_nodes(m, ip_of(i->ifa_addr), ip_of(i->ifa_netmask))) {
            struct in_addr in = { ip_of(i->ifa_addr) };
            inet_ntop(AF_INET, &in, out, INET_ADDRSTRLEN);
        }
    freeifaddrs(all);
}
