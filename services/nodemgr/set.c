/* set.c - what people set on nodes: state, owner, mode, attributes
 *
 * A request names several nodes and several things. For each node all of it
 * is done or nothing; a node that refuses does not hold up the others. What
 * was done is on the disk before the answer; if the disk refuses, nothing was
 * done at all.
 */
#include "services/nodemgr/nodemgr.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct wish {
    char *state, *why; /* NULL: not asked for */
    char *if_state, *if_space; /* only while the node is so; NULL: always */
    bool if_mode, if_uid, if_gid;
    unsigned is_mode;
    uid_t is_uid;
    gid_t is_gid;
    bool mode, uid, gid;
    unsigned new_mode;
    uid_t new_uid;
    gid_t new_gid;
    const msgpack_object_map *attrs; /* NULL: none */
    bool by_root;
    char who[WHO_LEN + 1];
    struct person *person;
};

static void wish_free(struct wish *w)
{
    free(w->state);
    free(w->why);
    free(w->if_state);
    free(w->if_space);
}

struct done { /* a node that took the wish, and how it was before */
    struct node *node;
    struct standing before;
};

void who_text(const struct wire *w, char *out, size_t room)
{
    if (w->node >= 0)
        snprintf(out, room, "node %lld", (long long)w->node);
    else if (w->uid == 0)
        snprintf(out, room, "root");
    else
        snprintf(out, room, "user %lld", (long long)w->uid);
}

bool asker_is_root(const struct wire *w)
{
    return w->node == -1 && (w->uid == 0 || w->uid == (int64_t)geteuid());
}

/* ---- the request ---- */

static int read_id(const msgpack_object *body, const char *key, bool *there, uint32_t *out,
                   struct err *err)
{
    int64_t v;

    *there = mp_get(body, key) != NULL;
    if (!*there)
        return 0;
    if (mp_get_int(body, key, 0, UINT32_MAX - 1, &v, err) < 0)
        return -1;
    *out = (uint32_t)v;
    return 0;
}

static int read_wish(const msgpack_object *body, struct wish *w, struct err *err)
{
    const msgpack_object *attrs = mp_get(body, "attrs");

    if (mp_get(body, "state") && mp_get_dup(body, "state", &w->state, err) < 0)
        return -1;
    if (mp_get(body, "why") && mp_get_dup(body, "why", &w->why, err) < 0)
        return -1;
    if ((mp_get(body, "if_state") && mp_get_dup(body, "if_state", &w->if_state, err) < 0) ||
        (mp_get(body, "if_space") && mp_get_dup(body, "if_space", &w->if_space, err) < 0))
        return -1;
    if (read_id(body, "if_mode", &w->if_mode, &w->is_mode, err) < 0 ||
        read_id(body, "if_uid", &w->if_uid, &w->is_uid, err) < 0 ||
        read_id(body, "if_gid", &w->if_gid, &w->is_gid, err) < 0)
        return -1;
    if (w->why && strlen(w->why) > WHY_LEN)
        return err_set(err, EINVAL, "why: longer than %d characters", WHY_LEN);
    if (read_id(body, "mode", &w->mode, &w->new_mode, err) < 0 ||
        read_id(body, "uid", &w->uid, &w->new_uid, err) < 0 ||
        read_id(body, "gid", &w->gid, &w->new_gid, err) < 0)
        return -1;
    if (attrs && attrs->type != MSGPACK_OBJECT_MAP)
        return err_set(err, EPROTO, "attrs: want a map of names and bytes");
    w->attrs = attrs ? &attrs->via.map : NULL;
    return 0;
}

/* ---- may it, and on the standing ---- */

static int refuse(struct err *err, int code, const char *detail)
{
    return err_set(err, code, "%s (%s)", err_name(code), detail);
}

/* Compare, and set. As to owner and mode a node that is as wished already is fine:
 * whoever asks again after an answer was lost must not be told that somebody else
 * was quicker. */
static int wish_standing(const struct wish *w, const struct standing *s, struct err *err)
{
    char mode[MODE_TEXT], detail[120];
    bool done = (!w->mode || s->mode == w->new_mode) && (!w->uid || s->uid == w->new_uid) &&
                (!w->gid || s->gid == w->new_gid);
    bool same = (!w->if_mode || s->mode == w->is_mode) && (!w->if_uid || s->uid == w->is_uid) &&
                (!w->if_gid || s->gid == w->is_gid);

    if (same || done)
        return 0;
    mode_text(s->mode, mode);
    snprintf(detail, sizeof detail, "the node has changed: mode %s owner %u:%u", mode, s->uid,
             s->gid);
    return refuse(err, ESTALE, detail);
}

