/* boot.c - tests of what a booting node reads: command line, config, modules, DHCP */
#include "node/boot/boot.h"
#include "tests/unit/tap.h"
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdlib.h>

static char said[2000]; /* what went to the console */

void boot_say(const char *fmt, ...)
{
    va_list ap;
    size_t have = strlen(said);

    va_start(ap, fmt);
    vsnprintf(said + have, sizeof said - have, fmt, ap);
    va_end(ap);
}

char *boot_text(const char *path, size_t max)
{
    (void)path;
    (void)max;
    return strdup("");
}

/* ---- parameters ---- */

#define HASH "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void command_line(void)
{
    struct err err = { 0 };
    CLEANUP(params_free) struct params p = { 0 };

    ok(params_read(&p, "console=ttyS0 quiet cm.master=198.18.0.1:3000 cm.boot=198.18.0.2:4711 "
                       "cm.node=17 cm.image=" HASH " cm.if=52-54-00-77-00-AA "
                       "BOOTIF=01-52-54-00-77-00-10 cm.ip=198.18.0.9/15,198.18.0.254\n", &err) == 0,
       "a command line is read");
    is(p.master, "198.18.0.1", "the master's address");
    ok(p.port == 3000 && p.node == 17, "the port, the node");
    is(p.server, "198.18.0.2:4711", "the boot server");
    is(p.image, HASH, "the image");
    is(p.card, "52:54:00:77:00:aa", "a card by its hardware address");
    is(p.first, "52:54:00:77:00:10", "the card that the firmware used");
    is(p.ip, "198.18.0.9", "an address");
    is(p.gateway, "198.18.0.254", "a gateway");
    ok(p.prefix == 15 && !*said, "a prefix, and nothing to complain about");
}

static void odd_words(void)
{
    static const char *const odd[] = {
        "cm.master=master", "cm.master=1.2.3.4:0", "cm.master=1.2.3.4:99999", "cm.master=",
        "cm.node=-1", "cm.node=x", "cm.node=99999999999", "cm.image=abc", "cm.ip=1.2.3.4",
        "cm.ip=1.2.3.4/33", "cm.ip=1.2.3/8", "cm.boot=1.2.3.4", "cm.boot=1.2.3.4:0",
        "cm.mac=52:54", "BOOTIF=52-54-00-77-00-10", "cm.if=",
    };
    struct err err = { 0 };

    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        CLEANUP(params_free) struct params p = { 0 };
        said[0] = 0;
        params_read(&p, odd[i], &err);
        ok(strstr(said, "not understood") && !*p.master && p.node == -1 && !*p.image && !*p.ip &&
           !*p.server && !*p.first && !*p.card, "%s is passed over, and said", odd[i]);
    }
    said[0] = 0;
}

static void config(void)
{
    struct err err = { 0 };
    CLEANUP(params_free) struct params p = { 0 };
    const char *at = NULL;
    char word[32], rest[512];

    params_read(&p, "", &err);
    ok(p.pace.initial_delay == 0.1 && p.pace.max_time == 600, "DHCP is asked from 100 ms on");
    ok(params_image(&p, "version 1\nphase 1\nrelease 6.1-x\n",
                    "modprobe e1000e Debug=1 x\nrarp max_time 30\nrarp backoff 0\nrarp rand 0.5\n"
                    "single", &err) == 0, "a config is read");
    ok(p.phase == 1 && strcmp(p.release, "6.1-x") == 0, "the phase and the kernel's release");
    ok(p.pace.max_time == 30 && p.pace.rand == 0.5, "its delays count");
    ok(p.pace.backoff == 1.2, "but one that cannot be");
    ok(params_line(&p, &at, word, rest) && strcmp(word, "modprobe") == 0 &&
       strcmp(rest, "e1000e Debug=1 x") == 0, "lines are given word by word");
    int lines = 1;
    while (params_line(&p, &at, word, rest))
        lines++;
    ok(lines == 5 && strcmp(word, "single") == 0 && !*rest, "to the last, whose end is missing");
}

/* ---- modules ---- */

static void modules(void)
{
    struct err err = { 0 };
    CLEANUP(params_free) struct params p = { 0 };
    char *index = strdup("alias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e\n"
                         "alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n"
                         "alias virtio:d00000001v* virtio_net\nalias broken\nnonsense\n"
                         "alias pci:v00008086d*sv*sd*bc02sc00i* generic\n"
                         "module e1000e /modules/e1000e.ko ptp\nmodule half\n");

    params_read(&p, "", &err);
    CLEANUP(modules_close) modules_t *m = modules_parse(index, &p, &err);
    is(modules_match(m, "virtio:d00000001v00001AF4", 0), "virtio_net", "a device finds its driver");
    is(modules_match(m, "pci:v00008086d000010D3sv00008086sd0000A01Fbc02sc00i00", 0), "e1000e",
       "one with two gets the first");
    is(modules_match(m, "pci:v00008086d000010D3sv00008086sd0000A01Fbc02sc00i00", 1), "generic",
       "and the second");
    is(modules_match(m, "pci:v00008086d000010D3sv00008086sd0000A01Fbc02sc00i00", 2), NULL,
       "and no third");
    is(modules_match(m, "usb:v1234p5678", 0), NULL, "an unknown device finds none");
}

