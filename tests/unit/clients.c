/* clients.c - what the commands share, and the tree of bpps */
#include "tests/unit/tap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bus/mp.h"
#include "clients/bpps/bpps.h"
#include "clients/common/json.h"
#include "clients/common/nodes.h"
#include "clients/common/opt.h"
#include "clients/common/table.h"
#include "clients/common/users.h"

static void numbers(void)
{
    int64_t v = 7;

    ok(opt_number("010", 10, 0, 99, &v) && v == 10, "010 is ten");
    ok(opt_number("0111", 8, 0, 07777, &v) && v == 0111, "a mode is octal");
    v = 7;
    ok(!opt_number("9", 8, 0, 07777, &v) && !opt_number(" 1", 10, 0, 9, &v) &&
           !opt_number("-1", 10, -9, 9, &v) && !opt_number("+1", 10, 0, 9, &v) &&
           !opt_number("", 10, 0, 9, &v) && !opt_number("1x", 10, 0, 9, &v) && v == 7,
       "no octal 9, no blanks, signs, rests; the old value stays");
    ok(!opt_number("99999999999999999999", 10, 0, INT64_MAX, &v),
       "a number that does not fit is refused");
}

static void users(void)
{
    int64_t id = -5;

    is(users_name(0), "root", "uid 0 is root");
    is(users_name(4242424), "#4242424", "an id without a name shows its number");
    ok(users_name(4242424) == users_name(4242424), "and is asked for once");
    is(users_name(0xffffffff), "#4294967295", "uid -1 is nobody's");
    ok(users_parse("root", &id) && id == 0, "root is uid 0");
    ok(users_parse("4242424", &id) && id == 4242424, "a number is itself");
    ok(!users_parse("no-such-user", &id) && !users_parse("4294967295", &id) &&
           !users_parse("-1", &id),
       "an unknown name, uid -1 and a sign are refused");
}

/* what table_text() writes of s; caller frees */
static char *shown(const char *s, size_t len, size_t max)
{
    char *text = NULL;
    size_t room;
    FILE *f = open_memstream(&text, &room);

    if (f) {
        table_text(f, s, len, max);
        fclose(f);
    }
    return text;
}

static void shows(const char *s, size_t max, const char *want, const char *name)
{
    CLEANUP(cleanup_free) char *got = shown(s, strlen(s), max);

    is(got, want, name);
}

static void table(void)
{
    char mode[11], since[32];

    table_mode(mode, 0111);
    is(mode, "---x--x--x", "mode 0111");
    table_mode(mode, 07666);
    is(mode, "----------", "only execute bits are shown");
    table_time(since, 0);
    is(since, "-", "an unknown time is a dash");
    shows("a\33[2Jb", 0, "a?[2Jb", "escape sequences cannot reach the terminal");
    shows("gr\xc3\xbc\xc3\x9f", 3, "gr\xc3\xbc", "a cut counts characters, not bytes");
    shows("x\xc3", 0, "x?", "half a character is shown as such");
    shows("\xc2\x9b" "2J", 0, "??2J", "nor can the eight-bit control characters");
}

/* The JSON text of what was packed; caller frees. */
static char *as_json(const mp_buf *m)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked u;
    char *text = NULL;

    msgpack_unpacked_init(&u);
    if (mp_decode(&u, m->b.data, m->b.size, NULL) == 0) {
        json_t *v = json_of(&u.data);
        text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
        json_decref(v);
    }
    return text;
}

static void json(void)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 6);
    mp_kbin(&m, "bin", "\4\0\0\0", 4);
    mp_kbin(&m, "text", "r1", 2);
    mp_kuint(&m, "big", UINT64_MAX);
    mp_kint(&m, "neg", -3);
    mp_key(&m, "list");
    mp_array(&m, 2);
    mp_nil(&m);
    mp_bool(&m, true);
    mp_kstr(&m, "bad", "a\xff");
    CLEANUP(cleanup_free) char *text = as_json(&m);
    is(text,
       "{\"bin\":{\"hex\":\"04000000\"},\"text\":\"r1\",\"big\":\"18446744073709551615\","
       "\"neg\":-3,\"list\":[null,true],\"bad\":\"a\xef\xbf\xbd\"}",
       "bytes are hex unless printable, big numbers text, bad UTF-8 replaced");
}

static void refuses(const mp_buf *m, const char *why, const char *name)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked u;
    CLEANUP(nodes_free) struct nodes t;
    struct err err = { 0 };

    nodes_init(&t);
    msgpack_unpacked_init(&u);
    ok(mp_decode(&u, m->b.data, m->b.size, NULL) == 0 &&
           nodes_decode(&t, &u.data, &err) < 0 && err.code == EPROTO,
       "%s", name);
    says(err.text, why, "and the text says what");
}

static void node_maps(void)
{
    CLEANUP(mp_free) mp_buf nil, text, wide;

    mp_init(&nil);
    mp_nil(&nil);
    refuses(&nil, "not a list", "a reply that is no list is refused");
    mp_init(&text);
    mp_array(&text, 1);
    mp_map(&text, 1);
    mp_kstr(&text, "node", "5");
    refuses(&text, "node", "a node number that is text is refused");
    mp_init(&wide);
    mp_array(&wide, 1);
    mp_map(&wide, 2);
    mp_kint(&wide, "node", 5);
    mp_kuint(&wide, "mode", 1u << 20);
    refuses(&wide, "mode", "a mode out of range is refused");
}

/* Rows "node/pid/ppid", given sorted by node and pid, in tree order. */
static void tree_is(const int (*row)[3], size_t n, const char *want, const char *name)
{
    struct procs p = { .v = calloc(n + 1, sizeof(*p.v)), .n = n };
    char got[200] = "";

    for (size_t i = 0; i < n; i++) {
        p.v[i].node = row[i][0];
        p.v[i].pid = row[i][1];
        p.v[i].ppid = row[i][2];
    }
    if (ok(tree_order(&p, NULL) == 0, "%s: ordered", name))
        for (size_t i = 0, used = 0; i < p.n; i++)
            used += (size_t)snprintf(got + used, sizeof(got) - used, "%s%d/%d+%d",
                                     i ? " " : "", (int)p.v[i].node, (int)p.v[i].pid,
                                     p.v[i].depth);
    is(got, want, name);
    procs_free(&p);
}

static void tree(void)
{
    static const int plain[][3] = { { 0, 1, 0 }, { 0, 4, 1 }, { 0, 5, 4 }, { 0, 9, 1 },
                                    { 1, 1, 0 }, { 1, 5, 4 } };
    static const int loops[][3] = { { 0, 2, 3 }, { 0, 3, 2 }, { 0, 7, 7 }, { 0, 8, 3 } };

    tree_is(plain, 6, "0/1+0 0/4+1 0/5+2 0/9+1 1/1+0 1/5+0",
            "children follow their parents, on their own node only");
    tree_is(loops, 4, "0/7+0 0/2+0 0/3+1 0/8+2",
            "rows that are each other's parents come out once");
}

int main(void)
{
    numbers();
    users();
    table();
    json();
    node_maps();
    tree();
    return done_testing();
}
