/* main.c - beoboot: boot images for the nodes */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "clients/beoboot/beoboot.h"
#include "clients/common/opt.h"

static const char usage[] =
    "Usage: beoboot -1|-2 -n|-i|-e|--efi|--firmware [OPTION...]\n"
    "       beoboot --list IMAGE [--json]\n"
    "Make a boot image. Phase 1 finds the network and fetches phase 2 from the master;\n"
    "phase 2 is what a node runs.\n"
    "\n"
    "  -1, -2               the phase\n"
    "  -n                   a network image, for the boot server\n"
    "  -i                   kernel and initramfs: OUT.kernel, OUT.initrd\n"
    "  -e                   a CD image that is good for USB sticks too; BIOS and UEFI\n"
    "      --efi            one program for UEFI\n"
    "      --firmware       a payload for coreboot\n"
    "  -o, --output FILE    where to (with -2 -n: the bootfile of the configuration,\n"
    "                       else /var/clustermatic/boot.img)\n"
    "  -k, --kernel FILE    the kernel (kernelimage of the configuration; the running one)\n"
    "  -c, --cmdline TEXT   the kernel's command line (kernelcommandline)\n"
    "  -m, --modules DIR    the kernel's modules (/lib/modules/RELEASE)\n"
    "      --kversion TEXT  the kernel's release, if it does not tell\n"
    "      --noautomod      only the modules that config.boot names\n"
    "  -u, --usb            drivers for USB, and for network cards there\n"
    "      --plugin FILE    more for the image: beoboot(8); may be repeated\n"
    "  -L, --libdir DIR     where plugins are\n"
    "  -C, --config FILE    the configuration; FILE.boot goes into the image\n"
    "      --master-key FILE  the master's public key (made if there is none yet)\n"
    "  -l, --list IMAGE     say what is in an image\n"
    "      --json           with --list\n"
    "  -v, --verbose        say more\n"
    "  -h, --help           this text\n"
    "  -V, --version        the version\n";

enum { OPT_EFI = 256, OPT_FIRMWARE, OPT_KVERSION, OPT_NOAUTOMOD, OPT_PLUGIN, OPT_KEY, OPT_JSON };

