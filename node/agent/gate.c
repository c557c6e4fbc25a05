/* gate.c - the gate of a node: questions of its processes, passed to the master
 *
 * NODEROOT/run/clustermatic/gate speaks as the master's own does (doc/wire.md),
 * for libbproc. What goes out goes out in the node's name, which says nothing
 * about who asked here: so what anybody may know is passed on as it is, and what
 * is about the asker itself with the kernel's word on who that is (kin.c,
 * asker.c). The file
 * "node" beside it holds our number; it is how a process knows where it is.
 * "master" holds the master's address.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "bus/pkt.h"
#include "image/pump.h"
#include "node/agent/agent.h"
#include "node/agent/place.h"

#define FOLDER "/run/clustermatic"
#define CLIENTS_MAX 256
#define ASKED_MAX 16 /* requests of one client that are not answered */
#define ASK_MS 30000
#define ASK_LONG_MS 180000 /* what has to do with images */

struct client {
    gate_t *g;
    int fd;
    struct asker who; /* npid 0: not known */
    struct ucred cred;
    uint64_t id;
    unsigned asked;
    struct client *next;
};

struct asked { /* a request on its way */
    struct asked *next;
    gate_t *g;
    uint64_t client;
    uint32_t uid;
    struct wire w;
};

struct gate {
    agent_t *a;
    int listener, folder;
    int written; /* the number in "node"; -1 none */
    uint64_t next_id;
    size_t clients;
    struct client *first;
    struct asked *asked;
};

static const char *const open_to_all[] = { "nodemgr.list", "nodemgr.config", "nodemgr.libs",
                                           "procspace.list", "procspace.ps" };

/* About themselves. */
static const char *const with_asker[] = { "procspace.launch", "procspace.moved",
                                          "procspace.pass" };

/* Such a request of who goes on elsewhere itself. */
static bool needs_asker(const char *topic, const msgpack_object *body)
{
    for (size_t i = 0; i < sizeof with_asker / sizeof *with_asker; i++)
        if (strcmp(topic, with_asker[i]) == 0)
            return i > 0 || (mp_opt_bool(body, "self", false) && mp_get(body, "image"));
    return false;
}

static bool may_pass(const char *topic)
{
    for (size_t i = 0; i < sizeof open_to_all / sizeof *open_to_all; i++)
        if (strcmp(topic, open_to_all[i]) == 0)
            return true;
    return false;
}

static void drop(struct client *c)
{
    struct client **p = &c->g->first;

    while (*p != c)
        p = &(*p)->next;
    *p = c->next;
    c->g->clients--;
    loop_fd_del(c->g->a->loop, c->fd);
    close(c->fd);
    free(c);
}

static void answer(gate_t *g, uint64_t client, const struct wire *asked, int kind,
                   const mp_buf *body)
{
    CLEANUP(mp_free) mp_buf m;
    struct wire w = *asked;
    struct client *c = g->first;

    mp_init(&m);
    while (c && c->id != client)
        c = c->next;
    if (!c)
        return;
    w.kind = kind;
    wire_pack(&m, &w);
    msgpack_sbuffer_write(&m.b, body->b.data, body->b.size);
    if (c->asked)
        c->asked--;
    if (pkt_send(c->fd, m.b.data, m.b.size, NULL, 0, NULL) < 0)
        drop(c); /* it does not read */
}

static void refuse(gate_t *g, uint64_t client, const struct wire *w, const struct err *err)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_array(&m, 2);
    mp_int(&m, err->code);
    mp_str(&m, err->text);
    answer(g, client, w, WIRE_ERROR, &m);
}

static struct asked *asked_new(gate_t *g, uint64_t client, uint32_t uid, const struct wire *w)
{
    struct asked *q = malloc(sizeof *q);

    if (!q)
        return NULL;
    *q = (struct asked){ g->asked, g, client, uid, *w };
    g->asked = q;
    return q;
}

