/* vnet.c - the virtual network of virtual nodes, by rtnetlink */
#include "node/vnet.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct message {
    struct nlmsghdr h;
    union {
        struct ifinfomsg link;
        struct ifaddrmsg addr;
    };
    char room[512]; /* far more than the few attributes below need */
};

static void start(struct message *m, uint16_t type, uint16_t flags, size_t body)
{
    memset(m, 0, sizeof *m);
    m->h.nlmsg_len = (uint32_t)NLMSG_LENGTH(body);
    m->h.nlmsg_type = type;
    m->h.nlmsg_flags = flags | NLM_F_REQUEST | NLM_F_ACK;
}

static struct rtattr *add(struct message *m, unsigned short type, const void *data, size_t len)
{
    struct rtattr *r = (struct rtattr *)((char *)m + NLMSG_ALIGN(m->h.nlmsg_len));

    r->rta_type = type;
    r->rta_len = (unsigned short)RTA_LENGTH(len);
    if (len)
        memcpy(RTA_DATA(r), data, len);
    m->h.nlmsg_len = (uint32_t)(NLMSG_ALIGN(m->h.nlmsg_len) + RTA_ALIGN(r->rta_len));
    return r;
}

static void add_text(struct message *m, unsigned short type, const char *text)
{
    add(m, type, text, strlen(text) + 1);
}

static void add_u32(struct message *m, unsigned short type, uint32_t v)
{
    add(m, type, &v, sizeof v);
}

/* Everything added since belongs inside r. */
static void close_nest(struct message *m, struct rtattr *r)
{
    r->rta_len = (unsigned short)((char *)m + m->h.nlmsg_len - (char *)r);
}

/* Send and wait for the verdict. 0, or an errno. *index: of the link in the
 * answer, if that is one. */
static int talk(int nl, struct message *m, int *index)
{
    union {
        struct nlmsghdr h;
        char room[16384];
    } answer;

    if (send(nl, m, m->h.nlmsg_len, 0) < 0)
        return errno;
    for (;;) {
        ssize_t n = recv(nl, &answer, sizeof answer, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        size_t left = (size_t)n;
        for (struct nlmsghdr *h = &answer.h; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_type == RTM_NEWLINK && index)
                *index = ((struct ifinfomsg *)NLMSG_DATA(h))->ifi_index;
            if (h->nlmsg_type == NLMSG_ERROR)
                return -((struct nlmsgerr *)NLMSG_DATA(h))->error;
        }
    }
}

static int open_here(struct err *err)
{
    struct sockaddr_nl sa = { .nl_family = AF_NETLINK };
    CLEANUP(cleanup_close) int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0)
        return err_set(err, errno, "netlink: %s", strerror(errno));
    int out = fd;
    fd = -1;
    return out;
}

int vnet_open(int netns, struct err *err)
{
    if (netns < 0)
        return open_here(err);
    CLEANUP(cleanup_close) int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0 || setns(netns, CLONE_NEWNET) < 0)
        return err_set(err, errno, "enter the node's network: %s", strerror(errno));
    int fd = open_here(err);
    if (setns(home, CLONE_NEWNET) < 0) {
        cleanup_close(&fd);
        return err_set(err, errno, "come back from the node's network: %s", strerror(errno));
    }
    return fd;
}

static int index_of(int nl, const char *name, struct err *err)
{
    struct message m;
    int index = 0;

    start(&m, RTM_GETLINK, 0, sizeof m.link);
    add_text(&m, IFLA_IFNAME, name);
    int rc = talk(nl, &m, &index);
    if (rc || index <= 0)
        return err_set(err, rc ? rc : ENODEV, "interface %s: %s", name,
                       strerror(rc ? rc : ENODEV));
    return index;
}

/* No link-local IPv6 addresses: a thousand nodes would all talk about theirs.
 * A kernel without IPv6 refuses, which is as good. */
static void quiet(int nl, const char *name)
{
    struct message m;
    uint8_t none = IN6_ADDR_GEN_MODE_NONE;

    start(&m, RTM_NEWLINK, 0, sizeof m.link);
    add_text(&m, IFLA_IFNAME, name);
    struct rtattr *spec = add(&m, IFLA_AF_SPEC, NULL, 0);
    struct rtattr *six = add(&m, AF_INET6, NULL, 0);
    add(&m, IFLA_INET6_ADDR_GEN_MODE, &none, sizeof none);
    close_nest(&m, six);
    close_nest(&m, spec);
    talk(nl, &m, NULL);
}

/* Let TCP hand over 256 KiB at a time instead of 64: there is no wire that
 * would want packets, and half the cost of a stream is in their number.
 * Kernels before 6.3 refuse. */
