/* cluster.h - which cluster a command is about, and where its folders are
 *
 * A cluster is known by its run folder. The default one has
 * /run/clustermatic, /var/lib/clustermatic and /var/log/clustermatic; one
 * called NAME has "-NAME" behind each. RUN/cluster remembers how it was
 * started, so that the other subcommands need only the name.
 */
#ifndef CLUSTERMATIC_CLUSTER_H
#define CLUSTERMATIC_CLUSTER_H
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "bus/err.h"

#define VIRTUAL_MAX 1000 /* ports of one bridge */
#define MASTER_ADDR "198.18.0.1"

struct cluster {
    char name[40]; /* "" = the default cluster */
    char run[PATH_MAX], state[PATH_MAX], log[PATH_MAX], config[PATH_MAX];
    int nodes;          /* virtual nodes; 0: real ones */
    char node_size[24]; /* of each virtual node's root; "": the default */
    int port;           /* bprocport */
};

/* Choose by --name, else by CM_RUNDIR and its kin, else the default; then
 * read RUN/cluster if there is one. Errors: EINVAL a name that cannot be. */
int cluster_select(struct cluster *c, const char *name, struct err *err);
/* Put the choice into the environment, for the library and for children. */
void cluster_setenv(const struct cluster *c);
int cluster_save(const struct cluster *c, struct err *err);

/* The supervisor, as noted in RUN/svscan: its pid, 0 if it does not run. */
pid_t cluster_supervisor(const struct cluster *c);
bool cluster_exists(const struct cluster *c); /* a run folder is there */
bool cluster_by_systemd(const struct cluster *c); /* runs, but not by `up` */

/* One `up` or `down` at a time. Returns a descriptor; closing it unlocks. */
int cluster_lock(const struct cluster *c, struct err *err);

/* "A/B" into a buffer of PATH_MAX. */
char *path_join(char *buf, const char *a, const char *b);
int write_file(const char *path, mode_t mode, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
int make_dirs(const char *path, mode_t mode, struct err *err); /* with parents */

#endif
