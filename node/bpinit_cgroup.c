/* bpinit_cgroup.c - a launch and all that comes of it, held together
 *
 * Each launch has a control group, where such can be had, so that whatever its
 * processes start can be ended with it, and it is known when the last of them
 * is gone. The version 2 tree tells that itself and kills at one blow; in a
 * version 1 tree (freezer) we look. Without groups only the processes that we
 * know of can be ended: bodies, and their children, which /proc or a word in
 * their environment shows to be of the launch.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "node/bpinit.h"
#include "node/bpinit_spawn.h"

#define BUCKETS 256
#define LOOK_MS 200
#define STUCK_MS 5000 /* of life after SIGKILL: then somebody should know */
#define PERIOD_US 100000
#define NAME_SIZE 64
#define JOBS_KEPT 1024

enum tree { TREE_MAIN, TREE_MEMORY, TREE_CPU };

struct cage {
    struct cage *next;
    cages_t *cages;
    uint64_t launch;
    struct job_tag job;
    uid_t uid;
    bool nested; /* its groups are in one of its job, which is limited */
    uint64_t utime_us, stime_us, maxrss_kb; /* of bodies that have ended */
    bool free_mem, free_cpus;
    int dir[CAGE_TREES];   /* the launch's groups; -1: none in this tree */
    int procs[CAGE_TREES]; /* version 1: their cgroup.procs, for children to join */
    int events;            /* version 2: cgroup.events */
    uint32_t bodies;       /* running ones */
    int64_t killed;        /* now_ms() of the SIGKILL; 0: none */
    bool told_stuck;
    uint64_t starved; /* so many were killed for want of memory */
    int timer;
};

struct cages {
    struct init *in;
    int root[CAGE_TREES]; /* the node's groups */
    bool second;          /* the main tree is of version 2 */
    uint64_t starved;     /* so many were killed on the machine for want of memory */
    struct cage *bucket[BUCKETS];
    struct job_used used[JOBS_KEPT]; /* a ring */
    uint32_t njobs;
};

static bool read_count(int dir, const char *name, const char *word, uint64_t *out)
{
    char text[8192];
    CLEANUP(cleanup_close) int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    text[n > 0 ? n : 0] = 0;
    for (const char *p = text; (p = strstr(p, word)); p += strlen(word))
        if ((p == text || p[-1] == '\n') && p[strlen(word)] == ' ') {
            *out = strtoull(p + strlen(word), NULL, 10);
            return true;
        }
    return false;
}

cages_t *cages_create(struct init *in, const int root[CAGE_TREES], struct err *err)
{
    cages_t *t = calloc(1, sizeof *t);

    if (!t) {
        err_set(err, ENOMEM, "control groups: out of memory");
        return NULL;
    }
    t->in = in;
    memcpy(t->root, root, sizeof t->root);
    read_count(AT_FDCWD, "/proc/vmstat", "oom_kill", &t->starved);
    t->second = root[TREE_MAIN] >= 0 &&
                faccessat(root[TREE_MAIN], "cgroup.events", F_OK, 0) == 0;
    return t;
}

static struct cage **place(cages_t *t, uint64_t launch)
{
    struct cage **p = &t->bucket[(launch ^ launch >> 20) % BUCKETS];

    while (*p && (*p)->launch != launch)
        p = &(*p)->next;
    return p;
}

static const char *job_name(const struct cage *c, char name[NAME_SIZE])
{
    snprintf(name, NAME_SIZE, "job-%" PRIu64 "-%u", c->job.id, (unsigned)c->uid);
    return name;
}

static const char *name_of(const struct cage *c, char name[NAME_SIZE])
{
    size_t n = c->nested ? strlen(job_name(c, name)) : 0;

    snprintf(name + n, NAME_SIZE - n, "%s%" PRIu64, n ? "/" : "", c->launch);
    return name;
}

/* ---- what jobs have used ---- */

