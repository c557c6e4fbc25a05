/* router.c - the bus: services by name, nodes by key, events to whoever listens
 *
 * busd decides one thing only: who somebody is. Local peers are who the
 * kernel says, nodes are who their CURVE key says; the envelope is stamped
 * with that. What a caller may do is the called service's business, but for
 * acting as a service or reaching into nodes, which only root and the user
 * that busd runs as may.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>
#include "bus/busd/busd.h"
#include "bus/nodespec.h"
#include "bus/rundir.h"
#include "bus/svc.h"
#include "bus/zloop.h"

#define MAX_SERVICES 32
#define ROUTE_MAX 64
#define REBIND_MS 2000
#define FOLLOWS_MAX 16 /* event prefixes of a service */
#define STRANGER_MAX 65536 /* bytes of what somebody may say who only asks to join */

struct service {
    char name[64];
    unsigned char id[ROUTE_MAX];
    size_t id_len; /* 0: not there */
    int64_t uid, pid;
    char *follows[FOLLOWS_MAX]; /* events whose topics begin like this are sent to it */
    int nfollows;
};

struct node {
    int node;
    char key[41];
    unsigned char id[ROUTE_MAX]; /* where its last message came from */
    size_t id_len;
    struct node *next; /* in the bucket of its key */
};

struct busd {
    loop_t *loop;
    void *local, *remote, *events;
    gatesrv_t *gate;
    uint64_t instance;
    const struct busd_options *options;
    uint64_t bound, moaned; /* bits: which endpoints listen, were complained of */
    struct service service[MAX_SERVICES];
    int services;
    struct node *by_key[4096];
    struct node **by_number; /* grows; index = node number */
    size_t numbers;
};

struct inbound { /* one message as it came in */
    zmq_msg_t frame[5];
    int n;
};

/* --- sending --- */

