/* bpinit.h - pid 1 of a node's process space, from the inside
 *
 *   bpinit.c         command line, start-up, the loop
 *   bpinit_root.c    the node's root: mounts, devices, names
 *   bpinit_space.c   the agent: its connection and its messages
 *   bpinit_spawn.c   starting bodies
 *   bpinit_child.c   the last steps before a body's exec
 *   bpinit_begin.c   the same for one that a ghost of this node begins
 *   bpinit_answer.c  which answers wait for such
 *   bpinit_bodies.c  the table of bodies
 *   bpinit_arrive.c  processes that come from another machine, or go there
 *   bpinit_into.c    those that come to where something stands for them
 *   bpinit_mover.c   those that go and know nothing of it
 *   bpinit_signal.c  signals for them, each once
 *   bpinit_cgroup.c  a launch and all that comes of it, held together
 *   bpinit_reap.c    waiting for them
 *   bpinit_watch.c   a bell that rings when processes fork, exec, end, stop
 *   bpinit_kids.c    processes that bodies make
 *   bpinit_kin.c     stand-ins of parents that live elsewhere (bpinit_kin.h)
 *   bpinit_left.c    parents that have left children here
 *   bpinit_stand.c   and of children
 *   bpinit_ghosts.c  what those that are programs say
 *   bpinit_local.c   bodies whose parents are here
 *   bpinit_journal.c what happened, until it is acknowledged
 *   bpinit_pump.c    their pipes, into and out of rings
 *
 * One thread, one loop. Nothing in here waits for anybody but exec.
 */
#ifndef NODE_BPINIT_H
#define NODE_BPINIT_H
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "bus/err.h"
#include "bus/loop.h"
#include "bus/mp.h"
#include "node/rings.h"

struct rusage;

typedef struct bodies bodies_t;
typedef struct journal journal_t;
typedef struct pump pump_t;
typedef struct agent_link link_t;
typedef struct cages cages_t;
typedef struct cage cage_t;
typedef struct kids kids_t;
typedef struct watch watch_t;
typedef struct kin kin_t;
typedef struct stands stands_t;
struct kin_name;
struct kin_parent;
typedef struct arrivals arrivals_t;
typedef struct signals signals_t;
typedef struct ghosts ghosts_t;
struct arrival;
struct child;
struct cage_wish;

struct init {
    loop_t *loop;
    char id[33];      /* of this space, random */
    const char *boot; /* of the machine's life, told by who started us */
    int null_fd;      /* /dev/null of the node */
    int restore_fd;   /* the program bprestore; -1: nothing can arrive here */
    rings_t *rings;
    bodies_t *bodies;
    journal_t *journal;
    cages_t *cages;
    arrivals_t *arrivals;
    struct mover *movers; /* at work */
    signals_t *signals;
    kids_t *kids;
    kin_t *kin;
    stands_t *stands;
    ghosts_t *ghosts;
    struct answer *answers; /* that wait for ghosts (bpinit_answer.c) */
    pump_t *pump;
    link_t *link;
    bool ending;
    int end_status; /* SPACE_EXIT_* */
};

/* ---- bodies: known from their start until their exit is acknowledged ---- */
struct body {
    struct body *by_pid, *by_npid, *by_rank; /* chains */
    pid_t pid;  /* the ghost's, everybody's name for it */
    pid_t npid; /* here */
    uint32_t gen;
    uint64_t launch;
    uint32_t rank;
    uid_t uid;
    gid_t gid;
    pid_t owner; /* pid of the bpsh, on the master */
    pid_t pgid;     /* its group at the start */
    uint64_t name;  /* hash of its arguments */
    uint64_t as;    /* the launch that its ghost names, if that is another; else 0 */
    char *argv0;
    int64_t start; /* wall clock, ms */
    uint32_t conts, halts; /* SIGCONTs and SIGSTOPs that the master has sent it */
    bool stopped, ended;
    bool arriving; /* not let go yet */
    bool starting; /* the same of a program: a ghost here begins it */
    int slot[3]; /* rings of fd 0-2 at the start, -1 none */
    struct kin_parent *parent; /* whose child it is here; NULL: ours */
    int home;        /* the node where its parent waits for it; -1 the master */
    pid_t home_npid; /* and for whom, there */
    bool local;      /* its parent is a process here, and waits for it */
};

