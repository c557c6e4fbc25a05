/* bpinit_pump.c - the bodies' pipes, into and out of rings
 *
 * Output: read while the ring has room; then stop watching the pipe, so that
 * the body blocks, until the agent's bell says that room was made. Input:
 * write while the pipe takes it. A ring outlives its pipe until the agent
 * releases it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include "node/bpinit.h"

/* One stream's share of a turn, and what a pipe can hold at most. */
#define STEP_BYTES (256u * 1024)
#define PIPE_BYTES (1024u * 1024)

struct pipe_end {
    struct pump *pump;
    uint32_t slot;
    int fd; /* -1: closed */
    uid_t uid;
    bool input;   /* bytes go to the body */
    bool last;    /* nothing more is written to it: closed once it is empty */
    bool blocked; /* output: ring is full; input: watching for POLLOUT */
};

struct pump {
    struct init *in;
    struct pipe_end *end; /* by slot */
};

static void on_bell(void *arg, int fd, uint32_t events);
static void on_turn(void *arg);

pump_t *pump_create(struct init *in, struct err *err)
{
    CLEANUP(pump_destroy) pump_t *p = calloc(1, sizeof *p);

    if (p) {
        p->in = in;
        p->end = calloc(SPACE_SLOTS, sizeof *p->end);
    }
    if (!p || !p->end) {
        err_set(err, ENOMEM, "pump: out of memory");
        return NULL;
    }
    for (uint32_t i = 0; i < SPACE_SLOTS; i++)
        p->end[i] = (struct pipe_end){ .pump = p, .slot = i, .fd = -1 };
    if (loop_fd(in->loop, rings_own_bell_fd(in->rings), EPOLLIN, on_bell, p, err) < 0)
        return NULL;
    loop_turn(in->loop, on_turn, p);
    pump_t *out = p;
    p = NULL;
    return out;
}

void pump_destroy(pump_t **pp)
{
    pump_t *p = *pp;

    if (!p)
        return;
    for (uint32_t i = 0; p->end && i < SPACE_SLOTS; i++)
        cleanup_close(&p->end[i].fd);
    free(p->end);
    free(p);
    *pp = NULL;
}

static void on_turn(void *arg)
{
    pump_t *p = arg;

    rings_bell(p->in->rings);
}

static struct ring *ring_of(struct pipe_end *e)
{
    return rings_get(e->pump->in->rings, e->slot);
}

static void changed(struct pipe_end *e)
{
    rings_changed(e->pump->in->rings, e->slot);
}

/* The pipe is done with; the ring says so to the agent. */
static void close_end(struct pipe_end *e)
{
    if (e->fd < 0)
        return;
    loop_fd_del(e->pump->in->loop, e->fd);
    close(e->fd);
    e->fd = -1;
    atomic_fetch_or(&ring_of(e)->flags, e->input ? RING_GONE : RING_EOF);
    changed(e);
}

static void on_pipe(void *arg, int fd, uint32_t events);

static void watch(struct pipe_end *e, uint32_t events)
{
    struct err err = { 0 };

    if (loop_fd(e->pump->in->loop, e->fd, events, on_pipe, e, &err) < 0) {
        init_log("%s", err.text);
        close_end(e);
    }
}

/* Ring full: ask for a bell, stop reading, unless room came in between. */
static bool block(struct pipe_end *e)
{
    struct ring *r = ring_of(e);

    atomic_fetch_or(&r->flags, RING_FULL);
    if (ring_step_free(r)) {
        atomic_fetch_and(&r->flags, ~(uint32_t)RING_FULL);
        return false;
    }
    e->blocked = true;
    /* Not watched at all: a level that stays up would spin the loop. */
    loop_fd_del(e->pump->in->loop, e->fd);
    return true;
}

/* From the pipe into the ring: about limit bytes, or until it is empty or full. */
static void read_output(struct pipe_end *e, size_t limit)
{
    struct ring *r = ring_of(e);
    struct iovec v[2];

    for (size_t done = 0; done < limit;) {
        int n = ring_free_space(r, SPACE_RING_BYTES, v);
        if (n == 0) {
            if (block(e))
                return;
            continue;
        }
        ssize_t got = readv(e->fd, v, n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN) {
            if (e->last)
                close_end(e);
            return;
        }
        if (got <= 0) {
            close_end(e);
            return;
        }
        atomic_fetch_add(&r->head, (uint64_t)got);
        changed(e);
        done += (size_t)got;
    }
}

/* From the ring into the pipe, until that is full. */
static void write_input(struct pipe_end *e)
{
    struct ring *r = ring_of(e);
    struct iovec v[2];

    for (;;) {
        /* The flag first: when it is set, head has its last value. */
        bool last = atomic_load(&r->flags) & RING_EOF;
        int n = ring_content(r, SPACE_RING_BYTES, v);
        if (n == 0 && last) {
            close_end(e);
            return;
        }
        if (n == 0)
            break;
        ssize_t put = writev(e->fd, v, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno == EAGAIN) {
            if (!e->blocked)
                watch(e, EPOLLOUT);
            e->blocked = true;
            return;
        }
        if (put < 0) { /* EPIPE: nobody reads any more */
            close_end(e);
            return;
        }
        atomic_fetch_add(&r->tail, (uint64_t)put);
        changed(e);
    }
    if (e->blocked)
        watch(e, 0); /* EPOLLERR, the end of the last reader, always comes */
    e->blocked = false;
}

