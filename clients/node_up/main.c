/* main.c - node_up: sets nodes up as node_up.conf says
 *
 * Called by bootsrv for a node that has joined, by a site's own node_up
 * script, or by hand.
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "clients/node_up/node_up.h"

#define ASK_MS 20000

static const char usage[] =
    "usage: node_up [-s] [OPTION]... NODE...\n"
    "       node_up -i [PLUGIN]...\n"
    "Set nodes up: modules, files, addresses, mounts, as node_up.conf says.\n"
    "  -C FILE  instead of node_up.conf beside the cluster's configuration\n"
    "  -p PATH  where plugins of the site are, instead of the file's path\n"
    "  -u       on success the node is up, whatever its state was\n"
    "  -l N     how much is told: 0 fatal, 1 error, 2 warning, 3 info, 4 debug\n"
    "  -S       tell how much goes to the nodes\n"
    "  -s       do it here and now (always so; for old scripts)\n"
    "  -i       list the plugins, or tell of these\n"
    "  -h, --help, -V, --version\n";

static const struct option longopts[] = {
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { 0 },
};

int log_level = 3;

struct options {
    char conf[PATH_MAX];
    bool conf_given, up_anyway, tell_size;
    const char *path;
};

struct target {
    int node;
    char kernel[65], state[20];
    struct result *result;
};

void log_line(const char *plugin, const char *fmt, ...)
{
    va_list ap;

    if (log_level < 3)
        return;
    printf("%-10s: ", plugin);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
    fflush(stdout);
}

static int list_plugins(int n, char **names)
{
    int rc = 0;

    for (int i = 0; i < n; i++) {
        const struct plugin *p = plugins;
        while (p->name && strcmp(p->name, names[i]) != 0)
            p++;
        if (!p->name) {
            fprintf(stderr, "node_up: no plugin %s is built in\n", names[i]);
            rc = 1;
        }
    }
    for (const struct plugin *p = plugins; p->name; p++) {
        bool chosen = n == 0;
        for (int i = 0; i < n; i++)
            chosen |= strcmp(p->name, names[i]) == 0;
        if (chosen)
            printf("%-10s %s\n           %s\n", p->name, p->usage, p->text);
    }
    return rc;
}

/* ---- which nodes ---- */

static int add_target(struct target **v, size_t *n, const msgpack_object *map, struct err *err)
{
    CLEANUP(cleanup_free) char *kernel = mp_opt_dup(map, "kernel");
    CLEANUP(cleanup_free) char *state = mp_opt_dup(map, "state");
    int64_t node;

    if (mp_get_int(map, "node", -1, NODE_MAX, &node, err) < 0)
        return -1;
    if (node < 0)
        return err_set(err, EINVAL, "the master is no node to set up");
    if (!state || strcmp(state, "down") == 0)
        return err_set(err, BE_NODEDOWN, "node %lld is down", (long long)node);
    struct target *more = realloc(*v, (*n + 1) * sizeof *more);
    if (!more)
        return err_set(err, ENOMEM, "out of memory");
    *v = more;
    struct target *t = &more[(*n)++];
    *t = (struct target){ .node = (int)node };
    snprintf(t->kernel, sizeof t->kernel, "%s", kernel ? kernel : "");
    snprintf(t->state, sizeof t->state, "%s", state);
    return 0;
}

static int find_targets(gate_t *g, int n, char **specs, struct target **v, size_t *count,
                        struct err *err)
{
    for (int i = 0; i < n; i++) {
        CLEANUP(mp_free) mp_buf m;
        CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
        msgpack_unpacked_init(&reply);
        mp_init(&m);
        mp_map(&m, 1);
        mp_kstr(&m, "spec", specs[i]);
        if (gate_call(g, "nodemgr.list", &m, ASK_MS, &reply, err) < 0)
            return -1;
        if (reply.data.type != MSGPACK_OBJECT_ARRAY)
            return err_set(err, EPROTO, "nodemgr.list: the answer is not a list");
        for (uint32_t k = 0; k < reply.data.via.array.size; k++)
            if (add_target(v, count, &reply.data.via.array.ptr[k], err) < 0)
                return -1;
    }
    return *count ? 0 : err_set(err, ENOENT, "no node is named");
}

