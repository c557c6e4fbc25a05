/* bootconf.c - config.boot and plugin descriptions, checked and made plain
 *
 * A node reads its config with no one looking: what is wrong in it is found
 * here, where the image is made. The node gets one directive a line, without
 * quotes and comments, and without what is for the other phase.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/nearest.h"
#include "clients/beoboot/beoboot.h"

struct reading {
    struct bootconf *b;
    FILE *out;
    int phase;
    bool plugin;
    const char *path;
    struct strlist *warnings;
};

static const char *const words[] = { "bootmodule", "modarg", "modprobe", "insmod", "phase",
                                     "rarp", "recv", "file", "device", "plugin", "library" };

static int nomem(struct err *err)
{
    return err_set(err, ENOMEM, "out of memory");
}

static int warn(struct reading *r, const char *fmt, const char *word, const char *near)
{
    char text[512];

    int n = snprintf(text, sizeof text, "%s: ", r->path);
    snprintf(text + n, sizeof text - (size_t)n, fmt, word, near);
    return strlist_add(r->warnings, text);
}

static void put(struct reading *r, const char *word, int argc, char **argv)
{
    fprintf(r->out, "%s", word);
    for (int i = 0; i < argc; i++)
        fprintf(r->out, " %s", argv[i]);
    fprintf(r->out, "\n");
}

static bool number(const char *text, double least, double most)
{
    char *end;
    double v = strtod(text, &end);

    return end != text && !*end && v >= least && v <= most;
}

/* rarp and recv: how often a node asks, and how long. */
static int on_pace(struct reading *r, int argc, char **argv, struct err *err)
{
    static const struct { const char *key; double least, most; } keys[] = {
        { "initial_delay", 0.01, 3600 }, { "max_delay", 0.01, 3600 }, { "backoff", 1, 100 },
        { "max_time", 0.1, 1e9 }, { "rand", 0, 1 },
    };

    if (argc != 3)
        return err_set(err, EINVAL, "want %s initial_delay|max_delay|backoff|max_time|rand "
                       "VALUE", argv[0]);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (strcmp(argv[1], keys[i].key))
            continue;
        if (!number(argv[2], keys[i].least, keys[i].most))
            return err_set(err, EINVAL, "%s %s: \"%s\"; want a number, %g to %g", argv[0],
                           argv[1], argv[2], keys[i].least, keys[i].most);
        put(r, argv[0], argc - 1, argv + 1);
        return 0;
    }
    return err_set(err, EINVAL, "%s: unknown word \"%s\"; want initial_delay, max_delay, "
                   "backoff, max_time or rand", argv[0], argv[1]);
}

static int on_module(struct reading *r, int argc, char **argv, struct err *err)
{
    bool build = strcmp(argv[0], "bootmodule") == 0, arg = strcmp(argv[0], "modarg") == 0;

    if (argc < (arg ? 3 : 2))
        return err_set(err, EINVAL, "too few arguments for %s: want %s %s", argv[0], argv[0],
                       build ? "NAME..." : arg ? "NAME ARGUMENT..." : "NAME [ARGUMENT...]");
    for (int i = 1; i < (build ? argc : 2) && !arg; i++)
        if (strlist_add(&r->b->modules, argv[i]) < 0)
            return nomem(err);
    if (!build)
        put(r, arg ? "modarg" : "modprobe", argc - 1, argv + 1);
    return 0;
}

/* file SRC[>DST] */
static int on_file(struct reading *r, int argc, char **argv, struct err *err)
{
    if (argc != 2 || argv[1][0] != '/')
        return err_set(err, EINVAL, "file: want /PATH or /PATH>/PATH-IN-THE-IMAGE");
    struct bootfile *more = realloc(r->b->file, (r->b->nfile + 1) * sizeof *more);
    if (!more)
        return nomem(err);
    r->b->file = more;
    struct bootfile *f = &more[r->b->nfile];
    char *to = strchr(argv[1], '>');
    if (to)
        *to++ = 0;
    if (to && *to != '/')
        return err_set(err, EINVAL, "file: \"%s\" is no absolute path", to);
    f->from = strdup(argv[1]);
    f->to = strdup(to ? to : argv[1]);
    r->b->nfile++;
    return f->from && f->to ? 0 : nomem(err);
}

static int on_device(struct reading *r, int argc, char **argv, struct err *err)
{
    if (argc != 2)
        return err_set(err, EINVAL, "device: want one name, as /dev/zero");
    return strlist_add(&r->b->devices, argv[1]) < 0 ? nomem(err) : 0;
}

static int on_line(void *arg, int argc, char **argv, struct err *err)
{
    struct reading *r = arg;
    const char *word = argv[0];

    if (strcmp(word, "phase") == 0) {
        if (argc < 3 || (strcmp(argv[1], "1") && strcmp(argv[1], "2")))
            return err_set(err, EINVAL, "want phase 1|2 DIRECTIVE");
        return atoi(argv[1]) == r->phase ? on_line(arg, argc - 2, argv + 2, err) : 0;
    }
    if (strcmp(word, "rarp") == 0 || strcmp(word, "recv") == 0)
        return on_pace(r, argc, argv, err);
    if (strcmp(word, "bootmodule") == 0 || strcmp(word, "modarg") == 0 ||
        strcmp(word, "modprobe") == 0 || strcmp(word, "insmod") == 0)
        return on_module(r, argc, argv, err);
    if (r->plugin && strcmp(word, "file") == 0)
        return on_file(r, argc, argv, err);
    if (r->plugin && strcmp(word, "device") == 0)
        return on_device(r, argc, argv, err);
    if (strcmp(word, "plugin") == 0 || strcmp(word, "library") == 0)
        return err_set(err, EINVAL, "%s: boot programs are not linked when an image is made; "
                       "a file and a node_up script can do what it did", word);
    const char *near = nearest_word(word, words, sizeof words / sizeof *words);
    if (near)
        return warn(r, "unknown word \"%.60s\", the line has no effect; did you mean %s?", word,
                    near) < 0 ? nomem(err) : 0;
    return warn(r, "unknown word \"%.60s\", the line has no effect%s", word, "") < 0 ? nomem(err)
                                                                                     : 0;
}

int bootconf_read(struct bootconf *b, const char *config, const struct strlist *plugins,
                  int phase, struct strlist *warnings, struct err *err)
{
    struct reading r = { .b = b, .phase = phase, .path = config, .warnings = warnings };
    int rc = 0;

    memset(b, 0, sizeof *b);
    r.out = open_memstream(&b->text, &b->len);
    if (!r.out)
        return nomem(err);
    if (access(config, F_OK) == 0)
        rc = config_each_line(config, on_line, &r, err);
    r.plugin = true;
    for (size_t i = 0; i < plugins->n && rc == 0; i++) {
        r.path = plugins->v[i];
        rc = config_each_line(r.path, on_line, &r, err);
    }
    if (fclose(r.out) != 0 && rc == 0)
        rc = nomem(err);
    return rc;
}

void bootconf_free(struct bootconf *b)
{
    for (size_t i = 0; i < b->nfile; i++) {
        free(b->file[i].from);
        free(b->file[i].to);
    }
    free(b->file);
    free(b->text);
    strlist_free(&b->modules);
    strlist_free(&b->devices);
    memset(b, 0, sizeof *b);
}
