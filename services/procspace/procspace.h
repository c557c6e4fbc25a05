/* procspace.h - what procspace's parts share
 *
 * A process here is a pid on the master (its ghost), a node, and a generation.
 * procspace keeps no file: after a restart the ghosts are found in /proc, and
 * the bodies are what the agents say (recover.c).
 */
#ifndef PROCSPACE_H
#define PROCSPACE_H
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "bus/elf.h"
#include "bus/err.h"
#include "bus/loop.h"
#include "bus/mp.h"
#include "bus/svc.h"

typedef struct procspace procspace_t;
typedef struct contents contents_t;
typedef struct manifest manifest_t;
struct bulk_ticket;
struct launch;
struct kid;  /* kids.h: a process that a body has made */
struct name;
struct parent; /* kin.h */
struct event;
struct given; /* given.c */
struct held;
struct signals; /* signal.c */

enum cause_kind {
    CAUSE_SIGNAL, /* it was sent one */
    CAUSE_GHOST,  /* its ghost was killed, by whom is not known */
    CAUSE_LAUNCH, /* all of its launch was sent one */
    CAUSE_NODE,   /* its node was lost */
    CAUSE_START,  /* it was never started */
    CAUSE_MEMORY, /* the kernel needed its memory */
};

struct cause { /* why a process has ended, or may soon */
    enum cause_kind kind;
    int sig;
    int64_t from_uid; /* -1: not known */
    pid_t from_pid;   /* on the master; 0: the kernel, or not known */
    char from[16];
    char *text;
};

enum proc_state {
    PROC_STARTING, /* the node has not said that it runs */
    PROC_RUNNING,
    PROC_ENDED,    /* the ghost was told, or is gone */
};

#define KIN_CAME 64
struct came { /* a parent's name, and the move by which it has come to where its child is */
    pid_t pid;
    int node, to;
    uint64_t id, launch;
};

struct proc {
    pid_t pid; /* the ghost's, on the master */
    int pidfd; /* of the ghost; -1: it is gone */
    int node;  /* where the body is */
    uint32_t gen, rank;
    int64_t uid, gid;
    struct launch *launch;
    enum proc_state state;
    bool ghost_stopped;   /* as far as we know */
    bool halted;          /* its node has said last that it is stopped */
    int64_t turned;       /* now_ms() when it was stopped, or went on, or was to */
    uint32_t conts;       /* SIGCONTs sent to the body: stops of before them are over */
    uint32_t halts;       /* SIGSTOPs: so is what it did before them to go on */
    uint64_t cont_once, halt_once; /* the numbers of the last of each */
    int status;           /* as from wait(), once PROC_ENDED */
    int64_t utime_us, stime_us, maxrss_kb, started, ended;
    pid_t npid;           /* of the body, on its node; 0: not known, or as here */
    struct cause *cause;
    struct kid *kid;      /* itself, if it is one */
    struct kid *to_fork;  /* kids whose ghosts this ghost is to make */
    struct name *name;    /* another than at its start */
    bool renamed;         /* its ghost does not know that yet */
    bool leads;           /* a process group of its own */
    struct parent *parent; /* whom a stand-in on its node stands for; or NULL */
    bool homed;            /* its parent waits on a node, not on the master (home.c): */
    int home;              /* on this one, */
    pid_t home_npid;       /* for the stand-in of this pid; pidfd is -1, and it is */
    struct proc *next_homed; /* not in the table by pid, but in a list */
    struct kid *stand;     /* that stand-in; NULL: not known yet */
    struct line *line;     /* its bell */
    bool real;             /* not a ghost, but a process of the master: no bells */
    void *starting;        /* its launch waits for it to be one (launch.c) */
    struct proc *was;     /* what it was in another launch, before it moved */
    struct proc *moved_to; /* and the other way round: that one has pid and ghost now */
    uint64_t as;          /* the launch that its ghost names; 0: its own */
    uint64_t *heard;       /* numbers of the signals that it had where it was before */
    uint32_t nheard;
    uint64_t speaks;      /* in this launch's streams, not its own: its parent has left it; 0 */
    pid_t local;          /* its parent's number on its node, who waits for it itself; 0 */
    bool left;            /* for the master: it is an ordinary process there */
    struct proc *next;    /* in its bucket */
};

