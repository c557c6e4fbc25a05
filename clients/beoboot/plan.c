/* plan.c - what is to be made of what: configuration, defaults, the kernel */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "clients/beoboot/beoboot.h"

#define DEFAULT_IMAGE "/var/clustermatic/boot.img"
#define KEY_CHARS 40

static int nomem(struct err *err)
{
    return err_set(err, ENOMEM, "out of memory");
}

static int set(char **where, const char *text, struct err *err)
{
    free(*where);
    *where = strdup(text);
    return *where ? 0 : nomem(err);
}

/* ---- the kernel ---- */

char *kernel_release(const char *path, struct err *err)
{
    unsigned char head[0x220];
    char text[512];
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint16_t at;

    if (fd < 0) {
        err_set(err, errno, "%s: %s", path, strerror(errno));
        return NULL;
    }
    ssize_t n = pread(fd, head, sizeof head, 0);
    if (n == sizeof head && memcmp(head + 0x202, "HdrS", 4) == 0) {
        memcpy(&at, head + 0x20e, sizeof at);
        n = at ? pread(fd, text, sizeof text - 1, at + 0x200) : 0;
        text[n > 0 ? n : 0] = 0;
        text[strcspn(text, " ")] = 0;
        if (*text)
            return strdup(text);
    }
    err_set(err, EINVAL, "%s: does not tell its release, so it is no x86 kernel image; "
            "give --kversion if it is one", path);
    return NULL;
}

/* The newest of /boot/vmlinuz-*, by version. "": none. */
static char *newest_kernel(void)
{
    struct dirent **v = NULL;
    char *best = NULL;
    int n = scandir("/boot", &v, NULL, versionsort);

    for (int i = 0; i < n; i++) {
        if (strncmp(v[i]->d_name, "vmlinuz-", 8) == 0) {
            free(best);
            if (asprintf(&best, "/boot/%s", v[i]->d_name) < 0)
                best = NULL;
        }
        free(v[i]);
    }
    free(v);
    return best;
}

static int choose_kernel(struct plan *p, struct err *err)
{
    static const char *const names[] = { "vmlinuz", "vmlinux" };
    char path[PATH_MAX];
    struct utsname u;

    if (p->o->kernel)
        return set(&p->kernel, p->o->kernel, err);
    if (p->o->phase == 2 && p->config && p->config->kernel_image)
        return set(&p->kernel, p->config->kernel_image, err);
    uname(&u);
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "/boot/%s-%s", names[i], u.release);
        if (access(path, R_OK) == 0)
            return set(&p->kernel, path, err);
    }
    p->kernel = newest_kernel();
    if (!p->kernel)
        return err_set(err, ENOENT, "there is no kernel /boot/vmlinuz-%s, nor another one: "
                       "give one with -k, or apt-get install linux-image-amd64", u.release);
    fprintf(stderr, "beoboot: the running kernel is not in /boot; taking %s\n", p->kernel);
    return 0;
}

static int choose_modules(struct plan *p, struct err *err)
{
    char path[PATH_MAX];

    if (p->o->version && set(&p->release, p->o->version, err) < 0)
        return -1;
    if (!p->release && !(p->release = kernel_release(p->kernel, err)))
        return -1;
    snprintf(path, sizeof path, "/lib/modules/%s", p->release);
    if (set(&p->modules, p->o->modules ? p->o->modules : path, err) < 0)
        return -1;
    bool needed = !p->o->noautomod || p->boot.modules.n;
    if (needed && access(p->modules, R_OK) < 0)
        return err_set(err, errno, "%s: %s; -m says where the modules of kernel %s are, "
                       "--noautomod does without", p->modules, strerror(errno), p->release);
    return 0;
}

/* ---- the master's key ---- */

