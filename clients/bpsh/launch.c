/* launch.c - from the node specification to the answer of the launch */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include "bus/nodespec.h"
#include "bus/rundir.h"
#include "clients/bpsh/bpsh.h"

#define RESOLVE_MS 10000
#define LAUNCH_MS 120000 /* content may have to travel first */
#define NOTICE_MS 2000
#define LOST_LOOK_MS 1000

/* --- which nodes --- */

static int procs_alloc(struct bpsh *b, uint32_t n, struct err *err)
{
    b->proc = calloc(n, sizeof *b->proc);
    b->by_rank = calloc(n, sizeof *b->by_rank);
    if (!b->proc || !b->by_rank)
        return err_set(err, ENOMEM, "out of memory");
    b->procs = n;
    return 0;
}

/* Those on nodes are the launch's ranks; those on the master come after. */
static void rank_procs(struct bpsh *b)
{
    uint32_t next;

    for (uint32_t i = 0; i < b->procs; i++)
        if (b->proc[i].node >= 0) {
            b->proc[i].rank = b->remote;
            b->by_rank[b->remote++] = i;
        }
    next = b->remote;
    for (uint32_t i = 0; i < b->procs; i++)
        if (b->proc[i].node < 0)
            b->proc[i].rank = next++;
}

static int take_node(struct proc *p, const msgpack_object *o, struct err *err)
{
    int64_t node, code;

    if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 6 ||
        !mp_as_int(&o->via.array.ptr[0], &node) || node < -1 || node > NODE_MAX ||
        !mp_as_int(&o->via.array.ptr[4], &code) || code < 0 || code > 100000)
        return err_set(err, EPROTO, "nodemgr.resolve: the answer was not understood");
    p->node = (int)node;
    p->code = (int)code;
    if (code) {
        p->why = mp_dup(&o->via.array.ptr[5]);
        if (!p->why || !*p->why) {
            free(p->why);
            p->why = strdup(err_name((int)code));
        }
    }
    return 0;
}

static int take_nodes(struct bpsh *b, const msgpack_object *value, struct err *err)
{
    const msgpack_object_array *nodes;

    if (mp_get_array(value, "nodes", &nodes, err) < 0)
        return -1;
    if (!nodes->size)
        return err_set(err, ENOENT, "no node is meant by \"%s\"", b->opt.spec);
    if (procs_alloc(b, nodes->size, err) < 0)
        return -1;
    for (uint32_t i = 0; i < nodes->size; i++)
        if (take_node(&b->proc[i], &nodes->ptr[i], err) < 0)
            return -1;
    return 0;
}

static bool means_master(const char *spec)
{
    return strcmp(spec, "master") == 0 || strcmp(spec, "-1") == 0 || strcmp(spec, "n-1") == 0;
}

static bool is_this_host(const char *spec)
{
    char host[256] = "";

    gethostname(host, sizeof host - 1);
    return strcmp(spec, "localhost") == 0 || strcmp(spec, host) == 0;
}

static int only_master(struct bpsh *b, struct err *err)
{
    if (procs_alloc(b, 1, err) < 0)
        return -1;
    b->proc[0].node = -1;
    return 0;
}

static int ask_nodes(struct bpsh *b, gate_t **gate, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    struct err why = { 0 };

    mp_init(&m);
    msgpack_unpacked_init(&reply);
    *gate = gate_open("bpsh", err);
    if (!*gate)
        return -1;
    mp_map(&m, 1);
    mp_kstr(&m, "spec", b->opt.spec);
    if (gate_call(*gate, "nodemgr.resolve", &m, RESOLVE_MS, &reply, &why) == 0)
        return take_nodes(b, &reply.data, err);
    if ((why.code == EINVAL || why.code == ENOENT) && is_this_host(b->opt.spec))
        return only_master(b, err);
    return err_set(err, why.code, "%s", why.text);
}

int launch_resolve(struct bpsh *b, gate_t **gate, struct err *err)
{
    if ((means_master(b->opt.spec) ? only_master(b, err) : ask_nodes(b, gate, err)) < 0)
        return -1;
    rank_procs(b);
    if (b->opt.stdin_to >= (int64_t)b->procs)
        return err_set(err, EINVAL, "--stdin-rank %lld: there are only %u processes, 0-%u",
                       (long long)b->opt.stdin_to, b->procs, b->procs - 1);
    return 0;
}

/* --- what goes wrong --- */

static bool is_exec_error(int code)
{
    return code == ENOENT || code == EACCES || code == ENOEXEC || code == ENOTDIR ||
           code == EISDIR || code == ELOOP || code == ELIBBAD || code == ELIBACC;
}

