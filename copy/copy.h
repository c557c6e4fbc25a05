/* copy.h - copying files between machines: what bpcp and bpcopy are made of
 *
 * A source (source.c) walks files and sends frames (doc/copy.md) to a fan of
 * receivers; a receiver writes them with a sink (sink.c) and passes the same
 * frames on to a fan of its own (relay.c). Frames go one way; at OPEN, ASK and
 * END the direction turns, and the answers of a whole subtree come back as one.
 * So nobody ever writes to somebody who writes. All calls block: a process a
 * copy, no threads.
 */
#ifndef COPY_COPY_H
#define COPY_COPY_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "bus/bulk.h"
#include "bus/err.h"
#include "bus/loop.h"
#include "bus/mp.h"

#define COPY_VERSION 1
#define COPY_FRAME (64u << 20) /* longest control frame */
#define COPY_CHUNK (256u * 1024) /* bytes of a file in one frame */
#define COPY_BIG (4 << 20)     /* files from this size on are resumed */
#define COPY_HASH 32
#define COPY_TAG 32            /* hex characters */
#define COPY_SOURCE (-2)       /* the source's line in a report */

enum copy_kind {
    COPY_OPEN = 1, /* turns: REPORT of who takes part */
    COPY_PULL,     /* be a source, for who sends this */
    COPY_PUSH,     /* be a source, for nodes; answered by REPORT */
    COPY_ENTRY,
    COPY_DATA,     /* u64 offset, bytes */
    COPY_FEND,     /* the file's hash */
    COPY_FBAD,     /* the source lost the file: drop it */
    COPY_DIREND,
    COPY_ASK,      /* turns: HAVE, from where on the file is wanted */
    COPY_HAVE,
    COPY_SERR,     /* PULL: the source's word about a file */
    COPY_END,      /* turns: REPORT of how it went */
    COPY_REPORT,
    COPY_PROGRESS, /* PUSH: u64 bytes read so far */
};

/* ---- chan.c, chan_bulk.c: a connection, buffered both ways ---- */
typedef struct chan chan_t;
struct chan_ops {
    ssize_t (*read)(void *io, void *p, size_t len, struct err *err); /* 0: end */
    int (*write)(void *io, const void *p, size_t len, struct err *err);
    void (*close)(void *io);
};
chan_t *chan_create(const struct chan_ops *ops, void *io, struct err *err); /* owns io */
chan_t *chan_plain(int fd, struct err *err); /* owns fd, on failure too */
chan_t *chan_bulk(bulk_t *b, struct err *err); /* owns b, on failure too */
bulk_t *bulk_dial_ticket(const char *addr, uint16_t port, const struct bulk_ticket *t,
                         struct err *err);
chan_t *chan_dial(const char *addr, uint16_t port, const struct bulk_ticket *t, struct err *err);
void chan_tcp_options(int fd); /* a dead peer is noticed */
void chan_close(chan_t **c);
int chan_flush(chan_t *c, struct err *err);
/* A frame in two parts; kept until there is enough, or chan_flush(). */
int chan_send(chan_t *c, enum copy_kind kind, const void *a, size_t alen, const void *b,
              size_t blen, struct err *err);

struct frame {
    enum copy_kind kind;
    const char *p; /* valid until the next chan_recv() */
    size_t len;
};
/* 1, or 0 when the peer has closed between frames, or -1. */
int chan_recv(chan_t *c, struct frame *f, struct err *err);
/* The frame that must come now, its payload decoded. */
int chan_expect(chan_t *c, enum copy_kind kind, msgpack_unpacked *u, struct err *err);

/* ---- report.c: how it went, of many nodes ---- */
struct report {
    mp_buf nodes, lost;
    uint32_t nnodes, nlost;
};
void report_init(struct report *r);
void report_free(struct report *r);
/* errors: an array of [path, text]; more: how many were left out. */
void report_node(struct report *r, int node, bool takes_part, const mp_buf *errors,
                 uint32_t nerrors, uint32_t more);
void report_lost(struct report *r, int node, const char *why, bool direct);
int report_add(struct report *r, const msgpack_object *map, struct err *err);
void report_pack(const struct report *r, mp_buf *m); /* the map that report_add() takes */
int report_send(const struct report *r, chan_t *c, struct err *err);

struct faults { /* of one node */
    mp_buf list; /* [path, text] after each other */
    uint32_t n, more;
};
void faults_init(struct faults *f);
void faults_free(struct faults *f);
void faults_add(struct faults *f, const char *path, const char *text);

