/* keys.c - which CURVE key is which node, and on which port to listen
 *
 * nodemgr owns both; we ask when the bus is there and when an event says that
 * they have changed. Until it has answered, no key is anybody's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "bus/bulk.h"
#include "bus/rundir.h"
#include "services/iofwd/iofwd.h"

#define ASK_MS 5000
#define AGAIN_MS 300

struct key {
    char z85[41];
    int node;
};

struct keys {
    struct iofwd *io;
    struct key *key; /* ascending by z85 */
    size_t n;
    uint16_t port; /* from the command line; 0: nodemgr's */
    uint16_t listen; /* what nodemgr said; 0: nothing new */
    bool known; /* nodemgr has said which keys there are */
    bool asking, ask_more;
    int timer;
};

static int by_z85(const void *a, const void *b)
{
    return strcmp(((const struct key *)a)->z85, ((const struct key *)b)->z85);
}

int keys_node(const keys_t *k, const char *z85)
{
    struct key want;

    if (!k->n || !z85 || strlen(z85) != 40)
        return -1;
    memcpy(want.z85, z85, 41);
    const struct key *got = bsearch(&want, k->key, k->n, sizeof want, by_z85);
    return got ? got->node : -1;
}

static int take(keys_t *k, const msgpack_object *list, struct err *err)
{
    if (list->type != MSGPACK_OBJECT_ARRAY)
        return err_set(err, EPROTO, "nodemgr.keys: want a list");
    size_t n = list->via.array.size;
    struct key *key = calloc(n ? n : 1, sizeof *key);
    if (!key)
        return err_set(err, ENOMEM, "nodemgr.keys: out of memory");
    for (size_t i = 0; i < n; i++) {
        const msgpack_object *pair = &list->via.array.ptr[i];
        int64_t node;
        if (pair->type != MSGPACK_OBJECT_ARRAY || pair->via.array.size < 2 ||
            pair->via.array.ptr[0].type != MSGPACK_OBJECT_STR ||
            pair->via.array.ptr[0].via.str.size != 40 ||
            !mp_as_int(&pair->via.array.ptr[1], &node) || node < 0 || node > INT32_MAX) {
            free(key);
            return err_set(err, EPROTO, "nodemgr.keys: item %zu: want [key, node]", i);
        }
        memcpy(key[i].z85, pair->via.array.ptr[0].via.str.ptr, 40);
        key[i].node = (int)node;
    }
    qsort(key, n, sizeof *key, by_z85);
    free(k->key);
    k->key = key;
    k->n = n;
    return 0;
}

static void ask(void *arg);

static void ask_again(keys_t *k)
{
    loop_timer_del(k->io->loop, k->timer);
    k->timer = loop_timer(k->io->loop, AGAIN_MS, false, ask, k);
}

/* Not before the keys are known: an agent that is refused does not come back
 * soon. Either answer may be the later one. */
static void listen_now(keys_t *k)
{
    struct err err = { 0 };

    if (!k->known)
        return;
    if (k->listen && nodes_listen(k->io->nodes, k->listen, &err) < 0)
        svc_log("error", "%s", err.text);
    k->listen = 0;
}

static void on_keys(void *arg, const msgpack_object *value, const struct err *err)
{
    keys_t *k = arg;
    struct err e = { 0 };

    k->asking = false;
    if (!value || take(k, value, &e) < 0) {
        /* Late is how every start looks; what is not understood is news. */
        if (value)
            svc_log("error", "%s", e.text);
        else if (err->code != ETIMEDOUT && err->code != ECONNREFUSED)
            svc_log("warning", "nodemgr.keys: %s", err->text);
        ask_again(k);
        return;
    }
    k->known = true;
    listen_now(k);
    if (k->ask_more) {
        k->ask_more = false;
        ask(k);
    }
}

static void on_config(void *arg, const msgpack_object *value, const struct err *err)
{
    keys_t *k = arg;
    struct err e = { 0 };
    int64_t port;

    (void)err; /* that nodemgr is not there yet is no news */
    if (!value) {
        ask_again(k);
        return;
    }
    if (mp_get_int(value, "port", 1, 65535 - CM_PORT_CONTENT, &port, &e) < 0) {
        svc_log("error", "%s", e.text);
        return;
    }
    bulk_in_clear(mp_opt_bool(value, "trusted", false));
    if (k->port)
        return;
    k->listen = (uint16_t)(port + CM_PORT_STREAMS);
    listen_now(k);
}

static void ask(void *arg)
{
    keys_t *k = arg;

    if (k->asking) {
        k->ask_more = true;
        return;
    }
    loop_timer_del(k->io->loop, k->timer);
    k->timer = 0;
    k->asking = true;
    svc_call(k->io->svc, "nodemgr.config", NULL, ASK_MS, on_config, k);
    svc_call(k->io->svc, "nodemgr.keys", NULL, ASK_MS, on_keys, k);
}

static void on_change(void *arg, const struct wire *w, const msgpack_object *body)
{
    (void)w;
    (void)body;
    ask(arg);
}

static void on_node_lost(void *arg, const struct wire *w, const msgpack_object *body)
{
    keys_t *k = arg;
    int64_t node;
    CLEANUP(cleanup_free) char *space = mp_opt_dup(body, "space");

    (void)w;
    if (mp_get_int(body, "node", 0, INT32_MAX, &node, NULL) < 0)
        return;
    launches_node_lost(k->io->launches, (int)node, space ? space : "");
    nodes_lost(k->io->nodes, (int)node, space ? space : "");
}

keys_t *keys_create(struct iofwd *io, uint16_t port, struct err *err)
{
    keys_t *k = calloc(1, sizeof *k);

    if (!k) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    k->io = io;
    k->port = port;
    if (svc_follow(io->svc, "node.key", on_change, k, err) < 0 ||
        svc_follow(io->svc, "node.config", on_change, k, err) < 0 ||
        svc_follow(io->svc, "node.lost", on_node_lost, k, err) < 0) {
        keys_destroy(&k);
        return NULL;
    }
    /* Changes made while the bus was away were not announced to us. */
    svc_on_connect(io->svc, ask, k);
    return k;
}

void keys_destroy(keys_t **kp)
{
    keys_t *k = *kp;

    if (!k)
        return;
    loop_timer_del(k->io->loop, k->timer);
    free(k->key);
    free(k);
    *kp = NULL;
}
