/* share.h - those who fetch from us: served what has been checked so far */
#ifndef NODE_BOOT_SHARE_H
#define NODE_BOOT_SHARE_H
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "bus/err.h"

#define SHARE_MAX 16

typedef struct share share_t;

/* Listens on a port of its own. NULL: *err. */
share_t *share_create(struct err *err);
void share_destroy(share_t **s);
uint16_t share_port(const share_t *s);
/* What is served: bytes [0, have) of fd, which will be size. Another image
 * drops who is connected. */
void share_set(share_t *s, const char *hash, int fd, uint64_t size, uint64_t have);
void share_damage(share_t *s); /* for tests: every chunk gets a wrong byte */
void share_close(share_t *s); /* nobody new */
bool share_busy(const share_t *s);

/* Before and after a poll(2): at most SHARE_MAX + 1 entries. */
size_t share_poll(share_t *s, struct pollfd *p);
void share_run(share_t *s, const struct pollfd *p, size_t n, int64_t now);

#endif
