/* fetch.c - files from a node: to here, and to other nodes
 *
 * The node's bpcopy is the source. To here it sends through our connection; to
 * other nodes it spreads by itself, and only the reports come to us.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "clients/bpcp/bpcp.h"

#define TRIES 3

struct from { /* a node that files come from */
    struct bpcp *b;
    int node;
    bool refused;
    uint64_t bytes;
};

static void refused(void *arg, int node, int code, const char *text)
{
    struct from *s = arg;

    (void)code;
    s->refused = true;
    say(s->b, node, NULL, text);
}

static void fault(void *arg, const char *path, const char *text)
{
    struct from *s = arg;

    say(s->b, s->node, path, text);
}

static void progress(void *arg, uint64_t bytes)
{
    struct from *s = arg;

    say_progress(s->b, "", bytes);
}

static chan_t *reach(struct from *s, struct err *err)
{
    CLEANUP(dests_free) struct dests d = { 0 };

    if (dests_get(s->b, &s->node, 1, &d, refused, s, err) < 0 || d.n == 0)
        return NULL;
    return dest_connect(&d.d[0], err);
}

static void pack_sources(const struct bpcp *b, mp_buf *m, const struct operand *o, size_t n)
{
    mp_kbool(m, "recurse", b->recurse);
    mp_kint(m, "follow", b->follow);
    mp_kbin(m, "cwd", b->cwd, strlen(b->cwd));
    mp_key(m, "sources");
    mp_array(m, (uint32_t)n);
    for (size_t i = 0; i < n; i++)
        mp_bin(m, o[i].path, strlen(o[i].path));
}

/* --- to here --- */

static void say_faults(struct bpcp *b, const struct faults *f)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked u;

    mp_init(&m);
    msgpack_unpacked_init(&u);
    mp_array(&m, f->n);
    if (f->n)
        msgpack_sbuffer_write(&m.b, f->list.b.data, f->list.b.size);
    if (mp_decode(&u, m.b.data, m.b.size, NULL) < 0)
        return;
    for (uint32_t i = 0; i < u.data.via.array.size; i++) {
        const msgpack_object *p = u.data.via.array.ptr[i].via.array.ptr;
        CLEANUP(cleanup_free) char *path = mp_dup(&p[0]), *text = mp_dup(&p[1]);
        say(b, BPCP_MASTER, path, text ? text : "failed");
    }
    if (f->more)
        say(b, BPCP_MASTER, NULL, "and more failures");
}

static int fetch_once(struct from *s, struct operand *o, size_t n, char *const *only,
                      struct err *err)
{
    struct bpcp *b = s->b;
    struct sink_options opt = { b->target.path, b->nsources > 1, b->preserve, b->umask, only };
    struct receiver rec = { fault, progress, s };
    CLEANUP(sink_destroy) sink_t *sink = NULL;
    CLEANUP(mp_free) mp_buf m;
    struct err why = { 0 };
    struct faults f;

    mp_init(&m);
    if (b->target.path[strlen(b->target.path) - 1] == '/' && !b->recurse)
        opt.must_be_dir = true;
    faults_init(&f);
    sink = sink_create(&opt, &f, &why);
    if (!sink) {
        say(b, BPCP_MASTER, b->target.path, why.text);
        faults_free(&f);
        return 0;
    }
    chan_t *c = reach(s, err);
    mp_map(&m, 4);
    pack_sources(b, &m, o, n);
    int rc = c ? 0 : s->refused ? 0 : -1;
    if (c) {
        rc = chan_send(c, COPY_PULL, m.b.data, m.b.size, NULL, 0, err);
        if (rc == 0)
            rc = chan_flush(c, err);
        if (rc == 0)
            rc = relay_receive(c, sink, &rec, err);
    }
    chan_close(&c);
    sink_destroy(&sink);
    say_faults(b, &f);
    faults_free(&f);
    return rc;
}

