/* starting.h - a launch on its way: what launch.c and homed.c share */
#ifndef PROCSPACE_STARTING_H
#define PROCSPACE_STARTING_H
#include "services/procspace/kin.h"
#include "services/procspace/move.h"

struct failed {
    uint32_t rank;
    int code;
    char *text;
};

struct warning {
    int node;
    char *text;
};

struct starting { /* a launch on its way */
    procspace_t *ps;
    svc_token *token;
    uint64_t id;
    struct identity who;
    msgpack_zone *zone; /* the request, kept until the nodes have answered */
    msgpack_object body;
    uint32_t ranks;
    int *node;   /* by rank */
    pid_t *pid;
    bool *out;   /* this rank is not started: refused, or its ghost has gone */
    int home;    /* the node that the asker is on; -1 the master */
    pid_t asker; /* its pid there */
    uint32_t locals; /* ranks on the master that are not there yet */
    bool nodes_done;
    int late; /* timer */
    bool self;   /* the asker itself goes on as rank 0, and turns into a ghost then */
    struct parent *parent; /* whose children they are, if their nodes are to know */
    struct known { /* and by which name each does, in their order */
        int node;
        struct parent *par;
    } *known;
    size_t nknown;
    int asking; /* messages to nodes that are not all answered */
    bool found;  /* the program is the node's own: nothing is sent */
    bool image;  /* not a program is started: the asker sends an image of itself */
    struct move *move;
    uint32_t gen; /* of a process that moves */
    uint64_t as;  /* the launch that its ghost names */
    int from;     /* the node that it moves on from; -1 the master */
    pid_t mover, mover_npid; /* its pid, or its ghost's; its own there */
    bool to_master;
    bool answered; /* asked again by an agent that was restarted, or that took us for it */
    bool family;   /* it has named the mover's children (family.c) */
    bool mute; /* nobody has read what it says till now */
    struct at { /* with image: where nodes are */
        int node;
        char addr[64];
    } *at;
    size_t nat;
    mp_buf lacks; /* with image: paths that some node has not got */
    uint32_t nlacks;
    mp_buf io;   /* if not empty: to be sent in place of the request's */
    manifest_t *manifest;
    struct err no_manifest;
    int waiting; /* questions not yet answered */
    struct err refused_all;
    struct failed *failed;
    size_t nfailed;
    struct warning *warning;
    size_t nwarnings;
    int64_t end;
    nodelist_t again; /* whose agents are being restarted */
    int64_t patience; /* until when they are waited for */
};

/* --- launch.c --- */
void rank_failed(struct starting *s, uint32_t rank, int code, const char *text);
int take_ghosts(struct starting *s, struct err *err);
void starting_finish(struct starting *s); /* answer; s is no more */

/* --- launch_image.c --- */
void image_locals(struct starting *s); /* ways for the images of ranks on the master */

/* --- homed.c: askers on nodes --- */
int parse_homed(struct starting *s, struct svc_req *req, struct err *err);
/* Ranks on the master, which become what they are to be as soon as they can. */
void start_locals(struct starting *s);

#endif
