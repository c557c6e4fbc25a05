/* run.c - a job that has nodes: claim them, start it, end it, leave them clean */
#include "services/sched/db.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/kin.h"

#define HELLO_MS 10000  /* a runner is heard of by then, or looked for */
#define LOOK_MS 1000
#define AGAIN_MS 5
#define SWEEP_MS 10
#define SWEEP_MAX_MS 500

int run_begin(sched_t *s, struct job *j)
{
    if (j->run)
        return 0;
    struct run *r = j->run = calloc(1, sizeof *r);
    if (!r) {
        svc_log("error", "job %llu: out of memory", (unsigned long long)j->pub.id);
        return -1;
    }
    r->sched = s;
    r->job = j;
    r->runner = r->pidfd = -1;
    return 0;
}

static void stop_timers(sched_t *s, struct run *r)
{
    int *const all[] = { &r->limit_timer, &r->warn_timer, &r->kill_timer, &r->look_timer,
                         &r->sweep_timer };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        loop_timer_del(s->loop, *all[i]);
        *all[i] = 0;
    }
}

void run_free(sched_t *s, struct job *j)
{
    struct run *r = j->run;

    if (!r)
        return;
    stop_timers(s, r);
    if (r->runner >= 0) {
        loop_fd_del(s->loop, r->runner);
        close(r->runner);
    }
    if (r->pidfd >= 0) {
        loop_fd_del(s->loop, r->pidfd);
        close(r->pidfd);
    }
    free(r->space);
    free(r->nodes);
    free(r);
    j->run = NULL;
}

/* It waits again: what is left is the bjssub that waits for it. */
static void run_reset(sched_t *s, struct job *j)
{
    struct run *r = j->run;

    if (!r || !(j->flags & JOB_INTERACTIVE)) {
        run_free(s, j);
        return;
    }
    stop_timers(s, r);
    free(r->space);
    *r = (struct run){ .sched = s, .job = j, .runner = -1, .pid = r->pid, .began = r->began,
                       .pidfd = r->pidfd };
}

/* Back into the queue, at its old place. */
static void requeue(sched_t *s, struct job *j)
{
    if (j->run)
        runner_ack(s, j->run);
    job_leave(j, wall_ms());
    run_reset(s, j);
    j->flags &= ~(uint32_t)(JOB_NODE_LOST | JOB_TIMED_OUT | JOB_AGAIN | JOB_FREE_MEM |
                            JOB_FREE_CPUS);
    j->pub.started_ms = 0;
    j->ended_ms = 0;
    j->status = 0;
    j->on_master = j->on_nodes = (struct used){ 0 };
    job_wait(s, j);
    job_changed(s, j);
    job_say(s, j, "queued");
}

/* ---- claims ---- */

static void claimed(sched_t *s, struct job *j)
{
    struct run *r = j->run;

    if (j->flags & JOB_REMOVED) {
        job_leave(j, wall_ms());
        job_done(s, j);
        return;
    }
    j->state = JOB_STARTING;
    j->attempt++;
    r->then = THEN_START;
    job_changed(s, j);
}

static void on_node_claimed(void *arg, struct pnode *n, const struct err *err)
{
    struct job *j = arg;

    if (!err)
        return;
    j->run->claim_failed = true;
    snprintf(j->run->why, sizeof j->run->why, "node %d: %.150s", n->number, err->text);
}

struct claim {
    sched_t *s;
    uint64_t id;
};

static void on_all_claimed(void *arg)
{
    struct claim *c = arg;
    sched_t *s = c->s;
    struct job *j = job_find(s, c->id);

    free(c);
    if (!j || j->state != JOB_CLAIMING || !j->run)
        return;
    if (!j->run->claim_failed) {
        claimed(s, j);
        turn_soon(s);
        return;
    }
    svc_log("notice", "job %llu: its nodes could not be claimed: %s",
            (unsigned long long)j->pub.id, j->run->why);
    nodes_ask(s);
    if (j->flags & JOB_REMOVED) {
        job_leave(j, wall_ms());
        job_done(s, j);
    } else {
        requeue(s, j);
    }
}

