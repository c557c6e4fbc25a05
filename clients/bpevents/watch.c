/* watch.c - events as lines of JSON
 *
 * All events are taken from the bus and chosen from here: each service counts
 * all of its events, so only who gets them all can tell that some are missing.
 */
#include "clients/bpevents/watch.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bus/loop.h"
#include "clients/common/follow.h"
#include "clients/common/json.h"

#define AGAIN_MS 5000

struct source { /* one service, and its last event */
    char name[64];
    uint64_t seq;
    bool seen;
};

struct watcher {
    const struct watch_options *o;
    struct source *source;
    size_t sources;
    int64_t printed;
};

static struct source *source_of(struct watcher *s, const char *name)
{
    for (size_t i = 0; i < s->sources; i++)
        if (strcmp(s->source[i].name, name) == 0)
            return &s->source[i];
    struct source *grown = reallocarray(s->source, s->sources + 1, sizeof(*grown));
    if (!grown)
        return NULL;
    s->source = grown;
    struct source *at = &s->source[s->sources++];
    memset(at, 0, sizeof(*at));
    snprintf(at->name, sizeof(at->name), "%s", name);
    return at;
}

/* A number that does not follow: events were lost, or the service began anew. */
static int check_gap(struct watcher *s, const struct wire *w, struct err *err)
{
    struct source *at = source_of(s, w->from);
    CLEANUP(cleanup_free) char *line = NULL;
    json_t *gap = NULL;

    if (!at)
        return err_set(err, ENOMEM, "out of memory");
    if (at->seen && w->id <= at->seq)
        gap = json_pack("{s:{s:s,s:b}}", "gap", "service", w->from, "restarted", 1);
    else if (at->seen && w->id != at->seq + 1)
        gap = json_pack("{s:{s:s,s:I,s:I}}", "gap", "service", w->from, "from",
                        (json_int_t)(at->seq + 1), "to", (json_int_t)(w->id - 1));
    at->seq = w->id;
    at->seen = true;
    if (gap) {
        line = json_dumps(gap, JSON_COMPACT);
        json_decref(gap);
        fprintf(stderr, "%s\n", line ? line : "{\"gap\":{}}");
    }
    return 0;
}

static bool chosen(const struct watch_options *o, const char *topic)
{
    for (int i = 0; i < o->filters; i++)
        if (strncmp(topic, o->filter[i], strlen(o->filter[i])) == 0)
            return true;
    return o->filters == 0;
}

/* {topic, service, seq, time} and the payload's own keys, which cannot take
 * the place of these four. */
static int print_event(const struct gate_msg *m, struct err *err)
{
    json_t *line = json_object();
    json_t *body = json_of(&m->u.data);

    json_object_set_new(line, "topic", json_text(m->w.topic, strlen(m->w.topic)));
    json_object_set_new(line, "service", json_text(m->w.from, strlen(m->w.from)));
    json_object_set_new(line, "seq", json_integer((json_int_t)m->w.id));
    json_object_set_new(line, "time", json_integer(m->w.deadline));
    if (json_is_object(body))
        json_object_update_missing(line, body);
    else
        json_object_set(line, "value", body);
    bool whole = line && body;
    json_decref(body);
    int rc = whole ? json_dumpf(line, stdout, JSON_COMPACT) : -1;
    json_decref(line);
    if (!whole)
        return err_set(err, ENOMEM, "out of memory");
    if (rc < 0 || putchar('\n') == EOF || fflush(stdout) != 0)
        return err_set(err, EIO, "write to standard output: %s", strerror(errno));
    return 0;
}

static int take(struct watcher *s, const struct gate_msg *m, struct err *err)
{
    if (check_gap(s, &m->w, err) < 0)
        return -1;
    if (!chosen(s->o, m->w.topic))
        return 0;
    s->printed++;
    return print_event(m, err);
}

static int tell_ready(int fd, struct err *err)
{
    if (fd < 0)
        return 0;
    if (write(fd, "\n", 1) != 1)
        return err_set(err, errno, "--ready-fd %d: %s", fd, strerror(errno));
    close(fd);
    return 0;
}

int watch(const struct watch_options *o, struct err *err)
{
    struct watcher s = { .o = o };
    CLEANUP(follow_close) follow_t *f = follow_open("bpevents", "", err);
    int64_t end = o->timeout_s ? now_ms() + 1000 * o->timeout_s : 0;
    int rc = f ? tell_ready(o->ready_fd, err) : -1;

    while (rc == 0 && (o->count == 0 || s.printed < o->count)) {
        struct gate_msg m;
        int64_t left = end ? end - now_ms() : -1;

        if (end && left <= 0) {
            rc = o->count ? 1 : 0;
            break;
        }
        int n = follow_next(f, end ? (int)(left < INT32_MAX ? left : INT32_MAX) : -1, &m,
                            NULL);
        if (n > 0) {
            rc = take(&s, &m, err);
            gate_msg_clear(&m);
        } else if (n < 0 && follow_again(f, AGAIN_MS, err) < 0) {
            fprintf(stderr, "bpevents: %s; still trying\n", err->text);
        }
    }
    free(s.source);
    return rc;
}
