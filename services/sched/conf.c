/* conf.c - bjs.conf: pools and what may be done in them (bjs.conf(5)) */
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/nearest.h"
#include "bus/rundir.h"
#include "services/sched/sched.h"

#define DAY_MS (24 * 3600 * 1000LL)

struct reader {
    sched_t *s;
    struct conf *c;
    struct pool *pool, **end;
    struct strlist *warnings;
    int argc;
    char **argv;
    struct err *err;
};

static int bad(struct reader *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int bad(struct reader *r, const char *fmt, ...)
{
    char text[280];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return err_set(r->err, EINVAL, "%s", text);
}

static int number(struct reader *r, int64_t min, int64_t max, int64_t *out)
{
    char *end;

    errno = 0;
    long long v = strtoll(r->argv[1], &end, 10);
    if (errno || end == r->argv[1] || *end || v < min || v > max)
        return bad(r, "%s %s: want a number of %lld to %lld", r->argv[0], r->argv[1],
                   (long long)min, (long long)max);
    *out = v;
    return 0;
}

static int yes_no(struct reader *r, bool *out)
{
    bool yes = strcmp(r->argv[1], "yes") == 0;

    if (!yes && strcmp(r->argv[1], "no") != 0)
        return bad(r, "%s %s: want yes or no", r->argv[0], r->argv[1]);
    *out = yes;
    return 0;
}

static int set_text(struct reader *r, char **out)
{
    char *copy = strdup(r->argv[1]);

    if (!copy)
        return err_set(r->err, ENOMEM, "out of memory");
    free(*out);
    *out = copy;
    return 0;
}

/* ---- global words ---- */

static int on_policypath(struct reader *r) { return set_text(r, &r->c->policy_path); }
static int on_acctlog(struct reader *r) { return set_text(r, &r->c->acct_log); }
static int on_acctjson(struct reader *r) { return set_text(r, &r->c->acct_json); }

static int on_keepdays(struct reader *r)
{
    int64_t v = 0;

    if (number(r, 0, 36500, &v) < 0)
        return -1;
    r->c->keep_ms = v * DAY_MS;
    return 0;
}

static int on_keepjobs(struct reader *r) { return number(r, 1, 100000000, &r->c->keep_jobs); }

static int on_unused(struct reader *r)
{
    char text[200];

    snprintf(text, sizeof text, "%.60s: %s is not used: state is in %.60s, the socket is the gate",
             r->s->config_path, r->argv[0], cm_statedir());
    return strlist_add(r->warnings, text) < 0 ? err_set(r->err, ENOMEM, "out of memory") : 0;
}

static int on_pool_line(struct reader *r)
{
    const char *name = r->argv[1];

    if (strlen(name) >= sizeof r->pool->name || !*name)
        return bad(r, "pool %.40s: a name has 1 to %zu characters", name,
                   sizeof r->pool->name - 1);
    if (pool_find(r->c->pools, name))
        return bad(r, "pool %s: there is one of that name already", name);
    struct pool *p = pool_create(name, r->err);
    if (!p)
        return -1;
    *r->end = p;
    r->end = &p->next;
    r->pool = p;
    return 0;
}

/* ---- words of a pool ---- */

static int on_policy(struct reader *r)
{
    struct err why = { 0 };

    if (r->pool->policy)
        return bad(r, "policy: pool %s has one already", r->pool->name);
    if (policy_load(r->pool, r->argv[1], r->c->policy_path, &why) < 0)
        return bad(r, "%s", why.text);
    return set_text(r, &r->pool->policy_name);
}

static const struct pool *owner_of(const struct conf *c, const struct pool *but, int node)
{
    for (const struct pool *p = c->pools; p; p = p->next)
        if (p != but && pool_node(p, node))
            return p;
    return NULL;
}

static int on_nodes(struct reader *r)
{
    for (int i = 1; i < r->argc; i++) {
        CLEANUP(nodelist_free) nodelist_t list;
        struct err why = { 0 };
        nodelist_init(&list);
        if (nodespec_eval(r->argv[i], r->s->known, r->s->nknown, true, &list, &why) < 0)
            return bad(r, "nodes: %s", why.text);
        for (size_t k = 0; k < list.n; k++) {
            const struct pool *other = owner_of(r->c, r->pool, list.node[k]);
            if (other)
                return bad(r, "nodes %s: node %d is in pool %s already", r->argv[i],
                           list.node[k], other->name);
            if (list.node[k] >= 0 && pool_add_node(r->pool, list.node[k], r->err) < 0)
                return -1;
        }
    }
    return 0;
}

static int add_id(struct reader *r, uint32_t **v, size_t *n, uint32_t id)
{
    uint32_t *more = realloc(*v, (*n + 1) * sizeof *more);

    if (!more)
        return err_set(r->err, ENOMEM, "out of memory");
    *v = more;
    more[(*n)++] = id;
    return 0;
}

static bool as_id(const char *word, uint32_t *id)
{
    char *end;
    unsigned long v = strtoul(word, &end, 10);

    *id = (uint32_t)v;
    return *word >= '0' && *word <= '9' && !*end && v < UINT32_MAX;
}

static int on_users(struct reader *r)
{
    for (int i = 1; i < r->argc; i++) {
        const struct passwd *pw = getpwnam(r->argv[i]);
        uint32_t id = pw ? pw->pw_uid : 0;
        if (!pw && !as_id(r->argv[i], &id))
            return bad(r, "users: there is no user %s", r->argv[i]);
        if (add_id(r, &r->pool->limit.users, &r->pool->limit.nusers, id) < 0)
            return -1;
    }
    return 0;
}

static int on_groups(struct reader *r)
{
    for (int i = 1; i < r->argc; i++) {
        const struct group *gr = getgrnam(r->argv[i]);
        uint32_t id = gr ? gr->gr_gid : 0;
        if (!gr && !as_id(r->argv[i], &id))
            return bad(r, "groups: there is no group %s", r->argv[i]);
        if (add_id(r, &r->pool->limit.groups, &r->pool->limit.ngroups, id) < 0)
            return -1;
    }
    return 0;
}

static int nodes_limit(struct reader *r, uint32_t *out)
{
    int64_t v = 0;

    if (number(r, 1, NODE_MAX, &v) < 0)
        return -1;
    *out = (uint32_t)v;
    return 0;
}

static int on_minnodes(struct reader *r) { return nodes_limit(r, &r->pool->limit.minnodes); }
static int on_maxnodes(struct reader *r) { return nodes_limit(r, &r->pool->limit.maxnodes); }
static int on_minsecs(struct reader *r) { return number(r, 1, 1LL << 31, &r->pool->limit.minsecs); }
static int on_maxsecs(struct reader *r) { return number(r, 1, 1LL << 31, &r->pool->limit.maxsecs); }

static int on_defaultsecs(struct reader *r)
{
    return number(r, 1, 1LL << 31, &r->pool->limit.defaultsecs);
}

static int on_takeover(struct reader *r)
{
    bool yes = false;

    if (yes_no(r, &yes) < 0)
        return -1;
    r->pool->open = !yes;
    return 0;
}

static int on_killsecs(struct reader *r)
{
    int64_t v = 0;

    if (number(r, 0, 3600, &v) < 0)
        return -1;
    r->pool->kill_ms = v * 1000;
    return 0;
}

static int on_halflife(struct reader *r)
{
    int64_t v = 0;

    if (number(r, 1, 24 * 365 * 10, &v) < 0)
        return -1;
    r->pool->halflife_ms = v * 3600 * 1000;
    return 0;
}

static int signal_number(const char *word)
{
    static const struct { const char *name; int sig; } names[] = {
        { "HUP", SIGHUP },   { "INT", SIGINT },   { "TERM", SIGTERM }, { "USR1", SIGUSR1 },
        { "USR2", SIGUSR2 }, { "CONT", SIGCONT }, { "URG", SIGURG },
    };

    if (strncmp(word, "SIG", 3) == 0)
        word += 3;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(word, names[i].name) == 0)
            return names[i].sig;
    return 0;
}