void run_claim(sched_t *s, struct job *j)
{
    struct pool *p = j->pool;

    if (run_begin(s, j) < 0)
        abort(); /* on the disk it still waits */
    struct run *r = j->run;
    r->space = calloc(j->pub.nodes, sizeof *r->space);
    for (uint32_t i = 0; r->space && i < j->pub.nodes; i++)
        memcpy(r->space[i], j->place[i]->space, sizeof r->space[i]);
    if (p->open || p->policy->sharing) {
        claimed(s, j);
        return;
    }
    uint32_t n = 0;
    struct pnode **change = malloc(j->pub.nodes * sizeof(struct pnode *));
    struct claim *c = malloc(sizeof *c);
    if (!change || !c || !r->space)
        abort();
    for (uint32_t i = 0; i < j->pub.nodes; i++)
        if (!node_stands(j->place[i], j->pub.uid, j->gid, 0100))
            change[n++] = j->place[i];
    *c = (struct claim){ s, j->pub.id };
    if (n) {
        node_set(s, change, n, j->pub.uid, j->gid, 0100, on_node_claimed, on_all_claimed, c);
    } else { /* of the same user's job before it */
        free(c);
        claimed(s, j);
    }
    free(change);
}

/* ---- start ---- */

static void on_silent(void *arg);

static void look_later(sched_t *s, struct run *r, int ms)
{
    loop_timer_del(s->loop, r->look_timer);
    r->look_timer = loop_timer(s->loop, ms, false, on_silent, r);
}

static void on_again(void *arg)
{
    struct run *r = arg;

    r->look_timer = 0;
    run_start(r->sched, r->job);
}

static void again_later(sched_t *s, struct run *r)
{
    loop_timer_del(s->loop, r->look_timer);
    r->look_timer = loop_timer(s->loop, AGAIN_MS, false, on_again, r);
}

void run_start(sched_t *s, struct job *j)
{
    struct err err = { 0 };

    if (j->flags & JOB_INTERACTIVE) {
        if (j->flags & JOB_REMOVED) {
            run_ended(s, j, SIGTERM, wall_ms());
            return;
        }
        run_started(s, j, wall_ms());
        waiters_tell(s, j);
        return;
    }
    int rc = starter_send(s, j, &err);
    if (rc < 0 && err.code == EAGAIN) /* it is busy with those before */
        again_later(s, j->run);
    else if (rc < 0)
        run_failed_to_start(s, j, err.text);
    else
        look_later(s, j->run, HELLO_MS);
}

void run_started(sched_t *s, struct job *j, int64_t at_ms)
{
    if (j->state == JOB_STARTING) {
        j->state = JOB_RUNNING;
        j->pub.started_ms = at_ms;
        job_noted(s, j);
        job_say(s, j, "started");
    }
    loop_timer_del(s->loop, j->run->look_timer);
    j->run->look_timer = 0;
    if (j->run->stopping || (j->flags & (JOB_REMOVED | JOB_NODE_LOST)))
        run_stop(s, j, true, NULL);
    else
        run_limits(s, j);
}

void run_failed_to_start(sched_t *s, struct job *j, const char *why)
{
    job_reason(j, "it could not be started: %s", why);
    j->status = 127 << 8;
    job_leave(j, wall_ms());
    job_done(s, j);
}

/* ---- end ---- */

static bool failed(const struct job *j)
{
    return j->status != 0 || (j->flags & (JOB_TIMED_OUT | JOB_REMOVED | JOB_NODE_LOST));
}

static void explain(struct job *j)
{
    if (j->flags & JOB_REMOVED || j->reason)
        return;
    if (j->run && j->run->why[0])
        job_reason(j, "%s", j->run->why);
    else if (WIFSIGNALED(j->status))
        job_reason(j, "it died of signal %d", WTERMSIG(j->status));
    else if (WEXITSTATUS(j->status))
        job_reason(j, "it exited with status %d", WEXITSTATUS(j->status));
}

