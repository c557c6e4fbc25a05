/* request.c - what the process would have asked the cluster, asked in its name
 *
 * Each connection is made by the process itself, which stands still: so agents and
 * services hear of it what the kernel says, and this is the road of bproc_move(3).
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include "bus/limits.h"
#include "bus/loop.h"
#include "image/going.h"
#include "mover/mover.h"

#define LAUNCH_MS 120000
#define MOVED_MS 60000   /* one question; it is asked until it is answered */
#define ABSENT_MS 60000  /* no cluster any more */
#define PASS_MS 20000
#define PASS_TRIES 150 /* its agent, or the target's, may be on its way up again */
#define AGAIN_MS 200
#define RESEND_MS 1000
#define STILL_MS 5000    /* its number is still taken there */

static uint64_t new_id(void)
{
    uint64_t id = 0;

    while (!(id >> 1))
        if (getrandom(&id, sizeof id, 0) != sizeof id)
            id = (uint64_t)now_ms() << 22 ^ (uint64_t)getpid();
    return id >> 1;
}

/* --- asking --- */

static gate_t *open_gate(struct request *r, struct err *err)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/gate", r->c->run);
    int fd = frozen_connect(r->f, path, err);
    return fd < 0 ? NULL : gate_adopt(fd, err);
}

/* Through the next gate, under the same number, when one is lost. */
static int ask(struct request *r, const char *topic, const mp_buf *m, int ms,
               msgpack_unpacked *reply, struct err *err)
{
    int64_t end = now_ms() + ms, sent = 0;
    CLEANUP(gate_close) gate_t *g = NULL;
    uint64_t id = 0;

    for (;;) {
        struct gate_msg msg;
        struct err why = { 0 };
        int left = (int)(end - now_ms());
        if (left <= 0)
            return err_set(err, ETIMEDOUT, "%s: no answer within %d ms", topic, ms);
        if (!g && !(g = open_gate(r, err)))
            return -1;
        if ((!sent || now_ms() - sent >= RESEND_MS) &&
            gate_send(g, topic, m, left, &id, &why) < 0) {
            if (why.code == EMSGSIZE)
                return err_set(err, why.code, "%s: %s", topic, why.text);
            gate_close(&g);
            sent = 0;
            poll(NULL, 0, AGAIN_MS / 4);
            continue;
        }
        if (!sent || now_ms() - sent >= RESEND_MS)
            sent = now_ms();
        int n = gate_recv(g, left > AGAIN_MS ? AGAIN_MS : left, &msg, &why);
        if (n < 0) {
            gate_close(&g);
            sent = 0;
        }
        if (n <= 0)
            continue;
        bool ours = msg.w.id == id && (msg.w.kind == WIRE_REPLY || msg.w.kind == WIRE_ERROR);
        int rc = ours ? gate_answer(&msg, reply, &why) : -1;
        gate_msg_clear(&msg);
        if (rc == 0)
            return 0;
        if (ours && why.code != ECONNREFUSED) /* that is: the service is being restarted */
            return err_set(err, why.code, "%s", why.text);
        if (ours) {
            sent = 0;
            poll(NULL, 0, AGAIN_MS);
        }
    }
}

/* The row of "failed" that is about it: -1. */
static int failed(const msgpack_object *reply, struct err *err)
{
    const msgpack_object_array *a;
    int64_t code = 0;

    if (mp_get_array(reply, "failed", &a, err) < 0)
        return -1;
    if (!a->size)
        return 0;
    const msgpack_object *row = &a->ptr[0];
    if (row->type != MSGPACK_OBJECT_ARRAY || row->via.array.size < 2 ||
        !mp_as_int(&row->via.array.ptr[1], &code) || code <= 0 || code > 100000)
        return err_set(err, EPROTO, "the answer was not understood");
    CLEANUP(cleanup_free) char *text =
        row->via.array.size > 2 ? mp_dup(&row->via.array.ptr[2]) : NULL;
    return err_set(err, (int)code, "%s", text && *text ? text : err_name((int)code));
}

/* --- what goes along --- */

struct rows { /* while maps are read */
    struct request *r;
    char last[IMAGE_PATH];
};

