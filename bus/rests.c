/* rests.c - has a ghost passed on all that it was sent?
 *
 * It takes signals with rt_sigtimedwait(2), and does nothing else before the one that it
 * has taken is known where it goes to (node/bpghost.c).
 */
#include "bus/rests.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "bus/err.h"

static bool read_proc(int proc, pid_t pid, const char *name, char *buf, size_t room)
{
    char path[64];

    snprintf(path, sizeof path, "%d/%s", (int)pid, name);
    CLEANUP(cleanup_close) int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, room - 1);
    buf[n > 0 ? n : 0] = 0;
    return n > 0;
}

bool ghost_rests(int proc, pid_t pid)
{
    static const char *const sets[] = { "\nSigPnd:", "\nShdPnd:" };
    unsigned long limit = 0;
    char text[4096];
    long call = -1;

    if (!read_proc(proc, pid, "status", text, sizeof text) || strstr(text, "\nState:\tT"))
        return true;
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        unsigned long long sent = 0;
        const char *at = strstr(text, sets[i]);
        if (at && sscanf(at + strlen(sets[i]), "%llx", &sent) == 1 && sent)
            return false;
    }
    return !read_proc(proc, pid, "syscall", text, sizeof text) ||
           (sscanf(text, "%ld %*x %*x %lx", &call, &limit) == 2 && call == SYS_rt_sigtimedwait &&
            !limit);
}
