/* gate.c - the thread-free client: requests and events over RUN/gate */
#include "bus/gate.h"
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include "bus/loop.h"
#include "bus/rundir.h"

#define RETRY_MS 50      /* between looks for a gate or a service that is away */
#define RESEND_MS 1000 /* a request without an answer is sent again */
#define NOTICE_MS 2000   /* then a person at a terminal is told what is waited for */
#define MAX_PREFIXES 8

struct gate {
    int sock;
    char *program;
    char *path;
    char *prefix[MAX_PREFIXES];
    int prefixes;
    bool told;
};

static uint64_t fresh_id(void)
{
    uint64_t id = 0;
    while (!id)
        if (getrandom(&id, sizeof id, 0) != sizeof id)
            id = (uint64_t)now_ms() << 20 ^ (uint64_t)getpid();
    return id >> 1;
}

static void nap(int ms) { poll(NULL, 0, ms); }

static int no_cluster(const gate_t *g, struct err *err)
{
    return err_set(err, ECONNREFUSED,
                   "no cluster answers at %s: start one (clustermatic up), or set "
                   "CM_RUNDIR to the one that runs",
                   g->path);
}

/* Not connected yet. */
static gate_t *make(const char *program, const char *dir, struct err *err)
{
    char path[PATH_MAX];
    gate_t *g = calloc(1, sizeof *g);

    if (g)
        g->sock = -1;
    snprintf(path, sizeof path, "%s/gate", dir);
    if (!g || (program && !(g->program = strdup(program))) || !(g->path = strdup(path))) {
        err_set(err, ENOMEM, "out of memory");
        gate_close(&g);
    }
    return g;
}

static gate_t *open_at(const char *program, const char *dir, struct err *err)
{
    gate_t *g = make(program, dir, err);

    if (!g)
        return NULL;
    g->sock = pkt_connect(g->path, NULL);
    if (g->sock < 0) {
        /* The folder is there: busd may just be restarting. */
        if (access(dir, F_OK) < 0 || gate_reopen(g, 5000, NULL) < 0) {
            no_cluster(g, err);
            gate_close(&g);
        }
    }
    return g;
}

gate_t *gate_open(const char *program, struct err *err)
{
    return open_at(program, cm_rundir(), err);
}

gate_t *gate_open_at(const char *dir, struct err *err)
{
    return open_at(NULL, dir ? dir : cm_rundir(), err);
}

gate_t *gate_open_within(const char *dir, int timeout_ms, struct err *err)
{
    gate_t *g = make(NULL, dir ? dir : cm_rundir(), err);

    if (g && (g->sock = pkt_connect_within(g->path, timeout_ms, err)) < 0)
        gate_close(&g);
    return g;
}

gate_t *gate_adopt(int sock, struct err *err)
{
    gate_t *g = make(NULL, "", err);

    if (g)
        g->sock = sock;
    else
        close(sock);
    return g;
}

void gate_close(gate_t **gp)
{
    gate_t *g = *gp;

    if (!g)
        return;
    if (g->sock >= 0)
        close(g->sock);
    for (int i = 0; i < g->prefixes; i++)
        free(g->prefix[i]);
    free(g->program);
    free(g->path);
    free(g);
    *gp = NULL;
}

int gate_fd(gate_t *g) { return g->sock; }

static void notice(gate_t *g, const char *what)
{
    if (g->program && !g->told && isatty(STDERR_FILENO))
        fprintf(stderr, "%s: waiting for %s\n", g->program, what);
    g->told = true;
}

static int subscribe(gate_t *g, const char *prefix, struct err *err)
{
    CLEANUP(mp_free) mp_buf body;
    uint64_t id = 0;

    mp_init(&body);
    mp_map(&body, 1);
    mp_kstr(&body, "prefix", prefix);
    return gate_send(g, "busd.subscribe", &body, 5000, &id, err);
}

