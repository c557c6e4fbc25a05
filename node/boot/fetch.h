/* fetch.h - a machine fetches its boot image, and serves it to others meanwhile
 *
 * The master says what to fetch, and from whom first (doc/wire.md, boot by
 * HTTP). Each chunk is checked before it is kept or handed on; a neighbour that
 * fails is told to the master, who names another, or itself. What was checked
 * is not fetched again. No ZeroMQ, no threads, one poll(2) loop; links
 * -lcrypto, statically too.
 */
#ifndef NODE_BOOT_FETCH_H
#define NODE_BOOT_FETCH_H
#include <stdbool.h>
#include <stdint.h>
#include "bus/err.h"

struct boot_image {
    int fd;            /* memfd with the whole image file, checked */
    uint64_t size;     /* bytes */
    char hash[65];     /* SHA-256, hex */
    int node;
    char cmdline[1024]; /* to be put behind the image's own */
    uint64_t from_master, from_peers; /* bytes that came from whom */
    int timers;        /* pauses before the master was asked again */
};

struct boot_fetch_how { /* all zero: as usual */
    int64_t limit_ms; /* 0: ten minutes, -1: never give up */
    bool alone;       /* neither serve others nor ask them */
    int64_t slow_ms;  /* pause before each chunk: for tests */
    bool damage;      /* serve others damaged chunks: for tests */
    void (*say)(const char *text); /* what a person at the console should read; NULL: nobody */
};

/* server: "ADDR:PORT". macs: of all cards, ends with NULL. Errors: ETIMEDOUT the
 * limit is over (the text says what was last in the way); EPROTO the master
 * refuses, or its image is not what it says; ENOMEM, ENOSPC. */
int boot_fetch(const char *server, const char *const *macs, const struct boot_fetch_how *how,
               struct boot_image *out, struct err *err);

/* Tell the master how far this machine has come; takes a second at most, and
 * nothing comes of it if that fails. result: NULL, "ok", "error". ms: since the
 * kernel started. */
void boot_fetch_stage(const char *server, const char *mac, const char *stage, int64_t ms,
                      const char *result, const char *text);

#endif
