/* look.c - the names, and what stat, access, readlink and ls see */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/nodespec.h"
#include "services/bpfs/bpfs.h"

struct fsnode *look_node(bpfs_t *b, fuse_ino_t ino)
{
    if (ino < INO_NODE || ino - INO_NODE > NODE_MAX)
        return NULL;
    return table_get(&b->table, (int)(ino - INO_NODE));
}

/* ---- attributes ---- */

static struct timespec time_of(int64_t ms)
{
    return (struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
}

int look_stat(bpfs_t *b, fuse_ino_t ino, struct stat *st)
{
    const struct fsnode *n;
    int64_t when = b->changed_ms;

    memset(st, 0, sizeof *st);
    st->st_ino = ino;
    st->st_nlink = 1;
    switch (ino) {
    case INO_ROOT:
        st->st_mode = S_IFDIR | 0555;
        st->st_nlink = 2;
        break;
    case INO_STATUS:
        st->st_mode = S_IFREG | 0444;
        st->st_size = (off_t)status_size(b);
        break;
    case INO_SELF:
        st->st_mode = S_IFLNK | 0777;
        st->st_size = 2;
        break;
    case INO_MASTER: st->st_mode = S_IFREG | 0111; break;
    default:
        n = look_node(b, ino);
        if (!n)
            return ENOENT;
        st->st_mode = S_IFREG | n->mode;
        st->st_uid = n->uid;
        st->st_gid = n->gid;
        when = n->since_ms;
    }
    st->st_atim = st->st_mtim = st->st_ctim = time_of(when);
    return 0;
}

void look_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct stat st;
    int code = look_stat(fuse_req_userdata(req), ino, &st);

    (void)fi;
    if (code)
        fuse_reply_err(req, code);
    else
        fuse_reply_attr(req, &st, ino == INO_STATUS ? 0 : CACHE_ATTR_S);
}

/* ---- rights ---- */

gid_t *look_groups(fuse_req_t req, size_t *n)
{
    int room = 64;

    *n = 0;
    for (;;) {
        gid_t *list = malloc((size_t)room * sizeof *list);
        int got = list ? fuse_req_getgroups(req, room, list) : -1;
        if (got >= 0 && got <= room) {
            *n = (size_t)got;
            return list;
        }
        free(list);
        if (got < 0)
            return NULL; /* the asker is gone, or in another pid namespace */
        room = got;
    }
}

static bool in_group(fuse_req_t req, gid_t gid)
{
    size_t n;
    CLEANUP(cleanup_free) gid_t *list = NULL;
    bool in = fuse_req_ctx(req)->gid == gid;

    if (in)
        return true;
    list = look_groups(req, &n);
    for (size_t i = 0; list && i < n && !in; i++)
        in = list[i] == gid;
    return in;
}

int look_may(fuse_req_t req, const struct stat *st, int mask)
{
    const struct fuse_ctx *who = fuse_req_ctx(req);
    unsigned mode = st->st_mode & 0777;

    if (who->uid == 0) /* any x bit will do; reading and writing are always root's */
        return (mask & X_OK) && !(mode & 0111) ? EACCES : 0;
    if (who->uid == st->st_uid)
        mode >>= 6;
    else if (((mode >> 3 ^ mode) & 7) && in_group(req, st->st_gid))
        mode >>= 3;
    return (mask & 7) & ~mode ? EACCES : 0;
}

void look_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
    struct stat st;
    int code = look_stat(fuse_req_userdata(req), ino, &st);

    fuse_reply_err(req, code ? code : look_may(req, &st, mask));
}

/* ---- names ---- */

static const struct {
    const char *name;
    fuse_ino_t ino;
} fixed[] = {
    { ".", INO_ROOT }, { "..", INO_ROOT }, { "status", INO_STATUS },
    { "self", INO_SELF }, { "-1", INO_MASTER },
};
#define FIXED (sizeof fixed / sizeof *fixed)

/* 0: no such name. Numbers are as we write them: "07" is nobody. */
static fuse_ino_t by_name(const char *name)
{
    char *end, back[16];

    for (size_t i = 2; i < FIXED; i++)
        if (strcmp(name, fixed[i].name) == 0)
            return fixed[i].ino;
    if (*name < '0' || *name > '9' || strlen(name) > 9)
        return 0;
    long number = strtol(name, &end, 10);
    snprintf(back, sizeof back, "%ld", number);
    return *end || number > NODE_MAX || strcmp(back, name) != 0 ? 0 : ino_of((int)number);
}

static int entry_of(bpfs_t *b, fuse_ino_t ino, struct fuse_entry_param *e)
{
    memset(e, 0, sizeof *e);
    e->ino = ino;
    e->attr_timeout = ino == INO_STATUS ? 0 : CACHE_ATTR_S;
    e->entry_timeout = CACHE_ENTRY_S;
    return look_stat(b, ino, &e->attr);
}

void look_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e;
    fuse_ino_t ino = parent == INO_ROOT ? by_name(name) : 0;
    int code = ino ? entry_of(fuse_req_userdata(req), ino, &e) : ENOENT;

    if (code)
        fuse_reply_err(req, code);
    else
        fuse_reply_entry(req, &e);
}

void look_readlink(fuse_req_t req, fuse_ino_t ino)
{
    if (ino == INO_SELF)
        fuse_reply_readlink(req, "-1");
    else
        fuse_reply_err(req, EINVAL);
}

/* One name into a buffer; false: no room. off is where the next one is. */
static bool put_name(fuse_req_t req, char *buf, size_t room, size_t *used, const char *name,
                     fuse_ino_t ino, off_t off, bool plus)
{
    struct fuse_entry_param e;
    size_t need;

    if (entry_of(fuse_req_userdata(req), ino, &e) != 0)
        return true; /* gone: leave it out */
    if (plus)
        need = fuse_add_direntry_plus(req, buf + *used, room - *used, name, &e, off);
    else
        need = fuse_add_direntry(req, buf + *used, room - *used, name, &e.attr, off);
    if (need > room - *used)
        return false;
    *used += need;
    return true;
}

/* Positions: 1.. the fixed names, then FIXED + 1 + a node's number, so that a
 * node that comes or goes meanwhile moves no other. */
static void read_names(fuse_req_t req, size_t size, off_t off, bool plus)
{
    const bpfs_t *b = fuse_req_userdata(req);
    CLEANUP(cleanup_free) char *buf = malloc(size);
    size_t used = 0;
    bool room = true;

    if (!buf) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    for (size_t i = (size_t)off; room && i < FIXED; i++)
        room = put_name(req, buf, size, &used, fixed[i].name, fixed[i].ino, (off_t)i + 1, plus);
    off_t first = off <= (off_t)FIXED ? 0 : off - (off_t)FIXED;
    for (size_t i = first > NODE_MAX ? b->table.n : table_from(&b->table, (int)first);
         room && i < b->table.n; i++) {
        int number = b->table.v[i].number;
        char name[16];
        snprintf(name, sizeof name, "%d", number);
        room = put_name(req, buf, size, &used, name, ino_of(number),
                        (off_t)FIXED + 1 + number, plus);
    }
    fuse_reply_buf(req, buf, used);
}

void look_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                  struct fuse_file_info *fi)
{
    (void)ino;
    (void)fi;
    read_names(req, size, off, false);
}

void look_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                      struct fuse_file_info *fi)
{
    (void)ino;
    (void)fi;
    read_names(req, size, off, true);
}
