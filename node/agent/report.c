/* report.c - exits, stops and continues, until the master has them
 *
 * bpinit numbers its events and keeps them until they are acknowledged; we
 * hold what the master has not confirmed, in order, and have one report with
 * all of it on the way at a time. Whatever dies in between, what was not
 * confirmed is said again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node/agent/agent.h"

#define CALL_MS 10000
#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 2000
#define BATCH 4096 /* events in one report */

struct event {
    uint64_t seq;
    mp_buf row; /* as procspace.report wants it */
    struct event *next;
};

struct report {
    agent_t *a;
    struct event *first, **end;
    uint64_t last_seq; /* seen */
    bool on_its_way;
    int retry_timer;
    int64_t retry_ms;
    int failed; /* code of the last failure: logged once */
};

static void send_report(report_t *r);

static void drop_upto(report_t *r, uint64_t seq)
{
    while (r->first && r->first->seq <= seq) {
        struct event *e = r->first;
        r->first = e->next;
        mp_free(&e->row);
        free(e);
    }
    if (!r->first)
        r->end = &r->first;
}

static void on_retry(void *arg)
{
    report_t *r = arg;

    r->retry_timer = 0;
    send_report(r);
}

static void retry_later(report_t *r)
{
    r->retry_timer = loop_timer(r->a->loop, r->retry_ms, false, on_retry, r);
    r->retry_ms = r->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : r->retry_ms * 2;
}

static void on_reply(void *arg, const msgpack_object *value, const struct err *err)
{
    report_t *r = arg;
    uint64_t seq = 0;
    struct err e = { 0 };

    r->on_its_way = false;
    if (!value)
        err_set(&e, err->code, "%s", err->text);
    else if (mp_get_uint(value, "seq", &seq, &e) == 0 && r->first && seq < r->first->seq)
        err_set(&e, EAGAIN, "the master has only seen up to %" PRIu64, seq);
    if (e.code) {
        if (e.code != r->failed)
            svc_log("warning", "report of ended processes: %s; trying again", e.text);
        r->failed = e.code;
        retry_later(r);
        return;
    }
    r->failed = 0;
    r->retry_ms = RETRY_MIN_MS;
    if (seq > r->last_seq) /* an older space's numbers */
        seq = r->last_seq;
    drop_upto(r, seq);
    space_ack(r->a->space, seq);
    send_report(r);
}

static void send_report(report_t *r)
{
    CLEANUP(mp_free) mp_buf m;
    uint32_t n = 0;

    mp_init(&m);
    if (r->on_its_way || r->retry_timer || !r->first || !r->a->svc)
        return;
    for (const struct event *e = r->first; e && n < BATCH; e = e->next)
        n++;
    mp_map(&m, 3);
    mp_kstr(&m, "space", r->a->space_id);
    mp_kuint(&m, "first", r->first->seq);
    mp_key(&m, "events");
    mp_array(&m, n);
    for (const struct event *e = r->first; n; e = e->next, n--)
        msgpack_sbuffer_write(&m.b, e->row.b.data, e->row.b.size);
    r->on_its_way = true;
    svc_call(r->a->svc, "procspace.report", &m, CALL_MS, on_reply, r);
}

/* At the end of a turn: all that came in it goes in one report. */
static void on_turn(void *arg)
{
    send_report(arg);
}

void report_kick(report_t *r)
{
    loop_timer_del(r->a->loop, r->retry_timer);
    r->retry_timer = 0;
    r->retry_ms = RETRY_MIN_MS;
    send_report(r);
}

static int pack_row(mp_buf *m, const msgpack_object *map, const msgpack_object *kind,
                    struct err *err)
{
    static const char *const usage[] = { "status", "utime_us", "stime_us", "maxrss_kb" };
    int64_t pid, gen, rank, v;
    uint64_t launch, as = 0;
    const msgpack_object *ready = mp_get(map, "row");

