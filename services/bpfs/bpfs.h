/* bpfs.h - the service from the inside: what its parts share
 *
 *   main.c     command line, start-up
 *   mount.c    the mount point, and the one that a dead service left
 *   fs.c       requests of the kernel, taken in the loop
 *   look.c     names and what stat, access and ls see
 *   status.c   the file "status": content, and who polls it
 *   xattr.c    attributes, read
 *   change.c   what users change, asked of nodemgr as that user
 *   table.c    the nodes as they were last told
 *   follow.c   the table kept up to date
 *
 * One thread. A request is answered from the table, or, when it changes
 * something, once nodemgr has answered.
 */
#ifndef BPFS_BPFS_H
#define BPFS_BPFS_H
#define FUSE_USE_VERSION 35
#include <fuse_lowlevel.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include "bus/loop.h"
#include "bus/svc.h"

#define ATTR_PREFIX "bproc."
#define STATE_LEN 15

/* ---- table.c ---- */
struct fsattr {
    char *name; /* without the prefix */
    void *value;
    size_t len;
};

struct fsnode {
    int number;
    char state[STATE_LEN + 1];
    uint32_t mode, uid, gid;
    int64_t since_ms;
    struct sockaddr_in addr; /* family 0: not known, or down */
    struct fsattr *attr;
    size_t nattr;
};

struct table {
    struct fsnode *v; /* ascending by number */
    size_t n;
};

struct fsnode *table_get(const struct table *t, int number);
/* The first with this number or a higher one: an index, t->n when none. */
size_t table_from(const struct table *t, int number);
const struct fsattr *fsnode_attr(const struct fsnode *n, const char *name);
bool fsnode_same(const struct fsnode *a, const struct fsnode *b);
void fsnode_clear(struct fsnode *n);
void table_free(struct table *t);
/* The answer of nodemgr.list, nodes only. -1: *err, and t is empty. */
int table_parse(struct table *t, const msgpack_object *list, struct err *err);

/* ---- the service ---- */
struct open_status;

typedef struct bpfs {
    loop_t *loop;
    svc_t *svc;
    struct table table;
    uint64_t generation; /* of the table: what polls wait for */
    int64_t changed_ms;  /* wall clock */
    struct open_status *opens;
    struct fuse_session *session; /* NULL: no mount can be had */
    const char *also;             /* a second place, NULL: none */
    char path[4096];
    char why_not[200];            /* there is no mount */
    int ready_fd;
    struct { /* follow.c */
        bool asking, all, started;
        int *dirty;
        size_t ndirty;
        int timer;
    } follow;
} bpfs_t;

/* ---- main.c ---- */
/* The first list of nodes is there: mount, and be ready. */
void bpfs_begin(bpfs_t *b);

/* ---- mount.c, fs.c ---- */
/* Mount at b->path (and b->also). -1: *err; the service goes on without. */
int mount_open(bpfs_t *b, struct err *err);
void mount_close(bpfs_t *b);
extern const struct fuse_lowlevel_ops fs_ops;
int fs_watch(bpfs_t *b, struct err *err); /* requests come in through the loop */

/* ---- look.c ---- */
enum { INO_ROOT = 1, INO_STATUS, INO_SELF, INO_MASTER, INO_NODE = 16 };
#define CACHE_ATTR_S 5.0  /* the kernel is told of changes before that */
#define CACHE_ENTRY_S 1.0 /* but not of nodes that are named no more */
static inline fuse_ino_t ino_of(int node) { return node < 0 ? INO_MASTER : INO_NODE + (fuse_ino_t)node; }
/* The node of an inode, NULL if there is none (any more). */
struct fsnode *look_node(bpfs_t *b, fuse_ino_t ino);
int look_stat(bpfs_t *b, fuse_ino_t ino, struct stat *st); /* 0 or an errno */
/* Has the asker these rights (R_OK...) by the mode? 0 or EACCES. */
int look_may(fuse_req_t req, const struct stat *st, int mask);
/* The supplementary groups of the asker; the caller frees. */
gid_t *look_groups(fuse_req_t req, size_t *n);
void look_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void look_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void look_access(fuse_req_t req, fuse_ino_t ino, int mask);
void look_readlink(fuse_req_t req, fuse_ino_t ino);
void look_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                  struct fuse_file_info *fi);
void look_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                      struct fuse_file_info *fi);

/* ---- status.c ---- */
void status_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void status_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                 struct fuse_file_info *fi);
void status_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
                 struct fuse_pollhandle *ph);
void status_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
size_t status_size(const bpfs_t *b);
void status_changed(bpfs_t *b); /* the table is another: wake who polls */
void status_close_all(bpfs_t *b);

/* ---- xattr.c ---- */
void xattr_get(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void xattr_list(fuse_req_t req, fuse_ino_t ino, size_t size);
bool xattr_is_there(const struct fsnode *n, const char *name); /* without the prefix */

/* ---- change.c ---- */
void change_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int what,
                    struct fuse_file_info *fi);
void change_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
                     size_t size, int flags);
void change_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

/* ---- follow.c ---- */
int follow_open(bpfs_t *b, struct err *err);
void follow_connected(void *b);
void follow_close(bpfs_t *b);
/* A node has changed, or (number -1) more than one: kernel and polls are told. */
void follow_changed(bpfs_t *b, int number);

#endif
