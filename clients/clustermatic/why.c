/* why.c - clustermatic why node N: where a boot stopped, or how long it took
 *
 * What nodemgr says of the node, the stages of its last boot from bootsrv, and
 * the end of its log, where that may be read. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "bus/gate.h"
#include "bus/loop.h"
#include "clients/clustermatic/commands.h"
#include "clients/clustermatic/supervise.h"

#define ASK_MS 10000
#define LINES 8

struct why {
    msgpack_unpacked node, boot; /* nodemgr's map; bootsrv's */
    bool boot_known;
};

static int ask(gate_t *g, const char *topic, const char *key, const char *text, int number,
               msgpack_unpacked *reply, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 1);
    if (text)
        mp_kstr(&m, key, text);
    else
        mp_kint(&m, key, number);
    return gate_call(g, topic, &m, ASK_MS, reply, err);
}

static const char *text_of(const msgpack_object *map, const char *key, char *buf, size_t room)
{
    CLEANUP(cleanup_free) char *text = mp_opt_dup(map, key);

    snprintf(buf, room, "%s", text ? text : "");
    return buf;
}

static void clock_of(int64_t ms, char out[32])
{
    time_t t = (time_t)(ms / 1000);
    struct tm tm;

    localtime_r(&t, &tm);
    strftime(out, 32, "%Y-%m-%d %H:%M:%S", &tm);
}

/* The rows of "stages", checked: [word, at, ms, error, text]. */
static const msgpack_object_array *stage_at(const msgpack_object_array *list, uint32_t i)
{
    const msgpack_object *o = i < list->size ? &list->ptr[i] : NULL;

    return o && o->type == MSGPACK_OBJECT_ARRAY && o->via.array.size >= 5 ? &o->via.array : NULL;
}

static int64_t time_of(const msgpack_object_array *g)
{
    int64_t v = 0;

    return g && mp_as_int(&g->ptr[1], &v) ? v : 0;
}

static bool failed(const msgpack_object_array *g)
{
    return g->ptr[3].type == MSGPACK_OBJECT_BOOLEAN && g->ptr[3].via.boolean;
}

static void print_lines(const char *text)
{
    for (const char *p = text; *p; p += strcspn(p, "\n") + (p[strcspn(p, "\n")] == '\n'))
        printf("              | %.*s\n", (int)strcspn(p, "\n"), p);
}

static void print_stages(const msgpack_object *boot)
{
    const msgpack_object_array *list;
    char when[32];

    if (mp_get_array(boot, "stages", &list, NULL) < 0 || list->size == 0) {
        puts("no boot of it is known: bootsrv has seen nothing of it");
        return;
    }
    int64_t first = time_of(stage_at(list, 0)), last = time_of(stage_at(list, list->size - 1));
    clock_of(first, when);
    printf("its last boot, from %s, %.1f s:\n", when, (double)(last - first) / 1000);
    for (uint32_t i = 0; i < list->size; i++) {
        const msgpack_object_array *g = stage_at(list, i), *next = stage_at(list, i + 1);
        CLEANUP(cleanup_free) char *word = g ? mp_dup(&g->ptr[0]) : NULL;
        CLEANUP(cleanup_free) char *text = g ? mp_dup(&g->ptr[4]) : NULL;
        if (!g || !word)
            continue;
        int64_t until = next ? time_of(next) : wall_ms();
        bool over = strcmp(word, "up") == 0 || strcmp(word, "error") == 0;
        printf("  %8.1f s  %s", (double)(time_of(g) - first) / 1000, word);
        if (!over)
            printf("%*s %6.1f s%s", (int)(strlen(word) < 8 ? 8 - strlen(word) : 0), "",
                   (double)(until - time_of(g)) / 1000, next ? "" : " and no further");
        puts(failed(g) ? "  FAILED" : "");
        if (text && *text)
            print_lines(text);
    }
}

/* The last lines of a file: what one that is of no use to anybody has at its end. */
static void print_log(const struct cluster *c, int node)
{
    char path[PATH_MAX], unit[32], buf[4096];

    snprintf(unit, sizeof unit, "node.%d", node);
    log_path(c, unit, path);
    FILE *f = fopen(path, "re");
    if (!f) {
        if (errno != ENOENT)
            printf("its log, %s: %s\n", path, strerror(errno));
        return;
    }
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    fseek(f, size > (long)sizeof buf - 1 ? size - (long)sizeof buf + 1 : 0, SEEK_SET);
    size_t n = fread(buf, 1, sizeof buf - 1, f);
    fclose(f);
    while (n > 0 && buf[n - 1] == '\n')
        n--;
    buf[n] = '\0';
    char *p = buf + n;
    for (int lines = 0; p > buf; p--)
        if (p[-1] == '\n' && ++lines == LINES)
            break;
    if (*p)
        printf("the end of its log, %s:\n%s\n", path, p);
}

