/* launch.c - launches: their files, their start, what of them runs
 *
 * A launch waits for its files, then for bpinit's word about the start, then
 * is answered. A record stays until the last of its processes has ended and a
 * while longer, so that a launch asked for again (by a master service that was
 * restarted) is answered again and nothing starts twice.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bus/bulk.h"
#include "image/pipe.h"
#include "node/agent/agent.h"
#include "node/agent/files.h"
#include "node/agent/request.h"
#include "node/agent/streams.h"
#include "node/space.h"

#define BUCKETS 1024
#define KEEP_MS 120000 /* the record of an ended launch */

struct waiter { /* who wants the answer */
    svc_token *token;
    struct waiter *next;
};

struct later { /* a signal that came before the process did */
    mp_buf msg;
    struct later *next;
};

enum rank_state { RANK_NEW, RANK_LIVE, RANK_ENDED };

struct rank {
    uint32_t rank;
    int32_t pid, npid;
    uint32_t gen;
    enum rank_state state;
};

struct launch {
    launches_t *l;
    uint64_t id, job; /* the scheduler's job that it is part of; 0: none */
    uint32_t uid;
    enum { FETCHING, SPAWNING, RUNNING } state;
    struct rank *rank;
    size_t ranks, live;
    struct request rq; /* until SPAWNING */
    char *chroot;      /* rq's root: the node's may change meanwhile */
    files_hold_t *hold;
    struct waiter *waiters;
    struct later *later;
    mp_buf replaced;   /* rows for the answer: [path, ours] */
    uint32_t nreplaced;
    mp_buf image;      /* for the answer: where its image is to be sent; or empty */
    mp_buf answer; /* RUNNING, and not taken over from an earlier agent */
    int64_t ended; /* now_ms() */
    struct launch *next;
};

struct launches {
    agent_t *a;
    struct launch *bucket[BUCKETS];
    uint32_t live;            /* processes */
    uint32_t fetching;        /* launches */
    files_hold_t *hold_all;   /* for launches of an earlier agent ... */
    uint32_t adopted;         /* ... of which this many processes run */
    char space_id[64];        /* whose processes these are */
    int sweep_timer;
};

/* ---- the table ---- */

static struct launch **slot(launches_t *l, uint64_t id)
{
    struct launch **p = &l->bucket[(id ^ id >> 20) % BUCKETS];

    while (*p && (*p)->id != id)
        p = &(*p)->next;
    return p;
}

static struct launch *launch_add(launches_t *l, uint64_t id, uint32_t uid)
{
    struct launch **p = slot(l, id), *x = calloc(1, sizeof *x);

    if (!x)
        return NULL;
    x->l = l;
    x->id = id;
    x->uid = uid;
    x->state = RUNNING;
    mp_init(&x->rq.spawn);
    mp_init(&x->rq.maps);
    mp_init(&x->replaced);
    mp_init(&x->answer);
    mp_init(&x->image);
    *p = x;
    return x;
}

static void launch_free(struct launch *x)
{
    launches_t *l = x->l;
    struct launch **p = slot(l, x->id);

    if (*p == x)
        *p = x->next;
    l->live -= (uint32_t)x->live;
    l->fetching -= x->state == FETCHING;
    files_drop(l->a->files, &x->hold);
    request_free(&x->rq);
    while (x->later) {
        struct later *n = x->later;
        x->later = n->next;
        mp_free(&n->msg);
        free(n);
    }
    mp_free(&x->replaced);
    mp_free(&x->answer);
    mp_free(&x->image);
    free(x->chroot);
    free(x->rank);
    free(x);
}

static struct rank *rank_find(const struct launch *x, int64_t rank)
{
    for (size_t i = 0; i < x->ranks; i++)
        if (x->rank[i].rank == rank)
            return &x->rank[i];
    return NULL;
}

static struct rank *rank_add(struct launch *x, uint32_t rank)
{
    struct rank *p = realloc(x->rank, (x->ranks + 1) * sizeof *p);

    if (!p)
        return NULL;
    x->rank = p;
    p[x->ranks] = (struct rank){ .rank = rank, .gen = 1 };
    return &p[x->ranks++];
}

