/* streams.c - the stream end of the agent: which streams there are, and whose
 *
 * A reader may ask for a launch before it is here: what it says is kept for a
 * while and looked at when the launch's streams have all been added. A launch
 * whose streams are over is remembered, to be able to say that it is.
 */
#include "node/agent/streams.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "bus/le.h"
#include "node/agent/stream_parts.h"

#define UNKNOWN_MS 60000   /* a launch that was asked for may be this late */
#define UNKNOWN_MAX 4096
#define UNKNOWN_A_USER 1024 /* root: as many as there are */
#define SAVED_MAX (64u << 20) /* bytes of what was said about them */
#define DONE_MAX 1024
#define OPEN_ENTRY 32      /* bytes a rank in OPEN */

/* ---- the tables ---- */

static size_t hash(uint64_t launch, uint32_t rank, int fd)
{
    uint64_t h = (launch ^ (uint64_t)rank << 2 ^ (uint64_t)fd) * 0x9e3779b97f4a7c15u;
    return (size_t)(h >> 52) % STREAM_BUCKETS;
}

stream_t *stream_find(streams_t *s, uint64_t launch, uint32_t rank, int fd)
{
    stream_t *st = s->bucket[hash(launch, rank, fd)];

    while (st && (st->launch->id != launch || st->rank != rank || st->fd != fd))
        st = st->next_bucket;
    return st;
}

static stream_launch_t *launch_find(streams_t *s, uint64_t id)
{
    stream_launch_t *l = s->launch[hash(id, 0, 0)];

    while (l && l->id != id)
        l = l->next;
    return l;
}

static stream_launch_t *launch_new(streams_t *s, uint64_t id)
{
    stream_launch_t *l = calloc(1, sizeof *l);

    if (!l)
        return NULL;
    l->all = s;
    l->id = id;
    l->saved_end = &l->saved;
    stream_launch_t **at = &s->launch[hash(id, 0, 0)];
    l->next = *at;
    *at = l;
    return l;
}

static void forget_saved(stream_launch_t *l)
{
    while (l->saved) {
        struct saved *v = l->saved;
        l->saved = v->next;
        l->all->saved -= sizeof *v + v->m.len;
        free(v);
    }
    l->saved_end = &l->saved;
}

static void launch_free(stream_launch_t *l)
{
    stream_launch_t **at = &l->all->launch[hash(l->id, 0, 0)];

    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    if (!l->known)
        l->all->nunknown--;
    loop_timer_del(l->all->a->loop, l->timer);
    forget_saved(l);
    free(l);
}

/* All its streams are over: remembered until too many newer ones are. */
static void launch_done(stream_launch_t *l)
{
    streams_t *s = l->all;

    l->next_done = NULL;
    *s->done_end = l;
    s->done_end = &l->next_done;
    if (++s->ndone <= DONE_MAX)
        return;
    stream_launch_t *oldest = s->done;
    s->done = oldest->next_done;
    s->ndone--;
    launch_free(oldest);
}

static void stream_unlink(stream_t *st)
{
    streams_t *s = st->launch->all;
    stream_t **at = &s->bucket[hash(st->launch->id, st->rank, st->fd)];

    while (*at != st)
        at = &(*at)->next_bucket;
    *at = st->next_bucket;
    for (at = &st->launch->streams; *at != st; at = &(*at)->next)
        continue;
    *at = st->next;
    if (!st->queued)
        return;
    for (at = &s->work; *at != st; at = &(*at)->next_work)
        continue;
    *at = st->next_work;
    if (!*at)
        s->work_end = at;
}

void stream_finish(stream_t *st)
{
    stream_launch_t *l = st->launch;

    out_stop_bulk(st);
    stream_unlink(st);
    space_release(l->all->a->space, st->slot);
    free(st);
    if (!l->streams && l->added)
        launch_done(l);
}

/* ---- from the rest of the agent ---- */

