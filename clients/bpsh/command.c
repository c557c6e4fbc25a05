/* command.c - the command's path on the master, and how it is to be started */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "clients/bpsh/bpsh.h"

extern char **environ;

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

char *command_find(const char *name, struct err *err)
{
    const char *list = getenv("PATH");
    int why = ENOENT, first = ENOENT;

    if (strchr(name, '/')) {
        char *path = absolute("", 0, name);
        if (path && runnable(path, &why))
            return path;
        free(path);
        err_set(err, why, why == ENOENT || why == ENOTDIR ? "%s: command not found" : "%s: %s",
                name, strerror(why));
        return NULL;
    }
    for (list = list ? list : PATH_DEFAULT; *name;) {
        size_t n = strcspn(list, ":");
        char *path = absolute(list, n, name);
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

/* Ours, with the two that each process gets its own of. */
static void pack_env(struct bpsh *b, mp_buf *m)
{
    static const char *const own[] = { "BPROC_RANK=", "BPROC_PROGNAME=" };
    uint32_t n = 0;

    for (int pass = 0; pass < 2; pass++) {
        if (pass)
            mp_array(m, n + 2);
        for (char **e = environ; *e; e++) {
            if (strncmp(*e, own[0], strlen(own[0])) == 0 ||
                strncmp(*e, own[1], strlen(own[1])) == 0)
                continue;
            if (pass)
                mp_bin(m, *e, strlen(*e));
            else
                n++;
        }
    }
    mp_bin(m, "BPROC_RANK=XXXXXXX", 18);
    CLEANUP(cleanup_free) char *name = NULL;
    if (asprintf(&name, "%s%s", own[1], b->path) < 0)
        name = NULL;
    mp_bin(m, name ? name : own[1], strlen(name ? name : own[1]));
}

static void pack_limits(mp_buf *m)
{
    mp_array(m, RLIM_NLIMITS);
    for (unsigned i = 0; i < RLIM_NLIMITS; i++) {
        struct rlimit r = { RLIM_INFINITY, RLIM_INFINITY };
        getrlimit((int)i, &r);
        mp_array(m, 3);
        mp_uint(m, i);
        mp_uint(m, r.rlim_cur);
        mp_uint(m, r.rlim_max);
    }
}

uint32_t command_pairs(void) { return getenv("LD_LIBRARY_PATH") ? 7 : 6; }

int command_pack(struct bpsh *b, mp_buf *m, struct err *err)
{
    uint32_t argc = 0;
    CLEANUP(cleanup_free) char *cwd = getcwd(NULL, 0);
    mode_t mask = umask(0);

    umask(mask);
    if (!cwd && errno == ENOMEM)
        return err_set(err, ENOMEM, "out of memory");
    while (b->opt.argv[argc])
        argc++;
    mp_key(m, "argv");
    mp_array(m, argc);
    for (uint32_t i = 0; i < argc; i++)
        mp_bin(m, b->opt.argv[i], strlen(b->opt.argv[i]));
    mp_key(m, "env");
    pack_env(b, m);
    mp_kbin(m, "cwd", cwd ? cwd : "/", cwd ? strlen(cwd) : 1);
    mp_kuint(m, "umask", mask);
    mp_key(m, "limits");
    pack_limits(m);
    mp_kbin(m, "path", b->path, strlen(b->path));
    const char *libs = getenv("LD_LIBRARY_PATH");
    if (libs)
        mp_kbin(m, "library_path", libs, strlen(libs));
    return 0;
}
