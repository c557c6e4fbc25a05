/* bpinit_spawn.c - a spawn message becomes bodies: plan, pipes, children */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "node/bpinit.h"
#include "node/bpinit_begin.h"
#include "node/bpinit_kids.h"
#include "node/bpinit_kin.h"
#include "node/bpinit_spawn.h"

#define PIPE_LARGE (1024 * 1024) /* for a launch of few bodies on this node */
#define FEW 4
#define LIST_MAX (1u << 20)

/* --- from the message to a plan --- */

static void free_texts(char **v)
{
    for (size_t i = 0; v && v[i]; i++)
        free(v[i]);
    free(v);
}

struct plan *plan_hold(struct plan *p)
{
    p->refs++;
    return p;
}

void plan_release(struct plan **pp)
{
    struct plan *p = *pp;

    *pp = NULL;
    if (!p || --p->refs)
        return;
    free(p->path);
    free(p->cwd);
    free(p->root);
    free_texts(p->argv);
    free_texts(p->envp);
    free(p->groups);
    free(p->limits);
    free(p->home_npid);
    free(p->children);
    free(p->here);
    for (int fd = 0; fd < 3; fd++)
        free(p->stream[fd].path);
    plan_io_free(p);
    free(p);
}

static int get_texts(const msgpack_object *map, const char *key, char ***out,
                     struct err *err)
{
    const msgpack_object_array *a;

    if (mp_get_array(map, key, &a, err) < 0)
        return -1;
    *out = calloc((size_t)a->size + 1, sizeof **out);
    if (!*out)
        return err_set(err, ENOMEM, "%s: out of memory", key);
    for (uint32_t i = 0; i < a->size; i++)
        if (!((*out)[i] = mp_dup(&a->ptr[i])))
            return err_set(err, EPROTO, "%s: item %u: want text", key, i);
    return 0;
}

static int get_groups(const msgpack_object *map, struct plan *p, struct err *err)
{
    const msgpack_object_array *a;
    int64_t g;

    if (mp_get_array(map, "groups", &a, err) < 0)
        return -1;
    p->groups = calloc((size_t)a->size + 1, sizeof *p->groups);
    if (!p->groups)
        return err_set(err, ENOMEM, "groups: out of memory");
    for (uint32_t i = 0; i < a->size; i++) {
        if (!mp_as_int(&a->ptr[i], &g) || g < 0 || g >= UINT32_MAX)
            return err_set(err, EPROTO, "groups: item %u: want a group id", i);
        p->groups[p->ngroups++] = (gid_t)g;
    }
    return 0;
}

/* A limit; "unlimited" is -1 or the largest number. */
static bool get_rlim(const msgpack_object *o, rlim_t *out)
{
    if (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
        *out = o->via.u64;
    else if (o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER && o->via.i64 == -1)
        *out = RLIM_INFINITY;
    else
        return false;
    return true;
}

static int get_limits(const msgpack_object *map, struct plan *p, struct err *err)
{
    const msgpack_object_array *a;

    if (!mp_get(map, "limits"))
        return 0;
    if (mp_get_array(map, "limits", &a, err) < 0)
        return -1;
    p->limits = calloc((size_t)a->size + 1, sizeof *p->limits);
    if (!p->limits)
        return err_set(err, ENOMEM, "limits: out of memory");
    for (uint32_t i = 0; i < a->size; i++) {
        const msgpack_object *o = &a->ptr[i];
        struct limit_plan *l = &p->limits[p->nlimits++];
        int64_t resource = -1;

        if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 3 ||
            !mp_as_int(&o->via.array.ptr[0], &resource) || resource < 0 ||
            resource >= RLIM_NLIMITS ||
            !get_rlim(&o->via.array.ptr[1], &l->limit.rlim_cur) ||
            !get_rlim(&o->via.array.ptr[2], &l->limit.rlim_max))
            return err_set(err, EPROTO, "limits: item %u: want [resource, soft, hard]", i);
        l->resource = (int)resource;
    }
    return 0;
}

