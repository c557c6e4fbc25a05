/* fetch.c - a machine fetches its boot image, and serves it to others meanwhile
 *
 * One loop: a question to the master (/next), then the image from whom it named
 * first, chunk by chunk; whatever goes wrong ends in another question. Who
 * fetches from us is served in the same loop (share.c).
 */
#define OPENSSL_SUPPRESS_DEPRECATED /* the plain functions link small */
#include "node/boot/fetch.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/sha.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bus/loop.h"
#include "node/boot/share.h"

#define LIMIT_MS (10 * 60 * 1000)
#define HOLD_S 20      /* an unknown machine: how long the master may think */
#define CONNECT_MS 3000
#define IDLE_MS 5000   /* no byte for so long: another source */
#define ANSWER_MAX (1 << 20)
#define IMAGE_MAX (8ull << 30)
#define BAD_MAX 3      /* damaged chunks from the master itself */

struct get { /* one request */
    int fd;
    bool sent, in_body;
    char head[4096]; /* request, then header of the answer */
    size_t len, done;
    int status;
    uint64_t length, got; /* of the body */
    int64_t deadline; /* of the next byte */
};

struct fetch {
    const char *server;
    const char *const *macs;
    struct boot_fetch_how how;
    struct boot_image *out;
    share_t *share;
    int64_t end, began;
    struct get get;
    /* what the master said */
    char *answer;
    size_t answer_len;
    char hash[65], from[2][200];
    int nfrom;
    uint64_t size, chunk;
    char *sums; /* in answer */
    int64_t serve_ms;
    /* what is there */
    int fd;
    uint64_t have; /* checked */
    uint64_t raw;  /* received */
    SHA256_CTX part, whole;
    char failed[200];
    const char *why; /* "slow", "gone", "damaged" */
    int bad;
    char last[200]; /* what was in the way last */
};

