/* drivers.c - which modules go into an image, and what they need
 *
 * Every driver of a wired network card that some bus can find by itself, in phase
 * 2 of a watchdog too, what the configuration names, what those depend on, and their firmware. The index
 * is what node/boot/modules.c reads.
 */
#include <errno.h>
#include <libkmod.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "clients/beoboot/beoboot.h"

#define FIRMWARE "/lib/firmware/"
#define LINE 65536
#define WATCHDOG_LAST "softdog" /* where the machine has none: node/boot/main.c */

/* No node boots over these. */
static const char *const not_wired[] = { "wireless/", "wwan/", "can/", "hamradio/",
                                         "ieee802154/", "arcnet/", "fddi/", "slip/", "ppp/" };
/* Buses on which cards are found, and what drives the bus itself. */
static const struct {
    const char *alias, *driver[2];
} buses[] = {
    { "pci:", { NULL, NULL } },          { "virtio:", { "virtio_pci", "virtio_mmio" } },
    { "vmbus:", { "hv_vmbus", NULL } },  { "xen:", { NULL, NULL } },
    { "acpi", { NULL, NULL } },          { "of:", { NULL, NULL } },
};

struct gather {
    struct drivers *d;
    const struct plan *p;
    struct kmod_ctx *kmod;
    bool bus_driver[sizeof buses / sizeof *buses];
};

void drivers_free(struct drivers *d)
{
    strlist_free(&d->index);
    strlist_free(&d->path);
    strlist_free(&d->name);
    strlist_free(&d->firmware);
}

void drivers_place(char *out, size_t room, const char *name, const char *from)
{
    const char *ko = strstr(from, ".ko");

    snprintf(out, room, "/modules/%s%s", name, ko ? ko : ".ko");
}

static bool in_list(const struct strlist *l, const char *text)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->v[i], text) == 0)
            return true;
    return false;
}

static int nomem(struct err *err)
{
    return err_set(err, ENOMEM, "out of memory");
}

