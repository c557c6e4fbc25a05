/* tracefs.c - the kernel's tracepoints, by name */
#include "bus/tracefs.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

int tracefs_open(struct err *err)
{
    int dir = open("/sys/kernel/tracing", O_PATH | O_CLOEXEC);

    if (dir >= 0 && faccessat(dir, "events/sched", F_OK, 0) == 0)
        return dir;
    if (dir >= 0)
        close(dir);
    CLEANUP(cleanup_close) int fs = (int)syscall(SYS_fsopen, "tracefs", FSOPEN_CLOEXEC);
    dir = -1;
    if (fs >= 0 && syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
        dir = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
    if (dir < 0)
        err_set(err, errno, "tracefs: %s", strerror(errno));
    return dir;
}

int tracefs_read(int dir, const char *event, const char *file, char *buf, size_t room,
                 struct err *err)
{
    char path[256];

    snprintf(path, sizeof path, "events/%s/%s", event, file);
    CLEANUP(cleanup_close) int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, room - 1);
    if (n < 0)
        return err_set(err, errno, "tracepoint %s: %s", event, strerror(errno));
    buf[n] = 0;
    return 0;
}