/* ---- one kernel at a time: they share a stream ---- */

static int set_up(struct build *b, const nodelist_t *nodes, struct result *results,
                  struct err *err)
{
    int fd = memfd_create("node_up", MFD_CLOEXEC);
    CLEANUP(cleanup_free) char *text = nodelist_text(nodes);

    b->out = fd < 0 ? NULL : fdopen(fd, "w+");
    if (!b->out || !text)
        return err_set(err, errno, "memory for what goes to the nodes: %s", strerror(errno));
    b->nodes = text;
    int rc = plugins_run(b, err);
    if (rc == 0 && fflush(b->out) != 0)
        rc = err_set(err, errno, "gather what goes to the nodes: %s", strerror(errno));
    if (rc == 0 && b->tell_size)
        log_line("node_up", "%lld bytes go to node%s %s", (long long)ftello(b->out),
                 nodes->n > 1 ? "s" : "", text);
    if (rc == 0)
        rc = deliver(nodes, fd, results, err);
    fclose(b->out);
    return rc;
}

static void failed_all(struct result *r, size_t n, const struct err *err)
{
    log_line("node_up", "%s", err->text);
    for (size_t i = 0; i < n; i++) {
        r[i].status = 1;
        snprintf(r[i].why, sizeof r[i].why, "%.199s", err->text);
    }
}

/* Those of one kernel, moved to the front of v. */
static size_t same_kernel(struct target *v, size_t n)
{
    size_t k = 1;

    for (size_t i = 1; i < n; i++) {
        if (strcmp(v[i].kernel, v[0].kernel) != 0)
            continue;
        struct target swap = v[k];
        v[k++] = v[i];
        v[i] = swap;
    }
    return k;
}

/* ---- afterwards ---- */

static int tell(gate_t *g, const struct target *t, const struct result *r, bool state, bool anyway,
                struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    const msgpack_object_array *failed;
    bool good = r->status == 0;

    msgpack_unpacked_init(&reply);
    mp_init(&m);
    mp_map(&m, 2u + (state ? 2 : 0) + (state && good) + (state && !(good && anyway)));
    mp_key(&m, "nodes");
    mp_array(&m, 1);
    mp_int(&m, t->node);
    mp_key(&m, "attrs");
    mp_map(&m, r->nattrs);
    msgpack_sbuffer_write(&m.b, r->attrs.b.data, r->attrs.b.size);
    if (state) {
        mp_kstr(&m, "state", good ? "up" : "error");
        mp_kstr(&m, "why", good ? "set up" : r->why);
        if (good)
            mp_kuint(&m, "mode", 0111);
        if (!(good && anyway))
            mp_kstr(&m, "if_state", "boot");
    }
    if (gate_call(g, "nodemgr.set", &m, ASK_MS, &reply, err) < 0 ||
        mp_get_array(&reply.data, "failed", &failed, err) < 0)
        return -1;
    if (failed->size && failed->ptr[0].type == MSGPACK_OBJECT_ARRAY &&
        failed->ptr[0].via.array.size > 2) {
        CLEANUP(cleanup_free) char *why = mp_dup(&failed->ptr[0].via.array.ptr[2]);
        log_line("node_up", "node %d is left as it is: %s", t->node, why ? why : "?");
    }
    return 0;
}

static int finish(gate_t *g, const struct options *o, const struct target *v,
                  struct result *results, size_t n)
{
    bool ours = !getenv("CM_NODE_UP"); /* else bpsetup sets the state, after the script */
    int worst = 0;

    for (size_t i = 0; i < n; i++) {
        struct err err = { 0 };
        struct result *r = &results[i];
        if ((ours || r->nattrs) && r->status != 99 &&
            tell(g, &v[i], r, ours, o->up_anyway, &err) < 0)
            log_line("node_up", "node %d: %s", v[i].node, err.text);
        if (r->status && (ours || n > 1))
            fprintf(stderr, "node_up: node %d: %s\n", v[i].node, r->why);
        else if (r->status)
            printf("%s\n", r->why);
        worst = r->status > worst ? r->status : worst;
        mp_free(&r->attrs);
    }
    return worst;
}

