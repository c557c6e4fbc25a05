/* transfer.c - an image of this process on its way to nodes */
#include "clients/libbproc/transfer.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/loop.h"
#include "bus/pkt.h"
#include "bus/rundir.h"
#include "image/going.h"
#include "image/pipe.h"

#define MOVED_MS 60000    /* one question; it is asked until it is answered */
#define ABSENT_MS 60000   /* no cluster any more */
#define AGAIN_MS 200
#define PASS_TRIES 150 /* procspace may just be on its way up again */

/* --- what goes along --- */

/* The command line as it is now. */
static int read_argv(struct transfer *t)
{
    size_t room = 0, got = 0, n = 0;
    CLEANUP(cleanup_close) int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -1;
    for (;;) {
        if (room - got < 4096) {
            char *p = realloc(t->text, room = room ? room * 2 : 8192);
            if (!p)
                return lib_errno(ENOMEM);
            t->text = p;
        }
        ssize_t k = read(fd, t->text + got, room - got - 1);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            break;
        got += (size_t)k;
    }
    t->text[got] = 0;
    for (size_t i = 0; i < got; i += strlen(t->text + i) + 1)
        n++;
    t->argv = calloc(n + 2, sizeof *t->argv);
    if (!t->argv)
        return lib_errno(ENOMEM);
    n = 0;
    for (size_t i = 0; i < got; i += strlen(t->text + i) + 1)
        t->argv[n++] = t->text + i;
    if (!n)
        t->argv[0] = t->text;
    return 0;
}

struct rows { /* while maps are read */
    struct transfer *t;
    char last[IMAGE_PATH];
    mp_buf list;
};

/* Mappings of one file follow each other; a file told twice does no harm. */
static int add_file(struct image_writer *w, void *arg)
{
    struct rows *r = arg;
    const struct image_map *m = &w->s->map;

    if (m->kind != IMAGE_MAP_FILE || strcmp(r->last, w->s->path) == 0)
        return 0;
    if ((m->flags & IMAGE_MAP_SHARED) && (m->prot & PROT_WRITE))
        return image_fail(w, EINVAL, "memory shared with a file cannot go along", w->s->path);
    memcpy(r->last, w->s->path, strlen(w->s->path) + 1);
    mp_array(&r->list, 3);
    mp_bin(&r->list, w->s->path, strlen(w->s->path));
    mp_uint(&r->list, m->file_size);
    mp_uint(&r->list, m->head_crc);
    r->t->nmaps++;
    return 0;
}

/* One that no mapping is of. Whoever has it not when it is wanted will say so. */
static void add_named(struct rows *r, const char *path)
{
    unsigned char head[IMAGE_PAGE];
    struct stat st;
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return;
    ssize_t n = pread(fd, head, sizeof head, 0);
    if (n < 0)
        return;
    mp_array(&r->list, 3);
    mp_bin(&r->list, path, strlen(path));
    mp_uint(&r->list, (uint64_t)st.st_size);
    mp_uint(&r->list, image_crc(0, head, (size_t)n));
    r->t->nmaps++;
}

static int list_files(struct transfer *t)
{
    struct rows *r = calloc(1, sizeof *r);

    if (!r)
        return lib_errno(ENOMEM);
    r->t = t;
    mp_init(&r->list);
    int rc = image_maps(&t->v.w, add_file, r);
    for (size_t i = 0; t->also && i < t->also->n; i++)
        add_named(r, t->also->path[i]);
    if (rc == 0) {
        mp_array(&t->maps, t->nmaps);
        msgpack_sbuffer_write(&t->maps.b, r->list.b.data, r->list.b.size);
    }
    mp_free(&r->list);
    free(r);
    return rc < 0 ? lib_errno(t->v.w.code) : 0;
}

static bool by_value(void *arg, const char *path)
{
    const struct transfer *t = arg;

    for (char **l = t->ticket.lacks; l && *l; l++)
        if (strcmp(*l, path) == 0)
            return true;
    return false;
}

int transfer_open(struct transfer *t, bool timers)
{
    static char *none[] = { NULL };

    mp_init(&t->maps);
    t->v.w.by_value = by_value;
    t->v.w.arg = t;
    t->launch = launch_id();
    dump_rule_open(&t->rule, t->flags);
    if (read_argv(t) < 0 || save_open(&t->v, timers) < 0 || list_files(t) < 0)
        return -1;
    t->s.cmd = t->rule.exe;
    t->s.argv = t->argv;
    t->s.envp = none;
    t->s.maps = &t->maps;
    t->s.bytes = going_bytes(0);
    return 0;
}

void transfer_close(struct transfer *t, bool stays)
{
    save_close(&t->v, stays);
    dump_rule_close(&t->rule);
    mp_free(&t->maps);
    ticket_free(&t->ticket);
    kept_close(t);
    free(t->argv);
    free(t->text);
}

/* --- asking --- */

int transfer_ask(struct transfer *t, const int *node, const int32_t *pid, const int *index,
                 uint32_t n, int *code)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    CLEANUP(gate_close) gate_t *g = NULL;
    CLEANUP(mp_free) mp_buf m;
    struct err err = { 0 };

    msgpack_unpacked_init(&reply);
    mp_init(&m);
    memset(code, 0, n * sizeof *code);
    if (!(g = lib_open(ENOSYS)))
        return -1;
    if (start_pack(&t->s, t->launch, node, pid, index, n, t->self, &m, &err) < 0 ||
        gate_call(g, "procspace.launch", &m, LAUNCH_MS, &reply, &err) < 0 ||
        launch_failed(&reply.data, n, code, &err) < 0 || ticket_take(&t->ticket, &reply.data, &err) < 0)
        return lib_fail(&err);
    return 0;
}

