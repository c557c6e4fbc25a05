/* ghost.c - a process that has gone to another machine: who stands for it
 *
 * Its old self executes bpghost, in place: it keeps its number, its parent, its
 * children, and the signals that wait for it, which the ghost passes on. On the master a
 * forwarder (bpfwd) that has its standard output and error copies there what it says.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "bus/forwarder.h"
#include "bus/rundir.h"
#include "mover/mover.h"

static void start_forwarder(const struct request *r, const struct held_list *l)
{
    CLEANUP(cleanup_free) char *status = proc_text(r->c->pid, "status", NULL);
    int out[2] = { held_stream(l, 1) ? held_copy(r->c->pid, 1) : -1,
                   held_stream(l, 2) ? held_copy(r->c->pid, 2) : -1 };

    if ((out[0] >= 0 || out[1] >= 0) && status)
        forwarder_start(r->launch, r->c->to, (uid_t)status_number(status, "Uid", 10, 65534),
                        (gid_t)status_number(status, "Gid", 10, 65534), out);
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
    /* Of a launch of one, and there is nobody to whom it says its number; on a node it
     * says that it is here. */
    snprintf(param, sizeof param, "CM_GHOST=%d:0:%s", r->c->node ? 0 : 1,
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
