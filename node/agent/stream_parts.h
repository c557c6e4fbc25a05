/* stream_parts.h - the stream end of the agent from the inside
 *
 *   streams.c     which streams there are, and what each message is about
 *   stream_out.c  stdout and stderr: ring to iofwd
 *   stream_in.c   stdin: iofwd to the rings of a launch
 *   stream_link.c the connection to iofwd
 *   bulk_out.c    a stream on the bulk channel
 */
#ifndef AGENT_STREAM_PARTS_H
#define AGENT_STREAM_PARTS_H
#include <zmq.h>
#include "bus/stream.h"
#include "node/agent/agent.h"
#include "node/agent/bulk_out.h"
#include "node/space.h"

#define STREAM_BUCKETS 4096
#define OFFSET_MAX (UINT64_MAX >> 2)

typedef struct stream stream_t;
typedef struct link link_t;
typedef struct stream_launch stream_launch_t;

struct stream { /* one ring */
    stream_launch_t *launch;
    uint32_t rank, slot;
    int fd;
    struct ring *ring;
    /* fd 1, 2 */
    uint64_t sent, limit;
    uint64_t taken; /* its reader has done with all before, as far as it was asked */
    bool open;      /* a reader is there */
    bool hold;      /* ... that will say from where to go on */
    bool eof_sent;
    bool queued;    /* in streams->work */
    bulk_out_t *bulk;
    stream_t *next, *next_bucket, *next_work;
};

enum { MOANED_OPEN = 1, MOANED_CLOSE = 2 };

struct saved { /* a message about a launch that has not come yet */
    struct saved *next;
    struct stream_msg m;
    unsigned char body[];
};

struct stream_launch {
    streams_t *all;
    uint64_t id;
    uint32_t uid;
    bool known; /* uid is */
    bool added; /* all its streams are here */
    bool opened;
    uint8_t moaned; /* MOANED_*: a refusal is logged once */
    stream_t *streams;
    struct saved *saved, **saved_end;
    int timer; /* while not known */
    /* stdin as iofwd was told */
    bool in_ended; /* the last ring of it was written out, to its end at in_end */
    uint64_t in_end, in_limit;
    stream_launch_t *next, *next_done;
};

struct streams {
    agent_t *a;
    link_t *link;
    stream_t *bucket[STREAM_BUCKETS];
    stream_launch_t *launch[STREAM_BUCKETS];
    stream_t *work, **work_end; /* stdout and stderr with something to send */
    stream_launch_t *done, **done_end; /* over, remembered for late questions */
    uint32_t ndone, nunknown;
    size_t saved; /* bytes */
    int bulk_done; /* eventfd of the bulk threads */
    uint32_t nbulk;
};

/* ---- streams.c ---- */
stream_t *stream_find(streams_t *s, uint64_t launch, uint32_t rank, int fd);
void stream_finish(stream_t *st); /* its ring is given back; *st is gone */
/* From the link. */
void streams_message(streams_t *s, const struct stream_msg *m, const unsigned char *body);
void streams_unlinked(streams_t *s); /* a new connection: nothing is open */

/* ---- stream_link.c ---- */
link_t *link_create(streams_t *s, struct err *err);
void link_destroy(link_t **l);
/* A short message: sent, or as soon as it can be on this connection. */
void link_say(link_t *l, const struct stream_msg *m);
/* DATA; body is taken over. -1: no room now, try again in the next turn. */
int link_data(link_t *l, struct stream_msg *m, zmq_msg_t *body);

/* ---- stream_out.c ---- */
void out_open(stream_t *st, uint64_t offset, uint64_t window);
void out_credit(stream_t *st, const struct stream_msg *m);
void out_resume(stream_t *st, const struct stream_msg *m);
void out_bulk(stream_t *st, const struct stream_msg *m, const unsigned char *body);
/* Has its reader done with all before offset? It is asked, if that is not known. */
bool out_taken(stream_t *st, uint64_t offset);
void out_changed(stream_t *st);
void out_stop_bulk(stream_t *st);
void out_send_all(streams_t *s);  /* at the end of each turn */
void out_bulk_ended(streams_t *s); /* some bulk thread has */

/* ---- stream_in.c ---- */
void in_open(stream_launch_t *l);
void in_data(stream_launch_t *l, const struct stream_msg *m, const unsigned char *body);
void in_changed(stream_t *st);
void in_end(stream_t *st); /* nothing more will come */

#endif
