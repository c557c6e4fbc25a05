/* output.c - what arrives from processes, put on stdout and stderr in form */
#include "clients/bpsh/output.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "clients/bpsh/sink.h"

#define SINK_BYTES (64 * 1024)
#define DECORATION 128 /* the longest prefix, divider or added newline */
#define RAW_TURN (256 * 1024) /* of one lane, then the next one */

struct lane {
    struct lane *next; /* in its sink's queue */
    bool queued;
    bool ended;        /* nothing more comes */
    bool done;         /* and nothing waits */
    char *buf;
    size_t start, len, room;
    uint64_t taken;
};

struct queue {
    struct lane *first, **last;
};

struct output {
    loop_t *loop;
    struct output_form form;
    int *node;
    uint32_t n, current; /* current: of sequential form */
    bool announced;      /* current's divider is out */
    struct lane *lane;   /* 2 a process */
    uint64_t open;       /* lanes that are not done */
    sink_t sink[2];
    bool told[2];        /* broken() was called */
    bool watched[2];
    struct queue queue[2];
    output_taken_fn *taken;
    output_broken_fn *broken;
    void *arg;
};

static int side_of(const output_t *o, const struct lane *l) { return (int)((l - o->lane) & 1); }
static uint32_t proc_of(const output_t *o, const struct lane *l)
{
    return (uint32_t)((l - o->lane) >> 1);
}

output_t *output_create(loop_t *loop, const struct output_form *form, const int *node,
                        uint32_t n, output_taken_fn *taken, output_broken_fn *broken, void *arg,
                        struct err *err)
{
    output_t *o = calloc(1, sizeof *o);

    if (!o) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    *o = (output_t){ .loop = loop, .form = *form, .n = n, .taken = taken, .broken = broken,
                     .arg = arg, .open = 2ull * n, .sink = { { .fd = -1 }, { .fd = -1 } } };
    o->form.lines |= o->form.prefix;
    o->form.sequential |= o->form.divider;
    o->node = malloc(n * sizeof *o->node);
    o->lane = calloc(2ul * n, sizeof *o->lane);
    if (!o->node || !o->lane)
        err_set(err, ENOMEM, "out of memory");
    if (!o->node || !o->lane ||
        sink_open(&o->sink[0], form->fd[0], SINK_BYTES + form->line_max + DECORATION, err) < 0 ||
        sink_open(&o->sink[1], form->fd[1], SINK_BYTES + form->line_max + DECORATION, err) < 0) {
        output_destroy(&o);
        return NULL;
    }
    memcpy(o->node, node, n * sizeof *node);
    for (int side = 0; side < 2; side++)
        o->queue[side].last = &o->queue[side].first;
    return o;
}

void output_destroy(output_t **op)
{
    output_t *o = *op;

    if (!o)
        return;
    for (int side = 0; side < 2; side++) {
        if (o->watched[side])
            loop_fd_del(o->loop, o->sink[side].fd);
        sink_close(&o->sink[side]);
    }
    for (uint64_t i = 0; o->lane && i < 2ull * o->n; i++)
        free(o->lane[i].buf);
    free(o->lane);
    free(o->node);
    free(o);
    *op = NULL;
}

/* --- lanes --- */

static void enqueue(output_t *o, struct lane *l)
{
    struct queue *q = &o->queue[side_of(o, l)];

    if (l->queued)
        return;
    l->queued = true;
    l->next = NULL;
    *q->last = l;
    q->last = &l->next;
}

static struct lane *dequeue(struct queue *q)
{
    struct lane *l = q->first;

    if (!l)
        return NULL;
    q->first = l->next;
    if (!q->first)
        q->last = &q->first;
    l->queued = false;
    return l;
}

