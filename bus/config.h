/* config.h - /etc/clustermatic/config, read by one parser for all programs
 *
 * config_load() reads the whole file and gives back a checked cm_config, or
 * one error "FILE:LINE: what, and what would be right". What is odd but does
 * no harm (an unknown word, an obsolete one) is a warning with its line.
 * Numbers, addresses and hardware addresses are checked and normalised; host
 * names are not looked up. Times are in milliseconds. Threads: none.
 * Syntax and directives: config(5).
 */
#ifndef BUS_CONFIG_H
#define BUS_CONFIG_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "bus/err.h"

struct strlist {
    char **v;
    size_t n;
};
void strlist_free(struct strlist *l); /* fits CLEANUP() */
int strlist_add(struct strlist *l, const char *text); /* copies; -1 no memory */

struct cm_node {
    int number;
    struct strlist addrs; /* "198.18.1.0", as inet_ntop() writes them */
    struct strlist macs;  /* "02:c6:12:00:00:0a" */
    char *bootfile;       /* NULL: none */
    char *phase1;         /* the image that is given first, to fetch that; NULL: none */
    int line;             /* where the file first names it */
};

struct cm_interface {
    char *name, *addr, *mask; /* addr and mask may be NULL */
    int line;
};

struct cm_config {
    char *file;
    struct cm_node *nodes; /* ascending by number */
    size_t nnodes;
    struct cm_interface *interfaces;
    size_t ninterfaces;
    struct strlist *masters; /* one a master line: its addresses, "HOST:PORT" */
    size_t nmasters;

    uint16_t port; /* bprocport */
    bool insecure_ports;
    int log_facility; /* as for openlog() */
    int pingtimeout_ms, grace_ms;
    bool timesync, privatefs;
    bool trusted; /* the nodes' network: what is much goes in clear text */
    char *bootfile; /* the plain line; NULL: none */
    struct {
        enum { DHCP_AUTO, DHCP_FULL, DHCP_PROXY, DHCP_OFF } mode; /* AUTO: FULL if anything boots */
        char *first, *last; /* pool for machines that no line names; NULL: chosen */
    } dhcp;
    struct {
        uint16_t port;
        int connect_timeout_ms, resend_timeout_ms, io_timeout_ms;
    } send;
    struct {
        int max_clients, startup_delay_ms;
        char *listen_path, *worker; /* NULL: the built-in one */
        char *log_level;
    } node_up;
    char *kernel_image, *kernel_command_line; /* NULL: none */
    struct strlist libraries, libraries_from_binary;
};

/* A file locked by a writer is waited for, up to a second (then EBUSY).
 * warnings may be NULL; they are given on failure too. NULL: *err. */
struct cm_config *config_load(const char *path, struct strlist *warnings, struct err *err);
void config_free(struct cm_config **c);

/* Any file of this syntax: fn for each line that has words, in order, until it
 * returns -1. What it puts into err gets "FILE:LINE: " in front. */
typedef int config_line_fn(void *arg, int argc, char **argv, struct err *err);
int config_each_line(const char *path, config_line_fn *fn, void *arg, struct err *err);

const struct cm_node *config_node(const struct cm_config *c, int number); /* NULL: none */

/* "0:E0:4c.c3.d3.32" or 12 digits -> "00:e0:4c:c3:d3:32"; false: no MAC. */
#define MAC_TEXT 18
bool mac_normalise(const char *text, char out[MAC_TEXT]);

#endif
