/* bpinit_space.c - the agent: its connection and its messages
 *
 * One agent at a time; a newer one replaces the older. An agent that cannot
 * keep up has its messages queued, and is cut off when it will not read at
 * all: the journal has everything for the next one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bus/pkt.h"
#include "node/bpinit_begin.h"
#include "node/bpinit_kids.h"
#include "node/bpinit_kin.h"

#define QUEUE_MAX (32u * 1024 * 1024)

struct packet {
    struct packet *next;
    size_t len;
    char data[];
};

struct agent_link {
    struct init *in;
    int listen_fd, sock;
    struct packet *queue, *last;
    size_t queued;
    bool deaf; /* it is gone, but what it has said is still to be heard */
};

static void empty_queue(link_t *l)
{
    while (l->queue) {
        struct packet *p = l->queue;
        l->queue = p->next;
        free(p);
    }
    l->last = NULL;
    l->queued = 0;
}

static void drop_agent(link_t *l)
{
    if (l->sock < 0)
        return;
    loop_fd_del(l->in->loop, l->sock);
    close(l->sock);
    l->sock = -1;
    l->deaf = false;
    empty_queue(l);
}

/* The master has its word for what it has said to us: that must not be lost. */
static void agent_gone(link_t *l)
{
    l->deaf = true;
    empty_queue(l);
}

static void on_sock(void *arg, int fd, uint32_t events);

static void watch(link_t *l)
{
    struct err err = { 0 };

    if (loop_fd(l->in->loop, l->sock, l->queue ? EPOLLIN | EPOLLOUT : EPOLLIN, on_sock, l,
                &err) < 0) {
        init_log("agent: %s", err.text);
        drop_agent(l);
    }
}

static void enqueue(link_t *l, const void *data, size_t len)
{
    struct packet *p = malloc(sizeof *p + len);

    if (!p || l->queued + len > QUEUE_MAX) {
        init_log("agent: does not read its messages; cut off");
        free(p);
        drop_agent(l);
        return;
    }
    p->next = NULL;
    p->len = len;
    memcpy(p->data, data, len);
    if (l->queue)
        l->last->next = p;
    else
        l->queue = p;
    l->last = p;
    l->queued += len;
    watch(l);
}

static void send_fds(link_t *l, const mp_buf *m, const int *fds, int nfds)
{
    struct err err = { 0 };

    if (l->sock < 0 || l->deaf)
        return;
    if (l->queue) {
        enqueue(l, m->b.data, m->b.size);
        return;
    }
    if (pkt_send(l->sock, m->b.data, m->b.size, fds, nfds, &err) == 0)
        return;
    if (err.code == EAGAIN) {
        enqueue(l, m->b.data, m->b.size);
    } else {
        agent_gone(l);
    }
}

void link_send(link_t *l, const mp_buf *m)
{
    send_fds(l, m, NULL, 0);
}

static void flush(link_t *l)
{
    struct err err = { 0 };

    while (l->queue) {
        struct packet *p = l->queue;
        if (pkt_send(l->sock, p->data, p->len, NULL, 0, &err) < 0) {
            if (err.code != EAGAIN)
                agent_gone(l);
            return;
        }
        l->queued -= p->len;
        l->queue = p->next;
        free(p);
    }
    l->last = NULL;
    watch(l);
}

/* --- messages --- */

static int on_spawn(struct init *in, const msgpack_object *map, struct err *err)
{
    CLEANUP(mp_free) mp_buf out;

    mp_init(&out);
    mp_array(&out, 2);
    mp_str(&out, "spawned");
    int rc = spawn_bodies(in, map, &out, err);
    if (rc == 0)
        link_send(in->link, &out);
    return rc < 0 ? -1 : 0;
}

/* Everything of a launch, whoever started it. */
static int on_end_launch(struct init *in, const msgpack_object *map, struct err *err)
{
    uint64_t launch;
    int64_t sig;

    if (mp_get_uint(map, "launch", &launch, err) < 0 ||
        mp_get_int(map, "sig", 1, 64, &sig, err) < 0)
        return -1;
    cages_signal(in->cages, launch, (int)sig);
    return 0;
}

static int on_arrived(struct init *in, const msgpack_object *map, struct err *err)
{
    return arrivals_ask(in->arrivals, map, err);
}