static const struct option longopts[] = {
    { "efi", no_argument, NULL, OPT_EFI },
    { "firmware", no_argument, NULL, OPT_FIRMWARE },
    { "output", required_argument, NULL, 'o' },
    { "kernel", required_argument, NULL, 'k' },
    { "cmdline", required_argument, NULL, 'c' },
    { "modules", required_argument, NULL, 'm' },
    { "kversion", required_argument, NULL, OPT_KVERSION },
    { "noautomod", no_argument, NULL, OPT_NOAUTOMOD },
    { "usb", no_argument, NULL, 'u' },
    { "plugin", required_argument, NULL, OPT_PLUGIN },
    { "libdir", required_argument, NULL, 'L' },
    { "config", required_argument, NULL, 'C' },
    { "master-key", required_argument, NULL, OPT_KEY },
    { "list", required_argument, NULL, 'l' },
    { "json", no_argument, NULL, OPT_JSON },
    { "verbose", no_argument, NULL, 'v' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { NULL, 0, NULL, 0 },
};

static void __attribute__((noreturn)) bad(const char *what)
{
    fprintf(stderr, "beoboot: %s\n%s", what, usage);
    exit(OPT_EXIT_USAGE);
}

static void __attribute__((noreturn)) old(int option)
{
    fprintf(stderr, "beoboot: -%c: %s\n", option,
            option == 'f' ? "a floppy holds 1.44 MB and today's kernels do not fit"
                          : "Alpha machines are not supported");
    exit(OPT_EXIT_USAGE);
}

static void choose(struct options *o, enum output what)
{
    if (o->output != OUT_NONE && o->output != what)
        bad("one kind of output at a time");
    o->output = what;
}

static void read_options(struct options *o, const char **list, bool *json, int argc, char **argv)
{
    int c;

    while ((c = getopt_long(argc, argv, "12niefao:k:c:m:uL:C:l:vhV", longopts, NULL)) != -1) {
        switch (c) {
        case '1':
        case '2':
            if (o->phase && o->phase != c - '0')
                bad("-1 or -2, not both");
            o->phase = c - '0';
            break;
        case 'n': choose(o, OUT_NET); break;
        case 'i': choose(o, OUT_PAIR); break;
        case 'e': choose(o, OUT_CD); break;
        case OPT_FIRMWARE: choose(o, OUT_FIRMWARE); break;
        case OPT_EFI: choose(o, OUT_EFI); break;
        case 'f':
        case 'a': old(c);
        case 'o': o->file = optarg; break;
        case 'k': o->kernel = optarg; break;
        case 'c': o->cmdline = optarg; break;
        case 'm': o->modules = optarg; break;
        case OPT_KVERSION: o->version = optarg; break;
        case OPT_NOAUTOMOD: o->noautomod = true; break;
        case 'u': o->usb = true; break;
        case OPT_PLUGIN:
            if (strlist_add(&o->plugins, optarg) < 0)
                bad("out of memory");
            break;
        case 'L': o->libdir = optarg; break;
        case 'C': o->config = optarg; break;
        case OPT_KEY: o->master_key = optarg; break;
        case 'l': *list = optarg; break;
        case OPT_JSON: *json = true; break;
        case 'v': o->verbose = true; break;
        case 'h': fputs(usage, stdout); exit(opt_finish("beoboot"));
        case 'V': exit(opt_version("beoboot"));
        default: fputs(usage, stderr); exit(OPT_EXIT_USAGE);
        }
    }
    if (optind < argc)
        bad("it takes no arguments without an option");
    if (*json && !*list)
        bad("--json goes with --list");
    if (*list && (o->phase || o->output != OUT_NONE))
        bad("--list makes nothing");
    if (!*list && (!o->phase || o->output == OUT_NONE))
        bad("which phase (-1, -2) and which output (-n, -i, -e, --efi, --firmware)?");
}

static void say(const struct plan *p, const struct summary *s, const struct made *m,
                uint64_t initrd)
{
    if (p->o->output == OUT_PAIR) {
        printf("Kernel image is:        \"%s\".\n", m->file[0]);
        printf("Initial ramdisk is:     \"%s\".\n", m->file[1]);
        printf("Kernel command line is: \"%s\".\n", p->cmdline);
    } else {
        static const char *const kinds[] = { [OUT_NET] = "Netboot image", [OUT_CD] = "CD image",
                                             [OUT_EFI] = "UEFI image",
                                             [OUT_FIRMWARE] = "Firmware payload" };
        printf("%s is in: %s\n", kinds[p->o->output], m->file[0]);
    }
    printf("kernel %s; initramfs %" PRIu64 " bytes, %" PRIu64 " unpacked: %zu programs, "
           "%zu modules (%zu for network cards), %zu firmware files\n",
           p->release, initrd, s->raw, s->programs, s->modules, s->cards, s->firmware);
    for (int i = 0; i < 2 && m->file[i]; i++)
        printf("%s  %s  %" PRIu64 " bytes\n", m->hash[i], m->file[i], m->size[i]);
}

static int make(const struct options *o, struct err *err)
{
    CLEANUP(plan_free) struct plan p = { 0 };
    CLEANUP(made_free) struct made m = { 0 };
    CLEANUP(cleanup_close) int initrd = -1;
    struct summary s;
    struct stat st;

    int rc = plan_make(&p, o, err);
    for (size_t i = 0; i < p.warnings.n; i++)
        fprintf(stderr, "beoboot: warning: %s\n", p.warnings.v[i]);
    if (rc < 0)
        return -1;
    initrd = memfd_create("initrd", MFD_CLOEXEC);
    if (initrd < 0)
        return err_set(err, errno, "memory for the initramfs: %s", strerror(errno));
    if (initrd_make(&p, initrd, &s, err) < 0)
        return -1;
    if (fstat(initrd, &st) < 0)
        return err_set(err, errno, "initramfs: %s", strerror(errno));
    progress("writing %s", p.file);
    rc = o->output == OUT_NET || o->output == OUT_PAIR ? output_write(&p, initrd, &m, err)
                                                       : media_write(&p, initrd, &m, err);
    progress(NULL);
    if (rc == 0)
        say(&p, &s, &m, (uint64_t)st.st_size);
    return rc;
}

int main(int argc, char **argv)
{
    struct options o = { .config = cm_configfile(), .libdir = cm_libexec() };
    const char *list = NULL;
    struct err err = { 0 };
    bool json = false;

    read_options(&o, &list, &json, argc, argv);
    umask(022);
    int rc = list ? list_image(list, json, &err) : make(&o, &err);
    progress(NULL);
    strlist_free(&o.plugins);
    if (rc < 0) {
        fprintf(stderr, "beoboot: Fatal Error (aborting): %s\n", err.text);
        return EXIT_FAILURE;
    }
    return opt_finish("beoboot");
}
