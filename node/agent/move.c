/* move.c - processes that come to this node and go
 *
 * What is asked here is bpinit's to answer: it is asked, and its word is passed
 * on. Which files an image names, and we have not got, is looked at here.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/callers.h"
#include "bus/pkt.h"
#include "image/image.h"
#include "image/pump.h"
#include "node/agent/agent.h"
#include "node/agent/place.h"
#include "node/agent/streams.h"

struct asked { /* of bpinit */
    struct asked *next;
    uint64_t id;
    svc_token *token;
};

struct way { /* of an image that a process of ours will send */
    struct way *next;
    char token[BULK_TOKEN + 1];
    uint32_t uid;
    int64_t made;
    struct pump_dial to;
};

struct moves {
    agent_t *a;
    uint64_t next_id;
    struct asked *asked;
    struct way *ways;
    callers_t *callers; /* at /run/clustermatic/move on the node */
};

#define WAY_MS 120000

/* --- files --- */

static bool have_file(const agent_t *a, const char *root, const msgpack_object_array *row)
{
    char path[PATH_MAX], head[IMAGE_PAGE];
    CLEANUP(cleanup_free) char *name = mp_dup(&row->ptr[0]);
    int64_t size, crc;
    struct stat st;

    if (!name || *name != '/' || !mp_as_int(&row->ptr[1], &size) ||
        !mp_as_int(&row->ptr[2], &crc) ||
        snprintf(path, sizeof path, "%s%s", root ? root : "", name) >= (int)sizeof path)
        return false;
    CLEANUP(cleanup_close) int fd = place_open(a->root_fd, path, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size != size)
        return false;
    ssize_t n = pread(fd, head, sizeof head, 0);
    return n >= 0 && image_crc(0, head, (size_t)n) == (uint32_t)crc;
}

int moves_lacks(const agent_t *a, const char *root, const msgpack_object *maps, mp_buf *out,
                struct err *err)
{
    const msgpack_object_array *rows = &maps->via.array;
    uint32_t n = 0;

    if (maps->type != MSGPACK_OBJECT_ARRAY)
        return err_set(err, EPROTO, "image: maps: want a list");
    CLEANUP(cleanup_free) bool *lacks = calloc(rows->size + 1, sizeof *lacks);
    if (!lacks)
        return err_set(err, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < rows->size; i++) {
        const msgpack_object *r = &rows->ptr[i];
        if (r->type != MSGPACK_OBJECT_ARRAY || r->via.array.size < 3)
            return err_set(err, EPROTO, "image: maps: want [path, size, crc] rows");
        lacks[i] = !have_file(a, root, &r->via.array);
        n += lacks[i];
    }
    mp_array(out, n);
    for (uint32_t i = 0; i < rows->size; i++)
        if (lacks[i])
            mp_obj(out, &rows->ptr[i].via.array.ptr[0]);
    return 0;
}

/* --- bpinit's word --- */

static int ask(agent_t *a, struct svc_req *req, const char *name, const mp_buf *rest,
               uint32_t pairs, struct err *err)
{
    moves_t *m = a->moves;
    struct asked *q = malloc(sizeof *q);
    CLEANUP(mp_free) mp_buf b;

    mp_init(&b);
    if (!q)
        return err_set(err, ENOMEM, "out of memory");
    *q = (struct asked){ m->asked, ++m->next_id, req->token };
    mp_map(&b, pairs + 1);
    mp_kuint(&b, "id", q->id);
    msgpack_sbuffer_write(&b.b, rest->b.data, rest->b.size);
    if (space_send(a->space, name, &b, err) < 0) {
        free(q);
        return -1;
    }
    m->asked = q;
    return SVC_LATER;
}

void moves_answer(moves_t *m, const msgpack_object *map)
{
    uint64_t id = 0;

    if (mp_get_uint(map, "id", &id, NULL) < 0)
        return;
    for (struct asked **p = &m->asked; *p; p = &(*p)->next) {
        struct asked *q = *p;
        if (q->id != id)
            continue;
        CLEANUP(mp_free) mp_buf b;
        mp_init(&b);
        mp_obj(&b, map);
        *p = q->next;
        svc_answer(m->a->svc, q->token, &b);
        free(q);
        return;
    }
}

void moves_lost(moves_t *m)
{
    struct err gone = { 0 };

    err_set(&gone, BE_NODEDOWN, "Node is down: its process space was lost");
    while (m->asked) {
        struct asked *q = m->asked;
        m->asked = q->next;
        svc_fail(m->a->svc, q->token, &gone);
        free(q);
    }
}

/* node.N.arrived: {launch, uid, go?, abort?, cut?} -> {ranks: [[rank, code, text]...]}, once
 * each of them is ready, has failed, or was let go */
