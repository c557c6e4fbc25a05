/* launch_kin.c - whose children a launch's processes are, by the name that each node has
 *
 * A parent that has been on several machines may have as many names (kin.c). Where a node
 * knows one, that is the one that it is told.
 */
#include <stdlib.h>
#include "services/procspace/launch.h"

static int by_node(const void *a, const void *b)
{
    const struct known *x = a, *y = b;

    return (x->node > y->node) - (x->node < y->node);
}

void launch_know(struct starting *s, const int *nodes, int n)
{
    if (!s->parent)
        return;
    s->known = calloc((size_t)n + 1, sizeof *s->known);
    if (!s->known)
        abort();
    for (; (int)s->nknown < n; s->nknown++) {
        struct known *k = &s->known[s->nknown];
        k->node = nodes[s->nknown];
        k->par = kin_hold(s->parent);
        kin_as_known(&k->par, k->node);
    }
}

struct parent *launch_parent(const struct starting *s, int node)
{
    const struct known key = { .node = node };
    const struct known *k =
        s->nknown ? bsearch(&key, s->known, s->nknown, sizeof key, by_node) : NULL;

    return k ? k->par : s->parent;
}

int launch_alike(const struct starting *s, int *nodes, int n)
{
    int k = 1;

    for (int i = 1; i < n; i++) {
        if (launch_parent(s, nodes[i]) != launch_parent(s, nodes[0]))
            continue;
        int other = nodes[k];
        nodes[k++] = nodes[i];
        nodes[i] = other;
    }
    return k;
}

void launch_kin_free(struct starting *s)
{
    for (size_t i = 0; i < s->nknown; i++)
        kin_release(&s->known[i].par);
    free(s->known);
    kin_release(&s->parent);
}
