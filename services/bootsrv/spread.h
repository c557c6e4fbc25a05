/* spread.h - who fetches an image from whom; no I/O
 *
 * Times are milliseconds, monotonic. */
#ifndef BOOTSRV_SPREAD_H
#define BOOTSRV_SPREAD_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "bus/config.h"
#include "bus/err.h"
#include "bus/image.h"

typedef struct spread spread_t;

spread_t *spread_create(struct err *err);
void spread_destroy(spread_t **s);

/* A client at addr that serves on port (0: not) wants this image. True: peer
 * ("ADDR:PORT") is whom to ask first. False: us. */
bool spread_ask(spread_t *s, const char *mac, const char *hash, const char *addr, uint16_t port,
                int64_t now, char *peer, size_t room);
/* It has the image, or has gone: it serves nobody new. */
void spread_done(spread_t *s, const char *mac);
/* A client says that this one was no good to it: named to it no more; and to
 * nobody if it is gone, or if what it sent was damaged. */
enum spread_why { SPREAD_SLOW, SPREAD_GONE, SPREAD_DAMAGED };
void spread_failed(spread_t *s, const char *mac, const char *addr, uint16_t port,
                   enum spread_why why);

#endif
