/* svc.h - a service: a table of methods, calls to others, events
 *
 * One thread, one loop. A handler returns a value or an error and the loop
 * answers, so none can forget to; one that needs time returns SVC_LATER and
 * answers once through svc_answer() or svc_fail(). Handlers never block.
 *
 * Retries: the answer to a request whose method changes something
 * (SVC_CHANGES) is kept for a while and given again when the same id comes
 * again; while it is still being worked on, the repeated request is joined to
 * the first. So handlers act once for each id.
 */
#ifndef BUS_SVC_H
#define BUS_SVC_H
#include <stdbool.h>
#include "bus/err.h"
#include "bus/loop.h"
#include "bus/mp.h"
#include "bus/wire.h"

typedef struct svc svc_t;
typedef struct svc_token svc_token; /* a request to be answered later */

enum svc_role { /* least role that may call, checked before the handler */
    SVC_USER,   /* anybody on the master; nodes and services too */
    SVC_NODE,   /* an accepted node's agent (w.node >= 0), or root */
    SVC_ADMIN,  /* root or the cluster's own user, on the master */
    SVC_JOIN,   /* strangers too: only nodemgr.join */
};
#define SVC_CHANGES 0x100 /* or'ed to the role: answer once, see above */

struct svc_req {
    const struct wire *w;       /* who asks, topic, deadline */
    const msgpack_object *body; /* valid until the handler returns */
    mp_buf *reply;              /* pack exactly one value here */
    svc_token *token;           /* for SVC_LATER */
};

#define SVC_LATER 1
/* 0: one value is packed in req->reply. -1: *err is the answer. SVC_LATER. */
typedef int svc_fn(void *self, struct svc_req *req, struct err *err);

struct svc_method {
    const char *topic; /* whole topic, "nodemgr.list"; for agents "node.*.launch" */
    svc_fn *fn;
    int role;
};
#define SVC_METHODS_END { NULL, NULL, 0 }

/* A service on the master: connects to RUN/bus, registers as name. */
svc_t *svc_create(loop_t *l, const char *name, const struct svc_method *methods,
                  void *self, struct err *err);
/* An agent: over tcp with CURVE. Keys are Z85 text (40 characters). */
struct svc_curve {
    const char *endpoint; /* tcp://ADDRESS:PORT */
    const char *server_key, *public_key, *secret_key;
};
svc_t *svc_create_agent(loop_t *l, const struct svc_curve *c,
                        const struct svc_method *methods, void *self,
                        struct err *err);
void svc_destroy(svc_t **s);

/* Called each time the bus has (re)connected and noted our name and what we
 * follow: what is asked from here on misses no change that an event tells. */
void svc_on_connect(svc_t *s, loop_fn *fn, void *arg);

void svc_answer(svc_t *s, svc_token *t, const mp_buf *value); /* frees t */
void svc_fail(svc_t *s, svc_token *t, const struct err *err); /* frees t */
const struct wire *svc_token_wire(const svc_token *t);

/* Ask another service. cb is called exactly once: value, or NULL and *err.
 * Sent again by itself (same id) after a bus restart, until timeout_ms. */
typedef void svc_reply_fn(void *arg, const msgpack_object *value,
                          const struct err *err);
void svc_call(svc_t *s, const char *topic, const mp_buf *body, int timeout_ms,
              svc_reply_fn *cb, void *arg);

/* Ask agents: each(node) once for every node of the list, then done once.
 * A node that is not connected answers BE_NODEDOWN at once; one that does not
 * answer in time gives ETIMEDOUT. */
typedef void svc_each_fn(void *arg, int node, const msgpack_object *value,
                         const struct err *err);
void svc_call_nodes(svc_t *s, const int *nodes, int n, const char *verb,
                    const mp_buf *body, int timeout_ms, svc_each_fn *each,
                    loop_fn *done, void *arg);

/* Publish an event: topic, one payload map. Never blocks. */
void svc_publish(svc_t *s, const char *topic, const mp_buf *body);
/* Follow events whose topic begins with prefix. They come in the order in which
 * busd got them, between the answers of the services that publish them. */
typedef void svc_event_fn(void *arg, const struct wire *w,
                          const msgpack_object *body);
int svc_follow(svc_t *s, const char *prefix, svc_event_fn *fn, void *arg,
               struct err *err);

/* Tell the supervisor that we are ready: a newline on fd, then close. fd -1: no. */
void svc_ready(int fd);
/* The value of --ready-fd. False: it is none, and program has said so on stderr. */
bool svc_ready_fd(const char *program, const char *text, int *fd);

/* Log one line to stderr, "LEVEL text" (the supervisor adds the time). */
void svc_log(const char *level, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
