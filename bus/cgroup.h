/* cgroup.h - where control groups are to be had on this machine
 *
 * Version 2 (one tree) and version 1 (a tree for each controller) may both be
 * mounted. A cluster's groups stand in a folder clustermatic-NAME in each tree
 * that it uses, named after its run folder.
 */
#ifndef BUS_CGROUP_H
#define BUS_CGROUP_H
#include <stdbool.h>

/* The mount point of the version 2 tree (controller NULL), or of the version 1
 * tree that has this controller; path has PATH_MAX bytes. False: there is none. */
bool cgroup_mounted(const char *controller, char *path);

/* The name of a cluster's folder, from its run folder. */
const char *cgroup_folder(const char *run);

/* Remove folder/below (below NULL: all of it) from every tree. Groups that
 * still hold processes stay. */
void cgroup_remove(const char *folder, const char *below);

#endif