/* All of it is gone, from the master and from its nodes. */
static void run_over(sched_t *s, struct job *j)
{
    explain(j);
    bool again = (j->flags & JOB_AGAIN) ||
                 ((j->flags & JOB_NODE_LOST) && (j->flags & JOB_REQUEUE));
    if (!again && failed(j) && j->retries && !(j->flags & JOB_INTERACTIVE)) {
        j->retries--;
        again = true;
    }
    if (again && !(j->flags & JOB_REMOVED) && !(j->flags & JOB_INTERACTIVE)) {
        svc_log("info", "job %llu: %s; it is queued again", (unsigned long long)j->pub.id,
                j->reason ? j->reason : "failed");
        requeue(s, j);
        return;
    }
    j->run->nodes = job_nodes(j);
    job_done(s, j);
    runner_ack(s, j->run);
    job_leave(j, j->ended_ms);
}

static void sweep(void *arg);

struct swept {
    sched_t *s;
    uint64_t id;
};

/* What its processes on nodes have used: [utime_us, stime_us, maxrss_kb, and whether
 * memory and processors should have been limited and could not be]. */
static void take_used(struct job *j, const msgpack_object *value)
{
    const msgpack_object_array *rows, *v;
    struct used *u = &j->on_nodes;

    if (mp_get_array(value, "used", &rows, NULL) < 0 || rows->size != 1 ||
        rows->ptr[0].type != MSGPACK_OBJECT_ARRAY || rows->ptr[0].via.array.size < 5)
        return;
    v = &rows->ptr[0].via.array;
    if (!mp_as_int(&v->ptr[0], &u->utime_us) || !mp_as_int(&v->ptr[1], &u->stime_us) ||
        !mp_as_int(&v->ptr[2], &u->maxrss_kb))
        *u = (struct used){ 0 };
    if (v->ptr[3].type == MSGPACK_OBJECT_BOOLEAN && v->ptr[3].via.boolean)
        j->flags |= JOB_FREE_MEM;
    if (v->ptr[4].type == MSGPACK_OBJECT_BOOLEAN && v->ptr[4].via.boolean)
        j->flags |= JOB_FREE_CPUS;
}

static void on_swept(void *arg, const msgpack_object *value, const struct err *err)
{
    struct swept *w = arg;
    sched_t *s = w->s;
    struct job *j = job_find(s, w->id);
    const msgpack_object_array *left;
    int64_t n = -1;

    free(w);
    if (!j || !j->run || j->state != JOB_ENDING)
        return;
    if (value && mp_get_array(value, "left", &left, NULL) == 0 && left->size == 1)
        mp_as_int(&left->ptr[0], &n);
    if (n == 0) {
        take_used(j, value);
        run_over(s, j);
        return;
    }
    if (!value && err->code != ECONNREFUSED && err->code != ETIMEDOUT)
        svc_log("warning", "job %llu: end its processes: %s", (unsigned long long)j->pub.id,
                err->text);
    int ms = SWEEP_MS << (j->run->sweeps < 6 ? j->run->sweeps++ : 6);
    j->run->sweep_timer = loop_timer(s->loop, ms > SWEEP_MAX_MS ? SWEEP_MAX_MS : ms, false,
                                     sweep, j->run);
}

/* End what it has started on its nodes; a node that is lost holds nothing. */
static void sweep(void *arg)
{
    struct run *r = arg;
    struct job *j = r->job;
    sched_t *s = r->sched;
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(mp_free) mp_buf nodes;
    uint32_t n = 0;
    /* An exclusive node holds nothing of this user's but the job's. */
    bool all = !j->pool->open && !j->pool->policy->sharing && j->pub.uid != 0;

    r->sweep_timer = 0;
    mp_init(&m);
    mp_init(&nodes);
    for (uint32_t i = 0; j->place && i < j->pub.nodes; i++) {
        if (r->space && strcmp(r->space[i], j->place[i]->space) != 0)
            continue;
        mp_int(&nodes, j->place[i]->number);
        n++;
    }
    if (!n) {
        run_over(s, j);
        return;
    }
    mp_map(&m, 2);
    mp_key(&m, "jobs");
    mp_array(&m, 1);
    mp_array(&m, 5);
    mp_uint(&m, all ? 0 : j->pub.id);
    mp_uint(&m, j->pub.uid);
    mp_array(&m, n);
    msgpack_sbuffer_write(&m.b, nodes.b.data, nodes.b.size);
    mp_uint(&m, j->pub.id); /* of which this is what it has used */
    mp_uint(&m, j->flags & JOB_INTERACTIVE ? 0 : j->attempt);
    mp_kint(&m, "sig", SIGKILL);
    struct swept *w = malloc(sizeof *w);
    if (!w)
        abort();
    *w = (struct swept){ s, j->pub.id };
    svc_call(s->svc, "procspace.end_job", &m, ASK_MS, on_swept, w);
}

