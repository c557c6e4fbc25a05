/* kin.c - a process's descendants, as /proc shows them */
#include "bus/kin.h"
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/err.h"

struct one {
    pid_t pid, ppid, sid;
    bool in;
};

struct table {
    struct one *v;
    size_t n, room;
};

struct stat_line {
    char state;
    int ppid, sid;
    unsigned long long began;
};

static bool read_stat(pid_t pid, struct stat_line *s)
{
    char path[64], text[1024];

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    const char *p = strrchr(text, ')'); /* the name before it may hold anything */
    return p && sscanf(p + 1, " %c %d %*d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
                              "%*d %*d %*d %llu", &s->state, &s->ppid, &s->sid, &s->began) == 4;
}

unsigned long long kin_began(pid_t pid)
{
    struct stat_line s;

    return pid > 0 && read_stat(pid, &s) && s.state != 'Z' && s.state != 'X' ? s.began : 0;
}

char kin_state(pid_t pid)
{
    struct stat_line s;

    return pid > 0 && read_stat(pid, &s) ? s.state : 0;
}

static int add(struct table *t, pid_t pid)
{
    struct stat_line s;

    if (!read_stat(pid, &s) || s.state == 'Z' || s.state == 'X')
        return 0;
    if (t->n == t->room) {
        size_t room = t->room ? t->room * 2 : 256;
        struct one *v = realloc(t->v, room * sizeof *v);
        if (!v)
            return -1;
        t->v = v;
        t->room = room;
    }
    t->v[t->n++] = (struct one){ pid, s.ppid, s.sid, false };
    return 0;
}

static int compare(const void *a, const void *b)
{
    pid_t x = ((const struct one *)a)->pid, y = ((const struct one *)b)->pid;
    return (x > y) - (x < y);
}

static int read_all(struct table *t)
{
    DIR *d = opendir("/proc");
    struct dirent *e;
    int rc = d ? 0 : -1;

    while (rc == 0 && (e = readdir(d)))
        if (isdigit((unsigned char)e->d_name[0]))
            rc = add(t, (pid_t)atoi(e->d_name));
    if (d)
        closedir(d);
    if (t->n)
        qsort(t->v, t->n, sizeof *t->v, compare);
    return rc;
}

static struct one *find(const struct table *t, pid_t pid)
{
    struct one key = { .pid = pid };

    return t->n ? bsearch(&key, t->v, t->n, sizeof key, compare) : NULL;
}

static bool descends(const struct table *t, const struct one *o, pid_t root, pid_t except)
{
    for (int depth = 0; o && depth < 10000; depth++) {
        if (except && o->pid == except)
            return false;
        if (o->ppid == root)
            return true;
        o = find(t, o->ppid);
    }
    return false;
}

static int hit(const struct table *t, int sig)
{
    int n = 0;

    for (size_t i = 0; i < t->n; i++) {
        if (!t->v[i].in)
            continue;
        n++;
        if (sig && t->v[i].pid > 1)
            kill(t->v[i].pid, sig);
    }
    return n;
}

int kin_signal(pid_t root, pid_t except, int sig)
{
    struct table t = { 0 };

    if (root <= 1) /* that would be everybody */
        return 0;
    int rc = read_all(&t);

    for (size_t i = 0; i < t.n; i++)
        t.v[i].in = descends(&t, &t.v[i], root, except);
    rc = rc < 0 ? -1 : hit(&t, sig);
    free(t.v);
    return rc;
}

static bool is_of(pid_t pid, uid_t uid)
{
    char path[64];
    struct stat st;

    snprintf(path, sizeof path, "/proc/%d", (int)pid);
    return stat(path, &st) == 0 && st.st_uid == uid;
}

int kin_signal_session(pid_t sid, uid_t uid, int sig)
{
    struct table t = { 0 };

    if (sid <= 1)
        return 0;
    int rc = read_all(&t);

    for (size_t i = 0; i < t.n; i++)
        t.v[i].in = t.v[i].sid == sid && is_of(t.v[i].pid, uid);
    rc = rc < 0 ? -1 : hit(&t, sig);
    free(t.v);
    return rc;
}
