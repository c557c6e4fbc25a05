/* bpinit_begin.h - starts that a ghost of this node carries out, and their answers */
#ifndef NODE_BPINIT_BEGIN_H
#define NODE_BPINIT_BEGIN_H
#include <stdbool.h>
#include <stdint.h>
#include "node/bpinit.h"
#include "node/bpinit_spawn.h"

#define NODE_BPBEGIN NODE_RUN "/bpbegin"

/* ---- what a process begins with (bpinit_begin.c) ---- */
typedef struct begin begin_t;

/* Of the rank whose ghost on the master is pid. *image: of a copy; becomes what the ghost
 * here is to be given. stream: taken; -1: the plan has a file there. */
begin_t *begin_create(struct init *in, struct plan *plan, uint32_t rank, pid_t pid, int *image,
                      int stream[3], struct err *err);
void begin_free(begin_t **b); /* NULL fine */
bool begin_program(const begin_t *b); /* NULL: false */
/* Open all that it is to have, for the process ghost to fetch. */
int begin_fill(begin_t *b, pid_t ghost, struct err *err);
/* It has all that. */
void begin_limits(const begin_t *b, pid_t npid);
/* The reason for code, an errno of its exec. */
void begin_explain(const begin_t *b, int code, struct err *err);
/* In the child that opens it. Does not return but with errno. */
void begin_hand(const struct child *c, int last, int to);

/* ---- answers that wait for such ones (bpinit_answer.c) ---- */
struct outcome { /* of one rank */
    uint32_t rank;
    pid_t npid;
    int slot[3];
    bool pending;
    struct err err; /* code 0: it was started */
};

/* All that is known of a launch's start, for the agent: now, or if some of it is pending
 * when the last of these has settled. True: later. o is ours then. */
bool answer_begin(struct init *in, uint64_t launch, struct outcome *o, size_t n, mp_buf *out);
void answer_settle(struct init *in, uint64_t launch, uint32_t rank, const struct err *err);
void answers_new_agent(struct init *in);
void answers_listed(struct init *in); /* it has been told what is pending */
/* So the agent knows its streams, and is to give them back. */
bool answer_listed(const struct init *in, uint64_t launch);
void answers_destroy(struct init *in);

#endif