void run_ended(sched_t *s, struct job *j, int status, int64_t at_ms)
{
    struct run *r = j->run;

    if (r->has_report)
        return;
    r->has_report = true;
    stop_timers(s, r);
    j->status = status;
    j->ended_ms = at_ms;
    j->state = JOB_ENDING;
    sweep(r);
}

static void tell_token(sched_t *s, struct run *r)
{
    CLEANUP(mp_free) mp_buf m;
    const struct job *j = r->job;

    mp_init(&m);
    if (!r->token)
        return;
    mp_map(&m, 1); /* what its own exit status does not tell */
    mp_kstr(&m, "why", r->stopping ? j->reason : NULL);
    svc_answer(s->svc, r->token, &m);
    r->token = NULL;
}

void run_written(sched_t *s, struct job *j)
{
    bool good = !failed(j);

    tell_token(s, j->run);
    waiters_tell(s, j);
    job_say(s, j, "ended");
    runner_files_drop(j);
    after_ended(s, j->pub.id, good);
    job_forget(s, j);
    if (!s->acct_timer)
        s->acct_timer = loop_timer(s->loop, 200, false, acct_turn, s);
}

/* ---- interactive jobs: their bjssub ---- */

static void on_bjssub_gone(void *arg, int fd, uint32_t events)
{
    struct run *r = arg;
    struct job *j = r->job;
    sched_t *s = r->sched;

    (void)events;
    loop_fd_del(s->loop, fd);
    close(fd);
    r->pidfd = -1;
    snprintf(r->why, sizeof r->why, "its bjssub is gone");
    if (j->state == JOB_CLAIMING) {
        j->flags |= JOB_REMOVED;
        job_reason(j, "%s", r->why);
    } else if (j->state == JOB_STARTING || j->state == JOB_RUNNING) {
        run_ended(s, j, SIGHUP, wall_ms());
    } else if (j->state < JOB_CLAIMING) {
        job_reason(j, "%s", r->why);
        j->status = SIGHUP;
        job_done(s, j);
    }
}

int run_watch_bjssub(sched_t *s, struct job *j, pid_t pid, unsigned long long began)
{
    struct run *r;

    if (run_begin(s, j) < 0)
        return -1;
    r = j->run;
    r->pid = pid;
    r->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    r->began = kin_began(pid);
    if (r->pidfd < 0 || !r->began || (began && r->began != began)) {
        r->began = began;
        cleanup_close(&r->pidfd);
        return -1;
    }
    return loop_fd(s->loop, r->pidfd, EPOLLIN, on_bjssub_gone, r, NULL);
}

/* ---- being ended ---- */

void run_signal(sched_t *s, struct job *j, int sig)
{
    (void)s;
    if (j->flags & JOB_INTERACTIVE)
        kin_signal(j->run->pid, 0, sig);
    else
        runner_send(j->run, "sig", sig);
}

static void on_kill(void *arg)
{
    struct run *r = arg;

    r->kill_timer = 0;
    run_stop(r->sched, r->job, true, NULL);
}

/* bjssub has ended its command and says so, or is ended itself. */
static void on_still_there(void *arg)
{
    struct run *r = arg;

    r->kill_timer = 0;
    kin_signal(r->pid, 0, SIGKILL);
    if (r->pid > 1 && kin_began(r->pid) == r->began)
        kill(r->pid, SIGKILL);
}

