/* callers.h - who connects to a listener and has a time to say its first word
 *
 * The word tells what the connection is for: a token, mostly. Until then it is
 * a stranger's, of whom only so many are kept. Threads: the loop's.
 */
#ifndef BUS_CALLERS_H
#define BUS_CALLERS_H
#include "bus/loop.h"

#define CALLERS_MAX 256      /* at a time; more are hung up on */
#define CALLERS_WORD_MS 5000 /* for the word */

struct caller {
    int fd; /* who keeps it sets it to -1 */
    uid_t uid; /* of a local socket */
    pid_t pid;
};

/* The word can be read. False: that was it. True: it is not here whole. */
typedef bool callers_fn(void *arg, struct caller *k);

typedef struct callers callers_t;

/* Takes the listener, also when it fails. least: bytes that the word has at least
 * (of a stream); 0: it is a packet. NULL with err. */
callers_t *callers_open(loop_t *loop, int listener, int least, callers_fn *word, void *arg,
                        struct err *err);
void callers_close(callers_t **c);

/* Takes len bytes of a stream, all or none: 1, 0 not here yet, -1 they never come. */
int caller_take(const struct caller *k, void *out, size_t len);

#endif
