/* life.c - join, beats, silence: states that change by themselves
 *
 * A machine that speaks is heard; one that is quiet becomes late, then down,
 * and at last its space is given up. Only then is anything lost: until then a
 * beat of the same space brings everything back. A space that was given up
 * never comes back: its agent is told to end it.
 */
#include "services/nodemgr/nodemgr.h"
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MACS_MAX 64
#define FLUSH_PAUSE_MS 5000
#define END_MS 900 /* below a second: the bus library does not ask twice */

/* ---- what an agent tells ---- */

struct told {
    char space[TOKEN_LEN + 1], boot[TOKEN_LEN + 1];
    char hostname[TOKEN_LEN + 1], kernel[TOKEN_LEN + 1], image[TOKEN_LEN + 1];
    char why[WHY_LEN + 1], error[WHY_LEN + 1];
    struct strlist macs;
    int64_t cpus, mem, procs;
    bool ready, boot_key;
};

static void told_free(struct told *t)
{
    strlist_free(&t->macs);
}

/* Text for people's eyes: cut to fit, and nothing in it that acts on a
 * terminal or is no text at all. */
static void read_words(const msgpack_object *body, const char *key, char *out, size_t room)
{
    CLEANUP(cleanup_free) char *text = mp_opt_dup(body, key);

    snprintf(out, room, "%s", text ? text : "");
    for (char *p = out; *p; p++)
        if (!isprint((unsigned char)*p))
            *p = '?';
}

/* An id: plain characters, whole or not at all. */
static int read_token(const msgpack_object *body, const char *key, char out[TOKEN_LEN + 1],
                      struct err *err)
{
    CLEANUP(cleanup_free) char *text = NULL;

    if (mp_get_dup(body, key, &text, err) < 0)
        return -1;
    if (!*text || strlen(text) > TOKEN_LEN)
        return err_set(err, EPROTO, "%s: want 1 to %d characters", key, TOKEN_LEN);
    for (const char *p = text; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("._:-", *p))
            return err_set(err, EPROTO, "%s: want letters, digits and ._:-", key);
    memcpy(out, text, strlen(text) + 1);
    return 0;
}

static int read_macs(const msgpack_object *body, struct strlist *macs, struct err *err)
{
    const msgpack_object_array *list;

    if (mp_get_array(body, "macs", &list, err) < 0)
        return -1;
    if (list->size > MACS_MAX)
        return err_set(err, EPROTO, "macs: more than %d", MACS_MAX);
    for (uint32_t i = 0; i < list->size; i++) {
        CLEANUP(cleanup_free) char *text = mp_dup(&list->ptr[i]);
        char mac[MAC_TEXT];

        if (!text || !mac_normalise(text, mac))
            return err_set(err, EPROTO, "macs: item %u is no hardware address", i + 1);
        if (strlist_add(macs, mac) < 0)
            return err_set(err, ENOMEM, "out of memory");
    }
    return 0;
}

static int read_join(const msgpack_object *body, struct told *t, struct err *err)
{
    if (read_token(body, "boot", t->boot, err) < 0 ||
        read_token(body, "space", t->space, err) < 0 ||
        read_macs(body, &t->macs, err) < 0 ||
        mp_get_int(body, "cpus", 0, 1 << 20, &t->cpus, err) < 0 ||
        mp_get_int(body, "mem", 0, INT64_MAX, &t->mem, err) < 0)
        return -1;
    read_words(body, "hostname", t->hostname, sizeof t->hostname);
    read_words(body, "kernel", t->kernel, sizeof t->kernel);
    read_words(body, "image", t->image, sizeof t->image);
    t->ready = mp_opt_bool(body, "ready", false);
    t->boot_key = mp_opt_bool(body, "boot_key", false);
    return 0;
}

static int read_beat(const msgpack_object *body, struct told *t, struct err *err)
{
    if (read_token(body, "boot", t->boot, err) < 0 ||
        read_token(body, "space", t->space, err) < 0)
        return -1;
    read_words(body, "why", t->why, sizeof t->why);
    read_words(body, "error", t->error, sizeof t->error);
    t->ready = mp_opt_bool(body, "ready", false);
    t->procs = mp_opt_int(body, "procs", 0);
    return 0;
}

static void take_machine(struct node *n, struct told *t, const char *addr)
{
    struct machine *m = n->machine;

    memcpy(m->hostname, t->hostname, sizeof m->hostname);
    memcpy(m->kernel, t->kernel, sizeof m->kernel);
    memcpy(m->image, t->image, sizeof m->image);
    snprintf(m->addr, sizeof m->addr, "%s", addr);
    strlist_free(&m->macs);
    m->macs = t->macs;
    t->macs = (struct strlist){ 0 };
    m->cpus = t->cpus;
    m->mem = t->mem;
    n->dirty = true;
}