static void rank_live(struct launch *x, struct rank *r)
{
    if (r->state != RANK_NEW)
        return;
    r->state = RANK_LIVE;
    x->live++;
    x->l->live++;
}

static void launch_settle(struct launch *x)
{
    if (x->state != RUNNING || x->live)
        return;
    files_drop(x->l->a->files, &x->hold);
    x->ended = now_ms();
}

static void sweep(void *arg)
{
    launches_t *l = arg;
    int64_t old = now_ms() - KEEP_MS;

    for (size_t b = 0; b < BUCKETS; b++)
        for (struct launch *x = l->bucket[b], *next; x; x = next) {
            next = x->next;
            if (x->state == RUNNING && !x->live && x->ended < old)
                launch_free(x);
        }
}

/* ---- answers ---- */

static void answer(struct launch *x, const mp_buf *value)
{
    while (x->waiters) {
        struct waiter *w = x->waiters;
        x->waiters = w->next;
        svc_answer(x->l->a->svc, w->token, value);
        free(w);
    }
}

/* None of it runs: each rank gets the reason. The launch is forgotten. */
static void launch_fail(struct launch *x, int code, const char *text)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 2);
    mp_key(&m, "started");
    mp_array(&m, 0);
    mp_key(&m, "failed");
    mp_array(&m, (uint32_t)x->ranks);
    for (size_t i = 0; i < x->ranks; i++) {
        mp_array(&m, 3);
        mp_uint(&m, x->rank[i].rank);
        mp_int(&m, code);
        mp_str(&m, text);
    }
    answer(x, &m);
    launch_free(x);
}

/* The answer for a launch that an earlier agent started. */
static void answer_adopted(struct launch *x, const struct request *rq)
{
    CLEANUP(mp_free) mp_buf m;
    uint32_t started = 0;

    for (size_t i = 0; i < rq->ranks; i++)
        started += rank_find(x, rq->rank[i].rank) != NULL;
    mp_init(&m);
    mp_map(&m, 2);
    mp_key(&m, "started");
    mp_array(&m, started);
    for (size_t i = 0; i < rq->ranks; i++) {
        const struct rank *r = rank_find(x, rq->rank[i].rank);
        if (!r)
            continue;
        mp_array(&m, 2);
        mp_uint(&m, r->rank);
        mp_int(&m, r->npid ? r->npid : rq->rank[i].pid);
    }
    mp_key(&m, "failed");
    mp_array(&m, (uint32_t)rq->ranks - started);
    for (size_t i = 0; i < rq->ranks; i++) {
        if (rank_find(x, rq->rank[i].rank))
            continue;
        mp_array(&m, 3);
        mp_uint(&m, rq->rank[i].rank);
        mp_int(&m, ESRCH);
        mp_str(&m, "it failed or ended while the node's agent was restarted");
    }
    answer(x, &m);
}

/* ---- starting ---- */

static void close_ends(int *fd, size_t n)
{
    for (size_t i = 0; i < n; i++)
        close(fd[i]);
    free(fd);
}

/* A pipe for each rank's image: one end for bpinit, the other for what comes
 * in by the ticket that the answer names. */
static int expect_images(struct launch *x, struct err *err)
{
    agent_t *a = x->l->a;
    struct bulk_ticket t;
    msgpack_unpacked u;
    int *out = calloc(x->ranks, sizeof *out);
    size_t n = 0;

    if (!out)
        return err_set(err, ENOMEM, "out of memory");
    for (; n < x->ranks; n++) {
        CLEANUP(mp_free) mp_buf m;
        int p[2];
        mp_init(&m);
        if (image_pipe(p) < 0) {
            close_ends(out, n);
            return err_set(err, errno, "pipe: %s", strerror(errno));
        }
        out[n] = p[1];
        mp_map(&m, 2);
        mp_kuint(&m, "launch", x->id);
        mp_kuint(&m, "rank", x->rank[n].rank);
        if (space_send_fd(a->space, "image", &m, p[0], err) < 0) {
            close_ends(out, n + 1);
            return -1;
        }
    }
    if (copies_image(a->copies, x->id, out, n, &t, err) < 0) {
        close_ends(out, n);
        return -1;
    }
    mp_key(&x->image, "image");
    mp_map(&x->image, 4);
    mp_kint(&x->image, "port", copies_port(a->copies));
    mp_kstr(&x->image, "token", t.token);
    mp_kbin(&x->image, "key", t.key, sizeof t.key);
    mp_key(&x->image, "lacks");
    msgpack_unpacked_init(&u);
    int rc = mp_decode(&u, x->rq.maps.b.data, x->rq.maps.b.size, err);
    if (rc == 0)
        rc = moves_lacks(a, x->chroot, &u.data, &x->image, err);
    msgpack_unpacked_destroy(&u);
    return rc;
}

