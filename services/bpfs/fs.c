/* fs.c - the kernel's requests, taken in the loop, and who answers which */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "services/bpfs/bpfs.h"

#define BATCH 64 /* requests before other things get their turn */

static void on_init(void *arg, struct fuse_conn_info *conn)
{
    (void)arg;
    conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE);
}

/* Names are the cluster's: nobody makes, moves or removes one. */
static void no_new(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    (void)parent;
    (void)name;
    (void)mode;
    fuse_reply_err(req, EPERM);
}

static void no_removal(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    (void)parent;
    (void)name;
    fuse_reply_err(req, EPERM);
}

static void no_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *fi)
{
    (void)fi;
    no_new(req, parent, name, mode);
}

static void no_symlink(fuse_req_t req, const char *to, fuse_ino_t parent, const char *name)
{
    (void)to;
    no_removal(req, parent, name);
}

static void no_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
    (void)ino;
    no_removal(req, parent, name);
}

static void no_rename(fuse_req_t req, fuse_ino_t from, const char *name, fuse_ino_t to,
                      const char *new_name, unsigned flags)
{
    (void)to;
    (void)new_name;
    (void)flags;
    no_removal(req, from, name);
}

static void no_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                     dev_t dev)
{
    (void)dev;
    no_new(req, parent, name, mode);
}

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct stat st;
    int mask = (fi->flags & O_ACCMODE) == O_RDONLY ? R_OK : W_OK;
    int code = look_stat(fuse_req_userdata(req), ino, &st);

    if (code == 0)
        code = look_may(req, &st, mask);
    if (code == 0 && mask == W_OK)
        code = EPERM; /* nothing here is written */
    if (code)
        fuse_reply_err(req, code);
    else if (ino == INO_STATUS)
        status_open(req, ino, fi);
    else
        fuse_reply_open(req, fi);
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                    struct fuse_file_info *fi)
{
    if (ino == INO_STATUS)
        status_read(req, ino, size, off, fi);
    else
        fuse_reply_buf(req, NULL, 0);
}

static void on_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
                    struct fuse_pollhandle *ph)
{
    if (ino == INO_STATUS) {
        status_poll(req, ino, fi, ph);
        return;
    }
    if (ph)
        fuse_pollhandle_destroy(ph);
    fuse_reply_poll(req, POLLIN | POLLRDNORM);
}

static void on_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    if (ino == INO_STATUS)
        status_release(req, ino, fi);
    else
        fuse_reply_err(req, 0);
}

const struct fuse_lowlevel_ops fs_ops = {
    .init = on_init,
    .lookup = look_lookup,
    .getattr = look_getattr,
    .access = look_access,
    .readlink = look_readlink,
    .readdir = look_readdir,
    .readdirplus = look_readdirplus,
    .open = on_open,
    .read = on_read,
    .poll = on_poll,
    .release = on_release,
    .setattr = change_setattr,
    .getxattr = xattr_get,
    .listxattr = xattr_list,
    .setxattr = change_setxattr,
    .removexattr = change_removexattr,
    .create = no_create,
    .mknod = no_mknod,
    .mkdir = no_new,
    .symlink = no_symlink,
    .link = no_link,
    .rename = no_rename,
    .unlink = no_removal,
    .rmdir = no_removal,
};

static void on_request(void *arg, int fd, uint32_t events)
{
    static struct fuse_buf buf; /* libfuse makes it, and we keep it */
    bpfs_t *b = arg;

    (void)events;
    for (int i = 0; i < BATCH; i++) {
        int n = fuse_session_receive_buf(b->session, &buf);
        if (n == -EINTR || n == -EAGAIN)
            break;
        if (n <= 0 || fuse_session_exited(b->session)) {
            svc_log("warning", "%s was unmounted: starting afresh", b->path);
            loop_fd_del(b->loop, fd);
            loop_stop(b->loop, 1);
            break;
        }
        fuse_session_process_buf(b->session, &buf);
    }
}

int fs_watch(bpfs_t *b, struct err *err)
{
    int fd = fuse_session_fd(b->session);
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return err_set(err, errno, "/dev/fuse: %s", strerror(errno));
    return loop_fd(b->loop, fd, EPOLLIN, on_request, b, err);
}
