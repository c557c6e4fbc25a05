/* zloop.c - ZeroMQ sockets in a loop, CURVE keys and who may use them */
#include "bus/zloop.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#define BURST 64 /* messages of one socket before the others get a turn */

struct zsource {
    void *sock;
    loop_fn *fn;
    void *arg;
    struct zsource *next;
};

static struct zsource *zsources;

void *zloop_context(void)
{
    static void *ctx;
    if (!ctx) {
        ctx = zmq_ctx_new();
        if (ctx)
            zmq_ctx_set(ctx, ZMQ_MAX_SOCKETS, 4096);
    }
    return ctx;
}

static bool readable(void *arg)
{
    struct zsource *z = arg;
    int ev = 0;
    size_t len = sizeof ev;
    return zmq_getsockopt(z->sock, ZMQ_EVENTS, &ev, &len) == 0 &&
           (ev & ZMQ_POLLIN);
}

static void dispatch(void *arg)
{
    struct zsource *z = arg;
    for (int i = 0; i < BURST && readable(z); i++)
        z->fn(z->arg);
}

int zloop_add(loop_t *l, void *zsock, loop_fn *fn, void *arg, struct err *err)
{
    int fd;
    size_t len = sizeof fd;
    struct zsource *z = calloc(1, sizeof *z);

    if (!z)
        return err_set(err, ENOMEM, "out of memory");
    *z = (struct zsource){ zsock, fn, arg, zsources };
    if (zmq_getsockopt(zsock, ZMQ_FD, &fd, &len) < 0 ||
        loop_source(l, fd, readable, dispatch, z, err) < 0) {
        free(z);
        return err_set(err, errno, "ZeroMQ socket: %s", zmq_strerror(errno));
    }
    zsources = z;
    return 0;
}

void zloop_del(loop_t *l, void *zsock)
{
    for (struct zsource **p = &zsources; *p; p = &(*p)->next) {
        struct zsource *z = *p;
        if (z->sock != zsock)
            continue;
        loop_source_del(l, z);
        *p = z->next;
        free(z);
        return;
    }
}

struct zap {
    void *rep;
    zap_allow_fn *allow;
    void *arg;
};

static int frame_text(void *sock, char *out, size_t room, size_t *len, int *more)
{
    zmq_msg_t m;
    size_t mlen = sizeof *more;

    zmq_msg_init(&m);
    if (zmq_msg_recv(&m, sock, ZMQ_DONTWAIT) < 0)
        return -1;
    *len = zmq_msg_size(&m) < room - 1 ? zmq_msg_size(&m) : room - 1;
    memcpy(out, zmq_msg_data(&m), *len);
    out[*len] = 0;
    zmq_msg_close(&m);
    return zmq_getsockopt(sock, ZMQ_RCVMORE, more, &mlen);
}

/* RFC 27: version, id, domain, address, identity, mechanism, credentials */
static void on_zap(void *arg)
{
    struct zap *z = arg;
    char f[7][256];
    size_t len[7] = { 0 };
    int more = 1, n = 0;

    memset(f, 0, sizeof f);
    while (more) {
        char spare[256];
        size_t spare_len;
        if (frame_text(z->rep, n < 7 ? f[n] : spare, 256, n < 7 ? &len[n] : &spare_len,
                       &more) < 0)
            return;
        n++;
    }
    char key[41] = "";
    bool ok = n >= 7 && strcmp(f[5], "CURVE") == 0 && len[6] == 32 &&
              zmq_z85_encode(key, (unsigned char *)f[6], 32) &&
              z->allow(z->arg, key, f[3]);
    const char *id = ok ? key : "";
    zmq_send(z->rep, "1.0", 3, ZMQ_SNDMORE);
    zmq_send(z->rep, f[1], len[1], ZMQ_SNDMORE);
    zmq_send(z->rep, ok ? "200" : "400", 3, ZMQ_SNDMORE);
    zmq_send(z->rep, ok ? "OK" : "key not accepted", ok ? 2 : 16, ZMQ_SNDMORE);
    zmq_send(z->rep, id, strlen(id), ZMQ_SNDMORE);
    zmq_send(z->rep, "", 0, 0);
}

int zap_start(loop_t *l, zap_allow_fn *allow, void *arg, struct err *err)
{
    static struct zap z; /* ZeroMQ knows one handler a context */

    z = (struct zap){ zmq_socket(zloop_context(), ZMQ_REP), allow, arg };
    if (!z.rep || zmq_bind(z.rep, "inproc://zeromq.zap.01") < 0)
        return err_set(err, errno, "ZAP handler: %s", zmq_strerror(errno));
    return zloop_add(l, z.rep, on_zap, &z, err);
}

static int keys_read(const char *path, struct curve_keys *k, struct err *err)
{
    char buf[128] = "", pub[41];
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    ssize_t n = read(fd, buf, sizeof buf - 1);
    if (n < 81 || sscanf(buf, "%40s %40s", k->public_key, k->secret_key) != 2 ||
        strlen(k->secret_key) != 40 || zmq_curve_public(pub, k->secret_key) < 0 ||
        strcmp(pub, k->public_key) != 0)
        return err_set(err, EINVAL, "%s: not a pair of CURVE keys; remove it to have "
                       "new ones made", path);
    return 0;
}

int curve_keys_load(const char *path, bool make, struct curve_keys *k, struct err *err)
{
    char tmp[4096];

    memset(k, 0, sizeof *k);
    if (access(path, F_OK) == 0 || !make)
        return keys_read(path, k, err);
    if (zmq_curve_keypair(k->public_key, k->secret_key) < 0)
        return err_set(err, errno, "make CURVE keys: %s", zmq_strerror(errno));
    snprintf(tmp, sizeof tmp, "%s.%d", path, getpid());
    CLEANUP(cleanup_close) int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(err, errno, "%s: %s", tmp, strerror(errno));
    /* link() and not rename(): when two make keys at once, the first one's stay. */
    int bad = dprintf(fd, "%s\n%s\n", k->public_key, k->secret_key) != 82 ||
              fsync(fd) < 0;
    if (bad || (link(tmp, path) < 0 && errno != EEXIST)) {
        int code = errno;
        unlink(tmp);
        return err_set(err, code, "%s: %s", path, strerror(code));
    }
    unlink(tmp);
    return keys_read(path, k, err);
}