bodies_t *bodies_create(struct err *err);
void bodies_destroy(bodies_t **b);
int bodies_add(bodies_t *t, const struct body *b, struct err *err); /* copies */
struct body *bodies_by_pid(const bodies_t *t, pid_t pid);   /* running ones */
struct body *bodies_by_npid(const bodies_t *t, pid_t npid); /* running ones */
struct body *bodies_by_rank(const bodies_t *t, uint64_t launch, uint32_t rank);
void bodies_end(bodies_t *t, struct body *b);  /* reaped: its pids are free */
void bodies_drop(bodies_t *t, struct body *b); /* forget it */
typedef void body_fn(void *arg, const struct body *b);
void bodies_each(const bodies_t *t, body_fn *fn, void *arg); /* running ones */
void bodies_change(bodies_t *t, void (*fn)(void *arg, struct body *b), void *arg);
uint32_t bodies_running(const bodies_t *t);
/* Whose children they were is no more. */
void bodies_forget_parent(bodies_t *t, const struct kin_parent *p);

/* ---- journal: what happened, until the agent says the master knows ---- */
journal_t *journal_create(struct err *err);
void journal_destroy(journal_t **j);
/* Each is sent to the agent, and again to each new one. */
void journal_exit(struct init *in, struct body *b, int status, const struct rusage *ru,
                  bool starved);
void journal_stop(struct init *in, const struct body *b, int sig);
void journal_cont(struct init *in, const struct body *b);
/* Nothing of a launch is left here; one of its processes will not die. */
void journal_done(struct init *in, uint64_t launch, uint64_t job);
void journal_stuck(struct init *in, uint64_t launch, pid_t npid, const char *text,
                   const char *stack);
/* A signal for a parent that lives elsewhere, by way of its stand-in. from: who
 * sent it here, 0 nobody. */
void journal_up(struct init *in, const struct kin_name *to, int sig, const uint64_t *value,
                pid_t from, uid_t uid);
/* What was sent to the stand-in of a child, and that it was killed. */
void journal_cry(struct init *in, pid_t npid, uint32_t gen, int sig, const uint64_t *value,
                 pid_t from, uid_t uid);
void journal_cut(struct init *in, pid_t npid, uint32_t gen);
uint64_t journal_seq(const journal_t *j); /* of the last event */
uint64_t journal_known(const journal_t *j); /* up to which all are known */
/* Events up to seq are known; the bodies that ended in them are forgotten. */
void journal_ack(struct init *in, uint64_t seq);
void journal_resend(struct init *in);

/* ---- arrivals ---- */
arrivals_t *arrivals_create(struct init *in, struct err *err);
void arrivals_destroy(arrivals_t **t);
/* An image is on its way on fd, which is ours from now on unless -1 is returned. */
int arrival_expect(arrivals_t *t, uint64_t launch, uint32_t rank, int fd, struct err *err);
/* Those that have not been let go, under this number: its mover has given them up. */
void arrivals_sent_anew(arrivals_t *t, pid_t npid, uint64_t launch, uid_t uid);
/* At its start: what the child gets. Then arrival_begun(), with the descriptor
 * that is only the child's, and err->code if it could not be started. */
struct arrival *arrival_begin(arrivals_t *t, uint64_t launch, uint32_t rank, int *image,
                              int *control, struct err *err);
void arrival_begun(struct arrival *a, pid_t npid, uid_t uid, int theirs, const struct err *err);
/* It has ended. True: before it was let go, so nobody else is told. */
bool arrival_ended(arrivals_t *t, const struct body *b, bool starved);
/* Instead of these two: it comes into the place of a ghost here; maker: of one that this
 * is to make first (0: it is there). Of a program always so. Takes the streams. */
struct plan;
int arrival_into(arrivals_t *t, struct plan *p, uint32_t rank, pid_t ghost, pid_t maker,
                 cage_t *cage, int stream[3], struct err *err);
/* What that ghost is to do: an answer to procspace.ghost (node/bpghost.c). */
void arrival_order(arrivals_t *t, pid_t ghost, mp_buf *out);
/* It has made npid. False: it was not told to. */
bool arrival_made(arrivals_t *t, pid_t npid, pid_t parent);
/* It has come for its image. True: conn is ours. */
bool arrival_fetch(arrivals_t *t, pid_t ghost, int conn, const char *token, size_t len);
/* It has ended, and makes no more; what it has made begins nothing. */
void arrivals_maker_gone(arrivals_t *t, pid_t maker);
int arrivals_ask(arrivals_t *t, const msgpack_object *map, struct err *err);
void arrivals_new_agent(arrivals_t *t);
struct departure { /* what has become of what was here */
    uint64_t launch; /* of its stay; 0: not known */
    bool stays;   /* as a ghost, for its relatives here, */
    uint32_t gen; /* for a child of a process here: its name with its number; 0: not */
    mp_buf took;  /* children that are bodies now, by number */
    uint32_t ntook;
    mp_buf said;  /* pump_said(), if others here go on writing where it has written */
    uint32_t nsaid;
};
int arrivals_depart(arrivals_t *t, const msgpack_object *map, struct departure *d,
                    struct err *err);
