/* bpinit_mover.c - a body that knows nothing of it goes to another machine
 *
 * The work (mover/) is done by a child of ours, which stops the body, sends it
 * and ends it: that takes its time, and we have none. It says at its end what has
 * come of it. Should the agent die meanwhile, the move goes on. Should the child,
 * another one ends what it has begun.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "mover/mover.h"
#include "node/bpinit.h"

#define RESULT_MAX (256u * 1024)

struct mover {
    struct init *in;
    struct mover *next;
    uint64_t id;
    struct mover_conf c;
    int fd;
    char *text; /* what it has said: a note for who ends what it has begun, its result */
    size_t got;
};

static void reply(struct init *in, uint64_t id, const msgpack_object *result,
                  const struct err *err)
{
    const msgpack_object *rows = result ? mp_get(result, "hindrances") : NULL;
    CLEANUP(cleanup_free) char *text = result ? mp_opt_dup(result, "text") : NULL;
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_array(&m, 2);
    mp_str(&m, "arrivals"); /* the same kind of answer */
    mp_map(&m, 4);
    mp_kuint(&m, "id", id);
    mp_kint(&m, "code", result ? mp_opt_int(result, "code", EPROTO) : err->code);
    mp_kstr(&m, "text", result ? text : err->text);
    mp_key(&m, "hindrances");
    if (rows)
        mp_obj(&m, rows);
    else
        mp_array(&m, 0);
    link_send(in->link, &m);
}

static void drop(struct mover *v)
{
    struct mover **at = &v->in->movers;

    while (*at != v)
        at = &(*at)->next;
    *at = v->next;
    free(v->text);
    free(v);
}

static int start(struct mover *v, const msgpack_object *note, struct err *err);

/* Its last word: a result if it got that far, else a note, behind others. */
static void finish(struct mover *v)
{
    msgpack_unpacked u;
    size_t off = 0, at = 0, end = 0;
    struct err err = { 0 };

    loop_fd_del(v->in->loop, v->fd);
    close(v->fd);
    msgpack_unpacked_init(&u);
    while (msgpack_unpack_next(&u, v->text, v->got, &off) == MSGPACK_UNPACK_SUCCESS) {
        at = end;
        end = off;
    }
    off = at;
    const msgpack_object *last =
        end && msgpack_unpack_next(&u, v->text, end, &off) == MSGPACK_UNPACK_SUCCESS ? &u.data : NULL;
    if (!last || !mp_get(last, "code"))
        err_set(&err, EIO, "what moves it has ended");
    if (err.code && last && kill(v->c.pid, 0) == 0 && start(v, last, &err) == 0) {
        v->got = end;
    } else {
        reply(v->in, v->id, err.code ? NULL : last, &err);
        drop(v);
    }
    msgpack_unpacked_destroy(&u);
}

static void on_result(void *arg, int fd, uint32_t events)
{
    struct mover *v = arg;
    ssize_t n = read(fd, v->text + v->got, RESULT_MAX - v->got);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        v->got += (size_t)n;
    else
        finish(v);
}

/* In the child: with nothing of ours open but where the result goes. */
static void __attribute__((noreturn)) run(struct mover_conf *c, const msgpack_object *note, int out)
{
    mp_buf result;

    if (out != 3 && dup2(out, 3) < 0)
        _exit(1);
    close_range(4, ~0u, 0);
    c->note = 3;
    mp_init(&result);
    if (note)
        mover_end(c, note, &result);
    else
        mover_run(c, &result);
    for (size_t at = 0; at < result.b.size;) {
        ssize_t n = write(3, result.b.data + at, result.b.size - at);
        if (n <= 0)
            _exit(1);
        at += (size_t)n;
    }
    _exit(0);
}

