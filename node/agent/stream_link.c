/* stream_link.c - the agent's connection to iofwd
 *
 * A DEALER that queues nothing while there is no connection: what was sent on
 * one that broke is started again by iofwd's OPEN on the next. ZeroMQ
 * reconnects by itself, but gives up for good where our key was refused: iofwd
 * learns of a new node a moment after the node itself. Then a new socket is
 * made, and also when iofwd has been silent for long.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bus/rundir.h"
#include "node/agent/stream_parts.h"

#define TICK_MS 1000
#define HELLO_EVERY 5      /* ticks, once answered */
#define FIRST_ANSWER_MS 3000
#define REFUSED_FIRST_MS 50 /* before the next try with a key that was refused */
#define REFUSED_LAST_MS 2000
#define SILENCE_MS 15000
#define QUEUE 64           /* messages, of up to 256 KiB */
#define WAITING_MAX 65536
#define BEAT_MS 2000
#define BEAT_TIMEOUT_MS 8000
#define RECONNECT_MS 50
#define RECONNECT_MAX_MS 1000

struct waiting { /* a short message that found the queue full */
    struct waiting *next;
    struct stream_msg m;
};

struct link {
    streams_t *s;
    void *dealer, *monitor;
    int timer, ticks;
    int refused_timer, refused_ms;
    int64_t made, heard; /* heard 0: never since made */
    struct waiting *waiting, **waiting_end;
    uint32_t nwaiting;
};

static int set(void *sock, int option, int value)
{
    return zmq_setsockopt(sock, option, &value, sizeof value);
}

