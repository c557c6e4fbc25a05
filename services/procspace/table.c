/* table.c - processes by pid, launches by id */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>
#include "services/procspace/kids.h"
#include "services/procspace/kin.h"

static struct proc **proc_link(procspace_t *ps, pid_t pid)
{
    struct proc **p = &ps->proc[(unsigned)pid % PROC_BUCKETS];
    while (*p && (*p)->pid != pid)
        p = &(*p)->next;
    return p;
}

struct proc *proc_find(procspace_t *ps, pid_t pid) { return *proc_link(ps, pid); }

void proc_enter(procspace_t *ps, struct proc *p)
{
    struct proc *old = proc_find(ps, p->pid);

    /* The number was reused: the kernel says that the new ghost lives, so the
     * old one is gone, whether we have been told or not. */
    if (old)
        proc_forget(ps, old);
    p->next = ps->proc[(unsigned)p->pid % PROC_BUCKETS];
    ps->proc[(unsigned)p->pid % PROC_BUCKETS] = p;
    ps->procs++;
}

struct proc *proc_new(procspace_t *ps, struct launch *l, uint32_t rank, pid_t pid, int pidfd,
                      int node, struct err *err)
{
    struct proc *p = calloc(1, sizeof *p);

    if (!p) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    p->pid = pid;
    p->pidfd = pidfd;
    p->node = node;
    p->gen = 1;
    p->rank = rank;
    p->uid = l->uid;
    p->gid = l->gid;
    p->launch = l;
    p->started = wall_ms();
    (void)ps;
    l->rank[rank] = p;
    l->running++;
    return p;
}

struct proc *proc_add(procspace_t *ps, struct launch *l, uint32_t rank, pid_t pid, int pidfd,
                      int node, struct err *err)
{
    struct proc *p = proc_new(ps, l, rank, pid, pidfd, node, err);

    if (p)
        proc_enter(ps, p);
    return p;
}

void proc_take_over(procspace_t *ps, struct proc *p)
{
    struct proc *old = p->was;
    struct err err = { 0 };

    if (!old || old->moved_to)
        return;
    bool homed = old->homed;
    if (homed)
        home_take_over(ps, old, p);
    ghost_unwatch(ps, old);
    p->pidfd = old->pidfd;
    old->pidfd = -1;
    p->ghost_stopped = old->ghost_stopped;
    p->name = old->name;
    old->name = NULL;
    p->renamed = old->renamed;
    p->leads = old->leads;
    if (!p->heard) { /* said again there, or here */
        p->heard = old->heard;
        p->nheard = old->nheard;
        old->heard = NULL;
        old->nheard = 0;
    }
    old->moved_to = p;
    kin_moved(ps, old, p);
    kin_release(&old->parent);
    if (homed) /* the table has its stand-in */
        return;
    proc_forget(ps, old);
    proc_enter(ps, p);
    if (p->pidfd >= 0 && ghost_watch(ps, p, &err) < 0)
        svc_log("warning", "ghost %d is not watched: %s", (int)p->pid, err.text);
}

void proc_leave(procspace_t *ps, struct proc *p)
{
    p->left = true;
    kin_moved(ps, p, NULL);
    proc_forget(ps, p);
    proc_ended(ps, p, 0);
}

/* Out of the table by pid; the launch keeps it for its result. */
void proc_forget(procspace_t *ps, struct proc *p)
{
    struct proc **link = proc_link(ps, p->pid);

    ghost_unwatch(ps, p);
    if (p->pidfd >= 0)
        close(p->pidfd);
    p->pidfd = -1;
    if (*link == p) {
        *link = p->next;
        ps->procs--;
    }
    kids_parent_ended(ps, p);
    home_forget(p);
    p->next = NULL;
}