struct launch {
    procspace_t *ps;
    uint64_t id;
    int64_t uid, gid;
    pid_t owner;
    bool forwarded; /* what it says is read by somebody */
    int owner_fd, owner_timer; /* owner.c */
    void *starting; /* a program on a node asks for it: until that is answered */
    char *argv0;
    char *args; /* all of argv as one line, cut; NULL: not known */
    struct proc **rank; /* NULL: never started */
    uint32_t ranks, running;
    uint32_t kids; /* known ones: it is not forgotten before them */
    bool over;
    int worst; /* highest status */
    int64_t started, ended;
    struct launch *next; /* in its bucket */
    struct launch *older, *newer; /* among the ended ones */
};

struct ghosts; /* ghosts.c */
struct copies; /* copy.c */
struct moves;  /* move.c */
struct past;   /* past.c */

#define NAME_BYTES 80 /* of a command line that is kept */
#define PROC_BUCKETS 4096
#define LAUNCH_BUCKETS 1024
#define KEEP_LAUNCHES 256 /* results of ended launches kept for procspace.result */

struct node_space { /* what we know of a node's process space */
    char space[64];
    uint64_t seq; /* its last event that was dealt with */
    uint64_t *sent; /* launches that it was sent and has not done with (jobs.c) */
    uint32_t nsent, room;
    uint64_t *ended; /* jobs that had launches there, until they are asked for */
    uint32_t nended, ended_room;
    uint32_t doubts;
    bool sure;      /* there is nothing there but these */
    bool listed;    /* it has told us who is there, since our start, */
    uint64_t listed_seq; /* after this event */
};

struct procspace {
    loop_t *loop;
    svc_t *svc;
    contents_t *contents;
    struct ghosts *ghosts;
    struct cpu_ring *rings;    /* trace.c */
    struct copies *copies;
    struct moves *moves;
    struct reader *readers; /* readers.c */
    struct onward *onward;
    struct said *said; /* move_said.c */
    struct kids *kids;
    struct past *past;
    int network_timer; /* network.c */
    struct parent *parents;
    struct family *families;      /* family.c */
    struct came came[KIN_CAME];   /* kin.c: the last ones */
    unsigned ncame;
    int families_timer;
    uint32_t families_waiting; /* counted by it */
    struct given *given;
    struct held *held;
    struct proc *homed; /* running ones */
    struct line *lines; /* home.c */
    struct proc *proc[PROC_BUCKETS];
    size_t procs;
    struct launch *launch[LAUNCH_BUCKETS];
    struct launch *oldest, *newest; /* ended */
    size_t ended;
    struct node_space *nodes;
    int numbers;
    struct libs *libs;         /* libs.c */
    struct recovery *recovery; /* recover.c; NULL once all is known again */
    struct reaped *reaped;     /* reaped.c */
    struct heard *heard;       /* recover.c */
};

/* --- table.c: processes and launches --- */
struct proc *proc_find(procspace_t *ps, pid_t pid);
struct proc *proc_add(procspace_t *ps, struct launch *l, uint32_t rank, pid_t pid, int pidfd,
                      int node, struct err *err);
/* The same for one that another stands for still: not in the table by pid. */
struct proc *proc_new(procspace_t *ps, struct launch *l, uint32_t rank, pid_t pid, int pidfd,
                      int node, struct err *err);
/* p takes the place of the one that it was: ghost, number, relatives. */
void proc_take_over(procspace_t *ps, struct proc *p);
/* What it has become by moves: itself, if it has made none. NULL of NULL. */
struct proc *proc_now(struct proc *p);
/* The same of a launch's rank. NULL: there is no such. */
struct proc *proc_of_rank(procspace_t *ps, uint64_t launch, uint64_t rank);
/* The launch under which it left the master: its ghost names that one. */
static inline uint64_t proc_first(const struct proc *p) { return p->as ? p->as : p->launch->id; }
/* It is an ordinary process of the master's again: no word to anybody. */
void proc_leave(procspace_t *ps, struct proc *p);
/* The body is over (status as from wait): tell the ghost, end the launch with its last. */
void proc_ended(procspace_t *ps, struct proc *p, int status);
void proc_forget(procspace_t *ps, struct proc *p);
struct launch *launch_find(procspace_t *ps, uint64_t id);
struct launch *launch_of(procspace_t *ps, pid_t pid); /* running or ended; the newest */
struct launch *launch_add(procspace_t *ps, uint64_t id, uint32_t ranks, int64_t uid,
                          int64_t gid, pid_t owner, const char *argv0, struct err *err);
