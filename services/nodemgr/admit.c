/* admit.c - which key is which node; who waits to be let in
 *
 * A machine is known by its CURVE key. The first key that comes for a node
 * the configuration names (by its address, or by a hardware address it tells)
 * is pinned to it; from then on only that key is that node. Everything else
 * waits in a list until a person accepts the key or forgets the old one.
 *
 * A node without a disk has nowhere to keep a key: it makes one at each boot
 * and says so. Such a key gives way to the next one of the same address and
 * hardware address, but only while the node is down: nobody on a node that
 * lives can take its place.
 */
#include "services/nodemgr/nodemgr.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Anybody who reaches the port can make new keys: what they can make us
 * remember is bounded, the oldest goes first. */
#define PENDING_MAX 1000
#define KEYS_MS 60000

/* ---- who waits ---- */

static void pending_clear(struct pending *p)
{
    strlist_free(&p->macs);
}

void pending_free(nodemgr_t *m)
{
    for (size_t i = 0; i < m->npending; i++)
        pending_clear(&m->pending[i]);
    free(m->pending);
    m->pending = NULL;
    m->npending = 0;
}

static struct pending *pending_find(nodemgr_t *m, const char *key)
{
    for (size_t i = 0; i < m->npending; i++)
        if (strcmp(m->pending[i].key, key) == 0)
            return &m->pending[i];
    return NULL;
}

static bool pending_boot_key(nodemgr_t *m, const char *key)
{
    const struct pending *p = pending_find(m, key);

    return p && p->boot_key;
}

static void pending_drop(nodemgr_t *m, struct pending *p)
{
    size_t behind = m->npending - (size_t)(p - m->pending) - 1;

    pending_clear(p);
    memmove(p, p + 1, behind * sizeof *p);
    m->npending--;
}

static struct pending *pending_new(nodemgr_t *m)
{
    if (m->npending == PENDING_MAX) {
        svc_log("warning", "more than %d unknown keys wait: %s from %s, the oldest, is dropped",
                PENDING_MAX, m->pending[0].key, m->pending[0].addr);
        pending_drop(m, &m->pending[0]);
    }
    struct pending *more = realloc(m->pending, (m->npending + 1) * sizeof *more);
    if (!more)
        return NULL;
    m->pending = more;
    struct pending *p = &more[m->npending++];
    *p = (struct pending){ .since = wall_ms() };
    return p;
}

static bool same_macs(const struct strlist *a, const struct strlist *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->v[i], b->v[i]) != 0)
            return false;
    return true;
}

/* Note who knocks and why it stays outside; say so when that is news. */
static void pending_note(nodemgr_t *m, const char *key, bool boot_key, const char *addr,
                         const struct strlist *macs, const char *why)
{
    struct pending *p = pending_find(m, key);

    if (p && strncmp(p->why, why, WHY_LEN) == 0 && strcmp(p->addr, addr) == 0 &&
        same_macs(&p->macs, macs))
        return;
    if (!p)
        p = pending_new(m);
    if (!p)
        return;
    snprintf(p->key, sizeof p->key, "%s", key);
    p->boot_key = boot_key;
    snprintf(p->addr, sizeof p->addr, "%s", addr);
    snprintf(p->why, sizeof p->why, "%.*s", WHY_LEN, why);
    strlist_free(&p->macs);
    for (size_t i = 0; i < macs->n; i++)
        strlist_add(&p->macs, macs->v[i]);
    svc_log("notice", "not let in: key %s from %s: %s", key, addr, why);
    say_pending(m, p);
}

/* ---- who is let in ---- */

static void pin(nodemgr_t *m, struct node *n, const char *key, bool boot_key)
{
    snprintf(n->machine->key, sizeof n->machine->key, "%s", key);
    n->machine->boot_key = boot_key;
    n->dirty = true;
    m->keys_changed = true;
    say_key(m, n);
    struct pending *p = pending_find(m, key);
    if (p)
        pending_drop(m, p);
}

