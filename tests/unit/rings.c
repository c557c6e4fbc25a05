/* rings.c - the arena of rings: taking, wrapping, releasing, bells */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include "node/rings.h"
#include "tests/unit/tap.h"

static bool rung(rings_t *r)
{
    struct pollfd pfd = { rings_agent_bell_fd(r), POLLIN, 0 };
    uint64_t n;

    return poll(&pfd, 1, 0) == 1 && read(pfd.fd, &n, sizeof n) == sizeof n;
}

static long blocks(rings_t *r)
{
    struct stat st = { 0 };

    fstat(rings_arena_fd(r), &st);
    return (long)st.st_blocks * 512;
}

static void slots_run_out(void)
{
    struct err err = { 0 };
    CLEANUP(rings_destroy) rings_t *r = rings_create(2, &err);

    ok(r && rings_take(r, 1, 0, 1, &err) == 0 && rings_take(r, 1, 0, 2, &err) == 1,
       "two slots, two rings");
    ok(rings_take(r, 1, 1, 1, &err) < 0 && err.code == ENOSPC, "no third: ENOSPC");
    says(err.text, "all 2 streams", "and the text says how many there are");
    rings_release(r, 0);
    ok(!rings_used(r, 0) && rings_used(r, 1), "a released slot is free, the other not");
    rings_release(r, 0);
    rings_release(r, 99);
    ok(rings_take(r, 2, 5, 0, &err) == 0, "releasing twice, or nothing, frees one slot once");
    struct ring *ring = rings_get(r, 0);
    ok(ring->launch == 2 && ring->rank == 5 && ring->fd == 0 && ring->head == 0,
       "the slot's new ring is new");
    size_t n;
    const uint32_t *list = rings_list(r, &n);
    ok(n == 2 && list[0] + list[1] == 1, "the list has both");
}

static void memory_comes_back(void)
{
    CLEANUP(rings_destroy) rings_t *r = rings_create(SPACE_SLOTS, NULL);
    int slot = rings_take(r, 1, 0, 1, NULL);

    ok(blocks(r) < 64 * 1024, "8192 rings cost nothing before they are used");
    memset(ring_data(rings_get(r, (uint32_t)slot)), 'x', SPACE_RING_BYTES);
    long used = blocks(r);
    rings_release(r, (uint32_t)slot);
    ok(used >= (long)SPACE_RING_BYTES && blocks(r) < 64 * 1024,
       "a released ring gives its memory back");
}

static void pieces_wrap(void)
{
    CLEANUP(rings_destroy) rings_t *r = rings_create(1, NULL);
    struct iovec v[2];

    rings_take(r, 1, 0, 1, NULL);
    struct ring *ring = rings_get(r, 0);
    ok(ring_content(ring, SPACE_RING_BYTES, v) == 0, "an empty ring has no content");
    ok(ring_free_space(ring, SPACE_RING_BYTES, v) == 1 && v[0].iov_len == SPACE_RING_BYTES,
       "and is all free, in one piece");
    ring->head = ring->tail = 3ull * SPACE_RING_BYTES - 10;
    ok(ring_free_space(ring, 100, v) == 2 && v[0].iov_len == 10 && v[1].iov_len == 90 &&
           v[1].iov_base == ring_data(ring),
       "free space over the edge comes in two pieces");
    ring->head += 30;
    ok(ring_content(ring, SPACE_RING_BYTES, v) == 2 && v[0].iov_len == 10 &&
           v[1].iov_len == 20,
       "so does content");
    ring->head = ring->tail + SPACE_RING_BYTES;
    ok(ring_free_space(ring, SPACE_RING_BYTES, v) == 0, "a full ring has no room");
    ring->tail = ring->head + 5;
    ok(ring_free_space(ring, SPACE_RING_BYTES, v) == 0,
       "an agent that acknowledges what was never there gets nothing overwritten");
}

static void bells_fold(void)
{
    CLEANUP(rings_destroy) rings_t *r = rings_create(4, NULL);

    rings_take(r, 1, 0, 1, NULL);
    rings_take(r, 1, 0, 2, NULL);
    rings_bell(r);
    ok(!rung(r), "no change, no bell");
    rings_changed(r, 0);
    rings_changed(r, 0);
    rings_changed(r, 1);
    ok(!rung(r), "changes alone do not ring");
    rings_bell(r);
    ok(rung(r) && !rung(r), "the turn's end rings once");
    rings_changed(r, 0);
    rings_bell(r);
    ok(!rung(r), "a mark that the agent has not taken yet is not rung for again");
    rings_new_agent(r);
    ok(rung(r) && rings_get(r, 0)->dirty_for_agent == 0, "a new agent starts with no marks");
    rings_changed(r, 0);
    rings_bell(r);
    ok(rung(r), "and hears the next change");
    rings_get(r, 0)->bulk_waiter = 1;
    rings_changed(r, 0);
    ok(rings_get(r, 0)->bulk_waiter == 0, "a waiting thread is woken by the change itself");
}

int main(void)
{
    slots_run_out();
    memory_comes_back();
    pieces_wrap();
    bells_fold();
    return done_testing();
}
