/* local.c - an entry of the list that names this machine: a plain child */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "clients/libbproc/lib.h"
#include "node/redirect.h"

#define CONNECT_MS 10000
#define HIGH_FD 20 /* of the pipe that tells of a failure: out of the way */

bool child_heard(void)
{
    sigset_t set;

    return sigpending(&set) == 0 && sigismember(&set, SIGCHLD) > 0;
}

void child_unheard(bool heard)
{
    static const struct timespec now;
    sigset_t child;
    siginfo_t si = { 0 };

    if (heard || (waitid(P_ALL, 0, &si, WEXITED | WSTOPPED | WCONTINUED | WNOHANG | WNOWAIT) == 0 &&
                  si.si_pid))
        return;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigtimedwait(&child, NULL, &now);
}

static void to_redirect(const struct bproc_io_t *io, struct redirect *r)
{
    *r = (struct redirect){ .fd = io->fd, .socket = io->type == BPROC_IO_SOCKET,
                            .info = io->flags & BPROC_IO_SEND_INFO,
                            .delay = io->flags & BPROC_IO_DELAY };
    if (r->socket) {
        memcpy(&r->addr, &io->d.addr, sizeof r->addr);
    } else {
        r->path = io->d.file.name;
        r->flags = io->d.file.flags;
        r->mode = (mode_t)io->d.file.mode;
        r->offset = io->d.file.offset;
    }
}

/* Descriptors 0-2 exist; those above go, but for the one kept. */
static int clear_fds(int keep, bool output)
{
    int null = open("/dev/null", O_RDWR);

    if (null < 0 || dup2(null, 0) < 0 || dup2(output ? 1 : null, 1) < 0 ||
        dup2(output ? 1 : null, 2) < 0)
        return -1;
    close_range(3, (unsigned)keep - 1, 0);
    close_range((unsigned)keep + 1, ~0u, 0);
    return 0;
}

static void __attribute__((noreturn)) child(const struct start *s, int report)
{
    struct redirect_origin origin = { htonl(INADDR_LOOPBACK), CONNECT_MS };
    struct redirect r;
    int keep = HIGH_FD;
    int code = 0;

    for (int i = 0; i < s->iolen; i++)
        if (s->io[i].fd >= keep)
            keep = s->io[i].fd + 1;
    if (dup3(report, keep, O_CLOEXEC) < 0 || clear_fds(keep, s->iolen < 0) < 0)
        code = errno;
    for (int late = 0; late < 2; late++)
        for (int i = 0; i < s->iolen && !code; i++) {
            to_redirect(&s->io[i], &r);
            if (r.delay == late && redirect_apply(&r, &origin, getpid()) < 0 && !late)
                code = errno;
        }
    if (!code) {
        execve(s->cmd, s->argv, s->envp);
        code = errno;
    }
    if (write(keep, &code, sizeof code) < 0)
        _exit(126);
    _exit(127);
}

pid_t local_start(const struct start *s)
{
    int p[2], code = 0;
    ssize_t n;

    if (pipe2(p, O_CLOEXEC) < 0)
        return -errno;
    pid_t pid = fork();
    if (pid == 0)
        child(s, p[1]);
    int why = errno;
    close(p[1]);
    if (pid < 0) {
        close(p[0]);
        return -why;
    }
    while ((n = read(p[0], &code, sizeof code)) < 0 && errno == EINTR)
        continue;
    close(p[0]);
    if (n != sizeof code)
        return pid;
    waitpid(pid, NULL, 0);
    return -code;
}
