/* move_parts.h - moves from the inside
 *
 *   move.c       images on their way, the moment from which processes run
 *   move_before.c  those that an earlier procspace began
 *   move_cut.c   images that do not come
 *   move_home.c  a process that comes to the master
 *   move_comers.c  copies that do
 *   move_pass.c  the signals that go after one
 *   move_said.c  what it has said in streams that are not its alone
 */
#ifndef PROCSPACE_MOVE_PARTS_H
#define PROCSPACE_MOVE_PARTS_H
#include "bus/callers.h"
#include "image/pump.h"
#include "services/procspace/move.h"

#define FAN_OUT 2 /* stops that one passes an image on to: i to 2 i + 1 and 2 i + 2 */

struct stop { /* a node that an image goes to; or the master: -1 */
    int node;
    struct pump_dial to;
    enum { STOP_OPEN, STOP_DONE } state; /* in the present round */
    bool lost; /* nothing of it is there any more */
};

struct move {
    struct moves *all;
    struct move *next;
    uint64_t launch;
    int64_t uid;
    bool self; /* the mover goes itself */
    pid_t mover; /* else: whose copies they are */
    bool known; /* since its launch; else an earlier procspace began it */
    char token[BULK_TOKEN + 1]; /* opens once; "" then */
    struct stop *stop;
    size_t stops;
    enum home { HOME_NO, HOME_CALLED, HOME_BUILDING, HOME_READY, HOME_FAILED,
                HOME_DEPARTING, HOME_HERE, HOME_SOUGHT } home; /* it comes to the master */
    struct proc *was;  /* what moves, as it was; NULL: from the master */
    int was_on;        /* -1: the master */
    pid_t was_npid;    /* there; 0: was says it all */
    pid_t ghost;       /* in whose place; of before our start: as its node says, or its
                        * number there, which mostly is the same */
    struct parent *par; /* who has left something on the node that it has left, */
    pid_t left_npid;    /* under this number; */
    bool standing;      /* what stands there for children of it may have children; */
    bool stands;        /* there what it was stands for it, or for a parent */
    int home_fd, control; /* its image; what its restorer says */
    bool late;         /* its reader has been waited for long enough */
    struct patience patience; /* with it */
    uint64_t speaks;   /* it has spoken in this launch's streams, and others go on to; 0 */
    struct comer *comers; /* copies that come to the master */
    int64_t comers_asked; /* since then what is missing of them has a limit */
    bool cut;          /* what has not begun to come will not */
    int come_timer;
    bool copies;       /* of before our start: the asker stays where it is, */
    int asked_on;      /* on this node; -1 the master */
    struct err home_err;
    svc_token *asker;  /* of the answer that is being made */
    mp_buf begun;      /* the answer to procspace.launch */
    int waiting;
    mp_buf depart;     /* what the node that it has left is told, */
    int departs;       /* this one; -1: none, or it knows */
    int depart_timer;
    int64_t depart_until; /* if we do not know whether the node is there at all */
    bool go, list;     /* the round in which they go; the one in which we learn who is there */
    bool back;         /* the one in which they are called off */
    bool over;
    mp_buf failed;     /* rows */
    uint32_t nfailed;
    int timer;
    int awaited;       /* a timer: its image is said to be sent, and must have begun to come */
    int64_t made, ended;
};

#define MOVE_BUCKETS 1024

struct moves {
    procspace_t *ps;
    struct move *first;
    /* Of those that are over, by launch: kept for who asks again. Many may have been,
     * and each question looks at all that are in first. */
    struct move *past[MOVE_BUCKETS];
    int64_t swept; /* past, last */
    callers_t *callers;
    int64_t since; /* of our start */
};

/* --- move.c --- */
void move_failed(struct move *m, uint32_t rank, int code, const char *text);
void move_tell(struct move *m);   /* the last step: the asker hears of it */
/* p is not on node any more. Then home_settled(). */
void move_depart(struct move *m, const struct proc *p, int node);
/* The same of one that moves since before our start. */
void move_left_node(void *m);

struct move *move_find(procspace_t *ps, uint64_t launch);

void move_ask(void *m); /* the present round goes on */
/* Something is different about a copy that is waited for. */
void move_look(struct move *m);

/* --- move_cut.c --- */
/* All of its image is sent, or (cut) what could be. */
void move_sent(struct move *m, bool cut);
/* To all its nodes: "abort", "cut" of node.N.arrived. */
void move_say(struct move *m, const char *what);
/* This stop's node is lost: those that it was to pass the image on to have had what they get. */
void move_cut_behind(struct move *m, size_t stop);

/* --- move_before.c --- */
struct move *move_of_before(procspace_t *ps, uint64_t launch, const struct who *a,
                            const msgpack_object *body, struct err *err);

/* --- move_comers.c --- */
/* In the present round: has each of them come, failed, or (m->go) been let go? */
void comers_look(struct move *m);
/* True: the token was one of theirs. */
bool comers_give(struct moves *all, struct caller *k, const struct pkt *p);
void comers_call_off(struct move *m);
void comers_free(struct move *m);
/* An earlier procspace began it: those that were to come here, by the pids of body. */
int comers_of_before(struct move *m, const msgpack_object *body, struct err *err);

/* --- move_pass.c --- */
void passes_forget(void); /* of those that nobody says any more */

/* --- move_said.c --- */
/* It has left node, whose answer to "depart" this is (NULL: none): when its reader has
 * done with what it has said there, it is read on elsewhere, or (to the master)
 * home_settled() is called. */
void said_wait(struct move *m, int node, const msgpack_object *value);
bool said_waits(const struct move *m); /* m, to the master, does so */
/* Who is to read what launch says will come. */
bool said_speaks_yet(procspace_t *ps, uint64_t launch);
void said_close(procspace_t *ps);

/* --- move_home.c --- */
/* Something has changed about one that comes to the master. */
void home_settled(struct move *m);
/* Its ghost has come for it: its connection stays, for what there is to say. */
bool home_give(struct caller *k, struct move *m);
void home_call_off(struct move *m);
void home_free(struct move *m); /* what is only here */
/* An earlier procspace began it: has it come? Then home_settled(). */
void home_seek(struct move *m);

#endif
