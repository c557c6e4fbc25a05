/* loop.c - one epoll loop: descriptors, timers, signals, other sources */
#include "bus/loop.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

struct watch {
    loop_fd_fn *fn;
    void *arg;
    uint32_t generation; /* 0: not watched */
};

struct timer {
    int id;
    int64_t at, every; /* every 0: once */
    loop_fn *fn;
    void *arg;
};

struct source {
    int fd;
    bool (*ready)(void *arg);
    loop_fn *dispatch;
    void *arg;
};

struct turn {
    loop_fn *fn;
    void *arg;
};

struct signal_watch {
    int signo;
    loop_sig_fn *fn;
    void *arg;
};

struct loop {
    int ep, sigfd;
    sigset_t signals;
    struct watch *watch; /* by descriptor */
    size_t watches;
    uint32_t generation;
    struct timer *timer; /* a binary heap on at */
    size_t timers, timer_room;
    int next_timer;
    struct source *source;
    size_t sources;
    struct turn *turn;
    size_t turns;
    struct signal_watch *sig;
    size_t sigs;
    bool running;
    int status;
};

int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

loop_t *loop_create(struct err *err)
{
    loop_t *l = calloc(1, sizeof *l);

    if (!l) {
        err_set(err, ENOMEM, "loop: out of memory");
        return NULL;
    }
    l->sigfd = -1;
    l->next_timer = 1;
    sigemptyset(&l->signals);
    l->ep = epoll_create1(EPOLL_CLOEXEC);
    if (l->ep < 0) {
        err_set(err, errno, "epoll: %s", strerror(errno));
        free(l);
        return NULL;
    }
    return l;
}

void loop_destroy(loop_t **lp)
{
    loop_t *l = *lp;

    if (!l)
        return;
    close(l->ep);
    if (l->sigfd >= 0)
        close(l->sigfd);
    free(l->watch);
    free(l->timer);
    free(l->source);
    free(l->turn);
    free(l->sig);
    free(l);
    *lp = NULL;
}

int loop_fd(loop_t *l, int fd, uint32_t events, loop_fd_fn *fn, void *arg,
            struct err *err)
{
    if ((size_t)fd >= l->watches) {
        size_t n = l->watches ? l->watches * 2 : 64;
        while (n <= (size_t)fd)
            n *= 2;
        struct watch *w = realloc(l->watch, n * sizeof *w);
        if (!w)
            return err_set(err, ENOMEM, "loop: out of memory");
        memset(w + l->watches, 0, (n - l->watches) * sizeof *w);
        l->watch = w;
        l->watches = n;
    }
    struct watch *w = &l->watch[fd];
    bool had = w->generation != 0;
    /* The generation travels with the event: an event that was fetched before
     * its descriptor was closed and the number reused must not reach the new owner. */
    uint32_t gen = had ? w->generation : ++l->generation ? l->generation : ++l->generation;
    struct epoll_event ev = { .events = events,
                              .data.u64 = (uint64_t)gen << 32 | (uint32_t)fd };
    int rc = epoll_ctl(l->ep, had ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev);
    if (rc < 0 && had && errno == ENOENT)
        rc = epoll_ctl(l->ep, EPOLL_CTL_ADD, fd, &ev);
    if (rc < 0)
        return err_set(err, errno, "watch descriptor %d: %s", fd, strerror(errno));
    *w = (struct watch){ fn, arg, gen };
    return 0;
}

void loop_fd_del(loop_t *l, int fd)
{
    if (fd < 0 || (size_t)fd >= l->watches || !l->watch[fd].generation)
        return;
    epoll_ctl(l->ep, EPOLL_CTL_DEL, fd, NULL);
    l->watch[fd].generation = 0;
}

static void sift_up(loop_t *l, size_t i)
{
    struct timer t = l->timer[i];
    while (i && l->timer[(i - 1) / 2].at > t.at) {
        l->timer[i] = l->timer[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    l->timer[i] = t;
}

static void sift_down(loop_t *l, size_t i)
{
    if (i >= l->timers)
        return;
    struct timer t = l->timer[i];
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= l->timers)
            break;
        if (c + 1 < l->timers && l->timer[c + 1].at < l->timer[c].at)
            c++;
        if (l->timer[c].at >= t.at)
            break;
        l->timer[i] = l->timer[c];
        i = c;
    }
    l->timer[i] = t;
}

static int timer_put(loop_t *l, struct timer t)
{
    if (l->timers == l->timer_room) {
        size_t n = l->timer_room ? l->timer_room * 2 : 16;
        struct timer *p = realloc(l->timer, n * sizeof *p);
        if (!p)
            return -1;
        l->timer = p;
        l->timer_room = n;
    }
    l->timer[l->timers++] = t;
    sift_up(l, l->timers - 1);
    return t.id;
}

int loop_timer(loop_t *l, int64_t delay_ms, bool repeat, loop_fn *fn, void *arg)
{
    int id = l->next_timer++;
    if (l->next_timer <= 0)
        l->next_timer = 1;
    if (delay_ms < 0)
        delay_ms = 0;
    return timer_put(l, (struct timer){ id, now_ms() + delay_ms,
                                        repeat ? (delay_ms ? delay_ms : 1) : 0, fn, arg });
}

static void timer_remove(loop_t *l, size_t i)
{
    l->timer[i] = l->timer[--l->timers];
    if (i < l->timers) {
        sift_up(l, i);
        sift_down(l, i);
    }
}

