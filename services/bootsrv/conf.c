/* conf.c - the configuration that nodemgr has in force
 *
 * nodemgr reads the file, checks it, and keeps a copy of what is in force in
 * RUN; here that copy is read, so that nobody acts on another one.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "bus/rundir.h"
#include "services/bootsrv/bootsrv.h"

#define ASK_MS 10000
#define AGAIN_MS 1000

static void ask(void *arg);

static void again(bootsrv_t *b, const char *why)
{
    svc_log("warning", "configuration: %s; asking again", why);
    loop_timer(b->loop, AGAIN_MS, false, ask, b);
}

static int take(bootsrv_t *b, const msgpack_object *v, struct err *err)
{
    CLEANUP(cleanup_free) char *file = NULL;
    char copy[PATH_MAX];

    if (mp_get_dup(v, "file", &file, err) < 0)
        return -1;
    struct cm_config *new = config_load(cm_path(copy, "config.inuse"), NULL, err);
    if (!new)
        return -1;
    config_free(&b->config);
    b->config = new;
    b->generation = mp_opt_int(v, "generation", 0);
    snprintf(b->file, sizeof b->file, "%s", file);
    setup_limit(b->setup, new->node_up.max_clients);
    return 0;
}

static void on_answer(void *arg, const msgpack_object *value, const struct err *err)
{
    bootsrv_t *b = arg;
    struct err bad = { 0 };

    if (!value || take(b, value, &bad) < 0) {
        again(b, value ? bad.text : err->text);
        return;
    }
    setup_look(b->setup);
    svc_ready(b->ready_fd);
    b->ready_fd = -1;
}

static void ask(void *arg)
{
    bootsrv_t *b = arg;
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 0);
    svc_call(b->svc, "nodemgr.config", &m, ASK_MS, on_answer, b);
}

static void on_event(void *arg, const struct wire *w, const msgpack_object *body)
{
    (void)body;
    if (strcmp(w->from, "nodemgr") == 0)
        ask(arg);
}

static void on_reloaded(void *arg, const msgpack_object *value, const struct err *err)
{
    (void)arg;
    if (!value)
        svc_log("error", "%s; the old configuration stays", err->text);
}

void conf_hangup(void *arg, int signo)
{
    bootsrv_t *b = arg;
    CLEANUP(mp_free) mp_buf m;

    (void)signo;
    mp_init(&m);
    mp_map(&m, 0);
    svc_call(b->svc, "nodemgr.reload", &m, ASK_MS, on_reloaded, b);
}

char *conf_beside(const bootsrv_t *b, const char *name, char *buf)
{
    const char *slash = strrchr(b->file, '/');

    snprintf(buf, PATH_MAX, "%.*s%s", slash ? (int)(slash - b->file) + 1 : 0, b->file, name);
    return buf;
}

void conf_connected(void *arg) { ask(arg); }

int conf_open(bootsrv_t *b, struct err *err)
{
    return svc_follow(b->svc, "node.config", on_event, b, err);
}