static int lane_keep(struct lane *l, const char *p, size_t n, struct err *err)
{
    if (l->start + l->len + n > l->room && l->start) {
        memmove(l->buf, l->buf + l->start, l->len);
        l->start = 0;
    }
    if (l->len + n > l->room) {
        size_t room = l->room ? l->room : 4096;
        while (room < l->len + n)
            room *= 2;
        char *buf = realloc(l->buf, room);
        if (!buf)
            return err_set(err, ENOMEM, "output: out of memory");
        l->buf = buf;
        l->room = room;
    }
    memcpy(l->buf + l->start + l->len, p, n);
    l->len += n;
    return 0;
}

static void lane_drop(struct lane *l, size_t n)
{
    l->start += n;
    l->len -= n;
    l->taken += n;
    if (l->len)
        return;
    l->start = 0;
    /* Memory follows what waits, not what once did. */
    if (l->room > 16 * 1024) {
        free(l->buf);
        l->buf = NULL;
        l->room = 0;
    }
}

/* An unfinished line is worth waiting for more of. */
static bool has_work(const output_t *o, const struct lane *l)
{
    if (!l->len)
        return false;
    if (!o->form.lines || l->ended)
        return true;
    return l->len > o->form.line_max || memchr(l->buf + l->start, '\n', l->len);
}

/* --- forms --- */

static void serve_raw(sink_t *s, struct lane *l)
{
    size_t n = l->len < RAW_TURN ? l->len : RAW_TURN;

    lane_drop(l, sink_write(s, l->buf + l->start, n));
}

static void serve_lines(output_t *o, sink_t *s, struct lane *l)
{
    char prefix[32];
    int prefix_len = 0;

    if (o->form.prefix)
        prefix_len = snprintf(prefix, sizeof prefix, "%3d: ", o->node[proc_of(o, l)]);
    while (has_work(o, l) && sink_reserve(s, o->form.line_max + DECORATION)) {
        const char *p = l->buf + l->start;
        size_t n = l->len <= o->form.line_max ? l->len : o->form.line_max + 1;
        const char *nl = memchr(p, '\n', n);
        if (nl)
            n = (size_t)(nl - p) + 1;
        else if (n > o->form.line_max)
            n--; /* the newline might have been the next one, but it is not */
        sink_put(s, prefix, (size_t)prefix_len);
        sink_put(s, p, n);
        if (!nl && o->form.prefix)
            sink_put(s, "\n", 1);
        lane_drop(l, n);
    }
}

static void lane_check_done(output_t *o, struct lane *l)
{
    if (l->ended && !l->len && !l->done) {
        l->done = true;
        free(l->buf);
        l->buf = NULL;
        l->room = 0;
        o->open--;
    }
}

static void serve(output_t *o, struct lane *l)
{
    int side = side_of(o, l);
    sink_t *s = &o->sink[side];
    uint64_t before = l->taken;

    if (o->form.lines)
        serve_lines(o, s, l);
    else
        serve_raw(s, l);
    if (s->broken)
        lane_drop(l, l->len);
    lane_check_done(o, l);
    if (l->taken != before)
        o->taken(o->arg, proc_of(o, l), side + 1, l->taken);
}

/* --- who is served --- */

static bool announce(output_t *o)
{
    char line[DECORATION];
    int n = snprintf(line, sizeof line, "%d\t", o->node[o->current]);

    if (!o->form.divider)
        return true;
    if (!sink_reserve(&o->sink[0], DECORATION))
        return false;
    memset(line + n, '-', 69);
    line[n + 69] = '\n';
    sink_put(&o->sink[0], line, (size_t)n + 70);
    return true;
}

static void pump_sequential(output_t *o)
{
    while (o->current < o->n) {
        struct lane *pair = &o->lane[2ul * o->current];
        if (!pair[0].len && !pair[1].len && !(pair[0].ended && pair[1].ended))
            return; /* nothing to say yet */
        if (!o->announced && !announce(o))
            return;
        o->announced = true;
        for (int side = 0; side < 2; side++)
            while (has_work(o, &pair[side]) && !o->sink[side].full)
                serve(o, &pair[side]);
        lane_check_done(o, &pair[0]);
        lane_check_done(o, &pair[1]);
        if (!pair[0].done || !pair[1].done)
            return;
        o->current++;
        o->announced = false;
    }
}

