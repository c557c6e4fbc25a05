/* command.c - how the command is to be started */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/limits.h"
#include "bus/nodespec.h"
#include "clients/bpsh/bpsh.h"

extern char **environ;

char *command_nodes(const struct bpsh *b)
{
    CLEANUP(nodelist_free) nodelist_t all;

    nodelist_init(&all);
    for (uint32_t r = 0; r < b->remote; r++)
        if (nodelist_add(&all, b->proc[b->by_rank[r]].node) < 0)
            return NULL;
    for (uint32_t i = 0; i < b->procs; i++)
        if (b->proc[i].node < 0 && nodelist_add(&all, -1) < 0)
            return NULL;
    return nodelist_text(&all);
}

/* What each process gets of its own, in place of what we may have ourselves. */
static const char *const own[] = { "BPROC_RANK=", "BPROC_PROGNAME=", "BPROC_SIZE=",
                                   "BPROC_NODES=" };
#define OWN (sizeof own / sizeof *own)

static bool is_own(const char *env)
{
    for (size_t i = 0; i < OWN; i++)
        if (strncmp(env, own[i], strlen(own[i])) == 0)
            return true;
    return false;
}

static int pack_pair(mp_buf *m, const char *name, const char *value, struct err *err)
{
    CLEANUP(cleanup_free) char *pair = NULL;

    if (!value || asprintf(&pair, "%s%s", name, value) < 0) {
        pair = NULL;
        return err_set(err, ENOMEM, "out of memory");
    }
    mp_bin(m, pair, strlen(pair));
    return 0;
}

static int pack_env(struct bpsh *b, mp_buf *m, struct err *err)
{
    CLEANUP(cleanup_free) char *nodes = command_nodes(b);
    char size[16];
    uint32_t n = 0;

    for (char **e = environ; *e; e++)
        n += !is_own(*e);
    mp_array(m, n + (uint32_t)OWN);
    for (char **e = environ; *e; e++)
        if (!is_own(*e))
            mp_bin(m, *e, strlen(*e));
    snprintf(size, sizeof size, "%u", b->procs);
    return pack_pair(m, own[0], "XXXXXXX", err) < 0 || pack_pair(m, own[1], b->path, err) < 0 ||
                   pack_pair(m, own[2], size, err) < 0 || pack_pair(m, own[3], nodes, err) < 0
               ? -1
               : 0;
}

/* Besides what is started: the command itself when that is something else. */
static uint32_t also(const struct bpsh *b) { return b->opt.withs + (b->via != NULL); }

uint32_t command_pairs(const struct bpsh *b)
{
    return 6u + (getenv("LD_LIBRARY_PATH") != NULL) + (also(b) != 0) + (b->opt.first_rank != 0);
}

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
    if (pack_env(b, m, err) < 0)
        return -1;
    mp_kbin(m, "cwd", cwd ? cwd : "/", cwd ? strlen(cwd) : 1);
    mp_kuint(m, "umask", mask);
    mp_key(m, "limits");
    limits_pack(0, m);
    const char *path = b->via ? b->via : b->path;
    mp_kbin(m, "path", path, strlen(path));
    if (also(b)) {
        mp_key(m, "also");
        mp_array(m, also(b));
        if (b->via)
            mp_bin(m, b->path, strlen(b->path));
        for (uint32_t i = 0; i < b->opt.withs; i++)
            mp_bin(m, b->opt.with[i], strlen(b->opt.with[i]));
    }
    if (b->opt.first_rank) {
        mp_key(m, "index");
        mp_array(m, b->remote);
        for (uint32_t r = 0; r < b->remote; r++)
            mp_uint(m, (uint64_t)b->opt.first_rank + r);
    }
    const char *libs = getenv("LD_LIBRARY_PATH");
    if (libs)
        mp_kbin(m, "library_path", libs, strlen(libs));
    return 0;
}
