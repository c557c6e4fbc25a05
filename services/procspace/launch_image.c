/* launch_image.c - a launch whose processes come as images
 *
 * Where the nodes are, which files an image names and who has them, where the
 * image is to go; and processes of nodes that move on.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "image/image.h"
#include "image/room.h"
#include "services/procspace/family.h"
#include "services/procspace/launch.h"
#include "services/procspace/move_kin.h"

/* A process of a node that goes on elsewhere: its agent's word on who it is. */
int image_mover(struct starting *s, struct svc_req *req, struct err *err)
{
    struct who a;

    if (s->ranks != 1)
        return err_set(err, EINVAL, "self: the one process must be the asker");
    if (who_of(req, &a, err) < 0)
        return -1;
    s->who = a.who;
    s->mover = a.pid;
    s->mover_npid = a.npid;
    if (!s->mover && kin_mover(s, a.npid, err) < 0)
        return -1;
    s->pid[0] = s->mover;
    s->to_master = s->node[0] < 0;
    return 0;
}

void image_pack(const struct starting *s, mp_buf *m)
{
    bool there = s->move && (s->from >= 0 || s->home >= 0);

    mp_key(m, "image");
    mp_map(m, there ? 7 : 2);
    if (there) /* its agent dials, and tells it nothing of this */
        move_pack_way(s->move, m);
    mp_kstr(m, "token", s->move ? move_token(s->move) : "");
    mp_key(m, "lacks");
    mp_array(m, s->nlacks);
    msgpack_sbuffer_write(&m->b, s->lacks.b.data, s->lacks.b.size);
}

/* Where a node wants its image. */
void image_take(struct starting *s, int node, const msgpack_object *value)
{
    const msgpack_object *image = mp_get(value, "image");
    const msgpack_object_array *lacks;
    const char *addr = "";
    struct err err = { 0 };

    for (size_t i = 0; i < s->nat; i++)
        if (s->at[i].node == node)
            addr = s->at[i].addr;
    if (!image) /* no rank of it stands there */
        return;
    if (!s->move)
        s->move = move_new(s->ps, s->id, s->who.uid, s->self);
    if (!s->move)
        err_set(&err, ENOMEM, "out of memory");
    if (err.code || move_stop(s->move, node, addr, image, &err) < 0 ||
        mp_get_array(image, "lacks", &lacks, &err) < 0) {
        launch_node_failed(s, node, &err);
        return;
    }
    for (uint32_t i = 0; i < lacks->size; i++)
        mp_obj(&s->lacks, &lacks->ptr[i]);
    s->nlacks += lacks->size;
}

/* Images go from machine to machine: where are they? */
void image_take_addresses(struct starting *s, const msgpack_object *value)
{
    const msgpack_object_array *rows;

    if (mp_get_array(value, "addrs", &rows, &s->refused_all) < 0)
        return;
    if (!(s->at = calloc(rows->size + 1, sizeof *s->at))) {
        err_set(&s->refused_all, ENOMEM, "out of memory");
        return;
    }
    for (uint32_t i = 0; i < rows->size; i++) {
        const msgpack_object *r = &rows->ptr[i];
        int64_t node;
        if (r->type != MSGPACK_OBJECT_ARRAY || r->via.array.size < 2 ||
            !mp_as_int(&r->via.array.ptr[0], &node))
            continue;
        CLEANUP(cleanup_free) char *addr = mp_dup(&r->via.array.ptr[1]);
        struct at *a = &s->at[s->nat++];
        a->node = (int)node;
        snprintf(a->addr, sizeof a->addr, "%s", addr ? addr : "");
    }
}

/* A row [path, size, crc of its beginning]: the path, if that file is here. */
static char *the_same_here(const msgpack_object *row)
{
    char head[IMAGE_PAGE];
    struct stat st;
    int64_t size, crc;

    if (row->type != MSGPACK_OBJECT_ARRAY || row->via.array.size < 3 ||
        !mp_as_int(&row->via.array.ptr[1], &size) || !mp_as_int(&row->via.array.ptr[2], &crc))
        return NULL;
    CLEANUP(cleanup_free) char *path = mp_dup(&row->via.array.ptr[0]);
    CLEANUP(cleanup_close) int fd =
        path && *path == '/' ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size != size)
        return NULL;
    ssize_t n = pread(fd, head, sizeof head, 0);
    if (n < 0 || image_crc(0, head, (size_t)n) != (uint32_t)crc)
        return NULL;
    char *out = path;
    path = NULL;
    return out;
}

/* What the asker has mapped, and the master has too, is brought like a program. */
void image_ask_maps(struct starting *s)
{
    const msgpack_object_array *maps;
    CLEANUP(file_list_free) struct file_list list = { 0 };
    struct err err = { 0 };

    bool nodes = false;
    for (uint32_t r = 0; r < s->ranks; r++)
        nodes |= s->node[r] >= 0;
    if (!nodes || mp_get_array(mp_get(&s->body, "image"), "maps", &maps, &err) < 0 ||
        !(list.path = calloc(maps->size + 1, sizeof *list.path))) {
        launch_manifest(s, NULL, &err);
        return;
    }
    if (as_user(&s->who, &err) == 0) {
        for (uint32_t i = 0; i < maps->size; i++)
            if ((list.path[list.n] = the_same_here(&maps->ptr[i])))
                list.n++;
        as_self();
    }
    manifest_of_list(s->ps->contents, &list, launch_manifest, s);
}