void streams_add(streams_t *s, uint64_t launch, uint32_t uid, uint32_t rank, int fd,
                 uint32_t slot)
{
    stream_launch_t *l = launch_find(s, launch);
    stream_t *st = stream_find(s, launch, rank, fd);

    if (st)
        return;
    if (!l && !(l = launch_new(s, launch))) {
        svc_log("error", "streams: out of memory");
        return;
    }
    if (!l->known && l->timer) {
        loop_timer_del(s->a->loop, l->timer);
        l->timer = 0;
        s->nunknown--;
    }
    l->known = true;
    l->uid = uid;
    st = calloc(1, sizeof *st);
    if (!st) {
        svc_log("error", "streams: out of memory");
        return;
    }
    st->launch = l;
    st->rank = rank;
    st->fd = fd;
    st->slot = slot;
    st->ring = space_ring(space_arena(s->a->space), slot);
    st->sent = atomic_load(&st->ring->tail);
    stream_t **at = &s->bucket[hash(launch, rank, fd)];
    st->next_bucket = *at;
    *at = st;
    st->next = l->streams;
    l->streams = st;
}

static void about_launch(stream_launch_t *l, const struct stream_msg *m,
                         const unsigned char *body);

static void look_at(stream_t *st)
{
    /* The mark of a bulk stream stays: its thread is woken otherwise. */
    if (st->bulk || !atomic_load(&st->ring->dirty_for_agent))
        return;
    atomic_store(&st->ring->dirty_for_agent, 0);
    if (st->fd == 0)
        in_changed(st);
    else
        out_changed(st);
}

void streams_added(streams_t *s, uint64_t launch)
{
    stream_launch_t *l = launch_find(s, launch);

    if (!l || l->added)
        return;
    if (!l->known) { /* nothing of it is here, and nothing will be */
        loop_timer_del(s->a->loop, l->timer);
        l->timer = 0;
        s->nunknown--;
        l->known = true;
        l->uid = 0;
    }
    l->added = true;
    if (!l->streams)
        launch_done(l);
    struct saved *v = l->saved;
    l->saved = NULL;
    l->saved_end = &l->saved;
    while (v) {
        struct saved *next = v->next;
        about_launch(l, &v->m, v->body);
        s->saved -= sizeof *v + v->m.len;
        free(v);
        v = next;
    }
    /* The bell may have rung for them, and been answered, before we knew them:
     * a mark that stays would keep it still for ever. */
    for (stream_t *st = l->streams, *next; st; st = next) {
        next = st->next;
        look_at(st);
    }
}

void streams_changed(streams_t *s)
{
    for (size_t i = 0; i < STREAM_BUCKETS; i++)
        for (stream_t *st = s->bucket[i], *next; st; st = next) {
            next = st->next_bucket;
            look_at(st);
        }
}

void streams_lost(streams_t *s)
{
    for (size_t i = 0; i < STREAM_BUCKETS; i++)
        while (s->bucket[i]) {
            stream_t *st = s->bucket[i];
            out_stop_bulk(st);
            stream_unlink(st);
            free(st);
        }
    for (size_t i = 0; i < STREAM_BUCKETS; i++)
        while (s->launch[i])
            launch_free(s->launch[i]);
    s->done = NULL;
    s->done_end = &s->done;
    s->ndone = 0;
}

/* ---- from iofwd ---- */

static void say_none(streams_t *s, uint64_t launch, uint32_t rank, uint16_t flags)
{
    link_say(s->link, &(struct stream_msg){ .kind = STREAM_NONE, .flags = flags, .rank = rank,
                                            .launch = launch });
}

static void on_open(stream_launch_t *l, const struct stream_msg *m, const unsigned char *body)
{
    streams_t *s = l->all;
    uint32_t uid = m->len >= 8 ? le_get32(body) : 0, n = m->len >= 8 ? le_get32(body + 4) : 0;

    if (m->len != 8 + (uint64_t)n * OPEN_ENTRY)
        return;
    if (uid != l->uid && uid != 0 && l->streams) {
        if (!(l->moaned & MOANED_OPEN))
            svc_log("warning", "user %u asked for the streams of launch %016llx of user %u", uid,
                    (unsigned long long)l->id, l->uid);
        l->moaned |= MOANED_OPEN;
        say_none(s, l->id, STREAM_ALL, STREAM_GONE);
        return;
    }
    if (!l->streams && !l->in_ended) {
        say_none(s, l->id, STREAM_ALL, 0);
        return;
    }
    l->opened = true;
    const unsigned char *p = body + 8;
    for (uint32_t i = 0; i < n; i++, p += OPEN_ENTRY) {
        uint32_t rank = le_get32(p);
        stream_t *out = stream_find(s, l->id, rank, 1), *err = stream_find(s, l->id, rank, 2);
        if (out)
            out_open(out, le_get64(p + 16), m->limit);
        if (err)
            out_open(err, le_get64(p + 24), m->limit);
        if (!out && !err && !stream_find(s, l->id, rank, 0))
            say_none(s, l->id, rank, 0);
    }
    in_open(l);
}

