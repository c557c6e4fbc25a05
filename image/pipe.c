/* pipe.c - the pipe that an image goes through on one machine */
#include "image/pipe.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define ROOM (1 << 20) /* what anybody may have, unless an administrator says less */

int image_pipe(int p[2])
{
    if (pipe2(p, O_CLOEXEC) < 0)
        return -1;
    (void)fcntl(p[1], F_SETPIPE_SZ, ROOM); /* with less it takes more turns */
    return 0;
}

size_t image_pipe_room(int fd)
{
    int n = fcntl(fd, F_GETPIPE_SZ);

    return n > 0 ? (size_t)n : 0;
}

ssize_t image_pipe_lend(int fd, const void *from, size_t n)
{
    struct iovec v = { (void *)(unsigned long)from, n };
    ssize_t k = vmsplice(fd, &v, 1, 0);

    return k < 0 && errno != EINTR && errno != EPIPE ? syscall(SYS_write, fd, from, n) : k;
}
