/* bulk.c - the bulk channel: TLS 1.3 with an external PSK over one TCP socket
 *
 * OpenSSL makes the handshake; below it sits a BIO of our own, so that no
 * signal is raised by a peer that has gone and descriptor flags stay as they
 * are. After it records are sealed and opened by record.c, without the copies
 * that OpenSSL's own layer makes; many leave and come in one system call.
 */
#include "bus/bulk.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bus/loop.h"
#include "bus/record.h"

#define OUT_ROOM (8 * RECORD_WIRE) /* whole records: a remainder costs a call */
#define IN_ROOM (16 * RECORD_WIRE)
#define SPARES 4

struct bulk {
    int fd;
    SSL *ssl; /* during the handshake */
    char token[BULK_TOKEN + 1];
    unsigned char key[BULK_KEY];
    bulk_lookup_fn *lookup; /* server of many tickets; NULL: the one above */
    void *lookup_arg;
    bool server, has_client_secret, has_server_secret;
    unsigned char client_secret[RECORD_SECRET], server_secret[RECORD_SECRET];
    struct record_key seal, open; /* after the handshake */
    bool bad;      /* cut or broken: no close_notify */
    struct err why;
    bool finished; /* close_notify sent */
    bool ended;    /* close_notify has come */
    size_t out_from, out_len;   /* bytes of out not sent yet */
    size_t in_from, in_len;     /* bytes of in not opened yet */
    size_t left_from, left_len; /* of a record that was larger than the room for it */
    /* From here on not zeroed. */
    unsigned char out[OUT_ROOM], in[IN_ROOM], left[RECORD_MAX];
};

static const unsigned char close_notify[] = { 1, 0 };
static const unsigned char key_update[] = { 24, 0, 0, 1, 0 }; /* asks for none of the peer's */

static int broken(bulk_t *b, int code, const char *what, struct err *err)
{
    b->bad = true;
    err_set(&b->why, code, "bulk channel: %s", what);
    return err_set(err, code, "bulk channel: %s", what);
}

/* ---- the BIO ---- */

static BIO_METHOD *method;
static SSL_CTX *client_ctx, *server_ctx;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* 1 all is out, 0 the socket is full, -1 broken. */
static int push(bulk_t *b)
{
    while (b->out_len) {
        ssize_t n = send(b->fd, b->out + b->out_from, b->out_len,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        b->out_from += (size_t)n;
        b->out_len -= (size_t)n;
    }
    b->out_from = 0;
    return 1;
}

static int bio_write(BIO *bio, const char *p, int len)
{
    bulk_t *b = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (b->out_from + b->out_len + (size_t)len > OUT_ROOM) {
        int rc = push(b);
        if (rc < 0)
            return -1;
        if (rc == 0) {
            BIO_set_retry_write(bio);
            return -1;
        }
    }
    if (len > OUT_ROOM)
        len = OUT_ROOM;
    memcpy(b->out + b->out_from + b->out_len, p, (size_t)len);
    b->out_len += (size_t)len;
    return len;
}

static int bio_read(BIO *bio, char *p, int len)
{
    bulk_t *b = BIO_get_data(bio);
    ssize_t n;

    BIO_clear_retry_flags(bio);
    do
        n = recv(b->fd, p, (size_t)len, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        BIO_set_retry_read(bio);
    if (n == 0)
        BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    return (int)n;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    bulk_t *b = BIO_get_data(bio);

    (void)num;
    (void)ptr;
    if (cmd == BIO_CTRL_EOF)
        return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    if (cmd != BIO_CTRL_FLUSH)
        return 0;
    BIO_clear_retry_flags(bio);
    int rc = push(b);
    if (rc == 0)
        BIO_set_retry_write(bio);
    return rc > 0 ? 1 : -1;
}

/* ---- keys ---- */

/* OpenSSL's words for a key log are how it tells secrets: LABEL RANDOM SECRET. */
static void on_secret(const SSL *ssl, const char *line)
{
    bulk_t *b = SSL_get_app_data(ssl);
    const char *hex = strrchr(line, ' ');
    bool client = strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) == 0;
    size_t n = 0;

    if (!hex || (!client && strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) != 0))
        return;
    bool whole = OPENSSL_hexstr2buf_ex(client ? b->client_secret : b->server_secret,
                                       RECORD_SECRET, &n, hex + 1, 0) && n == RECORD_SECRET;
    if (client)
        b->has_client_secret = whole;
    else
        b->has_server_secret = whole;
}

