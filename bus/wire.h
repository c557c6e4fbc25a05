/* wire.h - the envelope in front of every payload (doc/wire.md) */
#ifndef BUS_WIRE_H
#define BUS_WIRE_H
#include <stddef.h>
#include <stdint.h>
#include "bus/err.h"
#include "bus/mp.h"

#define WIRE_VERSION 1
#define WIRE_TOPIC_MAX 120
#define WIRE_ENVELOPE_MAX 4096 /* bytes; ours has less than 400 */

enum wire_kind {
    WIRE_REQUEST = 1,
    WIRE_REPLY = 2,
    WIRE_ERROR = 3, /* payload [code, text] */
    WIRE_EVENT = 4, /* envelope: id = sequence, deadline = wall ms, from = service */
    WIRE_HELLO = 5, /* service -> busd: topic = its name; busd -> service: noted */
    WIRE_PUBLISH = 6, /* service -> busd: please send this event */
};

struct wire {
    int version;
    int kind;
    char topic[WIRE_TOPIC_MAX + 1];
    uint64_t id;       /* request id chosen by the asker, random; event: sequence */
    int64_t deadline;  /* ms the asker still waits; event: wall clock ms */
    int64_t uid, gid, pid; /* stamped by busd; -1 = not a local process */
    int64_t node;      /* stamped by busd; -1 = the master; -2 = a stranger */
    char from[64];     /* event: service name; stranger: its CURVE key (Z85) */
    char addr[64];     /* tcp peer's address, stamped by busd; else "" */
};

/* Append the envelope as one msgpack array. */
void wire_pack(mp_buf *m, const struct wire *w);
/* Decode an envelope at p; *used says where the payload begins.
 * Hostile input safe. -1: EPROTO. */
int wire_unpack(struct wire *w, const void *p, size_t len, size_t *used,
                struct err *err);

#endif
