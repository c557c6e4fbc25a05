/* serve.c - what machines ask by HTTP, and what they are told
 *
 *   GET  /boot.ipxe, /ipxe/MAC       scripts for iPXE
 *   GET  /next?mac=MAC...            what phase 1 is to fetch, and from whom
 *   GET  /i/HASH[/kernel|/initrd]    images, and their parts
 *   POST /stage?mac=MAC&stage=WORD   how far a machine has come
 *   GET  /status
 *
 * Everything that comes is a stranger's word: lengths, characters and numbers
 * are checked before anything is made of them.
 */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "services/bootsrv/bootsrv.h"
#include "services/bootsrv/http.h"
#include "services/bootsrv/images.h"
#include "services/bootsrv/machines.h"
#include "services/bootsrv/spread.h"
#include "services/bootsrv/wanted.h"

#define HOLD_S 10
#define HOLD_MAX_S 30
#define MACS 16
#define AGAIN_MS 2000 /* how soon a machine that waits asks again */

static void say(struct answer *out, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void say(struct answer *out, int code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&out->text, fmt, ap) < 0)
        out->text = NULL;
    va_end(ap);
    out->code = out->text ? code : 500;
}

static int64_t number(const char *text, int64_t min, int64_t max, int64_t dflt)
{
    char *end;

    if (!text || !isdigit((unsigned char)*text))
        return dflt;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    return errno || *end || v < min || v > max ? dflt : v;
}

/* The interface that an address of ours belongs to, by the configuration. */
static const char *interface_of(const bootsrv_t *b, const char *here)
{
    size_t n = strcspn(here, ":");

    for (size_t i = 0; i < b->nnets; i++)
        if (strlen(b->net[i].addr) == n && strncmp(b->net[i].addr, here, n) == 0)
            return b->net[i].name;
    return "";
}

/* ---- images ---- */

const char *serve_file(const bootsrv_t *b, int node, bool first)
{
    const struct cm_node *n = config_node(b->config, node);
    const char *set = wanted_file(b->wanted, node);

    if (!n)
        return NULL;
    return first && n->phase1 ? n->phase1 : set ? set : n->bootfile;
}

/* The image that a node is to run, or (first) that it is given first. */
static const struct picture *image_of(bootsrv_t *b, int node, bool first, struct err *err)
{
    const char *file = serve_file(b, node, first);

    if (!file) {
        err_set(err, ENOENT, "no bootfile line is for node %d", node);
        return NULL;
    }
    return images_for(b->images, file, err);
}

static void get_image(bootsrv_t *b, const struct ask *a, struct answer *out)
{
    const char *hash = a->path + strlen("/i/");
    size_t n = strcspn(hash, "/");
    const struct picture *p = images_by_hash(b->images, hash, n);
    const char *part = hash + n;

    if (!p) {
        say(out, 404, "no such image\n");
        return;
    }
    out->fd = p->im.fd;
    if (!*part) {
        out->size = p->im.size;
    } else if (strcmp(part, "/kernel") == 0 || strcmp(part, "/initrd") == 0) {
        const struct image_part *q = part[1] == 'k' ? &p->im.kernel : &p->im.initrd;
        out->offset = q->offset;
        out->size = q->size;
    } else {
        out->fd = -1;
        say(out, 404, "no such part\n");
        return;
    }
    out->code = 200;
}

/* The parts, once for each machine that takes them: a stage of its boot. */
void serve_sent(void *arg, const struct ask *a, uint64_t bytes)
{
    bootsrv_t *b = arg;
    const char *hash = a->path + strlen("/i/");
    size_t n = strcspn(hash, "/");
    struct picture *p = images_by_hash(b->images, hash, n);

    if (p)
        p->sent += bytes;
    if (!p || !hash[n])
        return;
    char mac[MAC_TEXT];
    const char *text = ask_query(a, "mac");
    struct machine *m = text && mac_normalise(text, mac) ? machines_mac(b->machines, mac, a->peer, NULL)
                                                         : NULL;
    if (m)
        machine_stage(b->machines, m, hash + n + 1, -1, false, NULL);
}

/* ---- the command line ---- */

static void pack_cmdline(const bootsrv_t *b, const struct ask *a, const struct machine *m,
                         const char *hash, FILE *f)
{
    fprintf(f, "cm.master=%.*s:%u cm.boot=%s cm.node=%d cm.image=%s cm.mac=%s",
            (int)strcspn(a->here, ":"), a->here, b->config->port, a->here, m->node, hash, m->mac);
}

/* ---- iPXE ---- */

