/* fan.c - the next receivers: frames to all of them, their answers as one
 *
 * A receiver that fails is closed at once, and its whole subtree counts as lost
 * at the next turn; whoever began the copy tries those again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "copy/copy.h"

void fan_free(struct fan *f)
{
    for (size_t i = 0; i < f->n; i++) {
        chan_close(&f->kid[i].c);
        free(f->kid[i].node);
    }
    free(f->kid);
    *f = (struct fan){ 0 };
}

int fan_add(struct fan *f, chan_t *c, const int *node, size_t nodes, const char *why,
            struct err *err)
{
    struct kid *bigger = realloc(f->kid, (f->n + 1) * sizeof *bigger);
    int *copy = malloc((nodes + 1) * sizeof *copy);

    if (bigger)
        f->kid = bigger;
    if (!bigger || !copy) {
        free(copy);
        chan_close(&c);
        return err_set(err, ENOMEM, "out of memory");
    }
    if (nodes)
        memcpy(copy, node, nodes * sizeof *copy);
    struct kid *k = &f->kid[f->n++];
    *k = (struct kid){ .c = c, .node = copy, .nodes = nodes };
    snprintf(k->why, sizeof k->why, "%s", why ? why : "");
    return 0;
}

static void lose(struct kid *k, const struct err *why)
{
    snprintf(k->why, sizeof k->why, "%.190s", why->text);
    chan_close(&k->c);
}

bool fan_alive(const struct fan *f)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->kid[i].c)
            return true;
    return false;
}

void fan_send(struct fan *f, enum copy_kind kind, const void *a, size_t alen, const void *b,
              size_t blen)
{
    for (size_t i = 0; i < f->n; i++) {
        struct err err = { 0 };
        if (f->kid[i].c && chan_send(f->kid[i].c, kind, a, alen, b, blen, &err) < 0)
            lose(&f->kid[i], &err);
    }
}

void fan_flush(struct fan *f)
{
    for (size_t i = 0; i < f->n; i++) {
        struct err err = { 0 };
        if (f->kid[i].c && chan_flush(f->kid[i].c, &err) < 0)
            lose(&f->kid[i], &err);
    }
}

uint64_t fan_have(struct fan *f, uint64_t most)
{
    for (size_t i = 0; i < f->n; i++) {
        CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked u;
        struct err err = { 0 };

        msgpack_unpacked_init(&u);
        if (!f->kid[i].c)
            continue;
        if (chan_expect(f->kid[i].c, COPY_HAVE, &u, &err) == 0 &&
            u.data.type != MSGPACK_OBJECT_POSITIVE_INTEGER)
            err_set(&err, EPROTO, "its answer was not understood");
        if (err.code)
            lose(&f->kid[i], &err);
        else if (u.data.via.u64 < most)
            most = u.data.via.u64;
    }
    return most;
}

void fan_report(struct fan *f, struct report *r)
{
    for (size_t i = 0; i < f->n; i++) {
        struct kid *k = &f->kid[i];
        CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked u;
        struct err err = { 0 };

        msgpack_unpacked_init(&u);
        if (k->c && (chan_expect(k->c, COPY_REPORT, &u, &err) < 0 ||
                     report_add(r, &u.data, &err) < 0))
            lose(k, &err);
        for (size_t n = 0; !k->c && n < k->nodes; n++)
            report_lost(r, k->node[n], k->why, n == 0);
    }
}
