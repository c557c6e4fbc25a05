/* launch.c - one request to start a program on a set of nodes
 *
 * Two questions are asked side by side: what does the program consist of
 * (contents.c), and may this user start work on these nodes (nodemgr). Then
 * one message goes to all nodes, and their answers are folded into one.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/nodespec.h"
#include "services/procspace/family.h"
#include "services/procspace/launch.h"
#include "services/procspace/move_kin.h"

#define MAX_RANKS 1000000
#define ALSO_MAX 256
#define CHECK_MS 10000
#define AGAIN_MS 100
#define PATIENCE_MS 10000 /* an agent may have been started often: bpvnode_machine.c */
#define MARGIN_MS 500 /* our answer leaves this long before the asker gives up */

static void starting_free(struct starting *s)
{
    struct launch *l = launch_find(s->ps, s->id);

    if (l && l->starting == s)
        l->starting = NULL;
    if (!s->move && s->family)
        family_drop(s->ps, s->id);
    manifest_unref(s->ps->contents, &s->manifest);
    identity_free(&s->who);
    launch_kin_free(s);
    for (size_t i = 0; i < s->nfailed; i++)
        free(s->failed[i].text);
    free(s->failed);
    for (size_t i = 0; i < s->nwarnings; i++)
        free(s->warning[i].text);
    free(s->warning);
    nodelist_free(&s->again);
    free(s->at);
    mp_free(&s->lacks);
    mp_free(&s->io);
    loop_timer_del(s->ps->loop, s->late);
    free(s->node);
    free(s->pid);
    free(s->out);
    if (s->zone)
        msgpack_zone_free(s->zone);
    free(s);
}

void rank_failed(struct starting *s, uint32_t rank, int code, const char *text)
{
    struct failed *f = realloc(s->failed, (s->nfailed + 1) * sizeof *f);

    if (!f)
        abort();
    s->failed = f;
    s->failed[s->nfailed++] = (struct failed){ rank, code, strdup(text) };
    s->out[rank] = true;
}

/* --- the end: tell the ghosts of ranks that did not start, and the asker --- */

/* What a shell would give: 127 not there, 126 there but not to be run, 1 refused. */
static int start_status(int code)
{
    switch (code) {
    case ENOENT: return 127;
    case EACCES:
    case ENOEXEC:
    case ELIBACC: return 126;
    default: return 1;
    }
}

void starting_finish(struct starting *s)
{
    struct launch *l = launch_find(s->ps, s->id);
    CLEANUP(mp_free) mp_buf m;

    for (size_t i = 0; i < s->nfailed; i++) {
        struct proc *p = l ? l->rank[s->failed[i].rank] : NULL;
        if (p && p->state == PROC_STARTING && s->self)
            proc_forget(s->ps, p); /* the asker goes on as itself: no bell for it */
        if (p && p->state == PROC_STARTING) {
            cause_set(p, CAUSE_START, 0, -1, 0, s->failed[i].text);
            proc_ended(s->ps, p, start_status(s->failed[i].code) << 8);
        }
    }
    for (uint32_t i = 0; l && s->image && s->parent && i < l->ranks; i++)
        if (l->rank[i] && l->rank[i]->state == PROC_STARTING && !s->to_master &&
            l->rank[i]->node >= 0)
            kin_adopt(launch_parent(s, l->rank[i]->node), l->rank[i]);
    for (uint32_t i = 0; l && !s->image && i < l->ranks; i++)
        if (l->rank[i] && l->rank[i]->state == PROC_STARTING) {
            l->rank[i]->state = PROC_RUNNING;
            if (s->parent)
                kin_adopt(launch_parent(s, l->rank[i]->node), l->rank[i]);
            /* What came while its body was being started: */
            if (l->rank[i]->pidfd < 0 && !l->rank[i]->homed)
                body_signal(s->ps, l->rank[i], SIGKILL);
            else if (l->rank[i]->ghost_stopped)
                body_signal(s->ps, l->rank[i], SIGSTOP);
        }
    mp_init(&m);
    mp_map(&m, s->image ? 4 : 3);
    if (s->image)
        image_pack(s, &m);
    mp_kuint(&m, "launch", s->id);
    mp_key(&m, "warnings");
    mp_array(&m, (uint32_t)s->nwarnings);
    for (size_t i = 0; i < s->nwarnings; i++) {
        mp_array(&m, 2);
        mp_int(&m, s->warning[i].node);
        mp_str(&m, s->warning[i].text);
    }
    mp_key(&m, "failed");
    mp_array(&m, (uint32_t)s->nfailed);
    for (size_t i = 0; i < s->nfailed; i++) {
        mp_array(&m, 3);
        mp_uint(&m, s->failed[i].rank);
        mp_int(&m, s->failed[i].code);
        mp_str(&m, s->failed[i].text ? s->failed[i].text : err_name(s->failed[i].code));
    }
    if (s->move)
        move_begin(s->move, s->token, s->home < 0 ? (pid_t)svc_token_wire(s->token)->pid : s->mover,
                   &m);
    else
        svc_answer(s->ps->svc, s->token, &m);
    if (l && !s->image && !s->move) /* it may have come to nothing: all were killed before */
        launch_maybe_over(s->ps, l);
    starting_free(s);
}

