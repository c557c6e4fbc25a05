/* space.c - the connection to bpinit, which holds everything that must live on
 *
 * Its socket is there before we start; but it may end before us, and be there
 * anew: connecting is tried again, soon at first. Each connection begins with its
 * hello (arena and bells) and our list; only then is anything else asked of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/pkt.h"
#include "node/agent/agent.h"
#include "node/agent/streams.h"
#include "node/space.h"

#define RETRY_MIN_MS 5
#define RETRY_MAX_MS 500

struct packet { /* waiting for room in the socket */
    struct packet *next;
    int fd; /* goes with it; -1 none */
    size_t len;
    char data[];
};

struct asked { /* a list that was asked for */
    struct asked *next;
    uint64_t id;
    space_list_fn *cb;
    void *arg;
};

struct space {
    agent_t *a;
    char *path;
    int sock, bell_in, bell_out; /* -1: none */
    void *arena;
    uint32_t slots;
    size_t arena_bytes;
    bool listed;
    int retry_timer;
    int64_t retry_ms;
    char why[sizeof((struct err *)0)->text]; /* last failure logged */
    struct packet *out, **out_end;
    struct asked *asked;
    uint64_t next_id;
};

static void try_connect(void *arg);

static void drop_packets(space_t *s)
{
    while (s->out) {
        struct packet *p = s->out;
        s->out = p->next;
        cleanup_close(&p->fd);
        free(p);
    }
    s->out_end = &s->out;
}

static void fail_lists(space_t *s)
{
    struct err gone = { 0 };

    err_set(&gone, ENOTCONN, "the node's process space was lost");
    while (s->asked) {
        struct asked *q = s->asked;
        s->asked = q->next;
        q->cb(q->arg, NULL, &gone);
        free(q);
    }
}

/* Close everything of this connection; nobody is told. */
static void hang_up(space_t *s)
{
    if (s->sock >= 0) {
        loop_fd_del(s->a->loop, s->sock);
        close(s->sock);
        s->sock = -1;
    }
    if (s->bell_in >= 0) {
        loop_fd_del(s->a->loop, s->bell_in);
        close(s->bell_in);
        s->bell_in = -1;
    }
    if (s->arena) {
        if (s->a->streams)
            streams_lost(s->a->streams);
        munmap(s->arena, s->arena_bytes);
        s->arena = NULL;
        s->slots = 0;
    }
    if (s->bell_out >= 0) {
        close(s->bell_out);
        s->bell_out = -1;
    }
    s->listed = false;
    drop_packets(s);
}

static void retry_later(space_t *s)
{
    loop_timer_del(s->a->loop, s->retry_timer);
    s->retry_timer = loop_timer(s->a->loop, s->retry_ms, false, try_connect, s);
    s->retry_ms = s->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : s->retry_ms * 2;
}

static void lost(space_t *s, const struct err *why)
{
    svc_log("warning", "bpinit: %s; connecting again", why->text);
    hang_up(s);
    fail_lists(s);
    if (s->a->moves)
        moves_lost(s->a->moves);
    launches_lost(s->a->launches);
    s->retry_ms = RETRY_MIN_MS;
    retry_later(s);
}

static int flush(space_t *s, struct err *err)
{
    while (s->out) {
        struct err e = { 0 };
        if (pkt_send(s->sock, s->out->data, s->out->len, &s->out->fd, s->out->fd >= 0, &e) < 0) {
            if (e.code == EAGAIN)
                return 0;
            return err_set(err, e.code, "%s", e.text);
        }
        struct packet *p = s->out;
        s->out = p->next;
        if (!s->out)
            s->out_end = &s->out;
        cleanup_close(&p->fd);
        free(p);
    }
    return 0;
}

static int queue(space_t *s, const mp_buf *m, int *fd, struct err *err)
{
    struct packet *p = malloc(sizeof *p + m->b.size);

    if (!p)
        return err_set(err, ENOMEM, "bpinit: out of memory");
    p->next = NULL;
    p->fd = *fd;
    *fd = -1;
    p->len = m->b.size;
    memcpy(p->data, m->b.data, m->b.size);
    *s->out_end = p;
    s->out_end = &p->next;
    return 0;
}

