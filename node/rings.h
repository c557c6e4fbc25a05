/* rings.h - the arena of rings that bpinit shares with its agent
 *
 * One memfd of SPACE_SLOTS rings (node/space.h), sparse: a ring costs memory
 * while it is used, and gives it back when it is released. Two eventfds are
 * the bells. This is bpinit's side; bpnode maps the same memfd.
 *
 * Bells are folded: rings_changed() marks a ring, rings_bell() (once a turn of
 * the loop) rings if any was marked.
 */
#ifndef NODE_RINGS_H
#define NODE_RINGS_H
#include <stdbool.h>
#include <stddef.h>
#include "bus/err.h"
#include "node/space.h"

typedef struct rings rings_t;

rings_t *rings_create(uint32_t slots, struct err *err);
void rings_destroy(rings_t **r);

int rings_arena_fd(const rings_t *r);
int rings_agent_bell_fd(const rings_t *r); /* the agent waits on it */
int rings_own_bell_fd(const rings_t *r);   /* the agent rings it */

/* A ring for a stream. Returns its slot, or -1: ENOSPC, all are in use. */
int rings_take(rings_t *r, uint64_t launch, uint32_t rank, int fd, struct err *err);
/* Give a ring and its memory back. A slot that is not in use is left alone. */
void rings_release(rings_t *r, uint32_t slot);

bool rings_used(const rings_t *r, uint32_t slot);
struct ring *rings_get(const rings_t *r, uint32_t slot); /* of a slot in use */
/* All slots in use, in no order; valid until the next take or release. */
const uint32_t *rings_list(const rings_t *r, size_t *n);

/* The agent should look at this ring. */
void rings_changed(rings_t *r, uint32_t slot);
void rings_bell(rings_t *r);
/* A new agent is coming: marks that an old one left behind are wiped. */
void rings_new_agent(rings_t *r);

/* Bytes that can be added to, and taken from, a ring: at most two pieces.
 * Returns the number of pieces. limit bounds their sum. */
struct iovec;
int ring_free_space(struct ring *r, size_t limit, struct iovec v[2]);
int ring_content(struct ring *r, size_t limit, struct iovec v[2]);

#endif