/* ---- DHCP ---- */

static const uint8_t mac[6] = { 0x52, 0x54, 0, 0x77, 0, 0x10 };

/* What a server says; how long it is. */
static size_t answer(unsigned char *p, const unsigned char *options, size_t n)
{
    memset(p, 0, DHCP_ROOM);
    p[0] = 2;
    memcpy(p + 4, "abcd", 4);
    memcpy(p + 16, "\xc6\x12\0\x0a", 4);
    memcpy(p + 20, "\xc6\x12\0\x01", 4);
    memcpy(p + 28, mac, 6);
    memcpy(p + 236, "\x63\x82\x53\x63", 4);
    memcpy(p + 240, options, n);
    return 240 + n;
}
#define ANSWER(text) answer(packet, (const unsigned char *)text, sizeof text - 1)

static void dhcp(void)
{
    unsigned char packet[DHCP_ROOM];
    struct dhcp d, none = { 0 };
    uint32_t xid;

    memcpy(&xid, "abcd", 4);
    size_t n = dhcp_pack(packet, DHCP_DISCOVER, mac, xid, &none, false);
    ok(n >= 300 && packet[0] == 1 && memcmp(packet + 28, mac, 6) == 0 &&
       memcmp(packet + 4, "abcd", 4) == 0 && packet[10] == 0x80, "a request is one");
    ok(!dhcp_parse(packet, n, mac, xid, &d), "and is no answer");

    n = ANSWER("\x35\1\2\x36\4\xc6\x12\0\1\1\4\xff\xfe\0\0\3\4\xc6\x12\0\2\x33\4\0\0\x0e\x10"
               "\x0c\3n17\xe0\x0f""198.18.0.1:4711\x1a\2\x05\xdc\0\xff");
    ok(dhcp_parse(packet, n, mac, xid, &d) && d.type == DHCP_OFFER, "an offer is read");
    is(inet_ntoa((struct in_addr){ d.addr }), "198.18.0.10", "our address");
    is(inet_ntoa((struct in_addr){ d.next }), "198.18.0.1", "the next server");
    is(inet_ntoa((struct in_addr){ d.router }), "198.18.0.2", "the router");
    is(d.host, "n17", "our name");
    is(d.boot, "198.18.0.1:4711", "the boot server");
    ok(d.lease == 3600 && d.mtu == 1500, "lease and MTU");
    n = dhcp_pack(packet, DHCP_REQUEST, mac, xid, &d, true);
    ok(memcmp(packet + 12, "\xc6\x12\0\x0a", 4) == 0 && packet[10] == 0,
       "to renew it, we say where we are");

    n = ANSWER("\x35\1\2\x36\4\xc6\x12\0\1\xff");
    ok(!dhcp_parse(packet, n, (const uint8_t *)"\x52\x54\0\x77\0\x11", xid, &d),
       "an answer to another card is not ours");
    ok(!dhcp_parse(packet, n, mac, xid + 1, &d), "nor one to another request");
    ok(!dhcp_parse(packet, 200, mac, xid, &d), "half a packet is none");
    n = ANSWER("\x35\1\2\xff");
    ok(!dhcp_parse(packet, n, mac, xid, &d), "an offer of nobody is none");
    n = ANSWER("\x35\1\2\x36\4\xc6\x12\0\1\x0c\xff");
    ok(!dhcp_parse(packet, n, mac, xid, &d), "an option longer than the packet makes it none");
    n = ANSWER("\x35\1\2\x36\4\xc6\x12\0\1\x0c");
    ok(!dhcp_parse(packet, n, mac, xid, &d), "one without its length too");
    n = ANSWER("\x35\1\6\xff");
    ok(dhcp_parse(packet, n, mac, xid, &d) && d.type == DHCP_NAK, "a refusal is read");
    n = ANSWER("\x35\1\2\x36\4\xc6\x12\0\1\x0c\7a\33[2Jxy\xff");
    ok(dhcp_parse(packet, n, mac, xid, &d) && strcmp(d.host, "a") == 0,
       "a name is plain characters");
    srand(1);
    for (int i = 0; i < 200000; i++) {
        size_t len = 236 + (size_t)rand() % (DHCP_ROOM - 236);
        ANSWER("\x35\1\2\x36\4\xc6\x12\0\1");
        for (size_t k = 249; k < len; k++)
            packet[k] = (unsigned char)(rand() % 5 ? rand() % 64 : rand());
        dhcp_parse(packet, len, mac, xid, &d);
    }
    ok(true, "200000 odd packets did no harm");
}

int main(void)
{
    command_line();
    odd_words();
    config();
    modules();
    dhcp();
    return done_testing();
}
