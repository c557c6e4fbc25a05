/* place.h - paths inside a node's root, whatever is on the node
 *
 * Every path is resolved by openat2() with RESOLVE_IN_ROOT: absolute symlinks
 * and ".." mean the node's root, and nothing on the node can lead out of it.
 * Threads: none of its own, no state.
 */
#ifndef AGENT_PLACE_H
#define AGENT_PLACE_H
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>
#include "bus/err.h"

struct place_dir { /* how a folder is to look if it has to be made */
    char *path;
    uid_t uid;
    gid_t gid;
    mode_t mode;
};
struct place_dirs {
    struct place_dir *dir;
    size_t n;
};

/* "/usr/bin/df": absolute, no empty, "." or ".." part, no slash at the end.
 * 0, or -1 with EPROTO. */
int place_check(const char *path, struct err *err);

/* openat2() in root; -1 with errno only. O_CLOEXEC is added. */
int place_open(int root, const char *path, int flags, mode_t mode);

/* What is at path itself, a symlink not followed; -1 with errno only. */
int place_stat(int root, const char *path, struct stat *st);

/* Make the folder and those above it, each as dirs says, else 0755 of root.
 * Returns a descriptor (O_PATH) of it. */
int place_folder(int root, const char *path, const struct place_dirs *dirs, struct err *err);

/* Put the file name of folder cache at path in root, as a hard link (or a copy
 * where that is another file system), in place of whatever file is there, at
 * once. Folders are made. *copied says which; *st is what is at path now.
 * Errors: ENOSPC, EISDIR a folder is in the way, ELOOP, EXDEV, ... */
int place_file(int cache, const char *name, int root, const char *path,
               const struct place_dirs *dirs, bool *copied, struct stat *st,
               struct err *err);

/* Take path away if it still is that inode. */
void place_remove(int root, const char *path, dev_t dev, ino_t ino);

#endif