/* --- sending --- */

/* The descriptor that the image goes to. */
static int open_way(struct transfer *t)
{
    char path[PATH_MAX];
    struct err err = { 0 };
    CLEANUP(cleanup_close) int s =
        pkt_connect(lib_on_node() ? NODE_RUN "/move" : cm_path(path, "move"), &err);

    int fd = s < 0 ? -1 : ticket_show(&t->ticket, s, &err);
    if (fd < 0)
        return lib_fail(&err);
    return fd;
}

static void pack_moved(const struct transfer *t, const int *node, uint32_t n,
                       const char *but, mp_buf *m)
{
    mp_map(m, 2 + (but != NULL) + (t->pids != NULL));
    mp_kuint(m, "launch", t->launch);
    if (but)
        mp_kbool(m, but, true);
    if (t->pids) {
        mp_key(m, "pids");
        mp_array(m, n);
        for (uint32_t i = 0; i < n; i++)
            mp_int(m, t->pids[i]);
    }
    mp_key(m, "nodes"); /* for a procspace that was restarted meanwhile */
    mp_array(m, n);
    for (uint32_t i = 0; i < n; i++)
        mp_int(m, node[i]);
}

static bool worth_again(int code)
{
    switch (code) {
    case ETIMEDOUT:
    case EAGAIN:
    case EPIPE:
    case ECONNRESET:
    case ENOTCONN:
    case EBUSY:
        return true;
    default:
        return false;
    }
}

/* But: "abort", they are not to go on; "cut", not all of the image could be sent.
 * Whatever happens to the services meanwhile, only an answer is one. */
static int moved(struct transfer *t, const int *node, uint32_t n, const char *but, int *code)
{
    bool abort_it = but && strcmp(but, "abort") == 0;
    CLEANUP(mp_free) mp_buf m;
    int64_t absent = 0;

    mp_init(&m);
    pack_moved(t, node, n, but, &m);
    for (;;) {
        msgpack_unpacked reply;
        struct err err = { 0 };
        gate_t *g = lib_open(ECONNREFUSED);
        int rc = -1;
        msgpack_unpacked_init(&reply);
        if (g)
            rc = gate_call(g, "procspace.moved", &m, MOVED_MS, &reply, &err);
        else
            err.code = ECONNREFUSED;
        if (rc == 0)
            rc = launch_failed(&reply.data, n, code, &err);
        if (rc == 0)
            t->stands = mp_opt_bool(&reply.data, "stands", false);
        msgpack_unpacked_destroy(&reply);
        gate_close(&g);
        if (rc == 0)
            return 0;
        /* Who says so may not know, an agent that was restarted for one: as long as
         * there is a cluster, only its word on the move itself counts. */
        if (err.code == ECONNREFUSED) {
            absent = absent ? absent : now_ms();
            if (now_ms() - absent > ABSENT_MS)
                return lib_errno(EIO);
        } else {
            absent = 0;
            if (abort_it && !worth_again(err.code))
                return lib_fail(&err);
        }
        poll(NULL, 0, AGAIN_MS);
    }
}

/* What may not go along by value must be there. */
static int may_send(struct transfer *t)
{
    if (*t->ticket.lacks) /* else the list would be asked for in vain */
        dump_rule_libs(&t->rule);
    for (char **l = t->ticket.lacks; *l; l++)
        if (!dump_by_value((void *)(uintptr_t)&t->rule, *l))
            return lib_errno(ELIBACC);
    return 0;
}

int transfer_send(struct transfer *t, const int *node, uint32_t n, int *code)
{
    int fd = may_send(t) < 0 ? -1 : open_way(t), why = errno;
    int copy = -1;

    if (fd >= 0) {
        t->v.w.lend = image_pipe_room(fd);
        copy = save_write(&t->v, fd);
        why = errno;
        if (copy > 0)
            return copy; /* descriptors of then are not ours */
        close(fd);
    }
    /* Asked even so: the other end may know better why it was cut. */
    if (moved(t, node, n, fd < 0 ? "abort" : copy < 0 ? "cut" : NULL, code) < 0)
        return -1;
    for (uint32_t i = 0; i < n; i++)
        if (copy < 0 && code[i] && (code[i] == EBADMSG || code[i] == ECANCELED || code[i] == EIO))
            code[i] = why;
    return 0;
}

void transfer_pass(struct transfer *t)
{
    static const struct timespec now;
    CLEANUP(mp_free) mp_buf rows;
    CLEANUP(mp_free) mp_buf m;
    uint32_t n = 0;
    sigset_t all;
    siginfo_t si;

    mp_init(&rows);
    mp_init(&m);
    sigfillset(&all);
    while (sigtimedwait(&all, &si, &now) > 0) {
        n++;
        mp_array(&rows, 2);
        mp_int(&rows, si.si_signo);
        if (si.si_code == SI_QUEUE)
            mp_int(&rows, (int64_t)(intptr_t)si.si_value.sival_ptr);
        else
            mp_nil(&rows);
    }
    if (!n)
        return;
    mp_map(&m, 2);
    mp_kuint(&m, "launch", t->launch);
    mp_key(&m, "signals");
    mp_array(&m, n);
    msgpack_sbuffer_write(&m.b, rows.b.data, rows.b.size);
    for (int tries = 0; tries < PASS_TRIES; tries++) {
        CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
        msgpack_unpacked_init(&reply);
        if (lib_call(ECONNREFUSED, "procspace.pass", &m, MOVED_MS, &reply) == 0 ||
            (errno != ECONNREFUSED && !worth_again(errno))) /* that is: our agent is away */
            return;
        poll(NULL, 0, AGAIN_MS);
    }
}