static void asked_free(struct asked *q)
{
    struct asked **at = &q->g->asked;

    while (*at != q)
        at = &(*at)->next;
    *at = q->next;
    free(q);
}

/* Said again by who has no answer yet: it is on its way, by a number of ours. Two of it
 * would be two to the service, and the first answer, to either, would count. */
static bool is_asked(const gate_t *g, uint64_t client, const struct wire *w)
{
    const struct asked *q = g->asked;

    while (q && (q->client != client || q->w.id != w->id))
        q = q->next;
    return q != NULL;
}

/* Where an image is to go is for us to know; the process gets a token. */
static void take_way(const struct asked *q, const msgpack_object *image)
{
    struct pump_dial d = { .say_token = mp_opt_bool(image, "say_token", false) };
    CLEANUP(cleanup_free) char *token = mp_opt_dup(image, "token");
    CLEANUP(cleanup_free) char *addr = mp_opt_dup(image, "addr");
    CLEANUP(cleanup_free) char *ticket = mp_opt_dup(image, "ticket");
    int64_t port = mp_opt_int(image, "port", 0);
    struct err err = { 0 };
    const char *key;
    size_t len;

    if (!token || !*token || !addr || !ticket || strlen(ticket) != BULK_TOKEN || port < 1 ||
        port > 65535 || mp_get_bytes(image, "key", &key, &len, NULL) < 0 || len != BULK_KEY)
        return;
    snprintf(d.addr, sizeof d.addr, "%s", *addr ? addr : q->g->a->master_addr);
    d.port = (uint16_t)port;
    memcpy(d.ticket.token, ticket, BULK_TOKEN + 1);
    memcpy(d.ticket.key, key, BULK_KEY);
    if (moves_way(q->g->a->moves, token, q->uid, &d, &err) < 0)
        svc_log("warning", "an image: %s", err.text);
}

static void pack_without_way(mp_buf *m, const msgpack_object *value)
{
    const msgpack_object_map *map = &value->via.map;

    mp_map(m, map->size);
    for (uint32_t i = 0; i < map->size; i++) {
        mp_obj(m, &map->ptr[i].key);
        if (!mp_is(&map->ptr[i].key, "image")) {
            mp_obj(m, &map->ptr[i].val);
            continue;
        }
        CLEANUP(cleanup_free) char *token = mp_opt_dup(&map->ptr[i].val, "token");
        const msgpack_object *lacks = mp_get(&map->ptr[i].val, "lacks");
        mp_map(m, 2);
        mp_kstr(m, "token", token ? token : "");
        mp_key(m, "lacks");
        if (lacks)
            mp_obj(m, lacks);
        else
            mp_array(m, 0);
    }
}

static void on_answer(void *arg, const msgpack_object *value, const struct err *err)
{
    struct asked *q = arg;
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    if (value && mp_get(value, "image")) {
        take_way(q, mp_get(value, "image"));
        pack_without_way(&m, value);
        answer(q->g, q->client, &q->w, WIRE_REPLY, &m);
    } else if (value) {
        mp_obj(&m, value);
        answer(q->g, q->client, &q->w, WIRE_REPLY, &m);
    } else {
        refuse(q->g, q->client, &q->w, err);
    }
    asked_free(q);
}

/* What a process asks in its own name. False: nothing of that kind. */
static bool in_person(struct client *c, const struct wire *w, const msgpack_object *body,
                      struct err *err)
{
    if (strcmp(w->topic, "procspace.launch") != 0 || needs_asker(w->topic, body))
        return false;
    if (!c->who.npid) {
        err_set(err, EPERM, "%s: the asker is not known", w->topic);
    } else if (!c->g->a->svc) {
        err_set(err, EAGAIN, "the node has not joined yet");
    } else {
        struct asked *q = asked_new(c->g, c->id, c->who.uid, w);
        if (!q) {
            err_set(err, ENOMEM, "out of memory");
            return true;
        }
        kin_launch(c->g->a, &c->who, body, w->deadline, on_answer, q);
    }
    return true;
}