static int send_parts(void *sock, const void *id, size_t id_len, const void *route,
                      size_t route_len, const struct wire *w, const void *body, size_t len)
{
    CLEANUP(mp_free) mp_buf env;

    mp_init(&env);
    wire_pack(&env, w);
    if (zmq_send(sock, id, id_len, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0)
        return -1; /* EHOSTUNREACH: gone; EAGAIN: does not read */
    zmq_send(sock, route, route_len, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    zmq_send(sock, env.b.data, env.b.size, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    return zmq_send(sock, body, len, ZMQ_DONTWAIT) < 0 ? -1 : 0;
}

static void answer(busd_t *b, const void *route, size_t route_len, const struct wire *w,
                   const void *body, size_t len)
{
    const unsigned char *r = route;

    if (route_len < 2)
        return;
    if (r[0] == ROUTE_GATE)
        gatesrv_answer(b->gate, route, route_len, w, body, len);
    else if (r[0] == ROUTE_IPC)
        send_parts(b->local, r + 1, route_len - 1, "", 0, w, body, len);
    else if (r[0] == ROUTE_TCP)
        send_parts(b->remote, r + 1, route_len - 1, "", 0, w, body, len);
}

static void answer_error(busd_t *b, const void *route, size_t route_len,
                         const struct wire *asked, int node, const struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    struct wire w = *asked;

    mp_init(&m);
    mp_array(&m, 2);
    mp_int(&m, err->code);
    mp_str(&m, err->text);
    w.kind = WIRE_ERROR;
    w.node = node;
    answer(b, route, route_len, &w, m.b.data, m.b.size);
}

/* --- who is who --- */

static bool trusted(int64_t uid) { return uid == 0 || uid == (int64_t)geteuid(); }

static struct service *service_find(busd_t *b, const char *name, size_t len)
{
    for (int i = 0; i < b->services; i++)
        if (strlen(b->service[i].name) == len && memcmp(b->service[i].name, name, len) == 0)
            return &b->service[i];
    return NULL;
}

static struct service *service_by_id(busd_t *b, const void *id, size_t len)
{
    for (int i = 0; i < b->services; i++)
        if (b->service[i].id_len == len && memcmp(b->service[i].id, id, len) == 0)
            return &b->service[i];
    return NULL;
}

static unsigned key_bucket(const char *key)
{
    unsigned h = 5381;
    while (*key)
        h = h * 33 + (unsigned char)*key++;
    return h % 4096;
}

static struct node *node_by_key(busd_t *b, const char *key)
{
    struct node *n = b->by_key[key_bucket(key)];
    while (n && strcmp(n->key, key) != 0)
        n = n->next;
    return n;
}

static void node_forget(busd_t *b, struct node *n)
{
    struct node **p = &b->by_key[key_bucket(n->key)];
    while (*p != n)
        p = &(*p)->next;
    *p = n->next;
    b->by_number[n->node] = NULL;
    free(n);
}

static int node_add(busd_t *b, const char *key, int node, struct err *err)
{
    if ((size_t)node >= b->numbers) {
        size_t room = ((size_t)node + 1) * 2;
        struct node **p = realloc(b->by_number, room * sizeof *p);
        if (!p)
            return err_set(err, ENOMEM, "out of memory");
        memset(p + b->numbers, 0, (room - b->numbers) * sizeof *p);
        b->by_number = p;
        b->numbers = room;
    }
    struct node *old = node_by_key(b, key);
    if (old && old->node == node)
        return 0;
    if (old)
        node_forget(b, old);
    if (b->by_number[node])
        node_forget(b, b->by_number[node]);
    struct node *n = calloc(1, sizeof *n);
    if (!n)
        return err_set(err, ENOMEM, "out of memory");
    n->node = node;
    snprintf(n->key, sizeof n->key, "%s", key);
    n->next = b->by_key[key_bucket(key)];
    b->by_key[key_bucket(key)] = n;
    b->by_number[node] = n;
    return 0;
}

/* --- busd's own requests --- */

static int key_row(busd_t *b, const msgpack_object *row, bool *seen, struct err *err)
{
    int64_t node;

    if (row->type != MSGPACK_OBJECT_ARRAY || row->via.array.size < 2 ||
        !mp_as_int(&row->via.array.ptr[1], &node) || node < 0 || node > NODE_MAX)
        return err_set(err, EPROTO, "busd.keys: want [key, node] rows");
    CLEANUP(cleanup_free) char *key = mp_dup(&row->via.array.ptr[0]);
    if (!key || strlen(key) != 40)
        return err_set(err, EPROTO, "busd.keys: a key has 40 characters");
    if (node_add(b, key, (int)node, err) < 0)
        return -1;
    seen[node] = true;
    return 0;
}

static int set_keys(busd_t *b, const struct wire *w, const msgpack_object *body,
                    struct err *err)
{
    const msgpack_object_array *a;

    if (w->node != -1 || !trusted(w->uid))
        return err_set(err, EPERM, "busd.keys: only root may");
    if (mp_get_array(body, "keys", &a, err) < 0)
        return -1;
    CLEANUP(cleanup_free) bool *seen = calloc(NODE_MAX + 1, 1);
    if (!seen)
        return err_set(err, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < a->size; i++)
        if (key_row(b, &a->ptr[i], seen, err) < 0)
            return -1;
    for (size_t i = 0; i < b->numbers; i++)
        if (b->by_number[i] && !seen[i])
            node_forget(b, b->by_number[i]);
    return 0;
}

static void list_services(busd_t *b, mp_buf *out)
{
    uint32_t n = 0;

    for (int i = 0; i < b->services; i++)
        n += b->service[i].id_len != 0;
    mp_array(out, n);
    for (int i = 0; i < b->services; i++) {
        if (!b->service[i].id_len)
            continue;
        mp_map(out, 3);
        mp_kstr(out, "name", b->service[i].name);
        mp_kint(out, "pid", b->service[i].pid);
        mp_kint(out, "uid", b->service[i].uid);
    }
}

static void own_request(busd_t *b, const void *route, size_t route_len, const struct wire *w,
                        const void *body, size_t len)
{
    struct err err = { 0 };
    struct wire out = *w;
    CLEANUP(mp_free) mp_buf m;
    msgpack_unpacked u;
    int rc = -1;

    mp_init(&m);
    msgpack_unpacked_init(&u);
    if (w->node == -2) {
        err_set(&err, EACCES, "%s: this key is not accepted as a node", w->topic);
    } else if (mp_decode(&u, body, len, &err) == 0) {
        if (strcmp(w->topic, "busd.ping") == 0) {
            rc = 0;
        } else if (strcmp(w->topic, "busd.services") == 0) {
            list_services(b, &m);
            rc = 0;
        } else if (strcmp(w->topic, "busd.keys") == 0) {
            rc = set_keys(b, w, &u.data, &err);
        } else if (strcmp(w->topic, "busd.subscribe") == 0) {
            char *prefix = NULL;
            if (*(const char *)route != ROUTE_GATE)
                rc = err_set(&err, EINVAL, "busd.subscribe is for the gate; a service "
                                           "says in its hello what it follows");
            else if (mp_get_dup(&u.data, "prefix", &prefix, &err) == 0)
                rc = gatesrv_subscribe(b->gate, route, route_len, prefix, &err);
            free(prefix);
        } else {
            err_set(&err, ENOSYS, "busd has no request %s", w->topic);
        }
    }
    msgpack_unpacked_destroy(&u);
    if (rc < 0) {
        answer_error(b, route, route_len, w, -1, &err);
        return;
    }
    if (!m.b.size)
        mp_nil(&m);
    out.kind = WIRE_REPLY;
    answer(b, route, route_len, &out, m.b.data, m.b.size);
}

/* --- requests --- */

static void to_nodes(busd_t *b, const void *route, size_t route_len, const struct wire *w,
                     const void *body, size_t len, const char *nodes)
{
    struct err err = { 0 };
    nodelist_t list;
    char middle[WIRE_TOPIC_MAX + 1] = "";

    nodelist_init(&list);
    if (w->node != -1 || !trusted(w->uid)) {
        err_set(&err, EPERM, "%s: only root may ask agents", w->topic);
        answer_error(b, route, route_len, w, -1, &err);
        return;
    }
    const char *dot = strchr(w->topic, '.'), *last = strrchr(w->topic, '.');
    if (!nodes && dot && last > dot + 1)
        snprintf(middle, sizeof middle, "%.*s", (int)(last - dot - 1), dot + 1);
    if (nodespec_numbers(nodes ? nodes : middle, &list, &err) < 0 || list.n == 0) {
        if (!err.code)
            err_set(&err, EINVAL, "%s: no nodes named", w->topic);
        answer_error(b, route, route_len, w, -1, &err);
    }
    for (size_t i = 0; i < list.n; i++) {
        int k = list.node[i];
        struct node *n = k >= 0 && (size_t)k < b->numbers ? b->by_number[k] : NULL;
        if (n && n->id_len &&
            send_parts(b->remote, n->id, n->id_len, route, route_len, w, body, len) == 0)
            continue;
        if (n && errno == EHOSTUNREACH)
            n->id_len = 0;
        err_set(&err, BE_NODEDOWN, "Node is down");
        answer_error(b, route, route_len, w, k, &err);
    }
    nodelist_free(&list);
}

void route_request(busd_t *b, const void *route, size_t route_len, const struct wire *w,
                   const void *body, size_t len, const char *nodes)
{
    struct err err = { 0 };
    size_t word = strcspn(w->topic, ".");

    if (w->node == -2 && (strcmp(w->topic, "nodemgr.join") != 0 || len > STRANGER_MAX)) {
        err_set(&err, EACCES, "%s: this key is not accepted as a node", w->topic);
        answer_error(b, route, route_len, w, -1, &err);
        return;
    }
    if (word == 4 && memcmp(w->topic, "busd", 4) == 0) {
        own_request(b, route, route_len, w, body, len);
        return;
    }
    if (word == 4 && memcmp(w->topic, "node", 4) == 0) {
        to_nodes(b, route, route_len, w, body, len, nodes);
        return;
    }
    struct service *s = service_find(b, w->topic, word);
    if (s && s->id_len &&
        send_parts(b->local, s->id, s->id_len, route, route_len, w, body, len) == 0)
        return;
    if (s && s->id_len && errno == EAGAIN)
        err_set(&err, EBUSY, "%s has too much waiting", s->name);
    else
        err_set(&err, ECONNREFUSED, "%.*s is not running", (int)word, w->topic);
    if (s && err.code == ECONNREFUSED)
        s->id_len = 0;
    answer_error(b, route, route_len, w, -1, &err);
}

/* --- what arrives --- */

static void noted(busd_t *b, void *sock, const void *id, size_t id_len)
{
    struct wire w = { .kind = WIRE_HELLO, .id = b->instance, .uid = -1, .gid = -1,
                      .pid = -1, .node = -1 };
    send_parts(sock, id, id_len, "", 0, &w, "\xc0", 1);
}

static void follows_clear(struct service *s)
{
    while (s->nfollows)
        free(s->follows[--s->nfollows]);
}

/* The payload of a hello: [prefix...], or nil. */
static void follows_take(struct service *s, const void *body, size_t len)
{
    msgpack_unpacked u;

    follows_clear(s);
    msgpack_unpacked_init(&u);
    if (mp_decode(&u, body, len, NULL) == 0 && u.data.type == MSGPACK_OBJECT_ARRAY)
        for (uint32_t i = 0; i < u.data.via.array.size; i++) {
            char *prefix = mp_dup(&u.data.via.array.ptr[i]);
            if (prefix && s->nfollows < FOLLOWS_MAX) {
                s->follows[s->nfollows++] = prefix;
                continue;
            }
            free(prefix);
            svc_log("error", "%s follows more kinds of events than %d, or I am out of memory",
                    s->name, FOLLOWS_MAX);
            break;
        }
    msgpack_unpacked_destroy(&u);
}

static void on_hello(busd_t *b, const struct wire *w, const void *id, size_t id_len,
                     const void *body, size_t len)
{
    size_t name_len = strlen(w->topic);
    struct service *s = service_find(b, w->topic, name_len);

    if (!trusted(w->uid)) {
        svc_log("warning", "uid %lld pid %lld wanted to be the service %s: refused",
                (long long)w->uid, (long long)w->pid, w->topic);
        return;
    }
    if (name_len == 0 || name_len >= sizeof s->name || strchr(w->topic, '.') ||
        strcmp(w->topic, "busd") == 0 || strcmp(w->topic, "node") == 0 ||
        id_len > ROUTE_MAX) {
        svc_log("warning", "pid %lld: \"%s\" cannot be a service's name", (long long)w->pid,
                w->topic);
        return;
    }
    if (!s && b->services == MAX_SERVICES) {
        svc_log("error", "%s: no room for another service", w->topic);
        return;
    }
    if (!s) {
        s = &b->service[b->services++];
        snprintf(s->name, sizeof s->name, "%.63s", w->topic);
    }
    bool news = s->id_len != id_len || memcmp(s->id, id, id_len) != 0;
    memcpy(s->id, id, id_len);
    s->id_len = id_len;
    s->uid = w->uid;
    s->pid = w->pid;
    follows_take(s, body, len);
    if (news)
        svc_log("info", "%s is here, pid %lld", s->name, (long long)s->pid);
    noted(b, b->local, id, id_len);
}

static bool follows(const struct service *s, const char *topic)
{
    for (int i = 0; i < s->nfollows; i++)
        if (strncmp(topic, s->follows[i], strlen(s->follows[i])) == 0)
            return true;
    return false;
}

static void on_publish(busd_t *b, const struct service *s, struct wire *w, const void *body,
                       size_t len)
{
    CLEANUP(mp_free) mp_buf env;

    w->kind = WIRE_EVENT;
    w->uid = w->gid = w->pid = w->node = -1;
    snprintf(w->from, sizeof w->from, "%s", s->name);
    mp_init(&env);
    wire_pack(&env, w);
    zmq_send(b->events, w->topic, strlen(w->topic), ZMQ_SNDMORE | ZMQ_DONTWAIT);
    zmq_send(b->events, env.b.data, env.b.size, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    zmq_send(b->events, body, len, ZMQ_DONTWAIT);
    for (struct service *f = b->service; f < b->service + b->services; f++)
        if (f->id_len && follows(f, w->topic) &&
            send_parts(b->local, f->id, f->id_len, "", 0, w, body, len) < 0 &&
            errno == EAGAIN)
            svc_log("error", "%s does not read: it has missed %s", f->name, w->topic);
    gatesrv_event(b->gate, w, body, len);
}

static void dispatch(busd_t *b, char origin, const void *id, size_t id_len, struct wire *w,
                     const zmq_msg_t *routef, zmq_msg_t *bodyf, const char *nodes)
{
    unsigned char route[ROUTE_MAX + 1];
    const void *body = zmq_msg_data(bodyf);
    size_t len = zmq_msg_size(bodyf);
    /* A peer may choose its id, so the id of a service that has just died says
     * nothing about who speaks now. */
    struct service *s =
        origin == ROUTE_IPC && trusted(w->uid) ? service_by_id(b, id, id_len) : NULL;

    if (id_len >= sizeof route)
        return;
    route[0] = (unsigned char)origin;
    memcpy(route + 1, id, id_len);
    switch (w->kind) {
    case WIRE_REQUEST:
        if (!routef)
            route_request(b, route, id_len + 1, w, body, len, nodes);
        break;
    case WIRE_REPLY:
    case WIRE_ERROR: /* services and nodes answer, nobody else */
        if (routef && (s || w->node >= 0))
            answer(b, zmq_msg_data((zmq_msg_t *)(uintptr_t)routef), zmq_msg_size(routef), w,
                   body, len);
        break;
    case WIRE_HELLO:
        if (origin == ROUTE_IPC)
            on_hello(b, w, id, id_len, body, len);
        else
            noted(b, b->remote, id, id_len);
        break;
    case WIRE_PUBLISH:
        if (s)
            on_publish(b, s, w, body, len);
        else
            svc_log("warning", "uid %lld pid %lld is no service and may not publish %s",
                    (long long)w->uid, (long long)w->pid, w->topic);
        break;
    default:
        break;
    }
}

static bool is_envelope(const zmq_msg_t *m)
{
    const unsigned char *p = zmq_msg_data((zmq_msg_t *)(uintptr_t)m);
    return zmq_msg_size(m) && ((p[0] & 0xf0) == 0x90 || p[0] == 0xdc);
}

static void inbound_read(void *sock, struct inbound *in)
{
    int more = 1;

    in->n = 0;
    while (more) {
        zmq_msg_t spare, *m = in->n < 5 ? &in->frame[in->n] : &spare;
        zmq_msg_init(m);
        if (zmq_msg_recv(m, sock, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(m);
            break;
        }
        more = zmq_msg_more(m);
        if (in->n >= 5)
            zmq_msg_close(m);
        else
            in->n++;
    }
}

static void inbound_clear(struct inbound *in)
{
    for (int i = 0; i < in->n; i++)
        zmq_msg_close(&in->frame[i]);
}

/* Identity frame, then envelope + payload [+ nodes], or route + envelope + payload. */
static void handle(busd_t *b, char origin, struct inbound *in,
                   int (*stamp)(busd_t *b, struct wire *w, struct inbound *in))
{
    struct wire w;
    size_t used;
    char *nodes = NULL;

    if (in->n < 3)
        return;
    bool routed = !is_envelope(&in->frame[1]);
    zmq_msg_t *env = &in->frame[routed ? 2 : 1];
    if (routed && in->n < 4)
        return;
    if (wire_unpack(&w, zmq_msg_data(env), zmq_msg_size(env), &used, NULL) < 0)
        return;
    if (stamp(b, &w, in) < 0)
        return;
    if (!routed && in->n == 4) {
        nodes = malloc(zmq_msg_size(&in->frame[3]) + 1);
        if (nodes) {
            memcpy(nodes, zmq_msg_data(&in->frame[3]), zmq_msg_size(&in->frame[3]));
            nodes[zmq_msg_size(&in->frame[3])] = 0;
        }
    }
    dispatch(b, origin, zmq_msg_data(&in->frame[0]), zmq_msg_size(&in->frame[0]), &w,
             routed ? &in->frame[1] : NULL, &in->frame[routed ? 3 : 2], nodes);
    free(nodes);
}

/* Local peer: "localhost:UID:GID:PID", from SO_PEERCRED when it connected. */
static int stamp_local(busd_t *b, struct wire *w, struct inbound *in)
{
    long long uid, gid, pid;
    const char *peer = zmq_msg_gets(&in->frame[1], "Peer-Address");
    const char *colon = peer ? strchr(peer, ':') : NULL;

    (void)b;
    if (!colon || sscanf(colon, ":%lld:%lld:%lld", &uid, &gid, &pid) != 3) {
        svc_log("error", "a local peer without credentials (%s): dropped",
                peer ? peer : "none");
        return -1;
    }
    w->uid = uid;
    w->gid = gid;
    w->pid = pid;
    w->node = -1;
    w->from[0] = w->addr[0] = 0;
    return 0;
}

static int stamp_remote(busd_t *b, struct wire *w, struct inbound *in)
{
    const char *key = zmq_msg_gets(&in->frame[1], "User-Id");
    const char *addr = zmq_msg_gets(&in->frame[1], "Peer-Address");
    size_t id_len = zmq_msg_size(&in->frame[0]);

    if (!key || strlen(key) != 40 || id_len > ROUTE_MAX)
        return -1;
    struct node *n = node_by_key(b, key);
    w->uid = w->gid = w->pid = -1;
    w->node = n ? n->node : -2;
    snprintf(w->from, sizeof w->from, "%s", key);
    snprintf(w->addr, sizeof w->addr, "%s", addr ? addr : "");
    if (n) {
        memcpy(n->id, zmq_msg_data(&in->frame[0]), id_len);
        n->id_len = id_len;
    }
    return 0;
}

static void on_local(void *arg)
{
    busd_t *b = arg;
    struct inbound in;

    inbound_read(b->local, &in);
    handle(b, ROUTE_IPC, &in, stamp_local);
    inbound_clear(&in);
}

static void on_remote(void *arg)
{
    busd_t *b = arg;
    struct inbound in;

    inbound_read(b->remote, &in);
    handle(b, ROUTE_TCP, &in, stamp_remote);
    inbound_clear(&in);
}

/* Every key may connect; one that nodemgr has not accepted may only ask to join. */
static bool allow_any(void *arg, const char *key, const char *addr)
{
    (void)arg;
    (void)key;
    (void)addr;
    return true;
}

/* --- life --- */

static void *open_socket(int type, struct err *err)
{
    int zero = 0, one = 1, hwm = 100000, max = 64 * 1024 * 1024;
    int64_t maxmsg = max;
    void *s = zmq_socket(zloop_context(), type);

    if (!s) {
        err_set(err, errno, "ZeroMQ: %s", zmq_strerror(errno));
        return NULL;
    }
    zmq_setsockopt(s, ZMQ_LINGER, &zero, sizeof zero);
    zmq_setsockopt(s, ZMQ_MAXMSGSIZE, &maxmsg, sizeof maxmsg);
    if (type == ZMQ_ROUTER) {
        zmq_setsockopt(s, ZMQ_ROUTER_MANDATORY, &one, sizeof one);
        zmq_setsockopt(s, ZMQ_SNDHWM, &hwm, sizeof hwm);
        zmq_setsockopt(s, ZMQ_RCVHWM, &hwm, sizeof hwm);
    }
    return s;
}

static int bind_ipc(void *sock, const char *name, mode_t mode, struct err *err)
{
    char endpoint[PATH_MAX + 8];

    snprintf(endpoint, sizeof endpoint, "ipc://%s/%s", cm_rundir(), name);
    if (zmq_bind(sock, endpoint) < 0)
        return err_set(err, errno, "%s: %s", endpoint, zmq_strerror(errno));
    if (chmod(endpoint + 6, mode) < 0)
        return err_set(err, errno, "%s: %s", endpoint + 6, strerror(errno));
    return 0;
}

static int write_text(const char *path, const char *text, mode_t mode, struct err *err)
{
    char tmp[PATH_MAX + 8];

    snprintf(tmp, sizeof tmp, "%s.new", path);
    unlink(tmp);
    FILE *f = fopen(tmp, "wxe");
    if (!f)
        return err_set(err, errno, "%s: %s", tmp, strerror(errno));
    int bad = fchmod(fileno(f), mode) < 0 || fputs(text, f) < 0;
    bad |= fclose(f) != 0;
    if (bad || rename(tmp, path) < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    return 0;
}

/* The master's keys live with its state and outlast /run; the public one goes
 * where boot images and virtual nodes are given it from. */
static int master_keys(struct curve_keys *k, struct err *err)
{
    char path[PATH_MAX], line[128];

    if (snprintf(path, sizeof path, "%s/master.key", cm_statedir()) >= (int)sizeof path)
        return err_set(err, ENAMETOOLONG, "%s: path is too long", cm_statedir());
    if (curve_keys_load(path, true, k, err) < 0)
        return -1;
    snprintf(line, sizeof line, "%s\n%s\n", k->public_key, k->secret_key);
    if (write_text(cm_path(path, "master.key"), line, 0600, err) < 0)
        return -1;
    snprintf(line, sizeof line, "%s\n", k->public_key);
    return write_text(cm_path(path, "master.pub"), line, 0644, err);
}

/* An interface may come up later than we do: try those again that are missing. */
static void bind_remote(void *arg)
{
    busd_t *b = arg;
    bool again = false;

    for (int i = 0; i < b->options->nlisten; i++) {
        if (b->bound & 1ull << i)
            continue;
        if (zmq_bind(b->remote, b->options->listen[i]) == 0) {
            svc_log("info", "nodes may connect to %s", b->options->listen[i]);
            b->bound |= 1ull << i;
        } else if (!(b->moaned & 1ull << i)) {
            svc_log("error", "listen for nodes on %s: %s; trying again", b->options->listen[i],
                    zmq_strerror(errno));
            b->moaned |= 1ull << i;
        }
        again |= !(b->bound & 1ull << i);
    }
    if (again)
        loop_timer(b->loop, REBIND_MS, false, bind_remote, b);
}

static int open_remote(busd_t *b, const struct busd_options *o, struct err *err)
{
    struct curve_keys k;
    int one = 1, beat = 5000, beat_timeout = 15000, backlog = 4096;

    if (master_keys(&k, err) < 0 || zap_start(b->loop, allow_any, b, err) < 0)
        return -1;
    b->remote = open_socket(ZMQ_ROUTER, err);
    if (!b->remote)
        return -1;
    zmq_setsockopt(b->remote, ZMQ_CURVE_SERVER, &one, sizeof one);
    zmq_setsockopt(b->remote, ZMQ_CURVE_SECRETKEY, k.secret_key, 40);
    zmq_setsockopt(b->remote, ZMQ_ZAP_DOMAIN, "bus", 3);
    zmq_setsockopt(b->remote, ZMQ_HEARTBEAT_IVL, &beat, sizeof beat);
    zmq_setsockopt(b->remote, ZMQ_HEARTBEAT_TIMEOUT, &beat_timeout, sizeof beat_timeout);
    zmq_setsockopt(b->remote, ZMQ_BACKLOG, &backlog, sizeof backlog);
    b->options = o;
    bind_remote(b);
    return zloop_add(b->loop, b->remote, on_remote, b, err);
}

busd_t *busd_create(loop_t *l, const struct busd_options *o, struct err *err)
{
    busd_t *b = calloc(1, sizeof *b);

    if (!b) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    b->loop = l;
    if (getrandom(&b->instance, sizeof b->instance, 0) != sizeof b->instance)
        b->instance = (uint64_t)wall_ms();
    b->instance = b->instance >> 1 | 1;
    if (!(b->local = open_socket(ZMQ_ROUTER, err)) ||
        !(b->events = open_socket(ZMQ_PUB, err)) || open_remote(b, o, err) < 0 ||
        bind_ipc(b->events, "events", 0666, err) < 0 ||
        /* For services only. ZeroMQ lets a peer choose its id and aborts when two
         * have the same: nobody who is not trusted may connect to a ROUTER. */
        bind_ipc(b->local, "bus", 0600, err) < 0 ||
        zloop_add(l, b->local, on_local, b, err) < 0 ||
        !(b->gate = gatesrv_create(l, b, err)))
        busd_destroy(&b);
    return b;
}

static void socket_close(busd_t *b, void *s)
{
    if (s) {
        zloop_del(b->loop, s);
        zmq_close(s);
    }
}

void busd_destroy(busd_t **bp)
{
    busd_t *b = *bp;

    if (!b)
        return;
    gatesrv_destroy(&b->gate);
    socket_close(b, b->local);
    socket_close(b, b->remote);
    socket_close(b, b->events);
    for (int i = 0; i < b->services; i++)
        follows_clear(&b->service[i]);
    for (size_t i = 0; i < b->numbers; i++)
        free(b->by_number[i]);
    free(b->by_number);
    free(b);
    *bp = NULL;
}
