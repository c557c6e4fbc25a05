/* cgroup.c - where control groups are to be had, and their removal */
#include "bus/cgroup.h"
#include <dirent.h>
#include <limits.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool has_option(const char *options, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = options; p; p = strchr(p, ',')) {
        p += *p == ',';
        if (strncmp(p, word, n) == 0 && (p[n] == 0 || p[n] == ','))
            return true;
    }
    return false;
}

/* Calls fn for each tree until it says true. */
static bool each_tree(bool (*fn)(const struct mntent *m, const void *arg, char *path),
                      const void *arg, char *path)
{
    FILE *f = setmntent("/proc/self/mounts", "re");
    struct mntent m;
    char buf[PATH_MAX * 2];
    bool found = false;

    while (f && !found && getmntent_r(f, &m, buf, sizeof buf))
        if (strncmp(m.mnt_type, "cgroup", 6) == 0)
            found = fn(&m, arg, path);
    if (f)
        endmntent(f);
    return found;
}

static bool is_tree(const struct mntent *m, const void *controller, char *path)
{
    bool second = strcmp(m->mnt_type, "cgroup2") == 0;

    if (controller ? second || !has_option(m->mnt_opts, controller) : !second)
        return false;
    snprintf(path, PATH_MAX, "%s", m->mnt_dir);
    return true;
}

bool cgroup_mounted(const char *controller, char *path)
{
    return each_tree(is_tree, controller, path);
}

const char *cgroup_folder(const char *run)
{
    const char *slash = strrchr(run, '/');

    return slash && slash[1] ? slash + 1 : run;
}

static void remove_below(char *path, size_t len)
{
    DIR *d = opendir(path);
    struct dirent *e;

    while (d && (e = readdir(d))) {
        if (e->d_type != DT_DIR || e->d_name[0] == '.')
            continue;
        int n = snprintf(path + len, PATH_MAX - len, "/%s", e->d_name);
        if (n > 0 && len + (size_t)n < PATH_MAX)
            remove_below(path, len + (size_t)n);
        path[len] = 0;
    }
    if (d)
        closedir(d);
    rmdir(path); /* one that is in use stays */
}

static bool remove_in(const struct mntent *m, const void *what, char *path)
{
    int n = snprintf(path, PATH_MAX, "%s/%s", m->mnt_dir, (const char *)what);

    if (n > 0 && n < PATH_MAX)
        remove_below(path, (size_t)n);
    return false;
}

void cgroup_remove(const char *folder, const char *below)
{
    char what[PATH_MAX], path[PATH_MAX];

    snprintf(what, sizeof what, "%.1000s%s%.1000s", folder, below ? "/" : "",
             below ? below : "");
    each_tree(remove_in, what, path);
}