bool arrivals_departed(const arrivals_t *t, pid_t npid); /* its body is elsewhere */
void arrivals_departed_end(arrivals_t *t, pid_t npid);
void arrivals_forget_parent(arrivals_t *t, const struct kin_parent *p);

/* ---- bpinit_local.c ---- */
void local_watch(struct init *in, struct body *b); /* its parent is a process here now */

/* ---- bpinit_ghosts.c: bpghosts of this node ---- */
int ghosts_open(struct init *in, struct err *err);
void ghosts_close(struct init *in);

/* ---- a body that is to go to another machine, and knows nothing of it ---- */
int mover_ask(struct init *in, const msgpack_object *map, struct err *err);

/* ---- signals from the master ---- */
signals_t *signals_create(struct err *err);
void signals_destroy(signals_t **s);
int signal_take(struct init *in, const msgpack_object *map, struct err *err);
/* A list: the numbers of those that the body of this pid has had, as far as known, the
 * oldest first; of its stay of that launch alone, if it is not 0. */
void signals_pack(const signals_t *s, pid_t pid, uint64_t launch, mp_buf *m);
/* [pid, number, pid, number...] of all that were heard of late. */
void signals_pack_all(const signals_t *s, mp_buf *m);

/* ---- reaper ---- */
int reap_start(struct init *in, struct err *err);
/* What has moved away from here is about to end, and may come back under its number
 * before that: waits for its end, for a moment. */
void reap_departed(struct init *in, pid_t npid);
/* What wait() said of npid, to us or to a stand-in of ours. */
void reap_status(struct init *in, pid_t npid, int status, const struct rusage *ru);
/* SIGKILL for everything; the loop ends with status when all are gone. */
void reap_end_all(struct init *in, int status);

/* ---- cages: the control groups of launches ---- */
#define CAGE_TREES 3 /* main, memory, processors */
cages_t *cages_create(struct init *in, const int root[CAGE_TREES], struct err *err);
void cages_destroy(cages_t **t);
struct job_used { /* by what has ended of a job here */
    uint64_t job;
    uint32_t attempt;
    uid_t uid;
    uint64_t utime_us, stime_us, maxrss_kb;
    bool free_mem, free_cpus; /* it should have been limited, and could not be */
};
/* The launch's; made now if it is not there. A launch has one even where there are
 * no control groups. ENOTSUP: its own limits cannot be had; a job's are done without. */
cage_t *cages_get(cages_t *t, const struct cage_wish *w, struct err *err);
void cage_join(const cage_t *c, struct child *child);
void cage_take(const cage_t *c, pid_t npid); /* one that runs already */
void cage_started(cage_t *c); /* a body runs in it */
bool cage_killed(const cage_t *c);
void cages_body_ended(cages_t *t, uint64_t launch, const struct rusage *ru); /* NULL: elsewhere */
/* Has the kernel killed one of it for want of memory since this was asked last? */
bool cages_starved(cages_t *t, uint64_t launch);
void cages_settle(cages_t *t, uint64_t launch); /* it may be that none was started */
bool cages_have_groups(const cages_t *t);
bool cages_known(const cages_t *t, uint64_t launch);
void cages_signal(cages_t *t, uint64_t launch, int sig); /* everything in it */
/* Signal (0: only look) the launches of a user (-1: all users but root) that belong
 * to this job (0: whatever job). How many there are; *all: launches of anybody. */
uint32_t cages_end_job(cages_t *t, int64_t uid, uint64_t job, int sig, uint32_t *all);
/* Of the last thousand jobs that had launches here; NULL: not known. */
const struct job_used *cages_used(const cages_t *t, int64_t uid, uint64_t job, uint32_t attempt);

/* ---- kids: processes that bodies make ---- */
/* lease, count: the pids that they get, as far as they last; 0: any. */
kids_t *kids_create(struct init *in, pid_t lease, pid_t count, struct err *err);
void kids_destroy(kids_t **t);
void kids_look_soon(kids_t *t);
/* A ghost that waits for what may come: it has passed on all that it was sent. One that is
 * stopped: that is known. */
