/* config_tags.c - what each line of the configuration means, and what is legal */
#include "bus/config_parse.h"
#include "bus/nearest.h"
#include "bus/nodespec.h"
#include "bus/rundir.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#define SYSLOG_NAMES
#include <syslog.h>

#define DAY_MS (24 * 3600 * 1000)

int config_defaults(struct cm_config *c)
{
    c->port = CM_PORT;
    c->log_facility = LOG_DAEMON;
    c->pingtimeout_ms = 30 * 1000;
    c->grace_ms = -1; /* config_finish(): as pingtimeout */
    c->timesync = true;
    c->send.port = 4711;
    c->send.connect_timeout_ms = 2500;
    c->send.resend_timeout_ms = 5000;
    c->send.io_timeout_ms = 5000;
    c->node_up.max_clients = 256;
    c->node_up.startup_delay_ms = 1500;
    c->node_up.log_level = strdup("info");
    return c->node_up.log_level ? 0 : -1;
}

/* ---- values ---- */

static int put_text(struct parser *p, char **where, const char *text)
{
    char *copy = strdup(text);

    if (!copy)
        return config_nomem(p);
    free(*where);
    *where = copy;
    return 0;
}

static int put_list(struct parser *p, struct strlist *l, int n, char **texts)
{
    for (int i = 0; i < n; i++)
        if (strlist_add(l, texts[i]) < 0)
            return config_nomem(p);
    return 0;
}

static bool digits(const char *s)
{
    return *s && s[strspn(s, "0123456789")] == '\0';
}

static bool integer(const char *s, int min, int max, int *out)
{
    if (!digits(s) || strlen(s) > 9)
        return false;
    int v = atoi(s); /* at most nine digits: it fits */
    if (v < min || v > max)
        return false;
    *out = v;
    return true;
}

static int want_node(struct parser *p, const char *s, int *out)
{
    if (!integer(s, 0, NODE_MAX, out))
        return config_bad(p, "\"%s\" is no node number; want 0 to %d", s, NODE_MAX);
    return 0;
}

static int want_yes(struct parser *p, const char *tag, const char *s, bool *out)
{
    if (strcmp(s, "yes") != 0 && strcmp(s, "no") != 0)
        return config_bad(p, "%s: \"%s\"; want yes or no", tag, s);
    *out = *s == 'y';
    return 0;
}

/* Seconds, a fraction allowed: "2.5". */
static int want_seconds(struct parser *p, const char *tag, const char *s, int min_ms, int *out)
{
    size_t whole = strspn(s, "0123456789");
    size_t frac = s[whole] == '.' ? strspn(s + whole + 1, "0123456789") + 1 : 0;
    double v = whole + frac > 0 && whole <= 9 ? strtod(s, NULL) * 1000 : -1;

    if ((whole == 0 && frac < 2) || s[whole + frac] || v < min_ms || v > DAY_MS)
        return config_bad(p, "%s: \"%s\"; want seconds, %g to %d", tag, s, min_ms / 1000.0,
                          DAY_MS / 1000);
    *out = (int)(v + 0.5);
    return 0;
}

static int want_port(struct parser *p, const char *tag, const char *proto, const char *s,
                     int max, uint16_t *out)
{
    const struct servent *service = digits(s) ? NULL : getservbyname(s, proto);
    int port = service ? ntohs((uint16_t)service->s_port) : 0;

    if (!service && !integer(s, 1, max, &port))
        return config_bad(p, "%s: \"%s\"; want a port, 1 to %d, or the name of a service in "
                          "/etc/services", tag, s, max);
    if (port > max)
        return config_bad(p, "%s: %s is port %d; want 1 to %d", tag, s, port, max);
    *out = (uint16_t)port;
    return 0;
}

struct ip {
    int family;
    size_t len;
    unsigned char b[16];
};

