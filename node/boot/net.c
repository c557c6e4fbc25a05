/* net.c - cards, all side by side, until one has an answer
 *
 * Nothing waits for a link to come up: a request sent too early is lost, and
 * the next one follows a tenth of a second later.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include "node/boot/boot.h"
#include "node/vnet.h"

#define CARDS 32
#define SERVER_PORT 67
#define CLIENT_PORT 68
#define RESCAN_MS 100 /* while there is no card at all */
#define RENEW_MS 1000

struct card {
    char name[16];
    uint8_t mac[6];
    int fd;             /* DHCP, on this card only; -1: it could not be made */
    struct dhcp offer;  /* type 0: none yet */
};

struct cards {
    struct card v[CARDS];
    int n;
    uint32_t xid;
    int timers; /* waits that no answer ended */
};

static void mac_text(const uint8_t m[6], char out[BOOT_MAC])
{
    snprintf(out, BOOT_MAC, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
}

static int up(const char *name, struct err *err)
{
    CLEANUP(cleanup_close) int nl = vnet_open(-1, err);

    return nl < 0 ? -1 : vnet_up(nl, name, err);
}

/* ---- finding cards ---- */

/* A socket that speaks before there is an address. */
static int open_dhcp(const char *card, struct err *err)
{
    struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(CLIENT_PORT) };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;

    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof on) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, card, (socklen_t)strlen(card) + 1) == 0 &&
        bind(fd, (struct sockaddr *)&any, sizeof any) == 0)
        return fd;
    err_set(err, errno, "socket for DHCP on %s: %s", card, strerror(errno));
    cleanup_close(&fd);
    return -1;
}

/* A card is what has a device behind it and speaks Ethernet. */
static bool is_card(const char *name, uint8_t mac[6])
{
    char path[300];
    struct ifreq r = { 0 };

    snprintf(path, sizeof path, "/sys/class/net/%s/device", name);
    if (access(path, F_OK) < 0 || strlen(name) >= sizeof r.ifr_name)
        return false;
    CLEANUP(cleanup_close) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    memcpy(r.ifr_name, name, strlen(name) + 1);
    if (fd < 0 || ioctl(fd, SIOCGIFHWADDR, &r) < 0 || r.ifr_hwaddr.sa_family != ARPHRD_ETHER)
        return false;
    memcpy(mac, r.ifr_hwaddr.sa_data, 6);
    return true;
}

static bool known(const struct cards *c, const char *name)
{
    for (int i = 0; i < c->n; i++)
        if (strcmp(c->v[i].name, name) == 0)
            return true;
    return false;
}

static void take_card(struct cards *c, const struct params *p, const char *name)
{
    struct card *k = &c->v[c->n];
    struct err err = { 0 };
    char mac[BOOT_MAC];

    if (c->n == CARDS || known(c, name) || !is_card(name, k->mac))
        return;
    mac_text(k->mac, mac);
    if (*p->card && strcmp(p->card, name) && strcmp(p->card, mac))
        return;
    snprintf(k->name, sizeof k->name, "%.15s", name);
    memset(&k->offer, 0, sizeof k->offer);
    k->fd = -1;
    c->n++;
    if (up(name, &err) < 0 || (!*p->ip && (k->fd = open_dhcp(name, &err)) < 0))
        boot_say("%s", err.text);
    /* The card that the firmware used has the first word. */
    if (*p->first && strcmp(p->first, mac) == 0) {
        struct card first = *k;
        memmove(&c->v[1], &c->v[0], (size_t)(c->n - 1) * sizeof *c->v);
        c->v[0] = first;
    }
}

static void look_for_cards(struct cards *c, const struct params *p)
{
    DIR *d = opendir("/sys/class/net");
    const struct dirent *e;

    while (d && (e = readdir(d)))
        if (*e->d_name != '.')
            take_card(c, p, e->d_name);
    if (d)
        closedir(d);
}

static void drop_cards(struct cards *c)
{
    for (int i = 0; i < c->n; i++)
        cleanup_close(&c->v[i].fd);
}

/* ---- asking ---- */

