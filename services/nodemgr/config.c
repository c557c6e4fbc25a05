/* config.c - the configuration in force, and taking over a new one
 *
 * A new file is read whole before anything changes; one with an error changes
 * nothing. A copy of the configuration in force stands in RUN, so that a
 * nodemgr that is restarted while the file is being mended still knows it.
 *
 * Taking over: standing (state, owner, mode, attributes) stays with the number.
 * Machines follow their address, or else their hardware address, and so may
 * change number; one that is named no more is disconnected.
 */
#include "services/nodemgr/nodemgr.h"
#include "bus/rundir.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY "config.inuse"

/* ---- the copy in RUN ---- */

static int copy_bytes(int from, int to)
{
    char buf[65536];
    ssize_t n;

    while ((n = read(from, buf, sizeof buf)) > 0)
        for (ssize_t done = 0, w; done < n; done += w)
            if ((w = write(to, buf + done, (size_t)(n - done))) < 0)
                return -1;
    return n < 0 ? -1 : 0;
}

static void keep_copy(const char *path)
{
    char copy[PATH_MAX], fresh[PATH_MAX];

    cm_path(copy, COPY);
    cm_path(fresh, COPY ".new");
    CLEANUP(cleanup_close) int from = open(path, O_RDONLY | O_CLOEXEC);
    CLEANUP(cleanup_close) int to = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (from < 0 || to < 0 || copy_bytes(from, to) < 0 || rename(fresh, copy) < 0)
        svc_log("warning", "keep a copy of the configuration in %s: %s", copy, strerror(errno));
}

/* ---- machines to their numbers ---- */

static const struct cm_node *names_addr(const struct cm_config *c, const char *addr)
{
    for (size_t i = 0; *addr && i < c->nnodes; i++)
        for (size_t k = 0; k < c->nodes[i].addrs.n; k++)
            if (strcmp(c->nodes[i].addrs.v[k], addr) == 0)
                return &c->nodes[i];
    return NULL;
}

static const struct cm_node *names_mac(const struct cm_config *c, const struct strlist *macs)
{
    for (size_t i = 0; i < c->nnodes; i++)
        for (size_t k = 0; k < c->nodes[i].macs.n; k++)
            for (size_t j = 0; j < macs->n; j++)
                if (strcmp(c->nodes[i].macs.v[k], macs->v[j]) == 0)
                    return &c->nodes[i];
    return NULL;
}

#define VANISHED (-1)

/* The number that the machine of n has under the new configuration. */
static int new_number(const struct node *n, const struct cm_config *old,
                      const struct cm_config *new)
{
    const struct machine *mach = n->machine;
    const struct cm_node *c = names_addr(new, mach->addr);

    c = c ? c : names_mac(new, &mach->macs);
    if (c)
        return c->number;
    /* One that was let in by hand was never named: it keeps its number. */
    bool was_named = names_addr(old, mach->addr) || names_mac(old, &mach->macs);
    bool never_seen = !mach->addr[0] && mach->macs.n == 0;
    return config_node(new, n->number) && (!was_named || never_seen) ? n->number : VANISHED;
}

struct move { /* one machine, from one number to another */
    struct node *from, *to;
    struct machine *machine, *blank;
    struct standing *standing, *unset; /* NULL: a standing is there already */
};

static void moves_free(struct move *mv, size_t n)
{
    for (size_t i = 0; mv && i < n; i++) { /* what was not used */
        free(mv[i].blank);
        free(mv[i].unset);
    }
    free(mv);
}

/* Who moves, and all the memory for it: from here on nothing fails. */
static struct move *plan(nodemgr_t *m, const struct cm_config *new, const nodes_t *next,
                         size_t *count, struct err *err)
{
    struct move *moves = calloc(m->nodes.n + 1, sizeof *moves);
    size_t n = 0;

    for (size_t i = 0; moves && i < m->nodes.n; i++) {
        struct node *from = m->nodes.v[i];
        int to = from->machine->key[0] ? new_number(from, m->config, new) : from->number;

        if (to == VANISHED || to == from->number)
            continue;
        struct move *mv = &moves[n++];
        mv->from = from;
        mv->to = nodes_get(next, to);
        mv->blank = calloc(1, sizeof *mv->blank);
        if (!node_alive(mv->to))
            mv->unset = calloc(1, sizeof *mv->unset);
        if (!mv->blank || (!node_alive(mv->to) && !mv->unset)) {
            moves_free(moves, n);
            moves = NULL;
        }
    }
    if (!moves)
        err_set(err, ENOMEM, "out of memory");
    *count = n;
    return moves;
}

