/* initrd.c - what goes into the initramfs
 *
 * Phase 1: bpboot, drivers, config.boot. Phase 2: also bpinit and bpnode with
 * every library that they need, and the master's public key. A program's
 * libraries go where they are on the master, so its loader finds them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "bus/elf.h"
#include "bus/rundir.h"
#include "clients/beoboot/beoboot.h"

#define PROGRAMS "/usr/libexec/clustermatic/"

static void folders(cpio_t *c)
{
    static const char *const names[] = { "/dev", "/etc", "/etc/clustermatic", "/modules",
                                         "/proc", "/run", "/sys", "/tmp", "/usr" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        cpio_dir(c, names[i], 0755);
    /* Before devtmpfs is mounted the kernel already wants to speak. */
    cpio_device(c, "/dev/console", S_IFCHR | 0600, 5, 1);
}

static void facts(cpio_t *c, const struct plan *p)
{
    char text[256];

    int n = snprintf(text, sizeof text, "version " CM_VERSION "\nphase %d\nrelease %.90s\n",
                     p->o->phase, p->release);
    cpio_text(c, "/etc/clustermatic/image", 0644, text, (size_t)n);
    cpio_text(c, "/etc/clustermatic/config.boot", 0644, p->boot.text, p->boot.len);
    if (!p->master_pub)
        return;
    n = snprintf(text, sizeof text, "%s\n", p->master_pub);
    cpio_text(c, "/etc/clustermatic/master.pub", 0644, text, (size_t)n);
}

static int program(cpio_t *c, const char *name, struct err *err)
{
    CLEANUP(file_list_free) struct file_list files = { 0 };
    char path[4096], place[256];

    snprintf(path, sizeof path, "%s/%s", cm_libexec(), name);
    snprintf(place, sizeof place, PROGRAMS "%s", name);
    if (elf_needs(path, NULL, &files, err) < 0)
        return -1;
    cpio_file(c, place, 0755, path);
    for (size_t i = 1; i < files.n; i++)
        cpio_file(c, files.path[i], 0755, files.path[i]);
    return 0;
}

static int programs(cpio_t *c, const struct plan *p, struct summary *s, struct err *err)
{
    static const char *const names[] = { "bpinit", "bpnode", "bpcopy", "bpghost", "bprestore",
                                        "bpbegin" };
    char path[4096];

    snprintf(path, sizeof path, "%s/bpboot", cm_libexec());
    cpio_file(c, "/init", 0755, path);
    s->programs = 1;
    for (size_t i = 0; i < sizeof names / sizeof *names && p->o->phase == 2; i++) {
        if (program(c, names[i], err) < 0)
            return -1;
        s->programs++;
    }
    return 0;
}

/* Names of nodes: glibc asks for it by name, nothing else does. */
static void name_service(cpio_t *c)
{
    char path[4096];

    snprintf(path, sizeof path, "%s/../../lib/libnss_bproc.so.2", cm_libexec());
    if (access(path, R_OK) == 0)
        cpio_file(c, "/usr/lib/libnss_bproc.so.2", 0644, path);
}

static int index_text(const struct drivers *d, char **text, size_t *len, struct err *err)
{
    FILE *f = open_memstream(text, len);

    if (!f)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < d->index.n; i++)
        if (i == 0 || strcmp(d->index.v[i], d->index.v[i - 1]))
            fprintf(f, "%s\n", d->index.v[i]);
    return fclose(f) == 0 ? 0 : err_set(err, ENOMEM, "out of memory");
}

static int add_drivers(cpio_t *c, const struct plan *p, struct summary *s, struct err *err)
{
    CLEANUP(drivers_free) struct drivers d = { 0 };
    CLEANUP(cleanup_free) char *text = NULL;
    char place[4096], from[4096];
    size_t len;

    progress("gathering drivers from %s", p->modules);
    if (drivers_gather(&d, p, err) < 0 || index_text(&d, &text, &len, err) < 0)
        return -1;
    cpio_text(c, "/modules/index", 0644, text, len);
    for (size_t i = 0; i < d.name.n; i++) {
        progress("drivers: %zu of %zu", i + 1, d.name.n);
        drivers_place(place, sizeof place, d.name.v[i], d.path.v[i]);
        cpio_file(c, place, 0644, d.path.v[i]);
    }
    for (size_t i = 0; i < d.firmware.n; i++) {
        snprintf(from, sizeof from, "/lib/firmware/%s", d.firmware.v[i]);
        cpio_file(c, from, 0644, from);
    }
    if (d.missing && p->o->verbose)
        fprintf(stderr, "beoboot: %zu firmware files of these drivers are not in /lib/firmware\n",
                d.missing);
    if (!p->o->noautomod && d.cards == 0)
        fprintf(stderr, "beoboot: warning: no driver of a network card in %s\n", p->modules);
    s->modules = d.name.n;
    s->cards = d.cards;
    s->firmware = d.firmware.n;
    return 0;
}

static int plugin_files(cpio_t *c, const struct plan *p, struct err *err)
{
    struct stat st;

    for (size_t i = 0; i < p->boot.nfile; i++) {
        const struct bootfile *f = &p->boot.file[i];
        if (stat(f->from, &st) < 0)
            return err_set(err, errno, "%s: %s", f->from, strerror(errno));
        cpio_file(c, f->to, st.st_mode & 0777, f->from);
    }
    for (size_t i = 0; i < p->boot.devices.n; i++) {
        const char *name = p->boot.devices.v[i];
        if (stat(name, &st) < 0 || (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode)))
            return err_set(err, ENODEV, "%s: is no device", name);
        cpio_device(c, name, st.st_mode & (S_IFMT | 0777), major(st.st_rdev), minor(st.st_rdev));
    }
    return 0;
}

int initrd_make(const struct plan *p, int fd, struct summary *s, struct err *err)
{
    CLEANUP(cpio_destroy) cpio_t *c =
        cpio_create(fd, p->o->phase == 1 ? SQUEEZE_SMALL : SQUEEZE_FAST, err);

    memset(s, 0, sizeof *s);
    if (!c)
        return -1;
    folders(c);
    facts(c, p);
    if (p->o->phase == 2)
        name_service(c);
    if (programs(c, p, s, err) < 0 || add_drivers(c, p, s, err) < 0 ||
        plugin_files(c, p, err) < 0)
        return -1;
    s->raw = cpio_bytes(c);
    int rc = cpio_close(&c, err);
    progress(NULL);
    return rc;
}
