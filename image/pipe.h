/* pipe.h - the pipe that an image goes through on one machine
 *
 * Large parts of it are not copied into the pipe but lent (vmsplice(2)): its
 * reader copies them from where they are. Such memory must stay as it is until
 * it has been read, which is known by what was put in behind it: once that is
 * image_pipe_room() bytes, none of it is in the pipe any more.
 */
#ifndef IMAGE_PIPE_H
#define IMAGE_PIPE_H
#include <stddef.h>
#include <sys/types.h>

/* p[0] is read from; both O_CLOEXEC and blocking. -1: errno. */
int image_pipe(int p[2]);

/* Bytes that it holds at most; 0: it is no pipe. */
size_t image_pipe_room(int fd);

/* All or some of n bytes, as write(2) does: lent, or copied where that cannot be. */
ssize_t image_pipe_lend(int fd, const void *from, size_t n);

#endif
