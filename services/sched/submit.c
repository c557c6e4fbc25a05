/* submit.c - sched.submit: what may be asked for, and noting it
 *
 * The checks come in the order of the original, with its texts. A submission is
 * written within the turn's transaction, and answered once that is on the disk.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bus/kin.h"
#include "services/sched/db.h"

#define ARRAY_MAX 100000
#define TEXT_MAX (4u << 20) /* command and environment together */
#define NAME_MAX_BYTES 255
#define PRIORITY_MAX 1000000

struct submission {
    svc_token *token;
    uint64_t first;
    uint32_t count;
    struct submission *next;
};

struct wanted {
    struct pool *pool;
    struct text text;
    uint32_t flags, nodes, cpus, retries;
    uint64_t mem_mb;
    int64_t secs, priority, from, to; /* array; from -1: none */
    bool default_secs;
    const char *const *wants;
    uint32_t *groups;
    size_t ngroups;
    char *token;
    const msgpack_object_array *after;
};

static void wanted_free(struct wanted *w)
{
    text_free(&w->text);
    free(w->groups);
    free(w->token);
    wants_put(w->wants);
}

/* ---- who asks ---- */

/* The kernel's word about the asker's groups. */
static int read_groups(const struct wire *wire, struct wanted *w, struct err *err)
{
    char path[64], *line = NULL;
    size_t room = 0;
    int rc = 0;

    snprintf(path, sizeof path, "/proc/%lld/status", (long long)wire->pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return err_set(err, ESRCH, "the asker (pid %lld) has gone", (long long)wire->pid);
    while (getline(&line, &room, f) > 0) {
        if (strncmp(line, "Groups:", 7) != 0)
            continue;
        char *p = line + 7, *end;
        for (;;) {
            unsigned long g = strtoul(p, &end, 10);
            uint32_t *more = end == p ? NULL
                                      : realloc(w->groups, (w->ngroups + 1) * sizeof *more);
            if (end == p)
                break;
            if (!more) {
                rc = err_set(err, ENOMEM, "out of memory");
                break;
            }
            w->groups = more;
            w->groups[w->ngroups++] = (uint32_t)g;
            p = end;
        }
    }
    free(line);
    fclose(f);
    return rc;
}

/* ---- what is asked ---- */

static int take_text(const msgpack_object *body, const char *key, char **out, struct err *err)
{
    if (!mp_get(body, key) || mp_get(body, key)->type == MSGPACK_OBJECT_NIL)
        return 0;
    return mp_get_dup(body, key, out, err);
}

static int keep(void **out, size_t *bytes, const mp_buf *m, struct err *err)
{
    *out = malloc(m->b.size ? m->b.size : 1);
    if (!*out)
        return err_set(err, ENOMEM, "out of memory");
    memcpy(*out, m->b.data, m->b.size);
    *bytes = m->b.size;
    return 0;
}

static int take_env(const msgpack_object *body, struct wanted *w, struct err *err)
{
    const msgpack_object_array *a;
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(mp_free) mp_buf g;

    mp_init(&m);
    mp_init(&g);
    if (mp_get_array(body, "env", &a, err) < 0)
        return -1;
    for (uint32_t i = 0; i < a->size; i++)
        if (a->ptr[i].type != MSGPACK_OBJECT_BIN && a->ptr[i].type != MSGPACK_OBJECT_STR)
            return err_set(err, EPROTO, "env: item %u is no text", i);
    mp_obj(&m, mp_get(body, "env"));
    mp_array(&g, (uint32_t)w->ngroups);
    for (size_t i = 0; i < w->ngroups; i++)
        mp_uint(&g, w->groups[i]);
    return keep(&w->text.env, &w->text.env_bytes, &m, err) < 0 ||
           keep(&w->text.groups, &w->text.groups_bytes, &g, err) < 0 ? -1 : 0;
}

/* Requirements as bjsstat shows them: "KEY=VALUE KEY ". */
static int take_reqs(const msgpack_object *body, struct wanted *w, struct err *err)
{
    const msgpack_object_array *a;
    size_t len;
    FILE *f;

    if (!mp_get(body, "reqs"))
        return 0;
    if (mp_get_array(body, "reqs", &a, err) < 0)
        return -1;
    if (!(f = open_memstream(&w->text.reqs, &len)))
        return err_set(err, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < a->size; i++) {
        CLEANUP(cleanup_free) char *text = mp_dup(&a->ptr[i]);
        if (text && strncmp(text, "output=", 7) != 0 && text[strcspn(text, " \t\n")]) {
            fclose(f);
            return err_set(err, EINVAL, "--requirement %s: want no blanks in it", text);
        }
        fprintf(f, "%s ", text ? text : "?");
    }
    if (fclose(f) != 0 || wants_get(w->text.reqs, &w->wants) < 0)
        return err_set(err, ENOMEM, "out of memory");
    return 0;
}

static int take_flags(const msgpack_object *body, struct wanted *w, struct err *err)
{
    static const struct { const char *key; uint32_t flag; } flags[] = {
        { "interactive", JOB_INTERACTIVE }, { "restartable", JOB_RESTARTABLE },
        { "requeue", JOB_REQUEUE },         { "script", JOB_SCRIPT },
        { "hold", JOB_ON_HOLD },
    };
    const msgpack_object *array = mp_get(body, "array");

    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (mp_opt_bool(body, flags[i].key, false))
            w->flags |= flags[i].flag;
    w->from = w->to = -1;
    if (!array)
        return 0;
    if (array->type != MSGPACK_OBJECT_ARRAY || array->via.array.size != 2 ||
        !mp_as_int(&array->via.array.ptr[0], &w->from) ||
        !mp_as_int(&array->via.array.ptr[1], &w->to))
        return err_set(err, EPROTO, "array: want [first, last]");
    if (w->from < 0 || w->to < w->from || w->to - w->from >= ARRAY_MAX || w->to > INT32_MAX)
        return err_set(err, EINVAL, "--array %lld-%lld: want A-B with 0 <= A <= B, and no more "
                       "than %d jobs", (long long)w->from, (long long)w->to, ARRAY_MAX);
    if (w->flags & JOB_INTERACTIVE)
        return err_set(err, EINVAL, "--array: an interactive job is one job");
    return 0;
}

static int take_nodes(const msgpack_object *body, struct wanted *w, struct err *err)
{
    const struct pool *p = w->pool;
    const struct limits *l = &p->limit;
    int64_t n = mp_opt_int(body, "nodes", 1);
    uint32_t all = pool_size(p), max = l->maxnodes && l->maxnodes < all ? l->maxnodes : all;

    if (n < 1 || n > NODE_MAX)
        return err_set(err, EINVAL, "Invalid number of nodes: %lld", (long long)n);
    if (l->minnodes && n < l->minnodes)
        return err_set(err, EINVAL, "The minimum number of nodes for pool %s is %u.", p->name,
                       l->minnodes);
    if (n > max)
        return err_set(err, EINVAL, "The maximum number of nodes for pool %s is %u.", p->name,
                       max);
    w->nodes = (uint32_t)n;
    return 0;
}

static int take_secs(const msgpack_object *body, struct wanted *w, struct err *err)
{
    const struct pool *p = w->pool;
    const struct limits *l = &p->limit;

    w->default_secs = !mp_get(body, "secs");
    w->secs = mp_opt_int(body, "secs", l->defaultsecs ? l->defaultsecs : 1);
    if (w->secs < 1 || w->secs > 1LL << 31)
        return err_set(err, EINVAL, "Invalid number of seconds: %lld", (long long)w->secs);
    if (w->default_secs && l->minsecs && w->secs < l->minsecs)
        w->secs = l->minsecs;
    if (l->minsecs && w->secs < l->minsecs)
        return err_set(err, EINVAL, "The minimum number of seconds for pool %s is %lld.", p->name,
                       (long long)l->minsecs);
    if (l->maxsecs && w->secs > l->maxsecs)
        return err_set(err, EINVAL, "The maximum number of seconds for pool %s is %lld.", p->name,
                       (long long)l->maxsecs);
    return 0;
}

static void size_text(const struct wanted *w, char *out, size_t size)
{
    int n = 0;

    if (w->cpus || w->mem_mb)
        n = snprintf(out, size, "%u processors and %llu MB of memory", w->cpus,
                     (unsigned long long)w->mem_mb);
    for (const char *const *v = w->wants; v && *v && (size_t)n < size; v++)
        n += snprintf(out + n, size - (size_t)n, "%s%s", n ? " and " : "", *v);
}

static int take_size(const msgpack_object *body, struct wanted *w, struct err *err)
{
    const struct pool *p = w->pool;
    int64_t cpus = mp_opt_int(body, "cpus", 0), mem = mp_opt_int(body, "mem_mb", 0);
    uint32_t fit = 0;

    if (cpus < 0 || cpus > 1000000 || mem < 0)
        return err_set(err, EINVAL, "--cpus, --mem: want a number of 1 or more");
    w->cpus = (uint32_t)cpus;
    w->mem_mb = (uint64_t)mem;
    for (uint32_t i = 0; i < p->nodes; i++) /* of those whose size is known */
        fit += !p->node[i]->leaving &&
               (!p->node[i]->space[0] ||
                (p->node[i]->cpus >= w->cpus && p->node[i]->mem_mb >= w->mem_mb &&
                 bjs_has(p->view_node[i].attrs, w->wants)));
    if (fit < w->nodes) {
        char size[120] = "";
        size_text(w, size, sizeof size);
        return err_set(err, EINVAL, "pool %s has %u nodes with %s, not %u", p->name, fit, size,
                       w->nodes);
    }
    return 0;
}

static int take_rest(const msgpack_object *body, const struct wire *wire, struct wanted *w,
                     struct err *err)
{
    struct text *t = &w->text;
    int64_t retries = mp_opt_int(body, "retry", 0);

    w->priority = mp_opt_int(body, "priority", 0);
    if (w->priority < -PRIORITY_MAX || w->priority > PRIORITY_MAX)
        return err_set(err, EINVAL, "--priority: want a number of %d to %d", -PRIORITY_MAX,
                       PRIORITY_MAX);
    if (w->priority > 0 && wire->uid != 0)
        return err_set(err, EPERM, "only root gives a job a priority above 0");
    if (retries < 0 || retries > 1000)
        return err_set(err, EINVAL, "--retry: want a number of 0 to 1000");
    w->retries = (uint32_t)retries;
    t->umask = (int)mp_opt_int(body, "umask", 022) & 0777;
    if (take_text(body, "shell", &t->shell, err) < 0 ||
        take_text(body, "dir", &t->dir, err) < 0 ||
        take_text(body, "output", &t->output, err) < 0 ||
        take_text(body, "name", &t->name, err) < 0)
        return -1;
    if (t->name && strlen(t->name) > NAME_MAX_BYTES)
        return err_set(err, EINVAL, "--name: longer than %d bytes", NAME_MAX_BYTES);
    if (t->dir && t->dir[0] != '/')
        return err_set(err, EINVAL, "--directory %s: want an absolute path", t->dir);
    if (t->output && strcmp(t->output, "|") == 0)
        return err_set(err, EINVAL, "--output |: want a command behind the bar");
    w->after = NULL;
    return mp_get(body, "after") ? mp_get_array(body, "after", &w->after, err) : 0;
}

static int take(sched_t *s, struct svc_req *req, struct wanted *w, struct err *err)
{
    const msgpack_object *body = req->body;
    CLEANUP(cleanup_free) char *pool = NULL;

    if (mp_get_dup(body, "pool", &pool, err) < 0 ||
        mp_get_dup(body, "command", &w->text.command, err) < 0 ||
        mp_get_dup(body, "token", &w->token, err) < 0)
        return err_set(err, EPROTO, "Invalid job submission");
    if (strlen(w->token) > 64)
        return err_set(err, EPROTO, "token: longer than 64 characters");
    if (read_groups(req->w, w, err) < 0 || take_env(body, w, err) < 0)
        return -1;
    if (w->text.env_bytes + strlen(w->text.command) > TEXT_MAX)
        return err_set(err, E2BIG, "command and environment have %zu bytes: %u are the most",
                       w->text.env_bytes + strlen(w->text.command), TEXT_MAX);
    w->pool = pool_find(s->conf.pools, pool);
    if (!w->pool)
        return err_set(err, ENOENT, "No pool named: %s", pool);
    if (!pool_allows(w->pool, (uint32_t)req->w->uid, (uint32_t)req->w->gid, w->groups,
                     w->ngroups))
        return err_set(err, EACCES, "You don't have permission to submit to %s", pool);
    return take_nodes(body, w, err) < 0 || take_secs(body, w, err) < 0 ||
           take_flags(body, w, err) < 0 || take_reqs(body, w, err) < 0 ||
           take_size(body, w, err) < 0 || take_rest(body, req->w, w, err) < 0 ? -1 : 0;
}

/* ---- noting it ---- */

struct dependency {
    uint64_t target;
    enum after kind;
    bool open; /* it has not ended */
};

static int one_after(sched_t *s, const msgpack_object *o, struct dependency *d, uint32_t uid,
                     struct err *err)
{
    static const char *const kinds[] = { "ok", "fail", "any" };
    int64_t id = 0;
    int kind = -1, status;

    if (o->type == MSGPACK_OBJECT_ARRAY && o->via.array.size == 2)
        for (int i = 0; i < 3; i++)
            if (mp_is(&o->via.array.ptr[1], kinds[i]))
                kind = i;
    if (kind < 0 || !mp_as_int(&o->via.array.ptr[0], &id) || id < 1)
        return err_set(err, EPROTO, "after: want [job, \"ok\", \"fail\" or \"any\"]");
    (void)uid;
    *d = (struct dependency){ (uint64_t)id, (enum after)kind, job_find(s, (uint64_t)id) };
    if (d->open)
        return 0;
    int rc = db_ended(s->db, d->target, &status, err);
    if (rc < 0)
        return -1;
    if (rc == 0)
        return err_set(err, ENOENT, "--after %lld: No job %lld found.", (long long)id,
                       (long long)id);
    if (d->kind != AFTER_ANY && (d->kind == AFTER_OK) != (status == 0))
        return err_set(err, EINVAL, "--after %lld:%s: job %lld has ended with status %d",
                       (long long)id, kinds[kind], (long long)id, status);
    return 0;
}

static void drop_jobs(sched_t *s, uint64_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct job *j = job_find(s, first + i);
        if (j)
            job_forget(s, j);
    }
}

