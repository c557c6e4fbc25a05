/* loop.h - one epoll loop: descriptors, timers, signals, other sources
 *
 * No ZeroMQ in here (bpinit and the clients use it too); zloop.h adds ZeroMQ
 * sockets to a loop. Threads: a loop belongs to the thread that made it.
 * Callbacks may add and delete anything, themselves included.
 */
#ifndef BUS_LOOP_H
#define BUS_LOOP_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include "bus/err.h"

typedef struct loop loop_t;
typedef void loop_fd_fn(void *arg, int fd, uint32_t events);
typedef void loop_fn(void *arg);
typedef void loop_sig_fn(void *arg, int signo);

loop_t *loop_create(struct err *err);
void loop_destroy(loop_t **l);

/* Watch fd (EPOLLIN, EPOLLOUT, EPOLLET...). Again for the same fd: change. */
int loop_fd(loop_t *l, int fd, uint32_t events, loop_fd_fn *fn, void *arg,
            struct err *err);
void loop_fd_del(loop_t *l, int fd); /* before closing fd; unknown fd is fine */

/* Call fn after delay_ms, once or again and again. Returns an id > 0. */
int loop_timer(loop_t *l, int64_t delay_ms, bool repeat, loop_fn *fn, void *arg);
void loop_timer_del(loop_t *l, int id); /* 0 and finished ids are fine */

/* Take signo through a signalfd (blocks it for this thread). */
int loop_signal(loop_t *l, int signo, loop_sig_fn *fn, void *arg, struct err *err);
int loop_stop_signals(loop_t *l, struct err *err); /* SIGTERM and SIGINT: loop_stop(l, 0) */

/* Called once at the end of each turn: batch writes go here. */
void loop_turn(loop_t *l, loop_fn *fn, void *arg);

/* A source that is not a plain descriptor: ready() is asked before sleeping,
 * dispatch() is called when it said true, or when fd became readable. */
int loop_source(loop_t *l, int fd, bool (*ready)(void *arg), loop_fn *dispatch,
                void *arg, struct err *err);
void loop_source_del(loop_t *l, void *arg);

int loop_run(loop_t *l);   /* until loop_stop(); returns its status */
void loop_stop(loop_t *l, int status);
int loop_once(loop_t *l, int timeout_ms); /* one turn: for clients and tests */

int64_t now_ms(void);      /* monotonic */
int64_t wall_ms(void);     /* since the epoch */

#endif
