/* bpinit_spawn.h - what a launch asks for, and how one child is made of it */
#ifndef NODE_BPINIT_SPAWN_H
#define NODE_BPINIT_SPAWN_H
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

enum stream_mode { STREAM_NULL, STREAM_FORWARD, STREAM_FILE };

struct stream_plan {
    enum stream_mode mode;
    char *path; /* STREAM_FILE */
    int64_t to; /* fd 0, STREAM_FORWARD: only to this rank; -1 all */
};

struct limit_plan {
    int resource;
    struct rlimit limit;
};

struct plan {
    uint64_t launch;
    char *path, *cwd, *root; /* root: NULL, or where to chroot() */
    char **argv, **envp;
    char *rank_digits; /* in envp: where each body's rank goes; NULL nowhere */
    mode_t umask;
    uid_t uid;
    gid_t gid;
    pid_t owner;
    gid_t *groups;
    size_t ngroups;
    struct limit_plan *limits;
    size_t nlimits;
    struct stream_plan stream[3];
};

/* One child on its way to exec. It shares our memory until then, so that this
 * struct carries its failure back. */
struct child {
    const struct plan *plan;
    int fd[3];  /* becomes fd 0-2; -1: the file of the plan */
    pid_t pgid; /* group to join; 0: lead one */
    int code;   /* errno of the step that failed; 0 it runs */
    const char *what; /* the step, or the file, that failed */
};

/* Make the child and wait until it executes or has failed. pid: the one wanted
 * (any other, where that one is taken). Returns the pid, or -errno. */
pid_t child_start(struct child *c, pid_t pid);

#endif