static int want_ip(struct parser *p, const char *s, struct ip *ip)
{
    for (int v6 = 0; v6 < 2; v6++) {
        ip->family = v6 ? AF_INET6 : AF_INET;
        ip->len = v6 ? 16 : 4;
        if (inet_pton(ip->family, s, ip->b) == 1)
            return 0;
    }
    return config_bad(p, "\"%s\" is no address; want four numbers as in 198.18.1.10", s);
}

static int ip_cmp(const struct ip *a, const struct ip *b)
{
    return memcmp(a->b, b->b, a->len);
}

static void ip_next(struct ip *ip)
{
    for (size_t i = ip->len; i-- > 0 && ++ip->b[i] == 0;)
        ;
}

/* ---- nodes ---- */

/* The node with this number, made if it is new. The pointer holds until the
 * next call. */
static struct cm_node *node_at(struct parser *p, int number)
{
    struct cm_config *c = p->c;
    size_t lo = node_place(c->nodes, c->nnodes, sizeof *c->nodes, number);

    if (lo < c->nnodes && c->nodes[lo].number == number)
        return &c->nodes[lo];
    if ((c->nnodes & (c->nnodes - 1)) == 0) { /* full at each power of two */
        size_t alloc = c->nnodes ? c->nnodes * 2 : 1;
        struct cm_node *more = realloc(c->nodes, alloc * sizeof *more);
        if (!more) {
            config_nomem(p);
            return NULL;
        }
        c->nodes = more;
    }
    memmove(&c->nodes[lo + 1], &c->nodes[lo], (c->nnodes - lo) * sizeof c->nodes[0]);
    c->nnodes++;
    c->nodes[lo] = (struct cm_node){ .number = number, .line = p->line };
    return &c->nodes[lo];
}

static int add_address(struct parser *p, int number, const struct ip *ip)
{
    char text[INET6_ADDRSTRLEN];
    struct cm_node *node;

    if (number > NODE_MAX)
        return config_bad(p, "this goes beyond node %d", NODE_MAX);
    node = node_at(p, number);
    if (!node)
        return -1;
    inet_ntop(ip->family, ip->b, text, sizeof text);
    return strlist_add(&node->addrs, text) < 0 ? config_nomem(p) : 0;
}

static int on_ip(struct parser *p, int argc, char **argv)
{
    int node = p->next_addr, i = 1;
    struct ip ip;

    if (digits(argv[1])) {
        if (want_node(p, argv[i++], &node) < 0)
            return -1;
        if (argc == 2)
            return config_bad(p, "too few arguments for ip: want ip [NODE] ADDRESS...");
    }
    for (; i < argc; i++)
        if (want_ip(p, argv[i], &ip) < 0 || add_address(p, node, &ip) < 0)
            return -1;
    p->next_addr = node + 1;
    return 0;
}

static int on_iprange(struct parser *p, int argc, char **argv)
{
    int node = p->next_addr;
    struct ip first, last;

    if (argc == 3 && digits(argv[1]))
        return config_bad(p, "too few arguments for iprange: want iprange [NODE] FIRST LAST");
    if (argc == 4 && want_node(p, argv[1], &node) < 0)
        return -1;
    if (want_ip(p, argv[argc - 2], &first) < 0 || want_ip(p, argv[argc - 1], &last) < 0)
        return -1;
    if (first.family != last.family || ip_cmp(&first, &last) > 0)
        return config_bad(p, "iprange: %s comes after %s; want the lower address first",
                          argv[argc - 2], argv[argc - 1]);
    for (;;) {
        if (add_address(p, node++, &first) < 0)
            return -1;
        if (ip_cmp(&first, &last) == 0)
            break;
        ip_next(&first);
    }
    p->next_addr = node;
    return 0;
}

