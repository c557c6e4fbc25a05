/* image.c - clustermatic image: which image which nodes boot */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bus/gate.h"
#include "bus/nodespec.h"
#include "clients/clustermatic/commands.h"
#include "clients/clustermatic/nodes.h"

#define ASK_MS 20000

int nodes_named(gate_t *g, const char *spec, nodelist_t *out, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;

    msgpack_unpacked_init(&reply);
    mp_init(&m);
    mp_map(&m, 1);
    mp_kstr(&m, "spec", spec);
    if (gate_call(g, "nodemgr.list", &m, ASK_MS, &reply, err) < 0)
        return -1;
    if (reply.data.type != MSGPACK_OBJECT_ARRAY)
        return err_set(err, EPROTO, "nodemgr.list: the answer is not a list");
    for (uint32_t i = 0; i < reply.data.via.array.size; i++) {
        int64_t node;
        if (mp_get_int(&reply.data.via.array.ptr[i], "node", -1, NODE_MAX, &node, err) < 0)
            return -1;
        if (node >= 0 && nodelist_add(out, (int)node) < 0)
            return err_set(err, ENOMEM, "out of memory");
    }
    return out->n ? 0 : err_set(err, ENOENT, "\"%s\" names no node", spec);
}

static int set_image(gate_t *g, const char *spec, const char *file, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(nodelist_free) nodelist_t nodes;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    char path[PATH_MAX];
    bool none = strcmp(file, "default") == 0;

    msgpack_unpacked_init(&reply);
    nodelist_init(&nodes);
    mp_init(&m);
    if (!none && !realpath(file, path))
        return err_set(err, errno, "%s: %s", file, strerror(errno));
    if (nodes_named(g, spec, &nodes, err) < 0)
        return -1;
    mp_map(&m, 2);
    mp_key(&m, "nodes");
    mp_array(&m, (uint32_t)nodes.n);
    for (size_t i = 0; i < nodes.n; i++)
        mp_int(&m, nodes.node[i]);
    mp_kstr(&m, "file", none ? NULL : path);
    return gate_call(g, "bootsrv.setimage", &m, ASK_MS, &reply, err);
}

/* One line for each image: what it is, and who boots it. */
static int list_images(gate_t *g, const struct options *o, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked nodes;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked status;
    const msgpack_object_array *images;

    msgpack_unpacked_init(&nodes);
    msgpack_unpacked_init(&status);
    mp_init(&m);
    mp_map(&m, 0);
    if (gate_call(g, "bootsrv.nodes", &m, ASK_MS, &nodes, err) < 0 ||
        gate_call(g, "bootsrv.status", &m, ASK_MS, &status, err) < 0 ||
        mp_get_array(&status.data, "images", &images, err) < 0)
        return -1;
    json_t *out = json_array();
    if (!o->json)
        printf("%-12s %-8s %9s %-24s %-10s %s\n", "IMAGE", "STATE", "SIZE", "LINUX", "NODES", "FILE");
    for (uint32_t i = 0; i < images->size; i++) {
        const msgpack_object *im = &images->ptr[i];
        CLEANUP(cleanup_free) char *file = mp_opt_dup(im, "file"), *state = mp_opt_dup(im, "state");
        CLEANUP(cleanup_free) char *hash = mp_opt_dup(im, "hash"), *release = mp_opt_dup(im, "release");
        CLEANUP(cleanup_free) char *why = mp_opt_dup(im, "why"), *text = NULL;
        CLEANUP(nodelist_free) nodelist_t who;
        nodelist_init(&who);
        for (uint32_t k = 0; nodes.data.type == MSGPACK_OBJECT_ARRAY && k < nodes.data.via.array.size;
             k++) {
            const msgpack_object *n = &nodes.data.via.array.ptr[k], *f = mp_get(n, "file");
            if (f && file && mp_is(f, file) && state && strcmp(state, "old") != 0)
                nodelist_add(&who, (int)mp_opt_int(n, "node", 0));
        }
        text = nodelist_text(&who);
        int64_t size = mp_opt_int(im, "size", 0);
        if (o->json)
            json_array_append_new(out, json_pack("{s:s,s:s,s:s,s:I,s:s,s:s,s:s}", "file",
                                                 file ? file : "", "state", state ? state : "", "hash",
                                                 hash ? hash : "", "size", (json_int_t)size, "linux",
                                                 release ? release : "", "nodes", text ? text : "",
                                                 "why", why ? why : ""));
        else
            printf("%-12.12s %-8s %7.1f M %-24s %-10s %s%s%s\n", hash && *hash ? hash : "-",
                   state ? state : "?", (double)size / (1 << 20), release && *release ? release : "-",
                   text && *text ? text : "-", file ? file : "?", why && *why ? ": " : "",
                   why ? why : "");
    }
    if (o->json) {
        json_dumpf(out, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    json_decref(out);
    return 0;
}

int cmd_image(struct cluster *c, const struct options *o, const char *spec, const char *file)
{
    struct err err = { 0 };

    cluster_setenv(c);
    CLEANUP(gate_close) gate_t *g = gate_open("clustermatic", &err);
    if (!g || (spec ? set_image(g, spec, file, &err) : list_images(g, o, &err)) < 0)
        return refuse(&err);
    return 0;
}
