/* past.c - why processes have ended: the last few thousand, and who killed them
 *
 * The wait status says how, not why. Who sent a signal is noted when it passes
 * through here; SIGKILL and SIGSTOP of a ghost pass nobody, the kernel's
 * tracepoint tells of them (trace.c). A restart forgets all of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "services/procspace/kids.h"

#define KEEP 4096

static const char *const kinds[] = {
    [CAUSE_SIGNAL] = "signal", [CAUSE_GHOST] = "ghost", [CAUSE_LAUNCH] = "launch",
    [CAUSE_NODE] = "node",     [CAUSE_START] = "start", [CAUSE_MEMORY] = "memory",
};

struct past_proc {
    pid_t pid, npid;
    int node, status;
    uint64_t launch;
    int64_t rank, uid, started, ended, utime_us, stime_us, maxrss_kb;
    char name[NAME_BYTES];
    struct cause *cause;
};

struct past {
    int64_t since;
    uint64_t count; /* all that were ever noted */
    struct past_proc proc[KEEP];
};

void cause_free(struct cause **c)
{
    if (*c)
        free((*c)->text);
    free(*c);
    *c = NULL;
}

/* Who that is, as long as it is there. */
static void name_sender(struct cause *c)
{
    char path[32];

    if (c->from_pid <= 0)
        return;
    snprintf(path, sizeof path, "/proc/%d/comm", (int)c->from_pid);
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, c->from, sizeof c->from - 1);
    c->from[n > 0 ? n - (c->from[n - 1] == '\n') : 0] = 0;
    struct stat st;
    if (c->from_uid < 0 && fd >= 0 && fstat(fd, &st) == 0)
        c->from_uid = st.st_uid;
}

void cause_set(struct proc *p, enum cause_kind kind, int sig, int64_t uid, pid_t pid,
               const char *text)
{
    struct cause *c = p->cause;

    if (p->state == PROC_ENDED || (c && c->sig == SIGKILL && kind != CAUSE_START))
        return; /* what killed it came first */
    if (!c && !(c = p->cause = calloc(1, sizeof *c)))
        return;
    free(c->text);
    *c = (struct cause){ .kind = kind, .sig = sig, .from_uid = uid, .from_pid = pid,
                         .text = text ? strdup(text) : NULL };
    name_sender(c);
}

void past_stuck(procspace_t *ps, int node, uint64_t launch, pid_t npid, const char *text)
{
    for (size_t b = 0; b < PROC_BUCKETS; b++)
        for (struct proc *p = ps->proc[b]; p; p = p->next) {
            if (p->node != node || p->launch->id != launch || proc_npid(p) != npid)
                continue;
            if (!p->cause)
                cause_set(p, CAUSE_SIGNAL, 0, -1, 0, NULL);
            if (p->cause) {
                free(p->cause->text);
                p->cause->text = strdup(text);
            }
        }
}

/* Arguments as one line; nothing of it is trusted to be printable. */
static void set_name(char *to, const struct proc *p)
{
    const struct name *n = p->kid ? &p->kid->name : p->name;

    if (!n || !n->args_len) {
        snprintf(to, NAME_BYTES, "%s",
                 n ? n->comm : p->launch->args ? p->launch->args : p->launch->argv0);
        return;
    }
    size_t len = n->args_len < NAME_BYTES ? n->args_len : NAME_BYTES;
    memcpy(to, n->args, len);
    to[len - 1] = 0;
    for (size_t i = 0; i + 1 < len; i++)
        if (!to[i])
            to[i] = ' ';
    for (size_t i = len - 1; i > 0 && to[i - 1] == ' ';)
        to[--i] = 0;
}

void past_add(procspace_t *ps, struct proc *p)
{
    struct past_proc *e = &ps->past->proc[ps->past->count++ % KEEP];

    cause_free(&e->cause);
    *e = (struct past_proc){
        .pid = p->pid, .npid = proc_npid(p), .node = p->node, .status = p->status,
        .launch = p->launch->id, .rank = p->kid ? -1 : (int64_t)p->rank, .uid = p->uid,
        .started = p->started, .ended = p->ended, .utime_us = p->utime_us,
        .stime_us = p->stime_us, .maxrss_kb = p->maxrss_kb, .cause = p->cause,
    };
    p->cause = NULL;
    set_name(e->name, p);
}

