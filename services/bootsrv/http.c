/* http.c - requests by HTTP, from the loop: libmicrohttpd underneath */
#include "services/bootsrv/http.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bus/svc.h"
#include "services/bootsrv/send.h"

#define CONNECTIONS 8192
#define HEADER_MAX (16 * 1024)
#define AGAIN_MS 1000
#define ROUNDS 4 /* of 128 KiB for each that can take them */

struct listener {
    http_t *h;
    struct MHD_Daemon *d;
    int fd;          /* its epoll descriptor */
    bool more;       /* it wants to be run again without anything happening */
    bool closing;    /* listens no more: gone when its last connection is */
    char addr[16];
    uint16_t port;
    struct listener *next;
};

struct exchange { /* one request, from its first line to the end of the answer */
    http_t *h;
    struct listener *l;
    send_one_t *sending; /* a file; meanwhile libmicrohttpd leaves the connection alone */
    int file;            /* that file; -1 none */
    bool over;           /* it is sent: the connection ends */
    struct MHD_Connection *conn;
    char body[HTTP_BODY + 1];
    size_t len;
    bool too_long, held, answered;
    int64_t begun, until;
    struct exchange *next, **link; /* of those that are held */
};

struct http {
    loop_t *loop;
    http_fn *fn;
    http_sent_fn *sent;
    void *arg;
    struct listener *first;
    struct exchange *held;
    send_all_t *files;
    int timer;
    struct { /* what was asked for by http_listen() */
        char addr[16][16];
        size_t n;
        uint16_t port;
        int idle_ms;
    } want;
    int again; /* timer */
};

/* ---- running: as long as something is ready ---- */

static bool ready(void *arg)
{
    const struct listener *l = arg;

    return l->more;
}

static void hold_again(http_t *h);

static void run(void *arg)
{
    struct listener *l = arg;
    MHD_UNSIGNED_LONG_LONG t;

    l->more = true;
    for (int i = 0; l->more && i < ROUNDS; i++) { /* a look at the bus costs as much as a round */
        MHD_run(l->d);
        l->more = MHD_get_timeout(l->d, &t) == MHD_YES && t == 0;
    }
}

static void on_tick(void *arg)
{
    http_t *h = arg;
    int64_t now = now_ms();

    h->timer = 0;
    for (struct exchange *x = h->held, *next; x; x = next) {
        next = x->next;
        if (x->until > now)
            continue;
        *x->link = x->next;
        if (x->next)
            x->next->link = x->link;
        x->held = false;
        MHD_resume_connection(x->conn);
    }
    for (struct listener *l = h->first; l; l = l->next)
        run(l); /* resumed ones, and connections that were idle too long */
    send_idle(h->files);
    hold_again(h);
}

/* A tick a second while anybody is connected; sooner if somebody's patience ends. */
static void hold_again(http_t *h)
{
    int64_t now = now_ms(), at = now + 1000;

    for (const struct exchange *x = h->held; x; x = x->next)
        at = x->until < at ? x->until : at;
    loop_timer_del(h->loop, h->timer);
    h->timer = loop_timer(h->loop, at > now ? at - now : 0, false, on_tick, h);
}

void http_news(http_t *h)
{
    while (h->held) {
        struct exchange *x = h->held;
        h->held = x->next;
        if (x->next)
            x->next->link = &h->held;
        x->held = false;
        MHD_resume_connection(x->conn);
    }
    for (struct listener *l = h->first; l; l = l->next)
        l->more = true;
}

/* ---- a request ---- */

struct nth {
    const char *name, *found;
    int left;
};

static enum MHD_Result find_nth(void *arg, enum MHD_ValueKind kind, const char *key,
                                const char *value)
{
    struct nth *n = arg;

    (void)kind;
    if (strcmp(key, n->name) != 0 || n->left-- > 0)
        return MHD_YES;
    n->found = value ? value : "";
    return MHD_NO;
}

const char *ask_query_nth(const struct ask *a, const char *name, int i)
{
    struct nth n = { name, NULL, i };

    MHD_get_connection_values(a->conn, MHD_GET_ARGUMENT_KIND, find_nth, &n);
    return n.found;
}

const char *ask_query(const struct ask *a, const char *name)
{
    return ask_query_nth(a, name, 0);
}

