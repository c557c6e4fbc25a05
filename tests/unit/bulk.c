/* bulk.c (test) - the bulk channel: who gets in, what arrives, how it ends */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "bus/bulk.h"
#include "bus/record.h"
#include "clients/bulkcat/copy.h"
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

static void odd_sizes_arrive(void)
{
    static char data[1 << 20];
    struct bulk_ticket t;
    struct err err = { 0 };
    size_t at = 0, piece = 1;
    bool right = true;
    int a, b;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)(i * 2654435761u >> 11);
    bulk_ticket_make(&t);
    tcp_pair(&a, &b);
    record_key_lasts = 7; /* so the key changes all the time */
    struct server *s = server(b, &t, read_to_end);
    go(s);
    bulk_t *c = bulk_client(a, &t, LIMIT_MS, &err);
    while (at < sizeof data && right) {
        size_t n = sizeof data - at < piece ? sizeof data - at : piece;
        right = bulk_write(c, data + at, n, LIMIT_MS, &err) == 0;
        at += n;
        piece = piece * 3 % 40009;
    }
    bulk_close(&c);
    pthread_join(s->thread, NULL);
    record_key_lasts = 1u << 23;
    ok(right && s->last == 0 && s->got == sizeof data &&
           memcmp(s->data, data, sizeof data) == 0,
       "pieces of all sizes arrive, under keys that follow each other (%s)", s->err.text);
    free(s);
}

static void read_in_thirds(struct server *s)
{
    while (s->got < 40000) {
        s->last = bulk_read(s->b, s->data + s->got, 3000, LIMIT_MS, &s->err);
        if (s->last <= 0)
            return;
        s->got += (size_t)s->last;
    }
    s->last = bulk_read(s->b, s->data + s->got, 1, LIMIT_MS, &s->err);
}

static void small_reads_of_large_records(void)
{
    static char data[40000];
    struct bulk_ticket t;
    struct err err = { 0 };
    int a, b;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)(i * 40503u >> 7);
    bulk_ticket_make(&t);
    tcp_pair(&a, &b);
    struct server *s = server(b, &t, read_in_thirds);
    go(s);
    bulk_t *c = bulk_client(a, &t, LIMIT_MS, &err);
    bulk_write(c, data, sizeof data, LIMIT_MS, &err);
    bulk_close(&c);
    pthread_join(s->thread, NULL);
    ok(s->got == sizeof data && s->last == 0 && memcmp(s->data, data, sizeof data) == 0,
       "records larger than what is asked for are handed out in pieces");
    free(s);
}

/* ---- against OpenSSL's own records ---- */

static int find_psk(SSL *ssl, const unsigned char *id, size_t len, SSL_SESSION **session)
{
    static const unsigned char suite[] = { 0x13, 0x01 };
    const struct bulk_ticket *t = SSL_get_app_data(ssl);

    if (len != BULK_TOKEN || memcmp(id, t->token, len) != 0)
        return 0;
    *session = SSL_SESSION_new();
    return SSL_SESSION_set1_master_key(*session, t->key, BULK_KEY) &&
           SSL_SESSION_set_cipher(*session, SSL_CIPHER_find(ssl, suite)) &&
           SSL_SESSION_set_protocol_version(*session, TLS1_3_VERSION);
}

/* Reads to the end, then says it all back, under a new key half-way. */
static void *openssl_echo(void *arg)
{
    struct server *s = arg;
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    size_t n = 0, half;

    SSL_CTX_set_psk_find_session_callback(ctx, find_psk);
    SSL_CTX_set_num_tickets(ctx, 0);
    SSL *ssl = SSL_new(ctx);
    SSL_set_app_data(ssl, (void *)(uintptr_t)s->ticket);
    SSL_set_fd(ssl, s->fd);
    if (SSL_accept(ssl) == 1)
        while (SSL_read_ex(ssl, s->data + s->got, sizeof s->data - s->got, &n))
            s->got += n;
    s->last = SSL_get_shutdown(ssl) == SSL_RECEIVED_SHUTDOWN ? 0 : -1;
    half = s->got / 2;
    SSL_write_ex(ssl, s->data, half, &n);
    SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
    SSL_write_ex(ssl, s->data + half, s->got - half, &n);
    SSL_shutdown(ssl);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(s->fd);
    return NULL;
}

