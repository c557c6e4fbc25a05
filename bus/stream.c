/* stream.c - the header of stream messages: fixed, little endian */
#include "bus/le.h"
#include "bus/stream.h"

void stream_pack(unsigned char out[STREAM_HEADER], const struct stream_msg *m)
{
    unsigned char *p = out;

    *p++ = m->kind;
    *p++ = m->fd;
    *p++ = (unsigned char)m->flags;
    *p++ = (unsigned char)(m->flags >> 8);
    p = le_put32(p, m->rank);
    p = le_put64(p, m->launch);
    p = le_put64(p, m->offset);
    p = le_put64(p, m->limit);
    p = le_put32(p, m->len);
    le_put32(p, (uint32_t)m->node);
}

int stream_unpack(struct stream_msg *m, const unsigned char in[STREAM_HEADER])
{
    m->kind = in[0];
    m->fd = in[1];
    m->flags = (uint16_t)(in[2] | in[3] << 8);
    m->rank = le_get32(in + 4);
    m->launch = le_get64(in + 8);
    m->offset = le_get64(in + 16);
    m->limit = le_get64(in + 24);
    m->len = le_get32(in + 32);
    m->node = (int32_t)le_get32(in + 36);
    if (m->kind < STREAM_DATA || m->kind > STREAM_TAKEN || m->fd > 2 ||
        m->len > STREAM_BODY_MAX)
        return -1;
    return 0;
}