static void spawn(struct launch *x)
{
    space_t *s = x->l->a->space;
    struct err err = { 0 };

    if ((x->rq.image && expect_images(x, &err) < 0) ||
        space_send(s, "spawn", &x->rq.spawn, &err) < 0) {
        launch_fail(x, err.code == ENOTCONN ? BE_NODEDOWN : err.code, err.text);
        return;
    }
    x->state = SPAWNING;
    x->l->fetching--;
    request_free(&x->rq);
    while (x->later) {
        struct later *n = x->later;
        x->later = n->next;
        if (space_send(s, "signal", &n->msg, &err) < 0)
            svc_log("warning", "launch %" PRIu64 ": a signal is lost: %s", x->id, err.text);
        mp_free(&n->msg);
        free(n);
    }
}

static void on_files(void *arg, const struct err *err)
{
    struct launch *x = arg;

    if (err)
        launch_fail(x, err->code, err->text);
    else
        spawn(x);
}

/* A library of the same name stood there: this program gets the master's, but
 * somebody may have wanted the other. The program itself (the first file) is
 * built anew all the time, which is nothing to talk about. */
static void on_replaced(void *arg, const struct files_want *w, bool ours)
{
    struct launch *x = arg;

    if (w == x->rq.want)
        return;
    svc_log("warning", "launch %" PRIu64 ": %s: %s; the master's is there now", x->id, w->path,
            ours ? "an older one was here" : "another one was here");
    mp_array(&x->replaced, 2);
    mp_str(&x->replaced, w->path);
    mp_bool(&x->replaced, ours);
    x->nreplaced++;
}

static int add_waiter(struct launch *x, svc_token *token, struct err *err)
{
    struct waiter *w = malloc(sizeof *w);

    if (!w)
        return err_set(err, ENOMEM, "out of memory");
    *w = (struct waiter){ token, x->waiters };
    x->waiters = w;
    return 0;
}

/* Asked for again: the answer, or wait for it too. */
static int launch_again(struct launch *x, const struct request *rq, svc_token *token,
                        struct err *err)
{
    if (add_waiter(x, token, err) < 0)
        return -1;
    if (x->state == FETCHING && rq->wants) /* a newer service does not know the old ticket */
        x->rq.from = rq->from;
    if (x->state == RUNNING && x->answer.b.size)
        answer(x, &x->answer);
    else if (x->state == RUNNING)
        answer_adopted(x, rq);
    return SVC_LATER;
}

static struct launch *launch_new(launches_t *l, struct request *rq, svc_token *token,
                                 struct err *err)
{
    const char *chroot = l->a->chroot;
    struct launch *x = launch_add(l, rq->launch, rq->uid);

