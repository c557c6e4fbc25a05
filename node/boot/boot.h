/* boot.h - the first program of a node, from the inside
 *
 * bpboot is /init of every boot image. Phase 1 finds the network, fetches the
 * image that the master has for this node, and starts its kernel. Phase 2
 * finds the network and becomes the machine around bpinit and bpnode, as
 * bpvnode is around those of a virtual node.
 *
 *   main.c       the order of things; what happens when one of them fails
 *   params.c     what the kernel's command line and the image say
 *   modules.c    drivers for the devices that are there
 *   dhcp.c       DHCP packets; no I/O
 *   net.c        cards, all side by side, until one has an answer
 *   tell.c       telling the boot server how far we are
 *   phase1.c     phase 1: the image (fetch.c), and into its kernel (kexec.c)
 *   life.c       phase 2: bpinit and bpnode, until the machine goes down
 *
 * Static, one thread, no ZeroMQ; everything is made for a machine on which
 * nobody can look at it: each failure says on the console what failed.
 */
#ifndef NODE_BOOT_H
#define NODE_BOOT_H
#include <stdbool.h>
#include <stdint.h>
#include "bus/err.h"
#include "bus/image.h"

#define BOOT_MAC 18 /* "52:54:00:77:00:10" and NUL */
#define BOOT_ADDR 16 /* IPv4 in dots and NUL */

/* How often and how long DHCP is asked: config.boot's "rarp" lines. */
struct pace {
    double initial_delay, max_delay, backoff, max_time, rand; /* seconds; factors */
};

struct params {
    int phase;
    char release[96];        /* of the kernel that the image is for */
    char master[BOOT_ADDR];  /* "": where the DHCP answer came from */
    int port;                /* of the bus */
    char server[32];         /* boot server, ADDRESS:PORT; "": by DHCP, else the master's */
    int node;                /* -1: not known yet */
    char image[IMAGE_HASH];  /* hash of the running image; "" */
    char card[32];           /* only this one: name or MAC; "": all */
    char first[BOOT_MAC];    /* the card that the firmware booted from; "" */
    char ip[BOOT_ADDR], gateway[BOOT_ADDR]; /* "": by DHCP */
    int prefix;
    struct pace pace;
    char *cmdline;           /* the whole of it, for module parameters */
    char *config;            /* the image's config.boot, as beoboot wrote it; "" */
};

/* The kernel's command line. Words that make no sense are said and passed over:
 * a node must boot. */
int params_read(struct params *p, const char *cmdline, struct err *err);
/* /etc/clustermatic/image and config.boot of the initramfs (texts, not paths). */
int params_image(struct params *p, const char *facts, const char *config, struct err *err);
void params_free(struct params *p);
/* The next line "WORD rest" of the config from *at on; false: no more. */
bool params_line(const struct params *p, const char **at, char word[32], char rest[512]);
/* "52-54-00-..", "52:54:00:..": the latter, lower case. */
bool params_mac(const char *text, char out[BOOT_MAC]);

/* ---- modules.c ---- */
typedef struct modules modules_t;
modules_t *modules_open(const struct params *p, struct err *err);
void modules_close(modules_t **m);
/* What config.boot asks for; then drivers of all devices seen in /sys, again
 * and again while that makes more devices appear. How many were loaded. */
int modules_config(modules_t *m, const struct params *p);
int modules_devices(modules_t *m);
/* This one, if the image has it. */
void modules_named(modules_t *m, const char *name);
/* Matching alone, for tests: the module of a device, or NULL. */
const char *modules_match(const modules_t *m, const char *modalias, int nth);
modules_t *modules_parse(char *index, const struct params *p, struct err *err);

/* ---- dhcp.c: addresses in network byte order, times in seconds ---- */
#define DHCP_ROOM 600
enum { DHCP_DISCOVER = 1, DHCP_OFFER, DHCP_REQUEST, DHCP_DECLINE, DHCP_ACK, DHCP_NAK };
struct dhcp {
    int type;
    uint32_t addr, mask, router, server, next, lease;
    int mtu;               /* 0: not said */
    char host[64];         /* option 12 */
    char boot[32];         /* option 224: ADDRESS:PORT of the boot server */
};
/* A request of this type; of: what a DHCP_REQUEST takes (or renews, then our
 * address is in use). Its length. */
size_t dhcp_pack(unsigned char out[DHCP_ROOM], int type, const uint8_t mac[6], uint32_t xid,
                 const struct dhcp *of, bool renew);
/* False: no answer to us, or no DHCP at all. */
bool dhcp_parse(const unsigned char *in, size_t n, const uint8_t mac[6], uint32_t xid,
                struct dhcp *out);

/* ---- net.c ---- */
struct net {
    char card[16];
    uint8_t mac[6];
    char mac_text[BOOT_MAC];
    char addr[BOOT_ADDR], master[BOOT_ADDR]; /* master: as DHCP says; "" */
    int prefix;
    struct dhcp dhcp;      /* type 0: the address was given, not asked for */
    char others[8][BOOT_MAC]; /* MACs of all cards, this one first; "" ends */
    int timers;            /* waits that no answer ended, but their time */
};
/* Until a card has an address, or for p->pace.max_time. rescan is called
 * between rounds: devices may still appear. */
int net_find(struct net *net, const struct params *p, void (*rescan)(void *), void *arg,
             struct err *err);
/* Ask for the lease again; false: no answer within a second. */
bool net_renew(struct net *net);
/* Before the machine ends: a kernel that takes its card away while that still hears
 * something may never get to the end. */
void net_down(const struct net *net);

/* ---- tell.c ---- */
void tell_where(const char *server, const char *mac); /* before: nothing is told */
void tell(const char *stage);
void tell_end(void); /* nothing more comes */
/* That the last stage has failed, why, and the console's last lines; waits a
 * second at most. */
void tell_failure(const char *text);

/* ---- phase1.c ---- */
/* Returns only on failure. server: ADDRESS:PORT. */
int phase1_run(const char *server, const struct net *net, struct err *err);

/* ---- kexec.c ---- */
/* Load the image's kernel and initramfs, check their hashes, go there. Returns
 * only on failure. The image's file is used up. */
int kexec_go(const struct image *im, const char *cmdline, struct err *err);

/* ---- life.c ---- */
#define WATCHDOG "/dev/watchdog"
enum { LIFE_REBOOT, LIFE_HALT, LIFE_PWROFF };
/* Be the node until the machine's life is over; what to do then. */
int life_run(const struct params *p, struct net *net, struct err *err);

/* ---- main.c ---- */
void boot_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int64_t boot_ms(void); /* since the kernel started */
/* A file of at most max bytes as a text; "" when it cannot be read. NULL: no memory. */
char *boot_text(const char *path, size_t max);

#endif
