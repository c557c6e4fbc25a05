/* ask.c - where we are; addresses of nodes, by way of the gate, remembered */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/gate.h"
#include "bus/loop.h"
#include "bus/nodespec.h"
#include "clients/libnss_bproc/nss.h"

/* Made by a node's agent in the node's root, and only there. */
#define NODE_RUN "/run/clustermatic"
#define REMEMBERED 64

struct known {
    int node; /* NODE_NONE: there is none of this address */
    struct in_addr addr;
    int64_t until;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct known known[REMEMBERED];
static unsigned next_known;
static int64_t rest_until; /* nobody answered: what is remembered must do so long */

static bool read_word(const char *path, char *buf, size_t room)
{
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, room - 1);

    buf[n > 0 ? n : 0] = 0;
    buf[strcspn(buf, "\n")] = 0;
    return *buf;
}

int nss_here(void)
{
    char text[16];
    int node;

    return read_word(NODE_RUN "/node", text, sizeof text) && sscanf(text, "%d", &node) == 1 &&
                   node >= 0
               ? node
               : NODE_MASTER;
}

static struct in_addr master_address(void)
{
    struct in_addr a = { htonl(INADDR_LOOPBACK) };
    char text[64];

    if (nss_here() >= 0 && read_word(NODE_RUN "/master", text, sizeof text))
        inet_aton(text, &a);
    return a;
}

void *nss_take(char **buf, size_t *room, size_t n)
{
    size_t skip = -(uintptr_t)*buf & (sizeof(void *) - 1);

    if (*room < skip || *room - skip < n)
        return NULL;
    void *p = *buf + skip;
    *buf += skip + n;
    *room -= skip + n;
    return p;
}

/* --- one question --- */

/* nodemgr.list of one node: by number or by address. ENOENT: there is none. */
static int ask(const char *spec, struct known *out, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(gate_close) gate_t *g = gate_open_within(nss_here() >= 0 ? NODE_RUN : NULL,
                                                     NSS_WAIT_MS / 2, err);
    int64_t end = now_ms() + NSS_WAIT_MS / 2;
    struct gate_msg msg;
    uint64_t id = 0;

    mp_init(&m);
    mp_map(&m, 1);
    mp_kstr(&m, "spec", spec);
    if (!g || gate_send(g, "nodemgr.list", &m, NSS_WAIT_MS / 2, &id, err) < 0)
        return -1;
    int64_t left = end - now_ms(); /* less than nothing where we were not let run */
    int n = gate_recv(g, left > 0 ? (int)left : 0, &msg, err);
    if (n <= 0)
        return n < 0 ? -1 : err_set(err, ETIMEDOUT, "no answer");
    const msgpack_object *o = &msg.u.data;
    int64_t code = 0;
    if (msg.w.id != id || o->type != MSGPACK_OBJECT_ARRAY) {
        err_set(err, EPROTO, "the answer was not understood");
    } else if (msg.w.kind == WIRE_ERROR) {
        if (o->via.array.size == 0 || !mp_as_int(&o->via.array.ptr[0], &code))
            code = EPROTO;
        err_set(err, (int)code, "refused");
    } else if (o->via.array.size != 1) {
        err_set(err, ENOENT, "not one node");
    } else {
        CLEANUP(cleanup_free) char *addr = mp_opt_dup(&o->via.array.ptr[0], "addr");
        out->node = (int)mp_opt_int(&o->via.array.ptr[0], "node", NODE_NONE);
        if (out->node < 0 || !addr || !inet_aton(addr, &out->addr))
            err_set(err, ENOENT, "it has no address");
    }
    gate_msg_clear(&msg);
    return err->code ? -1 : 0;
}

/* stale: of any age, for when nobody answers. */
static struct known *recall(bool by_addr, int node, struct in_addr addr, bool stale)
{
    for (int i = 0; i < REMEMBERED; i++)
        if (known[i].until && (stale || known[i].until > now_ms()) && (by_addr ? known[i].addr.s_addr == addr.s_addr
                                                  : known[i].node == node))
            return &known[i];
    return NULL;
}

/* With the lock held, which others then wait for: no longer than one question. */
static enum nss_status find(bool by_addr, int node, struct in_addr addr, struct known *out)
{
    char spec[32];
    struct err err = { 0 };
    bool rest = now_ms() < rest_until;
    struct known *k = recall(by_addr, node, addr, rest);

    if (k) {
        *out = *k;
        return k->node == NODE_NONE ? NSS_STATUS_NOTFOUND : NSS_STATUS_SUCCESS;
    }
    if (rest)
        return NSS_STATUS_TRYAGAIN;
    if (by_addr)
        inet_ntop(AF_INET, &addr, spec, sizeof spec);
    else
        snprintf(spec, sizeof spec, "%d", node);
    *out = (struct known){ .node = NODE_NONE, .addr = addr };
    int rc = ask(spec, out, &err);
    bool answered = rc == 0 || err.code == ENOENT || err.code == EINVAL;
    if (!answered) {
        rest_until = now_ms() + NSS_REST_MS;
        if ((k = recall(by_addr, node, addr, true))) {
            *out = *k;
            return k->node == NODE_NONE ? NSS_STATUS_NOTFOUND : NSS_STATUS_SUCCESS;
        }
        return err.code == ECONNREFUSED || err.code == ENOENT ? NSS_STATUS_UNAVAIL
                                                              : NSS_STATUS_TRYAGAIN;
    }
    if (rc < 0)
        out->node = NODE_NONE;
    out->until = now_ms() + NSS_FRESH_MS;
    if (rc == 0 || by_addr)
        known[next_known++ % REMEMBERED] = *out;
    return rc == 0 ? NSS_STATUS_SUCCESS : NSS_STATUS_NOTFOUND;
}

enum nss_status nss_address(int node, struct in_addr *out)
{
    struct known k;

    if (node == NODE_SELF)
        node = nss_here();
    if (node == NODE_MASTER) {
        *out = master_address();
        return NSS_STATUS_SUCCESS;
    }
    if (node < 0 || node > NODE_MAX)
        return NSS_STATUS_NOTFOUND;
    pthread_mutex_lock(&lock);
    enum nss_status rc = find(false, node, (struct in_addr){ 0 }, &k);
    pthread_mutex_unlock(&lock);
    *out = k.addr;
    return rc;
}

enum nss_status nss_node(struct in_addr addr, int *node)
{
    struct known k;

    if (addr.s_addr == htonl(INADDR_LOOPBACK) || addr.s_addr == master_address().s_addr) {
        *node = addr.s_addr == htonl(INADDR_LOOPBACK) ? nss_here() : NODE_MASTER;
        return NSS_STATUS_SUCCESS;
    }
    pthread_mutex_lock(&lock);
    enum nss_status rc = find(true, 0, addr, &k);
    pthread_mutex_unlock(&lock);
    *node = k.node;
    return rc;
}
