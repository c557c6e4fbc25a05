/* media.c - images for firmware that knows no network of ours: CDs and USB
 * sticks, and one program for UEFI
 *
 * A CD holds the kernel twice: as files for isolinux (BIOS), and as a UEFI
 * program in a small FAT file system. The same bytes written to a USB stick
 * boot too.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "clients/beoboot/beoboot.h"

#define EFI_STUB "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"
#define ISOLINUX "/usr/lib/ISOLINUX/isolinux.bin"
#define ISOHYBRID "/usr/lib/ISOLINUX/isohdpfx.bin"
#define LDLINUX "/usr/lib/syslinux/modules/bios/ldlinux.c32"
/* Where the sections of the UEFI program are in memory: behind the stub's own. */
#define VMA_RELEASE 0x30000u
#define VMA_CMDLINE 0x40000u
#define VMA_KERNEL 0x2000000u
#define VMA_STEP 0x100000u
/* The time of everything, for tools that want one: FAT begins in 1980. */
#define EPOCH "315532800"
#define FAT_SPARE (1024 * 1024)

struct work { /* a folder for the pieces */
    char dir[64];
    struct err *err;
};

static char *in(const struct work *w, char path[PATH_MAX], const char *name)
{
    snprintf(path, PATH_MAX, "%s/%s", w->dir, name);
    return path;
}

static int needs(const char *file, const char *package, struct err *err)
{
    if (*file == '/' ? access(file, R_OK) == 0 : tool_there(file))
        return 0;
    return err_set(err, ENOENT, "%s is not there: apt-get install %s", file, package);
}

static int open_work(struct work *w, struct err *err)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(w->dir, sizeof w->dir, "%.40s/beoboot.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    w->err = err;
    if (!mkdtemp(w->dir)) {
        *w->dir = 0;
        return err_set(err, errno, "make a folder in %s: %s", tmp ? tmp : "/tmp",
                       strerror(errno));
    }
    setenv("SOURCE_DATE_EPOCH", EPOCH, 1);
    setenv("TZ", "UTC", 1);
    return 0;
}

static void close_work(struct work *w)
{
    const char *remove[] = { "rm", "-rf", "--", w->dir, NULL };

    if (*w->dir)
        tool_run(remove, NULL);
}

