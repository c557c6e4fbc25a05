/* rounds.c - who has it, and who is tried again
 *
 * A node that was lost because somebody between here and it was lost has done
 * nothing wrong and is asked again; one that was lost itself, once more.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "clients/bpcp/bpcp.h"

#define TRIES 3
#define ROUNDS 16

int round_begin(struct round *r, struct bpcp *b, struct err *err)
{
    const nodelist_t *l = &b->target.nodes;

    *r = (struct round){ .b = b };
    r->t = calloc(l->n + 1, sizeof *r->t);
    if (!r->t)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < l->n; i++)
        r->t[r->n++].node = l->node[i];
    return 0;
}

void round_free(struct round *r)
{
    free(r->t);
    r->t = NULL;
}

static struct target *target_of(struct round *r, int64_t node)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->t[i].node == node)
            return &r->t[i];
    return NULL;
}

bool round_any(const struct round *r)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->t[i].state == TARGET_WAITS)
            return true;
    return false;
}

bool round_next(struct round *r)
{
    r->number++;
    for (size_t i = 0; i < r->n; i++) {
        struct target *t = &r->t[i];
        if (t->state == TARGET_WAITS && (t->tries >= TRIES || r->number >= ROUNDS)) {
            t->state = TARGET_FAILED;
            say(r->b, t->node, NULL, *t->why ? t->why : "the connection was lost");
        }
    }
    return round_any(r);
}

int round_waiting(const struct round *r, int **node, size_t *n, struct err *err)
{
    *n = 0;
    *node = calloc(r->n + 1, sizeof **node);
    if (!*node)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < r->n; i++)
        if (r->t[i].state == TARGET_WAITS && r->t[i].node != BPCP_MASTER)
            (*node)[(*n)++] = r->t[i].node;
    return 0;
}

void round_refused(void *arg, int node, int code, const char *text)
{
    struct round *r = arg;
    struct target *t = target_of(r, node);

    (void)code;
    if (!t || t->state != TARGET_WAITS)
        return;
    t->state = TARGET_FAILED;
    say(r->b, node, NULL, text);
}

/* [node, takes_part, [[path, text]...], more] */
static int take_node(struct round *r, const msgpack_object *row, bool end, struct err *err)
{
    const msgpack_object *p = row->type == MSGPACK_OBJECT_ARRAY ? row->via.array.ptr : NULL;
    int64_t node, more;

    if (!p || row->via.array.size < 4 || !mp_as_int(&p[0], &node) || node < COPY_SOURCE ||
        node > NODE_MAX || p[1].type != MSGPACK_OBJECT_BOOLEAN ||
        p[2].type != MSGPACK_OBJECT_ARRAY || !mp_as_int(&p[3], &more))
        return err_set(err, EPROTO, "a report was not understood");
    struct target *t = target_of(r, node);
    int shown = node == COPY_SOURCE ? r->b->source->nodes.node[0] : (int)node;
    bool news = node == COPY_SOURCE ? r->number == 0 : t && t->state == TARGET_WAITS;
    for (uint32_t i = 0; news && i < p[2].via.array.size; i++) {
        const msgpack_object *o = &p[2].via.array.ptr[i];
        if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 2)
            return err_set(err, EPROTO, "a report was not understood");
        CLEANUP(cleanup_free) char *path = mp_dup(&o->via.array.ptr[0]);
        CLEANUP(cleanup_free) char *text = mp_dup(&o->via.array.ptr[1]);
        say(r->b, shown, path, text ? text : "failed");
    }
    if (news && more) {
        char text[64];
        snprintf(text, sizeof text, "and %lld more failures", (long long)more);
        say(r->b, shown, NULL, text);
    }
    if (t && t->state == TARGET_WAITS && (end || !p[1].via.boolean))
        t->state = p[1].via.boolean ? TARGET_DONE : TARGET_FAILED;
    return 0;
}

static int take_lost(struct round *r, const msgpack_object *row, struct err *err)
{
    const msgpack_object *p = row->type == MSGPACK_OBJECT_ARRAY ? row->via.array.ptr : NULL;
    int64_t node;

    if (!p || row->via.array.size < 3 || !mp_as_int(&p[0], &node) ||
        p[2].type != MSGPACK_OBJECT_BOOLEAN)
        return err_set(err, EPROTO, "a report was not understood");
    CLEANUP(cleanup_free) char *why = mp_dup(&p[1]);
    struct target *t = target_of(r, node);
    if (t) {
        snprintf(t->why, sizeof t->why, "%s", why ? why : "");
        t->tries += p[2].via.boolean;
    }
    return 0;
}

int round_report(struct round *r, const msgpack_object *map, bool end, struct err *err)
{
    const msgpack_object_array *nodes, *lost;

    if (mp_get_array(map, "nodes", &nodes, err) < 0 || mp_get_array(map, "lost", &lost, err) < 0)
        return -1;
    for (uint32_t i = 0; i < nodes->size; i++)
        if (take_node(r, &nodes->ptr[i], end, err) < 0)
            return -1;
    /* After OPEN they are merely out of this round; END counts them. */
    for (uint32_t i = 0; end && i < lost->size; i++)
        if (take_lost(r, &lost->ptr[i], err) < 0)
            return -1;
    return 0;
}
