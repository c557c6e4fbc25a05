/* supervise.h - the s6 side: service folders, the scanner, states
 *
 * Each service is RUN/s6/NAME with a logger of its own; virtual node N is
 * RUN/s6/node.N. The scanner, s6-svscan, is the root of everything; for a
 * virtual cluster it lives in the network namespace of the cluster.
 */
#ifndef CLUSTERMATIC_SUPERVISE_H
#define CLUSTERMATIC_SUPERVISE_H
#include <stdbool.h>
#include "clients/clustermatic/cluster.h"

extern const char *const service_names[]; /* ends with NULL */
bool service_known(const char *name);

struct service {
    char name[32];
    char state[16];   /* ready, starting, down, paused, connected, missing */
    pid_t pid;        /* 0: not running */
    int restarts;     /* deaths since the cluster came up; -1: not known */
    int64_t since_ms; /* wall clock of the last start or end; 0: not known */
};

int supervise_prepare(const struct cluster *c, struct err *err);
int supervise_start(const struct cluster *c, struct err *err);
/* Until every service says that it is ready. The error names those that do
 * not, and the last line of their log. */
int supervise_wait_ready(const struct cluster *c, int timeout_ms, struct err *err);

/* unit: a service's name, or node.N. */
int supervise_stat(const struct cluster *c, const char *unit, struct service *s,
                   struct err *err);
/* End and start again, or start if it was down; waits for it to be ready. */
int supervise_restart(const struct cluster *c, const char *unit, struct err *err);

/* Path of a unit's log file, and the last line in it ("" if none). */
char *log_path(const struct cluster *c, const char *unit, char *buf);
void log_last(const struct cluster *c, const char *unit, char *line, size_t size);

#endif
