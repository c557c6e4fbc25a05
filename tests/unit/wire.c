/* wire.c - the envelope: a captured sample stays readable, hostile bytes do not pass */
#include <errno.h>
#include <stdlib.h>
#include "bus/wire.h"
#include "tests/unit/tap.h"

/* Version 1 as it was first on the wire: a request nodemgr.list {spec: "up"}.
 * doc/wire.md. Never change this text: a change of the format is a new version. */
static const unsigned char sample[] = {
    0x9b, 0x01, 0x01, 0xac, 'n',  'o',  'd',  'e',  'm',  'g',  'r',  '.',  'l',
    'i',  's',  't',  0xcf, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0xcd,
    0x27, 0x10, 0xcd, 0x03, 0xe8, 0xcd, 0x03, 0xe8, 0xcd, 0x10, 0x92, 0xff, 0xa0,
    0xa0, 0x81, 0xa4, 's',  'p',  'e',  'c',  0xa2, 'u',  'p',
};

static void reads_the_sample(void)
{
    struct wire w;
    size_t used = 0;
    struct err err = { 0 };

    ok(wire_unpack(&w, sample, sizeof sample, &used, &err) == 0, "the sample is understood");
    is(w.topic, "nodemgr.list", "its topic");
    ok(w.kind == WIRE_REQUEST && w.id == 0x1122334455667788ull && w.deadline == 10000,
       "its kind, id and deadline");
    ok(w.uid == 1000 && w.gid == 1000 && w.pid == 4242 && w.node == -1, "who asked");
    ok(used == 40, "the payload begins after the envelope");
    CLEANUP(mp_free) mp_buf m;
    mp_init(&m);
    wire_pack(&m, &w);
    ok(m.b.size == 40 && memcmp(m.b.data, sample, 40) == 0,
       "packed again it is the same, byte for byte");
}

static void reads_what_is_newer(void)
{
    /* twelve fields, the last one unknown; and only nine, without the newest two */
    unsigned char more[64], fewer[64];
    struct wire w;

    memcpy(more, sample, 40);
    more[0] = 0x9c;
    more[40] = 0xc0;
    ok(wire_unpack(&w, more, 41, NULL, NULL) == 0, "an unknown trailing field is ignored");
    memcpy(fewer, sample, 38);
    fewer[0] = 0x99;
    ok(wire_unpack(&w, fewer, 38, NULL, NULL) == 0 && w.from[0] == 0,
       "an envelope without the last two fields is understood");
}

static void refuses(void)
{
    struct wire w;
    struct err err = { 0 };
    unsigned char bad[64];
    bool all = true;

    for (size_t n = 0; n < 40; n++) { /* its own allocation: ASan sees a read too far */
        unsigned char *cut = malloc(n + 1);
        memcpy(cut, sample, n);
        all = all && wire_unpack(&w, cut, n, NULL, &err) < 0 && err.code == EPROTO;
        free(cut);
    }
    ok(all, "every truncation is EPROTO");
    memcpy(bad, sample, sizeof sample);
    bad[2] = 0x63;
    ok(wire_unpack(&w, bad, sizeof sample, NULL, &err) < 0, "an unknown kind is refused");
    says(err.text, "kind", "and the text says what was wrong");
    memcpy(bad, sample, sizeof sample);
    bad[38] = 0x90;
    ok(wire_unpack(&w, bad, sizeof sample, NULL, &err) < 0, "a list in a field is refused");
    memcpy(bad, sample, sizeof sample);
    bad[8] = 0;
    ok(wire_unpack(&w, bad, sizeof sample, NULL, &err) < 0, "a NUL in the topic is refused");
}

static void maps(void)
{
    msgpack_unpacked u;
    CLEANUP(mp_free) mp_buf m;
    struct err err = { 0 };
    int64_t v;
    char *s = NULL;

    mp_init(&m);
    mp_map(&m, 3);
    mp_kint(&m, "small", -5);
    mp_kuint(&m, "huge", UINT64_MAX);
    mp_kbin(&m, "nul", "a\0b", 3);
    msgpack_unpacked_init(&u);
    ok(mp_decode(&u, m.b.data, m.b.size, &err) == 0, "a map is decoded");
    ok(mp_get_int(&u.data, "small", -10, 10, &v, &err) == 0 && v == -5, "a number in range");
    ok(mp_get_int(&u.data, "small", 0, 10, &v, &err) < 0 && err.code == EPROTO,
       "a number out of range is EPROTO");
    says(err.text, "small: -5 is not in 0..10", "and the text names key, value and range");
    ok(mp_get_int(&u.data, "huge", 0, INT64_MAX, &v, &err) < 0, "2^64-1 does not become -1");
    ok(mp_get_int(&u.data, "absent", 0, 1, &v, &err) < 0, "an absent number is refused");
    ok(mp_get_dup(&u.data, "nul", &s, &err) < 0, "text with a NUL inside is refused");
    msgpack_unpacked_destroy(&u);
    msgpack_unpacked_init(&u);
    ok(mp_decode(&u, m.b.data, m.b.size - 1, &err) < 0, "a cut value is refused");
    msgpack_sbuffer_write(&m.b, "\xc0", 1);
    ok(mp_decode(&u, m.b.data, m.b.size, &err) < 0, "bytes after the value are refused");
    msgpack_unpacked_destroy(&u);
}

static void bombs(void)
{
    msgpack_unpacked u;
    struct err err = { 0 };
    struct wire w;
    const size_t big = 10u << 20;
    unsigned char *p = malloc(big);

    msgpack_unpacked_init(&u);
    memset(p, 0x91, big); /* [[[[[... */
    ok(mp_decode(&u, p, big, &err) < 0 && err.code == EPROTO, "lists in lists without end");
    ok(wire_unpack(&w, p, big, NULL, &err) < 0, "nor is that an envelope");
    memset(p, 0xc0, big);
    memcpy(p, "\xdd\xff\xff\xff\xff", 5);
    ok(mp_measure(p, big) == 0, "a list of 2^32-1 items in 10 MB");
    ok(mp_measure("\xdf\xff\xff\xff\xff", 5) == 0, "a map of as many in 5 bytes");
    memcpy(p, "\xdd\x00\x90\x00\x00", 5); /* 9,437,184 nils: 226 MB decoded */
    ok(mp_decode(&u, p, 5 + 0x900000, &err) < 0, "a value that would become very large");
    memcpy(p, "\xdd\x00\x40\x00\x00", 5);
    ok(mp_decode(&u, p, 5 + 0x400000, &err) == 0, "four million items are fine");
    ok(wire_unpack(&w, p, 5 + 0x400000, NULL, &err) < 0, "but are no envelope");
    memset(p, 0x91, 40);
    ok(mp_measure(p, 33) == 0 && mp_measure(p, 40) == 0, "33 lists, nothing inside");
    p[31] = 0xc0;
    ok(mp_measure(p, 40) == 32, "31 lists and a nil");
    ok(mp_measure(p, 31) == 0, "cut");
    ok(mp_measure("", 0) == 0 && mp_measure("\xc1", 1) == 0, "nothing, and what is no value");
    msgpack_unpacked_destroy(&u);
    free(p);
}

int main(void)
{
    reads_the_sample();
    bombs();
    reads_what_is_newer();
    refuses();
    maps();
    return done_testing();
}