static struct job *make_job(sched_t *s, const struct wanted *w, const struct wire *wire,
                            uint64_t id, uint64_t first, uint32_t i, int64_t text)
{
    struct job *j = job_new(s, id);

    if (!j)
        return NULL;
    j->pool = w->pool;
    j->text = text;
    j->flags = w->flags;
    j->gid = (gid_t)wire->gid;
    j->pub.uid = (uint32_t)wire->uid;
    j->pub.nodes = w->nodes;
    j->pub.cpus = w->cpus;
    j->pub.mem_mb = w->mem_mb;
    if (wants_get(w->text.reqs, &j->pub.wants) < 0) {
        job_forget(s, j);
        return NULL;
    }
    j->pub.secs = w->secs;
    j->pub.priority = (int32_t)w->priority;
    j->pub.submitted_ms = wall_ms();
    j->retries = w->retries;
    if (w->from >= 0) {
        j->array = first;
        j->index = (int32_t)(w->from + i);
    }
    return j;
}

static int note_job(sched_t *s, struct job *j, const struct dependency *d, uint32_t n,
                    struct err *err)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!d[i].open)
            continue;
        if (after_add(s, j, d[i].target, d[i].kind) < 0)
            return err_set(err, ENOMEM, "out of memory");
        if (db_put_after(s->db, j->pub.id, d[i].target, d[i].kind, err) < 0)
            return -1;
    }
    j->state = j->flags & JOB_ON_HOLD ? JOB_HELD : j->afters ? JOB_AFTER : JOB_QUEUED;
    return db_put_job(s->db, j, NULL, NULL, j->run ? j->run->pid : 0,
                      j->run ? (int64_t)j->run->began : 0, err);
}

