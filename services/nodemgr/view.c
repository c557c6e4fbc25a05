/* view.c - what people ask: which nodes, in what state, and may I start work there */
#include "services/nodemgr/nodemgr.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RESOLVE_MAX 131072 /* processes of one launch */
#define SPEC_MAX (256 * 1024) /* 10,000 nodes, each named, are 60 KiB */

/* Optional text "spec": 0 and NULL when it is not there. */
static int read_spec(const msgpack_object *body, char **spec, struct err *err)
{
    *spec = NULL;
    if (!mp_get(body, "spec"))
        return 0;
    if (mp_get_dup(body, "spec", spec, err) < 0)
        return -1;
    if (strlen(*spec) > SPEC_MAX)
        return err_set(err, EINVAL, "spec: longer than %d characters", SPEC_MAX);
    return 0;
}

int read_nodes(const msgpack_object *body, nodelist_t *out, struct err *err)
{
    const msgpack_object_array *list;

    if (mp_get_array(body, "nodes", &list, err) < 0)
        return -1;
    if (list->size > NODE_MAX)
        return err_set(err, EPROTO, "nodes: more than %d", NODE_MAX);
    for (uint32_t i = 0; i < list->size; i++) {
        int64_t number;

        if (!mp_as_int(&list->ptr[i], &number) || number < -1 || number > NODE_MAX)
            return err_set(err, EPROTO, "nodes: item %u is no node number", i + 1);
        if (nodelist_add(out, (int)number) < 0)
            return err_set(err, ENOMEM, "no memory for the node list");
    }
    return 0;
}

/* ---- nodemgr.list ---- */

static void pack_texts(mp_buf *m, const char *key, const struct strlist *l)
{
    mp_key(m, key);
    mp_array(m, (uint32_t)l->n);
    for (size_t i = 0; i < l->n; i++)
        mp_str(m, l->v[i]);
}

static void pack_master(mp_buf *m)
{
    mp_map(m, 13);
    mp_kint(m, "node", -1);
    mp_kstr(m, "name", "master");
    mp_kstr(m, "state", "up");
    mp_kstr(m, "why", "");
    mp_kstr(m, "who", "");
    mp_kint(m, "since", 0);
    mp_kstr(m, "reach", "yes");
    mp_kstr(m, "addr", "");
    mp_key(m, "macs");
    mp_array(m, 0);
    mp_kuint(m, "mode", 0111);
    mp_kuint(m, "uid", 0);
    mp_kuint(m, "gid", 0);
    mp_key(m, "attrs");
    mp_map(m, 0);
}

static void pack_node(mp_buf *m, const struct node *n)
{
    static const struct standing nothing;
    const struct machine *mach = n->machine;
    const struct standing *s = node_down(n) ? &nothing : n->standing;
    char name[16];

    snprintf(name, sizeof name, "n%d", n->number);
    mp_map(m, 25);
    mp_kint(m, "node", n->number);
    mp_kstr(m, "name", name);
    mp_kstr(m, "state", node_state(n));
    mp_kstr(m, "why", node_word(n)->why);
    mp_kstr(m, "who", node_word(n)->who);
    mp_kint(m, "since", node_word(n)->since);
    mp_kstr(m, "reach", node_reach(n));
    mp_kstr(m, "addr", node_addr(n));
    pack_texts(m, "macs", n->conf->macs.n ? &n->conf->macs : &mach->macs);
    mp_kuint(m, "mode", s->mode);
    mp_kuint(m, "uid", s->uid);
    mp_kuint(m, "gid", s->gid);
    mp_key(m, "attrs");
    mp_map(m, (uint32_t)s->nattr);
    for (size_t i = 0; i < s->nattr; i++)
        mp_kbin(m, s->attr[i].name, s->attr[i].value, s->attr[i].len);
    mp_kstr(m, "space", mach->space);
    mp_kstr(m, "boot", mach->boot);
    mp_kstr(m, "key", mach->key);
    mp_kstr(m, "hostname", mach->hostname);
    mp_kstr(m, "kernel", mach->kernel);
    mp_kstr(m, "image", mach->image);
    mp_kint(m, "cpus", mach->cpus);
    mp_kint(m, "mem", mach->mem);
    mp_kint(m, "procs", mach->procs);
    mp_kbool(m, "ready", mach->ready);
    mp_kint(m, "joined", mach->joined);
    mp_kint(m, "set_up", mach->set_up_at);
}

int on_list(void *self, struct svc_req *req, struct err *err)
{
    nodemgr_t *m = self;
    CLEANUP(cleanup_free) char *spec = NULL;
    CLEANUP(nodelist_free) nodelist_t list;

    nodelist_init(&list);
    if (read_spec(req->body, &spec, err) < 0 ||
        nodes_resolve(&m->nodes, spec, false, &list, err) < 0)
        return -1;
    mp_array(req->reply, (uint32_t)list.n);
    for (size_t i = 0; i < list.n; i++) {
        if (list.node[i] < 0)
            pack_master(req->reply);
        else
            pack_node(req->reply, nodes_get(&m->nodes, list.node[i]));
    }
    return 0;
}

