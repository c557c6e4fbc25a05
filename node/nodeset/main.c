/* main.c - nodeset: carries out on a node what node_up has put together
 *
 * Reads the stream of steps from standard input (nodeset.h) and does them in
 * order. A step that fails ends its section, and all of it unless the section
 * is one that may fail.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "node/nodeset/nodeset.h"

#define STEP_MAX (16u << 20)

static char plugin[64] = "node_up";

static const struct {
    const char *name;
    step_fn *fn;
} steps[] = {
    { "dir", step_dir },       { "file", step_file },     { "link", step_link },
    { "dev", step_dev },       { "libs", step_libs },     { "module", step_module },
    { "ifconfig", step_ifconfig }, { "mount", step_mount }, { "sysctl", step_sysctl },
    { "exec", step_exec },     { "info", step_info },
};

void note(const char *fmt, ...)
{
    va_list ap;

    printf("L %s ", plugin);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
    fflush(stdout);
}

static int read_all(int fd, void *p, size_t len)
{
    for (size_t have = 0; have < len;) {
        ssize_t n = read(fd, (char *)p + have, len - have);
        if (n <= 0)
            return n < 0 && errno == EINTR ? -1 : have == 0 && n == 0 ? 0 : -1;
        have += (size_t)n;
    }
    return 1;
}

ssize_t bytes_read(struct bytes *b, void *p, size_t room, struct err *err)
{
    if (b->left == 0)
        return 0;
    ssize_t n = read(b->fd, p, room < b->left ? room : (size_t)b->left);
    if (n <= 0)
        return err_set(err, EPIPE, "the master's stream broke off");
    b->left -= (uint64_t)n;
    return n;
}

static int skip(struct bytes *b, struct err *err)
{
    char buf[65536];
    ssize_t n;

    while ((n = bytes_read(b, buf, sizeof buf, err)) > 0)
        ;
    return (int)n;
}

int arg_text(const msgpack_object_array *a, uint32_t i, char **out, struct err *err)
{
    *out = i < a->size ? mp_dup(&a->ptr[i]) : NULL;
    return *out ? 0 : err_set(err, EPROTO, "item %u of a step is no text", i);
}

int arg_int(const msgpack_object_array *a, uint32_t i, int64_t *out, struct err *err)
{
    if (i < a->size && mp_as_int(&a->ptr[i], out))
        return 0;
    return err_set(err, EPROTO, "item %u of a step is no number", i);
}

/* The next step. 1; 0 at the end; -1. */
static int next(msgpack_unpacked *u, char **buf, struct err *err)
{
    unsigned char h[4];
    int rc = read_all(0, h, sizeof h);

    if (rc <= 0)
        return rc == 0 ? 0 : err_set(err, EPIPE, "the master's stream broke off");
    uint32_t len = (uint32_t)h[0] << 24 | (uint32_t)h[1] << 16 | (uint32_t)h[2] << 8 | h[3];
    if (len == 0 || len > STEP_MAX)
        return err_set(err, EPROTO, "a step of %u bytes", len);
    free(*buf);
    *buf = malloc(len);
    if (!*buf)
        return err_set(err, ENOMEM, "out of memory");
    if (read_all(0, *buf, len) <= 0)
        return err_set(err, EPIPE, "the master's stream broke off");
    if (mp_decode(u, *buf, len, err) < 0)
        return -1;
    if (u->data.type != MSGPACK_OBJECT_ARRAY || u->data.via.array.size == 0)
        return err_set(err, EPROTO, "a step that is no list");
    return 1;
}

static int do_step(const msgpack_object_array *a, struct bytes *b, struct err *err)
{
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        if (mp_is(&a->ptr[0], steps[i].name))
            return steps[i].fn(a, b, err);
    return err_set(err, EPROTO, "an unknown step: node_up is newer than this program");
}

/* ["plugin", name, may fail] */
static int begin_section(const msgpack_object_array *a, bool *may_fail, struct err *err)
{
    CLEANUP(cleanup_free) char *name = NULL;

    if (arg_text(a, 1, &name, err) < 0)
        return -1;
    snprintf(plugin, sizeof plugin, "%s", name);
    *may_fail = a->size > 2 && a->ptr[2].type == MSGPACK_OBJECT_BOOLEAN && a->ptr[2].via.boolean;
    return 0;
}

static int run(struct err *err)
{
    CLEANUP(cleanup_free) char *buf = NULL;
    bool may_fail = false, failed = false;
    bool ended = false;

    for (;;) {
        CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked u;
        msgpack_unpacked_init(&u);
        struct err bad = { 0 };
        int rc = next(&u, &buf, err);
        if (rc <= 0)
            return rc < 0 || ended ? rc : err_set(err, EPIPE, "the master's stream broke off");
        const msgpack_object_array *a = &u.data.via.array;
        if (mp_is(&a->ptr[0], "end")) {
            ended = true;
            continue;
        }
        if (mp_is(&a->ptr[0], "plugin")) {
            failed = false;
            if (begin_section(a, &may_fail, err) < 0)
                return -1;
            continue;
        }
        /* The bytes behind a step are counted by its last item. */
        int64_t size = 0;
        struct bytes b = { 0, 0 };
        bool carries = mp_is(&a->ptr[0], "file") || mp_is(&a->ptr[0], "module");
        if (carries && (arg_int(a, a->size - 1, &size, err) < 0 || size < 0))
            return err_set(err, EPROTO, "a step without a size");
        b.left = (uint64_t)size;
        if (!failed && do_step(a, &b, &bad) < 0) {
            if (!may_fail) {
                *err = bad;
                return -1;
            }
            failed = true;
            note("%s; it may fail, going on", bad.text);
        }
        if (skip(&b, err) < 0)
            return -1;
    }
}

int main(int argc, char **argv)
{
    struct err err = { 0 };

    if (argc > 1) {
        if (strcmp(argv[1], "--version") == 0) {
            puts("nodeset " CM_VERSION);
            return 0;
        }
        bool help = strcmp(argv[1], "--help") == 0;
        fputs("usage: nodeset <STEPS\nDoes on a node what node_up(8) has put together.\n",
              help ? stdout : stderr);
        return help ? 0 : 2;
    }
    if (run(&err) < 0) {
        note("%s", err.text);
        printf("Z 1 %s: %s\n", plugin, err.text);
        return 1;
    }
    puts("Z 0");
    return 0;
}