static void openssl_understands(void)
{
    static char data[300001], back[300001];
    struct bulk_ticket t;
    struct err err = { 0 };
    int a, b;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)(i * 2654435761u >> 9);
    bulk_ticket_make(&t);
    tcp_pair(&a, &b);
    record_key_lasts = 5;
    struct server *s = server(b, &t, NULL);
    if (pthread_create(&s->thread, NULL, openssl_echo, s) != 0)
        abort();
    bulk_t *c = bulk_client(a, &t, LIMIT_MS, &err);
    if (!ok(c != NULL, "OpenSSL's own server lets us in"))
        abort();
    bulk_write(c, data, sizeof data, LIMIT_MS, &err);
    bulk_finish(c, LIMIT_MS, &err);
    ok(bulk_read_all(c, back, sizeof back, LIMIT_MS, &err) == 0 &&
           memcmp(data, back, sizeof data) == 0,
       "reads our records, and we read its, across changes of keys (%s)", err.text);
    ok(bulk_read(c, back, 1, LIMIT_MS, &err) == 0, "we see its end");
    bulk_close(&c);
    pthread_join(s->thread, NULL);
    ok(s->last == 0, "and it saw ours");
    record_key_lasts = 1u << 23;
    free(s);
}

/* ---- records ---- */

static void records_are_proof(void)
{
    static const unsigned char secret[RECORD_SECRET] = "not very secret";
    unsigned char wire[100 + RECORD_EXTRA], out[100], text[100] = "text";
    struct record_key seal = { 0 }, open = { 0 };
    int type = 0;

    record_key_set(&seal, secret, true);
    record_key_set(&open, secret, false);
    size_t n = record_seal(&seal, RECORD_DATA, text, sizeof text, wire);
    ok(n == sizeof wire && record_length(wire) == n, "a record says its length");
    ok(record_open(&open, wire, n, out, &type) == sizeof text && type == RECORD_DATA &&
           memcmp(out, text, sizeof text) == 0, "and can be opened");
    ok(record_open(&open, wire, n, out, &type) == -1, "once");
    for (size_t at = 0; at < n; at += 40) {
        record_key_set(&open, secret, false);
        wire[at] ^= 1;
        ok(record_open(&open, wire, n, out, &type) == -1, "not with byte %zu changed", at);
        wire[at] ^= 1;
    }
    wire[3] = 0x7f;
    ok(record_length(wire) == 0, "a length that no record has is seen");
    record_key_free(&seal);
    record_key_free(&open);
}

/* Where there is no libipsec-mb, or no processor for it, OpenSSL is compared with itself. */
static void the_fast_way_is_the_same(void)
{
    static const unsigned char secret[RECORD_SECRET] = "not very secret";
    static unsigned char text[RECORD_MAX], out[RECORD_MAX], wire[2][RECORD_WIRE];
    const size_t size[] = { 0, 1, 15, 16, 17, 100, 4095, 16000, RECORD_MAX };
    struct record_key seal[2] = { { 0 } }, open[2] = { { 0 } };
    bool same = true, opened = true, proof = true;
    int type = 0;

    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (unsigned char)(i * 2654435761u >> 9);
    for (int fast = 0; fast < 2; fast++) {
        record_key_set(&seal[fast], secret, true);
        record_key_set(&open[fast], secret, false);
    }
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        size_t n[2];
        for (int fast = 0; fast < 2; fast++) {
            record_fast_from = fast ? 0 : UINT64_MAX;
            n[fast] = record_seal(&seal[fast], RECORD_DATA, text, size[i], wire[fast]);
        }
        same &= n[0] == n[1] && n[0] == size[i] + RECORD_EXTRA && memcmp(wire[0], wire[1], n[0]) == 0;
        for (int fast = 0; fast < 2; fast++) {
            record_fast_from = fast ? 0 : UINT64_MAX;
            opened &= record_open(&open[fast], wire[!fast], n[0], out, &type) == (int)size[i] &&
                      type == RECORD_DATA && memcmp(out, text, size[i]) == 0;
        }
    }
    for (size_t at = 0; at < 200 + RECORD_EXTRA; at++) {
        record_key_set(&seal[1], secret, true);
        record_key_set(&open[1], secret, false);
        record_seal(&seal[1], RECORD_DATA, text, 200, wire[1]);
        wire[1][at] ^= 0x10;
        proof &= record_open(&open[1], wire[1], 200 + RECORD_EXTRA, out, &type) == -1;
    }
    for (int fast = 0; fast < 2; fast++) {
        record_key_free(&seal[fast]);
        record_key_free(&open[fast]);
    }
    record_fast_from = 64;
    ok(same, "the fast way seals the same bytes as OpenSSL");
    ok(opened, "each opens the other's");
    ok(proof, "and one changed byte of a record is seen, wherever it is");
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