static int on_node(struct parser *p, int argc, char **argv)
{
    char mac[MAC_TEXT];
    int number = p->next_mac, i = 1;

    /* Twelve digits are a hardware address without separators. */
    if (argc > 1 && digits(argv[1]) && strlen(argv[1]) != 12 &&
        want_node(p, argv[i++], &number) < 0)
        return -1;
    if (argc == 2 && i == 2) {
        p->next_mac = number; /* "node 5" alone only sets the counter */
        return 0;
    }
    if (number > NODE_MAX)
        return config_bad(p, "this goes beyond node %d", NODE_MAX);
    for (; i < argc; i++) {
        if (!mac_normalise(argv[i], mac))
            return config_bad(p, "node: \"%s\" is no hardware address; want six hex bytes "
                              "as in 00:e0:4c:c3:d3:32", argv[i]);
        struct cm_node *node = node_at(p, number);
        if (!node)
            return -1;
        if (strlist_add(&node->macs, mac) < 0)
            return config_nomem(p);
    }
    p->next_mac = number + 1;
    return 0;
}

/* ---- the other lines ---- */

static int on_interface(struct parser *p, int argc, char **argv)
{
    struct cm_config *c = p->c;
    struct cm_interface *more = realloc(c->interfaces, (c->ninterfaces + 1) * sizeof *more);
    struct ip ip;

    if (!more)
        return config_nomem(p);
    c->interfaces = more;
    struct cm_interface *it = &more[c->ninterfaces++];
    *it = (struct cm_interface){ .line = p->line };
    if (strlen(argv[1]) > 15 || strchr(argv[1], '/'))
        return config_bad(p, "interface: \"%s\" is no name of an interface; "
                          "\"ip link\" lists them", argv[1]);
    for (int i = 2; i < argc; i++)
        if (want_ip(p, argv[i], &ip) < 0)
            return -1;
    if (put_text(p, &it->name, argv[1]) < 0 ||
        (argc > 2 && put_text(p, &it->addr, argv[2]) < 0) ||
        (argc > 3 && put_text(p, &it->mask, argv[3]) < 0))
        return -1;
    return 0;
}

static int on_port(struct parser *p, int argc, char **argv)
{
    (void)argc; /* the three ports behind it are ours too */
    return want_port(p, argv[0], "tcp", argv[1], 65535 - CM_PORT_CONTENT, &p->c->port);
}

static int on_insecure(struct parser *p, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    p->c->insecure_ports = true;
    return 0;
}

static int on_facility(struct parser *p, int argc, char **argv)
{
    (void)argc;
    for (const CODE *f = facilitynames; f->c_name; f++) {
        if (strcasecmp(f->c_name, argv[1]) == 0) {
            p->c->log_facility = f->c_val;
            return 0;
        }
    }
    return config_bad(p, "logfacility: \"%s\" is none; want daemon, user, local0 to local7 "
                      "or another of syslog(3)", argv[1]);
}

static int on_pingtimeout(struct parser *p, int argc, char **argv)
{
    (void)argc;
    return want_seconds(p, argv[0], argv[1], 2000, &p->c->pingtimeout_ms);
}

static int on_grace(struct parser *p, int argc, char **argv)
{
    (void)argc;
    return want_seconds(p, argv[0], argv[1], 0, &p->c->grace_ms);
}

static int on_timesync(struct parser *p, int argc, char **argv)
{
    (void)argc;
    return want_yes(p, argv[0], argv[1], &p->c->timesync);
}

static int on_trusted(struct parser *p, int argc, char **argv)
{
    (void)argc;
    return want_yes(p, argv[0], argv[1], &p->c->trusted);
}

/* "send", "slave" and "node_up" lines: their second word must be known. */
static int bad_subtag(struct parser *p, char **argv, const char *const *known, size_t n)
{
    const char *near = nearest_word(argv[1], known, n);
    char all[160] = "";

    for (size_t i = 0; i < n; i++)
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s",
                 i ? i + 1 < n ? ", " : " or " : "", known[i]);
    if (near)
        return config_bad(p, "%s: unknown word \"%s\"; did you mean %s?", argv[0], argv[1],
                          near);
    return config_bad(p, "%s: unknown word \"%s\"; want %s", argv[0], argv[1], all);
}