void proc_tell_end(struct proc *p)
{
    int status = p->status;

    if (p->pidfd < 0 && !p->homed)
        return;
    if (p->ghost_stopped)
        ghost_signal(p, SIGCONT); /* a stopped ghost could not act */
    if (WIFEXITED(status))
        ghost_ring(p, GHOST_EXIT, WEXITSTATUS(status));
    else if (WTERMSIG(status) == SIGKILL)
        ghost_signal(p, SIGKILL);
    else
        ghost_ring(p, GHOST_DIE, WTERMSIG(status) | (WCOREDUMP(status) ? 0x80 : 0));
}

void proc_ended(procspace_t *ps, struct proc *p, int status)
{
    struct launch *l = p->launch;
    struct proc *was = p->was && p->was->moved_to == p ? p->was : NULL;

    if (p->kid) {
        kid_over(ps, p->kid, status);
        return;
    }
    p->was = NULL;
    if (p->state == PROC_ENDED)
        return;
    p->state = PROC_ENDED;
    p->status = status;
    p->ended = wall_ms();
    past_add(ps, p);
    proc_tell_end(p);
    kids_parent_ended(ps, p);
    kin_ended(ps, p);
    if (p->homed)
        home_ended(ps, p);
    if (status > l->worst)
        l->worst = status;
    if (--l->running == 0)
        launch_over(ps, l);
    if (was) /* whoever waits for what it was then */
        proc_ended(ps, was, status);
}

static struct launch **launch_link(procspace_t *ps, uint64_t id)
{
    struct launch **l = &ps->launch[(id ^ id >> 24) % LAUNCH_BUCKETS];
    while (*l && (*l)->id != id)
        l = &(*l)->next;
    return l;
}

struct launch *launch_find(procspace_t *ps, uint64_t id) { return *launch_link(ps, id); }

struct proc *proc_now(struct proc *p)
{
    while (p && p->moved_to)
        p = p->moved_to;
    return p;
}

struct proc *proc_of_rank(procspace_t *ps, uint64_t launch, uint64_t rank)
{
    struct launch *l = launch ? launch_find(ps, launch) : NULL;

    return proc_now(l && rank < l->ranks ? l->rank[rank] : NULL);
}

struct launch *launch_of(procspace_t *ps, pid_t pid)
{
    struct proc *p = proc_find(ps, pid);
    struct launch *found = p ? p->launch : NULL;

    for (size_t b = 0; !p && b < LAUNCH_BUCKETS; b++)
        for (struct launch *l = ps->launch[b]; l; l = l->next)
            for (uint32_t i = 0; i < l->ranks; i++)
                if (l->rank[i] && l->rank[i]->pid == pid &&
                    (!found || l->started > found->started))
                    found = l;
    return found;
}