static void pump_side(output_t *o, int side)
{
    struct lane *l;

    while (!o->sink[side].full && (l = dequeue(&o->queue[side]))) {
        serve(o, l);
        if (has_work(o, l))
            enqueue(o, l);
    }
}

static void on_writable(void *arg, int fd, uint32_t events)
{
    output_t *o = arg;

    (void)events;
    for (int side = 0; side < 2; side++)
        if (o->sink[side].fd == fd)
            o->sink[side].full = false;
    output_pump(o);
}

static void watch(output_t *o, int side)
{
    sink_t *s = &o->sink[side];
    bool want = s->full && !s->broken;

    if (want == o->watched[side])
        return;
    if (want && loop_fd(o->loop, s->fd, EPOLLOUT, on_writable, o, NULL) < 0)
        return; /* cannot happen for what can be full: pipes, terminals, sockets */
    if (!want)
        loop_fd_del(o->loop, s->fd);
    o->watched[side] = want;
}

void output_pump(output_t *o)
{
    if (o->form.sequential)
        pump_sequential(o);
    for (int side = 0; side < 2; side++) {
        sink_t *s = &o->sink[side];
        if (!o->form.sequential)
            pump_side(o, side);
        if (!s->full)
            sink_flush(s);
        watch(o, side);
        if (s->broken && !o->told[side]) {
            o->told[side] = true;
            o->broken(o->arg, side + 1, s->broken);
        }
    }
}

/* --- feeding --- */

int output_data(output_t *o, uint32_t proc, int fd, const void *p, size_t n, struct err *err)
{
    struct lane *l = &o->lane[2ul * proc + (unsigned)(fd - 1)];
    sink_t *s = &o->sink[fd - 1];
    const char *from = p;
    size_t direct = 0;

    if (l->ended || !n)
        return 0;
    /* The common case copies nothing: nobody waits, so write it as it lies. */
    if (!o->form.lines && !o->form.sequential && !s->full && !o->queue[fd - 1].first) {
        direct = s->broken ? n : sink_write(s, from, n);
        if (s->broken)
            direct = n;
        l->taken += direct;
        if (direct)
            o->taken(o->arg, proc, fd, l->taken);
        if (direct == n)
            return 0;
    }
    if (lane_keep(l, from + direct, n - direct, err) < 0)
        return -1;
    enqueue(o, l);
    return 0;
}

void output_end(output_t *o, uint32_t proc, int fd)
{
    struct lane *l = &o->lane[2ul * proc + (unsigned)(fd - 1)];

    if (l->ended)
        return;
    l->ended = true;
    if (l->len)
        enqueue(o, l);
    else
        lane_check_done(o, l);
}

void output_passed(output_t *o, uint32_t proc, int fd, uint64_t n)
{
    o->lane[2ul * proc + (unsigned)(fd - 1)].taken += n;
}

uint64_t output_taken(const output_t *o, uint32_t proc, int fd)
{
    return o->lane[2ul * proc + (unsigned)(fd - 1)].taken;
}

bool output_flushed(const output_t *o) { return !o->sink[0].len && !o->sink[1].len; }

bool output_ended(const output_t *o, uint32_t proc)
{
    return o->lane[2ul * proc].ended && o->lane[2ul * proc + 1].ended;
}

bool output_idle(const output_t *o, uint32_t proc, int fd)
{
    return !has_work(o, &o->lane[2ul * proc + (unsigned)(fd - 1)]);
}

size_t output_kept(const output_t *o, uint32_t proc, int fd)
{
    return o->lane[2ul * proc + (unsigned)(fd - 1)].len;
}

bool output_done(const output_t *o)
{
    return !o->open && !o->sink[0].len && !o->sink[1].len &&
           (!o->form.sequential || o->current == o->n);
}
