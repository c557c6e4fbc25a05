/* callers.c - who connects to a listener and has a time to say its first word */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bus/callers.h"

struct guest {
    struct caller k;
    callers_t *all;
    struct guest *next;
    int timer;
};

struct callers {
    loop_t *loop;
    int listener, least;
    callers_fn *word;
    void *arg;
    struct guest *first;
    size_t n;
};

static void hang_up(struct guest *g)
{
    struct guest **at = &g->all->first;

    while (*at != g)
        at = &(*at)->next;
    *at = g->next;
    g->all->n--;
    loop_timer_del(g->all->loop, g->timer);
    if (g->k.fd >= 0) {
        loop_fd_del(g->all->loop, g->k.fd);
        close(g->k.fd);
    }
    free(g);
}

static void on_silent(void *arg)
{
    struct guest *g = arg;

    g->timer = 0;
    hang_up(g);
}

int caller_take(const struct caller *k, void *out, size_t len)
{
    int any = 1;
    ssize_t n = recv(k->fd, out, len, MSG_PEEK | MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0)
        return -1;
    if ((size_t)n < len)
        return 0;
    if (recv(k->fd, out, len, MSG_DONTWAIT) != n ||
        setsockopt(k->fd, SOL_SOCKET, SO_RCVLOWAT, &any, sizeof any) < 0)
        return -1;
    return 1;
}

static void on_word(void *arg, int fd, uint32_t events)
{
    struct guest *g = arg;
    callers_t *c = g->all;

    if (c->word(c->arg, &g->k) && !(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
        return;
    (void)fd;
    hang_up(g);
}

static void on_call(void *arg, int listener, uint32_t events)
{
    callers_t *c = arg;
    struct ucred who = { .uid = (uid_t)-1 };
    socklen_t len = sizeof who;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

    (void)events;
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE)
            while (c->first) /* strangers make room first */
                hang_up(c->first);
        return;
    }
    struct guest *g = c->n < CALLERS_MAX ? calloc(1, sizeof *g) : NULL;
    /* Readable only with a whole word: no turn of the loop for a part of it. */
    if (!g || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 ||
        (c->least && setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &c->least, sizeof c->least) < 0)) {
        free(g);
        close(fd);
        return;
    }
    *g = (struct guest){ { fd, who.uid, who.pid }, c, c->first, 0 };
    c->first = g;
    c->n++;
    g->timer = loop_timer(c->loop, CALLERS_WORD_MS, false, on_silent, g);
    if (loop_fd(c->loop, fd, EPOLLIN | EPOLLRDHUP, on_word, g, NULL) < 0)
        hang_up(g);
}

callers_t *callers_open(loop_t *loop, int listener, int least, callers_fn *word, void *arg,
                        struct err *err)
{
    callers_t *c = calloc(1, sizeof *c);

    if (!c || loop_fd(loop, listener, EPOLLIN, on_call, c, err) < 0) {
        if (!c)
            err_set(err, ENOMEM, "out of memory");
        free(c);
        close(listener);
        return NULL;
    }
    *c = (callers_t){ .loop = loop, .listener = listener, .least = least, .word = word,
                      .arg = arg };
    return c;
}

void callers_close(callers_t **cp)
{
    callers_t *c = *cp;

    if (!c)
        return;
    while (c->first)
        hang_up(c->first);
    loop_fd_del(c->loop, c->listener);
    close(c->listener);
    free(c);
    *cp = NULL;
}
