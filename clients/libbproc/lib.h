/* lib.h - libbproc from the inside
 *
 *   conn.c     requests to the cluster; where we are
 *   nodes.c    what is known of nodes        nodeset.c  sets and specifications
 *   notify.c   changes, by a descriptor      procs.c    what runs where
 *   admin.c    changing nodes, libraries
 *   exec.c     the calls that create         request.c  the launch, packed
 *   remote.c   ghosts and launches           local.c    children on this machine
 *   save.c     this process as an image   dump.c     to a file and back
 *   move.c     this process elsewhere   transfer.c  its image on its way
 *   bring.c    on a node: with a program  execdump.c  one that has not begun
 *   kept.c     its children, which stay
 *
 * Nothing is kept between calls: each has its own connection, so that there is
 * nothing that fork, exec or a thread could break. No call starts a thread or
 * writes to a terminal. Names that begin with bproc_ or _bproc_ are exported.
 */
#ifndef LIBBPROC_LIB_H
#define LIBBPROC_LIB_H
#include <stdbool.h>
#include <stdint.h>
#include "bus/err.h"
#include "bus/gate.h"
#include "bus/rundir.h"
#include "clients/libbproc/bproc.h"

#define CALL_MS 20000
#define LAUNCH_MS 120000 /* content may have to travel first */

/* errno from err; always -1. */
int lib_fail(const struct err *err);
int lib_errno(int code);

/* The gate, of the master or of the node that we run on. absent: errno when no
 * cluster is there. NULL: errno is set. */
gate_t *lib_open(int absent);
/* Ask and close. -1: errno is set. m may be NULL: an empty map. */
int lib_call(int absent, const char *topic, const mp_buf *m, int timeout_ms,
             msgpack_unpacked *reply);

bool lib_on_node(void); /* we are a process of a node */
int lib_node(int node); /* SELF becomes a number */

/* The map of one node. ENOENT: there is none. *reply is freed by the caller. */
int lib_node_map(int node, msgpack_unpacked *reply, const msgpack_object **map);
int lib_info(const msgpack_object *map, struct bproc_node_info_t *info);

/* --- launches --- */
struct start { /* what a call asks for */
    const char *cmd;
    char *const *argv, *const *envp;
    const struct bproc_io_t *io;
    int iolen; /* -1: default forwarding */
    bool found; /* the program is the node's own: nothing is sent */
    const mp_buf *kept; /* children of a caller that goes itself: nkept rows; NULL: none */
    uint32_t nkept;
    const mp_buf *maps; /* not NULL: an image of us is sent; the files it names,
                           as a list of [path, size, crc] */
    uint64_t bytes;     /* of our own memory, that go with it */
};

int start_check(const struct start *s); /* -1: errno is set */
char *start_path(const char *cmd);       /* absolute; NULL: errno is set */
/* The request. index: what BPROC_RANK is to be of each rank, NULL: the rank. */
int start_pack(const struct start *s, uint64_t launch, const int *node, const int32_t *pid,
               const int *index, uint32_t n, bool self, mp_buf *m, struct err *err);

uint64_t launch_id(void);
/* Of PATH_MAX; false: it is not installed. */
bool ghost_program(char *path);
bool restore_program(char *path);
void lib_number(char *to, int v); /* of 16; no stdio */
/* One ghost for each: pids, children of ours. */
int ghosts_make(uint64_t launch, char *const *argv, uint32_t n, int32_t *pid, struct err *err);
/* This process turns into a ghost, in place. Returns only when that failed. parent: it
 * has children, whose ends are to be told. */
void ghost_become(uint64_t launch, char *const *argv, bool parent);
/* Ask procspace. code[i] is 0, or why rank i does not run; -1: all failed. */
int launch_ask(gate_t *g, const mp_buf *m, uint32_t n, int *code, struct err *err);
/* The rows of "failed" in such an answer. */
int launch_failed(const msgpack_object *reply, uint32_t n, int *code, struct err *err);
/* What the ranks say goes to our stdout, by a process of its own. */
int forward_start(uint64_t launch, const int *node, const int *code, uint32_t n);
/* --- images: which files' content goes along --- */
struct dump_rule {
    int flags; /* BPROC_DUMP_* */
    char exe[4096];
    char *libs; /* of the library list: each ends with NUL, the last is empty */
};
void dump_rule_open(struct dump_rule *r, int flags);
void dump_rule_libs(struct dump_rule *r); /* fetches the list: dump_by_value() needs it */
void dump_rule_close(struct dump_rule *r);
bool dump_by_value(void *arg, const char *path);

/* From a node: this process goes on as s->cmd elsewhere. Returns only on failure, and
 * nothing has happened then. */
int bring_and_become(int node, const struct start *s);

/* A child here. The pid, or -errno. */
pid_t local_start(const struct start *s);
/* With SIGCHLD blocked: does it wait to be heard? When a child that there was none for
 * the caller has ended, it is as it was; unless another child has something to say. */
bool child_heard(void);
void child_unheard(bool heard);

#endif
