/* kin.c - processes of the node that have children on other machines
 *
 * A program here asks for a launch as on the master. Its stand-ins, children
 * that it has made, are told to bpinit first, which says who it is itself; then
 * the master is asked in the name of that process, which it knows.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "node/agent/agent.h"

#define RIGHTS "security.capability"
#define AGAIN_MS 20 /* the master has not heard of the asker yet */
#define LAUNCH_MS 120000

/* ---- who asks ---- */

int asker_of(int fd, struct asker *out, struct err *err)
{
    struct ucred c;
    socklen_t len = sizeof c;
    char path[64], line[512];
    long npid = 0;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &len) < 0)
        return err_set(err, errno, "SO_PEERCRED: %s", strerror(errno));
    snprintf(path, sizeof path, "/proc/%d/status", (int)c.pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "NSpid:", 6) == 0) {
            const char *last = strrchr(line, '\t'); /* the innermost space's */
            npid = last ? strtol(last + 1, NULL, 10) : 0;
        }
    if (f)
        fclose(f);
    if (npid < 2 || npid > INT32_MAX)
        return err_set(err, ESRCH, "the asker has gone");
    *out = (struct asker){ (int32_t)npid, c.uid };
    return 0;
}

/* ---- a launch ---- */

struct launching {
    agent_t *a;
    struct asker who;
    mp_buf body;  /* the request's pairs */
    uint32_t pairs;
    int64_t end;
    kin_answer_fn *fn;
    void *arg;
};

static void finish(struct launching *l, const msgpack_object *value, const struct err *err)
{
    l->fn(l->arg, value, err);
    mp_free(&l->body);
    free(l);
}

static void ask_master(void *arg);

static void on_master(void *arg, const msgpack_object *value, const struct err *err)
{
    struct launching *l = arg;

    if (!value && err->code == EAGAIN && now_ms() + AGAIN_MS < l->end)
        loop_timer(l->a->loop, AGAIN_MS, false, ask_master, l);
    else
        finish(l, value, err);
}

static void ask_master(void *arg)
{
    struct launching *l = arg;
    CLEANUP(mp_free) mp_buf m;
    int64_t left = l->end - now_ms();

    mp_init(&m);
    mp_map(&m, l->pairs);
    msgpack_sbuffer_write(&m.b, l->body.b.data, l->body.b.size);
    svc_call(l->a->svc, "procspace.launch", &m, left > 100 ? (int)left : 100, on_master, l);
}

/* bpinit knows them: [ghost, gen] of the asker, [npid, gen] of each stand-in. */
static void on_standing(void *arg, const msgpack_object *map, const struct err *err)
{
    struct launching *l = arg;
    const msgpack_object_array *why, *who, *pids;
    struct err e = { 0 };
    int64_t code = EIO;

    if (!map) {
        finish(l, NULL, err);
        return;
    }
    if (mp_get(map, "error") && mp_get_array(map, "error", &why, NULL) == 0 && why->size > 1) {
        CLEANUP(cleanup_free) char *text = mp_dup(&why->ptr[1]);
        mp_as_int(&why->ptr[0], &code);
        err_set(&e, (int)code, "%s", text ? text : "refused");
    } else if (mp_get_array(map, "asker", &who, &e) == 0 && who->size > 1 &&
               mp_get_array(map, "pids", &pids, &e) == 0) {
        mp_key(&l->body, "asker");
        mp_array(&l->body, 3);
        mp_int(&l->body, l->who.npid);
        mp_obj(&l->body, &who->ptr[0]);
        mp_obj(&l->body, &who->ptr[1]);
        mp_key(&l->body, "stands");
        mp_obj(&l->body, mp_get(map, "pids"));
        l->pairs += 2;
        ask_master(l);
        return;
    }
    finish(l, NULL, &e);
}

void kin_launch(agent_t *a, const struct asker *who, const msgpack_object *body, int64_t ms,
                kin_answer_fn *fn, void *arg)
{
    struct launching *l = calloc(1, sizeof *l);
    CLEANUP(mp_free) mp_buf pairs;
    const msgpack_object *pids = mp_get(body, "pids");
    struct err err = { 0 };

    mp_init(&pairs);
    if (!l || !pids) {
        free(l);
        err_set(&err, l ? EPROTO : ENOMEM, l ? "pids: missing" : "out of memory");
        fn(arg, NULL, &err);
        return;
    }
    *l = (struct launching){ .a = a, .who = *who, .fn = fn, .arg = arg };
    l->end = now_ms() + (ms > 0 && ms < LAUNCH_MS ? ms : LAUNCH_MS);
    mp_init(&l->body);
    for (uint32_t i = 0; i < body->via.map.size; i++) {
        const msgpack_object_kv *kv = &body->via.map.ptr[i];
        if (mp_is(&kv->key, "asker") || mp_is(&kv->key, "stands"))
            continue; /* ours to say */
        mp_obj(&l->body, &kv->key);
        mp_obj(&l->body, &kv->val);
        l->pairs++;
    }
    mp_kint(&pairs, "asker", who->npid);
    mp_key(&pairs, "pids");
    mp_obj(&pairs, pids);
    space_ask(a->space, "stand", &pairs, 2, on_standing, l);
}

