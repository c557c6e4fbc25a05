/* find.c - a command's path on the master */
#include "clients/common/find.h"
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_DEFAULT ":/bin:/usr/bin"

/* dir/name, or name as it is; absolute. NULL: out of memory, or no directory. */
static char *absolute(const char *dir, size_t dir_len, const char *name)
{
    char *path = NULL;

    if (*name == '/')
        return strdup(name);
    while (name[0] == '.' && name[1] == '/')
        for (name += 2; *name == '/';)
            name++;
    CLEANUP(cleanup_free) char *cwd = NULL;
    if (!dir_len || *dir != '/') {
        cwd = getcwd(NULL, 0);
        if (!cwd)
            return NULL;
    }
    if (asprintf(&path, "%s%s%.*s/%s", cwd ? cwd : "", cwd && dir_len ? "/" : "",
                 (int)dir_len, dir, name) < 0)
        return NULL;
    return path;
}

static bool runnable(const char *path, int *why)
{
    struct stat st;

    if (stat(path, &st) < 0)
        *why = errno;
    else if (S_ISDIR(st.st_mode))
        *why = EISDIR;
    else if (access(path, X_OK) < 0)
        *why = errno;
    else
        return true;
    return false;
}

/* Nodes take no path with "." or ".." in it: its folder by its real name then, but
 * the last part as it is, since a program may look at how it is called. */
static char *plain(char *path)
{
    if (!path || (!strstr(path, "/./") && !strstr(path, "/../") && !strstr(path, "//")))
        return path;
    char *name = strrchr(path, '/'), *all = NULL;
    *name++ = 0;
    CLEANUP(cleanup_free) char *dir = realpath(*path ? path : "/", NULL);
    if (!dir || asprintf(&all, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, name) < 0)
        all = NULL;
    free(path);
    return all;
}

char *command_find(const char *name, struct err *err)
{
    const char *list = getenv("PATH");
    int why = ENOENT, first = ENOENT;

    if (strchr(name, '/')) {
        char *path = plain(absolute("", 0, name));
        if (path && runnable(path, &why))
            return path;
        free(path);
        err_set(err, why, why == ENOENT || why == ENOTDIR ? "%s: command not found" : "%s: %s",
                name, strerror(why));
        return NULL;
    }
    for (list = list ? list : PATH_DEFAULT; *name;) {
        size_t n = strcspn(list, ":");
        char *path = plain(absolute(list, n, name));
        if (path && runnable(path, &why))
            return path;
        /* Found, but not to be run. A folder closed to us is none of that. */
        if (path && first == ENOENT && why == EACCES && access(path, F_OK) == 0)
            first = why;
        free(path);
        if (!list[n])
            break;
        list += n + 1;
    }
    err_set(err, first, first == ENOENT ? "%s: command not found" : "%s: %s", name,
            strerror(first));
    return NULL;
}
