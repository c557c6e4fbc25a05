/* find.h - a command's path on the master */
#ifndef CLIENTS_FIND_H
#define CLIENTS_FIND_H
#include "bus/err.h"

/* Absolute, to be freed. A name with a slash is that file, any other is looked
 * for in PATH. NULL: the reason is in *err, as a shell would put it. */
char *command_find(const char *name, struct err *err);

#endif
