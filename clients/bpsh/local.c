/* local.c - processes on the master itself: real children, forwarded like others */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "clients/bpsh/bpsh.h"

#define READ_BYTES (64 * 1024)

struct local {
    struct bpsh *b;
    struct proc *p;
    int fd[2]; /* our ends of its stdout and stderr; -1: none */
    bool watched[2];
    uint64_t got[2], taken[2];
};

/* What the child's descriptors 0-2 become, and our ends of the pipes. */
struct plumbing {
    int child[3], ours[3];
};

static void plumbing_close(struct plumbing *s)
{
    for (int i = 0; i < 3; i++) {
        if (s->child[i] >= 0)
            close(s->child[i]);
        if (s->ours[i] >= 0)
            close(s->ours[i]);
    }
}

static int plumb(struct bpsh *b, const struct proc *p, struct plumbing *s, struct err *err)
{
    static const int flags[3] = { O_RDONLY, O_WRONLY | O_CREAT | O_TRUNC,
                                  O_WRONLY | O_CREAT | O_TRUNC };
    int pair[2];

    *s = (struct plumbing){ { -1, -1, -1 }, { -1, -1, -1 } };
    for (int i = 0; i < 3; i++) {
        const char *file = b->opt.null_all ? NULL : b->opt.file[i];
        bool piped = b->forward[i];
        if (i == 0 && b->opt.stdin_to >= 0 && (uint32_t)b->opt.stdin_to != p - b->proc)
            piped = false;
        if (!piped) {
            const char *path = file ? file : "/dev/null";
            s->child[i] = open(path, (file ? flags[i] : O_RDWR) | O_CLOEXEC, 0666);
            if (s->child[i] < 0)
                return err_set(err, errno, "%s: %s", path, strerror(errno));
            continue;
        }
        if (pipe2(pair, O_CLOEXEC) < 0)
            return err_set(err, errno, "pipe: %s", strerror(errno));
        s->child[i] = pair[i ? 1 : 0];
        s->ours[i] = pair[i ? 0 : 1];
    }
    return 0;
}

static void __attribute__((noreturn)) become(struct bpsh *b, const struct proc *p,
                                             const struct plumbing *s, int why_fd)
{
    char rank[16], size[16];
    CLEANUP(cleanup_free) char *nodes = command_nodes(b);

    for (int i = 0; i < 3; i++)
        dup2(s->child[i], i); /* 0-2 are always taken, so never the same number */
    snprintf(rank, sizeof rank, "%07lld", (long long)b->opt.first_rank + p->rank);
    snprintf(size, sizeof size, "%u", b->procs);
    setenv("BPROC_RANK", rank, 1);
    setenv("BPROC_SIZE", size, 1);
    setenv("BPROC_NODES", nodes ? nodes : "", 1);
    setenv("BPROC_PROGNAME", b->path, 1);
    signals_in_child();
    execv(b->via ? b->via : b->path, b->opt.argv);
    int code = errno;
    if (write(why_fd, &code, sizeof code) < 0)
        _exit(126);
    _exit(127);
}

static void on_pipe(void *arg, int fd, uint32_t events);

static void watch(struct local *l, int side)
{
    uint64_t held = l->got[side] - l->taken[side];
    bool want = l->fd[side] >= 0 && held < l->b->window;

    if (want == l->watched[side])
        return;
    if (!want)
        loop_fd_del(l->b->loop, l->fd[side]);
    else if (loop_fd(l->b->loop, l->fd[side], EPOLLIN, on_pipe, l, NULL) < 0)
        return;
    l->watched[side] = want;
}

static void pipe_end(struct local *l, int side)
{
    if (l->watched[side])
        loop_fd_del(l->b->loop, l->fd[side]);
    l->watched[side] = false;
    close(l->fd[side]);
    l->fd[side] = -1;
    output_end(l->b->output, (uint32_t)(l->p - l->b->proc), side + 1);
}

static void on_pipe(void *arg, int fd, uint32_t events)
{
    struct local *l = arg;
    int side = fd == l->fd[1];
    uint64_t left = l->b->window - (l->got[side] - l->taken[side]);
    char buf[READ_BYTES];

    (void)events;
    ssize_t n = read(fd, buf, left < sizeof buf ? (size_t)left : sizeof buf);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        pipe_end(l, side);
        return;
    }
    l->got[side] += (uint64_t)n;
    proc_data(l->b, l->p, side + 1, buf, (size_t)n);
    watch(l, side);
}

static int start(struct bpsh *b, struct proc *p, struct err *err)
{
    struct plumbing s;
    int why_pipe[2], why = 0;

    struct local *l = calloc(1, sizeof *l);
    if (!l)
        return err_set(err, ENOMEM, "out of memory");
    *l = (struct local){ .b = b, .p = p, .fd = { -1, -1 } };
    p->local = l;
    if (plumb(b, p, &s, err) < 0) {
        plumbing_close(&s);
        return -1;
    }
    if (pipe2(why_pipe, O_CLOEXEC) < 0) {
        plumbing_close(&s);
        return err_set(err, errno, "pipe: %s", strerror(errno));
    }
    pid_t pid = fork();
    if (pid == 0)
        become(b, p, &s, why_pipe[1]);
    int code = errno;
    close(why_pipe[1]);
    if (pid < 0 || read(why_pipe[0], &why, sizeof why) > 0) {
        if (pid > 0)
            waitpid(pid, NULL, 0);
        close(why_pipe[0]);
        plumbing_close(&s);
        return pid < 0 ? err_set(err, code, "a process: %s", strerror(code))
                       : err_set(err, why, "%s: %s", b->path, strerror(why));
    }
    close(why_pipe[0]);
    p->pid = pid;
    tell_started(b, p);
    for (int i = 0; i < 3; i++)
        close(s.child[i]);
    if (s.ours[0] >= 0 && input_to_pipe(b->input, s.ours[0], err) < 0)
        return -1;
    for (int side = 0; side < 2; side++) {
        l->fd[side] = s.ours[side + 1];
        if (l->fd[side] >= 0)
            watch(l, side);
        else
            output_end(b->output, (uint32_t)(p - b->proc), side + 1);
    }
    return 0;
}

int local_start(struct bpsh *b, struct err *err)
{
    for (uint32_t i = 0; i < b->procs; i++) {
        struct err why = { 0 };
        if (b->proc[i].node >= 0 || start(b, &b->proc[i], &why) == 0)
            continue;
        if (why.code == ENOMEM)
            return err_set(err, why.code, "%s", why.text);
        launch_failure(b, &b->proc[i], why.code, why.text);
    }
    return 0;
}

void local_taken(struct bpsh *b, struct proc *p, int fd, uint64_t taken)
{
    (void)b;
    if (!p->local)
        return;
    p->local->taken[fd - 1] = taken;
    watch(p->local, fd - 1);
}

void local_free(struct bpsh *b, struct proc *p)
{
    struct local *l = p->local;

    for (int side = 0; l && side < 2; side++) {
        if (l->watched[side])
            loop_fd_del(b->loop, l->fd[side]);
        if (l->fd[side] >= 0)
            close(l->fd[side]);
    }
    free(l);
    p->local = NULL;
}
