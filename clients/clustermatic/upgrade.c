/* upgrade.c - clustermatic upgrade NODES: a rolling reboot that stops when it goes wrong
 *
 * One node first; when that is up again, the others, a few at a time. Each is
 * taken out of use, then what runs there and the jobs that hold it are waited for,
 * then it is rebooted. If one does not come up, or not with the image that it should, no other node is
 * touched. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/gate.h"
#include "bus/loop.h"
#include "bus/nodespec.h"
#include "clients/clustermatic/commands.h"
#include "clients/clustermatic/nodes.h"

#define ASK_MS 20000
#define LOOK_MS 250
#define JOBS_MS 1000 /* the list of jobs may be long */
#define UP_S 600
#define AT_ONCE 8

enum step { IDLE, DRAINING, REBOOTED, DONE };

struct item {
    int node;
    enum step step;
    char space[70]; /* that was rebooted */
    char wanted[70];
    bool drained; /* we have set its state */
    int64_t job;  /* of the scheduler's that holds it; -1: none */
    bool said;    /* that it is waited for */
};

struct upgrade {
    gate_t *g;
    const struct options *o;
    struct item *item;
    size_t n;
    int64_t jobs_at; /* when the scheduler was asked */
};

static int set_state(struct upgrade *u, int node, const char *state, const char *why,
                     const char *if_state, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;

    msgpack_unpacked_init(&reply);
    mp_init(&m);
    mp_map(&m, if_state ? 4 : 3);
    mp_key(&m, "nodes");
    mp_array(&m, 1);
    mp_int(&m, node);
    mp_kstr(&m, "state", state);
    mp_kstr(&m, "why", why);
    if (if_state)
        mp_kstr(&m, "if_state", if_state);
    return gate_call(u->g, "nodemgr.set", &m, ASK_MS, &reply, err);
}

static int reboot(struct upgrade *u, int node, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    const msgpack_object_array *failed;

    msgpack_unpacked_init(&reply);
    mp_init(&m);
    mp_map(&m, 2);
    mp_key(&m, "nodes");
    mp_array(&m, 1);
    mp_int(&m, node);
    mp_kstr(&m, "action", "reboot");
    if (gate_call(u->g, "nodemgr.control", &m, ASK_MS, &reply, err) < 0 ||
        mp_get_array(&reply.data, "failed", &failed, err) < 0)
        return -1;
    if (failed->size == 0)
        return 0;
    CLEANUP(cleanup_free) char *why =
        failed->ptr[0].type == MSGPACK_OBJECT_ARRAY && failed->ptr[0].via.array.size > 2
            ? mp_dup(&failed->ptr[0].via.array.ptr[2]) : NULL;
    return err_set(err, EIO, "node %d cannot be rebooted: %s", node, why ? why : "?");
}

static int look(struct upgrade *u, int node, msgpack_unpacked *reply, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    char spec[16];

    mp_init(&m);
    snprintf(spec, sizeof spec, "%d", node);
    mp_map(&m, 1);
    mp_kstr(&m, "spec", spec);
    if (gate_call(u->g, "nodemgr.list", &m, ASK_MS, reply, err) < 0)
        return -1;
    if (reply->data.type != MSGPACK_OBJECT_ARRAY || reply->data.via.array.size != 1)
        return err_set(err, EPROTO, "nodemgr.list: the answer is not one node");
    return 0;
}

/* "0,3,5-8" */
static bool in_list(const char *list, int node)
{
    char *end;

    for (const char *p = list; *p; p = end + (*end == ',')) {
        long from = strtol(p, &end, 10), to = from;
        if (end == p)
            return false;
        if (*end == '-')
            to = strtol(end + 1, &end, 10);
        if (node >= from && node <= to)
            return true;
    }
    return false;
}

/* A job's script may be between two commands: its node is idle, and not free.
 * Without a scheduler there are no jobs. */
static void ask_jobs(struct upgrade *u)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    const msgpack_object_array *jobs;
    struct err ignored = { 0 };

    msgpack_unpacked_init(&reply);
    mp_init(&m);
    mp_map(&m, 0);
    if (u->jobs_at && now_ms() - u->jobs_at < JOBS_MS)
        return;
    int rc = gate_call(u->g, "sched.list", &m, ASK_MS, &reply, &ignored);
    u->jobs_at = now_ms();
    for (size_t k = 0; k < u->n; k++)
        u->item[k].job = -1;
    if (rc < 0 || mp_get_array(&reply.data, "jobs", &jobs, &ignored) < 0)
        return;
    for (uint32_t i = 0; i < jobs->size; i++) {
        CLEANUP(cleanup_free) char *list = mp_opt_dup(&jobs->ptr[i], "node_list");
        if (!list || !*list)
            continue;
        for (size_t k = 0; k < u->n; k++)
            if (in_list(list, u->item[k].node))
                u->item[k].job = mp_opt_int(&jobs->ptr[i], "id", 0);
    }
}

static void say(const char *fmt, int node, const char *more)
{
    printf(fmt, node, more);
    putchar('\n');
    fflush(stdout);
}