/* The node that the configuration means by this address and these MACs. */
static struct node *named(nodemgr_t *m, const char *addr, const struct strlist *macs,
                          struct err *err)
{
    struct node *by_addr = nodes_by_addr(&m->nodes, addr), *by_mac = NULL;

    for (size_t i = 0; i < macs->n; i++) {
        struct node *n = nodes_by_mac(&m->nodes, macs->v[i]);
        if (n && by_mac && n != by_mac) {
            err_set(err, EACCES, "it tells hardware addresses of node %d and of node %d",
                    by_mac->number, n->number);
            return NULL;
        }
        by_mac = n ? n : by_mac;
    }
    if (by_addr && by_mac && by_addr != by_mac) {
        err_set(err, EACCES, "its address %s is node %d's, its hardware address node %d's; "
                "correct the configuration", addr, by_addr->number, by_mac->number);
        return NULL;
    }
    if (!by_addr && !by_mac)
        err_set(err, EACCES, "the configuration names neither its address %s nor a hardware "
                "address of it", addr);
    return by_addr ? by_addr : by_mac;
}

/* The key of its last boot is worth nothing once that boot is over. */
static bool gives_way(nodemgr_t *m, struct node *n, struct err *err)
{
    if (!n->machine->boot_key)
        return false;
    if (!node_down(n)) {
        err_set(err, EACCES, "node %d seems to have booted again, but its last boot was heard "
                "less than %g s ago; it is let in when that is down", n->number,
                m->config->pingtimeout_ms / 1000.0);
        return false;
    }
    life_lose(m, n, "nodemgr", "it has booted again");
    n->machine->key[0] = '\0';
    return true;
}

struct node *admit(nodemgr_t *m, const char *key, bool boot_key, const char *addr,
                   const struct strlist *macs, struct err *err)
{
    struct node *n = nodes_by_key(&m->nodes, key);
    struct err no = { 0 };

    if (n)
        return n;
    n = named(m, addr, macs, &no);
    if (n && n->machine->key[0] && boot_key && gives_way(m, n, &no))
        svc_log("info", "node %d has booted again, with a new key", n->number);
    if (n && n->machine->key[0] && no.code)
        n = NULL;
    if (n && n->machine->key[0]) {
        err_set(&no, EACCES, "node %d is pinned to another key; if the machine was changed: "
                "bpctl -S %d --forget", n->number, n->number);
        n = NULL;
    }
    if (n) {
        svc_log("info", "node %d is key %s from %s from now on", n->number, key, addr);
        pin(m, n, key, boot_key);
        return n;
    }
    pending_note(m, key, boot_key, addr, macs, no.text);
    err_set(err, no.code, "not accepted: %s", no.text);
    return NULL;
}

/* ---- busd's table ---- */

static void keys_again(void *arg)
{
    nodemgr_t *m = arg;

    m->keys_changed = true; /* sent at the end of this turn */
}

static void on_keys_sent(void *arg, const msgpack_object *value, const struct err *err)
{
    nodemgr_t *m = arg;

    if (value)
        return;
    svc_log("error", "busd did not take the table of keys: %s", err->text);
    loop_timer(m->loop, 1000, false, keys_again, m);
}

static void pack_keys(const nodemgr_t *m, mp_buf *b)
{
    uint32_t n = 0;

    for (size_t i = 0; i < m->nodes.n; i++)
        n += m->nodes.v[i]->machine->key[0] != '\0';
    mp_array(b, n);
    for (size_t i = 0; i < m->nodes.n; i++) {
        if (!m->nodes.v[i]->machine->key[0])
            continue;
        mp_array(b, 2);
        mp_str(b, m->nodes.v[i]->machine->key);
        mp_int(b, m->nodes.v[i]->number);
    }
}

void keys_send(nodemgr_t *m)
{
    if (!m->keys_changed || !m->connected)
        return;
    CLEANUP(mp_free) mp_buf b;
    mp_init(&b);
    mp_map(&b, 1);
    mp_key(&b, "keys");
    pack_keys(m, &b);
    svc_call(m->svc, "busd.keys", &b, KEYS_MS, on_keys_sent, m);
    m->keys_changed = false;
}

