/* http.h - requests by HTTP, from the loop: libmicrohttpd underneath
 *
 * One listener an address. What is asked is answered by serve(), at once, or
 * when there is news (http_news) or the request's patience is over. Files go
 * out by send.c; the connection ends with them. Sizes are bounded: 16 KiB of header, 4 KiB of body. */
#ifndef BOOTSRV_HTTP_H
#define BOOTSRV_HTTP_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "bus/loop.h"

#define HTTP_BODY 4096

typedef struct http http_t;

struct ask { /* one request */
    const char *method, *path; /* of the path: escapes decoded, no query */
    const char *body;          /* NUL-terminated, may be empty */
    char peer[64], here[64];   /* addresses of both ends: "198.18.0.7", "198.18.0.1:4711" */
    int64_t waited_ms;         /* since it came first */
    void *conn;
};
/* The first value of this name in the query; NULL: none. */
const char *ask_query(const struct ask *a, const char *name);
/* The i-th value of this name; NULL: there are no more. */
const char *ask_query_nth(const struct ask *a, const char *name, int i);

struct answer {
    int code; /* 0: not yet, hold it until there is news, at most hold_ms */
    int64_t hold_ms;
    const char *type; /* of text */
    char *text;       /* malloc()ed, given away */
    int fd;           /* >= 0: bytes of this file, which stays the caller's */
    uint64_t offset, size;
};
typedef void http_fn(void *arg, const struct ask *a, struct answer *out);
/* Promised to go out: bytes of a file that begin at offset. */
typedef void http_sent_fn(void *arg, const struct ask *a, uint64_t bytes);

http_t *http_create(loop_t *l, http_fn *fn, http_sent_fn *sent, void *arg, struct err *err);
void http_destroy(http_t **h);
/* Listen on these ("198.18.0.1") and no others; connections go on. An address
 * that cannot be had is logged, and tried again every second. */
void http_listen(http_t *h, char addrs[][16], size_t n, uint16_t port, int idle_ms);
/* Ask again for everything that is held. */
void http_news(http_t *h);
size_t http_count(const http_t *h); /* listeners */

#endif