static void on_socket(void *arg, int fd, uint32_t events);

int space_send(space_t *s, const char *name, const mp_buf *body, struct err *err)
{
    return space_send_fd(s, name, body, -1, err);
}

int space_send_fd(space_t *s, const char *name, const mp_buf *body, int with, struct err *err)
{
    CLEANUP(cleanup_close) int fd = with;
    CLEANUP(mp_free) mp_buf m;
    struct err e = { 0 };

    mp_init(&m);
    if (s->sock < 0)
        return err_set(err, ENOTCONN, "the node's process space is not there");
    mp_array(&m, 2);
    mp_str(&m, name);
    msgpack_sbuffer_write(&m.b, body->b.data, body->b.size);
    if (!s->out) {
        if (pkt_send(s->sock, m.b.data, m.b.size, &fd, fd >= 0, &e) == 0)
            return 0;
        if (e.code == EMSGSIZE)
            return err_set(err, e.code, "%s", e.text);
        if (e.code != EAGAIN) /* the loop sees the socket's end next */
            return err_set(err, ENOTCONN, "the node's process space: %s", e.text);
    }
    if (queue(s, &m, &fd, err) < 0)
        return -1;
    return loop_fd(s->a->loop, s->sock, EPOLLIN | EPOLLOUT, on_socket, s, err);
}

bool space_backlog(const space_t *s) { return s->out != NULL; }

/* For messages that answer nobody: what cannot be sent now is of no use later,
 * since a new connection starts from bpinit's list. */
static void send_quietly(space_t *s, const char *name, const mp_buf *m)
{
    struct err e = { 0 };

    if (s->sock >= 0 && space_send(s, name, m, &e) < 0 && e.code != ENOTCONN)
        svc_log("warning", "bpinit: %s: %s", name, e.text);
}

void space_release(space_t *s, uint32_t slot)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 1);
    mp_kuint(&m, "slot", slot);
    send_quietly(s, "release", &m);
}

void space_hangup(space_t *s, uint64_t launch, uint32_t rank, int fd)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 3);
    mp_kuint(&m, "launch", launch);
    mp_kuint(&m, "rank", rank);
    mp_kint(&m, "fd", fd);
    send_quietly(s, "hangup", &m);
}

void space_ack(space_t *s, uint64_t seq)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 1);
    mp_kuint(&m, "seq", seq);
    send_quietly(s, "ack", &m);
}

void space_end(space_t *s, const char *how)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 1);
    mp_kstr(&m, "how", how);
    send_quietly(s, "end", &m);
}

static void ask(space_t *s, const char *what, mp_buf *m, space_list_fn *cb, void *arg)
{
    struct err e = { 0 };
    struct asked *q = malloc(sizeof *q);

    if (!q) {
        err_set(&e, ENOMEM, "out of memory");
        cb(arg, NULL, &e);
        return;
    }
    *q = (struct asked){ NULL, ++s->next_id, cb, arg };
    mp_kuint(m, "id", q->id);
    if (space_send(s, what, m, &e) < 0) {
        free(q);
        cb(arg, NULL, &e);
        return;
    }
    q->next = s->asked;
    s->asked = q;
}

void space_ask(space_t *s, const char *name, const mp_buf *pairs, uint32_t n,
               space_list_fn *cb, void *arg)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, n + 1);
    msgpack_sbuffer_write(&m.b, pairs->b.data, pairs->b.size);
    ask(s, name, &m, cb, arg);
}

void space_list(space_t *s, space_list_fn *cb, void *arg)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 1);
    ask(s, "list", &m, cb, arg);
}

void space_end_job(space_t *s, int64_t uid, uint64_t job, int sig, const msgpack_object *of,
                   space_list_fn *cb, void *arg)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 6);
    mp_kint(&m, "uid", uid);
    mp_kuint(&m, "job", job);
    mp_kint(&m, "sig", sig);
    mp_kint(&m, "of", mp_opt_int(of, "of", 0));
    mp_kint(&m, "attempt", mp_opt_int(of, "attempt", 0));
    ask(s, "end_job", &m, cb, arg);
}

