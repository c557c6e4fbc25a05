/* machines.c - machines that boot: known ones by their node, others by MAC;
 * what each has come to, and when
 *
 * A boot is a list of stages in a known order; one that is earlier than the
 * last begins a new boot. What is not in the order is not remembered.
 */
#include "services/bootsrv/machines.h"
#include "services/bootsrv/history.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNKNOWN_MAX 1000 /* anybody can send any MAC: the oldest goes first */

struct machines {
    bootsrv_t *b;
    struct machine *first; /* unknown ones in the order of arrival */
    unsigned unknown;
};

static const char *const order[] = { "dhcp", "tftp", "ipxe", "kernel", "initrd", "phase1", "net",
                                     "fetch", "fetched", "kexec", "phase2", "net2", "agent",
                                     "joined", "node_up", "up", "error" };
#define NORDER (int)(sizeof order / sizeof order[0])
#define JOINED 13
#define UP 15

static int rank_of(const char *stage)
{
    for (int i = 0; i < NORDER; i++)
        if (strcmp(order[i], stage) == 0)
            return i;
    return -1;
}

/* ---- finding ---- */

static int node_of(const struct cm_config *c, const char *mac)
{
    for (size_t i = 0; c && i < c->nnodes; i++)
        for (size_t k = 0; k < c->nodes[i].macs.n; k++)
            if (strcmp(c->nodes[i].macs.v[k], mac) == 0)
                return c->nodes[i].number;
    return -1;
}

static void clear_stages(struct machine *m)
{
    for (size_t i = 0; i < m->nstages; i++)
        free(m->stage[i].text);
    m->nstages = 0;
}

static void drop(machines_t *s, struct machine *gone)
{
    struct machine **link = &s->first;

    while (*link != gone)
        link = &(*link)->next;
    *link = gone->next;
    s->unknown -= gone->node < 0;
    clear_stages(gone);
    free(gone);
}

static struct machine *add(machines_t *s, int node, const char *mac)
{
    struct machine *m = calloc(1, sizeof *m), **link = &s->first;

    if (!m)
        return NULL;
    m->node = node;
    m->first = wall_ms();
    snprintf(m->mac, sizeof m->mac, "%s", mac);
    while (*link)
        link = &(*link)->next;
    *link = m;
    s->unknown += node < 0;
    return m;
}

struct machine *machines_node(machines_t *s, int node, bool make)
{
    for (struct machine *m = s->first; m; m = m->next)
        if (m->node == node)
            return m;
    return make && (!s->b->config || config_node(s->b->config, node)) ? add(s, node, "") : NULL;
}

struct machine *machines_addr(machines_t *s, const char *addr)
{
    struct machine *best = NULL;
    size_t n = strspn(addr, "0123456789.");

    for (struct machine *m = s->first; m; m = m->next)
        if (strlen(m->addr) == n && strncmp(m->addr, addr, n) == 0 &&
            (!best || m->seen > best->seen))
            best = m;
    return best;
}

static struct machine *unknown(machines_t *s, const char *mac)
{
    for (struct machine *m = s->first; m; m = m->next)
        if (m->node < 0 && strcmp(m->mac, mac) == 0)
            return m;
    return NULL;
}

static void say_unknown(machines_t *s, const struct machine *m)
{
    CLEANUP(mp_free) mp_buf b;

    mp_init(&b);
    mp_map(&b, 3);
    mp_kstr(&b, "mac", m->mac);
    mp_kstr(&b, "addr", m->addr);
    mp_kstr(&b, "interface", m->interface);
    svc_publish(s->b->svc, "boot.unknown", &b);
    svc_log("notice", "unknown machine %s%s%s: nodeadd adds it", m->mac, *m->addr ? " at " : "",
            m->addr);
}