uint64_t launch_new_id(void);
int launch_grow(struct launch *l, uint32_t ranks, struct err *err); /* at least ranks */
/* p is of this rank; whoever stood there takes p's place. */
void proc_set_rank(struct proc *p, uint32_t rank);
/* Nothing of it runs (any more): publish, keep the result for a while. */
void launch_over(procspace_t *ps, struct launch *l);
/* Each node that it has or had processes on, once: children may live on there.
 * The caller frees it; NULL: out of memory. */
int *launch_nodes(const struct launch *l, int *count);
struct node_space *node_space(procspace_t *ps, int node);

/* --- owner.c --- */
void owner_watch(struct launch *l);
void owner_forget(struct launch *l);

/* A launch of before our restart of which only kids are left. */
struct launch *launch_adopt(procspace_t *ps, uint64_t id, int64_t uid, int64_t gid,
                            const char *argv0);
void launch_maybe_over(procspace_t *ps, struct launch *l);
void proc_enter(procspace_t *ps, struct proc *p); /* into the table by pid */
void proc_tell_end(struct proc *p);               /* its ghost dies as it did */

/* --- launch.c --- */
int on_launch(void *self, struct svc_req *req, struct err *err);

/* --- relay.c: connections of bodies back to the asker --- */
/* 1: *out is the launch's io with addresses that nodes reach; 0: it is fine as it is. */
int relay_io(procspace_t *ps, pid_t asker, uint32_t ranks, const msgpack_object *body,
             mp_buf *out, struct err *err);
/* The same for an asker on a node of this address. */
int relay_io_there(const char *addr, const msgpack_object *body, mp_buf *out, struct err *err);

/* --- ghosts.c: the kernel's side of ghosts --- */
enum ghost_op { GHOST_EXIT = 1, GHOST_DIE = 2, GHOST_STOP = 3, GHOST_ASK = 5, GHOST_GROUP = 6,
                GHOST_SESSION = 7, GHOST_CONT = 9, GHOST_REAL = 10 };
int ghosts_open(procspace_t *ps, struct err *err);
/* A pidfd for pid if it is a ghost of uid's that may be taken over, else -1.
 * ESRCH: it is not there (any more). launch: its CM_LAUNCH, or 0. */
int ghost_take(pid_t pid, int64_t uid, uint64_t *launch, struct err *err);
/* A ghost of ours whose launch we have not heard of (yet). */
bool ghost_early(procspace_t *ps, pid_t pid);
/* The same for any process of uid's, which is to become a ghost itself. */
int process_take(pid_t pid, int64_t uid, struct err *err);
/* It is a restorer's place still: who is to be there is not there yet. */
bool restorer_stands(pid_t pid);
int process_open(pid_t pid); /* a pidfd; of one that has ended, but was not waited for, too */
int ghost_watch(procspace_t *ps, struct proc *p, struct err *err);
void ghost_unwatch(procspace_t *ps, struct proc *p);
void ghost_ring(struct proc *p, enum ghost_op op, int arg);
void ghost_continue(struct proc *p); /* it was stopped, and its body is no more */
void proc_goes_on(struct proc *p); /* what stands for it goes on, too */
void ghost_signal(struct proc *p, int sig); /* straight at the ghost */
bool ghost_lives(const struct proc *p);
void ghost_killed(procspace_t *ps, struct proc *p); /* not by us: its body must go too */
void ghosts_look(procspace_t *ps); /* which of them are stopped? */
bool ghost_stands(const struct proc *p); /* it is a ghost, not its caller yet */
struct ghost_kid { /* what a kid's ghost says of itself */
    int node, npid;
    unsigned gen;
};
bool ghost_kid(pid_t pid, struct ghost_kid *out);
/* The ghost is seen stopped (SIGSTOP, that nobody can catch): stop the body. */
void ghost_seen_stopped(procspace_t *ps, struct proc *p);
/* Its body, an image until now, is PROC_RUNNING: is it to be stopped? */
void ghost_arrived(procspace_t *ps, struct proc *p);

