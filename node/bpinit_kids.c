/* bpinit_kids.c - processes that bodies make: seen in /proc, told to the master
 *
 * A look at /proc, whenever the doorbell (bpinit_watch.c) has rung, against what
 * is known: who is new and older than a moment, who has gone, who runs another
 * program or went to another group or session, who stopped. Children that live
 * shorter than that moment are never told: they cost nothing.
 *
 * A kid is named by its pid here and the time of its start, so that a pid used
 * again is somebody else.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "bus/rests.h"
#include "node/bpinit.h"
#include "node/bpinit_kids.h"
#include "node/bpinit_kin.h"

#define BUCKETS 4096
#define GRACE_MS 50 /* no word about who lives shorter */
#define FIRST_MS 70 /* of the bell: then it is older than that, clock ticks and all */
#define BUSY_FACTOR 10 /* at most this fraction of the time is spent looking */
#define PF_KTHREAD 0x200000u

struct kids {
    struct init *in;
    watch_t *watch; /* NULL: we look again and again */
    struct seen *bucket[BUCKETS];
    DIR *proc;
    uint32_t round;
    uint32_t known; /* kids and bodies in the table */
    int timer;
    int64_t looked_ms; /* how long the last look took */
    pid_t lease, lease_end; /* pids that are ours to give; 0: any */
};

static struct seen **place(kids_t *t, pid_t npid)
{
    struct seen **p = &t->bucket[(uint32_t)npid % BUCKETS];

    while (*p && (*p)->npid != npid)
        p = &(*p)->next;
    return p;
}

/* ---- /proc ---- */

struct look {
    pid_t npid, ppid, pgid, sid;
    char state, comm[16];
    unsigned flags;
    uint64_t start, args_at;
    int status;
};

static ssize_t read_file(kids_t *t, pid_t npid, const char *name, char *buf, size_t room)
{
    char path[64];

    buf[0] = 0;
    if (!t->proc && !(t->proc = opendir("/proc"))) /* the node's, not where we were started */
        return -1;
    snprintf(path, sizeof path, "%d/%s", (int)npid, name);
    CLEANUP(cleanup_close) int fd = openat(dirfd(t->proc), path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, room - 1);
    buf[n > 0 ? n : 0] = 0;
    return n;
}

static bool look_at(kids_t *t, pid_t npid, struct look *l)
{
    char text[1024];

    if (read_file(t, npid, "stat", text, sizeof text) <= 0)
        return false;
    char *open = strchr(text, '('), *close = strrchr(text, ')');
    if (!open || !close || close < open)
        return false;
    *close = 0;
    snprintf(l->comm, sizeof l->comm, "%s", open + 1);
    l->npid = npid;
    return sscanf(close + 1,
                  " %c %d %d %d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d "
                  "%" SCNu64 " %*u %*d %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u "
                  "%*d %*d %*u %*u %*u %*u %*d %*u %*u %*u %" SCNu64 " %*u %*u %*u %d",
                  &l->state, &l->ppid, &l->pgid, &l->sid, &l->flags, &l->start, &l->args_at,
                  &l->status) == 8;
}

static void read_ids(kids_t *t, struct seen *s)
{
    char text[4096];
    unsigned uid = 0, gid = 0;

    read_file(t, s->npid, "status", text, sizeof text);
    const char *u = strstr(text, "\nUid:"), *g = strstr(text, "\nGid:");
    if (u && sscanf(u + 5, "%u", &uid) == 1)
        s->uid = uid;
    if (g && sscanf(g + 5, "%u", &gid) == 1)
        s->gid = gid;
}

static void read_args(kids_t *t, struct seen *s)
{
    char text[KID_ARGS + 1];
    ssize_t n = read_file(t, s->npid, "cmdline", text, sizeof text);

    free(s->args);
    s->args_len = n > 0 ? (size_t)n : 0;
    s->args = malloc(s->args_len + 1);
    if (s->args)
        memcpy(s->args, text, s->args_len);
    else
        s->args_len = 0;
}

/* The launch whose control group it is in: the last number in such a path. */
static uint64_t launch_by_group(kids_t *t, pid_t npid)
{
    char text[4096];
    char *end;

    read_file(t, npid, "cgroup", text, sizeof text);
    for (char *line = strtok_r(text, "\n", &end); line; line = strtok_r(NULL, "\n", &end)) {
        const char *slash = strrchr(line, '/');
        uint64_t id = slash ? strtoull(slash + 1, NULL, 10) : 0;
        if (id && cages_known(t->in->cages, id))
            return id;
    }
    return 0;
}