struct launch *launch_add(procspace_t *ps, uint64_t id, uint32_t ranks, int64_t uid,
                          int64_t gid, pid_t owner, const char *argv0, struct err *err)
{
    struct launch *l = calloc(1, sizeof *l);

    if (l) {
        l->rank = calloc(ranks ? ranks : 1, sizeof *l->rank);
        l->argv0 = strdup(argv0);
    }
    if (!l || !l->rank || !l->argv0) {
        if (l) {
            free(l->rank);
            free(l);
        }
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    l->ps = ps;
    l->id = id;
    l->ranks = ranks;
    l->uid = uid;
    l->gid = gid;
    l->owner = owner;
    l->started = wall_ms();
    struct launch **bucket = &ps->launch[(id ^ id >> 24) % LAUNCH_BUCKETS];
    l->next = *bucket;
    *bucket = l;
    owner_watch(l);
    return l;
}

int launch_grow(struct launch *l, uint32_t ranks, struct err *err)
{
    if (ranks <= l->ranks)
        return 0;
    struct proc **r = realloc(l->rank, ranks * sizeof *r);
    if (!r)
        return err_set(err, ENOMEM, "out of memory");
    memset(r + l->ranks, 0, (ranks - l->ranks) * sizeof *r);
    l->rank = r;
    l->ranks = ranks;
    return 0;
}

void proc_set_rank(struct proc *p, uint32_t rank)
{
    struct launch *l = p->launch;

    if (p->rank == rank || launch_grow(l, rank + 1, NULL) < 0)
        return;
    struct proc *other = l->rank[rank];
    l->rank[p->rank] = other;
    if (other)
        other->rank = p->rank;
    l->rank[rank] = p;
    p->rank = rank;
}

uint64_t launch_new_id(void)
{
    uint64_t id = 0;

    while (!(id >> 1))
        if (getrandom(&id, sizeof id, 0) != sizeof id)
            abort();
    return id >> 1;
}

struct launch *launch_adopt(procspace_t *ps, uint64_t id, int64_t uid, int64_t gid,
                            const char *argv0)
{
    struct err err = { 0 };

    return launch_add(ps, id, 0, uid, gid, 0, argv0, &err);
}

static void launch_free(procspace_t *ps, struct launch *l)
{
    struct launch **link = launch_link(ps, l->id);

    if (*link == l)
        *link = l->next;
    owner_forget(l);
    for (uint32_t i = 0; i < l->ranks; i++)
        if (l->rank[i]) {
            proc_forget(ps, l->rank[i]);
            name_free(&l->rank[i]->name);
            cause_free(&l->rank[i]->cause);
            free(l->rank[i]->heard);
            free(l->rank[i]);
        }
    free(l->rank);
    free(l->argv0);
    free(l->args);
    free(l);
}

/* Of those that have no process left anywhere. */
static void forget_oldest(procspace_t *ps)
{
    struct launch *l = ps->oldest;

    while (l && (l->kids || l->running))
        l = l->newer;
    if (!l || !l->newer) /* the newest is still spoken of */
        return;
    if (l->older)
        l->older->newer = l->newer;
    else
        ps->oldest = l->newer;
    l->newer->older = l->older;
    ps->ended--;
    launch_free(ps, l);
}

void launch_over(procspace_t *ps, struct launch *l)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    l->ended = wall_ms();
    owner_forget(l);
    if (l->over) /* asked for again after a restart, when those known then had ended */
        return;
    mp_map(&m, 4);
    mp_kuint(&m, "launch", l->id);
    mp_kint(&m, "uid", l->uid);
    mp_kstr(&m, "argv0", l->argv0);
    mp_kint(&m, "status", l->worst);
    svc_publish(ps->svc, "launch.done", &m);

    l->over = true;
    l->older = ps->newest;
    if (ps->newest)
        ps->newest->newer = l;
    else
        ps->oldest = l;
    ps->newest = l;
    if (++ps->ended > KEEP_LAUNCHES)
        forget_oldest(ps);
}

void launch_maybe_over(procspace_t *ps, struct launch *l)
{
    if (!l->over && !l->running && !l->kids)
        launch_over(ps, l);
}

static int compare_int(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

int *launch_nodes(const struct launch *l, int *count)
{
    int *nodes = malloc((l->ranks + 1) * sizeof *nodes);
    int n = 0, k = 0;

    for (uint32_t r = 0; nodes && r < l->ranks; r++)
        if (l->rank[r] && l->rank[r]->node >= 0)
            nodes[n++] = l->rank[r]->node;
    if (n)
        qsort(nodes, (size_t)n, sizeof *nodes, compare_int);
    for (int i = 0; i < n; i++)
        if (i == 0 || nodes[i] != nodes[i - 1])
            nodes[k++] = nodes[i];
    *count = k;
    return nodes;
}

struct node_space *node_space(procspace_t *ps, int node)
{
    if (node < 0)
        return NULL;
    if (node >= ps->numbers) {
        int n = node * 2 + 16;
        struct node_space *p = realloc(ps->nodes, (size_t)n * sizeof *p);
        if (!p)
            return NULL;
        memset(p + ps->numbers, 0, (size_t)(n - ps->numbers) * sizeof *p);
        ps->nodes = p;
        ps->numbers = n;
    }
    return &ps->nodes[node];
}
