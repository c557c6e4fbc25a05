/* way.c - the way to the master: which of its addresses, and from which of ours
 *
 * At first it is --bus. "reconnect" names another one: if the master's port can be
 * reached there, it is noted, and this agent ends; the next one goes that way, and
 * what runs here, bpinit's, does not notice. The note is on trial until the master
 * has answered; if it does not, it is thrown away, and the next agent goes the old
 * way. A new space begins with none.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "node/agent/agent.h"
#include "node/agent/files.h"

#define NOTE "way"
#define CONNECT_MS 3000
#define TRIAL_MS 10000
#define LINGER_MS 100 /* for the answer to leave */

struct ends { /* of a connection; "": any; 0: any */
    char master[16], local[16];
    uint16_t master_port, local_port;
};

struct attempt {
    agent_t *a;
    svc_token *token;
    struct ends to;
    int fd, timer;
};

/* ---- the words ---- */

/* "ADDRESS", "ADDRESS:PORT" or "-" up to the comma; false: none of these. */
static bool one_end(const char *text, size_t len, char addr[16], uint16_t *port)
{
    char copy[32], *colon, *end;
    struct in_addr in;

    if (len == 0 || len >= sizeof copy)
        return false;
    snprintf(copy, sizeof copy, "%.*s", (int)len, text);
    colon = strchr(copy, ':');
    if (colon) {
        *colon++ = 0;
        unsigned long v = strtoul(colon, &end, 10);
        if (!isdigit((unsigned char)*colon) || *end || v > 65535 - CM_PORT_CONTENT)
            return false;
        *port = v ? (uint16_t)v : *port;
    }
    if (strcmp(copy, "-") == 0)
        return true;
    if (inet_pton(AF_INET, copy, &in) != 1)
        return false;
    snprintf(addr, 16, "%.15s", copy);
    return true;
}

/* MASTER[:PORT][,LOCAL[:PORT]]; what is not said stays. */
static int understand(const char *text, struct ends *e, struct err *err)
{
    const char *comma = strchr(text, ',');
    size_t len = comma ? (size_t)(comma - text) : strlen(text);

    if (one_end(text, len, e->master, &e->master_port) &&
        (!comma || one_end(comma + 1, strlen(comma + 1), e->local, &e->local_port)))
        return 0;
    return err_set(err, EINVAL, "reconnect %.60s: want MASTER[:PORT[,LOCAL[:PORT]]], addresses of "
                   "IPv4", text);
}

/* ---- trying ---- */

static int bound_to(const struct ends *e, struct err *err)
{
    CLEANUP(cleanup_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(e->local_port) };
    int one = 1;

    if (fd < 0)
        return err_set(err, errno, "socket: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (e->local[0])
        inet_pton(AF_INET, e->local, &in.sin_addr);
    if ((e->local[0] || e->local_port) && bind(fd, (struct sockaddr *)&in, sizeof in) < 0)
        return err_set(err, errno, "reconnect: from %s:%u: %s", e->local, e->local_port,
                       strerror(errno));
    in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(e->master_port) };
    inet_pton(AF_INET, e->master, &in.sin_addr);
    if (connect(fd, (struct sockaddr *)&in, sizeof in) < 0 && errno != EINPROGRESS)
        return err_set(err, errno, "reconnect: the master at %s:%u: %s", e->master, e->master_port,
                       strerror(errno));
    int out = fd;
    fd = -1;
    return out;
}

static void finish(struct attempt *t)
{
    loop_timer_del(t->a->loop, t->timer);
    if (t->fd >= 0)
        loop_fd_del(t->a->loop, t->fd);
    cleanup_close(&t->fd);
    free(t);
}

static void refuse(struct attempt *t, int code)
{
    struct err err = { 0 };

    err_set(&err, code, "reconnect: the master at %s:%u: %s; the node stays with %s:%u",
            t->to.master, t->to.master_port, strerror(code), t->a->master_addr, t->a->master_port);
    svc_fail(t->a->svc, t->token, &err);
    finish(t);
}

static void stop(void *arg)
{
    agent_t *a = arg;

    loop_stop(a->loop, EXIT_SUCCESS);
}

