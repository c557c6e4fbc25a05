/* calls.c - requests over the gate, answered while the loop goes on */
#include "clients/common/calls.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MS 50      /* between looks for a bus or a service that is away */
#define ABSENT_MS 5000   /* a service may take this long to be restarted */
#define RESEND_FIRST_MS 1000 /* a service may have died with the request: it is */
#define RESEND_LAST_MS 8000  /* sent again, which under the same id does no harm */

struct call {
    struct call *next;
    calls_t *calls;
    uint64_t id;
    char topic[WIRE_TOPIC_MAX + 1];
    mp_buf body;
    int64_t began, deadline;
    int timer; /* the deadline */
    int again; /* another try is due */
    int resend_ms;
    int64_t refused_first, refused_last; /* busd: not running */
    calls_fn *cb;
    void *arg;
};

struct calls {
    loop_t *loop;
    gate_t *gate;
    int fd;    /* as watched; -1: the gate is lost */
    int timer; /* the next try to reopen it */
    struct call *first;
};

static void on_gate(void *arg, int fd, uint32_t events);
static void on_reopen(void *arg);

static void call_free(struct call *k)
{
    loop_timer_del(k->calls->loop, k->timer);
    loop_timer_del(k->calls->loop, k->again);
    mp_free(&k->body);
    free(k);
}

/* Take it off the list, tell the asker, and forget it. */
static void call_end(struct call *k, const msgpack_object *value, const struct err *err)
{
    struct call **p = &k->calls->first;

    while (*p != k)
        p = &(*p)->next;
    *p = k->next;
    if (k->cb)
        k->cb(k->arg, value, err);
    call_free(k);
}

static void gate_lost(calls_t *c)
{
    if (c->fd >= 0)
        loop_fd_del(c->loop, c->fd);
    c->fd = -1;
    if (!c->timer)
        c->timer = loop_timer(c->loop, RETRY_MS, false, on_reopen, c);
}

static void on_again(void *arg);

static void again_in(struct call *k, int ms)
{
    loop_timer_del(k->calls->loop, k->again);
    k->again = loop_timer(k->calls->loop, ms, false, on_again, k);
}

static void call_send(struct call *k)
{
    struct err err = { 0 };
    int64_t left = k->deadline - now_ms();

    if (k->calls->fd < 0 || left <= 0)
        return; /* on_reopen() or the deadline sees to it */
    if (gate_send(k->calls->gate, k->topic, &k->body, (int)left, &k->id, &err) == 0) {
        again_in(k, k->resend_ms);
        if ((k->resend_ms *= 2) > RESEND_LAST_MS)
            k->resend_ms = RESEND_LAST_MS;
        return;
    }
    if (err.code == EMSGSIZE) {
        err_prefix(&err, "%s", k->topic);
        call_end(k, NULL, &err);
        return;
    }
    gate_lost(k->calls);
}

static void on_again(void *arg)
{
    struct call *k = arg;

    k->again = 0;
    call_send(k);
}

static void on_deadline(void *arg)
{
    struct call *k = arg;
    struct err err = { 0 };

    k->timer = 0;
    err_set(&err, ETIMEDOUT, "%s: no answer within %lld s", k->topic,
            (long long)(k->deadline - k->began) / 1000);
    call_end(k, NULL, &err);
}

static void on_reopen(void *arg)
{
    calls_t *c = arg;

    c->timer = 0;
    if (gate_reopen(c->gate, 0, NULL) < 0 ||
        loop_fd(c->loop, gate_fd(c->gate), EPOLLIN, on_gate, c, NULL) < 0) {
        gate_lost(c);
        return;
    }
    c->fd = gate_fd(c->gate);
    for (struct call *k = c->first, *next; k; k = next) {
        next = k->next;
        call_send(k);
    }
}

static bool wait_for_restart(struct call *k)
{
    int64_t now = now_ms();

    if (now - k->refused_last > ABSENT_MS)
        k->refused_first = now;
    k->refused_last = now;
    if (now - k->refused_first >= ABSENT_MS)
        return false;
    again_in(k, RETRY_MS);
    k->resend_ms = RESEND_FIRST_MS;
    return true;
}

static void on_error(struct call *k, const msgpack_object *o)
{
    struct err err = { 0 };
    int64_t code;

    if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 2 ||
        !mp_as_int(&o->via.array.ptr[0], &code) || code <= 0 || code > 100000) {
        err_set(&err, EPROTO, "%s: the answer was not understood", k->topic);
        call_end(k, NULL, &err);
        return;
    }
    /* busd's word that the service is not running: it is being restarted. */
    if (code == ECONNREFUSED && wait_for_restart(k))
        return;
    CLEANUP(cleanup_free) char *text = mp_dup(&o->via.array.ptr[1]);
    err_set(&err, (int)code, "%s", text ? text : err_name((int)code));
    call_end(k, NULL, &err);
}

static void take(calls_t *c, struct gate_msg *m)
{
    if (m->w.kind != WIRE_REPLY && m->w.kind != WIRE_ERROR)
        return;
    for (struct call *k = c->first; k; k = k->next) {
        if (k->id != m->w.id)
            continue;
        if (m->w.kind == WIRE_REPLY)
            call_end(k, &m->u.data, NULL);
        else
            on_error(k, &m->u.data);
        return;
    }
}

static void on_gate(void *arg, int fd, uint32_t events)
{
    calls_t *c = arg;
    struct gate_msg m;

    (void)fd, (void)events;
    int n = gate_recv(c->gate, 0, &m, NULL);
    if (n < 0) {
        gate_lost(c);
    } else if (n > 0) {
        take(c, &m);
        gate_msg_clear(&m);
    }
}

calls_t *calls_create(loop_t *l, gate_t *g, struct err *err)
{
    calls_t *c = calloc(1, sizeof *c);

    if (!c) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    *c = (calls_t){ .loop = l, .gate = g, .fd = gate_fd(g) };
    if (c->fd >= 0 && loop_fd(l, c->fd, EPOLLIN, on_gate, c, err) < 0) {
        free(c);
        return NULL;
    }
    if (c->fd < 0)
        gate_lost(c);
    return c;
}

void calls_destroy(calls_t **cp)
{
    calls_t *c = *cp;

    if (!c)
        return;
    while (c->first) {
        struct call *k = c->first;
        c->first = k->next;
        call_free(k);
    }
    loop_timer_del(c->loop, c->timer);
    if (c->fd >= 0)
        loop_fd_del(c->loop, c->fd);
    gate_close(&c->gate);
    free(c);
    *cp = NULL;
}

int calls_start(calls_t *c, const char *topic, const mp_buf *body, int timeout_ms,
                calls_fn *cb, void *arg, struct err *err)
{
    struct call *k = calloc(1, sizeof *k);

    if (!k)
        return err_set(err, ENOMEM, "out of memory");
    k->calls = c;
    snprintf(k->topic, sizeof k->topic, "%s", topic);
    mp_init(&k->body);
    msgpack_sbuffer_write(&k->body.b, body->b.data, body->b.size);
    k->began = now_ms();
    k->deadline = k->began + timeout_ms;
    k->timer = loop_timer(c->loop, timeout_ms, false, on_deadline, k);
    k->resend_ms = RESEND_FIRST_MS;
    k->cb = cb;
    k->arg = arg;
    k->next = c->first;
    c->first = k;
    call_send(k);
    return 0;
}
