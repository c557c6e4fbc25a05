/* status.c - clustermatic status: the services, and how many nodes are what */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/loop.h"
#include "bus/rundir.h"
#include "clients/clustermatic/commands.h"
#include "clients/clustermatic/nodes.h"
#include "clients/clustermatic/supervise.h"

#define ASK_MS 3000
#define SERVICES_MAX 16

struct status {
    struct service service[SERVICES_MAX];
    size_t services;
    bool all_ready;
    struct node_table nodes;
    bool nodes_known;
    struct err why; /* nodes are not known */
};

/* Without a look at the supervisor (systemd's, or for an ordinary user) the
 * bus itself says who is connected. */
static void ask_bus(gate_t *g, struct status *s)
{
    CLEANUP(mp_free) mp_buf body;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;

    msgpack_unpacked_init(&reply);
    mp_init(&body);
    mp_map(&body, 0);
    bool known = g && gate_call(g, "busd.services", &body, ASK_MS, &reply, NULL) == 0 &&
                 reply.data.type == MSGPACK_OBJECT_ARRAY;
    s->all_ready = true;
    for (const char *const *name = service_names; *name; name++) {
        struct service *to = &s->service[s->services++];
        memset(to, 0, sizeof *to);
        snprintf(to->name, sizeof to->name, "%s", *name);
        to->restarts = -1;
        bool there = known && strcmp(*name, "busd") == 0;
        for (uint32_t i = 0; known && i < reply.data.via.array.size; i++) {
            const msgpack_object *row = &reply.data.via.array.ptr[i];
            const msgpack_object *text = mp_get(row, "name");
            if (!text || !mp_is(text, *name))
                continue;
            there = true;
            to->pid = (pid_t)mp_opt_int(row, "pid", 0);
        }
        snprintf(to->state, sizeof to->state, "%s", there ? "connected" : "down");
        s->all_ready = s->all_ready && there;
    }
}

static int ask_supervisor(const struct cluster *c, struct status *s, struct err *err)
{
    s->all_ready = true;
    for (const char *const *name = service_names; *name; name++) {
        struct service *to = &s->service[s->services++];
        if (supervise_stat(c, *name, to, err) < 0)
            return -1;
        s->all_ready = s->all_ready && strcmp(to->state, "ready") == 0;
    }
    return 0;
}

/* How many nodes are in each state, by first appearance. */
struct tally {
    char state[32];
    size_t n;
};

static size_t tally_states(const struct node_table *t, struct tally **out)
{
    size_t n = 0;

    *out = calloc(t->n ? t->n : 1, sizeof **out);
    for (size_t i = 0; *out && i < t->n; i++) {
        size_t k = 0;
        while (k < n && strcmp((*out)[k].state, t->node[i].state) != 0)
            k++;
        if (k == n)
            memcpy((*out)[n++].state, t->node[i].state, sizeof (*out)[0].state);
        (*out)[k].n++;
    }
    return n;
}

static json_t *service_json(const struct service *s)
{
    json_t *o = json_object();

    json_object_set_new(o, "name", json_string(s->name));
    json_object_set_new(o, "pid", s->pid ? json_integer(s->pid) : json_null());
    json_object_set_new(o, "state", json_string(s->state));
    json_object_set_new(o, "restarts", s->restarts < 0 ? json_null() : json_integer(s->restarts));
    json_object_set_new(o, "since", s->since_ms ? json_integer(s->since_ms) : json_null());
    return o;
}

