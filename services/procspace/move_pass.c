/* move_pass.c - signals that a process got where it was while it moved on
 *
 * Its old self says them until it is answered. On a node each has a number there, and is acted
 * on once; here a file says which were given to the process, for a procspace that
 * is asked again after a restart.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "services/procspace/move_parts.h"

static char *note_path(char *path, pid_t pid)
{
    char name[32];

    snprintf(name, sizeof name, "passed.%d", (int)pid);
    return cm_path(path, name);
}

static bool passed_before(pid_t pid, uint64_t launch)
{
    char path[PATH_MAX];
    uint64_t of = 0;
    CLEANUP(cleanup_close) int fd = open(note_path(path, pid), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    return fd >= 0 && read(fd, &of, sizeof of) == sizeof of && of == launch;
}

static void note_passed(pid_t pid, uint64_t launch)
{
    char path[PATH_MAX];
    CLEANUP(cleanup_close) int fd =
        open(note_path(path, pid), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0 || write(fd, &launch, sizeof launch) != sizeof launch)
        svc_log("warning", "%s: %s", path, strerror(errno));
}

void pass_forget(const struct move *m)
{
    char path[PATH_MAX];

    if (m->home && passed_before(m->ghost, m->launch))
        unlink(note_path(path, m->ghost));
}

void pass_here(pid_t pid, int sig, bool has_value, int64_t value, int64_t uid)
{
    siginfo_t si;
    CLEANUP(cleanup_close) int it = process_take(pid, uid, NULL);

    if (it < 0)
        return;
    memset(&si, 0, sizeof si);
    si.si_signo = sig;
    si.si_code = SI_QUEUE;
    si.si_uid = (uid_t)uid;
    si.si_value.sival_ptr = (void *)(intptr_t)value;
    if (has_value)
        syscall(SYS_rt_sigqueueinfo, pid, sig, &si);
    else
        kill(pid, sig);
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
    while (p && p->moved_to) /* it has gone on meanwhile */
        p = p->moved_to;
    bool here = p ? p->left || (m && m->home) : true;
    /* Its agent knows it no more, but it still has its number. */
    pid_t pid = p ? p->pid : m && m->ghost ? m->ghost : a.pid ? a.pid : a.npid;
    if (here && !m) { /* is it? */
        CLEANUP(cleanup_close) int fd = ghost_take(pid, -1, &of, NULL);
        if (fd >= 0)
            return err_set(err, EAGAIN, "process %d is not known yet; try again", (int)pid);
    }
    bool again = (m && m->passed) || (here && passed_before(pid, launch));
    for (uint32_t i = 0; i < list->size && !again; i++) {
        const msgpack_object *r = &list->ptr[i];
        int64_t sig, value = 0;
        if (r->type != MSGPACK_OBJECT_ARRAY || r->via.array.size < 2 ||
            !mp_as_int(&r->via.array.ptr[0], &sig) || sig < 1 || sig > SIGRTMAX)
            return err_set(err, EPROTO, "signals: want [sig, value] rows");
        bool has = mp_as_int(&r->via.array.ptr[1], &value);
        if (here)
            pass_here(pid, (int)sig, has, value, (int64_t)a.who.uid);
        else if (p->state == PROC_RUNNING)
            body_signal_value(ps, p, (int)sig, has, value, p->uid, 0,
                              signal_once(launch, i + 1));
    }
    if (here && !again)
        note_passed(pid, launch);
    if (m)
        m->passed = true;
    mp_nil(req->reply);
    return 0;
}

