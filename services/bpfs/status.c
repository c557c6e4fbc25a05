/* status.c - the file "status": all nodes as programs read them, and polls
 *
 * The content is an array of bproc_node_info_t (sys/bproc.h, LP64). Reading
 * from its beginning takes a picture of the table for this open file, so that
 * the parts of one reading fit together, and clears what poll reports.
 */
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "services/bpfs/bpfs.h"

struct node_info { /* as bproc_node_info_t */
    int32_t node;
    char status[16];
    uint32_t mode, user, group;
    struct sockaddr addr;
};
_Static_assert(sizeof(struct node_info) == 48 && offsetof(struct node_info, mode) == 20 &&
               offsetof(struct node_info, addr) == 32, "bproc_node_info_t");

struct open_status {
    uint64_t seen; /* generation that was read, or that was there at open */
    char *picture;
    size_t len;
    struct fuse_pollhandle *ph; /* somebody sleeps */
    struct open_status *next, **link;
};

static struct open_status *of(const struct fuse_file_info *fi)
{
    return (struct open_status *)(uintptr_t)fi->fh;
}

size_t status_size(const bpfs_t *b) { return b->table.n * sizeof(struct node_info); }

void status_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    bpfs_t *b = fuse_req_userdata(req);
    struct open_status *o = calloc(1, sizeof *o);

    (void)ino;
    if (!o) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    o->seen = b->generation;
    o->next = b->opens;
    o->link = &b->opens;
    if (b->opens)
        b->opens->link = &o->next;
    b->opens = o;
    fi->fh = (uintptr_t)o;
    fi->direct_io = 1;
    if (fuse_reply_open(req, fi) == -ENOENT) { /* the asker was interrupted: no release comes */
        *o->link = o->next;
        if (o->next)
            o->next->link = o->link;
        free(o);
    }
}

static int take_picture(const bpfs_t *b, struct open_status *o)
{
    struct node_info *v = calloc(b->table.n + 1, sizeof *v);

    if (!v)
        return ENOMEM;
    for (size_t i = 0; i < b->table.n; i++) {
        const struct fsnode *n = &b->table.v[i];
        v[i] = (struct node_info){ .node = n->number, .mode = n->mode, .user = n->uid,
                                   .group = n->gid };
        memcpy(v[i].status, n->state, sizeof v[i].status);
        memcpy(&v[i].addr, &n->addr, sizeof v[i].addr);
    }
    free(o->picture);
    o->picture = (char *)v;
    o->len = status_size(b);
    o->seen = b->generation;
    return 0;
}

void status_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                 struct fuse_file_info *fi)
{
    struct open_status *o = of(fi);
    int code = off == 0 || !o->picture ? take_picture(fuse_req_userdata(req), o) : 0;

    (void)ino;
    if (code)
        fuse_reply_err(req, code);
    else if ((size_t)off >= o->len)
        fuse_reply_buf(req, NULL, 0);
    else
        fuse_reply_buf(req, o->picture + off,
                       size < o->len - (size_t)off ? size : o->len - (size_t)off);
}

void status_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
                 struct fuse_pollhandle *ph)
{
    const bpfs_t *b = fuse_req_userdata(req);
    struct open_status *o = of(fi);

    (void)ino;
    if (ph) {
        if (o->ph)
            fuse_pollhandle_destroy(o->ph);
        o->ph = ph;
    }
    fuse_reply_poll(req, o->seen != b->generation ? POLLIN | POLLRDNORM : 0);
}

void status_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct open_status *o = of(fi);

    (void)ino;
    if (o->ph)
        fuse_pollhandle_destroy(o->ph);
    *o->link = o->next;
    if (o->next)
        o->next->link = o->link;
    free(o->picture);
    free(o);
    fuse_reply_err(req, 0);
}

void status_changed(bpfs_t *b)
{
    b->generation++;
    b->changed_ms = wall_ms();
    for (struct open_status *o = b->opens; o; o = o->next) {
        if (!o->ph)
            continue;
        fuse_lowlevel_notify_poll(o->ph);
        fuse_pollhandle_destroy(o->ph);
        o->ph = NULL;
    }
}

void status_close_all(bpfs_t *b)
{
    while (b->opens) {
        struct open_status *o = b->opens;
        b->opens = o->next;
        if (o->ph)
            fuse_pollhandle_destroy(o->ph);
        free(o->picture);
        free(o);
    }
}
