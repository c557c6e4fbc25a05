/* main.c - bplib: the list of libraries that nodes are to have beforehand */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clients/bplib/bplib.h"
#include "clients/common/opt.h"

static const char usage[] =
    "Usage: bplib -l [--json]\n"
    "       bplib -a LIBRARY...\n"
    "       bplib -d LIBRARY...\n"
    "       bplib -c\n"
    "The library list: what nodes are given before a program needs it. Anybody may\n"
    "list, root may change. LIBRARY - reads names from standard input, one a line.\n"
    "\n"
    "  -l, --list     list, the newest entry first\n"
    "  -a, --add      add; what is on the list already stays\n"
    "  -d, --delete   delete\n"
    "  -c, --clear    delete all\n"
    "      --json     with -l: as JSON\n"
    "  -h, --help     this text\n"
    "  -v, --version  the version\n";

enum { OPT_JSON = 256 };

static const struct option longopts[] = {
    { "list", no_argument, NULL, 'l' },   { "add", no_argument, NULL, 'a' },
    { "delete", no_argument, NULL, 'd' }, { "clear", no_argument, NULL, 'c' },
    { "json", no_argument, NULL, OPT_JSON }, { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'v' },   { NULL, 0, NULL, 0 },
};

static bool plain(const char *name)
{
    return name[0] == '/' && !strstr(name, "//") && !strstr(name, "/./") && !strstr(name, "/../");
}

/* A name as the master knows it: absolute; a link stays the link. */
static int add_name(struct strlist *l, const char *name, struct err *err)
{
    char dir[PATH_MAX], real[PATH_MAX], path[2 * PATH_MAX];
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;

    if (!*name)
        return 0;
    if (plain(name)) {
        snprintf(path, sizeof path, "%s", name);
    } else {
        snprintf(dir, sizeof dir, "%.*s", slash ? (int)(base - name) : 1, slash ? name : ".");
        if (!realpath(dir, real))
            return err_set(err, errno, "%s: %s", name, strerror(errno));
        snprintf(path, sizeof path, "%s/%s", strcmp(real, "/") == 0 ? "" : real, base);
    }
    return strlist_add(l, path) < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

static int add_lines(struct strlist *l, struct err *err)
{
    CLEANUP(cleanup_free) char *line = NULL;
    size_t room = 0;
    ssize_t n;

    while ((n = getline(&line, &room, stdin)) > 0) {
        if (line[n - 1] == '\n')
            line[n - 1] = 0;
        if (add_name(l, line, err) < 0)
            return -1;
    }
    return ferror(stdin) ? err_set(err, errno, "read standard input: %s", strerror(errno)) : 0;
}

static int read_names(struct strlist *l, char **names, struct err *err)
{
    for (; *names; names++)
        if ((strcmp(*names, "-") == 0 ? add_lines(l, err) : add_name(l, *names, err)) < 0)
            return -1;
    return 0;
}

/* The list takes any path, so a slip of the finger is only said. */
static void warn_missing(const struct strlist *l)
{
    struct stat st;

    for (size_t i = 0; i < l->n; i++) {
        if (stat(l->v[i], &st) < 0)
            fprintf(stderr, "bplib: warning: %s: %s\n", l->v[i], strerror(errno));
        else if (!S_ISREG(st.st_mode))
            fprintf(stderr, "bplib: warning: %s: not a regular file\n", l->v[i]);
    }
}

static int act(int action, bool json, char **names, struct err *err)
{
    CLEANUP(strlist_free) struct strlist paths = { 0 };

    if (read_names(&paths, names, err) < 0)
        return -1;
    CLEANUP(gate_close) gate_t *g = gate_open("bplib", err);
    if (!g)
        return -1;
    switch (action) {
    case 'l': return list_print(g, json, err);
    case 'c': return list_change(g, "clear", &paths, err);
    case 'd': return list_change(g, "del", &paths, err);
    default: break;
    }
    if (list_change(g, "add", &paths, err) < 0)
        return -1;
    warn_missing(&paths);
    return 0;
}

static int bad_usage(const char *what)
{
    fprintf(stderr, "bplib: %s\n%s", what, usage);
    return OPT_EXIT_USAGE;
}

int main(int argc, char **argv)
{
    struct err err = { 0 };
    int action = 0, c;
    bool json = false;

    while ((c = getopt_long(argc, argv, "ladchv", longopts, NULL)) != -1) {
        switch (c) {
        case 'l':
        case 'a':
        case 'd':
        case 'c':
            if (action && action != c)
                return bad_usage("one of -l, -a, -d and -c at a time");
            action = c;
            break;
        case OPT_JSON: json = true; break;
        case 'h': fputs(usage, stdout); return opt_finish("bplib");
        case 'v': return opt_version("bplib");
        default: fputs(usage, stderr); return OPT_EXIT_USAGE;
        }
    }
    if (!action) {
        fputs(usage, stdout);
        return opt_finish("bplib");
    }
    if (action == 'c' && optind < argc) {
        fprintf(stderr, "bplib: No library names allowed with -c\n");
        return EXIT_FAILURE;
    }
    if (action == 'l' && optind < argc)
        return bad_usage("-l takes no names");
    if ((action == 'a' || action == 'd') && optind == argc)
        return bad_usage("-a and -d want the names of libraries");
    if (json && action != 'l')
        return bad_usage("--json goes with -l");
    if (act(action, json, argv + optind, &err) < 0) {
        fprintf(stderr, "bplib: %s\n", err.text);
        return EXIT_FAILURE;
    }
    return opt_finish("bplib");
}