static int on_slave(struct parser *p, int argc, char **argv)
{
    static const char *const known[] = { "timesync", "privatefs" };

    (void)argc;
    if (strcmp(argv[1], "timesync") == 0)
        return want_yes(p, "slave timesync", argv[2], &p->c->timesync);
    if (strcmp(argv[1], "privatefs") == 0)
        return want_yes(p, "slave privatefs", argv[2], &p->c->privatefs);
    return bad_subtag(p, argv, known, 2);
}

static int on_send(struct parser *p, int argc, char **argv)
{
    static const char *const known[] = { "port", "connect_timeout", "resend_timeout",
                                         "io_timeout" };
    struct cm_config *c = p->c;

    (void)argc;
    if (strcmp(argv[1], "port") == 0)
        return want_port(p, "send port", "udp", argv[2], 65535, &c->send.port);
    if (strcmp(argv[1], "connect_timeout") == 0)
        return want_seconds(p, "send connect_timeout", argv[2], 1, &c->send.connect_timeout_ms);
    if (strcmp(argv[1], "resend_timeout") == 0)
        return want_seconds(p, "send resend_timeout", argv[2], 0, &c->send.resend_timeout_ms);
    if (strcmp(argv[1], "io_timeout") == 0)
        return want_seconds(p, "send io_timeout", argv[2], 1, &c->send.io_timeout_ms);
    return bad_subtag(p, argv, known, 4);
}

static int on_node_up(struct parser *p, int argc, char **argv)
{
    static const char *const known[] = { "max_clients", "startup_delay", "listen_path",
                                         "worker", "log_level" };
    static const char *const levels[] = { "fatal", "error", "warning", "info", "debug" };
    struct cm_config *c = p->c;

    (void)argc;
    if (strcmp(argv[1], "max_clients") == 0) {
        if (!integer(argv[2], 1, NODE_MAX, &c->node_up.max_clients))
            return config_bad(p, "node_up max_clients: \"%s\"; want a number from 1", argv[2]);
        return 0;
    }
    if (strcmp(argv[1], "startup_delay") == 0)
        return want_seconds(p, "node_up startup_delay", argv[2], 0,
                            &c->node_up.startup_delay_ms);
    if (strcmp(argv[1], "listen_path") == 0)
        return put_text(p, &c->node_up.listen_path, argv[2]);
    if (strcmp(argv[1], "worker") == 0)
        return put_text(p, &c->node_up.worker, argv[2]);
    if (strcmp(argv[1], "log_level") == 0) {
        for (size_t i = 0; i < 5; i++)
            if (strcmp(argv[2], levels[i]) == 0)
                return put_text(p, &c->node_up.log_level, argv[2]);
        return config_bad(p, "node_up log_level: \"%s\"; want fatal, error, warning, info or "
                          "debug", argv[2]);
    }
    return bad_subtag(p, argv, known, 5);
}

/* One word of a master line, checked; the port follows when all is read. */
static int check_master(struct parser *p, const char *s)
{
    const char *colon = strchr(s, ':'), *port = NULL;
    size_t len = strlen(s);
    int n;

    if (*s == '[') { /* [IPv6]:PORT */
        const char *close = strchr(s, ']');
        if (!close || (close[1] && close[1] != ':'))
            return config_bad(p, "master: \"%s\"; want [ADDRESS] or [ADDRESS]:PORT", s);
        port = close[1] ? close + 2 : NULL;
        len = (size_t)(close + 1 - s);
    } else if (colon && !strchr(colon + 1, ':')) {
        port = colon + 1;
        len = (size_t)(colon - s);
    }
    if (port && !integer(port, 1, 65535 - CM_PORT_CONTENT, &n))
        return config_bad(p, "master: \"%s\": the port is no number from 1 to %d", s,
                          65535 - CM_PORT_CONTENT);
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)s[i]) && !strchr(".-_:[]", s[i]))
            return config_bad(p, "master: \"%s\" is no host name or address", s);
    if (len == 0 || len > 255)
        return config_bad(p, "master: \"%s\" is no host name or address", s);
    return 0;
}