static int on_depart(struct init *in, const msgpack_object *map, struct err *err)
{
    uint64_t id;

    CLEANUP(mp_free) mp_buf m;
    struct departure d = { 0 };

    mp_init(&m);
    mp_init(&d.took);
    mp_init(&d.said);
    if (mp_get_uint(map, "id", &id, err) < 0 ||
        arrivals_depart(in->arrivals, map, &d, err) < 0) {
        mp_free(&d.took);
        mp_free(&d.said);
        return -1;
    }
    mp_array(&m, 2);
    mp_str(&m, "arrivals"); /* the same kind of answer */
    mp_map(&m, 8);
    mp_kuint(&m, "id", id);
    mp_kuint(&m, "launch", 0);
    mp_key(&m, "ranks");
    mp_array(&m, 0);
    mp_kbool(&m, "stays", d.stays);
    mp_kuint(&m, "gen", d.gen);
    mp_key(&m, "took");
    mp_array(&m, d.ntook);
    msgpack_sbuffer_write(&m.b, d.took.b.data, d.took.b.size);
    mp_key(&m, "said");
    mp_array(&m, d.nsaid);
    msgpack_sbuffer_write(&m.b, d.said.b.data, d.said.b.size);
    mp_key(&m, "heard");
    signals_pack(in->signals, (pid_t)mp_opt_int(map, "pid", 0), d.launch, &m);
    mp_free(&d.took);
    mp_free(&d.said);
    link_send(in->link, &m);
    return 0;
}

/* What a job has started, or a user: answered as a list is. */
static int on_end_job(struct init *in, const msgpack_object *map, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    uint64_t id, job;
    int64_t uid, sig, of = mp_opt_int(map, "of", 0), attempt = mp_opt_int(map, "attempt", 0);
    uint32_t all;

    mp_init(&m);
    if (mp_get_uint(map, "id", &id, err) < 0 || mp_get_uint(map, "job", &job, err) < 0 ||
        mp_get_int(map, "uid", -1, UINT32_MAX, &uid, err) < 0 ||
        mp_get_int(map, "sig", 0, 64, &sig, err) < 0)
        return -1;
    uint32_t left = cages_end_job(in->cages, uid, job, (int)sig, &all);
    const struct job_used *u = of > 0 ? cages_used(in->cages, uid, (uint64_t)of, (uint32_t)attempt)
                                      : NULL;
    mp_array(&m, 2);
    mp_str(&m, "procs");
    mp_map(&m, u ? 4 : 3);
    mp_kuint(&m, "id", id);
    mp_kuint(&m, "left", left);
    mp_kuint(&m, "all", all);
    if (u) {
        mp_key(&m, "used");
        mp_array(&m, 5);
        mp_uint(&m, u->utime_us);
        mp_uint(&m, u->stime_us);
        mp_uint(&m, u->maxrss_kb);
        mp_bool(&m, u->free_mem);
        mp_bool(&m, u->free_cpus);
    }
    link_send(in->link, &m);
    return 0;
}

/* Its parent has moved: who stands for it stands elsewhere now. */
static int on_home(struct init *in, const msgpack_object *map, struct err *err)
{
    uint64_t launch;
    int64_t rank, home, npid;

    if (mp_get_uint(map, "launch", &launch, err) < 0 ||
        mp_get_int(map, "rank", 0, UINT32_MAX, &rank, err) < 0 ||
        mp_get_int(map, "home", -1, INT32_MAX, &home, err) < 0 ||
        mp_get_int(map, "npid", 0, INT32_MAX, &npid, err) < 0)
        return -1;
    struct body *b = bodies_by_rank(in->bodies, launch, (uint32_t)rank);
    if (b) {
        b->home = (int)home;
        b->home_npid = (pid_t)npid;
    }
    return 0;
}

/* Comes with the descriptor. */
static int on_image(struct init *in, const msgpack_object *map, struct pkt *pkt, struct err *err)
{
    uint64_t launch;
    int64_t rank;

    if (pkt->nfds != 1)
        return err_set(err, EPROTO, "want one descriptor, got %d", pkt->nfds);
    if (mp_get_uint(map, "launch", &launch, err) < 0 ||
        mp_get_int(map, "rank", 0, UINT32_MAX - 1, &rank, err) < 0 ||
        arrival_expect(in->arrivals, launch, (uint32_t)rank, pkt->fds[0], err) < 0)
        return -1;
    pkt->fds[0] = -1;
    return 0;
}

static int on_ack(struct init *in, const msgpack_object *map, struct err *err)
{
    uint64_t seq;

    if (mp_get_uint(map, "seq", &seq, err) < 0)
        return -1;
    journal_ack(in, seq);
    return 0;
}

struct packing {
    struct init *in;
    mp_buf *m;
};