void run_stop(sched_t *s, struct job *j, bool hard, const char *why)
{
    struct run *r = j->run;

    if (why && !r->why[0])
        snprintf(r->why, sizeof r->why, "%.199s", why);
    bool before = r->stopping;
    r->stopping = true;
    if (j->state != JOB_RUNNING)
        return; /* once it is heard of */
    loop_timer_del(s->loop, r->limit_timer);
    loop_timer_del(s->loop, r->warn_timer);
    r->limit_timer = r->warn_timer = 0;
    if (!hard) {
        if (before && r->kill_timer)
            return;
        run_signal(s, j, SIGTERM);
        run_signal(s, j, SIGCONT);
        r->kill_timer = loop_timer(s->loop, j->pool->kill_ms, false, on_kill, r);
        return;
    }
    loop_timer_del(s->loop, r->kill_timer);
    r->kill_timer = 0;
    if (j->flags & JOB_INTERACTIVE) {
        kin_signal(r->pid, 0, SIGKILL);
        r->kill_timer = loop_timer(s->loop, 2000, false, on_still_there, r);
    } else {
        runner_send(r, "kill", 1);
    }
}

static void on_limit(void *arg)
{
    struct run *r = arg;
    char why[80];

    r->limit_timer = 0;
    r->job->flags |= JOB_TIMED_OUT;
    snprintf(why, sizeof why, "its time limit of %lld s was over", (long long)r->job->pub.secs);
    run_stop(r->sched, r->job, false, why);
}

static void on_warn(void *arg)
{
    struct run *r = arg;

    r->warn_timer = 0;
    run_signal(r->sched, r->job, r->job->pool->warn_signal);
}

void run_limits(sched_t *s, struct job *j)
{
    struct run *r = j->run;
    int64_t past = wall_ms() - j->pub.started_ms;
    int64_t left = j->pub.secs * 1000 - (past > 0 ? past : 0);

    loop_timer_del(s->loop, r->limit_timer);
    loop_timer_del(s->loop, r->warn_timer);
    r->warn_timer = 0;
    r->limit_timer = loop_timer(s->loop, left > 0 ? left : 0, false, on_limit, r);
    if (j->pool->warn_signal && left > j->pool->warn_ms)
        r->warn_timer = loop_timer(s->loop, left - j->pool->warn_ms, false, on_warn, r);
}

/* ---- runners that are not heard of ---- */

static void lost(sched_t *s, struct job *j, const char *why)
{
    /* began is the session of a batch job */
    if (!(j->flags & JOB_INTERACTIVE) && j->run->began > 1)
        kin_signal_session((pid_t)j->run->began, j->pub.uid, SIGKILL);
    snprintf(j->run->why, sizeof j->run->why, "%s", why);
    if (j->flags & JOB_RESTARTABLE)
        j->flags |= JOB_AGAIN;
    run_ended(s, j, SIGKILL, wall_ms());
}

static void on_silent(void *arg)
{
    struct run *r = arg;
    struct job *j = r->job;
    sched_t *s = r->sched;

    r->look_timer = 0;
    if (r->runner >= 0 || r->has_report)
        return;
    switch (runner_state(j)) {
    case -1:
        look_later(s, r, LOOK_MS);
        break;
    case 0:
        if (j->state == JOB_STARTING) {
            j->flags |= JOB_GIVEN_UP;
            requeue(s, j);
        } else {
            lost(s, j, "it was lost when the master went down");
        }
        break;
    default:
        lost(s, j, "it was lost: its runner was killed");
    }
}

void run_sweep_soon(sched_t *s, struct job *j)
{
    look_later(s, j->run, 200);
}

void run_recover(sched_t *s, struct job *j)
{
    struct run *r = j->run;

    if (!(j->flags & JOB_INTERACTIVE)) {
        look_later(s, r, 0);
        return;
    }
    if (r->pidfd >= 0) {
        bool was = j->state == JOB_RUNNING;
        j->state = JOB_STARTING;
        run_started(s, j, was ? j->pub.started_ms : wall_ms());
    } else {
        lost(s, j, "its bjssub is gone");
    }
}
