/* submit.c - the request: what is to run, and in which surroundings */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include "clients/bjssub/bjssub.h"

#define SUBMIT_MS 60000

extern char **environ;

const char *job_shell(void)
{
    const char *sh = getenv("SHELL");

    return sh && sh[0] == '/' ? sh : "/bin/sh";
}

/* PWD as the shell calls it, if that is where we are. */
const char *job_dir(const struct options *o)
{
    static char buf[PATH_MAX];
    const char *pwd = getenv("PWD");
    struct stat a, b;

    if (o->dir)
        return o->dir;
    if (pwd && pwd[0] == '/' && stat(pwd, &a) == 0 && stat(".", &b) == 0 &&
        a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        return pwd;
    return getcwd(buf, sizeof buf) ? buf : "/";
}

/* By this a submission that is repeated after a lost answer is known again. */
static void make_token(char out[33])
{
    unsigned char r[16] = { 0 };

    if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r)
        snprintf((char *)r, sizeof r, "%d", (int)getpid());
    for (int i = 0; i < 16; i++)
        snprintf(out + 2 * i, 3, "%02x", r[i]);
}

static void pack_env(mp_buf *m)
{
    uint32_t n = 0;

    while (environ[n])
        n++;
    mp_key(m, "env");
    mp_array(m, n);
    for (uint32_t i = 0; i < n; i++)
        mp_bin(m, environ[i], strlen(environ[i]));
}

static void kbytes(mp_buf *m, const char *key, const char *text)
{
    mp_kbin(m, key, text, strlen(text));
}

static void pack_reqs(mp_buf *m, const struct options *o)
{
    char output[PATH_MAX + 16];

    mp_key(m, "reqs");
    mp_array(m, (uint32_t)o->reqs.n + o->restartable + (o->output != NULL));
    for (size_t i = 0; i < o->reqs.n; i++)
        mp_bin(m, o->reqs.v[i], strlen(o->reqs.v[i]));
    if (o->restartable)
        mp_str(m, "restartable");
    if (o->output) {
        snprintf(output, sizeof output, "output=%s", o->output);
        mp_bin(m, output, strlen(output));
    }
}

static void pack(mp_buf *m, const struct options *o)
{
    char token[33];
    mode_t mask = umask(022);

    umask(mask);
    make_token(token);
    mp_map(m, 19u + (o->name != NULL) + (o->output != NULL) + (o->secs >= 0) + (o->from >= 0));
    mp_kstr(m, "token", token);
    kbytes(m, "pool", o->pool);
    kbytes(m, "command", o->command);
    mp_kbool(m, "script", o->script);
    kbytes(m, "shell", job_shell());
    kbytes(m, "dir", job_dir(o));
    mp_kuint(m, "umask", mask);
    pack_env(m);
    pack_reqs(m, o);
    mp_kint(m, "nodes", o->nodes);
    mp_kint(m, "cpus", o->cpus);
    mp_kint(m, "mem_mb", o->mem_mb);
    mp_kint(m, "priority", o->priority);
    mp_kint(m, "retry", o->retry);
    mp_kbool(m, "interactive", o->interactive);
    mp_kbool(m, "restartable", o->restartable);
    mp_kbool(m, "requeue", o->requeue);
    mp_kbool(m, "hold", o->hold);
    mp_key(m, "after");
    mp_array(m, (uint32_t)o->nafter);
    for (size_t i = 0; i < o->nafter; i++) {
        mp_array(m, 2);
        mp_int(m, o->after[i].job);
        mp_str(m, o->after[i].kind);
    }
    if (o->name)
        kbytes(m, "name", o->name);
    if (o->output)
        kbytes(m, "output", o->output);
    if (o->secs >= 0)
        mp_kint(m, "secs", o->secs);
    if (o->from >= 0) {
        mp_key(m, "array");
        mp_array(m, 2);
        mp_int(m, o->from);
        mp_int(m, o->to);
    }
}

int64_t submit(gate_t *g, const struct options *o, int64_t *count, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    int64_t id = -1;

    mp_init(&m);
    msgpack_unpacked_init(&reply);
    pack(&m, o);
    /* sched may have just been started and not know the nodes yet */
    for (int i = 0;; i++) {
        if (gate_call(g, "sched.submit", &m, SUBMIT_MS, &reply, err) == 0)
            break;
        if (err->code != EAGAIN || i == 50)
            return -1;
        usleep(100000);
    }
    if (mp_get_int(&reply.data, "job", 1, INT64_MAX, &id, err) < 0 ||
        mp_get_int(&reply.data, "count", 1, INT64_MAX, count, err) < 0)
        return -1;
    return id;
}