/* --- trace.c: SIGSTOP of ghosts seen through the kernel's tracepoint --- */
int trace_open(procspace_t *ps, struct err *err); /* -1: not to be had here */
void trace_look(procspace_t *ps); /* what it has to tell, now */

/* --- libs.c: the library list, brought to nodes beforehand --- */
int libs_open(procspace_t *ps, struct err *err);
void libs_close(procspace_t *ps);
void libs_changed(procspace_t *ps);         /* or not known yet: all nodes */
void libs_node(procspace_t *ps, int node);  /* it has just joined */
/* A library of other content stood on a node: rows of [path, ours], as agents
 * answer. launch 0: found when the list was brought. */
void libs_replaced(procspace_t *ps, uint64_t launch, int node, const msgpack_object *value);

/* --- signal.c --- */
int on_signal(void *self, struct svc_req *req, struct err *err);
int on_orphan(void *self, struct svc_req *req, struct err *err);
int on_stopped(void *self, struct svc_req *req, struct err *err);
int on_end_launch(void *self, struct svc_req *req, struct err *err);
void body_signal(procspace_t *ps, struct proc *p, int sig);
/* once: its number, for one that may be said again; 0: it is not. */
void body_signal_value(procspace_t *ps, struct proc *p, int sig, bool has_value, int64_t value,
                       int64_t from_uid, int64_t from_pid, uint64_t once, struct signals *with);
/* p had that one where it was before. */
bool signal_had(procspace_t *ps, const struct proc *p, uint64_t once);
/* It had these (numbers) on a node that it has left. */
void signal_heard(struct proc *p, const msgpack_object_array *list);
/* Those that are sent with it are answered together: nil, once each has got where its
 * process is. Between begin and end at least. NULL: out of memory. */
struct signals *signals_begin(procspace_t *ps, svc_token *token);
struct signals *signals_then(void (*fn)(void *arg), void *arg); /* fn, not an answer */
void signals_end(struct signals *all);
/* The number of what was asked for by request id of an asker. */
uint64_t signal_once(uint64_t id, uint64_t of);

/* --- jobs.c: ending what a job of the scheduler has started --- */
int on_end_job(void *self, struct svc_req *req, struct err *err);
void jobs_sent(procspace_t *ps, int node, uint64_t launch);
void jobs_done(procspace_t *ps, int node, uint64_t launch, uint64_t job);
void jobs_unsure(procspace_t *ps, int node); /* a launch there has failed in some way */
void jobs_forget(struct node_space *ns);

/* --- kids.c: processes that bodies made; orphan.c --- */
struct event { /* a row of procspace.report */
    const msgpack_object *v;
    uint32_t n;
    uint64_t once; /* its number among all; 0: none */
    uint64_t space, seq; /* whose event it is, and which */
};
int kids_open(procspace_t *ps, struct err *err);
bool kid_event(procspace_t *ps, int node, const struct event *e); /* false: not about one */
void kid_ghost_gone(procspace_t *ps, struct kid *k);
void kid_over(procspace_t *ps, struct kid *k, int status);
pid_t kid_npid(const struct kid *k);
const char *kid_comm(const struct kid *k);
void kids_parent_ended(procspace_t *ps, struct proc *parent);
void kids_lost(procspace_t *ps, int node, const char *why);
int on_ghost(void *self, struct svc_req *req, struct err *err);
int on_here(void *self, struct svc_req *req, struct err *err);
void pids_make_room(procspace_t *ps);