/* --- third: the nodes --- */

/* Libraries that somebody had put on the node: the asker is told. Older ones
 * of ours are an event only. */
static void take_replaced(struct starting *s, int node, const msgpack_object *value)
{
    const msgpack_object_array *a;

    if (!mp_get(value, "replaced") || mp_get_array(value, "replaced", &a, NULL) < 0)
        return;
    libs_replaced(s->ps, s->id, node, value);
    for (uint32_t i = 0; i < a->size; i++) {
        const msgpack_object *row = &a->ptr[i];
        char text[PATH_MAX + 80];
        if (row->type != MSGPACK_OBJECT_ARRAY || row->via.array.size < 2 ||
            row->via.array.ptr[1].type != MSGPACK_OBJECT_BOOLEAN ||
            row->via.array.ptr[1].via.boolean)
            continue;
        CLEANUP(cleanup_free) char *path = mp_dup(&row->via.array.ptr[0]);
        struct warning *w = realloc(s->warning, (s->nwarnings + 1) * sizeof *w);
        if (!w)
            abort();
        s->warning = w;
        snprintf(text, sizeof text, "another %s was on the node; the master's is there now",
                 path ? path : "file");
        w[s->nwarnings].node = node;
        w[s->nwarnings].text = strdup(text);
        s->nwarnings += w[s->nwarnings].text != NULL;
    }
}

/* Their pids there: mostly the same as here. */
static void take_started(struct starting *s, int node, const msgpack_object *value)
{
    struct launch *l = launch_find(s->ps, s->id);
    const msgpack_object_array *a;

    if (!l || mp_get_array(value, "started", &a, NULL) < 0)
        return;
    for (uint32_t i = 0; i < a->size; i++) {
        const msgpack_object *row = &a->ptr[i];
        int64_t rank, npid;
        if (row->type == MSGPACK_OBJECT_ARRAY && row->via.array.size >= 2 &&
            mp_as_int(&row->via.array.ptr[0], &rank) && rank >= 0 && rank < s->ranks &&
            s->node[rank] == node && mp_as_int(&row->via.array.ptr[1], &npid) && npid > 0 &&
            npid <= INT32_MAX && l->rank[rank])
            l->rank[rank]->npid = (pid_t)npid;
    }
}

void launch_node_failed(struct starting *s, int node, const struct err *err)
{
    for (uint32_t r = 0; r < s->ranks; r++)
        if (s->node[r] == node && !s->out[r])
            rank_failed(s, r, err->code, err->text);
}

static void on_node(void *arg, int node, const msgpack_object *value, const struct err *err)
{
    struct starting *s = arg;
    const msgpack_object_array *failed;

    if (!value && err->code == BE_NODEDOWN && now_ms() < s->patience &&
        nodelist_add(&s->again, node) == 0)
        return;
    struct err lost = { 0 };
    if (!value && err->code == BE_NODEDOWN) { /* it was up when nodemgr was asked */
        err_set(&lost, BE_SLAVEDIED, "node %d was lost while the program was started", node);
        err = &lost;
    }
    if (!value) { /* the node as a whole */
        jobs_unsure(s->ps, node);
        launch_node_failed(s, node, err);
        return;
    }
    take_replaced(s, node, value);
    take_started(s, node, value);
    if (s->image)
        image_take(s, node, value);
    if (mp_get_array(value, "failed", &failed, NULL) < 0)
        return;
    if (failed->size)
        jobs_unsure(s->ps, node);
    for (uint32_t i = 0; i < failed->size; i++) {
        const msgpack_object *row = &failed->ptr[i];
        int64_t rank, code;
        if (row->type != MSGPACK_OBJECT_ARRAY || row->via.array.size < 3 ||
            !mp_as_int(&row->via.array.ptr[0], &rank) || rank < 0 || rank >= s->ranks ||
            s->node[rank] != node || s->out[rank] ||
            !mp_as_int(&row->via.array.ptr[1], &code))
            continue;
        CLEANUP(cleanup_free) char *text = mp_dup(&row->via.array.ptr[2]);
        rank_failed(s, (uint32_t)rank, (int)code, text ? text : err_name((int)code));
    }
}

