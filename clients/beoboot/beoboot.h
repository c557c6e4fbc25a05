/* beoboot.h - making boot images, from the inside
 *
 *   main.c      command line
 *   plan.c      what is to be made of what: configuration, defaults, the kernel
 *   bootconf.c  config.boot and plugin descriptions, checked and made plain
 *   drivers.c   which modules, with what they need (libkmod)
 *   cpio.c      an archive as the kernel unpacks it, compressed (libzstd)
 *   initrd.c    what goes into the initramfs
 *   output.c    network image, pair of files
 *   media.c     CD and USB, UEFI program
 *   firmware.c  payload for coreboot
 *   list.c      what is in an image
 *   tool.c      running other programs
 *
 * The same files and options make the same bytes: names are sorted, times are
 * zero, numbers of inodes are counted.
 */
#ifndef BEOBOOT_H
#define BEOBOOT_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include "bus/config.h"
#include "bus/err.h"
#include "bus/image.h"

enum output { OUT_NONE, OUT_NET, OUT_PAIR, OUT_CD, OUT_EFI, OUT_FIRMWARE };

struct options { /* as given; NULL: not given */
    int phase; /* 0 not given */
    enum output output;
    const char *file, *kernel, *cmdline, *modules, *version, *libdir, *config, *master_key;
    struct strlist plugins;
    bool noautomod, usb, verbose;
};

/* ---- bootconf.c ---- */
struct bootfile { /* a file that a plugin description wants in the image */
    char *from, *to;
};
struct bootconf {
    char *text;            /* what the node reads: one plain line a directive */
    size_t len;
    struct strlist modules; /* bootmodule and modprobe */
    struct bootfile *file;
    size_t nfile;
    struct strlist devices; /* device nodes to be copied */
};
/* Lines for the other phase are left out. A config that is not there is empty. */
int bootconf_read(struct bootconf *b, const char *config, const struct strlist *plugins,
                  int phase, struct strlist *warnings, struct err *err);
void bootconf_free(struct bootconf *b); /* fits CLEANUP() */

/* ---- plan.c ---- */
struct plan {
    const struct options *o;
    struct cm_config *config; /* NULL: there is none */
    struct bootconf boot;
    char *kernel, *release, *modules, *cmdline, *file, *master_pub;
    struct strlist warnings;
};
int plan_make(struct plan *p, const struct options *o, struct err *err);
void plan_free(struct plan *p);
/* The release that a kernel image tells of itself; malloc'ed. */
char *kernel_release(const char *path, struct err *err);

/* ---- cpio.c ---- */
typedef struct cpio cpio_t;
enum squeeze { SQUEEZE_FAST, SQUEEZE_SMALL };
cpio_t *cpio_create(int fd, enum squeeze how, struct err *err);
/* Parents are made as needed. Errors stay: cpio_close() tells the first. */
void cpio_dir(cpio_t *c, const char *path, mode_t mode);
void cpio_text(cpio_t *c, const char *path, mode_t mode, const char *text, size_t len);
void cpio_file(cpio_t *c, const char *path, mode_t mode, const char *from);
void cpio_device(cpio_t *c, const char *path, mode_t mode, unsigned major, unsigned minor);
bool cpio_has(const cpio_t *c, const char *path);
uint64_t cpio_bytes(const cpio_t *c); /* before compression */
int cpio_close(cpio_t **c, struct err *err);
void cpio_destroy(cpio_t **c);

/* ---- drivers.c ---- */
struct drivers {
    struct strlist index;   /* lines for bpboot, sorted */
    struct strlist path;    /* module files on the master */
    struct strlist name;    /* of each */
    struct strlist firmware; /* names below /lib/firmware that are there */
    size_t cards, missing;  /* modules for network cards; firmware files not found */
};
int drivers_gather(struct drivers *d, const struct plan *p, struct err *err);
void drivers_free(struct drivers *d);
/* Where a module stands in the image; from: its file, for the compression. */
void drivers_place(char *out, size_t room, const char *name, const char *from);

/* ---- initrd.c ---- */
struct summary {
    size_t modules, cards, firmware, programs;
    uint64_t raw; /* bytes before compression */
};
/* The initramfs into an empty file. */
int initrd_make(const struct plan *p, int fd, struct summary *s, struct err *err);

/* ---- output.c, media.c ---- */
struct made { /* what was made, to be said */
    char *file[2];
    uint64_t size[2];
    char hash[2][IMAGE_HASH];
};
int output_write(const struct plan *p, int initrd, struct made *m, struct err *err);
int media_write(const struct plan *p, int initrd, struct made *m, struct err *err);
void made_free(struct made *m);
/* ---- firmware.c: kernel, initrd: files; rom: for scratch; out: the payload ---- */
int firmware_make(const struct plan *p, const char *kernel, const char *initrd, const char *rom,
                  const char *out, struct err *err);
/* FILE of plan or suffix, whole or not at all: write, then put in place. */
int place_begin(const char *file, char **temporary, struct err *err);
int place_end(int fd, const char *temporary, const char *file, struct err *err);
int copy_bytes(int from, uint64_t size, int to, struct err *err);
int note_made(struct made *m, int which, const char *file, struct err *err);

/* ---- list.c ---- */
int list_image(const char *path, bool json, struct err *err);

/* ---- tool.c ---- */
/* Run a program; 0 it ended well. Else what it said last is the reason. input:
 * descriptor for its standard input, or -1. */
int tool_run(const char *const *argv, struct err *err);
bool tool_there(const char *name);

/* Progress, on a terminal only; NULL wipes the line. */
void progress(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
