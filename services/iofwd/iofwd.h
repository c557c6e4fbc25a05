/* iofwd.h - iofwd from the inside: what its parts offer each other
 *
 * One thread, one loop. The parts, in the order they are made:
 *
 *   keys.c     which CURVE key is which node, from nodemgr
 *   nodes.c    the ROUTER socket: agents, and how to reach each
 *   readers.c  the unix socket: connections, what they say, what waits for them
 *   launch.c   one launch of one reader: its ranks, its nodes, its life
 *   output.c   stdout and stderr, from nodes to the reader
 *   input.c    stdin, from the reader to all nodes, answers folded
 *   closing.c  what the reader wants no more of, until the nodes know
 *   handover.c a bulk stream leaves for a connection of its own
 *   methods.c  what can be asked over the bus
 */
#ifndef IOFWD_H
#define IOFWD_H
#include <stdbool.h>
#include <stdint.h>
#include <zmq.h>
#include "bus/bulk.h"
#include "bus/err.h"
#include "bus/loop.h"
#include "bus/stream.h"
#include "bus/svc.h"

#define READER_BUDGET (8u << 20)  /* bytes that may wait for one reader */
#define TOTAL_BUDGET (24u << 20)  /* ... for all readers together */
#define WINDOW_MAX (512u * 1024)  /* credit of one stream beyond what was written */
#define WINDOW_MIN (16u * 1024)
#define RANKS_MAX 131072u         /* of one launch */
#define OFFSET_MAX (UINT64_MAX >> 2) /* of any stream: sums do not wrap */

typedef struct keys keys_t;
typedef struct nodes nodes_t;
typedef struct readers readers_t;
typedef struct reader reader_t;
typedef struct launches launches_t;
typedef struct launch launch_t;
typedef struct closings closings_t;
typedef struct handover handover_t;

struct iofwd {
    loop_t *loop;
    svc_t *svc;
    keys_t *keys;
    nodes_t *nodes;
    readers_t *readers;
    launches_t *launches;
    closings_t *closings;
    handover_t *handover;
};

extern const struct svc_method iofwd_methods[];

/* ---- keys.c ---- */
keys_t *keys_create(struct iofwd *io, uint16_t port, struct err *err); /* port 0: nodemgr's */
void keys_destroy(keys_t **k);
int keys_node(const keys_t *k, const char *z85); /* -1: nobody's */

/* ---- nodes.c ---- */
nodes_t *nodes_create(struct iofwd *io, const char *secret_key, struct err *err);
void nodes_destroy(nodes_t **n);
/* Listen on these ports (port and port + 1), no longer on others. */
int nodes_listen(nodes_t *n, uint16_t port, struct err *err);
bool nodes_connected(const nodes_t *n, int node);
const char *nodes_space(const nodes_t *n, int node); /* of its last HELLO; "" */
/* This space is over: what is opened next is for the one that says HELLO next. */
void nodes_lost(nodes_t *n, int node, const char *space);
/* A header and a body to an agent; a node that is away gets nothing: it is
 * told what matters when it comes back. nodes_send_shared leaves *body whole. */
void nodes_send(nodes_t *n, int node, struct stream_msg *m, const void *body, size_t len);
void nodes_send_shared(nodes_t *n, int node, struct stream_msg *m, zmq_msg_t *body);

/* ---- readers.c ---- */
readers_t *readers_create(struct iofwd *io, struct err *err);
void readers_destroy(readers_t **r);
uint32_t reader_uid(const reader_t *r);
int32_t reader_pid(const reader_t *r);
size_t reader_queued(const reader_t *r);
size_t reader_budget(const reader_t *r); /* how much may wait */
void reader_set_launch(reader_t *r, launch_t *l); /* NULL: none any more */
/* Queue a message; body is taken over (NULL: none), from byte skip on. */
void reader_send(reader_t *r, const struct stream_msg *m, zmq_msg_t *body, size_t skip);
/* The same with a descriptor on its first byte; fd is taken over. */
void reader_send_fd(reader_t *r, const struct stream_msg *m, const void *body, size_t len, int fd);
void reader_close(reader_t *r); /* at the end of this turn, what is queued is tried once */

/* ---- launch.c ---- */
enum { OUT_STARVED = 1,  /* dropped for want of room: resume it when there is */
       OUT_RESUMING = 2, /* told to resume, not back yet */
       OUT_DONE = 4,     /* the reader has acknowledged the end */
       OUT_CLOSED = 8 };
enum bulk_state {
    BULK_NO,
    BULK_TICKET, /* the node has been invited */
    BULK_WAIT,   /* it has come; bytes from before bulk_from are still on their way */
    BULK_LIVE,   /* the reader has the connection */
};

struct out { /* stdout or stderr of one rank */
    uint64_t next;    /* everything before is queued for, or with, the reader */
    uint64_t written; /* ... is in the reader's socket */
    uint64_t acked;   /* the reader is done with */
    uint64_t want;    /* the reader's limit */
    uint64_t granted; /* the node's limit */
    uint64_t bulk_from; /* NO: hand over not before this offset; WAIT, LIVE: from it on */
    uint8_t flags, bulk;
};

struct rank {
    int32_t node;
    uint32_t at; /* its lnode */
    uint8_t closed; /* by the reader: 1 << fd */
    struct out out[2];
};