static int wish_condition(const struct wish *w, const struct node *n, struct err *err)
{
    char now[80];

    if (w->if_space && strcmp(w->if_space, n->machine->space) != 0)
        return refuse(err, ESTALE, "the node has started afresh, or is down");
    if (!w->if_state || strcmp(w->if_state, node_state(n)) == 0)
        return wish_standing(w, n->standing, err);
    snprintf(now, sizeof now, "its state is %s, not %.30s", node_state(n), w->if_state);
    return refuse(err, ESTALE, now);
}

static int wish_state(const struct wish *w, const struct node *n, struct err *err)
{
    if (!w->state)
        return 0;
    if (!w->by_root)
        return refuse(err, EPERM, "only root sets states");
    if (node_down(n))
        return refuse(err, EINVAL, "the node is down; it leaves that by joining");
    return state_check(w->state, err);
}

static int wish_owner(const struct wish *w, const struct node *n, struct err *err)
{
    const struct standing *s = n->standing;
    bool owner = w->by_root || w->person->uid == (int64_t)s->uid;

    if (!w->mode && !w->uid && !w->gid)
        return 0;
    if (node_down(n))
        return refuse(err, EPERM, "the node is down");
    if (w->mode && !owner)
        return refuse(err, EPERM, "only the node's owner and root change its mode");
    if (w->mode && (w->new_mode & ~0111u))
        return refuse(err, EPERM, "only the bits 0111 may be set");
    if (w->uid && !w->by_root)
        return refuse(err, EPERM, "only root changes a node's owner");
    if (w->gid && !w->by_root && !(owner && person_in_group(w->person, w->new_gid)))
        return refuse(err, EPERM, "only root, or its owner to a group of his own, changes a "
                      "node's group");
    return 0;
}

/* Each attribute of the wish into s. */
static int wish_attrs(const struct wish *w, const struct node *n, struct standing *s,
                      struct err *err)
{
    if (!w->attrs || w->attrs->size == 0)
        return 0;
    if (!w->by_root)
        return refuse(err, EPERM, "only root sets attributes");
    if (node_down(n))
        return refuse(err, ENODATA, "the node is down");
    for (uint32_t i = 0; i < w->attrs->size; i++) {
        const msgpack_object *value = &w->attrs->ptr[i].val;
        CLEANUP(cleanup_free) char *name = mp_dup(&w->attrs->ptr[i].key);
        int rc;

        if (!name)
            return err_set(err, EPROTO, "attrs: a name is no text");
        if (value->type == MSGPACK_OBJECT_NIL)
            rc = standing_attr(s, name, NULL, 0, err);
        else if (value->type == MSGPACK_OBJECT_BIN)
            rc = standing_attr(s, name, value->via.bin.ptr, value->via.bin.size, err);
        else if (value->type == MSGPACK_OBJECT_STR)
            rc = standing_attr(s, name, value->via.str.ptr, value->via.str.size, err);
        else
            rc = err_set(err, EPROTO, "attrs: %s: want bytes, or nil to delete it", name);
        if (rc < 0)
            return -1;
    }
    return 0;
}

/* All of the wish on one node, or nothing. */
static int grant(const struct wish *w, struct node *n, struct done *d, struct err *err)
{
    struct standing s;

    if (wish_condition(w, n, err) < 0 || wish_state(w, n, err) < 0 || wish_owner(w, n, err) < 0)
        return -1;
    if (standing_copy(&s, n->standing) < 0)
        return err_set(err, ENOMEM, "out of memory");
    if (wish_attrs(w, n, &s, err) < 0) {
        free(s.attr);
        return -1;
    }
    if (w->mode)
        s.mode = w->new_mode;
    if (w->uid)
        s.uid = w->new_uid;
    if (w->gid)
        s.gid = w->new_gid;
    d->node = n;
    d->before = *n->standing;
    *n->standing = s;
    if (w->state && strcmp(w->state, "boot") == 0 && strcmp(node_state(n), "boot") != 0)
        n->machine->asked = false; /* once more from the beginning */
    if (w->state && strcmp(w->state, "down") != 0)
        node_set_state(n, w->state, w->who, w->why ? w->why : "");
    n->dirty = true;
    n->attrs_dirty = n->attrs_dirty || (w->attrs && w->attrs->size);
    return 0;
}

