/* restore.h - bprestore from the inside
 *
 *   restore.c       the flow: read, hide, build, wait for the word, go
 *   restore_maps.c  memory: our own put away, the process's put in place
 *   restore_room.c  pages for what comes
 *   restore_fill.c  the same, filled
 *   restore_files.c what it has open
 *   restore_go.c    what the memory does not say, and the jump
 *
 * No libc and no relocations: we copy ourselves to another address and go on
 * there, so no variable may hold an address within us. All state is in `rs`.
 */
#ifndef NODE_RESTORE_H
#define NODE_RESTORE_H
#include "image/machine.h"
#include "node/nolibc.h"

#define ENOENT 2
#define EINTR 4
#define EIO 5
#define EAGAIN 11
#define ENOMEM 12
#define EEXIST 17
#define EINVAL 22
#define ELIBBAD 80
#define EBADMSG 74
#define EPROTO 71
#define ENOTUNIQ 76

#define O_CLOEXEC 02000000

#define MAP_SHARED 1
#define MAP_PRIVATE 2
#define MAP_FIXED 0x10
#define MAP_ANON 0x20
#define MAP_GROWSDOWN 0x100
#define MAP_NORESERVE 0x4000
#define MAP_FIXED_NOREPLACE 0x100000
#define PROT_READ 1
#define PROT_WRITE 2
#define PROT_EXEC 4
#define PROT_ALL 7

#define OWN_MAPS 64
#define FILES_MAX 256
#define XSTATE_MAX 16384

/* By their distance from the code, not by a table of addresses. */
#pragma GCC visibility push(hidden)

struct own_map {
    unsigned long start, end;
    char name[24];
};

struct restore {
    int image, control; /* descriptors; control -1: nobody to talk to */
    uint32_t chain;
    uint64_t records;
    unsigned long end; /* of the last mapping: they come in order */
    uint32_t maps;
    struct own_map own[OWN_MAPS];
    unsigned owns;
    uint32_t xstate_bytes;
    int32_t rank;
    /* How to be the ghost again that was here: its program, argv, environment. */
    char back[8192];
    unsigned back_bytes, back_argc, back_envc;
    struct image_record rec; /* the one being read */
    struct image_map map;    /* the last one, for its pages */
    struct image_map before; /* the same, while the next is being read */
    int made_writable;       /* to be filled */
    int file; /* that a mapping is of, still open: the next may be of the same; -1: none */
    struct image_map file_map;
    struct image_process p;
    char path[IMAGE_PATH];
    char ahead[16384]; /* bytes of the image that were read before they were wanted */
    unsigned long ahead_from, ahead_len;
};
extern struct restore rs;

/* What needs no copy when we hide, as the stack: each page costs a fault or two. */
#define LATER __attribute__((section(".bss.later"), aligned(64)))
struct restore_later {
    unsigned char xstate[XSTATE_MAX];
    char text[16384]; /* of /proc/self/maps, of files' beginnings */
    char file_path[IMAGE_PATH];
};
extern struct restore_later later;
extern char restore_begin[], restore_later[], restore_end[]; /* of us, in memory */

/* Say why and end; what is a name, or 0. Code: positive errno. */
void fail(long code, const char *text, const char *what) __attribute__((noreturn));
void read_all(void *to, unsigned long n);
int same(const char *a, const char *b);
int begins(const char *s, const char *with);
unsigned long length(const char *s);

/* --- restore_maps.c --- */
void own_read(void);
void machine_check(void);
unsigned long hide(void); /* a copy of us in the hole: its distance */
void own_away(void);      /* there: only we and the kernel's pages are left */
void map_take(void);      /* IMAGE_MAP */
void pages_take(uint32_t *crc); /* IMAGE_PAGES */
void maps_done(void);     /* no more of them */
void file_forget(void);   /* what a mapping was of needs no descriptor any more */

/* --- restore_room.c --- */
/* Pages of rs.map are read to this address, and *crc goes on over them; so many bytes
 * follow them there. Fails if the machine has no more memory. */
void room_take(unsigned long at, unsigned long len, unsigned long follows, uint32_t *crc);

/* --- restore_fill.c --- */
/* The same in plain memory, where no page is yet. 0: it cannot be; nothing was read. */
int fill_take(unsigned long at, unsigned long len, unsigned long follows, uint32_t *crc);
void fill_end(void); /* before anything else is done to rs.map, or another is the one */

/* --- restore_files.c --- */
void file_take(const struct image_file *f); /* IMAGE_FILE */
void files_settle(void); /* what can fail, before "ready" */
void files_place(void);  /* the streams are there: the rest too */

/* --- restore_go.c --- */
void settle(void);     /* what can fail, before "ready" */
void go(void) __attribute__((noreturn));

#pragma GCC visibility pop

#endif