static void disconnect(nodemgr_t *m, struct node *n)
{
    life_end(m, n);
    life_lose(m, n, "nodemgr", "the configuration names its machine no more");
}

/* Machines that the new configuration does not name. A number that is gone
 * keeps its key in the database, for the day it returns. */
static void lose_vanished(nodemgr_t *m, const struct cm_config *new)
{
    for (size_t i = 0; i < m->nodes.n; i++) {
        struct node *n = m->nodes.v[i];

        if (!n->machine->key[0] || new_number(n, m->config, new) != VANISHED)
            continue;
        if (node_alive(n))
            disconnect(m, n);
        if (config_node(new, n->number))
            n->machine->key[0] = '\0';
        n->dirty = true;
    }
}

static void lift(struct move *mv)
{
    mv->machine = mv->from->machine;
    mv->from->machine = mv->blank;
    mv->blank = NULL;
    if (mv->unset) { /* nothing stands where it goes: it takes its own along */
        mv->standing = mv->from->standing;
        mv->from->standing = mv->unset;
        mv->unset = NULL;
    }
    mv->from->dirty = mv->from->attrs_dirty = true;
}

static void land(nodemgr_t *m, struct move *mv)
{
    struct node *n = mv->to;

    if (node_alive(n)) /* named by nothing but somebody's hand: it makes room */
        disconnect(m, n);
    strlist_free(&n->machine->macs);
    free(n->machine);
    n->machine = mv->machine;
    if (mv->standing) {
        free(n->standing->attr);
        free(n->standing);
        n->standing = mv->standing;
    }
    n->down = mv->from->down;
    n->dirty = n->attrs_dirty = true;
    svc_log("notice", "the machine of node %d is node %d from now on", mv->from->number,
            n->number);
    say_key(m, n);
    if (node_alive(n)) {
        say_joined(m, n);
        say_state(m, n, "down");
    }
}

static void leave(nodemgr_t *m, struct node *n, int to)
{
    if (node_alive(n)) /* another machine has landed here */
        return;
    standing_clear(n->standing);
    word_set(&n->down, "nodemgr", "its machine is node %d now", to);
    say_state(m, n, "up");
}

/* ---- adopting ---- */

/* What is remembered of numbers that were not configured until now. A key that
 * has found another number meanwhile is no longer theirs. */
static void remember(nodemgr_t *m, const nodes_t *next)
{
    struct err err = { 0 };

    for (size_t i = 0; i < next->n; i++) {
        struct node *n = next->v[i];

        if (nodes_get(&m->nodes, n->number))
            continue;
        if (db_load(m->db, n, now_ms(), &err) < 0)
            svc_log("error", "node %d: %s", n->number, err.text);
        if (nodes_by_key(&m->nodes, n->machine->key)) {
            n->machine->key[0] = n->machine->space[0] = '\0';
            n->dirty = true;
        }
    }
}

static int adopt(nodemgr_t *m, struct cm_config *new, struct err *err)
{
    struct err disk = { 0 };
    nodes_t next, old;
    size_t n;

    if (nodes_build(&next, new, &m->nodes, err) < 0)
        return -1;
    struct move *moves = plan(m, new, &next, &n, err);
    if (!moves) {
        nodes_drop(&next, &m->nodes);
        return -1;
    }
    remember(m, &next);
    lose_vanished(m, new);
    for (size_t i = 0; i < n; i++)
        lift(&moves[i]);
    for (size_t i = 0; i < next.n; i++)
        next.v[i]->conf = config_node(new, next.v[i]->number);
    for (size_t i = 0; i < n; i++)
        land(m, &moves[i]);
    for (size_t i = 0; i < n; i++)
        leave(m, moves[i].from, moves[i].to->number);
    moves_free(moves, n);
    if (db_flush(m->db, &m->nodes, &disk) < 0)
        svc_log("error", "%s", disk.text);
    old = m->nodes;
    m->nodes = next;
    nodes_drop(&old, &m->nodes);
    config_free(&m->config);
    m->config = new;
    m->generation++;
    m->keys_changed = true;
    life_pace(m);
    return 0;
}

/* The generation grows over restarts too, or who keeps one could not tell. */
static void keep_generation(nodemgr_t *m)
{
    struct err err = { 0 };
    char text[24];

    snprintf(text, sizeof text, "%lld", (long long)m->generation);
    if (db_put(m->db, "generation", text, &err) < 0)
        svc_log("error", "%s", err.text);
}

/* Emptied, or cut short while it is being written: nobody means to disconnect
 * every node like that. */
