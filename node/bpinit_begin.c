/* bpinit_begin.c - what a process begins with that a ghost here has made
 *
 * Children of a process that has left this node are made by what it has left, a ghost
 * with its user's rights, and begin as bpbegin. All that needs ours is done for them: a
 * child of ours opens what they are to have, as the user, as it would for itself, and
 * hands it over; limits and the control group are set from outside as well.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "node/begin.h"
#include "node/bpinit_begin.h"
#include "node/bpinit_kin.h"

struct begin {
    struct plan *plan;
    uint32_t rank;
    pid_t pid;
    int sock;  /* where it is handed over */
    int image; /* of a copy; -1 a program */
    int stream[3];
};

void begin_free(begin_t **bp)
{
    begin_t *b = *bp;

    if (!b)
        return;
    cleanup_close(&b->sock);
    cleanup_close(&b->image);
    for (int fd = 0; fd < 3; fd++)
        cleanup_close(&b->stream[fd]);
    plan_release(&b->plan);
    free(b);
    *bp = NULL;
}

bool begin_program(const begin_t *b) { return b && !b->plan->image; }

begin_t *begin_create(struct init *in, struct plan *plan, uint32_t rank, pid_t pid, int *image,
                      int stream[3], struct err *err)
{
    int p[2];

    if (access(NODE_BPBEGIN, X_OK) < 0) {
        err_set(err, errno, NODE_BPBEGIN ": %s: its agent puts it there", strerror(errno));
        return NULL;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p) < 0) {
        err_set(err, errno, "socketpair: %s", strerror(errno));
        return NULL;
    }
    begin_t *b = calloc(1, sizeof *b);
    if (!b) {
        close(p[0]);
        close(p[1]);
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    *b = (begin_t){ .plan = plan_hold(plan), .rank = rank, .pid = pid, .sock = p[1],
                    .image = *image };
    *image = p[0];
    for (int fd = 0; fd < 3; fd++) {
        b->stream[fd] = stream[fd];
        stream[fd] = -1;
        if (b->stream[fd] < 0 && plan->stream[fd].mode != STREAM_FILE)
            b->stream[fd] = fcntl(in->null_fd, F_DUPFD_CLOEXEC, 3);
    }
    return b;
}

/* ---- the program, as a file ---- */

static bool put(int fd, const void *data, size_t len)
{
    const char *p = data;

    while (len) {
        ssize_t n = write(fd, p, len);
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static bool put_text(int fd, const char *s) { return put(fd, s, strlen(s) + 1); }

static bool put_list(int fd, char *const *list, uint32_t *n)
{
    for (*n = 0; list[*n]; ++*n)
        if (!put_text(fd, list[*n]))
            return false;
    return true;
}

/* The file; -1. */
static int pack_program(const struct plan *p, struct begin_head *h, struct err *err)
{
    CLEANUP(cleanup_close) int fd = memfd_create("begin", MFD_CLOEXEC);

    h->groups = (uint32_t)p->ngroups;
    h->umask = p->umask;
    if (fd < 0 || !put(fd, p->groups, p->ngroups * sizeof *p->groups) || !put_text(fd, p->cwd) ||
        !put_text(fd, p->path) || !put_list(fd, p->argv, &h->argc) ||
        !put_list(fd, p->envp, &h->envc))
        return err_set(err, errno ? errno : ENOMEM, "its arguments: %s", strerror(errno));
    h->bytes = (uint64_t)lseek(fd, 0, SEEK_CUR);
    int out = fd;
    fd = -1;
    return out;
}

/* ---- in the child that opens it ---- */

/* One that came about: ours are all close-on-exec. */
static bool is_its_own(int fd)
{
    int flags = fcntl(fd, F_GETFD);

    return flags >= 0 && !(flags & FD_CLOEXEC);
}

static bool has(const struct begin_head *h, int fd)
{
    for (uint32_t i = 0; i < h->fds; i++)
        if (h->at[i] == fd)
            return true;
    return false;
}

void begin_hand(const struct child *c, int last, int to)
{
    struct begin_head *h = c->hand;
    const struct plan *p = c->plan;
    struct iovec iov = { h, sizeof *h };
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE((BEGIN_FDS + 1) * sizeof(int))];
    } ctl;
    struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl };
    int fd[BEGIN_FDS + 1];

    for (h->fds = 0; h->fds < 3; h->fds++)
        h->at[h->fds] = (int)h->fds;
    for (size_t i = 0; i < p->nio; i++)
        if (!has(h, p->io[i].fd) && is_its_own(p->io[i].fd))
            h->at[h->fds++] = p->io[i].fd;
    memcpy(fd, h->at, h->fds * sizeof *fd);
    fd[h->fds] = last;
    memset(&ctl, 0, sizeof ctl);
    struct cmsghdr *m = &ctl.align;
    m->cmsg_level = SOL_SOCKET;
    m->cmsg_type = SCM_RIGHTS;
    m->cmsg_len = CMSG_LEN((h->fds + 1) * sizeof *fd);
    memcpy(CMSG_DATA(m), fd, (h->fds + 1) * sizeof *fd);
    mh.msg_controllen = CMSG_SPACE((h->fds + 1) * sizeof *fd);
    if (sendmsg(to, &mh, MSG_NOSIGNAL) == (ssize_t)sizeof *h)
        for (;;)
            syscall(SYS_exit_group, 0);
}