static bool broken(const struct err *err)
{
    return err->code == ECONNRESET || err->code == EPIPE;
}

int fetch(struct bpcp *b, struct operand *o, size_t n, struct err *err)
{
    struct from s = { .b = b, .node = o->nodes.node[0] };
    CLEANUP(cleanup_free) char **only = calloc(n + 1, sizeof *only);
    int rc = only ? 0 : err_set(err, ENOMEM, "out of memory");

    for (size_t i = 0; rc == 0 && i < n; i++)
        if (!(only[i] = source_name(o[i].path)))
            rc = err_set(err, ENOMEM, "out of memory");
    for (int tries = 0; rc == 0 && tries < TRIES && !s.refused; tries++) {
        struct err why = { 0 };
        if (fetch_once(&s, o, n, only, &why) == 0)
            break;
        if (tries == TRIES - 1 || !broken(&why)) {
            say(b, s.node, NULL, why.text);
            break;
        }
    }
    for (size_t i = 0; only && i < n; i++)
        free(only[i]);
    return rc;
}

/* --- to other nodes --- */

static int hear(struct round *r, chan_t *c, bool end, struct err *err)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked u;
    struct frame f;
    uint64_t bytes;

    msgpack_unpacked_init(&u);
    for (;;) {
        int rc = chan_recv(c, &f, err);
        if (rc == 0)
            return err_set(err, ECONNRESET, "the connection was lost");
        if (rc < 0)
            return -1;
        if (f.kind == COPY_REPORT)
            break;
        if (f.kind != COPY_PROGRESS || f.len != sizeof bytes)
            return err_set(err, EPROTO, "message %d was not due", (int)f.kind);
        memcpy(&bytes, f.p, sizeof bytes);
        say_progress(r->b, "", le64toh(bytes));
    }
    return mp_decode(&u, f.p, f.len, err) < 0 ? -1 : round_report(r, &u.data, end, err);
}

static int push_once(struct round *r, struct from *s, struct operand *o, size_t n,
                     struct err *err)
{
    CLEANUP(cleanup_free) int *node = NULL;
    CLEANUP(dests_free) struct dests d = { 0 };
    CLEANUP(mp_free) mp_buf m;
    size_t waiting;

    mp_init(&m);
    if (round_waiting(r, &node, &waiting, err) < 0 || waiting == 0 ||
        dests_get(r->b, node, waiting, &d, round_refused, r, err) < 0)
        return err->code ? -1 : 0;
    if (d.n == 0)
        return 0;
    chan_t *c = reach(s, err);
    if (!c)
        return s->refused ? 0 : -1;
    mp_map(&m, 5);
    pack_sources(r->b, &m, o, n);
    mp_key(&m, "open");
    pack_open(r->b, &m, d.d, d.n);
    int rc = chan_send(c, COPY_PUSH, m.b.data, m.b.size, NULL, 0, err);
    if (rc == 0)
        rc = chan_flush(c, err);
    if (rc == 0)
        rc = hear(r, c, false, err);
    if (rc == 0)
        rc = hear(r, c, true, err);
    chan_close(&c);
    return rc;
}

int send_from_node(struct bpcp *b, struct operand *o, size_t n, struct err *err)
{
    struct from s = { .b = b, .node = o->nodes.node[0] };
    CLEANUP(round_free) struct round r = { 0 };
    int lost = 0;

    if (round_begin(&r, b, err) < 0)
        return -1;
    for (size_t i = 0; i < r.n; i++)
        if (r.t[i].node == BPCP_MASTER)
            r.t[i].state = TARGET_DONE; /* fetch() sees to it */
    while (round_any(&r) && !s.refused) {
        struct err why = { 0 };
        if (push_once(&r, &s, o, n, &why) < 0 && (!broken(&why) || ++lost == TRIES)) {
            say(b, s.node, NULL, why.text);
            break;
        }
        if (!round_next(&r))
            break;
    }
    return 0;
}
