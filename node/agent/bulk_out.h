/* bulk_out.h - a stream that goes to its reader over the bulk channel
 *
 * A thread reads the ring that bpinit fills, writes it to the connection and
 * moves tail as the reader acknowledges. While it runs it alone decides what
 * is sent; it touches the ring, the connection and nothing else.
 */
#ifndef AGENT_BULK_OUT_H
#define AGENT_BULK_OUT_H
#include <stdint.h>
#include "bus/bulk.h"
#include "node/space.h"

typedef struct bulk_out bulk_out_t;

enum bulk_out_state {
    BULK_OUT_RUNS,
    BULK_OUT_REFUSED, /* the reader has had nothing: go on as if not asked */
    BULK_OUT_CUT,     /* the reader will say from where to go on */
    BULK_OUT_ENDED,   /* the reader has all, the end too */
};

struct bulk_out_plan {
    struct ring *ring;
    int bell_fd; /* of bpinit */
    int done_fd; /* an eventfd that is rung when the thread has ended */
    const char *addr;
    uint16_t port;
    uint64_t from; /* the first byte that goes this way */
    struct bulk_ticket ticket;
};

bulk_out_t *bulk_out_start(const struct bulk_out_plan *p, struct err *err);
enum bulk_out_state bulk_out_state(const bulk_out_t *b);
const char *bulk_out_why(const bulk_out_t *b); /* once it does not run any more */
/* End it, at once, if it runs. The ring is ours again when this returns. */
void bulk_out_stop(bulk_out_t **b);

/* Everything before `to` is done with: move tail there, never back, and let
 * bpinit know if it waits for room. For the loop and for threads. */
void ring_acknowledge(struct ring *r, uint64_t to, int bell_fd);

#endif
