/* pmi1.c - bppmi: PMI-1 for the ranks of one node, as MPICH speaks it
 *
 * Lines of "cmd=NAME key=value ..." over the rank's seat. What ranks put is
 * kept here and goes to all nodes at the next barrier; a get is answered from
 * what is here, which after that barrier is everything.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "clients/mpirun/bppmi.h"

#define VALUE_MAX 1024
#define MAPPING_MAX 800 /* a longer one does not fit MPICH's line: it asks host names then */
#define FENCE "pmi"

struct pair {
    struct pair *next;
    char *value;
    char key[];
};

static struct { /* the key-value space: one a job */
    struct pair **slot;
    size_t slots, n;
    mp_buf news; /* "KEY VALUE " of what was put here since the last barrier */
} kvs;

/* --- keys and values --- */

static size_t hash(const char *key)
{
    size_t h = 5381;

    while (*key)
        h = h * 33 + (unsigned char)*key++;
    return h;
}

static bool grow(void)
{
    size_t slots = kvs.slots ? 4 * kvs.slots : 256;
    struct pair **s = calloc(slots, sizeof *s);

    if (!s)
        return false;
    for (size_t i = 0; i < kvs.slots; i++)
        for (struct pair *p = kvs.slot[i], *next; p; p = next) {
            next = p->next;
            p->next = s[hash(p->key) % slots];
            s[hash(p->key) % slots] = p;
        }
    free(kvs.slot);
    kvs.slot = s;
    kvs.slots = slots;
    return true;
}

static const char *kvs_get(const char *key)
{
    for (struct pair *p = kvs.slots ? kvs.slot[hash(key) % kvs.slots] : NULL; p; p = p->next)
        if (strcmp(p->key, key) == 0)
            return p->value;
    return NULL;
}

static bool kvs_put(const char *key, const char *value)
{
    if ((!kvs.slots || kvs.n > kvs.slots) && !grow())
        return false;
    struct pair **at = &kvs.slot[hash(key) % kvs.slots], *p;
    for (p = *at; p && strcmp(p->key, key) != 0;)
        p = p->next;
    char *copy = strdup(value);
    if (!copy)
        return false;
    if (!p) {
        p = malloc(sizeof *p + strlen(key) + 1);
        if (!p) {
            free(copy);
            return false;
        }
        memcpy(p->key, key, strlen(key) + 1);
        p->next = *at;
        p->value = NULL;
        *at = p;
        kvs.n++;
    }
    free(p->value);
    p->value = copy;
    return true;
}

static void kvs_free(void)
{
    for (size_t i = 0; i < kvs.slots; i++)
        for (struct pair *p = kvs.slot[i], *next; p; p = next) {
            next = p->next;
            free(p->value);
            free(p);
        }
    free(kvs.slot);
    mp_free(&kvs.news);
}

/* --- which ranks share a node: PMI_process_mapping --- */

struct run { /* so many nodes from this one on, each with so many ranks in a row */
    size_t node, nodes, ranks;
};

