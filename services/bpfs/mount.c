/* mount.c - the mount point, and the one that a dead service left behind
 *
 * A service that was killed leaves a mount that answers ENOTCONN to everybody;
 * the next one takes it away first. Root mounts without help from fusermount.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "services/bpfs/bpfs.h"

/* Whatever stands there, one above another. */
static void take_away(const char *path)
{
    while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
        ;
}

/* Of a place that we do not own: only what is ours, dead or alive. The table
 * is read, since looking at a dead mount fails. */
static void take_ours_away(const char *path)
{
    char line[8192], source[4096], point[4096], type[64];
    FILE *f = fopen("/proc/self/mounts", "re");
    int n = 0;

    while (f && fgets(line, sizeof line, f))
        n += sscanf(line, "%4095s %4095s %63s", source, point, type) == 3 &&
             strcmp(point, path) == 0 && strcmp(type, "fuse.bpfs") == 0;
    if (f)
        fclose(f);
    while (n-- > 0 && umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
        ;
}

static void also_open(bpfs_t *b)
{
    struct stat st;

    if (!b->also)
        return;
    take_ours_away(b->also);
    if (lstat(b->also, &st) < 0 || !S_ISDIR(st.st_mode) ||
        mount(b->path, b->also, NULL, MS_BIND, NULL) < 0) {
        svc_log("info", "not at %s too: %s", b->also, strerror(errno ? errno : ENOTDIR));
        b->also = NULL;
    }
}

static int make_session(bpfs_t *b, struct err *err)
{
    char name[sizeof b->path + 64];
    /* The name that mount(8) shows, and `clustermatic down` knows it by. */
    bool nameable = !strpbrk(cm_rundir(), ",\\ ");

    snprintf(name, sizeof name, "allow_other,noatime,subtype=bpfs%s%s",
             nameable ? ",fsname=" : "", nameable ? cm_rundir() : "");
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);

    if (fuse_opt_add_arg(&args, "bpfs") == 0 && fuse_opt_add_arg(&args, "-o") == 0 &&
        fuse_opt_add_arg(&args, name) == 0)
        b->session = fuse_session_new(&args, &fs_ops, sizeof fs_ops, b);
    fuse_opt_free_args(&args);
    return b->session ? 0 : err_set(err, ENOMEM, "libfuse takes no session");
}

int mount_open(bpfs_t *b, struct err *err)
{
    cm_path(b->path, "bpfs");
    if (access("/dev/fuse", R_OK | W_OK) < 0)
        return err_set(err, errno, "/dev/fuse: %s (modprobe fuse)", strerror(errno));
    take_away(b->path);
    if (mkdir(b->path, 0755) < 0 && errno != EEXIST)
        return err_set(err, errno, "%s: %s", b->path, strerror(errno));
    if (make_session(b, err) < 0)
        return -1;
    errno = 0;
    if (fuse_session_mount(b->session, b->path) < 0) {
        int code = errno ? errno : EIO;
        fuse_session_destroy(b->session);
        b->session = NULL;
        return err_set(err, code, "mount %s: %s", b->path, strerror(code));
    }
    if (fs_watch(b, err) < 0) {
        mount_close(b);
        return -1;
    }
    also_open(b);
    return 0;
}

void mount_close(bpfs_t *b)
{
    if (!b->session)
        return;
    loop_fd_del(b->loop, fuse_session_fd(b->session));
    if (b->also)
        take_ours_away(b->also);
    fuse_session_unmount(b->session);
    fuse_session_destroy(b->session);
    b->session = NULL;
    rmdir(b->path);
}