static void trouble(struct fetch *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void trouble(struct fetch *f, const char *fmt, ...)
{
    char text[sizeof f->last];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (f->how.say && strcmp(text, f->last) != 0)
        f->how.say(text);
    memcpy(f->last, text, sizeof f->last);
}

/* ---- waiting, with others served meanwhile ---- */

/* Until the request's socket is ready for events, or ms have passed. > 0: ready. */
static int wait_for(struct fetch *f, short events, int64_t ms)
{
    struct pollfd p[SHARE_MAX + 2];
    int64_t end = now_ms() + ms;

    for (;;) {
        size_t mine = f->get.fd >= 0 ? 1 : 0;
        int64_t left = end - now_ms();
        if (mine)
            p[0] = (struct pollfd){ f->get.fd, events, 0 };
        size_t n = f->share ? share_poll(f->share, p + mine) : 0;
        int rc = poll(p, mine + n, left > 0 ? (int)left : 0);
        if (rc > 0 && n)
            share_run(f->share, p + mine, n, now_ms());
        if (rc > 0 && mine && p[0].revents)
            return 1;
        if (left <= 0)
            return 0;
    }
}

/* ---- one request ---- */

static void get_close(struct get *g)
{
    if (g->fd >= 0)
        close(g->fd);
    g->fd = -1;
}

/* "http://ADDR:PORT/..." or "ADDR:PORT" */
static bool address_of(const char *text, struct sockaddr_in *in, char host[32])
{
    char addr[16];
    unsigned port;

    if (strncmp(text, "http://", 7) == 0)
        text += 7;
    *in = (struct sockaddr_in){ .sin_family = AF_INET };
    if (sscanf(text, "%15[0-9.]:%5u", addr, &port) != 2 || port == 0 || port > 65535 ||
        inet_pton(AF_INET, addr, &in->sin_addr) != 1)
        return false;
    in->sin_port = htons((uint16_t)port);
    snprintf(host, 32, "%s:%u", addr, port);
    return true;
}

/* Connect, send, and read the header. 0, or -1 with f->last said. */
static int get_open(struct fetch *f, const char *where, const char *what, int64_t patience)
{
    struct get *g = &f->get;
    struct sockaddr_in in;
    char host[32];
    int one = 1, why = 0;
    socklen_t n = sizeof why;

    get_close(g);
    *g = (struct get){ .fd = -1 };
    if (!address_of(where, &in, host)) {
        trouble(f, "%.60s is no address", where);
        return -1;
    }
    g->len = (size_t)snprintf(g->head, sizeof g->head,
                              "%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", what, host);
    if (f->have && strncmp(what, "GET /i/", 7) == 0)
        g->len += (size_t)snprintf(g->head + g->len, sizeof g->head - g->len,
                                   "Range: bytes=%llu-\r\n", (unsigned long long)f->have);
    g->len += (size_t)snprintf(g->head + g->len, sizeof g->head - g->len, "\r\n");
    if (g->len >= sizeof g->head) {
        trouble(f, "a request that is too long");
        return -1;
    }
    g->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (g->fd < 0) {
        trouble(f, "socket: %s", strerror(errno));
        return -1;
    }
    setsockopt(g->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(g->fd, (struct sockaddr *)&in, sizeof in) < 0 && errno != EINPROGRESS) {
        trouble(f, "%s: %s", host, strerror(errno));
        return -1;
    }
    if (wait_for(f, POLLOUT, CONNECT_MS) == 0 ||
        getsockopt(g->fd, SOL_SOCKET, SO_ERROR, &why, &n) < 0 || why) {
        trouble(f, "%s: %s", host, why ? strerror(why) : "no answer");
        return -1;
    }
    if (send(g->fd, g->head, g->len, MSG_NOSIGNAL) != (ssize_t)g->len) {
        trouble(f, "%s: %s", host, strerror(errno));
        return -1;
    }
    for (g->len = 0; !g->in_body;) {
        if (wait_for(f, POLLIN, patience) == 0) {
            trouble(f, "%s: no answer", host);
            return -1;
        }
        ssize_t k = recv(g->fd, g->head + g->len, sizeof g->head - 1 - g->len, 0);
        if (k < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (k <= 0) {
            trouble(f, "%s: %s", host, k < 0 ? strerror(errno) : "it has hung up");
            return -1;
        }
        g->len += (size_t)k;
        g->head[g->len] = '\0';
        char *end = strstr(g->head, "\r\n\r\n");
        if (!end && g->len == sizeof g->head - 1) {
            trouble(f, "%s: an answer that is none", host);
            return -1;
        }
        if (!end)
            continue;
        unsigned long long length = 0;
        char *l = strcasestr(g->head, "\ncontent-length:");
        if (sscanf(g->head, "HTTP/1.%*d %d", &g->status) != 1 || (l && l > end) ||
            (l && sscanf(l + 16, "%llu", &length) != 1)) {
            trouble(f, "%s: an answer that is none", host);
            return -1;
        }
        g->length = length;
        g->done = (size_t)(end + 4 - g->head); /* where the body begins */
        g->in_body = true;
    }
    return 0;
}

/* Some of the body. > 0; 0 its end; -1 trouble. */
static ssize_t get_read(struct fetch *f, void *p, size_t room)
{
    struct get *g = &f->get;
    uint64_t left = g->length - g->got;

    if (left == 0)
        return 0;
    room = room < left ? room : (size_t)left;
    if (g->done < g->len) {
        size_t n = g->len - g->done < room ? g->len - g->done : room;
        memcpy(p, g->head + g->done, n);
        g->done += n;
        g->got += n;
        return (ssize_t)n;
    }
    for (;;) {
        if (wait_for(f, POLLIN, IDLE_MS) == 0) {
            trouble(f, "nothing has come for %d s", IDLE_MS / 1000);
            f->why = "slow";
            return -1;
        }
        ssize_t n = recv(g->fd, p, room, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n <= 0) {
            trouble(f, "the transfer broke off%s%s", n < 0 ? ": " : "", n < 0 ? strerror(errno) : "");
            return -1;
        }
        g->got += (uint64_t)n;
        return n;
    }
}

/* ---- the question to the master ---- */

/* The rest of the line that begins with this word; NULL: none. Ends it with NUL. */
static char *line_of(char *text, const char *word)
{
    size_t n = strlen(word);

    for (char *p = text; p; p = strchr(p, '\n')) {
        p += *p == '\n';
        if (strncmp(p, word, n) == 0 && p[n] == ' ')
            return p + n + 1;
        if (!*p)
            break;
    }
    return NULL;
}

static bool is_hash(const char *s) { return strspn(s, "0123456789abcdef") >= 64; }

static int64_t number_of(char *text, const char *word, int64_t dflt)
{
    const char *p = line_of(text, word);
    long long v;

    return p && sscanf(p, "%lld", &v) == 1 ? v : dflt;
}

static void copy_line(char *out, size_t room, const char *line)
{
    snprintf(out, room, "%.*s", (int)strcspn(line, "\n"), line);
}

/* Another image than before: begin anew. */
static int begin_image(struct fetch *f, const char *hash, struct err *err)
{
    if (f->fd >= 0)
        close(f->fd);
    snprintf(f->hash, sizeof f->hash, "%.64s", hash);
    f->have = f->raw = 0;
    SHA256_Init(&f->part);
    SHA256_Init(&f->whole);
    f->fd = memfd_create("boot-image", MFD_CLOEXEC);
    if (f->fd < 0 || ftruncate(f->fd, (off_t)f->size) < 0)
        return err_set(err, errno, "memory for the image: %s", strerror(errno));
    return 0;
}

/* 1 understood; 0 try again; -1 *err. */
static int understand(struct fetch *f, struct err *err)
{
    char *hash = line_of(f->answer, "image"), *from = f->answer;
    int64_t size = number_of(f->answer, "size", -1), chunk = number_of(f->answer, "chunk", -1);
    const char *cmdline = line_of(f->answer, "cmdline");

    f->sums = line_of(f->answer, "sums");
    if (!hash || !is_hash(hash) || !f->sums || size <= 0 || size > (int64_t)IMAGE_MAX ||
        chunk < 4096 || chunk > (64 << 20)) {
        trouble(f, "the master's answer is not understood");
        return 0;
    }
    size_t want = (size_t)((size + chunk - 1) / chunk) * 65 - 1;
    if (strcspn(f->sums, "\n") != want) {
        trouble(f, "the master's answer is not understood");
        return 0;
    }
    f->nfrom = 0;
    while (f->nfrom < 2 && (from = line_of(from, "from")))
        copy_line(f->from[f->nfrom++], sizeof f->from[0], from);
    if (f->nfrom == 0) {
        trouble(f, "the master does not say where the image is");
        return 0;
    }
    f->out->node = (int)number_of(f->answer, "node", -1);
    f->serve_ms = 1000 * number_of(f->answer, "serve", 0);
    if (cmdline)
        copy_line(f->out->cmdline, sizeof f->out->cmdline, cmdline);
    bool same = strncmp(f->hash, hash, 64) == 0 && f->size == (uint64_t)size &&
                f->chunk == (uint64_t)chunk;
    f->size = (uint64_t)size;
    f->chunk = (uint64_t)chunk;
    if (!same && begin_image(f, hash, err) < 0)
        return -1;
    if (f->share)
        share_set(f->share, f->hash, f->fd, f->size, f->have);
    return 1;
}

static void escape(char *out, size_t room, const char *text)
{
    size_t n = 0;

    for (; *text && n + 4 < room; text++)
        n += (size_t)snprintf(out + n, room - n, isalnum((unsigned char)*text) ? "%c" : "%%%02X",
                              (unsigned char)*text);
    out[n] = '\0';
}

/* 1 there is something to fetch; 0 not yet, ask again; -1 *err. */
static int ask(struct fetch *f, struct err *err)
{
    char what[2500], url[400];
    int64_t left = f->end > 0 ? (f->end - now_ms()) / 1000 : HOLD_S;
    size_t n = (size_t)snprintf(what, sizeof what, "GET /next?wait=%d",
                                left < 0 ? 0 : left < HOLD_S ? (int)left : HOLD_S);
    ssize_t k;

    for (int i = 0; f->macs[i] && i < 16; i++)
        n += (size_t)snprintf(what + n, sizeof what - n, "&mac=%.17s", f->macs[i]);
    if (f->share)
        n += (size_t)snprintf(what + n, sizeof what - n, "&port=%u", share_port(f->share));
    if (f->failed[0]) {
        escape(url, sizeof url, f->failed);
        snprintf(what + n, sizeof what - n, "&failed=%s&why=%s", url,
                 f->why);
    }
    if (get_open(f, f->server, what, (HOLD_S + 15) * 1000) < 0)
        return 0;
    f->failed[0] = '\0';
    free(f->answer);
    f->answer = malloc(ANSWER_MAX + 1);
    if (!f->answer)
        return err_set(err, ENOMEM, "out of memory");
    for (f->answer_len = 0; f->answer_len < ANSWER_MAX; f->answer_len += (size_t)k)
        if ((k = get_read(f, f->answer + f->answer_len, ANSWER_MAX - f->answer_len)) <= 0)
            break;
    f->answer[f->answer_len] = '\0';
    int status = f->get.status;
    bool cut = f->get.got < f->get.length;
    get_close(&f->get);
    if (cut)
        return 0;
    if (status == 200)
        return understand(f, err);
    char *text = strchr(f->answer, '\n');
    if (status == 202 && text) {
        trouble(f, "%.*s", (int)strcspn(text + 1, "\n"), text + 1);
        return 0;
    }
    trouble(f, "the master: %.*s", (int)strcspn(f->answer, "\n"), f->answer);
    return 0;
}

/* ---- the image ---- */

/* Checked against the master's sum: kept, and served to others. */
static int chunk_done(struct fetch *f)
{
    unsigned char md[32];
    char hex[65];
    const char *want = f->sums + f->have / f->chunk * 65;
    char buf[65536];

    SHA256_Final(md, &f->part);
    SHA256_Init(&f->part);
    for (int i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", md[i]);
    if (strncmp(hex, want, 64) != 0) {
        f->raw = f->have;
        return -1;
    }
    for (uint64_t at = f->have; at < f->raw;) {
        ssize_t n = pread(f->fd, buf, sizeof buf < f->raw - at ? sizeof buf : (size_t)(f->raw - at),
                          (off_t)at);
        if (n <= 0)
            return -1;
        SHA256_Update(&f->whole, buf, (size_t)n);
        at += (uint64_t)n;
    }
    f->have = f->raw;
    if (f->share)
        share_set(f->share, f->hash, f->fd, f->size, f->have);
    return 0;
}

/* From one source, as far as it goes. True: all is there. */
static bool fetch_from(struct fetch *f, const char *url, uint64_t *count, bool *damaged)
{
    char what[120], buf[65536];

    *damaged = false;
    f->why = "gone";
    f->raw = f->have;
    SHA256_Init(&f->part);
    snprintf(what, sizeof what, "GET /i/%s", f->hash);
    if (get_open(f, url, what, IDLE_MS) < 0)
        return false;
    if ((f->get.status != 200 && f->get.status != 206) || f->get.length != f->size - f->have ||
        (f->get.status == 200 && f->have)) {
        trouble(f, "%.40s does not have the image (status %d)", url, f->get.status);
        f->why = "slow"; /* it may have just begun */
        return false;
    }
    while (f->have < f->size) {
        uint64_t end = f->have + f->chunk < f->size ? f->have + f->chunk : f->size;
        size_t room = sizeof buf < end - f->raw ? sizeof buf : (size_t)(end - f->raw);
        if (f->how.slow_ms && f->raw == f->have) {
            int fd = f->get.fd;
            f->get.fd = -1; /* others only */
            wait_for(f, 0, f->how.slow_ms);
            f->get.fd = fd;
        }
        ssize_t n = get_read(f, buf, room);
        if (n <= 0)
            return false;
        if (pwrite(f->fd, buf, (size_t)n, (off_t)f->raw) != n) {
            trouble(f, "memory for the image: %s", strerror(errno));
            return false;
        }
        SHA256_Update(&f->part, buf, (size_t)n);
        f->raw += (uint64_t)n;
        *count += (uint64_t)n;
        if (f->raw == end && chunk_done(f) < 0) {
            trouble(f, "%.40s has sent a damaged chunk", url);
            *damaged = true;
            return false;
        }
    }
    return true;
}

static int check_whole(struct fetch *f, struct err *err)
{
    unsigned char md[32];
    char hex[65];

    SHA256_Final(md, &f->whole);
    for (int i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", md[i]);
    if (strcmp(hex, f->hash) == 0)
        return 0;
    return err_set(err, EPROTO, "the image is not the one that was promised: its hash is %s, "
                   "not %s", hex, f->hash);
}

static int fetch_image(struct fetch *f, struct err *err)
{
    for (int i = 0; i < f->nfrom; i++) {
        bool master = i == f->nfrom - 1, damaged;
        if (fetch_from(f, f->from[i], master ? &f->out->from_master : &f->out->from_peers, &damaged))
            return check_whole(f, err) < 0 ? -1 : 1;
        get_close(&f->get);
        if (master && damaged && ++f->bad == BAD_MAX)
            return err_set(err, EPROTO, "the master's image is damaged: what it sends is not what "
                           "it says");
        if (!master) {
            snprintf(f->failed, sizeof f->failed, "%s", f->from[i]);
            if (damaged)
                f->why = "damaged";
            return 0; /* the master may know another */
        }
    }
    return 0;
}

/* Those who are connected get the rest. */
static void finish_sharing(struct fetch *f)
{
    int64_t end = now_ms() + f->serve_ms;

    if (!f->share)
        return;
    share_close(f->share);
    get_close(&f->get);
    while (share_busy(f->share) && now_ms() < end)
        wait_for(f, 0, 50);
    share_destroy(&f->share);
}

static int run(struct fetch *f, struct err *err)
{
    int64_t pause = 10;

    for (;;) {
        uint64_t before = f->have;
        int rc = ask(f, err);
        if (rc > 0)
            rc = fetch_image(f, err);
        if (rc != 0)
            return rc;
        if (f->end > 0 && now_ms() >= f->end)
            return err_set(err, ETIMEDOUT, "no image: %s", f->last);
        pause = f->have > before ? 20 : pause < 1000 ? pause * 2 : 1000;
        get_close(&f->get);
        f->out->timers++;
        wait_for(f, 0, pause);
    }
}

int boot_fetch(const char *server, const char *const *macs, const struct boot_fetch_how *how,
               struct boot_image *out, struct err *err)
{
    struct fetch f = { .server = server, .macs = macs, .out = out, .fd = -1, .get = { .fd = -1 },
                       .began = now_ms() };
    struct err ignored = { 0 };

    if (how)
        f.how = *how;
    *out = (struct boot_image){ .fd = -1, .node = -1 };
    f.end = f.how.limit_ms < 0 ? 0 : f.began + (f.how.limit_ms ? f.how.limit_ms : LIMIT_MS);
    if (!f.how.alone)
        f.share = share_create(&ignored); /* without it we are alone */
    if (f.share && f.how.damage)
        share_damage(f.share);
    int rc = run(&f, err);
    if (rc > 0) {
        boot_fetch_stage(server, macs[0], "fetched", -1, NULL, NULL);
        finish_sharing(&f);
        out->fd = f.fd;
        out->size = f.size;
        memcpy(out->hash, f.hash, sizeof out->hash);
    } else if (f.fd >= 0) {
        close(f.fd);
    }
    get_close(&f.get);
    share_destroy(&f.share);
    free(f.answer);
    return rc > 0 ? 0 : -1;
}

/* ---- stages ---- */

void boot_fetch_stage(const char *server, const char *mac, const char *stage, int64_t ms,
                      const char *result, const char *text)
{
    struct sockaddr_in in;
    const struct timeval limit = { .tv_usec = 500 * 1000 };
    char host[32], head[400], uptime[40] = "";
    size_t n = text ? strnlen(text, 4096) : 0;

    if (!address_of(server, &in, host))
        return;
    CLEANUP(cleanup_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (ms >= 0)
        snprintf(uptime, sizeof uptime, "&ms=%lld", (long long)ms);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    int k = snprintf(head, sizeof head,
                     "POST /stage?mac=%.17s&stage=%.20s%s&result=%.10s HTTP/1.1\r\nHost: %s\r\n"
                     "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                     mac ? mac : "", stage, uptime, result ? result : "ok", host, n);
    if (connect(fd, (struct sockaddr *)&in, sizeof in) < 0 ||
        send(fd, head, (size_t)k, MSG_NOSIGNAL) != k ||
        (n && send(fd, text, n, MSG_NOSIGNAL) != (ssize_t)n))
        return;
    while (recv(fd, head, sizeof head, 0) > 0)
        ;
}