bool space_ready(const space_t *s) { return s->listed; }
void *space_arena(const space_t *s) { return s->arena; }
uint32_t space_slots(const space_t *s) { return s->slots; }
int space_bell_fd(const space_t *s) { return s->bell_out; }

void space_bell(space_t *s)
{
    uint64_t one = 1;

    /* A full counter has rung already. */
    if (s->bell_out >= 0 && write(s->bell_out, &one, sizeof one) < 0 && errno != EAGAIN)
        svc_log("warning", "bpinit's bell: %s", strerror(errno));
}

static void on_bell(void *arg, int fd, uint32_t events)
{
    space_t *s = arg;
    uint64_t n;

    (void)events;
    if (read(fd, &n, sizeof n) == sizeof n && s->a->streams)
        streams_changed(s->a->streams);
}

/* The first list of a connection: everything of ours starts from it. */
static void on_first_list(void *arg, const msgpack_object *map, const struct err *err)
{
    space_t *s = arg;
    agent_t *a = s->a;
    struct err e = { 0 };

    if (!map) {
        svc_log("warning", "bpinit: list: %s", err->text);
        return; /* the connection is being made again */
    }
    if (!a->svc && agent_go_online(a, &e) < 0) {
        svc_log("error", "%s", e.text);
        loop_stop(a->loop, EXIT_FAILURE);
        return;
    }
    launches_adopt(a->launches, map);
    s->listed = true;
    join_space(a->join);
}

static int take_hello(space_t *s, struct pkt *p, const msgpack_object *map, struct err *err)
{
    agent_t *a = s->a;
    int64_t slots, slot_bytes;
    struct stat st;
    CLEANUP(cleanup_free) char *id = NULL;

    if (s->arena)
        return err_set(err, EPROTO, "a second hello");
    if (mp_get_dup(map, "space", &id, err) < 0 ||
        mp_get_int(map, "slots", 1, SPACE_SLOTS, &slots, err) < 0 ||
        mp_get_int(map, "slot_bytes", SPACE_SLOT_BYTES, SPACE_SLOT_BYTES, &slot_bytes, err) < 0)
        return err_prefix(err, "hello");
    if (!*id || strlen(id) >= sizeof a->space_id)
        return err_set(err, EPROTO, "hello: space: want a short text");
    if (p->nfds != 3)
        return err_set(err, EPROTO, "hello: want three descriptors, got %d", p->nfds);
    size_t bytes = (size_t)slots * SPACE_SLOT_BYTES;
    if (fstat(p->fds[0], &st) < 0 || st.st_size < (off_t)bytes)
        return err_set(err, EPROTO, "hello: the arena is too small");
    void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                   p->fds[0], 0);
    if (m == MAP_FAILED)
        return err_set(err, errno, "map the arena: %s", strerror(errno));
    s->arena = m;
    s->arena_bytes = bytes;
    s->slots = (uint32_t)slots;
    s->bell_in = p->fds[1];
    s->bell_out = p->fds[2];
    p->fds[1] = p->fds[2] = -1; /* ours now */
    fcntl(s->bell_in, F_SETFL, O_NONBLOCK | O_RDWR);
    if (loop_fd(a->loop, s->bell_in, EPOLLIN, on_bell, s, err) < 0)
        return -1;
    snprintf(a->space_id, sizeof a->space_id, "%s", id);
    s->retry_ms = RETRY_MIN_MS;
    s->why[0] = 0;
    report_restart(a->report);
    space_list(s, on_first_list, s);
    return 0;
}

static int take_procs(space_t *s, const msgpack_object *map, struct err *err)
{
    uint64_t id;

    if (mp_get_uint(map, "id", &id, err) < 0)
        return -1;
    for (struct asked **at = &s->asked; *at; at = &(*at)->next) {
        struct asked *q = *at;
        if (q->id != id)
            continue;
        *at = q->next;
        q->cb(q->arg, map, NULL);
        free(q);
        return 0;
    }
    return 0; /* asked for over an older connection */
}

