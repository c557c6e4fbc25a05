/* write.h - making an image: records, mappings, pages
 *
 * System calls only, on memory that the caller provides, so that a process can
 * do it to itself: nothing of the image may change while it is being written.
 * What does change, the stack and the thread's own block, is copied first.
 *
 * Functions return 0, or -1 with w->code (an errno) and w->why.
 */
#ifndef IMAGE_WRITE_H
#define IMAGE_WRITE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "image/image.h"

#define IMAGE_REGIONS 2048 /* runs of pages asked for at once */
#define IMAGE_SEEN 32     /* files whose content was looked at; of more, some twice */
#define IMAGE_GATHER (32u * 1024) /* of records that leave together */

struct image_region { /* struct page_region of the kernel's */
    uint64_t start, end, categories;
};

struct image_scratch { /* zeroed; and text, which is larger */
    struct image_process process;
    struct image_map map;
    struct image_region region[IMAGE_REGIONS];
    uint64_t pagemap[IMAGE_REGIONS];
    char path[IMAGE_PATH], small[IMAGE_PATH];
    struct image_seen { /* a file that was looked at since image_survey() began */
        uint64_t inode; /* 0: none */
        uint64_t size;
        uint32_t path_crc, head_crc, id_len;
        unsigned char id[20];
    } seen[IMAGE_SEEN];
    size_t last_seen;
    unsigned char bounce[IMAGE_CHUNK], gather[IMAGE_GATHER];
};

struct image_span {
    uint64_t start, end;
};

struct image_writer {
    int out;           /* where the bytes go: blocking */
    size_t lend;       /* room of out, if that is one of image_pipe(): see there; 0: copy all */
    int proc;          /* /proc/PID of the process */
    int mem, pagemap;  /* of it; -1 until image_open() */
    bool self;         /* it is us */
    struct image_scratch *s;
    char *text; /* of maps */
    size_t text_room;
    struct image_span skip;     /* no part of the image: the scratch */
    struct image_span moving[2]; /* memory that changes meanwhile */
    /* Does this file's content go along? Else it is named, and has to be there.
     * NULL: named, always. */
    bool (*by_value)(void *arg, const char *path);
    void *arg;
    uint32_t chain;
    uint64_t records, bytes;
    size_t gathered; /* bytes in s->gather */
    bool sigpipe;    /* one was pending before */
    uint64_t follows; /* memory behind the pages that are written next, without a gap */
    int code;
    const char *why;
    char what[128]; /* which file or mapping, or "" */
};

/* Scratch for a writer, in memory that belongs to no image. NULL: errno. */
struct image_scratch *image_scratch_map(struct image_writer *w);
void image_scratch_unmap(struct image_writer *w);

int image_open(struct image_writer *w, const char *proc); /* "/proc/self" */
void image_close(struct image_writer *w);

/* Reads the maps into w->text and calls fn for each mapping, in order, with
 * w->s->map and w->s->path filled in: kind IMAGE_MAP_*. 0 of fn: go on. */
typedef int image_map_fn(struct image_writer *w, void *arg);
int image_maps(struct image_writer *w, image_map_fn *fn, void *arg);

/* Counts mappings, finds the hole, and describes the machine: into
 * s->process. */
int image_survey(struct image_writer *w);

int image_begin(struct image_writer *w);                 /* and s->process */
int image_memory(struct image_writer *w);                /* all mappings */
int image_put(struct image_writer *w, uint32_t kind, const void *a, size_t alen,
              const void *b, size_t blen);
int image_end(struct image_writer *w);

/* What the kernel says about a process in text: s->process gets its mm, auxv,
 * comm, cwd, exe, umask, nice. All but brk (mm[5]). */
int image_describe(struct image_writer *w);

int image_fail(struct image_writer *w, int code, const char *why, const char *what);

#endif