    if (mp_is(kind, "row") && ready && ready->type == MSGPACK_OBJECT_ARRAY) {
        mp_obj(m, ready);
        return 0;
    }
    if (mp_get_int(map, "pid", 1, INT32_MAX, &pid, err) < 0 ||
        mp_get_int(map, "gen", 0, UINT32_MAX, &gen, err) < 0 ||
        mp_get_uint(map, "launch", &launch, err) < 0 ||
        mp_get_int(map, "rank", 0, UINT32_MAX, &rank, err) < 0)
        return -1;
    bool exited = mp_is(kind, "exit"), stopped = mp_is(kind, "stop");
    mp_array(m, 5 + (exited ? 8 : stopped ? 2 : mp_get(map, "halts") ? 1 : 0));
    mp_obj(m, kind);
    mp_int(m, pid);
    mp_int(m, gen);
    if (stopped) {
        if (mp_get_int(map, "sig", 1, 64, &v, err) < 0)
            return -1;
        mp_int(m, v);
    }
    for (int i = 0; exited && i < 4; i++) {
        if (mp_get_int(map, usage[i], 0, INT64_MAX, &v, err) < 0)
            return -1;
        mp_int(m, v);
    }
    mp_uint(m, launch);
    mp_int(m, rank);
    if (stopped)
        mp_int(m, mp_opt_int(map, "conts", 0));
    if (!exited && !stopped && mp_get(map, "halts"))
        mp_int(m, mp_opt_int(map, "halts", 0));
    if (exited) {
        mp_bool(m, mp_opt_bool(map, "starved", false));
        mp_int(m, mp_opt_int(map, "home", -1));
        mp_int(m, mp_opt_int(map, "home_npid", 0));
        mp_uint(m, mp_get(map, "as") && mp_get_uint(map, "as", &as, NULL) == 0 ? as : 0);
    }
    return 0;
}

/* Who holds files for this process may let go. */
static void tell_launch(report_t *r, const msgpack_object *map)
{
    uint64_t launch;
    int64_t rank;

    if (mp_get_uint(map, "launch", &launch, NULL) == 0 &&
        mp_get_int(map, "rank", 0, UINT32_MAX, &rank, NULL) == 0)
        launches_exited(r->a->launches, launch, rank);
}

void report_event(report_t *r, const msgpack_object *map)
{
    const msgpack_object *kind = mp_get(map, "kind");
    struct event *e = calloc(1, sizeof *e);
    struct err err = { 0 };

    if (!e)
        abort(); /* forgetting an exit is worse: the next agent is told again */
    mp_init(&e->row);
    if (!kind || mp_get_uint(map, "seq", &e->seq, &err) < 0 ||
        pack_row(&e->row, map, kind, &err) < 0) {
        svc_log("error", "bpinit: event: %s", kind ? err.text : "kind: missing");
        mp_free(&e->row);
        free(e);
        return;
    }
    if (e->seq <= r->last_seq) { /* told again: we have it, or the master has */
        mp_free(&e->row);
        free(e);
        return;
    }
    r->last_seq = e->seq;
    *r->end = e;
    r->end = &e->next;
    if (mp_is(kind, "exit"))
        tell_launch(r, map);
}

uint64_t report_seq(const report_t *r) { return r->last_seq; }

/* A new connection to bpinit, which says again what was not acknowledged. */
void report_restart(report_t *r)
{
    drop_upto(r, UINT64_MAX);
    r->last_seq = 0;
}

report_t *report_create(agent_t *a, struct err *err)
{
    report_t *r = calloc(1, sizeof *r);

    if (!r) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    r->a = a;
    r->end = &r->first;
    r->retry_ms = RETRY_MIN_MS;
    loop_turn(a->loop, on_turn, r);
    return r;
}

void report_destroy(report_t **rp)
{
    report_t *r = *rp;

    if (!r)
        return;
    loop_timer_del(r->a->loop, r->retry_timer);
    drop_upto(r, UINT64_MAX);
    free(r);
    *rp = NULL;
}
