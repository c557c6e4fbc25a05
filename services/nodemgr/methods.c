/* methods.c - the requests that nodemgr answers (doc/wire.md), and its life */
#include "services/nodemgr/nodemgr.h"
#include "bus/rundir.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

const struct svc_method nodemgr_methods[] = {
    { "nodemgr.list", on_list, SVC_USER },
    { "nodemgr.resolve", on_resolve, SVC_USER },
    { "nodemgr.check", on_check, SVC_ADMIN },
    { "nodemgr.set", on_set, SVC_USER | SVC_CHANGES },
    { "nodemgr.control", on_control, SVC_ADMIN | SVC_CHANGES },
    { "nodemgr.join", on_join, SVC_JOIN },
    { "nodemgr.beat", on_beat, SVC_NODE },
    { "nodemgr.keys", on_keys, SVC_ADMIN },
    { "nodemgr.accept", on_accept, SVC_ADMIN | SVC_CHANGES },
    { "nodemgr.pending", on_pending, SVC_USER },
    { "nodemgr.forget", on_forget, SVC_ADMIN | SVC_CHANGES },
    { "nodemgr.reload", on_reload, SVC_ADMIN | SVC_CHANGES },
    { "nodemgr.config", on_config, SVC_USER },
    { "nodemgr.libs", on_libs, SVC_USER },
    { "nodemgr.setlibs", on_setlibs, SVC_ADMIN | SVC_CHANGES },
    SVC_METHODS_END
};

/* ---- the cluster's life ---- */

static int make_instance(char out[33], const char *path, struct err *err)
{
    unsigned char random[16];
    char fresh[PATH_MAX];

    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return err_set(err, errno, "getrandom: %s", strerror(errno));
    for (int i = 0; i < 16; i++)
        snprintf(out + 2 * i, 3, "%02x", random[i]);
    cm_path(fresh, "instance.new");
    FILE *f = fopen(fresh, "we");
    if (!f)
        return err_set(err, errno, "%s: %s", fresh, strerror(errno));
    fprintf(f, "%s\n", out);
    if (fclose(f) != 0 || chmod(fresh, 0644) < 0 || rename(fresh, path) < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    return 0;
}

/* RUN does not outlive the machine's run, so this file tells one life of the
 * cluster from the next. */
static int read_instance(nodemgr_t *m, struct err *err)
{
    char path[PATH_MAX];

    cm_path(path, "instance");
    FILE *f = fopen(path, "re");
    if (!f && errno != ENOENT)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    int got = f ? fscanf(f, "%32[0-9a-f]", m->instance) : 0;
    if (f)
        fclose(f);
    return got == 1 && strlen(m->instance) == 32 ? 0 : make_instance(m->instance, path, err);
}

/* In a new life of the cluster nothing of the last one runs: its ghosts are
 * gone, and agents end their spaces when they learn of the new instance. */
static int start_life(nodemgr_t *m, struct err *err)
{
    CLEANUP(cleanup_free) char *last = NULL;

    if (read_instance(m, err) < 0 || !(last = db_get(m->db, "instance", err)))
        return -1;
    bool fresh = strcmp(last, m->instance) != 0;
    if (libs_start(m, fresh, err) < 0)
        return -1;
    if (!fresh)
        return 0;
    for (size_t i = 0; i < m->nodes.n; i++)
        node_lose(m->nodes.v[i], "nodemgr", "the cluster was started anew");
    return db_put(m->db, "instance", m->instance, err);
}

static void on_connect(void *arg)
{
    nodemgr_t *m = arg;

    m->connected = true;
    m->keys_changed = true;
    life_credit(m); /* beats could not reach us while the bus was away */
    keys_send(m);
    svc_ready(m->ready_fd);
    m->ready_fd = -1;
}

static void on_turn(void *arg)
{
    keys_send(arg);
    life_flush(arg);
}

static void on_hangup(void *arg, int signo)
{
    struct err err = { 0 };

    (void)signo;
    config_reload(arg, &err);
}

nodemgr_t *nodemgr_create(loop_t *l, const char *config_path, int ready_fd, struct err *err)
{
    CLEANUP(nodemgr_destroy) nodemgr_t *m = calloc(1, sizeof *m);
    char db[PATH_MAX];

    if (!m) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    m->loop = l;
    m->config_path = config_path;
    m->ready_fd = ready_fd;
    snprintf(db, sizeof db, "%s/nodemgr.db", cm_statedir());
    m->db = db_open(db, err);
    if (!m->db || config_start(m, err) < 0 || start_life(m, err) < 0)
        return NULL;
    m->svc = svc_create(l, "nodemgr", nodemgr_methods, m, err);
    if (!m->svc || loop_signal(l, SIGHUP, on_hangup, m, err) < 0)
        return NULL;
    svc_on_connect(m->svc, on_connect, m);
    loop_turn(l, on_turn, m);
    life_pace(m);
    nodemgr_t *out = m;
    m = NULL;
    return out;
}

void nodemgr_destroy(nodemgr_t **mp)
{
    nodemgr_t *m = *mp;
    const nodes_t none = { 0 };

    if (!m)
        return;
    if (m->db)
        db_flush(m->db, &m->nodes, NULL);
    svc_destroy(&m->svc);
    pending_free(m);
    nodes_drop(&m->nodes, &none);
    config_free(&m->config);
    strlist_free(&m->warnings);
    libs_free(&m->libs);
    db_close(&m->db);
    free(m);
    *mp = NULL;
}