static int pack_body(const struct client *c, const char *topic, const msgpack_object *o,
                     mp_buf *m, struct err *err)
{
    const msgpack_object_map *map = &o->via.map;
    uint32_t n = 0;

    if (!needs_asker(topic, o)) {
        mp_obj(m, o);
        return 0;
    }
    if (o->type != MSGPACK_OBJECT_MAP)
        return err_set(err, EPROTO, "%s: want a map", topic);
    for (uint32_t i = 0; i < map->size; i++)
        n += !mp_is(&map->ptr[i].key, "mover");
    mp_map(m, n + 1);
    for (uint32_t i = 0; i < map->size; i++)
        if (!mp_is(&map->ptr[i].key, "mover")) {
            mp_obj(m, &map->ptr[i].key);
            mp_obj(m, &map->ptr[i].val);
        }
    mp_key(m, "mover");
    return asker_pack(c->g->a, &c->cred, m, err);
}

static void on_request(struct client *c, const struct pkt *p)
{
    struct wire w;
    size_t used;
    struct err err = { 0 };
    CLEANUP(mp_free) mp_buf body;
    msgpack_unpacked u;
    uint64_t id = c->id;
    gate_t *g = c->g;

    mp_init(&body);
    if (wire_unpack(&w, p->data, p->len, &used, &err) < 0 || w.kind != WIRE_REQUEST ||
        is_asked(g, id, &w))
        return;
    c->asked++;
    msgpack_unpacked_init(&u);
    bool done = false;
    if (mp_decode(&u, p->data + used, p->len - used, &err) == 0) {
        done = in_person(c, &w, &u.data, &err);
        if (done)
            ; /* c may be gone */
        else if (!may_pass(w.topic) && !needs_asker(w.topic, &u.data))
            err_set(&err, ENOSYS, "%s: not from a node; ask on the master", w.topic);
        else if (!g->a->svc)
            err_set(&err, EAGAIN, "the node has not joined yet");
        else
            pack_body(c, w.topic, &u.data, &body, &err);
    }
    struct asked *q = err.code || done ? NULL : asked_new(g, id, c->who.uid, &w);
    if (!err.code && !done && !q)
        err_set(&err, ENOMEM, "out of memory");
    if (q) {
        int64_t most = needs_asker(w.topic, &u.data) ? ASK_LONG_MS : ASK_MS;
        int ms = (int)(w.deadline > 0 && w.deadline < most ? w.deadline : most);
        const msgpack_object *children = strcmp(w.topic, "procspace.launch") == 0
                                             ? mp_get(&u.data, "children") : NULL;
        if (children && children->type == MSGPACK_OBJECT_ARRAY)
            kin_part(g->a, children, &body, ms, on_answer, q);
        else
            svc_call(g->a->svc, w.topic, &body, ms, on_answer, q);
    } else if (err.code) {
        refuse(g, id, &w, &err);
    }
    msgpack_unpacked_destroy(&u);
}

static void on_client(void *arg, int fd, uint32_t events)
{
    struct client *c = arg;
    struct pkt p;
    struct err err = { 0 };

    (void)events;
    int n = pkt_recv(fd, &p, &err);
    if (n < 0 && err.code == EAGAIN)
        return;
    if (n <= 0 || c->asked >= ASKED_MAX) {
        if (n > 0)
            pkt_clear(&p);
        drop(c);
        return;
    }
    on_request(c, &p);
    pkt_clear(&p);
}

static void on_accept(void *arg, int fd, uint32_t events)
{
    gate_t *g = arg;
    int s = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct client *c = s >= 0 && g->clients < CLIENTS_MAX ? calloc(1, sizeof *c) : NULL;
    struct asker who = { 0 };

    (void)events;
    if (!c || loop_fd(g->a->loop, s, EPOLLIN, on_client, c, NULL) < 0) {
        if (s >= 0)
            close(s);
        free(c);
        return;
    }
    asker_of(s, &who, NULL); /* else it may ask what anybody may */
    *c = (struct client){ .g = g, .who = who, .fd = s, .id = ++g->next_id, .next = g->first };
    socklen_t len = sizeof c->cred;
    if (getsockopt(s, SOL_SOCKET, SO_PEERCRED, &c->cred, &len) < 0)
        c->cred = (struct ucred){ 0, (uid_t)-1, (gid_t)-1 };
    g->first = c;
    g->clients++;
}

