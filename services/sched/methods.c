/* methods.c - the requests that sched answers (doc/wire.md), and its life */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "services/sched/db.h"
#include "services/sched/life.h"

const struct svc_method sched_methods[] = {
    { "sched.submit", on_submit, SVC_USER | SVC_CHANGES },
    { "sched.list", on_list, SVC_USER },
    { "sched.job", on_job, SVC_USER },
    { "sched.why", on_why, SVC_USER },
    { "sched.control", on_control, SVC_USER | SVC_CHANGES },
    { "sched.wait", on_wait, SVC_USER | SVC_CHANGES },
    { "sched.ended", on_ended, SVC_USER | SVC_CHANGES },
    { "sched.pool", on_pool, SVC_ADMIN | SVC_CHANGES },
    { "sched.reload", on_reload, SVC_ADMIN | SVC_CHANGES },
    SVC_METHODS_END
};

/* ---- jobs of before ---- */

static void place_again(struct job *j, const char *nodes, const char *spaces)
{
    CLEANUP(nodelist_free) nodelist_t list;
    CLEANUP(cleanup_free) struct pnode **place = calloc(j->pub.nodes + 1, sizeof(struct pnode *));

    nodelist_init(&list);
    if (!place || !nodes || nodespec_numbers(nodes, &list, NULL) < 0 || list.n != j->pub.nodes)
        return;
    for (uint32_t i = 0; i < j->pub.nodes; i++) {
        struct pnode *n = pool_node(j->pool, list.node[i]);
        if (!n) { /* it has left the pool meanwhile */
            if (pool_add_node(j->pool, list.node[i], NULL) < 0)
                return;
            n = pool_node(j->pool, list.node[i]);
            n->leaving = true;
        }
        n->given = true;
        place[i] = n;
    }
    if (job_take(j, place) < 0 || !(j->run->space = calloc(j->pub.nodes, sizeof *j->run->space)))
        return;
    for (uint32_t i = 0; spaces && i < j->pub.nodes; i++) {
        size_t len = strcspn(spaces, ",");
        snprintf(j->run->space[i], sizeof j->run->space[i], "%.*s", (int)len, spaces);
        snprintf(j->place[i]->space, sizeof j->place[i]->space, "%.*s", (int)len, spaces);
        spaces += len + (spaces[len] == ',');
    }
}

static int on_loaded(void *arg, struct job *j, const char *pool, const char *nodes,
                     const char *spaces, int64_t pid, int64_t began)
{
    sched_t *s = arg;
    bool had = j->state >= JOB_STARTING;

    if (j->state == JOB_ENDING) /* its end is told once more: by its runner, or its bjssub */
        j->state = JOB_RUNNING;
    j->flags &= ~(uint32_t)JOB_GIVEN_UP; /* by the gate of that life nobody comes any more */
    j->pool = pool_find(s->conf.pools, pool);
    if (!j->pool) {
        j->pool = s->conf.pools;
        job_reason(j, "pool %s is not there any more", pool);
        j->flags |= JOB_ON_HOLD;
        j->state = JOB_HELD;
        had = false;
    }
    if (run_begin(s, j) < 0)
        return -1;
    j->run->pid = (pid_t)pid;
    j->run->began = (unsigned long long)began;
    if (had)
        place_again(j, nodes, spaces);
    if (j->flags & JOB_INTERACTIVE)
        run_watch_bjssub(s, j, (pid_t)pid, (unsigned long long)began);
    return 0;
}

static void resume(sched_t *s, struct job *j)
{
    if (j->state >= JOB_STARTING && j->state < JOB_DONE && job_placed(j)) {
        run_recover(s, j);
        return;
    }
    if ((j->flags & JOB_INTERACTIVE) && j->run->pidfd < 0) {
        job_reason(j, "its bjssub is gone");
        j->status = SIGHUP;
        job_done(s, j);
        return;
    }
    if (!(j->flags & JOB_INTERACTIVE))
        run_free(s, j);
    job_wait(s, j);
    if (j->flags & JOB_REMOVED) {
        j->status = SIGTERM;
        job_done(s, j);
    }
}

