/* copy.c - procspace.copy: what a bpcp needs to reach nodes
 *
 * {nodes} -> {nodes: [[node, addr, port, token, key]...], failed}. The user must
 * be allowed to run on the nodes; each node's agent gives a ticket that opens a
 * bpcopy of this user there. bpcp is outside of the cluster's network: it shows
 * a token on RUN/copy and its socket is handed to a "bpcopy pipe", which dials.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "bus/callers.h"
#include "bus/nodespec.h"
#include "bus/rundir.h"
#include "copy/copy.h"
#include "services/procspace/procspace.h"

#define ASK_MS 10000
#define TICKET_MS 60000
#define TICKETS_MAX 100000
#define NODES_MAX 10000 /* in one request */

struct ticket {
    struct copy_peer peer;
    int64_t made;
    struct ticket *next;
};

struct copies {
    procspace_t *ps;
    struct ticket *tickets; /* newest first */
    size_t ntickets;
    callers_t *callers;
    struct copy_procs *procs;
};

static void ticket_free(struct copies *c, struct ticket **at)
{
    struct ticket *t = *at;

    *at = t->next;
    c->ntickets--;
    copy_peer_free(&t->peer);
    free(t);
}

/* --- RUN/copy --- */

static void begin(struct copies *c, const struct caller *k, const char *token)
{
    struct err err = { 0 };

    for (struct ticket **at = &c->tickets; *at; at = &(*at)->next) {
        const struct copy_peer *p = &(*at)->peer;
        if (strcmp(p->ticket.token, token) != 0 || p->uid != k->uid)
            continue;
        if (copy_procs_start(c->procs, "pipe", k->fd, -1, p, &err) < 0)
            svc_log("warning", "a copy: %s", err.text);
        ticket_free(c, at);
        return;
    }
}

static bool on_token(void *arg, struct caller *k)
{
    char token[BULK_TOKEN + 1] = "";
    int n = caller_take(k, token, BULK_TOKEN);

    if (n > 0)
        begin(arg, k, token);
    return n == 0;
}

static int listen_at(const char *path, struct err *err)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };

    if (strlen(path) >= sizeof sa.sun_path)
        return err_set(err, ENAMETOOLONG, "%s: too long for a socket", path);
    memcpy(sa.sun_path, path, strlen(path) + 1);
    unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof sa) == 0 && chmod(path, 0666) == 0 &&
        listen(fd, 128) == 0)
        return fd;
    err_set(err, errno, "%s: %s", path, strerror(errno));
    cleanup_close(&fd);
    return -1;
}

int copies_open(procspace_t *ps, struct err *err)
{
    struct copies *c = calloc(1, sizeof *c);
    char path[PATH_MAX];

    ps->copies = c;
    if (!c)
        return err_set(err, ENOMEM, "out of memory");
    c->ps = ps;
    c->procs = copy_procs_create(ps->loop);
    if (!c->procs)
        return err_set(err, ENOMEM, "out of memory");
    int fd = listen_at(cm_path(path, "copy"), err);
    if (fd >= 0)
        c->callers = callers_open(ps->loop, fd, BULK_TOKEN, on_token, c, err);
    return c->callers ? 0 : -1;
}

void copies_close(procspace_t *ps)
{
    struct copies *c = ps->copies;

    if (!c)
        return;
    callers_close(&c->callers);
    while (c->tickets)
        ticket_free(c, &c->tickets);
    copy_procs_destroy(&c->procs);
    free(c);
    ps->copies = NULL;
}

/* --- the request --- */

struct asking {
    struct copies *c;
    svc_token *token;
    struct identity who;
    nodelist_t nodes; /* still wanted */
    struct addr {
        int node;
        char text[64];
    } *addr;
    size_t naddr;
    int waiting;
    struct err refused_all;
    mp_buf good, failed;
    uint32_t ngood, nfailed;
};

static void refuse(struct asking *s, int node, int code, const char *text)
{
    s->nfailed++;
    mp_array(&s->failed, 3);
    mp_int(&s->failed, node);
    mp_int(&s->failed, code);
    mp_str(&s->failed, text);
}

static void drop(struct asking *s, int node)
{
    size_t k = 0;

    for (size_t i = 0; i < s->nodes.n; i++)
        if (s->nodes.node[i] != node)
            s->nodes.node[k++] = s->nodes.node[i];
    s->nodes.n = k;
}

