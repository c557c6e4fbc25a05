/* stream.c - the header of stream messages: fixed, little endian */
#include "bus/stream.h"
#include <endian.h>
#include <string.h>

static void put(unsigned char *p, const void *v, size_t n) { memcpy(p, v, n); }

void stream_pack(unsigned char out[STREAM_HEADER], const struct stream_msg *m)
{
    uint16_t flags = htole16(m->flags);
    uint32_t rank = htole32(m->rank), len = htole32(m->len);
    uint32_t node = htole32((uint32_t)m->node);
    uint64_t launch = htole64(m->launch), offset = htole64(m->offset);
    uint64_t limit = htole64(m->limit);

    out[0] = m->kind;
    out[1] = m->fd;
    put(out + 2, &flags, 2);
    put(out + 4, &rank, 4);
    put(out + 8, &launch, 8);
    put(out + 16, &offset, 8);
    put(out + 24, &limit, 8);
    put(out + 32, &len, 4);
    put(out + 36, &node, 4);
}

static uint64_t get64(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return le64toh(v);
}

static uint32_t get32(const unsigned char *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return le32toh(v);
}

int stream_unpack(struct stream_msg *m, const unsigned char in[STREAM_HEADER])
{
    m->kind = in[0];
    m->fd = in[1];
    m->flags = (uint16_t)(in[2] | in[3] << 8);
    m->rank = get32(in + 4);
    m->launch = get64(in + 8);
    m->offset = get64(in + 16);
    m->limit = get64(in + 24);
    m->len = get32(in + 32);
    m->node = (int32_t)get32(in + 36);
    if (m->kind < STREAM_DATA || m->kind > STREAM_GO || m->fd > 2 ||
        m->len > STREAM_BODY_MAX)
        return -1;
    return 0;
}
