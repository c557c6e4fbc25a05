/* spread.c - who fetches an image from whom
 *
 * A few clients fetch from here; each client that fetches serves what it has
 * to those that come after it, so one image after the other leaves this
 * machine however many boot. A client is told of one other that is not below
 * it, and of us as the last resort.
 */
#include "services/bootsrv/spread.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FROM_US 2  /* clients that fetch from here at once */
#define FROM_ONE 3 /* and from another client */
#define FORGET_MS 120000 /* one that has not said that it is done */

struct peer {
    char addr[64], mac[MAC_TEXT], hash[IMAGE_HASH];
    uint16_t port; /* 0: it does not serve */
    struct peer *from; /* NULL: us */
    unsigned children;
    int64_t at;
    bool bad; /* sends damaged chunks */
    char avoid[80]; /* "ADDR:PORT" that was slow, or gone, for this one */
    struct peer *next;
};

struct spread {
    struct peer *first;
};

static void let_go(struct peer *p)
{
    if (p->from)
        p->from->children--;
    p->from = NULL;
}

static void drop(spread_t *s, struct peer *gone)
{
    struct peer **link = &s->first;

    let_go(gone);
    for (struct peer *p = s->first; p; p = p->next)
        if (p->from == gone)
            p->from = NULL;
    while (*link != gone)
        link = &(*link)->next;
    *link = gone->next;
    free(gone);
}

static void forget(spread_t *s, int64_t now)
{
    for (struct peer *p = s->first, *next; p; p = next) {
        next = p->next;
        if (now - p->at > FORGET_MS)
            drop(s, p);
    }
}

static struct peer *find(spread_t *s, const char *mac)
{
    for (struct peer *p = s->first; p; p = p->next)
        if (strcmp(p->mac, mac) == 0)
            return p;
    return NULL;
}

void spread_done(spread_t *s, const char *mac)
{
    struct peer *p = find(s, mac);

    if (p)
        drop(s, p);
}

void spread_failed(spread_t *s, const char *mac, const char *addr, uint16_t port,
                   enum spread_why why)
{
    struct peer *me = find(s, mac);

    if (me)
        snprintf(me->avoid, sizeof me->avoid, "%s:%u", addr, port);
    for (struct peer *p = s->first; why != SPREAD_SLOW && p; p = p->next) {
        if (p->port != port || strcmp(p->addr, addr) != 0 || p == me)
            continue;
        if (why == SPREAD_DAMAGED)
            p->bad = true;
        else
            drop(s, p); /* if it lives it will ask again */
        return;
    }
}

static bool avoided(const struct peer *p, const struct peer *me)
{
    char text[sizeof me->avoid];

    snprintf(text, sizeof text, "%s:%u", p->addr, p->port);
    return strcmp(text, me->avoid) == 0;
}

static bool below(const struct peer *p, const struct peer *top)
{
    for (; p; p = p->from)
        if (p == top)
            return true;
    return false;
}

static unsigned steps(const struct peer *p)
{
    unsigned n = 0;

    for (; p->from; p = p->from)
        n++;
    return n;
}

/* One with room, as few steps from us as can be: a tree, not a chain. Of those
 * the one with the fewest children, the oldest of these. */
static struct peer *choose(spread_t *s, const struct peer *me)
{
    struct peer *best = NULL;
    unsigned least = 0;

    for (struct peer *p = s->first; p; p = p->next) {
        if (!p->port || p->bad || strcmp(p->hash, me->hash) != 0 || p->children >= FROM_ONE ||
            below(p, me) || avoided(p, me))
            continue;
        unsigned n = steps(p);
        if (best && (n > least || (n == least && p->children > best->children)))
            continue;
        best = p;
        least = n;
    }
    return best;
}

bool spread_ask(spread_t *s, const char *mac, const char *hash, const char *addr, uint16_t port,
                int64_t now, char *peer, size_t room)
{
    unsigned ours = 0;

    forget(s, now);
    struct peer *me = find(s, mac);
    if (me && (strcmp(me->hash, hash) != 0 || me->port != port || strcmp(me->addr, addr) != 0)) {
        drop(s, me);
        me = NULL;
    }
    if (!me) {
        me = calloc(1, sizeof *me);
        if (!me)
            return false;
        snprintf(me->mac, sizeof me->mac, "%s", mac);
        snprintf(me->hash, sizeof me->hash, "%s", hash);
        snprintf(me->addr, sizeof me->addr, "%s", addr);
        me->port = port;
        me->next = s->first;
        s->first = me;
    } else {
        let_go(me);
    }
    me->at = now;
    for (const struct peer *p = s->first; p; p = p->next)
        ours += p != me && !p->from && strcmp(p->hash, hash) == 0;
    struct peer *best = ours < FROM_US ? NULL : choose(s, me);
    if (!best)
        return false;
    me->from = best;
    best->children++;
    snprintf(peer, room, "%s:%u", best->addr, best->port);
    return true;
}

spread_t *spread_create(struct err *err)
{
    spread_t *s = calloc(1, sizeof *s);

    if (!s)
        err_set(err, ENOMEM, "out of memory");
    return s;
}

void spread_destroy(spread_t **sp)
{
    if (!*sp)
        return;
    while ((*sp)->first)
        drop(*sp, (*sp)->first);
    free(*sp);
    *sp = NULL;
}