static int compare_ids(const void *a, const void *b)
{
    const struct job *x = *(struct job *const *)a, *y = *(struct job *const *)b;

    return (x->pub.id > y->pub.id) - (x->pub.id < y->pub.id);
}

static int resume_all(sched_t *s, struct err *err)
{
    CLEANUP(cleanup_free) struct job **v = calloc(s->jobs + 1, sizeof(struct job *));
    size_t n = 0;

    if (!v)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < JOB_BUCKETS; i++)
        for (struct job *j = s->job[i]; j; j = j->next)
            v[n++] = j;
    qsort(v, n, sizeof(struct job *), compare_ids); /* the queue is entered at its end then */
    for (size_t i = 0; i < n; i++)
        resume(s, v[i]);
    return 0;
}

int sched_configure(sched_t *s)
{
    struct err err = { 0 };

    if (conf_take(s, &err) < 0)
        goto bad;
    guard_pools(s, s->conf.pools, false);
    for (struct pool *p = s->conf.pools; p; p = p->next)
        p->drained = db_drained(s->db, p->name);
    if (db_load(s->db, s, on_loaded, s, &err) < 0 || db_load_afters(s->db, s, &err) < 0 ||
        resume_all(s, &err) < 0)
        goto bad;
    s->configured = true;
    runner_files_tidy(s);
    if (runners_open(s, &err) < 0) {
        s->configured = false;
        goto bad;
    }
    acct_turn(s);
    turn_soon(s);
    svc_ready(s->ready_fd);
    s->ready_fd = -1;
    return 0;
bad:
    svc_log("error", "%s", err.text);
    loop_stop(s->loop, -1);
    return -1;
}

/* ---- life ---- */

static void on_hangup(void *arg, int signo)
{
    sched_t *s = arg;
    struct err err = { 0 };

    (void)signo;
    if (s->configured)
        sched_reload(s, &err);
}

sched_t *sched_create(loop_t *l, const char *config, int ready_fd, int starter, struct err *err)
{
    sched_t *s = calloc(1, sizeof *s);
    char path[PATH_MAX];

    if (!s) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    s->loop = l;
    s->config_path = config;
    s->ready_fd = ready_fd;
    s->starter = starter;
    s->listener = -1;
    s->dirty_end = &s->dirty;
    s->subs_end = &s->subs;
    snprintf(path, sizeof path, "%.4000s/sched.db", cm_statedir());
    if (!(s->db = db_open(path, err)) || !(s->next_id = db_next_id(s->db, err)) ||
        guard_open(s, err) < 0 ||
        !(s->svc = svc_create(l, "sched", sched_methods, s, err)) || nodes_open(s, err) < 0 ||
        loop_signal(l, SIGHUP, on_hangup, s, err) < 0) {
        sched_destroy(&s);
        return NULL;
    }
    svc_on_connect(s->svc, nodes_connected, s);
    loop_turn(l, turn, s);
    return s;
}

void sched_destroy(sched_t **sp)
{
    sched_t *s = *sp;

    if (!s)
        return;
    if (s->configured)
        turn_now(s);
    svc_destroy(&s->svc);
    for (size_t i = 0; i < JOB_BUCKETS; i++)
        while (s->job[i]) {
            struct job *j = s->job[i];
            s->job[i] = j->next;
            after_drop(s, j);
            run_free(s, j);
            job_clear(j);
            free(j);
        }
    for (size_t i = 0; i < s->nknown; i++)
        free((char *)(uintptr_t)s->known[i].state);
    free(s->known);
    conf_free(&s->conf);
    db_close(&s->db);
    free(s->claims);
    free(s->acks);
    free(s);
    *sp = NULL;
}