static size_t place_of(const struct helper *h, int node)
{
    size_t lo = 0, hi = h->nodes.n;

    while (lo + 1 < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (h->nodes.node[mid] <= node)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

static size_t make_runs(const struct helper *h, struct run *run)
{
    size_t n = 0;

    for (size_t r = 0; r < h->map.n; r++) {
        size_t node = place_of(h, h->map.node[r]);
        if (n && r && h->map.node[r] == h->map.node[r - 1])
            run[n - 1].ranks++;
        else
            run[n++] = (struct run){ node, 1, 1 };
    }
    /* neighbours with as many ranks each */
    size_t k = 0;
    for (size_t i = 1; i < n; i++) {
        struct run *last = &run[k];
        if (run[i].node == last->node + last->nodes && run[i].ranks == last->ranks)
            last->nodes++;
        else
            run[++k] = run[i];
    }
    return k + 1;
}

/* The blocks repeat until all ranks have a node. */
static size_t period(const struct run *run, size_t n)
{
    for (size_t p = 1; p < n; p++) {
        size_t i = p;
        while (n % p == 0 && i < n && memcmp(&run[i], &run[i - p], sizeof *run) == 0)
            i++;
        if (n % p == 0 && i == n)
            return p;
    }
    return n;
}

static void put_mapping(const struct helper *h)
{
    char text[MAPPING_MAX + 64] = "(vector";
    size_t len = strlen(text);
    struct run *run = calloc(h->map.n, sizeof *run);

    if (!run)
        return;
    size_t n = period(run, make_runs(h, run));
    for (size_t i = 0; i < n && len < MAPPING_MAX; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, ",(%zu,%zu,%zu)", run[i].node,
                                run[i].nodes, run[i].ranks);
    free(run);
    if (len >= MAPPING_MAX)
        return;
    snprintf(text + len, sizeof text - len, ")");
    kvs_put("PMI_process_mapping", text);
}

/* --- the barrier --- */

static void let_go(struct helper *h)
{
    for (uint32_t i = 0; i < h->seats; i++)
        if (h->seat[i].waits) {
            h->seat[i].waits = false;
            seat_say(&h->seat[i], "cmd=barrier_out\n");
        }
}

static void barrier_in(struct helper *h, struct seat *s)
{
    s->waits = true;
    for (uint32_t i = 0; i < h->seats; i++)
        if (!h->seat[i].waits)
            return;
    if (!h->alone) {
        line_data(h, FENCE, kvs.news.b.data, kvs.news.b.size);
        line_up(h, "fence " FENCE " %zu\n", h->nodes.n);
    } else {
        let_go(h);
    }
    msgpack_sbuffer_clear(&kvs.news.b);
}

void kind_data(struct helper *h, const char *key, char *text)
{
    (void)h;
    if (strcmp(key, FENCE) != 0)
        return;
    for (char *k = strtok_r(text, " ", &text), *v; k && (v = strtok_r(NULL, " ", &text));
         k = strtok_r(NULL, " ", &text))
        kvs_put(k, v);
}

void kind_fence(struct helper *h, const char *key)
{
    if (strcmp(key, FENCE) == 0)
        let_go(h);
}

/* Nothing is asked between nodes: all is known after a barrier. */
void kind_ask(struct helper *h, int from, const char *id, const char *text)
{
    (void)h, (void)from, (void)id, (void)text;
}

void kind_tell(struct helper *h, int from, const char *id, const char *text)
{
    (void)h, (void)from, (void)id, (void)text;
}

/* --- what a rank says --- */

void kind_seated(struct helper *h, struct seat *s, void (*set)(struct seat *, const char *))
{
    char text[64];

    snprintf(text, sizeof text, "PMI_RANK=%u", s->rank);
    set(s, text);
    snprintf(text, sizeof text, "PMI_SIZE=%zu", h->map.n);
    set(s, text);
    set(s, "PMI_FD=@fd");
}

/* The value of key in "key=value key=value", copied. */
static bool arg(const char *line, const char *key, char *out, size_t room)
{
    size_t n = strlen(key);

    for (const char *p = line; p; p = strchr(p, ' ')) {
        p += *p == ' ';
        if (strncmp(p, key, n) == 0 && p[n] == '=') {
            size_t len = strcspn(p + n + 1, " ");
            if (len >= room)
                return false;
            memcpy(out, p + n + 1, len);
            out[len] = 0;
            return true;
        }
    }
    return false;
}

static void on_put(struct seat *s, const char *line)
{
    char key[256], value[VALUE_MAX + 1];

    if (!arg(line, "key", key, sizeof key) || !arg(line, "value", value, sizeof value) ||
        !*key || !*value) {
        seat_say(s, "cmd=put_result rc=-1 msg=key_or_value_too_long\n");
        return;
    }
    if (!kvs_put(key, value)) {
        seat_say(s, "cmd=put_result rc=-1 msg=out_of_memory\n");
        return;
    }
    msgpack_sbuffer_write(&kvs.news.b, key, strlen(key));
    msgpack_sbuffer_write(&kvs.news.b, " ", 1);
    msgpack_sbuffer_write(&kvs.news.b, value, strlen(value));
    msgpack_sbuffer_write(&kvs.news.b, " ", 1);
    seat_say(s, "cmd=put_result rc=0 msg=success\n");
}

static void on_get(struct seat *s, const char *line)
{
    char key[256], out[VALUE_MAX + 64];
    const char *value = arg(line, "key", key, sizeof key) ? kvs_get(key) : NULL;

    if (value)
        snprintf(out, sizeof out, "cmd=get_result rc=0 msg=success value=%s\n", value);
    else
        snprintf(out, sizeof out, "cmd=get_result rc=-1 msg=key_not_found value=unknown\n");
    seat_say(s, out);
}

static void on_abort(struct helper *h, struct seat *s, const char *line)
{
    char code[16];

    s->inside = false; /* its end is no news after this */
    line_up(h, "abort %u %d\n", s->rank, arg(line, "exitcode", code, sizeof code) ? atoi(code) : 1);
}

/* Of the library that asks, not of the program: it says so in its own words. */
static void refuse(struct helper *h, struct seat *s, const char *cmd, const char *what)
{
    char out[128];

    line_up(h, "say rank %u: %s is not offered by this mpirun\n", s->rank, what);
    snprintf(out, sizeof out, "cmd=%s_result rc=-1 msg=not_offered info=not_offered\n", cmd);
    seat_say(s, out);
}

void kind_input(struct helper *h, struct seat *s, char *line)
{
    char cmd[32], out[256];

    if (s->multi) { /* a spawn: lines up to the end of it */
        if (strcmp(line, "endcmd") != 0)
            return;
        s->multi = false;
        refuse(h, s, "spawn", "MPI_Comm_spawn");
        return;
    }
    if (strcmp(line, "mcmd=spawn") == 0) {
        s->multi = true;
        return;
    }
    if (!arg(line, "cmd", cmd, sizeof cmd))
        return;
    *out = 0;
    if (strcmp(cmd, "put") == 0) {
        on_put(s, line);
    } else if (strcmp(cmd, "get") == 0) {
        on_get(s, line);
    } else if (strcmp(cmd, "barrier_in") == 0) {
        barrier_in(h, s);
    } else if (strcmp(cmd, "init") == 0) {
        s->inside = true;
        snprintf(out, sizeof out, "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n");
    } else if (strcmp(cmd, "get_maxes") == 0) {
        snprintf(out, sizeof out, "cmd=maxes kvsname_max=256 keylen_max=64 vallen_max=%d\n",
                 VALUE_MAX);
    } else if (strcmp(cmd, "get_appnum") == 0) {
        snprintf(out, sizeof out, "cmd=appnum appnum=%d\n", s->app);
    } else if (strcmp(cmd, "get_my_kvsname") == 0) {
        snprintf(out, sizeof out, "cmd=my_kvsname kvsname=%.200s\n", h->job);
    } else if (strcmp(cmd, "get_universe_size") == 0) {
        snprintf(out, sizeof out, "cmd=universe_size size=%zu\n", h->map.n);
    } else if (strcmp(cmd, "finalize") == 0) {
        s->inside = false;
        snprintf(out, sizeof out, "cmd=finalize_ack rc=0\n");
    } else if (strcmp(cmd, "abort") == 0) {
        on_abort(h, s, line);
    } else if (strcmp(cmd, "publish_name") == 0) {
        refuse(h, s, "publish", "MPI_Publish_name");
    } else if (strcmp(cmd, "unpublish_name") == 0) {
        refuse(h, s, "unpublish", "MPI_Unpublish_name");
    } else if (strcmp(cmd, "lookup_name") == 0) {
        refuse(h, s, "lookup", "MPI_Lookup_name");
    } else {
        line_up(h, "say rank %u: PMI command %.31s is not known\n", s->rank, cmd);
    }
    if (*out)
        seat_say(s, out);
}

int main(int argc, char **argv)
{
    struct helper h = { 0 };
    struct err err = { 0 };
    int status;

    if (helper_options("bppmi", argc, argv, &status))
        return status;
    mp_init(&kvs.news);
    if (helper_prepare(&h, &err) < 0 || helper_listen(&h, &err) < 0) {
        fprintf(stderr, "bppmi: %s\n", err.text);
        return EXIT_FAILURE;
    }
    put_mapping(&h);
    status = helper_run(&h);
    kvs_free();
    return status;
}