static void pack_body(void *arg, const struct body *b)
{
    const struct packing *p = arg;
    mp_buf *m = p->m;

    mp_map(m, 14u + (b->parent ? 1 : 0) + (b->home >= 0 ? 1 : 0) + (b->as != 0) +
                  b->arriving + b->starting + (b->local ? 1u : 0));
    if (b->local)
        mp_kint(m, "local", kids_ppid(p->in->kids, b->npid));
    if (b->arriving)
        mp_kbool(m, "arriving", true);
    if (b->starting)
        mp_kbool(m, "starting", true);
    if (b->as)
        mp_kuint(m, "as", b->as);
    if (b->parent) {
        mp_key(m, "parent");
        kin_pack_name(b->parent, m);
    }
    if (b->home >= 0) {
        mp_key(m, "home");
        mp_array(m, 2);
        mp_int(m, b->home);
        mp_int(m, b->home_npid);
    }
    mp_kint(m, "pid", b->pid);
    mp_kint(m, "npid", b->npid);
    mp_kint(m, "gen", b->gen);
    mp_kuint(m, "launch", b->launch);
    mp_kint(m, "rank", b->rank);
    mp_kint(m, "uid", b->uid);
    mp_kint(m, "gid", b->gid);
    mp_kint(m, "owner", b->owner);
    mp_kbin(m, "argv0", b->argv0, strlen(b->argv0));
    mp_kint(m, "start", b->start);
    mp_kuint(m, "conts", b->conts);
    mp_kuint(m, "halts", b->halts);
    mp_kbool(m, "stopped", b->stopped);
    mp_key(m, "streams");
    mp_array(m, 3);
    for (int fd = 0; fd < 3; fd++)
        mp_int(m, b->slot[fd]);
}

static void pack_rings(struct init *in, mp_buf *m)
{
    size_t n;
    const uint32_t *slot = rings_list(in->rings, &n);

    mp_key(m, "rings");
    mp_array(m, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        const struct ring *r = rings_get(in->rings, slot[i]);
        mp_map(m, 5);
        mp_kuint(m, "launch", r->launch);
        mp_kint(m, "rank", r->rank);
        mp_kint(m, "fd", r->fd);
        mp_kint(m, "slot", slot[i]);
        mp_kint(m, "uid", pump_uid(in->pump, slot[i]));
    }
}

static int on_list(struct init *in, const msgpack_object *map, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    uint64_t id;

    mp_init(&m);
    if (mp_get_uint(map, "id", &id, err) < 0)
        return -1;
    mp_array(&m, 2);
    mp_str(&m, "procs");
    mp_map(&m, 6);
    mp_kuint(&m, "id", id);
    mp_key(&m, "heard");
    signals_pack_all(in->signals, &m);
    mp_kuint(&m, "seq", journal_seq(in->journal));
    mp_key(&m, "procs");
    mp_array(&m, bodies_running(in->bodies));
    bodies_each(in->bodies, pack_body, &(struct packing){ in, &m });
    mp_key(&m, "kids");
    kids_pack(in->kids, &m);
    pack_rings(in, &m);
    answers_listed(in);
    link_send(in->link, &m);
    return 0;
}

static int on_release(struct init *in, const msgpack_object *map, struct err *err)
{
    int64_t slot;

    if (mp_get_int(map, "slot", 0, SPACE_SLOTS - 1, &slot, err) < 0)
        return -1;
    pump_release(in->pump, (uint32_t)slot);
    return 0;
}

static int on_hangup(struct init *in, const msgpack_object *map, struct err *err)
{
    uint64_t launch;
    int64_t rank, fd;

    if (mp_get_uint(map, "launch", &launch, err) < 0 ||
        mp_get_int(map, "rank", 0, UINT32_MAX, &rank, err) < 0 ||
        mp_get_int(map, "fd", 0, 2, &fd, err) < 0)
        return -1;
    pump_hangup(in->pump, launch, (uint32_t)rank, (int)fd);
    return 0;
}

static int on_end(struct init *in, const msgpack_object *map, struct err *err)
{
    static const struct {
        const char *how;
        int status;
    } ways[] = {
        { "end", SPACE_EXIT_END },
        { "reboot", SPACE_EXIT_REBOOT },
        { "halt", SPACE_EXIT_HALT },
        { "pwroff", SPACE_EXIT_PWROFF },
    };
    const msgpack_object *how = mp_get(map, "how");

    for (size_t i = 0; how && i < sizeof ways / sizeof *ways; i++)
        if (mp_is(how, ways[i].how)) {
            reap_end_all(in, ways[i].status);
            return 0;
        }
    return err_set(err, EPROTO, "how: want end, reboot, halt or pwroff");
}

static const struct {
    const char *name;
    int (*fn)(struct init *in, const msgpack_object *map, struct err *err);
} messages[] = {
    { "spawn", on_spawn },     { "signal", signal_take },   { "ack", on_ack },
    { "list", on_list },       { "release", on_release }, { "hangup", on_hangup },
    { "end", on_end },         { "end_launch", on_end_launch }, { "orphan", kin_orphan },
    { "arrived", on_arrived }, { "depart", on_depart },         { "end_job", on_end_job },
    { "move", mover_ask },
    { "stand", stand_begin },  { "ring", stand_ring },         { "quiet", stand_quiet },
    { "home", on_home },
};

