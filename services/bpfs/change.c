/* change.c - chmod, chown, setfattr: asked of nodemgr, as the user who does it
 *
 * The rights are nodemgr's to judge; here is only said who asks (by the kernel:
 * uid, gid, groups). The answer goes back when nodemgr has it on its disk.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include "bus/err.h"
#include "services/bpfs/bpfs.h"

#define ASK_MS 10000
#define PREFIX_LEN (sizeof ATTR_PREFIX - 1)
#define OWNERSHIP (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)

struct change {
    bpfs_t *b;
    fuse_req_t req;
    int node;
    int what; /* FUSE_SET_ATTR_*; 0: an attribute */
    uint32_t mode, uid, gid;
};

/* What a program gets that knows errno only. */
static int plain_errno(int64_t code)
{
    switch (code) {
    case BE_INVALIDNODE: return ENOENT;
    case BE_NODEDOWN:
    case BE_SLAVEDIED: return EHOSTDOWN;
    default: return code > 0 && code < 134 ? (int)code : EIO;
    }
}

/* 0, or what the answer says against it. */
static int refusal(const msgpack_object *value, const struct err *err)
{
    const msgpack_object_array *failed;
    int64_t code;

    if (!value)
        return plain_errno(err->code);
    if (mp_get_array(value, "failed", &failed, NULL) < 0)
        return EIO;
    if (failed->size == 0)
        return 0;
    const msgpack_object *row = &failed->ptr[0];
    if (row->type != MSGPACK_OBJECT_ARRAY || row->via.array.size < 2 ||
        !mp_as_int(&row->via.array.ptr[1], &code))
        return EIO;
    return plain_errno(code);
}

/* The event of it may be behind the answer: a stat right after must see it. */
static void note_owner(const struct change *c)
{
    struct fsnode *n = table_get(&c->b->table, c->node);
    uint32_t mode, uid, gid;

    if (!n)
        return;
    mode = c->what & FUSE_SET_ATTR_MODE ? c->mode : n->mode;
    uid = c->what & FUSE_SET_ATTR_UID ? c->uid : n->uid;
    gid = c->what & FUSE_SET_ATTR_GID ? c->gid : n->gid;
    if (n->mode == mode && n->uid == uid && n->gid == gid)
        return;
    n->mode = mode;
    n->uid = uid;
    n->gid = gid;
    status_changed(c->b);
}

static void on_owner(void *arg, const msgpack_object *value, const struct err *err)
{
    struct change *c = arg;
    struct stat st;
    int code = refusal(value, err);

    if (code == 0) {
        note_owner(c);
        code = look_stat(c->b, ino_of(c->node), &st);
    }
    if (code)
        fuse_reply_err(c->req, code);
    else
        fuse_reply_attr(c->req, &st, CACHE_ATTR_S);
    free(c);
}

/* The table has the new value before the writer goes on. */
static void on_fresh(void *arg, const msgpack_object *value, const struct err *err)
{
    struct change *c = arg;
    CLEANUP(table_free) struct table t = { 0 };
    struct fsnode *n = table_get(&c->b->table, c->node), swap;

    (void)err; /* then the event brings it */
    if (value && table_parse(&t, value, NULL) == 0 && t.n == 1 && n &&
        t.v[0].number == c->node && !fsnode_same(n, &t.v[0])) {
        swap = *n;
        *n = t.v[0];
        t.v[0] = swap;
        follow_changed(c->b, c->node);
    }
    fuse_reply_err(c->req, 0);
    free(c);
}

static void on_attr(void *arg, const msgpack_object *value, const struct err *err)
{
    struct change *c = arg;
    CLEANUP(mp_free) mp_buf m;
    char spec[16];
    int code = refusal(value, err);

    mp_init(&m);
    if (code) {
        fuse_reply_err(c->req, code);
        free(c);
        return;
    }
    snprintf(spec, sizeof spec, "%d", c->node);
    mp_map(&m, 1);
    mp_kstr(&m, "spec", spec);
    svc_call(c->b->svc, "nodemgr.list", &m, ASK_MS, on_fresh, c);
}

