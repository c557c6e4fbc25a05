/* zloop.h - ZeroMQ sockets in a loop, and the ZAP handler for CURVE keys */
#ifndef BUS_ZLOOP_H
#define BUS_ZLOOP_H
#include "bus/loop.h"

void *zloop_context(void); /* the process's one ZeroMQ context */

/* fn is called while the socket has something to read: read one message
 * (all its frames) with ZMQ_DONTWAIT in each call. */
int zloop_add(loop_t *l, void *zsock, loop_fn *fn, void *arg, struct err *err);
void zloop_del(loop_t *l, void *zsock); /* not from its own fn */

/* One handler a process for all CURVE server sockets. allow() gets the key as
 * Z85 text and the peer's address, and says yes or no; the message property
 * "User-Id" is then that Z85 key. */
typedef bool zap_allow_fn(void *arg, const char *key_z85, const char *addr);
int zap_start(loop_t *l, zap_allow_fn *allow, void *arg, struct err *err);

/* Key files: two lines, Z85 public and secret; made if absent, mode 0600. */
struct curve_keys { char public_key[41], secret_key[41]; };
int curve_keys_load(const char *path, bool make, struct curve_keys *k,
                    struct err *err);

#endif