static void asking_free(struct asking *s)
{
    identity_free(&s->who);
    nodelist_free(&s->nodes);
    free(s->addr);
    mp_free(&s->good);
    mp_free(&s->failed);
    free(s);
}

static void finish(void *arg)
{
    struct asking *s = arg;
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 2);
    mp_key(&m, "nodes");
    mp_array(&m, s->ngood);
    if (s->ngood)
        msgpack_sbuffer_write(&m.b, s->good.b.data, s->good.b.size);
    mp_key(&m, "failed");
    mp_array(&m, s->nfailed);
    if (s->nfailed)
        msgpack_sbuffer_write(&m.b, s->failed.b.data, s->failed.b.size);
    svc_answer(s->c->ps->svc, s->token, &m);
    asking_free(s);
}

static const char *addr_of(const struct asking *s, int node)
{
    for (size_t i = 0; i < s->naddr; i++)
        if (s->addr[i].node == node)
            return s->addr[i].text;
    return "";
}

static int note(struct asking *s, const struct copy_peer *p, struct err *err)
{
    struct copies *c = s->c;
    int64_t now = now_ms();

    for (struct ticket **at = &c->tickets; *at;)
        if (now - (*at)->made > TICKET_MS)
            ticket_free(c, at);
        else
            at = &(*at)->next;
    struct ticket *t = c->ntickets < TICKETS_MAX ? calloc(1, sizeof *t) : NULL;
    if (!t)
        return err_set(err, EAGAIN, "too many copies at once");
    t->peer = *p;
    t->made = now;
    t->next = c->tickets;
    c->tickets = t;
    c->ntickets++;
    return 0;
}

static void on_ticket(void *arg, int node, const msgpack_object *value, const struct err *no)
{
    struct asking *s = arg;
    struct copy_peer p = { .uid = s->who.uid, .gid = s->who.gid, .node = -1 };
    CLEANUP(cleanup_free) char *token = NULL;
    struct err err = { 0 };
    const char *key;
    int64_t port;
    size_t len;

    if (!value) {
        refuse(s, node, no->code, no->text);
        return;
    }
    if (mp_get_int(value, "port", 1, 65535, &port, &err) < 0 ||
        mp_get_dup(value, "token", &token, &err) < 0 ||
        mp_get_bytes(value, "key", &key, &len, &err) < 0) {
        refuse(s, node, err.code, err.text);
        return;
    }
    if (strlen(token) != BULK_TOKEN || len != BULK_KEY || !*addr_of(s, node)) {
        refuse(s, node, EPROTO, "its ticket or address is not known");
        return;
    }
    memcpy(p.ticket.token, token, BULK_TOKEN + 1);
    memcpy(p.ticket.key, key, BULK_KEY);
    p.port = (uint16_t)port;
    snprintf(p.addr, sizeof p.addr, "%s", addr_of(s, node));
    if (note(s, &p, &err) < 0) {
        refuse(s, node, err.code, err.text);
        return;
    }
    s->ngood++;
    mp_array(&s->good, 5);
    mp_int(&s->good, node);
    mp_str(&s->good, p.addr);
    mp_int(&s->good, port);
    mp_str(&s->good, token);
    mp_bin(&s->good, key, BULK_KEY);
}

/* Both questions to nodemgr are answered: now the agents. */
static void proceed(struct asking *s)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    if (--s->waiting)
        return;
    for (size_t i = 0; s->refused_all.code && i < s->nodes.n; i++)
        refuse(s, s->nodes.node[i], s->refused_all.code, s->refused_all.text);
    if (s->refused_all.code || s->nodes.n == 0) {
        finish(s);
        return;
    }
    mp_map(&m, 3);
    mp_kint(&m, "uid", s->who.uid);
    mp_kint(&m, "gid", s->who.gid);
    mp_key(&m, "groups");
    mp_array(&m, (uint32_t)s->who.ngroups);
    for (int i = 0; i < s->who.ngroups; i++)
        mp_uint(&m, s->who.groups[i]);
    svc_call_nodes(s->c->ps->svc, s->nodes.node, (int)s->nodes.n, "copy", &m, ASK_MS, on_ticket,
                   finish, s);
}

