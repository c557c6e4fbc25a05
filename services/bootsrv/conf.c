/* conf.c - the configuration that nodemgr has in force
 *
 * nodemgr reads the file, checks it, and keeps a copy of what is in force in
 * RUN; here that copy is read, so that nobody acts on another one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <string.h>
#include "bus/rundir.h"
#include "services/bootsrv/bootsrv.h"
#include "services/bootsrv/dhcp.h"
#include "services/bootsrv/http.h"
#include "services/bootsrv/machines.h"

#define ASK_MS 10000
#define AGAIN_MS 1000
#define NETS_MS 2000 /* an interface that was not there */

static void ask(void *arg);

static void again(bootsrv_t *b, const char *why)
{
    svc_log("warning", "configuration: %s; asking again", why);
    loop_timer(b->loop, AGAIN_MS, false, ask, b);
}

/* ---- where we serve ---- */

static bool find_net(const struct ifaddrs *all, const char *name, struct net *n)
{
    for (; all; all = all->ifa_next) {
        struct sockaddr_in a, m;
        if (!all->ifa_addr || !all->ifa_netmask || all->ifa_addr->sa_family != AF_INET ||
            strcmp(all->ifa_name, name) != 0)
            continue;
        memcpy(&a, all->ifa_addr, sizeof a);
        memcpy(&m, all->ifa_netmask, sizeof m);
        snprintf(n->name, sizeof n->name, "%s", name);
        inet_ntop(AF_INET, &a.sin_addr, n->addr, sizeof n->addr);
        inet_ntop(AF_INET, &m.sin_addr, n->mask, sizeof n->mask);
        return true;
    }
    return false;
}

/* Something boots from here: a bootfile line says so. */
static bool boots(const struct cm_config *c)
{
    for (size_t i = 0; i < c->nnodes; i++)
        if (c->nodes[i].bootfile)
            return true;
    return c->bootfile != NULL;
}

static void look_for_nets(void *arg)
{
    bootsrv_t *b = arg;
    const struct cm_config *c = b->config;
    struct ifaddrs *all = NULL;
    char addrs[NETS_MAX][16];
    bool missing = false;

    b->nets_timer = 0;
    b->nnets = 0;
    if (boots(c) && getifaddrs(&all) == 0) {
        for (size_t i = 0; i < c->ninterfaces && b->nnets < NETS_MAX; i++) {
            if (find_net(all, c->interfaces[i].name, &b->net[b->nnets]))
                b->nnets++;
            else
                missing = true;
        }
        freeifaddrs(all);
    }
    for (size_t i = 0; i < b->nnets; i++)
        memcpy(addrs[i], b->net[i].addr, sizeof addrs[i]);
    http_listen(b->http, addrs, b->nnets, c->send.port, c->send.io_timeout_ms);
    dhcp_configure(b->dhcp);
    if (missing)
        b->nets_timer = loop_timer(b->loop, NETS_MS, false, look_for_nets, b);
}

/* ---- the configuration ---- */

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
    machines_renumber(b->machines);
    loop_timer_del(b->loop, b->nets_timer);
    look_for_nets(b);
    http_news(b->http); /* who waited to be named may be a node now */
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
