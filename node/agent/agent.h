/* agent.h - bpnode from the inside: what its parts offer each other
 *
 * One thread and one loop; only files.c (fetching) and bulk_out.c (bulk
 * streams) have threads of their own, and those touch nothing in here.
 * Each part is opaque, lives in its own file, and is reached through the one
 * struct agent. What needs the node's root or the bus is made only when bpinit
 * has told what runs here (agent_go_online), and is NULL before.
 *
 *   space.c    the connection to bpinit: messages, the arena, the bells
 *   files.c    content by hash: fetched, cached, placed, evicted
 *   ahead.c    files brought before a launch needs them
 *   launch.c   launches and signals, the table of what runs here
 *   report.c   exits, stops and continues, until the master has them
 *   ps.c       /proc of the node
 *   control.c  what the master's people do to a node
 *   join.c     being a node of the cluster: join, beat, give up
 *   gate.c     questions of the node's processes
 *   kin.c      their children on other machines   asker.c  who they are
 *   copy.c     tickets and a port for bpcp's copies, and for images
 *   move.c     processes that come and go
 *   streams.c  stdio between the rings and iofwd (streams.h)
 */
#ifndef AGENT_H
#define AGENT_H
#include <stdbool.h>
#include <stdint.h>
#include "bus/err.h"
#include "bus/loop.h"
#include "bus/mp.h"
#include "bus/svc.h"
#include "bus/zloop.h"

typedef struct agent agent_t;
typedef struct space space_t;
typedef struct files files_t;
typedef struct launches launches_t;
typedef struct report report_t;
typedef struct join join_t;
typedef struct streams streams_t;
typedef struct copies copies_t;
typedef struct gate gate_t;
typedef struct moves moves_t;
struct bulk_ticket;
struct pump_dial;
struct ucred;

struct agent {
    loop_t *loop;
    svc_t *svc;             /* NULL until agent_go_online() */
    struct curve_keys keys; /* our own */
    char master_key[41];    /* Z85 */
    char master_addr[64];   /* of --bus; streams are at master_port + CM_PORT_STREAMS */
    uint16_t master_port;
    char local_addr[16];    /* of ours, that we speak to the master from; "" any */
    uint16_t local_port;    /* the same for the bus; 0 any */
    bool way_trial;         /* the master has not answered us there yet: way.c */
    int root_fd;            /* the node's root file system; paths only by openat2 in it */
    int node;               /* our number as of the last join; the hint, or -1, before */
    int ready_fd;           /* told once we are a ready node; -1 none, or done */
    char boot[64];          /* of this machine's life */
    bool boot_key;          /* our key does not outlive this boot */
    char image[65];         /* hash of the boot image that runs; "" none */
    char space_id[64];      /* of this bpinit's life; "" before its hello */
    bool leaving;           /* the master has said how this machine's life ends */
    char *chroot;           /* later launches run in there; NULL: the root */
    launches_t *launches;
    report_t *report;
    space_t *space;
    files_t *files;         /* from here on NULL until agent_go_online() */
    struct ahead *ahead;    /* requests to bring files, not finished */
    join_t *join;
    streams_t *streams;
    copies_t *copies;
    moves_t *moves;
    gate_t *gate;
};

extern const struct svc_method agent_methods[];

/* The first list of bodies came from bpinit: go on the bus (main.c). */
int agent_go_online(agent_t *a, struct err *err);

/* ---- space.c: the connection to bpinit. Made again when it is lost. ---- */
space_t *space_create(agent_t *a, const char *path, struct err *err);
void space_destroy(space_t **s);
bool space_ready(const space_t *s); /* connected and listed */
/* One message ["name", {...}]: body is the packed map. Sent, or kept until the
 * socket takes it. ENOTCONN: bpinit is not there. */
int space_send(space_t *s, const char *name, const mp_buf *body, struct err *err);
bool space_backlog(const space_t *s); /* some of it is still with us */
/* The same with a descriptor, which is gone then, sent or not. */
int space_send_fd(space_t *s, const char *name, const mp_buf *body, int fd, struct err *err);
void space_release(space_t *s, uint32_t slot);
void space_hangup(space_t *s, uint64_t launch, uint32_t rank, int fd);
void space_ack(space_t *s, uint64_t seq);
void space_end(space_t *s, const char *how);
/* The arena of rings (node/space.h), mapped as long as *s lives; a new bpinit
 * has a new one. NULL before its hello. */