/* The last resort: what its first program was given to pass on. */
static uint64_t launch_by_mark(kids_t *t, pid_t npid)
{
    static char text[128 * 1024];
    ssize_t n = read_file(t, npid, "environ", text, sizeof text);

    for (const char *p = text; n > 0 && p < text + n; p += strlen(p) + 1)
        if (strncmp(p, LAUNCH_MARK, strlen(LAUNCH_MARK)) == 0) {
            uint64_t id = strtoull(p + strlen(LAUNCH_MARK), NULL, 10);
            return cages_known(t->in->cages, id) ? id : 0;
        }
    return 0;
}

static uint64_t launch_of(kids_t *t, const struct look *l)
{
    const pid_t kin[] = { l->ppid, l->pgid, l->sid };

    for (size_t i = 0; i < sizeof kin / sizeof *kin; i++) {
        /* A body is known at once; what was seen may be of its stay before. */
        const struct body *b = kin[i] > 1 ? bodies_by_npid(t->in->bodies, kin[i]) : NULL;
        if (b)
            return b->launch;
        const struct seen *s = kin[i] > 1 ? *place(t, kin[i]) : NULL;
        if (s)
            return s->launch;
    }
    return cages_have_groups(t->in->cages) ? launch_by_group(t, l->npid)
                                           : launch_by_mark(t, l->npid);
}

/* ---- what is told ---- */

pid_t kids_ghost_of(const struct init *in, pid_t npid)
{
    const struct body *b = npid > 1 ? bodies_by_npid(in->bodies, npid) : NULL;

    return b ? b->pid : 0;
}

static bool as_asked(const kids_t *t, const struct seen *s)
{
    const struct body *b = bodies_by_npid(t->in->bodies, s->npid);

    return b && kids_name_hash(s->args, s->args_len) == b->name;
}

static void compare(kids_t *t, struct seen *s, const struct look *l)
{
    struct init *in = t->in;

    if (s->ppid != l->ppid)
        s->ppid = l->ppid; /* its parent has gone; the ghosts see that by themselves */
    if (s->args_at != l->args_at || strcmp(s->comm, l->comm) != 0) {
        s->args_at = l->args_at;
        snprintf(s->comm, sizeof s->comm, "%s", l->comm);
        read_args(t, s);
        if (s->args_len && !(s->executing && as_asked(t, s)))
            journal_kid(in, KID_NAME, s);
        s->executing = s->executing && !s->args_len;
    }
    if (s->pgid != l->pgid || s->sid != l->sid) {
        s->pgid = l->pgid;
        s->sid = l->sid;
        journal_kid(in, KID_GROUP, s);
    }
    bool stopped = l->state == 'T'; /* 't': by a debugger, which is its own affair */
    if (s->stopped != stopped) {
        struct body *b = s->body ? bodies_by_npid(in->bodies, s->npid) : NULL;
        if (!s->body || (b && b->local))
            s->stopped = stopped;
        if (!s->body) {
            journal_kid(in, KID_STOP, s);
            stand_said(in, s->npid);
        }
        if (b && b->local && b->stopped != stopped) /* who waits for it has heard */
            reap_status(in, s->npid, stopped ? SIGSTOP << 8 | 0x7f : 0xffff, NULL);
    }
}

static struct seen *add(kids_t *t, const struct look *l, uint64_t launch)
{
    struct seen *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->npid = l->npid;
    s->start = l->start;
    s->launch = launch;
    s->ppid = l->ppid;
    s->pgid = l->pgid;
    s->sid = l->sid;
    s->args_at = l->args_at;
    snprintf(s->comm, sizeof s->comm, "%s", l->comm);
    s->stopped = l->state == 'T';
    *place(t, s->npid) = s;
    t->known++;
    return s;
}

static void new_kid(kids_t *t, const struct look *l, uint64_t launch)
{
    struct seen *s = add(t, l, launch);

    if (!s)
        return; /* told when there is memory again */
    s->round = t->round;
    s->brother = kin_by_npid(t->in, s->ppid);
    kin_child_added(s->brother);
    read_ids(t, s);
    read_args(t, s);
    journal_kid(t->in, KID_BORN, s);
}

/* A body is known already; what it does to its name and group is not. */
static struct seen *new_body(kids_t *t, const struct look *l, const struct body *b)
{
    struct look first = *l;

