/* rfork.c - copies of this process, on other nodes and here
 *
 * The children's stand-ins are made first, children of ours like any others.
 * One image of us is sent, which the nodes pass on to each other, and each copy
 * learns which one it is. They start together when all have come. If one that passes
 * it on ends meanwhile, those behind it have got a part of it only: another image is
 * sent to them, in a launch of its own.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "clients/libbproc/transfer.h"

#define PLAIN (BPROC_DUMP_EXEC | BPROC_DUMP_OTHER)
#define SENDS_MAX 5 /* in each but the first, one more has ended that was to pass it on */

struct family {
    struct transfer t;
    uint32_t n; /* of the children on other nodes that are sent now */
    int *index; /* by rank: which entry of the caller's list it is */
    int *node, *code;
    int32_t *pid;
    int *result; /* of all, by entry: as the caller gets it in pids */
    bool heard; /* a child's signal was waiting before ours were made */
};

static void family_free(struct family *f)
{
    free(f->index);
    free(f->node);
    free(f->code);
    free(f->pid);
    free(f->result);
}

/* Stand-ins of children that there are none: the caller does not hear of them. */
static void end_ghosts(const struct family *f, bool all)
{
    for (uint32_t i = 0; i < f->n; i++) {
        if ((!all && !f->code[i]) || f->pid[i] <= 0)
            continue;
        kill(f->pid[i], SIGKILL);
        while (waitpid(f->pid[i], NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    child_unheard(f->heard);
}

/* "BPROC_RANK=XXXXXXX" becomes the number, in the copy's own environment. */
static void write_rank(int rank)
{
    char *v = getenv("BPROC_RANK");

    if (!v || strcmp(v, "XXXXXXX") != 0)
        return;
    for (int i = 6; i >= 0; i--, rank /= 10)
        v[i] = (char)('0' + rank % 10);
}

/* 0: as far as code[i] is 0 they run; -1: none does; N + 1: we are the copy of
 * entry N. */
static int send_family(struct family *f)
{
    struct transfer *t = &f->t;
    struct err err = { 0 };

    if (transfer_open(t, false) < 0)
        return -1;
    f->heard = child_heard();
    t->pids = f->pid;
    if (ghosts_make(t->launch, t->argv, f->n, f->pid, &err) < 0)
        return lib_fail(&err);
    if (transfer_ask(t, f->node, f->pid, NULL, f->n, f->code) < 0)
        return -1;
    bool any = false;
    for (uint32_t i = 0; i < f->n; i++)
        any |= f->code[i] == 0;
    if (!any)
        return 0;
    int *late = calloc(f->n, sizeof *late);
    if (!late)
        return lib_errno(ENOMEM);
    int copy = transfer_send(t, f->node, f->n, late);
    if (copy > 0) {
        free(late);
        return f->index[copy - 1] + 1;
    }
    any = false;
    for (uint32_t i = 0; i < f->n; i++) {
        if (late[i])
            f->code[i] = late[i];
        any |= f->code[i] == 0;
    }
    free(late);
    if (copy == 0 && any && t->s.iolen < 0 && !lib_on_node() &&
        forward_start(t->launch, f->node, f->code, f->n) < 0)
        return -1;
    return copy;
}

/* Not its node's doing: who passed the image on to it has ended. */
static bool was_cut(int code)
{
    return code == EBADMSG || code == EPIPE || code == ECONNRESET;
}

/* What has come of this one; what is left are those to whom it has to be sent again. */
static void settle(struct family *f)
{
    uint32_t left = 0;

    for (uint32_t i = 0; i < f->n; i++) {
        f->result[f->index[i]] = f->code[i] ? -f->code[i] : f->pid[i];
        if (!was_cut(f->code[i]))
            continue;
        f->index[left] = f->index[i];
        f->node[left++] = f->node[i];
    }
    f->n = left;
    memset(f->pid, 0, left * sizeof *f->pid);
}

/* As send_family(), to all of them that can be reached. */
static int send_all(struct family *f)
{
    const struct transfer asked = f->t;
    int rc = 0;

    for (int sends = 0; f->n && sends < SENDS_MAX; sends++) {
        if (sends) {
            transfer_close(&f->t, true);
            f->t = asked;
        }
        rc = send_family(f);
        int code = errno;
        if (rc > 0)
            return rc;
        end_ghosts(f, rc < 0);
        if (rc < 0 && !sends)
            return lib_errno(code);
        for (uint32_t i = 0; rc < 0 && i < f->n; i++)
            f->code[i] = code;
        settle(f);
    }
    return 0;
}

/* The return value of the call: in a copy its number. */
static int fork_all(struct family *f, int nnodes, const int *nodes, int here, int *pids)
{
    int rc = send_all(f);

    if (rc)
        return rc < 0 ? -1 : rc - 1;
    memcpy(pids, f->result, (size_t)nnodes * sizeof *pids);
    for (int i = 0; i < nnodes; i++) {
        if (lib_node(nodes[i]) != here)
            continue;
        pid_t pid = fork();
        if (pid == 0)
            return i;
        pids[i] = pid < 0 ? -errno : pid;
    }
    return nnodes;
}

static int sort_out(struct family *f, int nnodes, const int *nodes, int here)
{
    size_t n = (size_t)nnodes;

    f->index = malloc(n * sizeof *f->index);
    f->node = malloc(n * sizeof *f->node);
    f->code = calloc(n, sizeof *f->code);
    f->pid = calloc(n, sizeof *f->pid);
    f->result = calloc(n, sizeof *f->result);
    if (!f->index || !f->node || !f->code || !f->pid || !f->result)
        return lib_errno(ENOMEM);
    for (int i = 0; i < nnodes; i++) {
        int node = lib_node(nodes[i]);
        if (node < BPROC_NODE_MASTER) {
            f->result[i] = -BE_INVALIDNODE;
        } else if (node != here) {
            f->index[f->n] = i;
            f->node[f->n++] = node;
        }
    }
    return 0;
}

int _bproc_vrfork_io(int nnodes, int *nodes, int *pids, struct bproc_io_t *io, int iolen,
                     int flags)
{
    struct family f = { .t = { .s = { .cmd = "", .io = io, .iolen = iolen }, .flags = flags } };
    int here = bproc_currnode();
    sigset_t all, old;

    if (nnodes <= 0)
        return lib_errno(EINVAL);
    if (!nodes || !pids)
        return lib_errno(EFAULT);
    if (start_check(&f.t.s) < 0)
        return -1;
    if (flags & ~BPROC_DUMP_ALL)
        return lib_errno(EINVAL);
    if (save_threads())
        return lib_errno(EBUSY);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old);
    int rc = sort_out(&f, nnodes, nodes, here), code;
    if (rc == 0)
        rc = fork_all(&f, nnodes, nodes, here, pids);
    code = errno;
    bool elsewhere = f.n && !f.t.v.w.s; /* we are a copy there */
    if (rc >= 0 && rc < nnodes && (elsewhere || here != BPROC_NODE_MASTER))
        write_rank(rc);
    transfer_close(&f.t, true);
    family_free(&f);
    sigprocmask(SIG_SETMASK, &old, NULL);
    return rc < 0 ? lib_errno(code) : rc;
}

int _bproc_vrfork(int nnodes, int *nodes, int *pids, int flags)
{
    return _bproc_vrfork_io(nnodes, nodes, pids, NULL, -1, flags);
}

int bproc_vrfork(int nnodes, int *nodes, int *pids)
{
    return _bproc_vrfork(nnodes, nodes, pids, PLAIN);
}

int bproc_vrfork_io(int nnodes, int *nodes, int *pids, struct bproc_io_t *io, int iolen)
{
    return _bproc_vrfork_io(nnodes, nodes, pids, io, iolen, PLAIN);
}

/* --- one --- */

int _bproc_rfork_io(int node, struct bproc_io_t *io, int iolen, int flags)
{
    int pid = 0, rc = _bproc_vrfork_io(1, &node, &pid, io, iolen, flags);

    if (rc != 1)
        return rc; /* 0 in the child, or -1 */
    return pid < 0 ? lib_errno(-pid) : pid;
}

int _bproc_rfork(int node, int flags) { return _bproc_rfork_io(node, NULL, -1, flags); }
int bproc_rfork(int node) { return _bproc_rfork(node, PLAIN); }

int bproc_rfork_io(int node, struct bproc_io_t *io, int iolen)
{
    return _bproc_rfork_io(node, io, iolen, PLAIN);
}