/* By way of the folder's descriptor: the path is the node's, not ours. Its mode
 * is made with it, so that no name need be trusted twice. */
static int listen_in(int folder, const char *name, struct err *err)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    CLEANUP(cleanup_close) int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
                                          0);

    if (s < 0)
        return err_set(err, errno, "socket: %s", strerror(errno));
    snprintf(sa.sun_path, sizeof sa.sun_path, "/proc/self/fd/%d/%s", folder, name);
    unlinkat(folder, name, 0);
    mode_t mask = umask(0);
    int rc = bind(s, (struct sockaddr *)&sa, sizeof sa), code = errno;
    umask(mask);
    if (rc < 0 || listen(s, 64) < 0)
        return err_set(err, rc < 0 ? code : errno, "the node's gate: %s",
                       strerror(rc < 0 ? code : errno));
    int out = s;
    s = -1;
    return out;
}

/* At once: who looks for it while we are restarted must find it whole, or would take
 * itself for a process of the master. */
static bool write_word(gate_t *g, const char *name, const char *text)
{
    char fresh[32];

    snprintf(fresh, sizeof fresh, "%s.new", name);
    unlinkat(g->folder, fresh, 0);
    CLEANUP(cleanup_close) int fd =
        openat(g->folder, fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    ssize_t n = (ssize_t)strlen(text);

    return fd >= 0 && write(fd, text, (size_t)n) == n && fchmod(fd, 0644) == 0 &&
           renameat(g->folder, fresh, g->folder, name) == 0;
}

/* Our number may be a new one after a join, and the master at another address. */
static void write_number(void *arg)
{
    gate_t *g = arg;
    char text[16], master[80];

    if (g->a->node == g->written || g->a->node < 0)
        return;
    snprintf(text, sizeof text, "%d\n", g->a->node);
    snprintf(master, sizeof master, "%.64s\n", g->a->master_addr);
    if (write_word(g, "node", text) && write_word(g, "master", master))
        g->written = g->a->node;
}

int gate_listen(const gate_t *g, const char *name, struct err *err)
{
    return listen_in(g->folder, name, err);
}

gate_t *gate_create(agent_t *a, struct err *err)
{
    gate_t *g = calloc(1, sizeof *g);

    if (!g) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    *g = (gate_t){ .a = a, .listener = -1, .written = -1 };
    CLEANUP(cleanup_close) int path = place_folder(a->root_fd, FOLDER, NULL, err);
    g->folder = path < 0 ? -1 : openat(path, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (g->folder < 0 && path >= 0)
        err_set(err, errno, "%s: %s", FOLDER, strerror(errno));
    if (g->folder < 0 || (g->listener = listen_in(g->folder, "gate", err)) < 0 ||
        loop_fd(a->loop, g->listener, EPOLLIN, on_accept, g, err) < 0) {
        gate_destroy(&g);
        return NULL;
    }
    struct err why = { 0 };
    if (kin_place_programs(g->folder, &why) < 0)
        svc_log("warning", "%s: programs here cannot start any elsewhere", why.text);
    loop_turn(a->loop, write_number, g);
    return g;
}

void gate_destroy(gate_t **gp)
{
    gate_t *g = *gp;

    if (!g)
        return;
    while (g->first)
        drop(g->first);
    if (g->listener >= 0) {
        loop_fd_del(g->a->loop, g->listener);
        close(g->listener);
    }
    if (g->folder >= 0)
        close(g->folder);
    free(g);
    *gp = NULL;
}