struct machine *machines_mac(machines_t *s, const char *mac, const char *addr,
                             const char *interface)
{
    int node = node_of(s->b->config, mac);
    struct machine *m = node >= 0 ? machines_node(s, node, true) : unknown(s, mac);
    bool fresh = false;

    if (!m && node < 0) {
        if (s->unknown == UNKNOWN_MAX)
            for (struct machine *old = s->first; old; old = old->next)
                if (old->node < 0) {
                    drop(s, old);
                    break;
                }
        m = add(s, -1, mac);
        fresh = true;
    }
    if (!m)
        return NULL;
    snprintf(m->mac, sizeof m->mac, "%s", mac);
    if (addr && *addr)
        snprintf(m->addr, sizeof m->addr, "%s", addr);
    if (interface && *interface)
        snprintf(m->interface, sizeof m->interface, "%s", interface);
    m->seen = wall_ms();
    if (fresh)
        say_unknown(s, m);
    return m;
}

/* The configuration is another: who was unknown may be a node now, and the
 * other way round. */
void machines_renumber(machines_t *s)
{
    for (struct machine *m = s->first, *next; m; m = next) {
        int node = *m->mac ? node_of(s->b->config, m->mac) : m->node;
        next = m->next;
        if (node == m->node) {
            if (node >= 0 && !config_node(s->b->config, node))
                drop(s, m);
            continue;
        }
        struct machine *other = node >= 0 ? machines_node(s, node, false) : NULL;
        if (other) {
            next = other == next ? next->next : next;
            drop(s, other);
        }
        s->unknown += (node < 0) - (m->node < 0);
        m->node = node;
    }
}

/* ---- stages ---- */

static void say_stage(machines_t *s, const struct machine *m, const struct stage *g)
{
    CLEANUP(mp_free) mp_buf b;

    mp_init(&b);
    mp_map(&b, 6);
    mp_kint(&b, "node", m->node);
    mp_kstr(&b, "mac", m->mac);
    mp_kstr(&b, "stage", order[g->rank]);
    mp_kint(&b, "ms", g->ms);
    mp_kbool(&b, "error", g->error);
    mp_kstr(&b, "text", g->text ? g->text : "");
    svc_publish(s->b->svc, "boot.stage", &b);
}

static int note(machines_t *s, struct machine *m, const char *word, int64_t at, int64_t ms,
                bool error, const char *text)
{
    int rank = rank_of(word);
    struct stage *last = m->nstages ? &m->stage[m->nstages - 1] : NULL;

    if (rank < 0)
        return -1;
    if (last && rank == 0 && last->rank < JOINED)
        return 0; /* firmware, iPXE and Linux each ask for an address */
    if (last && rank == last->rank && !error && !last->error)
        return 0;
    if ((last && rank < last->rank) || m->nstages == STAGES_MAX) {
        clear_stages(m);
        m->image[0] = '\0';
    }
    struct stage *g = &m->stage[m->nstages++];
    *g = (struct stage){ .rank = rank, .at = at, .ms = ms, .error = error,
                         .text = text && *text ? strdup(text) : NULL };
    for (char *p = g->text; p && *p; p++) /* a node's word, for people's terminals */
        if (!isprint((unsigned char)*p) && *p != '\n')
            *p = '?';
    if (error)
        svc_log("warning", "%s%d (%s): %s failed: %.200s", m->node < 0 ? "machine " : "node ",
                m->node, m->mac, word, g->text ? g->text : "");
    say_stage(s, m, g);
    m->news = true;
    history_note(s->b->history);
    return 0;
}

int machine_stage(machines_t *s, struct machine *m, const char *word, int64_t ms, bool error,
                  const char *text)
{
    return note(s, m, word, wall_ms(), ms, error, text);
}

static int64_t last_at(const struct machine *m)
{
    return m->nstages ? m->stage[m->nstages - 1].at : 0;
}

