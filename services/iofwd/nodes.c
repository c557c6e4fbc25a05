/* nodes.c - the agents' side: one ROUTER socket, CURVE, and who is where
 *
 * A node is known by its key, whatever connection it comes over; the newest
 * connection that said HELLO is the one we answer on. What an older one still
 * carries is not looked at: OPEN on the new one has started all streams again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bus/nodespec.h"
#include "bus/rundir.h"
#include "bus/zloop.h"
#include "services/iofwd/iofwd.h"

#define ROUTE_MAX 32
#define BEAT_MS 2000        /* a connection is tried this often ... */
#define BEAT_TIMEOUT_MS 8000 /* ... and given up after that silence */
#define RECEIVE_QUEUE 64    /* messages of one agent */
#define SPACE_MAX 64

struct node {
    int node;
    size_t route_len; /* 0: not connected */
    unsigned char route[ROUTE_MAX];
    char space[SPACE_MAX];
    char lost[SPACE_MAX]; /* was given up: never comes back */
};

struct nodes {
    struct iofwd *io;
    void *router;
    char endpoint[64]; /* bound to; "" none */
    struct node *node; /* ascending by number */
    size_t n, room;
};

static struct node *find(const nodes_t *ns, int node)
{
    return node_row(ns->node, ns->n, sizeof *ns->node, node);
}

static struct node *add(nodes_t *ns, int node)
{
    size_t at = 0;

    if (ns->n == ns->room) {
        size_t room = ns->room ? ns->room * 2 : 64;
        struct node *p = realloc(ns->node, room * sizeof *p);
        if (!p)
            return NULL;
        ns->node = p;
        ns->room = room;
    }
    while (at < ns->n && ns->node[at].node < node)
        at++;
    memmove(ns->node + at + 1, ns->node + at, (ns->n - at) * sizeof *ns->node);
    ns->n++;
    ns->node[at] = (struct node){ .node = node };
    return &ns->node[at];
}

bool nodes_connected(const nodes_t *ns, int node)
{
    const struct node *n = find(ns, node);
    return n && n->route_len;
}

const char *nodes_space(const nodes_t *ns, int node)
{
    const struct node *n = find(ns, node);
    return n ? n->space : "";
}

void nodes_lost(nodes_t *ns, int node, const char *space)
{
    struct node *n = find(ns, node);

    if (!n && !(n = add(ns, node)))
        return;
    snprintf(n->lost, sizeof n->lost, "%s", space);
    if (strcmp(n->space, space) != 0)
        return;
    n->route_len = 0;
    n->space[0] = 0;
}

/* ---- out ---- */

