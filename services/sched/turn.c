/* turn.c - the end of a turn: decide, write, and act on what is written */
#include "services/sched/db.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MS 1000
#define LATER_MS 100

void turn_soon(sched_t *s) { s->turn_asked = true; }

static void retry(void *arg)
{
    sched_t *s = arg;

    s->retry_timer = 0;
    turn_soon(s);
}

static void again(void *arg) { turn_soon(arg); }

static void later(void *arg)
{
    sched_t *s = arg;

    s->later_timer = 0;
    turn_soon(s);
}

void turn_later(sched_t *s)
{
    if (!s->later_timer)
        s->later_timer = loop_timer(s->loop, LATER_MS, false, later, s);
}

void turn_now(sched_t *s)
{
    turn_soon(s);
    turn(s);
}

/* "0,3" of its nodes, or the spaces that it got them in. */
static char *place_text(const struct job *j, bool spaces)
{
    char *out = NULL;
    size_t len;
    FILE *f = j->place ? open_memstream(&out, &len) : NULL;

    if (!f)
        return NULL;
    for (uint32_t i = 0; i < j->pub.nodes; i++)
        if (spaces)
            fprintf(f, "%s%s", i ? "," : "", j->run && j->run->space ? j->run->space[i] : "");
        else
            fprintf(f, "%s%d", i ? "," : "", j->place[i]->number);
    return fclose(f) == 0 ? out : NULL;
}

char *job_nodes(const struct job *j)
{
    if (!j->place && j->run && j->run->nodes)
        return strdup(j->run->nodes);
    return place_text(j, false);
}

static int write_job(sched_t *s, const struct job *j, struct err *err)
{
    CLEANUP(cleanup_free) char *nodes = job_nodes(j);
    CLEANUP(cleanup_free) char *spaces = place_text(j, true);
    const struct run *r = j->run;

    return db_put_job(s->db, j, nodes, spaces, r ? r->pid : 0, r ? (int64_t)r->began : 0, err);
}

static int write_all(sched_t *s, struct err *err)
{
    if (db_begin(s->db, err) < 0)
        return -1;
    for (struct job *j = s->dirty; j; j = j->dirty)
        if (j->state != JOB_CLAIMING && write_job(s, j, err) < 0)
            return -1;
    for (struct pool *p = s->conf.pools; p; p = p->next)
        for (struct user *u = p->users; u; u = u->next)
            if (u->dirty && db_put_usage(s->db, p->name, u, err) < 0)
                return -1;
    return db_put_next(s->db, s->next_id, err);
}

static void act(sched_t *s, struct job *j)
{
    enum then then = j->run ? j->run->then : THEN_NOTHING;

    if (j->run)
        j->run->then = THEN_NOTHING;
    if (then == THEN_START)
        run_start(s, j);
    else if (then == THEN_FORGET)
        run_written(s, j);
}

static void written(sched_t *s)
{
    struct job *j = s->dirty, *next;

    s->dirty = NULL;
    s->dirty_end = &s->dirty;
    if (s->disk[0]) {
        svc_log("notice", "the disk takes what is written again");
        turn_soon(s);
    }
    s->disk[0] = 0;
    acks_send(s);
    for (struct pool *p = s->conf.pools; p; p = p->next)
        for (struct user *u = p->users; u; u = u->next)
            u->dirty = false;
    submissions_written(s);
    for (; j; j = next) {
        next = j->dirty;
        j->is_dirty = false;
        act(s, j);
    }
}

static void not_written(sched_t *s, const struct err *err)
{
    db_rollback(s->db);
    if (strcmp(s->disk, err->text) != 0)
        svc_log("error", "%s; what runs goes on", err->text);
    snprintf(s->disk, sizeof s->disk, "%.199s", err->text);
    submissions_failed(s, err);
    if (!s->retry_timer)
        s->retry_timer = loop_timer(s->loop, RETRY_MS, false, retry, s);
}

static void on_started(void *arg, struct job *j)
{
    sched_t *s = arg;

    if (s->nclaims == s->claims_room) {
        size_t room = s->claims_room ? s->claims_room * 2 : 64;
        struct job **v = realloc(s->claims, room * sizeof(struct job *));
        if (!v)
            abort(); /* on the disk it still waits */
        s->claims = v;
        s->claims_room = room;
    }
    s->claims[s->nclaims++] = j;
}

static void decide(sched_t *s)
{
    s->hooks.started = on_started;
    s->hooks.arg = s;
    for (struct pool *p = s->conf.pools; p; p = p->next)
        if (p->wake)
            engine_pass(p, wall_ms(), &s->hooks);
    for (size_t i = 0; i < s->nclaims; i++)
        run_claim(s, s->claims[i]);
    s->nclaims = 0;
    nodes_release(s);
}

void turn(void *arg)
{
    sched_t *s = arg;
    struct err err = { 0 };

    /* What is acted on may ask for more: a few rounds, then others have their turn. */
    for (int i = 0; i < 4 && s->turn_asked && s->configured; i++) {
        s->turn_asked = false;
        if (!s->disk[0]) /* what could not be noted would be started twice */
            decide(s);
        if (!s->dirty && !s->subs)
            continue;
        if (s->retry_timer && s->disk[0] && !s->subs)
            continue; /* it will be tried then */
        if (write_all(s, &err) < 0 || db_commit(s->db, &err) < 0)
            not_written(s, &err);
        else
            written(s);
    }
    if (s->turn_asked)
        loop_timer(s->loop, 0, false, again, s);
}
