/* commands.h - the subcommands. Each returns the program's exit status. */
#ifndef CLUSTERMATIC_COMMANDS_H
#define CLUSTERMATIC_COMMANDS_H
#include <stdbool.h>
#include "clients/clustermatic/cluster.h"

struct options {
    const char *name, *config, *node_size;
    int nodes; /* --virtual N; 0: not given */
    int at_once, timeout; /* upgrade; 0: not given; timeout in seconds */
    bool json, purge, follow;
};

int cmd_up(struct cluster *c, const struct options *o);
int cmd_down(struct cluster *c, const struct options *o);
int cmd_status(struct cluster *c, const struct options *o);
int cmd_restart(struct cluster *c, const char *unit);
int cmd_reload(struct cluster *c);
int cmd_logs(struct cluster *c, const struct options *o, const char *unit);
int cmd_env(const struct cluster *c);
int cmd_why(struct cluster *c, const struct options *o, int node);
/* spec NULL: list; file "default": as the configuration says. */
int cmd_image(struct cluster *c, const struct options *o, const char *spec, const char *file);
int cmd_upgrade(struct cluster *c, const struct options *o, const char *spec);
int cmd_doctor(const struct options *o);

/* The work of `down`, for `up` on the remains of a cluster too. */
int cluster_end(const struct cluster *c, struct err *err);
/* One line on stderr; returns 1. */
int refuse(const struct err *err);
/* "busd", "node.3" or "node 3" as a unit's name; EINVAL with the choices. */
int unit_name(const struct cluster *c, const char *word, const char *number, char *unit,
              size_t size, struct err *err);

#endif
