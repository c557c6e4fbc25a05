/* modules.c - drivers for the devices that are there
 *
 * beoboot put the modules into the image, and beside them an index:
 *
 *   module NAME PATH NEEDS...   what must be loaded before it, in that order
 *   alias PATTERN NAME          which devices it is for
 *
 * A device tells its modalias in /sys; each pattern that matches names a
 * module to load. A driver of a bus makes more devices appear, so this is
 * done until nothing new comes.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "node/boot/boot.h"

#define INDEX "/modules/index"
#define INDEX_MAX (8u << 20)

struct module {
    char *name, *path, *needs; /* needs: names, blanks between */
    bool tried;
};

struct alias {
    char *pattern, *name;
    size_t plain; /* so many characters are themselves */
};

struct modules {
    char *text;
    struct module *module;
    struct alias *alias;
    size_t nmodule, nalias;
    int loaded;
    const struct params *params;
};

void modules_close(modules_t **m)
{
    if (!*m)
        return;
    free((*m)->text);
    free((*m)->module);
    free((*m)->alias);
    free(*m);
    *m = NULL;
}

static size_t count(const char *text, const char *word)
{
    size_t n = 0, len = strlen(word);

    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        n += strncmp(line, word, len) == 0;
    }
    return n;
}

static void take_line(modules_t *m, char *line)
{
    char *save = NULL, *kind = strtok_r(line, " ", &save);
    char *first = kind ? strtok_r(NULL, " ", &save) : NULL;
    char *second = first ? strtok_r(NULL, " ", &save) : NULL;

    if (!second)
        return;
    if (strcmp(kind, "module") == 0)
        m->module[m->nmodule++] = (struct module){ first, second, save, false };
    else if (strcmp(kind, "alias") == 0)
        m->alias[m->nalias++] = (struct alias){ first, second, strcspn(first, "*?[\\") };
}

modules_t *modules_parse(char *index, const struct params *p, struct err *err)
{
    CLEANUP(modules_close) modules_t *m = calloc(1, sizeof *m);
    char *save = NULL;

    if (m)
        m->text = index;
    else
        free(index);
    if (m && index) {
        m->params = p;
        m->module = calloc(count(index, "module ") + 1, sizeof *m->module);
        m->alias = calloc(count(index, "alias ") + 1, sizeof *m->alias);
    }
    if (!m || !m->module || !m->alias) {
        err_set(err, ENOMEM, "no memory for the index of modules");
        return NULL;
    }
    for (char *l = strtok_r(index, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
        take_line(m, l);
    modules_t *out = m;
    m = NULL;
    return out;
}

modules_t *modules_open(const struct params *p, struct err *err)
{
    return modules_parse(boot_text(INDEX, INDEX_MAX), p, err);
}

const char *modules_match(const modules_t *m, const char *modalias, int nth)
{
    for (size_t i = 0; i < m->nalias; i++) {
        const struct alias *a = &m->alias[i];
        if (strncmp(a->pattern, modalias, a->plain) == 0 &&
            fnmatch(a->pattern, modalias, 0) == 0 && nth-- == 0)
            return a->name;
    }
    return NULL;
}

/* ---- loading ---- */

static struct module *find(modules_t *m, const char *name)
{
    for (size_t i = 0; i < m->nmodule; i++)
        if (strcmp(m->module[i].name, name) == 0)
            return &m->module[i];
    return NULL;
}

/* "e1000e-x" and "e1000e_x" are one module. */
static void plain_name(char *out, size_t room, const char *name)
{
    size_t n = 0;

    for (; name[n] && n + 1 < room; n++)
        out[n] = name[n] == '-' ? '_' : name[n];
    out[n] = 0;
}

/* What NAME.PARAMETER=VALUE on the command line, and modarg, give it. */
static void arguments(const modules_t *m, const char *name, const char *given, char *out,
                      size_t room)
{
    const char *at = NULL;
    char word[32], rest[512], plain[64];
    size_t len = strlen(name);

    snprintf(out, room, "%s", given);
    while (!*given && params_line(m->params, &at, word, rest)) {
        size_t n = strcspn(rest, " ");
        if (strcmp(word, "modarg") || n >= sizeof plain)
            continue;
        char *args = rest + n + (rest[n] == ' ');
        rest[n] = 0;
        plain_name(plain, sizeof plain, rest);
        if (strcmp(plain, name) == 0)
            snprintf(out, room, "%s", args);
    }
    for (const char *w = m->params->cmdline; *w; w += strspn(w, " \n")) {
        size_t n = strcspn(w, " \n"), have = strlen(out);
        if (n > len + 1 && strncmp(w, name, len) == 0 && w[len] == '.')
            snprintf(out + have, room - have, "%s%.*s", have ? " " : "",
                     (int)(n - len - 1), w + len + 1);
        w += n;
    }
}

static void load(modules_t *m, const char *name, const char *given)
{
    struct module *mod = find(m, name);
    char args[1024], *save = NULL;

    if (!mod || mod->tried)
        return;
    mod->tried = true;
    CLEANUP(cleanup_free) char *needs = strdup(mod->needs ? mod->needs : "");
    for (char *n = needs ? strtok_r(needs, " ", &save) : NULL; n;
         n = strtok_r(NULL, " ", &save))
        load(m, n, "");
    CLEANUP(cleanup_close) int fd = open(mod->path, O_RDONLY | O_CLOEXEC);
    arguments(m, name, given, args, sizeof args);
    if (fd < 0 || (syscall(SYS_finit_module, fd, args, 0) < 0 && errno != EEXIST))
        boot_say("module %s: %s", name, strerror(errno));
    else
        m->loaded++;
}

int modules_config(modules_t *m, const struct params *p)
{
    const char *at = NULL;
    char word[32], rest[512], name[64];
    int before = m->loaded;

    while (params_line(p, &at, word, rest)) {
        if (strcmp(word, "modprobe"))
            continue;
        size_t n = strcspn(rest, " ");
        char *args = rest + n + (rest[n] == ' ');
        rest[n] = 0;
        plain_name(name, sizeof name, rest);
        if (find(m, name))
            load(m, name, args);
        else
            boot_say("modprobe %s: it is not in this image", name);
    }
    return m->loaded - before;
}

static void device(modules_t *m, const char *bus, const char *name)
{
    char path[600];
    const char *module;

    snprintf(path, sizeof path, "/sys/bus/%s/devices/%s/modalias", bus, name);
    CLEANUP(cleanup_free) char *alias = boot_text(path, 1024);
    if (!alias || !*alias)
        return;
    alias[strcspn(alias, "\n")] = 0;
    for (int i = 0; (module = modules_match(m, alias, i)); i++)
        load(m, module, "");
}

static void one_round(modules_t *m)
{
    DIR *buses = opendir("/sys/bus");
    const struct dirent *b, *d;

    if (!buses)
        return;
    while ((b = readdir(buses))) {
        char path[300];
        snprintf(path, sizeof path, "/sys/bus/%s/devices", b->d_name);
        DIR *devices = *b->d_name == '.' ? NULL : opendir(path);
        while (devices && (d = readdir(devices)))
            if (*d->d_name != '.')
                device(m, b->d_name, d->d_name);
        if (devices)
            closedir(devices);
    }
    closedir(buses);
}

void modules_named(modules_t *m, const char *name)
{
    load(m, name, "");
}

int modules_devices(modules_t *m)
{
    int before = m->loaded, then;

    do {
        then = m->loaded;
        one_round(m);
    } while (m->loaded > then);
    return m->loaded - before;
}
