/* sys/bproc.h - the BProc interface to a cluster: nodes, and processes on them
 *
 * Source-compatible with API version 4 of LANL's BProc. Calls that fail return
 * -1 and set errno, to one of the BE_* numbers too: bproc_strerror() knows both.
 * Manuals: bproc(3), bproc_nodes(3), bproc_nodeset(3), bproc_exec(3), bproc_admin(3).
 */
#ifndef _SYS_BPROC_H
#define _SYS_BPROC_H

#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BPROC_API_VERSION 4

/* Node numbers that are none */
#define BPROC_NODE_MASTER (-1)
#define BPROC_NODE_SELF   (-2)
#define BPROC_NODE_NONE   (-3)
#define BPROC_NODE_ANY    (-4)

#define BPROC_STATUS_NONE (-2)
#define BPROC_X_OK        1

#define BPROC_STATE_LEN   15

#define BPROC_XATTR_PREFIX         "bproc."
#define BPROC_STATE_XATTR          "bproc.state"
#define BPROC_ADDR_XATTR           "bproc.addr"
#define BPROC_XATTR_MAX_NAME_SIZE  63
#define BPROC_XATTR_MAX_VALUE_SIZE 64
#define BPROC_XATTR_MAX            32

/* Errors beside those of errno */
#define BE_BASE        300
#define BE_INVALIDNODE 300
#define BE_NODEDOWN    301
#define BE_SAMENODE    302
#define BE_SLAVEDIED   303
#define BE_INVALIDPROC 304

/* Redirection of descriptors */
#define BPROC_IO_FILE      0
#define BPROC_IO_SOCKET    1
#define BPROC_IO_MEMFILE   2
#define BPROC_IO_SEND_INFO 0x001
#define BPROC_IO_DELAY     0x002
#define BPROC_IO_MAX_LEN   16

/* What goes with a process that moves */
#define BPROC_DUMP_LIBS  1
#define BPROC_DUMP_EXEC  2
#define BPROC_DUMP_OTHER 4
#define BPROC_DUMP_ALL   7

#define BPROC_ARCH_X86    1
#define BPROC_ARCH_ALPHA  2
#define BPROC_ARCH_PPC    3
#define BPROC_ARCH_X86_64 4
#define BPROC_ARCH_PPC64  5

struct bproc_node_info_t {
    int node;
    char status[BPROC_STATE_LEN + 1];
    unsigned int mode;
    unsigned int user;
    unsigned int group;
    struct sockaddr addr;
};

struct bproc_node_set_t {
    int size;
    int alloc;
    struct bproc_node_info_t *node;
};

struct bproc_proc_info_t {
    int pid;
    int node;
};

struct bproc_version_t {
    char bproc_magic[3]; /* 'B' 'P' 'r' */
    uint8_t arch;
    uint32_t magic;
    char version_string[24];
};

struct bproc_io_t {
    int fd;
    short type;  /* BPROC_IO_FILE ... */
    short flags; /* BPROC_IO_SEND_INFO ... */
    union {
        struct sockaddr addr;
        struct {
            int flags;
            int mode;
            long offset;
            char name[256];
        } file;
        struct {
            void *base;
            long size;
        } mem;
    } d;
};

typedef struct bproc_node_info_t bproc_node_info_t;
typedef struct bproc_node_set_t bproc_node_set_t;
typedef struct bproc_proc_info_t bproc_proc_info_t;
typedef struct bproc_version_t bproc_version_t;
typedef struct bproc_io_t bproc_io_t;

#define BPROC_EMPTY_NODESET { 0, 0, 0 }
#define bproc_node_set_node(ns, i) (&(ns)->node[i])

/* --- nodes: bproc_nodes(3) --- */
int bproc_numnodes(void);
int bproc_currnode(void);
int bproc_nodenumber(const struct sockaddr *addr, int size);
int bproc_masteraddr(struct sockaddr *addr, int *size);
int bproc_nodestatus(int node, char *status, int len);
int bproc_nodeaddr(int node, struct sockaddr *addr, int *size);
int bproc_nodeinfo(int node, struct bproc_node_info_t *info);
int bproc_nodelist(struct bproc_node_set_t *ns);
int bproc_nodelist_(struct bproc_node_set_t *ns, int fd);
int bproc_notifier(void);
int bproc_getnodeattr(int node, const char *name, void *value, int size);
int bproc_access(int node, int mode);
int bproc_proclist(int node, struct bproc_proc_info_t **list);
int bproc_pidnode(int pid);
int bproc_version(struct bproc_version_t *version);
const char *bproc_strerror(int error);

