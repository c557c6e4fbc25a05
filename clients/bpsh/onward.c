/* onward.c - processes of ours that move: what they say elsewhere
 *
 * Each move is a launch of its own, with streams of its own. One whose streams end
 * because it has moved is asked about at RUN/move: procspace says under which
 * launch and where it goes on, and is told when all of before is out of our hands.
 * On the master it writes to our stdout itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/pkt.h"
#include "bus/rundir.h"
#include "clients/bpsh/bpsh.h"

#define AGAIN_MS 200
#define TRIES 25 /* then what it says elsewhere is nobody's */
#define BOTH 3u

struct trail { /* a process that has moved at least once */
    struct trail *next;
    struct bpsh *b;
    struct proc *p;
    reader_t *reader; /* NULL: the launch's own */
    uint64_t launch;  /* where it is read now */
    uint32_t rank;
    uint64_t base[2]; /* bytes that came before */
    bool told;        /* that all of it is read */
    bool ending;      /* it says nothing more to us: its last words are on their way out */
    uint64_t next_launch;
    int next_node;
};

struct word { /* of procspace's: who has read all of one is to read on there */
    struct word *next;
    uint64_t after, launch;
    uint32_t rank;
    int node;
};

struct onward {
    struct trail *first;
    struct word *words; /* that were not needed yet: it may be ahead of what we read */
    int fd;      /* RUN/move; -1 */
    int tries, timer;
    bool heard;  /* all that was known when we came */
};

static void hang_up(struct bpsh *b)
{
    struct onward *o = b->onward;

    if (o->fd >= 0)
        loop_fd_del(b->loop, o->fd);
    cleanup_close(&o->fd);
    o->heard = false;
    for (struct trail *t = o->first; t; t = t->next)
        t->told = false;
}

/* One of procspace's words; false: there is none (more). */
static bool hear(struct bpsh *b)
{
    struct onward *o = b->onward;
    unsigned long long after, launch;
    unsigned rank;
    struct err err = { 0 };
    struct pkt p;
    int node, n = o->fd < 0 ? -1 : pkt_recv(o->fd, &p, &err);

    if (o->fd < 0 || (n < 0 && err.code == EAGAIN))
        return false;
    if (n <= 0) {
        hang_up(b);
        return false;
    }
    if (p.len && !p.data[p.len - 1]) {
        o->heard |= strcmp(p.data, "ok") == 0;
        struct word *w;
        if (sscanf(p.data, "next %llu %u %llu %d", &after, &rank, &launch, &node) == 4 &&
            (w = calloc(1, sizeof *w))) {
            *w = (struct word){ o->words, after, launch, rank, node };
            o->words = w;
        }
    }
    pkt_clear(&p);
    return true;
}

static void on_word(void *arg, int fd, uint32_t events)
{
    (void)fd;
    (void)events;
    while (hear(arg))
        continue;
}

static void call(struct bpsh *b)
{
    struct onward *o = b->onward;
    char path[PATH_MAX];
    int out[2] = { STDOUT_FILENO, STDERR_FILENO }, n;
    size_t room = 64;

    o->tries++;
    for (const struct trail *t = o->first; t; t = t->next)
        room += 24;
    CLEANUP(cleanup_free) char *text = malloc(room);
    if (!text)
        return;
    /* One that was restarted may not know of the first launch, but of those since. */
    n = snprintf(text, room, "reader %llu", (unsigned long long)b->launch);
    for (const struct trail *t = o->first; t; t = t->next)
        n += snprintf(text + n, room - (size_t)n, " %llu", (unsigned long long)t->launch);
    o->fd = pkt_connect(cm_path(path, "move"), NULL);
    if (o->fd >= 0 && (pkt_send(o->fd, text, (size_t)n + 1, out, 2, NULL) < 0 ||
                       fcntl(o->fd, F_SETFL, O_NONBLOCK) < 0 ||
                       loop_fd(b->loop, o->fd, EPOLLIN, on_word, b, NULL) < 0))
        cleanup_close(&o->fd);
}

static void on_again(void *arg)
{
    struct bpsh *b = arg;

    b->onward->timer = 0;
    call(b);
}

static struct trail *trail_of(struct bpsh *b, const struct proc *p)
{
    struct trail *t = b->onward ? b->onward->first : NULL;

    while (t && t->p != p)
        t = t->next;
    return t;
}

static struct trail *trail_make(struct bpsh *b, struct proc *p)
{
    struct onward *o = b->onward;
    struct trail *t = trail_of(b, p);

    if (!o) {
        o = b->onward = calloc(1, sizeof *o);
        if (!o)
            return NULL;
        o->fd = -1;
    }
    if (!t && (t = calloc(1, sizeof *t))) {
        *t = (struct trail){ .next = o->first, .b = b, .p = p, .launch = b->launch,
                             .rank = p->rank };
        o->first = t;
    }
    return t;
}

bool onward_end(struct bpsh *b, struct proc *p, int fd, bool moved)
{
    p->over |= 1u << (fd - 1);
    if (!moved || !trail_make(b, p))
        return false;
    p->quiet |= 1u << (fd - 1);
    return true;
}

bool onward_taken(struct bpsh *b, struct proc *p, int fd, uint64_t taken)
{
    struct trail *t = trail_of(b, p);

    if (!t || !t->reader)
        return false;
    if (taken >= t->base[fd - 1])
        reader_taken(t->reader, 0, fd, taken - t->base[fd - 1]);
    return true;
}

/* --- reading elsewhere --- */

static void on_data(void *arg, uint32_t rank, int fd, const void *p, size_t n)
{
    struct trail *t = arg;

    (void)rank;
    proc_data(t->b, t->p, fd, p, n);
}