static void ask_nodes(struct starting *s, int *nodes, int n);

static void ask_again(void *arg)
{
    struct starting *s = arg;
    nodelist_t l = s->again;

    nodelist_init(&s->again);
    ask_nodes(s, l.node, (int)l.n);
    nodelist_free(&l);
}

/* nodemgr has just said that the node is there, busd that it is not: its agent
 * is being restarted, and takes the launch in a moment. */
static void on_nodes_done(void *arg)
{
    struct starting *s = arg;

    if (--s->asking)
        return;
    if (s->again.n) {
        loop_timer(s->ps->loop, AGAIN_MS, false, ask_again, s);
        return;
    }
    s->nodes_done = true;
    if (!s->locals)
        starting_finish(s);
}

/* Who reads what it writes: the asker, unless another sees to that. */
static pid_t reader_of(const struct starting *s)
{
    const msgpack_object *reader = mp_get(&s->body, "reader");

    if (s->home >= 0)
        return 0;

    if (reader && reader->type == MSGPACK_OBJECT_BOOLEAN && !reader->via.boolean)
        return 0;
    return (pid_t)svc_token_wire(s->token)->pid;
}

static bool ours_to_say(const msgpack_object *key)
{
    static const char *const names[] = { "uid",   "gid",  "groups", "owner", "files", "dirs",
                                         "fetch", "parent", "kin",  "asker", "stands", "home",
                                         "also",  "mover", "gen",   "as", "children", "here" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (mp_is(key, names[i]))
            return true;
    return false;
}

/* Where the parents of its ranks wait for them; -1: on the master. */
static int home_of(const struct starting *s, pid_t *mover)
{
    const struct launch *l = s->self ? launch_find(s->ps, s->id) : NULL;
    const struct proc *was = l && l->ranks && l->rank[0] ? l->rank[0]->was : NULL;

    return was ? kin_home(s, was, mover) : s->home;
}

static void pack_mute(mp_buf *m)
{
    mp_array(m, 3);
    for (int fd = 0; fd < 3; fd++) {
        mp_map(m, 1);
        mp_kstr(m, "mode", "null");
    }
}

static void pack_launch(struct starting *s, struct parent *par, mp_buf *m)
{
    pid_t mover = 0;
    int home = home_of(s, &mover);
    const msgpack_object_map *b = &s->body.via.map;
    uint32_t keys = 0;

    for (uint32_t i = 0; i < b->size; i++)
        keys += !ours_to_say(&b->ptr[i].key);
    mp_map(m, keys + (s->manifest ? 7 : 6) + (par ? 1 : 0) + (home >= 0 ? 1 : 0) +
                  (s->image && s->self ? 1 : 0) + (s->as != 0) + family_any(s, false) + family_any(s, true));
    if (family_any(s, true)) {
        mp_key(m, "here");
        family_pack_there(s, m);
    }
    if (family_any(s, false)) {
        mp_key(m, "children");
        family_pack(s, m);
    }
    if (s->as)
        mp_kuint(m, "as", s->as);
    if (home >= 0) {
        mp_key(m, "home");
        mp_array(m, 2);
        mp_int(m, home);
        mp_array(m, s->ranks);
        for (uint32_t r = 0; r < s->ranks; r++)
            mp_int(m, mover ? mover : s->pid[r]);
    }
    if (par) {
        mp_key(m, "parent");
        kin_pack(par, !s->self, m);
    }
    if (s->image && s->self)
        mp_kint(m, "gen", s->gen);
    for (uint32_t i = 0; i < b->size; i++) {
        if (ours_to_say(&b->ptr[i].key))
            continue;
        mp_obj(m, &b->ptr[i].key);
        if (s->io.b.size && mp_is(&b->ptr[i].key, "io"))
            msgpack_sbuffer_write(&m->b, s->io.b.data, s->io.b.size);
        else if (s->mute && mp_is(&b->ptr[i].key, "streams"))
            pack_mute(m);
        else
            mp_obj(m, &b->ptr[i].val);
    }
    mp_kint(m, "uid", s->who.uid);
    mp_kint(m, "gid", s->who.gid);
    mp_key(m, "groups");
    mp_array(m, (uint32_t)s->who.ngroups);
    for (int i = 0; i < s->who.ngroups; i++)
        mp_uint(m, s->who.groups[i]);
    mp_kint(m, "owner", reader_of(s));
    if (s->manifest) {
        manifest_pack(s->ps->contents, s->manifest, m);
        return;
    }
    mp_key(m, "files");
    mp_array(m, 0);
    mp_key(m, "dirs");
    mp_array(m, 0);
}

static int compare_int(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

/* One message for all that know its parent by the same name. */
static void ask_nodes(struct starting *s, int *nodes, int n)
{
    int64_t left = s->end - now_ms();

    s->asking = 1; /* none is the last before all are sent */
    while (n > 0) {
        CLEANUP(mp_free) mp_buf m;
        int k = launch_alike(s, nodes, n);
        mp_init(&m);
        pack_launch(s, launch_parent(s, nodes[0]), &m);
        s->asking++;
        svc_call_nodes(s->ps->svc, nodes, k, "launch", &m, left > 1000 ? (int)left : 1000,
                       on_node, on_nodes_done, s);
        nodes += k;
        n -= k;
    }
    on_nodes_done(s);
}

static void to_nodes(struct starting *s)
{
    CLEANUP(cleanup_free) int *nodes = malloc((s->ranks + 1) * sizeof *nodes);
    int n = 0, k = 0;

    if (!nodes)
        abort();
    for (uint32_t r = 0; r < s->ranks; r++)
        if (!s->out[r] && s->node[r] >= 0)
            nodes[n++] = s->node[r];
    qsort(nodes, (size_t)n, sizeof *nodes, compare_int);
    for (int i = 0; i < n; i++)
        if (i == 0 || nodes[i] != nodes[i - 1])
            nodes[k++] = nodes[i];
    s->patience = now_ms() + PATIENCE_MS;
    launch_know(s, nodes, k);
    for (int i = 0; i < k; i++)
        jobs_sent(s->ps, nodes[i], s->id);
    s->nodes_done = k == 0;
    start_locals(s);
    if (k)
        ask_nodes(s, nodes, k);
    else if (!s->locals)
        starting_finish(s); /* nobody to ask; and there may be no manifest */
}

/* --- second: both answers are here --- */

void launch_proceed(struct starting *s)
{
    if (--s->waiting)
        return;
    const struct err *no = s->no_manifest.code ? &s->no_manifest
                           : s->refused_all.code ? &s->refused_all
                                                 : NULL;
    for (uint32_t r = 0; no && r < s->ranks; r++)
        if (!s->out[r])
            rank_failed(s, r, no->code, no->text);
    to_nodes(s);
}

void launch_manifest(void *arg, manifest_t *m, const struct err *err)
{
    struct starting *s = arg;

    s->manifest = m;
    if (!m)
        s->no_manifest = *err;
    launch_proceed(s);
}

static void on_check(void *arg, const msgpack_object *value, const struct err *err)
{
    struct starting *s = arg;
    const msgpack_object_array *a;

    if (!value || mp_get_array(value, "refused", &a, &s->refused_all) < 0) {
        if (!value)
            s->refused_all = *err;
        launch_proceed(s);
        return;
    }
    for (uint32_t i = 0; i < a->size; i++) {
        const msgpack_object *row = &a->ptr[i];
        int64_t node, code;
        if (row->type != MSGPACK_OBJECT_ARRAY || row->via.array.size < 3 ||
            !mp_as_int(&row->via.array.ptr[0], &node) ||
            !mp_as_int(&row->via.array.ptr[1], &code))
            continue;
        CLEANUP(cleanup_free) char *why = mp_dup(&row->via.array.ptr[2]);
        for (uint32_t r = 0; r < s->ranks; r++)
            if (s->node[r] == node && !s->out[r])
                rank_failed(s, r, (int)code, why ? why : err_name((int)code));
    }
    if (s->image)
        image_take_addresses(s, value);
    launch_proceed(s);
}

static void ask_nodemgr(struct starting *s)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 4);
    mp_key(&m, "nodes");
    uint32_t n = 0; /* everybody may be on the master */
    for (uint32_t r = 0; r < s->ranks; r++)
        n += s->node[r] >= 0;
    mp_array(&m, n);
    for (uint32_t r = 0; r < s->ranks; r++)
        if (s->node[r] >= 0)
            mp_int(&m, s->node[r]);
    mp_kint(&m, "uid", s->who.uid);
    mp_kint(&m, "gid", s->who.gid);
    mp_key(&m, "groups");
    mp_array(&m, (uint32_t)s->who.ngroups);
    for (int i = 0; i < s->who.ngroups; i++)
        mp_uint(&m, s->who.groups[i]);
    svc_call(s->ps->svc, "nodemgr.check", &m, CHECK_MS, on_check, s);
}

