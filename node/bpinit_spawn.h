/* bpinit_spawn.h - what a launch asks for, and how one child is made of it */
#ifndef NODE_BPINIT_SPAWN_H
#define NODE_BPINIT_SPAWN_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>
#include "bus/err.h"
#include "bus/mp.h"
#include "node/redirect.h"

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

struct job_tag { /* the scheduler's job that a launch is part of, as its environment says */
    uint64_t id; /* 0: of none */
    uint32_t attempt;
    uint64_t mem;       /* bytes and thousandths of a processor that all of the job */
    uint32_t cpu_milli; /* may use on this node; 0: no limit */
};
struct cage_wish {
    uint64_t launch, mem; /* limits of the launch; 0: none */
    uint32_t cpu_milli;
    uid_t uid;
    struct job_tag job;
};

struct plan_child { /* of a process that arrives: something is to stand for it */
    pid_t pid;  /* its number, which its stand-in has too */
    bool leads; /* a process group of its own */
    char comm[16];
    pid_t made; /* the stand-in; 0 none yet */
};

struct plan {
    unsigned refs;
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
    uint64_t name; /* hash of argv */
    struct limit_plan *limits;
    size_t nlimits;
    uint64_t mem;       /* bytes; 0: no limit */
    uint32_t cpu_milli; /* thousandths of a processor; 0: no limit */
    struct job_tag job;
    struct stream_plan stream[3];
    struct redirect io[REDIRECT_MAX]; /* beyond the streams */
    size_t nio;
    struct redirect_origin origin;
    uint32_t *index; /* by rank: what BPROC_RANK says; NULL: the rank */
    size_t nindex;
    struct kin_parent *parent; /* whose children they are to be; NULL: ours */
    int home;                  /* where their parent waits for them; -1 the master */
    pid_t *home_npid;          /* by rank, for whom */
    size_t nhome;
    struct plan_child *children; /* with image: of the one rank that arrives */
    size_t nchildren;
    pid_t *here; /* children of it that run here */
    size_t nhere;
    bool image;   /* not a program is started: an image is restored */
    uint32_t gen; /* of its processes */
    uint64_t as;  /* the launch that their ghosts name; 0: this one */
};

/* One child on its way to exec. It shares our memory until then, so that this
 * struct carries its failure back. */
struct child {
    const struct plan *plan;
    pid_t pid;  /* the ghost's */
    int fd[3];  /* becomes fd 0-2; -1: the file of the plan */
    pid_t pgid; /* group to join; 0: lead one */
    int cgroup; /* version 2 control group to be born in; -1 none */
    int procs[3]; /* cgroup.procs of version 1 groups to join; -1 none */
    pid_t tid;  /* told by the kernel before it runs: for who must end it (bpinit_kin.c) */
    int restore, image, control; /* program and descriptors, with plan->image */
    struct begin_head *hand; /* NULL; or: only open what it is to have, and send that to
                                control, with image (begin.h) */
    int code;   /* errno of the step that failed; 0 it runs */
    const char *what; /* the step, or the file, that failed */
};

/* ---- bpinit_spawn.c ---- */
struct plan *plan_hold(struct plan *p);
void plan_release(struct plan **p);
void plan_write_rank(const struct plan *p, uint32_t rank); /* into its environment */
void plan_explain(const struct plan *p, const struct child *c, struct err *err);

/* ---- bpinit_io.c: a plan's io and index ---- */
int plan_io_read(const msgpack_object *map, struct plan *p, struct err *err);
void plan_io_free(struct plan *p);
uint32_t plan_index(const struct plan *p, uint32_t rank);
/* In the child. -1: errno, and *what says which. */
int plan_io_apply(const struct plan *p, pid_t pid, const char **what);
int plan_io_beyond(const struct plan *p); /* the first number that none of it has */

void plan_set_limits(const struct plan *p, pid_t pid); /* 0: our own */

/* Make the child and wait until it executes or has failed. pid: the one wanted
 * (any other, where that one is taken). Returns the pid, or -errno. */
pid_t child_start(struct child *c, pid_t pid);

#endif
