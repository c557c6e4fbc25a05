/* down.c - clustermatic down: end exactly this cluster, and leave nothing
 *
 * The supervisor is asked first; it ends services and nodes side by side.
 * What has not gone in time is killed. Then the ghosts, whose bodies are dead
 * by now: their parents see a death by SIGKILL, which is what happened.
 */
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>
#include "bus/cgroup.h"
#include "clients/clustermatic/commands.h"
#include "clients/clustermatic/procs.h"

#define ASKED_MS 10000
#define KILLED_MS 5000

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *f)
{
    (void)st;
    (void)flag;
    (void)f;
    return remove(path);
}

static int remove_tree(const char *path, struct err *err)
{
    if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) < 0 && errno != ENOENT)
        return err_set(err, errno, "remove %s: %s", path, strerror(errno));
    return 0;
}

/* Anything mounted below the run folder would keep it from being removed; what
 * a killed bpfs has left elsewhere (/bpfs) bears the run folder's name. */
static void unmount_below(const char *run)
{
    char line[PATH_MAX * 3], source[PATH_MAX], point[PATH_MAX];
    size_t n = strlen(run);
    FILE *f = fopen("/proc/self/mounts", "re");

    if (!f)
        return;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "%4095s %4095s", source, point) == 2 &&
            ((strncmp(point, run, n) == 0 && point[n] == '/') || strcmp(source, run) == 0))
            umount2(point, MNT_DETACH);
    fclose(f);
}

/* Kill until nothing is found: a process may fork while we look. */
static int kill_rest(const struct cluster *c, int ghosts, struct err *err)
{
    for (int round = 0; round < 5; round++) {
        CLEANUP(procs_free) struct proclist l = { 0 };
        if (procs_of(c->run, ghosts, &l, err) < 0)
            return -1;
        if (l.n == 0)
            return 0;
        procs_signal(&l, SIGKILL, NULL);
        if (procs_wait(&l, KILLED_MS) > 0)
            return err_set(err, EBUSY, "process %d (%s) does not die of SIGKILL",
                           (int)l.proc[0].pid, l.proc[0].comm);
    }
    return err_set(err, EBUSY, "new processes of the cluster keep appearing");
}

int cluster_end(const struct cluster *c, struct err *err)
{
    CLEANUP(procs_free) struct proclist all = { 0 };
    pid_t supervisor = cluster_supervisor(c);

    if (procs_of(c->run, false, &all, err) < 0)
        return -1;
    /* SIGTERM to s6-svscan, or to each s6-supervise that lost it: bring what
     * you hold down, then end. */
    if (supervisor)
        kill(supervisor, SIGTERM);
    else
        procs_signal(&all, SIGTERM, "s6-supervise");
    procs_wait(&all, ASKED_MS);
    if (kill_rest(c, false, err) < 0 || kill_rest(c, true, err) < 0)
        return -1;
    unmount_below(c->run);
    cgroup_remove(cgroup_folder(c->run), NULL);
    return remove_tree(c->run, err);
}

int cmd_down(struct cluster *c, const struct options *o)
{
    struct err err = { 0 };

    if (geteuid() != 0) {
        err_set(&err, EPERM, "down: only root can end a cluster: try sudo");
        return refuse(&err);
    }
    if (cluster_by_systemd(c)) {
        err_set(&err, EBUSY, "this cluster runs under systemd: "
                             "systemctl stop clustermatic.target");
        return refuse(&err);
    }
    if (!cluster_exists(c) && !o->purge) {
        err_set(&err, ENOENT, "no cluster runs in %s", c->run);
        return refuse(&err);
    }
    CLEANUP(cleanup_close) int lock = cluster_lock(c, &err);
    if (lock < 0 || cluster_end(c, &err) < 0)
        return refuse(&err);
    if (o->purge && (remove_tree(c->state, &err) < 0 || remove_tree(c->log, &err) < 0))
        return refuse(&err);
    if (isatty(1))
        printf("down: no process of %s is left\n", c->run);
    return 0;
}