/* "home": [node, [pid there of rank 0, 1, ...]] */
static int get_home(const msgpack_object *map, struct plan *p, struct err *err)
{
    const msgpack_object *o = mp_get(map, "home");
    const msgpack_object_array *a = o ? &o->via.array : NULL;
    int64_t node, pid;

    p->home = -1;
    if (!o)
        return 0;
    if (o->type != MSGPACK_OBJECT_ARRAY || a->size < 2 || !mp_as_int(&a->ptr[0], &node) ||
        node < 0 || node > INT32_MAX || a->ptr[1].type != MSGPACK_OBJECT_ARRAY)
        return err_set(err, EPROTO, "home: want [node, [pid...]]");
    a = &a->ptr[1].via.array;
    p->home_npid = calloc((size_t)a->size + 1, sizeof *p->home_npid);
    if (!p->home_npid)
        return err_set(err, ENOMEM, "home: out of memory");
    for (; p->nhome < a->size; p->nhome++) {
        if (!mp_as_int(&a->ptr[p->nhome], &pid) || pid < 0 || pid > INT32_MAX)
            return err_set(err, EPROTO, "home: item %zu: want a pid", p->nhome);
        p->home_npid[p->nhome] = (pid_t)pid;
    }
    p->home = (int)node;
    return 0;
}

/* "here": those of its children that run here, by number */
static int get_here(const msgpack_object *map, struct plan *p, struct err *err)
{
    const msgpack_object_array *a;
    int64_t pid;

    if (!mp_get(map, "here"))
        return 0;
    if (mp_get_array(map, "here", &a, err) < 0)
        return -1;
    if (!(p->here = calloc((size_t)a->size + 1, sizeof *p->here)))
        return err_set(err, ENOMEM, "here: out of memory");
    for (; p->nhere < a->size; p->nhere++) {
        if (!mp_as_int(&a->ptr[p->nhere], &pid) || pid < 2 || pid > INT32_MAX)
            return err_set(err, EPROTO, "here: item %zu: want a pid", p->nhere);
        p->here[p->nhere] = (pid_t)pid;
    }
    return 0;
}

/* "children": [[pid, leads, comm]...] */
static int get_children(const msgpack_object *map, struct plan *p, struct err *err)
{
    const msgpack_object_array *a;
    int64_t pid;

    if (!mp_get(map, "children"))
        return 0;
    if (mp_get_array(map, "children", &a, err) < 0)
        return -1;
    p->children = calloc((size_t)a->size + 1, sizeof *p->children);
    if (!p->children)
        return err_set(err, ENOMEM, "children: out of memory");
    for (; p->nchildren < a->size; p->nchildren++) {
        const msgpack_object *o = &a->ptr[p->nchildren];
        struct plan_child *k = &p->children[p->nchildren];
        if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 3 ||
            !mp_as_int(&o->via.array.ptr[0], &pid) || pid < 2 || pid > INT32_MAX ||
            o->via.array.ptr[1].type != MSGPACK_OBJECT_BOOLEAN)
            return err_set(err, EPROTO, "children: want [pid, leads, comm] rows");
        CLEANUP(cleanup_free) char *comm = mp_dup(&o->via.array.ptr[2]);
        k->pid = (pid_t)pid;
        k->leads = o->via.array.ptr[1].via.boolean;
        snprintf(k->comm, sizeof k->comm, "%s", comm ? comm : "child");
    }
    return 0;
}

static int get_stream(const msgpack_object *o, struct stream_plan *s, struct err *err)
{
    const msgpack_object *mode = mp_get(o, "mode");

    s->to = mp_opt_int(o, "to", -1);
    if (mode && mp_is(mode, "null"))
        s->mode = STREAM_NULL;
    else if (mode && mp_is(mode, "forward"))
        s->mode = STREAM_FORWARD;
    else if (mode && mp_is(mode, "file"))
        s->mode = STREAM_FILE;
    else
        return err_set(err, EPROTO, "streams: mode: want null, forward or file");
    return s->mode == STREAM_FILE ? mp_get_dup(o, "path", &s->path, err) : 0;
}

static int get_streams(const msgpack_object *map, struct plan *p, struct err *err)
{
    const msgpack_object_array *a;

    if (mp_get_array(map, "streams", &a, err) < 0)
        return -1;
    if (a->size < 3)
        return err_set(err, EPROTO, "streams: want three");
    for (int fd = 0; fd < 3; fd++)
        if (get_stream(&a->ptr[fd], &p->stream[fd], err) < 0)
            return -1;
    return 0;
}

/* Where each body's rank is written: "BPROC_RANK=XXXXXXX". */
static char *find_rank_digits(char **envp)
{
    static const char name[] = "BPROC_RANK=";

    for (; *envp; envp++)
        if (strncmp(*envp, name, sizeof name - 1) == 0 &&
            strcmp(*envp + sizeof name - 1, "XXXXXXX") == 0)
            return *envp + sizeof name - 1;
    return NULL;
}

