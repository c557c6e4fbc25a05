/* map.c - which nodes, and the node of each rank */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "clients/common/nodes.h"
#include "clients/mpirun/mpirun.h"

#define ASK_MS 10000
#define RANKS_MAX 1000000

struct place {
    int node;
    uint32_t slots, used;
};

/* Nodes of spec where we may start work. Named ones must all do. */
static int usable(gate_t *g, const char *spec, bool all, nodelist_t *out, struct err *err)
{
    const msgpack_object_array *nodes;
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;

    mp_init(&m);
    msgpack_unpacked_init(&reply);
    mp_map(&m, 1);
    mp_kstr(&m, "spec", spec);
    if (gate_call(g, "nodemgr.resolve", &m, ASK_MS, &reply, err) < 0 ||
        mp_get_array(&reply.data, "nodes", &nodes, err) < 0)
        return -1;
    for (uint32_t i = 0; i < nodes->size; i++) {
        const msgpack_object *o = &nodes->ptr[i];
        int64_t node, code;
        if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 6 ||
            !mp_as_int(&o->via.array.ptr[0], &node) || !mp_as_int(&o->via.array.ptr[4], &code))
            return err_set(err, EPROTO, "nodemgr.resolve: the answer was not understood");
        if (node < 0)
            return err_set(err, EINVAL, "%s: the master is no node for ranks; use bpsh", spec);
        if (code && all) {
            CLEANUP(cleanup_free) char *why = mp_dup(&o->via.array.ptr[5]);
            return err_set(err, (int)code, "node %lld: %s", (long long)node,
                           why && *why ? why : err_name((int)code));
        }
        if (!code && nodelist_add(out, (int)node) < 0)
            return err_set(err, ENOMEM, "out of memory");
    }
    return out->n ? 0
                  : err_set(err, ENOENT, "no node is up that you may use; see bpstat -x");
}

static int count_slots(gate_t *g, struct place *place, size_t n, struct err *err)
{
    CLEANUP(nodes_free) struct nodes t;

    nodes_init(&t);
    if (nodes_get(g, NULL, ASK_MS, &t, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        place[i].slots = 1;
        for (size_t k = 0; k < t.n; k++)
            if (t.row[k].node == place[i].node) {
                int64_t cpus = mp_opt_int(t.row[k].map, "cpus", 1);
                place[i].slots = cpus > 0 && cpus < 100000 ? (uint32_t)cpus : 1;
            }
    }
    return 0;
}

static int share_out(struct job *j, struct place *place, size_t n, bool by_node, bool limit,
                     struct err *err)
{
    size_t at = 0;

    for (uint32_t r = 0; r < j->ranks; r++) {
        for (size_t tried = 0; place[at].used == place[at].slots; at = (at + 1) % n)
            if (tried++ == n) { /* all are full: another round, where that is allowed */
                if (limit)
                    return err_set(err, EINVAL, "%u ranks do not fit %zu nodes with at most "
                                   "%lld on each", j->ranks, n, (long long)j->opt.ppn);
                for (size_t i = 0; i < n; i++)
                    place[i].used = 0;
                at = 0;
                break;
            }
        place[at].used++;
        if (nodelist_add(&j->map, place[at].node) < 0)
            return err_set(err, ENOMEM, "out of memory");
        if (by_node)
            at = (at + 1) % n;
    }
    return 0;
}

static int count_ranks(struct job *j, size_t nodes, struct err *err)
{
    int64_t total = 0;

    for (size_t i = 0; i < j->opt.apps; i++) {
        struct app *a = &j->opt.app[i];
        if (!a->np) /* the only one */
            a->np = (int64_t)nodes * (j->opt.ppn ? j->opt.ppn : 1);
        a->first = (uint32_t)total;
        a->n = (uint32_t)a->np;
        total += a->np;
        if (total > RANKS_MAX)
            return err_set(err, EINVAL, "at most %d ranks", RANKS_MAX);
    }
    j->ranks = (uint32_t)total;
    if (j->opt.stdin_to >= total)
        return err_set(err, EINVAL, "--stdin %lld: there are only %lld ranks, 0-%lld",
                       (long long)j->opt.stdin_to, (long long)total, (long long)total - 1);
    return 0;
}

static int compare_int(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

/* Those that have ranks, each once. */
static int note_used(struct job *j, struct err *err)
{
    size_t k = 0;

    for (size_t i = 0; i < j->map.n; i++)
        if (nodelist_add(&j->nodes, j->map.node[i]) < 0)
            return err_set(err, ENOMEM, "out of memory");
    qsort(j->nodes.node, j->nodes.n, sizeof(int), compare_int);
    for (size_t i = 0; i < j->nodes.n; i++)
        if (k == 0 || j->nodes.node[k - 1] != j->nodes.node[i])
            j->nodes.node[k++] = j->nodes.node[i];
    j->nodes.n = k;
    return 0;
}

int map_nodes(struct job *j, gate_t *g, struct err *err)
{
    const char *of_job = getenv("NODES"), *spec = j->opt.nodes;
    CLEANUP(nodelist_free) nodelist_t may;
    bool by_node = j->opt.map_by == MAP_NODE || (j->opt.map_by == MAP_DEFAULT && !j->opt.ppn);

    nodelist_init(&may);
    if (!spec && of_job && *of_job)
        spec = of_job;
    if (usable(g, spec ? spec : "allup", spec != NULL, &may, err) < 0 ||
        count_ranks(j, may.n, err) < 0)
        return -1;
    CLEANUP(cleanup_free) struct place *place = calloc(may.n, sizeof *place);
    j->rank = calloc(j->ranks, sizeof *j->rank);
    if (!place || !j->rank)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < may.n; i++)
        place[i] = (struct place){ may.node[i], j->opt.ppn ? (uint32_t)j->opt.ppn : UINT32_MAX, 0 };
    if (!j->opt.ppn && !by_node && count_slots(g, place, may.n, err) < 0)
        return -1;
    if (share_out(j, place, may.n, by_node, j->opt.ppn != 0, err) < 0 || note_used(j, err) < 0)
        return -1;
    for (uint32_t r = 0; r < j->ranks; r++)
        j->rank[r].node = j->map.node[r];
    return 0;
}
