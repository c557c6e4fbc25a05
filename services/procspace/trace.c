/* trace.c - SIGSTOP and SIGKILL of ghosts, seen through the tracepoint
 * signal:signal_generate
 *
 * A stopped process can tell nobody, and its parent may be asleep. The kernel
 * counts each into a ring per processor, which wakes us: no cost per
 * ghost, about 50 µs. tracefs need not be mounted anywhere for it. Where it
 * cannot be had (no CAP_PERFMON, no tracefs), ghosts.c sweeps instead, and who has killed
 * a ghost is not known.
 */
#include <errno.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "bus/tracefs.h"
#include "services/procspace/procspace.h"

#define EVENT "signal/signal_generate"
#define RING_PAGES 16
#define RECORD_MAX 512

struct cpu_ring {
    procspace_t *ps;
    int fd;
    char *map;
    size_t data_bytes, pid_at, sig_at;
    struct cpu_ring *next;
};

static void on_record(struct cpu_ring *r, pid_t sender, const char *raw, uint32_t len)
{
    int32_t pid, sig;

    if (len < r->pid_at + sizeof pid || len < r->sig_at + sizeof sig)
        return;
    memcpy(&pid, raw + r->pid_at, sizeof pid);
    memcpy(&sig, raw + r->sig_at, sizeof sig);
    struct proc *p = proc_find(r->ps, pid);
    if (!p || p->pidfd < 0)
        return;
    if (sig == SIGKILL)
        cause_set(p, CAUSE_SIGNAL, sig, -1, sender, NULL);
    else
        ghost_seen_stopped(r->ps, p);
}

static void copy_out(const struct cpu_ring *r, uint64_t at, void *to, size_t n)
{
    const char *data = r->map + sysconf(_SC_PAGESIZE);
    size_t off = at % r->data_bytes;
    size_t first = r->data_bytes - off < n ? r->data_bytes - off : n;

    memcpy(to, data + off, first);
    memcpy((char *)to + first, data, n - first);
}

static void on_ring(void *arg, int fd, uint32_t events)
{
    struct cpu_ring *r = arg;
    struct perf_event_mmap_page *page = (void *)r->map;
    uint64_t head = __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE);
    uint64_t tail = page->data_tail;
    /* What finds no room is dropped: then all ghosts are looked at. */
    bool full = head - tail + RECORD_MAX > r->data_bytes;

    (void)fd;
    (void)events;
    while (tail < head) {
        struct perf_event_header h;
        char body[RECORD_MAX];
        copy_out(r, tail, &h, sizeof h);
        if (h.size < sizeof h || h.size > head - tail)
            break;
        full |= h.type == PERF_RECORD_LOST;
        if (h.type == PERF_RECORD_SAMPLE && h.size - sizeof h <= sizeof body &&
            h.size >= sizeof h + 3 * sizeof(uint32_t)) {
            uint32_t who[2], len; /* process, thread; then so many bytes */
            copy_out(r, tail + sizeof h, body, h.size - sizeof h);
            memcpy(who, body, sizeof who);
            memcpy(&len, body + sizeof who, sizeof len);
            if (len <= h.size - sizeof h - sizeof who - sizeof len)
                on_record(r, (pid_t)who[0], body + sizeof who + sizeof len, len);
        }
        tail += h.size;
    }
    __atomic_store_n(&page->data_tail, head, __ATOMIC_RELEASE);
    if (full)
        ghosts_look(r->ps);
}

static int open_cpu(procspace_t *ps, int cpu, uint64_t id, const size_t at[2],
                    struct err *err)
{
    struct perf_event_attr a = { .type = PERF_TYPE_TRACEPOINT, .size = sizeof a,
                                 .config = id, .sample_period = 1,
                                 .sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_RAW,
                                 .wakeup_events = 1 };
    struct cpu_ring *r = calloc(1, sizeof *r);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    if (!r)
        return err_set(err, ENOMEM, "out of memory");
    r->ps = ps;
    r->pid_at = at[0];
    r->sig_at = at[1];
    r->data_bytes = RING_PAGES * page;
    r->fd = (int)syscall(SYS_perf_event_open, &a, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
    if (r->fd < 0 || ioctl(r->fd, PERF_EVENT_IOC_SET_FILTER, "sig==19||sig==9") < 0) {
        int code = errno;
        if (r->fd >= 0)
            close(r->fd);
        free(r);
        return err_set(err, code, "signal:signal_generate: %s", strerror(code));
    }
    r->map = mmap(NULL, page + r->data_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
    if (r->map == MAP_FAILED || loop_fd(ps->loop, r->fd, EPOLLIN, on_ring, r, err) < 0) {
        int code = errno;
        close(r->fd);
        free(r);
        return err_set(err, code, "signal:signal_generate: %s", strerror(code));
    }
    r->next = ps->rings;
    ps->rings = r;
    return 0;
}

/* Where a field lies in the record. */
static bool field_at(const char *format, const char *field, size_t *at)
{
    const char *p = strstr(format, field);

    p = p ? strstr(p, "offset:") : NULL;
    *at = p ? strtoul(p + 7, NULL, 10) : 0;
    return p != NULL;
}

void trace_look(procspace_t *ps)
{
    for (struct cpu_ring *r = ps->rings; r; r = r->next)
        on_ring(r, r->fd, 0);
}

int trace_open(procspace_t *ps, struct err *err)
{
    char buf[4096];
    unsigned long id;
    size_t at[2];
    CLEANUP(cleanup_close) int dir = tracefs_open(err);

    if (dir < 0 || tracefs_read(dir, EVENT, "id", buf, sizeof buf, err) < 0)
        return -1;
    id = strtoul(buf, NULL, 10);
    if (tracefs_read(dir, EVENT, "format", buf, sizeof buf, err) < 0)
        return -1;
    if (!field_at(buf, "field:pid_t pid;", &at[0]) || !field_at(buf, "field:int sig;", &at[1]))
        return err_set(err, EPROTO, "signal_generate has no fields pid and sig");
    long cpus = sysconf(_SC_NPROCESSORS_CONF);
    int opened = 0;
    for (int c = 0; c < cpus; c++) {
        struct err why = { 0 };
        if (open_cpu(ps, c, id, at, &why) == 0)
            opened++;
        else if (why.code != ENODEV) /* a processor that is switched off */
            return err_set(err, why.code, "%s", why.text);
    }
    return opened ? 0 : err_set(err, ENODEV, "no processor can be watched");
}