static int on_warn(struct reader *r)
{
    int sig = signal_number(r->argv[1]);
    char *end;
    long secs = strtol(r->argv[2], &end, 10);

    if (!sig)
        return bad(r, "warn %s: want HUP, INT, TERM, USR1, USR2, CONT or URG", r->argv[1]);
    if (end == r->argv[2] || *end || secs < 1 || secs > 86400)
        return bad(r, "warn %s %s: want 1 to 86400 seconds before the limit", r->argv[1],
                   r->argv[2]);
    r->pool->warn_signal = sig;
    r->pool->warn_ms = secs * 1000;
    return 0;
}

static const struct word {
    const char *name;
    int (*fn)(struct reader *r);
    int min, max; /* arguments */
    bool of_pool;
} words[] = {
    { "policypath", on_policypath, 1, 1, false }, { "acctlog", on_acctlog, 1, 1, false },
    { "acctjson", on_acctjson, 1, 1, false },     { "keepdays", on_keepdays, 1, 1, false },
    { "keepjobs", on_keepjobs, 1, 1, false },     { "spooldir", on_unused, 1, 1, false },
    { "socketpath", on_unused, 1, 1, false },     { "pool", on_pool_line, 1, 1, false },
    { "policy", on_policy, 1, 1, true },          { "nodes", on_nodes, 1, INT_MAX, true },
    { "users", on_users, 1, INT_MAX, true },      { "groups", on_groups, 1, INT_MAX, true },
    { "minnodes", on_minnodes, 1, 1, true },      { "maxnodes", on_maxnodes, 1, 1, true },
    { "minsecs", on_minsecs, 1, 1, true },        { "maxsecs", on_maxsecs, 1, 1, true },
    { "defaultsecs", on_defaultsecs, 1, 1, true }, { "takeover", on_takeover, 1, 1, true },
    { "killsecs", on_killsecs, 1, 1, true },      { "halflife", on_halflife, 1, 1, true },
    { "warn", on_warn, 2, 2, true },
};
#define WORDS (sizeof words / sizeof *words)