static void ends_of(struct MHD_Connection *conn, struct ask *a)
{
    const union MHD_ConnectionInfo *i = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct sockaddr_in me, peer;
    socklen_t n = sizeof me, k = sizeof peer;

    if (!i || getsockname(i->connect_fd, (struct sockaddr *)&me, &n) < 0 ||
        getpeername(i->connect_fd, (struct sockaddr *)&peer, &k) < 0 || me.sin_family != AF_INET)
        return;
    inet_ntop(AF_INET, &peer.sin_addr, a->peer, sizeof a->peer);
    inet_ntop(AF_INET, &me.sin_addr, a->here, sizeof a->here);
    snprintf(a->here + strlen(a->here), 8, ":%u", ntohs(me.sin_port));
}

static enum MHD_Result send_text(struct MHD_Connection *conn, int code, const char *type,
                                 char *text)
{
    struct MHD_Response *r =
        MHD_create_response_from_buffer(text ? strlen(text) : 0, text, MHD_RESPMEM_MUST_FREE);

    if (!r) {
        free(text);
        return MHD_NO;
    }
    MHD_add_response_header(r, "Content-Type", type ? type : "text/plain");
    enum MHD_Result rc = MHD_queue_response(conn, (unsigned)code, r);
    MHD_destroy_response(r);
    return rc;
}

/* "bytes=A-", "bytes=A-B", "bytes=-N" of size; false: to be answered whole.
 * -1 in *first: it cannot be satisfied. */
static bool range_of(const char *text, uint64_t size, int64_t *first, int64_t *last)
{
    unsigned long long a = 0, b = 0;
    int n = 0;

    if (!text || strncmp(text, "bytes=", 6) != 0 || strchr(text, ',') || size == 0)
        return false;
    text += 6;
    if (sscanf(text, "%19llu-%19llu%n", &a, &b, &n) == 2 && text[n] == '\0') {
        if (b < a)
            return false;
    } else if (n = 0, sscanf(text, "%19llu-%n", &a, &n) == 1 && n > 0 && text[n] == '\0') {
        b = size - 1;
    } else if (n = 0, text[0] == '-' && sscanf(text + 1, "%19llu%n", &b, &n) == 1 &&
               text[n + 1] == '\0') {
        a = b < size ? size - b : 0;
        b = size - 1;
    } else {
        return false;
    }
    *first = a < size ? (int64_t)a : -1;
    *last = (int64_t)(b < size ? b : size - 1);
    return true;
}

static void on_sent(void *arg)
{
    struct exchange *x = arg;

    x->sending = NULL;
    cleanup_close(&x->file);
    x->over = true;
    x->l->more = true;
    MHD_resume_connection(x->conn);
}

/* n bytes from offset on, and the end of the connection. False: not so. */
static bool send_past(struct exchange *x, const struct answer *out, uint64_t first, uint64_t n,
                      const char *range)
{
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(x->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct err err = { 0 };
    char head[400];

    x->file = fcntl(out->fd, F_DUPFD_CLOEXEC, 3);
    if (!i || x->file < 0)
        return false;
    snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Type: application/octet-stream\r\n"
             "Accept-Ranges: bytes\r\n%s%s%sContent-Length: %llu\r\nConnection: close\r\n\r\n",
             *range ? "206 Partial Content" : "200 OK", *range ? "Content-Range: " : "", range,
             *range ? "\r\n" : "", (unsigned long long)n);
    x->sending = send_start(x->h->files, i->connect_fd, head, x->file, out->offset + first, n,
                            x->h->want.idle_ms, on_sent, x, &err);
    if (!x->sending) {
        cleanup_close(&x->file);
        return false;
    }
    MHD_suspend_connection(x->conn);
    return true;
}

static enum MHD_Result send_file(struct exchange *x, const struct ask *a, const struct answer *out)
{
    const char *want = MHD_lookup_connection_value(x->conn, MHD_HEADER_KIND, "Range");
    int64_t first = 0, last = (int64_t)out->size - 1;
    bool part = range_of(want, out->size, &first, &last);
    char text[100] = "";

