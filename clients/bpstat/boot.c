/* boot.c - bpstat --boot: which image each node runs, and which it is to run
 *
 * Nodes that run another one than they should come first, then those that are
 * not up, then the rest. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/bpstat/bpstat.h"
#include "clients/common/json.h"
#include "clients/common/opt.h"
#include "clients/common/table.h"

#define HASH_SHOWN 12

struct boot_row {
    const struct node_row *node;
    char running[70], wanted[70], stage[20], file[256];
    int64_t at;
    bool set, error, differs;
};

static void copy(const msgpack_object *map, const char *key, char *out, size_t room)
{
    CLEANUP(cleanup_free) char *text = mp_opt_dup(map, key);

    snprintf(out, room, "%s", text ? text : "");
}

static const msgpack_object *find(const msgpack_object *list, int64_t node)
{
    for (uint32_t i = 0; list->type == MSGPACK_OBJECT_ARRAY && i < list->via.array.size; i++)
        if (mp_opt_int(&list->via.array.ptr[i], "node", -1) == node)
            return &list->via.array.ptr[i];
    return NULL;
}

static void fill(struct boot_row *r, const struct node_row *n, const msgpack_object *list)
{
    const msgpack_object *o = find(list, n->node);

    *r = (struct boot_row){ .node = n };
    if (strcmp(n->state, "down") != 0)
        copy(n->map, "image", r->running, sizeof r->running);
    if (o) {
        copy(o, "hash", r->wanted, sizeof r->wanted);
        copy(o, "stage", r->stage, sizeof r->stage);
        copy(o, "file", r->file, sizeof r->file);
        r->at = mp_opt_int(o, "at", 0);
        r->set = mp_opt_bool(o, "set", false);
        r->error = mp_opt_bool(o, "error", false);
    }
    r->differs = *r->running && *r->wanted && strcmp(r->running, r->wanted) != 0;
}

static int rank(const struct boot_row *r)
{
    return r->differs ? 0 : strcmp(r->node->state, "up") != 0 ? 1 : 2;
}

static int by_rank(const void *va, const void *vb)
{
    const struct boot_row *a = va, *b = vb;

    if (rank(a) != rank(b))
        return rank(a) - rank(b);
    return (a->node->node > b->node->node) - (a->node->node < b->node->node);
}

static void print_row(const struct boot_row *r)
{
    char when[32];

    table_time(when, r->at);
    printf("%4" PRId64 " %-12s %-*.*s %-*.*s %-9s %-19s %s%s\n", r->node->node, r->node->state,
           HASH_SHOWN, HASH_SHOWN, *r->running ? r->running : "-", HASH_SHOWN, HASH_SHOWN,
           *r->wanted ? r->wanted : "-", *r->stage ? r->stage : "-", when,
           r->differs ? "runs another image; " : r->error ? "failed; " : "",
           *r->file ? r->file : "no image");
}

static json_t *row_json(const struct boot_row *r)
{
    return json_pack("{s:I,s:s,s:s,s:s,s:b,s:s,s:b,s:s,s:I,s:b}", "node",
                     (json_int_t)r->node->node, "state", r->node->state, "running", r->running,
                     "wanted", r->wanted, "differs", r->differs, "file", r->file, "set", r->set,
                     "stage", r->stage, "at", (json_int_t)r->at, "error", r->error);
}

static int print_all(const struct boot_row *row, size_t n, bool json)
{
    json_t *out = json ? json_array() : NULL;

    if (!json)
        printf("%4s %-12s %-*s %-*s %-9s %-19s %s\n", "Node", "State", HASH_SHOWN, "Running", HASH_SHOWN,
               "Wanted", "Stage", "Since", "File");
    for (size_t i = 0; i < n; i++) {
        if (json)
            json_array_append_new(out, row_json(&row[i]));
        else
            print_row(&row[i]);
    }
    return json ? json_print(out) : 0;
}

int boot_show(gate_t *g, const struct options *o)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    CLEANUP(nodes_free) struct nodes t;
    struct err err = { 0 };

    nodes_init(&t);
    msgpack_unpacked_init(&reply);
    mp_init(&m);
    mp_map(&m, 0);
    if (nodes_get(g, o->spec, BPSTAT_TIMEOUT_MS, &t, &err) < 0 ||
        gate_call(g, "bootsrv.nodes", &m, BPSTAT_TIMEOUT_MS, &reply, &err) < 0) {
        fprintf(stderr, "bpstat: %s\n", err.text);
        return EXIT_FAILURE;
    }
    CLEANUP(cleanup_free) struct boot_row *row = calloc(t.n + 1, sizeof *row);
    size_t n = 0;
    for (size_t i = 0; row && i < t.n; i++)
        if (t.row[i].node >= 0)
            fill(&row[n++], &t.row[i], &reply.data);
    if (!row)
        return EXIT_FAILURE;
    qsort(row, n, sizeof *row, by_rank);
    return print_all(row, n, o->json) < 0 ? EXIT_FAILURE : opt_finish("bpstat");
}
