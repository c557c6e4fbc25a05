/* bootsrv.h - the service from the inside: what its parts share
 *
 *   main.c      command line, start-up
 *   methods.c   requests
 *   conf.c      the configuration that nodemgr has in force
 *   setup.c     node_up, node_down: who waits, who runs, how many at once
 *   http.c      requests by HTTP; serve.c what they are answered; send.c files
 *   images.c    boot images, by their hash
 *   machines.c  who boots, and how far each has come
 *   spread.c    who fetches an image from whom
 *   wanted.c    images that people have set
 *   history.c   each node's last boot, over a restart
 *   dhcp.c      DHCP and TFTP, by dnsmasq
 *
 * One thread. What takes time is done by children: bpsetup(8) for a node's
 * set-up, dnsmasq for DHCP and TFTP.
 */
#ifndef BOOTSRV_BOOTSRV_H
#define BOOTSRV_BOOTSRV_H
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "bus/config.h"
#include "bus/loop.h"
#include "bus/svc.h"

typedef struct setup setup_t;
typedef struct machines machines_t;
struct http;
struct images;
struct spread;
struct dhcp;
struct wanted;
struct history;
struct store;
struct picture;
struct ask;
struct answer;

struct net { /* an interface of the configuration, as it is now */
    char name[16], addr[16], mask[16];
};
#define NETS_MAX 16

typedef struct bootsrv {
    loop_t *loop;
    svc_t *svc;
    int ready_fd;
    struct cm_config *config; /* NULL: nodemgr has told none yet */
    char file[PATH_MAX];      /* where it was read from; hooks lie beside it */
    int64_t generation;
    struct net net[NETS_MAX];
    size_t nnets;
    int nets_timer;
    setup_t *setup;
    struct http *http;
    struct images *images;
    machines_t *machines;
    struct spread *spread;
    struct dhcp *dhcp;
    struct store *store; /* STATEDIR/bootsrv.db */
    struct wanted *wanted;
    struct history *history; /* NULL at first */
} bootsrv_t;

extern const struct svc_method bootsrv_methods[];

/* ---- conf.c ---- */
/* Ask nodemgr what is in force, and take it over; again when it is another. */
void conf_connected(void *b);
int conf_open(bootsrv_t *b, struct err *err);
/* SIGHUP: nodemgr reads the file again, and tells everybody. */
void conf_hangup(void *b, int signo);
/* "FOLDER/name" beside the configuration; PATH_MAX. */
char *conf_beside(const bootsrv_t *b, const char *name, char *buf);

/* ---- serve.c: for http_create() ---- */
void serve(void *b, const struct ask *a, struct answer *out);
/* The file that a node is to run, NULL: none; first: that it is given first. */
const char *serve_file(const bootsrv_t *b, int node, bool first);
void serve_sent(void *b, const struct ask *a, uint64_t bytes);

/* ---- setup.c ---- */
setup_t *setup_create(bootsrv_t *b, struct err *err);
void setup_destroy(setup_t **s);
/* This node waits for its set-up; asking twice is fine. */
void setup_want(setup_t *s, int node, const char *space);
/* Nobody can set this space up any more: end what runs, and run node_down. */
void setup_lost(setup_t *s, int node, const char *space, const char *why);
/* Ask nodemgr who waits, and who is there since when: what was said before we were. */
void setup_look(setup_t *s);
/* The limit may be another. */
void setup_limit(setup_t *s, int at_once);
void setup_pack(const setup_t *s, mp_buf *out); /* [[node, script, pid, begun ms]...] */

#endif