static int take(space_t *s, struct pkt *p, struct err *err)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked u;

    msgpack_unpacked_init(&u);
    if (mp_decode(&u, p->data, p->len, err) < 0)
        return -1;
    if (u.data.type != MSGPACK_OBJECT_ARRAY || u.data.via.array.size < 2 ||
        u.data.via.array.ptr[1].type != MSGPACK_OBJECT_MAP)
        return err_set(err, EPROTO, "want [name, map]");
    const msgpack_object *name = &u.data.via.array.ptr[0];
    const msgpack_object *map = &u.data.via.array.ptr[1];
    if (mp_is(name, "hello"))
        return take_hello(s, p, map, err);
    if (mp_is(name, "spawned"))
        launches_spawned(s->a->launches, map);
    else if (mp_is(name, "event"))
        report_event(s->a->report, map);
    else if (mp_is(name, "gone"))
        launches_never_came(s->a->launches, map);
    else if (mp_is(name, "arrivals") && s->a->moves)
        moves_answer(s->a->moves, map);
    else if (mp_is(name, "procs") || mp_is(name, "standing"))
        return take_procs(s, map, err);
    return 0; /* a newer bpinit may say more */
}

static void on_socket(void *arg, int fd, uint32_t events)
{
    space_t *s = arg;
    struct err e = { 0 };

    if (events & EPOLLOUT) {
        if (flush(s, &e) < 0 ||
            (!s->out && loop_fd(s->a->loop, fd, EPOLLIN, on_socket, s, &e) < 0)) {
            lost(s, &e);
            return;
        }
    }
    /* A bound on one turn: the bus must be heard too. */
    for (int i = 0; i < 256 && s->sock == fd; i++) {
        struct pkt p;
        int rc = pkt_recv(fd, &p, &e);
        if (rc < 0 && e.code == EAGAIN)
            return;
        if (rc == 0)
            err_set(&e, ECONNRESET, "the process space has ended");
        if (rc > 0) {
            rc = take(s, &p, &e) < 0 ? -1 : 1;
            pkt_clear(&p);
        }
        if (rc <= 0) {
            lost(s, &e);
            return;
        }
    }
}

static int open_socket(space_t *s, struct err *err)
{
    struct ucred peer;
    socklen_t len = sizeof peer;

    s->sock = pkt_connect(s->path, err);
    if (s->sock < 0)
        return -1;
    if (getsockopt(s->sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return err_set(err, errno, "%s: %s", s->path, strerror(errno));
    if (peer.uid != 0)
        return err_set(err, EPERM, "%s: user %u listens there, not root", s->path, peer.uid);
    if (fcntl(s->sock, F_SETFL, O_NONBLOCK | O_RDWR) < 0)
        return err_set(err, errno, "%s: %s", s->path, strerror(errno));
    return loop_fd(s->a->loop, s->sock, EPOLLIN, on_socket, s, err);
}

static void try_connect(void *arg)
{
    space_t *s = arg;
    struct err e = { 0 };

    s->retry_timer = 0;
    if (open_socket(s, &e) == 0)
        return;
    hang_up(s);
    /* Where bpinit was started by hand: worth a line only when it lasts. */
    if (s->retry_ms >= RETRY_MAX_MS && strcmp(e.text, s->why)) {
        svc_log("warning", "waiting for bpinit: %s", e.text);
        snprintf(s->why, sizeof s->why, "%s", e.text);
    }
    retry_later(s);
}

space_t *space_create(agent_t *a, const char *path, struct err *err)
{
    space_t *s = calloc(1, sizeof *s);

    if (!s || !(s->path = strdup(path))) {
        free(s);
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    s->a = a;
    s->sock = s->bell_in = s->bell_out = -1;
    s->out_end = &s->out;
    s->retry_ms = RETRY_MIN_MS;
    s->retry_timer = loop_timer(a->loop, 0, false, try_connect, s);
    return s;
}

void space_destroy(space_t **sp)
{
    space_t *s = *sp;

    if (!s)
        return;
    loop_timer_del(s->a->loop, s->retry_timer);
    hang_up(s);
    while (s->asked) {
        struct asked *q = s->asked;
        s->asked = q->next;
        free(q);
    }
    free(s->path);
    free(s);
    *sp = NULL;
}
