/* redirect.h - one descriptor of a process that is being started (BProc's
 * bproc_io_t): a file, or a connection to somebody who listens
 *
 * System calls only, so that it may be used between vfork and exec.
 */
#ifndef NODE_REDIRECT_H
#define NODE_REDIRECT_H
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#define REDIRECT_MAX 16
#define REDIRECT_FD_MAX 65535

struct redirect {
    int fd;
    bool socket, info, delay;
    const char *path; /* of a file; with what open() wants */
    int flags;
    mode_t mode;
    int64_t offset;
    struct sockaddr addr; /* of a socket; 0.0.0.0: whoever started us */
};

struct redirect_origin {
    in_addr_t addr; /* network order */
    int wait_ms;    /* how long a connection may take */
};

/* Open it and put it on its descriptor; pid: what "info" tells the other side.
 * -1: errno. */
int redirect_apply(const struct redirect *r, const struct redirect_origin *origin, pid_t pid);

#endif
