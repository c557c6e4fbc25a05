/* bpinit_watch.c - a doorbell that rings when something happens to processes
 *
 * The kernel's tracepoints of forks, execs, ends and stop signals, one counter
 * for each processor. What happened is not read from them (they speak of the
 * whole machine, which a virtual node has not for itself): they only say that
 * /proc is worth a look. Once it has rung, the bell is off until that look, so
 * that a storm of forks costs next to nothing. Counters that go along into each
 * new process would ring for ours alone, but make every fork a third slower.
 */
#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "bus/tracefs.h"
#include "node/bpinit.h"

static const struct {
    const char *name, *filter;
} events[] = {
    { "sched/sched_process_fork", NULL },
    { "sched/sched_process_exec", NULL },
    { "sched/sched_process_exit", NULL },
    { "signal/signal_generate", "sig>=18&&sig<=22" },
};
#define EVENTS (sizeof events / sizeof *events)

struct bell {
    int fd;
    struct perf_event_mmap_page *page;
};

struct watch {
    struct init *in;
    struct bell *bell;
    size_t bells;
};

void watch_arm(watch_t *w)
{
    for (size_t i = 0; w && i < w->bells; i++) {
        struct perf_event_mmap_page *page = w->bell[i].page;
        __atomic_store_n(&page->data_tail, __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE),
                         __ATOMIC_RELEASE);
        ioctl(w->bell[i].fd, PERF_EVENT_IOC_ENABLE, 0);
    }
}

static void on_ring(void *arg, int fd, uint32_t what)
{
    watch_t *w = arg;

    (void)fd;
    (void)what;
    for (size_t i = 0; i < w->bells; i++) {
        struct perf_event_mmap_page *page = w->bell[i].page;
        ioctl(w->bell[i].fd, PERF_EVENT_IOC_DISABLE, 0);
        __atomic_store_n(&page->data_tail, __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE),
                         __ATOMIC_RELEASE);
    }
    kids_look_soon(w->in->kids);
}

/* 0, or -1; a processor that is switched off is passed over. */
static int add_bell(watch_t *w, int cpu, uint64_t id, const char *filter, struct err *err)
{
    struct perf_event_attr a = { .type = PERF_TYPE_TRACEPOINT, .size = sizeof a,
                                 .config = id, .sample_period = 1, .sample_type = PERF_SAMPLE_TID,
                                 .wakeup_events = 1, .disabled = 1 };
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int fd = (int)syscall(SYS_perf_event_open, &a, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);

    if (fd < 0 && errno == ENODEV)
        return 0;
    void *m = MAP_FAILED;
    if (fd >= 0 && (!filter || ioctl(fd, PERF_EVENT_IOC_SET_FILTER, filter) == 0))
        m = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (m == MAP_FAILED) {
        err_set(err, errno, "tracepoint: %s", strerror(errno));
        cleanup_close(&fd);
        return -1;
    }
    w->bell[w->bells++] = (struct bell){ fd, m };
    return loop_fd(w->in->loop, fd, EPOLLIN, on_ring, w, err);
}

static int open_all(watch_t *w, struct err *err)
{
    long cpus = sysconf(_SC_NPROCESSORS_CONF);
    CLEANUP(cleanup_close) int dir = tracefs_open(err);

    if (dir < 0)
        return -1;
    w->bell = calloc((size_t)cpus * EVENTS, sizeof *w->bell);
    if (!w->bell)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < EVENTS; i++) {
        char id[32];
        if (tracefs_read(dir, events[i].name, "id", id, sizeof id, err) < 0)
            return -1;
        for (int c = 0; c < (int)cpus; c++)
            if (add_bell(w, c, strtoul(id, NULL, 10), events[i].filter, err) < 0)
                return -1;
    }
    return 0;
}

watch_t *watch_create(struct init *in, struct err *err)
{
    CLEANUP(watch_destroy) watch_t *w = calloc(1, sizeof *w);

    if (!w) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    w->in = in;
    if (open_all(w, err) < 0)
        return NULL;
    watch_t *out = w;
    w = NULL;
    return out;
}

void watch_destroy(watch_t **wp)
{
    watch_t *w = *wp;

    if (!w)
        return;
    for (size_t i = 0; i < w->bells; i++) {
        loop_fd_del(w->in->loop, w->bell[i].fd);
        munmap(w->bell[i].page, 2 * (size_t)sysconf(_SC_PAGESIZE));
        close(w->bell[i].fd);
    }
    free(w->bell);
    free(w);
    *wp = NULL;
}