/* ---- a move of one that has children ---- */

/* What it has sent to them goes by way of their stand-ins here, which end when it has left. */
struct parting {
    agent_t *a;
    mp_buf body;
    int64_t end;
    kin_answer_fn *fn;
    void *arg;
};

static void part(struct parting *p, const struct err *err)
{
    int64_t left = p->end - now_ms();

    if (err)
        p->fn(p->arg, NULL, err);
    else
        svc_call(p->a->svc, "procspace.launch", &p->body, left > 100 ? (int)left : 100, p->fn, p->arg);
    mp_free(&p->body);
    free(p);
}

static void on_quiet(void *arg, const msgpack_object *map, const struct err *err)
{
    const msgpack_object_array *why;
    struct err e = { 0 };

    if (map && mp_get(map, "error") && mp_get_array(map, "error", &why, NULL) == 0 && why->size > 1) {
        CLEANUP(cleanup_free) char *text = mp_dup(&why->ptr[1]);
        err_set(&e, EAGAIN, "%s", text ? text : "it is busy");
    } else if (!map) {
        err_set(&e, EAGAIN, "%s", err->text);
    }
    part(arg, e.code ? &e : NULL);
}

void kin_part(agent_t *a, const msgpack_object *children, const mp_buf *body, int ms,
              kin_answer_fn *fn, void *arg)
{
    struct parting *p = malloc(sizeof *p);
    CLEANUP(mp_free) mp_buf pairs;
    struct err err = { 0 };

    mp_init(&pairs);
    if (!p) {
        err_set(&err, ENOMEM, "out of memory");
        fn(arg, NULL, &err);
        return;
    }
    *p = (struct parting){ .a = a, .end = now_ms() + ms, .fn = fn, .arg = arg };
    mp_init(&p->body);
    msgpack_sbuffer_write(&p->body.b, body->b.data, body->b.size);
    mp_key(&pairs, "pids");
    mp_array(&pairs, children->via.array.size);
    for (uint32_t i = 0; i < children->via.array.size; i++) {
        const msgpack_object *row = &children->via.array.ptr[i];
        if (row->type == MSGPACK_OBJECT_ARRAY && row->via.array.size)
            mp_obj(&pairs, &row->via.array.ptr[0]);
        else
            mp_nil(&pairs); /* procspace refuses it */
    }
    space_ask(a->space, "quiet", &pairs, 1, on_quiet, p);
}

/* ---- stand-ins ---- */

/* node.N.ring: {npid, op, arg} -> nil: the bell of a stand-in */
int on_ring(void *self, struct svc_req *req, struct err *err)
{
    agent_t *a = self;
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_obj(&m, req->body);
    mp_nil(req->reply);
    return space_send(a->space, "ring", &m, err);
}

/* node.N.home: {launch, rank, home, npid} -> nil: where the parent of a body waits
 * for it now, and under which number of its stand-in; -1: on the master */
int on_home(void *self, struct svc_req *req, struct err *err)
{
    agent_t *a = self;
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_obj(&m, req->body);
    mp_nil(req->reply);
    return space_send(a->space, "home", &m, err);
}

/* With the rights that the file has on the master (security.capability). */
static int place_program(int folder, const char *name, struct err *err)
{
    char path[PATH_MAX], fresh[64], buf[65536];
    ssize_t n;

    snprintf(path, sizeof path, "%.4000s/%s", cm_libexec(), name);
    snprintf(fresh, sizeof fresh, "%s.new", name);
    CLEANUP(cleanup_close) int from = open(path, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    unlinkat(folder, fresh, 0);
    CLEANUP(cleanup_close) int to =
        openat(folder, fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0755);
    for (n = -1; to >= 0 && (n = read(from, buf, sizeof buf)) > 0;)
        if (write(to, buf, (size_t)n) != n)
            break;
    if (n != 0 || fchmod(to, 0755) < 0)
        return err_set(err, errno, "the node's %s: %s", name, strerror(errno));
    /* Without them it does what a user's program can. */
    n = fgetxattr(from, RIGHTS, buf, sizeof buf);
    if (n > 0 && fsetxattr(to, RIGHTS, buf, (size_t)n, 0) < 0)
        svc_log("info", "the node's %s: no rights of its own: %s", name, strerror(errno));
    if (renameat(folder, fresh, folder, name) < 0)
        return err_set(err, errno, "the node's %s: %s", name, strerror(errno));
    return 0;
}

int kin_place_programs(int folder, struct err *err)
{
    static const char *const names[] = { "bpghost", "bprestore", "bpbegin" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (place_program(folder, names[i], err) < 0)
            return -1;
    return 0;
}

/* node.N.orphan: {parent: [pid, node, id]} -> nil: it is dead, bpinit's stand-in
 * of it is to end. */
int on_orphan(void *self, struct svc_req *req, struct err *err)
{
    agent_t *a = self;
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_obj(&m, req->body);
    mp_nil(req->reply);
    return space_send(a->space, "orphan", &m, err);
}
