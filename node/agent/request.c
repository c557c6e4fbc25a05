/* request.c - node.N.launch taken apart and checked */
#include "image/room.h"
#include "node/agent/request.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RANKS_MAX 1000000
#define FILES_MAX 65536

static const msgpack_object_array *row(const msgpack_object *o, uint32_t least)
{
    return o->type == MSGPACK_OBJECT_ARRAY && o->via.array.size >= least ? &o->via.array
                                                                         : NULL;
}

static bool in_range(const msgpack_object *o, int64_t min, int64_t max, int64_t *out)
{
    return mp_as_int(o, out) && *out >= min && *out <= max;
}

/* uid, gid, mode in a row, from column k on. */
static bool owner_of(const msgpack_object_array *r, uint32_t k, uid_t *uid, gid_t *gid,
                     mode_t *mode)
{
    int64_t u, g, m;

    if (!in_range(&r->ptr[k], 0, UINT32_MAX - 1, &u) ||
        !in_range(&r->ptr[k + 1], 0, UINT32_MAX - 1, &g) ||
        !in_range(&r->ptr[k + 2], 0, UINT32_MAX, &m))
        return false;
    *uid = (uid_t)u;
    *gid = (gid_t)g;
    *mode = (mode_t)m & 07777; /* a whole st_mode is fine too */
    return true;
}

static int parse_file(const msgpack_object *o, struct files_want *w, struct err *err)
{
    const msgpack_object_array *r = row(o, 6);
    int64_t size;

    if (!r || !in_range(&r->ptr[2], 0, INT64_MAX, &size) ||
        r->ptr[1].type != MSGPACK_OBJECT_BIN || r->ptr[1].via.bin.size != FETCH_HASH ||
        !owner_of(r, 3, &w->uid, &w->gid, &w->mode) || !(w->path = mp_dup(&r->ptr[0])))
        return err_set(err, EPROTO, "files: want [path, hash, size, uid, gid, mode]");
    memcpy(w->hash, r->ptr[1].via.bin.ptr, FETCH_HASH);
    w->size = (uint64_t)size;
    return place_check(w->path, err);
}

static int parse_dir(const msgpack_object *o, struct place_dir *d, struct err *err)
{
    const msgpack_object_array *r = row(o, 4);

    if (!r || !owner_of(r, 1, &d->uid, &d->gid, &d->mode) || !(d->path = mp_dup(&r->ptr[0])))
        return err_set(err, EPROTO, "dirs: want [path, uid, gid, mode]");
    return strcmp(d->path, "/") == 0 ? 0 : place_check(d->path, err);
}

static int parse_files(struct request *rq, const msgpack_object *body, struct err *err)
{
    const msgpack_object_array *files, *dirs;

    if (mp_get_array(body, "files", &files, err) < 0 ||
        mp_get_array(body, "dirs", &dirs, err) < 0)
        return -1;
    if (files->size > FILES_MAX || dirs->size > FILES_MAX)
        return err_set(err, EPROTO, "files, dirs: at most %d", FILES_MAX);
    rq->want = calloc(files->size + 1, sizeof *rq->want);
    rq->dirs.dir = calloc(dirs->size + 1, sizeof *rq->dirs.dir);
    if (!rq->want || !rq->dirs.dir)
        return err_set(err, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < files->size; i++) {
        rq->wants++;
        if (parse_file(&files->ptr[i], &rq->want[i], err) < 0)
            return -1;
    }
    for (uint32_t i = 0; i < dirs->size; i++) {
        rq->dirs.n++;
        if (parse_dir(&dirs->ptr[i], &rq->dirs.dir[i], err) < 0)
            return -1;
    }
    return 0;
}

static int parse_fetch(struct request *rq, const agent_t *a, const msgpack_object *body,
                       struct err *err)
{
    const msgpack_object *f = mp_get(body, "fetch");
    struct fetch_source *from = &rq->from;
    CLEANUP(cleanup_free) char *addr = NULL, *token = NULL;
    const char *psk;
    size_t len;
    int64_t port;

    if (!f && rq->wants == 0)
        return 0;
    if (!f || mp_get_dup(f, "addr", &addr, err) < 0 ||
        mp_get_int(f, "port", 1, 65535, &port, err) < 0 ||
        mp_get_dup(f, "token", &token, err) < 0 || mp_get_bytes(f, "psk", &psk, &len, err) < 0)
        return err_set(err, EPROTO, "fetch: want {addr, port, token, psk}");
    if (strlen(token) != BULK_TOKEN || len != BULK_KEY || strlen(addr) >= sizeof from->addr)
        return err_set(err, EPROTO, "fetch: addr, token or psk has a wrong length");
    snprintf(from->addr, sizeof from->addr, "%s", *addr ? addr : a->master_addr);
    from->port = (uint16_t)port;
    memcpy(from->ticket.token, token, BULK_TOKEN + 1);
    memcpy(from->ticket.key, psk, BULK_KEY);
    return 0;
}

