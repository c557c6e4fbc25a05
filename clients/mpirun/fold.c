/* fold.c - the line to the helpers: fences gathered and given out
 *
 * Each node brings its part of a fence in one go; when as many nodes as take
 * part have, all of it goes to all of them in one write. Questions from one
 * node to another are passed on. The lines: bppmi.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "clients/mpirun/mpirun.h"

#define READ_BYTES (128 * 1024)

struct fence {
    struct fence *next;
    size_t here; /* nodes that have brought all */
    char *text;  /* the lines of its data */
    size_t len, room;
    char key[];
};

static bool append(char **buf, size_t *len, size_t *room, const char *p, size_t n)
{
    if (*room - *len < n) {
        size_t want = 2 * *room + n + 1024;
        char *more = realloc(*buf, want);
        if (!more)
            return false;
        *buf = more;
        *room = want;
    }
    memcpy(*buf + *len, p, n);
    *len += n;
    return true;
}

/* --- down --- */

static void on_writable(void *arg, int fd, uint32_t events)
{
    struct job *j = arg;

    (void)events;
    ssize_t n = j->out_len ? write(fd, j->out, j->out_len) : 0;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        n = 0;
    else if (n < 0)
        n = (ssize_t)j->out_len; /* nobody is there any more; their end is told apart */
    j->out_len -= (size_t)n;
    memmove(j->out, j->out + n, j->out_len);
    if (!j->out_len)
        loop_fd_del(j->loop, fd);
}

static void down(struct job *j, const char *p, size_t n)
{
    if (j->to < 0)
        return;
    if (!append(&j->out, &j->out_len, &j->out_room, p, n)) {
        job_fail(j, EXIT_FAILURE, "out of memory");
        return;
    }
    on_writable(j, j->to, 0);
    if (j->out_len)
        loop_fd(j->loop, j->to, EPOLLOUT, on_writable, j, NULL);
}

/* --- up --- */

static struct fence *fence_of(struct job *j, const char *key)
{
    struct fence *f;

    for (f = j->fence; f; f = f->next)
        if (strcmp(f->key, key) == 0)
            return f;
    f = calloc(1, sizeof *f + strlen(key) + 1);
    if (!f)
        return NULL;
    memcpy(f->key, key, strlen(key) + 1);
    f->next = j->fence;
    j->fence = f;
    return f;
}

static void fence_done(struct job *j, struct fence *f)
{
    struct fence **p = &j->fence;

    while (*p != f)
        p = &(*p)->next;
    *p = f->next;
    if (append(&f->text, &f->len, &f->room, "fence ", 6) &&
        append(&f->text, &f->len, &f->room, f->key, strlen(f->key)) &&
        append(&f->text, &f->len, &f->room, "\n", 1))
        down(j, f->text, f->len);
    else
        job_fail(j, EXIT_FAILURE, "out of memory");
    free(f->text);
    free(f);
}

static char *word(char **p)
{
    char *w = *p, *end = w + strcspn(w, " ");

    *p = end + (*end != 0);
    *end = 0;
    return w;
}

static void on_data(struct job *j, char *rest)
{
    struct fence *f = fence_of(j, word(&rest));

    if (!f || !append(&f->text, &f->len, &f->room, "data ", 5) ||
        !append(&f->text, &f->len, &f->room, f->key, strlen(f->key)) ||
        !append(&f->text, &f->len, &f->room, " ", 1) ||
        !append(&f->text, &f->len, &f->room, rest, strlen(rest)) ||
        !append(&f->text, &f->len, &f->room, "\n", 1))
        job_fail(j, EXIT_FAILURE, "out of memory");
}

static void take(struct job *j, char *line)
{
    char *rest;
    long node = strtol(line, &rest, 10);

    if (rest == line || rest[0] != ':' || rest[1] != ' ')
        return;
    rest += 2;
    char *what = word(&rest);
    if (strcmp(what, "data") == 0) {
        on_data(j, rest);
    } else if (strcmp(what, "fence") == 0) {
        struct fence *f = fence_of(j, word(&rest));
        if (f && ++f->here >= strtoul(rest, NULL, 10))
            fence_done(j, f);
    } else if (strcmp(what, "ask") == 0 || strcmp(what, "tell") == 0) {
        CLEANUP(cleanup_free) char *text = NULL;
        char *to = word(&rest);
        int n = asprintf(&text, "%s %s %ld %s\n", what, to, node, rest);
        if (n > 0)
            down(j, text, (size_t)n);
    } else if (strcmp(what, "gone") == 0) {
        uint32_t rank = (uint32_t)strtoul(word(&rest), NULL, 10);
        rank_gone(j, rank, *rest == '1');
    } else if (strcmp(what, "abort") == 0) {
        uint32_t rank = (uint32_t)strtoul(word(&rest), NULL, 10);
        rank_abort(j, rank, (int)strtol(rest, NULL, 10));
    } else if (strcmp(what, "say") == 0) {
        fprintf(stderr, "mpirun: node %ld: %s\n", node, rest);
    }
}

static void on_readable(void *arg, int fd, uint32_t events)
{
    struct job *j = arg;
    static char buf[READ_BYTES];
    char *p, *nl;

    (void)events;
    ssize_t n = read(fd, buf, sizeof buf);
    if (n < 0 && errno == EINTR)
        return;
    if (n <= 0) {
        loop_fd_del(j->loop, fd);
        close(fd);
        j->from = -1;
        return;
    }
    if (!append(&j->in, &j->in_len, &j->in_room, buf, (size_t)n)) {
        job_fail(j, EXIT_FAILURE, "out of memory");
        return;
    }
    for (p = j->in; (nl = memchr(p, '\n', j->in_len - (size_t)(p - j->in))); p = nl + 1) {
        *nl = 0;
        take(j, p);
    }
    j->in_len -= (size_t)(p - j->in);
    memmove(j->in, p, j->in_len);
}

int fold_open(struct job *j, struct err *err)
{
    return loop_fd(j->loop, j->from, EPOLLIN, on_readable, j, err);
}

void fold_close(struct job *j)
{
    if (j->to < 0)
        return;
    down(j, "quit\n", 5);
    loop_fd_del(j->loop, j->to);
    close(j->to);
    j->to = -1;
}

void fold_free(struct job *j)
{
    if (j->to >= 0)
        close(j->to);
    if (j->from >= 0)
        close(j->from);
    while (j->fence) {
        struct fence *f = j->fence;
        j->fence = f->next;
        free(f->text);
        free(f);
    }
    free(j->out);
    free(j->in);
}
