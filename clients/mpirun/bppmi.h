/* bppmi.h - the helper of one job on one node
 *
 *   seats.c   the ranks of this node: their seats, what each is told
 *   line.c    the line to mpirun: our stdin and stdout, by way of bpsh
 *   pmi1.c    PMI-1 (MPICH), and main() of bppmi
 *   pmix.c    PMIx (Open MPI), and main() of bppmix; notes.c, libpmix
 *
 * One is started on each node of the job beside the ranks, as the same user.
 * It answers all that can be answered on the node; what concerns all nodes is
 * gathered here first, so that mpirun hears one word a node and not one a rank.
 *
 * The line carries text, a line a message. Up (bpsh puts the node in front):
 *
 *   data KEY TEXT     a part of what this node brings to the fence KEY
 *   fence KEY NODES   it is complete; so many nodes take part
 *   ask TO ID TEXT    for node TO alone; its "tell" with the same ID answers
 *   tell TO ID TEXT
 *   abort RANK CODE   a rank wants the job to end
 *   gone RANK HOW     a rank's process has ended; HOW 1: in the middle of MPI
 *   say TEXT          for the user
 *
 * Down (to all nodes): data and fence as gathered, "ask TO FROM ID TEXT", "tell
 * TO FROM ID TEXT", and "quit". The end of stdin without "quit" means that
 * mpirun is no more: the ranks of this node are ended then.
 */
#ifndef BPPMI_H
#define BPPMI_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "bus/err.h"
#include "bus/loop.h"
#include "bus/mp.h"
#include "bus/nodespec.h"

enum { LINE_MAX_TEXT = 48 * 1024 }; /* longest TEXT */

struct seat {
    struct helper *h;
    uint32_t rank, local; /* in the job, on this node */
    int app;
    int fd;      /* -1: not connected, or closed */
    int pidfd;   /* -1: not here yet, or gone */
    bool seated, gone;
    bool inside; /* between init and finalize */
    char *buf;
    size_t len, room;
    bool waits;  /* PMI-1: in the barrier */
    bool multi;  /* PMI-1: in the lines of an mcmd */
};

struct helper {
    loop_t *loop;
    char *job;        /* its name */
    nodelist_t map;   /* the node of each rank */
    nodelist_t nodes; /* all nodes, ascending */
    int node;
    uint32_t *app;    /* first rank of each app, and the end */
    int apps;
    bool bind, alone; /* alone: no other node */
    bool same_kernel; /* this node is virtual, on the master */
    bool crowded;     /* more ranks than processors that they may use */
    struct seat *seat;
    uint32_t seats;
    int listener;
    bool ending;
    char *in;
    size_t in_len, in_room;
};

/* What each kind of helper does. */
void kind_seated(struct helper *h, struct seat *s, void (*set)(struct seat *, const char *));
void kind_input(struct helper *h, struct seat *s, char *line); /* a line of a rank's */
void kind_data(struct helper *h, const char *key, char *text); /* of a fence */
void kind_fence(struct helper *h, const char *key);
void kind_ask(struct helper *h, int from, const char *id, const char *text);
void kind_tell(struct helper *h, int from, const char *id, const char *text);

/* seats.c */
int helper_options(const char *name, int argc, char **argv, int *status); /* 1: no more to do */
/* From the environment; then the ranks may come: they are let in by helper_run(). */
int helper_prepare(struct helper *h, struct err *err);
int helper_listen(struct helper *h, struct err *err);
bool helper_listens(const char *job);               /* is there one of this job here? */
int helper_run(struct helper *h);                   /* exit status */
void seat_say(struct seat *s, const char *text);    /* text as it is */
void helper_end(struct helper *h);                  /* end the ranks of this node, then ourselves */
uint32_t helper_locals(const struct helper *h, int node); /* ranks of a node */

/* line.c */
int line_open(struct helper *h, struct err *err);
void __attribute__((format(printf, 2, 3))) line_up(struct helper *h, const char *fmt, ...);
void line_data(struct helper *h, const char *key, const char *text, size_t n);

#endif
