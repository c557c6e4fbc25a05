/* nodes.c - tests of nodemgr's nodes: silence, standing, rules, the database */
#include "services/nodemgr/nodes.h"
#include "services/nodemgr/db.h"
#include "tests/unit/tap.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char addr0[] = "198.18.1.0", addr7[] = "198.18.1.7", mac7[] = "02:c6:12:00:00:07";
static char *addrs0[] = { addr0 }, *addrs7[] = { addr7 }, *macs7[] = { mac7 };
static struct cm_node conf_nodes[] = {
    { .number = 0, .addrs = { addrs0, 1 } },
    { .number = 7, .addrs = { addrs7, 1 }, .macs = { macs7, 1 } },
};
static struct cm_config conf = { .nodes = conf_nodes, .nnodes = 2 };
static const nodes_t none;

static void nodes_done(nodes_t *s)
{
    nodes_drop(s, &none);
}

static void build(nodes_t *s)
{
    struct err err = { 0 };

    if (nodes_build(s, &conf, &none, &err) < 0)
        exit(99);
    for (size_t i = 0; i < s->n; i++)
        s->v[i]->conf = &conf_nodes[i];
}

static void the_set(void)
{
    struct err err = { 0 };
    CLEANUP(nodes_done) nodes_t s;
    CLEANUP(nodelist_free) nodelist_t l;

    build(&s);
    nodelist_init(&l);
    struct node *n = nodes_get(&s, 7);
    ok(s.n == 2 && n && !nodes_get(&s, 1) && !nodes_get(&s, -1), "nodes are found by number");
    ok(nodes_by_addr(&s, "198.18.1.7") == n && nodes_by_mac(&s, mac7) == n, "address and MAC");
    ok(!nodes_by_key(&s, "") && !nodes_by_addr(&s, ""), "nothing is found by nothing");
    ok(nodes_resolve(&s, "198.18.1.7", false, &l, &err) == 0 && l.n == 1 && l.node[0] == 7,
       "a node may be asked for by its address");
    ok(nodes_resolve(&s, "198.18.1.8", false, &l, &err) < 0 && err.code == ENOENT,
       "but not by another's: %s", err.text);
    ok(nodes_resolve(&s, NULL, false, &l, &err) == 0 && l.n == 3, "no spec means all");
    is(node_state(n), "down", "a node begins down");
    is(node_addr(n), "198.18.1.7", "with the address of the configuration");
}

static void silence(void)
{
    CLEANUP(nodes_done) nodes_t s;
    struct patience p = patience_of(10000, 30000, 1000);

    build(&s);
    struct node *n = s.v[0];
    ok(p.late_ms == 3333 && p.ping_ms == 10000 && p.lost_ms == 31500,
       "late after a third of pingtimeout, lost after the grace and a moment");
    ok(patience_of(2000, 0, 400).late_ms == 1200 && patience_of(2000, 0, 400).lost_ms == 3500,
       "or three beats; and not before pingtimeout");
    ok(beat_interval(100, 30000) == 1000 && beat_interval(400, 30000) == 4000 &&
       beat_interval(10000, 30000) == 6000 && beat_interval(1, 2000) == 400,
       "more nodes beat more slowly, but five times in pingtimeout");
    ok(node_tick(n, 99999, &p) == NODE_SAME, "a node that never came is not missed");
    node_begin(n, "space-1", "boot-1", 1000);
    node_set_state(n, "mine", "root", "because");
    n->standing->mode = 0101;
    ok(node_tick(n, 4000, &p) == NODE_SAME, "three seconds of silence are nothing");
    ok(node_tick(n, 4400, &p) == NODE_LATE && node_tick(n, 4500, &p) == NODE_SAME,
       "then it is late, once");
    is(node_reach(n), "late", "which is how it is reached");
    is(node_state(n), "mine", "not what it is");
    ok(node_heard(n, 5000) && !node_heard(n, 5000), "a word ends that");
    ok(node_tick(n, 15000, &p) == NODE_SILENT && node_tick(n, 16000, &p) == NODE_SAME,
       "after pingtimeout it is silent");
    is(node_state(n), "down", "that is down");
    ok(node_alive(n) && strstr(node_word(n)->why, "no word from it for 10 s"),
       "for a reason, and still alive: %s", node_word(n)->why);
    ok(node_heard(n, 20000) && strcmp(node_state(n), "mine") == 0 && n->standing->mode == 0101,
       "a word brings all of it back");
    ok(node_tick(n, 51400, &p) == NODE_SILENT && node_tick(n, 51500, &p) == NODE_GIVEN_UP,
       "after the grace it is given up");
    node_lose(n, "nodemgr", "gone");
    ok(!node_alive(n) && n->standing->mode == 0 && strcmp(n->machine->lost_space, "space-1") == 0,
       "then nothing is left but the name of what was lost");
}

