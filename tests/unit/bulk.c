/* bulk.c (test) - the bulk channel: who gets in, what arrives, how it ends */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "bus/bulk.h"
#include "tests/unit/tap.h"

#define LIMIT_MS 5000

/* Two ends of a TCP connection over loopback. */
static void tcp_pair(int *a, int *b)
{
    struct sockaddr_in at = { .sin_family = AF_INET };
    socklen_t len = sizeof at;
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct err err = { 0 };

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(l, (struct sockaddr *)&at, sizeof at) < 0 || listen(l, 1) < 0 ||
        getsockname(l, (struct sockaddr *)&at, &len) < 0)
        abort();
    *a = bulk_dial("127.0.0.1", ntohs(at.sin_port), LIMIT_MS, &err);
    *b = accept4(l, NULL, NULL, SOCK_CLOEXEC);
    close(l);
    if (*a < 0 || *b < 0)
        abort();
}

struct server { /* a thread: accepts one peer, then does what the test says */
    int fd;
    const struct bulk_ticket *ticket;
    bulk_lookup_fn *lookup;
    void (*run)(struct server *s);
    bulk_t *b;
    struct err err;
    char data[4 << 20];
    size_t got;
    ssize_t last;
    uint64_t total;
    pthread_t thread;
};

static void *serve(void *arg)
{
    struct server *s = arg;

    s->b = s->lookup ? bulk_server_lookup(s->fd, s->lookup, s, LIMIT_MS, &s->err)
                     : bulk_server(s->fd, s->ticket, LIMIT_MS, &s->err);
    if (s->b)
        s->run(s);
    bulk_close(&s->b);
    return NULL;
}

static void read_to_end(struct server *s)
{
    while (s->got < sizeof s->data) {
        s->last = bulk_read(s->b, s->data + s->got, sizeof s->data - s->got, LIMIT_MS, &s->err);
        if (s->last <= 0)
            return;
        s->got += (size_t)s->last;
    }
}

static void ack_every_chunk(struct server *s)
{
    for (;;) {
        s->last = bulk_read(s->b, s->data, 256 * 1024, LIMIT_MS, &s->err);
        if (s->last <= 0)
            break;
        s->total += (uint64_t)s->last;
    }
    bulk_write(s->b, &s->total, sizeof s->total, LIMIT_MS, &s->err);
}

static struct server *server(int fd, const struct bulk_ticket *t, void (*run)(struct server *))
{
    struct server *s = calloc(1, sizeof *s);

    if (!s)
        abort();
    s->fd = fd;
    s->ticket = t;
    s->run = run;
    return s;
}

static void go(struct server *s)
{
    if (pthread_create(&s->thread, NULL, serve, s) != 0)
        abort();
}

static void tickets_differ(void)
{
    struct bulk_ticket a, b;

    bulk_ticket_make(&a);
    bulk_ticket_make(&b);
    ok(strlen(a.token) == BULK_TOKEN && strspn(a.token, "0123456789abcdef") == BULK_TOKEN,
       "a token is 32 hex characters");
    ok(strcmp(a.token, b.token) != 0 && memcmp(a.key, b.key, BULK_KEY) != 0,
       "no two tickets are alike");
}

static void refuses(const char *what, bool same_token, bool same_key)
{
    struct bulk_ticket t, u;
    struct err err = { 0 };
    int a, b;

    bulk_ticket_make(&t);
    bulk_ticket_make(&u);
    if (same_token)
        memcpy(u.token, t.token, sizeof u.token);
    if (same_key)
        memcpy(u.key, t.key, sizeof u.key);
    tcp_pair(&a, &b);
    struct server *s = server(b, &t, read_to_end);
    go(s);
    bulk_t *c = bulk_client(a, &u, LIMIT_MS, &err);
    ok(!c && err.code, "%s: the client is refused", what);
    pthread_join(s->thread, NULL);
    ok(s->err.code && s->got == 0, "and the server says so (%s)", s->err.text);
    free(s);
}

static void refuses_clear_text(void)
{
    struct bulk_ticket t;
    int a, b;

    bulk_ticket_make(&t);
    tcp_pair(&a, &b);
    struct server *s = server(b, &t, read_to_end);
    go(s);
    static const char noise[] = "GET / HTTP/1.0\r\n\r\n";
    ok(send(a, noise, sizeof noise, MSG_NOSIGNAL) > 0, "somebody speaks clear text");
    pthread_join(s->thread, NULL);
    ok(s->err.code == EPROTO && s->got == 0, "and is refused with EPROTO (%s)", s->err.text);
    close(a);
    free(s);
}

static void a_silent_peer_is_given_up(void)
{
    struct bulk_ticket t;
    struct err err = { 0 };
    int a, b;

    bulk_ticket_make(&t);
    tcp_pair(&a, &b);
    ok(!bulk_server(b, &t, 50, &err) && err.code == ETIMEDOUT,
       "a peer that never speaks fails with ETIMEDOUT");
    close(a);
}