    if (!x) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    x->state = FETCHING;
    l->fetching++;
    x->rank = calloc(rq->ranks, sizeof *x->rank);
    if (chroot)
        x->chroot = strdup(chroot);
    if (!x->rank || (chroot && !x->chroot)) {
        launch_free(x);
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    if (add_waiter(x, token, err) < 0) {
        launch_free(x);
        return NULL;
    }
    for (; x->ranks < rq->ranks; x->ranks++)
        x->rank[x->ranks] = (struct rank){ .rank = rq->rank[x->ranks].rank,
                                           .pid = rq->rank[x->ranks].pid,
                                           .gen = 1 };
    mp_free(&x->rq.spawn);
    mp_free(&x->rq.maps);
    x->rq = *rq; /* ours now */
    memset(rq, 0, sizeof *rq);
    mp_init(&rq->spawn);
    mp_init(&rq->maps);
    return x;
}

/* node.N.launch: see doc/wire.md. The answer comes when bpinit has spoken. */
int on_launch(void *self, struct svc_req *req, struct err *err)
{
    agent_t *a = self;
    launches_t *l = a->launches;
    CLEANUP(request_free) struct request rq;
    struct err e = { 0 };

    if (request_parse(&rq, a, req->body, err) < 0)
        return -1;
    if (!space_ready(a->space))
        return err_set(err, BE_NODEDOWN, "Node is down: its process space is not there");
    struct launch *x = *slot(l, rq.launch);
    if (x)
        return launch_again(x, &rq, req->token, err);
    x = launch_new(l, &rq, req->token, err);
    if (!x)
        return -1;
    x->job = job_of(req->body);
    struct files_request fr = { x->chroot, x->rq.want, x->rq.wants, &x->rq.dirs, &x->rq.from,
                                on_replaced };
    int rc = files_provide(a->files, &fr, on_files, x, &x->hold, &e);
    if (rc < 0)
        launch_fail(x, e.code, e.text);
    else if (rc == 0)
        spawn(x);
    return SVC_LATER;
}

/* One row of spawned.started: [rank, npid, in, out, err] */
static void take_started(struct launch *x, const msgpack_object *o, mp_buf *out)
{
    streams_t *streams = x->l->a->streams;
    int64_t v[5] = { -1, -1, -1, -1, -1 };

    if (o->type == MSGPACK_OBJECT_ARRAY)
        for (uint32_t i = 0; i < o->via.array.size && i < 5; i++)
            if (!mp_as_int(&o->via.array.ptr[i], &v[i]))
                v[i] = -1;
    mp_array(out, 2);
    mp_int(out, v[0]);
    mp_int(out, v[1]);
    struct rank *r = rank_find(x, v[0]);
    if (!r)
        return;
    r->npid = (int32_t)v[1];
    rank_live(x, r);
    for (int fd = 0; fd < 3; fd++)
        if (v[2 + fd] >= 0 && v[2 + fd] < space_slots(x->l->a->space))
            streams_add(streams, x->id, x->uid, r->rank, fd, (uint32_t)v[2 + fd]);
}

/* bpinit has started a launch, or some of it, and says what failed. */
void launches_spawned(launches_t *l, const msgpack_object *map)
{
    const msgpack_object_array *started, *failed;
    struct err err = { 0 };
    uint64_t id;

    if (mp_get_uint(map, "launch", &id, &err) < 0 ||
        mp_get_array(map, "started", &started, &err) < 0 ||
        mp_get_array(map, "failed", &failed, &err) < 0) {
        svc_log("error", "bpinit: spawned: %s", err.text);
        return;
    }
    struct launch *x = *slot(l, id);
    if (!x || x->state != SPAWNING)
        return; /* an earlier connection's; the list has told */
    mp_map(&x->answer, x->image.b.size ? 4 : 3);
    msgpack_sbuffer_write(&x->answer.b, x->image.b.data, x->image.b.size);
    mp_key(&x->answer, "started");
    mp_array(&x->answer, started->size);
    for (uint32_t i = 0; i < started->size; i++)
        take_started(x, &started->ptr[i], &x->answer);
    mp_key(&x->answer, "failed");
    mp_array(&x->answer, failed->size);
    for (uint32_t i = 0; i < failed->size; i++)
        mp_obj(&x->answer, &failed->ptr[i]);
    mp_key(&x->answer, "replaced");
    mp_array(&x->answer, x->nreplaced);
    msgpack_sbuffer_write(&x->answer.b, x->replaced.b.data, x->replaced.b.size);
    x->state = RUNNING;
    streams_added(l->a->streams, id);
    answer(x, &x->answer);
    launch_settle(x);
}

void launches_exited(launches_t *l, uint64_t id, int64_t rank)
{
    struct launch *x = *slot(l, id);

    if (!x) { /* ended under an earlier agent: known, so it is not started again */
        x = launch_add(l, id, 0);
        if (!x)
            return;
    }
    struct rank *r = rank_find(x, rank);
    if (!r && rank >= 0 && rank <= UINT32_MAX)
        r = rank_add(x, (uint32_t)rank);
    if (!r || r->state == RANK_ENDED)
        return;
    if (r->state == RANK_LIVE) {
        x->live--;
        l->live--;
        if (!x->answer.b.size && l->adopted && --l->adopted == 0)
            files_drop(l->a->files, &l->hold_all);
    }
    r->state = RANK_ENDED;
    launch_settle(x);
}

void launches_never_came(launches_t *l, const msgpack_object *map)
{
    uint64_t id;
    int64_t rank;

    if (mp_get_uint(map, "launch", &id, NULL) < 0 ||
        mp_get_int(map, "rank", 0, UINT32_MAX - 1, &rank, NULL) < 0)
        return;
    if (l->a->streams) /* else we have only just met bpinit, and have none */
        streams_drop(l->a->streams, id, (uint32_t)rank);
    if (l->a->copies)
        copies_image_gone(l->a->copies, id);
    launches_exited(l, id, rank);
}

/* ---- bpinit's list ---- */

static struct launch *known(launches_t *l, const msgpack_object *o, struct rank **r,
                            struct err *err)
{
    uint64_t id;
    int64_t rank, uid;

