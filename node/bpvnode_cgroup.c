/* bpvnode_cgroup.c - the control groups of a virtual node
 *
 * clustermatic-NAME/nN in the version 2 tree, or in the version 1 tree of the
 * freezer, and in those of memory and processors where the main one has not got
 * these controllers. bpinit makes one below for each launch; it gets them as
 * descriptors, since the trees are out of its sight. CM_CGROUP chooses: v2, v1
 * or none.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/cgroup.h"
#include "node/bpvnode.h"

static bool write_in(int dir, const char *name, const char *text)
{
    CLEANUP(cleanup_close) int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);

    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* What a folder's children may be limited by. */
static void hand_down(int dir)
{
    write_in(dir, "cgroup.subtree_control", "+memory");
    write_in(dir, "cgroup.subtree_control", "+cpu");
}

static int folder_in(int dir, const char *name)
{
    if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
        return -1;
    return openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int open_group(const struct machine *m, const char *tree, bool second)
{
    char node[24];

    snprintf(node, sizeof node, "n%d", m->node);
    CLEANUP(cleanup_close) int top = open(tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(cleanup_close) int all = top < 0 ? -1 : folder_in(top, cgroup_folder(m->run));
    if (all < 0)
        return -1;
    if (second) {
        hand_down(top);
        hand_down(all);
    }
    return folder_in(all, node);
}

void machine_cgroups(struct machine *m)
{
    static const char *const second[] = { NULL, "memory", "cpu" };
    const char *want = getenv("CM_CGROUP");
    char tree[PATH_MAX];

    if (want && strcmp(want, "none") == 0)
        return;
    bool first_only = want && strcmp(want, "v1") == 0;
    if (!first_only && cgroup_mounted(NULL, tree)) {
        m->cgroup[0] = open_group(m, tree, true);
        m->cgroup2 = m->cgroup[0] >= 0;
    }
    if (m->cgroup[0] < 0 && cgroup_mounted("freezer", tree))
        m->cgroup[0] = open_group(m, tree, false);
    for (int i = 1; i < 3; i++)
        if (cgroup_mounted(second[i], tree))
            m->cgroup[i] = open_group(m, tree, false);
    if (m->cgroup[0] < 0)
        machine_log(m, "no control groups: only known processes of a launch can be ended");
}

void machine_enter_cgroup(const struct machine *m)
{
    if (m->cgroup2 && write_in(m->cgroup[0], "cgroup.procs", "0")) {
        /* The namespace's top is where we are; then out of it, for a group that
         * has both processes and children cannot limit either. */
        unshare(CLONE_NEWCGROUP);
        CLEANUP(cleanup_close) int own = folder_in(m->cgroup[0], "init");
        if (own >= 0 && write_in(own, "cgroup.procs", "0"))
            hand_down(m->cgroup[0]);
        return;
    }
    unshare(CLONE_NEWCGROUP);
}

void machine_remove_cgroups(struct machine *m)
{
    char node[24];

    for (int i = 0; i < 3; i++)
        cleanup_close(&m->cgroup[i]);
    snprintf(node, sizeof node, "n%d", m->node);
    cgroup_remove(cgroup_folder(m->run), node);
}
