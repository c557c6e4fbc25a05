/* dhcp.c - DHCP packets; no I/O */
#include <stdio.h>
#include <string.h>
#include "node/boot/boot.h"

#define COOKIE "\x63\x82\x53\x63"
#define OPTIONS 240 /* where they begin */
#define LEAST 300   /* some servers drop what is shorter */
#define VENDOR "clustermatic"

static void put(unsigned char **p, int option, const void *value, size_t n)
{
    *(*p)++ = (unsigned char)option;
    *(*p)++ = (unsigned char)n;
    memcpy(*p, value, n);
    *p += n;
}

size_t dhcp_pack(unsigned char out[DHCP_ROOM], int type, const uint8_t mac[6], uint32_t xid,
                 const struct dhcp *of, bool renew)
{
    static const unsigned char want[] = { 1, 3, 12, 15, 26, 51, 54, 224 };
    unsigned char id[7] = { 1 }, kind = (unsigned char)type, *p = out + OPTIONS;

    memset(out, 0, DHCP_ROOM);
    out[0] = 1; /* a request, over Ethernet */
    out[1] = 1;
    out[2] = 6;
    memcpy(out + 4, &xid, 4);
    if (renew)
        memcpy(out + 12, &of->addr, 4);
    else
        out[10] = 0x80; /* by broadcast: we have no address to be reached at */
    memcpy(out + 28, mac, 6);
    memcpy(out + 236, COOKIE, 4);
    memcpy(id + 1, mac, 6);
    put(&p, 53, &kind, 1);
    put(&p, 61, id, sizeof id);
    put(&p, 60, VENDOR, sizeof VENDOR - 1);
    put(&p, 55, want, sizeof want);
    if (type == DHCP_REQUEST && !renew) {
        put(&p, 50, &of->addr, 4);
        put(&p, 54, &of->server, 4);
    }
    *p++ = 255;
    return p - out < LEAST ? LEAST : (size_t)(p - out);
}

/* Only plain text: it goes into host names and onto consoles. */
static void take_text(char *out, size_t room, const unsigned char *value, size_t n)
{
    size_t at = 0;

    for (size_t i = 0; i < n && at + 1 < room && value[i] > ' ' && value[i] < 127; i++)
        out[at++] = (char)value[i];
    out[at] = 0;
}

static void take(struct dhcp *d, int option, const unsigned char *v, size_t n)
{
    uint32_t word = 0;

    if (n >= 4)
        memcpy(&word, v, 4);
    if (option == 53 && n == 1)
        d->type = v[0];
    else if (option == 1 && n == 4)
        d->mask = word;
    else if (option == 3 && n >= 4)
        d->router = word;
    else if (option == 54 && n == 4)
        d->server = word;
    else if (option == 51 && n == 4)
        d->lease = (uint32_t)v[0] << 24 | (uint32_t)v[1] << 16 | (uint32_t)v[2] << 8 | v[3];
    else if (option == 26 && n == 2)
        d->mtu = v[0] << 8 | v[1];
    else if (option == 12)
        take_text(d->host, sizeof d->host, v, n);
    else if (option == 224)
        take_text(d->boot, sizeof d->boot, v, n);
}

bool dhcp_parse(const unsigned char *in, size_t n, const uint8_t mac[6], uint32_t xid,
                struct dhcp *out)
{
    if (n < OPTIONS || in[0] != 2 || memcmp(in + 4, &xid, 4) || memcmp(in + 28, mac, 6) ||
        memcmp(in + 236, COOKIE, 4))
        return false;
    memset(out, 0, sizeof *out);
    memcpy(&out->addr, in + 16, 4);
    memcpy(&out->next, in + 20, 4);
    for (size_t i = OPTIONS; i < n && in[i] != 255;) {
        if (in[i] == 0) {
            i++;
            continue;
        }
        if (i + 1 >= n || in[i + 1] > n - i - 2)
            return false;
        take(out, in[i], in + i + 2, in[i + 1]);
        i += 2 + (size_t)in[i + 1];
    }
    return out->type == DHCP_NAK ||
           ((out->type == DHCP_OFFER || out->type == DHCP_ACK) && out->addr && out->server);
}
