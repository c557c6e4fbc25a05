/* node_up.h - the built-in node_up, from the inside
 *
 *   main.c      command line; which nodes; their states afterwards
 *   conf.c      node_up.conf: which plugins, in which order
 *   stream.c    the steps that nodes are to do, as a stream (node/nodeset)
 *   files.c     miscfiles, vmadlib
 *   modules.c   kmod
 *   plugins.c   ifconfig, setupfs, nodeinfo, sysctl, exec, programs of the site
 *   deliver.c   the stream to the nodes by bpsh, and what they answer
 *
 * Everything is looked up on the master first; then all nodes do it side by
 * side, from one and the same stream.
 */
#ifndef CLIENTS_NODE_UP_H
#define CLIENTS_NODE_UP_H
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "bus/err.h"
#include "bus/gate.h"
#include "bus/mp.h"
#include "bus/nodespec.h"

struct step { /* a line of node_up.conf */
    char **argv; /* ends with NULL; [0] is the plugin */
    int argc, line;
    bool failok;
};

struct plan {
    char file[PATH_MAX];
    struct step *step;
    size_t nstep;
    char *path; /* where plugins of the site are; NULL: none */
};

/* What a file like node_up.conf says. must: it has to be there. */
int plan_read(struct plan *p, const char *file, bool must, struct err *err);
void plan_free(struct plan *p);

struct build { /* what a plugin works with on the master */
    const struct plan *plan;
    const char *confdir; /* for fstab */
    const char *kernel;  /* of the nodes it is for */
    const char *nodes;   /* their numbers, "0-3,7" */
    gate_t *gate;
    FILE *out;           /* the stream */
    bool tell_size;      /* -S: how long that is */
    const char *plugin;  /* for the log */
};

typedef int plugin_fn(struct build *b, int argc, char **argv, struct err *err);
struct plugin {
    const char *name;
    plugin_fn *fn;
    const char *usage, *text;
};
extern const struct plugin plugins[]; /* ends with a NULL name */
/* Every section of the plan into b->out. */
int plugins_run(struct build *b, struct err *err);

int plugin_miscfiles(struct build *b, int argc, char **argv, struct err *err);
int plugin_vmadlib(struct build *b, int argc, char **argv, struct err *err);
int plugin_kmod(struct build *b, int argc, char **argv, struct err *err);

/* stream.c: one step; bytes of fd behind it (-1: none). */
int stream_put(FILE *out, const mp_buf *step, struct err *err);
int stream_bytes(FILE *out, int fd, uint64_t size, const char *path, struct err *err);

/* "plugin    : text", as the log has it. */
void log_line(const char *plugin, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
extern int log_level; /* 0 fatal ... 4 debug */

struct result { /* of one node */
    int node;
    int status; /* 0; 1 a plugin failed; 99 it could not be reached, or was lost */
    char why[200];
    mp_buf attrs; /* a map's pairs */
    uint32_t nattrs;
};

/* The stream in fd to these nodes; results in their order. -1: bpsh cannot run. */
int deliver(const nodelist_t *nodes, int fd, struct result *results, struct err *err);

#endif