static int note(sched_t *s, const struct wanted *w, const struct wire *wire, uint32_t count,
                struct err *err)
{
    uint32_t n = w->after ? w->after->size : 0;
    CLEANUP(cleanup_free) struct dependency *d = calloc(n + 1, sizeof *d);
    uint64_t first = s->next_id;

    if (!d)
        return err_set(err, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < n; i++)
        if (one_after(s, &w->after->ptr[i], &d[i], (uint32_t)wire->uid, err) < 0)
            return -1;
    int64_t text = db_put_text(s->db, &w->text, err);
    if (text < 0 || db_put_token(s->db, (uint32_t)wire->uid, w->token, first, count, err) < 0)
        return -1;
    for (uint32_t i = 0; i < count; i++) {
        struct job *j = make_job(s, w, wire, first + i, first, i, text);
        if (!j)
            return err_set(err, ENOMEM, "out of memory");
        if ((w->flags & JOB_INTERACTIVE) &&
            run_watch_bjssub(s, j, (pid_t)wire->pid, 0) < 0)
            return err_set(err, ESRCH, "the asker (pid %lld) has gone", (long long)wire->pid);
        if (note_job(s, j, d, n, err) < 0)
            return -1;
    }
    return 0;
}

static void pack_answer(mp_buf *m, uint64_t first, uint32_t count)
{
    mp_map(m, 2);
    mp_kuint(m, "job", first);
    mp_kuint(m, "count", count);
}