/* A word that only the pool's policy may know. */
static int on_other(struct reader *r)
{
    const char *const *known = r->pool && r->pool->policy ? r->pool->policy->settings : NULL;
    const char *names[WORDS + 16];
    size_t n = 0;
    int64_t v = 0;

    for (size_t i = 0; i < WORDS; i++)
        names[n++] = words[i].name;
    for (; known && *known; known++) {
        if (strcmp(*known, r->argv[0]) == 0) {
            if (r->argc != 2)
                return bad(r, "%s: want one number", r->argv[0]);
            if (number(r, -(1LL << 31), 1LL << 31, &v) < 0)
                return -1;
            return pool_set(r->pool, r->argv[0], (long)v) < 0
                       ? err_set(r->err, ENOMEM, "out of memory") : 0;
        }
        if (n < sizeof names / sizeof *names)
            names[n++] = *known;
    }
    const char *near = nearest_word(r->argv[0], names, n);
    return bad(r, "%s is neither a word of bjs.conf nor one of the pool's policy%s%s%s",
               r->argv[0], near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
}

static int on_line(void *arg, int argc, char **argv, struct err *err)
{
    struct reader *r = arg;

    r->argc = argc;
    r->argv = argv;
    r->err = err;
    for (size_t i = 0; i < WORDS; i++) {
        const struct word *w = &words[i];
        if (strcmp(w->name, argv[0]) != 0)
            continue;
        if (w->of_pool && !r->pool)
            return bad(r, "%s belongs to a pool: it comes after a line `pool NAME'", argv[0]);
        if (argc - 1 < w->min)
            return bad(r, "Too few arguments for %s. (min = %d)", argv[0], w->min);
        if (argc - 1 > w->max)
            return bad(r, "Too many arguments for %s. (max = %d)", argv[0], w->max);
        return w->fn(r);
    }
    return on_other(r);
}

/* ---- the whole ---- */

static int defaults(struct conf *c, struct err *err)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%.2000s/policies:/usr/lib64/bjs:/usr/lib/bjs", cm_libexec());
    c->policy_path = strdup(path);
    c->keep_ms = 30 * DAY_MS;
    c->keep_jobs = 100000;
    return c->policy_path ? 0 : err_set(err, ENOMEM, "out of memory");
}

