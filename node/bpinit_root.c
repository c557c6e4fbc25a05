/* bpinit_root.c - the node's root: moved into, furnished, and nothing else seen
 *
 * The root is a detached tmpfs that bpvnode made, so that the agent, outside
 * this mount namespace, holds the same file system by descriptor. bin, sbin,
 * lib and lib64 are links into usr; programs and libraries come from the
 * master as they are needed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "node/bpinit.h"

/* Children born here without a pid imposed begin above those that are. */
#define OWN_PIDS 1000000

static const struct {
    const char *path;
    mode_t mode;
} folders[] = {
    { "/usr", 0755 },      { "/usr/bin", 0755 },   { "/usr/sbin", 0755 },
    { "/usr/lib", 0755 },  { "/usr/lib64", 0755 }, { "/proc", 0555 },
    { "/sys", 0555 },      { "/dev", 0755 },       { "/tmp", 01777 },
    { "/run", 0755 },      { "/etc", 0755 },       { "/root", 0700 },
    { "/var", 0755 },      { "/var/tmp", 01777 },  { "/var/cache", 0755 },
    { "/var/run", 0755 },  { "/mnt", 0755 },       { "/home", 0755 },
};

static const struct {
    const char *path, *to;
} links[] = {
    { "/bin", "usr/bin" },
    { "/sbin", "usr/sbin" },
    { "/lib", "usr/lib" },
    { "/lib64", "usr/lib64" },
    { "/etc/mtab", "../proc/self/mounts" },
    { "/dev/fd", "/proc/self/fd" },
    { "/dev/stdin", "/proc/self/fd/0" },
    { "/dev/stdout", "/proc/self/fd/1" },
    { "/dev/stderr", "/proc/self/fd/2" },
    { "/dev/ptmx", "pts/ptmx" },
};

static const struct {
    const char *path;
    unsigned major, minor;
} devices[] = {
    { "/dev/null", 1, 3 },   { "/dev/zero", 1, 5 },    { "/dev/full", 1, 7 },
    { "/dev/random", 1, 8 }, { "/dev/urandom", 1, 9 }, { "/dev/tty", 5, 0 },
};

static int make_folder(const char *path, mode_t mode, struct err *err)
{
    /* chmod: the umask is not ours to rely on. */
    if ((mkdir(path, mode) < 0 && errno != EEXIST) || chmod(path, mode) < 0)
        return err_set(err, errno, "make folder %s: %s", path, strerror(errno));
    return 0;
}

static int mount_on(const char *type, const char *path, unsigned long flags,
                    const char *options, struct err *err)
{
    if (mount(type, path, type, flags, options) < 0)
        return err_set(err, errno, "mount %s on %s: %s", type, path, strerror(errno));
    return 0;
}

static int write_file(const char *path, const char *text, struct err *err)
{
    CLEANUP(cleanup_close) int fd =
        open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    size_t len = strlen(text);

    if (fd < 0 || write(fd, text, len) != (ssize_t)len)
        return err_set(err, errno, "write %s: %s", path, strerror(errno));
    return 0;
}

