/* send.c - files from here to nodes, and to here
 *
 * bpcp is the source and spreads to the first few nodes, which pass on to the
 * others. A copy to here is one more receiver: a child process, so that the two
 * halves are the same as everywhere else.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "clients/bpcp/bpcp.h"

static void fault(void *arg, const char *path, const char *text)
{
    struct round *r = arg;

    if (r->number == 0) /* they come again with each round */
        say(r->b, BPCP_MASTER, path, text);
}

static void progress(void *arg, const char *path, uint64_t bytes)
{
    struct round *r = arg;

    say_progress(r->b, path, bytes);
}

/* --- the receiver here --- */

static void __attribute__((noreturn)) receive(int fd)
{
    struct err err = { 0 };

    /* It is told the end by the end of the connection, and tidies up then. */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    struct relay r = { .up = chan_plain(fd, &err), .node = BPCP_MASTER };
    int rc = r.up ? relay_serve(&r, &err) : -1;
    chan_close(&r.up);
    _exit(rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}

static int add_here(struct round *r, struct fan *f, struct err *err)
{
    const int here = BPCP_MASTER;
    struct err why = { 0 };
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_set(err, errno, "socketpair: %s", strerror(errno));
    pid_t pid = fork();
    if (pid == 0) {
        close(pair[0]);
        for (size_t i = 0; i < f->n; i++)
            chan_close(&f->kid[i].c);
        gate_close(&r->b->gate);
        receive(pair[1]);
    }
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return err_set(err, errno, "a process: %s", strerror(errno));
    }
    chan_t *c = chan_plain(pair[0], &why);
    CLEANUP(mp_free) mp_buf m;
    mp_init(&m);
    pack_open(r->b, &m, NULL, 0);
    if (c && chan_send(c, COPY_OPEN, m.b.data, m.b.size, NULL, 0, &why) < 0)
        chan_close(&c);
    return fan_add(f, c, &here, 1, why.text, err);
}

/* --- the first of the nodes --- */

static int add_part(struct round *r, struct fan *f, const struct dest *d, size_t n,
                    struct err *err)
{
    CLEANUP(cleanup_free) int *node = calloc(n, sizeof *node);
    CLEANUP(mp_free) mp_buf m;
    struct err why = { 0 };

    mp_init(&m);
    if (!node)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        node[i] = d[i].node;
    chan_t *c = dest_connect(d, &why);
    pack_open(r->b, &m, d + 1, n - 1);
    if (c && chan_send(c, COPY_OPEN, m.b.data, m.b.size, NULL, 0, &why) < 0)
        chan_close(&c);
    return fan_add(f, c, node, n, why.text, err);
}

static int add_nodes(struct round *r, struct fan *f, struct err *err)
{
    CLEANUP(cleanup_free) int *node = NULL;
    CLEANUP(dests_free) struct dests d = { 0 };
    size_t n, from, k;

    if (round_waiting(r, &node, &n, err) < 0)
        return -1;
    if (n && dests_get(r->b, node, n, &d, round_refused, r, err) < 0)
        return -1;
    for (size_t i = 0; (k = dests_part(d.n, i, &from)); i++)
        if (add_part(r, f, &d.d[from], k, err) < 0)
            return -1;
    return 0;
}

/* --- a round --- */

static int hear(struct round *r, struct fan *f, bool end, struct err *err)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked u;
    CLEANUP(mp_free) mp_buf m;
    struct report rep;

    msgpack_unpacked_init(&u);
    mp_init(&m);
    report_init(&rep);
    fan_report(f, &rep);
    report_pack(&rep, &m);
    report_free(&rep);
    return mp_decode(&u, m.b.data, m.b.size, err) < 0 ? -1 : round_report(r, &u.data, end, err);
}

static int run(struct round *r, struct fan *f, char *const *path, size_t n, struct err *err)
{
    struct source s = { .to = f, .recurse = r->b->recurse, .follow = r->b->follow,
                        .place = "master", .fault = fault, .progress = progress, .arg = r };

    fan_flush(f);
    if (hear(r, f, false, err) < 0)
        return -1;
    if (!round_any(r))
        return 0;
    if (source_run(&s, path, n, err) < 0)
        return -1;
    fan_send(f, COPY_END, NULL, 0, NULL, 0);
    fan_flush(f);
    return hear(r, f, true, err);
}

static int one_round(struct round *r, char *const *path, size_t n, struct err *err)
{
    CLEANUP(fan_free) struct fan f = { 0 };
    bool here = false;

    for (size_t i = 0; i < r->n; i++)
        here |= r->t[i].node == BPCP_MASTER && r->t[i].state == TARGET_WAITS;
    if (here && add_here(r, &f, err) < 0)
        return -1;
    if (add_nodes(r, &f, err) < 0)
        return -1;
    return f.n ? run(r, &f, path, n, err) : 0;
}

int send_from_here(struct bpcp *b, struct operand *o, size_t n, struct err *err)
{
    CLEANUP(round_free) struct round r = { 0 };
    CLEANUP(cleanup_free) char **path = calloc(n + 1, sizeof *path);
    size_t k = 0;
    int rc;

    if (!path)
        return err_set(err, ENOMEM, "out of memory");
    bool here = false;
    for (size_t i = 0; i < b->target.nodes.n; i++)
        here |= b->target.nodes.node[i] == BPCP_MASTER;
    for (size_t i = 0; i < n; i++) {
        const char *clash = here ? operand_clash(b, &o[i], BPCP_MASTER) : NULL;
        if (clash)
            say(b, BPCP_MASTER, o[i].path, clash);
        else
            path[k++] = o[i].path;
    }
    if (k == 0)
        return 0;
    if (round_begin(&r, b, err) < 0)
        return -1;
    do
        rc = one_round(&r, path, k, err);
    while (rc == 0 && round_next(&r));
    while (waitpid(-1, NULL, 0) > 0)
        ; /* the receivers here: they end with their connections */
    return rc;
}