static int on_master(struct parser *p, int argc, char **argv)
{
    struct cm_config *c = p->c;
    struct strlist *more = realloc(c->masters, (c->nmasters + 1) * sizeof *more);

    if (!more)
        return config_nomem(p);
    c->masters = more;
    c->masters[c->nmasters++] = (struct strlist){ 0 };
    for (int i = 1; i < argc; i++) {
        if (check_master(p, argv[i]) < 0)
            return -1;
        for (size_t m = 0; m < c->nmasters; m++)
            for (size_t k = 0; k < c->masters[m].n; k++)
                if (strcasecmp(c->masters[m].v[k], argv[i]) == 0)
                    return config_bad(p, "master: %s is named twice", argv[i]);
        if (strlist_add(&c->masters[c->nmasters - 1], argv[i]) < 0)
            return config_nomem(p);
    }
    return 0;
}

static int on_bootfile(struct parser *p, int argc, char **argv)
{
    struct bootfile_line *more = realloc(p->boot, (p->nboot + 1) * sizeof *more);

    if (!more)
        return config_nomem(p);
    p->boot = more;
    struct bootfile_line *b = &more[p->nboot++];
    *b = (struct bootfile_line){ .line = p->line, .phase1 = strcmp(argv[0], "phase1") == 0 };
    if (argc == 3 && put_text(p, &b->spec, argv[1]) < 0)
        return -1;
    return put_text(p, &b->file, argv[argc - 1]);
}

static int on_dhcp(struct parser *p, int argc, char **argv)
{
    static const char *const known[] = { "full", "proxy", "off", "pool" };
    struct cm_config *c = p->c;
    struct ip first, last;

    for (int i = 0; argc == 2 && i < 3; i++) {
        if (strcmp(argv[1], known[i]) != 0)
            continue;
        c->dhcp.mode = i == 0 ? DHCP_FULL : i == 1 ? DHCP_PROXY : DHCP_OFF;
        return 0;
    }
    if (strcmp(argv[1], "pool") != 0)
        return bad_subtag(p, argv, known, 4);
    if (argc != 4)
        return config_bad(p, "dhcp pool: want the first and the last address");
    if (want_ip(p, argv[2], &first) < 0 || want_ip(p, argv[3], &last) < 0)
        return -1;
    if (first.family != AF_INET || last.family != AF_INET || ip_cmp(&first, &last) > 0)
        return config_bad(p, "dhcp pool: %s to %s; want two IPv4 addresses, the lower first",
                          argv[2], argv[3]);
    return put_text(p, &c->dhcp.first, argv[2]) < 0 || put_text(p, &c->dhcp.last, argv[3]) < 0
               ? -1 : 0;
}

static int on_kernelimage(struct parser *p, int argc, char **argv)
{
    (void)argc;
    return put_text(p, &p->c->kernel_image, argv[1]);
}

/* Unquoted it is several words to us, and was one to the shell that read it. */
static int on_kernelcommandline(struct parser *p, int argc, char **argv)
{
    CLEANUP(cleanup_free) char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    if (!f)
        return config_nomem(p);
    for (int i = 1; i < argc; i++)
        fprintf(f, "%s%s", i > 1 ? " " : "", argv[i]);
    if (fclose(f) != 0)
        return config_nomem(p);
    return put_text(p, &p->c->kernel_command_line, text);
}

static int on_libraries(struct parser *p, int argc, char **argv)
{
    return put_list(p, &p->c->libraries, argc - 1, argv + 1);
}

static int on_librariesfrombinary(struct parser *p, int argc, char **argv)
{
    return put_list(p, &p->c->libraries_from_binary, argc - 1, argv + 1);
}

static int on_obsolete(struct parser *p, int argc, char **argv)
{
    (void)argc;
    return config_warn(p, "%s is obsolete and has no effect", argv[0]);
}