static void forget_secrets(bulk_t *b)
{
    explicit_bzero(b->client_secret, sizeof b->client_secret);
    explicit_bzero(b->server_secret, sizeof b->server_secret);
}

/* A key that everybody knows is none. */
static bool is_clear(const unsigned char *key)
{
    static const unsigned char none[BULK_KEY];

    return memcmp(key, none, BULK_KEY) == 0;
}

static SSL_SESSION *session_of(SSL *ssl, const unsigned char *key)
{
    static const unsigned char aes_128_gcm_sha256[] = { 0x13, 0x01 };
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, aes_128_gcm_sha256);
    SSL_SESSION *s = SSL_SESSION_new();

    if (s && cipher && SSL_SESSION_set1_master_key(s, key, BULK_KEY) &&
        SSL_SESSION_set_cipher(s, cipher) &&
        SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION))
        return s;
    SSL_SESSION_free(s);
    return NULL;
}

static int on_client_psk(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *len,
                         SSL_SESSION **session)
{
    bulk_t *b = SSL_get_app_data(ssl);

    (void)md; /* after a HelloRetryRequest: the only hash of our only suite */
    *session = session_of(ssl, b->key);
    *id = (const unsigned char *)b->token;
    *len = BULK_TOKEN;
    return *session != NULL;
}

static int on_server_psk(SSL *ssl, const unsigned char *id, size_t len, SSL_SESSION **session)
{
    bulk_t *b = SSL_get_app_data(ssl);
    char token[BULK_TOKEN + 1];

    /* No session and "fine": the handshake then fails, since we have no
     * certificate to go on with. */
    *session = NULL;
    if (len != BULK_TOKEN || memchr(id, 0, len))
        return 1;
    memcpy(token, id, BULK_TOKEN);
    token[BULK_TOKEN] = 0;
    if (!b->lookup) {
        if (strcmp(token, b->token) != 0)
            return 1;
        *session = session_of(ssl, b->key);
        return *session != NULL;
    }
    const unsigned char *key = b->lookup(b->lookup_arg, token);
    if (!key || is_clear(key))
        return 1;
    memcpy(b->token, token, sizeof token);
    *session = session_of(ssl, key);
    return *session != NULL;
}

static SSL_CTX *make_ctx(const SSL_METHOD *m)
{
    SSL_CTX *c = SSL_CTX_new(m);

    if (!c)
        return NULL;
    if (!SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) ||
        !SSL_CTX_set_ciphersuites(c, "TLS_AES_128_GCM_SHA256") ||
        !SSL_CTX_set_num_tickets(c, 0)) {
        SSL_CTX_free(c);
        return NULL;
    }
    SSL_CTX_set_options(c, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(c, 0); /* what follows the handshake is not OpenSSL's */
    SSL_CTX_set_keylog_callback(c, on_secret);
    return c;
}

static void init(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "bulk");
    if (!method)
        return;
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_ctrl(method, bio_ctrl);
    client_ctx = make_ctx(TLS_client_method());
    server_ctx = make_ctx(TLS_server_method());
    if (client_ctx)
        SSL_CTX_set_psk_use_session_callback(client_ctx, on_client_psk);
    if (server_ctx)
        SSL_CTX_set_psk_find_session_callback(server_ctx, on_server_psk);
}

static atomic_bool in_clear;

