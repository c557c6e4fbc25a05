/* spread.c - who fetches an image from whom: few from the master, nobody in a
 * circle, and what becomes of neighbours that fail */
#include <stdio.h>
#include <string.h>
#include "services/bootsrv/spread.h"
#include "tests/unit/tap.h"

#define N 64
#define HASH "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define OTHER "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static char from[N][80]; /* "": the master */

static void mac_of(int i, char out[32]) { snprintf(out, 32, "52:54:00:00:00:%02x", i); }
static void addr_of(int i, char out[32]) { snprintf(out, 32, "198.18.0.%d", i + 1); }

static void ask(spread_t *s, int i, const char *hash, int port, int64_t now)
{
    char mac[32], addr[32];

    mac_of(i, mac);
    addr_of(i, addr);
    if (!spread_ask(s, mac, hash, addr, (uint16_t)port, now, from[i], sizeof from[i]))
        from[i][0] = '\0';
}

static int source(int i) /* the client that i fetches from; -1: the master */
{
    int k, port;

    return sscanf(from[i], "198.18.0.%d:%d", &k, &port) == 2 ? k - 1 : -1;
}

static int from_master(int n)
{
    int count = 0;

    for (int i = 0; i < n; i++)
        count += source(i) < 0;
    return count;
}

static void many(void)
{
    CLEANUP(spread_destroy) spread_t *s = spread_create(NULL);
    int children[N] = { 0 }, deepest = 0, most = 0;

    for (int i = 0; i < N; i++)
        ask(s, i, HASH, 7000 + i, 0);
    ok(from_master(N) == 2, "of 64 clients two fetch from the master");
    for (int i = 0; i < N; i++) {
        int depth = 0;
        for (int k = i; source(k) >= 0 && depth <= N; k = source(k))
            depth++;
        deepest = depth > deepest ? depth : deepest;
        if (source(i) >= 0)
            children[source(i)]++;
    }
    for (int i = 0; i < N; i++)
        most = children[i] > most ? children[i] : most;
    ok(deepest <= 5, "none is more than five steps from it");
    ok(most <= 3, "and none serves more than three");
    ask(s, 5, HASH, 7005, 1);
    ok(source(5) != 5, "one that asks again is not sent to itself");
    int up = source(5), circle = 0;
    for (int k = 0; up >= 0 && k <= N; k++, up = source(up))
        circle |= up == 5;
    ok(!circle, "nor to one that fetches from it");
}

static void apart(void)
{
    CLEANUP(spread_destroy) spread_t *s = spread_create(NULL);

    for (int i = 0; i < 4; i++)
        ask(s, i, HASH, 7000 + i, 0);
    ask(s, 4, OTHER, 7004, 0);
    ok(source(4) < 0, "another image is not fetched from those that have this one");
    for (int i = 0; i < 4; i++)
        ask(s, 10 + i, OTHER, 0, 0);
    ok(source(12) == 4 && source(13) == 4, "but from one that has it");
}

static void alone(void)
{
    CLEANUP(spread_destroy) spread_t *s = spread_create(NULL);

    for (int i = 0; i < 6; i++)
        ask(s, i, HASH, 0, 0);
    ok(from_master(6) == 6, "clients that do not serve all fetch from the master");
}

static void failures(void)
{
    CLEANUP(spread_destroy) spread_t *s = spread_create(NULL);
    char mac[32], addr[32];

    for (int i = 0; i < 5; i++)
        ask(s, i, HASH, 7000 + i, 0);
    int first = source(4);
    mac_of(4, mac);
    addr_of(first, addr);
    spread_failed(s, mac, addr, (uint16_t)(7000 + first), SPREAD_SLOW);
    ask(s, 4, HASH, 7004, 1);
    ok(first >= 0 && source(4) != first, "a slow neighbour is left");
    ask(s, 20, HASH, 0, 1);
    ask(s, 21, HASH, 0, 1);
    ask(s, 22, HASH, 0, 1);
    ok(source(20) == first || source(21) == first || source(22) == first, "but not by others");

    addr_of(0, addr);
    spread_failed(s, mac, addr, 7000, SPREAD_DAMAGED);
    for (int i = 30; i < 40; i++)
        ask(s, i, HASH, 0, 2);
    int named = 0;
    for (int i = 30; i < 40; i++)
        named |= source(i) == 0;
    ok(!named, "one that sends damage is named to nobody");
    addr_of(1, addr);
    spread_failed(s, mac, addr, 7001, SPREAD_GONE);
    ask(s, 1, HASH, 7001, 3);
    ask(s, 41, HASH, 0, 3);
    ok(source(1) != 1, "one that was said to be gone and asks again is there again");
}

static void endings(void)
{
    CLEANUP(spread_destroy) spread_t *s = spread_create(NULL);
    char mac[32];

    for (int i = 0; i < 4; i++)
        ask(s, i, HASH, 7000 + i, 0);
    for (int i = 0; i < 4; i++) {
        mac_of(i, mac);
        spread_done(s, mac);
    }
    ask(s, 9, HASH, 7009, 1);
    ok(source(9) < 0, "when all are done the next begins at the master again");
    ask(s, 10, HASH, 7010, 1);
    ask(s, 11, HASH, 7011, 1);
    ok(source(11) >= 9, "and others follow it");
    ask(s, 12, HASH, 7012, 1000 * 1000);
    ok(source(12) < 0, "those that were not heard of for long are forgotten");
    spread_done(s, "52:54:00:ff:ff:ff");
    ok(1, "one that was never there may be done");
}

int main(void)
{
    many();
    apart();
    alone();
    failures();
    endings();
    return done_testing();
}
