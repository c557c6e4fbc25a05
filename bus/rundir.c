/* rundir.c - where a cluster's sockets, keys and state are */
#include "bus/rundir.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *env_or(const char *name, const char *dflt)
{
    /* not getenv: a set-uid program that uses libbproc must not be led astray */
    const char *v = secure_getenv(name);
    return v && *v ? v : dflt;
}

const char *cm_rundir(void) { return env_or("CM_RUNDIR", "/run/clustermatic"); }
const char *cm_statedir(void) { return env_or("CM_STATEDIR", "/var/lib/clustermatic"); }
const char *cm_configfile(void) { return env_or("CM_CONFIG", "/etc/clustermatic/config"); }
const char *cm_logdir(void) { return env_or("CM_LOGDIR", "/var/log/clustermatic"); }

/* PREFIX/bin/x or PREFIX/libexec/clustermatic/x -> PREFIX/libexec/clustermatic */
const char *cm_libexec(void)
{
    static char path[PATH_MAX];
    const char *v = secure_getenv("CM_LIBEXEC");

    if (v && *v)
        return v;
    if (path[0])
        return path;
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n > 0) {
        exe[n] = 0;
        char *slash = strrchr(exe, '/');
        if (slash) {
            *slash = 0;
            if (strstr(exe, "/libexec/clustermatic")) {
                snprintf(path, sizeof path, "%s", exe);
                return path;
            }
            slash = strrchr(exe, '/');
            if (slash) {
                *slash = 0;
                if (snprintf(path, sizeof path, "%.3000s/libexec/clustermatic", exe) > 0 &&
                    access(path, X_OK) == 0)
                    return path;
            }
        }
    }
    snprintf(path, sizeof path, "/usr/libexec/clustermatic");
    return path;
}

char *cm_path(char *buf, const char *name)
{
    snprintf(buf, PATH_MAX, "%s/%s", cm_rundir(), name);
    return buf;
}
