/* methods.c - the requests that bootsrv answers (doc/wire.md) */
#include <errno.h>
#include <stdlib.h>
#include "bus/nodespec.h"
#include "services/bootsrv/bootsrv.h"
#include "services/bootsrv/dhcp.h"
#include "services/bootsrv/http.h"
#include "services/bootsrv/images.h"
#include "services/bootsrv/machines.h"
#include "services/bootsrv/wanted.h"

/* bootsrv.status: {} -> {generation, listening, dnsmasq, setups, images} */
static int on_status(void *self, struct svc_req *req, struct err *err)
{
    const bootsrv_t *b = self;

    (void)err;
    mp_map(req->reply, 5);
    mp_kint(req->reply, "generation", b->generation);
    mp_kint(req->reply, "dnsmasq", dhcp_pid(b->dhcp));
    mp_key(req->reply, "listening");
    mp_array(req->reply, (uint32_t)b->nnets);
    for (size_t i = 0; i < b->nnets; i++)
        mp_str(req->reply, b->net[i].addr);
    mp_key(req->reply, "setups");
    setup_pack(b->setup, req->reply);
    mp_key(req->reply, "images");
    images_pack(b->images, req->reply);
    return 0;
}

/* bootsrv.unknown: {} -> [{mac, addr, interface, since, seen}], by arrival */
static int on_unknown(void *self, struct svc_req *req, struct err *err)
{
    const bootsrv_t *b = self;

    (void)err;
    machines_pack_unknown(b->machines, req->reply);
    return 0;
}

static int read_node(const bootsrv_t *b, const msgpack_object *o, int *node, struct err *err)
{
    int64_t n;

    if (!mp_as_int(o, &n) || n < 0 || n > NODE_MAX)
        return err_set(err, EPROTO, "want a node number");
    if (!b->config || !config_node(b->config, (int)n))
        return err_set(err, BE_INVALIDNODE, "%s (there is no node %lld)", err_name(BE_INVALIDNODE),
                       (long long)n);
    *node = (int)n;
    return 0;
}

/* bootsrv.why: {node} -> {node, mac, addr, image, stages: [[word, at, ms, error, text]...]} */
static int on_why(void *self, struct svc_req *req, struct err *err)
{
    bootsrv_t *b = self;
    const msgpack_object *o = mp_get(req->body, "node");
    int node;

    if (!o)
        return err_set(err, EPROTO, "node: want a number");
    if (read_node(b, o, &node, err) < 0)
        return -1;
    struct machine nobody = { .node = node }, *m = machines_node(b->machines, node, false);
    machine_pack(m ? m : &nobody, req->reply);
    return 0;
}

/* bootsrv.setimage: {nodes: [n], file: text or nil} -> nil */
static int on_setimage(void *self, struct svc_req *req, struct err *err)
{
    bootsrv_t *b = self;
    const msgpack_object_array *list;
    const msgpack_object *o = mp_get(req->body, "file");
    CLEANUP(cleanup_free) char *file = o && o->type != MSGPACK_OBJECT_NIL ? mp_dup(o) : NULL;
    struct err bad = { 0 };

    if (!o || (o->type != MSGPACK_OBJECT_NIL && (!file || file[0] != '/')))
        return err_set(err, EPROTO, "file: want an absolute path, or nil");
    if (mp_get_array(req->body, "nodes", &list, err) < 0)
        return -1;
    CLEANUP(cleanup_free) int *nodes = calloc((size_t)list->size + 1, sizeof *nodes);
    if (!nodes)
        return err_set(err, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < list->size; i++)
        if (read_node(b, &list->ptr[i], &nodes[i], err) < 0)
            return -1;
    if (file && !images_for(b->images, file, &bad) && bad.code != EAGAIN)
        return err_set(err, bad.code, "%s", bad.text);
    if (wanted_set(b->wanted, nodes, list->size, file, err) < 0)
        return -1;
    mp_nil(req->reply);
    return 0;
}

/* bootsrv.nodes: {} -> [{node, file, set, hash, given, stage, at, error}], for nodes that
 * have an image or have been seen */
static int on_nodes(void *self, struct svc_req *req, struct err *err)
{
    bootsrv_t *b = self;
    size_t n = b->config ? b->config->nnodes : 0;

    (void)err;
    mp_array(req->reply, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        int node = b->config->nodes[i].number;
        const char *file = serve_file(b, node, false);
        const struct picture *p = file ? images_for(b->images, file, NULL) : NULL;
        const struct machine *m = machines_node(b->machines, node, false);
        const struct stage *last = m && m->nstages ? &m->stage[m->nstages - 1] : NULL;
        mp_map(req->reply, 8);
        mp_kint(req->reply, "node", node);
        mp_kstr(req->reply, "file", file ? file : "");
        mp_kbool(req->reply, "set", wanted_file(b->wanted, node) != NULL);
        mp_kstr(req->reply, "hash", p ? p->hash : "");
        mp_kstr(req->reply, "given", m ? m->image : "");
        mp_kstr(req->reply, "stage", m ? machine_stage_word(m) : "");
        mp_kint(req->reply, "at", last ? last->at : 0);
        mp_kbool(req->reply, "error", last && last->error);
    }
    return 0;
}

const struct svc_method bootsrv_methods[] = {
    { "bootsrv.status", on_status, SVC_USER },
    { "bootsrv.unknown", on_unknown, SVC_USER },
    { "bootsrv.why", on_why, SVC_USER },
    { "bootsrv.nodes", on_nodes, SVC_USER },
    { "bootsrv.setimage", on_setimage, SVC_ADMIN | SVC_CHANGES },
    SVC_METHODS_END
};
