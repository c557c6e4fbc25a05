/* nodespec.c - tests of the node specification grammar */
#include "bus/nodespec.h"
#include "tests/unit/tap.h"
#include <errno.h>
#include <stdlib.h>

/* The reference's sample cluster. */
static const struct nodespec_node sample[] = {
    { 0, "up" }, { 1, "up" }, { 2, "down" }, { 3, "up" }, { 5, "up" }, { 6, "boot" },
    { 7, "error" }, { 8, "up" }, { 9, "up" }, { 1000, "unavailable" },
};
static const struct nodespec_node four[] = {
    { 0, "up" }, { 1, "up" }, { 2, "allocated" }, { 3, "up" },
};

static void gives_of(const struct nodespec_node *nodes, size_t n, const char *spec,
                     const char *want)
{
    struct err err = { 0 };
    char name[120], got[400] = "";
    size_t len = 0;

    CLEANUP(nodelist_free) nodelist_t l;
    nodelist_init(&l);
    snprintf(name, sizeof name, "\"%s\" gives %s", spec, want);
    if (nodespec_eval(spec, nodes, n, false, &l, &err) < 0) {
        is(err.text, want, name);
        return;
    }
    for (size_t i = 0; i < l.n; i++)
        len += (size_t)snprintf(got + len, sizeof got - len, "%s%d", i ? " " : "",
                                l.node[i]);
    is(got, want, name);
}

static void gives(const char *spec, const char *want)
{
    gives_of(sample, sizeof sample / sizeof sample[0], spec, want);
}

static void refuses(const char *spec, int code, const char *part)
{
    struct err err = { 0 };
    char name[200];

    CLEANUP(nodelist_free) nodelist_t l;
    nodelist_init(&l);
    snprintf(name, sizeof name, "\"%s\" is refused: %s", spec, part);
    if (nodespec_eval(spec, four, 4, false, &l, &err) == 0) {
        ok(false, "%s (but it was taken)", name);
        return;
    }
    if (err.code != code)
        ok(false, "%s (but code %d: %s)", name, err.code, err.text);
    else
        says(err.text, part, name);
}

static void refusals(void)
{
    refuses("9", ENOENT, "node 9: there are only 4 nodes, 0-3");
    refuses("0,9", ENOENT, "node 9");
    refuses("7-8", ENOENT, "no node is in the range 7-8; the highest is 3");
    refuses("3-1", ENOENT, "a range goes upward, 1-3");
    refuses("boot", ENOENT, "no node is in state boot");
    refuses("upp", EINVAL, "did you mean up?");
    refuses("notdwon", EINVAL, "did you mean notdown?");
    refuses("Up", EINVAL, "did you mean up?");
    refuses("zebra", EINVAL, "usual are up, down");
    refuses("5x", EINVAL, "after a node number");
    refuses("0x5", EINVAL, "after a node number");
    refuses("1-x", EINVAL, "after \"-\"");
    refuses("1-2-3", EINVAL, "a range is two numbers");
    refuses("my-host", EINVAL, "without \"-\"");
    refuses("!up", EINVAL, "notup");
    refuses("0, 1", EINVAL, "no blanks");
    refuses("99999999999999999999", EINVAL, "end at 1000000");
    refuses("1-99999999999999999999", EINVAL, "end at 1000000");
    refuses("-2", EINVAL, "neither a node number");
    refuses(".", EINVAL, "neither a node number");
    refuses("", EINVAL, "empty");
    refuses(",,", EINVAL, "empty");
    refuses("not", EINVAL, "no node is in a state");
    refuses("\xff\xfe", EINVAL, "neither a node number");
}