/* --- first: the request --- */

static int int_list(const msgpack_object *body, const char *key, int64_t min, int64_t max,
                    uint32_t want, int *out, struct err *err)
{
    const msgpack_object_array *a;
    int64_t v;

    if (mp_get_array(body, key, &a, err) < 0)
        return -1;
    if (a->size != want)
        return err_set(err, EPROTO, "%s: %u items, want %u", key, a->size, want);
    for (uint32_t i = 0; i < want; i++) {
        if (!mp_as_int(&a->ptr[i], &v) || v < min || v > max)
            return err_set(err, EPROTO, "%s: item %u is not in %lld..%lld", key, i,
                           (long long)min, (long long)max);
        out[i] = (int)v;
    }
    return 0;
}

/* The asker itself, which is no ghost yet. Its own rights only: what it became
 * by a set-user-id bit gains nothing. */
static int take_asker(struct starting *s, struct err *err)
{
    if (s->ranks != 1 || s->pid[0] != s->mover)
        return err_set(err, EINVAL, "self: the one process must be the asker");
    return process_take(s->pid[0], s->who.uid, err);
}

/* Keep the request beyond this handler. */
static int keep_body(struct starting *s, const msgpack_object *body, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    size_t off = 0;

    mp_init(&m);
    mp_obj(&m, body);
    s->zone = msgpack_zone_new(m.b.size + 1024);
    char *p = s->zone ? msgpack_zone_malloc(s->zone, m.b.size) : NULL;
    if (!p)
        return err_set(err, ENOMEM, "out of memory");
    memcpy(p, m.b.data, m.b.size);
    if (msgpack_unpack(p, m.b.size, &off, s->zone, &s->body) < 0)
        return err_set(err, EPROTO, "the request was not understood");
    return 0;
}

