/* sort.c - the order in which nodes are shown */
#include <stdlib.h>
#include <string.h>

#include "clients/bpstat/bpstat.h"

static int by_number(const void *a, const void *b)
{
    const struct node_row *x = a, *y = b;

    return (x->node > y->node) - (x->node < y->node);
}

static int by_status(const void *a, const void *b)
{
    const struct node_row *x = a, *y = b;
    int c = strcmp(x->state, y->state);

    return c ? c : by_number(a, b);
}

void sort_nodes(struct nodes *t, const struct options *o)
{
    enum order order = o->order;

    if (order == ORDER_LAYOUT)
        order = o->layout == LAYOUT_COMPACT && !o->json ? ORDER_STATUS : ORDER_NUMBER;
    if (t->n > 1 && order == ORDER_STATUS)
        qsort(t->row, t->n, sizeof(*t->row), by_status);
    if (t->n > 1 && order == ORDER_NUMBER)
        qsort(t->row, t->n, sizeof(*t->row), by_number);
    for (size_t i = 0, j = t->n; o->reverse && i + 1 < j; i++) {
        struct node_row r = t->row[i];

        t->row[i] = t->row[--j];
        t->row[j] = r;
    }
}
