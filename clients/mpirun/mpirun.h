/* mpirun.h - one run of mpirun, and what its parts offer each other
 *
 *   options.c  the command line
 *   map.c      which nodes, and the node of each rank
 *   kind.c     which MPI a program was made for
 *   start.c    the bpsh that runs the helpers, and one for each program
 *   fold.c     the line to the helpers: fences gathered and given out
 *   ranks.c    what becomes of the ranks, and what that means for the job
 *   end.c      ending all of it; signals and time limits
 *   main.c     opens all that, runs the loop, and ends with the right status
 *
 * mpirun starts nothing on nodes itself: bpsh does, with its streams, its
 * stand-ins and its patience with restarts. One bpsh runs the helpers (bppmi or
 * bppmix, one a node), and is mpirun's line to them; each program of the job
 * has a bpsh for its ranks, which are in our process group. What becomes of
 * each process they tell by --report-fd.
 */
#ifndef MPIRUN_H
#define MPIRUN_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "bus/err.h"
#include "bus/gate.h"
#include "bus/loop.h"
#include "bus/nodespec.h"
#include "clients/common/calls.h"

enum { MPIRUN_TIMEOUT = 124 };
enum { STDIN_ALL = -1, STDIN_NONE = -2 }; /* else a rank */
enum mpi_kind { KIND_AUTO, KIND_PMI1, KIND_PMIX, KIND_NONE };
enum map_by { MAP_DEFAULT, MAP_NODE, MAP_CORE };

struct app { /* one program of the job */
    int64_t np;       /* 0: not given */
    char **words;     /* its part of the command line; argv is its end */
    char **argv;
    const char *wdir; /* NULL: where we are */
    char **env;       /* NAME=VALUE of -x */
    size_t envs;
    char *path;
    uint32_t first, n; /* its ranks */
};

struct options {
    struct app *app;
    size_t apps;
    const char *nodes; /* NULL: NODES of a job, or what may be used */
    int64_t ppn;       /* 0: not given */
    enum map_by map_by;
    bool bind, prefix, quiet;
    int64_t stdin_to, timeout_ms;
    enum mpi_kind kind;
};

enum rank_state { RANK_WAITING, RANK_RUNS, RANK_ENDED };

struct rank {
    int node;
    enum rank_state state;
    int status; /* as from wait(), when it has ended */
    bool gone;  /* its helper knows that it ended: */
    bool inside; /* in the middle of MPI */
    bool judged; /* what that means has been said */
};

struct child { /* a bpsh */
    struct child *next;
    struct job *job;
    pid_t pid;       /* 0: reaped */
    int status;
    int report;      /* its --report-fd, our end; -1: at its end */
    uint64_t launch; /* 0: not told yet */
    bool helper;
    char *buf;
    size_t len, room;
};

struct fence;

struct job {
    struct options opt;
    enum mpi_kind kind;
    loop_t *loop;
    calls_t *calls;
    struct rank *rank;
    uint32_t ranks;
    nodelist_t map;   /* the node of each rank */
    nodelist_t nodes; /* those, each once */
    char id[24], *map_text, *apps_text;

    struct child *child, *helper;
    int to, from;     /* the helpers' stdin and stdout: our ends; -1: closed */
    char *out, *in;   /* waits to be written; part of a line */
    size_t out_len, out_room, in_len, in_room;
    struct fence *fence;

    int sigfd;
    bool failed;      /* a reason was found and said: */
    int status;
    int interrupted;  /* by this signal */
    bool ending, killing, closing, left;
    int asking;       /* requests whose answers are awaited before we leave */
    int timer;        /* the next step of ending */
    int hear_timer;   /* judge without the helper's word */
};

/* options.c: 0 go on, 1 nothing more to do: *status */
int options_parse(struct options *o, int argc, char **argv, int *status);
void options_free(struct options *o);

/* map.c */
int map_nodes(struct job *j, gate_t *g, struct err *err);

/* kind.c: of a program; its path is absolute. */
enum mpi_kind kind_of(const char *path, struct err *err);

/* start.c */
int start_all(struct job *j, struct err *err);
char *find_program(const struct app *a, struct err *err);

/* fold.c */
int fold_open(struct job *j, struct err *err);
void fold_close(struct job *j); /* no more of the line; helpers end */
void fold_free(struct job *j);

/* ranks.c */
int ranks_watch(struct child *c, struct err *err);
void rank_gone(struct job *j, uint32_t rank, bool inside);
void rank_abort(struct job *j, uint32_t rank, int code);
void ranks_reap(struct job *j);
bool ranks_done(const struct job *j); /* no bpsh of a program is left */
/* The first reason why the job fails: say so, end everything. */
void __attribute__((format(printf, 3, 4))) job_fail(struct job *j, int status,
                                                    const char *fmt, ...);

/* end.c */
int signals_open(struct job *j, struct err *err);
int signals_watch(struct job *j, struct err *err);
void signals_in_child(void);
void signals_die(int sig);
void end_begin(struct job *j, int sig);  /* ask the ranks to end, then kill them */
void end_helpers(struct job *j);         /* the ranks have ended: wait for the rest */
void time_limit(struct job *j);

#endif
