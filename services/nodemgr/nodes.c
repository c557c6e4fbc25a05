/* nodes.c - the nodes, what stands there, and how it changes; no I/O */
#include "services/nodemgr/nodes.h"
#include "bus/loop.h"
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the set ---- */

static void node_free(struct node *n)
{
    if (!n)
        return;
    if (n->machine)
        strlist_free(&n->machine->macs);
    if (n->standing)
        free(n->standing->attr);
    free(n->machine);
    free(n->standing);
    free(n);
}

static struct node *node_new(int number)
{
    struct node *n = calloc(1, sizeof *n);

    if (!n)
        return NULL;
    n->number = number;
    n->machine = calloc(1, sizeof *n->machine);
    n->standing = calloc(1, sizeof *n->standing);
    if (!n->machine || !n->standing) {
        node_free(n);
        return NULL;
    }
    word_set(&n->down, "nodemgr", "it has not joined yet");
    return n;
}

int nodes_build(nodes_t *s, const struct cm_config *c, const nodes_t *old, struct err *err)
{
    nodes_t made = { .v = calloc(c->nnodes + 1, sizeof *made.v) };

    if (!made.v)
        return err_set(err, ENOMEM, "no memory for %zu nodes", c->nnodes);
    for (made.n = 0; made.n < c->nnodes; made.n++) {
        struct node *n = nodes_get(old, c->nodes[made.n].number);

        if (!n && !(n = node_new(c->nodes[made.n].number))) {
            nodes_drop(&made, old);
            return err_set(err, ENOMEM, "no memory for %zu nodes", c->nnodes);
        }
        made.v[made.n] = n;
    }
    *s = made;
    return 0;
}

void nodes_drop(nodes_t *s, const nodes_t *keep)
{
    for (size_t i = 0; i < s->n; i++)
        if (nodes_get(keep, s->v[i]->number) != s->v[i])
            node_free(s->v[i]);
    free(s->v);
    *s = (nodes_t){ 0 };
}

struct node *nodes_get(const nodes_t *s, int number)
{
    size_t lo = 0, hi = s->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (s->v[mid]->number == number)
            return s->v[mid];
        if (s->v[mid]->number < number)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

struct node *nodes_by_key(const nodes_t *s, const char *key)
{
    for (size_t i = 0; *key && i < s->n; i++)
        if (strcmp(s->v[i]->machine->key, key) == 0)
            return s->v[i];
    return NULL;
}

static bool holds(const struct strlist *l, const char *text)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->v[i], text) == 0)
            return true;
    return false;
}

struct node *nodes_by_addr(const nodes_t *s, const char *addr)
{
    for (size_t i = 0; *addr && i < s->n; i++)
        if (holds(&s->v[i]->conf->addrs, addr))
            return s->v[i];
    return NULL;
}

struct node *nodes_by_mac(const nodes_t *s, const char *mac)
{
    for (size_t i = 0; i < s->n; i++)
        if (holds(&s->v[i]->conf->macs, mac))
            return s->v[i];
    return NULL;
}

static bool is_address(const char *text)
{
    unsigned char b[16];

    return inet_pton(AF_INET, text, b) == 1 || inet_pton(AF_INET6, text, b) == 1;
}

static int resolve_address(const nodes_t *s, const char *addr, nodelist_t *out,
                           struct err *err)
{
    const struct node *n = nodes_by_addr(s, addr);

    for (size_t i = 0; !n && i < s->n; i++)
        if (strcmp(s->v[i]->machine->addr, addr) == 0)
            n = s->v[i];
    if (!n)
        return err_set(err, ENOENT, "no node has the address %s", addr);
    if (nodelist_add(out, n->number) < 0)
        return err_set(err, ENOMEM, "no memory for the node list");
    return 0;
}

int nodes_resolve(const nodes_t *s, const char *spec, bool empty_ok, nodelist_t *out,
                  struct err *err)
{
    if (spec && is_address(spec))
        return resolve_address(s, spec, out, err);
    CLEANUP(cleanup_free) struct nodespec_node *all = calloc(s->n + 1, sizeof *all);
    if (!all)
        return err_set(err, ENOMEM, "no memory for the node list");
    for (size_t i = 0; i < s->n; i++)
        all[i] = (struct nodespec_node){ s->v[i]->number, node_state(s->v[i]) };
    return nodespec_eval(spec ? spec : "all", all, s->n, empty_ok || !spec, out, err);
}

/* ---- what is seen ---- */