static int add_line(struct drivers *d, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static int add_line(struct drivers *d, struct err *err, const char *fmt, ...)
{
    CLEANUP(cleanup_free) char *line = NULL;
    va_list ap;

    va_start(ap, fmt);
    int n = vasprintf(&line, fmt, ap);
    va_end(ap);
    if (n < 0) {
        line = NULL;
        return nomem(err);
    }
    return strlist_add(&d->index, line) < 0 ? nomem(err) : 0;
}

/* ---- what a module tells of itself ---- */

static int bus_of(const char *alias, bool usb)
{
    for (size_t i = 0; i < sizeof buses / sizeof *buses; i++)
        if (strncmp(alias, buses[i].alias, strlen(buses[i].alias)) == 0)
            return (int)i;
    return usb && strncmp(alias, "usb:", 4) == 0 ? (int)(sizeof buses / sizeof *buses) : -1;
}

static int add_firmware(struct drivers *d, const char *name, struct err *err)
{
    char path[4096];

    snprintf(path, sizeof path, FIRMWARE "%s", name);
    if (access(path, R_OK) < 0) {
        snprintf(path, sizeof path, FIRMWARE "%s.xz", name);
        if (access(path, R_OK) < 0) {
            d->missing++;
            return 0;
        }
    }
    const char *there = path + strlen(FIRMWARE);
    return in_list(&d->firmware, there) || strlist_add(&d->firmware, there) == 0 ? 0 : nomem(err);
}

static int add_info(struct gather *g, struct kmod_module *mod, struct err *err)
{
    struct kmod_list *info = NULL, *i;
    const char *name = kmod_module_get_name(mod);
    int rc = kmod_module_get_info(mod, &info);

    if (rc < 0)
        return err_set(err, -rc, "%s: %s", kmod_module_get_path(mod), strerror(-rc));
    rc = 0;
    kmod_list_foreach(i, info) {
        const char *key = kmod_module_info_get_key(i), *value = kmod_module_info_get_value(i);
        if (rc == 0 && strcmp(key, "firmware") == 0)
            rc = add_firmware(g->d, value, err);
        if (rc < 0 || strcmp(key, "alias"))
            continue;
        int bus = bus_of(value, true);
        if (bus >= 0 && bus < (int)(sizeof buses / sizeof *buses))
            g->bus_driver[bus] = true;
        if (bus >= 0 && !strchr(value, ' '))
            rc = add_line(g->d, err, "alias %s %s", value, name);
    }
    kmod_module_info_free_list(info);
    return rc;
}

static int add_module(struct gather *g, struct kmod_module *mod, struct err *err);

/* Those before it, as words for the index; each is added too. */
static int add_needs(struct gather *g, struct kmod_list *list, FILE *f, struct err *err)
{
    struct kmod_list *i;
    int rc = 0;

    kmod_list_foreach(i, list) {
        struct kmod_module *need = kmod_module_get_module(i);
        if (rc == 0 && kmod_module_get_path(need)) { /* else it is part of the kernel */
            fprintf(f, " %s", kmod_module_get_name(need));
            rc = add_module(g, need, err);
        }
        kmod_module_unref(need);
    }
    return rc;
}

static int add_module(struct gather *g, struct kmod_module *mod, struct err *err)
{
    const char *name = kmod_module_get_name(mod), *path = kmod_module_get_path(mod);
    CLEANUP(cleanup_free) char *needs = NULL;
    struct kmod_list *pre = NULL, *post = NULL, *deps;
    char place[256];
    size_t len;

    if (!path || in_list(&g->d->name, name))
        return 0;
    if (strlist_add(&g->d->name, name) < 0 || strlist_add(&g->d->path, path) < 0)
        return nomem(err);
    FILE *f = open_memstream(&needs, &len);
    if (!f)
        return nomem(err);
    deps = kmod_module_get_dependencies(mod);
    kmod_module_get_softdeps(mod, &pre, &post);
    int rc = add_needs(g, deps, f, err);
    if (rc == 0)
        rc = add_needs(g, pre, f, err);
    kmod_module_unref_list(deps);
    kmod_module_unref_list(pre);
    kmod_module_unref_list(post);
    if (fclose(f) != 0)
        return nomem(err);
    drivers_place(place, sizeof place, name, path);
    if (rc < 0 || add_line(g->d, err, "module %s %s%s", name, place, needs) < 0)
        return -1;
    return add_info(g, mod, err);
}

/* By a name that a person wrote. Absent is an error if must, else passed over. */
static int add_named(struct gather *g, const char *name, bool must, struct err *err)
{
    struct kmod_list *list = NULL, *i;
    int rc = kmod_module_new_from_lookup(g->kmod, name, &list);
    bool any = false;

    if (rc < 0)
        return err_set(err, -rc, "module %s: %s", name, strerror(-rc));
    rc = 0;
    kmod_list_foreach(i, list) {
        struct kmod_module *mod = kmod_module_get_module(i);
        if (rc == 0)
            rc = add_module(g, mod, err);
        kmod_module_unref(mod);
        any = true;
    }
    kmod_module_unref_list(list);
    if (rc == 0 && !any && must)
        return err_set(err, ENOENT, "%s.boot names module %s, but there is none in %s",
                       g->p->o->config, name, g->p->modules);
    return rc;
}

/* ---- which ones ---- */

static bool wanted_path(const char *path, bool usb)
{
    const char *net = strstr(path, "drivers/net/");

    if (usb && (strstr(path, "drivers/usb/host/")))
        return true;
    if (!net)
        return false;
    net += strlen("drivers/net/");
    for (size_t i = 0; i < sizeof not_wired / sizeof *not_wired; i++)
        if (strncmp(net, not_wired[i], strlen(not_wired[i])) == 0)
            return false;
    return usb || strncmp(net, "usb/", 4) != 0;
}

/* Has it an alias by which a bus finds a card? */
static bool for_device(struct kmod_module *mod, bool usb)
{
    struct kmod_list *info = NULL, *i;
    bool found = false;

    if (kmod_module_get_info(mod, &info) < 0)
        return false;
    kmod_list_foreach(i, info)
        if (strcmp(kmod_module_info_get_key(i), "alias") == 0 &&
            bus_of(kmod_module_info_get_value(i), usb) >= 0)
            found = true;
    kmod_module_info_free_list(info);
    return found;
}

static bool is_watchdog(const char *path) { return strstr(path, "drivers/watchdog/"); }

static int add_card(struct gather *g, const char *relative, struct err *err)
{
    struct kmod_module *mod = NULL;
    char path[4096];
    int rc;

    snprintf(path, sizeof path, "%s/%s", g->p->modules, relative);
    rc = kmod_module_new_from_path(g->kmod, path, &mod);
    if (rc < 0)
        return err_set(err, -rc, "%s: %s", path, strerror(-rc));
    rc = 0;
    if (for_device(mod, g->p->o->usb)) {
        g->d->cards += !is_watchdog(relative);
        rc = add_module(g, mod, err);
    }
    kmod_module_unref(mod);
    return rc;
}

static int add_cards(struct gather *g, FILE *list, struct err *err)
{
    CLEANUP(cleanup_free) char *line = malloc(LINE);

    if (!line)
        return nomem(err);
    while (fgets(line, LINE, list)) {
        char *colon = strchr(line, ':');
        if (!colon)
            continue;
        *colon = 0;
        bool wanted = wanted_path(line, g->p->o->usb) || (g->p->o->phase == 2 && is_watchdog(line));
        if (wanted && add_card(g, line, err) < 0)
            return -1;
    }
    if (g->p->o->phase == 2 && add_named(g, WATCHDOG_LAST, false, err) < 0)
        return -1;
    for (size_t i = 0; i < sizeof buses / sizeof *buses; i++)
        for (int k = 0; k < 2 && g->bus_driver[i] && buses[i].driver[k]; k++)
            if (add_named(g, buses[i].driver[k], false, err) < 0)
                return -1;
    return 0;
}

/* ---- the whole ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int gather(struct gather *g, struct err *err)
{
    char path[4096];

    snprintf(path, sizeof path, "%s/modules.dep", g->p->modules);
    FILE *list = fopen(path, "re");
    if (!list)
        return err_set(err, errno, "%s: %s; `depmod %s` makes it", path, strerror(errno),
                       g->p->release);
    int rc = g->p->o->noautomod ? 0 : add_cards(g, list, err);
    fclose(list);
    for (size_t i = 0; i < g->p->boot.modules.n && rc == 0; i++)
        rc = add_named(g, g->p->boot.modules.v[i], true, err);
    return rc;
}

int drivers_gather(struct drivers *d, const struct plan *p, struct err *err)
{
    static const char *const no_config[] = { NULL }; /* the master's own is not the nodes' */
    struct gather g = { .d = d, .p = p, .kmod = kmod_new(p->modules, no_config) };

    memset(d, 0, sizeof *d);
    if (p->o->noautomod && p->boot.modules.n == 0) {
        kmod_unref(g.kmod);
        return 0;
    }
    if (!g.kmod)
        return nomem(err);
    int rc = kmod_load_resources(g.kmod);
    rc = rc < 0 ? err_set(err, -rc, "%s: cannot be read as a tree of modules: %s; `depmod %s` "
                          "makes what is missing", p->modules, strerror(-rc), p->release)
                : gather(&g, err);
    kmod_unref(g.kmod);
    if (rc < 0)
        return -1;
    if (d->index.n) /* without any, v is NULL */
        qsort(d->index.v, d->index.n, sizeof *d->index.v, by_text);
    if (d->firmware.n)
        qsort(d->firmware.v, d->firmware.n, sizeof *d->firmware.v, by_text);
    return 0;
}