static int add_file(struct image_writer *w, void *arg)
{
    struct rows *v = arg;
    const struct image_map *m = &w->s->map;

    if (m->kind != IMAGE_MAP_FILE || strcmp(v->last, w->s->path) == 0)
        return 0;
    snprintf(v->last, sizeof v->last, "%s", w->s->path);
    mp_array(&v->r->maps, 3);
    mp_bin(&v->r->maps, w->s->path, strlen(w->s->path));
    mp_uint(&v->r->maps, m->file_size);
    mp_uint(&v->r->maps, m->head_crc);
    v->r->nmaps++;
    return 0;
}

static int read_argv(struct request *r, struct err *err)
{
    size_t len = 0, n = 0;

    r->cmdline = proc_text(r->c->pid, "cmdline", &len);
    if (!r->cmdline)
        return err_set(err, errno, "process %d: %s", (int)r->c->pid, strerror(errno));
    for (size_t i = 0; i < len; i += strlen(r->cmdline + i) + 1)
        n++;
    r->argv = calloc(n + 2, sizeof *r->argv);
    if (!r->argv)
        return err_set(err, ENOMEM, "out of memory");
    n = 0;
    for (size_t i = 0; i < len; i += strlen(r->cmdline + i) + 1)
        r->argv[n++] = r->cmdline + i;
    if (!n)
        r->argv[0] = r->cmdline;
    return 0;
}

int request_open(struct request *r, struct image_writer *w, struct err *err)
{
    CLEANUP(cleanup_free) struct rows *v = calloc(1, sizeof *v);

    mp_init(&r->maps);
    if (!v)
        return err_set(err, ENOMEM, "out of memory");
    v->r = r;
    if (image_maps(w, add_file, v) < 0)
        return err_set(err, w->code, "process %d: %s: %s", (int)r->c->pid, w->what, w->why);
    return read_argv(r, err);
}

int request_again(struct request *r, struct err *err)
{
    CLEANUP(mp_free) mp_buf rows;

    mp_init(&rows);
    int n = going_children(r->c->pid, &rows);
    r->kept = n > 0 ? (uint32_t)n : 0;
    mp_init(&r->maps);
    return read_argv(r, err);
}

void request_close(struct request *r)
{
    mp_free(&r->maps);
    ticket_free(&r->ticket);
    free(r->argv);
    free(r->cmdline);
}

/* --- the launch --- */

static void pack(struct request *r, const struct held_list *l, const struct image_writer *w,
                 mp_buf *m)
{
    const struct image_process *p = &w->s->process;
    /* Both, or none: who reads them waits for the end of both. */
    bool forward = held_stream(l, 1) || held_stream(l, 2);
    uint32_t n = 0;

    CLEANUP(mp_free) mp_buf rows;

    mp_init(&rows);
    int children = going_children(r->c->pid, &rows);
    r->kept = children > 0 ? (uint32_t)children : 0;
    mp_map(m, r->kept ? 15 : 14);
    if (r->kept) {
        mp_key(m, "children");
        mp_array(m, r->kept);
        msgpack_sbuffer_write(&m->b, rows.b.data, rows.b.size);
    }
    mp_kuint(m, "launch", r->launch);
    mp_kbool(m, "kin", true);
    mp_key(m, "nodes");
    mp_array(m, 1);
    mp_int(m, r->c->to);
    mp_key(m, "pids");
    mp_array(m, 1);
    mp_int(m, r->c->pid);
    while (r->argv[n])
        n++;
    mp_key(m, "argv");
    mp_array(m, n);
    for (uint32_t i = 0; i < n; i++)
        mp_bin(m, r->argv[i], strlen(r->argv[i]));
    mp_key(m, "env");
    mp_array(m, 0);
    mp_kbin(m, "cwd", p->cwd, strlen(p->cwd));
    mp_kuint(m, "umask", p->umask & 0777);
    mp_key(m, "limits");
    limits_pack(r->c->pid, m);
    mp_kbin(m, "path", p->exe, strlen(p->exe));
    mp_key(m, "streams");
    mp_array(m, 3);
    for (int fd = 0; fd < 3; fd++) {
        mp_map(m, 1);
        mp_kstr(m, "mode", fd && forward ? "forward" : "null");
    }
    mp_kbool(m, "reader", false);
    mp_kbool(m, "self", true);
    mp_key(m, "image");
    mp_map(m, 2);
    mp_kuint(m, "bytes", going_bytes(r->c->pid));
    mp_key(m, "maps");
    mp_array(m, r->nmaps);
    msgpack_sbuffer_write(&m->b, r->maps.b.data, r->maps.b.size);
}