static void print_text(const struct cluster *c, int node, const struct why *w)
{
    const msgpack_object *o = &w->node.data.via.array.ptr[0];
    char state[40], why[256], who[80], when[32], kernel[80], image[80];
    int64_t since = mp_opt_int(o, "since", 0);

    clock_of(since, when);
    printf("node %d is %s", node, text_of(o, "state", state, sizeof state));
    if (since)
        printf(" since %s (%s)", when, text_of(o, "who", who, sizeof who));
    printf("%s%s\n", *text_of(o, "why", why, sizeof why) ? ": " : "", why);
    if (*text_of(o, "kernel", kernel, sizeof kernel) && strcmp(state, "down") != 0)
        printf("Linux %s%s%.12s\n", kernel,
               *text_of(o, "image", image, sizeof image) ? ", image " : "", image);
    if (w->boot_known)
        print_stages(&w->boot.data);
    print_log(c, node);
}

static json_t *stages_json(const msgpack_object *boot)
{
    json_t *out = json_array();
    const msgpack_object_array *list;

    if (mp_get_array(boot, "stages", &list, NULL) < 0)
        return out;
    for (uint32_t i = 0; i < list->size; i++) {
        const msgpack_object_array *g = stage_at(list, i);
        CLEANUP(cleanup_free) char *word = g ? mp_dup(&g->ptr[0]) : NULL;
        CLEANUP(cleanup_free) char *text = g ? mp_dup(&g->ptr[4]) : NULL;
        int64_t ms = -1;
        if (!g || !word)
            continue;
        mp_as_int(&g->ptr[2], &ms);
        json_array_append_new(out, json_pack("{s:s,s:I,s:o,s:b,s:s}", "stage", word, "at",
                                             (json_int_t)time_of(g), "uptime",
                                             ms < 0 ? json_null() : json_integer(ms), "error",
                                             failed(g), "text", text ? text : ""));
    }
    return out;
}

static void print_json(int node, const struct why *w)
{
    const msgpack_object *o = &w->node.data.via.array.ptr[0];
    char state[40], why[256], who[80], image[80];
    json_t *out = json_pack("{s:i,s:s,s:s,s:s,s:I,s:s,s:o}", "node", node, "state",
                            text_of(o, "state", state, sizeof state), "why",
                            text_of(o, "why", why, sizeof why), "who",
                            text_of(o, "who", who, sizeof who), "since",
                            (json_int_t)mp_opt_int(o, "since", 0), "image",
                            text_of(o, "image", image, sizeof image), "stages",
                            w->boot_known ? stages_json(&w->boot.data) : json_null());

    json_dumpf(out, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(out);
}

int cmd_why(struct cluster *c, const struct options *o, int node)
{
    struct err err = { 0 }, ignored = { 0 };
    struct why w = { .boot_known = false };
    char spec[16];

    cluster_setenv(c);
    msgpack_unpacked_init(&w.node);
    msgpack_unpacked_init(&w.boot);
    snprintf(spec, sizeof spec, "%d", node);
    CLEANUP(gate_close) gate_t *g = gate_open("clustermatic", &err);
    int rc = g ? ask(g, "nodemgr.list", "spec", spec, 0, &w.node, &err) : -1;
    if (rc == 0 && (w.node.data.type != MSGPACK_OBJECT_ARRAY || w.node.data.via.array.size != 1))
        rc = err_set(&err, EPROTO, "nodemgr.list: the answer is not one node");
    if (rc == 0) {
        w.boot_known = ask(g, "bootsrv.why", "node", NULL, node, &w.boot, &ignored) == 0;
        if (o->json)
            print_json(node, &w);
        else
            print_text(c, node, &w);
        if (!w.boot_known)
            fprintf(stderr, "clustermatic: nothing is known of its boot: %s\n", ignored.text);
    }
    msgpack_unpacked_destroy(&w.node);
    msgpack_unpacked_destroy(&w.boot);
    return rc < 0 ? refuse(&err) : 0;
}
