/* stream.c (test) - the header of stream messages: layout and refusals */
#include "bus/stream.h"
#include "tests/unit/tap.h"

static void layout(void)
{
    static const unsigned char want[STREAM_HEADER] = {
        1, 2, 3, 0, 4, 3, 2, 1, 8, 7, 6, 5, 4, 3, 2, 1,
        16, 15, 14, 13, 12, 11, 10, 9, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
        0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff };
    struct stream_msg m = { .kind = STREAM_DATA, .fd = 2, .flags = STREAM_EOF | STREAM_RAW,
                            .rank = 0x01020304, .launch = 0x0102030405060708,
                            .offset = 0x090a0b0c0d0e0f10, .limit = 0x1112131415161718,
                            .len = 65536, .node = -1 };
    unsigned char got[STREAM_HEADER];
    struct stream_msg back;

    stream_pack(got, &m);
    ok(memcmp(got, want, sizeof want) == 0, "a header is the 40 bytes of doc/streams.md");
    ok(stream_unpack(&back, got) == 0 && back.kind == m.kind && back.fd == m.fd &&
       back.flags == m.flags && back.rank == m.rank && back.launch == m.launch &&
       back.offset == m.offset && back.limit == m.limit && back.len == m.len &&
       back.node == m.node, "and is read back field by field");
}

static void refusals(void)
{
    struct stream_msg m = { .kind = STREAM_DATA }, back;
    unsigned char h[STREAM_HEADER];

    stream_pack(h, &m);
    h[0] = 0;
    ok(stream_unpack(&back, h) < 0, "kind 0 is refused");
    h[0] = STREAM_TAKEN + 1;
    ok(stream_unpack(&back, h) < 0, "a kind past the last is refused");
    h[0] = STREAM_TAKEN;
    ok(stream_unpack(&back, h) == 0, "the last kind is legal");
    h[1] = 3;
    ok(stream_unpack(&back, h) < 0, "descriptor 3 is refused");
    m.len = STREAM_BODY_MAX;
    stream_pack(h, &m);
    ok(stream_unpack(&back, h) == 0, "the longest body is legal");
    m.len++;
    stream_pack(h, &m);
    ok(stream_unpack(&back, h) < 0, "one byte more is refused");
}

int main(void)
{
    layout();
    refusals();
    return done_testing();
}