/* Asked again after a restart, of a process that was started and is no ghost of that launch
 * by now: it runs on the master as itself, is about to, or has left it as another launch's.
 * One that is not known is a child of the asker's, who waits for it, by the kernel's word. */
static bool has_been_started(const struct starting *s, const struct proc *p, uint32_t r)
{
    if (s->self || s->image)
        return false;
    return (p && !p->kid && proc_first(p) == s->id) || kin_ppid(s->pid[r]) == s->mover;
}

static int take_ghost(struct starting *s, struct launch *l, uint32_t r, struct err *err)
{
    uint64_t of = 0;
    struct proc *p = s->home < 0 ? proc_find(s->ps, s->pid[r]) : l->rank[r];

    if (s->from >= 0)
        return image_take_mover(s, l, err);
    if (p && p->launch == l) { /* asked again after a restart: it is known */
        proc_set_rank(p, r);
        p->node = s->node[r];
        s->gen = p->gen;
        return 0;
    }
    if (s->self && s->image && p && p->kid && p->kid->body && home_is_local(p->kid->body))
        return kin_take_local(s, l, p->kid, err);
    if (s->home >= 0)
        return home_add(s->ps, l, r, s->node[r], s->home, s->pid[r], err) ? 0 : -1;
    int fd = s->self ? take_asker(s, err) : ghost_take(s->pid[r], s->who.uid, &of, err);
    if (fd >= 0 && of && of != s->id) {
        close(fd);
        fd = err_set(err, EINVAL, "process %d is a ghost of another launch", s->pid[r]);
    }
    /* Nothing to start: it has ended already, was killed, or has been started. */
    if (fd < 0 && (err->code == ESRCH || (err->code == EINVAL && has_been_started(s, p, r)))) {
        s->out[r] = true;
        err->code = 0;
        return 0;
    }
    if (fd < 0)
        return -1;
    p = proc_add(s->ps, l, r, s->pid[r], fd, s->node[r], err);
    if (!p) {
        close(fd);
        return -1;
    }
    if (s->self && s->image)
        p->gen = s->gen = 2; /* where it was till now it was nobody's to know */
    return ghost_watch(s->ps, p, err);
}