static void big_packets(int nl, const char *name)
{
    enum { GSO_IPV4_MAX_SIZE = 63, GRO_IPV4_MAX_SIZE = 64 }; /* IFLA_, from Linux 6.3 on */
    struct message m;

    start(&m, RTM_NEWLINK, 0, sizeof m.link);
    add_text(&m, IFLA_IFNAME, name);
    add_u32(&m, GSO_IPV4_MAX_SIZE, 256 * 1024);
    add_u32(&m, GRO_IPV4_MAX_SIZE, 256 * 1024);
    talk(nl, &m, NULL);
}

int vnet_bridge(int nl, const char *name, struct err *err)
{
    /* Of its own: else it borrows a port's, and changes it with the ports,
     * behind the backs of all who know the old one. */
    static const uint8_t mac[6] = { 0x02, 0xc6, 0x12, 0xff, 0xff, 0xff };
    struct message m;

    start(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof m.link);
    add_text(&m, IFLA_IFNAME, name);
    add(&m, IFLA_ADDRESS, mac, sizeof mac);
    add_u32(&m, IFLA_MTU, VNET_MTU);
    struct rtattr *info = add(&m, IFLA_LINKINFO, NULL, 0);
    add_text(&m, IFLA_INFO_KIND, "bridge");
    close_nest(&m, info);
    int rc = talk(nl, &m, NULL);
    if (rc && rc != EEXIST)
        return err_set(err, rc, "make bridge %s: %s", name, strerror(rc));
    return 0;
}

int vnet_pair(int nl, const char *name, const char *bridge, int peer_netns,
              const uint8_t mac[6], struct err *err)
{
    struct message m;
    struct ifinfomsg peer = { 0 };
    int master = index_of(nl, bridge, err);

    if (master < 0)
        return -1;
    start(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof m.link);
    add_text(&m, IFLA_IFNAME, name);
    add_u32(&m, IFLA_MASTER, (uint32_t)master);
    add_u32(&m, IFLA_MTU, VNET_MTU);
    add_u32(&m, IFLA_NUM_TX_QUEUES, 1);
    add_u32(&m, IFLA_NUM_RX_QUEUES, 1);
    struct rtattr *info = add(&m, IFLA_LINKINFO, NULL, 0);
    add_text(&m, IFLA_INFO_KIND, "veth");
    struct rtattr *data = add(&m, IFLA_INFO_DATA, NULL, 0);
    struct rtattr *there = add(&m, VETH_INFO_PEER, &peer, sizeof peer);
    add_text(&m, IFLA_IFNAME, "eth0");
    add(&m, IFLA_ADDRESS, mac, 6);
    add_u32(&m, IFLA_MTU, VNET_MTU);
    add_u32(&m, IFLA_NET_NS_FD, (uint32_t)peer_netns);
    add_u32(&m, IFLA_NUM_TX_QUEUES, 1);
    add_u32(&m, IFLA_NUM_RX_QUEUES, 1);
    close_nest(&m, there);
    close_nest(&m, data);
    close_nest(&m, info);
    int rc = talk(nl, &m, NULL);
    if (rc)
        return err_set(err, rc, "make interface %s in bridge %s: %s", name, bridge,
                       strerror(rc));
    big_packets(nl, bridge); /* it may do what its ports can: before it had one, nothing */
    return 0;
}

int vnet_address(int nl, const char *name, uint32_t address, int prefix, struct err *err)
{
    struct message m;
    uint32_t be = htonl(address);
    int index = index_of(nl, name, err);

    if (index < 0)
        return -1;
    start(&m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof m.addr);
    m.addr.ifa_family = AF_INET;
    m.addr.ifa_prefixlen = (unsigned char)prefix;
    m.addr.ifa_index = (unsigned)index;
    add(&m, IFA_LOCAL, &be, sizeof be);
    add(&m, IFA_ADDRESS, &be, sizeof be);
    int rc = talk(nl, &m, NULL);
    if (rc)
        return err_set(err, rc, "address of %s: %s", name, strerror(rc));
    return 0;
}

int vnet_up(int nl, const char *name, struct err *err)
{
    struct message m;

    quiet(nl, name);
    big_packets(nl, name);
    start(&m, RTM_NEWLINK, 0, sizeof m.link);
    m.link.ifi_flags = m.link.ifi_change = IFF_UP;
    add_text(&m, IFLA_IFNAME, name);
    int rc = talk(nl, &m, NULL);
    if (rc)
        return err_set(err, rc, "interface %s up: %s", name, strerror(rc));
    return 0;
}

int vnet_delete(int nl, const char *name, struct err *err)
{
    struct message m;

    start(&m, RTM_DELLINK, 0, sizeof m.link);
    add_text(&m, IFLA_IFNAME, name);
    int rc = talk(nl, &m, NULL);
    if (rc && rc != ENODEV)
        return err_set(err, rc, "remove interface %s: %s", name, strerror(rc));
    return 0;
}
