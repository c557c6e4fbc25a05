/* relay.c - what a node does in a copy: receive and pass on, or be the source */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "copy/copy.h"

struct node_copy {
    struct relay *r;
    struct fan fan;
    struct faults faults;
    sink_t *sink;
};

static int send_report(struct node_copy *n, int node, bool takes_part, struct err *err)
{
    struct report rep;

    report_init(&rep);
    report_node(&rep, node, takes_part, &n->faults.list, n->faults.n, n->faults.more);
    fan_report(&n->fan, &rep);
    int rc = report_send(&rep, n->r->up, err);
    report_free(&rep);
    return rc;
}

static int open_children(struct node_copy *n, const msgpack_object *open, struct err *err)
{
    return n->r->children ? n->r->children(&n->fan, open, err) : 0;
}

/* --- receiving --- */

static int open_sink(struct node_copy *n, const msgpack_object *open, struct err *err)
{
    CLEANUP(cleanup_free) char *dest = NULL, *cwd = mp_opt_dup(open, "cwd");
    struct err why = { 0 };
    int64_t mask;

    if (mp_get_dup(open, "dest", &dest, err) < 0 ||
        mp_get_int(open, "umask", 0, 0777, &mask, err) < 0)
        return -1;
    if (cwd && chdir(cwd) < 0 && chdir("/") < 0)
        return err_set(err, errno, "/: %s", strerror(errno));
    struct sink_options o = { dest, mp_opt_bool(open, "must_be_dir", false),
                              mp_opt_bool(open, "preserve", false), (mode_t)mask, n->r->only };
    n->sink = sink_create(&o, &n->faults, &why);
    if (!n->sink)
        faults_add(&n->faults, dest, why.text);
    return 0;
}

static int ask(struct node_copy *n, struct err *err)
{
    uint64_t have = n->sink ? sink_have(n->sink) : UINT64_MAX;
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    fan_send(&n->fan, COPY_ASK, NULL, 0, NULL, 0);
    fan_flush(&n->fan);
    mp_uint(&m, fan_have(&n->fan, have));
    if (chan_send(n->r->up, COPY_HAVE, m.b.data, m.b.size, NULL, 0, err) < 0)
        return -1;
    return chan_flush(n->r->up, err);
}

/* A node that cannot write passes on all the same. */
static int receive(struct node_copy *n, struct err *err)
{
    struct frame f;
    int rc;

    for (;;) {
        rc = chan_recv(n->r->up, &f, err);
        if (rc == 0)
            return err_set(err, ECONNRESET, "the sender has gone");
        if (rc < 0)
            return -1;
        if (f.kind == COPY_ASK) {
            if (ask(n, err) < 0)
                return -1;
            continue;
        }
        fan_send(&n->fan, f.kind, f.p, f.len, NULL, 0);
        if (f.kind == COPY_END)
            break;
        if (n->sink && sink_frame(n->sink, &f, err) < 0)
            return -1;
    }
    fan_flush(&n->fan);
    sink_destroy(&n->sink);
    return send_report(n, n->r->node, true, err);
}

static int be_receiver(struct node_copy *n, const msgpack_object *open, struct err *err)
{
    if (open_children(n, open, err) < 0 || open_sink(n, open, err) < 0 ||
        send_report(n, n->r->node, n->sink != NULL, err) < 0)
        return -1;
    faults_free(&n->faults); /* said; at the end only what came after */
    faults_init(&n->faults);
    return receive(n, err);
}

int relay_receive(chan_t *from, sink_t *s, const struct receiver *r, struct err *err)
{
    uint64_t bytes = 0;
    struct frame f;

    for (;;) {
        CLEANUP(mp_free) mp_buf m;
        int rc = chan_recv(from, &f, err);

        mp_init(&m);
        if (rc == 0)
            return err_set(err, ECONNRESET, "the connection was lost");
        if (rc < 0)
            return -1;
        if (f.kind == COPY_END)
            return 0;
        if (f.kind == COPY_ASK) {
            mp_uint(&m, sink_have(s));
            if (chan_send(from, COPY_HAVE, m.b.data, m.b.size, NULL, 0, err) < 0 ||
                chan_flush(from, err) < 0)
                return -1;
        } else if (f.kind == COPY_SERR) {
            const char *nul = memchr(f.p, 0, f.len);
            if (!nul || f.len < 2 || f.p[f.len - 1])
                return err_set(err, EPROTO, "a message was not understood");
            r->fault(r->arg, f.p, nul + 1 < f.p + f.len ? nul + 1 : "");
        } else if (sink_frame(s, &f, err) < 0) {
            return -1;
        }
        if (f.kind == COPY_DATA)
            r->progress(r->arg, bytes += f.len);
    }
}

/* --- being the source --- */

static void fault_up(void *arg, const char *path, const char *text)
{
    struct node_copy *n = arg;

    fan_send(&n->fan, COPY_SERR, path, strlen(path) + 1, text, strlen(text) + 1);
}

static void fault_keep(void *arg, const char *path, const char *text)
{
    struct node_copy *n = arg;

    faults_add(&n->faults, path, text);
}

