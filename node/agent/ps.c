/* ps.c - node.N.ps: every process of the node, from its own /proc
 *
 * A process may end between two looks at it: it is left out then.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "node/agent/agent.h"
#include "node/agent/place.h"

#define ARGS_MAX 4096 /* bytes of a command line that are passed on */

struct proc {
    int pid, ppid, pgid, sid;
    uid_t uid;
    char state;
    char comm[64];
    uint64_t utime, stime, start; /* clock ticks */
    uint64_t vsz;                 /* bytes */
    int64_t rss;                  /* pages */
    char args[ARGS_MAX];
    size_t args_len;
};

struct clocks {
    int64_t tick_us, page_kb, boot_wall_ms;
};

static ssize_t read_small(int dir, const char *name, char *buf, size_t room)
{
    CLEANUP(cleanup_close) int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    size_t got = 0;

    if (fd < 0)
        return -1;
    while (got < room) {
        ssize_t n = read(fd, buf + got, room - got);
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return (ssize_t)got;
}

/* "PID (COMM) S PPID ...": COMM may hold anything, so count from its last ')'. */
static bool parse_stat(char *text, struct proc *p)
{
    char *open = strchr(text, '('), *close = strrchr(text, ')');

    if (!open || !close || close < open)
        return false;
    *close = 0;
    snprintf(p->comm, sizeof p->comm, "%s", open + 1);
    return sscanf(close + 1,
                  " %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64
                  " %*d %*d %*d %*d %*d %*d %" SCNu64 " %" SCNu64 " %" SCNd64,
                  &p->state, &p->ppid, &p->pgid, &p->sid, &p->utime, &p->stime, &p->start,
                  &p->vsz, &p->rss) == 9;
}

static bool look(int proc, const char *name, struct proc *p)
{
    CLEANUP(cleanup_close) int dir = openat(proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char text[1024];
    struct stat st;

    if (dir < 0 || fstat(dir, &st) < 0)
        return false;
    ssize_t n = read_small(dir, "stat", text, sizeof text - 1);
    if (n <= 0)
        return false;
    text[n] = 0;
    if (!parse_stat(text, p))
        return false;
    p->pid = atoi(name);
    p->uid = st.st_uid;
    n = read_small(dir, "cmdline", p->args, sizeof p->args);
    p->args_len = n < 0 ? 0 : (size_t)n;
    /* Arguments end with NUL each; a blank is kinder to who prints them. */
    while (p->args_len && !p->args[p->args_len - 1])
        p->args_len--;
    for (size_t i = 0; i < p->args_len; i++)
        if (!p->args[i])
            p->args[i] = ' ';
    return true;
}

static void pack_proc(mp_buf *m, const struct proc *p, const struct clocks *c)
{
    char state[2] = { p->state, 0 };

    mp_map(m, 13);
    mp_kint(m, "pid", p->pid);
    mp_kint(m, "ppid", p->ppid);
    mp_kint(m, "pgid", p->pgid);
    mp_kint(m, "sid", p->sid);
    mp_kint(m, "uid", p->uid);
    mp_kstr(m, "state", state);
    mp_kint(m, "utime_us", (int64_t)p->utime * c->tick_us);
    mp_kint(m, "stime_us", (int64_t)p->stime * c->tick_us);
    mp_kint(m, "rss_kb", p->rss * c->page_kb);
    mp_kint(m, "vsz_kb", (int64_t)(p->vsz / 1024));
    mp_kint(m, "start_ms", c->boot_wall_ms + (int64_t)p->start * c->tick_us / 1000);
    mp_kstr(m, "comm", p->comm);
    mp_kbin(m, "args", p->args, p->args_len);
}

static struct clocks clocks_now(void)
{
    struct timespec up;

    clock_gettime(CLOCK_BOOTTIME, &up);
    return (struct clocks){
        .tick_us = 1000000 / sysconf(_SC_CLK_TCK),
        .page_kb = sysconf(_SC_PAGESIZE) / 1024,
        .boot_wall_ms = wall_ms() - ((int64_t)up.tv_sec * 1000 + up.tv_nsec / 1000000),
    };
}

/* node.N.ps: {} -> [process map...] */
int on_ps(void *self, struct svc_req *req, struct err *err)
{
    agent_t *a = self;
    struct clocks clocks = clocks_now();
    CLEANUP(mp_free) mp_buf rows;
    uint32_t n = 0;
    struct dirent *e;
    struct proc p;

    mp_init(&rows);
    int fd = place_open(a->root_fd, "/proc", O_RDONLY | O_DIRECTORY, 0);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        int code = errno;
        if (fd >= 0)
            close(fd);
        return err_set(err, code, "/proc of the node: %s", strerror(code));
    }
    while ((e = readdir(d)))
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && look(dirfd(d), e->d_name, &p)) {
            pack_proc(&rows, &p, &clocks);
            n++;
        }
    closedir(d);
    mp_array(req->reply, n);
    if (n)
        msgpack_sbuffer_write(&req->reply->b, rows.b.data, rows.b.size);
    return 0;
}
