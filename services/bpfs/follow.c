/* follow.c - the table of nodes kept up to date
 *
 * The whole list once connected, then what events name. One question at a
 * time: what changes meanwhile is asked for next, so that a thousand nodes
 * that boot cost a few questions. Who owns a node is told by the event itself.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bus/nodespec.h"
#include "services/bpfs/bpfs.h"

#define ASK_MS 10000
#define AGAIN_MS 1000
#define SPEC_NODES 64 /* more than these: the whole list */

static void ask(void *arg);

void follow_changed(bpfs_t *b, int number)
{
    if (b->session && number >= 0)
        fuse_lowlevel_notify_inval_inode(b->session, ino_of(number), -1, 0);
    if (b->session)
        fuse_lowlevel_notify_inval_inode(b->session, INO_STATUS, -1, 0);
    status_changed(b);
}

/* The kernel's copy of a node's attributes is old. Names are left to time out:
 * taking one back would wait for whoever looks it up, who waits for us. */
static void forget_attrs(bpfs_t *b, int number)
{
    if (b->session)
        fuse_lowlevel_notify_inval_inode(b->session, ino_of(number), -1, 0);
}

/* The whole list has come. */
static void take_all(bpfs_t *b, struct table *new)
{
    struct table old = b->table;
    bool changed = old.n != new->n;

    for (size_t i = 0; i < old.n; i++) {
        const struct fsnode *n = table_get(new, old.v[i].number);
        if (n && fsnode_same(n, &old.v[i]))
            continue;
        changed = true;
        forget_attrs(b, old.v[i].number);
    }
    b->table = *new;
    *new = old;
    if (changed)
        follow_changed(b, -1);
}

/* Some nodes have come. */
static void take_some(bpfs_t *b, struct table *new)
{
    bool changed = false;

    for (size_t i = 0; i < new->n; i++) {
        struct fsnode *n = table_get(&b->table, new->v[i].number), swap;
        if (!n) {
            b->follow.all = true; /* a node that we had not heard of */
            continue;
        }
        if (fsnode_same(n, &new->v[i]))
            continue;
        swap = *n;
        *n = new->v[i];
        new->v[i] = swap;
        changed = true;
        forget_attrs(b, n->number);
    }
    if (changed)
        follow_changed(b, -1);
}

static void go_on(bpfs_t *b)
{
    b->follow.asking = false;
    if (b->follow.all || b->follow.ndirty)
        ask(b);
}

static void try_again(void *arg)
{
    bpfs_t *b = arg;

    b->follow.timer = 0;
    b->follow.all = true;
    ask(b);
}

static void on_answer(bpfs_t *b, bool all, const msgpack_object *value, const struct err *err)
{
    CLEANUP(table_free) struct table t = { 0 };
    struct err bad = { 0 };

    if (!value || table_parse(&t, value, &bad) < 0) {
        if (all)
            svc_log("warning", "list of nodes: %s", value ? bad.text : err->text);
        b->follow.asking = false;
        if (!b->follow.timer)
            b->follow.timer = loop_timer(b->loop, AGAIN_MS, false, try_again, b);
        return;
    }
    if (all)
        take_all(b, &t);
    else
        take_some(b, &t);
    if (all && !b->follow.started) {
        b->follow.started = true;
        bpfs_begin(b);
    }
    go_on(b);
}

static void on_all(void *arg, const msgpack_object *value, const struct err *err)
{
    on_answer(arg, true, value, err);
}

static void on_some(void *arg, const msgpack_object *value, const struct err *err)
{
    on_answer(arg, false, value, err);
}

static void ask(void *arg)
{
    bpfs_t *b = arg;
    CLEANUP(mp_free) mp_buf m;
    char spec[SPEC_NODES * 12] = "";
    size_t len = 0;

    mp_init(&m);
    if (b->follow.asking)
        return;
    for (size_t i = 0; !b->follow.all && i < b->follow.ndirty; i++)
        len += (size_t)snprintf(spec + len, sizeof spec - len, "%s%d", i ? "," : "",
                                b->follow.dirty[i]);
    mp_map(&m, *spec ? 1 : 0);
    if (*spec)
        mp_kstr(&m, "spec", spec);
    b->follow.asking = true;
    b->follow.all = false;
    b->follow.ndirty = 0;
    svc_call(b->svc, "nodemgr.list", &m, ASK_MS, *spec ? on_some : on_all, b);
}

static void set_dirty(bpfs_t *b, int number)
{
    for (size_t i = 0; i < b->follow.ndirty; i++)
        if (b->follow.dirty[i] == number)
            return;
    if (b->follow.ndirty == SPEC_NODES)
        b->follow.all = true;
    else
        b->follow.dirty[b->follow.ndirty++] = number;
}

static void take_owner(bpfs_t *b, struct fsnode *n, const msgpack_object *body)
{
    uint32_t mode = (uint32_t)mp_opt_int(body, "mode", n->mode) & 0777;
    uint32_t uid = (uint32_t)mp_opt_int(body, "uid", n->uid);
    uint32_t gid = (uint32_t)mp_opt_int(body, "gid", n->gid);

    if (n->mode == mode && n->uid == uid && n->gid == gid)
        return;
    n->mode = mode;
    n->uid = uid;
    n->gid = gid;
    follow_changed(b, n->number);
}

static void on_event(void *arg, const struct wire *w, const msgpack_object *body)
{
    bpfs_t *b = arg;
    int64_t node = mp_opt_int(body, "node", -1);
    struct fsnode *n = node < 0 || node > NODE_MAX ? NULL : table_get(&b->table, (int)node);

    if (strcmp(w->from, "nodemgr") != 0 || strcmp(w->topic, "node.libs") == 0 ||
        strcmp(w->topic, "node.pending") == 0 || strcmp(w->topic, "node.key") == 0)
        return;
    if (n && strcmp(w->topic, "node.owner") == 0) {
        take_owner(b, n, body);
        return;
    }
    if (n)
        set_dirty(b, n->number);
    else
        b->follow.all = true;
    ask(b);
}

void follow_connected(void *arg)
{
    bpfs_t *b = arg;

    b->follow.all = true; /* events may have been missed */
    ask(b);
}

int follow_open(bpfs_t *b, struct err *err)
{
    b->follow.dirty = calloc(SPEC_NODES, sizeof *b->follow.dirty);
    if (!b->follow.dirty)
        return err_set(err, ENOMEM, "out of memory");
    return svc_follow(b->svc, "node.", on_event, b, err);
}

void follow_close(bpfs_t *b)
{
    free(b->follow.dirty);
    table_free(&b->table);
}
