/* rests.h - has a ghost passed on all that it was sent? */
#ifndef BUS_RESTS_H
#define BUS_RESTS_H
#include <stdbool.h>
#include <sys/types.h>

/* It is stopped, has ended, or waits for what may come, without a limit. proc: a descriptor
 * of /proc. True where the kernel does not say. */
bool ghost_rests(int proc, pid_t pid);

#endif
