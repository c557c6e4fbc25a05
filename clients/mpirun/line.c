/* line.c - the line to mpirun: our stdin and stdout, by way of bpsh */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "clients/mpirun/bppmi.h"

/* mpirun always reads: this does not block for long. */
static void put(struct helper *h, const char *p, size_t n)
{
    while (n) {
        ssize_t w = write(STDOUT_FILENO, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0) {
            helper_end(h);
            return;
        }
        p += w;
        n -= (size_t)w;
    }
}

void line_up(struct helper *h, const char *fmt, ...)
{
    CLEANUP(cleanup_free) char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0)
        text = NULL;
    else
        put(h, text, (size_t)n);
}

void line_data(struct helper *h, const char *key, const char *text, size_t n)
{
    while (n) {
        size_t part = n;
        if (part > LINE_MAX_TEXT) /* at a blank: what is between two is one thing */
            for (part = LINE_MAX_TEXT; part && text[part - 1] != ' ';)
                part--;
        if (!part)
            part = LINE_MAX_TEXT;
        line_up(h, "data %s %.*s\n", key, (int)part, text);
        text += part;
        n -= part;
    }
}

static char *word(char **p)
{
    char *w = *p, *end = w + strcspn(w, " ");

    *p = end + (*end != 0);
    *end = 0;
    return w;
}

static void take(struct helper *h, char *line)
{
    char *what = word(&line);

    if (strcmp(what, "quit") == 0) {
        h->ending = true;
        loop_stop(h->loop, 0);
    } else if (strcmp(what, "data") == 0) {
        char *key = word(&line);
        kind_data(h, key, line);
    } else if (strcmp(what, "fence") == 0) {
        kind_fence(h, word(&line));
    } else if (strcmp(what, "ask") == 0 || strcmp(what, "tell") == 0) {
        int to = atoi(word(&line)), from = atoi(word(&line));
        char *id = word(&line);
        if (to != h->node)
            return;
        if (*what == 'a')
            kind_ask(h, from, id, line);
        else
            kind_tell(h, from, id, line);
    }
}

static void on_input(void *arg, int fd, uint32_t events)
{
    struct helper *h = arg;

    (void)events;
    if (h->in_room - h->in_len < 64 * 1024) {
        char *more = realloc(h->in, h->in_room + 256 * 1024);
        if (!more) {
            helper_end(h);
            return;
        }
        h->in = more;
        h->in_room += 256 * 1024;
    }
    ssize_t n = read(fd, h->in + h->in_len, h->in_room - h->in_len - 1);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        helper_end(h); /* mpirun is no more, or we are on our own */
        return;
    }
    h->in_len += (size_t)n;
    char *p = h->in, *nl;
    while ((nl = memchr(p, '\n', h->in_len - (size_t)(p - h->in)))) {
        *nl = 0;
        take(h, p);
        p = nl + 1;
    }
    h->in_len -= (size_t)(p - h->in);
    memmove(h->in, p, h->in_len);
}

int line_open(struct helper *h, struct err *err)
{
    return loop_fd(h->loop, STDIN_FILENO, EPOLLIN, on_input, h, err);
}
