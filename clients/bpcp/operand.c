/* operand.c - NODE:PATH, and which nodes are meant
 *
 * A colon before any slash makes a name remote; one that begins with a colon is
 * a file's. USER@ before the node is taken and ignored, as ever.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "clients/bpcp/bpcp.h"

int operand_parse(struct operand *o, const char *text, struct err *err)
{
    const char *colon = strchr(text, ':'), *slash = strchr(text, '/');
    const char *path = text;

    *o = (struct operand){ .text = text };
    nodelist_init(&o->nodes);
    if (colon && colon > text && (!slash || colon < slash)) {
        const char *at = memchr(text, '@', (size_t)(colon - text));
        const char *from = at ? at + 1 : text;
        if (from == colon)
            return err_set(err, EINVAL, "%s: no node before the colon", text);
        o->spec = strndup(from, (size_t)(colon - from));
        if (!o->spec)
            return err_set(err, ENOMEM, "out of memory");
        path = *colon && colon[1] ? colon + 1 : ".";
    } else if (!*text) {
        return err_set(err, EINVAL, "an empty name");
    }
    o->path = strdup(path);
    return o->path ? 0 : err_set(err, ENOMEM, "out of memory");
}

void operand_free(struct operand *o)
{
    free(o->spec);
    free(o->path);
    nodelist_free(&o->nodes);
}

static bool has(const nodelist_t *l, int node)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->node[i] == node)
            return true;
    return false;
}

static int take_row(struct bpcp *b, struct operand *o, const msgpack_object *row, struct err *err)
{
    const msgpack_object *p = row->type == MSGPACK_OBJECT_ARRAY ? row->via.array.ptr : NULL;
    int64_t node, code;

    if (!p || row->via.array.size < 6 || !mp_as_int(&p[0], &node) || node < -1 ||
        node > NODE_MAX || !mp_as_int(&p[4], &code))
        return err_set(err, EPROTO, "nodemgr.resolve: a node of the reply is malformed");
    if (has(&o->nodes, (int)node))
        return 0; /* "0,0": it is copied once */
    if (code && node != BPCP_MASTER) {
        CLEANUP(cleanup_free) char *why = mp_dup(&p[5]);
        say(b, (int)node, NULL, why && *why ? why : err_name((int)code));
        return 0;
    }
    return nodelist_add(&o->nodes, (int)node) < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

int operand_resolve(struct bpcp *b, struct operand *o, bool many, struct err *err)
{
    CLEANUP(mp_free) mp_buf body;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    const msgpack_object_array *list;

    mp_init(&body);
    msgpack_unpacked_init(&reply);
    if (!o->spec)
        return nodelist_add(&o->nodes, BPCP_MASTER) < 0 ? err_set(err, ENOMEM, "out of memory")
                                                        : 0;
    mp_map(&body, 1);
    mp_kstr(&body, "spec", o->spec);
    if (gate_call(b->gate, "nodemgr.resolve", &body, BPCP_TIMEOUT_MS, &reply, err) < 0 ||
        mp_get_array(&reply.data, "nodes", &list, err) < 0)
        return -1;
    if (!many && list->size != 1)
        return err_set(err, EINVAL, "%s: files come from one node, not from %u", o->text,
                       list->size);
    for (uint32_t i = 0; i < list->size; i++)
        if (take_row(b, o, &list->ptr[i], err) < 0)
            return -1;
    return 0;
}

/* --- a file onto itself, a tree into itself --- */

/* Absolute, without doubled slashes and "." parts. On another machine nothing
 * more can be known from here. */
static char *tidy(const struct bpcp *b, const char *path)
{
    CLEANUP(cleanup_free) char *whole = NULL;
    char *out = NULL;
    size_t n = 0;

    if (asprintf(&whole, "%s/%s", path[0] == '/' ? "" : b->cwd, path) < 0)
        return NULL;
    out = malloc(strlen(whole) + 2);
    for (char *rest = whole, *part; out && (part = strsep(&rest, "/"));) {
        if (!*part || !strcmp(part, "."))
            continue;
        out[n++] = '/';
        memcpy(out + n, part, strlen(part));
        n += strlen(part);
    }
    if (out)
        out[n] = 0;
    return out;
}

const char *operand_clash(const struct bpcp *b, const struct operand *o, int place)
{
    CLEANUP(cleanup_free) char *from = NULL, *to = NULL, *into = NULL, *name = NULL;
    struct stat a, c;
    size_t n;

    name = source_name(o->path);
    if (place == BPCP_MASTER) {
        from = realpath(o->path, NULL);
        to = realpath(b->target.path, NULL);
    }
    if (!from)
        from = tidy(b, o->path);
    if (!to)
        to = tidy(b, b->target.path);
    if (!from || !to || !name || asprintf(&into, "%s/%s", to, name) < 0) {
        into = NULL;
        return "out of memory";
    }
    n = strlen(from);
    if (!strcmp(from, to) || !strcmp(from, into))
        return strcmp(name, ".") && b->recurse ? "would be copied onto itself"
                                               : "is the same file";
    if (b->recurse && !strncmp(from, to, n) && to[n] == '/')
        return "would be copied into itself";
    if (place == BPCP_MASTER && stat(from, &a) == 0 && !S_ISDIR(a.st_mode) &&
        ((stat(to, &c) == 0 && c.st_dev == a.st_dev && c.st_ino == a.st_ino) ||
         (stat(into, &c) == 0 && c.st_dev == a.st_dev && c.st_ino == a.st_ino)))
        return "is the same file";
    return NULL;
}
