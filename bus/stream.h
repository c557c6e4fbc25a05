/* stream.h - the header of stream messages (doc/streams.md) */
#ifndef BUS_STREAM_H
#define BUS_STREAM_H
#include <stdint.h>

enum stream_kind {
    STREAM_DATA = 1,
    STREAM_CREDIT = 2,
    STREAM_OPEN = 3,
    STREAM_RESUME = 4,
    STREAM_CLOSE = 5,
    STREAM_HELLO = 6,
    STREAM_BULK = 7,
    STREAM_NONE = 8,
    STREAM_GO = 9,
    STREAM_TAKEN = 10,
};
enum { STREAM_EOF = 1, STREAM_RAW = 2, STREAM_GONE = 4, STREAM_STARTED = 8,
       STREAM_MOVED = 16 };

#define STREAM_HEADER 40
#define STREAM_BODY_MAX (1024 * 1024)
#define STREAM_ALL 0xffffffffu  /* rank: all of them */
#define STREAM_HOLD UINT64_MAX  /* offset in OPEN: on the bulk channel, wait for RESUME */

struct stream_msg {
    uint8_t kind, fd;
    uint16_t flags;
    uint32_t rank;
    uint64_t launch, offset, limit;
    uint32_t len;
    int32_t node;
};

void stream_pack(unsigned char out[STREAM_HEADER], const struct stream_msg *m);
/* 0, or -1: kind, fd or len is not legal. */
int stream_unpack(struct stream_msg *m, const unsigned char in[STREAM_HEADER]);

#endif