static void states(void)
{
    static const char *const bad[] = { "", "5", "a-b", "a b", "all", "master", "notup", "n5", "\xc3" };
    struct err err = { 0 };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ok(state_check(bad[i], &err) < 0 && err.code == EINVAL, "no state: %s", err.text);
    ok(state_check("sixteen_letters_", &err) < 0 && err.code == ENOSPC, "too long: %s", err.text);
    ok(state_check("fifteen_letters", &err) == 0 && state_check("n", &err) == 0 &&
       state_check("allocated", &err) == 0, "other words are states");
}

static int may(struct node *n, int64_t uid, gid_t gid, gid_t more, struct err *err)
{
    struct person p = { .uid = uid, .gid = gid, .groups_known = true, .groups = &more,
                        .ngroups = 1 };

    *err = (struct err){ 0 };
    node_may_start(n, &p, 10000, err);
    return err->code;
}

static void permission(void)
{
    CLEANUP(nodes_done) nodes_t s;
    struct err err;
    char text[MODE_TEXT];

    build(&s);
    struct node *n = s.v[1];
    ok(may(n, 0, 0, 0, &err) == BE_NODEDOWN, "nobody starts work on a down node: %s", err.text);
    node_begin(n, "s", "b", 10000);
    n->standing->uid = 1000;
    n->standing->gid = 2000;
    for (unsigned mode = 0; mode < 8; mode++) {
        n->standing->mode = (mode & 4 ? 0100 : 0) | (mode & 2 ? 0010 : 0) | (mode & 1);
        mode_text(n->standing->mode, text);
        ok((may(n, 1000, 2000, 2000, &err) == 0) == !!(mode & 4) &&
           (may(n, 1001, 2000, 0, &err) == 0) == !!(mode & 2) &&
           (may(n, 1001, 1, 2000, &err) == 0) == !!(mode & 2) &&
           (may(n, 1001, 1, 1, &err) == 0) == !!(mode & 1) &&
           (may(n, 0, 0, 0, &err) == 0) == !!mode,
           "%s: owner, group, others and root by their bits", text);
    }
    n->standing->mode = 0100;
    may(n, 1001, 1, 1, &err);
    is(err.text, "no execute permission for user 1001: mode ---x------ owner 1000; ask its "
       "owner or root: bpctl -S 7 -m 111", "a refusal says who, why and what to do");
    ok(may(n, -1, -1, 0, &err) == EACCES, "who is nobody on the master has none");
    n->machine->late = true;
    ok(may(n, 0, 0, 0, &err) == BE_NODEDOWN && strstr(err.text, "Node is late"),
       "a late node takes no work: %s", err.text);
}

