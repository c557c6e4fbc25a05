/* up.c - clustermatic up: services, then virtual nodes, then wait for both */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/config.h"
#include "bus/rundir.h"
#include "clients/clustermatic/commands.h"
#include "clients/clustermatic/nodes.h"
#include "clients/clustermatic/supervise.h"
#include "clients/clustermatic/tool.h"

#define SERVICES_MS 20000
#define NODES_MS(n) (60000 + (n) * 100)

/* A configuration given by the user: what nodemgr would refuse is refused here,
 * before anything is begun, and the virtual nodes learn where the bus listens. */
static int check_config(struct cluster *c, struct err *err)
{
    struct strlist warnings = { 0 };
    CLEANUP(config_free) struct cm_config *config = config_load(c->config, &warnings, err);

    for (size_t i = 0; i < warnings.n; i++)
        fprintf(stderr, "clustermatic: warning: %s\n", warnings.v[i]);
    strlist_free(&warnings);
    if (!config)
        return -1;
    c->port = config->port;
    for (int node = 0; node < c->nodes; node++)
        if (!config_node(config, node))
            return err_set(err, EINVAL, "%s names no node %d, but --virtual %d wants nodes 0 to "
                           "%d: add them, as by `iprange 0 198.18.1.0 198.18.1.%d'", c->config,
                           node, c->nodes, c->nodes - 1, c->nodes - 1);
    return 0;
}

/* All that can be known to be missing before anything is begun. */
static int check_machine(struct cluster *c, const struct options *o, struct err *err)
{
    char program[PATH_MAX];

    if (geteuid() != 0)
        return err_set(err, EPERM, "up: only root can start a cluster: try sudo");
    if (!tool_there("s6-svscan"))
        return err_set(err, ENOENT, "s6 is not installed: apt-get install s6 "
                                    "(`clustermatic doctor` names all that is missing)");
    for (const char *const *s = service_names; *s; s++)
        if (access(path_join(program, cm_libexec(), *s), X_OK) < 0)
            return err_set(err, errno, "%s is missing: build it with `make`", program);
    if (c->nodes && access(path_join(program, cm_libexec(), "bpvnode"), X_OK) < 0)
        return err_set(err, errno, "%s is missing: build it with `make`", program);
    if (!c->nodes && access(c->config, R_OK) < 0)
        return err_set(err, errno, "there is no configuration %s: write one (config(5)), or "
                                   "try `clustermatic up --virtual 4`", c->config);
    return c->nodes && !o->config ? 0 : check_config(c, err);
}

/* The configuration of a virtual cluster that was given none. */
static int write_config(const struct cluster *c, struct err *err)
{
    int last = c->nodes - 1;

    return write_file(c->config, 0644, err,
                      "# Written anew by each `clustermatic up --virtual %d`.\n"
                      "interface cm0\n"
                      "bprocport %d\n"
                      "iprange 0 198.18.1.0 198.18.%d.%d\n"
                      "pingtimeout 10\n",
                      c->nodes, c->port, 1 + last / 256, last % 256);
}

static int take_options(struct cluster *c, const struct options *o, struct err *err)
{
    c->nodes = o->nodes;
    snprintf(c->node_size, sizeof c->node_size, "%s", o->node_size ? o->node_size : "");
    c->port = CM_PORT;
    if (o->config) {
        char real[PATH_MAX];
        if (!realpath(o->config, real))
            return err_set(err, errno, "--config %s: %s", o->config, strerror(errno));
        snprintf(c->config, sizeof c->config, "%s", real);
    } else if (c->nodes) {
        path_join(c->config, c->state, "config");
    } else {
        const char *env = getenv("CM_CONFIG");
        snprintf(c->config, sizeof c->config, "%s",
                 env && *env ? env : "/etc/clustermatic/config");
    }
    return 0;
}

static int begin(const struct cluster *c, const struct options *o, struct err *err)
{
    /* The remains of one whose supervisor was killed must go first. */
    if (cluster_exists(c) && cluster_end(c, err) < 0)
        return -1;
    if (make_dirs(c->run, 0755, err) < 0 || make_dirs(c->log, 0755, err) < 0 ||
        (c->nodes && !o->config && write_config(c, err) < 0) || cluster_save(c, err) < 0 ||
        supervise_prepare(c, err) < 0 || supervise_start(c, err) < 0) {
        cluster_end(c, NULL);
        return -1;
    }
    return 0;
}

/* Another `up` for what already runs is fine if it asks for the same. */
static int same_shape(const struct cluster *c, const struct options *o, struct err *err)
{
    char real[PATH_MAX] = "";

    if (o->nodes && c->nodes != o->nodes)
        return err_set(err, EEXIST, "this cluster already runs, with %d virtual nodes: "
                                    "`clustermatic down` ends it, --name NAME starts another",
                       c->nodes);
    if (o->config && (!realpath(o->config, real) || strcmp(real, c->config) != 0))
        return err_set(err, EEXIST, "this cluster already runs, with %s: "
                                    "`clustermatic down` ends it, --name NAME starts another",
                       c->config);
    return 0;
}

static void say_ready(const struct cluster *c, bool already)
{
    if (!isatty(1))
        return;
    if (c->nodes)
        printf("%s: services ready, %d virtual node%s up\n", already ? "already up" : "up",
               c->nodes, c->nodes == 1 ? "" : "s");
    else
        printf("%s: services ready; nodes join as they boot\n", already ? "already up" : "up");
}

int cmd_up(struct cluster *c, const struct options *o)
{
    struct err err = { 0 };
    bool already = cluster_supervisor(c) != 0;

    if (cluster_by_systemd(c)) {
        err_set(&err, EEXIST, "this cluster already runs, under systemd: "
                              "systemctl status clustermatic.target");
        return refuse(&err);
    }
    if (already) {
        if (same_shape(c, o, &err) < 0)
            return refuse(&err);
    } else {
        if (take_options(c, o, &err) < 0 || check_machine(c, o, &err) < 0)
            return refuse(&err);
        CLEANUP(cleanup_close) int lock = cluster_lock(c, &err);
        if (lock < 0 || begin(c, o, &err) < 0)
            return refuse(&err);
    }
    cluster_setenv(c);
    if (supervise_wait_ready(c, SERVICES_MS, &err) < 0)
        return refuse(&err);
    if (c->nodes && nodes_wait_up(c, NODES_MS(c->nodes), &err) < 0)
        return refuse(&err);
    say_ready(c, already);
    return 0;
}
