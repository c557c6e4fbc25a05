/* nodeset.c - sets of nodes, and what a node specification selects from one */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/nodespec.h"
#include "clients/libbproc/lib.h"

#define ROUND 128

int bproc_nodeset_init(struct bproc_node_set_t *ns, int size)
{
    *ns = (struct bproc_node_set_t)BPROC_EMPTY_NODESET;
    if (size <= 0)
        return 0;
    if (bproc_nodeset_grow(ns, size) < 0)
        return -1;
    ns->size = size;
    return 0;
}

int bproc_nodeset_grow(struct bproc_node_set_t *ns, int size)
{
    if (size <= ns->alloc)
        return 0;
    if (size > INT_MAX - ROUND)
        return lib_errno(ENOMEM);
    int alloc = (size + ROUND - 1) / ROUND * ROUND;
    void *p = realloc(ns->node, (size_t)alloc * sizeof *ns->node);
    if (!p)
        return lib_errno(ENOMEM);
    ns->node = p;
    ns->alloc = alloc;
    return 0;
}

void bproc_nodeset_free(struct bproc_node_set_t *ns)
{
    free(ns->node);
    *ns = (struct bproc_node_set_t)BPROC_EMPTY_NODESET;
}

int bproc_nodeset_add(struct bproc_node_set_t *ns, const struct bproc_node_info_t *node)
{
    struct bproc_node_info_t copy = *node; /* it may be one of the set */

    if (ns->size == ns->alloc &&
        bproc_nodeset_grow(ns, ns->alloc > INT_MAX / 2 ? INT_MAX : ns->alloc * 2 + 1) < 0)
        return -1;
    if (!ns->node)
        return lib_errno(EINVAL); /* a set that nobody has set up */
    ns->node[ns->size++] = copy;
    return 0;
}

int bproc_nodeset_append(struct bproc_node_set_t *a, const struct bproc_node_set_t *b)
{
    int n = b->size;

    if (n > INT_MAX - a->size)
        return lib_errno(ENOMEM);
    if (bproc_nodeset_grow(a, a->size + n) < 0)
        return -1;
    if (n > 0)
        memcpy(a->node + a->size, b->node, (size_t)n * sizeof *a->node);
    a->size += n;
    return 0;
}

/* --- specifications --- */

static int compare(const void *a, const void *b)
{
    const struct nodespec_node *x = a, *y = b;
    return (x->node > y->node) - (x->node < y->node);
}

/* A legal word that names no state any node is in: here, unlike in a command
 * line, that is no mistake. all: it is negated, so that every node is meant. */
static bool is_state(const char *word, bool *all)
{
    if (strncmp(word, "all", 3) == 0)
        word += 3;
    *all = strncmp(word, "not", 3) == 0;
    if (*all)
        word += 3;
    if (!isalpha((unsigned char)*word))
        return false;
    for (; *word; word++)
        if (!isalnum((unsigned char)*word) && *word != '_')
            return false;
    return true;
}

static int select_item(const char *item, const struct nodespec_node *nodes, size_t n,
                       nodelist_t *out)
{
    struct err err = { 0 };
    bool all;

    if (strcmp(item, "-1") == 0 || strcmp(item, "n-1") == 0)
        return 0; /* selects nothing; "master" does */
    if (nodespec_eval(item, nodes, n, true, out, &err) == 0)
        return 0;
    if (err.code != EINVAL || !is_state(item, &all))
        return lib_fail(&err);
    for (size_t i = 0; all && i < n; i++)
        if (nodelist_add(out, nodes[i].node) < 0)
            return lib_errno(ENOMEM);
    return 0;
}

static int select_all(const char *spec, const struct nodespec_node *nodes, size_t n,
                      nodelist_t *out)
{
    CLEANUP(cleanup_free) char *copy = strdup(spec);
    char *rest = copy, *item;

    if (!copy)
        return lib_errno(ENOMEM);
    while ((item = strsep(&rest, ",")))
        if (*item && select_item(item, nodes, n, out) < 0)
            return -1;
    return 0;
}

static const struct bproc_node_info_t *info_of(const struct bproc_node_set_t *in, int node)
{
    static const struct bproc_node_info_t master = { .node = BPROC_NODE_MASTER,
                                                     .status = "up", .mode = 0111 };
    for (int i = 0; i < in->size; i++)
        if (in->node[i].node == node)
            return &in->node[i];
    return node == BPROC_NODE_MASTER ? &master : NULL;
}

int bproc_nodefilter(struct bproc_node_set_t *out, const struct bproc_node_set_t *in,
                     const char *spec)
{
    CLEANUP(nodelist_free) nodelist_t list;
    CLEANUP(cleanup_free) struct nodespec_node *nodes = NULL;
    struct bproc_node_set_t found = BPROC_EMPTY_NODESET;
    size_t n = 0;
    int rc;

    nodelist_init(&list);
    bproc_nodeset_init(out, 0);
    nodes = calloc((size_t)in->size + 1, sizeof *nodes);
    if (!nodes)
        return lib_errno(ENOMEM);
    for (int i = 0; i < in->size; i++)
        if (in->node[i].node >= 0)
            nodes[n++] = (struct nodespec_node){ in->node[i].node, in->node[i].status };
    qsort(nodes, n, sizeof *nodes, compare);
    rc = select_all(spec, nodes, n, &list);
    for (size_t i = 0; rc == 0 && i < list.n; i++) {
        const struct bproc_node_info_t *info = info_of(in, list.node[i]);
        if (info)
            rc = bproc_nodeset_add(&found, info);
    }
    if (rc < 0) {
        int code = errno;
        bproc_nodeset_free(&found);
        return lib_errno(code);
    }
    *out = found;
    return 0;
}

int bproc_nodespec(struct bproc_node_set_t *ns, const char *spec)
{
    struct bproc_node_set_t all = BPROC_EMPTY_NODESET;

    bproc_nodeset_init(ns, 0);
    if (bproc_nodelist(&all) < 0)
        return -1;
    int rc = bproc_nodefilter(ns, &all, spec), code = errno;
    bproc_nodeset_free(&all);
    return rc < 0 ? lib_errno(code) : 0;
}

static bool in_group(gid_t gid, const gid_t *g, int n)
{
    while (n-- > 0)
        if (g[n] == gid)
            return true;
    return gid == getgid();
}

/* Keep the nodes of the list where the caller may start work; *size tells how many. */
int bproc_nodefilteraccessible(struct bproc_node_info_t *list, int *size)
{
    int n = getgroups(0, NULL), kept = 0;
    CLEANUP(cleanup_free) gid_t *g = malloc(((size_t)(n > 0 ? n : 0) + 1) * sizeof *g);

    if (!g)
        return lib_errno(ENOMEM);
    n = n > 0 ? getgroups(n, g) : 0;
    for (int i = 0; i < *size; i++) {
        const struct bproc_node_info_t *info = &list[i];
        unsigned bit = info->user == getuid() ? 0100
                       : in_group(info->group, g, n) ? 0010 : 0001;
        if (info->mode & (getuid() == 0 ? 0111 : bit))
            list[kept++] = *info;
    }
    *size = kept;
    return 0;
}