static int refuse_empty(const nodemgr_t *m, const struct cm_config *new, struct err *err)
{
    if (new->nnodes || !m->config->nnodes)
        return 0;
    return err_set(err, EINVAL, "%s names no node any more; to do without nodes, end the "
                   "cluster or set them down", m->config_path);
}

int config_reload(nodemgr_t *m, struct err *err)
{
    struct strlist warnings = { 0 };
    CLEANUP(config_free) struct cm_config *new = config_load(m->config_path, &warnings, err);

    if (!new || refuse_empty(m, new, err) < 0 || adopt(m, new, err) < 0) {
        strlist_free(&warnings);
        svc_log("error", "%s; the configuration of before stays", err->text);
        return -1;
    }
    new = NULL; /* m has it */
    strlist_free(&m->warnings);
    m->warnings = warnings;
    keep_copy(m->config_path);
    keep_generation(m);
    for (size_t i = 0; i < m->warnings.n; i++)
        svc_log("warning", "%s", m->warnings.v[i]);
    svc_log("info", "configuration %lld in force: %zu nodes", (long long)m->generation,
            m->nodes.n);
    keys_send(m);
    libs_reload(m);
    say_config(m);
    return 0;
}

/* ---- at start ---- */

/* The file, or while the cluster runs and the file is broken, the copy. */
static struct cm_config *first_config(nodemgr_t *m, struct err *err)
{
    struct cm_config *c = config_load(m->config_path, &m->warnings, err);
    char copy[PATH_MAX];

    if (c && c->nnodes) {
        keep_copy(m->config_path);
        return c;
    }
    cm_path(copy, COPY);
    struct cm_config *last = access(copy, F_OK) == 0 ? config_load(copy, NULL, NULL) : NULL;
    if (c && (!last || !last->nnodes)) {
        config_free(&last);
        return c;
    }
    if (c)
        err_set(err, EINVAL, "%s names no node any more", m->config_path);
    config_free(&c);
    strlist_free(&m->warnings);
    c = last;
    if (c) {
        svc_log("error", "%s; going on with the configuration that was in force", err->text);
        strlist_add(&m->warnings, err->text);
    }
    return c;
}

int config_start(nodemgr_t *m, struct err *err)
{
    const nodes_t none = { 0 };
    CLEANUP(cleanup_free) char *generation = db_get(m->db, "generation", err);

    if (!generation)
        return -1;
    m->generation = atoll(generation) + 1;
    m->config = first_config(m, err);
    if (!m->config || nodes_build(&m->nodes, m->config, &none, err) < 0)
        return -1;
    for (size_t i = 0; i < m->nodes.n; i++) {
        m->nodes.v[i]->conf = &m->config->nodes[i];
        if (db_load(m->db, m->nodes.v[i], now_ms(), err) < 0)
            return -1;
    }
    for (size_t i = 0; i < m->warnings.n; i++)
        svc_log("warning", "%s", m->warnings.v[i]);
    keep_generation(m);
    return 0;
}

/* ---- requests ---- */

static void pack_warnings(const nodemgr_t *m, mp_buf *b)
{
    mp_key(b, "warnings");
    mp_array(b, (uint32_t)m->warnings.n);
    for (size_t i = 0; i < m->warnings.n; i++)
        mp_str(b, m->warnings.v[i]);
}

int on_reload(void *self, struct svc_req *req, struct err *err)
{
    nodemgr_t *m = self;

    if (config_reload(m, err) < 0)
        return -1;
    mp_map(req->reply, 2);
    mp_kint(req->reply, "generation", m->generation);
    pack_warnings(m, req->reply);
    return 0;
}

int on_config(void *self, struct svc_req *req, struct err *err)
{
    const nodemgr_t *m = self;
    const struct cm_config *c = m->config;
    char address[INET_ADDRSTRLEN];

    (void)err;
    master_address(m, address);
    mp_map(req->reply, 9);
    mp_kbool(req->reply, "trusted", c->trusted);
    mp_kstr(req->reply, "address", address);
    mp_kint(req->reply, "generation", m->generation);
    mp_kstr(req->reply, "file", m->config_path);
    pack_warnings(m, req->reply);
    mp_kint(req->reply, "port", c->port);
    mp_kint(req->reply, "pingtimeout_ms", c->pingtimeout_ms);
    mp_kint(req->reply, "grace_ms", c->grace_ms);
    mp_key(req->reply, "master");
    mp_array(req->reply, (uint32_t)c->nmasters);
    for (size_t i = 0; i < c->nmasters; i++)
        mp_str(req->reply, c->masters[i].n ? c->masters[i].v[0] : "");
    return 0;
}
