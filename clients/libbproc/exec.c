/* exec.c - the calls that create processes */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/nodespec.h"
#include "clients/libbproc/lib.h"
#include "clients/libbproc/save.h"

/* --- how many there are, and where: part of their environment --- */

static bool told(const char *env)
{
    return strncmp(env, "BPROC_SIZE=", 11) == 0 || strncmp(env, "BPROC_NODES=", 12) == 0;
}

/* envp with the words of this launch in place of those of another. One piece, to be
 * freed; NULL: errno is set. */
static char **env_of(char *const *envp, const int *nodes, size_t n)
{
    CLEANUP(nodelist_free) nodelist_t list;
    size_t kept = 0, i = 0;
    char size[16];

    nodelist_init(&list);
    for (size_t k = 0; k < n; k++)
        if (nodelist_add(&list, lib_node(nodes[k])) < 0)
            return NULL;
    CLEANUP(cleanup_free) char *where = nodelist_text(&list);
    while (envp[i])
        kept += !told(envp[i++]);
    lib_number(size, (int)n);
    size_t head = (kept + 3) * sizeof(char *), room = 32 + strlen(size) + (where ? strlen(where) : 0);
    char **all = where ? malloc(head + room) : NULL;
    if (!all)
        return NULL;
    char *text = (char *)all + head, *end = stpcpy(stpcpy(text, "BPROC_SIZE="), size);
    stpcpy(stpcpy(end + 1, "BPROC_NODES="), where);
    for (i = kept = 0; envp[i]; i++)
        if (!told(envp[i]))
            all[kept++] = envp[i];
    all[kept++] = text;
    all[kept++] = end + 1;
    all[kept] = NULL;
    return all;
}

/* --- one process on each of many nodes --- */

struct many {
    const struct start *s;
    uint32_t n;     /* of them on nodes */
    int *index;     /* which entry of the caller's list it is */
    int *node;
    int32_t *pid;
    int *code;
};

static void many_free(struct many *v)
{
    free(v->index);
    free(v->node);
    free(v->pid);
    free(v->code);
}

static void end_ghost(pid_t pid)
{
    if (pid <= 0)
        return;
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}

/* -1: none of them runs. */
static int launch_many(struct many *v, gate_t *g, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    uint64_t launch = launch_id();

    mp_init(&m);
    if (ghosts_make(launch, v->s->argv, v->n, v->pid, err) < 0 ||
        start_pack(v->s, launch, v->node, v->pid, v->index, v->n, false, &m, err) < 0 ||
        launch_ask(g, &m, v->n, v->code, err) < 0)
        return -1;
    bool any = false;
    for (uint32_t i = 0; i < v->n; i++)
        any |= v->code[i] == 0;
    if (v->s->iolen < 0 && any && !lib_on_node() &&
        forward_start(launch, v->node, v->code, v->n) < 0)
        return err_set(err, errno, "their output cannot be forwarded");
    return 0;
}

static int remote_many(struct many *v, int *pids)
{
    struct err err = { 0 };
    CLEANUP(gate_close) gate_t *g = lib_open(ENOSYS);
    int rc = 0;

    if (!g)
        return -1;
    if (launch_many(v, g, &err) < 0)
        rc = -1;
    for (uint32_t i = 0; i < v->n; i++) {
        if (rc < 0 || v->code[i])
            end_ghost(v->pid[i]);
        pids[v->index[i]] = rc < 0 ? 0 : v->code[i] ? -v->code[i] : v->pid[i];
    }
    return rc < 0 ? lib_fail(&err) : 0;
}

static int vexec(int nnodes, const int *nodes, int *pids, const struct start *s)
{
    size_t n = (size_t)nnodes;
    CLEANUP(many_free) struct many v = { .s = s, .index = malloc(n * sizeof(int)),
                                         .node = malloc(n * sizeof(int)),
                                         .pid = malloc(n * sizeof(int32_t)),
                                         .code = malloc(n * sizeof(int)) };
    int here = bproc_currnode();

    if (!v.index || !v.node || !v.pid || !v.code)
        return lib_errno(ENOMEM);
    memset(pids, 0, n * sizeof *pids);
    for (int i = 0; i < nnodes; i++) {
        int node = lib_node(nodes[i]);
        if (node < BPROC_NODE_MASTER) {
            pids[i] = -BE_INVALIDNODE;
        } else if (node != here) {
            v.index[v.n] = i;
            v.node[v.n++] = node;
        }
    }
    if (v.n && remote_many(&v, pids) < 0)
        return -1;
    for (int i = 0; i < nnodes; i++)
        if (lib_node(nodes[i]) == here)
            pids[i] = local_start(s);
    return nnodes;
}