static void limits(void)
{
    struct err err = { 0 };
    char *spec = malloc(1 << 20);
    char *p = spec;

    CLEANUP(nodelist_free) nodelist_t l;
    nodelist_init(&l);
    for (int i = 0; i < 1000; i++)
        p += sprintf(p, "all,");
    ok(nodespec_eval(spec, four, 4, false, &l, &err) < 0 && err.code == EINVAL,
       "a thousand words in one spec are refused");
    nodelist_free(&l);
    ok(nodespec_numbers("0-1000000,0-1000000", &l, &err) < 0 && err.code == EINVAL,
       "and so are two million numbers");
    nodelist_free(&l);
    ok(nodespec_numbers("0-1000000", &l, &err) == 0 && l.n == 1000001,
       "but every legal number at once is taken");
    free(spec);
}

static void lists(void)
{
    struct err err = { 0 };

    CLEANUP(nodelist_free) nodelist_t l;
    nodelist_init(&l);
    CLEANUP(cleanup_free) char *none = nodelist_text(&l);
    is(none, "", "the text of an empty list is empty");
    ok(nodespec_numbers("0-3,7,n9,010,", &l, &err) == 0 && l.n == 7, "numbers and ranges");
    nodelist_add(&l, -1);
    nodelist_add(&l, 0);
    CLEANUP(cleanup_free) char *text = nodelist_text(&l);
    is(text, "0-3,7,9-10,master,0", "a list folds into ranges, in its own order");
    ok(nodespec_numbers("up", &l, &err) < 0 && nodespec_numbers("5-", &l, &err) < 0 &&
       nodespec_numbers("8-3", &l, &err) < 0 && nodespec_numbers("-1", &l, &err) < 0,
       "words, open and downward ranges are no numbers");
}

static void rows(void)
{
    const struct nodespec_node v[] = { { 2, "up" }, { 5, "up" }, { 1000, "up" } };

    ok(node_row(v, 3, sizeof *v, 2) == &v[0] && node_row(v, 3, sizeof *v, 1000) == &v[2],
       "a row is found by its node");
    ok(!node_row(v, 3, sizeof *v, 3) && !node_row(v, 3, sizeof *v, 1001) &&
           !node_row(NULL, 0, sizeof *v, 0), "or is not there");
    ok(node_place(v, 3, sizeof *v, 0) == 0 && node_place(v, 3, sizeof *v, 3) == 1 &&
           node_place(v, 3, sizeof *v, 5) == 1 && node_place(v, 3, sizeof *v, 1001) == 3,
       "where it would be is known too");
}

int main(void)
{
    struct err err = { 0 };

    refusals();
    gives("5", "5");
    gives("n5,.5", "5 5");
    gives("010", "node 10: there are only 10 nodes, 0-3,5-9,1000");
    gives("0008", "8");
    gives("5-8", "5 6 7 8");
    gives("n5-n8,", "5 6 7 8");
    gives("5-", "5 6 7 8 9 1000");
    gives("1,1,0", "1 1 0");
    gives(",1,,0,", "1 0");
    gives("all", "0 1 2 3 5 6 7 8 9 1000");
    gives("up", "0 1 3 5 8 9");
    gives("allup", "0 1 3 5 8 9");
    gives("2-5,allerror", "2 3 5 7");
    gives("allboot,up", "6 0 1 3 5 8 9");
    gives("8-2000", "8 9 1000");
    gives("allnotdown", "0 1 3 5 6 7 8 9 1000");
    gives("notup", "2 6 7 1000");
    gives("8-3,4-4,0", "0");
    gives("master", "-1");
    gives("-1,n-1,0", "-1 -1 0");
    gives_of(four, 4, "allocated", "2");
    gives_of(four, 4, "allallocated", "2");
    gives_of(four, 4, "notallocated", "0 1 3");
    gives_of(four, 0, "0", "no nodes are configured");
    gives_of(four, 0, "master", "-1");

    CLEANUP(nodelist_free) nodelist_t l;
    nodelist_init(&l);
    ok(nodespec_eval("9,boot,8-3,", four, 4, true, &l, &err) == 0 && l.n == 0,
       "an empty result is no error where the caller allows it");
    ok(nodespec_eval("bot", four, 4, true, &l, &err) < 0, "a misspelt state still is");
    lists();
    limits();
    rows();
    return done_testing();
}
