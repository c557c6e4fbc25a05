/* nodespec.c - fuzz: node lists, as people write them and as topics carry them */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "bus/nodespec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct nodespec_node table[] = {
    { 0, "up" }, { 1, "up" }, { 2, "down" }, { 5, "boot" }, { 9, "maint" },
};
#define NODES (sizeof table / sizeof *table)

static void check(const nodelist_t *l, int highest)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->node[i] < -1 || l->node[i] > highest)
            abort();
    if (l->n > NODE_MAX + 1)
        abort();
}

/* Written out and read again a list is the same. */
static void round_trip(const nodelist_t *l)
{
    nodelist_t same;
    char *text = nodelist_text(l);

    nodelist_init(&same);
    for (size_t i = 0; i < l->n; i++)
        if (l->node[i] < 0)
            goto out;
    if (!text || l->n > 100000)
        goto out;
    if (l->n && (nodespec_numbers(text, &same, NULL) < 0 || same.n != l->n ||
                 memcmp(same.node, l->node, l->n * sizeof *l->node) != 0))
        abort();
out:
    free(text);
    nodelist_free(&same);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = { 0 };
    nodelist_t l;

    if (size > 120) /* as long as a topic; ranges would only cost time */
        return 0;
    char *spec = malloc(size + 1);
    memcpy(spec, data, size);
    spec[size] = 0;
    for (int empty = 0; empty < 2; empty++) {
        nodelist_init(&l);
        if (nodespec_eval(spec, table, NODES, empty, &l, &err) == 0) {
            check(&l, 9);
            round_trip(&l);
            if (!l.n && !empty)
                abort();
        } else if (!err.text[0] || !err.code) {
            abort();
        }
        nodelist_free(&l);
    }
    nodelist_init(&l);
    if (nodespec_eval(spec, NULL, 0, false, &l, &err) == 0)
        check(&l, -1);
    nodelist_free(&l);
    nodelist_init(&l);
    if (nodespec_numbers(spec, &l, &err) == 0) {
        check(&l, NODE_MAX);
        round_trip(&l);
    }
    nodelist_free(&l);
    free(spec);
    return 0;
}
