/* nodespec.c - the node specification grammar and lists of nodes
 *
 * An item is a number, a range, or a word. Numbers select from the configured
 * nodes; a number that stands alone must be configured, a range takes what is
 * there. What selects nothing is remembered, so that an empty result can say
 * why it is empty.
 */
#include "bus/nodespec.h"
#include "bus/nearest.h"
#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A spec may come from a stranger to the service that evaluates it: what it
 * can make us do is bounded. */
#define NODES_LIMIT (NODE_MAX + 1)
#define WORDS_LIMIT 64

void nodelist_init(nodelist_t *l)
{
    *l = (nodelist_t){ 0 };
}

void nodelist_free(nodelist_t *l)
{
    int keep = errno;

    free(l->node);
    nodelist_init(l);
    errno = keep;
}

int nodelist_add(nodelist_t *l, int node)
{
    if (l->n == l->alloc) {
        size_t alloc = l->alloc ? l->alloc * 2 : 16;
        int *more = realloc(l->node, alloc * sizeof *more);
        if (!more)
            return -1;
        l->node = more;
        l->alloc = alloc;
    }
    l->node[l->n++] = node;
    return 0;
}

static int node_of(const char *row)
{
    int node;

    memcpy(&node, row, sizeof node);
    return node;
}

size_t node_place(const void *rows, size_t n, size_t row_size, int node)
{
    size_t lo = 0, hi = n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (node_of((const char *)rows + mid * row_size) < node)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

void *node_row(const void *rows, size_t n, size_t row_size, int node)
{
    size_t i = node_place(rows, n, row_size, node);
    char *row = i < n ? (char *)(uintptr_t)rows + i * row_size : NULL;

    return row && node_of(row) == node ? row : NULL;
}

char *nodelist_text(const nodelist_t *l)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    if (!f)
        return NULL;
    for (size_t i = 0; i < l->n;) {
        size_t end = i; /* last of the run that begins at i */
        while (l->node[i] >= 0 && end + 1 < l->n && l->node[end + 1] == l->node[end] + 1)
            end++;
        if (i)
            putc(',', f);
        if (l->node[i] < 0)
            fputs("master", f);
        else if (end > i)
            fprintf(f, "%d-%d", l->node[i], l->node[end]);
        else
            fprintf(f, "%d", l->node[i]);
        i = end + 1;
    }
    if (fclose(f) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* ---- one item ---- */

struct item {
    enum { ITEM_RANGE, ITEM_WORD } kind;
    const char *text; /* for messages */
    int len;
    int first, last; /* range, both ends included */
    bool single;     /* a number by itself */
    bool open;       /* "5-" */
};

static int bad(const struct item *it, struct err *err, const char *why)
{
    return err_set(err, EINVAL, "\"%.*s\": %s", it->len, it->text, why);
}

/* Digits at p, decimal whatever they begin with; NULL: none or too big. */
static const char *number(const char *p, const char *end, int *out)
{
    long v = 0;

    if (p == end || !isdigit((unsigned char)*p))
        return NULL;
    for (; p < end && isdigit((unsigned char)*p); p++) {
        v = v * 10 + (*p - '0');
        if (v > NODE_MAX)
            return NULL;
    }
    *out = (int)v;
    return p;
}

static const char *skip_sigil(const char *p, const char *end)
{
    return end - p > 1 && (*p == 'n' || *p == '.') && isdigit((unsigned char)p[1])
           ? p + 1 : p;
}

static int parse_range(struct item *it, const char *p, struct err *err)
{
    const char *end = it->text + it->len;

    it->kind = ITEM_RANGE;
    p = number(p, end, &it->first);
    if (!p)
        return bad(it, err, "node numbers end at 1000000");
    it->last = it->first;
    it->single = p == end;
    if (p == end)
        return 0;
    if (*p != '-')
        return bad(it, err, "after a node number only \",\" or \"-\" may stand");
    if (++p == end) {
        it->open = true;
        it->last = NODE_MAX;
        return 0;
    }
    p = skip_sigil(p, end);
    if (!isdigit((unsigned char)*p))
        return bad(it, err, "after \"-\" a node number must stand, or nothing");
    p = number(p, end, &it->last);
    if (!p)
        return bad(it, err, "node numbers end at 1000000");
    if (p != end)
        return bad(it, err, "a range is two numbers, as in 5-8");
    return 0;
}

static int parse_item(struct item *it, struct err *err)
{
    const char *end = it->text + it->len, *p = skip_sigil(it->text, end);

    *it = (struct item){ .text = it->text, .len = it->len };
    if (isdigit((unsigned char)*p))
        return parse_range(it, p, err);
    if ((it->len == 2 && memcmp(it->text, "-1", 2) == 0) ||
        (it->len == 3 && memcmp(it->text, "n-1", 3) == 0)) {
        it->kind = ITEM_RANGE;
        it->first = it->last = -1;
        it->single = true;
        return 0;
    }
    it->kind = ITEM_WORD;
    if (*p == '!')
        return bad(it, err, "negation is written not, as in notup");
    if (isspace((unsigned char)*p))
        return bad(it, err, "no blanks may stand in a node list");
    if (!isalpha((unsigned char)*p))
        return bad(it, err, "neither a node number nor a state; "
                            "legal are 5, n5, 5-8, 5-, all, up, notup, master");
    for (p = it->text; p < end; p++)
        if (!isalnum((unsigned char)*p) && *p != '_')
            return bad(it, err, *p == '-' ? "a state is one word without \"-\""
                       : isspace((unsigned char)*p) ? "no blanks may stand in a node list"
                       : "a state is letters, digits and \"_\"");
    return 0;
}

/* The next item that is not empty. *p moves behind it. */
static bool next_item(const char **p, struct item *it)
{
    *p += strspn(*p, ",");
    if (!**p)
        return false;
    it->text = *p;
    it->len = (int)strcspn(*p, ",");
    *p += it->len;
    return true;
}

/* ---- evaluation ---- */

struct eval {
    const struct nodespec_node *nodes;
    size_t n;
    nodelist_t *out;
    int words;
    struct err empty; /* why the first empty item is empty */
};

static int take(struct eval *e, int node, struct err *err)
{
    if (e->out->n >= NODES_LIMIT)
        return err_set(err, EINVAL, "the node list names more than %d nodes", NODES_LIMIT);
    if (nodelist_add(e->out, node) < 0)
        return err_set(err, ENOMEM, "no memory for the node list");
    return 0;
}

static int no_such_node(const struct eval *e, int node, struct err *err)
{
    nodelist_t all;

    nodelist_init(&all);
    for (size_t i = 0; i < e->n; i++)
        nodelist_add(&all, e->nodes[i].node);
    CLEANUP(cleanup_free) char *text = nodelist_text(&all);
    nodelist_free(&all);
    return err_set(err, ENOENT, "node %d: there %s only %zu node%s, %.200s", node,
                   e->n == 1 ? "is" : "are", e->n, e->n == 1 ? "" : "s", text ? text : "");
}

static void note_empty(struct eval *e, const struct item *it)
{
    if (e->empty.code)
        return;
    if (it->last < it->first)
        err_set(&e->empty, ENOENT, "\"%.*s\" selects no node: a range goes upward, %d-%d",
                it->len, it->text, it->last, it->first);
    else
        err_set(&e->empty, ENOENT, "no node is in the range %.*s; the highest is %d",
                it->len, it->text, e->nodes[e->n - 1].node);
}

static int eval_range(struct eval *e, const struct item *it, bool allow_empty,
                      struct err *err)
{
    size_t lo = node_place(e->nodes, e->n, sizeof *e->nodes, it->first), before = e->out->n;

    if (it->first == -1)
        return take(e, -1, err);
    for (; lo < e->n && e->nodes[lo].node <= it->last; lo++)
        if (take(e, e->nodes[lo].node, err) < 0)
            return -1;
    if (e->out->n > before)
        return 0;
    if (it->single && !allow_empty)
        return no_such_node(e, it->first, err);
    note_empty(e, it);
    return 0;
}

/* States that mean something even while no node is in them. */
static const char *const usual[] = { "up", "down", "boot", "error", "unavailable" };
#define NUSUAL (sizeof usual / sizeof usual[0])

static bool state_known(const struct eval *e, const char *word)
{
    for (size_t i = 0; i < NUSUAL; i++)
        if (strcmp(word, usual[i]) == 0)
            return true;
    for (size_t i = 0; i < e->n; i++)
        if (strcmp(word, e->nodes[i].state) == 0)
            return true;
    return false;
}

static int unknown_state(const struct eval *e, const struct item *it, const char *state,
                         struct err *err)
{
    static const char *const fixed[] = { "all", "master" };
    CLEANUP(cleanup_free) const char **words = NULL;
    const char *near = NULL;
    size_t n = 0;

    words = malloc((NUSUAL + 2 + e->n) * sizeof *words);
    if (words) {
        for (size_t i = 0; i < NUSUAL; i++)
            words[n++] = usual[i];
        for (size_t i = 0; i < 2; i++)
            words[n++] = fixed[i];
        for (size_t i = 0; i < e->n; i++)
            words[n++] = e->nodes[i].state;
        near = nearest_word(state, words, n);
    }
    if (near)
        return err_set(err, EINVAL, "\"%.*s\": no node is in a state of that name; "
                       "did you mean %.*s%s?", it->len, it->text,
                       (int)(it->len - (int)strlen(state)), it->text, near);
    return err_set(err, EINVAL, "\"%.*s\": no node is in a state of that name; usual "
                   "are up, down, boot, error and unavailable", it->len, it->text);
}

static int eval_word(struct eval *e, const struct item *it, struct err *err)
{
    CLEANUP(cleanup_free) char *word = strndup(it->text, (size_t)it->len);
    size_t before = e->out->n;
    bool negate = false;
    char *state = word;

    if (!word)
        return err_set(err, ENOMEM, "no memory for the node list");
    if (strcmp(word, "master") == 0)
        return take(e, -1, err);
    if (++e->words > WORDS_LIMIT)
        return err_set(err, EINVAL, "more than %d words in one node list", WORDS_LIMIT);
    bool all = strcmp(word, "all") == 0;
    /* A state "allocated" is itself, not "all" and "ocated". */
    if (!all && strncmp(state, "all", 3) == 0 && !state_known(e, state))
        state += 3;
    if (!all && strncmp(state, "not", 3) == 0 && state[3]) {
        state += 3;
        negate = true;
    }
    if (!all && !state_known(e, state))
        return unknown_state(e, it, state, err);
    for (size_t i = 0; i < e->n; i++)
        if (all || (strcmp(e->nodes[i].state, state) == 0) != negate)
            if (take(e, e->nodes[i].node, err) < 0)
                return -1;
    if (e->out->n == before && !e->empty.code)
        err_set(&e->empty, ENOENT, negate ? "every node is in state %s" :
                "no node is in state %s", state);
    return 0;
}

int nodespec_eval(const char *spec, const struct nodespec_node *nodes, size_t n,
                  bool allow_empty, nodelist_t *out, struct err *err)
{
    struct eval e = { .nodes = nodes, .n = n, .out = out };
    size_t before = out->n;
    const char *p = spec;
    struct item it;

    while (next_item(&p, &it)) {
        if (parse_item(&it, err) < 0)
            return -1;
        bool master = it.kind == ITEM_RANGE ? it.first == -1
                      : it.len == 6 && memcmp(it.text, "master", 6) == 0;
        if (n == 0 && !master) {
            err_set(&e.empty, ENOENT, "no nodes are configured");
            continue;
        }
        if ((it.kind == ITEM_RANGE ? eval_range(&e, &it, allow_empty, err)
             : eval_word(&e, &it, err)) < 0)
            return -1;
    }
    if (out->n > before || allow_empty)
        return 0;
    if (e.empty.code)
        return err_set(err, e.empty.code, "%s", e.empty.text);
    return err_set(err, EINVAL, "the node list is empty; write for example 0-3, all or up");
}

int nodespec_numbers(const char *spec, nodelist_t *out, struct err *err)
{
    struct eval e = { .out = out };
    const char *p = spec;
    struct item it;

    while (next_item(&p, &it)) {
        if (parse_item(&it, err) < 0)
            return -1;
        if (it.kind == ITEM_WORD || it.open || it.first < 0)
            return bad(&it, err, "only node numbers and ranges may stand here");
        if (it.last < it.first)
            return bad(&it, err, "a range goes upward");
        for (int node = it.first; node <= it.last; node++)
            if (take(&e, node, err) < 0)
                return -1;
    }
    return 0;
}