static void ask(const struct cards *c, struct card *k)
{
    unsigned char packet[DHCP_ROOM];
    struct sockaddr_in all = { .sin_family = AF_INET, .sin_port = htons(SERVER_PORT),
                               .sin_addr.s_addr = htonl(INADDR_BROADCAST) };
    size_t n = dhcp_pack(packet, k->offer.type ? DHCP_REQUEST : DHCP_DISCOVER, k->mac, c->xid,
                         &k->offer, false);

    /* What is lost is asked again. */
    if (sendto(k->fd, packet, n, 0, (struct sockaddr *)&all, sizeof all) < 0 &&
        errno != ENETDOWN && errno != EAGAIN && errno != ENOBUFS && errno != ENETUNREACH)
        boot_say("DHCP on %s: %s", k->name, strerror(errno));
}

/* True: this card's address is settled. */
static bool hear(const struct cards *c, struct card *k)
{
    unsigned char packet[1500];
    struct dhcp d;
    ssize_t n;

    while ((n = recv(k->fd, packet, sizeof packet, 0)) > 0) {
        if (!dhcp_parse(packet, (size_t)n, k->mac, c->xid, &d))
            continue;
        if (d.type == DHCP_NAK) {
            k->offer.type = 0;
        } else if (d.type == DHCP_OFFER && !k->offer.type) {
            k->offer = d;
            ask(c, k);
        } else if (d.type == DHCP_ACK && k->offer.type) {
            k->offer = d;
            return true;
        }
    }
    return false;
}

static struct card *wait_for_answer(struct cards *c, int ms)
{
    struct pollfd fds[CARDS];
    int64_t end = boot_ms() + ms;

    for (int64_t left = ms; left > 0; left = end - boot_ms()) {
        for (int i = 0; i < c->n; i++)
            fds[i] = (struct pollfd){ c->v[i].fd, POLLIN, 0 };
        if (poll(fds, (nfds_t)c->n, (int)left) <= 0)
            continue;
        for (int i = 0; i < c->n; i++)
            if (fds[i].revents && hear(c, &c->v[i]))
                return &c->v[i];
    }
    return NULL;
}

/* A card's address, with the delays that config.boot wants. */
static struct card *ask_all(struct cards *c, const struct params *p, void (*rescan)(void *),
                            void *arg)
{
    double delay = p->pace.initial_delay * 1000;
    int64_t end = boot_ms() + (int64_t)(p->pace.max_time * 1000);

    while (boot_ms() < end) {
        for (int i = 0; i < c->n; i++)
            if (c->v[i].fd >= 0)
                ask(c, &c->v[i]);
        double factor = 1 + p->pace.rand * (2.0 * rand() / RAND_MAX - 1);
        struct card *k = wait_for_answer(c, c->n ? (int)(delay * factor) + 1 : RESCAN_MS);
        if (k)
            return k;
        c->timers++;
        int before = c->n;
        rescan(arg);
        look_for_cards(c, p);
        if (c->n > before)
            delay = p->pace.initial_delay * 1000; /* a new card is asked at once */
        else if (c->n && delay < p->pace.max_delay * 1000)
            delay *= p->pace.backoff;
    }
    return NULL;
}

/* ---- using the answer ---- */

static int prefix_of(uint32_t mask)
{
    return mask ? __builtin_popcount(mask) : 24;
}

static int set_route(const char *gateway, struct err *err)
{
    struct rtentry r = { .rt_flags = RTF_UP | RTF_GATEWAY };
    struct sockaddr_in in = { .sin_family = AF_INET };
    CLEANUP(cleanup_close) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    memcpy(&r.rt_dst, &in, sizeof in);
    memcpy(&r.rt_genmask, &in, sizeof in);
    inet_pton(AF_INET, gateway, &in.sin_addr);
    memcpy(&r.rt_gateway, &in, sizeof in);
    if (fd < 0 || (ioctl(fd, SIOCADDRT, &r) < 0 && errno != EEXIST))
        return err_set(err, errno, "route by %s: %s", gateway, strerror(errno));
    return 0;
}

static void set_mtu(const char *card, int mtu)
{
    struct ifreq r = { .ifr_mtu = mtu };
    CLEANUP(cleanup_close) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", card);
    if (fd < 0 || ioctl(fd, SIOCSIFMTU, &r) < 0)
        boot_say("MTU %d on %s: %s", mtu, card, strerror(errno));
}

void net_down(const struct net *net)
{
    struct ifreq r = { 0 };
    CLEANUP(cleanup_close) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", net->card);
    if (fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &r) == 0) {
        r.ifr_flags = (short)(r.ifr_flags & ~IFF_UP);
        if (ioctl(fd, SIOCSIFFLAGS, &r) == 0)
            return;
    }
    boot_say("%s: %s", net->card, strerror(errno));
}

