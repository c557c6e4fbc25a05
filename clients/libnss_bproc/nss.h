/* nss.h - what the parts of libnss_bproc share
 *
 *   ask.c    where we are; addresses of nodes, by way of the gate, remembered
 *   hosts.c  host names and addresses
 *   users.c  the user that a process runs as
 *
 * Loaded into any program: no thread is started, no signal touched, nothing
 * printed. One question takes at most NSS_WAIT_MS, and after one that got no
 * answer nobody is asked for NSS_REST_MS.
 */
#ifndef LIBNSS_BPROC_H
#define LIBNSS_BPROC_H
#include <netinet/in.h>
#include <nss.h>
#include <stddef.h>

enum { NSS_WAIT_MS = 600, NSS_REST_MS = 5000, NSS_FRESH_MS = 5000 };
enum { NODE_MASTER = -1, NODE_SELF = -2, NODE_NONE = -3 };

int nss_here(void); /* our node; NODE_MASTER on the master */

/* The address of a node (-1 the master). TRYAGAIN: nobody answered. */
enum nss_status nss_address(int node, struct in_addr *out);
/* Whose address it is: a node, NODE_MASTER, or NODE_NONE. */
enum nss_status nss_node(struct in_addr addr, int *node);

/* n bytes of a caller's buffer, aligned for a pointer; NULL: it is too small. */
void *nss_take(char **buf, size_t *room, size_t n);

#endif
