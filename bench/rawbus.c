/* rawbus.c - the least that ZeroMQ can do: a broker and a service that echoes
 *
 * rawbus broker ENDPOINT     one ROUTER; who says "bench" is the service, what
 *                            others say goes to it, and its answers go back
 * rawbus service ENDPOINT    a DEALER that answers each message with itself
 *
 * Nothing is decoded, checked or stamped. Frames are those of the bus: to the
 * broker [envelope, payload], to the service [route, envelope, payload], back
 * the same, to the asker ["", envelope, payload].
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

#define FRAMES 5

/* All frames of one message; how many, or -1. The last call's are closed first. */
static int receive(void *sock, zmq_msg_t f[FRAMES])
{
    int n = 0, more = 1;

    while (more) {
        if (n == FRAMES)
            return -1;
        zmq_msg_close(&f[n]);
        zmq_msg_init(&f[n]);
        if (zmq_msg_recv(&f[n], sock, 0) < 0)
            return -1;
        more = zmq_msg_more(&f[n++]);
    }
    return n;
}

static int forward(void *sock, zmq_msg_t *f, int n)
{
    for (int i = 0; i < n; i++)
        if (zmq_msg_send(&f[i], sock, i < n - 1 ? ZMQ_SNDMORE : 0) < 0)
            return -1;
    return 0;
}

static bool same(zmq_msg_t *m, const void *p, size_t len)
{
    return zmq_msg_size(m) == len && memcmp(zmq_msg_data(m), p, len) == 0;
}

static int broker(void *sock, zmq_msg_t f[FRAMES])
{
    unsigned char service[64];
    size_t len = 0;

    for (;;) {
        int n = receive(sock, f), rc = 0;
        if (n < 2)
            return 1;
        if (n == 2 && same(&f[1], "bench", 5) && zmq_msg_size(&f[0]) <= sizeof service) {
            len = zmq_msg_size(&f[0]);
            memcpy(service, zmq_msg_data(&f[0]), len);
        } else if (n == 3 && len) { /* [asker, envelope, payload] */
            zmq_send(sock, service, len, ZMQ_SNDMORE);
            rc = forward(sock, f, 3);
        } else if (n == 4 && same(&f[0], service, len)) { /* [service, asker, ...] */
            rc = zmq_msg_send(&f[1], sock, ZMQ_SNDMORE);
            zmq_send(sock, "", 0, ZMQ_SNDMORE);
            rc = rc < 0 ? rc : forward(sock, f + 2, 2);
        }
        if (rc < 0)
            return 1;
    }
}

static int service(void *sock, zmq_msg_t f[FRAMES])
{
    if (zmq_send(sock, "bench", 5, 0) < 0)
        return 1;
    for (;;) {
        int n = receive(sock, f);
        if (n < 1 || forward(sock, f, n) < 0)
            return 1;
    }
}

int main(int argc, char **argv)
{
    bool is_broker = argc == 3 && strcmp(argv[1], "broker") == 0;
    zmq_msg_t f[FRAMES];

    if (!is_broker && (argc != 3 || strcmp(argv[1], "service") != 0)) {
        fputs("usage: rawbus broker|service ENDPOINT\n", stderr);
        return 2;
    }
    for (int i = 0; i < FRAMES; i++)
        zmq_msg_init(&f[i]);
    void *sock = zmq_socket(zmq_ctx_new(), is_broker ? ZMQ_ROUTER : ZMQ_DEALER);
    if (!sock || (is_broker ? zmq_bind : zmq_connect)(sock, argv[2]) < 0) {
        fprintf(stderr, "rawbus: %s: %s\n", argv[2], zmq_strerror(zmq_errno()));
        return 1;
    }
    return (is_broker ? broker : service)(sock, f);
}