static int launch_once(struct request *r, const struct held_list *l,
                       const struct image_writer *w, struct err *err)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    msgpack_unpacked_init(&reply);
    r->launch = new_id();
    pack(r, l, w, &m);
    return note_write(r->c, r->launch, r->f, err) < 0 ||
                   ask(r, "procspace.launch", &m, LAUNCH_MS, &reply, err) < 0 ||
                   failed(&reply.data, err) < 0
               ? -1
               : ticket_take(&r->ticket, &reply.data, err);
}

int request_launch(struct request *r, const struct held_list *l, const struct image_writer *w,
                   struct err *err)
{
    int64_t end = now_ms() + STILL_MS;

    /* Who comes back to where it was a moment ago may still be ending there. Of a child
     * that ends before all know it, it has to hear first: for that it must run. */
    for (int ms = 1;; ms = ms < 50 ? ms * 2 : ms) {
        struct err why = { 0 };
        if (launch_once(r, l, w, &why) == 0)
            return 0;
        if (why.code != EAGAIN || now_ms() >= end || kept_ended(r->c->pid))
            return err_set(err, why.code, "%s", why.text);
        poll(NULL, 0, ms);
    }
}

int request_way(struct request *r, struct err *err)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/move", r->c->run);
    CLEANUP(cleanup_close) int s = frozen_connect(r->f, path, err);
    return s < 0 ? -1 : ticket_show(&r->ticket, s, err);
}

/* --- the word --- */

static bool worth_again(int code)
{
    return code == ETIMEDOUT || code == EAGAIN || code == EPIPE || code == ECONNRESET ||
           code == ENOTCONN || code == EBUSY || code == ENOENT;
}

int request_moved(struct request *r, bool abort_it, bool cut, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    int64_t absent = 0;

    mp_init(&m);
    mp_map(&m, 4);
    mp_kuint(&m, "launch", r->launch);
    mp_kbool(&m, "abort", abort_it);
    mp_kbool(&m, "cut", cut);
    mp_key(&m, "nodes"); /* for a procspace that was restarted meanwhile */
    mp_array(&m, 1);
    mp_int(&m, r->c->to);
    for (;;) {
        CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
        struct err why = { 0 };
        msgpack_unpacked_init(&reply);
        if (ask(r, "procspace.moved", &m, MOVED_MS, &reply, &why) == 0) {
            r->stands = mp_opt_bool(&reply.data, "stands", false);
            return failed(&reply.data, err);
        }
        /* Who says so may not know, an agent that was restarted for one: as long as
         * there is a cluster, only its word on the move itself counts. */
        if (why.code == ECONNREFUSED || !r->f->held) {
            absent = absent ? absent : now_ms();
            if (now_ms() - absent > ABSENT_MS || !r->f->held)
                return err_set(err, EIO, "%s", why.text);
        } else {
            absent = 0;
            if (abort_it && !worth_again(why.code))
                return err_set(err, why.code, "%s", why.text);
        }
        poll(NULL, 0, AGAIN_MS);
    }
}

void request_pass(struct request *r)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    CLEANUP(mp_free) mp_buf rows;
    CLEANUP(mp_free) mp_buf m;
    struct err err = { 0 };

    mp_init(&rows);
    mp_init(&m);
    msgpack_unpacked_init(&reply);
    uint32_t n = frozen_signals(r->f, &rows);
    if (!n)
        return;
    mp_map(&m, 2);
    mp_kuint(&m, "launch", r->launch);
    mp_key(&m, "signals");
    mp_array(&m, n);
    msgpack_sbuffer_write(&m.b, rows.b.data, rows.b.size);
    for (int tries = 0; tries < PASS_TRIES; tries++) {
        if (ask(r, "procspace.pass", &m, PASS_MS, &reply, &err) == 0 ||
            (err.code != ECONNREFUSED && !worth_again(err.code))) /* that is: the agent is away */
            return;
        poll(NULL, 0, AGAIN_MS);
    }
}