/* ---- after the disk has it, or has refused ---- */

static void take_back(struct done *d)
{
    free(d->node->standing->attr);
    *d->node->standing = d->before;
    d->before.attr = NULL;
}

static void announce(nodemgr_t *m, const struct wish *w, const struct done *d)
{
    const struct standing *now = d->node->standing, *was = &d->before;

    for (uint32_t i = 0; w->attrs && i < w->attrs->size; i++) {
        CLEANUP(cleanup_free) char *name = mp_dup(&w->attrs->ptr[i].key);
        if (name)
            say_attr(m, d->node, name);
    }
    if (now->mode != was->mode || now->uid != was->uid || now->gid != was->gid)
        say_owner(m, d->node);
    if (!w->state)
        return;
    if (strcmp(w->state, "down") == 0) {
        life_end(m, d->node);
        life_lose(m, d->node, w->who, w->why ? w->why : "set down");
    } else {
        say_state(m, d->node, was->state);
    }
}

static void pack_refusal(mp_buf *rows, int node, const struct err *why)
{
    mp_array(rows, 3);
    mp_int(rows, node);
    mp_int(rows, why->code);
    mp_str(rows, why->text);
}

/* Who it is for: the asker, or whom a service of root's acts for (bpfs). */
static int who_wishes(const struct svc_req *req, struct wish *w, struct err *err)
{
    const msgpack_object *as = mp_get(req->body, "as");
    struct person *p = w->person;

    w->by_root = asker_is_root(req->w);
    who_text(req->w, w->who, sizeof w->who);
    if (!as)
        return 0;
    if (!w->by_root)
        return err_set(err, EPERM, "as: only root's services act for others");
    *p = (struct person){ .pid = -1 };
    if (read_person(as, p, err) < 0)
        return -1;
    w->by_root = p->uid == 0;
    if (!w->by_root)
        snprintf(w->who, sizeof w->who, "user %lld", (long long)p->uid);
    return 0;
}

int on_set(void *self, struct svc_req *req, struct err *err)
{
    nodemgr_t *m = self;
    CLEANUP(person_free) struct person person = { .uid = req->w->uid, .gid = req->w->gid,
                                                  .pid = req->w->pid };
    CLEANUP(wish_free) struct wish w = { .person = &person };
    CLEANUP(nodelist_free) nodelist_t list;
    CLEANUP(cleanup_free) struct done *done = NULL;
    CLEANUP(mp_free) mp_buf rows;
    uint32_t refused = 0;
    size_t ndone = 0;

    nodelist_init(&list);
    mp_init(&rows);
    if (who_wishes(req, &w, err) < 0 || read_nodes(req->body, &list, err) < 0 ||
        read_wish(req->body, &w, err) < 0)
        return -1;
    done = calloc(list.n + 1, sizeof *done);
    if (!done)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < list.n; i++) {
        struct node *n = nodes_get(&m->nodes, list.node[i]);
        struct err no = { 0 };

        if (list.node[i] < 0)
            refuse(&no, EPERM, "the master's entry does not change");
        else if (!n)
            refuse(&no, ENOENT, "there is no such node");
        else if (grant(&w, n, &done[ndone], &no) == 0) {
            ndone++;
            continue;
        }
        pack_refusal(&rows, list.node[i], &no);
        refused++;
    }
    int rc = ndone ? db_flush(m->db, &m->nodes, err) : 0;
    for (size_t i = ndone; rc < 0 && i-- > 0;) /* the newest first: a node may be named twice */
        take_back(&done[i]);
    for (size_t i = 0; i < ndone; i++) {
        if (rc == 0)
            announce(m, &w, &done[i]);
        free(done[i].before.attr);
    }
    if (rc < 0)
        return -1;
    mp_map(req->reply, 1);
    mp_key(req->reply, "failed");
    mp_array(req->reply, refused);
    msgpack_sbuffer_write(&req->reply->b, rows.b.data, rows.b.size);
    return 0;
}