/* --- kin.c: parents and children on different machines --- */
void kin_ended(procspace_t *ps, struct proc *p); /* p has */
/* A signal to a parent. False: whose it is is not known yet. */
bool kin_up(procspace_t *ps, int node, const struct event *e);
void kin_settle(procspace_t *ps); /* after a restart: all nodes have spoken */
void kin_find(procspace_t *ps); /* before that: whom nodes have told of since */
/* The process npid of node, as we know it; NULL. */
struct proc *proc_there(procspace_t *ps, int node, pid_t npid);
void kin_recover(procspace_t *ps, struct proc *p, const msgpack_object *row);

/* --- home.c: processes whose parents wait for them on another node --- */
void home_ring(struct proc *p, enum ghost_op op, int arg);
void home_signal(struct proc *p, int sig);
void home_tell_end(procspace_t *ps, int node, pid_t npid, int status);
struct proc *home_add(procspace_t *ps, struct launch *l, uint32_t rank, int node, int home,
                      pid_t npid, struct err *err);
bool process_stopped(pid_t pid); /* of this machine */
int home_is_local(const struct proc *p); /* its body is on the master */
struct passed;
void home_local_signal(struct proc *p, const struct passed *s);
void home_local_gone(procspace_t *ps, struct kid *k); /* the process has ended */
/* Its parent has moved, and waits for it at k's node now, by k; p may be a ghost's yet. */
void home_move(procspace_t *ps, struct proc *p, struct kid *k);
/* Its parent has come to the master. */
void home_back(procspace_t *ps, struct proc *p);
void home_found(struct proc *p); /* one on the master that was there already */
int on_start(void *self, struct svc_req *req, struct err *err);
int on_child(void *self, struct svc_req *req, struct err *err);
void home_start(struct proc *p); /* one on the master: as soon as its ghost is there */
/* launch.c: the process that is p is there, or (code) will not be; its plan. */
void launch_local(struct proc *p, int code, const char *why);
void launch_pack_local(const struct proc *p, const char *token, mp_buf *out);
struct proc *home_find(procspace_t *ps, uint64_t launch, uint64_t rank);
/* The one that node knows by this pid; NULL. */
struct proc *home_there(procspace_t *ps, int node, pid_t pid);
void home_take_over(procspace_t *ps, struct proc *old, struct proc *p); /* p is it now */
void home_ended(procspace_t *ps, struct proc *p);
struct proc *kid_body(const struct kid *k); /* elsewhere; NULL: it is no stand-in */
void home_forget(struct proc *p);
bool home_cry(procspace_t *ps, int node, const struct event *e); /* as kin_up() */
bool home_cut(procspace_t *ps, int node, const struct event *e);
void home_stopped(struct proc *p, int sig);
void home_continued(struct proc *p);
void home_lost(procspace_t *ps, int node);
void home_recover(procspace_t *ps, int node, const msgpack_object *o);
void home_settle(procspace_t *ps);
/* One of this number for which nobody stands where it is said to be waited for, or none
 * that has a ghost, while its parent is on this other node. */
struct proc *home_unstood(procspace_t *ps, pid_t npid, int64_t uid, int node);
bool home_recover_here(procspace_t *ps, int node, uint64_t launch, uint64_t rank,
                       const msgpack_object *o);
void home_recover_plain(procspace_t *ps); /* those that are waited for on the master */
struct identity;
struct proc *home_asker(procspace_t *ps, int node, const msgpack_object *body, pid_t *npid,
                        struct err *err);
pid_t home_ghost(const struct proc *p); /* its ghost here, whoever has it; 0: none */
int home_identity(const struct proc *p, struct identity *id, struct err *err);

/* --- report.c: what nodes say --- */
int on_report(void *self, struct svc_req *req, struct err *err);
void node_lost(procspace_t *ps, int node, const char *space, const char *why);

/* --- given.c: reports are acknowledged when the signals in them have been given --- */
/* For those of event e; then signals_end(). NULL: out of memory. */
struct signals *given_begin(procspace_t *ps, const struct event *e);
/* Answer a report of all up to seq: now, or (SVC_LATER) when they are. */
int given_answer(procspace_t *ps, struct svc_req *req, uint64_t space, uint64_t seq);

/* --- network.c --- */
void network_ask(void *ps); /* once the bus is there */
void network_take(const msgpack_object *said); /* by nodemgr.config, or its event */

