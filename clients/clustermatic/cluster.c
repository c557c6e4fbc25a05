/* cluster.c - which cluster a command is about, and where its folders are */
#include "clients/clustermatic/cluster.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "clients/clustermatic/procs.h"

#define RUN_DEFAULT "/run/clustermatic"

char *path_join(char *buf, const char *a, const char *b)
{
    if (snprintf(buf, PATH_MAX, "%s/%s", a, b) >= PATH_MAX)
        buf[0] = 0; /* no such path can be opened: the caller sees ENOENT */
    return buf;
}

int write_file(const char *path, mode_t mode, struct err *err, const char *fmt, ...)
{
    CLEANUP(cleanup_close) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0)
        return err_set(err, errno, "create %s: %s", path, strerror(errno));

    va_list ap;
    va_start(ap, fmt);
    int n = vdprintf(fd, fmt, ap);
    va_end(ap);
    if (n < 0 || fchmod(fd, mode) < 0)
        return err_set(err, errno, "write %s: %s", path, strerror(errno));
    return 0;
}

int make_dirs(const char *path, mode_t mode, struct err *err)
{
    char part[PATH_MAX];

    if (snprintf(part, sizeof part, "%s", path) >= (int)sizeof part)
        return err_set(err, ENAMETOOLONG, "make folder %s", path);
    for (char *slash = part + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        if (mkdir(part, 0755) < 0 && errno != EEXIST)
            return err_set(err, errno, "make folder %s: %s", part, strerror(errno));
        *slash = '/';
    }
    if (mkdir(part, mode) < 0 && errno != EEXIST)
        return err_set(err, errno, "make folder %s: %s", part, strerror(errno));
    return 0;
}

static int name_check(const char *name, struct err *err)
{
    size_t n = strlen(name);

    bool good = n > 0 && n <= 32 && isalnum((unsigned char)name[0]);
    for (size_t i = 0; i < n && good; i++)
        good = isalnum((unsigned char)name[i]) || strchr("._-", name[i]);
    if (!good)
        return err_set(err, EINVAL,
                       "--name %.40s: want 1-32 letters, digits, '.', '_' or '-', "
                       "the first a letter or digit", name);
    return 0;
}

/* The folder for one purpose: the environment's word, unless --name was given
 * or nothing was said; then the name's own. */
static void choose(char *buf, bool named, const char *variable, const char *base,
                   const char *name)
{
    const char *v = named ? NULL : getenv(variable);

    if (v && *v)
        snprintf(buf, PATH_MAX, "%s", v);
    else
        snprintf(buf, PATH_MAX, "%s%s%s", base, *name ? "-" : "", name);
}

static void load(struct cluster *c)
{
    char path[PATH_MAX], line[PATH_MAX + 32];
    FILE *f = fopen(path_join(path, c->run, "cluster"), "re");

    if (!f)
        return;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *value = strchr(line, ' ');
        if (!value)
            continue;
        *value++ = 0;
        if (strcmp(line, "state") == 0)
            snprintf(c->state, sizeof c->state, "%.*s", PATH_MAX - 1, value);
        else if (strcmp(line, "log") == 0)
            snprintf(c->log, sizeof c->log, "%.*s", PATH_MAX - 1, value);
        else if (strcmp(line, "config") == 0)
            snprintf(c->config, sizeof c->config, "%.*s", PATH_MAX - 1, value);
        else if (strcmp(line, "virtual") == 0)
            c->nodes = atoi(value);
        else if (strcmp(line, "port") == 0)
            c->port = atoi(value);
        else if (strcmp(line, "size") == 0)
            snprintf(c->node_size, sizeof c->node_size, "%.23s", value);
    }
    fclose(f);
}

int cluster_select(struct cluster *c, const char *name, struct err *err)
{
    memset(c, 0, sizeof *c);
    c->port = CM_PORT;
    if (name) {
        if (name_check(name, err) < 0)
            return -1;
        snprintf(c->name, sizeof c->name, "%s", name);
    }
    choose(c->run, name, "CM_RUNDIR", RUN_DEFAULT, c->name);
    if (c->run[0] != '/')
        return err_set(err, EINVAL, "CM_RUNDIR=%.100s: want an absolute path", c->run);
    /* A run folder of ours tells the name, and so the other folders. */
    if (!name && strncmp(c->run, RUN_DEFAULT "-", sizeof RUN_DEFAULT) == 0 &&
        name_check(c->run + sizeof RUN_DEFAULT, NULL) == 0)
        snprintf(c->name, sizeof c->name, "%s", c->run + sizeof RUN_DEFAULT);
    choose(c->state, name, "CM_STATEDIR", "/var/lib/clustermatic", c->name);
    choose(c->log, name, "CM_LOGDIR", "/var/log/clustermatic", c->name);
    const char *config = getenv("CM_CONFIG");
    snprintf(c->config, sizeof c->config, "%s",
             config && *config ? config : "/etc/clustermatic/config");
    if (strlen(c->run) > 80)
        return err_set(err, ENAMETOOLONG, "%s is too long for a folder of sockets", c->run);
    load(c);
    return 0;
}

void cluster_setenv(const struct cluster *c)
{
    setenv("CM_RUNDIR", c->run, 1);
    setenv("CM_STATEDIR", c->state, 1);
    setenv("CM_LOGDIR", c->log, 1);
    setenv("CM_CONFIG", c->config, 1);
}

int cluster_save(const struct cluster *c, struct err *err)
{
    char path[PATH_MAX];

    return write_file(path_join(path, c->run, "cluster"), 0644, err,
                      "name %s\nstate %s\nlog %s\nconfig %s\nvirtual %d\nport %d\nsize %s\n",
                      c->name, c->state, c->log, c->config, c->nodes, c->port,
                      c->node_size);
}

pid_t cluster_supervisor(const struct cluster *c)
{
    char path[PATH_MAX];
    int pid = 0;
    unsigned long long start = 0;
    FILE *f = fopen(path_join(path, c->run, "svscan"), "re");

    if (!f)
        return 0;
    int n = fscanf(f, "%d %llu", &pid, &start);
    fclose(f);
    return n == 2 && pid > 0 && proc_start(pid) == start ? pid : 0;
}

bool cluster_exists(const struct cluster *c)
{
    return access(c->run, F_OK) == 0;
}

bool cluster_by_systemd(const struct cluster *c)
{
    char scan[PATH_MAX], bus[PATH_MAX];

    return access(path_join(scan, c->run, "s6"), F_OK) < 0 &&
           access(path_join(bus, c->run, "gate"), F_OK) == 0;
}

int cluster_lock(const struct cluster *c, struct err *err)
{
    char path[PATH_MAX];

    if (make_dirs(c->state, 0755, err) < 0)
        return -1;
    int fd = open(path_join(path, c->state, "lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(err, errno, "open %s: %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        int code = errno;
        close(fd);
        return err_set(err, code, "another `clustermatic up` or `down` is at work on this "
                                  "cluster (it holds %s)", path);
    }
    return fd;
}