/* ---- what follows from it ---- */

static void heard(nodemgr_t *m, struct node *n)
{
    char was[STATE_LEN + 1];

    snprintf(was, sizeof was, "%s", node_state(n));
    if (!node_heard(n, now_ms()))
        return;
    svc_log("info", "node %d speaks again, state %s", n->number, node_state(n));
    say_state(m, n, was);
}

/* Is there anything to be done for a node before it is up? Beside the
 * configuration: a script, or what the built-in one is to do. */
static bool setup_wanted(const nodemgr_t *m)
{
    static const char *const files[] = { "node_up", "node_up.conf" };
    const char *slash = strrchr(m->config_path, '/');
    char path[PATH_MAX];

    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%.*s%s", slash ? (int)(slash - m->config_path) + 1 : 0,
                 m->config_path, files[i]);
        if (access(path, F_OK) == 0)
            return true;
    }
    return false;
}

/* bootsrv does it, and sets the state when it has. */
static void ask_for_setup(nodemgr_t *m, struct node *n)
{
    if (n->machine->asked)
        return;
    n->machine->asked = true;
    snprintf(n->standing->word.why, sizeof n->standing->word.why, "waits for node_up");
    n->dirty = true;
    say_ready(m, n);
}

/* Set-up runs in state boot only: whoever changed the state meanwhile wins. */
static void settle(nodemgr_t *m, struct node *n, const struct told *t)
{
    n->machine->ready = t->ready;
    if (strcmp(n->standing->state, "boot") != 0)
        return;
    if (t->error[0]) {
        node_set_state(n, "error", "agent", t->error);
        svc_log("warning", "node %d: error: %s", n->number, t->error);
        say_state(m, n, "boot");
    } else if (t->ready && setup_wanted(m)) {
        ask_for_setup(m, n);
    } else if (t->ready) {
        node_set_state(n, "up", "nodemgr", "set up");
        n->standing->mode = 0111;
        svc_log("info", "node %d is up", n->number);
        say_owner(m, n);
        say_state(m, n, "boot");
    } else if (t->why[0]) { /* what it is busy with */
        snprintf(n->standing->word.why, sizeof n->standing->word.why, "%s", t->why);
    }
}

static void pack_terms(const nodemgr_t *m, mp_buf *b, const struct node *joined)
{
    mp_map(b, joined ? 6 : 5);
    if (joined)
        mp_kint(b, "node", joined->number);
    mp_kint(b, "beat_ms", m->beat_ms);
    mp_kint(b, "ping_ms", m->config->pingtimeout_ms);
    mp_kint(b, "grace_ms", m->patience.lost_ms); /* an agent bears it as long as we do */
    mp_kstr(b, "instance", m->instance);
    mp_kbool(b, "trusted", m->config->trusted);
}

static void begin(nodemgr_t *m, struct node *n, const struct told *t)
{
    if (node_alive(n))
        life_lose(m, n, "nodemgr", "it has started afresh");
    node_begin(n, t->space, t->boot, now_ms());
    n->machine->unsaid = true;
    svc_log("info", "node %d has joined from %s", n->number, n->machine->addr);
    say_owner(m, n);
    say_state(m, n, "down");
}

/* Once busd knows where the node is, which it does from its first message
 * under its own number. */
static void say_once(nodemgr_t *m, struct node *n)
{
    if (!n->machine->unsaid)
        return;
    n->machine->unsaid = false;
    say_joined(m, n);
}

int on_join(void *self, struct svc_req *req, struct err *err)
{
    nodemgr_t *m = self;
    CLEANUP(told_free) struct told t = { 0 };

    if (strlen(req->w->from) != KEY_LEN)
        return err_set(err, EPERM, "nodemgr.join is for agents, by their keys");
    if (read_join(req->body, &t, err) < 0)
        return -1;
    struct node *n = admit(m, req->w->from, t.boot_key, req->w->addr, &t.macs, err);
    if (!n)
        return -1;
    keys_send(m); /* before anybody hears of the node */
    if (strcmp(n->machine->lost_space, t.space) == 0) {
        life_end(m, n);
        return err_set(err, ESTALE, "this space was given up, what ran in it counts as dead; "
                       "end it and start afresh");
    }
    take_machine(n, &t, req->w->addr);
    if (node_alive(n) && strcmp(n->machine->space, t.space) == 0)
        heard(m, n);
    else
        begin(m, n, &t);
    if (req->w->node == n->number) {
        say_once(m, n);
        settle(m, n, &t);
    }
    pack_terms(m, req->reply, n);
    return 0;
}