static void entry_script(const struct ask *a, struct answer *out)
{
    say(out, 200, "#!ipxe\n"
                  ":again\n"
                  "chain --replace http://%s/ipxe/${netX/mac:hexhyp} ||\n"
                  "chain --replace http://%s/ipxe/${net0/mac:hexhyp} ||\n"
                  "echo Clustermatic: the master at %s does not answer; trying again\n"
                  "sleep 2\n"
                  "goto again\n", a->here, a->here, a->here);
}

static void waiting_script(const struct ask *a, const char *mac, const char *why, struct answer *out)
{
    say(out, 200, "#!ipxe\n"
                  ":again\n"
                  "echo Clustermatic: this machine is %s: %s\n"
                  "sleep 2\n"
                  "chain --replace http://%s/ipxe/%s ||\n"
                  "goto again\n", mac, why, a->here, mac);
}

static void ipxe_script(bootsrv_t *b, const struct ask *a, struct answer *out)
{
    char mac[MAC_TEXT];
    struct err err = { 0 };

    if (!mac_normalise(a->path + strlen("/ipxe/"), mac)) {
        say(out, 400, "that is no hardware address\n");
        return;
    }
    struct machine *m = machines_mac(b->machines, mac, a->peer, interface_of(b, a->here));
    if (!m) {
        say(out, 503, "out of memory\n");
        return;
    }
    if (m->node < 0) {
        waiting_script(a, mac, "no line of the configuration names it (nodeadd adds it); waiting", out);
        return;
    }
    const struct picture *p = image_of(b, m->node, true, &err);
    if (!p && err.code == EAGAIN && a->waited_ms < 5000) {
        out->hold_ms = 5000;
        return;
    }
    machine_stage(b->machines, m, "ipxe", -1, !p, err.text);
    if (!p) {
        waiting_script(a, mac, err.text, out);
        return;
    }
    size_t len;
    FILE *f = open_memstream(&out->text, &len);
    if (!f)
        return;
    snprintf(m->image, sizeof m->image, "%s", p->hash);
    fprintf(f, "#!ipxe\n"
               "echo Clustermatic: node %d, Linux %s\n"
               "kernel http://%s/i/%s/kernel?mac=%s %s ", m->node, p->im.release, a->here, p->hash,
            mac, p->im.cmdline);
    pack_cmdline(b, a, m, p->hash, f);
    fprintf(f, " initrd=initrd || goto failed\n"
               "initrd --name initrd http://%s/i/%s/initrd?mac=%s || goto failed\n"
               "boot || goto failed\n"
               ":failed\n"
               "echo Clustermatic: this did not work; trying again\n"
               "sleep 2\n"
               "chain --replace http://%s/ipxe/%s\n", a->here, p->hash, mac, a->here, mac);
    fclose(f);
    out->code = out->text ? 200 : 500;
}

/* ---- /next ---- */

/* The machine by its cards: one that the configuration names, else the first. */
static struct machine *machine_of(bootsrv_t *b, const struct ask *a)
{
    char mac[MACS][MAC_TEXT];
    const char *text;
    int n = 0;

    for (int i = 0; n < MACS && (text = ask_query_nth(a, "mac", i)); i++)
        n += mac_normalise(text, mac[n]);
    for (int i = 0; i < n; i++)
        for (size_t k = 0; k < b->config->nnodes; k++)
            for (size_t j = 0; j < b->config->nodes[k].macs.n; j++)
                if (strcmp(b->config->nodes[k].macs.v[j], mac[i]) == 0)
                    return machines_mac(b->machines, mac[i], a->peer, interface_of(b, a->here));
    return n ? machines_mac(b->machines, mac[0], a->peer, interface_of(b, a->here)) : NULL;
}

/* "http://ADDR:PORT/..." that was of no use */
static void take_failed(bootsrv_t *b, const struct ask *a, const struct machine *m,
                        const char *url)
{
    static const char *const words[] = { "is slow", "is gone", "has sent a damaged chunk" };
    const char *text = ask_query(a, "why");
    enum spread_why why = !text ? SPREAD_SLOW : strcmp(text, "damaged") == 0 ? SPREAD_DAMAGED
                          : strcmp(text, "gone") == 0 ? SPREAD_GONE : SPREAD_SLOW;
    char addr[16];
    unsigned port;

    if (!url || sscanf(url, "http://%15[0-9.]:%5u/", addr, &port) != 2 || port > 65535)
        return;
    if (strncmp(a->here, addr, strlen(addr)) == 0 && a->here[strlen(addr)] == ':')
        return; /* that is us */
    svc_log(why == SPREAD_DAMAGED ? "warning" : "info", "node %d: its neighbour %s:%u %s", m->node,
            addr, port, words[why]);
    spread_failed(b->spread, m->mac, addr, (uint16_t)port, why);
}

