/* recover.c - after a restart: ghosts are found in /proc, bodies at the nodes
 *
 * The node's word about bodies is the truth. A ghost whose node says nothing
 * of it dies by SIGKILL; a body whose ghost is gone is ended.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "services/procspace/procspace.h"

#define ASK_MS 5000
#define AGAIN_MS 3000
#define SETTLE_MS 10000 /* exits that nodes had not yet reported come in by then */

/* argv[0] of a ghost is its program's. */
static void argv0_of(pid_t pid, char *buf, size_t room)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(buf, 1, room - 1, f) : 0;
    buf[n] = 0;
    if (f)
        fclose(f);
}

/* Put a ghost that was found in /proc under its launch; its rank and node come
 * from its node. */
static struct proc *adopt(procspace_t *ps, pid_t pid, uint32_t rank, uint64_t expect)
{
    char path[64], argv0[256];
    struct stat st;
    uint64_t id = 0;
    struct err err = { 0 };
    int fd = ghost_take(pid, -1, &id, &err);

    if (fd < 0)
        return NULL;
    snprintf(path, sizeof path, "/proc/%d", pid);
    if (!id || (expect && id != expect) || stat(path, &st) < 0) {
        close(fd);
        return NULL;
    }
    struct launch *l = launch_find(ps, id);
    if (!l) {
        argv0_of(pid, argv0, sizeof argv0);
        l = launch_add(ps, id, rank + 1, st.st_uid, st.st_gid, 0, argv0, &err);
    }
    if (l && launch_grow(l, rank + 1, &err) < 0)
        l = NULL;
    struct proc *p = l ? proc_add(ps, l, rank, pid, fd, -1, &err) : NULL;
    if (!p) {
        close(fd);
        return NULL;
    }
    p->state = PROC_RUNNING;
    p->unconfirmed = true;
    ghost_watch(ps, p, &err);
    return p;
}

void recover_ghosts(procspace_t *ps)
{
    unsigned n = 0;
    DIR *d = opendir("/proc");
    struct dirent *e;
    struct err err;

    while (d && (e = readdir(d))) {
        uint64_t id;
        if (!isdigit((unsigned char)e->d_name[0]))
            continue;
        pid_t pid = (pid_t)atoi(e->d_name);
        int fd = ghost_take(pid, -1, &id, &err);
        if (fd < 0)
            continue;
        close(fd);
        struct launch *l = launch_find(ps, id);
        n += adopt(ps, pid, l ? l->ranks : 0, id) != NULL;
    }
    if (d)
        closedir(d);
    if (n)
        svc_log("info", "found %u ghosts of an earlier procspace", n);
}

/* One line of a node's list of bodies. */
static void on_body(procspace_t *ps, int node, const msgpack_object *o)
{
    int64_t pid = mp_opt_int(o, "pid", -1), rank = mp_opt_int(o, "rank", -1);
    int64_t gen = mp_opt_int(o, "gen", 1);
    uint64_t launch = 0;

    if (pid <= 0 || pid > INT32_MAX || rank < 0 || rank > 1000000 ||
        mp_get_uint(o, "launch", &launch, NULL) < 0)
        return;
    struct proc *p = proc_find(ps, (pid_t)pid);
    if (p && p->launch->id != launch)
        p = NULL;
    if (!p)
        p = adopt(ps, (pid_t)pid, (uint32_t)rank, launch);
    if (!p) { /* nobody stands for it on the master any more */
        struct proc body = { .pid = (pid_t)pid, .node = node, .gen = (uint32_t)gen,
                             .pidfd = -1 };
        svc_log("info", "node %d: process %lld has no ghost: ended", node, (long long)pid);
        body_signal(ps, &body, SIGKILL);
        return;
    }
    proc_set_rank(p, (uint32_t)rank);
    p->node = node;
    p->gen = (uint32_t)gen;
    p->unconfirmed = false;
    if (p->pidfd < 0)
        body_signal(ps, p, SIGKILL);
    bool stopped = mp_opt_bool(o, "stopped", false);
    if (stopped && !p->ghost_stopped) {
        ghost_ring(p, GHOST_STOP, SIGSTOP);
        p->ghost_stopped = true;
    }
}

static void on_node(void *arg, int node, const msgpack_object *value, const struct err *err)
{
    procspace_t *ps = arg;
    const msgpack_object_array *a;

    if (!value && err->code != ENOSYS)
        ps->silent_nodes++;
    if (!value || mp_get_array(value, "procs", &a, NULL) < 0)
        return;
    CLEANUP(cleanup_free) char *space = mp_opt_dup(value, "space");
    struct node_space *ns = node_space(ps, node);
    if (ns && space && !ns->space[0])
        snprintf(ns->space, sizeof ns->space, "%s", space);
    for (uint32_t i = 0; i < a->size; i++)
        on_body(ps, node, &a->ptr[i]);
}

/* Ghosts that no node knows, and no node has reported the end of. */
static void settle(void *arg)
{
    procspace_t *ps = arg;
    unsigned n = 0;

    for (size_t b = 0; b < PROC_BUCKETS; b++) {
        struct proc *p = ps->proc[b];
        while (p) {
            if (p->unconfirmed && p->state != PROC_ENDED) {
                p->unconfirmed = false;
                n++;
                proc_ended(ps, p, SIGKILL);
                p = ps->proc[b]; /* the list may have changed */
            } else {
                p = p->next;
            }
        }
    }
    if (n)
        svc_log("warning", "%u ghosts without a body on any node: killed", n);
}

/* Until every node that may still hold bodies has answered, none is given up. */
static void on_all_asked(void *arg)
{
    procspace_t *ps = arg;

    loop_timer(ps->loop, ps->silent_nodes ? AGAIN_MS : SETTLE_MS, false,
               ps->silent_nodes ? recover_nodes : settle, ps);
}

static void on_nodes(void *arg, const msgpack_object *value, const struct err *err)
{
    procspace_t *ps = arg;

    if (!value || value->type != MSGPACK_OBJECT_ARRAY) {
        svc_log("warning", "nodes are not known yet: %s", value ? "odd answer" : err->text);
        loop_timer(ps->loop, AGAIN_MS, false, recover_nodes, ps);
        return;
    }
    CLEANUP(cleanup_free) int *nodes = malloc((value->via.array.size + 1) * sizeof *nodes);
    int n = 0;
    if (!nodes)
        abort();
    for (uint32_t i = 0; i < value->via.array.size; i++) {
        const msgpack_object *o = &value->via.array.ptr[i];
        int64_t node = mp_opt_int(o, "node", -1);
        CLEANUP(cleanup_free) char *space = mp_opt_dup(o, "space");
        if (node >= 0 && space && space[0]) /* without one, nothing runs there */
            nodes[n++] = (int)node;
    }
    ps->silent_nodes = 0;
    svc_call_nodes(ps->svc, nodes, n, "procs", NULL, ASK_MS, on_node, on_all_asked, ps);
}

void recover_nodes(void *arg)
{
    procspace_t *ps = arg;
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 0);
    svc_call(ps->svc, "nodemgr.list", &m, 30000, on_nodes, ps);
}