/* --- late.c --- */
/* A body has ended of which we know nothing: after a restart that came between its
 * launch and this word. Its ghost is told, as soon as there is one. as: the launch
 * that it names, if it is another (0). */
void end_unknown(procspace_t *ps, pid_t pid, uint32_t gen, uint64_t launch, uint64_t as,
                 int status);

/* --- recover.c --- */
int recover_ghosts(procspace_t *ps, struct err *err); /* at start, before the bus */
void recover_nodes(void *arg); /* when connected: ask who lives */
/* A node's list of what runs there (node.N.procs). */
void recover_list(procspace_t *ps, int node, const msgpack_object *value);
/* A ghost of before the restart, of which no node has spoken yet. */
bool recovering(procspace_t *ps, pid_t pid);
/* A node has told that the body of this ghost has had the signal of this number; and
 * has every node told what it knows of that? */
bool recovered_signal(procspace_t *ps, pid_t pid, uint64_t once);
bool recovered_all(procspace_t *ps);
/* The pidfd of a ghost of before the restart that stands for this kid; -1. */
int recovered_kid(procspace_t *ps, int node, pid_t npid, uint32_t gen, int64_t uid, pid_t *pid);

/* --- copy.c: tickets and pipes for bpcp --- */
int copies_open(procspace_t *ps, struct err *err);
void copies_close(procspace_t *ps);
int on_copy(void *self, struct svc_req *req, struct err *err);

/* --- past.c: why processes have ended --- */
int past_open(procspace_t *ps, struct err *err);
void past_close(procspace_t *ps);
/* What may end p soon. uid -1, pid 0: not known. text may be NULL. */
void cause_set(struct proc *p, enum cause_kind kind, int sig, int64_t uid, pid_t pid,
               const char *text);
void cause_free(struct cause **c);
void past_add(procspace_t *ps, struct proc *p); /* p has ended */
/* A process of this node does not die. */
void past_stuck(procspace_t *ps, int node, uint64_t launch, pid_t npid, const char *text);
int on_why(void *self, struct svc_req *req, struct err *err);
static inline pid_t proc_npid(const struct proc *p)
{
    return p->kid ? kid_npid(p->kid) : p->npid ? p->npid : p->pid;
}

/* --- move.c: images of processes on their way to nodes --- */
int moves_open(procspace_t *ps, struct err *err);
void moves_close(procspace_t *ps);
void moves_node_lost(procspace_t *ps, int node);
/* pid asks for this launch. EAGAIN: that is over, and was asked for long ago. */
int moves_sent_anew(procspace_t *ps, pid_t pid, uint64_t launch, struct err *err);
int on_moved(void *self, struct svc_req *req, struct err *err);
int on_pass(void *self, struct svc_req *req, struct err *err);
/* What its ghost is to do about it, if it is on its way to the master. */
bool move_order(procspace_t *ps, const struct proc *p, mp_buf *out);
/* What opens the way of the image that this rank is to become; NULL: it is none's. */
const char *comer_token(procspace_t *ps, uint64_t launch, uint32_t rank);
/* The stand-in of one that was to come, or the ghost in whose place, is no more. */
void comer_gone(procspace_t *ps, const struct proc *p);
void moves_drained(procspace_t *ps);
/* It has gone on, and what it has had where it was is not known yet. */
bool move_leaving(procspace_t *ps, const struct proc *p);
/* It has left its node for the master, and is about to go on here: its number is
 * its own again, and takes signals. */
bool move_left(procspace_t *ps, const struct proc *p);
struct passed {
    int sig;
    bool has_value;
    int64_t value;
    uint64_t once; /* 0: all of them have none */
    int64_t from_uid; /* told with a value */
    pid_t from_pid;
};
/* Give these to a process of this machine, each once. */
void pass_here(pid_t pid, int64_t uid, const struct passed *r, size_t n);
void pass_to(int pidfd, pid_t pid, const struct passed *r, size_t n);
/* What is to move is now known as this; NULL: it is no more. */
void move_of(procspace_t *ps, const struct proc *was, struct proc *now);
/* The process that was on its way to node (launch 0: any), and has arrived as we
 * hear; NULL. */