static void next(bootsrv_t *b, const struct ask *a, struct answer *out)
{
    struct machine *m = machine_of(b, a);
    int64_t hold = 1000 * number(ask_query(a, "wait"), 0, HOLD_MAX_S, HOLD_S);
    int64_t port = number(ask_query(a, "port"), 1, 65535, 0);
    struct err err = { 0 };
    char peer[80];

    if (!m) {
        say(out, 400, "which machine? mac=MAC is missing\n");
        return;
    }
    take_failed(b, a, m, ask_query(a, "failed"));
    if (ask_query(a, "done")) {
        spread_done(b->spread, m->mac);
        say(out, 200, "done\n");
        return;
    }
    if (m->node < 0 && a->waited_ms < hold) {
        out->hold_ms = hold;
        return;
    }
    if (m->node < 0) {
        say(out, 202, "wait %d\nno line of the configuration names %s (nodeadd adds it)\n", AGAIN_MS,
            m->mac);
        return;
    }
    const struct picture *p = image_of(b, m->node, false, &err);
    if (!p && err.code == EAGAIN && a->waited_ms < HOLD_MAX_S * 1000) {
        out->hold_ms = HOLD_MAX_S * 1000;
        return;
    }
    if (!p) {
        machine_stage(b->machines, m, "fetch", -1, true, err.text);
        say(out, err.code == ENOENT ? 404 : 503, "%s\n", err.text);
        return;
    }
    bool other = spread_ask(b->spread, m->mac, p->hash, a->peer, (uint16_t)port, now_ms(), peer,
                            sizeof peer);
    size_t len;
    FILE *f = open_memstream(&out->text, &len);
    if (!f)
        return;
    machine_stage(b->machines, m, "fetch", -1, false, NULL);
    snprintf(m->image, sizeof m->image, "%s", p->hash);
    fprintf(f, "image %s\nsize %llu\nnode %d\nchunk %u\nsums %s\n", p->hash,
            (unsigned long long)p->im.size, m->node, IMAGE_CHUNK, p->sums);
    if (other)
        fprintf(f, "from http://%s/i/%s\n", peer, p->hash);
    fprintf(f, "from http://%s/i/%s\nserve %d\ncmdline ", a->here, p->hash,
            (b->config->send.resend_timeout_ms + 999) / 1000);
    pack_cmdline(b, a, m, p->hash, f);
    fputc('\n', f);
    fclose(f);
    out->code = out->text ? 200 : 500;
}

/* ---- /stage ---- */

static void stage(bootsrv_t *b, const struct ask *a, struct answer *out)
{
    const char *word = ask_query(a, "stage"), *result = ask_query(a, "result");
    struct machine *m = machine_of(b, a);

    if (!m || !word) {
        say(out, 400, "want mac=MAC and stage=WORD\n");
        return;
    }
    if (strcmp(word, "fetched") == 0 || (result && strcmp(result, "error") == 0))
        spread_done(b->spread, m->mac);
    if (machine_stage(b->machines, m, word, number(ask_query(a, "ms"), 0, INT64_MAX / 2, -1),
                      result && strcmp(result, "error") == 0, a->body) < 0)
        say(out, 400, "no such stage\n");
    else
        say(out, 204, "%s", "");
}

/* ---- all of it ---- */

static bool begins(const char *s, const char *with) { return strncmp(s, with, strlen(with)) == 0; }

void serve(void *arg, const struct ask *a, struct answer *out)
{
    bootsrv_t *b = arg;
    bool get = strcmp(a->method, "GET") == 0 || strcmp(a->method, "HEAD") == 0;

    if (!b->config || !*a->here)
        say(out, 503, "not yet\n");
    else if (get && begins(a->path, "/i/"))
        get_image(b, a, out);
    else if (get && strcmp(a->path, "/boot.ipxe") == 0)
        entry_script(a, out);
    else if (get && begins(a->path, "/ipxe/"))
        ipxe_script(b, a, out);
    else if (get && strcmp(a->path, "/next") == 0)
        next(b, a, out);
    else if (get && strcmp(a->path, "/status") == 0)
        say(out, 200, "ok\n");
    else if (strcmp(a->method, "POST") == 0 && strcmp(a->path, "/stage") == 0)
        stage(b, a, out);
    else if (!get && strcmp(a->method, "POST") != 0)
        say(out, 405, "only GET and POST\n");
    else
        say(out, 404, "nothing is here\n");
}