static void close_stream(streams_t *s, stream_t *st)
{
    (void)s;
    /* What stdin has got already is still for the program to read. */
    if (st->fd == 0)
        in_end(st);
    else
        stream_finish(st); /* its pipe is closed with the ring */
}

static void on_close(stream_launch_t *l, const struct stream_msg *m, const unsigned char *body)
{
    uint32_t uid = m->len >= 4 ? le_get32(body) : 0;

    if (uid != l->uid && uid != 0) {
        if (!(l->moaned & MOANED_CLOSE))
            svc_log("warning", "user %u wanted to close streams of launch %016llx of user %u",
                    uid, (unsigned long long)l->id, l->uid);
        l->moaned |= MOANED_CLOSE;
        return;
    }
    for (stream_t *st = l->streams, *next; st; st = next) {
        next = st->next;
        if ((m->rank == STREAM_ALL || m->rank == st->rank) &&
            ((m->flags & STREAM_GONE) || m->fd == st->fd))
            close_stream(l->all, st);
    }
    if (m->rank == STREAM_ALL && (m->flags & STREAM_GONE))
        l->opened = false;
}

void streams_drop(streams_t *s, uint64_t launch, uint32_t rank)
{
    for (int fd = 0; fd < 3; fd++) {
        stream_t *st = stream_find(s, launch, rank, fd);
        if (st)
            stream_finish(st);
    }
}

bool streams_taken(streams_t *s, uint64_t launch, uint32_t rank, int fd, uint64_t offset)
{
    stream_t *st = stream_find(s, launch, rank, fd);

    return !st || out_taken(st, offset);
}

void streams_hangup(streams_t *s, uint64_t launch)
{
    stream_launch_t *l = launch_find(s, launch);

    for (stream_t *st = l ? l->streams : NULL, *next; st; st = next) {
        next = st->next;
        close_stream(s, st);
    }
    if (l && l->opened) /* somebody reads all the same: there will be no end */
        say_none(s, launch, STREAM_ALL, 0);
}

static void about_launch(stream_launch_t *l, const struct stream_msg *m,
                         const unsigned char *body)
{
    if (m->kind == STREAM_OPEN)
        on_open(l, m, body);
    else if (m->kind == STREAM_CLOSE)
        on_close(l, m, body);
    else if (m->kind == STREAM_DATA && m->fd == 0 && l->opened)
        in_data(l, m, body);
}

static void on_never_came(void *arg)
{
    stream_launch_t *l = arg;

    l->timer = 0;
    say_none(l->all, l->id, STREAM_ALL, 0);
    launch_free(l);
}

/* May one more launch that is not here be waited for? One user's must not keep
 * another's from being waited for. */
static bool may_wait(const streams_t *s, uint32_t uid)
{
    uint32_t n = 0;

    if (!uid || s->nunknown < UNKNOWN_A_USER)
        return s->nunknown < UNKNOWN_MAX;
    for (size_t i = 0; i < STREAM_BUCKETS; i++)
        for (const stream_launch_t *l = s->launch[i]; l; l = l->next)
            n += !l->known && l->uid == uid;
    return n < UNKNOWN_A_USER && s->nunknown < UNKNOWN_MAX;
}