static void as_bulkcat(struct server *s)
{
    int out[2];

    if (pipe(out) < 0)
        abort();
    s->total = 1000;
    s->last = copy_stream(s->b, out[1], &s->total, &s->err);
    s->got = (size_t)read(out[0], s->data, sizeof s->data);
    close(out[0]);
    close(out[1]);
}

/* What is on its way when a stream is handed over counts against what may go
 * without an answer: unless the reader begins with one, both may wait for ever. */
static void a_reader_says_where_it_starts(void)
{
    struct bulk_ticket t;
    struct err err = { 0 };
    uint64_t said = 0;
    int a, b;

    bulk_ticket_make(&t);
    tcp_pair(&a, &b);
    struct server *s = server(b, &t, as_bulkcat);
    go(s);
    bulk_t *c = bulk_client(a, &t, LIMIT_MS, &err);
    ok(c && bulk_read_all(c, &said, sizeof said, LIMIT_MS, &err) == 0 && said == 1000,
       "a reader says at once from where it reads");
    ok(c && bulk_write(c, "the end", 7, LIMIT_MS, &err) == 0 &&
       bulk_finish(c, LIMIT_MS, &err) == 0 &&
       bulk_read_all(c, &said, sizeof said, LIMIT_MS, &err) == 0 && said == 1007,
       "and at the end how far it came");
    bulk_close(&c);
    pthread_join(s->thread, NULL);
    ok(s->last == COPY_EOF && s->got == 7 && memcmp(s->data, "the end", 7) == 0,
       "with all written");
    free(s);
}

/* A network of our own, whose default we may choose: the last that is tested. */
static bool own_network(void)
{
    struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
    int s = unshare(CLONE_NEWNET) < 0 ? -1 : socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool up = s >= 0 && ioctl(s, SIOCSIFFLAGS, &lo) == 0;

    if (s >= 0)
        close(s);
    return up;
}

static bool make_default(const char *how)
{
    int fd = open("/proc/sys/net/ipv4/tcp_congestion_control", O_WRONLY | O_CLOEXEC);
    bool made = fd >= 0 && write(fd, how, strlen(how)) == (ssize_t)strlen(how);

    if (fd >= 0)
        close(fd);
    return made;
}

static void sends_by(int fd, const char *want, const char *name)
{
    char how[16] = "";
    socklen_t n = sizeof how - 1;

    getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, how, &n);
    is(how, want, name);
}

static void sends(const char *how, const char *want)
{
    struct sockaddr_in at = { .sin_family = AF_INET };
    socklen_t len = sizeof at;
    char called[80];
    struct err err = { 0 };

    snprintf(called, sizeof called, "where %s is the default, who is called sends by %s", how, want);
    if (!make_default(how)) {
        skip(called, "this kernel has it not");
        return;
    }
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bulk_near(l);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(l, (struct sockaddr *)&at, sizeof at) < 0 || listen(l, 1) < 0 ||
        getsockname(l, (struct sockaddr *)&at, &len) < 0)
        abort();
    int a = bulk_dial("127.0.0.1", ntohs(at.sin_port), LIMIT_MS, &err);
    int b = accept4(l, NULL, NULL, SOCK_CLOEXEC);
    sends_by(b, want, called);
    sends_by(a, want, "and who calls");
    close(a);
    close(b);
    close(l);
}

/* Whoever comes, if he is let in, says "x". */
static struct server *met(int b, const struct bulk_ticket *t, bool looked_up)
{
    struct server *s = server(b, t, read_to_end);