    if (part && first < 0) {
        struct MHD_Response *none = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
        snprintf(text, sizeof text, "bytes */%llu", (unsigned long long)out->size);
        MHD_add_response_header(none, "Content-Range", text);
        enum MHD_Result rc = MHD_queue_response(x->conn, MHD_HTTP_RANGE_NOT_SATISFIABLE, none);
        MHD_destroy_response(none);
        return rc;
    }
    uint64_t n = out->size ? (uint64_t)(last - first + 1) : 0;
    if (part)
        snprintf(text, sizeof text, "bytes %lld-%lld/%llu", (long long)first, (long long)last,
                 (unsigned long long)out->size);
    if (strcmp(a->method, "GET") == 0 && send_past(x, out, (uint64_t)first, n, text)) {
        x->h->sent(x->h->arg, a, n);
        return MHD_YES;
    }
    int fd = dup(out->fd);
    struct MHD_Response *r =
        fd < 0 ? NULL : MHD_create_response_from_fd_at_offset64(n, fd, out->offset + (uint64_t)first);
    if (!r) {
        if (fd >= 0)
            close(fd);
        return MHD_NO;
    }
    MHD_add_response_header(r, "Content-Type", "application/octet-stream");
    MHD_add_response_header(r, "Accept-Ranges", "bytes");
    if (part)
        MHD_add_response_header(r, "Content-Range", text);
    enum MHD_Result rc =
        MHD_queue_response(x->conn, part ? MHD_HTTP_PARTIAL_CONTENT : MHD_HTTP_OK, r);
    MHD_destroy_response(r);
    if (strcmp(a->method, "GET") == 0)
        x->h->sent(x->h->arg, a, n);
    return rc;
}

static void hold(struct exchange *x, int64_t until)
{
    x->until = until;
    x->held = true;
    x->next = x->h->held;
    x->link = &x->h->held;
    if (x->next)
        x->next->link = &x->next;
    x->h->held = x;
    MHD_suspend_connection(x->conn);
    hold_again(x->h);
}

static enum MHD_Result reply(struct exchange *x, const char *method, const char *url)
{
    struct ask a = { .method = method, .path = url, .body = x->body, .conn = x->conn };
    struct answer out = { .fd = -1 };

    x->body[x->len] = '\0';
    ends_of(x->conn, &a);
    if (x->too_long) {
        out.code = 413;
        out.text = strdup("that is too long\n");
    } else {
        a.waited_ms = now_ms() - x->begun;
        x->h->fn(x->h->arg, &a, &out);
    }
    if (out.code == 0) {
        hold(x, x->begun + out.hold_ms > now_ms() ? x->begun + out.hold_ms : now_ms() + 1);
        return MHD_YES;
    }
    x->answered = true;
    return out.fd >= 0 ? send_file(x, &a, &out) : send_text(x->conn, out.code, out.type, out.text);
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *conn, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **ptr)
{
    struct listener *l = arg;
    struct exchange *x = *ptr;

    (void)version;
    if (!x) {
        x = calloc(1, sizeof *x);
        if (!x)
            return MHD_NO;
        x->h = l->h;
        x->l = l;
        x->file = -1;
        x->conn = conn;
        x->begun = now_ms();
        *ptr = x;
        return MHD_YES;
    }
    if (*size) {
        size_t n = *size < HTTP_BODY - x->len ? *size : HTTP_BODY - x->len;
        memcpy(x->body + x->len, data, n);
        x->len += n;
        x->too_long |= n < *size;
        *size = 0;
        return MHD_YES;
    }
    return x->over ? MHD_NO : x->answered ? MHD_YES : reply(x, method, url);
}

static void on_completed(void *arg, struct MHD_Connection *conn, void **ptr,
                         enum MHD_RequestTerminationCode why)
{
    struct exchange *x = *ptr;

    (void)arg;
    (void)conn;
    (void)why;
    if (x && x->held) {
        *x->link = x->next;
        if (x->next)
            x->next->link = x->link;
    }
    if (x) {
        send_stop(&x->sending);
        cleanup_close(&x->file);
    }
    free(x);
    *ptr = NULL;
}

/* ---- listeners ---- */

static void listener_free(http_t *h, struct listener *gone)
{
    struct listener **link = &h->first;

    while (*link != gone)
        link = &(*link)->next;
    *link = gone->next;
    loop_source_del(h->loop, gone);
    MHD_stop_daemon(gone->d);
    free(gone);
}

static unsigned connections(const struct listener *l)
{
    const union MHD_DaemonInfo *i = MHD_get_daemon_info(l->d, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);

    return i ? i->num_connections : 0;
}

static void quiet(void *arg, const char *fmt, va_list ap)
{
    (void)arg; /* what strangers do wrong is not worth a line each */
    (void)fmt;
    (void)ap;
}

