/* tree.c - processes in the order of their descent
 *
 * The rows come sorted by node and pid. A process whose parent is not shown is
 * a root. Rows that claim to be each other's parents (a pid can be taken anew
 * while /proc is read) become roots too: each row comes out exactly once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clients/bpps/bpps.h"

#define NONE ((size_t)-1)

struct link {
    size_t child, next; /* first child; next child of the same parent */
    bool has_parent, done;
};

static size_t find(const struct procs *p, int64_t node, int64_t pid)
{
    size_t low = 0, high = p->n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct proc *at = &p->v[mid];

        if (at->node < node || (at->node == node && at->pid < pid))
            low = mid + 1;
        else
            high = mid;
    }
    return low < p->n && p->v[low].node == node && p->v[low].pid == pid ? low : NONE;
}

/* Write the tree under root; the stack holds one next row a level. */
static void walk(const struct procs *p, struct link *l, size_t root, size_t *stack,
                 struct proc *out, size_t *n)
{
    size_t depth = 0, at = root;

    for (;;) {
        while (at != NONE && l[at].done)
            at = l[at].next; /* a loop closes here */
        if (at == NONE) {
            if (depth == 0)
                return;
            at = stack[--depth];
            continue;
        }
        l[at].done = true;
        out[*n] = p->v[at];
        out[(*n)++].depth = (int)depth;
        stack[depth++] = at == root ? NONE : l[at].next;
        at = l[at].child;
    }
}

int tree_order(struct procs *p, struct err *err)
{
    CLEANUP(cleanup_free) struct link *l = calloc(p->n + 1, sizeof(*l));
    CLEANUP(cleanup_free) size_t *stack = calloc(p->n + 1, sizeof(*stack));
    struct proc *out = calloc(p->n + 1, sizeof(*out));
    size_t n = 0;

    if (!l || !stack || !out) {
        free(out);
        return err_set(err, ENOMEM, "out of memory for %zu processes", p->n);
    }
    for (size_t i = 0; i < p->n; i++)
        l[i].child = l[i].next = NONE;
    for (size_t i = p->n; i-- > 0;) { /* backwards: children come out by pid */
        size_t parent = find(p, p->v[i].node, p->v[i].ppid);

        if (parent == NONE || parent == i)
            continue;
        l[i].has_parent = true;
        l[i].next = l[parent].child;
        l[parent].child = i;
    }
    /* roots of a node come before what is left of it in loops */
    for (size_t from = 0, to; from < p->n; from = to) {
        for (to = from + 1; to < p->n && p->v[to].node == p->v[from].node; to++)
            continue;
        for (size_t i = from; i < to; i++)
            if (!l[i].has_parent)
                walk(p, l, i, stack, out, &n);
        for (size_t i = from; i < to; i++)
            if (!l[i].done)
                walk(p, l, i, stack, out, &n);
    }
    free(p->v);
    p->v = out;
    return 0;
}