static void on_end(void *arg, uint32_t rank, int fd, bool lost)
{
    struct trail *t = arg;

    proc_end(t->b, t->p, fd, lost, reader_moved(t->reader, rank, fd));
}

static void on_input(void *arg, uint64_t acked, uint64_t limit, bool gone)
{
    (void)arg;
    (void)acked;
    (void)limit;
    (void)gone;
}

static void on_resent(void *arg, uint64_t offset)
{
    (void)arg;
    (void)offset;
}

static void end_lanes(struct trail *t)
{
    for (int fd = 1; fd <= 2; fd++)
        if (t->p->quiet & 1u << (fd - 1))
            output_end(t->b->output, (uint32_t)(t->p - t->b->proc), fd);
    t->p->quiet = 0;
}

/* All that has come so far: an unfinished line goes on with what it says there. */
static uint64_t received(const struct trail *t, int fd)
{
    uint32_t i = (uint32_t)(t->p - t->b->proc);

    return t->b->fold ? t->p->folded[fd - 1]
                      : output_taken(t->b->output, i, fd) + output_kept(t->b->output, i, fd);
}

static void read_on(struct trail *t)
{
    static const struct reader_ops ops = { on_data, on_end, on_input, on_resent, NULL };
    struct bpsh *b = t->b;
    char path[PATH_MAX];
    struct reader_conf conf = { .path = cm_path(path, "iofwd"), .launch = t->next_launch,
                                .node = &t->next_node, .n = 1, .window = b->window,
                                .use = { t->p->quiet & 1, t->p->quiet & 2 }, .started = true };

    for (int fd = 1; fd <= 2; fd++) {
        uint64_t n = received(t, fd);
        bool kept = !b->fold && output_kept(b->output, (uint32_t)(t->p - b->proc), fd) > 0;
        if (kept && t->reader) /* ours, whatever becomes of where it came from */
            reader_taken(t->reader, 0, fd, n - t->base[fd - 1]);
        else if (kept)
            reader_taken(b->reader, t->rank, fd, n);
        t->base[fd - 1] = n;
    }
    if (t->reader)
        reader_flush(t->reader);
    reader_destroy(&t->reader);
    t->launch = t->next_launch;
    t->rank = 0;
    t->next_launch = 0;
    t->told = false;
    t->p->node = t->next_node;
    t->reader = reader_create(b->loop, &conf, &ops, t, NULL);
    if (!t->reader) {
        end_lanes(t);
        return;
    }
    t->p->over = BOTH & ~t->p->quiet;
    t->p->quiet = 0;
    reader_flush(t->reader);
}

static bool out_of_hands(const struct trail *t)
{
    uint32_t i = (uint32_t)(t->p - t->b->proc);

    return t->b->fold || (output_idle(t->b->output, i, 1) && output_idle(t->b->output, i, 2) &&
                          output_flushed(t->b->output));
}

static void find_next(struct onward *o, struct trail *t)
{
    for (struct word **at = &o->words; *at; at = &(*at)->next) {
        struct word *w = *at;
        if (w->after != t->launch || w->rank != t->rank)
            continue;
        t->next_launch = w->launch;
        t->next_node = w->node;
        *at = w->next;
        free(w);
        return;
    }
}

static void say_read(struct trail *t)
{
    char text[64];
    int n = snprintf(text, sizeof text, "ended %llu %u", (unsigned long long)t->launch, t->rank);

    if (!t->told)
        pkt_send(t->b->onward->fd, text, (size_t)n + 1, NULL, 0, NULL);
    t->told = true;
}

static void step(struct bpsh *b, struct trail *t)
{
    struct onward *o = b->onward;

    if (!t->ending && (!t->p->quiet || (t->p->over & BOTH) != BOTH))
        return;
    if (o->fd < 0 && !o->timer && o->tries == 0)
        call(b);
    if (o->fd < 0 && o->tries >= TRIES)
        end_lanes(t);
    else if (o->fd < 0 && !o->timer)
        o->timer = loop_timer(b->loop, AGAIN_MS, false, on_again, b);
    on_word(b, o->fd, 0); /* of where it goes on it was told before its streams ended */
    if (!t->next_launch)
        find_next(o, t);
    if (o->fd < 0 || !o->heard || !out_of_hands(t))
        return;
    o->tries = 0;
    if (!t->ending && t->next_launch) {
        say_read(t);
        read_on(t);
        return;
    }
    /* It is on the master, or it has ended. */
    if (!t->ending) {
        t->ending = true;
        end_lanes(t);
        output_pump(b->output);
    }
    if (out_of_hands(t)) {
        t->ending = false;
        say_read(t);
    }
}

void onward_turn(struct bpsh *b)
{
    for (struct trail *t = b->onward ? b->onward->first : NULL; t; t = t->next) {
        step(b, t);
        if (t->reader)
            reader_flush(t->reader);
    }
}

void onward_forget(struct bpsh *b, struct proc *p)
{
    struct trail *t = trail_of(b, p);

    p->quiet = 0;
    if (t && t->reader)
        reader_forget(t->reader, 0);
}

void onward_close(struct bpsh *b)
{
    struct onward *o = b->onward;

    if (!o)
        return;
    loop_timer_del(b->loop, o->timer);
    hang_up(b);
    while (o->first) {
        struct trail *t = o->first;
        o->first = t->next;
        if (t->reader)
            reader_flush(t->reader);
        reader_destroy(&t->reader);
        free(t);
    }
    while (o->words) {
        struct word *w = o->words;
        o->words = w->next;
        free(w);
    }
    free(o);
    b->onward = NULL;
}