/* A process of a node that moves on: known here, by its ghost. */
int image_take_mover(struct starting *s, struct launch *l, struct err *err)
{
    move_heard(s->ps, s->mover, s->from, 0);
    struct proc *old = home_there(s->ps, s->from, s->mover);

    if (old && s->node[0] == old->home) { /* it is its parent's child there */
        if (!home_ghost(old))
            return err_set(err, EAGAIN, "its stand-in is not known yet");
        kin_release(&s->parent);
    } else if (old && old->parent) { /* who knows it by the name that it has there */
        kin_release(&s->parent);
        s->parent = kin_hold(old->parent);
    }
    if (!old)
        old = kin_made(s);
    if (!old)
        old = proc_find(s->ps, s->mover);
    if (old && !old->kid && old->npid && old->npid != old->pid)
        return err_set(err, EBUSY, "process %d is %d on the master: it would have two numbers",
                       (int)old->npid, (int)old->pid);
    if (old && kin_take_mover(s, old, err) < 0)
        return -1;
    if (old && old->node == s->from && old->state == PROC_STARTING)
        return err_set(err, EAGAIN, "process %d is being started; try again", (int)s->mover_npid);
    if (!old || old->node != s->from || old->state != PROC_RUNNING ||
        old->uid != (int64_t)s->who.uid)
        return err_set(err, ENOSYS, "process %d of node %d is none that was sent there",
                       (int)s->mover_npid, s->from);
    if (l->rank[0] && l->rank[0]->state == PROC_ENDED) /* by an agent that has not heard it */
        return err_set(err, EAGAIN, "launch %llu has failed already", (unsigned long long)l->id);
    struct proc *p = l->rank[0]; /* asked again */
    if (!p && !(p = proc_new(s->ps, l, 0, s->mover, -1, s->node[0], err)))
        return -1;
    p->was = old;
    s->mute = kin_mute(s->ps, old);
    if (s->mute)
        l->forwarded = false;
    p->gen = s->gen = old->kid ? 2 : old->gen + 1;
    p->as = s->as = proc_first(old);
    return 0;
}

bool image_forwarded(const msgpack_object *body)
{
    const msgpack_object_array *streams;

    if (mp_get_array(body, "streams", &streams, NULL) < 0)
        return false;
    for (uint32_t i = 1; i < streams->size; i++) {
        const msgpack_object *mode = mp_get(&streams->ptr[i], "mode");
        if (mode && mp_is(mode, "forward"))
            return true;
    }
    return false;
}

/* Which files it has to bring along, since the master has not got them. */
static int take_lacks(struct starting *s, struct err *err)
{
    const msgpack_object_array *maps;

    const msgpack_object *image = mp_get(&s->body, "image");

    if (image_room(image, s->locals ? s->locals : 1, err) < 0 ||
        mp_get_array(image, "maps", &maps, err) < 0 || as_user(&s->who, err) < 0)
        return -1;
    for (uint32_t i = 0; i < maps->size; i++) {
        CLEANUP(cleanup_free) char *path = the_same_here(&maps->ptr[i]);
        if (path || maps->ptr[i].type != MSGPACK_OBJECT_ARRAY || !maps->ptr[i].via.array.size)
            continue;
        mp_obj(&s->lacks, &maps->ptr[i].via.array.ptr[0]);
        s->nlacks++;
    }
    as_self();
    return 0;
}

void image_locals(struct starting *s)
{
    struct launch *l = launch_find(s->ps, s->id);
    struct err err = { 0 };

    s->move = move_new(s->ps, s->id, s->who.uid, false);
    if (!s->move)
        err_set(&err, ENOMEM, "out of memory");
    if (s->move && take_lacks(s, &err) == 0)
        comers_open(s->move, l, &err);
    for (uint32_t r = 0; err.code && r < s->ranks; r++)
        if (l->rank[r] && l->rank[r]->starting == s) {
            l->rank[r]->starting = NULL;
            s->locals--;
            rank_failed(s, r, err.code, err.text);
        }
}

/* To the master: nobody is asked, its user may always be there. */
void image_go_home(struct starting *s)
{
    struct launch *l = launch_find(s->ps, s->id);
    struct err err = { 0 };

    s->move = l ? move_new(s->ps, s->id, s->who.uid, true) : NULL;
    if (!s->move)
        err_set(&err, ENOMEM, "out of memory");
    else if (take_lacks(s, &err) == 0)
        move_home(s->move, l->rank[0], &err);
    if (err.code)
        rank_failed(s, 0, err.code, err.text);
    starting_finish(s);
}