/* ---- the table ---- */

static const struct directive {
    const char *tag;
    int min, max; /* words after the tag; max -1: any number */
    int (*fn)(struct parser *p, int argc, char **argv);
    const char *usage;
} directives[] = {
    { "interface", 1, 3, on_interface, "interface NAME [ADDRESS MASK]" },
    { "bprocport", 1, 1, on_port, "bprocport PORT" },
    { "allowinsecureports", 0, 0, on_insecure, "allowinsecureports" },
    { "trustednetwork", 1, 1, on_trusted, "trustednetwork yes|no" },
    { "logfacility", 1, 1, on_facility, "logfacility NAME" },
    { "pingtimeout", 1, 1, on_pingtimeout, "pingtimeout SECONDS" },
    { "grace", 1, 1, on_grace, "grace SECONDS" },
    { "slavetimesync", 1, 1, on_timesync, "slavetimesync yes|no" },
    { "slave", 2, 2, on_slave, "slave timesync|privatefs yes|no" },
    { "ip", 1, -1, on_ip, "ip [NODE] ADDRESS..." },
    { "iprange", 2, 3, on_iprange, "iprange [NODE] FIRST LAST" },
    { "master", 1, -1, on_master, "master HOST[:PORT]..." },
    { "node", 0, -1, on_node, "node [NODE] [MAC...]" },
    { "bootfile", 1, 2, on_bootfile, "bootfile [NODES] FILE" },
    { "phase1", 1, 2, on_bootfile, "phase1 [NODES] FILE" },
    { "dhcp", 1, 3, on_dhcp, "dhcp full|proxy|off, or dhcp pool FIRST LAST" },
    { "send", 2, 2, on_send, "send port|connect_timeout|resend_timeout|io_timeout VALUE" },
    { "node_up", 2, 2, on_node_up,
      "node_up max_clients|startup_delay|listen_path|worker|log_level VALUE" },
    { "kernelimage", 1, 1, on_kernelimage, "kernelimage FILE" },
    { "kernelcommandline", 1, -1, on_kernelcommandline, "kernelcommandline TEXT" },
    { "libraries", 1, -1, on_libraries, "libraries PATH..." },
    { "librariesfrombinary", 1, -1, on_librariesfrombinary, "librariesfrombinary PROGRAM..." },
    { "nodes", 0, -1, on_obsolete, "" },
    { "mcastbcast", 0, -1, on_obsolete, "" },
    { "mcastport", 0, -1, on_obsolete, "" },
    { "mcastthrottle", 0, -1, on_obsolete, "" },
    { "nodeupmaxclients", 0, -1, on_obsolete, "" },
    { "nodeupmaxworkers", 0, -1, on_obsolete, "" },
    { "nodeupworker", 0, -1, on_obsolete, "" },
};
#define NDIRECTIVES (sizeof directives / sizeof directives[0])

static int unknown(struct parser *p, const char *tag)
{
    const char *tags[NDIRECTIVES];

    for (size_t i = 0; i < NDIRECTIVES; i++)
        tags[i] = directives[i].tag;
    const char *near = nearest_word(tag, tags, NDIRECTIVES);
    if (near)
        return config_warn(p, "unknown word \"%.60s\", the line has no effect; "
                           "did you mean %s?", tag, near);
    return config_warn(p, "unknown word \"%.60s\", the line has no effect", tag);
}

int config_line(struct parser *p, int argc, char **argv)
{
    for (size_t i = 0; i < NDIRECTIVES; i++) {
        const struct directive *d = &directives[i];

        if (strcmp(argv[0], d->tag) != 0)
            continue;
        if (argc - 1 < d->min)
            return config_bad(p, "too few arguments for %s: want %s", d->tag, d->usage);
        if (d->max >= 0 && argc - 1 > d->max)
            return config_bad(p, "too many arguments for %s: want %s", d->tag, d->usage);
        return d->fn(p, argc, argv);
    }
    return unknown(p, argv[0]);
}