static void pack_cause(mp_buf *m, const struct cause *c)
{
    mp_kstr(m, "cause", c ? kinds[c->kind] : "");
    mp_kint(m, "sig", c ? c->sig : 0);
    mp_kint(m, "from_uid", c ? c->from_uid : -1);
    mp_kint(m, "from_pid", c ? c->from_pid : 0);
    mp_kstr(m, "from", c ? c->from : "");
    mp_kstr(m, "text", c && c->text ? c->text : "");
}

static void pack_past(mp_buf *m, const struct past_proc *e)
{
    mp_map(m, 19);
    mp_kint(m, "pid", e->pid);
    mp_kint(m, "npid", e->npid);
    mp_kint(m, "node", e->node);
    mp_kuint(m, "launch", e->launch);
    mp_kint(m, "rank", e->rank);
    mp_kint(m, "uid", e->uid);
    mp_kstr(m, "name", e->name);
    mp_kint(m, "started", e->started);
    mp_kint(m, "ended", e->ended);
    mp_kint(m, "status", e->status);
    mp_kint(m, "utime_us", e->utime_us);
    mp_kint(m, "stime_us", e->stime_us);
    mp_kint(m, "maxrss_kb", e->maxrss_kb);
    pack_cause(m, e->cause);
}

/* One that runs: no end, no status. text: that it will not die. */
static void pack_running(mp_buf *m, const struct proc *p)
{
    char name[NAME_BYTES];

    set_name(name, p);
    mp_map(m, 9);
    mp_kint(m, "pid", p->pid);
    mp_kint(m, "npid", proc_npid(p));
    mp_kint(m, "node", p->node);
    mp_kuint(m, "launch", p->launch->id);
    mp_kint(m, "rank", p->kid ? -1 : (int64_t)p->rank);
    mp_kint(m, "uid", p->uid);
    mp_kstr(m, "name", name);
    mp_kint(m, "started", p->started);
    mp_kstr(m, "text", p->cause && p->cause->text ? p->cause->text : "");
}

/* procspace.why: {pid} -> {since, kept, procs: [...]}: those of this number, here or
 * on their nodes, that the asker may know of; the newest first */
int on_why(void *self, struct svc_req *req, struct err *err)
{
    procspace_t *ps = self;
    const struct past *past = ps->past;
    CLEANUP(mp_free) mp_buf rows;
    uint32_t n = 0, others = 0;
    int64_t pid;

    mp_init(&rows);
    if (mp_get_int(req->body, "pid", 1, INT32_MAX, &pid, err) < 0)
        return -1;
    for (size_t b = 0; b < PROC_BUCKETS; b++)
        for (const struct proc *p = ps->proc[b]; p; p = p->next) {
            if (p->state == PROC_ENDED || (p->pid != pid && proc_npid(p) != pid))
                continue;
            bool his = req->w->uid == 0 || req->w->uid == p->uid;
            if (his)
                pack_running(&rows, p);
            n += his;
            others += !his;
        }
    uint64_t known = past->count < KEEP ? past->count : KEEP;
    for (uint64_t i = 0; i < known; i++) {
        const struct past_proc *e = &past->proc[(past->count - 1 - i) % KEEP];
        if (e->pid != pid && e->npid != pid)
            continue;
        bool his = req->w->uid == 0 || req->w->uid == e->uid;
        if (his)
            pack_past(&rows, e);
        n += his;
        others += !his;
    }
    if (!n && others)
        return err_set(err, EPERM, "process %lld was another user's", (long long)pid);
    mp_map(req->reply, 3);
    mp_kint(req->reply, "since", past->since);
    mp_kint(req->reply, "kept", KEEP);
    mp_key(req->reply, "procs");
    mp_array(req->reply, n);
    if (n)
        msgpack_sbuffer_write(&req->reply->b, rows.b.data, rows.b.size);
    return 0;
}

int past_open(procspace_t *ps, struct err *err)
{
    ps->past = calloc(1, sizeof *ps->past); /* pages come as they are written */
    if (!ps->past)
        return err_set(err, ENOMEM, "out of memory");
    ps->past->since = wall_ms();
    return 0;
}

void past_close(procspace_t *ps)
{
    for (size_t i = 0; ps->past && i < KEEP; i++)
        cause_free(&ps->past->proc[i].cause);
    free(ps->past);
    ps->past = NULL;
}