/* OPEN and CLOSE of a launch that is not (all) here yet. */
static void save(streams_t *s, stream_launch_t *l, const struct stream_msg *m,
                 const unsigned char *body)
{
    if (!l) {
        if (m->kind == STREAM_OPEN && (m->flags & STREAM_STARTED)) {
            say_none(s, m->launch, STREAM_ALL, 0);
            return;
        }
        uint32_t uid = m->len >= 4 ? le_get32(body) : 0;
        if (!may_wait(s, uid) || !(l = launch_new(s, m->launch))) {
            say_none(s, m->launch, STREAM_ALL, 0);
            return;
        }
        s->nunknown++;
        l->uid = uid;
        l->timer = loop_timer(s->a->loop, UNKNOWN_MS, false, on_never_came, l);
    }
    if (m->kind == STREAM_OPEN && m->rank == 0)
        forget_saved(l); /* a newer word of the reader's than what was kept */
    size_t size = sizeof(struct saved) + m->len;
    struct saved *v = s->saved + size <= SAVED_MAX ? malloc(size) : NULL;
    if (!v)
        return;
    s->saved += size;
    v->next = NULL;
    v->m = *m;
    memcpy(v->body, body, m->len);
    *l->saved_end = v;
    l->saved_end = &v->next;
}

void streams_message(streams_t *s, const struct stream_msg *m, const unsigned char *body)
{
    stream_launch_t *l = launch_find(s, m->launch);
    stream_t *st;

    switch (m->kind) {
    case STREAM_OPEN:
    case STREAM_CLOSE:
        if (!l || !l->added)
            save(s, l, m, body);
        else
            about_launch(l, m, body);
        return;
    case STREAM_DATA:
        if (l && l->added)
            about_launch(l, m, body);
        return;
    default:
        break;
    }
    if (m->fd == 0 || !(st = stream_find(s, m->launch, m->rank, m->fd)) || !st->open)
        return;
    if (m->kind == STREAM_CREDIT)
        out_credit(st, m);
    else if (m->kind == STREAM_RESUME)
        out_resume(st, m);
    else if (m->kind == STREAM_BULK)
        out_bulk(st, m, body);
    else if (m->kind == STREAM_TAKEN && m->offset > st->taken)
        st->taken = m->offset;
}

void streams_unlinked(streams_t *s)
{
    for (size_t i = 0; i < STREAM_BUCKETS; i++)
        for (stream_t *st = s->bucket[i]; st; st = st->next_bucket) {
            st->open = false;
            st->launch->opened = false;
        }
}

/* ---- making and ending ---- */

static void on_turn(void *arg)
{
    out_send_all(arg);
}

static void on_bulk_done(void *arg, int fd, uint32_t events)
{
    uint64_t n;

    (void)events;
    if (read(fd, &n, sizeof n) == sizeof n)
        out_bulk_ended(arg);
}

streams_t *streams_create(agent_t *a, struct err *err)
{
    streams_t *s = calloc(1, sizeof *s);

    if (!s) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    s->a = a;
    s->work_end = &s->work;
    s->done_end = &s->done;
    s->bulk_done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->bulk_done < 0)
        err_set(err, errno, "eventfd: %s", strerror(errno));
    if (s->bulk_done < 0 ||
        loop_fd(a->loop, s->bulk_done, EPOLLIN, on_bulk_done, s, err) < 0 ||
        !(s->link = link_create(s, err))) {
        streams_destroy(&s);
        return NULL;
    }
    loop_turn(a->loop, on_turn, s);
    return s;
}

void streams_destroy(streams_t **sp)
{
    streams_t *s = *sp;

    if (!s)
        return;
    streams_lost(s);
    link_destroy(&s->link);
    if (s->bulk_done >= 0) {
        loop_fd_del(s->a->loop, s->bulk_done);
        close(s->bulk_done);
    }
    free(s);
    *sp = NULL;
}

/* ---- node.N.hangup: nobody reads what a launch writes ---- */

int on_hangup(void *self, struct svc_req *req, struct err *err)
{
    agent_t *a = self;
    uint64_t id;

    if (mp_get_uint(req->body, "launch", &id, err) < 0)
        return -1;
    if (a->streams)
        streams_hangup(a->streams, id);
    mp_nil(req->reply);
    return 0;
}
