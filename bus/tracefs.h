/* tracefs.h - the kernel's tracepoints, by name
 *
 * tracefs need not be mounted: where it is not, it is reached through a mount
 * of our own that stands in no folder.
 */
#ifndef BUS_TRACEFS_H
#define BUS_TRACEFS_H
#include <stddef.h>
#include "bus/err.h"

int tracefs_open(struct err *err); /* a descriptor of its folder */
/* The whole text of a file in events/EVENT/ ("id", "format"). */
int tracefs_read(int dir, const char *event, const char *file, char *buf, size_t room,
                 struct err *err);

#endif
