/* images.h - boot images: read, checked, hashed, and known by their hash
 *
 * Threads: one that hashes, inside; everything here belongs to the loop's. */
#ifndef BOOTSRV_IMAGES_H
#define BOOTSRV_IMAGES_H
#include <stdbool.h>
#include <time.h>
#include "bus/image.h"
#include "bus/loop.h"
#include "bus/svc.h"

#define IMAGE_CHUNK (1u << 20) /* bytes that peers hand on at a time */

typedef struct images images_t;

struct picture {
    char *path;
    struct image im; /* if good */
    char hash[IMAGE_HASH];
    char *sums; /* SHA-256 of each chunk, in hex, blanks between them */
    bool good, old;       /* old: there is another one at path */
    struct reading *reading;
    int code;
    char why[256];        /* if it is not good */
    uint64_t sent;        /* bytes that were promised to those who asked us */
    dev_t dev;
    ino_t ino;
    uint64_t file_size;
    struct timespec mtime;
    struct picture *next;
};

/* changed is called when an image that was being read is good, or bad. */
images_t *images_create(loop_t *l, loop_fn *changed, void *arg, struct err *err);
void images_destroy(images_t **s);

/* The image of this file. NULL: EAGAIN it is being read, ask again when changed
 * is called; else what is wrong with it. */
const struct picture *images_for(images_t *s, const char *path, struct err *err);
/* Also one that was replaced, for a while. NULL: none. */
struct picture *images_by_hash(images_t *s, const char *hash, size_t len);
const char *images_name(images_t *s, const char *hash); /* its file, or NULL */
void images_pack(const images_t *s, mp_buf *out); /* [{file, state, hash, size, release, sent, why}] */

#endif