#define PROGRESS_BYTES (16u << 20)

static void progress(void *arg, const char *path, uint64_t bytes)
{
    static uint64_t said;
    struct node_copy *n = arg;
    uint64_t v = htole64(bytes);

    (void)path;
    if (bytes - said < PROGRESS_BYTES)
        return;
    said = bytes;
    /* Who asked has gone: nobody wants the rest. */
    if (chan_send(n->r->up, COPY_PROGRESS, &v, sizeof v, NULL, 0, NULL) < 0 ||
        chan_flush(n->r->up, NULL) < 0)
        fan_free(&n->fan);
}

static int sources(const msgpack_object *map, char ***path, size_t *n, struct err *err)
{
    const msgpack_object_array *a;

    if (mp_get_array(map, "sources", &a, err) < 0)
        return -1;
    *path = calloc(a->size + 1, sizeof **path);
    if (!*path)
        return err_set(err, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < a->size; i++) {
        char *p = mp_dup(&a->ptr[i]);
        if (!p || !*p) {
            free(p);
            return err_set(err, EPROTO, "sources: want paths");
        }
        (*path)[(*n)++] = p;
    }
    return 0;
}

static int walk(struct node_copy *n, const msgpack_object *map, bool push, struct err *err)
{
    CLEANUP(cleanup_free) char *cwd = mp_opt_dup(map, "cwd"), *place = NULL;
    char **path = NULL;
    size_t npath = 0;
    int64_t follow = mp_opt_int(map, "follow", LINKS_OPERANDS);
    int rc = sources(map, &path, &npath, err);

    if (rc == 0 && cwd && chdir(cwd) < 0 && chdir("/") < 0)
        rc = err_set(err, errno, "/: %s", strerror(errno));
    if (rc == 0 && asprintf(&place, "%d", n->r->node) < 0)
        rc = err_set(err, ENOMEM, "out of memory");
    struct source s = { .to = &n->fan, .recurse = mp_opt_bool(map, "recurse", false),
                        .follow = follow == LINKS_NEVER ? LINKS_NEVER
                                  : follow == LINKS_ALL ? LINKS_ALL : LINKS_OPERANDS,
                        .place = place, .fault = push ? fault_keep : fault_up,
                        .progress = push ? progress : NULL, .arg = n };
    if (rc == 0)
        rc = source_run(&s, path, npath, err);
    for (size_t i = 0; i < npath; i++)
        free(path[i]);
    free(path);
    return rc;
}

static int pull(struct node_copy *n, const msgpack_object *map, struct err *err)
{
    if (fan_add(&n->fan, n->r->up, NULL, 0, NULL, err) < 0)
        return -1;
    n->r->up = NULL; /* the fan's now */
    if (walk(n, map, false, err) < 0)
        return -1;
    fan_send(&n->fan, COPY_END, NULL, 0, NULL, 0);
    fan_flush(&n->fan);
    return fan_alive(&n->fan) ? 0 : err_set(err, ECONNRESET, "%s", n->fan.kid[0].why);
}

/* First a report of who takes part, then another of how it went. The faults of
 * the source itself are a line in the second, as of COPY_SOURCE: the same node
 * may be among the receivers. */
static int push(struct node_copy *n, const msgpack_object *map, struct err *err)
{
    const msgpack_object *open = mp_get(map, "open");
    struct report rep;

    if (!open)
        return err_set(err, EPROTO, "open: missing");
    if (open_children(n, open, err) < 0)
        return -1;
    report_init(&rep);
    fan_report(&n->fan, &rep);
    int rc = report_send(&rep, n->r->up, err);
    report_free(&rep);
    if (rc < 0 || walk(n, map, true, err) < 0)
        return -1;
    fan_send(&n->fan, COPY_END, NULL, 0, NULL, 0);
    fan_flush(&n->fan);
    return send_report(n, COPY_SOURCE, true, err);
}

int relay_serve(struct relay *r, struct err *err)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked u;
    struct node_copy n = { .r = r };
    struct frame f;
    int rc = chan_recv(r->up, &f, err);

    msgpack_unpacked_init(&u);
    if (rc <= 0)
        return rc < 0 ? -1 : err_set(err, ECONNRESET, "nothing was asked for");
    CLEANUP(cleanup_free) char *copy = malloc(f.len + 1); /* the values refer to it */
    if (!copy)
        return err_set(err, ENOMEM, "out of memory");
    memcpy(copy, f.p, f.len);
    if (mp_decode(&u, copy, f.len, err) < 0)
        return -1;
    faults_init(&n.faults);
    switch (f.kind) {
    case COPY_OPEN: rc = be_receiver(&n, &u.data, err); break;
    case COPY_PULL: rc = pull(&n, &u.data, err); break;
    case COPY_PUSH: rc = push(&n, &u.data, err); break;
    default: rc = err_set(err, EPROTO, "message %d is no beginning", (int)f.kind);
    }
    sink_destroy(&n.sink);
    fan_free(&n.fan);
    faults_free(&n.faults);
    return rc;
}