void *space_arena(const space_t *s);
uint32_t space_slots(const space_t *s);
/* Ring bpinit's bell: a ring changed on our side. */
void space_bell(space_t *s);
int space_bell_fd(const space_t *s); /* the same for threads: write 8 bytes; -1 */
/* Ask bpinit for its bodies: cb gets its map {procs, rings}, or NULL and why. */
typedef void space_list_fn(void *arg, const msgpack_object *map, const struct err *err);
void space_list(space_t *s, space_list_fn *cb, void *arg);
/* The map: {left, all}: launches of the job, and of anybody. */
void space_end_job(space_t *s, int64_t uid, uint64_t job, int sig, const msgpack_object *of,
                   space_list_fn *cb, void *arg); /* of: has of, attempt */
/* The same for another message; body is a map's pairs, n of them, without "id". */
void space_ask(space_t *s, const char *name, const mp_buf *pairs, uint32_t n,
               space_list_fn *cb, void *arg);

/* ---- way.c: another way to the same master ---- */
/* MASTER[:PORT[,LOCAL[:PORT]]], "-" what stays. SVC_LATER: it is tried; when it is
 * answered this agent ends soon, and the next one goes that way. EINVAL, or why
 * the master cannot be reached there. */
int way_change(agent_t *a, const char *text, svc_token *token, struct err *err);
void way_read(agent_t *a); /* what was noted takes --bus's place */
void way_good(agent_t *a); /* the master has taken us in */
/* Where to connect, for libzmq. bus: from local_port too. */
void way_endpoint(const agent_t *a, int port, bool bus, char *out, size_t room);

/* ---- launch.c ---- */
launches_t *launches_create(agent_t *a, struct err *err);
void launches_destroy(launches_t **l);
void launches_adopt(launches_t *l, const msgpack_object *map); /* bpinit's list */
void launches_spawned(launches_t *l, const msgpack_object *map);
void launches_exited(launches_t *l, uint64_t launch, int64_t rank);
/* ["gone", {launch, rank}]: it was to arrive here, and did not. */
void launches_never_came(launches_t *l, const msgpack_object *map);
void launches_lost(launches_t *l); /* bpinit is gone: fail what waits for it */
uint32_t launches_procs(const launches_t *l); /* how many run */
/* The ghost's pid of the process with this pid here; 0: it is no body. */
int32_t launches_pid(const launches_t *l, int32_t npid);
int on_launch(void *self, struct svc_req *req, struct err *err);
int on_signal(void *self, struct svc_req *req, struct err *err);
int on_end_launch(void *self, struct svc_req *req, struct err *err);
int on_orphan(void *self, struct svc_req *req, struct err *err);
int on_end_job(void *self, struct svc_req *req, struct err *err);
/* The job that a launch's environment names (JOBID=N); 0: none. */
uint64_t job_of(const msgpack_object *launch);
/* Those that wait for files, of a user (-1: all but root) and job (0: any). */
uint32_t launches_fetching(const launches_t *l);
uint32_t launches_cancel(launches_t *l, int64_t uid, uint64_t job);
int on_hangup(void *self, struct svc_req *req, struct err *err);
int on_procs(void *self, struct svc_req *req, struct err *err);

/* ---- report.c ---- */
report_t *report_create(agent_t *a, struct err *err);
void report_destroy(report_t **r);
void report_event(report_t *r, const msgpack_object *map); /* from bpinit */
uint64_t report_seq(const report_t *r); /* of the last event seen */
void report_kick(report_t *r);          /* the bus is there (again): send now */
void report_restart(report_t *r);       /* bpinit says all its events again */

/* ---- ahead.c ---- */
int on_place(void *self, struct svc_req *req, struct err *err);
void ahead_end(agent_t *a); /* before files_destroy(): what is not finished is dropped */