static int send_two(link_t *l, const struct stream_msg *m, zmq_msg_t *body)
{
    unsigned char h[STREAM_HEADER];

    stream_pack(h, m);
    if (zmq_send(l->dealer, h, sizeof h, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
        zmq_msg_send(body, l->dealer, ZMQ_DONTWAIT) < 0)
        return -1;
    return 0;
}

static int send_short(link_t *l, const struct stream_msg *m)
{
    zmq_msg_t none;

    zmq_msg_init(&none);
    int rc = send_two(l, m, &none);
    zmq_msg_close(&none);
    return rc;
}

static void forget_waiting(link_t *l)
{
    while (l->waiting) {
        struct waiting *w = l->waiting;
        l->waiting = w->next;
        free(w);
    }
    l->waiting_end = &l->waiting;
    l->nwaiting = 0;
}

static int send_waiting(link_t *l)
{
    while (l->waiting) {
        struct waiting *w = l->waiting;
        if (send_short(l, &w->m) < 0)
            return -1;
        l->waiting = w->next;
        if (!l->waiting)
            l->waiting_end = &l->waiting;
        l->nwaiting--;
        free(w);
    }
    return 0;
}

void link_say(link_t *l, const struct stream_msg *m)
{
    if (!l->dealer || (!l->waiting && send_short(l, m) == 0))
        return;
    /* More than this only gathers without a connection, and then in vain. */
    struct waiting *w = l->nwaiting < WAITING_MAX ? malloc(sizeof *w) : NULL;
    if (!w)
        return;
    *w = (struct waiting){ NULL, *m };
    *l->waiting_end = w;
    l->waiting_end = &w->next;
    l->nwaiting++;
}

int link_data(link_t *l, struct stream_msg *m, zmq_msg_t *body)
{
    if (!l->dealer || send_waiting(l) < 0)
        return -1;
    m->len = (uint32_t)zmq_msg_size(body);
    return send_two(l, m, body);
}

static void hello(link_t *l)
{
    struct stream_msg m = { .kind = STREAM_HELLO };
    size_t len = strlen(l->s->a->space_id);
    zmq_msg_t body;

    if (zmq_msg_init_size(&body, len) < 0)
        return;
    memcpy(zmq_msg_data(&body), l->s->a->space_id, len);
    m.len = (uint32_t)len;
    send_two(l, &m, &body); /* without a connection: said again soon */
    zmq_msg_close(&body);
}

static void on_hello(link_t *l, const struct stream_msg *m)
{
    l->heard = now_ms();
    l->refused_ms = REFUSED_FIRST_MS;
    if (!(m->flags & STREAM_GONE))
        return;
    /* A connection that iofwd does not know: all streams wait for OPEN. */
    forget_waiting(l);
    streams_unlinked(l->s);
    hello(l);
}

static bool more(void *sock)
{
    int yes = 0;
    size_t len = sizeof yes;
    return zmq_getsockopt(sock, ZMQ_RCVMORE, &yes, &len) == 0 && yes;
}

static void on_dealer(void *arg)
{
    link_t *l = arg;
    struct stream_msg m;
    zmq_msg_t head, body, rest;

    zmq_msg_init(&head);
    zmq_msg_init(&body);
    bool good = zmq_msg_recv(&head, l->dealer, ZMQ_DONTWAIT) == STREAM_HEADER &&
                more(l->dealer) && zmq_msg_recv(&body, l->dealer, ZMQ_DONTWAIT) >= 0 &&
                stream_unpack(&m, zmq_msg_data(&head)) == 0 && m.len == zmq_msg_size(&body);
    while (more(l->dealer)) {
        good = false;
        zmq_msg_init(&rest);
        int rc = zmq_msg_recv(&rest, l->dealer, ZMQ_DONTWAIT);
        zmq_msg_close(&rest);
        if (rc < 0)
            break;
    }
    if (good && m.kind == STREAM_HELLO)
        on_hello(l, &m);
    else if (good)
        streams_message(l->s, &m, zmq_msg_data(&body));
    zmq_msg_close(&head);
    zmq_msg_close(&body);
}

static void unmake(link_t *l)
{
    loop_timer_del(l->s->a->loop, l->refused_timer);
    l->refused_timer = 0;
    if (l->monitor) {
        zloop_del(l->s->a->loop, l->monitor);
        zmq_close(l->monitor);
        l->monitor = NULL;
    }
    if (l->dealer) {
        zloop_del(l->s->a->loop, l->dealer);
        zmq_close(l->dealer);
        l->dealer = NULL;
    }
    forget_waiting(l);
}

static void remake(void *arg);

/* ZeroMQ's word that our key was refused: an event, then an address. */
static void on_monitor(void *arg)
{
    link_t *l = arg;
    char buf[256];

    while (zmq_recv(l->monitor, buf, sizeof buf, ZMQ_DONTWAIT) >= 0)
        if (!l->refused_timer)
            l->refused_timer =
                loop_timer(l->s->a->loop, l->refused_ms, false, remake, l);
}

static int watch_refusals(link_t *l, struct err *err)
{
    static unsigned number; /* the names of closed ones may linger */
    char name[64];

    snprintf(name, sizeof name, "inproc://stream-link-%u", ++number);
    l->monitor = zmq_socket(zloop_context(), ZMQ_PAIR);
    if (l->monitor && set(l->monitor, ZMQ_LINGER, 0) == 0 &&
        zmq_socket_monitor(l->dealer, name, ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) == 0 &&
        zmq_connect(l->monitor, name) == 0)
        return zloop_add(l->s->a->loop, l->monitor, on_monitor, l, err);
    return err_set(err, zmq_errno(), "watch a connection: %s", zmq_strerror(zmq_errno()));
}

static int make(link_t *l, struct err *err)
{
    agent_t *a = l->s->a;
    char to[sizeof a->master_addr + 64];

    way_endpoint(a, a->master_port + CM_PORT_STREAMS, false, to, sizeof to);
    l->made = now_ms();
    l->heard = 0;
    l->dealer = zmq_socket(zloop_context(), ZMQ_DEALER);
    if (l->dealer && zmq_setsockopt(l->dealer, ZMQ_CURVE_SERVERKEY, a->master_key, 40) == 0 &&
        zmq_setsockopt(l->dealer, ZMQ_CURVE_PUBLICKEY, a->keys.public_key, 40) == 0 &&
        zmq_setsockopt(l->dealer, ZMQ_CURVE_SECRETKEY, a->keys.secret_key, 40) == 0 &&
        set(l->dealer, ZMQ_IMMEDIATE, 1) == 0 && set(l->dealer, ZMQ_PROBE_ROUTER, 1) == 0 &&
        set(l->dealer, ZMQ_SNDHWM, QUEUE) == 0 && set(l->dealer, ZMQ_RCVHWM, QUEUE) == 0 &&
        set(l->dealer, ZMQ_LINGER, 0) == 0 &&
        set(l->dealer, ZMQ_HEARTBEAT_IVL, BEAT_MS) == 0 &&
        set(l->dealer, ZMQ_HEARTBEAT_TIMEOUT, BEAT_TIMEOUT_MS) == 0 &&
        set(l->dealer, ZMQ_RECONNECT_IVL, RECONNECT_MS) == 0 &&
        set(l->dealer, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS) == 0) {
        if (watch_refusals(l, err) < 0)
            return -1;
        if (zmq_connect(l->dealer, to) == 0)
            return zloop_add(a->loop, l->dealer, on_dealer, l, err);
    }
    return err_set(err, zmq_errno(), "streams at %s: %s", to, zmq_strerror(zmq_errno()));
}

static void remake(void *arg)
{
    link_t *l = arg;
    struct err err = { 0 };

    if (l->refused_timer && (l->refused_ms *= 2) > REFUSED_LAST_MS)
        l->refused_ms = REFUSED_LAST_MS;
    unmake(l);
    streams_unlinked(l->s);
    if (make(l, &err) < 0)
        svc_log("error", "%s", err.text);
}

static void on_tick(void *arg)
{
    link_t *l = arg;
    int64_t now = now_ms();

    if (l->heard ? now - l->heard > SILENCE_MS : now - l->made > FIRST_ANSWER_MS)
        remake(l);
    if (l->dealer && (!l->heard || ++l->ticks % HELLO_EVERY == 0))
        hello(l);
    if (l->dealer)
        send_waiting(l);
}

link_t *link_create(streams_t *s, struct err *err)
{
    link_t *l = calloc(1, sizeof *l);

    if (!l) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    l->s = s;
    l->refused_ms = REFUSED_FIRST_MS;
    l->waiting_end = &l->waiting;
    if (make(l, err) < 0) {
        link_destroy(&l);
        return NULL;
    }
    l->timer = loop_timer(s->a->loop, TICK_MS, true, on_tick, l);
    return l;
}

void link_destroy(link_t **lp)
{
    link_t *l = *lp;

    if (!l)
        return;
    loop_timer_del(l->s->a->loop, l->timer);
    unmake(l);
    free(l);
    *lp = NULL;
}