int on_arrived(void *self, struct svc_req *req, struct err *err)
{
    agent_t *a = self;
    CLEANUP(mp_free) mp_buf m;
    uint64_t launch;

    mp_init(&m);
    if (mp_get_uint(req->body, "launch", &launch, err) < 0)
        return -1;
    if (mp_opt_bool(req->body, "cut", false))
        copies_image_cut(a->copies, launch);
    mp_kuint(&m, "launch", launch);
    mp_kbool(&m, "go", mp_opt_bool(req->body, "go", false));
    mp_kbool(&m, "abort", mp_opt_bool(req->body, "abort", false));
    mp_kint(&m, "uid", mp_opt_int(req->body, "uid", 0));
    return ask(a, req, "arrived", &m, 4, err);
}

/* node.N.depart: {pid, gen, launch, rank, move, npid?, name?, kids?, speaks?} -> {heard, stays,
 * gen, took, said}: it runs elsewhere now */
int on_depart(void *self, struct svc_req *req, struct err *err)
{
    static const char *const rest[] = { "name", "kids", "move", "speaks" };
    agent_t *a = self;
    CLEANUP(mp_free) mp_buf m;
    int64_t pid, gen, rank;
    uint64_t launch;

    mp_init(&m);
    if (mp_get_int(req->body, "pid", 1, INT32_MAX, &pid, err) < 0 ||
        mp_get_int(req->body, "gen", 0, UINT32_MAX, &gen, err) < 0 ||
        mp_get_uint(req->body, "launch", &launch, err) < 0 ||
        mp_get_int(req->body, "rank", 0, UINT32_MAX, &rank, err) < 0)
        return -1;
    mp_kint(&m, "pid", pid);
    mp_kint(&m, "gen", gen);
    mp_kuint(&m, "launch", launch);
    mp_kint(&m, "npid", mp_opt_int(req->body, "npid", 0));
    uint32_t pairs = 4;
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++)
        if (mp_get(req->body, rest[i])) {
            mp_key(&m, rest[i]);
            mp_obj(&m, mp_get(req->body, rest[i]));
            pairs++;
        }
    int rc = ask(a, req, "depart", &m, pairs, err);
    if (rc >= 0)
        launches_exited(a->launches, launch, rank);
    return rc;
}

/* node.N.said: {launch, said: [[rank, fd, offset]...]} -> {read}: has its reader done with
 * all before? To be asked again until it has */
int on_said(void *self, struct svc_req *req, struct err *err)
{
    agent_t *a = self;
    const msgpack_object_array *said;
    uint64_t launch;
    int64_t v[3];
    bool read = true;

    if (!space_ready(a->space) || !a->streams)
        return err_set(err, ENOTCONN, "its process space is not there yet");
    if (mp_get_uint(req->body, "launch", &launch, err) < 0 ||
        mp_get_array(req->body, "said", &said, err) < 0)
        return -1;
    for (uint32_t i = 0; i < said->size; i++) {
        const msgpack_object *o = &said->ptr[i];
        bool good = o->type == MSGPACK_OBJECT_ARRAY && o->via.array.size >= 3;
        for (int k = 0; k < 3 && good; k++)
            good = mp_as_int(&o->via.array.ptr[k], &v[k]) && v[k] >= 0;
        if (!good || v[0] > UINT32_MAX || v[1] > 2)
            return err_set(err, EPROTO, "said: want [rank, fd, offset] rows");
        read &= streams_taken(a->streams, launch, (uint32_t)v[0], (int)v[1], (uint64_t)v[2]);
    }
    mp_map(req->reply, 1);
    mp_kbool(req->reply, "read", read);
    return 0;
}

/* node.N.move: {pid, npid?, launch, to, check?, no_input?} -> {code, text, hindrances: [[what,
 * text]...]}: the process goes to another machine by our hand, or could it? */
int on_move(void *self, struct svc_req *req, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    int64_t pid, to;
    uint64_t launch;

    mp_init(&m);
    if (mp_get_int(req->body, "pid", 1, INT32_MAX, &pid, err) < 0 ||
        mp_get_uint(req->body, "launch", &launch, err) < 0 ||
        mp_get_int(req->body, "to", -1, INT32_MAX, &to, err) < 0)
        return -1;
    mp_kint(&m, "pid", pid);
    mp_kuint(&m, "launch", launch);
    mp_kint(&m, "to", to);
    mp_kbool(&m, "check", mp_opt_bool(req->body, "check", false));
    mp_kbool(&m, "no_input", mp_opt_bool(req->body, "no_input", false));
    mp_kint(&m, "npid", mp_opt_int(req->body, "npid", 0));
    return ask(self, req, "move", &m, 6, err);
}

/* node.N.relay: {token, to: [[addr ("": the master's), port, token, key, say_token]...]} ->
 * nil: the image that is expected here under this ticket goes on there; or {token, cut: true}:
 * it will not come, or the rest of it will not */