static void on_check(void *arg, const msgpack_object *value, const struct err *err)
{
    struct asking *s = arg;
    const msgpack_object_array *a;

    if (!value)
        s->refused_all = *err;
    if (value && mp_get_array(value, "refused", &a, &s->refused_all) == 0)
        for (uint32_t i = 0; i < a->size; i++) {
            const msgpack_object *row = &a->ptr[i];
            int64_t node, code;
            if (row->type != MSGPACK_OBJECT_ARRAY || row->via.array.size < 3 ||
                !mp_as_int(&row->via.array.ptr[0], &node) ||
                !mp_as_int(&row->via.array.ptr[1], &code)) {
                err_set(&s->refused_all, EPROTO, "nodemgr.check: not understood");
                break;
            }
            CLEANUP(cleanup_free) char *why = mp_dup(&row->via.array.ptr[2]);
            refuse(s, (int)node, (int)code, why ? why : err_name((int)code));
            drop(s, (int)node);
        }
    proceed(s);
}

static void on_addrs(void *arg, const msgpack_object *value, const struct err *err)
{
    struct asking *s = arg;

    if (!value)
        s->refused_all = *err;
    else if (value->type != MSGPACK_OBJECT_ARRAY ||
             !(s->addr = calloc(value->via.array.size + 1, sizeof *s->addr)))
        err_set(&s->refused_all, EPROTO, "nodemgr.list: not understood");
    else
        for (uint32_t i = 0; i < value->via.array.size; i++) {
            const msgpack_object *o = &value->via.array.ptr[i];
            CLEANUP(cleanup_free) char *addr = mp_opt_dup(o, "addr");
            struct addr *a = &s->addr[s->naddr++];
            a->node = (int)mp_opt_int(o, "node", -1);
            snprintf(a->text, sizeof a->text, "%s", addr ? addr : "");
        }
    proceed(s);
}

static void ask(struct asking *s, const char *spec)
{
    CLEANUP(mp_free) mp_buf check, list;

    mp_init(&check);
    mp_init(&list);
    mp_map(&check, 4);
    mp_key(&check, "nodes");
    mp_array(&check, (uint32_t)s->nodes.n);
    for (size_t i = 0; i < s->nodes.n; i++)
        mp_int(&check, s->nodes.node[i]);
    mp_kint(&check, "uid", s->who.uid);
    mp_kint(&check, "gid", s->who.gid);
    mp_key(&check, "groups");
    mp_array(&check, (uint32_t)s->who.ngroups);
    for (int i = 0; i < s->who.ngroups; i++)
        mp_uint(&check, s->who.groups[i]);
    mp_map(&list, 1);
    mp_kstr(&list, "spec", spec);
    s->waiting = 2;
    svc_call(s->c->ps->svc, "nodemgr.check", &check, ASK_MS, on_check, s);
    svc_call(s->c->ps->svc, "nodemgr.list", &list, ASK_MS, on_addrs, s);
}

static int take_nodes(struct asking *s, const msgpack_object *body, struct err *err)
{
    const msgpack_object_array *a;
    int64_t n;

    if (mp_get_array(body, "nodes", &a, err) < 0)
        return -1;
    if (a->size == 0 || a->size > NODES_MAX)
        return err_set(err, EINVAL, "nodes: %u; want 1..%d", a->size, NODES_MAX);
    for (uint32_t i = 0; i < a->size; i++) {
        if (!mp_as_int(&a->ptr[i], &n) || n < 0 || n > NODE_MAX)
            return err_set(err, EPROTO, "nodes: item %u is no node's number", i);
        if (nodelist_add(&s->nodes, (int)n) < 0)
            return err_set(err, ENOMEM, "out of memory");
    }
    return 0;
}

int on_copy(void *self, struct svc_req *req, struct err *err)
{
    procspace_t *ps = self;
    struct asking *s = calloc(1, sizeof *s);
    CLEANUP(cleanup_free) char *spec = NULL;

    if (!s)
        return err_set(err, ENOMEM, "out of memory");
    s->c = ps->copies;
    s->token = req->token;
    mp_init(&s->good);
    mp_init(&s->failed);
    if (take_nodes(s, req->body, err) < 0 || identity_of(req->w, &s->who, err) < 0) {
        asking_free(s);
        return -1;
    }
    spec = nodelist_text(&s->nodes);
    if (!spec) {
        asking_free(s);
        return err_set(err, ENOMEM, "out of memory");
    }
    ask(s, spec);
    return SVC_LATER;
}