static void on_pipe(void *arg, int fd, uint32_t events)
{
    struct pipe_end *e = arg;

    (void)fd;
    if (!e->input)
        read_output(e, STEP_BYTES);
    else if (events & EPOLLERR)
        close_end(e);
    else
        write_input(e);
}

/* The agent did something to this ring. */
static void look_at(struct pipe_end *e)
{
    struct ring *r = ring_of(e);

    if (e->fd < 0)
        return;
    if (e->input) {
        write_input(e);
        return;
    }
    if (atomic_load(&r->flags) & RING_GONE) {
        close_end(e);
        return;
    }
    if (e->blocked && ring_step_free(r)) {
        e->blocked = false;
        atomic_fetch_and(&r->flags, ~(uint32_t)RING_FULL);
        watch(e, EPOLLIN);
        if (e->fd >= 0)
            read_output(e, STEP_BYTES);
    }
}

static void look_at_all(pump_t *p, bool marked_only)
{
    size_t n;
    const uint32_t *slot = rings_list(p->in->rings, &n);

    for (size_t i = 0; i < n; i++) {
        struct ring *r = rings_get(p->in->rings, slot[i]);
        bool marked = atomic_load(&r->dirty_for_init) &&
                      atomic_exchange(&r->dirty_for_init, 0);
        if (marked || !marked_only)
            look_at(&p->end[slot[i]]);
    }
}

static void on_bell(void *arg, int fd, uint32_t events)
{
    uint64_t count;

    (void)events;
    if (read(fd, &count, sizeof count) == sizeof count)
        look_at_all(arg, true);
}

int pump_add(pump_t *p, uint32_t slot, int fd, uid_t uid, struct err *err)
{
    struct pipe_end *e = &p->end[slot];
    bool input = rings_get(p->in->rings, slot)->fd == 0;

    if (loop_fd(p->in->loop, fd, input ? 0 : EPOLLIN, on_pipe, e, err) < 0)
        return -1;
    e->fd = fd;
    e->last = false;
    e->uid = uid;
    e->input = input;
    e->blocked = false;
    return 0;
}

uid_t pump_uid(const pump_t *p, uint32_t slot) { return p->end[slot].uid; }

uint64_t pump_inode(const pump_t *p, uint32_t slot)
{
    struct stat st;

    return p->end[slot].fd >= 0 && fstat(p->end[slot].fd, &st) == 0 ? st.st_ino : 0;
}

void pump_release(pump_t *p, uint32_t slot)
{
    if (!rings_used(p->in->rings, slot))
        return;
    const struct ring *r = rings_get(p->in->rings, slot);
    struct body *b = bodies_by_rank(p->in->bodies, r->launch, r->rank);
    for (int fd = 0; b && fd < 3; fd++)
        if (b->slot[fd] == (int)slot)
            b->slot[fd] = -1;
    close_end(&p->end[slot]);
    rings_release(p->in->rings, slot);
}

void pump_drain(pump_t *p, int slot)
{
    if (slot < 0)
        return;
    struct pipe_end *e = &p->end[slot];
    if (e->fd >= 0 && !e->input && !e->blocked)
        read_output(e, PIPE_BYTES);
}

void pump_depart(pump_t *p, int slot)
{
    struct pipe_end *e = slot < 0 ? NULL : &p->end[slot];

    if (!e || e->fd < 0 || e->input)
        return;
    atomic_fetch_or(&ring_of(e)->flags, RING_MOVED);
    e->last = true;
    if (!e->blocked)
        read_output(e, 2 * PIPE_BYTES);
}

uint32_t pump_said(pump_t *p, uint64_t launch, mp_buf *out)
{
    size_t n;
    uint32_t said = 0;
    const uint32_t *slot = rings_list(p->in->rings, &n);

    for (size_t i = 0; i < n; i++) {
        struct ring *r = rings_get(p->in->rings, slot[i]);
        struct pipe_end *e = &p->end[slot[i]];
        int waits = 0; /* in the pipe, for want of room in the ring */
        if (r->launch != launch || r->fd == 0)
            continue;
        pump_drain(p, (int)slot[i]);
        if (e->fd >= 0 && ioctl(e->fd, FIONREAD, &waits) < 0)
            waits = 0;
        mp_array(out, 3);
        mp_uint(out, r->rank);
        mp_uint(out, r->fd);
        mp_uint(out, atomic_load(&r->head) + (uint64_t)waits);
        said++;
    }
    return said;
}

void pump_hangup(pump_t *p, uint64_t launch, uint32_t rank, int fd)
{
    size_t n;
    const uint32_t *slot = rings_list(p->in->rings, &n);

    for (size_t i = 0; i < n; i++) {
        const struct ring *r = rings_get(p->in->rings, slot[i]);
        if (r->launch == launch && r->rank == rank && (int)r->fd == fd) {
            close_end(&p->end[slot[i]]);
            return;
        }
    }
}

void pump_new_agent(pump_t *p)
{
    look_at_all(p, false);
    rings_new_agent(p->in->rings);
}