struct proc *move_heard(procspace_t *ps, pid_t pid, int node, uint64_t launch);

/* --- outside.c: those that know nothing of it --- */
void outside_open(procspace_t *ps);
int on_move_outside(void *self, struct svc_req *req, struct err *err);

/* --- readers.c: who reads what moving processes say --- */
struct pkt;
void readers_close(procspace_t *ps);
/* A forwarder (bpfwd) has connected: true, and fd is ours. */
bool readers_hello(procspace_t *ps, int fd, pid_t pid, uid_t uid, const struct pkt *p);
/* Rank of launch goes on as rank 0 of next, on node: read on there. */
void readers_next(procspace_t *ps, uint64_t launch, uint32_t rank, const struct launch *next,
                  int node);
/* Does somebody still read what it has said? */
bool readers_busy(procspace_t *ps, uint64_t launch, uint32_t rank);
/* One is expected, and has not been heard of yet. */
bool readers_awaited(procspace_t *ps, uint64_t launch);
struct patience { /* with a reader: all 0 at first */
    int64_t since; /* it could have read on, and has not been at the end */
};
/* It is not waited for any longer. One that is stopped, or whose own output is full,
 * is waited for. */
bool readers_late(procspace_t *ps, uint64_t launch, struct patience *p);
bool readers_heard(procspace_t *ps, uint64_t launch); /* somebody would hear it */
/* Where what it says on fd (1, 2) goes: a copy; -1 nowhere. */
int readers_out(procspace_t *ps, uint64_t launch, int fd);

/* --- lists.c --- */
int on_list(void *self, struct svc_req *req, struct err *err);
int on_result(void *self, struct svc_req *req, struct err *err);
int on_ps(void *self, struct svc_req *req, struct err *err);

/* --- asuser.c: file access as somebody else, for the calling thread only --- */
struct identity {
    uid_t uid;
    gid_t gid;
    gid_t *groups;
    int ngroups;
};
/* Groups of a local asker from /proc/PID/status; uid must match. */
int identity_of(const struct wire *w, struct identity *id, struct err *err);
int identity_of_pid(pid_t pid, int64_t uid, int64_t gid, struct identity *id, struct err *err);
/* Who asks, there or here. On a node: its agent's word ("mover" of the request). */
struct who {
    struct identity who;
    int node;   /* -1: the master */
    pid_t npid; /* there */
    pid_t pid;  /* on the master: its own, or its ghost's; 0: it has none */
};
int who_of(const struct svc_req *req, struct who *a, struct err *err);
void identity_free(struct identity *id);
int as_user(const struct identity *id, struct err *err); /* then as_self() */
void as_self(void);

/* --- contents.c: manifests, hashes, and the server that agents fetch from --- */
contents_t *contents_create(procspace_t *ps, struct err *err);
void contents_destroy(contents_t **c);
int contents_listen(contents_t *c, int port, struct err *err);

typedef void manifest_fn(void *arg, manifest_t *m, const struct err *err);
/* Calls fn with a manifest (a reference that fn's owner frees), now or later;
 * m NULL: *err says why. also: what else is to be in it, a path a line, or NULL. */
void manifest_get(contents_t *c, const char *path, const char *library_path, const char *also,
                  const struct identity *who, manifest_fn *fn, void *arg);
/* The same for a list of files, each with its soname beside it; those that are
 * not there are left out, with a word in the log. As root. */
void manifest_of_list(contents_t *c, const struct file_list *list, manifest_fn *fn, void *arg);
void manifest_unref(contents_t *c, manifest_t **m);
/* A ticket for an image that goes to each fd, which are the server's from then on. */
int contents_image(contents_t *c, const int *fd, size_t fds, struct bulk_ticket *t,
                   uint16_t *port, struct err *err);
/* True: nobody has come with it, and nobody can any more; who reads sees the end. */
bool contents_image_drop(contents_t *c, const char *token);
/* Packs the values of "files", "dirs" and "fetch" (keys too: three pairs). */
void manifest_pack(contents_t *c, manifest_t *m, mp_buf *out);

#endif