void loop_timer_del(loop_t *l, int id)
{
    if (id <= 0)
        return;
    for (size_t i = 0; i < l->timers; i++)
        if (l->timer[i].id == id) {
            timer_remove(l, i);
            return;
        }
}

static void run_timers(loop_t *l)
{
    int64_t now = now_ms();

    while (l->timers && l->timer[0].at <= now) {
        struct timer t = l->timer[0];
        timer_remove(l, 0);
        if (t.every) {
            struct timer next = t;
            next.at = now + t.every;
            timer_put(l, next);
        }
        t.fn(t.arg);
    }
}

static void on_signal(void *arg, int fd, uint32_t events)
{
    loop_t *l = arg;
    struct signalfd_siginfo si;

    (void)events;
    while (read(fd, &si, sizeof si) == sizeof si)
        for (size_t i = 0; i < l->sigs; i++)
            if (l->sig[i].signo == (int)si.ssi_signo)
                l->sig[i].fn(l->sig[i].arg, (int)si.ssi_signo);
}

int loop_signal(loop_t *l, int signo, loop_sig_fn *fn, void *arg, struct err *err)
{
    struct signal_watch *p = realloc(l->sig, (l->sigs + 1) * sizeof *p);

    if (!p)
        return err_set(err, ENOMEM, "loop: out of memory");
    l->sig = p;
    sigaddset(&l->signals, signo);
    sigprocmask(SIG_BLOCK, &l->signals, NULL);
    int fd = signalfd(l->sigfd, &l->signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return err_set(err, errno, "signalfd: %s", strerror(errno));
    l->sigfd = fd;
    l->sig[l->sigs++] = (struct signal_watch){ signo, fn, arg };
    return loop_fd(l, fd, EPOLLIN, on_signal, l, err);
}

void loop_turn(loop_t *l, loop_fn *fn, void *arg)
{
    struct turn *p = realloc(l->turn, (l->turns + 1) * sizeof *p);
    if (!p)
        abort(); /* at start-up only */
    l->turn = p;
    l->turn[l->turns++] = (struct turn){ fn, arg };
}

static void on_source_fd(void *arg, int fd, uint32_t events)
{
    loop_t *l = arg;

    (void)events;
    for (size_t i = 0; i < l->sources; i++)
        if (l->source[i].fd == fd) {
            l->source[i].dispatch(l->source[i].arg);
            return;
        }
}

int loop_source(loop_t *l, int fd, bool (*ready)(void *arg), loop_fn *dispatch, void *arg,
                struct err *err)
{
    struct source *p = realloc(l->source, (l->sources + 1) * sizeof *p);
    if (!p)
        return err_set(err, ENOMEM, "loop: out of memory");
    l->source = p;
    l->source[l->sources++] = (struct source){ fd, ready, dispatch, arg };
    return loop_fd(l, fd, EPOLLIN, on_source_fd, l, err);
}

void loop_source_del(loop_t *l, void *arg)
{
    for (size_t i = 0; i < l->sources; i++)
        if (l->source[i].arg == arg) {
            loop_fd_del(l, l->source[i].fd);
            l->source[i] = l->source[--l->sources];
            return;
        }
}

/* Let sources that have something speak; true if any had. */
static bool run_sources(loop_t *l)
{
    bool any = false;
    for (size_t i = 0; i < l->sources; i++)
        if (l->source[i].ready(l->source[i].arg)) {
            l->source[i].dispatch(l->source[i].arg);
            any = true;
        }
    return any;
}

static void run_turns(loop_t *l)
{
    for (size_t i = 0; i < l->turns; i++)
        l->turn[i].fn(l->turn[i].arg);
}

int loop_once(loop_t *l, int timeout_ms)
{
    struct epoll_event ev[64];

    /* What was done may have to be finished by the turn hooks before we sleep. They may
     * make a source ready, so that it is asked after them; each question costs two
     * system calls. */
    run_turns(l);
    bool any = run_sources(l);
    if (any)
        run_turns(l);
    if (l->timers) {
        int64_t wait = l->timer[0].at - now_ms();
        if (wait < 0)
            wait = 0;
        if (timeout_ms < 0 || wait < timeout_ms)
            timeout_ms = wait > 1000000 ? 1000000 : (int)wait;
    }
    int n = epoll_wait(l->ep, ev, 64, any ? 0 : timeout_ms);
    if (n < 0 && errno != EINTR)
        return -1;
    for (int i = 0; i < n; i++) {
        size_t fd = (uint32_t)ev[i].data.u64;
        uint32_t gen = (uint32_t)(ev[i].data.u64 >> 32);
        if (fd < l->watches && l->watch[fd].generation == gen)
            l->watch[fd].fn(l->watch[fd].arg, (int)fd, ev[i].events);
    }
    run_timers(l);
    return n > 0 ? n : 0;
}

int loop_run(loop_t *l)
{
    l->running = true;
    while (l->running)
        if (loop_once(l, -1) < 0)
            return -1;
    return l->status;
}

void loop_stop(loop_t *l, int status)
{
    l->running = false;
    l->status = status;
}

static void on_stop_signal(void *arg, int signo)
{
    (void)signo;
    loop_stop(arg, 0);
}

int loop_stop_signals(loop_t *l, struct err *err)
{
    return loop_signal(l, SIGTERM, on_stop_signal, l, err) < 0 ||
                   loop_signal(l, SIGINT, on_stop_signal, l, err) < 0
               ? -1 : 0;
}