void bulk_in_clear(bool yes) { atomic_store(&in_clear, yes); }

void bulk_ticket_make(struct bulk_ticket *t)
{
    static const char hex[] = "0123456789abcdef";
    unsigned char r[BULK_TOKEN / 2 + BULK_KEY];

    if (getrandom(r, sizeof r, 0) != sizeof r)
        abort(); /* a kernel without random numbers: no key is better than a known one */
    for (int i = 0; i < BULK_TOKEN; i++)
        t->token[i] = hex[i & 1 ? r[i / 2] & 15 : r[i / 2] >> 4];
    t->token[BULK_TOKEN] = 0;
    memcpy(t->key, r + BULK_TOKEN / 2, BULK_KEY);
    if (atomic_load(&in_clear))
        memset(t->key, 0, BULK_KEY);
    explicit_bzero(r, sizeof r);
}

/* ---- waiting ---- */

static int wait_for(int fd, short events, int timeout_ms, struct err *err)
{
    struct pollfd p = { fd, events, 0 };
    int64_t end = now_ms() + timeout_ms;

    for (;;) {
        int left = timeout_ms < 0 ? -1 : (int)(end - now_ms());
        int rc = poll(&p, 1, timeout_ms >= 0 && left < 0 ? 0 : left);
        if (rc > 0)
            return 0;
        if (rc == 0)
            return err_set(err, ETIMEDOUT, "bulk channel: no answer for %d ms", timeout_ms);
        if (errno != EINTR)
            return err_set(err, errno, "bulk channel: %s", strerror(errno));
    }
}

/* After a step of the handshake that did not succeed: 0 waited, try again; -1
 * it is over; 1 the peer has ended in good order. */
static int again(bulk_t *b, int rc, int timeout_ms, struct err *err)
{
    int code = errno;
    unsigned long e;

    switch (SSL_get_error(b->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        /* The peer may be waiting for what we still hold back. */
        if (push(b) == 0)
            return wait_for(b->fd, POLLIN | POLLOUT, timeout_ms, err);
        return wait_for(b->fd, POLLIN, timeout_ms, err);
    case SSL_ERROR_WANT_WRITE:
        return wait_for(b->fd, POLLOUT, timeout_ms, err);
    case SSL_ERROR_ZERO_RETURN:
        return 1;
    case SSL_ERROR_SYSCALL:
        b->bad = true;
        if (!code)
            code = ECONNRESET;
        return err_set(err, code, "bulk channel: %s", strerror(code));
    default:
        b->bad = true;
        e = ERR_peek_error();
        if (ERR_GET_REASON(e) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
            return err_set(err, ECONNRESET, "bulk channel: cut");
        return err_set(err, EPROTO, "bulk channel: the two ends do not hold the same "
                       "ticket (%s)", e ? ERR_reason_error_string(e) : "refused");
    }
}

static int flush(bulk_t *b, int timeout_ms, struct err *err)
{
    for (;;) {
        int rc = push(b);
        if (rc > 0)
            return 0;
        if (rc < 0)
            return broken(b, errno, strerror(errno), err);
        if (wait_for(b->fd, POLLOUT, timeout_ms, err) < 0)
            return -1;
    }
}

/* ---- connecting ---- */

/* Once it is connected the kernel keeps the timers. What else an administrator has chosen
 * stays. */
void bulk_near(int fd)
{
    char how[16] = "";
    socklen_t n = sizeof how;

    if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, how, &n) == 0 && strncmp(how, "bbr", 3) == 0)
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
}

int bulk_dial_start(const char *addr, uint16_t port, struct err *err)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };

    if (inet_pton(AF_INET, addr, &to.sin_addr) != 1)
        return err_set(err, EINVAL, "%s: not an IPv4 address", addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set(err, errno, "socket: %s", strerror(errno));
    bulk_near(fd);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) {
        err_set(err, errno, "connect to %s:%u: %s", addr, port, strerror(errno));
        close(fd);
        return -1;
    }
    return fd;
}

