/* bpinit_journal.c - what happened to bodies, until the master knows it
 *
 * A list of packed events in the order in which they happened. It empties by
 * acknowledgement only, so that an agent that dies takes nothing along.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include "node/bpinit_kids.h"
#include "node/bpinit_kin.h"

struct event {
    struct event *next;
    uint64_t seq;
    struct body *done; /* ended with this event; forgotten with it */
    mp_buf packed;
};

struct journal {
    struct event *first, **end;
    uint64_t seq;
};

journal_t *journal_create(struct err *err)
{
    journal_t *j = calloc(1, sizeof *j);

    if (!j)
        err_set(err, ENOMEM, "journal: out of memory");
    else
        j->end = &j->first;
    return j;
}

static void drop_first(journal_t *j)
{
    struct event *e = j->first;

    j->first = e->next;
    if (!j->first)
        j->end = &j->first;
    mp_free(&e->packed);
    free(e);
}

void journal_destroy(journal_t **jp)
{
    if (!*jp)
        return;
    while ((*jp)->first)
        drop_first(*jp);
    free(*jp);
    *jp = NULL;
}

uint64_t journal_seq(const journal_t *j) { return j->seq; }
uint64_t journal_known(const journal_t *j) { return j->first ? j->first->seq - 1 : j->seq; }

/* Begin an event's map; the caller adds `more` pairs and calls record(). */
static struct event *event(struct init *in, const struct body *b, const char *kind,
                           uint32_t more)
{
    struct event *e = calloc(1, sizeof *e);

    if (!e) {
        init_log("out of memory: %s of process %d is not told", kind, (int)b->pid);
        return NULL;
    }
    mp_init(&e->packed);
    e->seq = ++in->journal->seq;
    mp_array(&e->packed, 2);
    mp_str(&e->packed, "event");
    mp_map(&e->packed, 6 + more);
    mp_kuint(&e->packed, "seq", e->seq);
    mp_kstr(&e->packed, "kind", kind);
    mp_kint(&e->packed, "pid", b->pid);
    mp_kint(&e->packed, "gen", b->gen);
    mp_kuint(&e->packed, "launch", b->launch);
    mp_kint(&e->packed, "rank", b->rank);
    return e;
}

static void record(struct init *in, struct event *e)
{
    *in->journal->end = e;
    in->journal->end = &e->next;
    link_send(in->link, &e->packed);
}

void journal_exit(struct init *in, struct body *b, int status, const struct rusage *ru,
                  bool starved)
{
    struct event *e = event(in, b, "exit", 8);

    if (!e)
        return;
    mp_kint(&e->packed, "status", status);
    mp_kint(&e->packed, "utime_us", ru->ru_utime.tv_sec * 1000000ll + ru->ru_utime.tv_usec);
    mp_kint(&e->packed, "stime_us", ru->ru_stime.tv_sec * 1000000ll + ru->ru_stime.tv_usec);
    mp_kint(&e->packed, "maxrss_kb", ru->ru_maxrss);
    mp_kbool(&e->packed, "starved", starved);
    mp_kint(&e->packed, "home", b->home);
    mp_kint(&e->packed, "home_npid", b->home >= 0 ? b->home_npid : 0);
    mp_kuint(&e->packed, "as", b->as);
    e->done = b;
    record(in, e);
}

void journal_stop(struct init *in, const struct body *b, int sig)
{
    struct event *e = event(in, b, "stop", 2);

    if (!e)
        return;
    mp_kint(&e->packed, "sig", sig);
    mp_kuint(&e->packed, "conts", b->conts);
    record(in, e);
}

void journal_cont(struct init *in, const struct body *b)
{
    struct event *e = event(in, b, "cont", 1);

    if (!e)
        return;
    mp_kuint(&e->packed, "halts", b->halts);
    record(in, e);
}

/* An event that is not one body's: the agent passes the row, which is to be
 * packed next, on as it is. */
static struct event *begin_row(struct init *in, const char *what)
{
    struct event *e = calloc(1, sizeof *e);

    if (!e) {
        init_log("out of memory: %s is not told", what);
        return NULL;
    }
    mp_init(&e->packed);
    e->seq = ++in->journal->seq;
    mp_array(&e->packed, 2);
    mp_str(&e->packed, "event");
    mp_map(&e->packed, 3);
    mp_kuint(&e->packed, "seq", e->seq);
    mp_kstr(&e->packed, "kind", "row");
    mp_key(&e->packed, "row");
    return e;
}

static struct event *row(struct init *in, uint32_t items, const char *kind)
{
    struct event *e = begin_row(in, kind);

    if (!e)
        return NULL;
    mp_array(&e->packed, items);
    mp_str(&e->packed, kind);
    return e;
}

