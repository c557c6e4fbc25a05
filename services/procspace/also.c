/* also.c - what a launch is to bring besides its program
 *
 * Programs load plugins that nothing in them names: whoever launches them names
 * the files, or the folders that they are in. Each comes with the libraries
 * that it needs itself. A plugin whose libraries are not on the master could
 * not be loaded here either: the file is sent, and the program finds that out.
 *
 * The plugins of some libraries are known here, so that nobody need name them.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "services/procspace/contents.h"

#define FILES_MAX 8192
#define DEPTH_MAX 8

static int add_with_needs(contents_t *c, manifest_t *m, const char *path, struct err *err)
{
    struct file_list l;
    int rc = 0;

    if (m->nfiles >= FILES_MAX)
        return err_set(err, E2BIG, "%s: more than %d files to be sent along", path, FILES_MAX);
    if (elf_needs(path, m->library_path, &l, NULL) < 0)
        return manifest_add(c, m, path, err);
    for (size_t i = 0; rc == 0 && i < l.n; i++)
        rc = manifest_add(c, m, l.path[i], err);
    file_list_free(&l);
    return rc;
}

static int note_folder(manifest_t *m, const char *path, const struct stat *st, struct err *err)
{
    struct also_dir *d = realloc(m->seen, (m->nseen + 1) * sizeof *d);

    if (!d)
        return err_set(err, ENOMEM, "out of memory");
    m->seen = d;
    d[m->nseen].path = strdup(path);
    if (!d[m->nseen].path)
        return err_set(err, ENOMEM, "out of memory");
    sig_of(&d[m->nseen++].sig, st);
    return 0;
}

static int wanted(const struct dirent *e)
{
    size_t n = strlen(e->d_name);

    /* archives are for linkers */
    return e->d_name[0] != '.' && !(n > 2 && strcmp(e->d_name + n - 2, ".a") == 0) &&
           !(n > 3 && strcmp(e->d_name + n - 3, ".la") == 0);
}

static int add(contents_t *c, manifest_t *m, const char *path, int depth, struct err *err);

static int add_folder(contents_t *c, manifest_t *m, const char *path, const struct stat *st,
                      int depth, struct err *err)
{
    struct dirent **names;
    char full[PATH_MAX];
    int rc = note_folder(m, path, st, err), n;

    if (rc < 0)
        return -1;
    if (depth > DEPTH_MAX)
        return err_set(err, ELOOP, "%s: folders in more than %d folders", path, DEPTH_MAX);
    n = scandir(path, &names, wanted, alphasort);
    if (n < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    for (int i = 0; i < n; i++) {
        struct stat of;
        int len = snprintf(full, sizeof full, "%s/%s", path, names[i]->d_name);
        free(names[i]);
        /* what is no file, or gone, or a link to nowhere, is not missed */
        if (rc == 0 && len < (int)sizeof full && stat(full, &of) == 0 &&
            (S_ISREG(of.st_mode) || S_ISDIR(of.st_mode)))
            rc = add(c, m, full, depth + 1, err);
    }
    free(names);
    return rc;
}

static int add(contents_t *c, manifest_t *m, const char *path, int depth, struct err *err)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    return S_ISDIR(st.st_mode) ? add_folder(c, m, path, &st, depth, err)
                               : add_with_needs(c, m, path, err);
}

/* Beside the library that loads them (relative), or at a place of their own. */
static const struct {
    const char *library, *plugins;
} known[] = {
    { "libucs.so", "ucx" },
    { "libopen-pal.so", "openmpi/lib/openmpi3" },
    { "libopen-pal.so", "openmpi3" },
    { "libopen-pal.so", "/usr/share/openmpi" },
    { "libopen-pal.so", "/etc/openmpi" },
    { "libpmix.so", "pmix2/lib/pmix" },
    { "libpmix.so", "pmix" },
    { "libpmix.so", "/usr/share/pmix" },
    { "libpmix.so", "/etc/pmix" },
};

static bool is_library(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');

    return slash && strncmp(slash + 1, name, strlen(name)) == 0;
}

static int add_known(contents_t *c, manifest_t *m, const char *library, const char *plugins,
                     struct err *err)
{
    CLEANUP(cleanup_free) char *real = *plugins == '/' ? NULL : realpath(library, NULL);
    const char *beside[] = { library, real };
    char path[PATH_MAX];
    struct stat st;

    if (*plugins == '/')
        return stat(plugins, &st) == 0 && S_ISDIR(st.st_mode) ? add(c, m, plugins, 0, err) : 0;
    for (size_t i = 0; i < 2; i++) { /* under the name that the loader finds it by */
        const char *slash = beside[i] ? strrchr(beside[i], '/') : NULL;
        int n = slash ? snprintf(path, sizeof path, "%.*s/%s", (int)(slash - beside[i]),
                                 beside[i], plugins)
                      : -1;
        if (n > 0 && (size_t)n < sizeof path && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
            return add(c, m, path, 0, err);
    }
    return 0;
}

int also_plugins(contents_t *c, manifest_t *m, struct err *err)
{
    /* plugins need libraries that may have plugins: the list grows as we go */
    for (size_t i = 0; i < m->nfiles; i++)
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            if (is_library(m->file[i].path, known[k].library)) {
                CLEANUP(cleanup_free) char *library = strdup(m->file[i].path);
                if (!library)
                    return err_set(err, ENOMEM, "out of memory");
                if (add_known(c, m, library, known[k].plugins, err) < 0)
                    return -1;
            }
    return 0;
}

int also_fill(contents_t *c, manifest_t *m, struct err *err)
{
    char path[PATH_MAX];

    for (const char *p = m->also; *p;) {
        size_t n = strcspn(p, "\n");
        if (n >= sizeof path || *p != '/')
            return err_set(err, EINVAL, "also: %.*s is not an absolute path", (int)n, p);
        snprintf(path, sizeof path, "%.*s", (int)n, p);
        if (add(c, m, path, 0, err) < 0)
            return -1;
        p += n + (p[n] != 0);
    }
    return 0;
}

bool also_unchanged(const manifest_t *m)
{
    struct stat st;

    for (size_t i = 0; i < m->nseen; i++)
        if (stat(m->seen[i].path, &st) < 0 || !sig_same(&m->seen[i].sig, &st))
            return false;
    return true;
}