void machines_there(machines_t *s, int node, const msgpack_object *told)
{
    int64_t joined = mp_opt_int(told, "joined", 0), set_up = mp_opt_int(told, "set_up", 0);
    const msgpack_object *state = mp_get(told, "state");
    CLEANUP(cleanup_free) char *why = mp_opt_dup(told, "why");
    struct machine *m = joined > 0 && state ? machines_node(s, node, true) : NULL;

    if (!m)
        return;
    if (last_at(m) < joined) {
        if (m->nstages && m->stage[m->nstages - 1].rank >= JOINED)
            clear_stages(m); /* of an earlier boot, however far that came */
        note(s, m, "joined", joined, -1, false, NULL);
    }
    bool over = m->nstages && m->stage[m->nstages - 1].rank >= UP;
    if (!set_up || (over && last_at(m) >= set_up))
        return;
    if (mp_is(state, "up"))
        note(s, m, "up", set_up, -1, false, NULL);
    else if (mp_is(state, "error"))
        note(s, m, "error", set_up, -1, true, why);
}

struct machine *machines_first(const machines_t *s) { return s->first; }

void machine_had_stage(struct machine *m, const char *word, int64_t at, int64_t ms, bool error,
                       const char *text)
{
    int rank = rank_of(word);

    if (rank < 0 || m->nstages == STAGES_MAX)
        return;
    m->stage[m->nstages++] = (struct stage){ .rank = rank, .at = at, .ms = ms, .error = error,
                                             .text = *text ? strdup(text) : NULL };
}

void machines_pack_unknown(const machines_t *s, mp_buf *out)
{
    mp_array(out, s->unknown);
    for (const struct machine *m = s->first; m; m = m->next) {
        if (m->node >= 0)
            continue;
        mp_map(out, 5);
        mp_kstr(out, "mac", m->mac);
        mp_kstr(out, "addr", m->addr);
        mp_kstr(out, "interface", m->interface);
        mp_kint(out, "since", m->first);
        mp_kint(out, "seen", m->seen);
    }
}

void machine_pack(const struct machine *m, mp_buf *out)
{
    mp_map(out, 5);
    mp_kint(out, "node", m->node);
    mp_kstr(out, "mac", m->mac);
    mp_kstr(out, "addr", m->addr);
    mp_kstr(out, "image", m->image);
    mp_key(out, "stages");
    mp_array(out, (uint32_t)m->nstages);
    for (size_t i = 0; i < m->nstages; i++) {
        const struct stage *g = &m->stage[i];
        mp_array(out, 5);
        mp_str(out, order[g->rank]);
        mp_int(out, g->at);
        mp_int(out, g->ms);
        mp_bool(out, g->error);
        mp_str(out, g->text ? g->text : "");
    }
}

const char *machine_stage_word(const struct machine *m)
{
    return m->nstages ? order[m->stage[m->nstages - 1].rank] : "";
}

/* What nodemgr says of a node ends its boot's list. */
static void on_event(void *arg, const struct wire *w, const msgpack_object *body)
{
    machines_t *s = arg;
    const msgpack_object *state = mp_get(body, "state"), *was = mp_get(body, "was");
    CLEANUP(cleanup_free) char *why = mp_opt_dup(body, "why");
    int64_t node = mp_opt_int(body, "node", -1);
    struct machine *m = strcmp(w->from, "nodemgr") == 0 && node >= 0 && node <= INT_MAX
                            ? machines_node(s, (int)node, true) : NULL;

    if (!m)
        return;
    if (strcmp(w->topic, "node.joined") == 0)
        machine_stage(s, m, "joined", -1, false, NULL);
    else if (state && was && mp_is(was, "boot") && mp_is(state, "up"))
        machine_stage(s, m, "up", -1, false, NULL);
    else if (state && was && mp_is(was, "boot") && mp_is(state, "error"))
        machine_stage(s, m, "error", -1, true, why);
}

machines_t *machines_create(bootsrv_t *b, struct err *err)
{
    CLEANUP(machines_destroy) machines_t *s = calloc(1, sizeof *s);

    if (!s) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    s->b = b;
    if (svc_follow(b->svc, "node.joined", on_event, s, err) < 0 ||
        svc_follow(b->svc, "node.state", on_event, s, err) < 0)
        return NULL;
    machines_t *out = s;
    s = NULL;
    return out;
}

void machines_destroy(machines_t **sp)
{
    machines_t *s = *sp;

    if (!s)
        return;
    while (s->first)
        drop(s, s->first);
    free(s);
    *sp = NULL;
}