static void bytes_arrive(void)
{
    static char data[3 << 20];
    struct bulk_ticket t;
    struct err err = { 0 };
    int a, b;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)(i * 2654435761u >> 13);
    bulk_ticket_make(&t);
    tcp_pair(&a, &b);
    struct server *s = server(b, &t, read_to_end);
    go(s);
    bulk_t *c = bulk_client(a, &t, LIMIT_MS, &err);
    if (!ok(c != NULL, "both hold the ticket: connected"))
        printf("# %s\n", err.text);
    ok(bulk_write(c, data, sizeof data, LIMIT_MS, &err) == 0, "3 MiB are written");
    bulk_close(&c);
    pthread_join(s->thread, NULL);
    ok(s->last == 0 && s->got == sizeof data && memcmp(s->data, data, sizeof data) == 0,
       "and read, the same bytes, then the end");
    free(s);
}

static void a_cut_is_no_end(void)
{
    struct bulk_ticket t;
    struct err err = { 0 };
    int a, b;

    bulk_ticket_make(&t);
    tcp_pair(&a, &b);
    struct server *s = server(b, &t, read_to_end);
    go(s);
    bulk_t *c = bulk_client(a, &t, LIMIT_MS, &err);
    ok(c && bulk_write(c, "half", 4, LIMIT_MS, &err) == 0, "four bytes, then a cut");
    shutdown(bulk_fd(c), SHUT_WR); /* as a peer that was killed: no close_notify */
    pthread_join(s->thread, NULL);
    ok(s->got == 4 && s->last < 0 && s->err.code == ECONNRESET,
       "the bytes came, and the cut is an error (%s)", s->err.text);
    bulk_close(&c);
    free(s);
}

static struct bulk_ticket known;

static const unsigned char *look_up(void *arg, const char *token)
{
    (void)arg;
    return strcmp(token, known.token) == 0 ? known.key : NULL;
}

static void keys_are_looked_up(void)
{
    struct bulk_ticket stranger;
    struct err err = { 0 };
    int a, b;

    bulk_ticket_make(&known);
    tcp_pair(&a, &b);
    struct server *s = server(b, NULL, read_to_end);
    s->lookup = look_up;
    go(s);
    bulk_t *c = bulk_client(a, &known, LIMIT_MS, &err);
    ok(c != NULL, "a token that the server looks up gets in");
    bulk_write(c, "x", 1, LIMIT_MS, &err);
    bulk_close(&c);
    pthread_join(s->thread, NULL);
    ok(s->got == 1, "and is heard");
    free(s);

    bulk_ticket_make(&stranger);
    tcp_pair(&a, &b);
    s = server(b, NULL, read_to_end);
    s->lookup = look_up;
    go(s);
    ok(!bulk_client(a, &stranger, LIMIT_MS, &err), "one that it does not know is refused");
    pthread_join(s->thread, NULL);
    free(s);
}

static void throughput(void)
{
    static char data[256 * 1024];
    struct bulk_ticket t;
    struct err err = { 0 };
    struct timespec t0, t1;
    uint64_t done = 0;
    const int chunks = 1024;
    int a, b;

    bulk_ticket_make(&t);
    tcp_pair(&a, &b);
    struct server *s = server(b, &t, ack_every_chunk);
    go(s);
    bulk_t *c = bulk_client(a, &t, LIMIT_MS, &err);
    clock_gettime(CLOCK_MONOTONIC, &t0);
    for (int i = 0; i < chunks; i++)
        if (bulk_write(c, data, sizeof data, LIMIT_MS, &err) < 0)
            break;
    bulk_finish(c, LIMIT_MS, &err);
    ok(bulk_read_all(c, &done, sizeof done, LIMIT_MS, &err) == 0 &&
       done == sizeof data * (uint64_t)chunks,
       "after its own end a peer still reads: 256 MiB acknowledged");
    clock_gettime(CLOCK_MONOTONIC, &t1);
    double secs = (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9;
    printf("# %.2f GB/s\n", (double)done / secs / 1e9);
    bulk_close(&c);
    pthread_join(s->thread, NULL);
    free(s);
}

int main(void)
{
    struct err err = { 0 };

    tickets_differ();
    refuses("another ticket", false, false);
    refuses("the token without the key", true, false);
    refuses("the key without the token", false, true);
    refuses_clear_text();
    a_silent_peer_is_given_up();
    bytes_arrive();
    a_cut_is_no_end();
    keys_are_looked_up();
    throughput();
    ok(bulk_dial("no address", 1, 10, &err) < 0 && err.code == EINVAL,
       "a dial to what is no address fails with EINVAL");
    ok(bulk_dial("127.0.0.1", 1, 1000, &err) < 0 && err.code == ECONNREFUSED,
       "and to where nobody listens with ECONNREFUSED");
    return done_testing();
}