static int start(struct mover *v, const msgpack_object *note, struct err *err)
{
    struct init *in = v->in;
    int p[2] = { -1, -1 };

    if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_set(err, errno, "pipe: %s", strerror(errno));
    fcntl(p[1], F_SETFL, 0); /* of the child's end */
    v->fd = p[0];
    pid_t pid = loop_fd(in->loop, p[0], EPOLLIN, on_result, v, err) < 0 ? -1 : fork();
    if (pid == 0)
        run(&v->c, note, p[1]);
    close(p[1]);
    if (pid > 0)
        return 0;
    if (!err->code)
        err_set(err, errno, "fork: %s", strerror(errno));
    loop_fd_del(in->loop, p[0]);
    close(p[0]);
    return -1;
}

/* The pipe that is its output, if that is a stream of ours: by way of whoever has made it. */
static uint64_t stream_of(const struct init *in, pid_t npid, int fd)
{
    char path[48], text[64];
    unsigned long inode = 0;
    size_t n;
    const uint32_t *slot = rings_list(in->rings, &n);

    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)npid, fd);
    ssize_t len = readlink(path, text, sizeof text - 1);
    text[len > 0 ? len : 0] = 0;
    if (sscanf(text, "pipe:[%lu]", &inode) != 1)
        return 0;
    for (size_t i = 0; i < n; i++)
        if (pump_inode(in->pump, slot[i]) == inode)
            return inode;
    return 0;
}

/* ["move", {id, pid, npid?, launch, to, check?, no_input?}] */
int mover_ask(struct init *in, const msgpack_object *map, struct err *err)
{
    int64_t pid, to;
    uint64_t id, launch;
    struct err why = { 0 };

    if (mp_get_uint(map, "id", &id, err) < 0 || mp_get_uint(map, "launch", &launch, err) < 0 ||
        mp_get_int(map, "pid", 1, INT32_MAX, &pid, err) < 0 ||
        mp_get_int(map, "to", -1, INT32_MAX, &to, err) < 0)
        return -1;
    pid_t npid = (pid_t)mp_opt_int(map, "npid", 0); /* of one that a body has made */
    uint32_t gen;
    const struct body *b = npid ? bodies_by_npid(in->bodies, npid)
                                : bodies_by_pid(in->bodies, (pid_t)pid);
    bool kid = npid && !b && kids_note(in->kids, npid, 0, &gen) == 0;
    npid = b ? b->npid : npid;
    if (!kid && (!b || b->launch != launch)) {
        err_set(&why, ESRCH, "process %d is not here (any more)", (int)pid);
        reply(in, id, NULL, &why);
        return 0;
    }
    /* Asked again, by an agent that knows nothing of the first time. */
    for (struct mover *v = in->movers; v; v = v->next)
        if (v->c.pid == npid) {
            if (v->c.to == to)
                v->id = id;
            else {
                err_set(&why, EBUSY, "process %d is being moved", (int)pid);
                reply(in, id, NULL, &why);
            }
            return 0;
        }
    struct mover_conf c = { .pid = npid, .to = (int)to, .node = true, .run = NODE_RUN,
                            .like = getpid(), .check = mp_opt_bool(map, "check", false),
                            .no_input = mp_opt_bool(map, "no_input", false) };
    for (int fd = 0; b && fd < 3; fd++)
        c.stream[fd] = b->slot[fd] < 0 ? 0 : pump_inode(in->pump, (uint32_t)b->slot[fd]);
    for (int fd = 1; kid && fd < 3; fd++)
        c.stream[fd] = stream_of(in, npid, fd);
    struct mover *v = calloc(1, sizeof *v);
    if (!v || !(v->text = malloc(RESULT_MAX))) {
        free(v);
        err_set(&why, ENOMEM, "out of memory");
        reply(in, id, NULL, &why);
        return 0;
    }
    v->in = in;
    v->id = id;
    v->c = c;
    v->next = in->movers;
    in->movers = v;
    if (start(v, NULL, &why) < 0) {
        reply(in, id, NULL, &why);
        drop(v);
    }
    return 0;
}
