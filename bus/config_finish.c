/* config_finish.c - what only the whole configuration can tell
 *
 * Lines may stand in any order, so what depends on several of them is checked
 * and filled in when all are read: two nodes with one address, boot files of
 * node ranges, the port of masters.
 */
#include "bus/config_parse.h"
#include "bus/nodespec.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- no two nodes share an address ---- */

struct claim {
    const char *text;
    const struct cm_node *node;
};

static int by_text(const void *va, const void *vb)
{
    const struct claim *a = va, *b = vb;
    int c = strcmp(a->text, b->text);

    return c ? c : (a->node->line > b->node->line) - (a->node->line < b->node->line);
}

static int check_claims(struct parser *p, struct claim *claims, size_t n, const char *what)
{
    qsort(claims, n, sizeof *claims, by_text);
    for (size_t i = 1; i < n; i++) {
        const struct claim *a = &claims[i - 1], *b = &claims[i];

        if (strcmp(a->text, b->text) != 0)
            continue;
        p->line = b->node->line;
        if (a->node == b->node)
            return config_bad(p, "%s %s is given twice to node %d", what, a->text,
                              a->node->number);
        return config_bad(p, "%s %s is given to node %d and to node %d (line %d)", what,
                          a->text, b->node->number, a->node->number, a->node->line);
    }
    return 0;
}

static int check_unique(struct parser *p)
{
    const struct cm_config *c = p->c;
    size_t naddrs = 0, nmacs = 0;

    for (size_t i = 0; i < c->nnodes; i++) {
        naddrs += c->nodes[i].addrs.n;
        nmacs += c->nodes[i].macs.n;
    }
    CLEANUP(cleanup_free) struct claim *addrs = calloc(naddrs + 1, sizeof *addrs);
    CLEANUP(cleanup_free) struct claim *macs = calloc(nmacs + 1, sizeof *macs);
    if (!addrs || !macs)
        return config_nomem(p);
    naddrs = nmacs = 0;
    for (size_t i = 0; i < c->nnodes; i++) {
        const struct cm_node *node = &c->nodes[i];
        for (size_t k = 0; k < node->addrs.n; k++)
            addrs[naddrs++] = (struct claim){ node->addrs.v[k], node };
        for (size_t k = 0; k < node->macs.n; k++)
            macs[nmacs++] = (struct claim){ node->macs.v[k], node };
    }
    if (check_claims(p, addrs, naddrs, "address") < 0)
        return -1;
    return check_claims(p, macs, nmacs, "hardware address");
}

/* ---- boot files ---- */

static int boot_for(struct parser *p, char **where, const char *file)
{
    free(*where);
    *where = strdup(file);
    return *where ? 0 : config_nomem(p);
}

/* The node's place for a file of this kind of line. */
static char **place(struct cm_node *node, bool phase1)
{
    return phase1 ? &node->phase1 : &node->bootfile;
}

static int boot_spec(struct parser *p, const struct bootfile_line *b)
{
    struct cm_config *c = p->c;
    CLEANUP(cleanup_free) struct nodespec_node *all = calloc(c->nnodes + 1, sizeof *all);
    CLEANUP(nodelist_free) nodelist_t list;
    struct err err = { 0 };

    nodelist_init(&list);
    if (!all)
        return config_nomem(p);
    for (size_t i = 0; i < c->nnodes; i++)
        all[i] = (struct nodespec_node){ c->nodes[i].number, "down" };
    if (nodespec_eval(b->spec, all, c->nnodes, false, &list, &err) < 0)
        return config_bad(p, "%s: %s", b->phase1 ? "phase1" : "bootfile", err.text);
    for (size_t i = 0; i < list.n; i++) {
        struct cm_node *node = (struct cm_node *)config_node(c, list.node[i]);
        if (node && boot_for(p, place(node, b->phase1), b->file) < 0)
            return -1;
    }
    return 0;
}

/* A line that names nodes wins over plain lines. A plain line is for the nodes
 * above it that have none; the last one also for those below. */
static int assign_bootfiles(struct parser *p, bool phase1)
{
    struct cm_config *c = p->c;
    const struct bootfile_line *last = NULL;

    for (size_t i = 0; i < p->nboot; i++) {
        p->line = p->boot[i].line;
        if (p->boot[i].phase1 != phase1)
            continue;
        if (!p->boot[i].spec)
            last = &p->boot[i];
        else if (boot_spec(p, &p->boot[i]) < 0)
            return -1;
    }
    if (!last)
        return 0;
    if (!phase1 && boot_for(p, &c->bootfile, last->file) < 0)
        return -1;
    for (size_t n = 0; n < c->nnodes; n++) {
        const struct bootfile_line *use = last;

        if (*place(&c->nodes[n], phase1))
            continue;
        for (size_t i = 0; i < p->nboot; i++) {
            if (p->boot[i].phase1 == phase1 && !p->boot[i].spec &&
                p->boot[i].line > c->nodes[n].line) {
                use = &p->boot[i];
                break;
            }
        }
        if (boot_for(p, place(&c->nodes[n], phase1), use->file) < 0)
            return -1;
    }
    return 0;
}

/* ---- the rest ---- */

static int complete_masters(struct parser *p)
{
    struct cm_config *c = p->c;

    for (size_t m = 0; m < c->nmasters; m++) {
        for (size_t i = 0; i < c->masters[m].n; i++) {
            const char *s = c->masters[m].v[i], *colon = strchr(s, ':');
            bool bare_v6 = *s != '[' && colon && strchr(colon + 1, ':');
            char *whole;

            if (*s == '[' ? strstr(s, "]:") != NULL : colon && !bare_v6)
                continue;
            if (asprintf(&whole, bare_v6 ? "[%s]:%u" : "%s:%u", s, c->port) < 0)
                return config_nomem(p);
            free(c->masters[m].v[i]);
            c->masters[m].v[i] = whole;
        }
    }
    return 0;
}

static int warn_of_odd(struct parser *p)
{
    const struct cm_config *c = p->c;

    for (size_t i = 0; i < c->nnodes; i++) {
        p->line = c->nodes[i].line;
        if (c->nodes[i].addrs.n == 0 &&
            config_warn(p, "node %d has a hardware address but no ip or iprange line gives "
                        "it an address", c->nodes[i].number) < 0)
            return -1;
    }
    return 0;
}

int config_finish(struct parser *p)
{
    struct cm_config *c = p->c;

    if (c->grace_ms < 0)
        c->grace_ms = c->pingtimeout_ms;
    if (check_unique(p) < 0 || complete_masters(p) < 0 || assign_bootfiles(p, false) < 0 ||
        assign_bootfiles(p, true) < 0)
        return -1;
    return warn_of_odd(p);
}