bool node_alive(const struct node *n)
{
    return n->machine->space[0] != '\0';
}

bool node_down(const struct node *n)
{
    return !node_alive(n) || n->machine->silent;
}

const char *node_state(const struct node *n)
{
    return node_down(n) ? "down" : n->standing->state;
}

const struct word *node_word(const struct node *n)
{
    return node_down(n) ? &n->down : &n->standing->word;
}

const char *node_reach(const struct node *n)
{
    return node_down(n) ? "no" : n->machine->late ? "late" : "yes";
}

const char *node_addr(const struct node *n)
{
    if (n->machine->addr[0])
        return n->machine->addr;
    return n->conf->addrs.n ? n->conf->addrs.v[0] : "";
}

/* ---- what happens ---- */

void word_set(struct word *w, const char *who, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(w->why, sizeof w->why, fmt, ap);
    va_end(ap);
    snprintf(w->who, sizeof w->who, "%s", who);
    w->since = wall_ms();
}

void node_begin(struct node *n, const char *space, const char *boot, int64_t now)
{
    struct machine *m = n->machine;

    snprintf(m->space, sizeof m->space, "%s", space);
    snprintf(m->boot, sizeof m->boot, "%s", boot);
    m->heard_at = now;
    m->late = m->silent = m->ready = m->asked = false;
    m->procs = 0;
    standing_clear(n->standing);
    n->standing->mode = 0100;
    snprintf(n->standing->state, sizeof n->standing->state, "boot");
    word_set(&n->standing->word, "nodemgr", "joined");
    m->joined = n->standing->word.since;
    m->set_up_at = 0;
    n->dirty = n->attrs_dirty = true;
}

void node_set_state(struct node *n, const char *state, const char *who, const char *why)
{
    bool over = strcmp(n->standing->state, "boot") == 0 && strcmp(state, "boot") != 0;

    snprintf(n->standing->state, sizeof n->standing->state, "%s", state);
    word_set(&n->standing->word, who, "%s", why);
    if (over)
        n->machine->set_up_at = n->standing->word.since;
    n->dirty = true;
}

void node_lose(struct node *n, const char *who, const char *why)
{
    struct machine *m = n->machine;

    if (!node_alive(n))
        return;
    memcpy(m->lost_space, m->space, sizeof m->lost_space);
    m->space[0] = '\0';
    m->late = m->silent = m->ready = false;
    m->procs = 0;
    standing_clear(n->standing);
    word_set(&n->down, who, "%s", why);
    n->dirty = n->attrs_dirty = true;
}

bool node_heard(struct node *n, int64_t now)
{
    struct machine *m = n->machine;
    bool was = m->late || m->silent;

    if (m->silent)
        n->dirty = true;
    m->heard_at = now;
    m->late = m->silent = false;
    return was;
}

/* A hundred beats a second are plenty for one master. */
int beat_interval(size_t nodes, int ping_ms)
{
    size_t spread = nodes > 100 ? nodes * 10 : 1000;

    return spread < (size_t)ping_ms / 5 ? (int)spread : ping_ms / 5;
}

/* A link that comes back at the end of the grace needs a moment to carry words
 * again: ZeroMQ connects anew, and what was asked is asked again. */
#define RETURN_MS 1500

struct patience patience_of(int ping_ms, int grace_ms, int beat_ms)
{
    struct patience p = { .ping_ms = ping_ms };
    int64_t lost_ms = (int64_t)(grace_ms > ping_ms ? grace_ms : ping_ms) + RETURN_MS;

    p.late_ms = 3 * beat_ms > ping_ms / 3 ? 3 * beat_ms : ping_ms / 3;
    p.lost_ms = lost_ms < INT_MAX ? (int)lost_ms : INT_MAX;
    return p;
}

enum change node_tick(struct node *n, int64_t now, const struct patience *p)
{
    struct machine *m = n->machine;
    int64_t quiet = now - m->heard_at;

    if (!node_alive(n))
        return NODE_SAME;
    if (quiet >= p->lost_ms)
        return NODE_GIVEN_UP;
    if (quiet >= p->ping_ms && !m->silent) {
        m->silent = true;
        word_set(&n->down, "nodemgr", "no word from it for %.3g s", (double)quiet / 1000);
        n->dirty = true;
        return NODE_SILENT;
    }
    if (quiet >= p->late_ms && !m->late && !m->silent) {
        m->late = true;
        return NODE_LATE;
    }
    return NODE_SAME;
}
