/* nodemgr.h - the service from the inside: what its parts share
 *
 *   nodes.c, rules.c   the nodes and what may be done to them; no I/O
 *   db.c               what is remembered over a restart
 *   config.c           the configuration in force, and taking over a new one
 *   address.c          where the nodes find the master
 *   admit.c            which key is which node; who waits to be let in
 *   life.c             join, beats, silence: states that change by themselves
 *   libs.c             the library list
 *   set.c              states, owners, modes, attributes set by people
 *   control.c          reboot, halt and the like, relayed to agents
 *   view.c             lists and answers to "may I"
 *   say.c              events
 */
#ifndef NODEMGR_NODEMGR_H
#define NODEMGR_NODEMGR_H
#include <netinet/in.h>
#include "bus/loop.h"
#include "bus/svc.h"
#include "services/nodemgr/db.h"
#include "services/nodemgr/nodes.h"

struct pending { /* a key that knocks and is not let in */
    char key[KEY_LEN + 1];
    bool boot_key;
    char addr[64];
    struct strlist macs;
    char why[WHY_LEN + 1];
    int64_t since;
};

typedef struct nodemgr {
    loop_t *loop;
    svc_t *svc;
    db_t *db;
    nodes_t nodes;
    struct cm_config *config;
    struct libs libs;
    struct strlist warnings; /* of the configuration in force */
    const char *config_path;
    int64_t generation;
    char instance[33]; /* of the cluster's life: new by each start of it */
    struct pending *pending; /* oldest first */
    size_t npending;
    bool keys_changed;       /* busd has an older table than we */
    bool connected;          /* busd has noted our name once */
    int ready_fd;            /* told then; -1: none, or told */
    int64_t flush_after;     /* the disk failed: not before this */
    int64_t ticked_at;
    int tick_timer, tick_ms;
    struct patience patience;
    int beat_ms;
} nodemgr_t;

extern const struct svc_method nodemgr_methods[];

/* A newline goes to ready_fd (-1: none) once requests can reach us. */
nodemgr_t *nodemgr_create(loop_t *l, const char *config_path, int ready_fd, struct err *err);
void nodemgr_destroy(nodemgr_t **m);

/* config.c */
int config_start(nodemgr_t *m, struct err *err);
int config_reload(nodemgr_t *m, struct err *err); /* on error the old one stays */
int on_reload(void *self, struct svc_req *req, struct err *err);
int on_config(void *self, struct svc_req *req, struct err *err);

/* address.c: "" when no node is on a network of ours */
void master_address(const nodemgr_t *m, char out[INET_ADDRSTRLEN]);

/* admit.c */
struct node *admit(nodemgr_t *m, const char *key, bool boot_key, const char *addr,
                   const struct strlist *macs, struct err *err);
void keys_send(nodemgr_t *m); /* the whole table to busd, if it changed */
void pending_free(nodemgr_t *m);
int on_keys(void *self, struct svc_req *req, struct err *err);
int on_accept(void *self, struct svc_req *req, struct err *err);
int on_pending(void *self, struct svc_req *req, struct err *err);
int on_forget(void *self, struct svc_req *req, struct err *err);

/* life.c */
int on_join(void *self, struct svc_req *req, struct err *err);
int on_beat(void *self, struct svc_req *req, struct err *err);
void life_pace(nodemgr_t *m);   /* the configuration may have changed the times */
void life_credit(nodemgr_t *m); /* silence so far was ours, not theirs */
/* Tell the agent to end its space and its machine's life; nothing waits. */
void life_end(nodemgr_t *m, const struct node *n);
/* The space is dead: events, and the node down for this reason. */
void life_lose(nodemgr_t *m, struct node *n, const char *who, const char *why);
/* Write what is dirty; failing is no harm, it is tried again. */
void life_flush(nodemgr_t *m);

/* libs.c */
int libs_start(nodemgr_t *m, bool fresh, struct err *err);
void libs_reload(nodemgr_t *m); /* the configuration may name others */
int on_libs(void *self, struct svc_req *req, struct err *err);
int on_setlibs(void *self, struct svc_req *req, struct err *err);

/* set.c, control.c */
int on_set(void *self, struct svc_req *req, struct err *err);
int on_control(void *self, struct svc_req *req, struct err *err);
void who_text(const struct wire *w, char *out, size_t room);
bool asker_is_root(const struct wire *w);

/* view.c */
int on_list(void *self, struct svc_req *req, struct err *err);
int on_resolve(void *self, struct svc_req *req, struct err *err);
int on_check(void *self, struct svc_req *req, struct err *err);
/* [n] under key "nodes": numbers checked for type and range only. */
int read_nodes(const msgpack_object *body, nodelist_t *out, struct err *err);
/* {uid, gid, groups}; person_free() also after a failure. */
int read_person(const msgpack_object *body, struct person *p, struct err *err);

/* say.c: one function an event of doc/wire.md */
void say_state(nodemgr_t *m, const struct node *n, const char *was);
void say_owner(nodemgr_t *m, const struct node *n);
void say_attr(nodemgr_t *m, const struct node *n, const char *name);
void say_key(nodemgr_t *m, const struct node *n);
void say_pending(nodemgr_t *m, const struct pending *p);
void say_lost(nodemgr_t *m, int node, const char *space, const char *why);
void say_joined(nodemgr_t *m, const struct node *n);
void say_ready(nodemgr_t *m, const struct node *n);
void say_config(nodemgr_t *m);
void say_libs(nodemgr_t *m);

#endif
