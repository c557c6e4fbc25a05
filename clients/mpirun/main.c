/* main.c - mpirun: run an MPI program on nodes
 *
 * Opens the parts in order, runs the loop until the ranks have ended and the
 * helpers after them, and leaves with the status that follows.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "clients/mpirun/mpirun.h"

/* The first program that speaks of MPI decides: all of a job are of one kind. */
static int find_kind(struct job *j, struct err *err)
{
    j->kind = KIND_NONE;
    for (size_t i = 0; i < j->opt.apps; i++) {
        struct app *a = &j->opt.app[i];
        a->path = find_program(a, err);
        enum mpi_kind kind = a->path ? kind_of(a->path, err) : KIND_AUTO;
        if (kind == KIND_AUTO)
            return -1;
        if (kind != KIND_NONE && j->kind != KIND_NONE && kind != j->kind)
            return err_set(err, EINVAL, "%s: made for another MPI than the program before it",
                           a->argv[0]);
        if (kind != KIND_NONE)
            j->kind = kind;
    }
    if (j->opt.kind != KIND_AUTO)
        j->kind = j->opt.kind;
    return 0;
}

static int open_all(struct job *j, struct err *err)
{
    gate_t *gate;

    if (find_kind(j, err) < 0 || !(j->loop = loop_create(err)) ||
        !(gate = gate_open("mpirun", err)))
        return -1;
    int rc = map_nodes(j, gate, err);
    j->calls = calls_create(j->loop, gate, rc < 0 ? NULL : err);
    if (!j->calls) {
        gate_close(&gate);
        return -1;
    }
    if (rc < 0 || signals_open(j, err) < 0 || start_all(j, err) < 0 || fold_open(j, err) < 0 ||
        signals_watch(j, err) < 0)
        return -1;
    time_limit(j);
    return 0;
}

static bool helper_runs(const struct job *j) { return j->helper && j->helper->pid > 0; }

static void run(struct job *j)
{
    while (!j->left) {
        if (ranks_done(j)) {
            end_helpers(j);
            if (!helper_runs(j) && !j->asking)
                return;
        }
        loop_once(j->loop, -1);
    }
}

/* What was started must not outlive a start that failed. */
static void abandon(struct job *j)
{
    for (struct child *c = j->child; c; c = c->next)
        if (c->pid > 0)
            kill(c->pid, SIGTERM);
    if (j->to >= 0)
        close(j->to);
    j->to = -1;
}

static void close_all(struct job *j)
{
    calls_destroy(&j->calls);
    fold_free(j);
    while (j->child) {
        struct child *c = j->child;
        j->child = c->next;
        if (c->report >= 0)
            close(c->report);
        free(c->buf);
        free(c);
    }
    if (j->loop)
        loop_destroy(&j->loop);
    nodelist_free(&j->map);
    nodelist_free(&j->nodes);
    free(j->rank);
    free(j->map_text);
    free(j->apps_text);
    options_free(&j->opt);
}

int main(int argc, char **argv)
{
    struct job j = { .to = -1, .from = -1, .sigfd = -1 };
    struct err err = { 0 };
    int status;

    if (options_parse(&j.opt, argc, argv, &status)) {
        options_free(&j.opt);
        return status;
    }
    nodelist_init(&j.map);
    nodelist_init(&j.nodes);
    if (open_all(&j, &err) < 0) {
        fprintf(stderr, "mpirun: %s\n", err.text);
        abandon(&j);
        status = err.code == ENOENT && j.opt.apps && !j.opt.app[j.opt.apps - 1].path
                     ? 127
                     : EXIT_FAILURE;
        close_all(&j);
        return status;
    }
    run(&j);
    status = j.status;
    int sig = j.interrupted;
    close_all(&j);
    if (sig)
        signals_die(sig);
    return sig ? 128 + sig : status;
}