/* Without control groups, by this its processes are known (bpinit_kids.c). */
static int mark_environment(struct plan *p, struct err *err)
{
    char text[48];
    size_t n = 0;

    while (p->envp[n])
        n++;
    char **env = realloc(p->envp, (n + 2) * sizeof *env);
    if (!env)
        return err_set(err, ENOMEM, "out of memory");
    p->envp = env;
    snprintf(text, sizeof text, LAUNCH_MARK "%llu", (unsigned long long)p->launch);
    env[n + 1] = NULL;
    env[n] = strdup(text);
    return env[n] ? 0 : err_set(err, ENOMEM, "out of memory");
}

/* As /proc/PID/cmdline will have it. */
static int hash_name(struct plan *p)
{
    size_t len = 0;

    for (char **a = p->argv; *a; a++)
        len += strlen(*a) + 1;
    CLEANUP(cleanup_free) char *all = malloc(len + 1);
    if (!all)
        return -1;
    len = 0;
    for (char **a = p->argv; *a; a++) {
        size_t n = strlen(*a) + 1;
        memcpy(all + len, *a, n);
        len += n;
    }
    p->name = kids_name_hash(all, len < KID_ARGS ? len : KID_ARGS);
    return 0;
}

static uint64_t env_number(const struct plan *p, const char *name, uint64_t max)
{
    size_t n = strlen(name);
    uint64_t v = 0;

    for (char **e = p->envp; e && *e; e++)
        if (strncmp(*e, name, n) == 0 && (*e)[n] == '=')
            v = strtoull(*e + n + 1, NULL, 10);
    return v < max ? v : max;
}

/* The scheduler's job that it is part of. */
static void read_job(struct plan *p)
{
    p->job.id = env_number(p, "JOBID", UINT64_MAX);
    if (!p->job.id)
        return;
    p->job.attempt = (uint32_t)env_number(p, "JOBATTEMPT", UINT32_MAX);
    p->job.mem = env_number(p, "JOBMEM", INT64_MAX >> 20) << 20;
    p->job.cpu_milli = (uint32_t)env_number(p, "JOBCPUS", UINT32_MAX / 1000) * 1000;
}

static int plan_read(const msgpack_object *map, struct plan *p, struct err *err)
{
    int64_t mask, uid, gid;

    if (mp_get_uint(map, "launch", &p->launch, err) < 0 ||
        mp_get_dup(map, "path", &p->path, err) < 0 ||
        get_texts(map, "argv", &p->argv, err) < 0 ||
        get_texts(map, "env", &p->envp, err) < 0 ||
        mp_get_dup(map, "cwd", &p->cwd, err) < 0 ||
        mp_get_int(map, "umask", 0, 07777, &mask, err) < 0 ||
        mp_get_int(map, "uid", 0, UINT32_MAX - 1, &uid, err) < 0 ||
        mp_get_int(map, "gid", 0, UINT32_MAX - 1, &gid, err) < 0 ||
        get_groups(map, p, err) < 0 || get_limits(map, p, err) < 0 ||
        get_streams(map, p, err) < 0 || plan_io_read(map, p, err) < 0 ||
        get_home(map, p, err) < 0 || get_children(map, p, err) < 0 ||
        get_here(map, p, err) < 0)
        return -1;
    p->root = mp_opt_dup(map, "root");
    if (hash_name(p) < 0)
        return err_set(err, ENOMEM, "out of memory");
    int64_t mem = mp_opt_int(map, "mem", 0), cpus = mp_opt_int(map, "cpu_milli", 0);
    if (mem < 0 || cpus < 0 || cpus > UINT32_MAX)
        return err_set(err, EPROTO, "mem, cpu_milli: want positive numbers");
    p->mem = (uint64_t)mem;
    p->cpu_milli = (uint32_t)cpus;
    p->umask = (mode_t)mask & 0777;
    p->uid = (uid_t)uid;
    p->gid = (gid_t)gid;
    p->owner = (pid_t)mp_opt_int(map, "owner", 0);
    p->image = mp_get(map, "image") != NULL;
    p->gen = (uint32_t)mp_opt_int(map, "gen", 1);
    if (mp_get(map, "as") && mp_get_uint(map, "as", &p->as, err) < 0)
        return -1;
    p->rank_digits = find_rank_digits(p->envp);
    read_job(p);
    return 0;
}

