/* bulk.c - the bulk channel: TLS 1.3 with an external PSK over one TCP socket
 *
 * OpenSSL does records and keys; below it sits a BIO of our own, so that no
 * signal is raised by a peer that has gone, descriptor flags stay as they are,
 * and several 16 KiB records leave in one system call.
 */
#include "bus/bulk.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bus/loop.h"

#define RECORD 16384
/* As many whole records as 256 KiB need, going out and coming in: sizes that
 * do not fit cost a second system call for a remainder each time. */
#define WIRE_RECORD (RECORD + 5 + 1 + 16) /* header, type, tag */
#define OUT_ROOM (8 * WIRE_RECORD)
#define READ_AHEAD (16 * WIRE_RECORD + 3) /* OpenSSL aligns what follows a header */

struct bulk {
    int fd;
    SSL *ssl;
    char token[BULK_TOKEN + 1];
    unsigned char key[BULK_KEY];
    bulk_lookup_fn *lookup; /* server of many tickets; NULL: the one above */
    void *lookup_arg;
    bool bad;      /* cut or broken: no close_notify */
    bool finished; /* close_notify sent */
    size_t out_from, out_len; /* bytes of out not sent yet */
    unsigned char out[OUT_ROOM];
};

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
    if (!key)
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
    SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(c, 1);
    SSL_CTX_set_default_read_buffer_len(c, READ_AHEAD);
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

/* After a call of OpenSSL that did not succeed: 0 waited, try again; -1 it is
 * over; 1 the peer has ended in good order. */
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
        if (!SSL_is_init_finished(b->ssl))
            return err_set(err, EPROTO, "bulk channel: the two ends do not hold the same "
                           "ticket (%s)", e ? ERR_reason_error_string(e) : "refused");
        return err_set(err, EPROTO, "bulk channel: %s",
                       e ? ERR_reason_error_string(e) : "broken");
    }
}

static int flush(bulk_t *b, int timeout_ms, struct err *err)
{
    for (;;) {
        int rc = push(b);
        if (rc > 0)
            return 0;
        if (rc < 0) {
            b->bad = true;
            return err_set(err, errno, "bulk channel: %s", strerror(errno));
        }
        if (wait_for(b->fd, POLLOUT, timeout_ms, err) < 0)
            return -1;
    }
}

/* ---- connecting ---- */

