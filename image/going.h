/* going.h - what a launch says of a process that goes elsewhere itself
 *
 * pid 0: of us. Not while an image is being written: memory is asked for.
 */
#ifndef IMAGE_GOING_H
#define IMAGE_GOING_H
#include <stdint.h>
#include <sys/types.h>
#include "bus/mp.h"

/* Its children, which stay: rows [pid, leads (a process group), comm]. How many; -1: the
 * kernel does not say. */
int going_children(pid_t pid, mp_buf *rows);
/* Its own memory, in bytes: what is a file's unchanged is not sent. 0: not known. */
uint64_t going_bytes(pid_t pid);

#endif
