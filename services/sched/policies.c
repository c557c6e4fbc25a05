/* policies.c - loading a pool's policy */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "services/sched/core.h"

extern const struct bjs_policy policy_simple; /* policies/simple.c, built in */

void policy_unload(struct pool *p)
{
    if (p->policy && p->policy->close)
        p->policy->close(&p->view);
    p->view.state = NULL;
    p->policy = NULL;
    if (p->handle)
        dlclose(p->handle);
    p->handle = NULL;
}

void policy_builtin(struct pool *p)
{
    /* close() of a policy that crashed is not to be trusted, nor is its unloading */
    p->view.state = NULL;
    p->handle = NULL;
    p->policy = &policy_simple;
}

static bool find(const char *name, const char *path, char *out)
{
    size_t n = strlen(name);
    const char *so = n > 3 && strcmp(name + n - 3, ".so") == 0 ? "" : ".so";

    if (strchr(name, '/')) {
        snprintf(out, PATH_MAX, "%s%s", name, so);
        return access(out, R_OK) == 0;
    }
    while (*path) {
        size_t len = strcspn(path, ":");
        snprintf(out, PATH_MAX, "%.*s/%s%s", (int)len, path, name, so);
        if (len && access(out, R_OK) == 0)
            return true;
        path += len + (path[len] == ':');
    }
    return false;
}

int policy_load(struct pool *p, const char *name, const char *path, struct err *err)
{
    char file[PATH_MAX];

    if (!find(name, path, file))
        return err_set(err, ENOENT, "policy %s: there is no such file in %s", name, path);
    void *h = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!h)
        return err_set(err, ENOEXEC, "policy %s: %s", name, dlerror());
    const struct bjs_policy *it = dlsym(h, "policy");
    if (!it || it->version != BJS_POLICY_VERSION || !it->schedule) {
        int code = it ? ENOTSUP : ENOEXEC;
        if (it)
            err_set(err, code, "policy %s: %s is of version %u, and this sched wants %d: build "
                               "it anew", name, file, it->version, BJS_POLICY_VERSION);
        else
            err_set(err, code, "policy %s: %s has no symbol `policy'", name, file);
        dlclose(h);
        return -1;
    }
    policy_unload(p);
    p->handle = h;
    p->policy = it;
    return 0;
}