static void take(struct attempt *t)
{
    agent_t *a = t->a;
    CLEANUP(mp_free) mp_buf nil;
    struct err err = { 0 };
    char text[100];

    mp_init(&nil);
    snprintf(text, sizeof text, "trial %s %u %s %u", t->to.master, t->to.master_port,
             t->to.local[0] ? t->to.local : "-", t->to.local_port);
    if (files_note_write(a->files, NOTE, text, &err) < 0) {
        svc_fail(a->svc, t->token, &err);
        finish(t);
        return;
    }
    svc_log("info", "the master says: reconnect to %s:%u", t->to.master, t->to.master_port);
    mp_nil(&nil);
    svc_answer(a->svc, t->token, &nil);
    loop_timer(a->loop, LINGER_MS, false, stop, a);
    finish(t);
}

static void on_connected(void *arg, int fd, uint32_t events)
{
    struct attempt *t = arg;
    socklen_t n = sizeof(int);
    int why = 0;

    (void)events;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &n) < 0)
        why = errno;
    if (why)
        refuse(t, why);
    else
        take(t);
}

static void on_late(void *arg)
{
    refuse(arg, ETIMEDOUT);
}

int way_change(agent_t *a, const char *text, svc_token *token, struct err *err)
{
    struct ends to = { .master_port = a->master_port };

    snprintf(to.master, sizeof to.master, "%.15s", a->master_addr);
    snprintf(to.local, sizeof to.local, "%s", a->local_addr);
    if (understand(text, &to, err) < 0)
        return -1;
    int fd = bound_to(&to, err);
    if (fd < 0)
        return -1;
    struct attempt *t = calloc(1, sizeof *t);
    if (!t) {
        close(fd);
        return err_set(err, ENOMEM, "out of memory");
    }
    *t = (struct attempt){ .a = a, .token = token, .to = to, .fd = fd };
    if (loop_fd(a->loop, fd, EPOLLOUT, on_connected, t, err) < 0) {
        close(fd);
        free(t);
        return -1;
    }
    t->timer = loop_timer(a->loop, CONNECT_MS, false, on_late, t);
    return SVC_LATER;
}

/* ---- going ---- */

static void on_trial_over(void *arg)
{
    agent_t *a = arg;
    struct err err = { 0 };

    if (!a->way_trial)
        return;
    svc_log("warning", "the master does not answer at %s:%u: back to where it was", a->master_addr,
            a->master_port);
    if (files_note_write(a->files, NOTE, "", &err) < 0)
        svc_log("error", "%s", err.text);
    loop_stop(a->loop, EXIT_FAILURE);
}

void way_read(agent_t *a)
{
    CLEANUP(cleanup_free) char *text = files_note_read(a->files, NOTE);
    struct ends e = { 0 };
    char word[8];

    if (!text || sscanf(text, "%7s %15s %hu %15s %hu", word, e.master, &e.master_port, e.local,
                        &e.local_port) != 5)
        return;
    snprintf(a->master_addr, sizeof a->master_addr, "%s", e.master);
    a->master_port = e.master_port;
    snprintf(a->local_addr, sizeof a->local_addr, "%s", strcmp(e.local, "-") ? e.local : "");
    a->local_port = e.local_port;
    a->way_trial = strcmp(word, "trial") == 0;
    if (a->way_trial)
        loop_timer(a->loop, TRIAL_MS, false, on_trial_over, a);
}

void way_good(agent_t *a)
{
    struct err err = { 0 };
    char text[100];

    if (!a->way_trial)
        return;
    a->way_trial = false;
    snprintf(text, sizeof text, "kept %s %u %s %u", a->master_addr, a->master_port,
             a->local_addr[0] ? a->local_addr : "-", a->local_port);
    if (files_note_write(a->files, NOTE, text, &err) < 0)
        svc_log("warning", "%s", err.text);
}

void way_endpoint(const agent_t *a, int port, bool bus, char *out, size_t room)
{
    uint16_t from = bus ? a->local_port : 0;

    if (a->local_addr[0] || from)
        snprintf(out, room, "tcp://%s:%u;%s:%d", a->local_addr[0] ? a->local_addr : "0.0.0.0", from,
                 a->master_addr, port);
    else
        snprintf(out, room, "tcp://%s:%d", a->master_addr, port);
}
