/* misc.c - clustermatic restart, reload, logs, env */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/nodespec.h"
#include "bus/rundir.h"
#include "clients/clustermatic/commands.h"
#include "clients/clustermatic/nodes.h"
#include "clients/clustermatic/supervise.h"

int unit_name(const struct cluster *c, const char *word, const char *number, char *unit,
              size_t size, struct err *err)
{
    if (strcmp(word, "node") == 0 && number)
        snprintf(unit, size, "node.%s", number);
    else
        snprintf(unit, size, "%s", word);
    if (strncmp(unit, "node.", 5) == 0) {
        char *end;
        long n = strtol(unit + 5, &end, 10);
        /* Of a cluster that has ended the logs may still be wanted. */
        bool high = cluster_exists(c) && c->nodes ? n >= c->nodes : n > NODE_MAX;
        if (!isdigit((unsigned char)unit[5]) || *end || n < 0 || high)
            return err_set(err, EINVAL, "%s: this cluster has %d virtual nodes", unit, c->nodes);
        snprintf(unit, size, "node.%ld", n);
        return 0;
    }
    if (!service_known(unit))
        return err_set(err, EINVAL, "%s: want busd, nodemgr, procspace, iofwd, bpfs, bootsrv, sched, or node N", word);
    return 0;
}

static int need_running(const struct cluster *c, struct err *err)
{
    if (cluster_by_systemd(c))
        return err_set(err, EBUSY, "this cluster runs under systemd: use "
                                   "systemctl restart clustermatic-SERVICE and journalctl");
    if (!cluster_supervisor(c))
        return err_set(err, ENOENT, "no cluster runs in %s: `clustermatic up` starts one",
                       c->run);
    return 0;
}

int cmd_restart(struct cluster *c, const char *unit)
{
    struct err err = { 0 };

    if (geteuid() != 0)
        err_set(&err, EPERM, "restart: only root may: try sudo");
    else if (!c->nodes && strncmp(unit, "node.", 5) == 0)
        err_set(&err, EINVAL, "node %s is not a virtual one: bpctl -S %s -R reboots it", unit + 5,
                unit + 5);
    else if (need_running(c, &err) == 0 && supervise_restart(c, unit, &err) == 0)
        return 0;
    return refuse(&err);
}

int cmd_reload(struct cluster *c)
{
    struct err err = { 0 };

    cluster_setenv(c);
    return nodes_reload(&err) < 0 ? refuse(&err) : 0;
}

/* Without a name: which logs there are. */
static int list_logs(const struct cluster *c)
{
    char path[PATH_MAX];
    struct stat st;
    struct dirent **e;
    int n = scandir(c->log, &e, NULL, versionsort);

    for (int i = 0; i < n; i++) {
        const char *name = e[i]->d_name;
        log_path(c, strcmp(name, "s6.log") == 0 ? "s6" : name, path);
        if (name[0] != '.' && stat(path, &st) == 0 && S_ISREG(st.st_mode))
            printf("%9lld %s\n", (long long)st.st_size, path);
        free(e[i]);
    }
    if (n >= 0)
        free(e);
    return n < 0 ? -1 : 0;
}

int cmd_logs(struct cluster *c, const struct options *o, const char *unit)
{
    struct err err = { 0 };
    char path[PATH_MAX];

    if (!unit) {
        if (list_logs(c) == 0)
            return 0;
        err_set(&err, ENOENT, "there are no logs in %s", c->log);
        return refuse(&err);
    }
    log_path(c, unit, path);
    if (access(path, R_OK) < 0)
        err_set(&err, errno, "%s: %s", path, strerror(errno));
    else if (o->follow)
        execlp("tail", "tail", "-n", "50", "-F", path, (char *)NULL);
    else
        execlp("cat", "cat", path, (char *)NULL);
    if (!err.code)
        err_set(&err, errno, "show %s: %s", path, strerror(errno));
    return refuse(&err);
}

/* A word that any POSIX shell reads back as it was. */
static void print_quoted(const char *text)
{
    putchar('\'');
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else
            putchar(*text);
    }
    putchar('\'');
}

static void print_list(const char *variable, const char *dir, const char *tail)
{
    printf("export %s=", variable);
    print_quoted(dir);
    printf("%s\n", tail);
}

int cmd_env(const struct cluster *c)
{
    struct err err = { 0 };
    char exe[PATH_MAX], dir[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);

    char *bin = n > 0 ? (exe[n] = 0, strstr(exe, "/bin/clustermatic")) : NULL;
    if (!bin) {
        err_set(&err, ENOENT, "env: cannot tell where this program is");
        return refuse(&err);
    }
    *bin = 0; /* exe is the prefix now */
    print_list("PATH", path_join(dir, exe, "bin"), "\"${PATH:+:$PATH}\"");
    printf("export CM_RUNDIR=");
    print_quoted(c->run);
    putchar('\n');
    print_list("LD_LIBRARY_PATH", path_join(dir, exe, "lib"),
               "\"${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\"");
    print_list("MANPATH", path_join(dir, exe, "share/man"), "\":${MANPATH:-}\"");
    return 0;
}