const struct job_used *cages_used(const cages_t *t, int64_t uid, uint64_t job, uint32_t attempt)
{
    for (uint32_t i = 0; i < JOBS_KEPT; i++)
        if (t->used[i].job == job && t->used[i].uid == uid && t->used[i].attempt == attempt)
            return &t->used[i];
    return NULL;
}

/* The kernel's sum over the group holds what nobody has waited for, too. */
static void note_used(struct cage *c)
{
    cages_t *t = c->cages;
    struct job_used *u;
    uint64_t user, system;

    if (!c->job.id)
        return;
    u = (struct job_used *)(uintptr_t)cages_used(t, c->uid, c->job.id, c->job.attempt);
    if (!u) {
        u = &t->used[t->njobs++ % JOBS_KEPT];
        *u = (struct job_used){ .job = c->job.id, .attempt = c->job.attempt, .uid = c->uid };
    }
    int dir = t->second ? c->dir[TREE_MAIN] : -1;
    if (dir >= 0 && read_count(dir, "cpu.stat", "user_usec", &user) &&
        read_count(dir, "cpu.stat", "system_usec", &system)) {
        c->utime_us = user;
        c->stime_us = system;
    }
    u->utime_us += c->utime_us;
    u->stime_us += c->stime_us;
    u->maxrss_kb = c->maxrss_kb > u->maxrss_kb ? c->maxrss_kb : u->maxrss_kb;
    u->free_mem = u->free_mem || c->free_mem;
    u->free_cpus = u->free_cpus || c->free_cpus;
}

static void cage_free(struct cage *c)
{
    cages_t *t = c->cages;
    struct cage **p = place(t, c->launch);
    char name[NAME_SIZE];

    *p = c->next;
    loop_timer_del(t->in->loop, c->timer);
    if (c->events >= 0)
        loop_fd_del(t->in->loop, c->events);
    cleanup_close(&c->events);
    for (int i = 0; i < CAGE_TREES; i++) {
        cleanup_close(&c->procs[i]);
        if (c->dir[i] >= 0)
            unlinkat(t->root[i], name_of(c, name), AT_REMOVEDIR);
        if (c->nested && t->root[i] >= 0) /* the last one's */
            unlinkat(t->root[i], job_name(c, name), AT_REMOVEDIR);
        cleanup_close(&c->dir[i]);
    }
    free(c);
}

void cages_destroy(cages_t **tp)
{
    cages_t *t = *tp;

    if (!t)
        return;
    for (int i = 0; i < BUCKETS; i++)
        while (t->bucket[i])
            cage_free(t->bucket[i]);
    free(t);
    *tp = NULL;
}

/* ---- who is in there ---- */

/* Calls fn for each process of the launch; how many. */
static int each_member(struct cage *c, void (*fn)(struct cage *c, pid_t pid, int arg), int arg)
{
    int n = 0;
    char line[32];

    if (c->dir[TREE_MAIN] < 0)
        return 0;
    int fd = openat(c->dir[TREE_MAIN], "cgroup.procs", O_RDONLY | O_CLOEXEC);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
    if (!f) {
        cleanup_close(&fd);
        return 0;
    }
    while (fgets(line, sizeof line, f)) {
        pid_t pid = (pid_t)atoi(line);
        if (pid <= 0) /* from outside of our space */
            continue;
        n++;
        if (fn)
            fn(c, pid, arg);
    }
    fclose(f);
    return n;
}