bool kids_rests(kids_t *t, pid_t npid);
/* gen as it was told; si: with its sender and value, or NULL. */
void kids_signal(kids_t *t, pid_t npid, uint32_t gen, int sig, const siginfo_t *si);
/* Know it now, however young it is. parent: -1 unless that is its parent; 0 any. */
int kids_note(kids_t *t, pid_t npid, pid_t parent, uint32_t *gen);
/* What wait() said of its end, to us or to the stand-in of a parent. */
void kids_reaped(kids_t *t, pid_t npid, int status);
/* Whose child one was made as is no more. */
void kids_forget_parent(kids_t *t, const struct kin_parent *p);
/* It stops or goes on, which the master knows. */
void kids_stopped(kids_t *t, pid_t npid, bool stopped);
void kids_signal_launch(kids_t *t, uint64_t launch, int sig);
bool kids_any(const kids_t *t, uint64_t launch);
/* What /proc says of one: its parent (0: it is not there), the parent if that is a process
 * of somebody's (0: it is one of ours), its status if it has ended and nobody knows yet. */
pid_t kids_ppid(kids_t *t, pid_t npid);
pid_t kids_local_parent(kids_t *t, pid_t npid);
int kids_status(kids_t *t, pid_t npid);
bool kids_is_of(kids_t *t, pid_t npid, uid_t uid, gid_t gid); /* of nobody else's */
bool kids_is_stopped(kids_t *t, pid_t npid);
bool kids_any_child(kids_t *t, pid_t npid); /* ended ones count */
/* npid is a body, or is none any more: then it is told as a kid. */
void kids_body(kids_t *t, pid_t npid);
void kids_no_body(kids_t *t, pid_t npid);
/* A kid of parent's becomes one: the rest of b. -1: there is none. */
int kids_to_body(kids_t *t, struct body *b, pid_t parent);
void kids_pack(const kids_t *t, mp_buf *m); /* a list of "born" rows */

/* The bell: rings kids_look_soon() once, until it is armed again. */
watch_t *watch_create(struct init *in, struct err *err);
void watch_destroy(watch_t **w);
void watch_arm(watch_t *w); /* NULL fine */

/* ---- pump ---- */
pump_t *pump_create(struct init *in, struct err *err);
void pump_destroy(pump_t **p);
/* Take our end of a stream's pipe, which must be non-blocking, and serve slot.
 * uid: whose stream it is, for lists. */
int pump_add(pump_t *p, uint32_t slot, int fd, uid_t uid, struct err *err);
uid_t pump_uid(const pump_t *p, uint32_t slot);
uint64_t pump_inode(const pump_t *p, uint32_t slot); /* of its pipe; 0: it is closed */
void pump_release(pump_t *p, uint32_t slot); /* close the pipe, give the ring back */
void pump_drain(pump_t *p, int slot); /* read now what an ended body wrote; -1 fine */
/* Its body runs elsewhere: what it has written is read, however slowly, then it ends. */
void pump_depart(pump_t *p, int slot);
/* How far the output of launch has come by now, of whoever writes there: rows
 * [rank, fd, offset] to out; returns how many. */
uint32_t pump_said(pump_t *p, uint64_t launch, mp_buf *out);
void pump_hangup(pump_t *p, uint64_t launch, uint32_t rank, int fd);
void pump_new_agent(pump_t *p);

/* ---- the agent's connection ---- */
/* listening: the socket of this path, which listens already; -1: it is made. */
link_t *link_create(struct init *in, const char *path, int listening, struct err *err);
void link_destroy(link_t **l);
void link_send(link_t *l, const mp_buf *m); /* dropped if no agent is there */

/* ---- spawning ---- */
/* Carry out a spawn map and pack the "spawned" map, which tells all failures. 1: that is
 * sent later. */
int spawn_bodies(struct init *in, const msgpack_object *map, mp_buf *out, struct err *err);

/* ---- the node's root ---- */
struct root_plan {
    int fd;           /* detached mount of the root file system; -1: stay here */
    const char *hostname;
    const char *address; /* for /etc/hosts; may be NULL */
    int first_pid;       /* of those born here; 0: as we choose */
    bool machine;        /* a real one: its devices in /dev, /sys for writing */
};
int root_enter(const struct root_plan *plan, struct err *err);

void init_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