/* {nodes, as, and more pairs that the caller adds} */
static void pack_head(fuse_req_t req, int node, uint32_t more, mp_buf *m)
{
    const struct fuse_ctx *who = fuse_req_ctx(req);
    size_t n = 0;
    CLEANUP(cleanup_free) gid_t *groups = look_groups(req, &n);

    mp_map(m, 2 + more);
    mp_key(m, "nodes");
    mp_array(m, 1);
    mp_int(m, node);
    mp_key(m, "as");
    mp_map(m, 3);
    mp_kuint(m, "uid", who->uid);
    mp_kuint(m, "gid", who->gid);
    mp_key(m, "groups");
    mp_array(m, (uint32_t)n);
    for (size_t i = 0; i < n; i++)
        mp_uint(m, groups[i]);
}

/* Who asks for a change of this inode: NULL, and answered, when none is to be. */
static struct change *begin(fuse_req_t req, fuse_ino_t ino, int what)
{
    bpfs_t *b = fuse_req_userdata(req);
    const struct fsnode *n = look_node(b, ino);
    struct change *c = n ? calloc(1, sizeof *c) : NULL;

    if (!c) {
        fuse_reply_err(req, n ? ENOMEM : ino < INO_NODE ? EPERM : ENOENT);
        return NULL;
    }
    *c = (struct change){ .b = b, .req = req, .node = n->number, .what = what };
    return c;
}

void change_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int what,
                    struct fuse_file_info *fi)
{
    CLEANUP(mp_free) mp_buf m;
    int set = what & OWNERSHIP;

    (void)fi;
    mp_init(&m);
    /* Sizes and times are not for setting; the kernel's own ctime is no wish. */
    if (!set || (what & FUSE_SET_ATTR_SIZE)) {
        fuse_reply_err(req, EPERM);
        return;
    }
    struct change *c = begin(req, ino, set);
    if (!c)
        return;
    c->mode = st->st_mode & 07777;
    c->uid = st->st_uid;
    c->gid = st->st_gid;
    pack_head(req, c->node, (uint32_t)__builtin_popcount((unsigned)set), &m);
    if (set & FUSE_SET_ATTR_MODE)
        mp_kuint(&m, "mode", c->mode);
    if (set & FUSE_SET_ATTR_UID)
        mp_kuint(&m, "uid", c->uid);
    if (set & FUSE_SET_ATTR_GID)
        mp_kuint(&m, "gid", c->gid);
    svc_call(c->b->svc, "nodemgr.set", &m, ASK_MS, on_owner, c);
}

/* value NULL: delete. */
static void set_xattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
                      size_t size)
{
    CLEANUP(mp_free) mp_buf m;
    bool state = strcmp(name, "state") == 0;

    mp_init(&m);
    struct change *c = begin(req, ino, 0);
    if (!c)
        return;
    pack_head(req, c->node, 1, &m);
    if (state) { /* with or without its NUL */
        CLEANUP(cleanup_free) char *text = strndup(value, size);
        mp_kstr(&m, "state", text ? text : "");
    } else {
        mp_key(&m, "attrs");
        mp_map(&m, 1);
        mp_key(&m, name);
        if (value)
            mp_bin(&m, value, size);
        else
            mp_nil(&m);
    }
    svc_call(c->b->svc, "nodemgr.set", &m, ASK_MS, on_attr, c);
}

void change_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
                     size_t size, int flags)
{
    const struct fsnode *n = look_node(fuse_req_userdata(req), ino);
    int code = 0;

    if (strncmp(name, ATTR_PREFIX, PREFIX_LEN) != 0)
        code = EOPNOTSUPP;
    else if (n && (flags & XATTR_CREATE) && xattr_is_there(n, name + PREFIX_LEN))
        code = EEXIST;
    else if (n && (flags & XATTR_REPLACE) && !xattr_is_there(n, name + PREFIX_LEN))
        code = ENODATA;
    if (code)
        fuse_reply_err(req, code);
    else
        set_xattr(req, ino, name + PREFIX_LEN, value, size);
}

void change_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    const struct fsnode *n = look_node(fuse_req_userdata(req), ino);

    if (strncmp(name, ATTR_PREFIX, PREFIX_LEN) != 0 ||
        (n && !xattr_is_there(n, name + PREFIX_LEN)))
        fuse_reply_err(req, ENODATA);
    else if (strcmp(name + PREFIX_LEN, "state") == 0)
        fuse_reply_err(req, EPERM);
    else
        set_xattr(req, ino, name + PREFIX_LEN, NULL, 0);
}