static int settle(struct net *net, const struct params *p, struct err *err)
{
    CLEANUP(cleanup_close) int nl = vnet_open(-1, err);
    char gateway[BOOT_ADDR] = "";
    struct in_addr in;

    if (net->dhcp.type) {
        const struct dhcp *d = &net->dhcp;
        uint32_t master = d->next ? d->next : d->server;
        inet_ntop(AF_INET, &d->addr, net->addr, sizeof net->addr);
        inet_ntop(AF_INET, &master, net->master, sizeof net->master);
        if (d->router)
            inet_ntop(AF_INET, &d->router, gateway, sizeof gateway);
        net->prefix = prefix_of(d->mask);
        if (d->mtu >= 576)
            set_mtu(net->card, d->mtu);
    } else {
        snprintf(net->addr, sizeof net->addr, "%s", p->ip);
        snprintf(gateway, sizeof gateway, "%s", p->gateway);
        net->prefix = p->prefix;
    }
    inet_pton(AF_INET, net->addr, &in);
    if (nl < 0 || vnet_address(nl, net->card, ntohl(in.s_addr), net->prefix, err) < 0)
        return -1;
    return *gateway ? set_route(gateway, err) : 0;
}

static void list_others(struct net *net, const struct cards *c)
{
    size_t n = 0, room = sizeof net->others / sizeof *net->others - 1;

    memcpy(net->others[n++], net->mac_text, BOOT_MAC);
    for (int i = 0; i < c->n && n < room; i++)
        if (memcmp(c->v[i].mac, net->mac, 6))
            mac_text(c->v[i].mac, net->others[n++]);
}

int net_find(struct net *net, const struct params *p, void (*rescan)(void *), void *arg,
             struct err *err)
{
    CLEANUP(drop_cards) struct cards c = { 0 };
    struct card *k = NULL;
    int64_t end = boot_ms() + (int64_t)(p->pace.max_time * 1000);

    memset(net, 0, sizeof *net);
    if (getrandom(&c.xid, sizeof c.xid, GRND_NONBLOCK) != sizeof c.xid)
        c.xid = (uint32_t)boot_ms();
    srand(c.xid);
    if (up("lo", err) < 0)
        boot_say("%s", err->text);
    look_for_cards(&c, p);
    if (!*p->ip)
        k = ask_all(&c, p, rescan, arg);
    while (*p->ip && !k && boot_ms() < end) {
        if (c.n) {
            k = &c.v[0];
        } else {
            poll(NULL, 0, RESCAN_MS);
            c.timers++;
            rescan(arg);
            look_for_cards(&c, p);
        }
    }
    if (!k && c.n == 0)
        return err_set(err, ENODEV, "no network card%s%s, or no driver for one in this image",
                       *p->card ? " " : "", p->card);
    if (!k)
        return err_set(err, ETIMEDOUT, "no answer to DHCP on %d network card%s, the first %s",
                       c.n, c.n == 1 ? "" : "s", c.v[0].name);
    memcpy(net->card, k->name, sizeof net->card);
    memcpy(net->mac, k->mac, 6);
    mac_text(k->mac, net->mac_text);
    net->dhcp = k->offer;
    net->timers = c.timers;
    list_others(net, &c);
    return settle(net, p, err);
}

/* ---- keeping it ---- */

bool net_renew(struct net *net)
{
    struct err err = { 0 };
    unsigned char packet[DHCP_ROOM], in[1500];
    uint32_t xid = (uint32_t)boot_ms();
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(SERVER_PORT),
                              .sin_addr.s_addr = net->dhcp.server };
    CLEANUP(cleanup_close) int fd = open_dhcp(net->card, &err);
    size_t n = dhcp_pack(packet, DHCP_REQUEST, net->mac, xid, &net->dhcp, true);
    int64_t end = boot_ms() + RENEW_MS;

    if (fd < 0 || sendto(fd, packet, n, 0, (struct sockaddr *)&to, sizeof to) < 0)
        return false;
    for (int64_t left = RENEW_MS; left > 0; left = end - boot_ms()) {
        struct pollfd p = { fd, POLLIN, 0 };
        struct dhcp d;
        if (poll(&p, 1, (int)left) <= 0)
            continue;
        ssize_t got = recv(fd, in, sizeof in, 0);
        if (got > 0 && dhcp_parse(in, (size_t)got, net->mac, xid, &d) &&
            d.type == DHCP_ACK && d.addr == net->dhcp.addr) {
            net->dhcp = d;
            return true;
        }
    }
    return false;
}