/* All nodes for everybody, one job each at a time, and they stay open: bpsh goes on
 * as if there were no scheduler. */
static int built_in(sched_t *s, struct conf *c, struct err *err)
{
    struct pool *p = c->pools = pool_create("default", err);

    if (!p || policy_load(p, "filler", c->policy_path, err) < 0)
        return -1;
    c->built_in = true;
    p->open = true;
    p->limit.defaultsecs = 3600;
    p->policy_name = strdup("filler");
    for (size_t i = 0; i < s->nknown; i++)
        if (pool_add_node(p, s->known[i].node, err) < 0)
            return -1;
    return p->policy_name ? 0 : err_set(err, ENOMEM, "out of memory");
}

static int check_pools(sched_t *s, struct conf *c, struct err *err)
{
    for (struct pool *p = c->pools; p; p = p->next) {
        const struct limits *l = &p->limit;
        if (!p->policy)
            return err_set(err, EINVAL, "%s: pool %s has no policy: add `policy simple' (or "
                           "shared, filler, easy)", s->config_path, p->name);
        if (l->minnodes && l->maxnodes && l->minnodes > l->maxnodes)
            return err_set(err, EINVAL, "%s: pool %s: minnodes %u is more than maxnodes %u",
                           s->config_path, p->name, l->minnodes, l->maxnodes);
        if (l->minsecs && l->maxsecs && l->minsecs > l->maxsecs)
            return err_set(err, EINVAL, "%s: pool %s: minsecs %lld is more than maxsecs %lld",
                           s->config_path, p->name, (long long)l->minsecs, (long long)l->maxsecs);
    }
    return 0;
}

int conf_load(sched_t *s, struct conf *c, struct strlist *warnings, struct err *err)
{
    struct reader r = { .s = s, .c = c, .end = &c->pools, .warnings = warnings };

    *c = (struct conf){ 0 };
    if (defaults(c, err) < 0)
        return -1;
    if (access(s->config_path, F_OK) < 0 && errno == ENOENT)
        return built_in(s, c, err);
    if (config_each_line(s->config_path, on_line, &r, err) < 0)
        return -1;
    return check_pools(s, c, err);
}

void conf_free(struct conf *c)
{
    struct pool **const lists[] = { &c->pools, &c->gone };

    for (int i = 0; i < 2; i++)
        while (*lists[i]) {
            struct pool *p = *lists[i];
            *lists[i] = p->next;
            pool_free(&p);
        }
    free(c->policy_path);
    free(c->acct_log);
    free(c->acct_json);
    *c = (struct conf){ 0 };
}

struct pool *pool_find(const struct pool *pools, const char *name)
{
    const struct pool *p = pools;

    while (p && strcmp(p->name, name) != 0)
        p = p->next;
    return (struct pool *)(uintptr_t)p;
}

static bool among(uint32_t id, const uint32_t *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (v[i] == id)
            return true;
    return false;
}

bool pool_allows(const struct pool *p, uint32_t uid, uint32_t gid, const uint32_t *groups,
                 size_t ngroups)
{
    const struct limits *l = &p->limit;

    if (uid == 0 || (!l->nusers && !l->ngroups) || among(uid, l->users, l->nusers) ||
        among(gid, l->groups, l->ngroups))
        return true;
    for (size_t i = 0; i < ngroups; i++)
        if (among(groups[i], l->groups, l->ngroups))
            return true;
    return false;
}