int on_keys(void *self, struct svc_req *req, struct err *err)
{
    (void)err;
    pack_keys(self, req->reply);
    return 0;
}

/* ---- by hand ---- */

static int read_node(nodemgr_t *m, const msgpack_object *body, struct node **n, struct err *err)
{
    int64_t number;

    if (mp_get_int(body, "node", 0, NODE_MAX, &number, err) < 0)
        return -1;
    *n = nodes_get(&m->nodes, (int)number);
    if (!*n)
        return err_set(err, BE_INVALIDNODE, "%s (the configuration has no node %lld)",
                       err_name(BE_INVALIDNODE), (long long)number);
    return 0;
}

static bool is_key(const char *s)
{
    static const char z85[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                              ".-:+=^!/*?&<>()[]{}@%$#";

    return strlen(s) == KEY_LEN && strspn(s, z85) == KEY_LEN;
}

/* The machine that was this node is no more: its space ends, its key is free. */
static int dismiss(nodemgr_t *m, struct node *n, const char *who, const char *why,
                   struct err *err)
{
    struct machine old = *n->machine;

    n->machine->key[0] = '\0';
    n->dirty = true;
    if (db_flush(m->db, &m->nodes, err) < 0) {
        memcpy(n->machine->key, old.key, sizeof old.key);
        return -1;
    }
    if (node_alive(n)) {
        life_end(m, n); /* goes out before busd forgets the key */
        life_lose(m, n, who, why);
    }
    m->keys_changed = true;
    return 0;
}

int on_accept(void *self, struct svc_req *req, struct err *err)
{
    nodemgr_t *m = self;
    CLEANUP(cleanup_free) char *key = NULL;
    char who[WHO_LEN + 1];
    struct node *n;

    if (mp_get_dup(req->body, "key", &key, err) < 0 || read_node(m, req->body, &n, err) < 0)
        return -1;
    if (!is_key(key))
        return err_set(err, EINVAL, "\"%.60s\" is no key; nodemgr.pending lists those that wait",
                       key);
    const struct node *has = nodes_by_key(&m->nodes, key);
    if (has == n)
        return 0;
    if (has)
        return err_set(err, EEXIST, "this key is node %d's; forget that first", has->number);
    who_text(req->w, who, sizeof who);
    if (n->machine->key[0] && dismiss(m, n, who, "another key was accepted", err) < 0)
        return -1;
    pin(m, n, key, pending_boot_key(m, key));
    if (db_flush(m->db, &m->nodes, err) < 0) {
        n->machine->key[0] = '\0';
        return -1;
    }
    svc_log("info", "node %d is key %s from now on, accepted by %s", n->number, key, who);
    return 0;
}

int on_forget(void *self, struct svc_req *req, struct err *err)
{
    nodemgr_t *m = self;
    char who[WHO_LEN + 1];
    struct node *n;

    if (read_node(m, req->body, &n, err) < 0)
        return -1;
    if (!n->machine->key[0])
        return err_set(err, ENOENT, "no key is pinned to node %d", n->number);
    who_text(req->w, who, sizeof who);
    if (dismiss(m, n, who, "its key was forgotten", err) < 0)
        return -1;
    say_key(m, n);
    svc_log("info", "the key of node %d was forgotten by %s", n->number, who);
    return 0;
}

int on_pending(void *self, struct svc_req *req, struct err *err)
{
    nodemgr_t *m = self;

    (void)err;
    mp_array(req->reply, (uint32_t)m->npending);
    for (size_t i = 0; i < m->npending; i++) {
        const struct pending *p = &m->pending[i];

        mp_map(req->reply, 5);
        mp_kstr(req->reply, "key", p->key);
        mp_kstr(req->reply, "addr", p->addr);
        mp_key(req->reply, "macs");
        mp_array(req->reply, (uint32_t)p->macs.n);
        for (size_t k = 0; k < p->macs.n; k++)
            mp_str(req->reply, p->macs.v[k]);
        mp_kint(req->reply, "since", p->since);
        mp_kstr(req->reply, "why", p->why);
    }
    return 0;
}
