/* busd.h - what the bus's parts share
 *
 * router.c takes messages from local ZeroMQ sockets and from nodes, gate.c
 * from the gate; both stamp who is asking and hand over to route_request().
 */
#ifndef BUSD_H
#define BUSD_H
#include "bus/err.h"
#include "bus/loop.h"
#include "bus/mp.h"
#include "bus/wire.h"

typedef struct busd busd_t;
typedef struct gatesrv gatesrv_t;

#define BUSD_MAX_LISTEN 64
struct busd_options { /* kept by the caller while the bus lives */
    const char *listen[BUSD_MAX_LISTEN]; /* tcp endpoints for nodes */
    int nlisten;
};

/* --- router.c --- */
busd_t *busd_create(loop_t *l, const struct busd_options *o, struct err *err);
void busd_destroy(busd_t **b);

/* A stamped request whose answer goes to route. nodes: list for node.*, or NULL. */
void route_request(busd_t *b, const void *route, size_t route_len, const struct wire *w,
                   const void *body, size_t len, const char *nodes);

/* --- gate.c --- */
gatesrv_t *gatesrv_create(loop_t *l, busd_t *b, struct err *err);
void gatesrv_destroy(gatesrv_t **g);
/* The answer to a request that came through the gate. */
void gatesrv_answer(gatesrv_t *g, const void *route, size_t route_len, const struct wire *w,
                    const void *body, size_t len);
/* An event, for those who subscribed. */
void gatesrv_event(gatesrv_t *g, const struct wire *w, const void *body, size_t len);
/* busd.subscribe: 0, or -1 and *err. */
int gatesrv_subscribe(gatesrv_t *g, const void *route, size_t route_len, const char *prefix,
                      struct err *err);

#define ROUTE_IPC 'I'
#define ROUTE_TCP 'T'
#define ROUTE_GATE 'G'

#endif
