/* move_pass.c - signals that a process got where it was while it moved on
 *
 * Its old self says them until it is answered, which is when all of them are where
 * the process is now. Each has a number: on a node it is acted on once; here a file says
 * which were given to the process, for a procspace that is asked again after a restart.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "services/procspace/move_parts.h"

#define NOTES_MAX 65536 /* bytes */
#define FRESH_S 120

static char *note_path(char *path, pid_t pid)
{
    char name[32];

    snprintf(name, sizeof name, "passed.%d", (int)pid);
    return cm_path(path, name);
}

void passes_forget(void)
{
    char path[PATH_MAX];
    struct stat st;
    DIR *d = opendir(cm_rundir());
    struct dirent *e;
    int pid;

    while (d && (e = readdir(d)))
        if (sscanf(e->d_name, "passed.%d", &pid) == 1 && stat(note_path(path, pid), &st) == 0 &&
            st.st_mtime + FRESH_S < time(NULL))
            unlink(path);
    if (d)
        closedir(d);
}

/* --- to a process of this machine --- */

static bool noted(int notes, uint64_t once)
{
    uint64_t number[512];
    off_t at = 0;
    ssize_t n;

    for (; (n = pread(notes, number, sizeof number, at)) > 0; at += n)
        for (ssize_t i = 0; i < n / (ssize_t)sizeof *number; i++)
            if (number[i] == once)
                return true;
    return false;
}

static void give(int it, const struct passed *r)
{
    siginfo_t si;

    memset(&si, 0, sizeof si);
    si.si_signo = r->sig;
    si.si_code = SI_QUEUE;
    si.si_pid = r->from_pid;
    si.si_uid = (uid_t)r->from_uid;
    si.si_value.sival_ptr = (void *)(intptr_t)r->value;
    syscall(SYS_pidfd_send_signal, it, r->sig, r->has_value ? &si : NULL, 0);
}

static void give_all(int it, const struct passed *r, size_t n, int notes)
{
    flock(notes, LOCK_EX);
    for (size_t i = 0; i < n; i++) {
        if (r[i].once && noted(notes, r[i].once))
            continue;
        give(it, &r[i]);
        if (r[i].once && write(notes, &r[i].once, sizeof r[i].once) < 0)
            continue; /* no room: it may act twice */
    }
    flock(notes, LOCK_UN);
}

/* Signal and note are two steps, and nobody can tell afterwards whether the first was
 * done: so no kill of ours may fall between them. A child does both, whose end we wait
 * for, so that they are given in the order in which they come. */
static bool give_apart(int it, const struct passed *r, size_t n, int notes)
{
    pid_t pid = vfork();

    if (pid == 0) {
        give_all(it, r, n, notes);
        _exit(0);
    }
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    return pid > 0;
}

void pass_to(int it, pid_t pid, const struct passed *r, size_t n)
{
    char path[PATH_MAX];
    struct stat st;
    CLEANUP(cleanup_close) int notes =
        it < 0 || !n || !r->once
            ? -1
            : open(note_path(path, pid), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (notes >= 0 && fstat(notes, &st) == 0 && st.st_size > NOTES_MAX && ftruncate(notes, 0) < 0)
        svc_log("warning", "%s: %s", path, strerror(errno));
    if (it >= 0 && (notes < 0 || !give_apart(it, r, n, notes)))
        give_all(it, r, n, notes);
}

void pass_here(pid_t pid, int64_t uid, const struct passed *r, size_t n)
{
    CLEANUP(cleanup_close) int it = process_take(pid, uid, NULL);

    pass_to(it, pid, r, n);
}

/* --- what old selves bring --- */

/* Of process pid, p if it is known, without what it has had: here, wherever it is now,
 * or on a node before it went on from there. */
static size_t take_rows(procspace_t *ps, const struct proc *p, pid_t pid,
                        const msgpack_object_array *list, uint64_t launch, int64_t uid,
                        struct passed *r)
{
    char path[PATH_MAX];
    size_t n = 0;
    CLEANUP(cleanup_close) int notes = open(note_path(path, pid), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    for (uint32_t i = 0; i < list->size; i++) {
        const msgpack_object *o = &list->ptr[i];
        int64_t sig;
        r[n] = (struct passed){ .once = signal_once(launch, i + 1), .from_uid = uid };
        if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 2 ||
            !mp_as_int(&o->via.array.ptr[0], &sig) || sig < 1 || sig > SIGRTMAX ||
            (notes >= 0 && noted(notes, r[n].once)) ||
            (p ? signal_had(ps, p, r[n].once) : recovered_signal(ps, pid, r[n].once)))
            continue;
        r[n].sig = (int)sig;
        r[n].has_value = mp_as_int(&o->via.array.ptr[1], &r[n].value);
        n++;
    }
    return n;
}

/* procspace.pass: {launch, signals: [[sig, value or nil]...]} -> nil: what a
 * process got while it was moving on from its node */
int on_pass(void *self, struct svc_req *req, struct err *err)
{
    procspace_t *ps = self;
    const msgpack_object_array *list;
    struct who a;
    uint64_t launch;

    if (mp_get_uint(req->body, "launch", &launch, err) < 0 ||
        mp_get_array(req->body, "signals", &list, err) < 0 || who_of(req, &a, err) < 0)
        return -1;
    identity_free(&a.who);
    struct move *m = move_find(ps, launch); /* or an earlier procspace made it */
    struct launch *l = launch_find(ps, launch);
    struct proc *p = l && l->ranks ? l->rank[0] : NULL;
    uint64_t of;
    if (req->w->node < 0 || (m ? m->uid : p ? p->uid : (int64_t)a.who.uid) != (int64_t)a.who.uid)
        return err_set(err, ESRCH, "launch %llu is no move", (unsigned long long)launch);
    p = proc_now(p); /* it has gone on meanwhile */
    /* Its agent knows it no more, but it still has its number. */
    pid_t pid = p ? p->pid : m && m->ghost ? m->ghost : a.pid ? a.pid : a.npid;
    if (!p && !m) { /* is it here? Or has it gone to a node again? */
        CLEANUP(cleanup_close) int fd = ghost_take(pid, -1, &of, NULL);
        struct proc *q = fd < 0 ? NULL : proc_find(ps, pid);
        if ((fd >= 0 && (!q || q->state != PROC_RUNNING || q->uid != (int64_t)a.who.uid)) ||
            !recovered_all(ps))
            return err_set(err, EAGAIN, "process %d is not known yet; try again", (int)pid);
        p = q;
    }
    CLEANUP(cleanup_free) struct passed *row = calloc(list->size + 1, sizeof *row);
    struct signals *all = row ? signals_begin(ps, req->token) : NULL;
    if (!all)
        return err_set(err, ENOMEM, "out of memory");
    size_t n = take_rows(ps, p, pid, list, launch, (int64_t)a.who.uid, row);
    if (!p || p->left) {
        pass_here(pid, a.who.uid, row, n);
        signals_end(all);
        return SVC_LATER;
    }
    for (size_t i = 0; i < n && p->state == PROC_RUNNING; i++)
        body_signal_value(ps, p, row[i].sig, row[i].has_value, row[i].value, p->uid, 0, row[i].once,
                          all);
    signals_end(all);
    return SVC_LATER;
}
