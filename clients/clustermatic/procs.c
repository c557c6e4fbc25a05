/* procs.c - which processes belong to a cluster */
#include "clients/clustermatic/procs.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "bus/loop.h"

static int pidfd_open_(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* A whole small file of /proc; *len bytes, NUL behind them. NULL: gone. */
static char *slurp(pid_t pid, const char *what, size_t *len)
{
    char path[64];
    size_t have = 0, room = 0;
    char *text = NULL;

    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, what);
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    for (;;) {
        if (room - have < 4096) {
            char *more = realloc(text, room += 8192);
            if (!more)
                break;
            text = more;
        }
        ssize_t n = read(fd, text + have, room - have - 1);
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    if (!text || have == 0) {
        free(text);
        return NULL;
    }
    text[have] = 0;
    *len = have;
    return text;
}

static int read_stat(pid_t pid, struct proc *p)
{
    size_t len;
    unsigned long long start;
    int ppid;
    CLEANUP(cleanup_free) char *text = slurp(pid, "stat", &len);

    /* "PID (COMM) STATE PPID ...": COMM may hold anything, so look for the
     * last parenthesis. Start time is field 22. */
    char *open = text ? strchr(text, '(') : NULL, *shut = text ? strrchr(text, ')') : NULL;
    if (!open || !shut || shut < open)
        return -1;
    memset(p, 0, sizeof *p);
    p->pid = pid;
    size_t n = (size_t)(shut - open - 1);
    memcpy(p->comm, open + 1, n < sizeof p->comm ? n : sizeof p->comm - 1);
    if (sscanf(shut + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
                         "%*d %*d %*d %llu", &p->state, &ppid, &start) != 3)
        return -1;
    p->ppid = ppid;
    p->start = start;
    return 0;
}

uint64_t proc_start(pid_t pid)
{
    struct proc p;

    return read_stat(pid, &p) == 0 && p.state != 'Z' ? p.start : 0;
}

static bool supervised(const char *environment, size_t len, const char *run)
{
    char want[PATH_MAX + 32];
    int n = snprintf(want, sizeof want, "CM_SUPERVISED=%s", run);

    for (const char *s = environment; s < environment + len; s += strlen(s) + 1)
        if (strncmp(s, want, (size_t)n + 1) == 0)
            return true;
    return false;
}

/* CM_GHOST=COUNT:FD:GATE, see node/bpghost.c */
static bool is_ghost(const char *environment, size_t len, const char *run)
{
    char gate[PATH_MAX + 8];

    snprintf(gate, sizeof gate, "%s/gate", run);
    for (const char *s = environment; s < environment + len; s += strlen(s) + 1) {
        if (strncmp(s, "CM_GHOST=", 9) != 0)
            continue;
        const char *fd = strchr(s, ':'), *path = fd ? strchr(fd + 1, ':') : NULL;
        if (path && strcmp(path + 1, gate) == 0)
            return true;
    }
    return false;
}

static int by_pid(const void *a, const void *b)
{
    const struct proc *p = a, *q = b;
    return (p->pid > q->pid) - (p->pid < q->pid);
}

/* What descends from a member is one. Parents may have higher pids than
 * their children, so go on until nothing changes. */
static void add_descendants(struct proclist *l)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < l->n; i++) {
            if (l->proc[i].member)
                continue;
            struct proc key = { .pid = l->proc[i].ppid };
            const struct proc *up =
                bsearch(&key, l->proc, l->n, sizeof *l->proc, by_pid);
            if (up && up->member) {
                l->proc[i].member = true;
                changed = true;
            }
        }
    }
}

int procs_of(const char *run, int ghosts, struct proclist *l, struct err *err)
{
    size_t room = 0;
    DIR *dir = opendir("/proc");
    struct dirent *e;

    memset(l, 0, sizeof *l);
    if (!dir)
        return err_set(err, errno, "read /proc: %s", strerror(errno));
    while ((e = readdir(dir))) {
        struct proc p;
        if (!isdigit((unsigned char)e->d_name[0]) || read_stat(atoi(e->d_name), &p) < 0)
            continue;
        size_t len = 0;
        CLEANUP(cleanup_free) char *env = slurp(p.pid, "environ", &len);
        if (env && p.pid != getpid())
            p.member = ghosts ? is_ghost(env, len, run) : supervised(env, len, run);
        if (l->n == room) {
            struct proc *more = realloc(l->proc, (room = room ? room * 2 : 256) * sizeof *more);
            if (!more) {
                closedir(dir);
                return err_set(err, ENOMEM, "list processes");
            }
            l->proc = more;
        }
        l->proc[l->n++] = p;
    }
    closedir(dir);
    if (l->n) {
        qsort(l->proc, l->n, sizeof *l->proc, by_pid);
        if (!ghosts)
            add_descendants(l);
    }
    size_t kept = 0;
    for (size_t i = 0; i < l->n; i++)
        if (l->proc[i].member && l->proc[i].state != 'Z')
            l->proc[kept++] = l->proc[i];
    l->n = kept;
    return 0;
}

void procs_free(struct proclist *l)
{
    free(l->proc);
    memset(l, 0, sizeof *l);
}

/* A descriptor of exactly this process; -1: it has gone. */
static int open_proc(const struct proc *p)
{
    int fd = pidfd_open_(p->pid);

    if (fd >= 0 && proc_start(p->pid) != p->start) {
        close(fd);
        fd = -1;
    }
    return fd;
}

void procs_signal(const struct proclist *l, int sig, const char *only_comm)
{
    for (size_t i = 0; i < l->n; i++) {
        if (only_comm && strcmp(l->proc[i].comm, only_comm) != 0)
            continue;
        CLEANUP(cleanup_close) int fd = open_proc(&l->proc[i]);
        if (fd >= 0)
            syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0);
    }
}

size_t procs_wait(const struct proclist *l, int timeout_ms)
{
    int64_t end = now_ms() + timeout_ms;
    size_t left = 0;

    for (size_t i = 0; i < l->n; i++) {
        CLEANUP(cleanup_close) int fd = open_proc(&l->proc[i]);
        struct pollfd p = { .fd = fd, .events = POLLIN };
        int r = 0;
        while (fd >= 0) {
            int64_t ms = end - now_ms();
            r = poll(&p, 1, ms > 0 ? (int)ms : 0);
            if (r >= 0 || errno != EINTR)
                break;
        }
        left += fd >= 0 && r == 0;
    }
    return left;
}
