/* life.h - sched from its start to its end, for main.c */
#ifndef SCHED_LIFE_H
#define SCHED_LIFE_H
#include "services/sched/sched.h"

/* starter: sched's end of the starter's socket. NULL: *err. */
sched_t *sched_create(loop_t *l, const char *config, int ready_fd, int starter, struct err *err);
void sched_destroy(sched_t **s);

/* --- replay.c --- */
struct replay_options {
    const char *trace, *policies, *path; /* a file or "-"; "A,B"; where policies are */
    int nodes; /* 0: what the trace says */
    bool json;
};
int replay(const struct replay_options *o);              /* exit status */
int replay_generate(int jobs, int nodes, unsigned seed); /* a trace on stdout */

#endif