static int listener_add(http_t *h, const char *addr, uint16_t port, int idle_ms, struct err *err)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct listener *l = calloc(1, sizeof *l);

    if (!l || inet_pton(AF_INET, addr, &in.sin_addr) != 1) {
        free(l);
        return err_set(err, EINVAL, "%s: no address", addr);
    }
    l->h = h;
    l->port = port;
    snprintf(l->addr, sizeof l->addr, "%s", addr);
    errno = 0;
    l->d = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, port,
                            NULL, NULL, on_request, l, MHD_OPTION_EXTERNAL_LOGGER, quiet, NULL,
                            MHD_OPTION_SOCK_ADDR, &in,
                            MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADER_MAX,
                            MHD_OPTION_CONNECTION_TIMEOUT,
                            (unsigned)(idle_ms + 999) / 1000,
                            MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u,
                            MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, /* else no sendfile */
                            MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_END);
    const union MHD_DaemonInfo *i = l->d ? MHD_get_daemon_info(l->d, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (!i || loop_source(h->loop, i->epoll_fd, ready, run, l, err) < 0) {
        int why = errno ? errno : EADDRNOTAVAIL;
        if (l->d)
            MHD_stop_daemon(l->d);
        free(l);
        return err_set(err, why, "listen on %s:%u: %s", addr, port, strerror(why));
    }
    l->fd = i->epoll_fd;
    l->next = h->first;
    h->first = l;
    return 0;
}

static bool wanted(const http_t *h, const struct listener *l)
{
    for (size_t i = 0; i < h->want.n; i++)
        if (l->port == h->want.port && strcmp(l->addr, h->want.addr[i]) == 0)
            return true;
    return false;
}

static struct listener *listening(http_t *h, const char *addr)
{
    for (struct listener *l = h->first; l; l = l->next)
        if (!l->closing && l->port == h->want.port && strcmp(l->addr, addr) == 0)
            return l;
    return NULL;
}

static void apply(void *arg)
{
    http_t *h = arg;
    bool missing = false;

    h->again = 0;
    for (struct listener *l = h->first, *next; l; l = next) {
        next = l->next;
        if (!l->closing && !wanted(h, l)) {
            MHD_socket s = MHD_quiesce_daemon(l->d); /* what has begun is finished */
            if (s != MHD_INVALID_SOCKET)
                close(s);
            l->closing = true;
        }
        if (l->closing && connections(l) == 0)
            listener_free(h, l);
        else
            missing |= l->closing;
    }
    for (size_t i = 0; i < h->want.n; i++) {
        struct err err = { 0 };
        if (listening(h, h->want.addr[i]))
            continue;
        if (listener_add(h, h->want.addr[i], h->want.port, h->want.idle_ms, &err) < 0) {
            svc_log("warning", "%s", err.text);
            missing = true;
        } else {
            svc_log("info", "boot images at http://%s:%u", h->want.addr[i], h->want.port);
        }
    }
    if (missing)
        h->again = loop_timer(h->loop, AGAIN_MS, false, apply, h);
}

void http_listen(http_t *h, char addrs[][16], size_t n, uint16_t port, int idle_ms)
{
    h->want.n = n < 16 ? n : 16;
    memcpy(h->want.addr, addrs, h->want.n * sizeof h->want.addr[0]);
    h->want.port = port;
    h->want.idle_ms = idle_ms;
    loop_timer_del(h->loop, h->again);
    apply(h);
    if (h->first && !h->timer)
        hold_again(h);
}

size_t http_count(const http_t *h)
{
    size_t n = 0;

    for (const struct listener *l = h->first; l; l = l->next)
        n += !l->closing;
    return n;
}

http_t *http_create(loop_t *l, http_fn *fn, http_sent_fn *sent, void *arg, struct err *err)
{
    http_t *h = calloc(1, sizeof *h);

    if (!h) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    h->loop = l;
    h->files = send_create(l, err);
    if (!h->files) {
        free(h);
        return NULL;
    }
    h->fn = fn;
    h->sent = sent;
    h->arg = arg;
    return h;
}

void http_destroy(http_t **hp)
{
    http_t *h = *hp;

    if (!h)
        return;
    http_news(h);
    send_end(h->files);
    while (h->first)
        listener_free(h, h->first);
    send_destroy(&h->files);
    loop_timer_del(h->loop, h->timer);
    loop_timer_del(h->loop, h->again);
    free(h);
    *hp = NULL;
}