    if (mp_get_uint(o, "launch", &id, err) < 0 ||
        mp_get_int(o, "rank", 0, UINT32_MAX - 1, &rank, err) < 0 ||
        mp_get_int(o, "uid", 0, UINT32_MAX, &uid, err) < 0)
        return NULL;
    struct launch *x = *slot(l, id);
    if (!x)
        x = launch_add(l, id, (uint32_t)uid);
    if (x) {
        x->uid = (uint32_t)uid;
        *r = rank_find(x, rank);
        if (!*r)
            *r = rank_add(x, (uint32_t)rank);
    }
    if (!x || !*r) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    return x;
}

static int adopt_proc(launches_t *l, const msgpack_object *o, struct err *err)
{
    struct rank *r;
    int64_t pid, npid, gen;
    struct launch *x = known(l, o, &r, err);

    if (!x || mp_get_int(o, "pid", 1, INT32_MAX, &pid, err) < 0 ||
        mp_get_int(o, "npid", 1, INT32_MAX, &npid, err) < 0 ||
        mp_get_int(o, "gen", 0, UINT32_MAX, &gen, err) < 0)
        return -1;
    r->pid = (int32_t)pid;
    r->npid = (int32_t)npid;
    r->gen = (uint32_t)gen;
    if (r->state == RANK_NEW) {
        rank_live(x, r);
        l->adopted++;
    }
    if (mp_opt_bool(o, "starting", false)) /* an earlier agent has asked, we are told */
        x->state = SPAWNING;
    return 0;
}

static int adopt_ring(launches_t *l, const msgpack_object *o, struct err *err)
{
    struct rank *r;
    int64_t fd, at;
    struct launch *x = known(l, o, &r, err);

    if (!x || mp_get_int(o, "fd", 0, 2, &fd, err) < 0 ||
        mp_get_int(o, "slot", 0, (int64_t)space_slots(l->a->space) - 1, &at, err) < 0)
        return -1;
    if (r->state == RANK_NEW) /* of a process that has ended */
        r->state = RANK_ENDED;
    streams_add(l->a->streams, x->id, x->uid, r->rank, (int)fd, (uint32_t)at);
    return 0;
}

static void forget_all(launches_t *l)
{
    for (size_t b = 0; b < BUCKETS; b++)
        while (l->bucket[b]) {
            struct launch *x = l->bucket[b];
            if (x->waiters)
                launch_fail(x, BE_NODEDOWN, "Node is down: its process space has ended");
            else
                launch_free(x);
        }
    l->adopted = 0;
    files_drop(l->a->files, &l->hold_all);
}

void launches_adopt(launches_t *l, const msgpack_object *map)
{
    const msgpack_object_array *procs, *rings;
    struct err err = { 0 };

    if (strcmp(l->space_id, l->a->space_id)) {
        forget_all(l);
        snprintf(l->space_id, sizeof l->space_id, "%s", l->a->space_id);
    }
    if (mp_get_array(map, "procs", &procs, &err) < 0 ||
        mp_get_array(map, "rings", &rings, &err) < 0) {
        svc_log("error", "bpinit's list: %s", err.text);
        return;
    }
    for (uint32_t i = 0; i < procs->size; i++)
        if (adopt_proc(l, &procs->ptr[i], &err) < 0)
            svc_log("error", "bpinit's list: process: %s", err.text);
    for (uint32_t i = 0; i < rings->size; i++)
        if (adopt_ring(l, &rings->ptr[i], &err) < 0)
            svc_log("error", "bpinit's list: ring: %s", err.text);
    for (size_t b = 0; b < BUCKETS; b++)
        for (struct launch *x = l->bucket[b]; x; x = x->next)
            if (x->state == RUNNING && x->ranks) {
                streams_added(l->a->streams, x->id);
                launch_settle(x);
            }
    if (l->adopted && !l->hold_all)
        l->hold_all = files_hold_all(l->a->files);
    if (procs->size || rings->size)
        svc_log("info", "took over %u processes and %u streams", procs->size, rings->size);
}

/* The connection is gone. What was being started is unknown: if bpinit lives
 * its list will tell, and the master ends what it does not want. */
void launches_lost(launches_t *l)
{
    for (size_t b = 0; b < BUCKETS; b++)
        for (struct launch *x = l->bucket[b], *next; x; x = next) {
            next = x->next;
            if (x->state == SPAWNING)
                launch_fail(x, BE_NODEDOWN, "Node is down: its process space was lost");
        }
}

uint32_t launches_procs(const launches_t *l) { return l->live; }

int32_t launches_pid(const launches_t *l, int32_t npid)
{
    for (size_t b = 0; b < BUCKETS; b++)
        for (const struct launch *x = l->bucket[b]; x; x = x->next)
            for (size_t i = 0; i < x->ranks; i++)
                if (x->rank[i].npid == npid && x->rank[i].state == RANK_LIVE)
                    return x->rank[i].pid;
    return 0;
}

/* ---- signals ---- */

/* The launch, still waiting for its files, that pid will be of. */
static struct launch *fetching(launches_t *l, int64_t pid)
{
    for (size_t b = 0; b < BUCKETS && l->fetching; b++)
        for (struct launch *x = l->bucket[b]; x; x = x->next)
            for (size_t i = 0; x->state == FETCHING && i < x->ranks; i++)
                if (x->rank[i].pid == pid)
                    return x;
    return NULL;
}

static void pack_signal(mp_buf *m, int64_t pid, int64_t gen, int64_t npid, int64_t sig,
                        const msgpack_object *body)
{
    static const char *const extra[] = { "value", "from_uid", "from_pid", "conts", "after",
                                         "once" };
    const msgpack_object *o[6];
    uint32_t n = 0;

    for (int i = 0; i < 6; i++)
        n += (o[i] = mp_get(body, extra[i])) != NULL;
    mp_map(m, 3 + n + (npid != 0));
    if (npid)
        mp_kint(m, "npid", npid);
    mp_kint(m, "pid", pid);
    mp_kint(m, "gen", gen);
    mp_kint(m, "sig", sig);
    for (int i = 0; i < 6; i++)
        if (o[i]) {
            mp_key(m, extra[i]);
            mp_obj(m, o[i]);
        }
}

static int keep_signal(struct launch *x, const mp_buf *m, struct err *err)
{
    struct later *n = calloc(1, sizeof *n), **end = &x->later;

    if (!n)
        return err_set(err, ENOMEM, "out of memory");
    mp_init(&n->msg);
    msgpack_sbuffer_write(&n->msg.b, m->b.data, m->b.size);
    while (*end)
        end = &(*end)->next;
    *end = n;
    return 0;
}

/* node.N.signal: {pids: [[pid, gen]...], sig, value?, from_uid, from_pid, once?} -> nil:
 * bpinit has it, or will have it whatever becomes of us */
int on_signal(void *self, struct svc_req *req, struct err *err)
{
    agent_t *a = self;
    const msgpack_object_array *pids;
    int64_t sig;

    if (mp_get_array(req->body, "pids", &pids, err) < 0 ||
        mp_get_int(req->body, "sig", 1, 64, &sig, err) < 0)
        return -1;
    for (uint32_t i = 0; i < pids->size; i++) {
        const msgpack_object *p = &pids->ptr[i];
        int64_t pid, gen, npid = 0;
        if (p->type != MSGPACK_OBJECT_ARRAY || p->via.array.size < 2 ||
            !mp_as_int(&p->via.array.ptr[0], &pid) || !mp_as_int(&p->via.array.ptr[1], &gen) ||
            pid < 1 || pid > INT32_MAX)
            return err_set(err, EPROTO, "pids: want [pid, gen, npid?] rows");
        if (p->via.array.size > 2 &&
            (!mp_as_int(&p->via.array.ptr[2], &npid) || npid < 2 || npid > INT32_MAX))
            return err_set(err, EPROTO, "pids: npid: want a process number");
        CLEANUP(mp_free) mp_buf m;
        mp_init(&m);
        pack_signal(&m, pid, gen, npid, sig, req->body);
        struct launch *x = npid ? NULL : fetching(a->launches, pid);
        if ((x ? keep_signal(x, &m, err) : space_send(a->space, "signal", &m, err)) < 0)
            return -1;
    }
    if (mp_get(req->body, "once") && space_backlog(a->space))
        return err_set(err, EAGAIN, "the process space is busy; try again");
    mp_nil(req->reply);
    return 0;
}

/* node.N.end_launch: {launch, sig} -> nil. A launch that is not here is over. */
int on_end_launch(void *self, struct svc_req *req, struct err *err)
{
    agent_t *a = self;
    uint64_t id;
    int64_t sig;

    if (mp_get_uint(req->body, "launch", &id, err) < 0 ||
        mp_get_int(req->body, "sig", 1, 64, &sig, err) < 0)
        return -1;
    mp_nil(req->reply);
    struct launch *x = *slot(a->launches, id);
    if (x && x->state == FETCHING) {
        launch_fail(x, ECANCELED, "ended before it was started");
        return 0;
    }
    /* Known here or not: children may outlive what we remember of it. */
    CLEANUP(mp_free) mp_buf m;
    mp_init(&m);
    mp_map(&m, 2);
    mp_kuint(&m, "launch", id);
    mp_kint(&m, "sig", sig);
    return space_send(a->space, "end_launch", &m, err);
}

uint32_t launches_fetching(const launches_t *l) { return l->fetching; }

uint32_t launches_cancel(launches_t *l, int64_t uid, uint64_t job)
{
    uint32_t n = 0;

    for (int i = 0; i < BUCKETS; i++)
        for (struct launch *x = l->bucket[i], *next; x; x = next) {
            next = x->next;
            if (x->state != FETCHING || (job && x->job != job) ||
                (uid < 0 ? x->uid == 0 : (int64_t)x->uid != uid))
                continue;
            launch_fail(x, ECANCELED, "ended before it was started");
            n++;
        }
    return n;
}

/* ---- life ---- */

/* We end, the node does not: whoever waits asks our successor. */
static void leave(struct launch *x)
{
    struct err err = { 0 };

    err_set(&err, BE_NODEDOWN, "Node is down: its agent is being restarted");
    while (x->waiters) {
        struct waiter *w = x->waiters;
        x->waiters = w->next;
        svc_fail(x->l->a->svc, w->token, &err);
        free(w);
    }
}

launches_t *launches_create(agent_t *a, struct err *err)
{
    launches_t *l = calloc(1, sizeof *l);

    if (!l) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    l->a = a;
    l->sweep_timer = loop_timer(a->loop, KEEP_MS / 4, true, sweep, l);
    return l;
}

void launches_destroy(launches_t **lp)
{
    launches_t *l = *lp;

    if (!l)
        return;
    loop_timer_del(l->a->loop, l->sweep_timer);
    for (size_t b = 0; b < BUCKETS; b++)
        for (struct launch *x = l->bucket[b]; x; x = x->next)
            leave(x);
    forget_all(l);
    free(l);
    *lp = NULL;
}
