/* ghost.c - a process that has gone to another machine: who stands for it
 *
 * Its old self executes bpghost, in place: it keeps its number, its parent, its
 * children, and the signals that wait for it, which the ghost passes on. On the master a
 * forwarder (bpfwd) that has its standard output and error copies there what it says.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "mover/mover.h"

/* In the child: as its user, and nobody's child. */
static void __attribute__((noreturn)) become_forwarder(const char *prog, char *const *argv,
                                                       uid_t uid, gid_t gid, int list,
                                                       const int out[2])
{
    static char *env[] = { NULL };
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    if (dup2(list, 3) < 0 || dup2(out[0], 1) < 0 || dup2(out[1], 2) < 0 ||
        syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, gid, gid, gid) < 0 ||
        syscall(SYS_setresuid, uid, uid, uid) < 0)
        _exit(127);
    fcntl(3, F_SETFD, 0);
    close_range(4, ~0u, 0);
    execve(prog, argv, env);
    _exit(127);
}

static void start_forwarder(const struct request *r, const struct held_list *l)
{
    char prog[PATH_MAX], path[PATH_MAX], id[32];
    char *argv[] = { (char[]){ "bpfwd" }, id, path, NULL };
    int32_t row[2] = { r->c->to, 0 };
    CLEANUP(cleanup_close) int list = memfd_create("bpfwd", MFD_CLOEXEC);
    CLEANUP(cleanup_close) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    CLEANUP(cleanup_free) char *status = proc_text(r->c->pid, "status", NULL);
    int out[2] = { held_stream(l, 1) ? held_copy(r->c->pid, 1) : -1,
                   held_stream(l, 2) ? held_copy(r->c->pid, 2) : -1 };

    snprintf(prog, sizeof prog, "%.4000s/bpfwd", cm_libexec());
    snprintf(id, sizeof id, "%llu", (unsigned long long)r->launch);
    cm_path(path, "iofwd");
    if ((out[0] >= 0 || out[1] >= 0) && list >= 0 && null >= 0 && status &&
        write(list, row, sizeof row) == sizeof row) {
        uid_t uid = (uid_t)status_number(status, "Uid", 10, 65534);
        gid_t gid = (gid_t)status_number(status, "Gid", 10, 65534);
        int to[2] = { out[0] >= 0 ? out[0] : null, out[1] >= 0 ? out[1] : null };
        pid_t between = fork();
        if (between == 0) {
            if (fork() == 0)
                become_forwarder(prog, argv, uid, gid, list, to);
            _exit(0);
        }
        while (between > 0 && waitpid(between, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    cleanup_close(&out[0]);
    cleanup_close(&out[1]);
}

void become_ghost(struct frozen *f, const struct request *r, const struct held_list *l)
{
    static const char null[] = "/dev/null";
    static char real[] = "CM_REAL=1";
    char prog[PATH_MAX], gate[PATH_MAX], param[PATH_MAX + 64], launch[64];
    char *env[] = { param, launch, r->kept ? real : NULL, NULL };
    struct err err = { 0 };

    if (!r->c->node)
        start_forwarder(r, l);
    snprintf(prog, sizeof prog, "%.4000s/bpghost", r->c->node ? NODE_RUN : cm_libexec());
    /* Of a launch of one, and there is nobody to whom it says its number. */
    snprintf(param, sizeof param, "CM_GHOST=1:0:%s",
             r->c->node ? KIN_GATE : cm_path(gate, "gate"));
    snprintf(launch, sizeof launch, "CM_LAUNCH=%llu", (unsigned long long)r->launch);
    uint64_t shut[6] = { 0 }, open_arg[6] = { f->room, O_WRONLY };
    int64_t out;
    if (calls_begin(f, &err) == 0 && room_put(f, 0, null, sizeof null, &err) == 0 &&
        call_in(f, SYS_close, shut, &out, &err) == 0 &&
        call_in(f, SYS_open, open_arg, &out, &err) == 0 &&
        frozen_exec(f, prog, r->argv, env, &err) == 0)
        return;
    fprintf(stderr, "bpmover: process %d: its stand-in: %s\n", (int)f->pid, err.text);
    frozen_end(f);
}