void launch_failure(struct bpsh *b, struct proc *p, int code, const char *text)
{
    char own[32];

    if (p->failed)
        return;
    p->failed = true;
    /* The node is named in front already. */
    snprintf(own, sizeof own, "n%d: ", p->node);
    if (strncmp(text, own, strlen(own)) == 0)
        text += strlen(own);
    tell_failed(b, p, text);
    if (b->opt.report_fd >= 0)
        ; /* it is whoever reads that who says so */
    else if (p->node < 0)
        fprintf(stderr, "master: %s\n", text);
    else
        fprintf(stderr, "%d: %s\n", p->node, text);
    status_raise(b, !p->code && is_exec_error(code) ? EXIT_NOEXEC : EXIT_REFUSED);
    if (p->pid > 0)
        kill(p->pid, SIGKILL); /* a stand-in for nothing */
    procs_end_streams(b, p);
}

static int take_failures(struct bpsh *b, const msgpack_object *value, struct err *err)
{
    const msgpack_object_array *failed;

    if (mp_get_array(value, "failed", &failed, err) < 0)
        return -1;
    for (uint32_t i = 0; i < failed->size; i++) {
        const msgpack_object *o = &failed->ptr[i];
        int64_t rank, code;
        if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 3 ||
            !mp_as_int(&o->via.array.ptr[0], &rank) || rank < 0 || rank >= b->remote ||
            !mp_as_int(&o->via.array.ptr[1], &code) || code <= 0 || code > 100000)
            return err_set(err, EPROTO, "procspace.launch: the answer was not understood");
        CLEANUP(cleanup_free) char *text = mp_dup(&o->via.array.ptr[2]);
        launch_failure(b, &b->proc[b->by_rank[rank]], (int)code,
                       text && *text ? text : err_name((int)code));
    }
    return 0;
}

/* All runs, but something about it is worth knowing: [[node, text]...]. */
static void take_warnings(const msgpack_object *value)
{
    const msgpack_object_array *a;

    if (mp_get_array(value, "warnings", &a, NULL) < 0)
        return;
    for (uint32_t i = 0; i < a->size; i++) {
        const msgpack_object *o = &a->ptr[i];
        int64_t node;
        if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 2 ||
            !mp_as_int(&o->via.array.ptr[0], &node))
            continue;
        CLEANUP(cleanup_free) char *text = mp_dup(&o->via.array.ptr[1]);
        if (text)
            fprintf(stderr, "%lld: warning: %s\n", (long long)node, text);
    }
}

static void on_answer(void *arg, const msgpack_object *value, const struct err *err)
{
    struct bpsh *b = arg;
    struct err why = { 0 };

    if (value)
        take_warnings(value);

    b->answered = true;
    if (b->reader)
        reader_started(b->reader);
    if (value && take_failures(b, value, &why) == 0) {
        procs_answered(b);
        return;
    }
    if (b->opt.report_fd < 0)
        fprintf(stderr, "bpsh: %s\n", value ? why.text : err->text);
    status_raise(b, EXIT_REFUSED);
    for (uint32_t r = 0; r < b->remote; r++) {
        struct proc *p = &b->proc[b->by_rank[r]];
        if (p->failed)
            continue;
        p->failed = true;
        tell_failed(b, p, value ? why.text : err->text);
        if (p->pid > 0)
            kill(p->pid, SIGKILL);
        procs_end_streams(b, p);
    }
}

/* Somebody at a terminal wonders why nothing happens. */
static void on_late(void *arg)
{
    struct bpsh *b = arg;
    CLEANUP(nodelist_free) nodelist_t late;

    nodelist_init(&late);
    if (b->answered)
        return;
    for (uint32_t r = 0; r < b->remote; r++)
        if (!b->reader || !reader_heard(b->reader, r))
            if (nodelist_add(&late, b->proc[b->by_rank[r]].node) < 0)
                return;
    CLEANUP(cleanup_free) char *text = nodelist_text(&late);
    if (text && *text)
        fprintf(stderr, "bpsh: still starting; nothing heard yet from %s\n", text);
}

/* --- the request --- */