int gate_reopen(gate_t *g, int timeout_ms, struct err *err)
{
    int64_t start = now_ms();

    if (g->sock >= 0)
        close(g->sock);
    g->sock = -1;
    while ((g->sock = pkt_connect(g->path, NULL)) < 0) {
        int64_t spent = now_ms() - start;
        if (spent >= timeout_ms)
            return no_cluster(g, err);
        if (spent >= NOTICE_MS)
            notice(g, "the bus (busd)");
        nap(RETRY_MS);
    }
    for (int i = 0; i < g->prefixes; i++)
        if (subscribe(g, g->prefix[i], err) < 0)
            return -1;
    return 0;
}

int gate_send(gate_t *g, const char *topic, const mp_buf *body, int timeout_ms,
              uint64_t *id, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    struct wire w = { .kind = WIRE_REQUEST, .deadline = timeout_ms, .uid = -1, .gid = -1,
                      .pid = -1, .node = -1 };

    mp_init(&m);
    if (strlen(topic) > WIRE_TOPIC_MAX)
        return err_set(err, EINVAL, "%s: topic is too long", topic);
    snprintf(w.topic, sizeof w.topic, "%s", topic);
    if (!*id)
        *id = fresh_id();
    w.id = *id;
    wire_pack(&m, &w);
    if (body)
        msgpack_sbuffer_write(&m.b, body->b.data, body->b.size);
    else
        mp_nil(&m);
    if (g->sock < 0)
        return err_set(err, EPIPE, "the gate is closed");
    return pkt_send(g->sock, m.b.data, m.b.size, NULL, 0, err);
}

int gate_recv(gate_t *g, int timeout_ms, struct gate_msg *msg, struct err *err)
{
    size_t used;
    struct pollfd p = { .fd = g->sock, .events = POLLIN };
    int64_t end = now_ms() + timeout_ms;

    memset(msg, 0, sizeof *msg);
    if (g->sock < 0)
        return err_set(err, EPIPE, "the gate is closed");
    for (;;) {
        int64_t left = timeout_ms < 0 ? -1 : end - now_ms();
        int n = poll(&p, 1, timeout_ms < 0 ? -1 : left < 0 ? 0 : (int)left);
        if (n == 0)
            return 0;
        if (n > 0)
            break;
        if (errno != EINTR)
            return err_set(err, errno, "poll: %s", strerror(errno));
        if (timeout_ms < 0)
            return 0; /* a signal: let the caller look */
    }
    int n = pkt_recv(g->sock, &msg->pkt, err);
    if (n == 0)
        return err_set(err, EPIPE, "the bus closed the connection");
    if (n < 0)
        return -1;
    msgpack_unpacked_init(&msg->u);
    if (wire_unpack(&msg->w, msg->pkt.data, msg->pkt.len, &used, err) < 0 ||
        mp_decode(&msg->u, msg->pkt.data + used, msg->pkt.len - used, err) < 0) {
        gate_msg_clear(msg);
        return -1;
    }
    return 1;
}

void gate_msg_clear(struct gate_msg *m)
{
    msgpack_unpacked_destroy(&m->u);
    pkt_clear(&m->pkt);
}

/* The service's own error out of an error reply. */
static int service_error(const msgpack_object *o, struct err *err)
{
    int64_t code;

    if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 2 ||
        !mp_as_int(&o->via.array.ptr[0], &code) || code <= 0 || code > 100000)
        return err_set(err, EPROTO, "the answer was not understood");
    CLEANUP(cleanup_free) char *text = mp_dup(&o->via.array.ptr[1]);
    return err_set(err, (int)code, "%s", text ? text : err_name((int)code));
}

