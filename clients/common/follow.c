/* follow.c - events by a connection of their own */
#include "clients/common/follow.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "bus/loop.h"
#include "clients/common/opt.h"

#define CONFIRM_MS 5000
#define GATHER_MS 100 /* changes closer together than this are shown once */
#define RECONNECT_MS 10000
#define PAUSE_MS 100 /* between tries at a bus that takes us and drops us */

struct follow {
    gate_t *g;
};

/* Nothing but the answer to our subscription comes without being an event. */
static int confirmed(follow_t *f, struct err *err)
{
    int64_t end = now_ms() + CONFIRM_MS;

    for (;;) {
        struct gate_msg m;
        int64_t left = end - now_ms();
        int n = gate_recv(f->g, left > 0 ? (int)left : 0, &m, err);

        if (n < 0)
            return -1;
        if (n == 0)
            return err_set(err, ETIMEDOUT,
                           "busd did not confirm the subscription within %d s",
                           CONFIRM_MS / 1000);
        int kind = m.w.kind;
        gate_msg_clear(&m);
        if (kind == WIRE_REPLY)
            return 0;
        if (kind == WIRE_ERROR)
            return err_set(err, EACCES, "busd refused the subscription to events");
        /* an event that was quicker than its confirmation: the caller has
         * not looked at anything yet, so it misses nothing */
    }
}

follow_t *follow_open(const char *program, const char *prefix, struct err *err)
{
    follow_t *f = calloc(1, sizeof(*f));

    if (!f) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    f->g = gate_open(program, err);
    if (!f->g || gate_subscribe(f->g, prefix, err) < 0 || confirmed(f, err) < 0)
        follow_close(&f);
    return f;
}

void follow_close(follow_t **f)
{
    int keep = errno;

    if (*f) {
        gate_close(&(*f)->g);
        free(*f);
        *f = NULL;
    }
    errno = keep;
}

int follow_next(follow_t *f, int timeout_ms, struct gate_msg *m, struct err *err)
{
    int64_t end = now_ms() + timeout_ms;

    for (;;) {
        int64_t left = end - now_ms();
        int n = gate_recv(f->g, timeout_ms < 0 ? -1 : left > 0 ? (int)left : 0, m, err);

        if (n != 1 || m->w.kind == WIRE_EVENT)
            return n;
        gate_msg_clear(m);
    }
}

int follow_again(follow_t *f, int timeout_ms, struct err *err)
{
    if (gate_reopen(f->g, timeout_ms, err) < 0)
        return -1;
    if (confirmed(f, err) < 0) {
        poll(NULL, 0, PAUSE_MS);
        return -1;
    }
    return 0;
}

/* Wait for a change, and for those that follow on its heels. */
static void await_change(follow_t *f, const struct follow_table *t)
{
    int wait_ms = -1;

    for (;;) {
        struct gate_msg m;
        int n = follow_next(f, wait_ms, &m, NULL);

        if (n > 0) {
            if (!t->about || t->about(m.w.topic))
                wait_ms = GATHER_MS;
            gate_msg_clear(&m);
        } else if (n < 0) {
            struct err err = { 0 };
            while (follow_again(f, RECONNECT_MS, &err) < 0)
                fprintf(stderr, "%s: %s\n", t->program, err.text);
            return;
        } else if (wait_ms >= 0) {
            return;
        }
    }
}

int follow_table(const struct follow_table *t, struct err *err)
{
    CLEANUP(follow_close) follow_t *f = follow_open(t->program, t->prefix, err);

    if (!f)
        return -1;
    for (;;) {
        if (t->clear)
            fputs("\033[H\033[J", stdout);
        if (t->show(t->arg, err) < 0) {
            if (err->code == t->fatal)
                return -1;
            fprintf(stderr, "%s: %s\n", t->program, err->text);
        }
        if (opt_finish(t->program) != EXIT_SUCCESS)
            return err_set(err, EIO, "nobody reads the table any more");
        await_change(f, t);
    }
}