/* ---- nodemgr.resolve ---- */

int on_resolve(void *self, struct svc_req *req, struct err *err)
{
    nodemgr_t *m = self;
    CLEANUP(cleanup_free) char *spec = NULL;
    CLEANUP(nodelist_free) nodelist_t list;
    CLEANUP(person_free) struct person who = { .uid = req->w->uid, .gid = req->w->gid,
                                               .pid = req->w->pid };
    int64_t now = now_ms();

    nodelist_init(&list);
    if (read_spec(req->body, &spec, err) < 0)
        return -1;
    if (!spec)
        return err_set(err, EPROTO, "spec: want text");
    if (nodes_resolve(&m->nodes, spec, mp_opt_bool(req->body, "empty_ok", false), &list, err) < 0)
        return -1;
    if (list.n > RESOLVE_MAX)
        return err_set(err, EINVAL, "the node list names %zu nodes; at most %d can be named at "
                       "once", list.n, RESOLVE_MAX);
    mp_map(req->reply, 1);
    mp_key(req->reply, "nodes");
    mp_array(req->reply, (uint32_t)list.n);
    for (size_t i = 0; i < list.n; i++) {
        const struct node *n = nodes_get(&m->nodes, list.node[i]);
        struct err no = { 0 };

        if (n)
            node_may_start(n, &who, now, &no);
        mp_array(req->reply, 6);
        mp_int(req->reply, list.node[i]);
        mp_str(req->reply, n ? node_state(n) : "up");
        mp_str(req->reply, n ? node_reach(n) : "yes");
        mp_str(req->reply, n ? node_addr(n) : "");
        mp_int(req->reply, no.code);
        mp_str(req->reply, no.text);
    }
    return 0;
}

/* ---- nodemgr.check ---- */

int read_person(const msgpack_object *body, struct person *p, struct err *err)
{
    const msgpack_object_array *groups;

    if (mp_get_int(body, "uid", 0, UINT32_MAX, &p->uid, err) < 0 ||
        mp_get_int(body, "gid", 0, UINT32_MAX, &p->gid, err) < 0 ||
        mp_get_array(body, "groups", &groups, err) < 0)
        return -1;
    p->groups_known = true;
    p->groups = calloc((size_t)groups->size + 1, sizeof *p->groups);
    if (!p->groups)
        return err_set(err, ENOMEM, "no memory for the groups");
    for (uint32_t i = 0; i < groups->size; i++) {
        int64_t gid;

        if (!mp_as_int(&groups->ptr[i], &gid) || gid < 0 || gid > UINT32_MAX)
            return err_set(err, EPROTO, "groups: item %u is no group number", i + 1);
        p->groups[p->ngroups++] = (gid_t)gid;
    }
    return 0;
}

int on_check(void *self, struct svc_req *req, struct err *err)
{
    nodemgr_t *m = self;
    CLEANUP(nodelist_free) nodelist_t list;
    CLEANUP(person_free) struct person who = { 0 };
    CLEANUP(mp_free) mp_buf rows;
    CLEANUP(mp_free) mp_buf at;
    int64_t now = now_ms();
    uint32_t refused = 0, known = 0;

    nodelist_init(&list);
    mp_init(&rows);
    mp_init(&at);
    if (read_nodes(req->body, &list, err) < 0 || read_person(req->body, &who, err) < 0)
        return -1;
    for (size_t i = 0; i < list.n; i++) {
        const struct node *n = nodes_get(&m->nodes, list.node[i]);
        struct err no = { 0 };

        if (list.node[i] < 0)
            continue; /* the master is everybody's */
        if (n && node_may_start(n, &who, now, &no) == 0) {
            mp_array(&at, 2);
            mp_int(&at, list.node[i]);
            mp_str(&at, node_addr(n));
            known++;
            continue;
        }
        if (!n)
            err_set(&no, BE_INVALIDNODE, "%s", err_name(BE_INVALIDNODE));
        mp_array(&rows, 3);
        mp_int(&rows, list.node[i]);
        mp_int(&rows, no.code);
        mp_str(&rows, no.text);
        refused++;
    }
    mp_map(req->reply, 2);
    mp_key(req->reply, "refused");
    mp_array(req->reply, refused);
    msgpack_sbuffer_write(&req->reply->b, rows.b.data, rows.b.size);
    mp_key(req->reply, "addrs");
    mp_array(req->reply, known);
    msgpack_sbuffer_write(&req->reply->b, at.b.data, at.b.size);
    return 0;
}
