/* svc.c - a service: its socket, requests in, calls out, events
 *
 * The DEALER socket carries everything. What arrives with a non-empty route is
 * a request to us; what arrives with an empty one is the answer to a call of
 * ours, or busd's word that it has noted our name.
 */
#include "bus/svc.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <zmq.h>
#include "bus/nodespec.h"
#include "bus/rundir.h"
#include "bus/zloop.h"

#define HELLO_MS 1000      /* how often a service says that it is there */
#define RESEND_MS 1000     /* a call without an answer is sent again */
#define AWAY_MS 100        /* ... sooner to a service that was not there yet */
#define KEEP_ANSWERS 4096  /* answers to SVC_CHANGES requests that are kept ... */
#define KEEP_MS 60000      /* ... for this long */
#define BUCKETS 1024
#define ANSWER_MAX (60u << 20) /* busd takes 64 MiB, and drops whoever sends more */

struct route {
    unsigned char *data;
    size_t len;
    struct route *next;
};

struct svc_token { /* one request that is being worked on */
    struct wire w;
    struct route *routes; /* whoever asks under this id, first and repeated */
    struct answer *keep;
};

struct answer { /* of a SVC_CHANGES request, by id and asker */
    uint64_t id;
    int64_t uid, node;
    svc_token *running; /* not answered yet */
    char *data;         /* envelope-less: kind byte + payload */
    size_t len;
    int kind;
    int64_t at;
    struct answer *next; /* in its bucket */
};

struct call { /* of ours, to one service or to many agents */
    uint64_t id;
    int64_t end, last_sent;
    uint64_t sent_to; /* bus_id of the busd that it was last sent to */
    char topic[WIRE_TOPIC_MAX + 1];
    mp_buf body;
    svc_reply_fn *cb;
    svc_each_fn *each;
    loop_fn *done;
    void *arg;
    nodelist_t missing; /* agents that have not answered */
    struct call *next;
};

struct follow {
    char *prefix;
    svc_event_fn *fn;
    void *arg;
    struct follow *next;
};

struct svc {
    loop_t *loop;
    char name[64];
    bool agent;
    void *dealer;
    const struct svc_method *methods;
    void *self;
    struct call *calls[BUCKETS];
    size_t ncalls;
    struct answer *answers[BUCKETS];
    struct answer *order[KEEP_ANSWERS]; /* ring, oldest first */
    size_t order_head, order_n;
    struct follow *follows;
    uint64_t event_seq, bus_id;
    loop_fn *on_connect;
    void *on_connect_arg;
    int hello_timer, sweep_timer;
};

static uint64_t fresh_id(void)
{
    uint64_t id = 0;
    while (!id)
        if (getrandom(&id, sizeof id, 0) != sizeof id)
            abort();
    return id >> 1;
}

/* --- sending --- */

