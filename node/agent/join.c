/* join.c - being a node of the cluster: join, beat, give up
 *
 * The master that we joined is known by its instance; the note of it, and of
 * how long its silence is borne, outlives this agent, since what runs here
 * does too. A master that is silent for longer, or that has become another
 * one, no longer knows our processes: the space is ended, and the machine
 * starts afresh.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <net/if_arp.h>
#include <netpacket/packet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "bus/bulk.h"
#include "bus/wire.h"
#include "node/agent/agent.h"
#include "node/agent/files.h"

#define JOIN_MS 3000
#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 2000
#define PING_MS 1000
#define NOTE "master"

struct join {
    agent_t *a;
    bool joined, busy; /* busy: a join or a beat is on its way */
    int timer;         /* the next join or beat */
    int64_t retry_ms;
    int64_t beat_ms, grace_ms;
    int64_t heard; /* when the master last answered */
    char instance[64];
    char why[sizeof((struct err *)0)->text]; /* last refusal logged */
    bool ending;
};

static void on_timer(void *arg);

static void again_in(join_t *j, int64_t ms)
{
    loop_timer_del(j->a->loop, j->timer);
    j->timer = loop_timer(j->a->loop, ms, false, on_timer, j);
}

/* At once the first time, then slower and slower. */
static void again_slower(join_t *j)
{
    again_in(j, j->retry_ms == RETRY_MIN_MS ? 0 : j->retry_ms);
    j->retry_ms = j->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : j->retry_ms * 2;
}

static void give_up(join_t *j, const char *why)
{
    if (j->ending || j->a->leaving)
        return;
    j->ending = true;
    svc_log("error", "%s: ending everything that runs here", why);
    space_end(j->a->space, "end");
}

/* ---- what the master says ---- */

static void note_master(join_t *j)
{
    char text[128];
    struct err err = { 0 };

    snprintf(text, sizeof text, "%s %" PRId64, j->instance, j->grace_ms);
    if (files_note_write(j->a->files, NOTE, text, &err) < 0)
        svc_log("warning", "%s", err.text);
}

static void read_note(join_t *j)
{
    CLEANUP(cleanup_free) char *text = files_note_read(j->a->files, NOTE);

    if (text && sscanf(text, "%63s %" SCNd64, j->instance, &j->grace_ms) != 2)
        j->instance[0] = 0;
}

/* {beat_ms, ping_ms, grace_ms, instance}, of a join or a beat. */
static int take_terms(join_t *j, const msgpack_object *v, struct err *err)
{
    int64_t beat, ping, grace;
    CLEANUP(cleanup_free) char *instance = NULL;

    if (mp_get_int(v, "beat_ms", 10, 3600000, &beat, err) < 0 ||
        mp_get_int(v, "ping_ms", 10, 86400000, &ping, err) < 0 ||
        mp_get_int(v, "grace_ms", 0, INT32_MAX, &grace, err) < 0 ||
        mp_get_dup(v, "instance", &instance, err) < 0)
        return -1;
    if (!*instance || strlen(instance) >= sizeof j->instance || strchr(instance, ' '))
        return err_set(err, EPROTO, "instance: want a word");
    if (grace < ping) /* a node is not down before, so nothing is lost before */
        grace = ping;
    j->beat_ms = beat;
    j->heard = now_ms();
    bulk_in_clear(mp_opt_bool(v, "trusted", false));
    if (j->instance[0] && strcmp(j->instance, instance)) {
        give_up(j, "the master was started anew and does not know this space");
        return 0;
    }
    if (!j->instance[0] || j->grace_ms != grace) {
        snprintf(j->instance, sizeof j->instance, "%s", instance);
        j->grace_ms = grace;
        note_master(j);
    }
    return 0;
}

/* Silent for too long? Called whenever an answer has not come. */
static void check_silence(join_t *j)
{
    char why[80];
    int64_t silent = now_ms() - j->heard;

    if (!j->instance[0] || silent < j->grace_ms)
        return;
    snprintf(why, sizeof why, "no word from the master for %" PRId64 " s", silent / 1000);
    give_up(j, why);
}

/* busd lives, if not nodemgr: that is a service being restarted, not a master
 * that is gone. */
static void on_ping(void *arg, const msgpack_object *value, const struct err *err)
{
    join_t *j = arg;

    j->busy = false;
    if (value || err->code != ETIMEDOUT)
        j->heard = now_ms();
    check_silence(j);
    again_in(j, RETRY_MIN_MS);
}

static void ping(join_t *j)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_nil(&m);
    j->busy = true;
    svc_call(j->a->svc, "busd.ping", &m, PING_MS, on_ping, j);
}

/* ---- joining ---- */

static void pack_macs(mp_buf *m)
{
    struct ifaddrs *list = NULL;
    char mac[16][18];
    uint32_t n = 0;

    if (getifaddrs(&list) < 0)
        list = NULL;
    for (const struct ifaddrs *i = list; i && n < 16; i = i->ifa_next) {
        const struct sockaddr_ll *ll = (const void *)i->ifa_addr;
        if (!ll || ll->sll_family != AF_PACKET || ll->sll_hatype != ARPHRD_ETHER ||
            ll->sll_halen != 6)
            continue;
        const unsigned char *x = ll->sll_addr;
        snprintf(mac[n++], sizeof mac[0], "%02x:%02x:%02x:%02x:%02x:%02x", x[0], x[1], x[2],
                 x[3], x[4], x[5]);
    }
    if (list)
        freeifaddrs(list);
    mp_array(m, n);
    for (uint32_t i = 0; i < n; i++)
        mp_str(m, mac[i]);
}