int on_relay(void *self, struct svc_req *req, struct err *err)
{
    agent_t *a = self;
    CLEANUP(cleanup_free) char *token = NULL;
    struct pump_dial d[PUMP_DIALS];
    const msgpack_object_array *to;

    if (mp_get_dup(req->body, "token", &token, err) < 0)
        return -1;
    if (mp_opt_bool(req->body, "cut", false)) {
        copies_image_stop(a->copies, token);
        mp_nil(req->reply);
        return 0;
    }
    if (mp_get_array(req->body, "to", &to, err) < 0)
        return -1;
    if (to->size > PUMP_DIALS)
        return err_set(err, EINVAL, "to: %u; at most %d", to->size, PUMP_DIALS);
    memset(d, 0, sizeof d);
    for (uint32_t i = 0; i < to->size; i++) {
        const msgpack_object *r = &to->ptr[i];
        int64_t port;
        if (r->type != MSGPACK_OBJECT_ARRAY || r->via.array.size < 4 ||
            !mp_as_int(&r->via.array.ptr[1], &port) || port < 1 || port > 65535 ||
            r->via.array.ptr[3].type != MSGPACK_OBJECT_BIN ||
            r->via.array.ptr[3].via.bin.size != BULK_KEY)
            return err_set(err, EPROTO, "to: want [addr, port, token, key] rows");
        CLEANUP(cleanup_free) char *addr = mp_dup(&r->via.array.ptr[0]);
        CLEANUP(cleanup_free) char *tok = mp_dup(&r->via.array.ptr[2]);
        if (!addr || !tok || strlen(tok) != BULK_TOKEN || strlen(addr) >= sizeof d[i].addr)
            return err_set(err, EPROTO, "to: want [addr, port, token, key] rows");
        snprintf(d[i].addr, sizeof d[i].addr, "%s", *addr ? addr : a->master_addr);
        d[i].port = (uint16_t)port;
        d[i].say_token = r->via.array.size < 5 || r->via.array.ptr[4].type != MSGPACK_OBJECT_BOOLEAN ||
                         r->via.array.ptr[4].via.boolean;
        memcpy(d[i].ticket.token, tok, BULK_TOKEN + 1);
        memcpy(d[i].ticket.key, r->via.array.ptr[3].via.bin.ptr, BULK_KEY);
    }
    if (copies_image_on(a->copies, token, d, to->size, err) < 0)
        return -1;
    mp_nil(req->reply);
    return 0;
}

/* --- images that go --- */

int moves_way(moves_t *m, const char *token, uint32_t uid, const struct pump_dial *d,
              struct err *err)
{
    struct way *w = calloc(1, sizeof *w);

    for (struct way **p = &m->ways; *p;) {
        struct way *old = *p;
        if (now_ms() - old->made < WAY_MS) {
            p = &old->next;
            continue;
        }
        *p = old->next;
        explicit_bzero(old, sizeof *old);
        free(old);
    }
    if (!w)
        return err_set(err, ENOMEM, "out of memory");
    snprintf(w->token, sizeof w->token, "%s", token);
    w->uid = uid;
    w->to = *d;
    w->made = now_ms();
    w->next = m->ways;
    m->ways = w;
    return 0;
}

static bool on_token(void *arg, struct caller *k)
{
    moves_t *m = arg;
    struct err err = { 0 };
    struct pkt p;
    int n = pkt_recv(k->fd, &p, NULL);

    for (struct way **at = &m->ways; n > 0 && *at; at = &(*at)->next) {
        struct way *w = *at;
        if (p.len != BULK_TOKEN || memcmp(p.data, w->token, BULK_TOKEN) != 0 || w->uid != k->uid)
            continue;
        if (pump_give(k->fd, &w->to, &err) < 0)
            svc_log("warning", "an image: %s", err.text);
        *at = w->next;
        explicit_bzero(w, sizeof *w);
        free(w);
        break;
    }
    if (n > 0)
        pkt_clear(&p);
    return false;
}

moves_t *moves_create(agent_t *a, struct err *err)
{
    moves_t *m = calloc(1, sizeof *m);

    if (!m) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    m->a = a;
    int fd = gate_listen(a->gate, "move", err);
    if (fd >= 0)
        m->callers = callers_open(a->loop, fd, 0, on_token, m, err);
    if (!m->callers)
        moves_destroy(&m);
    return m;
}

void moves_destroy(moves_t **mp)
{
    moves_t *m = *mp;

    if (!m)
        return;
    callers_close(&m->callers);
    while (m->asked) {
        struct asked *q = m->asked;
        m->asked = q->next;
        free(q);
    }
    while (m->ways) {
        struct way *w = m->ways;
        m->ways = w->next;
        explicit_bzero(w, sizeof *w);
        free(w);
    }
    free(m);
    *mp = NULL;
}