    s->lookup = looked_up ? look_up : NULL;
    go(s);
    return s;
}

static void comes(const char *what, const struct bulk_ticket *c, const struct bulk_ticket *s,
                  bool looked_up, bool gets_in)
{
    struct err err = { 0 };
    int a, b;

    tcp_pair(&a, &b);
    struct server *at = met(b, s, looked_up);
    bulk_t *k = bulk_client(a, c, LIMIT_MS, &err);
    if (k)
        bulk_write(k, "x", 1, LIMIT_MS, &err);
    bulk_close(&k);
    pthread_join(at->thread, NULL);
    ok(gets_in ? at->got == 1 && at->last == 0 : at->got == 0 && at->err.code, "%s (%s)", what,
       at->err.text);
    free(at);
}

/* A server of many has no token of its own, and no key: nobody comes by these. */
static void no_token_is_none(void)
{
    static const char none[BULK_TOKEN];
    int a, b;

    tcp_pair(&a, &b);
    struct server *s = met(b, NULL, true);
    ok(send(a, none, sizeof none, MSG_NOSIGNAL) == sizeof none, "zeros in place of a token");
    pthread_join(s->thread, NULL);
    ok(s->err.code == EACCES, "let nobody in (%s)", s->err.text);
    close(a);
    free(s);
}

static void what_goes_by_is_plain(void)
{
    struct bulk_ticket t;
    char seen[256] = "";
    size_t got = 0;
    int a, b;

    bulk_ticket_make(&t);
    tcp_pair(&a, &b);
    bulk_t *c = bulk_client(a, &t, LIMIT_MS, NULL);
    bulk_write(c, "as it was", 9, LIMIT_MS, NULL);
    bulk_close(&c);
    for (ssize_t n; got < sizeof seen && (n = read(b, seen + got, sizeof seen - got)) > 0;)
        got += (size_t)n;
    close(b);
    ok(memmem(seen, got, t.token, BULK_TOKEN) == seen, "the token goes first");
    ok(memmem(seen, got, "as it was", 9) != NULL, "then what is written, as it is");
}

static void in_clear(void)
{
    struct bulk_ticket sealed, other, plain;

    bulk_ticket_make(&sealed);
    bulk_in_clear(true);
    bytes_arrive();
    a_cut_is_no_end();
    odd_sizes_arrive();
    small_reads_of_large_records();
    what_goes_by_is_plain();
    bulk_ticket_make(&known);
    bulk_ticket_make(&other);
    comes("in clear text: the token lets in", &known, &known, false, true);
    comes("another does not", &other, &known, false, false);
    comes("the token is looked up", &known, NULL, true, true);
    comes("one that is not known is refused", &other, NULL, true, false);
    no_token_is_none();
    plain = sealed;
    memset(plain.key, 0, sizeof plain.key);
    comes("who comes in clear text where a key is asked for is refused", &plain, &sealed, false, false);
    known = sealed;
    comes("also where it is looked up", &plain, NULL, true, false);
    comes("whose key it is gets in", &sealed, NULL, true, true);
    known = plain;
    comes("a key of zeros lets nobody in by TLS", &sealed, NULL, true, false);
    bulk_in_clear(false);
    bulk_ticket_make(&other);
    ok(memcmp(other.key, plain.key, BULK_KEY) != 0, "tickets have keys again when they are to");
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
    odd_sizes_arrive();
    small_reads_of_large_records();
    openssl_understands();
    record_fast_from = 2;
    openssl_understands();
    the_fast_way_is_the_same();
    records_are_proof();
    a_reader_says_where_it_starts();
    throughput();
    in_clear();
    ok(bulk_dial("no address", 1, 10, &err) < 0 && err.code == EINVAL,
       "a dial to what is no address fails with EINVAL");
    ok(bulk_dial("127.0.0.1", 1, 1000, &err) < 0 && err.code == ECONNREFUSED,
       "and to where nobody listens with ECONNREFUSED");
    if (own_network()) {
        sends("bbr", "cubic");
        sends("reno", "reno");
    } else {
        skip("near machines are sent to at once", "no network of our own to be had");
    }
    return done_testing();
}