/* --- why an exec failed, in words --- */

/* The interpreter that a script's first line names; false: not a script. */
static bool script_of(const struct plan *p, char *buf, size_t size)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%.2000s%.2000s", p->root ? p->root : "", p->path);
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);
    if (n < 3 || buf[0] != '#' || buf[1] != '!')
        return false;
    buf[n] = 0;
    size_t from = 2 + strspn(buf + 2, " \t");
    size_t len = strcspn(buf + from, " \t\r\n");
    memmove(buf, buf + from, len);
    buf[len] = 0;
    return true;
}

void plan_explain(const struct plan *p, const struct child *c, struct err *err)
{
    char interp[256];
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%.2000s%.2000s", p->root ? p->root : "", p->path);
    if (c->what == p->path && c->code == ENOENT && access(path, F_OK) == 0) {
        if (script_of(p, interp, sizeof interp))
            err_set(err, ENOENT, "script %s: interpreter %s not found on the node", p->path,
                    interp);
        else
            err_set(err, ENOENT, "%s: its loader (ld.so) is not on the node", p->path);
    } else if (c->what == p->path && c->code == ENOEXEC) {
        err_set(err, ENOEXEC, "%s: neither a program for this node nor a script with #!",
                p->path);
    } else {
        err_set(err, c->code, "%s: %s", c->what, strerror(c->code));
    }
}

/* --- one rank --- */

/* Our end is non-blocking and *theirs is the body's. */
static int make_pipe(int fd, bool few, int *theirs, struct err *err)
{
    int p[2];

    if (pipe2(p, O_CLOEXEC) < 0)
        return err_set(err, errno, "pipe: %s", strerror(errno));
    int ours = p[fd == 0 ? 1 : 0];
    *theirs = p[fd == 0 ? 0 : 1];
    fcntl(ours, F_SETFL, O_NONBLOCK);
    if (few && fd == 1)
        fcntl(ours, F_SETPIPE_SZ, PIPE_LARGE); /* a smaller one is fine too */
    return ours;
}

static bool forwarded(const struct stream_plan *s, uint32_t rank)
{
    return s->mode == STREAM_FORWARD && (s->to < 0 || s->to == rank);
}

static int open_streams(struct init *in, const struct plan *p, bool few,
                        struct outcome *o, int theirs[3])
{
    for (int fd = 0; fd < 3; fd++) {
        const struct stream_plan *s = &p->stream[fd];
        if (!forwarded(s, o->rank))
            continue;
        int ours = make_pipe(fd, few, &theirs[fd], &o->err);
        if (ours < 0)
            return -1;
        o->slot[fd] = rings_take(in->rings, p->launch, o->rank, fd, &o->err);
        if (o->slot[fd] < 0 ||
            pump_add(in->pump, (uint32_t)o->slot[fd], ours, p->uid, &o->err) < 0) {
            close(ours);
            return -1;
        }
    }
    return 0;
}

static void close_streams(struct init *in, struct outcome *o)
{
    for (int fd = 0; fd < 3; fd++) {
        if (o->slot[fd] >= 0)
            pump_release(in->pump, (uint32_t)o->slot[fd]);
        o->slot[fd] = -1;
    }
}

static int note_body(struct init *in, const struct plan *p, pid_t pid, pid_t pgid,
                     struct outcome *o)
{
    struct body b = {
        .pid = pid, .npid = o->npid, .gen = p->gen, .as = p->as, .launch = p->launch,
        .rank = o->rank,
        .uid = p->uid, .gid = p->gid, .owner = p->owner, .start = wall_ms(),
        .pgid = pgid, .name = p->name, .arriving = p->image || o->pending, .starting = o->pending,
        .slot = { o->slot[0], o->slot[1], o->slot[2] }, .parent = p->parent, .home = -1,
    };

    if (p->home >= 0 && o->rank < p->nhome) {
        b.home = p->home;
        b.home_npid = p->home_npid[o->rank];
    }

    b.argv0 = strdup(p->argv[0] ? p->argv[0] : p->path);
    if (!b.argv0)
        return err_set(&o->err, ENOMEM, "out of memory");
    if (bodies_add(in->bodies, &b, &o->err) < 0) {
        free(b.argv0);
        return -1;
    }
    kin_child_added(p->parent);
    return 0;
}

