/* firmware.c - a Linux payload for a firmware image, as LinuxBIOS had one
 *
 * cbfstool makes it: kernel, initramfs, and a piece of code between coreboot
 * and them. But it puts the initramfs where a large kernel unpacks itself, so
 * that is moved behind all that the kernel says it will use.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "clients/beoboot/beoboot.h"

/* Of the kernel's boot protocol (Documentation/arch/x86/boot.rst): in its file,
 * and at the same places in the parameters that a loader hands over. */
#define PARAMS 0x90000u
#define RAMDISK_IMAGE 0x218
#define RAMDISK_SIZE 0x21c
#define PREF_ADDRESS 0x258
#define INIT_SIZE 0x260
#define HEADER 0x264
#define ALIGN (16u << 20)
#define ROM_SPARE (1u << 20)

static uint32_t word_at(const unsigned char *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

static Elf32_Phdr *segment_at(unsigned char *p, size_t size, uint32_t address)
{
    const Elf32_Ehdr *e = (const void *)p;

    for (size_t i = 0; i < e->e_phnum; i++) {
        Elf32_Phdr *h = (void *)(p + e->e_phoff + i * sizeof *h);
        if (e->e_phoff + (i + 1) * sizeof *h > size || h->p_offset > size ||
            h->p_filesz > size - h->p_offset)
            return NULL;
        if (h->p_paddr == address)
            return h;
    }
    return NULL;
}

/* Where the kernel's own use of memory ends. */
static int end_of_kernel(const char *path, uint64_t *end, struct err *err)
{
    unsigned char head[HEADER];
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || pread(fd, head, sizeof head, 0) != sizeof head)
        return err_set(err, errno ? errno : EPROTO, "%s: has no header of a kernel", path);
    *end = ((uint64_t)word_at(head + PREF_ADDRESS) + word_at(head + INIT_SIZE) + ALIGN - 1) /
           ALIGN * ALIGN;
    return 0;
}

static int move_initramfs(unsigned char *p, size_t size, uint64_t to, const char *path,
                          struct err *err)
{
    const Elf32_Ehdr *e = (const void *)p;

    if (size < sizeof *e || memcmp(e->e_ident, ELFMAG, SELFMAG) ||
        e->e_ident[EI_CLASS] != ELFCLASS32)
        return err_set(err, EPROTO, "%s: cbfstool has made no payload of a known kind", path);
    const Elf32_Phdr *params = segment_at(p, size, PARAMS);
    if (!params || params->p_filesz < HEADER)
        return err_set(err, EPROTO, "%s: no kernel parameters in the payload", path);
    unsigned char *at = p + params->p_offset;
    Elf32_Phdr *ramdisk = segment_at(p, size, word_at(at + RAMDISK_IMAGE));
    if (!ramdisk || ramdisk->p_filesz != word_at(at + RAMDISK_SIZE))
        return err_set(err, EPROTO, "%s: no initramfs in the payload", path);
    if (to <= ramdisk->p_paddr)
        return 0;
    if (to + ramdisk->p_memsz > INT32_MAX)
        return err_set(err, EFBIG, "kernel and initramfs do not fit into 2 GB");
    uint32_t to32 = (uint32_t)to;
    ramdisk->p_paddr = ramdisk->p_vaddr = to32;
    memcpy(at + RAMDISK_IMAGE, &to32, sizeof to32);
    return 0;
}

static int patch(const char *path, const char *kernel, struct err *err)
{
    struct stat st;
    uint64_t to = 0;
    CLEANUP(cleanup_close) int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    if (end_of_kernel(kernel, &to, err) < 0)
        return -1;
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    int rc = move_initramfs(p, (size_t)st.st_size, to, path, err);
    munmap(p, (size_t)st.st_size);
    return rc;
}

int firmware_make(const struct plan *p, const char *kernel, const char *initrd, const char *rom,
                  const char *out, struct err *err)
{
    struct stat k, i;
    char size[32];
    const char *create[] = { "cbfstool", rom, "create", "-m", "x86", "-s", size, NULL };
    const char *add[] = { "cbfstool", rom, "add-payload", "-n", "fallback/payload", "-f", kernel,
                          "-I", initrd, "-C", p->cmdline, "-c", "none", NULL };
    const char *extract[] = { "cbfstool", rom, "extract", "-n", "fallback/payload", "-m", "x86",
                              "-f", out, NULL };

    if (!tool_there("cbfstool"))
        return err_set(err, ENOENT, "cbfstool is not there: apt-get install coreboot-utils");
    if (stat(kernel, &k) < 0 || stat(initrd, &i) < 0)
        return err_set(err, errno, "%s: %s", kernel, strerror(errno));
    snprintf(size, sizeof size, "%" PRIu64,
             ((uint64_t)k.st_size + (uint64_t)i.st_size + 2 * ROM_SPARE) / ROM_SPARE * ROM_SPARE);
    if (tool_run(create, err) < 0 || tool_run(add, err) < 0 || tool_run(extract, err) < 0)
        return -1;
    return patch(out, kernel, err);
}