/* One look at one node. 1: it is done with; 0 not yet; -1 *err, stop. */
static int advance(struct upgrade *u, struct item *it, struct err *err)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;

    msgpack_unpacked_init(&reply);
    if (look(u, it->node, &reply, err) < 0)
        return -1;
    const msgpack_object *o = &reply.data.via.array.ptr[0];
    CLEANUP(cleanup_free) char *state = mp_opt_dup(o, "state"), *space = mp_opt_dup(o, "space");
    CLEANUP(cleanup_free) char *image = mp_opt_dup(o, "image"), *why = mp_opt_dup(o, "why");
    const char *now = state ? state : "?";

    if (it->step == IDLE) {
        if (strcmp(now, "down") == 0) {
            say("node %d is down: it boots its image when it comes%s", it->node, "");
            return 1;
        }
        snprintf(it->space, sizeof it->space, "%s", space ? space : "");
        if (set_state(u, it->node, "unavailable", "upgrade: it is to be rebooted", NULL, err) < 0)
            return -1;
        it->drained = true;
        it->step = DRAINING;
        if (mp_opt_int(o, "procs", 0) > 0)
            say("node %d: what runs there is waited for%s", it->node, "");
        return 0;
    }
    if (it->step == DRAINING) {
        if (mp_opt_int(o, "procs", 0) > 0)
            return 0;
        ask_jobs(u);
        if (it->job >= 0) {
            if (!it->said)
                printf("node %d: job %lld is waited for\n", it->node, (long long)it->job);
            fflush(stdout);
            it->said = true;
            return 0;
        }
        if (reboot(u, it->node, err) < 0)
            return -1;
        it->drained = false;
        it->step = REBOOTED;
        say("node %d is rebooted%s", it->node, "");
        return 0;
    }
    if (strcmp(now, "down") == 0 || strcmp(now, "boot") == 0 ||
        (space && strcmp(space, it->space) == 0))
        return 0;
    if (strcmp(now, "up") != 0)
        return err_set(err, EIO, "node %d has come back as %s: %.200s", it->node, now, why ? why : "");
    if (*it->wanted && image && *image && strcmp(image, it->wanted) != 0)
        return err_set(err, EIO, "node %d is up with image %.12s, not %.12s", it->node, image,
                       it->wanted);
    say("node %d is up%s", it->node, "");
    it->step = DONE;
    return 1;
}

/* What each is to boot, by bootsrv; unknown is fine. */
static void ask_wanted(struct upgrade *u)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    struct err ignored = { 0 };

    msgpack_unpacked_init(&reply);
    mp_init(&m);
    mp_map(&m, 0);
    if (gate_call(u->g, "bootsrv.nodes", &m, ASK_MS, &reply, &ignored) < 0 ||
        reply.data.type != MSGPACK_OBJECT_ARRAY)
        return;
    for (uint32_t i = 0; i < reply.data.via.array.size; i++) {
        const msgpack_object *o = &reply.data.via.array.ptr[i];
        CLEANUP(cleanup_free) char *hash = mp_opt_dup(o, "hash");
        for (size_t k = 0; hash && k < u->n; k++)
            if (u->item[k].node == mp_opt_int(o, "node", -1))
                snprintf(u->item[k].wanted, sizeof u->item[k].wanted, "%.69s", hash);
    }
}

/* These, until all are up. -1: one did not come. */
static int batch(struct upgrade *u, size_t from, size_t to, struct err *err)
{
    int64_t limit = 1000 * (u->o->timeout ? u->o->timeout : UP_S);
    CLEANUP(cleanup_free) int64_t *since = calloc(to - from + 1, sizeof *since);
    CLEANUP(cleanup_free) bool *over = calloc(to - from + 1, sizeof *over);

    if (!since || !over)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t left = to - from; left > 0;) {
        for (size_t i = from; i < to; i++) {
            enum step before = u->item[i].step;
            if (over[i - from])
                continue;
            int rc = advance(u, &u->item[i], err);
            if (rc < 0)
                return -1;
            if (u->item[i].step == REBOOTED && before != REBOOTED)
                since[i - from] = now_ms();
            if (rc > 0) {
                over[i - from] = true;
                left--;
            } else if (since[i - from] && now_ms() - since[i - from] > limit) {
                return err_set(err, ETIMEDOUT, "node %d is not up after %lld s: "
                               "`clustermatic why node %d' says where it stopped", u->item[i].node,
                               (long long)limit / 1000, u->item[i].node);
            }
        }
        if (left > 0)
            usleep(LOOK_MS * 1000);
    }
    return 0;
}

/* Nodes that were taken out of use and not rebooted are put back. */
static void give_back(struct upgrade *u)
{
    struct err ignored = { 0 };

    for (size_t i = 0; i < u->n; i++)
        if (u->item[i].drained)
            set_state(u, u->item[i].node, "up", "the upgrade was given up", "unavailable", &ignored);
}

static int run(struct upgrade *u, struct err *err)
{
    size_t at_once = u->o->at_once ? (size_t)u->o->at_once : AT_ONCE;

    ask_wanted(u);
    for (size_t at = 0; at < u->n;) {
        size_t n = at == 0 ? 1 : at_once < u->n - at ? at_once : u->n - at;
        if (batch(u, at, at + n, err) < 0) {
            give_back(u);
            size_t untouched = u->n - at - n;
            if (untouched)
                fprintf(stderr, "clustermatic: upgrade: %zu nodes were not touched\n", untouched);
            return -1;
        }
        at += n;
    }
    return 0;
}

int cmd_upgrade(struct cluster *c, const struct options *o, const char *spec)
{
    struct err err = { 0 };
    CLEANUP(nodelist_free) nodelist_t nodes;

    nodelist_init(&nodes);
    cluster_setenv(c);
    CLEANUP(gate_close) gate_t *g = gate_open("clustermatic", &err);
    if (!g || nodes_named(g, spec, &nodes, &err) < 0)
        return refuse(&err);
    CLEANUP(cleanup_free) struct item *items = calloc(nodes.n + 1, sizeof *items);
    struct upgrade u = { g, o, items, nodes.n, 0 };
    if (!items)
        return 1;
    for (size_t i = 0; i < nodes.n; i++)
        items[i].node = nodes.node[i];
    return run(&u, &err) < 0 ? refuse(&err) : 0;
}