int on_beat(void *self, struct svc_req *req, struct err *err)
{
    nodemgr_t *m = self;
    CLEANUP(told_free) struct told t = { 0 };

    if (req->w->node < 0)
        return err_set(err, EPERM, "nodemgr.beat is for agents");
    if (read_beat(req->body, &t, err) < 0)
        return -1;
    struct node *n = nodes_get(&m->nodes, (int)req->w->node);
    if (!n || strcmp(n->machine->key, req->w->from) != 0) /* its number has just changed */
        n = nodes_by_key(&m->nodes, req->w->from);
    if (!n || !node_alive(n) || strcmp(n->machine->space, t.space) != 0)
        return err_set(err, ESTALE, "not joined: join again");
    n->machine->procs = t.procs;
    heard(m, n);
    say_once(m, n);
    settle(m, n, &t);
    pack_terms(m, req->reply, NULL);
    return 0;
}

/* ---- the end of a space ---- */

static void on_end_answer(void *arg, int node, const msgpack_object *value,
                          const struct err *err)
{
    (void)arg;
    if (!value)
        svc_log("info", "node %d was told to end its space: %s", node, err->text);
}

void life_end(nodemgr_t *m, const struct node *n)
{
    CLEANUP(mp_free) mp_buf b;

    mp_init(&b);
    mp_map(&b, 1);
    mp_kstr(&b, "action", "end");
    svc_call_nodes(m->svc, &n->number, 1, "control", &b, END_MS, on_end_answer, NULL, NULL);
}

void life_lose(nodemgr_t *m, struct node *n, const char *who, const char *why)
{
    char was[STATE_LEN + 1], space[TOKEN_LEN + 1];

    if (!node_alive(n))
        return;
    snprintf(was, sizeof was, "%s", node_state(n));
    memcpy(space, n->machine->space, sizeof space);
    node_lose(n, who, why);
    svc_log("notice", "node %d is down: %s (%s)", n->number, why, who);
    if (strcmp(was, "down") != 0)
        say_state(m, n, was);
    say_lost(m, n->number, space, why);
}

/* ---- time ---- */

static void tick_node(nodemgr_t *m, struct node *n, int64_t now)
{
    char was[STATE_LEN + 1], why[WHY_LEN + 1];

    snprintf(was, sizeof was, "%s", node_state(n));
    switch (node_tick(n, now, &m->patience)) {
    case NODE_SAME:
        break;
    case NODE_LATE:
        svc_log("notice", "node %d is late", n->number);
        say_state(m, n, was);
        break;
    case NODE_SILENT:
        svc_log("notice", "node %d is down: %s", n->number, n->down.why);
        say_state(m, n, was);
        break;
    case NODE_GIVEN_UP:
        snprintf(why, sizeof why, "no word from it for %.3g s",
                 (double)(now - n->machine->heard_at) / 1000);
        life_lose(m, n, "nodemgr", why);
        break;
    }
}

void life_credit(nodemgr_t *m)
{
    int64_t now = now_ms();

    for (size_t i = 0; i < m->nodes.n; i++)
        if (!node_down(m->nodes.v[i]))
            m->nodes.v[i]->machine->heard_at = now;
}

static void on_tick(void *arg)
{
    nodemgr_t *m = arg;
    int64_t now = now_ms(), slept = now - m->ticked_at - m->tick_ms;

    m->ticked_at = now;
    /* If it was we who slept, beats wait in the queue: hear them first. */
    if (slept > 1000)
        life_credit(m);
    for (size_t i = 0; i < m->nodes.n; i++)
        tick_node(m, m->nodes.v[i], now);
}

void life_pace(nodemgr_t *m)
{
    m->beat_ms = beat_interval(m->nodes.n, m->config->pingtimeout_ms);
    m->patience = patience_of(m->config->pingtimeout_ms, m->config->grace_ms, m->beat_ms);
    m->tick_ms = m->beat_ms / 2 < 100 ? 100 : m->beat_ms / 2 > 1000 ? 1000 : m->beat_ms / 2;
    m->ticked_at = now_ms();
    loop_timer_del(m->loop, m->tick_timer);
    m->tick_timer = loop_timer(m->loop, m->tick_ms, true, on_tick, m);
}

/* ---- the disk follows ---- */

void life_flush(nodemgr_t *m)
{
    struct err err = { 0 };

    if (now_ms() < m->flush_after)
        return;
    if (db_flush(m->db, &m->nodes, &err) == 0) {
        if (m->flush_after)
            svc_log("info", "what could not be written is on the disk now");
        m->flush_after = 0;
        return;
    }
    if (!m->flush_after)
        svc_log("error", "%s; going on from memory", err.text);
    m->flush_after = now_ms() + FLUSH_PAUSE_MS;
}