/* What stands for its children was made with it: from now on we know them. */
static void note_children(struct init *in, const struct plan *p, const struct outcome *o)
{
    struct err why = { 0 };

    for (size_t i = 0; i < p->nchildren; i++)
        if (stand_made(in, p->children[i].made, o->npid, p->launch, &why) < 0)
            kill(p->children[i].made, SIGKILL); /* its parent has ended already */
}

static void end_children(const struct plan *p)
{
    for (size_t i = 0; i < p->nchildren; i++)
        if (p->children[i].made > 0)
            kill(p->children[i].made, SIGKILL);
}

void plan_write_rank(const struct plan *p, uint32_t rank)
{
    uint32_t index = plan_index(p, rank);

    for (int i = 6; p->rank_digits && i >= 0; i--, index /= 10)
        p->rank_digits[i] = (char)('0' + index % 10);
}

/* Who stands for it here is to be it; under: who makes that one first, or 0. */
static int start_into(struct init *in, struct plan *p, pid_t pid, pid_t under,
                      cage_t *cage, int stream[3], struct outcome *o)
{
    pid_t ghost = o->npid = pid;

    if (under && kill(ghost, 0) == 0)
        return err_set(&o->err, EAGAIN, "the number %d is still in use here", (int)ghost);
    if (under && !kids_is_of(in->kids, under, p->uid, p->gid))
        return err_set(&o->err, EBUSY, "process %d has left children here, as another user",
                       (int)under);
    o->pending = !p->image;
    if (note_body(in, p, ghost, getpgid(under ? under : ghost), o) < 0)
        return -1;
    if (arrival_into(in->arrivals, p, o->rank, pid, under, cage, stream, &o->err) < 0) {
        o->pending = false;
        struct body *b = bodies_by_rank(in->bodies, p->launch, o->rank);
        b->parent = NULL;
        bodies_drop(in->bodies, b);
        kin_child_not(p->parent);
        return -1;
    }
    cage_started(cage);
    return 0;
}

static int start_rank(struct init *in, struct plan *p, pid_t pid, pid_t *pgid,
                      bool few, struct outcome *o)
{
    struct child c = { .plan = p, .pid = pid, .fd = { -1, -1, -1 }, .pgid = *pgid };
    int theirs[3] = { -1, -1, -1 };
    struct arrival *arrival = NULL;
    const struct cage_wish wish = { p->launch, p->mem, p->cpu_milli, p->uid, p->job };
    cage_t *cage = cages_get(in->cages, &wish, &o->err);
    int rc = cage ? open_streams(in, p, few, o, theirs) : -1;

    for (int fd = 0; fd < 3; fd++)
        if (theirs[fd] >= 0)
            c.fd[fd] = theirs[fd];
        else if (p->stream[fd].mode != STREAM_FILE)
            c.fd[fd] = in->null_fd;
    if (rc == 0 && p->image && p->gen > 1)
        arrivals_sent_anew(in->arrivals, pid, p->launch, p->uid);
    bool into = rc == 0 && p->image && p->gen > 1 && kin_waits(in, p, pid, &o->err);
    rc = o->err.code ? -1 : rc;
    if (rc == 0 && !into && p->image && p->gen > 1)
        reap_departed(in, pid);
    if (rc == 0 && !into && p->image && p->gen > 1 && kill(pid, 0) == 0) /* its old self, most likely */
        rc = err_set(&o->err, EAGAIN, "a process %d is still here", (int)pid);
    pid_t under = into ? 0 : kin_program(p->parent);
    /* That end, told later, would be taken for the new one's. */
    if (rc == 0 && under && p->gen > 1 && arrivals_departed(in->arrivals, pid))
        rc = err_set(&o->err, EAGAIN, "its parent has not said yet that its old self has ended");
    if (into || (rc == 0 && under)) {
        rc = start_into(in, p, pid, under, cage, theirs, o);
        for (int fd = 0; fd < 3; fd++)
            cleanup_close(&theirs[fd]);
        if (rc < 0)
            close_streams(in, o);
        return rc;
    }
    if (rc == 0 && p->image) {
        c.restore = in->restore_fd;
        arrival = arrival_begin(in->arrivals, p->launch, o->rank, &c.image, &c.control, &o->err);
        rc = arrival ? 0 : -1;
    }
    if (rc == 0) {
        if (p->gen > 1) /* of its old self: that end would be taken for this one's */
            kin_hear(in, p->parent);
        plan_write_rank(p, o->rank);
        cage_join(cage, &c);
        o->npid = kin_start(in, p->parent, &c, pid);
        if (o->npid == -EAGAIN)
            rc = err_set(&o->err, EAGAIN, "the number %d is still in use here", (int)pid);
        else if (o->npid < 0)
            rc = err_set(&o->err, -o->npid, "start a process: %s", strerror(-o->npid));
    }
    for (int fd = 0; fd < 3; fd++)
        cleanup_close(&theirs[fd]);
    if (rc == 0 && c.code) {
        plan_explain(p, &c, &o->err);
        rc = -1;
    }
    if (rc == 0 && note_body(in, p, pid, *pgid ? *pgid : o->npid, o) < 0) {
        kill(o->npid, SIGKILL);
        rc = -1;
    }
    if (rc == 0)
        note_children(in, p, o);
    else
        end_children(p);
    if (arrival)
        arrival_begun(arrival, rc == 0 ? o->npid : 0, p->uid, c.control, &o->err);
    if (rc < 0) {
        close_streams(in, o);
        return -1;
    }
    cage_started(cage);
    if (*pgid == 0)
        *pgid = o->npid;
    return 0;
}