/* ---- fan.c: the next receivers ---- */
struct kid {
    chan_t *c;     /* NULL: lost */
    int *node;     /* the whole subtree's, its own first */
    size_t nodes;
    char why[200]; /* it was lost */
};
struct fan {
    struct kid *kid;
    size_t n;
};
void fan_free(struct fan *f); /* closes */
/* Takes c (NULL: it is lost already, why) and a copy of node[]. */
int fan_add(struct fan *f, chan_t *c, const int *node, size_t nodes, const char *why,
            struct err *err);
bool fan_alive(const struct fan *f);
void fan_send(struct fan *f, enum copy_kind kind, const void *a, size_t alen, const void *b,
              size_t blen);
void fan_flush(struct fan *f);
uint64_t fan_have(struct fan *f, uint64_t most);     /* after ASK: the least */
void fan_report(struct fan *f, struct report *r);    /* after OPEN and END */
/* fan_open.c: dial the children of an OPEN map and send each its own OPEN. */
int fan_open(struct fan *f, const msgpack_object *open, struct err *err);

/* ---- source.c ---- */
enum links { LINKS_OPERANDS, LINKS_NEVER, LINKS_ALL }; /* followed */
struct source {
    struct fan *to;
    bool recurse;
    enum links follow;
    const char *place; /* which machine, for the tags of files */
    void (*fault)(void *arg, const char *path, const char *text);
    void (*progress)(void *arg, const char *path, uint64_t bytes); /* may be NULL */
    void *arg;
    uint64_t bytes; /* read so far */
    char *buf;
};
/* Send all of them, but not END. */
int source_run(struct source *s, char *const *path, size_t n, struct err *err);
/* The name that path has at its destination; "." for "." and "/". */
char *source_name(const char *path);

/* ---- sink.c ---- */
typedef struct sink sink_t;
struct sink_options {
    const char *dest;
    bool must_be_dir, preserve;
    mode_t umask;
    char *const *only; /* NULL, or the names that may come; NULL ends */
};
sink_t *sink_create(const struct sink_options *o, struct faults *to, struct err *err);
void sink_destroy(sink_t **s);
/* EPROTO: the sender breaks the rules; what goes wrong with files is a fault. */
int sink_frame(sink_t *s, const struct frame *f, struct err *err);
uint64_t sink_have(const sink_t *s); /* of the file that has begun */

/* ---- relay.c ---- */
struct relay {
    chan_t *up;
    int node;
    char *const *only; /* as in sink_options */
    int (*children)(struct fan *f, const msgpack_object *open, struct err *err); /* fan_open */
};
/* Answer one OPEN, PULL or PUSH until its end. */
int relay_serve(struct relay *r, struct err *err);
/* Receive what was asked for by PULL. fault: of the source; progress: bytes so far. */
struct receiver {
    void (*fault)(void *arg, const char *path, const char *text);
    void (*progress)(void *arg, uint64_t bytes);
    void *arg;
};
int relay_receive(chan_t *from, sink_t *s, const struct receiver *r, struct err *err);

/* ---- peer.c: whom a bpcopy serves, as a map {uid, gid, groups, node, addr, port, token, key} ---- */
struct copy_peer {
    uid_t uid;
    gid_t gid;
    gid_t *groups;
    int ngroups;
    int node;      /* of this machine; -1 the master */
    char addr[64]; /* of the other end, where we are the one who dials */
    uint16_t port;
    struct bulk_ticket ticket;
};
int copy_peer_parse(struct copy_peer *p, const msgpack_object *map, struct err *err);
/* uid, gid and groups alone */
int copy_peer_user(struct copy_peer *p, const msgpack_object *map, struct err *err);
void copy_peer_pack(const struct copy_peer *p, mp_buf *m);
void copy_peer_free(struct copy_peer *p);

/* ---- spawn.c: a bpcopy for one connection, started by a service ---- */
struct copy_procs; /* those that run */
struct copy_procs *copy_procs_create(loop_t *loop);
void copy_procs_destroy(struct copy_procs **c); /* ends them */
/* mode "node" or "pipe"; fd: the connection; root: the node's root, or -1. All
 * stay the caller's. EAGAIN: too many run. */
int copy_procs_start(struct copy_procs *c, const char *mode, int fd, int root,
                     const struct copy_peer *p, struct err *err);

#endif