/* As one line, for who asks later what that was. */
static char *command_line(const msgpack_object_array *argv)
{
    char text[NAME_BYTES];
    size_t n = 0;

    for (uint32_t i = 0; i < argv->size && n + 1 < sizeof text; i++) {
        CLEANUP(cleanup_free) char *word = mp_dup(&argv->ptr[i]);
        int len = snprintf(text + n, sizeof text - n, "%s%s", i ? " " : "", word ? word : "?");
        n += len > 0 ? (size_t)len : 0;
    }
    return strdup(text);
}

int take_ghosts(struct starting *s, struct err *err)
{
    CLEANUP(cleanup_free) char *argv0 = NULL;
    const msgpack_object_array *argv;

    if (mp_get_array(&s->body, "argv", &argv, err) < 0)
        return -1;
    if (argv->size == 0 || !(argv0 = mp_dup(&argv->ptr[0])))
        return err_set(err, EPROTO, "argv: want at least the program's name");
    struct launch *l = launch_find(s->ps, s->id);
    if (l && l->uid != (int64_t)s->who.uid)
        return err_set(err, EEXIST, "launch %llu is another user's", (unsigned long long)s->id);
    if (l && launch_grow(l, s->ranks, err) < 0)
        return -1;
    if (!l)
        l = launch_add(s->ps, s->id, s->ranks, s->who.uid, s->who.gid, reader_of(s), argv0,
                       err);
    if (!l)
        return -1;
    bool agents = s->home >= 0 || s->from >= 0;
    if (agents && l->starting) /* its agent was restarted, or it asks again */
        return err_set(err, EAGAIN, "launch %llu is being answered", (unsigned long long)l->id);
    if (agents || (s->self && s->image))
        l->starting = s;
    if (!l->args)
        l->args = command_line(argv);
    if (s->self && s->image && moves_sent_anew(s->ps, s->mover, s->id, err) < 0)
        return -1;
    s->family = true;
    if (family_take(s, err) < 0)
        return -1;
    l->forwarded = image_forwarded(&s->body);
    for (uint32_t r = 0; r < s->ranks; r++)
        if (take_ghost(s, l, r, err) < 0) {
            /* nothing has been started: the ghosts are the asker's to end */
            for (uint32_t k = 0; k < r; k++)
                if (l->rank[k] && l->rank[k]->state == PROC_STARTING)
                    proc_ended(s->ps, l->rank[k], 1 << 8);
            return -1;
        }
    return 0;
}