/* Copy a reply's value so that it lives without its packet. */
static int keep_value(const struct gate_msg *m, msgpack_unpacked *reply, struct err *err)
{
    CLEANUP(mp_free) mp_buf copy;
    size_t off = 0;

    mp_init(&copy);
    mp_obj(&copy, &m->u.data);
    msgpack_unpacked_init(reply);
    reply->zone = msgpack_zone_new(copy.b.size + 64);
    char *p = reply->zone ? msgpack_zone_malloc(reply->zone, copy.b.size) : NULL;
    if (!p)
        return err_set(err, ENOMEM, "out of memory");
    memcpy(p, copy.b.data, copy.b.size);
    if (msgpack_unpack(p, copy.b.size, &off, reply->zone, &reply->data) < 0)
        return err_set(err, EPROTO, "the answer was not understood");
    return 0;
}

int gate_answer(const struct gate_msg *m, msgpack_unpacked *reply, struct err *err)
{
    return m->w.kind == WIRE_REPLY ? keep_value(m, reply, err) : service_error(&m->u.data, err);
}

static void service_of(const char *topic, char *out, size_t room)
{
    snprintf(out, room, "%.*s", (int)strcspn(topic, "."), topic);
}

int gate_call(gate_t *g, const char *topic, const mp_buf *body, int timeout_ms,
              msgpack_unpacked *reply, struct err *err)
{
    int64_t start = now_ms(), end = start + timeout_ms, sent_at = 0;
    uint64_t id = 0;
    bool sent = false;
    char service[WIRE_TOPIC_MAX + 1];
    struct err why = { 0 };

    service_of(topic, service, sizeof service);
    for (;;) {
        int64_t left = end - now_ms();
        if (left <= 0)
            return err_set(err, ETIMEDOUT, "%s did not answer %s within %d ms%s%s", service,
                           topic, timeout_ms, why.code ? ": " : "", why.text);
        if (!sent) {
            if (g->sock < 0 && gate_reopen(g, (int)left, err) < 0)
                return -1;
            if (gate_send(g, topic, body, (int)(end - now_ms()), &id, &why) < 0) {
                if (why.code == EMSGSIZE)
                    return err_set(err, why.code, "%s: %s", topic, why.text);
                close(g->sock);
                g->sock = -1;
                continue;
            }
            sent = true;
            sent_at = now_ms();
        }
        struct gate_msg m;
        int slice = left > 500 ? 500 : (int)left;
        int n = gate_recv(g, slice, &m, &why);
        if (n < 0) { /* busd went away: again through the next one, same id */
            if (g->sock >= 0)
                close(g->sock);
            g->sock = -1;
            sent = false;
            continue;
        }
        if (n == 0) {
            if (now_ms() - start >= NOTICE_MS)
                notice(g, service);
            /* It may have died with our request: the same id is no second one. */
            sent = now_ms() - sent_at < RESEND_MS;
            continue;
        }
        bool ours = m.w.id == id && (m.w.kind == WIRE_REPLY || m.w.kind == WIRE_ERROR);
        if (ours && m.w.kind == WIRE_REPLY) {
            int rc = keep_value(&m, reply, err);
            if (rc < 0)
                msgpack_unpacked_destroy(reply);
            gate_msg_clear(&m);
            return rc;
        }
        if (ours) {
            service_error(&m.u.data, &why);
            gate_msg_clear(&m);
            /* ECONNREFUSED is busd's word that the service is not running:
             * it is being restarted, so ask again for a few seconds. */
            if (why.code != ECONNREFUSED || now_ms() - start > 5000)
                return err_set(err, why.code, "%s", why.text);
            if (now_ms() - start >= NOTICE_MS)
                notice(g, service);
            nap(RETRY_MS);
            sent = false;
            continue;
        }
        gate_msg_clear(&m);
    }
}

int gate_subscribe(gate_t *g, const char *prefix, struct err *err)
{
    if (g->prefixes == MAX_PREFIXES)
        return err_set(err, ENOSPC, "no more than %d event prefixes a connection",
                       MAX_PREFIXES);
    char *copy = strdup(prefix);
    if (!copy)
        return err_set(err, ENOMEM, "out of memory");
    g->prefix[g->prefixes++] = copy;
    return subscribe(g, prefix, err);
}