static bool empty(struct cage *c)
{
    char text[128];

    if (c->bodies)
        return false;
    if (c->dir[TREE_MAIN] < 0)
        return !kids_any(c->cages->in->kids, c->launch);
    if (!c->cages->second)
        return each_member(c, NULL, 0) == 0;
    ssize_t n = pread(c->events, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    return strstr(text, "populated 0") != NULL;
}

bool cages_have_groups(const cages_t *t) { return t->root[TREE_MAIN] >= 0; }

bool cages_known(const cages_t *t, uint64_t launch)
{
    return *place((cages_t *)(uintptr_t)t, launch) != NULL;
}

/* ---- out of memory ---- */

/* How many the kernel has killed: of the launch, or of the machine where that is
 * not counted. */
bool cages_starved(cages_t *t, uint64_t launch)
{
    struct cage *c = *place(t, launch);
    uint64_t n = 0, *before = c ? &c->starved : NULL;

    if (!c)
        return false;
    if (!(c->dir[TREE_MAIN] >= 0 &&
          read_count(c->dir[TREE_MAIN], "memory.events", "oom_kill", &n)) &&
        !(c->dir[TREE_MEMORY] >= 0 &&
          read_count(c->dir[TREE_MEMORY], "memory.oom_control", "oom_kill", &n))) {
        read_count(AT_FDCWD, "/proc/vmstat", "oom_kill", &n);
        before = &t->starved;
    }
    bool more = n > *before;
    *before = n;
    return more;
}

/* ---- the end of a launch ---- */

static void tell_stuck(struct cage *c, pid_t pid, int arg)
{
    char path[64], stack[2048] = "", stat[512] = "", text[256];
    ssize_t n;

    (void)arg;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? -1 : read(fd, stat, sizeof stat - 1);
    stat[n > 0 ? n : 0] = 0;
    char *name = strchr(stat, '('), *close = strrchr(stat, ')');
    if (c->told_stuck || !name || !close || close[1] != ' ' || close[2] != 'D')
        return;
    *close = 0;
    snprintf(path, sizeof path, "/proc/%d/stack", (int)pid);
    CLEANUP(cleanup_close) int sfd = open(path, O_RDONLY | O_CLOEXEC);
    n = sfd < 0 ? -1 : read(sfd, stack, sizeof stack - 1);
    stack[n > 0 ? n : 0] = 0;
    snprintf(text, sizeof text, "process %d (%s) does not die of SIGKILL: stuck in the kernel",
             (int)pid, name + 1);
    c->told_stuck = true;
    init_log("%s\n%s", text, stack);
    journal_stuck(c->cages->in, c->launch, pid, text, stack);
}

static void check(void *arg);

static void look_again(struct cage *c)
{
    loop_timer_del(c->cages->in->loop, c->timer);
    c->timer = loop_timer(c->cages->in->loop, LOOK_MS, false, check, c);
}

static void check(void *arg)
{
    struct cage *c = arg;

    loop_timer_del(c->cages->in->loop, c->timer);
    c->timer = 0;
    if (empty(c)) {
        note_used(c);
        journal_done(c->cages->in, c->launch, c->job.id);
        cage_free(c);
        return;
    }
    if (c->killed && !c->told_stuck && now_ms() - c->killed > STUCK_MS)
        each_member(c, tell_stuck, 0);
    /* The version 2 tree calls us; but a stuck one must be looked for. */
    if ((c->killed && !c->told_stuck) || (!c->cages->second && !c->bodies))
        look_again(c);
}

static void on_events(void *arg, int fd, uint32_t events)
{
    char text[128];

    (void)events;
    if (pread(fd, text, sizeof text, 0) < 0) /* seen: or it calls for ever */
        init_log("cgroup.events: %s", strerror(errno));
    check(arg);
}

static void signal_one(struct cage *c, pid_t pid, int sig)
{
    (void)c;
    kill(pid, sig);
}

static bool write_in(int dir, const char *name, const char *text)
{
    CLEANUP(cleanup_close) int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);

    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

struct one { /* of a launch without a group */
    uint64_t launch;
    int sig;
};

static void signal_body(void *arg, const struct body *b)
{
    const struct one *o = arg;

    if (b->launch == o->launch)
        kill(b->npid, o->sig);
}

void cages_signal(cages_t *t, uint64_t launch, int sig)
{
    struct cage *c = *place(t, launch);
    struct one o = { launch, sig };

    if (!c)
        return;
    int dir = c->dir[TREE_MAIN];
    if (dir < 0) {
        bodies_each(t->in->bodies, signal_body, &o);
        kids_signal_launch(t->in->kids, launch, sig);
    } else if (!t->second) {
        /* Frozen, nobody can fork away from us. */
        bool frozen = sig == SIGKILL && write_in(dir, "freezer.state", "FROZEN");
        each_member(c, signal_one, sig);
        if (frozen)
            write_in(dir, "freezer.state", "THAWED");
    } else if (sig != SIGKILL || !write_in(dir, "cgroup.kill", "1")) {
        each_member(c, signal_one, sig);
    }
    if (sig == SIGKILL && !c->killed) {
        c->killed = now_ms();
        look_again(c);
    }
}

uint32_t cages_end_job(cages_t *t, int64_t uid, uint64_t job, int sig, uint32_t *all)
{
    uint32_t n = 0;

    *all = 0;
    for (int i = 0; i < BUCKETS; i++)
        for (struct cage *c = t->bucket[i]; c; c = c->next) {
            ++*all;
            if ((uid < 0 ? c->uid == 0 : (int64_t)c->uid != uid) || (job && c->job.id != job))
                continue;
            n++;
            if (sig)
                cages_signal(t, c->launch, sig);
        }
    return n;
}

/* ---- the start of a launch ---- */

/* A group for the launch in this tree; false: none there. */
static bool make_group(struct cage *c, int tree)
{
    int root = c->cages->root[tree];
    char name[NAME_SIZE];

    if (c->dir[tree] >= 0)
        return true;
    if (root >= 0 && c->nested)
        mkdirat(root, job_name(c, name), 0755);
    name_of(c, name);
    if (root < 0 || (mkdirat(root, name, 0755) < 0 && errno != EEXIST))
        return false;
    c->dir[tree] = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (c->dir[tree] >= 0 && (tree != TREE_MAIN || !c->cages->second))
        c->procs[tree] = openat(c->dir[tree], "cgroup.procs", O_WRONLY | O_CLOEXEC);
    return c->dir[tree] >= 0;
}

/* The group that a limit is for: the launch's own, or its job's around it. */
static int group_of(const struct cage *c, int tree, bool job)
{
    char name[NAME_SIZE];

    if (c->dir[tree] < 0)
        return -1;
    if (!job)
        return dup(c->dir[tree]);
    return openat(c->cages->root[tree], job_name(c, name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static bool limit_memory(struct cage *c, uint64_t bytes, bool job)
{
    CLEANUP(cleanup_close) int main_dir = group_of(c, TREE_MAIN, job);
    char text[32];

    snprintf(text, sizeof text, "%" PRIu64, bytes);
    if (main_dir >= 0 && write_in(main_dir, "memory.max", text)) {
        write_in(main_dir, "memory.swap.max", "0");
        return true;
    }
    CLEANUP(cleanup_close) int dir = make_group(c, TREE_MEMORY) ? group_of(c, TREE_MEMORY, job) : -1;
    if (dir < 0 || !write_in(dir, "memory.limit_in_bytes", text))
        return false;
    write_in(dir, "memory.memsw.limit_in_bytes", text);
    return true;
}

static bool limit_cpus(struct cage *c, uint32_t milli, bool job)
{
    CLEANUP(cleanup_close) int main_dir = group_of(c, TREE_MAIN, job);
    char quota[48];
    uint64_t us = (uint64_t)milli * PERIOD_US / 1000;

    snprintf(quota, sizeof quota, "%" PRIu64 " %d", us, PERIOD_US);
    if (main_dir >= 0 && write_in(main_dir, "cpu.max", quota))
        return true;
    snprintf(quota, sizeof quota, "%" PRIu64, us);
    CLEANUP(cleanup_close) int dir = make_group(c, TREE_CPU) ? group_of(c, TREE_CPU, job) : -1;
    return dir >= 0 && write_in(dir, "cpu.cfs_quota_us", quota);
}

/* What all launches of a job may use together here. A node that cannot limit runs it
 * all the same: the job has been given the node. It is told at the end. */
static void limit_job(struct cage *c)
{
    CLEANUP(cleanup_close) int dir = group_of(c, TREE_MAIN, true);

    if (dir >= 0 && c->cages->second) { /* so that a launch may have less */
        write_in(dir, "cgroup.subtree_control", "+memory");
        write_in(dir, "cgroup.subtree_control", "+cpu");
    }
    c->free_mem = c->job.mem && !limit_memory(c, c->job.mem, true);
    c->free_cpus = c->job.cpu_milli && !limit_cpus(c, c->job.cpu_milli, true);
}

cage_t *cages_get(cages_t *t, const struct cage_wish *w, struct err *err)
{
    struct cage **p = place(t, w->launch), *c = *p;

    if (c)
        return c;
    c = calloc(1, sizeof *c);
    if (!c) {
        err_set(err, ENOMEM, "control group: out of memory");
        return NULL;
    }
    c->cages = t;
    c->launch = w->launch;
    c->uid = w->uid;
    c->job = w->job;
    c->nested = c->job.id && (c->job.mem || c->job.cpu_milli);
    c->events = -1;
    for (int i = 0; i < CAGE_TREES; i++)
        c->dir[i] = c->procs[i] = -1;
    *p = c;
    if (make_group(c, TREE_MAIN) && t->second) {
        c->events = openat(c->dir[TREE_MAIN], "cgroup.events", O_RDONLY | O_CLOEXEC);
        if (c->events < 0 || loop_fd(t->in->loop, c->events, EPOLLPRI, on_events, c, err) < 0) {
            init_log("launch %" PRIu64 ": cgroup.events: %s", c->launch, strerror(errno));
            cleanup_close(&c->dir[TREE_MAIN]);
        }
    }
    if (c->nested)
        limit_job(c);
    int code = 0;
    if (w->mem && !limit_memory(c, w->mem, false))
        code = err_set(err, ENOTSUP, "--mem: no control group for memory on this node");
    else if (w->cpu_milli && !limit_cpus(c, w->cpu_milli, false))
        code = err_set(err, ENOTSUP, "--cpus: no control group for processors on this node");
    if (code == 0)
        return c;
    cage_free(c);
    return NULL;
}

void cage_join(const cage_t *c, struct child *child)
{
    child->cgroup = c->cages->second ? c->dir[TREE_MAIN] : -1;
    memcpy(child->procs, c->procs, sizeof child->procs);
}

void cage_take(const cage_t *c, pid_t npid)
{
    char text[16];
    int n = snprintf(text, sizeof text, "%d", (int)npid);
    CLEANUP(cleanup_close) int main =
        c->cages->second ? openat(c->dir[TREE_MAIN], "cgroup.procs", O_WRONLY | O_CLOEXEC) : -1;
    bool ok = main < 0 || write(main, text, (size_t)n) == n;

    for (size_t i = 0; i < sizeof c->procs / sizeof *c->procs; i++)
        ok &= c->procs[i] < 0 || write(c->procs[i], text, (size_t)n) == n;
    if (!ok)
        init_log("process %d: control group: %s", (int)npid, strerror(errno));
}

void cage_started(cage_t *c) { c->bodies++; }
bool cage_killed(const cage_t *c) { return c->killed != 0; }

static uint64_t micros(struct timeval v) { return (uint64_t)v.tv_sec * 1000000 + (uint64_t)v.tv_usec; }

void cages_body_ended(cages_t *t, uint64_t launch, const struct rusage *ru)
{
    struct cage *c = *place(t, launch);

    if (!c)
        return;
    if (ru) {
        uint64_t rss = (uint64_t)ru->ru_maxrss;
        c->utime_us += micros(ru->ru_utime);
        c->stime_us += micros(ru->ru_stime);
        c->maxrss_kb = rss > c->maxrss_kb ? rss : c->maxrss_kb;
    }
    if (c->bodies)
        c->bodies--;
    if (!c->bodies)
        check(c);
}

void cages_settle(cages_t *t, uint64_t launch)
{
    struct cage *c = *place(t, launch);

    if (c && !c->bodies)
        check(c);
}