static void attributes(void)
{
    CLEANUP(nodes_done) nodes_t s;
    struct err err = { 0 };
    char name[80];

    build(&s);
    struct standing *st = s.v[0]->standing;
    for (int i = 0; i < ATTR_MAX; i++) {
        snprintf(name, sizeof name, "a%d", i);
        if (standing_attr(st, name, name, strlen(name), &err) < 0)
            ok(false, "attribute %d: %s", i, err.text);
    }
    ok(st->nattr == ATTR_MAX, "%d attributes fit", ATTR_MAX);
    ok(standing_attr(st, "more", "", 0, &err) < 0 && err.code == ENOSPC, "not one more: %s",
       err.text);
    ok(standing_attr(st, "a5", "new", 3, &err) == 0 && standing_attr_get(st, "a5")->len == 3,
       "but one of them changes");
    ok(standing_attr(st, "a5", NULL, 0, &err) == 0 && !standing_attr_get(st, "a5") &&
       standing_attr_get(st, "a31"), "or goes");
    ok(standing_attr(st, "state", "x", 1, &err) < 0 && standing_attr(st, "", "x", 1, &err) < 0 &&
       standing_attr(st, "a/b", "x", 1, &err) < 0, "some names are not for setting");
    memset(name, 'x', 58);
    name[58] = '\0';
    ok(standing_attr(st, name, "x", 1, &err) < 0 && err.code == ENOSPC, "58 letters are too many");
    name[57] = '\0';
    ok(standing_attr(st, name, name, 65, &err) < 0 && err.code == ENOSPC, "and so are 65 bytes");
    ok(standing_attr(st, name, name, 64, &err) == 0, "one less of each fits");
}

static void database(void)
{
    struct err err = { 0 };
    char dir[] = "/tmp/nodes-test-XXXXXX", path[64];
    CLEANUP(nodes_done) nodes_t s, t;

    build(&s);
    build(&t);
    if (!mkdtemp(dir))
        exit(99);
    snprintf(path, sizeof path, "%s/n.db", dir);
    CLEANUP(db_close) db_t *d = db_open(path, &err);
    if (!ok(d != NULL, "the database opens: %s", err.text))
        return;
    struct node *n = s.v[1], *back = t.v[1];
    ok(db_load(d, n, 5, &err) == 0 && !n->machine->key[0], "what is not there is no error");
    node_begin(n, "space", "boot", 5);
    snprintf(n->machine->key, sizeof n->machine->key, "key");
    strlist_add(&n->machine->macs, mac7);
    n->machine->mem = 1LL << 40;
    n->machine->silent = true;
    n->standing->uid = 4000000000u;
    standing_attr(n->standing, "bytes", "a\0b", 3, &err);
    standing_attr(n->standing, "empty", "", 0, &err);
    ok(db_flush(d, &s, &err) == 0 && !n->dirty && !n->attrs_dirty, "a dirty node is written");
    db_close(&d);
    d = db_open(path, &err);
    ok(d && db_load(d, back, 77, &err) == 0, "and read: %s", err.text);
    const struct attr *bytes = standing_attr_get(back->standing, "bytes");
    ok(strcmp(back->machine->key, "key") == 0 && strcmp(back->machine->space, "space") == 0 &&
       back->machine->mem == 1LL << 40 && back->machine->silent && back->machine->macs.n == 1 &&
       back->standing->uid == 4000000000u && back->standing->mode == 0100 &&
       back->machine->heard_at == 77, "with all that matters");
    ok(bytes && bytes->len == 3 && memcmp(bytes->value, "a\0b", 3) == 0 &&
       standing_attr_get(back->standing, "empty"), "attributes are bytes");
    CLEANUP(cleanup_free) char *nothing = db_get(d, "instance", &err);
    is(nothing, "", "a text that is not there is empty");
    ok(db_put(d, "instance", "one", &err) == 0 && db_put(d, "instance", "two", &err) == 0,
       "texts are put");
    CLEANUP(cleanup_free) char *two = db_get(d, "instance", &err);
    is(two, "two", "and got");
    db_close(&d);
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    the_set();
    silence();
    states();
    permission();
    attributes();
    database();
    return done_testing();
}