int bulk_dial_wait(int fd, int timeout_ms, struct err *err)
{
    int code = 0;
    socklen_t len = sizeof code;

    if (wait_for(fd, POLLOUT, timeout_ms, err) < 0)
        return err_prefix(err, "connect");
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0)
        code = errno;
    if (code)
        return err_set(err, code, "connect: %s", strerror(code));
    return 0;
}

int bulk_dial(const char *addr, uint16_t port, int timeout_ms, struct err *err)
{
    int fd = bulk_dial_start(addr, port, err);

    if (fd >= 0 && bulk_dial_wait(fd, timeout_ms, err) < 0) {
        err_prefix(err, "%s:%u", addr, port);
        close(fd);
        return -1;
    }
    return fd;
}

/* Memory of those that are closed, for the next: of new memory each page is a fault. */
static bulk_t *spare[SPARES];
static unsigned spares;
static pthread_mutex_t spare_lock = PTHREAD_MUTEX_INITIALIZER;

static bulk_t *take_memory(void)
{
    bulk_t *b = NULL;

    pthread_mutex_lock(&spare_lock);
    if (spares)
        b = spare[--spares];
    pthread_mutex_unlock(&spare_lock);
    return b ? b : malloc(sizeof *b);
}

static void give_memory(bulk_t *b)
{
    pthread_mutex_lock(&spare_lock);
    if (spares < SPARES) {
        spare[spares++] = b;
        b = NULL;
    }
    pthread_mutex_unlock(&spare_lock);
    free(b);
}