static void handle(link_t *l, struct pkt *pkt)
{
    struct err err = { 0 };
    msgpack_unpacked u;

    msgpack_unpacked_init(&u);
    if (mp_decode(&u, pkt->data, pkt->len, &err) < 0) {
        init_log("agent: %s", err.text);
        msgpack_unpacked_destroy(&u);
        return;
    }
    const msgpack_object_array *a = &u.data.via.array;
    bool shaped = u.data.type == MSGPACK_OBJECT_ARRAY && a->size >= 2 &&
                  a->ptr[1].type == MSGPACK_OBJECT_MAP;
    size_t i, n = sizeof messages / sizeof *messages;
    for (i = 0; shaped && i < n; i++)
        if (mp_is(&a->ptr[0], messages[i].name)) {
            if (messages[i].fn(l->in, &a->ptr[1], &err) < 0)
                init_log("agent: %s: %s", messages[i].name, err.text);
            break;
        }
    if (!shaped)
        init_log("agent: a message that is not [name, map]");
    else if (i == n && mp_is(&a->ptr[0], "image")) {
        if (on_image(l->in, &a->ptr[1], pkt, &err) < 0)
            init_log("agent: image: %s", err.text);
    } else if (i == n)
        init_log("agent: a message of an unknown name");
    msgpack_unpacked_destroy(&u);
}

/* Its next packet; false: there is none now, or that was the last. */
static bool hear(link_t *l)
{
    struct pkt pkt;
    struct err err = { 0 };
    int n = pkt_recv(l->sock, &pkt, &err);

    /* That it did not read all of ours comes before what it has said. */
    if (n < 0 && err.code == ECONNRESET)
        n = pkt_recv(l->sock, &pkt, &err);
    if (n < 0 && err.code == EAGAIN)
        return false;
    if (n < 0)
        init_log("agent: %s", err.text);
    if (n <= 0) {
        drop_agent(l);
        return false;
    }
    handle(l, &pkt);
    pkt_clear(&pkt);
    return true;
}

static void on_sock(void *arg, int fd, uint32_t events)
{
    link_t *l = arg;

    if (events & EPOLLOUT)
        flush(l);
    /* A few packets a turn: signals and pipes want their turn too. */
    for (int i = 0; i < 16 && l->sock == fd && hear(l); i++)
        ;
}

static void say_hello(link_t *l)
{
    struct init *in = l->in;
    CLEANUP(mp_free) mp_buf m;
    const int fds[3] = { rings_arena_fd(in->rings), rings_agent_bell_fd(in->rings),
                         rings_own_bell_fd(in->rings) };

    mp_init(&m);
    mp_array(&m, 2);
    mp_str(&m, "hello");
    mp_map(&m, 5);
    mp_kstr(&m, "space", in->id);
    mp_kstr(&m, "boot", in->boot);
    mp_kint(&m, "slots", SPACE_SLOTS);
    mp_kint(&m, "slot_bytes", SPACE_SLOT_BYTES);
    mp_kuint(&m, "seq", journal_seq(in->journal));
    send_fds(l, &m, fds, 3);
}

static void on_connect(void *arg, int fd, uint32_t events)
{
    link_t *l = arg;
    struct ucred who = { 0 };
    socklen_t len = sizeof who;

    (void)events;
    int s = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (s < 0)
        return;
    if (getsockopt(s, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 || who.uid != 0) {
        init_log("uid %d wanted to be the agent: refused", (int)who.uid);
        close(s);
        return;
    }
    while (l->sock >= 0 && hear(l)) /* the older one's last words */
        ;
    drop_agent(l);
    l->sock = s;
    watch(l);
    if (l->sock < 0)
        return;
    pump_new_agent(l->in->pump);
    arrivals_new_agent(l->in->arrivals);
    answers_new_agent(l->in);
    say_hello(l);
    journal_resend(l->in);
}

link_t *link_create(struct init *in, const char *path, int listening, struct err *err)
{
    CLEANUP(link_destroy) link_t *l = calloc(1, sizeof *l);

    if (!l) {
        err_set(err, ENOMEM, "agent link: out of memory");
        return NULL;
    }
    l->in = in;
    l->sock = -1;
    l->listen_fd = listening >= 0 ? listening : pkt_listen(path, 0600, err);
    if (l->listen_fd < 0)
        return NULL;
    fcntl(l->listen_fd, F_SETFL, O_NONBLOCK);
    if (loop_fd(in->loop, l->listen_fd, EPOLLIN, on_connect, l, err) < 0)
        return NULL;
    link_t *out = l;
    l = NULL;
    return out;
}

void link_destroy(link_t **lp)
{
    link_t *l = *lp;

    if (!l)
        return;
    drop_agent(l);
    cleanup_close(&l->listen_fd);
    free(l);
    *lp = NULL;
}