static int take_key(struct plan *p, const char *path, struct err *err)
{
    char text[128];
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (n < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    text[n] = 0;
    text[strcspn(text, "\n")] = 0;
    if (strlen(text) != KEY_CHARS)
        return err_set(err, EINVAL, "%s: is not the master's public key, %d characters in one "
                       "line", path, KEY_CHARS);
    return set(&p->master_pub, text, err);
}

/* The keys are busd's; before its first start it is asked to make them. */
static int choose_key(struct plan *p, struct err *err)
{
    char path[PATH_MAX], busd[PATH_MAX];
    const char *make[] = { busd, "--make-keys", NULL };

    if (p->o->phase == 1)
        return 0;
    if (p->o->master_key)
        return take_key(p, p->o->master_key, err);
    snprintf(path, sizeof path, "%s/master.key", cm_statedir());
    snprintf(busd, sizeof busd, "%s/busd", cm_libexec());
    if (access(path, F_OK) < 0 && errno == ENOENT && tool_run(make, err) < 0)
        return err_prefix(err, "make the master's keys");
    return take_key(p, path, err);
}

/* ---- the rest ---- */

static int read_config(struct plan *p, struct err *err)
{
    const struct options *o = p->o;

    if (access(o->config, F_OK) < 0 && errno == ENOENT && strcmp(o->config, cm_configfile()) == 0)
        return 0; /* an image can be made before there is a configuration */
    p->config = config_load(o->config, &p->warnings, err);
    return p->config ? 0 : -1;
}

static int choose_cmdline(struct plan *p, struct err *err)
{
    const char *text = p->o->cmdline;

    if (!text && p->o->phase == 2 && p->config)
        text = p->config->kernel_command_line;
    if (text && (strlen(text) >= IMAGE_CMDLINE || strchr(text, '\n')))
        return err_set(err, EINVAL, "the kernel's command line has to be one line of at most %d "
                       "characters", IMAGE_CMDLINE - 1);
    return set(&p->cmdline, text ? text : "", err);
}

static int choose_file(struct plan *p, struct err *err)
{
    const struct options *o = p->o;

    if (o->file)
        return set(&p->file, o->file, err);
    if (o->output != OUT_NET || o->phase != 2)
        return err_set(err, EINVAL, "-o FILE is needed: only a phase 2 network image has a place "
                       "of its own");
    return set(&p->file, p->config && p->config->bootfile ? p->config->bootfile : DEFAULT_IMAGE,
               err);
}

static int read_bootconf(struct plan *p, struct err *err)
{
    CLEANUP(strlist_free) struct strlist plugins = { 0 };
    char path[PATH_MAX];

    for (size_t i = 0; i < p->o->plugins.n; i++) {
        const char *name = p->o->plugins.v[i];
        if (strchr(name, '/'))
            snprintf(path, sizeof path, "%s", name);
        else
            snprintf(path, sizeof path, "%s/boot-plugins/%s", p->o->libdir, name);
        if (strlist_add(&plugins, path) < 0)
            return nomem(err);
    }
    snprintf(path, sizeof path, "%s.boot", p->o->config);
    return bootconf_read(&p->boot, path, &plugins, p->o->phase, &p->warnings, err);
}

int plan_make(struct plan *p, const struct options *o, struct err *err)
{
    memset(p, 0, sizeof *p);
    p->o = o;
    if (read_config(p, err) < 0 || choose_file(p, err) < 0 || read_bootconf(p, err) < 0 ||
        choose_cmdline(p, err) < 0 || choose_kernel(p, err) < 0 || choose_modules(p, err) < 0)
        return -1;
    if (access(p->kernel, R_OK) < 0)
        return err_set(err, errno, "kernel %s: %s", p->kernel, strerror(errno));
    return choose_key(p, err);
}

void plan_free(struct plan *p)
{
    config_free(&p->config);
    bootconf_free(&p->boot);
    strlist_free(&p->warnings);
    free(p->kernel);
    free(p->release);
    free(p->modules);
    free(p->cmdline);
    free(p->file);
    free(p->master_pub);
    memset(p, 0, sizeof *p);
}