struct lnode { /* a node of a launch */
    int node;
    uint32_t first, count; /* its ranks: launch->by_node[first..] */
    uint32_t open;         /* ranks whose stdin the reader has not closed */
    bool none;             /* nothing of the launch is there (any more) */
    bool opened;           /* OPEN was sent */
    bool heard;            /* and the node has said something: it has the launch */
    char space[64];        /* ... into this process space; "" not known */
    /* stdin */
    bool answered, gone, eof;
    uint64_t acked, limit;
};

struct launch {
    struct iofwd *io;
    uint64_t id;
    uint32_t uid;
    reader_t *reader; /* NULL: lost its connection, may come back */
    bool raw, started, open; /* open: all ranks are known */
    uint32_t window, total, nranks, nnodes;
    struct rank *rank;
    struct lnode *lnode;   /* ascending by node */
    uint32_t *by_node;
    uint32_t *starved;     /* streams with OUT_STARVED: rank * 2 + (fd - 1) */
    size_t nstarved, starved_room;
    uint64_t relayed; /* bytes to the reader */
    uint8_t closed;   /* for all ranks: 1 << fd */
    /* stdin as the reader sees it */
    uint64_t in_acked, in_limit, in_sent;
    bool in_eof_sent, in_told_eof, in_told_gone;
    int back_timer, pidfd; /* while the reader is away */
    launch_t *next; /* in its bucket */
};

launches_t *launches_create(struct iofwd *io, struct err *err);
void launches_destroy(launches_t **l);
launch_t *launches_find(const launches_t *l, uint64_t id);
/* Each in turn; fn may remove the one it is given. */
void launches_each(launches_t *l, void (*fn)(void *arg, launch_t *l), void *arg);
uint32_t launches_count(const launches_t *l);

/* What a reader says. -1: it broke the rules, and its connection is closed. */
int launch_open(struct iofwd *io, reader_t *r, const struct stream_msg *m,
                const unsigned char *body, struct err *err);
int launch_from_reader(launch_t *l, const struct stream_msg *m, zmq_msg_t *body, struct err *err);
/* The connection ended; pidfd (taken over) says whether it may come back. */
void launch_reader_lost(launch_t *l, int pidfd);
void launch_written(launch_t *l, uint32_t rank, int fd, uint64_t end); /* into its socket */
void launch_room(launch_t *l);                   /* the reader's queue has drained */
/* What a node says; body may be taken. */
void launch_from_node(launch_t *l, int node, const struct stream_msg *m, zmq_msg_t *body);
/* A node is there on a new connection, or (space given) is another one now. */
void launches_node_here(launches_t *l, int node, const char *space, bool fresh);
void launches_node_lost(launches_t *l, int node, const char *space);
struct lnode *launch_lnode(launch_t *l, int node); /* NULL: not one of its nodes */
void launch_end(launch_t *l, bool tell); /* remove it; tell: CLOSE to its nodes */

/* ---- output.c ---- */
int output_open(launch_t *l, struct out *o, uint64_t received, struct err *err);
uint64_t output_window(const launch_t *l); /* of one stream */
/* Acknowledgement and credit, after OPEN; again: not this launch's first there. */
void output_reopen(launch_t *l, struct lnode *n, bool again);
uint64_t output_open_offset(launch_t *l, uint32_t rank, int fd); /* what OPEN says to the node */
void output_credit_node(launch_t *l, uint32_t rank, int fd, uint16_t flags);
void output_data(launch_t *l, const struct stream_msg *m, zmq_msg_t *body);
int output_credit(launch_t *l, const struct stream_msg *m, struct err *err);
int output_resume(launch_t *l, const struct stream_msg *m, struct err *err);
int output_taken(launch_t *l, const struct stream_msg *m, struct err *err);
void output_written(launch_t *l, uint32_t rank, int fd, uint64_t end);
void output_room(launch_t *l);

/* ---- input.c ---- */
int input_data(launch_t *l, const struct stream_msg *m, zmq_msg_t *body, struct err *err);
void input_answer(launch_t *l, struct lnode *n, const struct stream_msg *m);
void input_fold(launch_t *l); /* tell the reader what has changed */

/* ---- closing.c ---- */
closings_t *closings_create(struct iofwd *io, struct err *err);
void closings_destroy(closings_t **c);
int closing_from_reader(launch_t *l, const struct stream_msg *m, struct err *err);
void closing_goodbye(launch_t *l);                  /* its reader is gone */
void closing_reopen(launch_t *l, struct lnode *at); /* after OPEN */
void closing_node_here(closings_t *c, int node);    /* on a new connection */

/* ---- handover.c ---- */
handover_t *handover_create(struct iofwd *io, struct err *err);
void handover_destroy(handover_t **h);
int handover_listen(handover_t *h, uint16_t port, struct err *err);
void handover_offer(launch_t *l, uint32_t rank); /* its stdout is bulk */
void handover_ready(launch_t *l, uint32_t rank); /* its bytes before bulk_from are queued */
/* Offers of a launch, or of one rank of it (STREAM_ALL: all), are void. */
void handover_forget(handover_t *h, const launch_t *l, uint32_t rank);

#endif