/* ---- for the ghost ---- */

/* Its own limit was its process's when that left. */
static void let_it_open(pid_t ghost)
{
    struct rlimit l;

    if (getrlimit(RLIMIT_NOFILE, &l) == 0)
        prlimit(ghost, RLIMIT_NOFILE, &l, NULL);
}

static void pack_limits(const struct plan *p, struct begin_head *h)
{
    for (size_t i = 0; i < p->nlimits && h->limits < BEGIN_LIMITS; i++)
        h->limit[h->limits++] = (struct begin_limit){ p->limits[i].limit.rlim_cur,
                                                      p->limits[i].limit.rlim_max,
                                                      (uint64_t)p->limits[i].resource };
}

int begin_fill(begin_t *b, pid_t ghost, struct err *err)
{
    struct begin_head head = { .copy = b->plan->image };
    CLEANUP(cleanup_close) int last = -1;
    struct child c = { .plan = b->plan, .pid = b->pid, .cgroup = -1, .procs = { -1, -1, -1 },
                       .hand = &head, .control = b->sock };

    plan_write_rank(b->plan, b->rank);
    pack_limits(b->plan, &head);
    last = b->plan->image ? fcntl(b->image, F_DUPFD_CLOEXEC, 3)
                          : pack_program(b->plan, &head, err);
    if (last < 0)
        return err->code ? -1 : err_set(err, errno, "descriptors: %s", strerror(errno));
    c.image = last;
    memcpy(c.fd, b->stream, sizeof c.fd);
    let_it_open(ghost);
    pid_t pid = child_start(&c, 0);
    if (pid < 0)
        return err_set(err, -pid, "start a process: %s", strerror(-pid));
    if (c.code) {
        plan_explain(b->plan, &c, err);
        return -1;
    }
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    cleanup_close(&b->sock);
    cleanup_close(&b->image);
    for (int fd = 0; fd < 3; fd++)
        cleanup_close(&b->stream[fd]);
    return 0;
}

void begin_limits(const begin_t *b, pid_t npid)
{
    /* It sets them itself as far as its user may. */
    if (begin_program(b)) /* as of those that we start */
        setpriority(PRIO_PROCESS, (id_t)npid, getpriority(PRIO_PROCESS, 0));
    plan_set_limits(b->plan, npid);
}

void begin_explain(const begin_t *b, int code, struct err *err)
{
    const struct child c = { .code = code, .what = b->plan->path };

    plan_explain(b->plan, &c, err);
}
