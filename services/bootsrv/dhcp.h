/* dhcp.h - DHCP, proxy-DHCP and TFTP through dnsmasq */
#ifndef BOOTSRV_DHCP_H
#define BOOTSRV_DHCP_H
#include "services/bootsrv/bootsrv.h"

typedef struct dhcp dhcp_t;

dhcp_t *dhcp_create(bootsrv_t *b, struct err *err);
void dhcp_destroy(dhcp_t **d);
/* As the configuration and b->net have it now: started, told, or ended. */
void dhcp_configure(dhcp_t *d);
void dhcp_stop(dhcp_t *d);
pid_t dhcp_pid(const dhcp_t *d); /* 0: it does not run */

#endif
