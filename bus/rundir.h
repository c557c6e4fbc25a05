/* rundir.h - where a cluster's sockets, keys and state are
 *
 * RUN is $CM_RUNDIR, else /run/clustermatic. State is $CM_STATEDIR, else
 * /var/lib/clustermatic. Config is $CM_CONFIG, else /etc/clustermatic/config.
 * Logs: $CM_LOGDIR, else /var/log/clustermatic.
 * Programs: $CM_LIBEXEC, else the libexec folder beside the running program.
 */
#ifndef BUS_RUNDIR_H
#define BUS_RUNDIR_H
#include <stddef.h>

const char *cm_rundir(void);
const char *cm_statedir(void);
const char *cm_configfile(void);
const char *cm_logdir(void);
const char *cm_libexec(void); /* .../libexec/clustermatic */

/* "RUN/name" in a caller's buffer of PATH_MAX; returns buf. */
char *cm_path(char *buf, const char *name);

/* On a node, for who runs there: the gate, our number, bpghost; and what bpghosts
 * there speak to. */
#define NODE_RUN "/run/clustermatic"
#define KIN_GATE NODE_RUN "/kin/gate"

#define CM_VERSION "0.1.0"
#define CM_PORT 2223          /* bus; default of bprocport */
#define CM_PORT_STREAMS 1     /* bprocport + 1: stdio streams (iofwd) */
#define CM_PORT_BULK 2        /* bprocport + 2: bulk channel of streams (iofwd) */
#define CM_PORT_CONTENT 3     /* bprocport + 3: content by hash (procspace) */

#endif
