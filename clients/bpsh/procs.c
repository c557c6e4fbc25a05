/* procs.c - the processes of this run: waiting for them, their statuses */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include "clients/bpsh/bpsh.h"

void status_raise(struct bpsh *b, int status)
{
    if (status > b->status)
        b->status = status;
}

void leave(struct bpsh *b, int status)
{
    if (b->leaving)
        return;
    b->leaving = true;
    b->leave_status = status;
}

static int by_pid(const void *x, const void *y)
{
    const struct proc *a = *(struct proc *const *)x, *b = *(struct proc *const *)y;

    return a->was < b->was ? -1 : a->was > b->was;
}

int procs_index(struct bpsh *b, struct err *err)
{
    b->by_pid = malloc(b->procs * sizeof(struct proc *));
    if (!b->by_pid)
        return err_set(err, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < b->procs; i++)
        if ((b->proc[i].was = b->proc[i].pid) > 0)
            b->by_pid[b->pids++] = &b->proc[i];
    b->alive = b->pids;
    qsort(b->by_pid, b->pids, sizeof(struct proc *), by_pid);
    return 0;
}

static struct proc *find(const struct bpsh *b, pid_t pid)
{
    uint32_t lo = 0, hi = b->pids;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        struct proc *p = b->by_pid[mid];
        /* Entries keep their place when the process is gone, not their pid. */
        if (p->was < pid)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == b->pids || b->by_pid[lo]->pid != pid)
        return NULL;
    return b->by_pid[lo];
}

/* The node must be told of a SIGSTOP: no ghost can tell it. */
static void tell_stopped(struct bpsh *b, const struct proc *p)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 2);
    mp_kint(&m, "pid", p->pid);
    mp_kint(&m, "sig", SIGSTOP);
    calls_start(b->calls, "procspace.stopped", &m, 30000, NULL, NULL, NULL);
}

static void judge(struct bpsh *b, struct proc *p, int status)
{
    if (p->failed)
        return;
    tell_ended(b, p, status);
    if (WIFEXITED(status)) {
        status_raise(b, WEXITSTATUS(status));
        return;
    }
    if (b->interrupted && WTERMSIG(status) == b->interrupted)
        b->died_of_it = true; /* no news to whoever pressed the key */
    else if (b->opt.report_fd >= 0)
        ; /* told already */
    else if (p->node < 0)
        fprintf(stderr, "bpsh: Child process on the master exited abnormally.\n");
    else
        fprintf(stderr, "bpsh: Child process on node %d exited abnormally.\n", p->node);
    status_raise(b, EXIT_SIGNALLED);
    if (WTERMSIG(status) == SIGKILL && p->node >= 0) {
        p->killed = true;
        launch_maybe_lost(b);
    }
}

/* A stand-in may end because its process was never started: the answer of the
 * launch, which says so, comes a moment later. */
static void died(struct bpsh *b, struct proc *p, int status)
{
    p->pid = 0;
    b->alive--;
    if (p->node >= 0 && !b->answered) {
        p->early = true;
        p->early_status = status;
    } else {
        judge(b, p, status);
    }
}

void procs_answered(struct bpsh *b)
{
    for (uint32_t r = 0; r < b->remote; r++)
        if (!b->proc[b->by_rank[r]].failed)
            tell_started(b, &b->proc[b->by_rank[r]]);
    for (uint32_t i = 0; i < b->procs; i++)
        if (b->proc[i].early) {
            b->proc[i].early = false;
            judge(b, &b->proc[i], b->proc[i].early_status);
        }
}

void procs_reap(struct bpsh *b)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0) {
        struct proc *p = find(b, pid);
        if (!p) {
            if (!WIFSTOPPED(status))
                bulk_reaped(b, pid, status);
            continue;
        }
        if (!WIFSTOPPED(status))
            died(b, p, status);
        else if (WSTOPSIG(status) == SIGSTOP && p->node >= 0 && !p->failed)
            tell_stopped(b, p);
    }
}

void procs_kill(struct bpsh *b, int sig)
{
    for (uint32_t i = 0; i < b->procs; i++)
        if (b->proc[i].pid > 0) /* not reaped, so it is nobody else's pid */
            kill(b->proc[i].pid, sig);
}

void procs_end_streams(struct bpsh *b, struct proc *p)
{
    uint32_t i = (uint32_t)(p - b->proc);

    if (b->reader && p->node >= 0)
        reader_forget(b->reader, p->rank);
    onward_forget(b, p);
    if (!b->output)
        return;
    output_end(b->output, i, 1);
    output_end(b->output, i, 2);
}

void procs_free(struct bpsh *b)
{
    for (uint32_t i = 0; i < b->procs; i++) {
        local_free(b, &b->proc[i]);
        free(b->proc[i].why);
    }
    free(b->proc);
    free(b->by_pid);
    free(b->by_rank);
}