void journal_done(struct init *in, uint64_t launch, uint64_t job)
{
    struct event *e = row(in, 3, "done");

    if (!e)
        return;
    mp_uint(&e->packed, launch);
    mp_uint(&e->packed, job);
    record(in, e);
}

void journal_stuck(struct init *in, uint64_t launch, pid_t npid, const char *text,
                   const char *stack)
{
    struct event *e = row(in, 5, "stuck");

    if (!e)
        return;
    mp_uint(&e->packed, launch);
    mp_int(&e->packed, npid);
    mp_str(&e->packed, text);
    mp_str(&e->packed, stack);
    record(in, e);
}

void journal_up(struct init *in, const struct kin_name *to, int sig, const uint64_t *value,
                pid_t from, uid_t uid)
{
    struct event *e = row(in, 8, "up");

    if (!e)
        return;
    mp_int(&e->packed, to->pid);
    mp_int(&e->packed, to->node);
    mp_uint(&e->packed, to->id);
    mp_int(&e->packed, sig);
    if (value)
        mp_int(&e->packed, (int64_t)*value);
    else
        mp_nil(&e->packed);
    mp_int(&e->packed, from);
    mp_int(&e->packed, uid);
    record(in, e);
}

void journal_cry(struct init *in, pid_t npid, uint32_t gen, int sig, const uint64_t *value,
                 pid_t from, uid_t uid)
{
    struct event *e = row(in, 7, "cry");

    if (!e)
        return;
    mp_int(&e->packed, npid);
    mp_uint(&e->packed, gen);
    mp_int(&e->packed, sig);
    if (value)
        mp_int(&e->packed, (int64_t)*value);
    else
        mp_nil(&e->packed);
    mp_int(&e->packed, from);
    mp_int(&e->packed, uid);
    record(in, e);
}

void journal_cut(struct init *in, pid_t npid, uint32_t gen)
{
    struct event *e = row(in, 3, "cut");

    if (!e)
        return;
    mp_int(&e->packed, npid);
    mp_uint(&e->packed, gen);
    record(in, e);
}

struct search {
    const struct seen *s;
    pid_t ghost;
};

static void may_be_brother(void *arg, const struct body *b)
{
    struct search *f = arg;

    if (b->parent && b->parent == f->s->brother && b->launch == f->s->launch)
        f->ghost = b->pid;
}

/* The ghost of a body whose parent is its own, if that lives elsewhere; 0. */
static pid_t brother_of(const struct init *in, const struct seen *s)
{
    struct search f = { s, 0 };

    if (s->brother)
        bodies_each(in->bodies, may_be_brother, &f);
    return f.ghost;
}

void journal_pack_kid(const struct init *in, mp_buf *m, enum kid_event what,
                      const struct seen *s)
{
    static const struct {
        const char *kind;
        uint32_t items;
    } rows[] = {
        [KID_BORN] = { "born", 17 }, [KID_NAME] = { "name", 7 }, [KID_GROUP] = { "group", 8 },
        [KID_STOP] = { "halt", 4 },  [KID_GONE] = { "gone", 4 },
    };

    mp_array(m, rows[what].items);
    mp_str(m, rows[what].kind);
    mp_int(m, s->npid);
    mp_int(m, kid_gen(s));
    switch (what) {
    case KID_GONE: mp_int(m, s->status); return;
    case KID_STOP: mp_bool(m, s->stopped); return;
    case KID_BORN:
        mp_int(m, s->ppid);
        mp_int(m, kids_ghost_of(in, s->ppid));
        break;
    default: mp_int(m, kids_ghost_of(in, s->npid)); break;
    }
    mp_uint(m, s->launch);
    if (what != KID_NAME) {
        mp_int(m, s->pgid);
        mp_int(m, kids_ghost_of(in, s->pgid));
        mp_int(m, s->sid);
    }
    if (what == KID_BORN) {
        mp_int(m, s->uid);
        mp_int(m, s->gid);
        mp_int(m, wall_ms());
    }
    if (what != KID_GROUP) {
        mp_bin(m, s->comm, strlen(s->comm));
        mp_bin(m, s->args, s->args_len);
    }
    if (what == KID_BORN) {
        mp_bool(m, s->stopped);
        mp_int(m, brother_of(in, s));
        mp_bool(m, stand_is(in, s->npid));
    }
}

void journal_kid(struct init *in, enum kid_event what, const struct seen *s)
{
    struct event *e = begin_row(in, "a process's child");

    if (!e)
        return;
    journal_pack_kid(in, &e->packed, what, s);
    record(in, e);
}

void journal_ack(struct init *in, uint64_t seq)
{
    journal_t *j = in->journal;

    while (j->first && j->first->seq <= seq) {
        if (j->first->done)
            bodies_drop(in->bodies, j->first->done);
        drop_first(j);
    }
}

void journal_resend(struct init *in)
{
    for (const struct event *e = in->journal->first; e; e = e->next)
        link_send(in->link, &e->packed);
}