int on_submit(void *self, struct svc_req *req, struct err *err)
{
    sched_t *s = self;
    CLEANUP(wanted_free) struct wanted w = { 0 };
    uint64_t first;
    uint32_t count;

    if (!s->configured)
        return err_set(err, EAGAIN, "sched does not know the nodes yet; try again");
    if (req->w->node != -1 || req->w->uid < 0)
        return err_set(err, EPERM, "jobs are submitted on the master");
    if (take(s, req, &w, err) < 0)
        return -1;
    int rc = db_token(s->db, (uint32_t)req->w->uid, w.token, &first, &count, err);
    if (rc < 0)
        return -1;
    if (rc > 0) { /* the answer to it was lost */
        pack_answer(req->reply, first, count);
        return 0;
    }
    struct submission *sub = calloc(1, sizeof *sub);
    if (!sub)
        return err_set(err, ENOMEM, "out of memory");
    count = w.from >= 0 ? (uint32_t)(w.to - w.from + 1) : 1;
    first = s->next_id;
    if (db_mark(s->db, err) < 0 || note(s, &w, req->w, count, err) < 0) {
        db_back(s->db);
        drop_jobs(s, first, count);
        free(sub);
        return -1;
    }
    s->next_id += count;
    *sub = (struct submission){ req->token, first, count, NULL };
    *s->subs_end = sub;
    s->subs_end = &sub->next;
    turn_soon(s);
    return SVC_LATER;
}

void submissions_written(sched_t *s)
{
    struct submission *sub = s->subs, *next;

    s->subs = NULL;
    s->subs_end = &s->subs;
    for (; sub; sub = next) {
        CLEANUP(mp_free) mp_buf m;
        next = sub->next;
        mp_init(&m);
        pack_answer(&m, sub->first, sub->count);
        svc_answer(s->svc, sub->token, &m);
        for (uint32_t i = 0; i < sub->count; i++) {
            struct job *j = job_find(s, sub->first + i);
            if (!j)
                continue;
            if (i == 0) /* an array is said once: nobody wants 64,000 events at a blow */
                job_say(s, j, "submitted");
            job_wait(s, j);
        }
        free(sub);
    }
}

void submissions_failed(sched_t *s, const struct err *why)
{
    struct submission *sub = s->subs, *next;

    s->subs = NULL;
    s->subs_end = &s->subs;
    for (; sub; sub = next) {
        next = sub->next;
        svc_fail(s->svc, sub->token, why);
        drop_jobs(s, sub->first, sub->count);
        free(sub);
    }
}