/* --- the whole message --- */

static int rank_and_pid(const msgpack_object *o, int64_t *rank, int64_t *pid)
{
    return o->type == MSGPACK_OBJECT_ARRAY && o->via.array.size >= 2 &&
                   mp_as_int(&o->via.array.ptr[0], rank) && *rank >= 0 &&
                   *rank < UINT32_MAX && mp_as_int(&o->via.array.ptr[1], pid) &&
                   *pid > 0 && *pid <= INT32_MAX
               ? 0
               : -1;
}

/* why: the plan could not be read, which every rank is told. 1: the answer comes later. */
static int start_all(struct init *in, struct plan *p, const struct err *why,
                     const msgpack_object_array *procs, mp_buf *out, struct err *err)
{
    CLEANUP(cleanup_free) struct outcome *o = calloc((size_t)procs->size + 1, sizeof *o);
    pid_t pgid = p->parent ? kin_parent_npid(p->parent) : 0; /* in its parent's group */

    if (!o)
        return err_set(err, ENOMEM, "%u processes: out of memory", procs->size);
    for (uint32_t i = 0; i < procs->size; i++) {
        int64_t rank, pid;
        if (rank_and_pid(&procs->ptr[i], &rank, &pid) < 0)
            return err_set(err, EPROTO, "procs: item %u: want [rank, pid]", i);
        o[i].rank = (uint32_t)rank;
        o[i].npid = (pid_t)pid;
    }
    for (uint32_t i = 0; i < procs->size; i++) {
        const struct body *known = bodies_by_rank(in->bodies, p->launch, o[i].rank);
        pid_t pid = o[i].npid;

        memset(o[i].slot, -1, sizeof o[i].slot);
        if (why->code) {
            o[i].err = *why;
        } else if (in->ending) {
            err_set(&o[i].err, EAGAIN, "the node is going down");
        } else if (known) {
            /* A repeat, by an agent that did not live to hear our answer. */
            o[i].npid = known->npid;
            o[i].pending = known->starting;
            memcpy(o[i].slot, known->slot, sizeof o[i].slot);
        } else {
            start_rank(in, p, pid, &pgid, procs->size <= FEW, &o[i]);
        }
    }
    bool later = answer_begin(in, p->launch, o, procs->size, out);
    if (later)
        o = NULL;
    cages_settle(in->cages, p->launch);
    kids_look_soon(in->kids);
    return later;
}

int spawn_bodies(struct init *in, const msgpack_object *map, mp_buf *out, struct err *err)
{
    const msgpack_object_array *procs;
    struct err why = { 0 };

    if (mp_get_array(map, "procs", &procs, err) < 0)
        return -1;
    if (procs->size > LIST_MAX)
        return err_set(err, EPROTO, "procs: %u are too many", procs->size);
    CLEANUP(plan_release) struct plan *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(err, ENOMEM, "out of memory");
    p->refs = 1;
    if (plan_read(map, p, &why) == 0 && !cages_have_groups(in->cages))
        mark_environment(p, &why);
    if (!why.code)
        kin_parent(in, map, &p->parent, &why);
    int rc = start_all(in, p, &why, procs, out, err);
    kin_parent_settle(p->parent);
    p->parent = NULL; /* it may end before the plan does */
    return rc;
}