    first.pgid = b->pgid;
    first.sid = getsid(0);
    first.args_at = 0;
    struct seen *s = add(t, &first, b->launch);
    if (!s)
        return NULL;
    s->body = true;
    read_args(t, s);
    s->executing = !s->args_len; /* the kernel has not put them in their place yet */
    if (kids_name_hash(s->args, s->args_len) == b->name)
        s->args_at = l->args_at; /* still what was asked for */
    return s;
}

static void forget(kids_t *t, struct seen **p)
{
    struct seen *s = *p;

    *p = s->next;
    t->known--;
    free(s->args);
    free(s);
}

static void gone(kids_t *t, struct seen **p, int status)
{
    uint64_t launch = (*p)->launch;
    kin_parent_t *parent = (*p)->brother;

    if (!(*p)->body) {
        (*p)->status = status;
        stand_gone(t->in, (*p)->npid, kid_gen(*p));
        journal_kid(t->in, KID_GONE, *p);
    }
    forget(t, p);
    kin_child_ended(t->in, parent);
    cages_settle(t->in->cages, launch);
}

/* One process of /proc. False: it is too young, look again. */
static bool meet(kids_t *t, const struct look *l, uint64_t now)
{
    struct seen **p = place(t, l->npid);
    const struct body *b = bodies_by_npid(t->in->bodies, l->npid);

    if (l->npid == 1 || l->flags & PF_KTHREAD ||
        (kin_stands(t->in, l->npid) && !stand_known(t->in, l->npid)) ||
        arrivals_departed(t->in->arrivals, l->npid) || (b && b->starting))
        return true;
    if (*p && ((*p)->start != l->start || l->state == 'Z' || l->state == 'X')) {
        gone(t, p, l->state == 'Z' && (*p)->start == l->start ? l->status : 0);
        p = place(t, l->npid);
    }
    if (l->state == 'Z' || l->state == 'X')
        return true;
    if (!*p && b) {
        struct seen *s = new_body(t, l, b);
        if (!s)
            return true;
        p = place(t, l->npid);
    }
    if (*p) {
        (*p)->round = t->round;
        compare(t, *p, l);
        return true;
    }
    if (now < l->start + GRACE_MS * (uint64_t)sysconf(_SC_CLK_TCK) / 1000 + 1)
        return false;
    uint64_t launch = launch_of(t, l);
    if (launch)
        new_kid(t, l, launch);
    return true;
}

static int by_start(const void *a, const void *b)
{
    const struct look *x = a, *y = b;

    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return x->npid < y->npid ? -1 : x->npid > y->npid;
}

static void sweep(kids_t *t)
{
    for (int i = 0; i < BUCKETS; i++)
        for (struct seen **p = &t->bucket[i]; *p;) {
            if ((*p)->round != t->round)
                gone(t, p, 0);
            else
                p = &(*p)->next;
        }
}