static bulk_t *make(int fd, struct err *err)
{
    int on = 1;
    bulk_t *b = take_memory();

    if (!b) {
        close(fd);
        err_set(err, ENOMEM, "bulk channel: out of memory");
        return NULL;
    }
    memset(b, 0, offsetof(struct bulk, out)); /* the rest is large, and mostly not needed */
    b->fd = fd;
    /* The send buffer is left to the kernel, which sizes it better than a number
     * would. A socket that is not TCP has no delay to turn off. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return b;
}

static int add_ssl(bulk_t *b, struct err *err)
{
    pthread_once(&once, init);
    SSL_CTX *ctx = b->server ? server_ctx : client_ctx;
    BIO *bio = ctx ? BIO_new(method) : NULL;
    b->ssl = bio ? SSL_new(ctx) : NULL;
    if (!b->ssl) {
        BIO_free(bio);
        return broken(b, ENOMEM, "OpenSSL could not be set up", err);
    }
    BIO_set_data(bio, b);
    BIO_set_init(bio, 1);
    SSL_set_bio(b->ssl, bio, bio);
    SSL_set_app_data(b->ssl, b);
    if (b->server)
        SSL_set_accept_state(b->ssl);
    else
        SSL_set_connect_state(b->ssl);
    return 0;
}

/* The handshake is done, and sent: from here on records are ours. */
static int take_over(bulk_t *b, struct err *err)
{
    const unsigned char *mine = b->server ? b->server_secret : b->client_secret;
    const unsigned char *peers = b->server ? b->client_secret : b->server_secret;

    if (!b->has_client_secret || !b->has_server_secret ||
        record_key_set(&b->seal, mine, true) < 0 || record_key_set(&b->open, peers, false) < 0)
        return broken(b, ENOMEM, "OpenSSL could not be set up", err);
    forget_secrets(b);
    SSL_free(b->ssl);
    b->ssl = NULL;
    return 0;
}

static int handshake(bulk_t *b, int timeout_ms, struct err *err)
{
    int64_t end = now_ms() + timeout_ms;

    if (add_ssl(b, err) < 0)
        return -1;
    for (;;) {
        int left = timeout_ms < 0 ? -1 : (int)(end - now_ms());
        ERR_clear_error();
        errno = 0;
        int rc = SSL_do_handshake(b->ssl);
        if (rc == 1)
            break;
        rc = again(b, rc, timeout_ms >= 0 && left < 0 ? 0 : left, err);
        if (rc == 0)
            continue;
        return rc == 1 ? err_set(err, ECONNRESET, "bulk channel: closed") : -1;
    }
    /* Resumed means: by our key. Anything else proves nothing about the peer. */
    if (!SSL_session_reused(b->ssl))
        return broken(b, EACCES, "the peer does not hold the key", err);
    return flush(b, timeout_ms, err) < 0 ? -1 : take_over(b, err);
}

/* ---- clear text: the token, then records that are not sealed ---- */

static int say_token(bulk_t *b, int timeout_ms, struct err *err)
{
    memcpy(b->out, b->token, BULK_TOKEN);
    b->out_len = BULK_TOKEN;
    return flush(b, timeout_ms, err);
}

static int hear_token(bulk_t *b, int timeout_ms, struct err *err)
{
    int64_t end = now_ms() + timeout_ms;
    char token[BULK_TOKEN + 1] = "";

    for (size_t got = 0; got < BULK_TOKEN;) {
        ssize_t n = recv(b->fd, token + got, BULK_TOKEN - got, MSG_DONTWAIT);
        if (n == 0)
            return broken(b, ECONNRESET, "closed", err);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return broken(b, errno, strerror(errno), err);
        int left = timeout_ms < 0 ? -1 : (int)(end - now_ms());
        if (n < 0 && wait_for(b->fd, POLLIN, timeout_ms >= 0 && left < 0 ? 0 : left, err) < 0)
            return -1;
        got += n > 0 ? (size_t)n : 0;
    }
    const unsigned char *key = strlen(token) != BULK_TOKEN          ? NULL
                               : b->lookup                          ? b->lookup(b->lookup_arg, token)
                               : strcmp(token, b->token) == 0       ? b->key
                                                                    : NULL;
    if (!key || !is_clear(key))
        return broken(b, EACCES, "the peer does not hold the ticket", err);
    memcpy(b->token, token, sizeof token);
    return 0;
}

/* Of a server of many tickets: TLS begins with a byte that no token has. */
static int speaks_tls(bulk_t *b, int timeout_ms, struct err *err)
{
    unsigned char first;

    if (wait_for(b->fd, POLLIN, timeout_ms, err) < 0)
        return -1;
    ssize_t n = recv(b->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n <= 0)
        return broken(b, n < 0 ? errno : ECONNRESET, n < 0 ? strerror(errno) : "closed", err);
    return first == RECORD_HANDSHAKE;
}

static int begin(bulk_t *b, int timeout_ms, struct err *err)
{
    int tls = b->lookup ? speaks_tls(b, timeout_ms, err) : !is_clear(b->key);

    if (tls)
        return tls < 0 ? -1 : handshake(b, timeout_ms, err);
    if ((b->server ? hear_token(b, timeout_ms, err) : say_token(b, timeout_ms, err)) < 0)
        return -1;
    record_key_clear(&b->seal);
    record_key_clear(&b->open);
    return 0;
}

static bulk_t *start(int fd, bool server, const struct bulk_ticket *t, bulk_lookup_fn *lookup,
                     void *arg, int timeout_ms, struct err *err)
{
    bulk_t *b = make(fd, err);

    if (!b)
        return NULL;
    if (t) {
        memcpy(b->token, t->token, BULK_TOKEN);
        memcpy(b->key, t->key, BULK_KEY);
    }
    b->lookup = lookup;
    b->lookup_arg = arg;
    b->server = server;
    if (begin(b, timeout_ms, err) < 0)
        bulk_close(&b);
    return b;
}

bulk_t *bulk_client(int fd, const struct bulk_ticket *t, int timeout_ms, struct err *err)
{
    return start(fd, false, t, NULL, NULL, timeout_ms, err);
}

bulk_t *bulk_server(int fd, const struct bulk_ticket *t, int timeout_ms, struct err *err)
{
    return start(fd, true, t, NULL, NULL, timeout_ms, err);
}

bulk_t *bulk_server_lookup(int fd, bulk_lookup_fn *lookup, void *arg, int timeout_ms,
                           struct err *err)
{
    return start(fd, true, NULL, lookup, arg, timeout_ms, err);
}

void bulk_close(bulk_t **bp)
{
    bulk_t *b = *bp;
    int code = errno;

    if (!b)
        return;
    if (record_key_ready(&b->seal) && !b->bad)
        bulk_finish(b, 1000, NULL);
    SSL_free(b->ssl);
    ERR_clear_error();
    record_key_free(&b->seal);
    record_key_free(&b->open);
    close(b->fd);
    explicit_bzero(b->key, sizeof b->key);
    forget_secrets(b);
    give_memory(b);
    *bp = NULL;
    errno = code;
}

/* ---- bytes ---- */

/* One record into what is to leave; makes room first. */
static int put_sealed(bulk_t *b, int type, const void *p, size_t n, int timeout_ms,
                      struct err *err)
{
    if (b->out_from + b->out_len + n + RECORD_EXTRA > OUT_ROOM &&
        flush(b, timeout_ms, err) < 0)
        return -1;
    size_t len = record_seal(&b->seal, type, p, n, b->out + b->out_from + b->out_len);
    if (len == 0)
        return broken(b, EIO, "bytes cannot be sealed", err);
    b->out_len += len;
    return 0;
}

static int put_record(bulk_t *b, int type, const void *p, size_t n, int timeout_ms,
                      struct err *err)
{
    if (b->seal.seq >= record_key_lasts) {
        if (put_sealed(b, RECORD_HANDSHAKE, key_update, sizeof key_update, timeout_ms, err) < 0)
            return -1;
        if (record_key_next(&b->seal) < 0)
            return broken(b, EIO, "no next key", err);
    }
    return put_sealed(b, type, p, n, timeout_ms, err);
}

int bulk_write(bulk_t *b, const void *p, size_t len, int timeout_ms, struct err *err)
{
    if (b->bad)
        return err_set(err, ECONNRESET, "bulk channel: broken");
    if (b->finished)
        return err_set(err, EPIPE, "bulk channel: written to after its end");
    for (size_t done = 0; done < len;) {
        size_t n = len - done < RECORD_MAX ? len - done : RECORD_MAX;
        if (put_record(b, RECORD_DATA, (const char *)p + done, n, timeout_ms, err) < 0)
            return -1;
        done += n;
    }
    return flush(b, timeout_ms, err);
}

int bulk_finish(bulk_t *b, int timeout_ms, struct err *err)
{
    if (b->bad)
        return err_set(err, ECONNRESET, "bulk channel: broken");
    if (!b->finished && put_record(b, RECORD_ALERT, close_notify, sizeof close_notify,
                                   timeout_ms, err) < 0)
        return -1;
    b->finished = true;
    return flush(b, timeout_ms, err);
}

/* The whole record that has come next, if one has: its length. 0: not yet. */
static ssize_t next_record(bulk_t *b)
{
    if (b->in_len < RECORD_HEADER)
        return 0;
    size_t len = record_length(b->in + b->in_from);
    if (len == 0)
        return broken(b, EPROTO, "what comes is no record", NULL);
    return len <= b->in_len ? (ssize_t)len : 0;
}

/* What is neither data nor the end. */
static int take_other(bulk_t *b, int type, const unsigned char *p, size_t n)
{
    if (type == RECORD_ALERT && n == sizeof close_notify && p[1] == close_notify[1]) {
        b->ended = true;
        return 0;
    }
    if (type == RECORD_ALERT)
        return broken(b, ECONNRESET, "the peer has given up", NULL);
    if (type == RECORD_HANDSHAKE && n == sizeof key_update && memcmp(p, key_update, n) == 0)
        return record_key_next(&b->open) == 0 ? 0 : broken(b, EIO, "no next key", NULL);
    return broken(b, EPROTO, "a record of a kind that nobody sends", NULL);
}

/* Open the record of len bytes that came next, into p if that has room for it:
 * how much of p is used now. */
static ssize_t take_record(bulk_t *b, size_t len, unsigned char *p, size_t room)
{
    bool fits = len - RECORD_EXTRA <= room;
    unsigned char *to = fits ? p : b->left;
    int type, n = record_open(&b->open, b->in + b->in_from, len, to, &type);

    if (n < 0)
        return broken(b, EPROTO, "what comes is not what was sent", NULL);
    b->in_from += len;
    b->in_len -= len;
    if (type != RECORD_DATA)
        return take_other(b, type, to, (size_t)n);
    if (fits)
        return n;
    b->left_from = 0;
    b->left_len = (size_t)n;
    return 0;
}

static size_t take_left(bulk_t *b, unsigned char *p, size_t room)
{
    size_t n = b->left_len < room ? b->left_len : room;

    memcpy(p, b->left + b->left_from, n);
    b->left_from += n;
    b->left_len -= n;
    return n;
}

/* From the socket: 1 something, 0 nothing now, -1 over. */
static int take_bytes(bulk_t *b)
{
    ssize_t n;

    if (b->in_from) /* what is left is less than a record */
        memmove(b->in, b->in + b->in_from, b->in_len);
    b->in_from = 0;
    do
        n = recv(b->fd, b->in + b->in_len, IN_ROOM - b->in_len, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n < 0)
        return broken(b, errno, strerror(errno), NULL);
    if (n == 0)
        return broken(b, ECONNRESET, "cut", NULL);
    b->in_len += (size_t)n;
    return 1;
}

/* A step of bulk_read: *got may grow. 1 go on, 0 nothing more now, -1 broken. */
static int read_step(bulk_t *b, unsigned char *p, size_t len, size_t *got)
{
    if (b->left_len) {
        *got += take_left(b, p + *got, len - *got);
        return 1;
    }
    ssize_t n = next_record(b);
    if (n < 0)
        return -1;
    if (n == 0)
        return take_bytes(b);
    n = take_record(b, (size_t)n, p + *got, len - *got);
    if (n < 0)
        return -1;
    *got += (size_t)n;
    return 1;
}

ssize_t bulk_read(bulk_t *b, void *p, size_t len, int timeout_ms, struct err *err)
{
    size_t got = 0;

    /* Gather all that has come, wait for the first byte only. What goes wrong
     * after some bytes is said by the next call. */
    while (got < len) {
        if (b->bad)
            return got ? (ssize_t)got : err_set(err, b->why.code, "%s", b->why.text);
        if (b->ended && !b->left_len)
            break;
        int rc = read_step(b, p, len, &got);
        if (rc)
            continue;
        if (got)
            break;
        if (wait_for(b->fd, POLLIN, timeout_ms, err) < 0)
            return -1;
    }
    return (ssize_t)got;
}

int bulk_read_all(bulk_t *b, void *p, size_t len, int timeout_ms, struct err *err)
{
    size_t got = 0;

    while (got < len) {
        ssize_t n = bulk_read(b, (char *)p + got, len - got, timeout_ms, err);
        if (n < 0)
            return -1;
        if (n == 0)
            return err_set(err, ECONNRESET, "bulk channel: ended after %zu bytes of %zu",
                           got, len);
        got += (size_t)n;
    }
    return 0;
}

int bulk_readable(bulk_t *b, int timeout_ms)
{
    if (b->left_len || b->ended || b->bad || next_record(b) != 0)
        return 1;
    return wait_for(b->fd, POLLIN, timeout_ms, NULL) == 0;
}

int bulk_fd(const bulk_t *b) { return b->fd; }
const char *bulk_token(const bulk_t *b) { return b->token; }
