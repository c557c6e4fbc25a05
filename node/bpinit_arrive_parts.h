/* bpinit_arrive_parts.h - processes that arrive, from the inside
 *
 *   bpinit_arrive.c  what is on its way, whether it may go on, and who has left
 *   bpinit_into.c    those that come into the place of a ghost
 */
#ifndef NODE_BPINIT_ARRIVE_PARTS_H
#define NODE_BPINIT_ARRIVE_PARTS_H
#include "node/bpinit.h"
#include "node/bpinit_begin.h"
#include "node/bpinit_spawn.h"

enum arrival_state { ARRIVAL_EXPECTED, ARRIVAL_BUILDING, ARRIVAL_READY, ARRIVAL_HERE,
                     ARRIVAL_FAILED };

enum arrival_place {
    PLACE_OWN,     /* no other's: it is a new process */
    PLACE_WANTED,  /* of a ghost that `maker`, its parent's, is to make, */
    PLACE_ORDERED, /* and has been told to */
    PLACE_GHOST,   /* of a ghost that is there, */
    PLACE_MAKES,   /* and has been told to make what stands for the next child */
    PLACE_LATE,    /* it has failed, and the ghost that was ordered may come yet */
};

struct arrival {
    arrivals_t *all;
    struct arrival *next;
    uint64_t launch;
    uint32_t rank;
    enum arrival_state state;
    int image, control; /* -1: none (any more) */
    int timer;
    pid_t npid;
    uid_t uid;
    struct err err; /* ARRIVAL_FAILED */
    /* of one that comes into a ghost's place */
    enum arrival_place place;
    pid_t ghost; /* its number; npid is 0 when the process has failed */
    pid_t maker; /* who makes, or has made, the ghost for it; 0: it was there before */
    char comm[16];
    cage_t *cage;
    struct limit_plan *limits;
    size_t nlimits;
    gid_t gid;
    int stream[3];
    begin_t *begin; /* of a program, or with descriptors of its own: what it begins with */
    struct plan_child *child; /* of whom the ghost is to make stand-ins */
    size_t children, made;
};

struct question { /* of the agent: how are they? */
    struct question *next;
    uint64_t id, launch;
    int64_t uid; /* whose; 0: any */
    bool go;
};

struct arrivals {
    struct init *in;
    struct arrival *first, **end;
    size_t settled;
    bool changed; /* somebody may have to be answered: at the end of the turn */
    struct question *asked;
    struct {
        pid_t npid;
        struct kin_parent *parent; /* stays as long: a group has its number while it is in it */
    } gone[64]; /* processes that have moved away and are about to end */
    unsigned ngone;
    struct {
        uint64_t move;
        uint64_t launch; /* of its stay here; 0: it was no body */
        pid_t npid;
    } left[1024]; /* who has left, and by which move */
    unsigned nleft;
};

/* ---- bpinit_arrive.c ---- */
/* One that nobody has announced. */
struct arrival *arrival_add(arrivals_t *t, uint64_t launch, uint32_t rank, struct err *err);
struct arrival *arrival_find(const arrivals_t *t, uint64_t launch, uint32_t rank);
void arrival_fail(struct arrival *a, int code, const char *text);
void arrival_word(void *arg, int fd, uint32_t events); /* its restorer says something */

void arrival_settle(struct arrival *a, enum arrival_state state);

/* ---- bpinit_into.c ---- */
/* Of a program: its connection has ended. True: so it is executed. */
bool arrival_begins(struct arrival *a);
/* It has all that it begins with. */
void arrival_equipped(struct arrival *a);
/* It never was here: the agent is to know. */
void arrival_tell_gone(const struct arrival *a, bool program);
/* It has come, or begun to, where a ghost is. */
bool arrival_has_ghost(const struct arrival *a);
/* It has failed: who stood for it does so still, but if that was made for it. */
void arrival_not_into(struct arrival *a);
/* maker is the process itself by now: it makes no ghosts. */
void arrivals_makes_none(arrivals_t *t, pid_t maker);

#endif