static void log_refusal(join_t *j, const struct err *err)
{
    if (!strcmp(err->text, j->why))
        return;
    snprintf(j->why, sizeof j->why, "%s", err->text);
    svc_log("warning", "not joined: %s; asking again", err->text);
}

static void on_joined(void *arg, const msgpack_object *value, const struct err *err)
{
    join_t *j = arg;
    struct err e = { 0 };
    int64_t node;

    j->busy = false;
    if (j->ending)
        return;
    if (!value) {
        err_set(&e, err->code, "%s", err->text);
    } else if (mp_get_int(value, "node", 0, INT32_MAX, &node, &e) == 0 &&
               take_terms(j, value, &e) == 0) {
        j->joined = true;
        j->why[0] = 0;
        if (j->a->node != (int)node)
            svc_log("info", "joined as node %d", (int)node);
        j->a->node = (int)node;
        way_good(j->a);
        report_kick(j->a->report);
        on_timer(j); /* the first beat at once: we are ready */
        return;
    }
    log_refusal(j, &e);
    if (e.code == ETIMEDOUT) {
        ping(j);
        return;
    }
    j->heard = now_ms(); /* a no is a word too */
    if (e.code == ESTALE) {
        give_up(j, "the master has given this space up");
        return;
    }
    again_slower(j);
}

static void ask_to_join(join_t *j)
{
    CLEANUP(mp_free) mp_buf m;
    struct utsname u;
    struct sysinfo si;

    uname(&u);
    sysinfo(&si);
    mp_init(&m);
    mp_map(&m, 11);
    mp_kint(&m, "version", WIRE_VERSION);
    mp_kstr(&m, "boot", j->a->boot);
    mp_kstr(&m, "space", j->a->space_id);
    mp_key(&m, "macs");
    pack_macs(&m);
    mp_kint(&m, "cpus", sysconf(_SC_NPROCESSORS_ONLN));
    mp_kuint(&m, "mem", (uint64_t)si.totalram * si.mem_unit);
    mp_kstr(&m, "kernel", u.release);
    mp_kstr(&m, "hostname", u.nodename);
    mp_kbool(&m, "ready", space_ready(j->a->space));
    mp_kbool(&m, "boot_key", j->a->boot_key);
    mp_kstr(&m, "image", j->a->image);
    j->busy = true;
    svc_call(j->a->svc, "nodemgr.join", &m, JOIN_MS, on_joined, j);
}

/* ---- beating ---- */

static void on_beaten(void *arg, const msgpack_object *value, const struct err *err)
{
    join_t *j = arg;
    struct err e = { 0 };

    j->busy = false;
    if (j->ending)
        return;
    if (value && take_terms(j, value, &e) == 0) {
        j->retry_ms = RETRY_MIN_MS;
        if (j->a->ready_fd >= 0)
            svc_ready(j->a->ready_fd);
        j->a->ready_fd = -1;
        again_in(j, j->beat_ms);
        return;
    }
    if (!value)
        err_set(&e, err->code, "%s", err->text);
    if (e.code == ETIMEDOUT) {
        ping(j);
        return;
    }
    j->heard = now_ms();
    /* ESTALE: join again. EACCES: a busd that was just started does not know
     * our key yet; joining makes it known. */
    if (e.code == ESTALE || e.code == EACCES) {
        j->joined = false;
        again_slower(j);
        return;
    }
    log_refusal(j, &e);
    again_in(j, j->beat_ms);
}

static void beat(join_t *j)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 4);
    mp_kstr(&m, "boot", j->a->boot);
    mp_kstr(&m, "space", j->a->space_id);
    mp_kbool(&m, "ready", space_ready(j->a->space));
    mp_kuint(&m, "procs", launches_procs(j->a->launches));
    j->busy = true;
    svc_call(j->a->svc, "nodemgr.beat", &m, (int)(j->beat_ms < 1000 ? 1000 : j->beat_ms),
             on_beaten, j);
}

static void on_timer(void *arg)
{
    join_t *j = arg;

    loop_timer_del(j->a->loop, j->timer);
    j->timer = 0;
    if (j->busy || j->ending || !space_ready(j->a->space) || !j->a->svc)
        return;
    if (j->joined)
        beat(j);
    else
        ask_to_join(j);
}

/* ---- life ---- */

void join_space(join_t *j)
{
    j->joined = false;
    if (j->ending) /* it may not have heard */
        space_end(j->a->space, "end");
    else
        again_in(j, 0);
}

void join_connected(join_t *j)
{
    if (!j->busy)
        again_in(j, 0);
    report_kick(j->a->report);
}

join_t *join_create(agent_t *a, struct err *err)
{
    join_t *j = calloc(1, sizeof *j);

    if (!j) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    j->a = a;
    j->retry_ms = RETRY_MIN_MS;
    j->beat_ms = 1000;
    j->heard = now_ms();
    read_note(j);
    return j;
}

void join_destroy(join_t **jp)
{
    join_t *j = *jp;

    if (!j)
        return;
    loop_timer_del(j->a->loop, j->timer);
    free(j);
    *jp = NULL;
}