int bulk_dial_start(const char *addr, uint16_t port, struct err *err)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };

    if (inet_pton(AF_INET, addr, &to.sin_addr) != 1)
        return err_set(err, EINVAL, "%s: not an IPv4 address", addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set(err, errno, "socket: %s", strerror(errno));
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

static bulk_t *make(int fd, SSL_CTX *ctx, struct err *err)
{
    int on = 1;
    bulk_t *b = calloc(1, sizeof *b);

    if (!b) {
        close(fd);
        err_set(err, ENOMEM, "bulk channel: out of memory");
        return NULL;
    }
    b->fd = fd;
    BIO *bio = ctx ? BIO_new(method) : NULL;
    b->ssl = bio ? SSL_new(ctx) : NULL;
    if (!b->ssl) {
        BIO_free(bio);
        bulk_close(&b);
        err_set(err, ENOMEM, "bulk channel: OpenSSL could not be set up");
        return NULL;
    }
    BIO_set_data(bio, b);
    BIO_set_init(bio, 1);
    SSL_set_bio(b->ssl, bio, bio);
    SSL_set_app_data(b->ssl, b);
    /* The send buffer is left to the kernel, which sizes it better than a number
     * would. A socket that is not TCP has no delay to turn off. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return b;
}

static bulk_t *handshake(bulk_t *b, int timeout_ms, struct err *err)
{
    int64_t end = now_ms() + timeout_ms;

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
        if (rc == 1)
            err_set(err, ECONNRESET, "bulk channel: closed");
        bulk_close(&b);
        return NULL;
    }
    /* Resumed means: by our key. Anything else proves nothing about the peer. */
    if (!SSL_session_reused(b->ssl)) {
        err_set(err, EACCES, "bulk channel: the peer does not hold the key");
        b->bad = true;
        bulk_close(&b);
        return NULL;
    }
    if (flush(b, timeout_ms, err) < 0)
        bulk_close(&b);
    return b;
}

static bulk_t *start(int fd, bool server, const struct bulk_ticket *t, bulk_lookup_fn *lookup,
                     void *arg, int timeout_ms, struct err *err)
{
    pthread_once(&once, init);
    bulk_t *b = make(fd, server ? server_ctx : client_ctx, err);

    if (!b)
        return NULL;
    if (t) {
        memcpy(b->token, t->token, BULK_TOKEN);
        memcpy(b->key, t->key, BULK_KEY);
    }
    b->lookup = lookup;
    b->lookup_arg = arg;
    if (server)
        SSL_set_accept_state(b->ssl);
    else
        SSL_set_connect_state(b->ssl);
    return handshake(b, timeout_ms, err);
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

int bulk_finish(bulk_t *b, int timeout_ms, struct err *err)
{
    if (b->bad)
        return err_set(err, ECONNRESET, "bulk channel: broken");
    while (!b->finished) {
        ERR_clear_error();
        errno = 0;
        int rc = SSL_shutdown(b->ssl); /* 0: sent, the peer's is still to come */
        if (rc >= 0)
            b->finished = true;
        else if (again(b, rc, timeout_ms, err) < 0)
            return -1;
    }
    return flush(b, timeout_ms, err);
}

void bulk_close(bulk_t **bp)
{
    bulk_t *b = *bp;
    int code = errno;

    if (!b)
        return;
    if (b->ssl && !b->bad && SSL_is_init_finished(b->ssl))
        bulk_finish(b, 1000, NULL);
    SSL_free(b->ssl);
    ERR_clear_error();
    close(b->fd);
    explicit_bzero(b->key, sizeof b->key);
    free(b);
    *bp = NULL;
    errno = code;
}

/* ---- bytes ---- */

ssize_t bulk_read(bulk_t *b, void *p, size_t len, int timeout_ms, struct err *err)
{
    size_t got = 0;

    /* A record is at most 16 KiB: gather all that has come, wait for none. */
    while (got < len) {
        size_t n = 0;
        ERR_clear_error();
        errno = 0;
        int rc = SSL_read_ex(b->ssl, (char *)p + got, len - got, &n);
        got += n;
        if (rc == 1)
            continue;
        if (got)
            break; /* whatever it is comes again on the next call */
        rc = again(b, rc, timeout_ms, err);
        if (rc)
            return rc < 0 ? -1 : 0;
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

int bulk_write(bulk_t *b, const void *p, size_t len, int timeout_ms, struct err *err)
{
    size_t sent = 0;

    if (b->bad)
        return err_set(err, ECONNRESET, "bulk channel: broken");
    while (sent < len) {
        size_t n = 0, want = len - sent < RECORD ? len - sent : RECORD;
        ERR_clear_error();
        errno = 0;
        int rc = SSL_write_ex(b->ssl, (const char *)p + sent, want, &n);
        if (rc == 1) {
            sent += n;
            continue;
        }
        rc = again(b, rc, timeout_ms, err);
        if (rc == 1)
            return err_set(err, EPIPE, "bulk channel: the peer has ended");
        if (rc < 0)
            return -1;
    }
    return flush(b, timeout_ms, err);
}

int bulk_readable(bulk_t *b, int timeout_ms)
{
    if (SSL_pending(b->ssl) > 0 || SSL_has_pending(b->ssl))
        return 1;
    return wait_for(b->fd, POLLIN, timeout_ms, NULL) == 0;
}

int bulk_fd(const bulk_t *b) { return b->fd; }
const char *bulk_token(const bulk_t *b) { return b->token; }