static void send_frames(svc_t *s, const struct route *route, const struct wire *w,
                        const void *body, size_t len, const char *third)
{
    CLEANUP(mp_free) mp_buf env;
    int more = third ? ZMQ_SNDMORE : 0;

    mp_init(&env);
    wire_pack(&env, w);
    if (route && zmq_send(s->dealer, route->data, route->len, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0)
        goto lost;
    if (zmq_send(s->dealer, env.b.data, env.b.size, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
        zmq_send(s->dealer, body, len, more | ZMQ_DONTWAIT) < 0)
        goto lost;
    if (third && zmq_send(s->dealer, third, strlen(third), ZMQ_DONTWAIT) < 0)
        goto lost;
    return;
lost: /* the queue to a bus that is away is full: the call is sent again later */
    if (errno != EAGAIN)
        svc_log("error", "send to the bus: %s", zmq_strerror(errno));
}

static void wire_out(struct wire *w, int kind, const char *topic, uint64_t id)
{
    memset(w, 0, sizeof *w);
    w->kind = kind;
    snprintf(w->topic, sizeof w->topic, "%s", topic);
    w->id = id;
    w->uid = w->gid = w->pid = w->node = -1;
}

/* Our name, and the events that we follow. What is asked after it is answered
 * after busd has noted both: no change can fall between answer and events. */
static void hello(void *arg)
{
    svc_t *s = arg;
    struct wire w;
    CLEANUP(mp_free) mp_buf m;
    uint32_t n = 0;

    mp_init(&m);
    for (struct follow *f = s->follows; f; f = f->next)
        n++;
    mp_array(&m, n);
    for (struct follow *f = s->follows; f; f = f->next)
        mp_str(&m, f->prefix);
    wire_out(&w, WIRE_HELLO, s->name, fresh_id());
    send_frames(s, NULL, &w, m.b.data, m.b.size, NULL);
}

/* --- answers --- */

static size_t bucket(uint64_t id) { return (id ^ id >> 20) % BUCKETS; }

static void routes_free(struct route *r)
{
    while (r) {
        struct route *next = r->next;
        free(r->data);
        free(r);
        r = next;
    }
}

static struct route *route_new(const void *data, size_t len)
{
    struct route *r = calloc(1, sizeof *r);
    if (r)
        r->data = malloc(len ? len : 1);
    if (!r || !r->data) {
        free(r);
        return NULL;
    }
    memcpy(r->data, data, len);
    r->len = len;
    return r;
}

static struct answer *answer_find(svc_t *s, const struct wire *w)
{
    for (struct answer *a = s->answers[bucket(w->id)]; a; a = a->next)
        if (a->id == w->id && a->uid == w->uid && a->node == w->node)
            return a;
    return NULL;
}

static void answer_drop_oldest(svc_t *s)
{
    struct answer *a = s->order[s->order_head];
    struct answer **p = &s->answers[bucket(a->id)];

    while (*p && *p != a)
        p = &(*p)->next;
    if (*p)
        *p = a->next;
    if (a->running)
        a->running->keep = NULL;
    s->order_head = (s->order_head + 1) % KEEP_ANSWERS;
    s->order_n--;
    free(a->data);
    free(a);
}

static struct answer *answer_add(svc_t *s, const struct wire *w)
{
    while (s->order_n && (s->order_n == KEEP_ANSWERS ||
                          (s->order[s->order_head]->at < now_ms() - KEEP_MS &&
                           !s->order[s->order_head]->running)))
        answer_drop_oldest(s);
    struct answer *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    a->id = w->id;
    a->uid = w->uid;
    a->node = w->node;
    a->at = now_ms();
    a->next = s->answers[bucket(a->id)];
    s->answers[bucket(a->id)] = a;
    s->order[(s->order_head + s->order_n++) % KEEP_ANSWERS] = a;
    return a;
}

static void finish(svc_t *s, svc_token *t, int kind, const void *data, size_t len)
{
    struct wire w;

    wire_out(&w, kind, t->w.topic, t->w.id);
    for (struct route *r = t->routes; r; r = r->next)
        send_frames(s, r, &w, data, len, NULL);
    if (t->keep) {
        t->keep->running = NULL;
        t->keep->kind = kind;
        t->keep->data = malloc(len ? len : 1);
        if (t->keep->data) {
            memcpy(t->keep->data, data, len);
            t->keep->len = len;
        }
    }
    routes_free(t->routes);
    free(t);
}

void svc_answer(svc_t *s, svc_token *t, const mp_buf *value)
{
    struct err err;

    if (value->b.size > ANSWER_MAX) {
        err_set(&err, EMSGSIZE, "the answer to %s would have %zu MB: ask for less", t->w.topic,
                value->b.size >> 20);
        svc_fail(s, t, &err);
        return;
    }
    finish(s, t, WIRE_REPLY, value->b.data, value->b.size);
}

/* "Try again" is no result: the same id is acted on when it comes again. */
static void answer_forget(svc_t *s, svc_token *t)
{
    struct answer **p;

    if (!t->keep)
        return;
    for (p = &s->answers[bucket(t->keep->id)]; *p && *p != t->keep; p = &(*p)->next)
        ;
    if (*p)
        *p = t->keep->next;
    t->keep->running = NULL; /* it leaves the ring in its turn */
    t->keep = NULL;
}

void svc_fail(svc_t *s, svc_token *t, const struct err *err)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    if (err->code == EAGAIN)
        answer_forget(s, t);
    mp_array(&m, 2);
    mp_int(&m, err->code ? err->code : EIO);
    mp_str(&m, err->text);
    finish(s, t, WIRE_ERROR, m.b.data, m.b.size);
}

const struct wire *svc_token_wire(const svc_token *t) { return &t->w; }

/* --- requests --- */

static bool topic_matches(const char *pattern, const char *topic)
{
    const char *star = strstr(pattern, ".*.");
    if (!star)
        return strcmp(pattern, topic) == 0;
    /* "node.*.verb": the middle word is the bus's business */
    const char *dot = strchr(topic, '.'), *last = strrchr(topic, '.');
    return dot && last && dot != last &&
           (size_t)(dot - topic) == (size_t)(star - pattern) &&
           strncmp(pattern, topic, (size_t)(star - pattern)) == 0 &&
           strcmp(star + 3, last + 1) == 0;
}

static bool admin(const struct wire *w)
{
    return w->node == -1 && (w->uid == 0 || w->uid == (int64_t)geteuid());
}

static int role_check(const struct wire *w, int role, struct err *err)
{
    switch (role & 0xff) {
    case SVC_JOIN:
        return 0;
    case SVC_USER:
        if (w->node >= -1)
            return 0;
        return err_set(err, EACCES, "%s: this key is not accepted as a node yet", w->topic);
    case SVC_NODE:
        if (w->node >= 0 || admin(w))
            return 0;
        return err_set(err, EACCES, "%s: only a node's agent may", w->topic);
    default:
        if (admin(w))
            return 0;
        return err_set(err, EPERM, "%s: only root may", w->topic);
    }
}

static void run(svc_t *s, const struct svc_method *m, svc_token *t, const void *body,
                size_t len)
{
    struct err err = { 0 };
    CLEANUP(mp_free) mp_buf reply;
    msgpack_unpacked u;
    int rc;

    mp_init(&reply);
    msgpack_unpacked_init(&u);
    if (!m)
        rc = err_set(&err, ENOSYS, "%s has no request %s", s->name, t->w.topic);
    else if (role_check(&t->w, m->role, &err) < 0 || mp_decode(&u, body, len, &err) < 0)
        rc = -1;
    else {
        struct svc_req req = { &t->w, &u.data, &reply, t };
        rc = m->fn(s->self, &req, &err);
    }
    msgpack_unpacked_destroy(&u);
    if (rc == SVC_LATER)
        return;
    if (rc == 0 && reply.b.size == 0)
        mp_nil(&reply);
    if (rc == 0)
        svc_answer(s, t, &reply);
    else
        svc_fail(s, t, &err);
}

static void on_request(svc_t *s, const void *route, size_t route_len, const struct wire *w,
                       const void *body, size_t len)
{
    const struct svc_method *m = s->methods;

    while (m->topic && !topic_matches(m->topic, w->topic))
        m++;
    if (!m->topic)
        m = NULL;
    struct route *r = route_new(route, route_len);
    if (!r)
        return;
    struct answer *a = NULL;
    if (m && (m->role & SVC_CHANGES)) {
        a = answer_find(s, w);
        if (a && a->running) { /* still at it: answer both when done */
            r->next = a->running->routes;
            a->running->routes = r;
            return;
        }
        if (a) {
            struct wire out;
            wire_out(&out, a->kind, w->topic, w->id);
            send_frames(s, r, &out, a->data, a->len, NULL);
            routes_free(r);
            return;
        }
        a = answer_add(s, w);
    }
    svc_token *t = calloc(1, sizeof *t);
    if (!t) {
        routes_free(r);
        return;
    }
    t->w = *w;
    t->routes = r;
    t->keep = a;
    if (a)
        a->running = t;
    run(s, m, t, body, len);
}

/* --- calls --- */

static struct call *call_find(svc_t *s, uint64_t id)
{
    struct call *c = s->calls[bucket(id)];
    while (c && c->id != id)
        c = c->next;
    return c;
}

static void call_unlink(svc_t *s, struct call *c)
{
    struct call **p = &s->calls[bucket(c->id)];
    while (*p && *p != c)
        p = &(*p)->next;
    if (*p)
        *p = c->next;
    s->ncalls--;
}

static void call_free(struct call *c)
{
    mp_free(&c->body);
    nodelist_free(&c->missing);
    free(c);
}

static void call_send(svc_t *s, struct call *c)
{
    struct wire w;

    wire_out(&w, WIRE_REQUEST, c->topic, c->id);
    c->last_sent = now_ms();
    c->sent_to = s->bus_id;
    w.deadline = c->end - c->last_sent;
    CLEANUP(cleanup_free) char *nodes = c->each ? nodelist_text(&c->missing) : NULL;
    send_frames(s, NULL, &w, c->body.b.data, c->body.b.size, nodes);
}

static struct call *call_new(svc_t *s, const char *topic, const mp_buf *body, int timeout_ms)
{
    struct call *c = calloc(1, sizeof *c);

    if (!c)
        abort();
    c->id = fresh_id();
    c->end = now_ms() + timeout_ms;
    snprintf(c->topic, sizeof c->topic, "%s", topic);
    mp_init(&c->body);
    if (body)
        msgpack_sbuffer_write(&c->body.b, body->b.data, body->b.size);
    else
        mp_nil(&c->body);
    c->next = s->calls[bucket(c->id)];
    s->calls[bucket(c->id)] = c;
    s->ncalls++;
    return c;
}

void svc_call(svc_t *s, const char *topic, const mp_buf *body, int timeout_ms,
              svc_reply_fn *cb, void *arg)
{
    struct call *c = call_new(s, topic, body, timeout_ms);

    c->cb = cb;
    c->arg = arg;
    call_send(s, c);
}

void svc_call_nodes(svc_t *s, const int *nodes, int n, const char *verb, const mp_buf *body,
                    int timeout_ms, svc_each_fn *each, loop_fn *done, void *arg)
{
    char topic[WIRE_TOPIC_MAX + 1];

    snprintf(topic, sizeof topic, "node.*.%s", verb);
    if (n == 0) {
        if (done)
            done(arg);
        return;
    }
    struct call *c = call_new(s, topic, body, timeout_ms);
    c->each = each;
    c->done = done;
    c->arg = arg;
    nodelist_init(&c->missing);
    for (int i = 0; i < n; i++)
        if (nodelist_add(&c->missing, nodes[i]) < 0)
            abort();
    call_send(s, c);
}

static void call_finish(svc_t *s, struct call *c, const msgpack_object *value,
                        const struct err *err)
{
    call_unlink(s, c);
    if (c->cb)
        c->cb(c->arg, value, err);
    call_free(c);
}

static void call_answer_node(svc_t *s, struct call *c, int64_t node,
                             const msgpack_object *value, const struct err *err)
{
    size_t i = 0;

    while (i < c->missing.n && c->missing.node[i] != node)
        i++;
    if (i == c->missing.n)
        return; /* a second answer to a request sent twice */
    memmove(c->missing.node + i, c->missing.node + i + 1,
            (c->missing.n - i - 1) * sizeof *c->missing.node);
    c->missing.n--;
    bool last = c->missing.n == 0;
    if (last)
        call_unlink(s, c);
    c->each(c->arg, (int)node, value, err);
    if (!last)
        return;
    if (c->done)
        c->done(c->arg);
    call_free(c);
}

static void on_answer(svc_t *s, const struct wire *w, const void *body, size_t len)
{
    struct call *c = call_find(s, w->id);
    struct err err = { 0 };
    msgpack_unpacked u;
    const msgpack_object *value = NULL;

    if (!c)
        return;
    msgpack_unpacked_init(&u);
    if (mp_decode(&u, body, len, &err) == 0) {
        int64_t code;
        if (w->kind == WIRE_REPLY) {
            value = &u.data;
        } else if (u.data.type == MSGPACK_OBJECT_ARRAY && u.data.via.array.size >= 2 &&
                   mp_as_int(&u.data.via.array.ptr[0], &code) && code > 0) {
            char *text = mp_dup(&u.data.via.array.ptr[1]);
            err_set(&err, (int)code, "%s", text ? text : err_name((int)code));
            free(text);
        } else {
            err_set(&err, EPROTO, "%s: the error was not understood", c->topic);
        }
    }
    /* busd's word that the service is away: it is being restarted, the sweep
     * sends the call again until its time is up. */
    bool away = !value && err.code == ECONNREFUSED && !c->each && now_ms() < c->end;
    if (c->each)
        call_answer_node(s, c, w->node, value, &err);
    else if (away)
        c->last_sent = now_ms() - RESEND_MS + AWAY_MS;
    else
        call_finish(s, c, value, &err);
    msgpack_unpacked_destroy(&u);
}

static void call_expire(svc_t *s, struct call *c)
{
    struct err err = { 0 };

    if (!c->each) {
        err_set(&err, ETIMEDOUT, "%.*s did not answer %s in time",
                (int)strcspn(c->topic, "."), c->topic, c->topic);
        call_finish(s, c, NULL, &err);
        return;
    }
    call_unlink(s, c);
    for (size_t i = 0; i < c->missing.n; i++) {
        err_set(&err, ETIMEDOUT, "node %d did not answer %s in time", c->missing.node[i],
                strrchr(c->topic, '.') + 1);
        c->each(c->arg, c->missing.node[i], NULL, &err);
    }
    if (c->done)
        c->done(c->arg);
    call_free(c);
}

static void calls_each(svc_t *s,
                       bool (*want)(const svc_t *s, const struct call *c, int64_t now),
                       void (*fn)(svc_t *s, struct call *c))
{
    int64_t now = now_ms();
    uint64_t *ids = NULL;
    size_t n = 0;

    if (!s->ncalls || !(ids = malloc(s->ncalls * sizeof *ids)))
        return;
    for (size_t b = 0; b < BUCKETS; b++)
        for (struct call *c = s->calls[b]; c; c = c->next)
            if (want(s, c, now))
                ids[n++] = c->id;
    for (size_t i = 0; i < n; i++) { /* by id: a callback may end other calls */
        struct call *c = call_find(s, ids[i]);
        if (c)
            fn(s, c);
    }
    free(ids);
}

static bool is_over(const svc_t *s, const struct call *c, int64_t now)
{
    (void)s;
    return now >= c->end;
}

static bool is_old(const svc_t *s, const struct call *c, int64_t now)
{
    (void)s;
    return now - c->last_sent >= RESEND_MS;
}

static bool is_of_old_bus(const svc_t *s, const struct call *c, int64_t now)
{
    (void)now;
    return c->sent_to != s->bus_id;
}

static void sweep(void *arg)
{
    svc_t *s = arg;
    calls_each(s, is_over, call_expire);
    calls_each(s, is_old, call_send);
}

/* --- what arrives --- */

static void on_noted(svc_t *s, const struct wire *w)
{
    if (w->id == s->bus_id)
        return; /* the busd that we know already */
    s->bus_id = w->id;
    if (s->on_connect)
        s->on_connect(s->on_connect_arg);
    calls_each(s, is_of_old_bus, call_send);
}

static void on_event(svc_t *s, const struct wire *w, const void *body, size_t len)
{
    msgpack_unpacked u;

    msgpack_unpacked_init(&u);
    if (mp_decode(&u, body, len, NULL) == 0)
        for (struct follow *f = s->follows, *next; f; f = next) {
            next = f->next;
            if (strncmp(w->topic, f->prefix, strlen(f->prefix)) == 0)
                f->fn(f->arg, w, &u.data);
        }
    msgpack_unpacked_destroy(&u);
}

static void on_dealer(void *arg)
{
    svc_t *s = arg;
    zmq_msg_t f[3];
    int n = 0, more = 1;
    size_t used;
    struct wire w;
    struct err err = { 0 };

    while (more) {
        zmq_msg_t spare, *m = n < 3 ? &f[n] : &spare;
        zmq_msg_init(m);
        if (zmq_msg_recv(m, s->dealer, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(m);
            break;
        }
        more = zmq_msg_more(m);
        if (n >= 3)
            zmq_msg_close(m);
        n++;
    }
    if (n == 3 && wire_unpack(&w, zmq_msg_data(&f[1]), zmq_msg_size(&f[1]), &used, &err) == 0) {
        void *body = zmq_msg_data(&f[2]);
        size_t len = zmq_msg_size(&f[2]);
        if (w.kind == WIRE_REQUEST && zmq_msg_size(&f[0]))
            on_request(s, zmq_msg_data(&f[0]), zmq_msg_size(&f[0]), &w, body, len);
        else if (w.kind == WIRE_REPLY || w.kind == WIRE_ERROR)
            on_answer(s, &w, body, len);
        else if (w.kind == WIRE_HELLO)
            on_noted(s, &w);
        else if (w.kind == WIRE_EVENT)
            on_event(s, &w, body, len);
    } else if (n) {
        svc_log("warning", "dropped a message of %d frames: %s", n,
                err.code ? err.text : "want 3");
    }
    for (int i = 0; i < n && i < 3; i++)
        zmq_msg_close(&f[i]);
}

void svc_publish(svc_t *s, const char *topic, const mp_buf *body)
{
    struct wire w;

    wire_out(&w, WIRE_PUBLISH, topic, s->event_seq++);
    w.deadline = wall_ms();
    send_frames(s, NULL, &w, body->b.data, body->b.size, NULL);
}

int svc_follow(svc_t *s, const char *prefix, svc_event_fn *fn, void *arg, struct err *err)
{
    struct follow *f = calloc(1, sizeof *f);

    if (!f || !(f->prefix = strdup(prefix))) {
        free(f);
        return err_set(err, ENOMEM, "out of memory");
    }
    f->fn = fn;
    f->arg = arg;
    f->next = s->follows;
    s->follows = f;
    hello(s);
    return 0;
}

void svc_on_connect(svc_t *s, loop_fn *fn, void *arg)
{
    s->on_connect = fn;
    s->on_connect_arg = arg;
}

/* --- life --- */

static svc_t *create(loop_t *l, const char *name, const struct svc_method *methods,
                     void *self, const struct svc_curve *curve, const char *endpoint,
                     struct err *err)
{
    int zero = 0, ivl = curve ? 100 : 20, ivl_max = curve ? 1000 : 100, hwm = 100000;
    int beat = 2000, beat_timeout = 6000, connect_ms = 3000;
    svc_t *s = calloc(1, sizeof *s);

    if (!s) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    s->loop = l;
    s->methods = methods;
    s->self = self;
    s->agent = curve != NULL;
    s->event_seq = (uint64_t)wall_ms() * 1000; /* a restart shows as a gap */
    snprintf(s->name, sizeof s->name, "%s", name);
    s->dealer = zmq_socket(zloop_context(), ZMQ_DEALER);
    if (!s->dealer) {
        err_set(err, errno, "ZeroMQ: %s", zmq_strerror(errno));
        svc_destroy(&s);
        return NULL;
    }
    zmq_setsockopt(s->dealer, ZMQ_LINGER, &zero, sizeof zero);
    zmq_setsockopt(s->dealer, ZMQ_RECONNECT_IVL, &ivl, sizeof ivl);
    zmq_setsockopt(s->dealer, ZMQ_RECONNECT_IVL_MAX, &ivl_max, sizeof ivl_max);
    zmq_setsockopt(s->dealer, ZMQ_SNDHWM, &hwm, sizeof hwm);
    zmq_setsockopt(s->dealer, ZMQ_RCVHWM, &hwm, sizeof hwm);
    if (curve) {
        zmq_setsockopt(s->dealer, ZMQ_CURVE_SERVERKEY, curve->server_key, 40);
        zmq_setsockopt(s->dealer, ZMQ_CURVE_PUBLICKEY, curve->public_key, 40);
        zmq_setsockopt(s->dealer, ZMQ_CURVE_SECRETKEY, curve->secret_key, 40);
        zmq_setsockopt(s->dealer, ZMQ_HEARTBEAT_IVL, &beat, sizeof beat);
        zmq_setsockopt(s->dealer, ZMQ_HEARTBEAT_TIMEOUT, &beat_timeout, sizeof beat_timeout);
        zmq_setsockopt(s->dealer, ZMQ_CONNECT_TIMEOUT, &connect_ms, sizeof connect_ms);
    }
    if (zmq_connect(s->dealer, endpoint) < 0) {
        err_set(err, errno, "connect to %s: %s", endpoint, zmq_strerror(errno));
        svc_destroy(&s);
        return NULL;
    }
    if (zloop_add(l, s->dealer, on_dealer, s, err) < 0) {
        svc_destroy(&s);
        return NULL;
    }
    hello(s);
    s->hello_timer = loop_timer(l, HELLO_MS, true, hello, s);
    s->sweep_timer = loop_timer(l, RESEND_MS / 4, true, sweep, s);
    return s;
}

svc_t *svc_create(loop_t *l, const char *name, const struct svc_method *methods,
                  void *self, struct err *err)
{
    char endpoint[PATH_MAX + 8];
    snprintf(endpoint, sizeof endpoint, "ipc://%s/bus", cm_rundir());
    return create(l, name, methods, self, NULL, endpoint, err);
}

svc_t *svc_create_agent(loop_t *l, const struct svc_curve *c,
                        const struct svc_method *methods, void *self, struct err *err)
{
    return create(l, "agent", methods, self, c, c->endpoint, err);
}

void svc_destroy(svc_t **sp)
{
    svc_t *s = *sp;

    if (!s)
        return;
    loop_timer_del(s->loop, s->hello_timer);
    loop_timer_del(s->loop, s->sweep_timer);
    if (s->dealer) {
        zloop_del(s->loop, s->dealer);
        zmq_close(s->dealer);
    }
    for (size_t b = 0; b < BUCKETS; b++)
        while (s->calls[b]) {
            struct call *c = s->calls[b];
            s->calls[b] = c->next;
            call_free(c);
        }
    while (s->order_n)
        answer_drop_oldest(s);
    while (s->follows) {
        struct follow *f = s->follows;
        s->follows = f->next;
        free(f->prefix);
        free(f);
    }
    free(s);
    *sp = NULL;
}
