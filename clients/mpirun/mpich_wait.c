/* mpich_wait.c - preloaded by mpirun into MPICH programs: how they wait
 *
 * MPICH 4.0 over UCX: in MPI_Finalize a rank asks its peers to disconnect, and
 * when they have answered it waits in a PMI barrier. There it does not answer
 * those who ask later, which over TCP then ask for ever (later MPICHs have no
 * such barrier). So, from the first disconnecting on, a read of the barrier's
 * answer keeps UCX going while it waits.
 *
 * MPICH polls without a pause, too. Where ranks share processors (bprank has made
 * them SCHED_BATCH then), who finds nothing for a while lets the others go first.
 *
 * Nothing else is touched; without UCX or PMI_FD this does nothing.
 */
#include <dlfcn.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/types.h>

#define WORKERS 64
#define STEP_MS 1
#define TRIES 8 /* looks that find nothing before others go first */

int ucp_worker_create(void *context, const void *params, void **worker);
void ucp_worker_destroy(void *worker);
void *ucp_disconnect_nb(void *ep);
unsigned ucp_worker_progress(void *worker);
ssize_t read(int fd, void *buf, size_t n);

static void *worker_of[WORKERS];
static bool leaving;

/* The next definition of a name: UCX's, libc's. */
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

int ucp_worker_create(void *context, const void *params, void **worker)
{
    int (*fn)(void *, const void *, void **) = real("ucp_worker_create");
    int rc = fn(context, params, worker);

    for (int i = 0; rc == 0 && i < WORKERS; i++)
        if (!worker_of[i]) {
            worker_of[i] = *worker;
            break;
        }
    return rc;
}

void ucp_worker_destroy(void *worker)
{
    void (*fn)(void *) = real("ucp_worker_destroy");

    for (int i = 0; i < WORKERS; i++)
        if (worker_of[i] == worker)
            worker_of[i] = NULL;
    fn(worker);
}

void *ucp_disconnect_nb(void *ep)
{
    void *(*fn)(void *) = real("ucp_disconnect_nb");

    leaving = true;
    return fn(ep);
}

unsigned ucp_worker_progress(void *worker)
{
    static unsigned (*fn)(void *);
    static int crowded = -1;
    static __thread int in_vain;

    if (!fn) {
        fn = real("ucp_worker_progress");
        crowded = sched_getscheduler(0) == SCHED_BATCH;
    }
    unsigned n = fn(worker);
    if (n)
        in_vain = 0;
    else if (crowded && in_vain++ >= TRIES)
        sched_yield();
    return n;
}

static void progress_until(int fd)
{
    unsigned (*fn)(void *) = real("ucp_worker_progress");
    struct pollfd p = { .fd = fd, .events = POLLIN };

    while (fn && poll(&p, 1, STEP_MS) == 0)
        for (int i = 0; i < WORKERS; i++)
            if (worker_of[i])
                fn(worker_of[i]);
}

ssize_t read(int fd, void *buf, size_t n)
{
    static ssize_t (*fn)(int, void *, size_t);
    const char *pmi = leaving ? getenv("PMI_FD") : NULL;

    if (!fn)
        fn = real("read");
    if (pmi && atoi(pmi) == fd)
        progress_until(fd);
    return fn(fd, buf, n);
}