/* The folder of the configuration that is in force. */
static int ask_confdir(gate_t *g, char confdir[PATH_MAX], struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    CLEANUP(cleanup_free) char *file = NULL;

    msgpack_unpacked_init(&reply);
    mp_init(&m);
    mp_map(&m, 0);
    if (gate_call(g, "nodemgr.config", &m, ASK_MS, &reply, err) < 0 ||
        mp_get_dup(&reply.data, "file", &file, err) < 0)
        return -1;
    char *slash = strrchr(file, '/');
    snprintf(confdir, PATH_MAX, "%.*s", slash ? (int)(slash - file) : 1, slash ? file : ".");
    return 0;
}

static int run(struct options *o, int nspecs, char **specs, struct err *err)
{
    CLEANUP(plan_free) struct plan plan = { 0 };
    CLEANUP(gate_close) gate_t *g = NULL;
    CLEANUP(cleanup_free) struct target *v = NULL;
    CLEANUP(cleanup_free) struct result *results = NULL;
    char confdir[PATH_MAX];
    size_t n = 0;

    g = gate_open("node_up", err);
    if (!g || ask_confdir(g, confdir, err) < 0)
        return -1;
    if (!o->conf_given &&
        snprintf(o->conf, sizeof o->conf, "%s/node_up.conf", confdir) >= (int)sizeof o->conf)
        return err_set(err, ENAMETOOLONG, "%s: too long", confdir);
    if (plan_read(&plan, o->conf, o->conf_given, err) < 0)
        return -1;
    if (o->path) {
        free(plan.path);
        plan.path = strdup(o->path);
    }
    if (find_targets(g, nspecs, specs, &v, &n, err) < 0)
        return -1;
    results = calloc(n, sizeof *results);
    if (!results)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        mp_init(&results[i].attrs);
    if (plan.nstep == 0)
        log_line("node_up", "%s says nothing: nothing to do", plan.file);
    for (size_t at = 0; plan.nstep && at < n;) {
        size_t k = same_kernel(v + at, n - at);
        CLEANUP(nodelist_free) nodelist_t nodes;
        struct build b = { .plan = &plan, .confdir = confdir, .kernel = v[at].kernel, .gate = g,
                           .tell_size = o->tell_size };
        struct err bad = { 0 };
        nodelist_init(&nodes);
        for (size_t i = at; i < at + k; i++) {
            nodelist_add(&nodes, v[i].node);
            results[i].node = v[i].node;
        }
        if (set_up(&b, &nodes, results + at, &bad) < 0)
            failed_all(results + at, k, &bad);
        at += k;
    }
    return finish(g, o, v, results, n);
}

int main(int argc, char **argv)
{
    struct options o = { 0 };
    struct err err = { 0 };
    bool info = false;
    char *end;
    int c;

    while ((c = getopt_long(argc, argv, "C:p:l:uSsihV", longopts, NULL)) != -1) {
        switch (c) {
        case 'C':
            snprintf(o.conf, sizeof o.conf, "%s", optarg);
            o.conf_given = true;
            break;
        case 'p': o.path = optarg; break;
        case 'l':
            log_level = (int)strtol(optarg, &end, 10);
            if (end == optarg || *end || log_level < 0 || log_level > 4) {
                fprintf(stderr, "node_up: -l %s: want 0 to 4\n", optarg);
                return 2;
            }
            break;
        case 'u': o.up_anyway = true; break;
        case 'S': o.tell_size = true; break;
        case 's': break;
        case 'i': info = true; break;
        case 'h': fputs(usage, stdout); return 0;
        case 'V': puts("node_up " CM_VERSION); return 0;
        default: fputs(usage, stderr); return 2;
        }
    }
    if (info)
        return list_plugins(argc - optind, argv + optind);
    if (optind == argc) {
        fputs(usage, stderr);
        return 2;
    }
    if (geteuid() != 0) {
        fputs("node_up: only root sets nodes up: try sudo\n", stderr);
        return 1;
    }
    int rc = run(&o, argc - optind, argv + optind, &err);
    if (rc < 0)
        fprintf(stderr, "node_up: %s\n", err.text);
    return rc < 0 ? 1 : rc;
}