/* ---- ps.c, control.c ---- */
int on_ps(void *self, struct svc_req *req, struct err *err);
int on_control(void *self, struct svc_req *req, struct err *err);

/* ---- names.c: libnss_bproc; to be without it is no failure of the node ---- */
int names_place(agent_t *a, struct err *err);

/* ---- gate.c: the node's processes ask the master ---- */
gate_t *gate_create(agent_t *a, struct err *err);
void gate_destroy(gate_t **g);
/* Another socket beside the gate. */
int gate_listen(const gate_t *g, const char *name, struct err *err);

/* ---- asker.c ---- */
/* {npid, pid, uid, gid, groups} of who asks at the gate. */
int asker_pack(agent_t *a, const struct ucred *who, mp_buf *m, struct err *err);

/* ---- kin.c: the gate's askers start processes elsewhere ---- */
struct asker { /* who has connected: by the kernel's word */
    int32_t npid; /* in the node's process space */
    uint32_t uid;
};
int asker_of(int fd, struct asker *out, struct err *err);
/* The programs of those who stand for others, into a folder of the node. */
int kin_place_programs(int folder, struct err *err);
typedef void kin_answer_fn(void *arg, const msgpack_object *value, const struct err *err);
void kin_launch(agent_t *a, const struct asker *who, const msgpack_object *body, int64_t ms,
                kin_answer_fn *fn, void *arg);
/* The same for a move, whole: first all is to reach its children (rows, the first of which
 * is a number here) that it has sent them. EAGAIN: that is under way. */
void kin_part(agent_t *a, const msgpack_object *children, const mp_buf *body, int ms,
              kin_answer_fn *fn, void *arg);
int on_ring(void *self, struct svc_req *req, struct err *err);
int on_home(void *self, struct svc_req *req, struct err *err);

/* ---- copy.c ---- */
copies_t *copies_create(agent_t *a, struct err *err);
void copies_destroy(copies_t **c);
int on_copy(void *self, struct svc_req *req, struct err *err);
uint16_t copies_port(const copies_t *c); /* 0: none */
/* A ticket for an image: what comes goes to all of out (from malloc, taken over
 * on success). Then where else it goes, until it begins. */
int copies_image(copies_t *c, uint64_t launch, int *out, size_t outs, struct bulk_ticket *t,
                 struct err *err);
/* Who was to send it is no more: what is not on its way by now will not come. */
void copies_image_cut(copies_t *c, uint64_t launch);
/* Who sends it is lost: no more of it comes. */
void copies_image_stop(copies_t *c, const char *token);
/* One of those that waited for it has failed: with the last of them nobody expects it. */
void copies_image_gone(copies_t *c, uint64_t launch);
int copies_image_on(copies_t *c, const char *token, const struct pump_dial *d, size_t n,
                    struct err *err);

/* ---- move.c ---- */
moves_t *moves_create(agent_t *a, struct err *err);
void moves_destroy(moves_t **m);
void moves_answer(moves_t *m, const msgpack_object *map); /* "arrivals" */
void moves_lost(moves_t *m);                              /* bpinit is gone */
/* An image of this user may go there: whoever shows the token is given the way. */
int moves_way(moves_t *m, const char *token, uint32_t uid, const struct pump_dial *d,
              struct err *err);
/* The rows of maps ([path, size, crc]) that this node has not got: packs a list
 * of their paths. */
int moves_lacks(const agent_t *a, const char *root, const msgpack_object *maps, mp_buf *out,
                struct err *err);
int on_arrived(void *self, struct svc_req *req, struct err *err);
int on_depart(void *self, struct svc_req *req, struct err *err);
int on_said(void *self, struct svc_req *req, struct err *err);
int on_move(void *self, struct svc_req *req, struct err *err);
int on_relay(void *self, struct svc_req *req, struct err *err);

/* ---- join.c ---- */
join_t *join_create(agent_t *a, struct err *err);
void join_destroy(join_t **j);
void join_space(join_t *j);     /* the space is there, or a new one: (re)join */
void join_connected(join_t *j); /* the bus has (re)connected */

#endif