static void print_json(const struct cluster *c, const struct status *s)
{
    json_t *o = json_object(), *services = json_array();

    json_object_set_new(o, "version", json_string(CM_VERSION));
    json_object_set_new(o, "name", json_string(c->name));
    json_object_set_new(o, "run", json_string(c->run));
    json_object_set_new(o, "virtual", json_integer(c->nodes));
    for (size_t i = 0; i < s->services; i++)
        json_array_append_new(services, service_json(&s->service[i]));
    json_object_set_new(o, "services", services);
    if (s->nodes_known) {
        CLEANUP(cleanup_free) struct tally *t = NULL;
        json_t *nodes = json_object(), *states = json_object();
        size_t n = tally_states(&s->nodes, &t);
        json_object_set_new(nodes, "total", json_integer((json_int_t)s->nodes.n));
        for (size_t i = 0; i < n; i++)
            json_object_set_new(states, t[i].state, json_integer((json_int_t)t[i].n));
        json_object_set_new(nodes, "states", states);
        json_object_set_new(o, "nodes", nodes);
    } else {
        json_object_set_new(o, "nodes", json_null());
        json_object_set_new(o, "error", json_string(s->why.text));
    }
    json_dumpf(o, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(o);
}

static void print_age(int64_t since_ms)
{
    int64_t s = since_ms ? (wall_ms() - since_ms) / 1000 : -1;
    char text[32];

    if (s < 0)
        snprintf(text, sizeof text, "-");
    else if (s < 60)
        snprintf(text, sizeof text, "%ds", (int)s);
    else if (s < 3600)
        snprintf(text, sizeof text, "%dm%02ds", (int)(s / 60), (int)(s % 60));
    else
        snprintf(text, sizeof text, "%dh%02dm", (int)(s / 3600), (int)(s % 3600 / 60));
    printf(" %8s\n", text);
}

static void print_table(const struct cluster *c, const struct status *s)
{
    CLEANUP(cleanup_free) struct tally *t = NULL;

    printf("%-12s %-9s %7s %8s %8s\n", "SERVICE", "STATE", "PID", "RESTARTS", "SINCE");
    for (size_t i = 0; i < s->services; i++) {
        const struct service *v = &s->service[i];
        char pid[16] = "-", restarts[16] = "-";
        if (v->pid)
            snprintf(pid, sizeof pid, "%d", (int)v->pid);
        if (v->restarts >= 0)
            snprintf(restarts, sizeof restarts, "%d", v->restarts);
        printf("%-12s %-9s %7s %8s", v->name, v->state, pid, restarts);
        print_age(v->since_ms);
    }
    if (!s->nodes_known) {
        printf("nodes: not known: %s\n", s->why.text);
        return;
    }
    printf("nodes: %zu%s", s->nodes.n, c->nodes ? " virtual" : "");
    size_t n = tally_states(&s->nodes, &t);
    for (size_t i = 0; i < n; i++)
        printf(", %zu %s", t[i].n, t[i].state);
    putchar('\n');
}

int cmd_status(struct cluster *c, const struct options *o)
{
    struct err err = { 0 };
    struct status s = { 0 };

    if (!cluster_exists(c) || (!cluster_supervisor(c) && !cluster_by_systemd(c))) {
        err_set(&err, ENOENT, "no cluster runs in %s: `clustermatic up` starts one", c->run);
        return refuse(&err);
    }
    cluster_setenv(c);
    char scan[PATH_MAX];
    bool supervised = access(path_join(scan, c->run, "s6/busd/supervise/status"), R_OK) == 0;
    if (supervised && ask_supervisor(c, &s, &err) < 0)
        return refuse(&err);
    /* A bus that is known to be down is not worth waiting for. */
    bool bus = !supervised || strcmp(s.service[0].state, "ready") == 0;
    CLEANUP(gate_close) gate_t *g = bus ? gate_open("clustermatic", &s.why) : NULL;
    if (!bus)
        err_set(&s.why, ECONNREFUSED, "busd is %s", s.service[0].state);
    if (!supervised)
        ask_bus(g, &s);
    s.nodes_known = g && nodes_list(g, ASK_MS, &s.nodes, &s.why) == 0;

    if (o->json)
        print_json(c, &s);
    else
        print_table(c, &s);
    nodes_free(&s.nodes);
    return s.all_ready && s.nodes_known ? 0 : 1;
}