/* Into the new root; the old one is out of sight, for us and all to come. */
static int pivot(int root_fd, struct err *err)
{
    /* Any folder will do to stand on; /proc is one that always is there. */
    static const char place[] = "/proc";

    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_set(err, errno, "make mounts private: %s", strerror(errno));
    if (syscall(SYS_move_mount, root_fd, "", AT_FDCWD, place, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return err_set(err, errno, "attach the node's root: %s", strerror(errno));
    if (chdir(place) == 0 && syscall(SYS_pivot_root, ".", ".") == 0 &&
        umount2(".", MNT_DETACH) == 0 && chdir("/") == 0)
        return 0;
    /* An initramfs cannot be pivoted away; it can be mounted over. */
    if (errno == EINVAL && mount(".", "/", NULL, MS_MOVE, NULL) == 0 && chroot(".") == 0 &&
        chdir("/") == 0)
        return 0;
    return err_set(err, errno, "change to the node's root: %s", strerror(errno));
}

static int make_devices(bool machine, struct err *err)
{
    struct statvfs root;
    char shm[64];

    /* Shared memory is the node's memory too: as much as its root may have. */
    if (statvfs("/", &root) < 0)
        return err_set(err, errno, "size of the root: %s", strerror(errno));
    snprintf(shm, sizeof shm, "mode=1777,size=%llu",
             (unsigned long long)root.f_blocks * root.f_frsize);
    if (mount_on(machine ? "devtmpfs" : "tmpfs", "/dev", MS_NOSUID | MS_STRICTATIME,
                 machine ? "mode=0755" : "mode=0755,size=64k", err) < 0 ||
        make_folder("/dev/pts", 0755, err) < 0 || make_folder("/dev/shm", 01777, err) < 0 ||
        mount_on("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC,
                 "newinstance,ptmxmode=0666,mode=0620,gid=5", err) < 0 ||
        mount_on("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, shm, err) < 0)
        return -1;
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
        const char *path = devices[i].path;
        dev_t id = makedev(devices[i].major, devices[i].minor);
        if ((mknod(path, S_IFCHR | 0666, id) < 0 && errno != EEXIST) || chmod(path, 0666) < 0)
            return err_set(err, errno, "make device %s: %s", path, strerror(errno));
    }
    return 0;
}

static int make_names(const struct root_plan *plan, struct err *err)
{
    char hosts[512];

    if (sethostname(plan->hostname, strlen(plan->hostname)) < 0)
        return err_set(err, errno, "set host name %s: %s", plan->hostname, strerror(errno));
    snprintf(hosts, sizeof hosts, "127.0.0.1 localhost\n::1 localhost\n%s%s%s%s",
             plan->address ? plan->address : "", plan->address ? " " : "",
             plan->address ? plan->hostname : "", plan->address ? "\n" : "");
    if (write_file("/etc/hosts", hosts, err) < 0 ||
        write_file("/etc/nsswitch.conf", "passwd: files bproc\ngroup: files bproc\n"
                   "hosts: files bproc dns\n", err) < 0)
        return -1;
    snprintf(hosts, sizeof hosts, "%s\n", plan->hostname);
    return write_file("/etc/hostname", hosts, err);
}

/* Best effort: without it, imposed pids may meet others and are then mapped. */
static void raise_pids(int first)
{
    char text[32];
    int max = 0;
    CLEANUP(cleanup_close) int fd = open("/proc/sys/kernel/pid_max", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (n <= 0)
        return;
    text[n] = 0;
    if (sscanf(text, "%d", &max) != 1)
        return;
    snprintf(text, sizeof text, "%d", first && first < max ? first : max > OWN_PIDS ? OWN_PIDS : max / 2);
    write_file("/proc/sys/kernel/ns_last_pid", text, NULL);
}

static int furnish(const struct root_plan *plan, struct err *err)
{
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (make_folder(folders[i].path, folders[i].mode, err) < 0)
            return -1;
    if (mount_on("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, err) < 0 ||
        mount_on("sysfs", "/sys",
                 MS_NOSUID | MS_NODEV | MS_NOEXEC | (plan->machine ? 0 : MS_RDONLY), NULL,
                 err) < 0 ||
        make_devices(plan->machine, err) < 0)
        return -1;
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        if (symlink(links[i].to, links[i].path) < 0 && errno != EEXIST)
            return err_set(err, errno, "link %s: %s", links[i].path, strerror(errno));
    return make_names(plan, err);
}

int root_enter(const struct root_plan *plan, struct err *err)
{
    umask(022);
    if (plan->fd >= 0 && (pivot(plan->fd, err) < 0 || furnish(plan, err) < 0))
        return -1;
    raise_pids(plan->first_pid);
    return 0;
}
