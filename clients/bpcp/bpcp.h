/* bpcp.h - what bpcp's parts share */
#ifndef BPCP_H
#define BPCP_H
#include <stdbool.h>
#include <sys/types.h>
#include "bus/gate.h"
#include "bus/nodespec.h"
#include "copy/copy.h"

#define BPCP_MASTER (-1)
#define BPCP_TIMEOUT_MS 15000

struct operand {
    const char *text; /* as given */
    char *spec;       /* NULL: here, and no node was named */
    char *path;       /* never empty */
    nodelist_t nodes; /* BPCP_MASTER: here. Those that can be had */
};

struct bpcp {
    bool recurse, preserve;
    enum links follow;
    mode_t umask;
    char *cwd;
    struct operand *source, target;
    size_t nsources;
    gate_t *gate; /* NULL: nothing is remote */
    bool failed;
    bool line; /* a line of progress is on the terminal */
};

/* --- operand.c --- */
int operand_parse(struct operand *o, const char *text, struct err *err);
void operand_free(struct operand *o);
/* Which nodes: asks nodemgr. Those that cannot be had are said. */
int operand_resolve(struct bpcp *b, struct operand *o, bool many, struct err *err);
/* Would o of this place overwrite or fill itself? NULL, or what is wrong. */
const char *operand_clash(const struct bpcp *b, const struct operand *o, int place);

/* --- reach.c: nodes, tickets, connections --- */
struct dest {
    int node;
    char *addr, *token;
    uint16_t port;
    unsigned char key[BULK_KEY];
};
struct dests {
    struct dest *d;
    size_t n;
};
void dests_free(struct dests *d);
/* Those that refuse are told to refused(). */
int dests_get(struct bpcp *b, const int *node, size_t n, struct dests *out,
              void (*refused)(void *arg, int node, int code, const char *text), void *arg,
              struct err *err);
chan_t *dest_connect(const struct dest *d, struct err *err);
/* An array of children that spreads over d[0..n-1]. */
#define BPCP_SPREAD 2
void dests_pack(mp_buf *m, const struct dest *d, size_t n);
size_t dests_part(size_t n, size_t i, size_t *from); /* the i-th of the spread */
/* The map of COPY_OPEN. */
void pack_open(const struct bpcp *b, mp_buf *m, const struct dest *children, size_t n);

/* --- say.c --- */
void say(struct bpcp *b, int node, const char *path, const char *text); /* a failure */
void say_progress(struct bpcp *b, const char *what, uint64_t bytes);
void say_end(struct bpcp *b); /* of progress */

/* --- copies of a run of operands that are in one place --- */
int send_from_here(struct bpcp *b, struct operand *o, size_t n, struct err *err);
int send_from_node(struct bpcp *b, struct operand *o, size_t n, struct err *err);
int fetch(struct bpcp *b, struct operand *o, size_t n, struct err *err);

/* --- rounds.c: who has it, who is tried again --- */
struct round {
    struct bpcp *b;
    struct target {
        int node, tries;
        enum { TARGET_WAITS, TARGET_DONE, TARGET_FAILED } state;
        char why[200];
    } *t;
    size_t n;
    unsigned number; /* 0: the first */
};
int round_begin(struct round *r, struct bpcp *b, struct err *err); /* all targets */
void round_free(struct round *r);
bool round_next(struct round *r); /* false: nobody waits */
int round_waiting(const struct round *r, int **node, size_t *n, struct err *err);
void round_refused(void *r, int node, int code, const char *text);
/* end: after END, else after OPEN. */
int round_report(struct round *r, const msgpack_object *map, bool end, struct err *err);
bool round_any(const struct round *r); /* somebody still takes part */

#endif
