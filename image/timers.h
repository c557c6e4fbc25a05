/* timers.h - a process's POSIX timers, as the kernel tells of them */
#ifndef IMAGE_TIMERS_H
#define IMAGE_TIMERS_H
#include "image/image.h"

#define IMAGE_TIMERS_TEXT (IMAGE_TIMERS * 160) /* of as many; each takes less */

/* From the text of /proc/PID/timers, all but their times. How many there are (more than
 * IMAGE_TIMERS: only so many are in t), or -1 with *why: a kind that cannot go along. */
int image_timers(const char *text, struct image_timer t[IMAGE_TIMERS], const char **why);

#endif