static int put(const struct work *w, const char *name, int from, const char *text)
{
    char path[PATH_MAX];
    struct stat st;
    static const struct timespec then[2] = { { 315532800, 0 }, { 315532800, 0 } };
    CLEANUP(cleanup_close) int fd = open(in(w, path, name), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    if (fd < 0)
        return err_set(w->err, errno, "%s: %s", path, strerror(errno));
    if (text ? write(fd, text, strlen(text)) != (ssize_t)strlen(text)
             : fstat(from, &st) < 0)
        return err_set(w->err, errno, "write %s: %s", path, strerror(errno));
    if (!text && copy_bytes(from, (uint64_t)st.st_size, fd, w->err) < 0)
        return -1;
    futimens(fd, then);
    return 0;
}

static int put_file(const struct work *w, const char *name, const char *from)
{
    CLEANUP(cleanup_close) int fd = open(from, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return err_set(w->err, errno, "%s: %s", from, strerror(errno));
    return put(w, name, fd, NULL);
}

static uint64_t size_of(const struct work *w, const char *name)
{
    char path[PATH_MAX];
    struct stat st;

    return stat(in(w, path, name), &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* ---- a program for UEFI ---- */

/* Kernel, initramfs and command line as sections of systemd's stub. */
static int make_efi(const struct plan *p, const struct work *w, struct err *err)
{
    char release[PATH_MAX + 16], cmdline[PATH_MAX + 16], kernel[PATH_MAX + 16],
        initrd[PATH_MAX + 16], at[4][64], out[PATH_MAX], path[PATH_MAX], text[256];
    uint64_t behind = VMA_KERNEL + size_of(w, "vmlinuz");
    const char *argv[] = {
        "objcopy", "--preserve-dates", "--add-section", release, "--change-section-vma", at[0],
        "--add-section", cmdline, "--change-section-vma", at[1], "--add-section", kernel,
        "--change-section-vma", at[2], "--add-section", initrd, "--change-section-vma", at[3],
        EFI_STUB, out, NULL
    };

    if (needs(EFI_STUB, "systemd-boot-efi", err) < 0 || needs("objcopy", "binutils", err) < 0)
        return -1;
    snprintf(text, sizeof text, "ID=clustermatic\nNAME=Clustermatic\nVERSION_ID=%s\n", CM_VERSION);
    if (put(w, "release", -1, text) < 0 || put(w, "cmdline", -1, p->cmdline) < 0)
        return -1;
    snprintf(release, sizeof release, ".osrel=%s", in(w, path, "release"));
    snprintf(cmdline, sizeof cmdline, ".cmdline=%s", in(w, path, "cmdline"));
    snprintf(kernel, sizeof kernel, ".linux=%s", in(w, path, "vmlinuz"));
    snprintf(initrd, sizeof initrd, ".initrd=%s", in(w, path, "initrd"));
    snprintf(at[0], sizeof at[0], ".osrel=0x%x", VMA_RELEASE);
    snprintf(at[1], sizeof at[1], ".cmdline=0x%x", VMA_CMDLINE);
    snprintf(at[2], sizeof at[2], ".linux=0x%x", VMA_KERNEL);
    snprintf(at[3], sizeof at[3], ".initrd=0x%" PRIx64,
             (behind + VMA_STEP) / VMA_STEP * VMA_STEP);
    in(w, out, "bootx64.efi");
    return tool_run(argv, err);
}

/* ---- a CD that is a USB stick too ---- */

/* A FAT file system of just the size, with the program where UEFI looks. */
static int make_fat(const struct work *w, struct err *err)
{
    char fat[PATH_MAX], efi[PATH_MAX], sectors[32];
    uint64_t size = (size_of(w, "bootx64.efi") + FAT_SPARE + 0xfffff) / 0x100000 * 0x100000;
    const char *format[] = { "mformat", "-i", fat, "-T", sectors, "-h", "64", "-s", "32", "-N", "c1c5c1c5",
                             "-v", "CLUSTERMTC", "::", NULL };
    const char *folders[] = { "mmd", "-i", fat, "::/EFI", "::/EFI/BOOT", NULL };
    const char *copy[] = { "mcopy", "-m", "-i", fat, efi, "::/EFI/BOOT/BOOTX64.EFI", NULL };

    in(w, fat, "efi.img");
    in(w, efi, "bootx64.efi");
    snprintf(sectors, sizeof sectors, "%" PRIu64, size / 512);
    CLEANUP(cleanup_close) int fd = open(fat, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        return err_set(err, errno, "%s: %s", fat, strerror(errno));
    return tool_run(format, err) < 0 || tool_run(folders, err) < 0 ? -1 : tool_run(copy, err);
}

static int make_cd(const struct plan *p, const struct work *w, const char *out, struct err *err)
{
    char dir[PATH_MAX], menu[IMAGE_CMDLINE + 200];
    const char *argv[] = {
        "xorriso", "-as", "mkisofs", "-quiet", "-o", out, "-V", "CLUSTERMATIC",
        "--set_all_file_dates", "=" EPOCH,
        "-isohybrid-mbr", ISOHYBRID, "-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot",
        "-boot-load-size", "4", "-boot-info-table", "-eltorito-alt-boot", "-e", "efi.img",
        "-no-emul-boot", "-isohybrid-gpt-basdat", dir, NULL
    };
    static const char *const pieces[] = { "release", "cmdline", "bootx64.efi" };

    if (needs("xorriso", "xorriso", err) < 0 || needs("mformat", "mtools", err) < 0 ||
        needs(ISOLINUX, "isolinux", err) < 0 || needs(LDLINUX, "syslinux-common", err) < 0 ||
        make_efi(p, w, err) < 0 || make_fat(w, err) < 0)
        return -1;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        unlink(in(w, dir, pieces[i]));
    snprintf(menu, sizeof menu, "SERIAL 0\nPROMPT 0\nTIMEOUT 0\nDEFAULT clustermatic\n"
             "LABEL clustermatic\n KERNEL vmlinuz\n INITRD initrd\n%s%s\n",
             *p->cmdline ? " APPEND " : "", p->cmdline);
    if (put_file(w, "isolinux.bin", ISOLINUX) < 0 || put_file(w, "ldlinux.c32", LDLINUX) < 0 ||
        put(w, "isolinux.cfg", -1, menu) < 0)
        return -1;
    snprintf(dir, sizeof dir, "%s", w->dir);
    return tool_run(argv, err);
}

/* ---- all ---- */

static int make_payload(const struct plan *p, const struct work *w, struct err *err)
{
    char kernel[PATH_MAX], initrd[PATH_MAX], rom[PATH_MAX], out[PATH_MAX];

    return firmware_make(p, in(w, kernel, "vmlinuz"), in(w, initrd, "initrd"), in(w, rom, "rom"),
                         in(w, out, "payload"), err);
}

static int take_piece(const struct work *w, const char *name, int out, struct err *err)
{
    char path[PATH_MAX];
    CLEANUP(cleanup_close) int piece = open(in(w, path, name), O_RDONLY | O_CLOEXEC);

    return piece < 0 ? err_set(err, errno, "%s: %s", path, strerror(errno))
                     : copy_bytes(piece, size_of(w, name), out, err);
}

int media_write(const struct plan *p, int initrd, struct made *m, struct err *err)
{
    CLEANUP(close_work) struct work w = { .dir = "" };
    CLEANUP(cleanup_free) char *temporary = NULL;

    if (open_work(&w, err) < 0 || put_file(&w, "vmlinuz", p->kernel) < 0 ||
        put(&w, "initrd", initrd, NULL) < 0)
        return -1;
    CLEANUP(cleanup_close) int out = place_begin(p->file, &temporary, err);
    if (out < 0)
        return -1;
    int rc;
    if (p->o->output == OUT_CD)
        rc = make_cd(p, &w, temporary, err);
    else if (p->o->output == OUT_EFI)
        rc = make_efi(p, &w, err) < 0 ? -1 : take_piece(&w, "bootx64.efi", out, err);
    else
        rc = make_payload(p, &w, err) < 0 ? -1 : take_piece(&w, "payload", out, err);
    if (rc < 0 || place_end(out, temporary, p->file, err) < 0) {
        unlink(temporary);
        return -1;
    }
    return note_made(m, 0, p->file, err);
}