static void pack_stream(const struct bpsh *b, mp_buf *m, int fd)
{
    const char *file = b->opt.null_all ? NULL : b->opt.file[fd];
    const char *mode = file ? "file" : b->forward[fd] ? "forward" : "null";
    int64_t to = STDIN_ALL;

    if (fd == 0 && b->forward[0] && b->opt.stdin_to >= 0) {
        const struct proc *p = &b->proc[b->opt.stdin_to];
        to = p->rank;
        if (p->node < 0)
            mode = "null";
    }
    bool one = to >= 0 && strcmp(mode, "forward") == 0;
    mp_map(m, 1u + (file != NULL) + one);
    mp_kstr(m, "mode", mode);
    if (file)
        mp_kbin(m, "path", file, strlen(file));
    if (one)
        mp_kint(m, "to", to);
}

int launch_send(struct bpsh *b, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 4 + command_pairs(b) + (b->opt.mem != 0) + (b->opt.cpu_milli != 0));
    if (b->opt.mem)
        mp_kuint(&m, "mem", b->opt.mem);
    if (b->opt.cpu_milli)
        mp_kuint(&m, "cpu_milli", b->opt.cpu_milli);
    mp_kuint(&m, "launch", b->launch);
    mp_key(&m, "nodes");
    mp_array(&m, b->remote);
    for (uint32_t r = 0; r < b->remote; r++)
        mp_int(&m, b->proc[b->by_rank[r]].node);
    mp_key(&m, "pids");
    mp_array(&m, b->remote);
    for (uint32_t r = 0; r < b->remote; r++)
        mp_int(&m, b->proc[b->by_rank[r]].pid);
    if (command_pack(b, &m, err) < 0)
        return -1;
    mp_key(&m, "streams");
    mp_array(&m, 3);
    for (int fd = 0; fd < 3; fd++)
        pack_stream(b, &m, fd);
    if (isatty(STDERR_FILENO))
        loop_timer(b->loop, NOTICE_MS, false, on_late, b);
    return calls_start(b->calls, "procspace.launch", &m, LAUNCH_MS, on_answer, b, err);
}

/* --- nodes that are lost --- */

static void on_looked(void *arg, const msgpack_object *value, const struct err *err);

/* Processes killed while their output goes on: is that a child of theirs that
 * still writes, or has the node gone, and nothing will come? */
static void on_look(void *arg)
{
    struct bpsh *b = arg;
    CLEANUP(nodelist_free) nodelist_t who;
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    b->watch_timer = 0;
    nodelist_init(&who);
    mp_init(&m);
    for (uint32_t i = 0; i < b->procs; i++)
        if (b->proc[i].killed && !output_ended(b->output, i))
            nodelist_add(&who, b->proc[i].node);
    if (!who.n)
        return;
    CLEANUP(cleanup_free) char *spec = nodelist_text(&who);
    mp_map(&m, 1);
    mp_kstr(&m, "spec", spec ? spec : "");
    calls_start(b->calls, "nodemgr.list", &m, RESOLVE_MS, on_looked, b, NULL);
}

static void give_up_node(struct bpsh *b, int64_t node)
{
    for (uint32_t i = 0; i < b->procs; i++) {
        struct proc *p = &b->proc[i];
        if (p->node != node || !p->killed || output_ended(b->output, i))
            continue;
        p->lost = true;
        procs_end_streams(b, p);
    }
}

static bool cluster_gone(void)
{
    char path[PATH_MAX];

    return access(cm_path(path, "gate"), F_OK) < 0 && errno == ENOENT;
}

static void on_looked(void *arg, const msgpack_object *value, const struct err *err)
{
    struct bpsh *b = arg;

    /* Nobody to ask in all that time, and no gate: the cluster was ended. */
    if (!value && (err->code == ETIMEDOUT || err->code == ECONNREFUSED) && cluster_gone())
        for (uint32_t i = 0; i < b->procs; i++)
            give_up_node(b, b->proc[i].node);
    for (uint32_t i = 0; value && value->type == MSGPACK_OBJECT_ARRAY &&
                         i < value->via.array.size; i++) {
        const msgpack_object *o = &value->via.array.ptr[i];
        int64_t node = mp_opt_int(o, "node", -1);
        const msgpack_object *reach = mp_get(o, "reach"), *state = mp_get(o, "state");
        if ((reach && mp_is(reach, "no")) || (state && mp_is(state, "down")))
            give_up_node(b, node);
    }
    launch_maybe_lost(b);
}

void launch_maybe_lost(struct bpsh *b)
{
    if (!b->watch_timer)
        b->watch_timer = loop_timer(b->loop, LOST_LOOK_MS, false, on_look, b);
}

uint64_t launch_id(void)
{
    uint64_t id = 0;

    while (!id)
        if (getrandom(&id, sizeof id, 0) != sizeof id)
            id = (uint64_t)now_ms() << 22 ^ (uint64_t)getpid();
    return id >> 1;
}
