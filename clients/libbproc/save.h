/* save.h - this process, written as an image (image/write.h), by itself
 *
 * With every signal blocked and no thread but the caller. The image ends in the
 * same call: there it returns the copy's number + 1.
 */
#ifndef LIBBPROC_SAVE_H
#define LIBBPROC_SAVE_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/time.h>
#include "image/write.h"

struct saving {
    struct image_writer w;
    bool timers; /* they are stopped now, and go along; else copies have none */
    struct itimerval timer[3];
    struct image_timer posix[IMAGE_TIMERS]; /* as they were */
    uint32_t posix_timers;
    uint64_t hole;
};

/* Scratch, /proc, and all that can be said before. stop_timers: they go on in
 * the copy (or again here, by save_close). -1: errno. */
int save_open(struct saving *v, bool stop_timers);
/* 0 written; N + 1 in copy N, which has nothing of *v but what is in memory;
 * -1 errno. */
int save_write(struct saving *v, int out);
void save_close(struct saving *v, bool stays); /* stays: the process goes on here */
bool save_threads(void); /* there are others */

#endif