static int parse_ranks(struct request *rq, const agent_t *a, const msgpack_object *body,
                       uint32_t *total, struct err *err)
{
    const msgpack_object_array *nodes, *pids;

    if (mp_get_array(body, "nodes", &nodes, err) < 0 ||
        mp_get_array(body, "pids", &pids, err) < 0)
        return -1;
    if (nodes->size != pids->size || nodes->size > RANKS_MAX)
        return err_set(err, EPROTO, "nodes, pids: want one of each for each rank, at most %d",
                       RANKS_MAX);
    rq->rank = calloc(nodes->size + 1, sizeof *rq->rank);
    if (!rq->rank)
        return err_set(err, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < nodes->size; i++) {
        int64_t node, pid;
        if (!mp_as_int(&nodes->ptr[i], &node) || !in_range(&pids->ptr[i], 1, INT32_MAX, &pid))
            return err_set(err, EPROTO, "nodes, pids: want numbers");
        if (node == a->node)
            rq->rank[rq->ranks++] = (struct request_rank){ i, (int32_t)pid };
    }
    if (!rq->ranks)
        return err_set(err, EINVAL, "no rank of this launch is for node %d", a->node);
    *total = nodes->size;
    return 0;
}

/* Keys that bpinit gets as they are, and checks. */
static const char *const passed[] = { "path",   "argv",  "env", "cwd",    "umask",
                                      "limits", "uid",   "gid", "groups", "streams" };
#define PASSED (sizeof passed / sizeof passed[0])
static const char *const limits[] = { "mem", "cpu_milli", "io",  "index", "parent", "home",
                                      "gen", "as",  "children" }; /* if they are there */
#define LIMITS (sizeof limits / sizeof limits[0])

static int pack_spawn(struct request *rq, const agent_t *a, const msgpack_object *body,
                      uint32_t total, struct err *err)
{
    mp_buf *m = &rq->spawn;

    uint32_t more = 0;
    for (size_t i = 0; i < LIMITS; i++)
        more += mp_get(body, limits[i]) != NULL;
    mp_map(m, (uint32_t)PASSED + 5 + more + (a->chroot ? 1 : 0) + rq->image);
    if (rq->image)
        mp_kbool(m, "image", true);
    mp_kstr(m, "origin", a->master_addr);
    for (size_t i = 0; i < LIMITS; i++)
        if (mp_get(body, limits[i])) {
            mp_key(m, limits[i]);
            mp_obj(m, mp_get(body, limits[i]));
        }
    for (size_t i = 0; i < PASSED; i++) {
        const msgpack_object *o = mp_get(body, passed[i]);
        if (!o)
            return err_set(err, EPROTO, "%s: missing", passed[i]);
        mp_key(m, passed[i]);
        mp_obj(m, o);
    }
    mp_kuint(m, "launch", rq->launch);
    mp_kuint(m, "total", total);
    mp_kint(m, "owner", mp_opt_int(body, "owner", 0));
    if (a->chroot)
        mp_kstr(m, "root", a->chroot);
    mp_key(m, "procs");
    mp_array(m, (uint32_t)rq->ranks);
    for (size_t i = 0; i < rq->ranks; i++) {
        mp_array(m, 2);
        mp_uint(m, rq->rank[i].rank);
        mp_int(m, rq->rank[i].pid);
    }
    return 0;
}

int request_files(struct request *rq, const agent_t *a, const msgpack_object *body,
                  struct err *err)
{
    return parse_files(rq, body, err) < 0 ? -1 : parse_fetch(rq, a, body, err);
}

int request_parse(struct request *rq, const agent_t *a, const msgpack_object *body,
                  struct err *err)
{
    int64_t uid;
    uint32_t total = 0;

    memset(rq, 0, sizeof *rq);
    mp_init(&rq->spawn);
    mp_init(&rq->maps);
    if (mp_get_uint(body, "launch", &rq->launch, err) < 0 ||
        mp_get_int(body, "uid", 0, UINT32_MAX - 1, &uid, err) < 0 ||
        parse_ranks(rq, a, body, &total, err) < 0 || request_files(rq, a, body, err) < 0)
        return -1;
    rq->uid = (uint32_t)uid;
    const msgpack_object *image = mp_get(body, "image");
    rq->image = image != NULL;
    if (mp_get(image, "maps"))
        mp_obj(&rq->maps, mp_get(image, "maps"));
    if (image_room(image, rq->ranks, err) < 0)
        return -1;
    return pack_spawn(rq, a, body, total, err);
}

void request_free(struct request *rq)
{
    for (size_t i = 0; i < rq->wants; i++)
        free(rq->want[i].path);
    for (size_t i = 0; i < rq->dirs.n; i++)
        free(rq->dirs.dir[i].path);
    free(rq->want);
    free(rq->dirs.dir);
    free(rq->rank);
    mp_free(&rq->spawn);
    mp_free(&rq->maps);
    memset(rq, 0, sizeof *rq);
}