/* The next pid is one of our lease, so that a ghost can have the same. */
static void keep_lease(kids_t *t)
{
    char text[16];

    if (!t->lease)
        return;
    CLEANUP(cleanup_close) int fd = open("/proc/sys/kernel/ns_last_pid", O_RDWR | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    int last = atoi(text);
    if (n <= 0 || (last >= t->lease && last < t->lease_end - (t->lease_end - t->lease) / 3))
        return;
    n = snprintf(text, sizeof text, "%d", (int)t->lease);
    if (pwrite(fd, text, (size_t)n, 0) != n)
        init_log("lease of pids: %s", strerror(errno));
}

static void look(void *arg);

static void look_in(kids_t *t, int64_t ms)
{
    if (ms < t->looked_ms * BUSY_FACTOR)
        ms = t->looked_ms * BUSY_FACTOR;
    if (!t->timer)
        t->timer = loop_timer(t->in->loop, ms, false, look, t);
}

static uint64_t ticks_now(void)
{
    struct timespec up;
    uint64_t hz = (uint64_t)sysconf(_SC_CLK_TCK);

    clock_gettime(CLOCK_BOOTTIME, &up);
    return (uint64_t)up.tv_sec * hz + (uint64_t)up.tv_nsec * hz / 1000000000;
}

static struct look *read_all(kids_t *t, size_t *n)
{
    struct look *all = NULL;
    size_t room = 0;
    struct dirent *e;

    *n = 0;
    rewinddir(t->proc);
    while ((e = readdir(t->proc))) {
        if (e->d_name[0] < '1' || e->d_name[0] > '9')
            continue;
        if (*n == room) {
            room = room ? room * 2 : 64;
            struct look *more = realloc(all, room * sizeof *more);
            if (!more) {
                free(all);
                return NULL;
            }
            all = more;
        }
        if (look_at(t, (pid_t)atoi(e->d_name), &all[*n]))
            ++*n;
    }
    return all;
}

static void look(void *arg)
{
    kids_t *t = arg;
    bool young = false;
    size_t n;
    int64_t from = now_ms();

    t->timer = 0;
    if (t->in->ending)
        return;
    if (!t->proc && !(t->proc = opendir("/proc")))
        return;
    bool armed = t->known || bodies_running(t->in->bodies); /* else nothing can happen */
    if (armed)
        watch_arm(t->watch); /* first: what happens from now on rings again */
    keep_lease(t);
    CLEANUP(cleanup_free) struct look *all = read_all(t, &n);
    if (!all)
        return;
    t->round++;
    qsort(all, n, sizeof *all, by_start); /* parents first */
    uint64_t now = ticks_now();
    for (size_t i = 0; i < n; i++)
        young |= !meet(t, &all[i], now);
    sweep(t);
    t->looked_ms = now_ms() - from;
    if (young || ((!t->watch || !armed) && t->known))
        look_in(t, GRACE_MS);
}

void kids_look_soon(kids_t *t)
{
    look_in(t, FIRST_MS);
}

/* ---- for the others ---- */

static struct seen *kid(kids_t *t, pid_t npid)
{
    struct seen *s = *place(t, npid);

    return s && !s->body ? s : NULL;
}

void kids_signal(kids_t *t, pid_t npid, uint32_t gen, int sig, const siginfo_t *si)
{
    struct seen *s = kid(t, npid);

    if (s && kid_gen(s) == gen) {
        kids_send(npid, sig, si);
        if (sig == SIGCONT || sig == SIGSTOP) /* the master takes that as done */
            s->stopped = sig == SIGSTOP;
    }
    look_in(t, 10); /* it may stop or go on by it */
}

int kids_note(kids_t *t, pid_t npid, pid_t parent, uint32_t *gen)
{
    struct look l;

    if (!look_at(t, npid, &l) || (parent && l.ppid != parent))
        return -1;
    struct seen *s = *place(t, npid);
    if (!s || s->start != l.start) {
        uint64_t now = l.start + 3600ull * (uint64_t)sysconf(_SC_CLK_TCK);
        meet(t, &l, now);
        s = *place(t, npid);
    }
    if (!s || s->start != l.start)
        return -1;
    *gen = kid_gen(s);
    return 0;
}

pid_t kids_ppid(kids_t *t, pid_t npid)
{
    struct look l;

    return look_at(t, npid, &l) ? l.ppid : 0;
}

pid_t kids_local_parent(kids_t *t, pid_t npid)
{
    pid_t parent = kids_ppid(t, npid);

    return parent > 1 && !kin_stands(t->in, parent) ? parent : 0;
}

bool kids_is_of(kids_t *t, pid_t npid, uid_t uid, gid_t gid)
{
    char text[4096];
    unsigned u[4], g[4];
    bool same = false;

    if (read_file(t, npid, "status", text, sizeof text) <= 0)
        return false;
    const char *us = strstr(text, "\nUid:"), *gs = strstr(text, "\nGid:");
    if (us && gs && sscanf(us + 5, "%u %u %u %u", &u[0], &u[1], &u[2], &u[3]) == 4 &&
        sscanf(gs + 5, "%u %u %u %u", &g[0], &g[1], &g[2], &g[3]) == 4)
        same = true;
    for (int i = 0; same && i < 4; i++)
        same = u[i] == uid && g[i] == gid;
    return same;
}

int kids_status(kids_t *t, pid_t npid)
{
    struct look l;

    return look_at(t, npid, &l) && l.state == 'Z' ? l.status : 0;
}

bool kids_is_stopped(kids_t *t, pid_t npid)
{
    struct look l;

    return look_at(t, npid, &l) && l.state == 'T';
}

bool kids_rests(kids_t *t, pid_t npid)
{
    const struct seen *s = kid(t, npid);

    if (s && s->stopped != kids_is_stopped(t, npid)) {
        look_in(t, 0);
        return false;
    }
    return !t->proc || ghost_rests(dirfd(t->proc), npid);
}

bool kids_any_child(kids_t *t, pid_t npid)
{
    char name[32], text[16];

    snprintf(name, sizeof name, "task/%d/children", (int)npid);
    return read_file(t, npid, name, text, sizeof text) > 0;
}

void kids_body(kids_t *t, pid_t npid)
{
    struct seen *s = *place(t, npid);

    if (s)
        s->body = true;
}

void kids_no_body(kids_t *t, pid_t npid)
{
    struct seen **p = place(t, npid);

    if (*p && (*p)->body)
        forget(t, p);
}

int kids_to_body(kids_t *t, struct body *b, pid_t parent)
{
    struct seen *s = *place(t, b->npid);
    struct look l;

    if (!s || s->body || !look_at(t, b->npid, &l) || l.start != s->start || l.ppid != parent)
        return -1;
    b->argv0 = s->args_len ? strdup(s->args) : strdup(s->comm);
    if (!b->argv0)
        return -1;
    b->uid = (uid_t)s->uid;
    b->gid = (gid_t)s->gid;
    b->pgid = s->pgid;
    b->name = kids_name_hash(s->args, s->args_len);
    b->stopped = s->stopped;
    s->body = true;
    return 0;
}

void kids_reaped(kids_t *t, pid_t npid, int status)
{
    struct seen **p = place(t, npid);

    if (*p && !(*p)->body)
        gone(t, p, status);
}

void kids_forget_parent(kids_t *t, const struct kin_parent *p)
{
    for (int i = 0; i < BUCKETS; i++)
        for (struct seen *s = t->bucket[i]; s; s = s->next)
            if (s->brother == p)
                s->brother = NULL;
}

void kids_stopped(kids_t *t, pid_t npid, bool stopped)
{
    struct seen *s = kid(t, npid);

    if (s)
        s->stopped = stopped;
}

/* A kid of it, or one that has become a body since, as its parent has moved. */
static bool came_of(const kids_t *t, const struct seen *s, uint64_t launch)
{
    const struct body *b = s->launch == launch && s->body
                               ? bodies_by_npid(t->in->bodies, s->npid) : NULL;

    return s->launch == launch && (!s->body || (b && b->launch != launch && b->gen == 1));
}

void kids_signal_launch(kids_t *t, uint64_t launch, int sig)
{
    for (int i = 0; i < BUCKETS; i++)
        for (const struct seen *s = t->bucket[i]; s; s = s->next)
            if (came_of(t, s, launch))
                kill(s->npid, sig);
    look_in(t, 10);
}

bool kids_any(const kids_t *t, uint64_t launch)
{
    for (int i = 0; i < BUCKETS; i++)
        for (const struct seen *s = t->bucket[i]; s; s = s->next)
            if (came_of(t, s, launch))
                return true;
    return false;
}

static int older_first(const void *a, const void *b)
{
    const struct seen *x = *(const struct seen *const *)a, *y = *(const struct seen *const *)b;

    return x->start < y->start ? -1 : x->start > y->start;
}

void kids_pack(const kids_t *t, mp_buf *m)
{
    uint32_t n = 0;
    CLEANUP(cleanup_free) const struct seen **all = calloc(t->known + 1, sizeof *all);

    for (int i = 0; all && i < BUCKETS; i++)
        for (const struct seen *s = t->bucket[i]; s; s = s->next)
            if (!s->body)
                all[n++] = s;
    if (n) /* parents before their children */
        qsort(all, n, sizeof *all, older_first);
    mp_array(m, n);
    for (uint32_t i = 0; i < n; i++)
        journal_pack_kid(t->in, m, KID_BORN, all[i]);
}

kids_t *kids_create(struct init *in, pid_t lease, pid_t count, struct err *err)
{
    struct err why = { 0 };
    kids_t *t = calloc(1, sizeof *t);

    if (!t) {
        err_set(err, ENOMEM, "children: out of memory");
        return NULL;
    }
    t->in = in;
    t->lease = lease;
    t->lease_end = lease + count;
    in->kids = t;
    t->watch = watch_create(in, &why);
    if (!t->watch)
        init_log("children of bodies are looked for all the time: %s", why.text);
    return t;
}

void kids_destroy(kids_t **tp)
{
    kids_t *t = *tp;

    if (!t)
        return;
    loop_timer_del(t->in->loop, t->timer);
    watch_destroy(&t->watch);
    if (t->proc)
        closedir(t->proc);
    for (int i = 0; i < BUCKETS; i++)
        while (t->bucket[i])
            forget(t, &t->bucket[i]);
    free(t);
    *tp = NULL;
}
