/* rings.c - the arena of rings that bpinit shares with its agent */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include "node/rings.h"

struct rings {
    char *arena;
    size_t bytes;
    int arena_fd, agent_bell, own_bell;
    uint32_t slots;
    uint32_t *list;  /* used slots first, then the free ones */
    uint32_t *place; /* where in the list a slot is */
    uint32_t used;
    bool rung; /* some ring was marked since the last bell */
};

rings_t *rings_create(uint32_t slots, struct err *err)
{
    CLEANUP(rings_destroy) rings_t *r = calloc(1, sizeof *r);

    if (!r) {
        err_set(err, ENOMEM, "rings: out of memory");
        return NULL;
    }
    r->arena = MAP_FAILED;
    r->slots = slots;
    r->bytes = (size_t)slots * SPACE_SLOT_BYTES;
    r->arena_fd = memfd_create("clustermatic-rings", MFD_CLOEXEC);
    r->agent_bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->own_bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->list = calloc(slots, sizeof *r->list);
    r->place = calloc(slots, sizeof *r->place);
    if (r->arena_fd < 0 || r->agent_bell < 0 || r->own_bell < 0 || !r->list || !r->place ||
        ftruncate(r->arena_fd, (off_t)r->bytes) < 0) {
        err_set(err, errno, "rings: %s", strerror(errno));
        return NULL;
    }
    r->arena = mmap(NULL, r->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                    r->arena_fd, 0);
    if (r->arena == MAP_FAILED) {
        err_set(err, errno, "rings: map %zu bytes: %s", r->bytes, strerror(errno));
        return NULL;
    }
    for (uint32_t i = 0; i < slots; i++)
        r->list[i] = r->place[i] = i;
    rings_t *out = r;
    r = NULL;
    return out;
}

void rings_destroy(rings_t **rp)
{
    rings_t *r = *rp;

    if (!r)
        return;
    int keep = errno;
    if (r->arena != MAP_FAILED)
        munmap(r->arena, r->bytes);
    cleanup_close(&r->arena_fd);
    cleanup_close(&r->agent_bell);
    cleanup_close(&r->own_bell);
    free(r->list);
    free(r->place);
    free(r);
    *rp = NULL;
    errno = keep;
}

int rings_arena_fd(const rings_t *r) { return r->arena_fd; }
int rings_agent_bell_fd(const rings_t *r) { return r->agent_bell; }
int rings_own_bell_fd(const rings_t *r) { return r->own_bell; }

bool rings_used(const rings_t *r, uint32_t slot)
{
    return slot < r->slots && r->place[slot] < r->used;
}

struct ring *rings_get(const rings_t *r, uint32_t slot)
{
    return space_ring(r->arena, slot);
}

const uint32_t *rings_list(const rings_t *r, size_t *n)
{
    *n = r->used;
    return r->list;
}

/* Exchange two entries of the list. */
static void swap(rings_t *r, uint32_t i, uint32_t j)
{
    uint32_t a = r->list[i], b = r->list[j];

    r->list[i] = b;
    r->place[b] = i;
    r->list[j] = a;
    r->place[a] = j;
}

int rings_take(rings_t *r, uint64_t launch, uint32_t rank, int fd, struct err *err)
{
    if (r->used == r->slots)
        return err_set(err, ENOSPC, "all %u streams of this node are in use", r->slots);
    uint32_t slot = r->list[r->used++];
    struct ring *ring = rings_get(r, slot);
    ring->launch = launch;
    ring->rank = rank;
    ring->fd = (uint32_t)fd;
    atomic_store(&ring->in_use, 1);
    return (int)slot;
}

void rings_release(rings_t *r, uint32_t slot)
{
    if (!rings_used(r, slot))
        return;
    /* A hole reads as zeros: the next user finds an empty ring. */
    if (fallocate(r->arena_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  (off_t)slot * SPACE_SLOT_BYTES, SPACE_SLOT_BYTES) < 0)
        memset(rings_get(r, slot), 0, sizeof(struct ring));
    swap(r, r->place[slot], --r->used);
}

void rings_changed(rings_t *r, uint32_t slot)
{
    struct ring *ring = rings_get(r, slot);

    if (atomic_exchange(&ring->dirty_for_agent, 1) == 0)
        r->rung = true;
    if (atomic_load(&ring->bulk_waiter) && atomic_exchange(&ring->bulk_waiter, 0))
        syscall(SYS_futex, &ring->bulk_waiter, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void ring_bell(int fd)
{
    uint64_t one = 1;

    /* Full (EAGAIN) means that it rings already. */
    while (write(fd, &one, sizeof one) < 0 && errno == EINTR)
        continue;
}

void rings_bell(rings_t *r)
{
    if (r->rung)
        ring_bell(r->agent_bell);
    r->rung = false;
}

void rings_new_agent(rings_t *r)
{
    for (uint32_t i = 0; i < r->used; i++)
        atomic_store(&rings_get(r, r->list[i])->dirty_for_agent, 0);
    ring_bell(r->agent_bell);
}

static int pieces(struct ring *r, uint64_t from, size_t len, struct iovec v[2])
{
    size_t at = from & (SPACE_RING_BYTES - 1);
    size_t first = SPACE_RING_BYTES - at < len ? SPACE_RING_BYTES - at : len;

    v[0] = (struct iovec){ ring_data(r) + at, first };
    v[1] = (struct iovec){ ring_data(r), len - first };
    return len == 0 ? 0 : len > first ? 2 : 1;
}

/* The other side is the agent: what it writes into the ring is checked. */
static size_t filled(struct ring *r)
{
    uint64_t n = atomic_load(&r->head) - atomic_load(&r->tail);

    return n > SPACE_RING_BYTES ? SPACE_RING_BYTES : (size_t)n;
}

int ring_free_space(struct ring *r, size_t limit, struct iovec v[2])
{
    size_t n = SPACE_RING_BYTES - filled(r);

    return pieces(r, atomic_load(&r->head), n < limit ? n : limit, v);
}

int ring_content(struct ring *r, size_t limit, struct iovec v[2])
{
    size_t n = filled(r);

    return pieces(r, atomic_load(&r->tail), n < limit ? n : limit, v);
}