/* --- node sets and specifications: bproc_nodeset(3) --- */
int bproc_nodeset_init(struct bproc_node_set_t *ns, int size);
int bproc_nodeset_grow(struct bproc_node_set_t *ns, int size);
void bproc_nodeset_free(struct bproc_node_set_t *ns);
int bproc_nodeset_add(struct bproc_node_set_t *ns, const struct bproc_node_info_t *node);
int bproc_nodeset_append(struct bproc_node_set_t *a, const struct bproc_node_set_t *b);
int bproc_nodefilter(struct bproc_node_set_t *out, const struct bproc_node_set_t *in,
                     const char *spec);
int bproc_nodefilteraccessible(struct bproc_node_info_t *list, int *size);
int bproc_nodespec(struct bproc_node_set_t *ns, const char *spec);

/* --- creating processes: bproc_exec(3) --- */
int bproc_execve(const char *cmd, char *const argv[], char *const envp[]);
int bproc_rexec(int node, const char *cmd, char *const argv[], char *const envp[]);
int bproc_rexec_io(int node, struct bproc_io_t *io, int iolen, const char *cmd,
                   char *const argv[], char *const envp[]);
int bproc_execmove(int node, const char *cmd, char *const argv[], char *const envp[]);
int bproc_execmove_io(int node, struct bproc_io_t *io, int iolen, const char *cmd,
                      char *const argv[], char *const envp[]);
int bproc_vexecmove(int nnodes, int *nodes, int *pids, const char *cmd, char *const argv[],
                    char *const envp[]);
int bproc_vexecmove_io(int nnodes, int *nodes, int *pids, struct bproc_io_t *io, int iolen,
                       const char *cmd, char *const argv[], char *const envp[]);

/* --- moving and saving what runs: bproc_move(3) ---
 * copies from a node fail with ENOSYS in this release. */
int bproc_move(int node);
int bproc_move_io(int node, struct bproc_io_t *io, int iolen);
int _bproc_move(int node, int flags);
int _bproc_move_io(int node, struct bproc_io_t *io, int iolen, int flags);
int bproc_rfork(int node);
int bproc_rfork_io(int node, struct bproc_io_t *io, int iolen);
int _bproc_rfork(int node, int flags);
int _bproc_rfork_io(int node, struct bproc_io_t *io, int iolen, int flags);
int bproc_vrfork(int nnodes, int *nodes, int *pids);
int bproc_vrfork_io(int nnodes, int *nodes, int *pids, struct bproc_io_t *io, int iolen);
int _bproc_vrfork(int nnodes, int *nodes, int *pids, int flags);
int _bproc_vrfork_io(int nnodes, int *nodes, int *pids, struct bproc_io_t *io, int iolen,
                     int flags);
int bproc_dump(int fd, int flags);
int bproc_undump(int fd);
int bproc_execdump(int fd, int flags, const char *cmd, char *const argv[],
                   char *const envp[]);

/* Not in the original: what the kernel cannot say of a process on a node. */
int bproc_getrusage(int pid, int *status, struct rusage *usage);
int bproc_getsid(int pid);

/* --- administration: bproc_admin(3) --- */
int bproc_nodesetstatus(int node, const char *status);
int bproc_setnodeattr(int node, const char *name, const void *value, int size);
int bproc_chmod(int node, int mode);
int bproc_chown(int node, int user);
int bproc_chgrp(int node, int group);
int bproc_nodereboot(int node);
int bproc_nodereboot_async(int node);
int bproc_nodehalt(int node);
int bproc_nodehalt_async(int node);
int bproc_nodepwroff(int node);
int bproc_nodepwroff_async(int node);
int bproc_nodechroot(int node, const char *path);
int bproc_nodereconnect(int node, struct sockaddr *remote, int remotesize,
                        struct sockaddr *local, int localsize);
int bproc_libclear(void);
int bproc_libadd(const char *name);
int bproc_libdel(const char *name);
int bproc_liblist(char **list);

#ifdef __cplusplus
}
#endif
#endif
