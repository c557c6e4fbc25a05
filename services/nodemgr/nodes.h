/* nodes.h - the nodes, what stands there, and how it changes; no I/O
 *
 * Three things are kept apart. A *node* is a number of the configuration. A
 * *machine* is who answers for it: a pinned key and the incarnation (space)
 * that runs now; a new configuration may put it under another number. The
 * *standing* is what people see and set: state, owner, mode, attributes. It
 * belongs to the number and is worth something only while a space lives.
 *
 * Reachable and may-take-work are kept apart too: a machine that is late or
 * silent keeps its space and the node its standing, until the space is given
 * up (node_lose). Times: *_at monotonic ms, since wall clock ms. Threads: none.
 */
#ifndef NODEMGR_NODES_H
#define NODEMGR_NODES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "bus/config.h"
#include "bus/err.h"
#include "bus/nodespec.h"

#define STATE_LEN 15     /* longest state word */
#define WHY_LEN 199
#define WHO_LEN 63
#define TOKEN_LEN 64     /* longest space and boot id, host and kernel name */
#define KEY_LEN 40       /* CURVE key as Z85 text */
#define ATTR_NAME_LEN 57 /* 63 with the "bproc." that programs see */
#define ATTR_VALUE_LEN 64
#define ATTR_MAX 32

struct word { /* who did something, when and why */
    char why[WHY_LEN + 1];
    char who[WHO_LEN + 1];
    int64_t since;
};

struct attr {
    char name[ATTR_NAME_LEN + 1];
    size_t len;
    unsigned char value[ATTR_VALUE_LEN];
};

struct standing {
    char state[STATE_LEN + 1];
    struct word word;
    unsigned mode; /* within 0111 */
    uid_t uid;
    gid_t gid;
    struct attr *attr;
    size_t nattr;
};

struct machine {
    char key[KEY_LEN + 1];          /* "": none is pinned */
    bool boot_key;                  /* it is made anew with each boot: see admit.c */
    char space[TOKEN_LEN + 1];      /* "": nothing runs here */
    char lost_space[TOKEN_LEN + 1]; /* given up last: must not come back */
    char boot[TOKEN_LEN + 1];
    char addr[64];                  /* where it spoke from last */
    char hostname[TOKEN_LEN + 1], kernel[TOKEN_LEN + 1];
    char image[TOKEN_LEN + 1];      /* hash of the boot image that it runs; "" none */
    struct strlist macs;            /* as it told */
    int64_t cpus, mem, procs;
    int64_t joined, set_up_at;      /* wall clock ms: its space; it left state boot, 0: it has not */
    int64_t heard_at;
    bool late, silent, ready;
    bool unsaid; /* node.joined is to be published with its first beat */
    bool asked;  /* for its set-up: node.ready is published */
};

struct node {
    int number;
    const struct cm_node *conf; /* of the configuration in force */
    struct machine *machine;    /* never NULL */
    struct standing *standing;  /* never NULL; see node_down() */
    struct word down;           /* why it is down, while it is */
    bool dirty, attrs_dirty;    /* not in the database yet */
};

typedef struct nodes {
    struct node **v; /* ascending by number */
    size_t n;
} nodes_t;

/* A node for each of the configuration, those of old among them; the others
 * are new, with no conf yet. Old stays as it is. -1: ENOMEM. */
int nodes_build(nodes_t *s, const struct cm_config *c, const nodes_t *old, struct err *err);
/* Free the set, and its nodes but for those that are in keep too. */
void nodes_drop(nodes_t *s, const nodes_t *keep);
struct node *nodes_get(const nodes_t *s, int number); /* NULL: none */
struct node *nodes_by_key(const nodes_t *s, const char *key);
struct node *nodes_by_addr(const nodes_t *s, const char *addr); /* configured address */
struct node *nodes_by_mac(const nodes_t *s, const char *mac);   /* configured address */

/* Evaluate a node spec, or one address of a node. NULL spec: all. */
int nodes_resolve(const nodes_t *s, const char *spec, bool empty_ok, nodelist_t *out,
                  struct err *err);

/* ---- what is seen ---- */
bool node_alive(const struct node *n); /* a space lives here, perhaps silent */
bool node_down(const struct node *n);
const char *node_state(const struct node *n);
const struct word *node_word(const struct node *n);
const char *node_reach(const struct node *n); /* "yes", "late", "no" */
const char *node_addr(const struct node *n);  /* "" : not known */

/* ---- what happens; each sets dirty as needed ---- */
void word_set(struct word *w, const char *who, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* A fresh space: state boot, mode 0100, root, no attributes. */
void node_begin(struct node *n, const char *space, const char *boot, int64_t now);
/* A state by whoever; the word is set with it. */
void node_set_state(struct node *n, const char *state, const char *who, const char *why);
/* The space is given up: down, and nothing of its standing is left. */
void node_lose(struct node *n, const char *who, const char *why);
/* Its agent spoke. True: it was late or silent. */
bool node_heard(struct node *n, int64_t now);

struct patience { /* ms without a word until ... */
    int late_ms, ping_ms, lost_ms;
};
struct patience patience_of(int ping_ms, int grace_ms, int beat_ms);
int beat_interval(size_t nodes, int ping_ms);

enum change { NODE_SAME, NODE_LATE, NODE_SILENT, NODE_GIVEN_UP };
/* What its silence makes of the node by now. NODE_GIVEN_UP: the caller says
 * so, then calls node_lose(). */
enum change node_tick(struct node *n, int64_t now, const struct patience *p);

/* ---- rules ---- */
/* Is this a state that may be set? EINVAL, ENOSPC (too long). */
int state_check(const char *state, struct err *err);
/* Set (value) or delete (NULL) one attribute. EINVAL, ENOSPC, ENODATA. */
int standing_attr(struct standing *s, const char *name, const void *value, size_t len,
                  struct err *err);
int standing_copy(struct standing *to, const struct standing *from); /* -1: no memory */
void standing_clear(struct standing *s); /* down: root, mode 0, no attributes */
const struct attr *standing_attr_get(const struct standing *s, const char *name);

/* ---x--x--x and the like. */
#define MODE_TEXT 11
void mode_text(unsigned mode, char out[MODE_TEXT]);

struct person { /* who asks; groups are read only when they matter */
    int64_t uid, gid, pid;
    bool groups_known;
    gid_t *groups;
    size_t ngroups;
};
void person_free(struct person *p);
bool person_in_group(struct person *p, gid_t gid);
/* May this person start work there now? EACCES, BE_NODEDOWN; the text is for
 * people, without the node's number. */
int node_may_start(const struct node *n, struct person *p, int64_t now, struct err *err);

#endif