static int send_to(nodes_t *ns, const void *route, size_t len, const struct stream_msg *m,
                   zmq_msg_t *body)
{
    unsigned char h[STREAM_HEADER];

    stream_pack(h, m);
    if (zmq_send(ns->router, route, len, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
        zmq_send(ns->router, h, sizeof h, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
        zmq_msg_send(body, ns->router, ZMQ_DONTWAIT) < 0)
        return -1;
    return 0;
}

void nodes_send_shared(nodes_t *ns, int node, struct stream_msg *m, zmq_msg_t *body)
{
    struct node *n = find(ns, node);
    zmq_msg_t copy;

    if (!n || !n->route_len)
        return;
    m->node = 0;
    m->len = (uint32_t)zmq_msg_size(body);
    zmq_msg_init(&copy);
    if (zmq_msg_copy(&copy, body) < 0 || send_to(ns, n->route, n->route_len, m, &copy) < 0) {
        if (zmq_errno() != EHOSTUNREACH)
            svc_log("error", "send to node %d: %s", node, zmq_strerror(zmq_errno()));
        n->route_len = 0; /* gone; all streams are opened again when it is back */
    }
    zmq_msg_close(&copy);
}

void nodes_send(nodes_t *ns, int node, struct stream_msg *m, const void *body, size_t len)
{
    zmq_msg_t b;

    if (zmq_msg_init_size(&b, len) < 0) {
        svc_log("error", "send to node %d: out of memory", node);
        return;
    }
    if (len)
        memcpy(zmq_msg_data(&b), body, len);
    nodes_send_shared(ns, node, m, &b);
    zmq_msg_close(&b);
}

/* ---- in ---- */

struct in { /* one message from an agent */
    unsigned char route[ROUTE_MAX];
    size_t route_len;
    int node;
    bool probe; /* ZeroMQ's word that there is a new connection */
    struct stream_msg m;
    zmq_msg_t body;
};

static bool more(void *sock)
{
    int yes = 0;
    size_t len = sizeof yes;
    return zmq_getsockopt(sock, ZMQ_RCVMORE, &yes, &len) == 0 && yes;
}

static void drain(void *sock)
{
    zmq_msg_t m;

    while (more(sock)) {
        zmq_msg_init(&m);
        if (zmq_msg_recv(&m, sock, ZMQ_DONTWAIT) < 0)
            return;
        zmq_msg_close(&m);
    }
}

/* 1 a message that makes sense is in *in, 0 one that does not was dropped, -1
 * none there. in->body is initialized in any case. */
static int receive(nodes_t *ns, struct in *in)
{
    unsigned char h[STREAM_HEADER + 1];
    zmq_msg_t head;
    int rc;

    zmq_msg_init(&in->body);
    zmq_msg_init(&head);
    rc = zmq_recv(ns->router, in->route, sizeof in->route, ZMQ_DONTWAIT);
    if (rc < 0 || !more(ns->router))
        return rc < 0 ? -1 : 0;
    in->route_len = (size_t)rc;
    if (rc > ROUTE_MAX || zmq_msg_recv(&head, ns->router, ZMQ_DONTWAIT) < 0) {
        drain(ns->router);
        return 0;
    }
    in->node = keys_node(ns->io->keys, zmq_msg_gets(&head, "User-Id"));
    in->probe = zmq_msg_size(&head) == 0 && !more(ns->router);
    rc = in->probe;
    if (zmq_msg_size(&head) == STREAM_HEADER && more(ns->router)) {
        memcpy(h, zmq_msg_data(&head), STREAM_HEADER);
        rc = stream_unpack(&in->m, h) == 0 &&
             zmq_msg_recv(&in->body, ns->router, ZMQ_DONTWAIT) >= 0 &&
             zmq_msg_size(&in->body) == in->m.len;
    }
    zmq_msg_close(&head);
    drain(ns->router);
    return rc && in->node >= 0;
}

static void hello(nodes_t *ns, const struct in *in)
{
    struct node *n = find(ns, in->node);
    char space[SPACE_MAX] = "";
    zmq_msg_t none;

    if (in->m.len && in->m.len < SPACE_MAX)
        memcpy(space, zmq_msg_data((zmq_msg_t *)&in->body), in->m.len);
    if (!n && !(n = add(ns, in->node)))
        return;
    /* A machine on its way down is still asked who it is. What is opened on such a
     * connection would seem lost when the node's next life says hello. */
    if (space[0] && strcmp(space, n->lost) == 0)
        return;
    bool fresh = n->route_len != in->route_len ||
                 memcmp(n->route, in->route, in->route_len) != 0;
    bool other = strcmp(n->space, space) != 0;
    n->route_len = in->route_len;
    memcpy(n->route, in->route, in->route_len);
    memcpy(n->space, space, sizeof space);
    if (fresh || other)
        launches_node_here(ns->io->launches, in->node, space, fresh);
    zmq_msg_init(&none);
    send_to(ns, in->route, in->route_len, &(struct stream_msg){ .kind = STREAM_HELLO }, &none);
    zmq_msg_close(&none);
}

/* Somebody speaks on a connection that we have not heard HELLO on. */
static void ask_who(nodes_t *ns, const struct in *in)
{
    zmq_msg_t none;

    zmq_msg_init(&none);
    send_to(ns, in->route, in->route_len,
            &(struct stream_msg){ .kind = STREAM_HELLO, .flags = STREAM_GONE }, &none);
    zmq_msg_close(&none);
}

static void on_router(void *arg)
{
    nodes_t *ns = arg;
    struct in in;

    if (receive(ns, &in) == 1) {
        const struct node *n = find(ns, in.node);
        if (in.probe)
            ask_who(ns, &in);
        else if (in.m.kind == STREAM_HELLO)
            hello(ns, &in);
        else if (n && n->route_len == in.route_len &&
                 memcmp(n->route, in.route, in.route_len) == 0) {
            launch_t *l = launches_find(ns->io->launches, in.m.launch);
            if (l)
                launch_from_node(l, in.node, &in.m, &in.body);
        }
    }
    zmq_msg_close(&in.body);
}

static bool allow(void *arg, const char *key, const char *addr)
{
    nodes_t *ns = arg;

    (void)addr;
    return keys_node(ns->io->keys, key) >= 0;
}

int nodes_listen(nodes_t *ns, uint16_t port, struct err *err)
{
    char endpoint[sizeof ns->endpoint];

    snprintf(endpoint, sizeof endpoint, "tcp://*:%u", port);
    if (strcmp(endpoint, ns->endpoint) == 0)
        return 0;
    if (zmq_bind(ns->router, endpoint) < 0)
        return err_set(err, zmq_errno(), "%s: %s", endpoint, zmq_strerror(zmq_errno()));
    if (ns->endpoint[0])
        zmq_unbind(ns->router, ns->endpoint);
    memcpy(ns->endpoint, endpoint, sizeof endpoint);
    return handover_listen(ns->io->handover, (uint16_t)(port + 1), err);
}

static int set(void *sock, int option, int value)
{
    return zmq_setsockopt(sock, option, &value, sizeof value);
}

nodes_t *nodes_create(struct iofwd *io, const char *secret_key, struct err *err)
{
    nodes_t *ns = calloc(1, sizeof *ns);

    if (!ns) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    ns->io = io;
    ns->router = zmq_socket(zloop_context(), ZMQ_ROUTER);
    /* What is sent is bounded by credit; a limit here would drop answers. */
    if (!ns->router || set(ns->router, ZMQ_CURVE_SERVER, 1) < 0 ||
        zmq_setsockopt(ns->router, ZMQ_CURVE_SECRETKEY, secret_key, 40) < 0 ||
        set(ns->router, ZMQ_ROUTER_MANDATORY, 1) < 0 || set(ns->router, ZMQ_SNDHWM, 0) < 0 ||
        set(ns->router, ZMQ_RCVHWM, RECEIVE_QUEUE) < 0 || set(ns->router, ZMQ_LINGER, 0) < 0 ||
        set(ns->router, ZMQ_HEARTBEAT_IVL, BEAT_MS) < 0 ||
        set(ns->router, ZMQ_HEARTBEAT_TIMEOUT, BEAT_TIMEOUT_MS) < 0 ||
        zmq_setsockopt(ns->router, ZMQ_MAXMSGSIZE, &(int64_t){ STREAM_BODY_MAX },
                       sizeof(int64_t)) < 0) {
        err_set(err, zmq_errno(), "ROUTER: %s", zmq_strerror(zmq_errno()));
        nodes_destroy(&ns);
        return NULL;
    }
    if (zap_start(io->loop, allow, ns, err) < 0 ||
        zloop_add(io->loop, ns->router, on_router, ns, err) < 0)
        nodes_destroy(&ns);
    return ns;
}

void nodes_destroy(nodes_t **nsp)
{
    nodes_t *ns = *nsp;

    if (!ns)
        return;
    if (ns->router) {
        zloop_del(ns->io->loop, ns->router);
        zmq_close(ns->router);
    }
    free(ns->node);
    free(ns);
    *nsp = NULL;
}
