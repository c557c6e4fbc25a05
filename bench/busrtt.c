/* busrtt.c - how long does a request take to a service and back?
 *
 * busrtt gate COUNT           a program's way: RUN/gate, busd, the service
 * busrtt dealer COUNT         a service's way: ZeroMQ to busd, the service
 * busrtt raw COUNT ENDPOINT   the same frames through rawbus's broker
 *
 * One request at a time, each of the same size. Prints the mean in microseconds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>
#include "bus/gate.h"
#include "bus/rundir.h"

#define WARM 200       /* requests before the clock starts */
#define WAIT_MS 5000   /* for one answer */
#define DATA_BYTES 100 /* in each request */

struct client {
    gate_t *gate;
    void *sock;
    int (*ask)(struct client *c, uint64_t i, struct err *err);
};

static void make_body(mp_buf *m, uint64_t i)
{
    static const char data[DATA_BYTES];
    mp_map(m, 2);
    mp_kuint(m, "n", i);
    mp_kbin(m, "data", data, sizeof data);
}

static int check_body(const msgpack_object *value, uint64_t i, struct err *err)
{
    uint64_t n;
    if (mp_get_uint(value, "n", &n, err) < 0)
        return -1;
    return n == i ? 0 : err_set(err, EPROTO, "request %llu was answered with %llu",
                                (unsigned long long)i, (unsigned long long)n);
}

static int ask_gate(struct client *c, uint64_t i, struct err *err)
{
    CLEANUP(mp_free) mp_buf body;
    msgpack_unpacked reply;

    mp_init(&body);
    make_body(&body, i);
    msgpack_unpacked_init(&reply);
    int rc = gate_call(c->gate, "bench.echo", &body, WAIT_MS, &reply, err);
    if (rc == 0)
        rc = check_body(&reply.data, i, err);
    msgpack_unpacked_destroy(&reply);
    return rc;
}

/* Send [envelope, payload]; the answer's two last frames are left in f. */
static int exchange(struct client *c, uint64_t i, zmq_msg_t f[3], struct err *err)
{
    CLEANUP(mp_free) mp_buf env;
    CLEANUP(mp_free) mp_buf body;
    struct wire w = { .version = WIRE_VERSION, .kind = WIRE_REQUEST, .topic = "bench.echo",
                      .id = i + 1, .deadline = WAIT_MS, .uid = -1, .gid = -1, .pid = -1,
                      .node = -1 };

    mp_init(&env);
    mp_init(&body);
    wire_pack(&env, &w);
    make_body(&body, i);
    if (zmq_send(c->sock, env.b.data, env.b.size, ZMQ_SNDMORE) < 0 ||
        zmq_send(c->sock, body.b.data, body.b.size, 0) < 0)
        return err_set(err, zmq_errno(), "send: %s", zmq_strerror(zmq_errno()));
    for (int n = 0; n < 3; n++)
        if (zmq_msg_recv(&f[n], c->sock, 0) < 0)
            return err_set(err, zmq_errno(), "no answer: %s", zmq_strerror(zmq_errno()));
    if (zmq_msg_more(&f[2]) || zmq_msg_size(&f[0]) != 0)
        return err_set(err, EPROTO, "the answer has other frames");
    return 0;
}

static int ask_raw(struct client *c, uint64_t i, struct err *err)
{
    zmq_msg_t f[3];

    for (int n = 0; n < 3; n++)
        zmq_msg_init(&f[n]);
    int rc = exchange(c, i, f, err);
    for (int n = 0; n < 3; n++)
        zmq_msg_close(&f[n]);
    return rc;
}

static int check_frames(zmq_msg_t f[3], uint64_t i, struct err *err)
{
    msgpack_unpacked u;
    struct wire w;
    size_t used;

    if (wire_unpack(&w, zmq_msg_data(&f[1]), zmq_msg_size(&f[1]), &used, err) < 0)
        return -1;
    msgpack_unpacked_init(&u);
    int rc = mp_decode(&u, zmq_msg_data(&f[2]), zmq_msg_size(&f[2]), err);
    if (rc == 0 && w.kind != WIRE_REPLY)
        rc = err_set(err, EPROTO, "the service refused");
    if (rc == 0)
        rc = check_body(&u.data, i, err);
    msgpack_unpacked_destroy(&u);
    return rc;
}

static int ask_dealer(struct client *c, uint64_t i, struct err *err)
{
    zmq_msg_t f[3];

    for (int n = 0; n < 3; n++)
        zmq_msg_init(&f[n]);
    int rc = exchange(c, i, f, err);
    if (rc == 0)
        rc = check_frames(f, i, err);
    for (int n = 0; n < 3; n++)
        zmq_msg_close(&f[n]);
    return rc;
}

static int connect_to(struct client *c, const char *endpoint, struct err *err)
{
    int wait = WAIT_MS, linger = 0;

    c->sock = zmq_socket(zmq_ctx_new(), ZMQ_DEALER);
    if (!c->sock || zmq_connect(c->sock, endpoint) < 0)
        return err_set(err, zmq_errno(), "%s: %s", endpoint, zmq_strerror(zmq_errno()));
    zmq_setsockopt(c->sock, ZMQ_RCVTIMEO, &wait, sizeof wait);
    zmq_setsockopt(c->sock, ZMQ_LINGER, &linger, sizeof linger);
    return 0;
}

static int client_open(struct client *c, int argc, char **argv, struct err *err)
{
    char path[PATH_MAX], endpoint[PATH_MAX + 6];

    if (argc == 3 && strcmp(argv[1], "gate") == 0) {
        c->ask = ask_gate;
        c->gate = gate_open("busrtt", err);
        return c->gate ? 0 : -1;
    }
    if (argc == 3 && strcmp(argv[1], "dealer") == 0) {
        c->ask = ask_dealer;
        snprintf(endpoint, sizeof endpoint, "ipc://%s", cm_path(path, "bus"));
        return connect_to(c, endpoint, err);
    }
    if (argc == 4 && strcmp(argv[1], "raw") == 0) {
        c->ask = ask_raw;
        return connect_to(c, argv[3], err);
    }
    return err_set(err, EINVAL, "usage: busrtt gate|dealer COUNT, busrtt raw COUNT ENDPOINT");
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int measure(struct client *c, uint64_t count, struct err *err)
{
    double begin = 0;

    for (uint64_t i = 0; i < WARM + count; i++) {
        if (i == WARM)
            begin = now();
        if (c->ask(c, i, err) < 0)
            return -1;
    }
    printf("%.3f\n", (now() - begin) / (double)count * 1e6);
    return 0;
}

int main(int argc, char **argv)
{
    struct client c = { 0 };
    struct err err = { 0 };
    int rc = client_open(&c, argc, argv, &err);
    long count = argc > 2 ? atol(argv[2]) : 0;

    if (rc == 0 && count < 1)
        rc = err_set(&err, EINVAL, "COUNT: want a number over 0");
    if (rc == 0)
        rc = measure(&c, (uint64_t)count, &err);
    if (rc < 0)
        fprintf(stderr, "busrtt: %s\n", err.text);
    gate_close(&c.gate);
    if (c.sock)
        zmq_close(c.sock);
    return rc < 0;
}