static int parse(struct starting *s, struct svc_req *req, struct err *err)
{
    const msgpack_object_array *nodes;

    s->home = (int)req->w->node;
    s->from = -1;
    s->self = mp_opt_bool(req->body, "self", false);
    s->found = mp_opt_bool(req->body, "found", false);
    s->image = mp_get(req->body, "image") != NULL;
    if (mp_get_uint(req->body, "launch", &s->id, err) < 0 ||
        mp_get_array(req->body, "nodes", &nodes, err) < 0)
        return -1;
    if (s->id == 0)
        return err_set(err, EPROTO, "launch: 0 is no launch's number");
    if (nodes->size == 0 || nodes->size > MAX_RANKS)
        return err_set(err, EINVAL, "nodes: %u; want 1..%d", nodes->size, MAX_RANKS);
    s->ranks = nodes->size;
    s->node = calloc(s->ranks, sizeof *s->node);
    s->pid = calloc(s->ranks, sizeof *s->pid);
    s->out = calloc(s->ranks, sizeof *s->out);
    if (!s->node || !s->pid || !s->out)
        return err_set(err, ENOMEM, "out of memory");
    if (s->home >= 0 && s->self && s->image) { /* it goes on itself, and stands nowhere */
        s->from = s->home;
        s->home = -1;
    }
    if (int_list(req->body, "nodes", s->from >= 0 || s->home >= 0 ? -1 : 0, NODE_MAX, s->ranks, s->node, err) < 0 ||
        int_list(req->body, "pids", 1, INT32_MAX, s->ranks, s->pid, err) < 0 ||
        keep_body(s, req->body, err) < 0 ||
        (req->w->node >= 0 && relay_io_there(req->w->addr, &s->body, &s->io, err) < 0))
        return -1;
    if (s->home >= 0)
        return parse_homed(s, req, err);
    if (s->from >= 0 ? image_mover(s, req, err) < 0
                     : identity_of(req->w, &s->who, err) < 0 ||
                           relay_io(s->ps, (pid_t)req->w->pid, s->ranks, &s->body, &s->io, err) < 0)
        return -1;
    s->answered = s->from >= 0 && move_begun(s->ps, s->id, s->who.uid, s->token);
    if (s->answered)
        return 0;
    if (s->from < 0)
        s->mover = (pid_t)req->w->pid;
    /* Its parent is known before anything is started; who is nobody's child by
     * then is pid 1's there. */
    if (mp_opt_bool(req->body, "kin", false))
        s->parent = s->self ? kin_parent_of(s->ps, s->mover)
                            : kin_parent_here(s->ps, (pid_t)req->w->pid, NULL);
    return take_ghosts(s, err);
}

/* Files and folders that the program will ask for: one a line, or NULL. */
static int also_of(const msgpack_object *body, char **out, struct err *err)
{
    const msgpack_object_array *a;
    CLEANUP(mp_free) mp_buf all;

    mp_init(&all);
    *out = NULL;
    if (!mp_get(body, "also"))
        return 0;
    if (mp_get_array(body, "also", &a, err) < 0)
        return -1;
    if (a->size > ALSO_MAX)
        return err_set(err, EPROTO, "also: at most %d", ALSO_MAX);
    for (uint32_t i = 0; i < a->size; i++) {
        CLEANUP(cleanup_free) char *path = mp_dup(&a->ptr[i]);
        if (!path || *path != '/' || strchr(path, '\n'))
            return err_set(err, EINVAL, "also: %s is not an absolute path", path ? path : "");
        msgpack_sbuffer_write(&all.b, path, strlen(path));
        msgpack_sbuffer_write(&all.b, i + 1 < a->size ? "\n" : "", 1);
    }
    *out = a->size ? strdup(all.b.data) : NULL;
    return a->size && !*out ? err_set(err, ENOMEM, "out of memory") : 0;
}

int on_launch(void *self, struct svc_req *req, struct err *err)
{
    procspace_t *ps = self;
    struct starting *s = calloc(1, sizeof *s);
    CLEANUP(cleanup_free) char *path = NULL;
    CLEANUP(cleanup_free) char *library_path = mp_opt_dup(req->body, "library_path");
    CLEANUP(cleanup_free) char *also = NULL;

    if (!s)
        return err_set(err, ENOMEM, "out of memory");
    s->ps = ps;
    mp_init(&s->io);
    mp_init(&s->lacks);
    s->token = req->token;
    s->end = now_ms() + req->w->deadline - MARGIN_MS;
    if (mp_get_dup(req->body, "path", &path, err) < 0 || also_of(req->body, &also, err) < 0 ||
        parse(s, req, err) < 0) {
        starting_free(s);
        return -1;
    }
    if (path[0] != '/') {
        err_set(err, EINVAL, "path: %s is not absolute", path);
        starting_free(s);
        return -1;
    }
    s->answered |= s->home >= 0 && s->image && move_begun(ps, s->id, s->who.uid, s->token);
    if (s->answered) {
        starting_free(s);
        return SVC_LATER;
    }
    s->waiting = s->found ? 1 : 2;
    if (s->to_master) {
        image_go_home(s);
        return SVC_LATER;
    }
    ask_nodemgr(s);
    if (s->image && !s->found)
        image_ask_maps(s);
    else if (!s->found)
        manifest_get(ps->contents, path, library_path, also, &s->who, launch_manifest, s);
    return SVC_LATER;
}