int bproc_vexecmove_io(int nnodes, int *nodes, int *pids, struct bproc_io_t *io, int iolen,
                       const char *cmd, char *const argv[], char *const envp[])
{
    struct start s = { .cmd = cmd, .argv = argv, .io = io, .iolen = iolen };

    if (nnodes <= 0)
        return lib_errno(EINVAL);
    if (!nodes || !pids || !cmd || !argv || !envp)
        return lib_errno(EFAULT);
    if (!argv[0])
        return lib_errno(EINVAL);
    CLEANUP(cleanup_free) char **env = env_of(envp, nodes, (size_t)nnodes);
    s.envp = env;
    return !env || start_check(&s) < 0 ? -1 : vexec(nnodes, nodes, pids, &s);
}

int bproc_vexecmove(int nnodes, int *nodes, int *pids, const char *cmd, char *const argv[],
                    char *const envp[])
{
    return bproc_vexecmove_io(nnodes, nodes, pids, NULL, -1, cmd, argv, envp);
}

/* --- this process, on a node --- */

static int ask_self(const struct start *s, int node, uint64_t launch)
{
    CLEANUP(gate_close) gate_t *g = lib_open(ENOSYS);
    CLEANUP(mp_free) mp_buf m;
    struct err err = { 0 };
    int32_t pid = getpid();
    int code;

    mp_init(&m);
    if (!g)
        return -1;
    if (start_pack(s, launch, &node, &pid, NULL, 1, true, &m, &err) < 0 ||
        launch_ask(g, &m, 1, &code, &err) < 0)
        return lib_fail(&err);
    return code ? lib_errno(code) : 0;
}

/* Every signal is blocked from before the launch and stays so in the ghost that
 * we turn into: what comes meanwhile, procspace's bell too, waits for it. */
static int become(const struct start *s, int node)
{
    uint64_t launch = launch_id();
    int code = 0;
    sigset_t all, old;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old);
    if (ask_self(s, node, launch) < 0) {
        int why = errno;
        sigprocmask(SIG_SETMASK, &old, NULL);
        return lib_errno(why);
    }
    if (s->iolen >= 0 || forward_start(launch, &node, &code, 1) == 0)
        ghost_become(launch, s->argv, false);
    /* It runs there, and there is no way back: who waits for us learns why. */
    _exit(errno & 0xff ? errno & 0xff : 1);
}

static int exec_on(int node, struct start *s)
{
    char path[PATH_MAX];
    int here = bproc_currnode();

    if (!s->cmd || !s->argv || !s->envp)
        return lib_errno(EFAULT);
    if (!s->argv[0])
        return lib_errno(EINVAL);
    if (start_check(s) < 0)
        return -1;
    node = lib_node(node);
    if (node == here)
        return s->found ? execve(s->cmd, s->argv, s->envp) : lib_errno(BE_SAMENODE);
    if (node < BPROC_NODE_MASTER)
        return lib_errno(BE_INVALIDNODE);
    bool away = lib_on_node();
    if (!away && (here != BPROC_NODE_MASTER || !ghost_program(path)))
        return lib_errno(ENOSYS);
    if (save_threads())
        return lib_errno(EBUSY);
    CLEANUP(cleanup_free) char **env = env_of(s->envp, &node, 1);
    s->envp = env;
    if (!env)
        return -1;
    return away ? bring_and_become(node, s) : become(s, node);
}

int bproc_execmove_io(int node, struct bproc_io_t *io, int iolen, const char *cmd,
                      char *const argv[], char *const envp[])
{
    struct start s = { .cmd = cmd, .argv = argv, .envp = envp, .io = io, .iolen = iolen };

    return exec_on(node, &s);
}

int bproc_execmove(int node, const char *cmd, char *const argv[], char *const envp[])
{
    return bproc_execmove_io(node, NULL, -1, cmd, argv, envp);
}

int bproc_rexec_io(int node, struct bproc_io_t *io, int iolen, const char *cmd,
                   char *const argv[], char *const envp[])
{
    struct start s = { .cmd = cmd, .argv = argv, .envp = envp, .io = io, .iolen = iolen,
                       .found = true };

    return exec_on(node, &s);
}

int bproc_rexec(int node, const char *cmd, char *const argv[], char *const envp[])
{
    return bproc_rexec_io(node, NULL, -1, cmd, argv, envp);
}

int bproc_execve(const char *cmd, char *const argv[], char *const envp[])
{
    return execve(cmd, argv, envp);
}
